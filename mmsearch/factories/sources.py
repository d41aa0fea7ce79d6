"""Creation of sources by kind, from a path or URI and the choices of the user."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmsearch.core import plugins
from mmsearch.core.arguments import check_value, suggest_name
from mmsearch.core.display import display_path
from mmsearch.core.errors import DecodeError, Hint, MMSearchError, SourceError, UsageError
from mmsearch.core.files import HEAD_BYTES
from mmsearch.core.folder_choices import DESCRIBE
from mmsearch.core.records import RECORDS_KIND
from mmsearch.core.source_lookup import find_source
from mmsearch.storage.layout import IndexLayout, original_path, thumbnail_path

if TYPE_CHECKING:
    from mmsearch.core.catalog import CatalogReader
    from mmsearch.core.protocols import Modality
    from mmsearch.core.sources import Source, SourcePlugin
    from mmsearch.sources._web.reader import WebReader

MAX_URL_MB: Final = 50.0
"""Maximum size of a picture at a URL, in megabytes."""

_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_ARCHIVE: Final = re.compile(
    r"\.(zip|cbz|tar|tgz|tbz2|txz|tzst|tar\.(gz|bz2|xz|zst))$", re.IGNORECASE
)
_TABLE: Final = re.compile(r"\.(csv|tsv|tab|jsonl|ndjson|parquet|txt|lst)$", re.IGNORECASE)
_DATASET_FILES: Final = ("dataset_info.json", "dataset_dict.json", "state.json")


def open_source(
    uri: str | bytes | os.PathLike[str],
    modalities: Sequence[Modality],
    kind: str | None = None,
    **choices: Any,
) -> Source:
    """Open a source of pictures other than a folder.

    Args:
        uri: Path or URI.
        modalities: Readers of pictures, which say what is a picture.
        kind: Name of the plugin; None to guess it from the URI.
        **choices: Choices of the plugin, such as ``url_column``; ``describe`` is left out.

    Raises:
        SourceError: The source cannot be used.
        UsageError: A choice is unknown or not valid.
        UnknownNameError: There is no such kind.
        MissingExtraError: A library is not installed.
    """
    raw_uri = os.fsencode(check_value("uri", uri, "StrPath"))
    kind = guess_kind(raw_uri) if kind is None else check_value("kind", kind, "str")
    plugin: SourcePlugin = plugins.load("sources", kind)
    checked = _check_choices(kind, choices)
    checked.pop(DESCRIBE, None)
    return plugin.build(raw_uri, is_picture=_PictureTest(modalities), **checked)


def choices_to_json(kind: str, choices: Mapping[str, Any]) -> dict[str, Any]:
    """Return choices as values that JSON can keep, and that `open_source` takes again.

    Relative paths become absolute.

    Raises:
        UsageError: A choice is unknown or not valid.
        UnknownNameError: There is no such kind.
    """
    return {name: _to_json(value) for name, value in _check_choices(kind, choices).items()}


def _to_json(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value.expanduser().absolute())
    return list(value) if isinstance(value, tuple) else value


def _check_choices(kind: str, choices: Mapping[str, Any]) -> dict[str, Any]:
    known = {**list_choices(kind), DESCRIBE: "DescribeValues"}
    for name in choices:
        if name not in known:
            raise UsageError(
                f"Sources of the kind {kind!r} have no choice {name!r}.", suggest_name(name, known)
            )
    return {name: check_value(name, value, known[name]) for name, value in choices.items()}


class SourceItemLoader:
    """Loads pictures of an index again that are in sources other than folders.

    Args:
        layout: File layout of the index.
        catalog: Catalog with the sources and their choices.
        modalities: Readers of pictures, which say what is a picture.
    """

    def __init__(
        self, layout: IndexLayout, catalog: CatalogReader, modalities: Sequence[Modality]
    ) -> None:
        self._layout = layout
        self._catalog = catalog
        self._modalities = modalities
        self._sources: dict[tuple[str, bytes], Source] = {}

    def __call__(self, kind: str, uri: bytes, key: bytes, digest: bytes) -> bytes:
        """Return the content of one item, or, of a record without its original, its thumbnail.

        Raises:
            DecodeError: It cannot be read.
        """
        if kind == RECORDS_KIND:
            return self._load_record(digest)
        source = self._sources.get((kind, uri))
        if source is None:
            known = find_source(self._catalog.sources(), kind=kind, uri=uri)
            choices = known.choices if known else {}
            try:
                source = open_source(uri, self._modalities, kind, **choices)
            except MMSearchError as error:
                raise DecodeError(str(error.message), transient=True) from error
            self._sources[kind, uri] = source
        return source.read(key)

    def _load_record(self, digest: bytes) -> bytes:
        for path in (
            original_path(self._layout.originals, digest),
            thumbnail_path(self._layout.thumbnails, digest),
        ):
            with suppress(OSError):
                return path.read_bytes()
        raise DecodeError("the index keeps neither its original nor a thumbnail of it")

    def close(self) -> None:
        """Close the sources."""
        for source in self._sources.values():
            source.close()


@contextmanager
def open_url_loader() -> Iterator[Callable[[str], bytes]]:
    """Yield a function that fetches a picture at a public URL.

    It raises MissingExtraError without the extra ``urls``, and DecodeError if a fetch fails.
    """
    with ExitStack() as stack:
        readers: list[WebReader] = []

        def load(url: str) -> bytes:
            from mmsearch.sources._web.reader import WebReader  # noqa: PLC0415 - needs an extra

            if not readers:
                readers.append(WebReader(MAX_URL_MB))
                stack.callback(readers[0].close)
            return readers[0].read(url)

        yield load


def list_choices(kind: str) -> dict[str, str]:
    """Return the choices of a kind of source by name, with the annotations of their values."""
    parameters = inspect.signature(plugins.load("sources", kind).build).parameters
    return {
        name: str(parameter.annotation)
        for name, parameter in parameters.items()
        if name not in ("uri", "is_picture")
    }


def parse_choices(kind: str, texts: Sequence[str]) -> dict[str, Any]:
    """Return choices written as ``NAME=VALUE``, with values of the types that the kind takes.

    Several values of one choice are separated by commas.

    Raises:
        UsageError: A choice is unknown or its value is not valid.
    """
    known = list_choices(kind)
    choices: dict[str, Any] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or name not in known:
            raise UsageError(
                f"{text!r} is not a choice of sources of the kind {kind!r}.",
                f"Write NAME=VALUE, with one of: {', '.join(known) or 'none'}.",
            )
        choices[name] = _parse_choice(name, value, known[name])
    return choices


def _parse_choice(name: str, value: str, annotation: str) -> Any:
    if annotation.startswith("tuple"):
        return tuple(filter(None, value.split(",")))
    if annotation.startswith("bool"):
        if value.lower() not in ("true", "false", "yes", "no"):
            raise UsageError(f"{name} must be true or false, got {value!r}.")
        return value.lower() in ("true", "yes")
    if annotation.startswith(("float", "int")):
        number = int if annotation.startswith("int") else float
        try:
            return number(value)
        except ValueError:
            raise UsageError(f"{name} must be a number, got {value!r}.") from None
    return Path(value).absolute() if annotation.startswith("Path") else value


def is_dataset(folder: bytes) -> bool:
    """Return True if a folder is a data set of Hugging Face on disk."""
    return any(
        os.path.exists(os.path.join(folder, os.fsencode(name)))  # noqa: PTH110, PTH118 - bytes
        for name in _DATASET_FILES
    )


def is_folder_of_files(path: bytes) -> bool:
    """Return True for a folder that is neither a data set nor one of tars of img2dataset."""
    from mmsearch.sources._shards import is_shards_folder  # noqa: PLC0415 - searches never need it

    is_folder = os.path.isdir(path)  # noqa: PTH112 - bytes
    return is_folder and not is_dataset(path) and not is_shards_folder(path)


def is_named_as_file(path: bytes) -> bool:
    """Return True if a path has the suffix of an archive or a table."""
    name = os.fsdecode(path)
    return bool(_ARCHIVE.search(name) or _TABLE.search(name))


def guess_kind(uri: bytes) -> str:
    """Return the kind of the source at a path or URI.

    Raises:
        SourceError: It is a folder of files, or cannot be guessed.
    """
    text = os.fsdecode(uri)
    if _SCHEME.match(text):
        return "remote"
    path = os.path.expanduser(text)  # noqa: PTH111 - may not be a valid path
    if os.path.isdir(path):  # noqa: PTH112
        if is_dataset(os.fsencode(path)):
            return "dataset"
        if not is_folder_of_files(os.fsencode(path)):
            return "archive"
        raise SourceError(
            f"{display_path(text)} is a folder of files.",
            Hint("Index it {}.", "with add_folder", "with 'mmsearch index FOLDER'"),
        )
    if _ARCHIVE.search(text):
        return "archive"
    if _TABLE.search(text):
        return "table"
    raise SourceError(
        f"{display_path(text)} is not a source that is known by its name.",
        "Give a .zip, .tar, .csv, .jsonl or .parquet file, a data set, or a URI such as s3://...",
    )


class _PictureTest:
    """Function that returns True for the name and the first bytes of a picture.

    Args:
        modalities: Readers of pictures.
    """

    def __init__(self, modalities: Sequence[Modality]) -> None:
        self._modalities = [item for item in modalities if item.missing_extra is None]

    def __call__(self, name: bytes, head: bytes) -> bool:
        # Tables of office programs begin like their texts, so their names decide.
        start = b"" if head.startswith(b"PK\3\4") else head[:HEAD_BYTES]
        return any(
            modality.can_read(b"/" + name) or modality.recognizes(start)
            for modality in self._modalities
        )
