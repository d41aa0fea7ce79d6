"""Exports as Parquet files, with the vectors as lists of fixed size of float16."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmsearch.core.display import display_path
from mmsearch.core.errors import SourceError
from mmsearch.exports import arrow
from mmsearch.exports.manifest import Manifest
from mmsearch.exports.pictures import BATCH_ROWS, ROWS_PER_FILE, ExportBatch, ItemPart


@contextmanager
def open_writer(folder: Path, manifest: Manifest) -> Iterator[Callable[[ExportBatch], None]]:
    """Open the writer; see `ExportFormat`."""
    vector = arrow.vector_type(manifest.encoder.dim)
    facts = (*arrow.PICTURE_FIELDS, *(arrow.PART_COLUMNS if manifest.has_parts else ()))
    fields = (*facts, (arrow.IMAGE, vector), (arrow.TEXTS, pa.list_(vector)))
    schema = arrow.make_schema(manifest, fields)
    with ExitStack() as stack:
        files = rows = 0
        append: Callable[[dict[str, Any]], None] | None = None

        def write(batch: ExportBatch) -> None:
            nonlocal files, rows, append
            if append is None or rows >= ROWS_PER_FILE:
                stack.close()
                path = folder / f"pictures-{files:05d}.parquet"
                append = stack.enter_context(arrow.table_writer(path, schema))
                files, rows = files + 1, 0
            append(
                {
                    **arrow.to_columns(batch.pictures, facts),
                    arrow.IMAGE: arrow.to_vector_array(batch.images),
                    arrow.TEXTS: arrow.to_vector_lists(batch),
                }
            )
            rows += len(batch.pictures)

        yield write


class ParquetReader:
    """Implementation of `ExportReader` for Parquet files."""

    def __init__(self, paths: list[Path], manifest: Manifest) -> None:
        self.dim = manifest.encoder.dim
        self._paths = paths
        self.pictures = manifest.pictures

    def iter_batches(self) -> Iterator[ExportBatch]:
        """Yield all pictures with their vectors."""
        for path in self._paths:
            with arrow.open_table(path) as file:
                batches = file.iter_batches(BATCH_ROWS)
                while True:
                    with arrow.table_errors(path):
                        batch = next(batches, None)
                        if batch is None:
                            break
                        parsed = ExportBatch(
                            arrow.from_columns(batch),
                            arrow.from_vector_array(batch.column(arrow.IMAGE), self.dim),
                            arrow.from_vector_lists(batch.column(arrow.TEXTS), self.dim),
                        )
                    yield parsed

    def iter_parts(self) -> Iterator[ItemPart]:
        """Yield where each item is in its content."""
        names = ["image_path", "sha256", "part", "parts"]
        for path in self._paths:
            with arrow.open_table(path) as file, arrow.table_errors(path):
                for batch in file.iter_batches(BATCH_ROWS, columns=names):
                    columns = [batch.column(name).to_pylist() for name in names]
                    for place, digest, part, parts in zip(*columns, strict=True):
                        yield place, digest or b"", part or 0, 1 if parts is None else parts

    def iter_paths(self) -> Iterator[bytes]:
        """Yield nothing: only mmsearch writes these files."""
        return iter(())


def open_reader(folder: Path, manifest: Manifest | None) -> ParquetReader:
    """Open an export; see `ExportFormat`."""
    if manifest is None:
        raise SourceError(
            f"{display_path(folder)} has no manifest of an export that mmsearch wrote.",
            "Convert vectors of other programs to the format npy or clip-retrieval.",
        )
    paths = [folder / name for name in sorted(manifest.files) if name.endswith(".parquet")]
    return ParquetReader(paths, manifest)
