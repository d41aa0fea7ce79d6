"""What is said of a file outside the file itself: beside it, in its name, in a table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mmsearch.core.records import CaptionTableTexts, CollectedTexts, ScannedFile
from mmsearch.core.texts import full_text_sources
from mmsearch.core.types import Text, TextSource

COLLECTOR_VERSION = 1
"""Of the code that finds texts: raised when it finds others, so that they are looked for again."""


@dataclass(frozen=True)
class CaptionTable:
    """A table of captions that was read.

    Attributes:
        path: Absolute, as bytes: the table's name. What another version of it said is replaced.
        captions: By path below the folder that is indexed.
    """

    path: bytes
    captions: Mapping[bytes, Sequence[Text]]


@dataclass(frozen=True)
class TextCollector:
    """Finds the texts of files, and tells when they must be looked for again.

    Attributes:
        sources: Where texts that get a vector come from.
        read_file_texts: Root folder and file -> what lies around the file.
        captions: The table of this run, if there is one.
        captioned_paths: Paths, relative to their root, of files for which captions of that table are
            stored already.
    """

    sources: Sequence[TextSource]
    read_file_texts: Callable[[bytes, ScannedFile], CollectedTexts]
    captions: CaptionTable | None = None
    captioned_paths: frozenset[bytes] = frozenset()
    _searched_sources: frozenset[TextSource] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_searched_sources", full_text_sources(self.sources))

    @property
    def config_key(self) -> bytes:
        """Changes when texts must be looked for again though no file has changed."""
        return repr((COLLECTOR_VERSION, sorted(self._searched_sources))).encode()

    def collect(self, root: bytes, file: ScannedFile) -> CollectedTexts:
        """The texts of one file but for the table's; safe to call from several threads."""
        if not self._searched_sources:
            return CollectedTexts()
        if TextSource.SIDECAR not in self._searched_sources:
            file = replace(file, sidecars=())
        collected = self.read_file_texts(root, file)
        return replace(
            collected, texts=tuple(t for t in collected.texts if t.source in self._searched_sources)
        )

    def table_texts(self, file: ScannedFile, subfolder: bytes) -> CaptionTableTexts | None:
        """What the table says; None leaves what tables said before.

        Args:
            file: Its path is relative to its root.
            subfolder: The folder that is indexed, relative to the root too.
        """
        if TextSource.TABLE not in self._searched_sources:
            return CaptionTableTexts(None)
        if self.captions is None:
            return None
        captions = self.captions.captions.get(self._relative_to_folder(file.path, subfolder), ())
        return CaptionTableTexts(self.captions.path, captions)

    def key(self, file: ScannedFile) -> bytes:
        """16 bytes that change when the texts around a file may have."""
        sidecar_stats = [[s.path.hex(), s.size, s.mtime_ns] for s in file.sidecars]
        fingerprint = [
            COLLECTOR_VERSION,
            sorted(self._searched_sources),
            file.path.hex(),
            sidecar_stats,
        ]
        return hashlib.sha256(json.dumps(fingerprint).encode()).digest()[:16]

    def expected_texts_key(self, file: ScannedFile, subfolder: bytes) -> bytes:
        """As `key`, but like no key of a file of which the table of this run speaks, or spoke."""
        if self.captions is None:
            return self.key(file)
        in_table = self._relative_to_folder(file.path, subfolder) in self.captions.captions
        return b"" if in_table or file.path in self.captioned_paths else self.key(file)

    @staticmethod
    def _relative_to_folder(path: bytes, subfolder: bytes) -> bytes:
        return path[len(subfolder) + 1 :] if subfolder else path
