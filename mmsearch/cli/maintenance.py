"""``mmsearch check``, ``repair``, ``compact``, ``backup`` and ``restore``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mmsearch import api
from mmsearch.cli import output
from mmsearch.cli.errors import EXIT_SKIPPED, EXIT_UNKNOWN
from mmsearch.cli.options import AsJson, Home, IndexName, WaitSeconds, open_index
from mmsearch.cli.progress import show_progress
from mmsearch.core.display import display_path

if TYPE_CHECKING:
    from mmsearch.core.reports import CopyReport

EXIT_DAMAGED = 1


def check(
    name: IndexName = "default",
    home: Home = None,
    sources: Annotated[
        bool,
        typer.Option("--sources", help="Also check whether pictures are still in their sources."),
    ] = False,
    content: Annotated[
        bool, typer.Option("--content", help="With --sources: read and compare every picture.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Verify an index and print one line per finding. Nothing is written.

    Exit code 0: sound. 1: damage was found. 3: sound, but picture files have changed. 4: unknown,
    because something could not be checked (out of memory, permission denied, too many open files,
    an index of a newer mmsearch).

    Example: mmsearch check --sources
    """
    from mmsearch.core.reports import Severity, Verdict

    with open_index(name, home) as index:
        report = index.check(sources=sources or content, content=content)
    if as_json:
        output.print_json(report)
    else:
        output.print_tsv((finding.weight, finding.part, finding.message) for finding in report)
    changed_count = sum(finding.weight is Severity.SOURCE for finding in report)
    if report.verdict is Verdict.DAMAGED:
        output.warn(f"Index {name!r} is damaged. Run 'mmsearch repair' to repair it.")
        raise typer.Exit(EXIT_DAMAGED)
    if report.verdict is Verdict.UNKNOWN:
        output.warn(
            f"Index {name!r} could not be checked completely; see the findings."
            " No damage was found."
        )
        raise typer.Exit(EXIT_UNKNOWN)
    if changed_count:
        output.warn(
            f"Index {name!r} is sound, but {changed_count:,} picture files or folders are missing"
            " or have changed."
        )
        raise typer.Exit(EXIT_SKIPPED)
    output.warn(f"Index {name!r} is sound.")


def repair(
    name: IndexName = "default",
    home: Home = None,
    wait: WaitSeconds = 0.0,
    as_json: AsJson = False,
) -> None:
    """Repair an index: rebuild derived data and re-encode lost vectors.

    Only data that is proven to be damaged is changed, and every row of a damaged catalog that can
    still be read is kept. Damaged files are moved to the folder 'damaged' of the index. Exit code
    4: nothing was changed because something could not be checked; see 'mmsearch check'.

    Example: mmsearch repair
    """
    with open_index(name, home) as index, show_progress() as progress:
        report = index.repair(wait_s=wait, progress=progress)
    if as_json:
        output.print_json(report)
    else:
        for line in report.mended or ("Nothing was damaged.",):
            output.print_line(line)
    for line in report.not_kept:
        output.warn(f"Not kept: {display_path(line)}")
    for path in report.quarantined:
        output.warn(f"Quarantined: {display_path(path)}")
    for label, lines in (
        ("Re-encoded", [display_path(path) for path in report.lost]),
        (
            "Could not be read",
            [f"{display_path(file.path)}: {file.reason}" for file in report.failed],
        ),
    ):
        output.warn_list(f"{label}: {len(lines):,}", lines, "--json lists all.")
    if report.failed:
        raise typer.Exit(EXIT_SKIPPED)


def compact(
    name: IndexName = "default",
    home: Home = None,
    wait: WaitSeconds = 0.0,
    as_json: AsJson = False,
) -> None:
    """Drop vectors of deleted pictures, merge small segments and shrink the catalog.

    Example: mmsearch compact
    """
    with open_index(name, home) as index, show_progress() as progress:
        report = index.compact(wait_s=wait, progress=progress)
    if as_json:
        output.print_json(report)
        return
    output.print_line(
        f"{report.dropped:,} vectors dropped; segments: {report.segments_before:,} -> "
        f"{report.segments_after:,}; size: {output.human_bytes(report.bytes_before)} -> "
        f"{output.human_bytes(report.bytes_after)}; in {report.seconds:.1f} s."
    )


def backup(
    destination: Annotated[
        str,
        typer.Argument(
            help="A folder that does not exist yet, or a URI such as s3://bucket/photos.",
            show_default=False,
        ),
    ],
    name: IndexName = "default",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Make a verified, consistent copy of an index, even while it is being written.

    A copy in a folder can be searched in place: it is an index named after its folder.

    Example: mmsearch backup /mnt/backup/photos-2026-11-24
    """
    with open_index(name, home) as index:
        report = index.backup(destination)
    _print_copy_report(report, as_json)


def restore(
    source: Annotated[
        str,
        typer.Argument(help="Folder or URI that 'mmsearch backup' wrote.", show_default=False),
    ],
    name: IndexName = "default",
    home: Home = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the existing index of that name.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Create an index from a backup.

    Example: mmsearch restore /mnt/backup/photos-2026-11-24 --index photos
    """
    _print_copy_report(api.restore_index(source, name, home=home, replace=replace), as_json)


def _print_copy_report(report: CopyReport, as_json: bool) -> None:
    if as_json:
        output.print_json(report)
        return
    place = display_path(report.folder) if report.folder else report.uri
    output.print_line(
        f"{report.pictures:,} pictures, {report.files:,} vector files, "
        f"{output.human_bytes(report.bytes)} in {place}, in "
        f"{report.seconds:.1f} s."
    )
