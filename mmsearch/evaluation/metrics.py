"""Metrics of rankings, with bootstrap intervals, and the comparison of two rankings.

Per-query values come from ir-measures (https://ir-measur.es); intervals and tests from SciPy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.errors import MissingExtraError, UsageError

RECALL_AT = (1, 5, 10)
METRICS = (*(f"Recall@{k}" for k in RECALL_AT), "MRR", "nDCG@10", "median rank")
RESAMPLES = 2000
PERMUTATIONS = 9999
SEED = 0


@dataclass(frozen=True)
class Estimate:
    """A metric over all queries and its 95% percentile bootstrap interval over queries."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Evaluation:
    """How good the rankings of a set of queries are.

    Attributes:
        queries: How many.
        depth: How many hits of each were looked at.
        metrics: By name, see `METRICS`. Recall@k is the share of queries with a relevant picture
            among the first k, as the literature on COCO and Flickr30k has it (ir-measures calls it
            Success@k). The median rank is that of the first relevant picture; depth + 1 if none
            was found.
        per_query: float64 (queries,) by metric; "median rank" holds ranks.
    """

    queries: int
    depth: int
    metrics: Mapping[str, Estimate]
    per_query: Mapping[str, NDArray[np.float64]]

    def recall_at(self, k: int) -> float:
        """The share of queries with a relevant picture among the first k."""
        return float((self.per_query["median rank"] <= k).mean())


@dataclass(frozen=True)
class Comparison:
    """The second ranking against the first, query by query.

    Attributes:
        difference: Second minus first, with its 95% interval over queries.
        p_value: Of a paired permutation test that there is no difference.
    """

    difference: Estimate
    p_value: float


def evaluate(
    ranked: Sequence[Sequence[str]], relevant: Sequence[Set[str]], depth: int
) -> Evaluation:
    """Rate rankings.

    Args:
        ranked: For each query, the names of hits, best first; only ``depth`` of them count.
        relevant: For each query, the names of its relevant pictures; at least one.
        depth: See `Evaluation`.

    Raises:
        UsageError: There is no query.
        MissingExtraError: ir-measures or SciPy is not installed.
    """
    if not ranked or len(ranked) != len(relevant):
        raise UsageError("There are no queries to rate.")
    per_query = _per_query([list(own)[:depth] for own in ranked], relevant)
    per_query["median rank"] = np.array(
        [
            next((at for at, name in enumerate(own[:depth], start=1) if name in wanted), depth + 1)
            for own, wanted in zip(ranked, relevant, strict=True)
        ],
        dtype=np.float64,
    )
    metrics = {
        name: _estimate(per_query[name], np.median if name == "median rank" else np.mean)
        for name in METRICS
    }
    return Evaluation(len(ranked), depth, metrics, per_query)


def compare(first: Evaluation, second: Evaluation) -> dict[str, Comparison]:
    """The second against the first, for every metric but the median rank.

    Raises:
        UsageError: They rate different numbers of queries.
    """
    if first.queries != second.queries:
        raise UsageError(
            f"Rankings of {first.queries} and of {second.queries} queries cannot be paired."
        )
    stats = _scipy_stats()
    compared = {}
    for name in METRICS[:-1]:
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
        compared[name] = Comparison(_estimate(after - before, np.mean), p_value)
    return compared


def _per_query(
    ranked: Sequence[Sequence[str]], relevant: Sequence[Set[str]]
) -> dict[str, NDArray[np.float64]]:
    try:
        import ir_measures  # noqa: PLC0415 - only evaluation needs it
        from ir_measures import RR, Success, nDCG  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    wanted = {
        **{Success @ k: f"Recall@{k}" for k in RECALL_AT},
        RR: "MRR",
        nDCG @ 10: "nDCG@10",
    }
    # trec_eval takes names for C strings, and breaks ties in its own way: pictures are numbered,
    # and every place has its own score.
    numbers: dict[str, str] = {}
    qrels = {
        str(q): {numbers.setdefault(name, str(len(numbers))): 1 for name in own}
        for q, own in enumerate(relevant)
    }
    run = {
        str(q): {
            numbers.setdefault(name, str(len(numbers))): float(len(own) - at)
            for at, name in enumerate(dict.fromkeys(own))
        }
        for q, own in enumerate(ranked)
    }
    values = {name: np.zeros(len(ranked)) for name in wanted.values()}
    for metric in ir_measures.iter_calc(list(wanted), qrels, run):
        values[wanted[metric.measure]][int(metric.query_id)] = metric.value
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
        raise _missing(error) from error
    return stats


def _missing(error: ModuleNotFoundError) -> MissingExtraError:
    return MissingExtraError(
        f"Rating rankings needs the Python package {error.name!r}, which is not installed.",
        "Install it with: pip install 'mmsearch[eval]'",
    )
