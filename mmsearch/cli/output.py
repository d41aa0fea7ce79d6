"""Output of commands: a table on a terminal, tab-separated lines in a pipe, or JSON."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsearch.core.display import (
    WEAKER_MATCHES,
    display_path,
    divider_position,
    excerpt,
    format_folded,
    format_match,
    format_position,
    replace_unprintable,
)
from mmsearch.core.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text as RichText

    from mmsearch.core.reports import IndexReport

OUTPUT_OPTIONS = frozenset({"as_json", "paths", "print0", "verbose"})
"""Options of a search that only its output depends on; see `print_search`."""

MAX_LISTED_LINES = 20
"""Maximum number of lines of a list that are printed."""

MIN_TABLE_COLUMNS = 40
"""Minimum width of a table in columns; a narrower one would cut off its content."""

MIN_PATH_COLUMNS = 33
MIN_TEXT_COLUMNS = 20
"""Columns of a terminal that a table of hits has at least for paths and for texts."""

MAX_TEXT_COLUMNS = 62
"""Maximum number of columns for matched texts."""


def warn(line: str) -> None:
    """Write a line to stderr, with unprintable characters escaped."""
    sys.stderr.write(f"{display_path(line)}\n")
    sys.stderr.flush()


def warn_heard(heard: Mapping[str, Any]) -> None:
    """Write the words of a spoken query, a `Heard` as a JSON object, to stderr."""
    warn(f'Heard: "{heard["text"]}"')


def warn_list(heading: str, lines: Sequence[str], hint: str) -> None:
    """Write a heading and the first lines of a list to stderr, with a hint about the rest.

    Args:
        heading: Line above the list; nothing is written if the list is empty.
        lines: The list.
        hint: Where to find the rest; it follows "and 7 more; ".
    """
    if not lines:
        return
    warn(heading)
    for line in lines[:MAX_LISTED_LINES]:
        warn(f"  {line}")
    if len(lines) > MAX_LISTED_LINES:
        warn(f"  and {len(lines) - MAX_LISTED_LINES:,} more; {hint}")


def count_changes(report: IndexReport) -> dict[str, int]:
    """Return the counts of an indexing run, by label."""
    captions = "caption removed" if report.captions_removed == 1 else "captions removed"
    labels = {
        "left_out": "left out",
        "failed": "unreadable",
        "still_failed": "unreadable as before",
        "retold": "with updated texts",
        "captions_removed": captions,
    }
    return {labels.get(name, name): count for name, count in report.counts().items()}


def format_counts(counts: Mapping[str, int]) -> str:
    """Return the nonzero counts as comma-separated text."""
    return ", ".join(f"{count:,} {label}" for label, count in counts.items() if count)


def print_line(line: str) -> None:
    """Write a line to stdout, with unprintable characters escaped."""
    sys.stdout.write(f"{display_path(line)}\n")


def print_json(value: object) -> None:
    """Write a JSON object to stdout; undecodable bytes of paths become lone surrogates."""
    sys.stdout.write(json.dumps(to_jsonable(value), indent=2) + "\n")


def print_json_line(value: object) -> None:
    """Write a JSON object on one line of stdout."""
    sys.stdout.write(json.dumps(to_jsonable(value)) + "\n")


def print_tsv(rows: Iterable[Sequence[object]]) -> None:
    """Write rows to stdout as tab-separated lines."""
    for row in rows:
        sys.stdout.write("\t".join(_format_cell(cell) for cell in row) + "\n")


def _format_cell(cell: object) -> str:
    return display_path(
        excerpt(cell, MAX_TEXT_COLUMNS - 2)[0] if isinstance(cell, dict) else str(cell)
    )


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table on a terminal, or tab-separated lines elsewhere.

    Args:
        title: Line above the table on a terminal; may be empty.
        columns: Headings on a terminal; a column whose heading ends in ``>`` is right-aligned.
        rows: Cells of each row.
    """
    if not sys.stdout.isatty():
        print_tsv(rows)
        return
    # Imported here because only a terminal needs rich.
    from rich.markup import escape

    table, console = _make_table(title)
    for column in columns:
        table.add_column(
            column.removesuffix(">"),
            justify="right" if column.endswith(">") else "left",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(escape(display_path(str(cell))) for cell in row))
    console.print(table)


def _make_table(title: str) -> tuple[RichTable, Console]:
    """Return an empty table and the console to print it on."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as RichTable

    console = Console()
    console.width = max(console.width, MIN_TABLE_COLUMNS)
    title = escape(display_path(title))
    return RichTable(title=title or None, title_justify="left", title_style=""), console


def print_search(
    result: Mapping[str, Any],
    index_name: str,
    *,
    as_json: bool = False,
    paths: bool = False,
    print0: bool = False,
    verbose: bool = False,
    device: str | None = None,
) -> None:
    """Print the result of a search.

    Args:
        result: A `SearchResult` as a JSON object, as a server returns it.
        index_name: Name of the index.
        as_json: Print JSON.
        paths: Print paths, one per line.
        print0: Print paths, each followed by NUL.
        verbose: Print devices and timings on stderr.
        device: Device that the user chose.
    """
    shows_labels = not (as_json or paths or print0)
    for line in _format_notices(
        result, index_name, device, verbose=verbose, shows_labels=shows_labels
    ):
        warn(line)
    if as_json:
        print_json(result)
    elif paths or print0:
        print_paths([hit["path"] for hit in result["hits"]], b"\0" if print0 else b"\n")
    elif result["hits"]:
        print_hits(result, verbose=verbose)


def _format_notices(
    result: Mapping[str, Any],
    index_name: str,
    device: str | None,
    *,
    verbose: bool,
    shows_labels: bool,
) -> Iterator[str]:
    if result["dropped_tokens"]:
        yield (
            f"The query is longer than {result['encoder']!r} can read; "
            f"the last {result['dropped_tokens']} tokens were left out."
        )
    if understood := result.get("understood"):
        labels = dict.fromkeys(chip["label"] for chip in understood["chips"])
        yield f"Read as: {', '.join(labels)}; --literal turns this off."
    yield from describe_match(result, index_name, shows_labels=shows_labels)
    yield from (notice["text"] for notice in result["notices"])
    yield from _format_undated(result["undated"])
    if result["devices"].get("vector_index") == "cpu" and device in (None, "auto"):
        from mmsearch.core.gpu_memory import has_nvidia_gpu

        if has_nvidia_gpu():
            yield "This machine has an NVIDIA GPU, but FAISS cannot use it: searching on the CPU."
    if verbose:
        devices = ", ".join(f"{part} on {device}" for part, device in result["devices"].items())
        timings = ", ".join(f"{step} {s * 1000:.0f} ms" for step, s in result["timings_s"].items())
        yield (
            f"Encoder {result['encoder']}; {result['mode']} search; {devices}; generation "
            f"{result['generation']}, {result['passed']:,} of {result['pictures']:,} pictures; "
            f"{timings}."
        )


def describe_match(
    result: Mapping[str, Any], index_name: str, *, shows_labels: bool
) -> Iterator[str]:
    """Yield why a result has no hits, no good ones, or no labels.

    Args:
        result: A `SearchResult` as a JSON object.
        index_name: Name of the index.
        shows_labels: Say how to get labels if the model is not calibrated.
    """
    has_guesses = any(notice["code"] == "best_guesses" for notice in result["notices"])
    if not result["pictures"]:
        yield f"Index {index_name!r} holds no pictures yet; run: mmsearch index FOLDER"
    elif not result["passed"]:
        yield "No picture passes the filters."
    elif result["match"] is None:
        yield "No text of any picture contains a word of the query."
    elif not result["hits"]:
        yield "No results above your minimum score or confidence."
    elif not result["calibrated"]:
        # A calibration is of texts; the similarity of pictures may stay without one.
        if shows_labels and result["devices"].keys() & {"text", "image"} == {"text"}:
            option = "" if index_name == "default" else f" --index {index_name}"
            yield (
                f"Results of {result['encoder']!r} are not labeled likely or possible yet; run: "
                f"mmsearch calibrate{option}"
            )
    elif result["match"] == "unlikely" and not has_guesses:
        yield "No good matches. Closest results:"


def _format_undated(count: int) -> Iterator[str]:
    if count:
        subject = "1 picture is" if count == 1 else f"{count:,} pictures are"
        yield (
            f"{subject} left out because the date is unknown; --file-dates uses the time of the "
            "file."
        )


def print_hits(result: Mapping[str, Any], *, verbose: bool = False) -> None:
    """Print rank, score, path, size, date, label and matching text of every hit.

    A pipe gets all of them, tab-separated; if a hit is a moment or a page, its position follows. If
    a hit stands for others, such as ``+3``, a position, which may be empty, and that number follow.
    Of a search in several indexes, the name of the index is the last.
    A terminal gets a table: both stand beside the path, the words of the query are marked in the
    text, a line divides weaker matches, and what has no room or no content is left out.

    Args:
        result: A `SearchResult` as a JSON object.
        verbose: Show scores on a terminal.
    """
    hits, calibrated = result["hits"], result["calibrated"]
    labels = [format_match(hit["band"], hit["confidence"], calibrated=calibrated) for hit in hits]
    paths = [format_location(hit["path"]) for hit in hits]
    positions = [format_position(hit["start_ms"], hit["page"]) for hit in hits]
    folded = [format_folded(hit["folded"]) for hit in hits]
    columns: dict[str, list[Any]] = {
        "rank": [hit["rank"] for hit in hits],
        "score": [f"{hit['score']:.4f}" for hit in hits],
        "path": paths,
        "size": [_format_size(hit) for hit in hits],
        "date": [display_path(hit_date(hit["taken_at"], hit["modified_at"])) for hit in hits],
        "confidence": labels,
        "text": [hit["matched"] or "" for hit in hits],
    }
    if not sys.stdout.isatty():
        if any(positions) or any(folded):
            columns["position"] = positions
        if any(folded):
            columns["folded"] = folded
        if any(hit.get("index") for hit in hits):
            columns["index"] = [hit["index"] for hit in hits]
        print_tsv(zip(*columns.values(), strict=True))
        return
    if any(hit.get("index") for hit in hits):
        columns = {"rank": columns["rank"], "index": [hit["index"] for hit in hits], **columns}
    columns["path"] = [
        " ".join(filter(None, cells)) for cells in zip(paths, positions, folded, strict=True)
    ]
    if not verbose:
        del columns["score"]
    title = f"{len(hits)} of {result['pictures']:,} pictures: {display_path(result['query'])}"
    divider = divider_position(columns["rank"], labels)
    _print_hit_table(title, columns, divider)


def _format_size(hit: Mapping[str, Any]) -> str:
    """Return width and height of a hit; "" if they are not known, as after some imports."""
    return display_path(f"{hit['width']}x{hit['height']}") if hit["width"] else ""


def _print_hit_table(title: str, columns: dict[str, list[Any]], divider: int | None) -> None:
    """Print hits on a terminal; each takes one line unless its path is too long.

    Args:
        title: Line above the table.
        columns: Cells of each column, by its heading.
        divider: Number of hits above the divider; None for no divider.
    """
    from rich.markup import escape

    table, console = _make_table(title)
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    text_length = _fit_columns(columns, console.width)
    for name in columns:
        right = name in ("rank", "score", "size")
        table.add_column(name, justify="right" if right else "left", no_wrap=name != "path")
    table.columns[list(columns).index("path")].overflow = "fold"
    for position, row in enumerate(zip(*columns.values(), strict=True)):
        if position == divider:
            table.add_section()
            table.add_row(
                *(f"[bold]{WEAKER_MATCHES}" if name == "path" else "" for name in columns)
            )
        table.add_row(
            *(
                _render_matched(cell, text_length) if isinstance(cell, dict) else escape(str(cell))
                for cell in row
            )
        )
    console.print(table)


def _fit_columns(columns: dict[str, list[Any]], width: int) -> int:
    """Delete the columns of a table of hits that have no room, and return the length of the text.

    Args:
        columns: Cells of each column, by its heading.
        width: Width of the table.
    """
    from rich.cells import cell_len

    widths = {
        name: max(cell_len(cell) for cell in (name, *map(str, cells)))
        for name, cells in columns.items()
        if name != "text"
    }
    longest_path = widths.pop("path")

    def room() -> int:
        # Two spaces and a border follow each column, and a border precedes the first one.
        return width - 1 - 3 - sum(each + 3 for each in widths.values())

    for name in ("size", "date", "text"):
        text_room = MIN_TEXT_COLUMNS + 3 if "text" in columns else 0
        if room() - text_room < min(longest_path, MIN_PATH_COLUMNS):
            columns.pop(name, None)
            widths.pop(name, None)
    text_columns = room() - 3 - min(longest_path, room() * 3 // 5)
    return min(MAX_TEXT_COLUMNS, max(MIN_TEXT_COLUMNS, text_columns)) - 2


def _render_matched(matched: Mapping[str, Any], length: int) -> RichText:
    from rich.text import Text as RichText

    snippet, spans = excerpt(matched, length)
    rendered = RichText(replace_unprintable(snippet), overflow="ellipsis")
    for start, end in spans:
        rendered.stylize("bold", start, end)
    return rendered


def print_paths(paths: Sequence[str], terminator: bytes) -> None:
    """Write paths as raw bytes of the file system, each followed by a terminator.

    If the terminator is a newline and stdout is a terminal, paths are escaped instead.

    Raises:
        UsageError: A path contains the terminator.
    """
    if terminator == b"\n" and sys.stdout.isatty():
        for path in paths:
            print_line(path)
        return
    if any(terminator.decode() in path for path in paths):
        raise UsageError(
            "The name of a picture contains a line break, so paths cannot be separated by lines.",
            "Use --print0, which ends each path with NUL.",
        )
    for path in paths:
        sys.stdout.buffer.write(os.fsencode(path) + terminator)
    sys.stdout.buffer.flush()


def check_output_path(path: Path, noun: str) -> None:
    """Check that a file can be written before the work for it starts.

    Args:
        path: The file.
        noun: What is written, for the message.

    Raises:
        UsageError: Its folder does not exist, or it is a folder itself.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder, not a file for {noun}.", "Add a file name.")
    if not path.parent.is_dir():
        raise UsageError(f"There is no folder {path.parent} for {noun}.", "Create it first.")


def format_location(location: str) -> str:
    """Return a path relative to the working directory if it lies below it; a URI as it is."""
    path = Path(location)
    if "://" in location or not path.is_relative_to(Path.cwd()):
        return display_path(location)
    return display_path(path.relative_to(Path.cwd()))


def hit_date(taken_at: str | None, modified_at: float) -> str:
    """Return the date a picture was taken, or else ``~`` and that of its file's last change."""
    if taken_at:
        return taken_at[:10]
    if not modified_at:
        return ""
    return f"~{datetime.fromtimestamp(modified_at).astimezone().date().isoformat()}"


def human_duration(seconds: float) -> str:
    """Return a duration in its largest unit, such as ``20 s``, ``3 min`` or ``2.5 h``."""
    if seconds < 100:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def human_bytes(count: int) -> str:
    """Return a size in bytes as text, such as ``4.2 MB``."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def to_jsonable(value: Any) -> Any:
    """Return a value converted to types that JSON can represent."""
    # Results say themselves what their JSON is.
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_jsonable(getattr(value, field.name))
            for field in dataclasses.fields(value)
        }
    if isinstance(value, dict):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_jsonable(item) for item in value]
    return os.fsdecode(value) if isinstance(value, bytes | Path) else value
