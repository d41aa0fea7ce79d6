"""Arrow tables of exported pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from mmsearch.core.display import display_path
from mmsearch.core.errors import SourceError
from mmsearch.exports.manifest import Manifest, synced_file
from mmsearch.exports.pictures import (
    PART_FIELDS,
    ExportBatch,
    ExportedPicture,
    HalfVectors,
    from_row,
    to_row,
)

IMAGE, TEXTS = "image_vector", "text_vectors"
"""Columns with the vectors."""

_PLACE = pa.struct([("root", pa.binary()), ("key", pa.binary())])
_TEXT = pa.struct([(name, pa.string()) for name in ("kind", "language", "source", "text")])

PICTURE_FIELDS: Final = (
    ("id", pa.int64()),
    ("sha256", pa.binary()),
    ("image_path", pa.string()),
    ("root", pa.binary()),
    ("key", pa.binary()),
    ("size", pa.int64()),
    ("mtime_ns", pa.int64()),
    ("copies", pa.list_(_PLACE)),
    ("width", pa.int64()),
    ("height", pa.int64()),
    ("format", pa.string()),
    ("damage", pa.string()),
    ("taken_at", pa.string()),
    ("taken_from", pa.string()),
    ("camera", pa.string()),
    ("lens", pa.string()),
    ("latitude", pa.float64()),
    ("longitude", pa.float64()),
    ("rating", pa.int64()),
    ("label", pa.string()),
    ("texts", pa.list_(_TEXT)),
    ("assets", pa.string()),
    ("texts_digest", pa.binary()),
    ("text_kinds", pa.list_(pa.string())),
)
"""Columns with the facts of a picture; see `to_row`."""

PART_COLUMNS: Final = tuple(
    (name, pa.string() if name == "kind" else pa.int64()) for name in PART_FIELDS
)
"""Further columns of exports with contents of several items; null for still pictures."""

_OPTIONAL = frozenset({"assets", *PART_FIELDS})

READ_ERRORS = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, RecursionError)
"""Errors that a damaged or foreign file causes."""


def make_schema(manifest: Manifest, fields: Sequence[tuple[str, Any]]) -> Any:
    """Return the schema of a table; its metadata name the encoder of the vectors."""
    encoder = manifest.encoder
    described = {
        "mmsearch.fingerprint": encoder.fingerprint,
        "mmsearch.encoder": encoder.name,
        "mmsearch.dim": str(encoder.dim),
        "mmsearch.encoder_spec": json.dumps(manifest.to_json()["encoder"]),
    }
    return pa.schema(fields, metadata=described)


def vector_type(dim: int) -> Any:
    """Return the Arrow type of a vector: a list of fixed size of float16."""
    return pa.list_(pa.float16(), dim)


def to_columns(
    pictures: Sequence[ExportedPicture], fields: Sequence[tuple[str, Any]] = PICTURE_FIELDS
) -> dict[str, Any]:
    """Return the Arrow arrays of `PICTURE_FIELDS`, and of `PART_COLUMNS` if they are asked for."""
    rows = [to_row(item) for item in pictures]
    return {name: pa.array([row.get(name) for row in rows], kind) for name, kind in fields}


def to_vector_array(vectors: HalfVectors) -> Any:
    """Return float16 (n, dim) as an Arrow array of vectors."""
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])


def to_vector_lists(batch: ExportBatch) -> Any:
    """Return the text vectors of a batch as an Arrow array with a list for each picture."""
    counts = [len(item.text_kinds) for item in batch.pictures]
    offsets = pa.array(np.cumsum([0, *counts]), pa.int32())
    return pa.ListArray.from_arrays(offsets, to_vector_array(batch.texts))


def from_vector_array(column: Any, dim: int) -> HalfVectors:
    """Return an Arrow array of vectors as float16 (n, dim).

    Raises:
        ValueError: It has another type.
    """
    if column.type != vector_type(dim) or column.null_count:
        raise ValueError(f"a column of vectors has type {column.type}")
    values: HalfVectors = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
    return values


def from_vector_lists(column: Any, dim: int) -> HalfVectors:
    """Return the vectors of `to_vector_lists`, float16 (m, dim)."""
    if column.type != pa.list_(vector_type(dim)):
        raise ValueError(f"a column of vectors has type {column.type}")
    return from_vector_array(column.flatten(), dim)


def from_columns(batch: Any) -> list[ExportedPicture]:
    """Return the pictures of a record batch.

    Raises:
        ValueError: A value is not valid.
        KeyError: A column is missing.
    """
    known = {*batch.schema.names, *(name for name, _ in PICTURE_FIELDS if name not in _OPTIONAL)}
    names = [name for name, _ in (*PICTURE_FIELDS, *PART_COLUMNS) if name in known]
    columns = [batch.column(name).to_pylist() for name in names]
    return [
        from_row(dict(zip(names, values, strict=True))) for values in zip(*columns, strict=True)
    ]


@contextmanager
def table_writer(path: Path, schema: Any) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Create a Parquet file; yield the function that appends columns as a row group."""
    with synced_file(path) as file:
        # Vectors do not compress, and their statistics say nothing.
        others = [field.name for field in schema if field.name not in (IMAGE, TEXTS)]
        with parquet.ParquetWriter(
            file,
            schema,
            compression=dict.fromkeys(others, "zstd"),
            write_statistics=others,
            use_dictionary=False,
            write_page_checksum=True,
        ) as writer:

            def write(columns: dict[str, Any]) -> None:
                arrays = [columns[field.name] for field in schema]
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))

            yield write


def open_table(path: Path) -> Any:
    """Open a Parquet file.

    Raises:
        SourceError: It is not a Parquet file, or is damaged.
    """
    with table_errors(path):
        return parquet.ParquetFile(path, page_checksum_verification=True)


@contextmanager
def table_errors(path: Path) -> Iterator[None]:
    """Translate the errors that the content of a file causes into a `SourceError`."""
    try:
        yield
    except READ_ERRORS as error:
        raise SourceError(
            f"{display_path(path)} cannot be read as part of an export:"
            f" {type(error).__name__}: {_first_line(error)}.",
            "Copy the folder of the export again, or export the index again.",
        ) from error


def _first_line(error: BaseException) -> str:
    return display_path(str(error).partition("\n")[0][:200].rstrip("."))
