"""Exports as NumPy arrays and JSON Lines.

Other programs' exports have one .npy file of vectors, and a text file of the same number of lines:
.txt with a path in each, or .jsonl with ``image_path`` or ``path`` and, if known, ``caption``.
"""

from __future__ import annotations

import base64
import json
import tokenize
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.display import display_path
from mmsearch.core.errors import SourceError
from mmsearch.exports.foreign import foreign_picture, to_foreign_batch
from mmsearch.exports.manifest import Manifest, synced_file
from mmsearch.exports.pictures import (
    BATCH_ROWS,
    ExportBatch,
    ExportedPicture,
    HalfVectors,
    ItemPart,
    from_row,
    item_part,
    to_row,
)

IMAGES, TEXTS, PICTURES = "image_vectors.npy", "text_vectors.npy", "pictures.jsonl"
_COPY_HINT = "Copy the folder of the export again, or export the index again."
_BYTES_FIELDS = ("root", "key")
_HEX_FIELDS = ("sha256", "texts_digest")


class RowWriter:
    """Writer of a .npy file of float16 whose number of rows is known only at its end.

    Args:
        file: A file that can be read at any place, empty.
        dim: Number of columns.
    """

    def __init__(self, file: BinaryIO, dim: int) -> None:
        self._file = file
        self._dim = dim
        self._rows = 0
        self._header_bytes = self._write_header()

    def append(self, rows: HalfVectors) -> None:
        """Append float16 (n, dim)."""
        self._file.write(np.ascontiguousarray(rows, dtype="<f2").data)
        self._rows += len(rows)

    def finish(self) -> None:
        """Write the number of rows into the header."""
        self._file.seek(0)
        if self._write_header() != self._header_bytes:
            raise ValueError("the header of a .npy file has grown")

    def _write_header(self) -> int:
        # NumPy leaves room in the header for a larger number of rows.
        header = {"descr": "<f2", "fortran_order": False, "shape": (self._rows, self._dim)}
        np.lib.format.write_array_header_1_0(self._file, header)
        return self._file.tell()


@contextmanager
def row_writer(path: Path, dim: int) -> Iterator[Callable[[HalfVectors], None]]:
    """Create a .npy file; yield the function that appends float16 (n, dim)."""
    with synced_file(path) as file:
        writer = RowWriter(file, dim)
        yield writer.append
        writer.finish()


@contextmanager
def open_writer(folder: Path, manifest: Manifest) -> Iterator[Callable[[ExportBatch], None]]:
    """Open the writer; see `ExportFormat`."""
    dim = manifest.encoder.dim
    with ExitStack() as stack:
        append_images = stack.enter_context(row_writer(folder / IMAGES, dim))
        append_texts = stack.enter_context(row_writer(folder / TEXTS, dim))
        pictures = stack.enter_context(synced_file(folder / PICTURES))

        def write(batch: ExportBatch) -> None:
            append_images(batch.images)
            append_texts(batch.texts)
            for item in batch.pictures:
                pictures.write(json.dumps(_to_json(to_row(item))).encode("ascii") + b"\n")

        yield write


def _to_json(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with text in place of bytes."""
    digests = {name: row[name] and row[name].hex() for name in _HEX_FIELDS}
    copies = [_encode_place(place) for place in row["copies"]]
    return {
        **row,
        **digests,
        **_encode_place(row),
        "copies": copies,
        "texts_digest": digests["texts_digest"] or "",
    }


def _encode_place(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _encode_bytes(row[name]) for name in _BYTES_FIELDS}


def _encode_bytes(value: bytes) -> str | dict[str, str]:
    """Return bytes as text, or in base64 if they are not UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _decode_bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else base64.b64decode(value["base64"])


def _from_json(line: bytes) -> ExportedPicture:
    row = dict(json.loads(line.decode()))
    row |= {name: _decode_bytes(row[name]) for name in _BYTES_FIELDS}
    row["copies"] = [
        {name: _decode_bytes(at[name]) for name in _BYTES_FIELDS} for at in row["copies"]
    ]
    row["sha256"] = row["sha256"] and bytes.fromhex(row["sha256"])
    row["texts_digest"] = bytes.fromhex(row["texts_digest"])
    return from_row(row)


def map_vectors(path: Path) -> NDArray[np.floating]:
    """Map the vectors of a .npy file into memory: (n, dim), any float type.

    Raises:
        SourceError: It is not an array of vectors, or is damaged.
    """
    try:
        vectors: NDArray[np.floating] = np.load(path, mmap_mode="r", allow_pickle=False)
    # NumPy tokenizes a header that is not valid, and Python 3.12 and later refuse more of them.
    except (ValueError, OSError, EOFError, OverflowError, tokenize.TokenError) as error:
        raise SourceError(
            f"{display_path(path)} is not an array of NumPy, or is damaged.", _COPY_HINT
        ) from error
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or not vectors.shape[1]:
        raise SourceError(
            f"{display_path(path)} has {vectors.dtype} of shape {vectors.shape}, not vectors.",
            "Save a float array of shape (pictures, dim).",
        )
    return vectors


class NpyReader:
    """Implementation of `ExportReader` for arrays and JSON Lines that mmsearch wrote."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder = folder
        self._images, self._texts = (map_vectors(folder / name) for name in (IMAGES, TEXTS))
        self.dim, self.pictures = manifest.encoder.dim, manifest.pictures
        for name, vectors, rows in (
            (IMAGES, self._images, manifest.pictures),
            (TEXTS, self._texts, manifest.text_vectors),
        ):
            if vectors.shape != (rows, self.dim) or vectors.dtype != np.float16:
                raise SourceError(
                    f"{display_path(folder / name)} has {vectors.dtype} of shape {vectors.shape},"
                    f" not float16 of shape {(rows, self.dim)}.",
                    _COPY_HINT,
                )

    def iter_batches(self) -> Iterator[ExportBatch]:
        """Yield all pictures with their vectors."""
        path = self._folder / PICTURES
        first = first_text = 0
        for pictures in self._iter_pictures():
            end = first + len(pictures)
            end_text = first_text + sum(len(item.text_kinds) for item in pictures)
            texts = self._texts[first_text:end_text]
            if end > self.pictures or len(texts) != end_text - first_text:
                raise SourceError(f"{display_path(path)} does not fit its vectors.", _COPY_HINT)
            yield ExportBatch(pictures, np.array(self._images[first:end]), np.array(texts))
            first, first_text = end, end_text
        if first != self.pictures:
            raise SourceError(
                f"{display_path(path)} has {first:,} lines for {self.pictures:,} pictures.",
                _COPY_HINT,
            )

    def _iter_pictures(self) -> Iterator[list[ExportedPicture]]:
        path = self._folder / PICTURES
        first = 0
        with path.open("rb") as file:
            while lines := list(islice(file, BATCH_ROWS)):
                try:
                    pictures = [_from_json(line) for line in lines]
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                    raise SourceError(
                        f"{display_path(path)} is damaged near line {first + 1:,}"
                        f" ({display_path(str(error)[:200])}).",
                        _COPY_HINT,
                    ) from error
                yield pictures
                first += len(pictures)

    def iter_paths(self) -> Iterator[bytes]:
        """Yield nothing: the folders of the pictures are in the manifest."""
        return iter(())

    def iter_parts(self) -> Iterator[ItemPart]:
        """Yield where each item is in its content."""
        return (item_part(item) for pictures in self._iter_pictures() for item in pictures)


class ForeignNpyReader:
    """Implementation of `ExportReader` for a .npy file and a file of names."""

    def __init__(self, vectors: Path, names: Path) -> None:
        self._images = map_vectors(vectors)
        self._names = names
        self.pictures, self.dim = self._images.shape

    def iter_batches(self) -> Iterator[ExportBatch]:
        """Yield all pictures with their vectors."""
        pictures = self._iter_pictures()
        for first in range(0, self.pictures, BATCH_ROWS):
            images = self._images[first : first + BATCH_ROWS]
            batch = list(islice(pictures, len(images)))
            if len(batch) != len(images):
                raise self._count_error(first + len(batch))
            yield to_foreign_batch(batch, images)
        if rest := sum(1 for _ in pictures):
            raise self._count_error(self.pictures + rest)

    def iter_paths(self) -> Iterator[bytes]:
        """Yield the path of each picture."""
        return (item.places[0].key for item in self._iter_pictures())

    def _iter_pictures(self) -> Iterator[ExportedPicture]:
        is_json = self._names.suffix == ".jsonl"
        with self._names.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    row = (
                        dict(json.loads(line)) if is_json else {"image_path": line.rstrip(b"\r\n")}
                    )
                    yield foreign_picture(row)
                except (ValueError, TypeError, RecursionError) as error:
                    raise SourceError(
                        f"Line {number:,} of {display_path(self._names)} names no picture"
                        f" ({display_path(str(error)[:200])}).",
                        "Write one path per line, or JSON with image_path.",
                    ) from error

    def _count_error(self, lines: int) -> SourceError:
        return SourceError(
            f"{display_path(self._names)} has {lines:,} lines for {self.pictures:,} vectors.",
            "Write one line for each vector.",
        )


def open_reader(folder: Path, manifest: Manifest | None) -> NpyReader | ForeignNpyReader:
    """Open an export; see `ExportFormat`."""
    if manifest is not None:
        return NpyReader(folder, manifest)
    vectors = sorted(folder.glob("*.npy"))
    names = sorted((*folder.glob("*.txt"), *folder.glob("*.jsonl")))
    if len(vectors) != 1 or len(names) != 1:
        raise SourceError(
            f"{display_path(folder)} has {len(vectors)} .npy files and {len(names)} .txt or .jsonl"
            " files.",
            "Put one .npy file with the vectors and one file with their paths into the folder.",
        )
    return ForeignNpyReader(vectors[0], names[0])
