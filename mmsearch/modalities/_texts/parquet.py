"""Read Parquet as JSON Lines from a subprocess with a memory limit.

A few bytes of Parquet can expand to gigabytes: pages are compressed, and one run repeats a value
or a length millions of times. The C++ decoder offers no limit, so the process that runs it is
limited instead.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
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
_DAMAGED_REASON: Final = "is not a Parquet file, or is damaged"
_MEMORY_REASON: Final = f"needs more than {MAX_MEMORY_BYTES >> 30} GiB of memory to be decoded"

Row = dict[str, Any]


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
    check_readable(path)
    # -P: never import modules from the current folder.
    command = [sys.executable, "-P", "-m", __name__, str(path.absolute()), json.dumps(columns)]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield from _iter_rows(path, process)
        finally:
            process.kill()


def _iter_rows(path: Path, process: subprocess.Popen[bytes]) -> Iterator[Row]:
    """Yield the rows that the subprocess prints.

    Its last line is null, or a string with the reason why it stopped early.
    """
    if process.stdout is None:
        return
    # JSON escapes take up to 12 bytes per character.
    limit = 12 * MAX_ROW_CHARS + 1
    while (line := process.stdout.readline(limit)).endswith(b"\n"):
        row = json.loads(line)
        if isinstance(row, dict):
            yield row
        elif row is None:
            return
        else:
            raise SourceError(f"{path} {row}.", "Convert it to .csv or .jsonl.")
    # The decoder crashed or was killed.
    raise SourceError(f"{path} {_DAMAGED_REASON}.")


# --- in the subprocess ---


def convert(path: str, columns: Sequence[Sequence[str]]) -> None:
    """Print a Parquet file as JSON Lines, ending with null or the reason for stopping early."""
    from pyarrow import ArrowException  # noqa: PLC0415 - large and rarely needed

    reason: str | None = None
    try:
        limit_memory(MAX_MEMORY_BYTES)
        _print_rows(path, columns)
    except MemoryError:
        reason = _MEMORY_REASON
    except UnicodeDecodeError:
        reason = "is not UTF-8 text"
    except _LimitError as error:
        reason = str(error)
    except (ArrowException, OSError, ValueError, TypeError, RecursionError):
        reason = _DAMAGED_REASON
    print(json.dumps(reason), flush=True)  # noqa: T201 - read by the parent process


class _LimitError(Exception):
    """A table exceeds a limit; the message is a clause."""


def _print_rows(path: str, columns: Sequence[Sequence[str]]) -> None:
    from pyarrow import parquet, set_cpu_count, set_memory_pool, system_memory_pool  # noqa: PLC0415

    # Other memory pools reserve more than they use, which would count towards the limit.
    set_memory_pool(system_memory_pool())
    set_cpu_count(1)
    remaining_chars = max(BASE_MAX_CHARS, MAX_GROWTH_RATIO * Path(path).stat().st_size)
    with parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        matching_columns = [
            {name for name in names if normalize_name(name) in group} for group in columns
        ]
        if not matching_columns[0] or not matching_columns[1]:
            listed_columns = [name[:60] for name in names[:_MAX_LISTED_COLUMNS]]
            print(json.dumps(dict.fromkeys(listed_columns)))  # noqa: T201
            return
        selected_columns = [
            name for name in names if any(name in group for group in matching_columns)
        ]
        for batch in file.iter_batches(_BATCH_ROWS, columns=selected_columns, use_threads=False):
            for row in batch.to_pylist():
                line = json.dumps(row, default=_to_text)
                remaining_chars -= len(line) + _ROW_OVERHEAD_CHARS
                if len(line) > 12 * MAX_ROW_CHARS:
                    raise _LimitError(f"has a row of more than {MAX_ROW_CHARS:,} characters")
                if remaining_chars < 0:
                    raise _LimitError(f"grows to more than {MAX_GROWTH_RATIO:,} times its size")
                print(line)  # noqa: T201


def _to_text(value: object) -> str:
    """Convert a value that JSON cannot represent to text."""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


if __name__ == "__main__":
    convert(sys.argv[1], json.loads(sys.argv[2]))
