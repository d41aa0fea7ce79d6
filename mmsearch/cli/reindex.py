"""``mmsearch reindex``."""

from __future__ import annotations

from typing import Annotated

import typer

from mmsearch.cli.errors import EXIT_SKIPPED
from mmsearch.cli.options import AsJson, Home, IndexName, WaitSeconds, open_index
from mmsearch.cli.output import print_json, print_line, warn
from mmsearch.cli.progress import show_progress
from mmsearch.core.display import display_path
from mmsearch.core.reports import ReindexReport


def reindex(
    name: IndexName = "default",
    home: Home = None,
    fusion: Annotated[
        str | None,
        typer.Option(
            help="image, weighted, concat or attention.", metavar="NAME", show_default="unchanged"
        ),
    ] = None,
    text_weight: Annotated[
        list[str] | None,
        typer.Option(
            help="Weight of texts, 0 to 1; KIND=X sets the weight of one kind.",
            metavar="X|KIND=X",
            show_default="unchanged",
        ),
    ] = None,
    vector_index: Annotated[
        str | None,
        typer.Option(
            help="auto, exact, faiss_flat or faiss_fastscan.",
            metavar="NAME",
            show_default="unchanged",
        ),
    ] = None,
    reencode: Annotated[
        bool,
        typer.Option("--reencode", help="Re-encode every picture if the fusion needs it."),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            help="New encoder; every picture is re-encoded while queries continue, except for"
            " adapted:FILE.",
            metavar="NAME",
            show_default="unchanged",
        ),
    ] = None,
    drop_unreadable: Annotated[
        bool,
        typer.Option(
            "--drop-unreadable", help="With --model: continue without pictures that cannot be read."
        ),
    ] = False,
    wait: WaitSeconds = 0.0,
    as_json: AsJson = False,
) -> None:
    """Change the fusion, the vector index or the encoder of an index.

    Only a new encoder, or a fusion that needs --reencode, reads the pictures again. An adapter of
    the encoder (adapted:FILE) maps the stored vectors instead. Interrupted work is kept: run the
    same command again to continue.

    Example: mmsearch reindex --fusion weighted --text-weight 0.3
    """
    overall_weight, kind_weights = _parse_text_weights(text_weight or [])
    with open_index(name, home) as index, show_progress() as progress:
        report = index.reindex(
            fusion=fusion,
            text_weight=overall_weight,
            kind_weights=kind_weights or None,
            vector_index=vector_index,
            reencode=reencode,
            model=model,
            drop_unreadable=drop_unreadable,
            wait_s=wait,
            progress=progress,
        )
    if as_json:
        print_json(report)
    else:
        reencoded_note = ", re-encoded" if report.reencoded else _describe_derived(report)
        print_line(
            f"{report.pictures:,} pictures{reencoded_note}: fusion {report.fusion.name}, "
            f"text weight {report.fusion.text_weight:g}, vector index {report.vector_index}, in "
            f"{report.seconds:.1f} s."
        )
    for file in report.failed:
        warn(f"  {display_path(file.path)}: {file.reason}")
    if report.failed:
        raise typer.Exit(EXIT_SKIPPED)


def _describe_derived(report: ReindexReport) -> str:
    if not report.derived:
        return ""
    decoded = f"{report.decoded:,} items" if report.decoded else "nothing"
    return f", {report.derived:,} vectors derived from stored ones, {decoded} decoded"


def _parse_text_weights(values: list[str]) -> tuple[float | None, dict[str, float]]:
    """Return the overall text weight, or None, and the weights by kind of text."""
    overall_weight, kind_weights = None, {}
    for weight in values:
        kind, separator, value = weight.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            raise typer.BadParameter(
                f"must be a number or KIND=NUMBER, got {weight!r}", param_hint="--text-weight"
            ) from None
        if separator:
            kind_weights[kind.strip().lower()] = number
        else:
            overall_weight = number
    return overall_weight, kind_weights
