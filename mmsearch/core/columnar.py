"""Read Parquet and Arrow files as JSON Lines from a subprocess with a memory limit.

A few bytes of Parquet can expand to gigabytes: pages are compressed, and one run repeats a value
or a length millions of times. The C++ decoder offers no limit, so the process that runs it is
limited instead.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from mmsearch.core.errors import MissingExtraError, SourceError
from mmsearch.core.text_tables import MAX_ROW_CHARS, normalize_name
from mmsearch.core.threads import limit_memory

MAX_MEMORY_BYTES: Final = 1 << 30
"""Memory limit for decoding, in bytes, in addition to the subprocess's size at its start."""

MAX_GROWTH_RATIO: Final = 1000
BASE_MAX_CHARS: Final = 10_000_000
"""Text that a table of any size may contain, in characters.

Larger tables may contain up to `MAX_GROWTH_RATIO` times the size of their file.
"""

_ROW_OVERHEAD_CHARS: Final = 64
_BATCH_ROWS: Final = 256
_MAX_LISTED_COLUMNS: Final = 20
_DAMAGED_REASON: Final = "is not {} file, or is damaged"
_MEMORY_REASON: Final = f"needs more than {MAX_MEMORY_BYTES >> 30} GiB of memory to be decoded"

Row = dict[str, Any]


@dataclass(frozen=True)
class ColumnarLayout:
    """Columns and parts of a file.

    Attributes:
        columns: Names of the columns.
        bytes_columns: Names of the columns with contents of files: binary values, or structures of
            ``bytes`` and ``path``.
        rows: Number of rows of each part: the row groups of a Parquet file, or an Arrow file.
        features: Description of the columns that the library datasets wrote, as JSON; "" if none.
    """

    columns: tuple[str, ...]
    bytes_columns: tuple[str, ...]
    rows: tuple[int, ...]
    features: str = ""


@dataclass(frozen=True)
class RowSelection:
    """Rows and columns to read from a file.

    Attributes:
        part: Number of the row group; None for all of the file.
        to_end: Read the row groups after the part, too.
        first_row: Number of the first row of the part.
        max_rows: Maximum number of rows; None for all.
        columns: Names of the columns; empty for all.
        bytes_column: Column with contents, which become ``{"bytes": bytes, "path": str}``.
        where: Name of a column and the text of its value in the wanted rows; empty for all rows.
        max_row_bytes: Maximum size of a row, in bytes of JSON.
    """

    part: int | None = None
    to_end: bool = False
    first_row: int = 0
    max_rows: int | None = None
    columns: tuple[str, ...] = ()
    bytes_column: str | None = None
    where: tuple[str, ...] = ()
    max_row_bytes: int = 12 * MAX_ROW_CHARS


def check_readable(path: Path) -> None:
    """Check that a table can be opened, and that its reader is installed.

    Raises:
        MissingExtraError: pyarrow is not installed.
        OSError: The file cannot be opened.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingExtraError.for_extra("Reading Parquet", "pyarrow", "parquet")
    path.open("rb").close()


def read_rows(path: Path, columns: Sequence[Sequence[str]]) -> Iterator[Row]:
    """Yield the rows of a table.

    Args:
        path: A Parquet file.
        columns: Groups of column names as `normalize_name` returns them; only these columns are
            decoded. If the table lacks all columns of the first or of the second group, a single
            row with the names of its first columns and no values is yielded.

    Raises:
        SourceError: The table is damaged, or exceeds a limit.
        MissingExtraError: pyarrow is not installed.
        OSError: The file cannot be opened.
    """
    yield from _read(path, {"groups": columns}, 12 * MAX_ROW_CHARS)


def read_layout(path: Path) -> ColumnarLayout:
    """Return the columns and parts of a Parquet or Arrow file.

    Raises:
        SourceError: The file is damaged, or exceeds a limit.
        MissingExtraError: pyarrow is not installed.
        OSError: The file cannot be opened.
    """
    for row in _read(path, {"layout": True}, 12 * MAX_ROW_CHARS):
        features = row.pop("features")
        return ColumnarLayout(**{name: tuple(row[name]) for name in row}, features=features)
    raise SourceError(f"{path} {_damaged_reason(path)}.")


def select_rows(path: Path, selection: RowSelection) -> Iterator[tuple[int, Row]]:
    """Yield rows of a Parquet or Arrow file with their numbers in the part.

    Raises:
        SourceError: The file is damaged, or exceeds a limit.
        MissingExtraError: pyarrow is not installed.
        OSError: The file cannot be opened.
    """
    for line in _read(path, {"selection": asdict(selection)}, selection.max_row_bytes):
        number, row = line["number"], line["row"]
        if "bytes" in line:
            content = line["bytes"]
            row[selection.bytes_column] = {
                "bytes": None if content is None else base64.b64decode(content),
                "path": line["path"],
            }
        yield number, row


def _read(path: Path, request: dict[str, Any], max_row_bytes: int) -> Iterator[Row]:
    check_readable(path)
    # -P: never import modules from the current folder.
    command = [sys.executable, "-P", "-m", __name__, str(path.absolute()), json.dumps(request)]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield from _iter_rows(path, process, max_row_bytes)
        finally:
            process.kill()


def _iter_rows(path: Path, process: subprocess.Popen[bytes], max_row_bytes: int) -> Iterator[Row]:
    """Yield the rows that the subprocess prints.

    Its last line is null, or a string with the reason why it stopped early.
    """
    if process.stdout is None:
        return
    # JSON escapes take up to 12 bytes per character.
    while (line := process.stdout.readline(max_row_bytes + 1)).endswith(b"\n"):
        row = json.loads(line)
        if isinstance(row, dict):
            yield row
        elif row is None:
            return
        else:
            raise SourceError(f"{path} {row}.", "Convert it to .csv or .jsonl.")
    # The decoder crashed or was killed.
    raise SourceError(f"{path} {_damaged_reason(path)}.")


def _is_arrow(path: Path) -> bool:
    return path.suffix.lower() in (".arrow", ".feather", ".ipc")


def _damaged_reason(path: Path) -> str:
    return _DAMAGED_REASON.format("an Arrow" if _is_arrow(path) else "a Parquet")


# --- in the subprocess ---


def convert(path: Path, request: dict[str, Any]) -> None:
    """Print a file as JSON Lines, ending with null or the reason for stopping early."""
    import pyarrow as pa  # noqa: PLC0415 - large and rarely needed

    # Other memory pools reserve more than they use, which would count towards the limit.
    pa.set_memory_pool(pa.system_memory_pool())
    pa.set_cpu_count(1)
    reason: str | None = None
    try:
        # Arrow files are mapped, so that their size counts as well.
        limit_memory(MAX_MEMORY_BYTES + (path.stat().st_size if _is_arrow(path) else 0))
        if "groups" in request:
            _print_columns(path, request["groups"])
        elif "layout" in request:
            _print_layout(path)
        else:
            _print_selection(path, RowSelection(**request["selection"]))
    except MemoryError:
        reason = _MEMORY_REASON
    except UnicodeDecodeError:
        reason = "is not UTF-8 text"
    except _LimitError as error:
        reason = str(error)
    except (pa.ArrowException, OSError, ValueError, TypeError, LookupError, RecursionError):
        reason = _damaged_reason(path)
    print(json.dumps(reason), flush=True)  # noqa: T201 - read by the parent process


class _LimitError(Exception):
    """A table exceeds a limit; the message is a clause."""


class _Printer:
    """Prints rows as lines of JSON within the limits.

    Args:
        path: The file.
        max_row_bytes: Maximum length of a line.
    """

    def __init__(self, path: Path, max_row_bytes: int) -> None:
        self._remaining = max(BASE_MAX_CHARS, MAX_GROWTH_RATIO * path.stat().st_size)
        self._max_row_bytes = max_row_bytes

    def __call__(self, row: Row) -> None:
        line = json.dumps(row, default=_to_text)
        self._remaining -= len(line) + _ROW_OVERHEAD_CHARS
        if len(line) > self._max_row_bytes:
            raise _LimitError(f"has a row of more than {self._max_row_bytes // 12:,} characters")
        if self._remaining < 0:
            raise _LimitError(f"grows to more than {MAX_GROWTH_RATIO:,} times its size")
        print(line)  # noqa: T201


def _print_columns(path: Path, columns: Sequence[Sequence[str]]) -> None:
    from pyarrow import parquet  # noqa: PLC0415

    write = _Printer(path, 12 * MAX_ROW_CHARS)
    with parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        matching_columns = [
            {name for name in names if normalize_name(name) in group} for group in columns
        ]
        if not matching_columns[0] or not matching_columns[1]:
            write(dict.fromkeys(name[:60] for name in names[:_MAX_LISTED_COLUMNS]))
            return
        selected_columns = [
            name for name in names if any(name in group for group in matching_columns)
        ]
        for batch in file.iter_batches(_BATCH_ROWS, columns=selected_columns, use_threads=False):
            for row in batch.to_pylist():
                write(row)


def _print_layout(path: Path) -> None:
    from pyarrow import parquet  # noqa: PLC0415

    if _is_arrow(path):
        schema, batches = _open_arrow(path)
        rows = [sum(batch.num_rows for batch in batches)]
    else:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            metadata = file.metadata
            rows = [metadata.row_group(part).num_rows for part in range(metadata.num_row_groups)]
    layout = ColumnarLayout(
        tuple(schema.names),
        tuple(field.name for field in schema if _has_contents(field.type)),
        tuple(rows),
        (schema.metadata or {}).get(b"huggingface", b"").decode("utf-8", "replace"),
    )
    _Printer(path, 12 * MAX_ROW_CHARS)(asdict(layout))


def _has_contents(value_type: Any) -> bool:
    from pyarrow import types  # noqa: PLC0415

    if types.is_struct(value_type):
        names = {value_type.field(index).name for index in range(value_type.num_fields)}
        return names == {"bytes", "path"} and _has_contents(value_type.field("bytes").type)
    return bool(types.is_binary(value_type) or types.is_large_binary(value_type))


def _open_arrow(path: Path) -> tuple[Any, Iterator[Any]]:
    """Return the schema and the batches of a file in the stream or file format of Arrow."""
    import pyarrow as pa  # noqa: PLC0415

    mapped = pa.memory_map(str(path))
    if mapped.read(6) == b"ARROW1":
        reader = pa.ipc.open_file(mapped)
        return reader.schema, (reader.get_batch(n) for n in range(reader.num_record_batches))
    mapped.seek(0)
    stream = pa.ipc.open_stream(mapped)
    return stream.schema, iter(stream)


def _iter_batches(path: Path, selection: RowSelection) -> Iterator[tuple[int, Any]]:
    """Yield batches of the selected columns with the number of their first row."""
    from pyarrow import parquet  # noqa: PLC0415

    first_row = 0
    if _is_arrow(path):
        for batch in _open_arrow(path)[1]:
            # Offsets that point out of a buffer would crash the process.
            batch.validate(full=True)
            for start in range(0, batch.num_rows, _BATCH_ROWS):
                part = batch.slice(start, _BATCH_ROWS)
                yield (
                    first_row + start,
                    part.select(selection.columns) if selection.columns else part,
                )
            first_row += batch.num_rows
        return
    # Contents of files are large, so that few of them are decoded at a time.
    rows = 8 if selection.bytes_column else _BATCH_ROWS
    with parquet.ParquetFile(path) as file:
        first_group = selection.part or 0
        stop = (
            file.num_row_groups if selection.part is None or selection.to_end else first_group + 1
        )
        # A batch of several row groups would be lost with the damage of one of them.
        for group in range(first_group, stop):
            for batch in file.iter_batches(
                rows, row_groups=[group], columns=list(selection.columns) or None, use_threads=False
            ):
                yield first_row, batch
                first_row += batch.num_rows


def _print_selection(path: Path, selection: RowSelection) -> None:
    write = _Printer(path, selection.max_row_bytes)
    stop = float("inf") if selection.max_rows is None else selection.first_row + selection.max_rows
    for first_row, batch in _iter_batches(path, selection):
        if first_row >= stop:
            return
        if first_row + batch.num_rows <= selection.first_row:
            continue
        wanted = None
        if selection.where:
            column, value = selection.where
            wanted = [str(cell).strip() == value for cell in batch.column(column).to_pylist()]
        for index in range(batch.num_rows):
            number = first_row + index
            if selection.first_row <= number < stop and (wanted is None or wanted[index]):
                (row,) = batch.slice(index, 1).to_pylist()
                write(_split_contents(number, row, selection.bytes_column))


def _split_contents(number: int, row: Row, bytes_column: str | None) -> Row:
    line: Row = {"number": number, "row": row}
    if bytes_column is not None:
        value = row.pop(bytes_column)
        content, path = (
            (value["bytes"], value["path"]) if isinstance(value, dict) else (value, None)
        )
        line["bytes"] = None if content is None else base64.b64encode(content).decode("ascii")
        line["path"] = path
    return line


def _to_text(value: object) -> str:
    """Convert a value that JSON cannot represent to text."""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), json.loads(sys.argv[2]))
