"""Figures of notebook 03: traces of searches, the best so far, chosen masks trained again."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bogp.plotting import COLOURS, METHODS, best_curves, ends, legend
from bogp.search.loop import best_so_far
from bogp.statistics import group_intervals


def search_trace(history: pd.DataFrame, method: str = "bogp", searches: int = 5) -> Figure:
    """Each evaluation of the first searches of one method, and the best so far; one panel a
    search.
    """
    mine = history[history["method"] == method].assign(best=best_so_far(history))
    seeds = sorted(mine["search_seed"].unique())[:searches]
    figure, axes = plt.subplots(
        1, len(seeds), figsize=(max(2.1 * len(seeds), 4), 2.8), sharey=True, squeeze=False
    )
    for ax, seed in zip(axes[0], seeds, strict=True):
        one = mine[mine["search_seed"] == seed]
        ax.step(
            one["evaluation"] + 1, one["best"], where="post", color="#000000", label="best so far"
        )
        again = {"mfc": "none", "mec": "#D55E00", "ms": 8}
        for rows, label, look in (
            (one["phase"] == "initial", "initial point", {"color": "#E69F00"}),
            (one["phase"] == "surrogate", "proposed by the surrogate", {"color": "#0072B2"}),
            (one["visit"] > 0, "a mask seen before, retrained", again),
        ):
            x, y = one["evaluation"][rows] + 1, one["objective"][rows]
            ax.plot(x, y, "o", label=label, **look)
        ax.set(title=f"search seed {seed}", xlabel="evaluation")
    axes[0, 0].set_ylabel("validation accuracy")
    return legend(figure, axes[0], 4)


def best_against_random(history: pd.DataFrame) -> Figure:
    """Best validation accuracy so far, mean over search seeds with its 95 % t interval, for each
    method.
    """
    table = history.assign(best=best_so_far(history))
    look = {m: (METHODS[m], COLOURS[m], "") for m in sorted(history["method"].unique())}
    return best_curves(table, look, (5.6, 3.4), "validation accuracy")


def apparent_against_fresh(chosen: pd.DataFrame) -> Figure:
    """Accuracy of the chosen masks where they were chosen, and retrained with fresh seeds; a dot a
    search, mean with 95 % t interval.

    Args:
        chosen: one row a search, with ``method``, ``apparent``, ``fresh_validation`` and
            ``fresh_test``.
    """
    figure, ax = plt.subplots(figsize=(6.2, 3.4))
    stages = {
        "apparent": "validation, as chosen",
        "fresh_validation": "validation,\nfresh seeds",
        "fresh_test": "test,\nfresh seeds",
    }
    for i, (method, one) in enumerate(chosen.groupby("method")):
        x, colour = np.arange(len(stages)) + 0.15 * (2 * i - 1), COLOURS[method]
        ax.plot(x - 0.06, one[list(stages)].T, "o", color=colour, alpha=0.4, ms=3.5)
        means = group_intervals(one, ["method"], list(stages))
        ax.errorbar(
            x,
            means["mean"],
            yerr=ends(means),
            fmt="D",
            color=colour,
            capsize=3,
            label=METHODS[method],
        )
    ax.set_xticks(range(len(stages)), list(stages.values()))
    ax.set(
        ylabel="accuracy", title="chosen masks; dot: one search, diamond: mean with 95 % t interval"
    )
    ax.legend()
    return figure


def fixed_sparsity(table: pd.DataFrame, paper: dict[float, float]) -> Figure:
    """Test accuracy of the chosen masks against sparsity, retrained with fresh seeds, one panel a
    protocol, beside the paper's numbers.

    Args:
        table: from ``claims.fixed_sparsity_table``.
        paper: the paper's accuracy at each sparsity.
    """
    fresh = table[(table["measure"] == "fresh_test") & table["method"].isin(["bogp", "random"])]
    groups = fresh.groupby("protocol")
    figure, axes = plt.subplots(
        1, len(groups), figsize=(4.6 * len(groups) + 0.6, 3.6), squeeze=False
    )
    for ax, (protocol, both) in zip(axes[0], groups, strict=True):
        for method, one in both.groupby("method"):
            ax.errorbar(
                one["target_sparsity"] + {"bogp": -0.006, "random": 0.006}[method],
                one["mean"],
                yerr=ends(one),
                fmt="o",
                color=COLOURS[method],
                capsize=3,
                label=f"{METHODS[method]}, test, fresh seeds",
            )
        ax.plot(
            list(paper),
            list(paper.values()),
            "x",
            color=COLOURS["paper"],
            ms=6,
            label="paper, BoGP (Table 1)",
        )
        ax.set(
            xlabel="sparsity of the hidden mask (share of zeros)",
            title=f"protocol {protocol}; bars: 95 % t interval over searches",
        )
    axes[0, 0].set_ylabel("accuracy")
    return legend(figure, axes[0])
