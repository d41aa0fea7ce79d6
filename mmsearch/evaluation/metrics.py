"""Metrics of rankings with bootstrap intervals, and the comparison of two rankings.

ir-measures (https://ir-measur.es) computes the per-query values, SciPy the intervals and tests.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.errors import MissingExtraError, UsageError

CUTOFFS = (1, 5, 10)
METRICS = (
    *(f"Success@{k}" for k in CUTOFFS),
    *(f"Recall@{k}" for k in CUTOFFS),
    "MRR",
    "nDCG@10",
    "median rank",
)
PLACE_METRICS = (*(f"Place@{k}" for k in CUTOFFS), "Place MRR")
RESAMPLES = 2000
PERMUTATIONS = 9999
WITHIN_S = 5.0
"""Seconds by which the start of a hit may differ from a moment that a query names, by default."""

SEED = 0


class Ties(StrEnum):
    """Order of hits with the same score in an evaluated ranking."""

    INDEX = "index"
    TREC_EVAL = "trec_eval"

    @property
    def description(self) -> str:
        """The order in words, for reports."""
        if self is Ties.INDEX:
            return "ties as the index orders them, by id"
        return "ties as trec_eval orders them, by name, descending"


@dataclass(frozen=True)
class Estimate:
    """A metric over all queries and its 95% percentile bootstrap interval over queries."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Evaluation:
    """Metrics of the rankings of a set of queries.

    Attributes:
        queries: Number of queries.
        depth: Number of hits of each query that were evaluated.
        metrics: Estimates by name, see `METRICS`. Success@k is the share of queries with a relevant
            picture in the top k; the literature on COCO and Flickr30k calls it recall. Recall@k is
            the share of a query's relevant pictures that are in the top k. Both are equal if each
            query has one relevant picture. The median rank is the median over queries of the rank
            of the first relevant picture, which is depth + 1 if none was found. `PLACE_METRICS`
            are among them if a query names a place: Place@k is the share of these queries with a
            relevant picture at its right second or page in the top k, Place MRR the mean reciprocal
            rank of the first one.
        per_query: Values of each query by metric, float64 (queries,); for "median rank", the ranks;
            for `PLACE_METRICS`, float64 (placed_queries,).
        ties: Order of hits with the same score.
        placed_queries: Number of queries that name a moment or a page.
        within_s: Seconds by which the start of a hit may differ from a moment that a query names.
    """

    queries: int
    depth: int
    metrics: Mapping[str, Estimate]
    per_query: Mapping[str, NDArray[np.float64]]
    ties: Ties = Ties.INDEX
    placed_queries: int = 0
    within_s: float = WITHIN_S

    def success_at(self, k: int) -> float:
        """Return the share of queries with a relevant picture in the top k."""
        return float((self.per_query["median rank"] <= k).mean())


@dataclass(frozen=True)
class Comparison:
    """Paired comparison of two rankings by one metric.

    Attributes:
        difference: Second minus first, with its 95% interval over queries.
        p_value: P-value of a paired permutation test of no difference.
    """

    difference: Estimate
    p_value: float


def order_ties_as_trec_eval(names: Sequence[str], scores: Sequence[float]) -> list[int]:
    """Return the rows of hits by descending score; equal scores are ordered by name, descending.

    trec_eval keeps scores as float32 and compares names byte by byte.

    Args:
        names: Names of hits.
        scores: Scores of the same hits.
    """
    rounded = np.asarray(scores, dtype=np.float32).tolist()
    keys = list(zip(rounded, map(os.fsencode, names), strict=True))
    return sorted(range(len(keys)), key=keys.__getitem__, reverse=True)


def evaluate(
    ranked: Sequence[Sequence[str]],
    relevant: Sequence[Set[str]],
    depth: int,
    ties: Ties = Ties.INDEX,
    placed: Sequence[Sequence[bool] | None] | None = None,
    within_s: float = WITHIN_S,
) -> Evaluation:
    """Evaluate rankings.

    Args:
        ranked: Names of the hits of each query, best first; only the first ``depth`` count.
        relevant: Names of the relevant pictures of each query, at least one.
        depth: See `Evaluation`.
        ties: Order of hits with the same score in the rankings; only recorded.
        placed: For each query, which hits are relevant pictures at the right place; None for a
            query that names no place, or for all of them.
        within_s: See `Evaluation`; only recorded.

    Raises:
        UsageError: There are no queries, or ``ranked`` and ``relevant`` differ in length.
        MissingExtraError: ir-measures or SciPy is not installed.
    """
    if not ranked or len(ranked) != len(relevant):
        raise UsageError("There are no queries to evaluate.")
    per_query = _compute_per_query([list(names)[:depth] for names in ranked], relevant)
    per_query["median rank"] = np.array(
        [
            next(
                (
                    rank
                    for rank, name in enumerate(names[:depth], start=1)
                    if name in relevant_names
                ),
                depth + 1,
            )
            for names, relevant_names in zip(ranked, relevant, strict=True)
        ],
        dtype=np.float64,
    )
    marks = [list(hits)[:depth] for hits in placed or () if hits is not None]
    if marks:
        ranks = np.array([hits.index(True) + 1 if True in hits else np.inf for hits in marks])
        per_query |= {f"Place@{k}": (ranks <= k).astype(np.float64) for k in CUTOFFS}
        per_query["Place MRR"] = 1.0 / ranks
    metrics = {
        name: _estimate(per_query[name], np.median if name == "median rank" else np.mean)
        for name in (*METRICS, *PLACE_METRICS)
        if name in per_query
    }
    return Evaluation(len(ranked), depth, metrics, per_query, ties, len(marks), within_s)


def compare(first: Evaluation, second: Evaluation) -> dict[str, Comparison]:
    """Compare the second evaluation with the first, for every metric except the median rank.

    Raises:
        UsageError: The evaluations have different numbers of queries.
        MissingExtraError: SciPy is not installed.
    """
    if first.queries != second.queries:
        raise UsageError(
            f"Rankings of {first.queries} and of {second.queries} queries cannot be paired."
        )
    stats = _scipy_stats()
    comparisons = {}
    for name in (*METRICS[:-1], *PLACE_METRICS):
        if name not in first.per_query or name not in second.per_query:
            continue
        before, after = first.per_query[name], second.per_query[name]
        p_value = 1.0
        if (before != after).any():
            test = stats.permutation_test(
                (after, before),
                lambda a, b, axis: (a - b).mean(axis=axis),
                permutation_type="samples",
                vectorized=True,
                n_resamples=PERMUTATIONS,
                random_state=np.random.default_rng(SEED),
            )
            p_value = float(test.pvalue)
        comparisons[name] = Comparison(_estimate(after - before, np.mean), p_value)
    return comparisons


def _compute_per_query(
    ranked: Sequence[Sequence[str]], relevant: Sequence[Set[str]]
) -> dict[str, NDArray[np.float64]]:
    try:
        import ir_measures  # noqa: PLC0415 - only evaluation needs it
        from ir_measures import RR, R, Success, nDCG  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise _missing_extra(error) from error
    measures = {
        **{Success @ k: f"Success@{k}" for k in CUTOFFS},
        **{R @ k: f"Recall@{k}" for k in CUTOFFS},
        RR: "MRR",
        nDCG @ 10: "nDCG@10",
    }
    # trec_eval breaks ties by name, so each rank gets its own score to keep the given order. It
    # treats names as C strings, so pictures are numbered.
    doc_ids: dict[str, str] = {}
    qrels = {
        str(q): {doc_ids.setdefault(name, str(len(doc_ids))): 1 for name in names}
        for q, names in enumerate(relevant)
    }
    run = {
        str(q): {
            doc_ids.setdefault(name, str(len(doc_ids))): float(len(names) - position)
            for position, name in enumerate(dict.fromkeys(names))
        }
        for q, names in enumerate(ranked)
    }
    values = {name: np.zeros(len(ranked)) for name in measures.values()}
    for metric in ir_measures.iter_calc(list(measures), qrels, run):
        values[measures[metric.measure]][int(metric.query_id)] = metric.value
    return values


def _estimate(values: NDArray[np.float64], statistic: Callable[..., Any]) -> Estimate:
    value = float(statistic(values))
    if len(values) < 2 or (values == values[0]).all():
        return Estimate(value, value, value)
    interval = (
        _scipy_stats()
        .bootstrap(
            (values,),
            statistic,
            n_resamples=RESAMPLES,
            method="percentile",
            random_state=np.random.default_rng(SEED),
            batch=200,
        )
        .confidence_interval
    )
    return Estimate(value, float(interval.low), float(interval.high))


def _scipy_stats() -> Any:
    try:
        from scipy import stats  # noqa: PLC0415 - only evaluation needs it
    except ModuleNotFoundError as error:
        raise _missing_extra(error) from error
    return stats


def _missing_extra(error: ModuleNotFoundError) -> MissingExtraError:
    return MissingExtraError.for_extra("Evaluating rankings", error.name, "eval")
