"""``mmsearch optimize`` and ``calibrate``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmsearch.cli.options import AsJson, Home, IndexName, WaitSeconds, open_index
from mmsearch.cli.output import human_bytes, print_json, print_line
from mmsearch.cli.progress import show_progress

if TYPE_CHECKING:
    from mmsearch.core.reports import CalibrationReport, ReindexReport

_MEGABYTES_PER_UNIT = {"mb": 1.0, "gb": 1000.0, "tb": 1_000_000.0}
_MILLISECONDS_PER_UNIT = {"ms": 1.0, "s": 1000.0}


def optimize(
    name: IndexName = "default",
    home: Home = None,
    recall: Annotated[
        float,
        typer.Option(
            help="Share of the 10 nearest pictures that a search must find.", metavar="SHARE"
        ),
    ] = 0.95,
    memory: Annotated[
        str | None,
        typer.Option(
            help="Memory limit of searches, such as 4GB.",
            metavar="SIZE",
            show_default="no limit",
        ),
    ] = None,
    latency: Annotated[
        str | None,
        typer.Option(
            help="Prefer exact search if it takes at most this long, such as 20ms.",
            metavar="TIME",
            show_default="by size",
        ),
    ] = None,
    wait: WaitSeconds = 0.0,
    as_json: AsJson = False,
) -> None:
    """Rebuild the vector index for a recall, memory or latency target.

    Up to a few hundred thousand pictures are searched exactly. Larger collections are searched
    approximately, with settings that are tuned on some texts and measured on others. Later runs of
    'mmsearch index' keep the choice. Queries are answered meanwhile.

    Example: mmsearch optimize --recall 0.98 --memory 4GB
    """
    goals = {
        "memory_mb": _parse_quantity(memory, _MEGABYTES_PER_UNIT, "--memory", "4GB"),
        "latency_ms": _parse_quantity(latency, _MILLISECONDS_PER_UNIT, "--latency", "20ms"),
    }
    with open_index(name, home) as index, show_progress() as progress:
        report = index.optimize(recall=recall, **goals, wait_s=wait, progress=progress)
    if as_json:
        print_json(report)
    else:
        for line in _format_report(report):
            print_line(line)


def calibrate(
    name: IndexName = "default",
    home: Home = None,
    wait: WaitSeconds = 0.0,
    as_json: AsJson = False,
) -> None:
    """Fit the percentages of hits to the captions, titles and keywords of an index.

    Each text is searched with and without its own picture, which shows how often hits with a given
    score are right. Models other than starter have no percentages without it; 'mmsearch optimize'
    does it for them, too. File names are not used, and at least 100 pictures need a text.

    Example: mmsearch calibrate
    """
    with open_index(name, home) as index, show_progress() as progress:
        report = index.calibrate(wait_s=wait, progress=progress)
    if as_json:
        print_json(report)
    else:
        for line in _format_calibration(report):
            print_line(line)


def _format_calibration(report: CalibrationReport) -> list[str]:
    if not report.is_calibrated:
        return [
            f"Percentages were not fitted: {report.texts:,} pictures have a text of their own, "
            "100 are needed."
        ]
    return [
        f"Percentages were fitted to {report.texts:,} texts in {report.seconds:.1f} s; they are "
        f"off by {report.error:.0%} on average.",
        f'Searches answer "no match" to {report.lost:.0%} of queries whose picture is there, and '
        f"to {report.rejected:.0%} of those whose picture is not.",
    ]


def _format_report(report: ReindexReport) -> list[str]:
    stats = report.search
    lines = [
        f"{report.pictures:,} pictures: vector index {report.vector_index}, in "
        f"{report.seconds:.1f} s.",
        f"Search: {stats['reason']}.",
    ]
    if "depth" in stats:
        lines += _format_approximate_search(stats)
    if report.calibration is not None:
        lines += _format_calibration(report.calibration)
    return lines


def _format_approximate_search(stats: Mapping[str, Any]) -> list[str]:
    lists = f", {stats['nprobe']} of {stats['lists']:,} lists visited" if stats["lists"] else ""
    return [
        f"A query takes {stats['query_ms']:.2f} ms here; exact search would take "
        f"{stats['exact_ms']:.1f} ms.",
        f"In memory: {human_bytes(stats['code_bytes'])} of codes with {stats['dims']} dimensions"
        f"{lists}; {stats['depth']} candidates are re-ranked by their vectors on disk.",
    ]


def _parse_quantity(
    text: str | None, units: dict[str, float], option: str, example: str
) -> float | None:
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]+)\s*", text)
    if match is None or match[2].lower() not in units:
        raise typer.BadParameter(
            f"must be a number with a unit, such as {example}, got {text!r}", param_hint=option
        )
    return float(match[1]) * units[match[2].lower()]
