"""Exported pictures: their facts as plain values, and batches of them with their vectors."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.display import display_path
from mmsearch.core.errors import SourceError
from mmsearch.core.types import (
    IMAGE_KIND,
    MADE_SOURCES,
    WHOLE,
    ItemLocator,
    Picture,
    Text,
    TextSource,
)

BATCH_ROWS = 16_384
"""Number of pictures per batch: one segment of an import, one row group of a Parquet file."""

ROWS_PER_FILE = 4 * BATCH_ROWS
"""Maximum number of pictures per file, in formats of several files."""

HalfVectors: TypeAlias = "NDArray[np.float16]"
"""Vectors as they are stored: float16 (n, dim), C-order."""

PART_FIELDS = ("kind", "part", "parts", "start_ms", "end_ms", "page")
"""Values that only rows of contents other than still pictures have; see `to_row`."""

_MAX_INTEGER = 2**63 - 1
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
_FACTS = (
    "damage",
    "taken_at",
    "taken_from",
    "camera",
    "lens",
    "latitude",
    "longitude",
    "rating",
    "label",
)
_LIMITS_DEGREES = {"latitude": 90.0, "longitude": 180.0}
_TEXT_FIELDS = ("kind", "language", "source", "text")


@dataclass(frozen=True, slots=True)
class Asset:
    """Facts of a picture in a source other than a folder.

    Attributes:
        kind: Kind of the source; see `SourceRecord`.
        part: Part of the source.
        stamp: Stamp of the content.
        metadata: Metadata that the source or a program gave it, as JSON values.
        texts: Its texts.
    """

    kind: str
    part: bytes = b""
    stamp: bytes = b""
    metadata: Mapping[str, Any] | None = None
    texts: tuple[Text, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """A place of a picture: an indexed folder, and a path below it, both as bytes.

    In exports of other programs, the folder is b"" and the path may be absolute. With an ``asset``,
    it is the URI of another source, and the key of the picture in it.
    """

    root: bytes
    key: bytes
    asset: Asset | None = None


@dataclass(frozen=True, slots=True)
class ExportedPicture:
    """One picture of an export, without its vectors: a still picture, a moment or a page.

    The items of a content follow each other, by part.

    Attributes:
        id: Id in the index that was exported; 0 if another program wrote the export.
        digest: sha256 of the content; b"" if it is not known.
        places: All paths of the content, at least one. Only those of the first item have assets.
        size: Size of the file in bytes.
        mtime_ns: Modification time of the first place, in nanoseconds; 0 if it is not known.
        picture: Its metadata with all its texts. The size is 0 x 0 if it is not known.
        texts_digest: Digest of the texts that the text vectors are of; see `EncodedPicture`.
        text_kinds: Kinds of its text vectors, in their order.
        kind: Kind of the content; see `mmsearch.core.protocols.Modality.kind`.
        locator: Where it is in its content.
        parts: Number of items of the content.
    """

    id: int
    digest: bytes
    places: tuple[Place, ...]
    size: int
    mtime_ns: int
    picture: Picture
    texts_digest: bytes = b""
    text_kinds: tuple[str, ...] = ()
    kind: str = IMAGE_KIND
    locator: ItemLocator = WHOLE
    parts: int = 1


ItemPart: TypeAlias = tuple[str, bytes, int, int]
"""Path, digest, part and number of parts of an exported item."""


@dataclass(frozen=True)
class ExportBatch:
    """Pictures with their vectors.

    Attributes:
        pictures: The pictures.
        images: float16 (n, dim), one row per picture.
        texts: float16 (m, dim), the text vectors of the first picture, then of the next.
    """

    pictures: Sequence[ExportedPicture]
    images: HalfVectors
    texts: HalfVectors

    def slice(self, start: int, stop: int) -> ExportBatch:
        """Return the pictures from ``start`` to ``stop`` with their vectors."""
        counts = np.cumsum([0, *(len(item.text_kinds) for item in self.pictures)])
        stop = min(stop, len(self.pictures))
        return ExportBatch(
            self.pictures[start:stop],
            self.images[start:stop],
            self.texts[counts[start] : counts[stop]],
        )


def rebatch(batches: Iterable[ExportBatch], rows: int = BATCH_ROWS) -> Iterator[ExportBatch]:
    """Yield the same pictures in batches of ``rows``; only the last one may be smaller."""
    pending: list[ExportBatch] = []
    count = 0
    for batch in batches:
        start = 0
        while start < len(batch.pictures):
            pending.append(batch.slice(start, start + rows - count))
            start += len(pending[-1].pictures)
            count += len(pending[-1].pictures)
            if count == rows:
                yield _join(pending)
                pending, count = [], 0
        # A slice would keep the whole batch in memory while the next one is read.
        pending = [_join(pending)] if pending else []
        del batch
    if pending:
        yield _join(pending)


def whole_contents(batches: Iterable[ExportBatch]) -> Iterator[ExportBatch]:
    """Yield the same pictures in batches that have all items of each content.

    Raises:
        SourceError: A content is not complete.
    """
    rest: list[ExportBatch] = []
    for batch in batches:
        joined = _join([*rest, batch]) if rest else batch
        last = joined.pictures[-1]
        count = len(joined.pictures)
        end = count if last.locator.part == last.parts - 1 else count - last.locator.part - 1
        rest = [joined.slice(end, count)] if 0 <= end < count else []
        if rest:
            joined = joined.slice(0, end)
        if any(item.parts > 1 for item in joined.pictures):
            check_parts(item_part(item) for item in joined.pictures)
        if joined.pictures:
            yield joined
    for batch in rest:
        check_parts(item_part(item) for item in batch.pictures)


def item_part(item: ExportedPicture) -> ItemPart:
    """Return where an item is in its content."""
    return _display_first(item), item.digest, item.locator.part, item.parts


def check_parts(items: Iterable[ItemPart]) -> None:
    """Check that the items of each content are there and follow each other.

    Raises:
        SourceError: One is missing, or is not in its place.
    """
    path, digest, part, parts = "", b"", 0, 1
    for following in items:
        is_next = part + 1 < parts
        expected = (digest, part + 1, parts) if is_next else (following[1], 0, following[3])
        if following[1:] != expected:
            raise (
                _parts_error(path, part + 1, parts)
                if is_next
                else _parts_error(following[0], 0, following[3])
            )
        path, digest, part, parts = following
    if part + 1 < parts:
        raise _parts_error(path, part + 1, parts)


def _parts_error(path: str, part: int, parts: int) -> SourceError:
    return SourceError(
        f"The export lacks item {part + 1:,} of the {parts:,} items of {display_path(path)}.",
        "Copy the folder of the export again, or export the index again.",
    )


def _join(batches: Sequence[ExportBatch]) -> ExportBatch:
    return ExportBatch(
        [item for batch in batches for item in batch.pictures],
        np.concatenate([batch.images for batch in batches]),
        np.concatenate([batch.texts for batch in batches]),
    )


def to_row(item: ExportedPicture) -> dict[str, Any]:
    """Return a picture as plain values, by the names of the columns of an export."""
    has_assets = any(place.asset is not None for place in item.places)
    return {
        "id": item.id,
        "sha256": item.digest or None,
        "image_path": _display_first(item),
        "root": item.places[0].root,
        "key": item.places[0].key,
        "size": item.size,
        "mtime_ns": item.mtime_ns,
        "copies": [{"root": place.root, "key": place.key} for place in item.places[1:]],
        "width": item.picture.width,
        "height": item.picture.height,
        "format": item.picture.format,
        **{name: getattr(item.picture, name) for name in _FACTS},
        "texts": [
            {name: getattr(text, name) for name in _TEXT_FIELDS} for text in item.picture.texts
        ],
        "assets": json.dumps([_asset_to_json(at.asset) for at in item.places])
        if has_assets
        else None,
        "texts_digest": item.texts_digest,
        "text_kinds": list(item.text_kinds),
        **_part_to_row(item),
    }


def _display_first(item: ExportedPicture) -> str:
    """Return the path of the first place as text."""
    first = item.places[0]
    path = os.path.join(first.root, first.key) if first.root else first.key  # noqa: PTH118 - bytes
    return path.decode("utf-8", "replace")


def _part_to_row(item: ExportedPicture) -> dict[str, Any]:
    """Return the values of `PART_FIELDS`; still pictures have none."""
    if item.kind == IMAGE_KIND:
        return {}
    return {"kind": item.kind, "parts": item.parts, **vars(item.locator)}


def from_row(row: Mapping[str, Any]) -> ExportedPicture:
    """Return the picture of `to_row`.

    Raises:
        KeyError: A value is missing.
        TypeError: A value has another type.
        ValueError: A value is not valid.
    """
    places = (row, *(row["copies"] or ()))
    # Exports of earlier versions have no such column.
    assets = _parse_assets(row.get("assets"), len(places))
    texts = _parse_texts(row["texts"]) if row["texts"] else ()
    # Most values are missing in most rows.
    facts = {name: _parse_fact(row, name) for name in _FACTS if row[name] is not None}
    width, height = _integer(row, "width"), _integer(row, "height")
    picture = Picture(width, height, _typed(row, "format", str), texts=texts, **facts)
    digest = _typed(row, "sha256", bytes) if row["sha256"] is not None else b""
    if len(digest) not in (0, 32):
        raise ValueError("sha256 has not 32 bytes")
    return ExportedPicture(
        _integer(row, "id"),
        digest,
        tuple(
            [
                Place(_typed(at, "root", bytes), _typed(at, "key", bytes), asset)
                for at, asset in zip(places, assets, strict=True)
            ]
        ),
        _integer(row, "size"),
        _integer(row, "mtime_ns", -_MAX_INTEGER - 1),
        picture,
        _typed(row, "texts_digest", bytes),
        tuple([_typed({"text_kinds": kind}, "text_kinds", str) for kind in row["text_kinds"]]),
        *(() if row.get("kind") is None else _parse_part(row)),
    )


def _parse_part(row: Mapping[str, Any]) -> tuple[str, ItemLocator, int]:
    part, parts = _integer(row, "part"), _integer(row, "parts", 1)
    if part >= parts or row["sha256"] is None:
        raise ValueError(f"part is {part!r} of {parts!r}")
    times = {
        name: None if row.get(name) is None else _integer(row, name)
        for name in ("start_ms", "end_ms", "page")
    }
    return _typed(row, "kind", str), ItemLocator(part, **times), parts


def _asset_to_json(asset: Asset | None) -> dict[str, Any] | None:
    if asset is None:
        return None
    return {
        "kind": asset.kind,
        "part": asset.part.hex(),
        "stamp": asset.stamp.hex(),
        "metadata": asset.metadata,
        "texts": [{name: getattr(text, name) for name in _TEXT_FIELDS} for text in asset.texts],
    }


def _parse_assets(stored: str | None, count: int) -> Sequence[Asset | None]:
    if stored is None:
        return [None] * count
    values = json.loads(stored)
    if not isinstance(values, list) or len(values) != count:
        raise ValueError("assets does not fit the places")
    return [None if value is None else _parse_asset(value) for value in values]


def _parse_asset(row: Mapping[str, Any]) -> Asset:
    return Asset(
        _typed(row, "kind", str),
        bytes.fromhex(row["part"]),
        bytes.fromhex(row["stamp"]),
        _optional(row, "metadata", dict),
        _parse_texts(row["texts"]),
    )


def _parse_texts(rows: Iterable[Mapping[str, Any]]) -> tuple[Text, ...]:
    """Return the texts without those that were made: a row does not say by what."""
    texts = (_parse_text(row) for row in rows)
    return tuple([text for text in texts if text.source not in MADE_SOURCES])


def _parse_text(row: Mapping[str, Any]) -> Text:
    source = TextSource(row["source"])
    kind, text = _typed(row, "kind", str), _typed(row, "text", str)
    return Text(kind, text, _optional(row, "language", str), source)


def _typed(row: Mapping[str, Any], name: str, kind: type) -> Any:
    value = row[name]
    if not isinstance(value, kind):
        raise TypeError(f"{name} is {type(value).__name__}, not {kind.__name__}")
    return value


def _optional(row: Mapping[str, Any], name: str, kind: type) -> Any:
    return None if row[name] is None else _typed(row, name, kind)


def _integer(row: Mapping[str, Any], name: str, low: int = 0, high: int = _MAX_INTEGER) -> int:
    value = row[name]
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}")
    return value


def _parse_fact(row: Mapping[str, Any], name: str) -> Any:
    if name in _LIMITS_DEGREES:
        return _degrees(row, name, _LIMITS_DEGREES[name])
    if name == "rating":
        return _integer(row, name, -1, 5)
    value = _typed(row, name, str)
    if name == "taken_at" and not _DATE.fullmatch(value):
        raise ValueError(f"taken_at is {value!r}")
    return value


def _degrees(row: Mapping[str, Any], name: str, limit: float) -> float:
    value = row[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}")
    if abs(value) > limit:
        raise ValueError(f"{name} is {value!r}")
    return float(value)
