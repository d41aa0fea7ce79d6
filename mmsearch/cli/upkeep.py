"""``mmsearch check``, ``repair``, ``compact``, ``backup`` and ``restore``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmsearch import api
from mmsearch.cli import output
from mmsearch.cli.errors import SKIPPED
from mmsearch.cli.options import AsJson, Home, IndexName, WaitSeconds, open_index
from mmsearch.cli.progress import show_progress
from mmsearch.core.display import display_path

if TYPE_CHECKING:
    from mmsearch.core.upkeep import CopyReport

DAMAGED = 1


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
    """Verify an index; one line a finding. Exit code 1 on damage, 3 if only files have changed.

    Example: mmsearch check --sources
    """
    from mmsearch.core.upkeep import Weight

    with open_index(name, home) as index:
        found = index.check(sources=sources or content, content=content)
    if as_json:
        output.print_json(found)
    else:
        output.print_lines((f.weight, f.part, f.message) for f in found)
    damaged = sum(f.weight is Weight.DAMAGE for f in found)
    changed = sum(f.weight is Weight.SOURCE for f in found)
    if damaged:
        output.warn(f"Index {name!r} is damaged; 'mmsearch repair' mends it.")
        raise typer.Exit(DAMAGED)
    if changed:
        output.warn(f"Index {name!r} is sound; {changed:,} pictures are not as they were.")
        raise typer.Exit(SKIPPED)
    output.warn(f"Index {name!r} is sound.")


def repair(
    name: IndexName = "default",
    home: Home = None,
    wait: WaitSeconds = 0.0,
    as_json: AsJson = False,
) -> None:
    """Mend an index: rebuild what is derived, encode again what is lost.

    Damaged files are kept in the index's folder 'damaged'.

    Example: mmsearch repair
    """
    with open_index(name, home) as index, show_progress() as progress:
        report = index.repair(wait_s=wait, progress=progress)
    if as_json:
        output.print_json(report)
    else:
        for line in report.mended or ("Nothing was damaged.",):
            sys.stdout.write(display_path(line) + "\n")
    for path in report.quarantined:
        output.warn(f"Put aside: {display_path(path)}")
    for what, lines in (
        ("Encoded again", [display_path(path) for path in report.lost]),
        ("Could not be read", [f"{display_path(f.path)}: {f.reason}" for f in report.failed]),
    ):
        output.warn_list(f"{what}: {len(lines):,}", lines, "--json lists all.")
    if report.failed:
        raise typer.Exit(SKIPPED)


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
    sys.stdout.write(
        f"{report.dropped:,} vectors dropped, {report.segments_before:,} segments now "
        f"{report.segments_after:,}, {output.human_bytes(report.bytes_before)} now "
        f"{output.human_bytes(report.bytes_after)}, in {report.seconds:.1f} s.\n"
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
    _copied(report, as_json)


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
    _copied(api.restore_index(source, name, home=home, replace=replace), as_json)


def _copied(report: CopyReport, as_json: bool) -> None:
    if as_json:
        output.print_json(report)
        return
    sys.stdout.write(
        f"{report.pictures:,} pictures, {report.files:,} files of vectors, "
        f"{output.human_bytes(report.bytes)} in {display_path(report.folder)}, in "
        f"{report.seconds:.1f} s.\n"
    )
