"""``mmsearch export`` and ``import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmsearch.cli.errors import EXIT_INTERRUPTED
from mmsearch.cli.options import AsJson, Home, IndexName, WaitSeconds, check_choice, open_index
from mmsearch.cli.output import human_bytes, print_json, print_line, warn
from mmsearch.cli.progress import show_progress
from mmsearch.core.display import display_path


def export(
    folder: Annotated[
        Path, typer.Argument(help="A folder that does not exist yet.", show_default=False)
    ],
    name: IndexName = "default",
    home: Home = None,
    format_name: Annotated[
        str, typer.Option("--format", help="parquet, npy or clip-retrieval.", metavar="FORMAT")
    ] = "parquet",
    as_json: AsJson = False,
) -> None:
    """Write the vectors, facts and texts of an index for other programs.

    Vectors are float16, bit for bit as the index stores them.

    Example: mmsearch export ./vectors --format npy
    """
    from mmsearch.exports.formats import FORMATS, PART_FORMATS

    check_choice(format_name, FORMATS, "--format")
    with open_index(name, home) as index, show_progress() as progress:
        report = index.export(folder, format=format_name, progress=progress)
    if as_json:
        print_json(report)
        return
    moments = report.items - report.pictures
    print_line(
        f"{report.pictures:,} pictures,"
        f"{f' {moments:,} further moments and pages,' if moments else ''}"
        f" {report.text_vectors:,} text vectors,"
        f" {human_bytes(report.bytes)} in {display_path(report.folder)}, in {report.seconds:.1f} s."
    )
    if report.left_out:
        has_parts = format_name in PART_FORMATS
        warn(
            f"Files without pictures left out: {report.left_out:,}. They have no vectors."
            if has_parts
            else f"Films and documents left out: {report.left_out:,}. The format {format_name} has"
            " one picture a row; --format parquet holds them."
        )


def import_(
    folder: Annotated[Path, typer.Argument(help="Folder of an export.", show_default=False)],
    name: IndexName = "default",
    home: Home = None,
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="parquet, npy or clip-retrieval.",
            metavar="FORMAT",
            show_default="that of the export",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Model that made the vectors.", metavar="NAME", show_default="that of the export"
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            help="Folder that contains the pictures.",
            metavar="FOLDER",
            show_default="that of the export",
        ),
    ] = None,
    wait: WaitSeconds = 0.0,
    as_json: AsJson = False,
) -> None:
    """Add pictures with vectors that were computed elsewhere; no picture is decoded.

    Pictures of the index stay as they are; interrupted work continues where it stopped. The next
    'mmsearch index' of their folder compares the files with the export.

    Example: mmsearch import ./vectors --index photos
    """
    from mmsearch.exports.formats import FORMATS

    check_choice(format_name, FORMATS, "--format")
    with open_index(name, home) as index, show_progress() as progress:
        try:
            report = index.import_embeddings(
                folder, format=format_name, model=model, root=root, wait_s=wait, progress=progress
            )
        except KeyboardInterrupt:
            warn("Interrupted; run the same command again to continue.")
            raise typer.Exit(EXIT_INTERRUPTED) from None
    if as_json:
        print_json(report)
        return
    counts = [
        (report.added, "added"),
        (report.copied, "at new paths"),
        (report.unchanged, "known already"),
        (report.kept, "left out: the index has newer content at their paths"),
    ]
    listed = ", ".join(f"{count:,} {label}" for count, label in counts if count)
    print_line(f"{report.pictures:,} pictures read: {listed}, in {report.seconds:.1f} s.")
    if report.unverified:
        warn(
            f"{report.unverified:,} pictures have no known content: their files are missing here."
            " They are found, and encoded again once their files are indexed."
        )
