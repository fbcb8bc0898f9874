"""Figures of notebook 03: traces of searches, the best so far, chosen masks trained again."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bogp.plotting import COLOURS, METHODS, band
from bogp.search.loop import best_so_far
from bogp.statistics import mean_interval


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
        styles = {
            "initial": ("o", "#E69F00", "initial point"),
            "surrogate": ("o", "#0072B2", "proposed by the surrogate"),
        }
        for phase, (marker, colour, label) in styles.items():
            some = one[one["phase"] == phase]
            ax.plot(some["evaluation"] + 1, some["objective"], marker, color=colour, label=label)
        again = one[one["visit"] > 0]
        ax.plot(
            again["evaluation"] + 1,
            again["objective"],
            "o",
            mfc="none",
            mec="#D55E00",
            ms=8,
            label="a mask seen before, retrained",
        )
        ax.set(title=f"search seed {seed}", xlabel="evaluation")
    axes[0, 0].set_ylabel("validation accuracy")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def best_against_random(history: pd.DataFrame) -> Figure:
    """Best validation accuracy so far, mean over search seeds with its 95 % t interval, for each
    method.
    """
    figure, ax = plt.subplots(figsize=(5.6, 3.4))
    table = history.assign(best=best_so_far(history))
    for method, one in table.groupby("method"):
        curve = [mean_interval(group["best"]) for _, group in one.groupby("evaluation")]
        label = f"{METHODS[method]} (n = {curve[0].n} searches)"
        band(ax, np.arange(1, len(curve) + 1), curve, COLOURS[method], label=label)
    ax.set(xlabel="evaluations (networks trained)", ylabel="best validation accuracy so far")
    ax.set_title("mean over searches; band: 95 % t interval")
    ax.legend(loc="lower right")
    return figure


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
    offsets = {
        method: 0.15 * (2 * i - 1) for i, method in enumerate(sorted(chosen["method"].unique()))
    }
    for method, one in chosen.groupby("method"):
        for at, stage in enumerate(stages):
            interval, x = mean_interval(one[stage]), at + offsets[method]
            ax.plot(
                np.full(len(one), x - 0.06),
                one[stage],
                "o",
                color=COLOURS[method],
                alpha=0.4,
                ms=3.5,
            )
            ax.errorbar(
                x,
                interval.mean,
                yerr=[[interval.mean - interval.low], [interval.high - interval.mean]],
                fmt="D",
                color=COLOURS[method],
                capsize=3,
                label=METHODS[method] if at == 0 else None,
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
    protocols = sorted(fresh["protocol"].unique())
    figure, axes = plt.subplots(
        1, len(protocols), figsize=(4.6 * len(protocols) + 0.6, 3.6), squeeze=False
    )
    for ax, protocol in zip(axes[0], protocols, strict=True):
        for method, one in fresh[fresh["protocol"] == protocol].groupby("method"):
            x = one["target_sparsity"] + {"bogp": -0.006, "random": 0.006}[method]
            error = np.stack([one["mean"] - one["low"], one["high"] - one["mean"]])
            ax.errorbar(
                x,
                one["mean"],
                yerr=error,
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
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure
