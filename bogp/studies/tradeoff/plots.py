"""The plots of Algorithm 4: the front of everything evaluated, Table 2 as a figure, and the
reference curve.
"""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bogp.plotting import COLOURS, METHODS
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
    for ax in (whole, close):
        ax.plot(
            points["sparsity"],
            points["accuracy"],
            "o",
            color="#B0B0B0",
            ms=2.5,
            label="a mask: mean validation accuracy",
        )
        best = points[points["on_front"]].sort_values("sparsity")
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
        # one inside the other where alphas agree
        size = 5 + 1.2 * (len(alphas) - 1 - alphas.index(alpha))
        style = {
            "marker": _FORM_MARKERS[form],
            "ls": "",
            "mfc": "none",
            "mec": colours[alpha],
            "ms": size,
            "mew": 1.4,
        }
        label = f"chosen, alpha {alpha:g}, {form}"
        close.plot(one["sparsity"].mean(), one["fresh_validation"].mean(), label=label, **style)
    _paper(whole)
    whole.set(title="beside the numbers that the paper prints", ylim=(0, 1.02))
    close.set(title="closer; chosen masks: fresh seeds, mean over searches")
    entries = {
        label: handle
        for ax in (whole, close)
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=4)
    return figure


def table_2(table: pd.DataFrame) -> Figure:
    """Accuracy (test, fresh seeds) and sparsity of the chosen masks against alpha, mean with 95 % t
    interval over searches; one column a form.

    Args:
        table: from ``tradeoff.table_2``. With one search there are no intervals.
    """
    figure, axes = plt.subplots(2, len(FORMS), figsize=(8.4, 5.4), sharex=True, sharey="row")
    for column, form in enumerate(FORMS):
        for row, (measure, label) in enumerate(
            {"fresh_test": "accuracy (test, fresh seeds)", "sparsity": _SPARSITY}.items()
        ):
            ax = axes[row, column]
            for method, shift in (("bogp", -0.012), ("random", 0.012)):
                one = table[
                    (table["form"] == form)
                    & (table["measure"] == measure)
                    & (table["method"] == method)
                ]
                error = [
                    (one["mean"] - one["low"]).fillna(0),
                    (one["high"] - one["mean"]).fillna(0),
                ]
                ax.errorbar(
                    one["alpha"] + shift,
                    one["mean"],
                    yerr=error,
                    fmt="o",
                    color=COLOURS[method],
                    capsize=3,
                    label=METHODS[method],
                )
            at = 0 if measure == "fresh_test" else 1
            printed = [pair[at] for pair in PAPER_TABLE_2.values()]
            style = {"color": "#000000", "ms": 6, "zorder": 5, "label": "paper, Table 2"}
            ax.plot(list(PAPER_TABLE_2), printed, "x", **style)
            ax.set(ylabel=label.replace(" (", "\n(") if column == 0 else "")
            ax.set_ylim(0, max(1.05, ax.get_ylim()[1]))
        axes[0, column].set_title(f"objective: {form}")
        axes[1, column].set_xlabel("alpha")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=3,
        title="bars: 95 % t interval over searches",
    )
    return figure


def reference(table: pd.DataFrame) -> Figure:
    """Accuracy of the reference masks against sparsity, a line a protocol, beside the paper's two
    tables; each dot is one training.

    Args:
        table: from ``tradeoff.reference_curve``.
    """
    figure, ax = plt.subplots(figsize=(6.4, 4.2))
    styles = zip(
        table.groupby("protocol", sort=False),
        ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9"],
        strict=False,
    )
    for (protocol, one), colour in styles:
        one = one.sort_values("sparsity")
        ax.plot(
            one["sparsity"],
            one["validation_accuracy"],
            "-o",
            color=colour,
            lw=1,
            label=f"protocol {protocol}",
        )
    _paper(ax)
    ax.axhline(0.1, color="#808080", ls=":", lw=1, label="guessing")
    ax.set(
        xlabel=_SPARSITY, ylabel="accuracy (the split that masks are selected on)", ylim=(0, 1.02)
    )
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


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
    before = (0.0, 0.0)
    for alpha, (a, s) in PAPER_TABLE_2.items():
        # the label goes right where the left is taken
        side = 1 if max(abs(a - before[0]), abs(s - before[1])) < 0.05 else -1
        ax.annotate(
            f"{alpha:g}",
            (s, a),
            (5 * side, 0),
            textcoords="offset points",
            ha="left" if side > 0 else "right",
            va="center",
            fontsize=7,
            color="#D55E00",
        )
        before = (a, s)
