"""Plots of evaluations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mmsearch.core.errors import MissingExtraError
from mmsearch.evaluation.metrics import METRICS, Evaluation

# The palette of Okabe and Ito, which is safe for colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def plot(evaluations: Mapping[str, Evaluation], path: Path, title: str) -> None:
    """Write a PNG: metrics with their intervals, and Success@k over k.

    Args:
        evaluations: Evaluations by name, all of the same queries.
        path: The PNG file.
        title: Title of the figure; the number of queries is added.

    Raises:
        MissingExtraError: Matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415
        from matplotlib.ticker import NullFormatter, StrMethodFormatter  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_extra("A plot", "matplotlib", "eval") from error
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    names = METRICS[:-1]
    for row, (label, evaluation) in enumerate(evaluations.items()):
        colour = COLOURS[row % len(COLOURS)]
        shift = (row - (len(evaluations) - 1) / 2) * 0.16
        values = np.array([evaluation.metrics[name].value for name in names])
        low = values - [evaluation.metrics[name].low for name in names]
        high = [evaluation.metrics[name].high for name in names] - values
        left.errorbar(
            np.arange(len(names)) + shift,
            values,
            yerr=[np.maximum(low, 0), np.maximum(high, 0)],
            fmt="o",
            color=colour,
            capsize=3,
            label=label,
        )
        ks = np.unique(np.geomspace(1, max(evaluation.depth, 2), 40).astype(int))
        right.plot(ks, [evaluation.success_at(int(k)) for k in ks], color=colour, label=label)
    left.set_xticks(range(len(names)), names)
    left.set_ylabel("value, with 95% interval")
    right.set_xscale("log")
    right.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    right.xaxis.set_minor_formatter(NullFormatter())
    right.set_xlabel("k, number of hits")
    right.set_ylabel("Success@k")
    for axes in (left, right):
        axes.set_ylim(0, 1)
        axes.grid(axis="y", color="#dddddd")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    # Below both plots, where it cannot hide a point.
    handles, labels = left.get_legend_handles_labels()
    columns = min(len(labels), 3)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    queries = next(iter(evaluations.values())).queries
    figure.suptitle(f"{title} ({queries:,} queries)")
    figure.savefig(path, dpi=150, format="png")
