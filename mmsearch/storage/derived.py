"""Files of derived texts: gzip-compressed JSON Lines, one content a line.

They are written once. If the catalog is lost, its derived texts are read from them again: making
them takes hours, and reading them takes seconds.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import IO, Any, Final

from mmsearch.core.boxes import parse_boxes
from mmsearch.core.derived import DerivedFile, DerivedState, DerivedTexts
from mmsearch.core.errors import DamagedFileError
from mmsearch.core.records import FileRef
from mmsearch.core.types import Text
from mmsearch.storage.atomic import REPAIR_HINT, open_index_file, verify_file
from mmsearch.storage.layout import IndexLayout, new_derived_name
from mmsearch.storage.stored_files import open_store

_VERSION: Final = 1
_COMPRESSION: Final = 6
MAX_LINE_BYTES: Final = 64 * 1024 * 1024
"""Maximum size of the texts of one content, uncompressed."""


def write_derived(
    layout: IndexLayout, number: int, contents: Iterator[DerivedTexts] | Sequence[DerivedTexts]
) -> DerivedFile:
    """Write a file of derived texts durably.

    Args:
        layout: File layout of the index.
        number: Number of the file.
        contents: The texts, content by content.
    """
    with open_store(layout).put(new_derived_name(number)) as file:
        rows = pack_derived(contents, file.write)
    return DerivedFile(number, file.file_ref(), rows)


def pack_derived(contents: Iterable[DerivedTexts], write: Callable[[bytes], object]) -> int:
    """Write derived texts as gzip-compressed lines; return the number of lines."""
    rows = 0
    compressor = zlib.compressobj(_COMPRESSION, zlib.DEFLATED, wbits=31)
    for derived in contents:
        line = json.dumps(_to_json(derived), ensure_ascii=False, separators=(",", ":"))
        write(compressor.compress(line.encode("utf-8", "replace") + b"\n"))
        rows += 1
    write(compressor.flush())
    return rows


def unpack_derived(file: IO[bytes]) -> Iterator[DerivedTexts]:
    """Yield the derived texts of `pack_derived`.

    Raises:
        ValueError: The file is damaged; contents before the damage were yielded.
    """
    try:
        with gzip.GzipFile(fileobj=file) as lines:
            while line := lines.readline(MAX_LINE_BYTES):
                yield _from_json(json.loads(line))
    except (
        *(EOFError, zlib.error, gzip.BadGzipFile, ValueError, TypeError, KeyError),
        *(AttributeError, RecursionError),
    ) as error:
        raise ValueError(f"it holds no derived texts ({type(error).__name__})") from error


def read_derived(layout: IndexLayout, file_ref: FileRef) -> Iterator[DerivedTexts]:
    """Yield the contents of a file of derived texts.

    Raises:
        DamagedFileError: The file does not match its reference, or is not a valid one.
    """
    path = layout.local_path(file_ref)
    verify_file(path, file_ref)
    yield from recover_derived(layout, file_ref.name)


def recover_derived(layout: IndexLayout, name: str) -> Iterator[DerivedTexts]:
    """Yield the contents of a file of derived texts of which the catalog knows nothing.

    Raises:
        DamagedFileError: The file is damaged; contents before the damage were yielded.
    """
    path = layout.folder / name
    try:
        with open_index_file(path) as file:
            yield from unpack_derived(file)
    except ValueError as error:
        raise DamagedFileError(f"{path} holds no derived texts.", REPAIR_HINT) from error


def _to_json(derived: DerivedTexts) -> dict[str, Any]:
    texts = {
        str(part): [_drop_defaults(asdict(text)) for text in texts]
        for part, texts in sorted(derived.texts.items())
    }
    values = _drop_defaults(
        {
            "state": derived.state.value,
            "from_ms": derived.from_ms or None,
            "upto_ms": derived.upto_ms,
            "seconds": round(derived.seconds, 4),
            "error": derived.error,
        }
    )
    return {
        "version": _VERSION,
        "content": derived.digest.hex(),
        "enricher": derived.enricher,
        "made_by": derived.made_by,
        "texts": texts,
        **values,
    }


def _make_text(values: dict[str, Any]) -> Text:
    text = Text(**values | {"boxes": parse_boxes(values.get("boxes", ()))})
    for value in (text.kind, text.text, text.source, text.made_by, text.language or ""):
        if not isinstance(value, str):
            raise TypeError(value)
    for name in ("start_ms", "end_ms"):
        number = values.get(name, 0)
        if not isinstance(number, int) or not 0 <= number < 2**63:
            raise ValueError(name)
    if not 0 <= values.get("confidence", 0) <= 1:
        raise ValueError("confidence")
    return text


def _drop_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values without those that are None or empty tuples."""
    return {name: value for name, value in values.items() if value not in (None, ())}


def _from_json(values: dict[str, Any]) -> DerivedTexts:
    texts = {
        int(part): tuple(_make_text(text) for text in texts)
        for part, texts in values["texts"].items()
    }
    digest = bytes.fromhex(values["content"])
    if values["version"] != _VERSION or len(digest) != 32:
        raise ValueError("unknown version")
    if not math.isfinite(values["seconds"]) or not isinstance(values.get("error", ""), str):
        raise ValueError("seconds or error")
    return DerivedTexts(
        digest,
        str(values["enricher"]),
        str(values["made_by"]),
        texts,
        DerivedState(values["state"]),
        int(values.get("from_ms", 0)),
        int(values["upto_ms"]) if "upto_ms" in values else None,
        float(values["seconds"]),
        values.get("error"),
    )
