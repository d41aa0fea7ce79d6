"""Rate an index on a captioned set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mmsearch.api.index import Index
from mmsearch.core.errors import SourceError
from mmsearch.core.queries import Filters, Mode, Query, Term
from mmsearch.core.requests import SearchRequest
from mmsearch.evaluation.metrics import (
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
    "compare",
    "evaluate_index",
    "plot",
]


@dataclass(frozen=True)
class CaptionedSet:
    """A file of queries and relevant pictures; see `mmsearch.evaluation.qrels`.

    Attributes:
        path: The file.
        query_column: The column whose values are the queries.
        template: What is asked; ``{}`` is replaced by the query.
        split: The part of a dataset of Karpathy; None: "test".
    """

    path: Path
    query_column: str | None = None
    template: str = "{}"
    split: str | None = None


@dataclass(frozen=True)
class SearchSettings:
    """How queries are answered.

    Attributes:
        mode: See `Query.mode`.
        blend: See `Query.blend`.
        prompts: See `Query.prompts`.
        filters: Which pictures may be found.
    """

    mode: str | None = None
    blend: str | None = None
    prompts: tuple[str, ...] | None = None
    filters: Filters = field(default_factory=Filters)


def evaluate_index(
    index: Index,
    captions: CaptionedSet,
    settings: SearchSettings | None = None,
    depth: int = 1000,
    progress: Callable[[int, int], None] = lambda done, total: None,
    ties: Ties = Ties.INDEX,
) -> Evaluation:
    """Ask an index all queries of a captioned set.

    A query is taken as it stands: its signs and numbers are words, not the query language.

    Args:
        index: Holds the set's pictures, and perhaps others.
        captions: The set.
        settings: How queries are answered.
        depth: How many hits of each are looked at.
        progress: Receives how many queries of how many are answered.
        ties: How hits with the same score are ordered.

    Raises:
        UnknownIndexError: Nothing was ever indexed into it.
        SourceError: The set cannot be read, or none of its pictures was found.
        MissingExtraError: A library for metrics is not installed.
    """
    options = settings or SearchSettings()
    judgments = read_qrels(captions.path, captions.query_column, captions.template, captions.split)
    relevance = HitMatcher(judgments, captions.path.parent)
    mode = None if options.mode is None else Mode(options.mode)
    requests = [
        SearchRequest(
            Query((Term(judgment.query),), options.filters, mode, options.blend, options.prompts),
            depth,
            explain=False,
        )
        for judgment in judgments
    ]
    ranked: list[list[str]] = []
    for result in index.iter_search(requests):
        names = relevance.match_all([hit.path for hit in result.hits])
        if ties is Ties.TREC_EVAL:
            names = order_ties_as_trec_eval(names, [hit.score for hit in result.hits])
        ranked.append(names)
        progress(len(ranked), len(requests))
    relevant_names = {name for judgment in judgments for name in judgment.relevant}
    if not any(name in relevant_names for ranking in ranked for name in ranking):
        raise SourceError(
            f"None of the pictures that {captions.path} names is in index {index.name!r}.",
            "Index the folder that holds them, or look at how the file writes their paths.",
        )
    return evaluate(ranked, [judgment.relevant for judgment in judgments], depth, ties)
