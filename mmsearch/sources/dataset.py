"""Source ``dataset``: a Hugging Face data set on disk, in files of Arrow or Parquet."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from xxhash import xxh3_64_digest

from mmsearch.core.columnar import RowSelection, read_layout, select_rows
from mmsearch.core.display import display_path
from mmsearch.core.errors import DecodeError, SourceError
from mmsearch.core.files import decode_error_from_os, os_error_reason
from mmsearch.core.sources import SourceFailure, SourceItem, SourcePart
from mmsearch.core.text_tables import normalize_name
from mmsearch.core.texts import LANGUAGE_COLUMNS, column_kind, make_cell_texts
from mmsearch.core.types import Text
from mmsearch.sources._keys import FirstRows, PrecedingKeys, chain_stamps
from mmsearch.sources._local import absolute_path, file_stamp, to_path
from mmsearch.sources._rows import to_metadata

MAX_ROW_BYTES: Final = 1 << 29
"""Maximum size of a row with its picture, in bytes of JSON."""

MAX_INFO_BYTES: Final = 1 << 26
"""Maximum size of a description of a data set, in bytes."""

_DATA_SUFFIXES: Final = (".arrow", ".parquet")
_MISSING: Final = "the data set has no such row"


def build(
    uri: bytes,
    *,
    is_picture: Callable[[bytes, bytes], bool],
    image_column: str | None = None,
    id_column: str | None = None,
    text_columns: tuple[str, ...] = (),
    split: str | None = None,
) -> DatasetSource:
    """Build a source of a folder that ``datasets.save_to_disk`` wrote.

    Args:
        uri: Path of the folder.
        is_picture: Not used: every row has a picture.
        image_column: Column with the pictures; by default the first with contents of files.
        id_column: Column with the keys of the items; by default the file and number of the row.
        text_columns: Columns with texts; by default those with names such as caption or text.
        split: Name of the split; None for all.

    Raises:
        SourceError: It is not a data set, or it lacks a column or split.
        MissingExtraError: pyarrow is not installed.
    """
    uri = absolute_path(uri)
    folder = to_path(uri)
    files = _find_files(folder, split)
    first = next(iter(files.values()))
    file_stamp(os.fsencode(first))
    layout = read_layout(first)
    image = _find_column(first, image_column, layout.bytes_columns, "image_column")
    others = [name for name in layout.columns if name not in layout.bytes_columns]
    key = _find_column(first, id_column, others, "id_column") if id_column else None
    chosen = [_find_column(first, name, others, "text_columns") for name in text_columns]
    kinds = {name: column_kind(normalize_name(name)) for name in chosen or others}
    texts = {
        name: kind or "caption"
        for name, kind in kinds.items()
        if name != key and (kind or text_columns)
    }
    columns = _Columns(image, tuple(others), key, texts, _read_labels(layout.features))
    return DatasetSource(uri, files, columns)


@dataclass(frozen=True)
class _Columns:
    """Columns of a data set by their use.

    Attributes:
        image: Column with pictures.
        others: All columns without contents of files.
        key: Column with keys; None if the row is the key.
        texts: Kinds of texts by columns.
        labels: Names of the labels by columns.
    """

    image: str
    others: tuple[str, ...]
    key: str | None
    texts: Mapping[str, str]
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)


def _find_column(path: Path, name: str | None, names: Sequence[str], choice: str) -> str:
    if name is None and names:
        return names[0]
    if name in names:
        return str(name)
    missing = "no column with pictures" if name is None else f"no such column as {name!r}"
    listed = f"those that fit are {', '.join(names)}" if names else "no column fits"
    raise SourceError(f"{path} has {missing}; {listed}.", f"Choose another {choice}.")


def _find_files(folder: Path, split: str | None) -> dict[bytes, Path]:
    """Return the files of a data set by their paths relative to the folder."""
    names = _read_json(folder / "dataset_dict.json").get("splits")
    if isinstance(names, list):
        splits = [name for name in names if isinstance(name, str) and _is_plain(name)]
        if split is not None and split not in splits:
            raise SourceError(
                f"{folder} has no split {split!r}; it has {', '.join(splits)}.",
                "Choose one of them.",
            )
        folders = [folder / name for name in splits if split in (None, name)]
    elif split is not None:
        raise SourceError(f"{folder} is a data set without splits.", "Leave out the split.")
    else:
        folders = [folder]
    files = {
        os.fsencode(path.relative_to(folder)): path
        for item in folders
        for path in _list_files(item)
    }
    if not files:
        raise SourceError(
            f"{display_path(folder)} is not a data set.",
            "Give a folder that save_to_disk of the library datasets wrote.",
        )
    return files


def _list_files(folder: Path) -> list[Path]:
    listed = _read_json(folder / "state.json").get("_data_files")
    if isinstance(listed, list):
        names = [item.get("filename") for item in listed if isinstance(item, dict)]
        return [folder / name for name in names if isinstance(name, str) and _is_plain(name)]
    found: list[Path] = []
    for place in (folder, folder / "data"):
        try:
            found += [path for path in place.iterdir() if path.suffix in _DATA_SUFFIXES]
        except OSError:
            continue
    return sorted(found)


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..") and not set(name) & set("/\\\0")


def _read_json(path: Path) -> dict[str, Any]:
    """Return a description of the data set; empty without one."""
    try:
        with path.open("rb") as file:
            content = file.read(min(os.fstat(file.fileno()).st_size, MAX_INFO_BYTES))
        value = json.loads(content)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SourceError(
            f"{display_path(path)} cannot be read: {os_error_reason(error)}.",
            "Check the path and its permissions.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise SourceError(
            f"{display_path(path)} is not JSON.", "Save the data set again."
        ) from error
    return value if isinstance(value, dict) else {}


def _read_labels(features: str) -> dict[str, list[str]]:
    """Return the names of the labels of a data set by columns.

    Args:
        features: Description of the columns in a file of the data set.
    """
    try:
        described = json.loads(features)["info"]["features"].items()
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}
    return {
        name: [str(label) for label in feature["names"]]
        for name, feature in described
        if isinstance(feature, dict)
        and feature.get("_type") == "ClassLabel"
        and isinstance(feature.get("names"), list)
    }


class DatasetSource:
    """A source whose items are the rows of a data set; see `mmsearch.core.sources.Source`.

    A part is a file. The key of an item is its id, or else the file and the number of the row in
    it, from 0: ``train/data-00000-of-00002.arrow/17``. Later rows with the id of an earlier one, in
    any of the files, are failures.

    Args:
        uri: Absolute path of the source.
        files: Files by their paths relative to the folder.
        columns: Use of the columns.
    """

    kind = "dataset"
    parallel_loads = 1

    def __init__(self, uri: bytes, files: dict[bytes, Path], columns: _Columns) -> None:
        self.uri = uri
        self._files = files
        self._columns = columns
        self._names = list(files)
        self._first_rows = FirstRows(self._list_keys)

    def parts(self) -> Iterator[SourcePart]:
        """Yield each file."""
        self._first_rows = FirstRows(self._list_keys)
        chained = b""
        for name, path in self._files.items():
            stamp = file_stamp(os.fsencode(path))
            # Whether a row is the first with its id depends on the files before, too.
            chained = chain_stamps(chained, stamp)
            yield SourcePart(name, stamp if self._columns.key is None else chained)

    def items(self, part: SourcePart) -> Iterator[SourceItem | SourceFailure]:
        """Yield the pictures of a file with the texts of their rows."""
        if self._columns.key is None:
            yield from self._iter_items(part, PrecedingKeys())
            return
        number = self._names.index(part.key)
        preceding = self._first_rows.begin(number)
        yield from self._iter_items(part, preceding)
        self._first_rows.end(number, preceding)

    def _iter_items(
        self, part: SourcePart, preceding: PrecedingKeys
    ) -> Iterator[SourceItem | SourceFailure]:
        key_column = self._columns.key
        try:
            for number, row in select_rows(self._files[part.key], self._selection()):
                where = b"%b/%d" % (part.key, number)
                if key_column is not None and not preceding.add(_row_key(row, key_column)):
                    yield SourceFailure(where, f"an earlier row has the same {key_column}")
                else:
                    yield self._make_item(where, row)
        except SourceError as error:
            yield SourceFailure(part.key, error.message.rstrip("."), ends_part=True)
        except OSError as error:
            reason = os_error_reason(error)
            yield SourceFailure(part.key, reason, transient=True, ends_part=True)

    def _list_keys(self, number: int) -> Iterator[bytes]:
        """Yield the keys of the rows of a file by its number."""
        column = self._columns.key
        if column is None:
            return
        # Rows behind a damage do not count in their file, either.
        with suppress(SourceError, OSError):
            path = self._files[self._names[number]]
            for _, row in select_rows(path, RowSelection(columns=(column,))):
                yield _row_key(row, column)

    def read(self, key: bytes) -> bytes:
        """Return the picture of a row; DecodeError if it cannot be read."""
        content = self._find(key, with_content=True)[self._columns.image]["bytes"]
        if content is None:
            raise DecodeError("its picture is not in the data set")
        return bytes(content)

    def exists(self, key: bytes) -> bool | None:
        """Return True if the data set has the row; None if it cannot be read."""
        try:
            self._find(key, with_content=False)
        except DecodeError as error:
            return False if error.message == _MISSING else None
        return True

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _selection(self, *, with_content: bool = True) -> RowSelection:
        columns = self._columns
        images = (columns.image,) if with_content else ()
        return RowSelection(
            columns=(*columns.others, *images),
            bytes_column=columns.image if with_content else None,
            max_row_bytes=MAX_ROW_BYTES,
        )

    def _find(self, key: bytes, *, with_content: bool) -> dict[str, Any]:
        """Return the row with a key."""
        selection = self._selection(with_content=with_content)
        name, _, number = key.rpartition(b"/")
        if self._columns.key is not None:
            text = key.decode("utf-8", "surrogateescape")
            selection = replace(selection, where=(self._columns.key, text))
            paths = list(self._files.values())
        elif name in self._files and number.isdigit() and len(number) < 16:
            selection = replace(selection, first_row=int(number), max_rows=1)
            paths = [self._files[name]]
        else:
            raise DecodeError(_MISSING)
        for path in paths:
            try:
                for _, row in select_rows(path, selection):
                    return row
            except SourceError as error:
                raise DecodeError(error.message.rstrip(".")) from error
            except OSError as error:
                raise decode_error_from_os(error) from error
        raise DecodeError(_MISSING)

    def _make_item(self, where: bytes, row: dict[str, Any]) -> SourceItem | SourceFailure:
        columns = self._columns
        key = where
        if columns.key is not None:
            key = _row_key(row, columns.key)
            if not key:
                return SourceFailure(where, f"the row has no {columns.key}")
        content = row.pop(columns.image)["bytes"]
        if content is None:
            return SourceFailure(key, "its picture is not in the data set")
        texts: dict[Text, None] = {}
        language = next(
            (str(row[name]) for name in row if normalize_name(name) in LANGUAGE_COLUMNS), None
        )
        for name, kind in columns.texts.items():
            if row.get(name) is not None:
                texts.update(dict.fromkeys(make_cell_texts(kind, row[name], language)))
        metadata = {
            name: self._to_metadata(name, value)
            for name, value in row.items()
            if name not in columns.texts and name != columns.key and value is not None
        }
        load = partial(bytes, content)
        return SourceItem(key, xxh3_64_digest(content), load, len(content), tuple(texts), metadata)

    def _to_metadata(self, name: str, value: Any) -> Any:
        labels = self._columns.labels.get(name)
        if labels is not None and isinstance(value, int) and 0 <= value < len(labels):
            return labels[value]
        return value if isinstance(value, str) else to_metadata(value)


def _row_key(row: Mapping[str, Any], column: str) -> bytes:
    """Return the key of a row; b"" without one."""
    value = row.get(column)
    return b"" if value is None else str(value).strip().encode("utf-8", "surrogateescape")
