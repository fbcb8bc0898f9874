"""Plots of notebook 07: a mask on the layers of a network, and searches for one."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import nn

from bogp.plotting import best_curves, matrix, panels, styles
from bogp.search.loop import best_so_far
from bogp.statistics import mean_interval


def layers(model: nn.Module) -> Figure:
    """The masks on the pruned layers of a network, black where a weight is kept.

    The kernel of a convolution is one point.
    """
    masks = {name: mask for name, mask in model.named_buffers() if name.endswith("weight_mask")}
    figure, axes = plt.subplots(1, len(masks), figsize=(4.4 * len(masks), 3.6), squeeze=False)
    for ax, (name, mask) in zip(axes[0], masks.items(), strict=True):
        flat = mask.flatten(2).amax(2) if mask.dim() > 2 else mask
        matrix(ax, flat, name.removesuffix(".weight_mask"), aspect="auto")
    return figure


def searches(history: pd.DataFrame, score: str) -> Figure:
    """Best score so far of each method, mean over its searches with 95 % t interval.

    Args:
        history: from ``your_network.search``.
        score: what was searched for, for the axis.
    """
    table = history.assign(best=best_so_far(history))
    return best_curves(table, styles(history["method"].unique()), (5.8, 3.6), score)


def fresh(table: pd.DataFrame, labels: Mapping[str, str], score: str) -> Figure:
    """Scores with fresh seeds, a dot a search, and each method's mean with 95 % t interval.

    Args:
        table: columns ``method``, ``search_seed``, ``fresh``.
        labels: of the methods, from top to bottom.
        score: what was measured, for the axis.
    """
    figure, (ax,) = panels(1, 6.2, 0.42 * len(labels) + 1.0)
    for at, (method, (label, colour, marker)) in enumerate(styles(labels).items()):
        scores = table.loc[table["method"] == method, "fresh"]
        found = mean_interval(scores)
        ax.plot(scores, np.full(len(scores), at + 0.2), "o", color=colour, ms=3.5, alpha=0.5)
        ax.plot([found.low, found.high], [at, at], color=colour, linewidth=1.2)
        ax.plot(found.mean, at, marker, color=colour, label=label)
    ax.set_yticks(range(len(labels)), list(labels.values()))
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.set(xlabel=score, title="dot: one search; mean with 95 % t interval over searches")
    return figure
