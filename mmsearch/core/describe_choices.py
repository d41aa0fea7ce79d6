"""The choice ``describe`` of sources: which texts models make of their contents."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mmsearch.core.derived import ContentScope, FolderScope
from mmsearch.core.folder_choices import DESCRIBE, FolderChoices, is_below
from mmsearch.core.records import FOLDER_KIND, SourceRecord

DESCRIBE_OPTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "tags": ("vocabulary",),
    "captions": ("model_folder",),
    "speech": ("language",),
}
"""Options of enrichers that a source keeps, by enricher."""

PATHS: Final = frozenset({"model_folder", "vocabulary"})
"""Options that are paths."""

NOTHING: Final = "none"
"""Name that stands for no enricher, where a folder above or an earlier run had one."""


@dataclass(frozen=True)
class WantedTexts:
    """Texts that sources want of an enricher, with the same options.

    Attributes:
        enricher: Name of the enricher.
        options: Its options by name.
        scope: The contents. One that is in several sources belongs to the first that wants it.
    """

    enricher: str
    options: Mapping[str, str]
    scope: ContentScope

    def within(self, *folders: FolderScope) -> ContentScope:
        """Return the scope of those contents that have an asset in some folders."""
        return ContentScope((folders, *self.scope.all_of), self.scope.none_of)


def to_describe_choice(value: Any) -> dict[str, dict[str, str]]:
    """Return the choice as the catalog keeps it, given names or a mapping of names to options.

    Paths become absolute. The names are not compared with those of enrichers.

    Raises:
        TypeError: The value is neither.
        ValueError: An enricher has no such option, or a value is empty.
    """
    if value is None or isinstance(value, str):
        value = [] if value is None else [value]
    if not isinstance(value, Mapping):
        value = dict.fromkeys(value)
    choice: dict[str, dict[str, str]] = {}
    for name, options in value.items():
        if not isinstance(name, str) or not isinstance(options or {}, Mapping):
            raise TypeError(value)
        if name == NOTHING and len(value) == 1:
            continue
        known = DESCRIBE_OPTIONS.get(name, ())
        choice[name] = {}
        for option, setting in (options or {}).items():
            if option not in known:
                raise ValueError(option)
            if setting is not None:
                choice[name][option] = _to_text(option, setting)
    return dict(sorted(choice.items()))


def _to_text(option: str, setting: Any) -> str:
    text = os.fsdecode(setting)
    if not text or "\0" in text:
        raise ValueError(setting)
    return str(Path(text).expanduser().absolute()) if option in PATHS else text


def list_wanted(sources: Iterable[SourceRecord]) -> list[WantedTexts]:
    """Return the texts that sources want; of those of one enricher, the first have precedence."""
    folders: dict[tuple[str, str], list[FolderScope]] = {}
    for source in sources:
        for folder, choice in _iter_choices(source):
            for enricher, options in choice.items():
                key = (enricher, json.dumps(options, sort_keys=True))
                folders.setdefault(key, []).append(folder)
    wanted: list[WantedTexts] = []
    taken: dict[str, list[FolderScope]] = {}
    for (enricher, json_options), own in folders.items():
        earlier = taken.setdefault(enricher, [])
        scope = ContentScope((tuple(own),), tuple(earlier))
        wanted.append(WantedTexts(enricher, json.loads(json_options), scope))
        earlier += own
    return wanted


def _iter_choices(source: SourceRecord) -> Iterator[tuple[FolderScope, dict[str, dict[str, str]]]]:
    """Yield the folders of a source that have the choice, each without those below it."""
    choices = FolderChoices.from_json(source.choices)
    values = {
        folder: own[DESCRIBE]
        for folder, own in choices.values.items()
        if DESCRIBE in own and (source.kind == FOLDER_KIND or not folder)
    }
    for folder, choice in sorted(values.items()):
        below = [other for other in values if other != folder and is_below(folder, other)]
        yield FolderScope(source.id, folder, tuple(sorted(below))), choice
