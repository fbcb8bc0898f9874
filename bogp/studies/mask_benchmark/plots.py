"""Notebook 17 in figures: what families reach, and what methods find."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bogp.plotting import legend, names, panels, styles, titled
from bogp.studies.mask_benchmark.measure import RANDOM


def families(by_family: pd.DataFrame) -> Figure:
    """Test accuracy of each family against sparsity, a panel a data set.

    Args:
        by_family: from ``measure.by_family``.
    """
    shown = names(by_family["dataset"])
    look = styles(list(by_family["family"].unique()))
    levels = sorted(by_family["sparsity"].unique())
    figure, axes = panels(len(shown), 4.2, 3.4)
    for ax, dataset in zip(axes, shown, strict=True):
        own = by_family[by_family["dataset"] == dataset]
        for k, (family, (label, colour, marker)) in enumerate(look.items()):
            one = own[own["family"] == family].sort_values("sparsity")
            at = np.array([levels.index(s) for s in one["sparsity"]]) + (k - len(look) / 2) * 0.07
            ax.errorbar(
                at,
                100 * one["mean"],
                100 * one["std"],
                fmt=marker,
                color=colour,
                ms=4,
                capsize=1.5,
                elinewidth=0.8,
                label=label.replace("_", " "),
            )
        ax.set_xticks(range(len(levels)), [f"{s:g}" for s in levels])
        ax.set(title=dataset, xlabel="sparsity", ylabel="test accuracy (%)")
    titled(figure, "mean of a family's masks; bars: standard deviation between masks")
    return legend(figure, axes, columns=4)


def curves(traces: pd.DataFrame, known: pd.DataFrame) -> Figure:
    """Test accuracy of the mask chosen so far over a mask at random, against the number observed,
    mean over searches; a panel a task.

    Args:
        traces: from ``measure.searched``.
        known: from ``measure.ceilings``.
    """
    tasks = list(known[["dataset", "sparsity"]].sort_values(["dataset", "sparsity"]).values)
    look = styles(list(traces["arm"].unique()))
    figure, axes = panels(len(tasks), 2.7, 2.3)
    limits = known.set_index(["dataset", "sparsity"])
    for ax, (dataset, sparsity) in zip(axes, tasks, strict=True):
        own = traces[(traces["dataset"] == dataset) & (traces["sparsity"] == sparsity)]
        base = limits.loc[(dataset, sparsity), "mean"]
        for arm, (label, colour, _) in look.items():
            curve = own[own["arm"] == arm].groupby("trial")["judged"].mean()
            line = "--" if arm == RANDOM else "-"
            ax.plot(curve.index, 100 * (curve - base), line, color=colour, label=label, lw=1.3)
        oracle = limits.loc[(dataset, sparsity), "oracle"]
        ax.axhline(100 * (oracle - base), color="black", lw=0.8, ls=":", label="all observed")
        ax.set(title=f"{dataset}, s = {sparsity:g}", xlabel="masks observed")
    for ax in axes[::4]:
        ax.set_ylabel("above a mask at random\n(points of accuracy)")
    return legend(figure, axes, columns=2)
