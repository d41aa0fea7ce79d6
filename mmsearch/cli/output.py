"""How answers look: a table on a terminal, tab-separated lines in a pipe, JSON when asked."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsearch.core.display import display_path, replace_unprintable
from mmsearch.core.errors import UsageError

if TYPE_CHECKING:
    from rich.text import Text as RichText

    from mmsearch.core.requests import Hit, IndexReport, SearchResult
    from mmsearch.core.text_matches import MatchedText

MAX_LISTED_LINES = 20
"""Lines of a list that are shown unasked."""

MIN_TABLE_COLUMNS = 40
"""Width of a table at a narrower terminal: in fewer columns a table loses what it holds."""


def warn(line: str) -> None:
    """One line for the person, on stderr; what does not print is escaped."""
    sys.stderr.write(f"{display_path(line)}\n")
    sys.stderr.flush()


def warn_list(heading: str, lines: Sequence[str], hint: str) -> None:
    """A heading and the first of its lines on stderr, and where the rest can be found.

    Args:
        heading: Left out with the lines if there are none.
        lines: Any number.
        hint: Says it after "and 7 more; ".
    """
    if not lines:
        return
    warn(heading)
    for line in lines[:MAX_LISTED_LINES]:
        warn(f"  {line}")
    if len(lines) > MAX_LISTED_LINES:
        warn(f"  and {len(lines) - MAX_LISTED_LINES:,} more; {hint}")


def count_changes(report: IndexReport) -> dict[str, int]:
    """What a run did, by a word for it."""
    captions = "caption removed" if report.captions_removed == 1 else "captions removed"
    return {
        "added": report.added,
        "changed": report.changed,
        "moved": report.moved,
        "copied": report.copied,
        "gone": report.gone,
        "unchanged": report.unchanged,
        "skipped": len(report.failed),
        "skipped before": report.still_failed,
        "with other texts": report.retold,
        captions: report.captions_removed,
    }


def format_counts(counts: Mapping[str, int]) -> str:
    """Those that are not zero, as a list."""
    return ", ".join(f"{count:,} {label}" for label, count in counts.items() if count)


def print_line(line: str) -> None:
    """One line on stdout; what does not print is escaped."""
    sys.stdout.write(f"{display_path(line)}\n")


def print_json(value: object) -> None:
    """One JSON object on stdout; bytes of paths that are no text appear as lone surrogates."""
    sys.stdout.write(json.dumps(to_jsonable(value), indent=2) + "\n")


def print_json_line(value: object) -> None:
    """One JSON object on one line of stdout."""
    sys.stdout.write(json.dumps(to_jsonable(value)) + "\n")


def print_tsv(rows: Iterable[Sequence[object]]) -> None:
    """Tab-separated lines on stdout."""
    for row in rows:
        sys.stdout.write("\t".join(_format_cell(cell) for cell in row) + "\n")


def _format_cell(cell: object) -> str:
    from mmsearch.core.text_matches import MatchedText

    return display_path(cell.text if isinstance(cell, MatchedText) else str(cell))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on a terminal, tab-separated lines elsewhere.

    Args:
        title: Stands above the table; may be empty.
        columns: Headings; one that ends in ``>`` is aligned to the right.
        rows: Cells.
    """
    if not sys.stdout.isatty():
        print_tsv(rows)
        return
    # Only a terminal needs rich.
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(display_path(title)) or None, title_justify="left", title_style="")
    for column in columns:
        table.add_column(
            column.removesuffix(">"),
            justify="right" if column.endswith(">") else "left",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(_render_cell(cell) for cell in row))
    console = Console()
    console.width = max(console.width, MIN_TABLE_COLUMNS)
    console.print(table)


def _render_cell(cell: object) -> str | RichText:
    from rich.markup import escape
    from rich.text import Text as RichText

    from mmsearch.core.text_matches import MatchedText

    if not isinstance(cell, MatchedText):
        return escape(display_path(str(cell)))
    snippet, spans = excerpt(cell)
    rendered = RichText(replace_unprintable(snippet))
    for start, end in spans:
        rendered.stylize("bold", start, end)
    return rendered


def print_hits(result: SearchResult) -> None:
    """Of every hit: rank, score, path, size and date, how sure it is, and what text speaks for it.

    On a terminal the words of the query are marked in that text.
    """
    title = f"{len(result.hits)} of {result.pictures:,} pictures: {display_path(result.query)}"
    rows: list[tuple[object, ...]] = [
        (
            hit.rank,
            f"{hit.score:.4f}",
            display_path(relative_to_cwd(hit.path)),
            f"{hit.width}x{hit.height}",
            hit_date(hit),
            f"{hit.band} {hit.confidence:.0%}",
            hit.matched or "",
        )
        for hit in result.hits
    ]
    columns = ["rank>", "score>", "path", "size>", "date", "sure", "text"]
    if not any(hit.matched for hit in result.hits) and sys.stdout.isatty():
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    print_table(title, columns, rows)


def excerpt(matched: MatchedText, length: int = 60) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The part of a text around its first marked words, and where these stand in it.

    Args:
        matched: The text.
        length: Characters of the part.
    """
    first = matched.spans[0][0] if matched.spans else 0
    start = max(0, min(first - length // 3, len(matched.text) - length))
    end = start + length
    snippet = matched.text[start:end]
    prefix, suffix = "…" if start else "", "…" if end < len(matched.text) else ""
    offset = len(prefix) - start
    spans = tuple(
        (a + offset, min(b, end) + offset) for a, b in matched.spans if a >= start and a < end
    )
    return f"{prefix}{snippet}{suffix}", spans


def print_paths(hits: Iterable[Hit], terminator: bytes) -> None:
    """The absolute paths as the file system's own bytes, each followed by ``end``.

    Lines on a terminal are escaped.

    Raises:
        UsageError: Paths on lines of their own, and one holds a line break.
    """
    paths = [os.fsencode(hit.path) for hit in hits]
    if terminator == b"\n" and sys.stdout.isatty():
        for path in paths:
            print_line(os.fsdecode(path))
        return
    if any(terminator in path for path in paths):
        raise UsageError(
            "The name of a picture holds a line break, so that lines cannot be told from names.",
            "Use --print0: it ends each path with NUL.",
        )
    for path in paths:
        sys.stdout.buffer.write(path + terminator)
    sys.stdout.buffer.flush()


def relative_to_cwd(path: Path) -> Path:
    """A path as seen from the working folder, if it lies below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def hit_date(hit: Hit) -> str:
    """The day when a picture was taken, else when its file was changed."""
    if hit.taken_at:
        return hit.taken_at[:10]
    return datetime.fromtimestamp(hit.modified_at).astimezone().date().isoformat()


def human_bytes(count: int) -> str:
    """A size for people: ``4.2 MB``."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def to_jsonable(value: Any) -> Any:
    """A value as JSON takes it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_jsonable(getattr(value, field.name))
            for field in dataclasses.fields(value)
        }
    if isinstance(value, dict):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_jsonable(item) for item in value]
    if isinstance(value, bytes):
        return os.fsdecode(value)
    if isinstance(value, Path):
        return str(value)
    return value
