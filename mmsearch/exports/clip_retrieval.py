"""Exports in the layout of clip-retrieval, whose index builder and back end read them.

::

    img_emb/img_emb_0000.npy            image vectors
    text_emb/text_emb_0000.npy          the vector of each caption; zeros without a caption
    metadata/metadata_0000.parquet      image_path, caption, and the facts of the pictures
    text_vectors/text_vectors_0000.npy  all text vectors, one picture after another

clip-retrieval itself writes the first three folders. See https://github.com/rom1504/clip-retrieval.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmsearch.core.display import display_path
from mmsearch.core.errors import SourceError
from mmsearch.core.files import create_folder
from mmsearch.core.types import TextSource, select_encoded_texts, texts_digest
from mmsearch.exports import arrow
from mmsearch.exports.foreign import (
    CAPTION,
    PATH_COLUMNS,
    SIZE_COLUMNS,
    foreign_picture,
    to_foreign_batch,
)
from mmsearch.exports.manifest import Manifest
from mmsearch.exports.npy import map_vectors, row_writer
from mmsearch.exports.pictures import (
    BATCH_ROWS,
    ROWS_PER_FILE,
    ExportBatch,
    ExportedPicture,
    HalfVectors,
)
from mmsearch.storage.layout import remove_folder

_NUMBER = re.compile(r"_(\d+)\.(?:npy|parquet)$")


@contextmanager
def open_writer(folder: Path, manifest: Manifest) -> Iterator[Callable[[ExportBatch], None]]:
    """Open the writer; see `ExportFormat`."""
    dim = manifest.encoder.dim
    sources = tuple(TextSource(name) for name in manifest.settings.get("texts", ()))
    fields = [*arrow.PICTURE_FIELDS, (CAPTION, pa.string())]
    schema = arrow.make_schema(manifest, fields)
    for name in ("img_emb", "text_emb", "metadata", "text_vectors"):
        create_folder(folder / name, inherit_permissions=True)
    with ExitStack() as stack:
        files = text_vectors = 0
        rows = ROWS_PER_FILE
        append: list[Callable[[Any], None]] = []

        def write(batch: ExportBatch) -> None:
            nonlocal files, rows, append, text_vectors
            if rows >= ROWS_PER_FILE:
                stack.close()
                append = [
                    stack.enter_context(row_writer(_part(folder, name, files), dim))
                    for name in ("img_emb", "text_emb", "text_vectors")
                ]
                path = _part(folder, "metadata", files, "parquet")
                append.append(stack.enter_context(arrow.table_writer(path, schema)))
                files, rows = files + 1, 0
            append_images, append_captions, append_texts, append_rows = append
            captions = [_caption(item, sources) for item in batch.pictures]
            append_images(batch.images)
            append_captions(_first_text_vectors(batch))
            append_texts(batch.texts)
            columns = arrow.to_columns(batch.pictures)
            append_rows({**columns, CAPTION: pa.array(captions, pa.string())})
            rows += len(batch.pictures)
            text_vectors += len(batch.texts)

        yield write
    if not text_vectors:
        # clip-retrieval would build an index of zeros.
        for name in ("text_emb", "text_vectors"):
            remove_folder(folder / name)


def _part(folder: Path, name: str, number: int, suffix: str = "npy") -> Path:
    return folder / name / f"{name}_{number:04d}.{suffix}"


def _caption(item: ExportedPicture, sources: tuple[TextSource, ...]) -> str:
    """Return the text of the first text vector, or the first text; "" without texts."""
    encoded = select_encoded_texts(item.picture.texts, sources)
    if encoded and texts_digest(encoded) == item.texts_digest:
        return encoded[0].text
    return next(
        (text.text for text in item.picture.texts if text.source != TextSource.FILENAME), ""
    )


def _first_text_vectors(batch: ExportBatch) -> HalfVectors:
    """Return the first text vector of each picture, float16 (n, dim); zeros without one."""
    counts = np.array([len(item.text_kinds) for item in batch.pictures], dtype=np.int64)
    first = np.zeros_like(batch.images)
    starts = np.cumsum(counts) - counts
    first[counts > 0] = batch.texts[starts[counts > 0]]
    return first


class ClipRetrievalReader:
    """Implementation of `ExportReader` for the layout of clip-retrieval."""

    def __init__(self, folder: Path, manifest: Manifest | None) -> None:
        self._folder = folder
        self._is_foreign = manifest is None
        images, metadata = _numbered(folder / "img_emb"), _numbered(folder / "metadata")
        if not metadata or sorted(images) != sorted(metadata):
            raise SourceError(
                f"{display_path(folder)} has {len(images)} files in img_emb and {len(metadata)} in"
                " metadata, which do not go together.",
                "Pass the output folder of clip-retrieval's inference.",
            )
        captions = _numbered(folder / ("text_emb" if manifest is None else "text_vectors"))
        self._parts = [(images[n], metadata[n], captions.get(n)) for n in sorted(images)]
        shapes = [map_vectors(path).shape for path in images.values()]
        self.pictures = sum(rows for rows, _ in shapes)
        self.dim = shapes[0][1]
        if len({dim for _, dim in shapes}) > 1:
            raise SourceError(
                f"The vectors in {display_path(folder / 'img_emb')} have different dimensions.",
                "Put the vectors of one model into a folder.",
            )

    def iter_batches(self) -> Iterator[ExportBatch]:
        """Yield all pictures with their vectors."""
        for image_path, metadata_path, text_path in self._parts:
            images = map_vectors(image_path)
            texts = None if text_path is None else map_vectors(text_path)
            first = first_text = 0
            for pictures in self._iter_pictures(metadata_path):
                end = first + len(pictures)
                if end > len(images):
                    break
                rows = images[first:end]
                if self._is_foreign:
                    captions = None if texts is None else texts[first:end]
                    yield to_foreign_batch(pictures, rows, captions)
                else:
                    end_text = first_text + sum(len(item.text_kinds) for item in pictures)
                    kept = rows[:0] if texts is None else texts[first_text:end_text]
                    yield ExportBatch(pictures, np.array(rows), np.array(kept))
                    first_text = end_text
                first = end
            if first != len(images) or (
                self._is_foreign and texts is not None and len(texts) != first
            ):
                raise SourceError(
                    f"{display_path(metadata_path)} does not have a row for each vector.",
                    "Copy the folder again, or write it again.",
                )

    def iter_paths(self) -> Iterator[bytes]:
        """Yield the path of each picture of another program's export."""
        if self._is_foreign:
            for _, path, _ in self._parts:
                for pictures in self._iter_pictures(path):
                    yield from (item.places[0].key for item in pictures)

    def _iter_pictures(self, path: Path) -> Iterator[list[ExportedPicture]]:
        with arrow.open_table(path) as file:
            known = (
                (*PATH_COLUMNS, CAPTION, *SIZE_COLUMNS)
                if self._is_foreign
                else [name for name, _ in arrow.PICTURE_FIELDS]
            )
            names = [name for name in file.schema_arrow.names if name in known]
            batches = file.iter_batches(BATCH_ROWS, columns=names)
            while True:
                with arrow.table_errors(path):
                    batch = next(batches, None)
                    if batch is None:
                        return
                    pictures = (
                        [foreign_picture(row) for row in batch.to_pylist()]
                        if self._is_foreign
                        else arrow.from_columns(batch)
                    )
                yield pictures


def _numbered(folder: Path) -> dict[int, Path]:
    """Return the parts in a folder by their numbers."""
    matches = ((_NUMBER.search(path.name), path) for path in folder.glob("*_*"))
    return {int(match[1]): path for match, path in matches if match}


def open_reader(folder: Path, manifest: Manifest | None) -> ClipRetrievalReader:
    """Open an export; see `ExportFormat`."""
    return ClipRetrievalReader(folder, manifest)
