"""``mmsearch eval``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmsearch.cli.options import AsJson, Home, IndexName, Mode, open_index
from mmsearch.cli.output import print_json, print_table, warn
from mmsearch.core.display import display_path
from mmsearch.core.errors import UsageError

if TYPE_CHECKING:
    from mmsearch.api.evaluate import Comparison, Evaluation, SearchSettings
    from mmsearch.evaluation.metrics import Estimate


def evaluate(
    captions: Annotated[Path, typer.Argument(help="Captioned set: queries and relevant pictures.")],
    name: IndexName = "default",
    home: Home = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            help="Another index, or settings such as mode=vector or prompt='a photo of {}', to "
            "compare with.",
            metavar="INDEX|SETTING=VALUE",
        ),
    ] = None,
    query_column: Annotated[
        str | None,
        typer.Option(help="Column of the queries.", metavar="NAME", show_default="query, caption"),
    ] = None,
    template: Annotated[
        str, typer.Option(help="What is asked; {} is replaced by the query.", metavar="TEXT")
    ] = "{}",
    split: Annotated[
        str | None,
        typer.Option(
            help="Part of a dataset of Karpathy: test, val, train, restval or all.",
            metavar="NAME",
            show_default="test",
        ),
    ] = None,
    mode: Mode = None,
    blend: Annotated[
        str | None,
        typer.Option(help="weighted_sum or reciprocal_rank, in hybrid mode.", metavar="NAME"),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(help='Phrasing of the queries, such as "a photo of {}".', metavar="TEXT"),
    ] = None,
    depth: Annotated[
        int, typer.Option(help="How many hits of each query are looked at.", metavar="N")
    ] = 1000,
    ties: Annotated[
        str,
        typer.Option(
            help="Order of hits with the same score: index (as they are found, by id) or trec_eval "
            "(by path, descending).",
            metavar="ORDER",
        ),
    ] = "index",
    plot: Annotated[
        Path | None, typer.Option(help="Write a picture of the results.", metavar="FILE.png")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Rate an index on a captioned set: success, recall, MRR, nDCG, median rank, 95% intervals.

    Success@k is the share of queries with a relevant picture among the first k, Recall@k the share
    of a query's relevant pictures that are among the first k; much literature on COCO and Flickr30k
    calls the first one recall. Sets are CSV, TSV or JSON Lines (query or caption or class, and
    path), the caption files of COCO and Flickr30k, or Karpathy's dataset files.

    Example: mmsearch eval captions.csv --compare mode=vector --plot success.png
    """
    # Not above: SciPy and the metrics would be loaded by every command.
    from mmsearch.api import evaluate

    if plot is not None and plot.suffix.lower() != ".png":
        raise UsageError(f"A plot is written as PNG, not as {plot.name!r}.", "Use NAME.png.")
    if ties not in tuple(evaluate.Ties):
        raise UsageError(
            f"Unknown order of ties {ties!r}.", f"Choose one of: {', '.join(evaluate.Ties)}."
        )
    order = evaluate.Ties(ties)
    asked = evaluate.CaptionedSet(captions, query_column, template, split)
    base = evaluate.SearchSettings(mode, blend, tuple(prompt) if prompt else None)
    trials = [("", name, base), *(_trial(text, name, base) for text in compare or [])]
    found: dict[str, Evaluation] = {}
    for label, index_name, settings in trials:
        with open_index(index_name, home) as index:
            found[label or index_name] = evaluate.rate(
                index, asked, settings, depth, _counter(label or index_name), order
            )
    first, *others = found
    paired = {other: evaluate.compare(found[first], found[other]) for other in others}
    if as_json:
        print_json(
            {
                "set": captions,
                "ties": ties,
                "evaluations": {
                    label: {"queries": own.queries, "depth": own.depth, "metrics": own.metrics}
                    for label, own in found.items()
                },
                "compared_with": first,
                "comparisons": paired,
            }
        )
    else:
        _print_tables(found, paired)
    if plot is not None:
        evaluate.plot(found, plot, captions.name)
        warn(f"Plot: {plot}")


def _print_tables(
    found: Mapping[str, Evaluation], paired: Mapping[str, Mapping[str, Comparison]]
) -> None:
    first = next(iter(found.values()))
    rows = [
        (label, metric, *_shown(metric, own.metrics[metric], own.depth))
        for label, own in found.items()
        for metric in own.metrics
    ]
    warn(f"{first.queries:,} queries, {first.depth:,} hits looked at; {first.ties.in_words}.")
    print_table("", ["what", "metric", "value>", "95% interval"], rows)
    differences = [
        (
            label,
            metric,
            f"{c.difference.value:+.3f}",
            f"[{c.difference.low:+.3f}, {c.difference.high:+.3f}]",
            f"{c.p_value:.4f}",
        )
        for label, own in paired.items()
        for metric, c in own.items()
    ]
    if differences:
        sys.stdout.write("\n")
        title = f"against {next(iter(found))}, query by query"
        print_table(title, ["what", "metric", "difference>", "95% interval", "p>"], differences)


def _shown(metric: str, estimate: Estimate, depth: int) -> tuple[str, str]:
    if metric != "median rank":
        return f"{estimate.value:.3f}", f"[{estimate.low:.3f}, {estimate.high:.3f}]"

    def rank(value: float) -> str:
        return f">{depth}" if value > depth else f"{value:g}"

    return rank(estimate.value), f"[{rank(estimate.low)}, {rank(estimate.high)}]"


def _trial(text: str, name: str, base: SearchSettings) -> tuple[str, str, SearchSettings]:
    """What to compare with: another index, or other settings of the same one."""
    setting, sign, value = text.partition("=")
    if not sign:
        return text, text, base
    if setting == "mode":
        return text, name, replace(base, mode=value)
    if setting == "blend":
        return text, name, replace(base, blend=value)
    if setting == "prompt":
        return text, name, replace(base, prompts=(value,))
    raise UsageError(
        f"{setting!r} is not a setting that can be compared.",
        "Name an index, or mode=, blend= or prompt=.",
    )


def _counter(label: str) -> Callable[[int, int], None]:
    """Counts queries on stderr if that is a terminal."""

    def count(done: int, total: int) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{display_path(label)}: {done:,} of {total:,} queries\033[K")
            if done == total:
                sys.stderr.write("\r\033[K")
            sys.stderr.flush()

    return count
