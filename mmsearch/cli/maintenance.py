"""``mmsearch check``, ``repair``, ``compact``, ``backup`` and ``restore``."""

from __future__ import annotations

from pathlib import Path
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
        bool, typer.Option("--sources", help="Also whether the pictures' files are as they were.")
    ] = False,
    content: Annotated[
        bool, typer.Option("--content", help="With --sources: read every file and compare it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Verify an index; one line a finding. Nothing is written.

    Exit code 0: sound. 1: damaged, which is proved. 3: sound, but pictures' files have changed.
    4: unknown, as something could not be checked (no memory, permission denied, too many open
    files, an index of a newer mmsearch).

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
        output.warn(f"Index {name!r} is damaged; 'mmsearch repair' mends it.")
        raise typer.Exit(EXIT_DAMAGED)
    if report.verdict is Verdict.UNKNOWN:
        output.warn(
            f"Whether index {name!r} is sound is unknown: something could not be checked."
            " No damage was found."
        )
        raise typer.Exit(EXIT_UNKNOWN)
    if changed_count:
        output.warn(f"Index {name!r} is sound; {changed_count:,} pictures are not as they were.")
        raise typer.Exit(EXIT_SKIPPED)
    output.warn(f"Index {name!r} is sound.")


def repair(
    name: IndexName = "default",
    home: Home = None,
    wait: WaitSeconds = 0.0,
    as_json: AsJson = False,
) -> None:
    """Mend an index: rebuild what is derived, encode again what is lost.

    Only what is proved to be damaged is changed, and every row of a damaged catalog that can still
    be read is carried over. Damaged files are kept in the index's folder 'damaged'. Exit code 4:
    nothing was changed, as something could not be checked; see 'mmsearch check'.

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
        output.warn(f"Put aside: {display_path(path)}")
    for label, lines in (
        ("Encoded again", [display_path(path) for path in report.lost]),
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
    """Drop vectors of pictures that are gone, merge small segments, shrink the catalog.

    Example: mmsearch compact
    """
    with open_index(name, home) as index, show_progress() as progress:
        report = index.compact(wait_s=wait, progress=progress)
    if as_json:
        output.print_json(report)
        return
    output.print_line(
        f"{report.dropped:,} vectors dropped, {report.segments_before:,} segments now "
        f"{report.segments_after:,}, {output.human_bytes(report.bytes_before)} now "
        f"{output.human_bytes(report.bytes_after)}, in {report.seconds:.1f} s."
    )


def backup(
    destination: Annotated[
        Path, typer.Argument(help="A folder that does not exist yet.", show_default=False)
    ],
    name: IndexName = "default",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Copy an index, verified and consistent, also while it is being written.

    The copy can be searched where it lies: it is an index named like its folder.

    Example: mmsearch backup /mnt/backup/photos-2026-11-24
    """
    with open_index(name, home) as index:
        report = index.backup(destination)
    _print_copy_report(report, as_json)


def restore(
    source: Annotated[Path, typer.Argument(help="What backup has made.", show_default=False)],
    name: IndexName = "default",
    home: Home = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it in the place of the index of that name.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make an index from a backup.

    Example: mmsearch restore /mnt/backup/photos-2026-11-24 --index photos
    """
    _print_copy_report(api.restore_index(source, name, home=home, replace=replace), as_json)


def _print_copy_report(report: CopyReport, as_json: bool) -> None:
    if as_json:
        output.print_json(report)
        return
    output.print_line(
        f"{report.pictures:,} pictures, {report.files:,} files of vectors, "
        f"{output.human_bytes(report.bytes)} in {display_path(report.folder)}, in "
        f"{report.seconds:.1f} s."
    )
