"""The plots of Algorithm 4: the front of everything evaluated, Table 2 as a figure, and the
reference curve.
"""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bogp.plotting import COLOURS, METHODS, ends, legend
from bogp.studies.printed import PAPER_BOGP, PAPER_TABLE_2
from bogp.studies.tradeoff.measure import FORMS

_FORM_MARKERS = {"sum": "o", "interpolated": "s"}
_SPARSITY = "sparsity of the mask (share of zeros)"


def front(
    points: pd.DataFrame, curve: pd.DataFrame, hull: pd.DataFrame, chosen: pd.DataFrame
) -> Figure:
    """Everything evaluated, sparsity against accuracy: beside the paper's points, and again closer.

    Args:
        points: from ``tradeoff.evaluated``: one dot a mask.
        curve: from ``tradeoff.binned``: means over bins.
        hull: the corners of the concave hull of the front, ``sparsity`` and ``accuracy``.
        chosen: from ``tradeoff.chosen_masks``: the masks of BoGP are drawn where fresh seeds put
            them, as means over searches (``table_2`` has the intervals).
    """
    figure, (whole, close) = plt.subplots(1, 2, figsize=(10.5, 4.4))
    alphas = sorted(chosen["alpha"].unique())
    colours = dict(
        zip(alphas, plt.get_cmap("viridis")(np.linspace(0, 1, len(alphas) + 2)[1:-1]), strict=True)
    )
    best = points[points["on_front"]].sort_values("sparsity")
    for ax in (whole, close):
        ax.plot(
            points["sparsity"],
            points["accuracy"],
            "o",
            color="#B0B0B0",
            ms=2.5,
            label="a mask: mean validation accuracy",
        )
        ax.step(
            best["sparsity"],
            best["accuracy"],
            where="pre",
            color="#000000",
            lw=1,
            label="Pareto front (best of many: too good)",
        )
        ax.plot(hull["sparsity"], hull["accuracy"], "--", color="#56B4E9", label="its concave hull")
        ax.plot(
            curve["sparsity"],
            curve["accuracy"],
            "-D",
            color="#CC79A7",
            ms=3.5,
            label="mean over a bin of masks",
        )
        ax.set(xlabel=_SPARSITY, ylabel="accuracy")
    for (alpha, form), one in chosen[chosen["method"] == "bogp"].groupby(["alpha", "form"]):
        close.plot(
            one["sparsity"].mean(),
            one["fresh_validation"].mean(),
            marker=_FORM_MARKERS[form],
            ls="",
            mfc="none",
            mec=colours[alpha],
            # one inside the other where alphas agree
            ms=5 + 1.2 * (len(alphas) - 1 - alphas.index(alpha)),
            mew=1.4,
            label=f"chosen, alpha {alpha:g}, {form}",
        )
    _paper(whole)
    whole.set(title="beside the numbers that the paper prints", ylim=(0, 1.02))
    close.set(title="closer; chosen masks: fresh seeds, mean over searches")
    return legend(figure, (whole, close), 4)


def table_2(table: pd.DataFrame) -> Figure:
    """Accuracy (test, fresh seeds) and sparsity of the chosen masks against alpha, mean with 95 % t
    interval over searches; one column a form.

    Args:
        table: from ``tradeoff.table_2``. With one search there are no intervals.
    """
    figure, axes = plt.subplots(2, len(FORMS), figsize=(8.4, 5.4), sharex=True, sharey="row")
    accuracies, sparsities = zip(*PAPER_TABLE_2.values(), strict=True)
    rows = (
        ("fresh_test", "accuracy\n(test, fresh seeds)", accuracies),
        ("sparsity", _SPARSITY.replace(" (", "\n("), sparsities),
    )
    cells = table.set_index(["form", "measure", "method"]).sort_index(kind="stable")
    for column, form in zip(axes.T, FORMS, strict=True):
        for ax, (measure, label, printed) in zip(column, rows, strict=True):
            for method, shift in (("bogp", -0.012), ("random", 0.012)):
                one = cells.loc[[(form, measure, method)]]
                ax.errorbar(
                    one["alpha"] + shift,
                    one["mean"],
                    yerr=np.nan_to_num(ends(one)),
                    fmt="o",
                    color=COLOURS[method],
                    capsize=3,
                    label=METHODS[method],
                )
            style = {"color": "#000000", "ms": 6, "zorder": 5, "label": "paper, Table 2"}
            ax.plot(list(PAPER_TABLE_2), printed, "x", **style)
            ax.set(ylabel=label if ax in axes[:, 0] else "", ylim=(0, max(1.05, ax.get_ylim()[1])))
        column[0].set_title(f"objective: {form}")
        column[1].set_xlabel("alpha")
    return legend(figure, axes.flat, 3, "bars: 95 % t interval over searches")


def reference(table: pd.DataFrame) -> Figure:
    """Accuracy of the reference masks against sparsity, a line a protocol, beside the paper's two
    tables; each dot is one training.

    Args:
        table: from ``tradeoff.reference_curve``.
    """
    figure, ax = plt.subplots(figsize=(6.4, 4.2))
    for (protocol, one), colour in zip(
        table.groupby("protocol", sort=False),
        ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9"],
        strict=False,
    ):
        accuracy = one.set_index("sparsity")["validation_accuracy"].sort_index()
        ax.plot(accuracy, "-o", color=colour, lw=1, label=f"protocol {protocol}")
    _paper(ax)
    ax.axhline(0.1, color="#808080", ls=":", lw=1, label="guessing")
    ax.set(
        xlabel=_SPARSITY, ylabel="accuracy (the split that masks are selected on)", ylim=(0, 1.02)
    )
    return legend(figure, [ax], 3)


def _paper(ax: Axes) -> None:
    ax.plot(
        list(PAPER_BOGP),
        list(PAPER_BOGP.values()),
        "+",
        color="#000000",
        ms=7,
        mew=1.4,
        label="paper, Table 1 (BoGP)",
    )
    accuracy, sparsity = zip(*PAPER_TABLE_2.values(), strict=True)
    ax.plot(
        sparsity,
        accuracy,
        "x",
        color="#D55E00",
        ms=6,
        mew=1.4,
        label="paper, Table 2, with its alpha",
    )
    steps = np.abs(np.diff([(0.0, 0.0), *PAPER_TABLE_2.values()], axis=0)).max(axis=1)
    for (alpha, (a, s)), step in zip(PAPER_TABLE_2.items(), steps, strict=True):
        taken = step < 0.05  # by the label before: this one goes right
        ax.annotate(
            f"{alpha:g}",
            (s, a),
            (5 if taken else -5, 0),
            textcoords="offset points",
            ha="left" if taken else "right",
            va="center",
            fontsize=7,
            color="#D55E00",
        )
