"""``mmsearch eval``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmsearch.cli.options import AsJson, Home, IndexName, Mode, open_index
from mmsearch.cli.output import check_output_path, print_json, print_table, warn
from mmsearch.core.display import display_path
from mmsearch.core.errors import UsageError

if TYPE_CHECKING:
    from mmsearch.api.evaluate import Comparison, Evaluation, SearchSettings
    from mmsearch.evaluation.metrics import Estimate


def evaluate(
    captions: Annotated[Path, typer.Argument(help="Captioned set: queries and their pictures.")],
    name: IndexName = "default",
    home: Home = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            help="Index or setting to compare with, such as mode=vector or prompt='a photo of {}'.",
            metavar="INDEX|SETTING=VALUE",
        ),
    ] = None,
    query_column: Annotated[
        str | None,
        typer.Option(
            help="Column that holds the queries.", metavar="NAME", show_default="query, caption"
        ),
    ] = None,
    template: Annotated[
        str, typer.Option(help="Text to search for; {} is replaced by the query.", metavar="TEXT")
    ] = "{}",
    split: Annotated[
        str | None,
        typer.Option(
            help="Split of a Karpathy dataset: test, val, train, restval or all.",
            metavar="NAME",
            show_default="test",
        ),
    ] = None,
    mode: Mode = None,
    blend: Annotated[
        str | None,
        typer.Option(
            help="How hybrid mode combines results: log_odds, weighted_sum or reciprocal_rank.",
            metavar="NAME",
        ),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(help='Template for the queries, such as "a photo of {}".', metavar="TEXT"),
    ] = None,
    depth: Annotated[
        int, typer.Option(help="Number of hits to evaluate per query.", metavar="N", min=1)
    ] = 1000,
    ties: Annotated[
        str,
        typer.Option(
            help="Order of hits with the same score: index (as searches return them, by id) or "
            "trec_eval (by path, descending).",
            metavar="ORDER",
        ),
    ] = "index",
    within: Annotated[
        float,
        typer.Option(
            help="Seconds by which a hit may differ from a moment that the set names.",
            metavar="SECONDS",
        ),
    ] = 5.0,
    plot: Annotated[
        Path | None, typer.Option(help="Write a plot of the results.", metavar="FILE.png")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate an index on a captioned set: success, recall, MRR, nDCG and median rank.

    Every metric has a 95% confidence interval.

    Success@k is the share of queries with a relevant picture among the first k, Recall@k the share
    of a query's relevant pictures that are among the first k; much of the literature on COCO and
    Flickr30k calls Success@k recall. Sets are CSV, TSV or JSON Lines (query or caption or class,
    and path), the caption files of COCO and Flickr30k, or Karpathy's dataset files.

    Tables may name the moment of a film (start_s, end_s) or the page of a document (page). Place@k
    is the share of these queries whose right moment or page is among the first k.

    Example: mmsearch eval captions.csv --compare mode=vector --plot success.png
    """
    # Imported here so that other commands do not load SciPy and the metrics.
    from mmsearch.api import evaluate

    if plot is not None:
        if plot.suffix.lower() != ".png":
            raise UsageError(f"A plot is written as PNG, not as {plot.name!r}.", "Use NAME.png.")
        check_output_path(plot, "the plot")
    if ties not in tuple(evaluate.Ties):
        raise UsageError(
            f"Unknown order of ties {ties!r}.", f"Choose one of: {', '.join(evaluate.Ties)}."
        )
    base_settings = evaluate.SearchSettings(mode, blend, tuple(prompt) if prompt else None)
    trials = [
        ("", name, base_settings),
        *(_parse_trial(text, name, base_settings) for text in compare or []),
    ]
    tie_order = evaluate.Ties(ties)
    evaluate.check_extras(with_plot=plot is not None)
    captioned_set = evaluate.CaptionedSet(captions, query_column, template, split)
    for index_name in {index_name for _, index_name, _ in trials}:
        with open_index(index_name, home) as index:
            # A missing index is reported before another one is evaluated.
            index.roots()
    evaluations: dict[str, Evaluation] = {}
    for label, index_name, settings in trials:
        with open_index(index_name, home) as index:
            evaluations[label or index_name] = evaluate.evaluate_index(
                index,
                captioned_set,
                settings,
                depth,
                _make_progress_callback(label or index_name),
                tie_order,
                within,
            )
    baseline, *others = evaluations
    comparisons = {
        other: evaluate.compare(evaluations[baseline], evaluations[other]) for other in others
    }
    if as_json:
        print_json(
            {
                "set": captions,
                "ties": ties,
                "evaluations": {
                    label: {
                        "queries": evaluation.queries,
                        "depth": evaluation.depth,
                        "placed_queries": evaluation.placed_queries,
                        "within_s": evaluation.within_s,
                        "metrics": evaluation.metrics,
                    }
                    for label, evaluation in evaluations.items()
                },
                "compared_with": baseline,
                "comparisons": comparisons,
            }
        )
    else:
        _print_tables(evaluations, comparisons)
    if plot is not None:
        evaluate.plot(evaluations, plot, captions.name)
        warn(f"Plot: {plot}")


def _print_tables(
    evaluations: Mapping[str, Evaluation], comparisons: Mapping[str, Mapping[str, Comparison]]
) -> None:
    baseline = next(iter(evaluations.values()))
    rows = [
        (label, metric, *_format_estimate(metric, results.metrics[metric], results.depth))
        for label, results in evaluations.items()
        for metric in results.metrics
    ]
    warn(
        f"{baseline.queries:,} queries, up to {baseline.depth:,} hits each; "
        f"{baseline.ties.description}."
    )
    if baseline.placed_queries:
        warn(
            f"{baseline.placed_queries:,} queries name a page or a moment, which is right within "
            f"{baseline.within_s:g} s."
        )
    print_table("", ["what", "metric", "value>", "95% interval"], rows)
    differences = [
        (
            label,
            metric,
            f"{comparison.difference.value:+.3f}",
            f"[{comparison.difference.low:+.3f}, {comparison.difference.high:+.3f}]",
            f"{comparison.p_value:.4f}",
        )
        for label, results in comparisons.items()
        for metric, comparison in results.items()
    ]
    if differences:
        sys.stdout.write("\n")
        title = f"against {next(iter(evaluations))}, query by query"
        print_table(title, ["what", "metric", "difference>", "95% interval", "p>"], differences)


def _format_estimate(metric: str, estimate: Estimate, depth: int) -> tuple[str, str]:
    if metric != "median rank":
        return f"{estimate.value:.3f}", f"[{estimate.low:.3f}, {estimate.high:.3f}]"

    def format_rank(value: float) -> str:
        return f">{depth}" if value > depth else f"{value:g}"

    return format_rank(
        estimate.value
    ), f"[{format_rank(estimate.low)}, {format_rank(estimate.high)}]"


def _parse_trial(
    text: str, name: str, base_settings: SearchSettings
) -> tuple[str, str, SearchSettings]:
    """Return label, index name and settings of a trial: another index, or other settings."""
    setting, separator, value = text.partition("=")
    if not separator:
        return text, text, base_settings
    if setting == "mode":
        return text, name, replace(base_settings, mode=value)
    if setting == "blend":
        return text, name, replace(base_settings, blend=value)
    if setting == "prompt":
        return text, name, replace(base_settings, prompts=(value,))
    raise UsageError(
        f"{setting!r} is not a setting that can be compared.",
        "Name an index, or mode=, blend= or prompt=.",
    )


def _make_progress_callback(label: str) -> Callable[[int, int], None]:
    """Return a callback that shows the number of finished queries if stderr is a terminal."""

    def report_progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{display_path(label)}: {done:,} of {total:,} queries\033[K")
            if done == total:
                sys.stderr.write("\r\033[K")
            sys.stderr.flush()

    return report_progress
