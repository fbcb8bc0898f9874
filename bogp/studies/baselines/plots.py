"""Plots of notebook 05: what methods remove from each layer, and Table 1."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from bogp.plotting import ends, legend, titled
from bogp.studies.baselines.measure import LIKE, PAPER
from bogp.studies.baselines.tables import LABELS

# Okabe-Ito; a method keeps its colour and marker in every figure
_STYLE = {
    "bogp": ("#0072B2", "o"),
    "random": ("#D55E00", "s"),
    "glob": ("#009E73", "^"),
    "unif": ("#CC79A7", "v"),
    "erk": ("#E69F00", "D"),
    "lamp": ("#56B4E9", "P"),
    "snip": ("#999999", "X"),
    "synflow": ("#7A6A00", "<"),
    "lottery": ("#5D3A9B", ">"),
    "base": ("#000000", "h"),
    "smaller": ("#444444", "*"),
    "one": ("#777777", "p"),
}
_LAYERS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9")
_BAR = {"capsize": 2, "ms": 4.5}
_UNPRUNED = ("base", "one_hidden_layer", "smaller_dense")
_SHUFFLED = ("glob_1", "snip", "synflow")


def layers(table: pd.DataFrame, widths: Sequence[int], emptying: float) -> Figure:
    """Sparsity of each layer against that of the model, before any training; one panel a method,
    mean over seeds.

    Args:
        table: from ``comparison.layer_sparsities``.
        widths: of the network.
        emptying: where global magnitude pruning is expected to empty the first layer; drawn as a
            line in each panel.
    """
    methods = table["method"].unique()
    figure, axes = plt.subplots(
        1, len(methods), figsize=(2.2 * len(methods) + 0.6, 2.9), sharey=True, squeeze=False
    )
    means = table.groupby(["method", "layer", "sparsity"])["layer_sparsity"].mean()
    for ax, method in zip(axes[0], methods, strict=True):
        for layer, (a, b) in enumerate(zip(widths, widths[1:], strict=False)):
            mine, colour = means[method][layer], _LAYERS[layer % len(_LAYERS)]
            ax.plot(mine.index, mine, marker=".", color=colour, label=f"layer {layer} ({a} x {b})")
        ax.axvline(
            emptying,
            color="#555555",
            linewidth=0.8,
            linestyle=":",
            label="Glob_1 is expected to empty layer 0",
        )
        ax.set(
            title=LABELS.get(method, method),
            xlim=(0, 1),
            ylim=(-0.03, 1.03),
            xlabel="sparsity of the model",
        )
    axes[0, 0].set_ylabel("sparsity of the layer (share removed)")
    return legend(figure, axes[0], len(widths))


PANELS = {  # methods of each panel by its title
    PAPER: {
        "BoGP and the paper's baselines": ["bogp", "glob_1", "glob_5", "unif_1", "unif_5"],
        "other methods": ["bogp", "random", "erk", "lamp_1", "lamp", "snip", "synflow", "lottery"],
        "controls": ["bogp", "random_hidden", *_UNPRUNED, *(f"{m}_shuffled" for m in _SHUFFLED)],
    },
    LIKE: {
        "one network": [
            *("bogp_mask", "random_mask", "random", "glob_1", "glob_5"),
            *("snip", "synflow", "lottery", *_UNPRUNED),
        ],
        "the whole budget": ["bogp", "random_search", *(m for m in LABELS if m.endswith("_best"))],
    },
}


def accuracy(table: pd.DataFrame, accounting: str) -> Figure:
    """Test accuracy against sparsity in one accounting, methods spread over panels, with the
    paper's values drawn in.

    Args:
        table: from ``table_1.summary``, of one protocol.
        accounting: ``PAPER`` or ``LIKE``.
    """
    mine = table[(table["accounting"] == accounting) & (table["measure"] == "test")]
    panels = PANELS[accounting]
    figure, axes = plt.subplots(
        1, len(panels), figsize=(4.4 * len(panels) + 0.4, 4.8), squeeze=False
    )
    for ax, (title, methods) in zip(axes[0], panels.items(), strict=True):
        shown = [m for m in methods if m in set(mine["method"])]
        for at, method in enumerate(shown):
            one = mine[mine["method"] == method].sort_values("target_sparsity")
            look = style(method)
            x = one["target_sparsity"] + (at - (len(shown) - 1) / 2) * 0.012
            label = f"{LABELS.get(method, method)} (n = {one['n'].max()})"
            ax.errorbar(x, one["mean"], yerr=ends(one), label=label, **look, **_BAR)
            there = one["paper"].notna()
            ax.plot(x[there], one["paper"][there], "x", color=look["color"], ms=6, mew=1.4)
        if accounting == PAPER:
            ax.plot([], [], "x", color="#555555", label="the paper's number")
        seen = mine.loc[mine["method"].isin(shown), ["mean", "paper"]]
        low, high = seen.min(axis=None), seen.max(axis=None)
        # intervals of very few pairs may reach beyond: the means are what must be told apart
        margin = max(0.15 * (high - low), 0.004)
        ax.set(
            title=title,
            xlabel="sparsity of the pruned layers (share removed)",
            ylim=(low - margin, high + margin),
        )
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), fontsize=7, ncols=2)
    if accounting == LIKE:  # in the paper's, one low number would flatten the other panels
        lows, highs = zip(*(ax.get_ylim() for ax in axes[0]), strict=True)
        plt.setp(axes[0], ylim=(min(lows), max(highs)))
    axes[0, 0].set_ylabel("test accuracy")
    return titled(
        figure,
        f"{accounting}; bars: 95 % t interval over pairs, cut where they leave the range of the "
        f"means{'' if accounting == LIKE else '; axes differ'}",
    )


def gaps(table: pd.DataFrame, accounting: str, methods: Sequence[str]) -> Figure:
    """Difference in test accuracy from BoGP on the same pairs, one panel a sparsity, with 95 % t
    intervals.

    Args:
        table, accounting: as in ``accuracy``.
        methods: to show, from top to bottom.
    """
    mine = table[(table["accounting"] == accounting) & (table["measure"] == "test")].dropna(
        subset="gap"
    )
    shown = [m for m in methods if m in set(mine["method"])]
    sparsities = sorted(mine["target_sparsity"].unique())
    figure, axes = plt.subplots(
        1,
        len(sparsities),
        figsize=(2.0 * len(sparsities) + 2.4, 0.3 * len(shown) + 1.6),
        sharey=True,
        squeeze=False,
    )
    for ax, sparsity in zip(axes[0], sparsities, strict=True):
        one = mine[mine["target_sparsity"] == sparsity].set_index("method").reindex(shown)
        errors = ends(one, "gap", "gap_low", "gap_high")
        for at, method in enumerate(shown):
            ax.errorbar(one["gap"].iloc[at], at, xerr=errors[:, [at]], **style(method), **_BAR)
        ax.axvline(0, color="#000000", linewidth=0.8)
        ax.set_title(f"s = {sparsity:.2f}")
        ax.locator_params(axis="x", nbins=4)
        ax.tick_params(axis="x", labelsize=7)
    axes[0, 0].set_yticks(range(len(shown)), [LABELS.get(m, m) for m in shown])
    axes[0, 0].invert_yaxis()
    figure.supxlabel("test accuracy minus BoGP's, same pairs", fontsize=9)
    return titled(
        figure,
        f"{accounting}; bars: 95 % t interval over pairs, not corrected for their number",
    )


def style(method: str) -> dict[str, str]:
    """Colour, marker and face of a method, for ``Axes.errorbar``: the same colour and marker for
    all its variants, an open face for those beside the plain one.
    """
    colour, marker = _STYLE.get(method.split("_")[0], ("#555555", "."))
    beside = ("lamp", "random_search", "random_mask", "random_hidden")
    open_face = method.endswith("_5") or method in beside
    return {"color": colour, "fmt": marker, "mfc": "white" if open_face else colour}
