"""Notebooks 12 and 13 in figures: loss against what is removed, fine-tuning, transfer."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from bogp.plotting import Styles, band, dots, legend, panels, present, styles, titled
from bogp.statistics import group_intervals, mean_interval
from bogp.studies.scenarios.measure import METHODS
from bogp.studies.scenarios.tables import areas, at_share, curves

GROUPS = {
    "without derivatives": (
        "magnitude",
        "activation",
        "block_influence",
        "flow",
        "flow_greedy",
    ),
    "first order": ("first_order", "absolute_first_order", "unsigned_taylor"),
    "second order": ("fisher", "gauss_newton", "hessian", "hessian_greedy"),
    "measured loss": ("leave_one_out", "exact_greedy"),
}
_RANDOM: Styles = {"random": ("random", "#000000", "x")}
_WEIGHTS = {
    "kept": "pruned",
    "tuned": "pruned and fine-tuned",
    "new": "same structure, new weights",
}
_CHOSEN_ON = {
    "this": "chosen on the new task",
    "old": "chosen on the old task",
    "none": "random, or unpruned",
}
_AXES = {
    "share_edges": "share of the candidate edges removed",
    "share_parameters": "share of the parameters removed",
    "change": "change of the test loss (nats)",
    "accuracy": "test accuracy",
}


def loss_curves(table: pd.DataFrame, x: str = "share_edges", y: str = "change") -> Figure:
    """A measure against the share removed, mean over seeds with 95 % t interval.

    A row of panels a network, a panel a group of methods, random removal in each.

    Args:
        table: long, from ``measure.studied``.
        x: ``share_edges`` or ``share_parameters`` (its mean over seeds, at the same share of
            edges).
        y: ``change`` or ``accuracy``.
    """
    data = curves(table)
    kinds, labels = data["network"].unique(), present(METHODS, data["method"])
    looks = {
        title: styles({m: labels[m] for m in methods if m in labels})
        for title, methods in GROUPS.items()
        if set(labels) & set(methods)
    }
    figure, axes = plt.subplots(
        len(kinds),
        len(looks),
        figsize=(max(2.9 * len(looks), 5.5), 2.3 * len(kinds) + 0.9),
        sharex="row",
        sharey="row",
        squeeze=False,
    )
    for row, kind in zip(axes, kinds, strict=True):
        mine = data[data["network"] == kind]
        for ax, (title, look) in zip(row, looks.items(), strict=True):
            for method, (label, colour, marker) in (look | _RANDOM).items():
                one = mine[mine["method"] == method].groupby("level")
                band(
                    ax,
                    one[x].mean(),
                    [mean_interval(values) for _, values in one[y]],
                    colour,
                    label=label,
                    marker=marker,
                    ms=3,
                    linestyle="--" if method == "random" else "-",
                )
            ax.set_title(f"{kind}: {title}", fontsize=8)
        row[0].set_ylabel(_AXES[y], fontsize=8)
        row[0].set_ylim(*_span(mine, y))
    for ax in axes[-1]:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.32), fontsize=7, ncols=1)
        ax.set_xlabel(_AXES[x], fontsize=7)
    return titled(
        figure,
        f"mean over {data.groupby('network')['seed'].nunique().max()} seeds; "
        "band: 95 % t interval, cut off at the frame",
    )


def _span(table: pd.DataFrame, y: str) -> tuple[float, float]:
    """Limits that show all means; what bands of two or three seeds reach beyond is cut off."""
    means = table.groupby(["method", "level"])[y].mean()
    if y == "accuracy":
        return 0.0, min(1.2 * means.max(), 1.0)
    room = means.max() - means.min() or 1.0
    return float(means.min() - 0.06 * room), float(means.max() + 0.25 * room)


def area_dots(table: pd.DataFrame) -> Figure:
    """The area under each method's curve, mean over seeds with 95 % t interval; a panel a network,
    random as a line.
    """
    found = group_intervals(areas(table), ["network", "method"], ["change"])
    places = present(METHODS, found["method"])
    figure, axes = panels(found["network"].nunique(), 3.0, 0.24 * len(places) + 0.8, sharey=True)
    for ax, (network, one) in zip(axes, found.groupby("network", sort=False), strict=True):
        floor = one.loc[one["method"] == "random", "mean"].item()
        ax.axvline(floor, color="#000000", linewidth=0.8, linestyle="--")
        dots(ax, one, "method", places, unit=1)
        ax.set(title=network, xlabel="mean change of the test loss\nover the share removed (nats)")
    return titled(
        figure, f"mean over {found['n'].max()} seeds; bar: 95 % t interval; dashed: random"
    )


def tuning(table: pd.DataFrame) -> Figure:
    """Test loss at the share that is fine-tuned, before and after, and from new initial weights; a
    panel a network.
    """
    return _at_share(at_share(table, "removal"), "weights", _WEIGHTS)


def transfer(table: pd.DataFrame) -> Figure:
    """Test loss on the new classes after fine-tuning, by the task that the removed edges were
    chosen on; a panel a network.
    """
    tuned = table[table["weights"] == "tuned"]
    return _at_share(at_share(tuned, "transfer"), "chosen_on", _CHOSEN_ON)


def _at_share(table: pd.DataFrame, column: str, labels: dict[str, str]) -> Figure:
    found = group_intervals(table, ["network", "method", column], ["loss"])
    places = present({"unpruned": "unpruned"} | METHODS, found["method"])
    look = styles(present(labels, found[column]))
    figure, axes = panels(found["network"].nunique(), 3.1, 0.32 * len(places) + 1.0, sharey=True)
    for ax, (network, one) in zip(axes, found.groupby("network", sort=False), strict=True):
        dots(ax, one, "method", places, column, look, unit=1)
        ax.set(title=network, xlabel="test loss (nats)")
        if one["mean"].max() > 3 * one["mean"].min():
            ax.set_xscale("log")
            ax.xaxis.set_major_formatter(ScalarFormatter())
            ax.xaxis.set_minor_formatter(NullFormatter())
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        else:
            ax.set_xlim(left=max(ax.get_xlim()[0], 0.0))
    return titled(legend(figure, axes), f"mean over {found['n'].max()} seeds; bar: 95 % t interval")
