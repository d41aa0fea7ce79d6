"""``mmsearch describe``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmsearch.cli.options import AsJson, Home, IndexName, WaitSeconds, open_index
from mmsearch.cli.output import print_json, print_line
from mmsearch.cli.progress import show_progress

if TYPE_CHECKING:
    from mmsearch.core.reports import DescribeReport


def describe(
    name: IndexName = "default",
    home: Home = None,
    tags: Annotated[
        bool, typer.Option("--tags", help="Give pictures tags from a vocabulary (default).")
    ] = False,
    ocr: Annotated[
        bool, typer.Option("--ocr", help="Read texts in pictures and on scanned pages (extra ocr).")
    ] = False,
    vocabulary: Annotated[
        Path | None,
        typer.Option(
            help="File of the tags to choose from, one a line.",
            metavar="FILE",
            show_default="built-in",
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try files again that could not be read.")
    ] = False,
    wait: WaitSeconds = 0.0,
    as_json: AsJson = False,
) -> None:
    """Describe the pictures of an index with models: tags to filter by, and texts in pictures.

    Only pictures that were not described yet are, so run it again after 'mmsearch index'. Tags come
    from the vectors of the index and never change them: 'mmsearch query --auto-tag dog' filters by
    them, and they are no keywords of a person. With --ocr, searches find signs, screenshots and
    scanned pages by their words; each file is read once more.

    Example: mmsearch describe --vocabulary my-tags.txt
    Example: mmsearch describe --ocr
    """
    wanted = {"tags": tags, "ocr": ocr}
    enrichers = [enricher for enricher, is_wanted in wanted.items() if is_wanted] or ["tags"]
    with open_index(name, home) as index, show_progress() as progress:
        reports = index.describe(
            enrichers,
            vocabulary=vocabulary,
            retry_failed=retry_failed,
            wait_s=wait,
            progress=progress,
        )
    if as_json:
        print_json(reports)
        return
    for report in reports:
        for line in _format_report(report):
            print_line(line)


def _format_report(report: DescribeReport) -> Iterator[str]:
    if not report.described and not report.failed:
        yield f"{report.enricher}: nothing to do."
    else:
        yield (
            f"{report.enricher}: {report.texts:,} texts of {report.described:,} pictures in"
            f" {report.seconds:.1f} s."
        )
    if report.failed:
        yield f"{len(report.failed):,} could not be read; --retry-failed tries them again."
    if report.left:
        yield f"{report.left:,} are left: their files are missing or have changed."
