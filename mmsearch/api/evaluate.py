"""Evaluation of an index on a captioned set."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmsearch.api.index import Index
from mmsearch.api.parsing import parse_mode
from mmsearch.core.arguments import check_arguments, check_fields
from mmsearch.core.errors import Hint, SourceError, UsageError
from mmsearch.core.filters import NO_FILTERS, Filters
from mmsearch.core.plugins import require_packages
from mmsearch.core.query import Query, SearchRequest, Term
from mmsearch.evaluation.metrics import (
    WITHIN_S,
    Comparison,
    Evaluation,
    Ties,
    compare,
    evaluate,
    order_ties_as_trec_eval,
)
from mmsearch.evaluation.plot import plot
from mmsearch.evaluation.qrels import HitMatcher, read_qrels

__all__ = [
    "CaptionedSet",
    "Comparison",
    "Evaluation",
    "SearchSettings",
    "Ties",
    "check_extras",
    "compare",
    "evaluate_index",
    "plot",
]


@dataclass(frozen=True)
class CaptionedSet:
    """A file of queries and relevant pictures; see `mmsearch.evaluation.qrels`.

    Attributes:
        path: The file.
        query_column: Name of the column of queries; None for the default names.
        template: Text of a query; ``{}`` is replaced by the value of the column.
        split: Split of a Karpathy dataset; None for "test".
    """

    path: Path
    query_column: str | None = None
    template: str = "{}"
    split: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class SearchSettings:
    """Search options for the queries of an evaluation.

    Attributes:
        mode: See `Query.mode`.
        blend: See `Query.blend`.
        prompts: See `Query.prompts`.
        filters: Filters that restrict the results.

    Raises:
        InvalidQueryError: The mode is unknown.
    """

    mode: str | None = None
    blend: str | None = None
    prompts: tuple[str, ...] | None = None
    filters: Filters = NO_FILTERS

    def __post_init__(self) -> None:
        check_fields(self)
        parse_mode(self.mode)


def check_extras(*, with_plot: bool = False) -> None:
    """Check that the libraries of an evaluation are installed, before it starts.

    Args:
        with_plot: True if the results will be plotted.

    Raises:
        MissingExtraError: A library is not installed.
    """
    require_packages("An evaluation", "eval", "ir_measures", "scipy.stats")
    if with_plot:
        require_packages("A plot", "eval", "matplotlib")


@check_arguments("api.evaluate.evaluate_index")
def evaluate_index(
    index: Index,
    captions: CaptionedSet,
    settings: SearchSettings | None = None,
    depth: int = 1000,
    progress: Callable[[int, int], None] = lambda done, total: None,
    ties: Ties = Ties.INDEX,
    within_s: float = WITHIN_S,
) -> Evaluation:
    """Evaluate an index on all queries of a captioned set.

    Queries are plain text: signs and numbers are words, not query language. If the set names the
    moment of a film or the page of a document, the file and the place are measured apart.

    Args:
        index: Index that contains the pictures of the set, and possibly others.
        captions: The captioned set.
        settings: Search options; None for the defaults.
        depth: Number of hits of each query to evaluate.
        progress: Called with the number of answered queries and the total.
        ties: Order of hits with the same score.
        within_s: Seconds by which the start of a hit may differ from a moment that the set names.

    Raises:
        UnknownIndexError: The index does not exist.
        SourceError: The set cannot be read, or none of its pictures was found.
        UsageError: ``within_s`` is negative or not finite.
        MissingExtraError: A library for metrics is not installed.
    """
    check_extras()
    if not 0 <= within_s < math.inf:
        raise UsageError(
            f"{within_s:g} seconds are no tolerance.",
            Hint("{} is a number of seconds, 0 or more.", "within_s", "--within"),
        )
    options = settings or SearchSettings()
    judgments = read_qrels(captions.path, captions.query_column, captions.template, captions.split)
    relevance = HitMatcher(judgments, captions.path.parent)
    mode = parse_mode(options.mode)
    requests = [
        SearchRequest(
            Query((Term(judgment.query),), options.filters, mode, options.blend, options.prompts),
            depth,
            explain=False,
            check_files=False,
            fold=False,
            literal=True,
        )
        for judgment in judgments
    ]
    ranked: list[list[str]] = []
    placed: list[list[bool] | None] = []
    for judgment, result in zip(judgments, index.iter_search(requests), strict=True):
        hits = result.hits
        names = relevance.match_all([hit.path for hit in hits])
        if ties is Ties.TREC_EVAL:
            rows = order_ties_as_trec_eval(names, [hit.score for hit in hits])
            hits, names = [hits[row] for row in rows], [names[row] for row in rows]
        ranked.append(names)
        marks = [
            judgment.is_placed(name, hit.start_ms, hit.page, within_s)
            for name, hit in zip(names, hits, strict=True)
        ]
        placed.append(marks if judgment.places else None)
        progress(len(ranked), len(requests))
    relevant_names = {name for judgment in judgments for name in judgment.relevant}
    if not any(name in relevant_names for ranking in ranked for name in ranking):
        raise SourceError(
            f"None of the pictures in {captions.path} is in index {index.name!r}.",
            "Index the folder that contains them, or check the paths in the file.",
        )
    relevant = [judgment.relevant for judgment in judgments]
    return evaluate(ranked, relevant, depth, ties, placed, within_s)
