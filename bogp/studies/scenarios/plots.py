"""Plots of notebooks 12 and 13: loss against what is removed, methods beside each other, fine-tuning, transfer."""

from collections.abc import Hashable, Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bogp.plotting import band, dots, legend, panels, styles
from bogp.statistics import mean_interval
from bogp.studies.scenarios.measure import METHODS
from bogp.studies.scenarios.tables import areas, at_share, curves, intervals

GROUPS = {
    "without derivatives": ("magnitude", "activation", "block_influence"),
    "first order": ("first_order", "absolute_first_order", "unsigned_taylor"),
    "second order": ("fisher", "gauss_newton", "hessian", "hessian_greedy"),
    "measured loss": ("leave_one_out", "exact_greedy"),
}
_AXES = {
    "share_edges": "share of the candidate edges removed",
    "share_parameters": "share of the parameters removed",
    "change": "change of the test loss (nats)",
    "accuracy": "test accuracy",
}


def loss_curves(table: pd.DataFrame, x: str = "share_edges", y: str = "change") -> Figure:
    """A measure against the share removed, mean over seeds with 95 % t interval; a row of panels a network, a panel a group of methods, random in each.

    Args:
        table: long, from ``scenarios.studied``.
        x: ``share_edges`` or ``share_parameters`` (its mean over seeds, at the same share of edges).
        y: ``change`` or ``accuracy``.
    """
    data = curves(table)
    networks, present = list(dict.fromkeys(data["network"])), set(data["method"])
    groups = {title: [m for m in ("random", *methods) if m in present] for title, methods in GROUPS.items() if present & set(methods)}
    size = (max(2.9 * len(groups), 5.5), 2.3 * len(networks) + 0.9)
    figure, axes = plt.subplots(len(networks), len(groups), figsize=size, sharex="row", sharey="row", squeeze=False)
    for row, network in zip(axes, networks, strict=True):
        for ax, (title, methods) in zip(row, groups.items(), strict=True):
            look = styles({m: METHODS[m] for m in methods if m != "random"}) | {"random": ("random", "#000000", "x")}
            for method, (label, colour, marker) in look.items():
                one = data[(data["network"] == network) & (data["method"] == method)].groupby("level")
                at = one[x].mean().to_numpy()
                means = [mean_interval(values) for _, values in one[y]]
                line = {"marker": marker, "ms": 3, "linestyle": "--" if method == "random" else "-"}
                band(ax, at, means, colour, label=label, **line)
            ax.set_title(f"{network}: {title}", fontsize=8)
        row[0].set_ylabel(_AXES[y], fontsize=8)
        row[0].set_ylim(*_span(data[data["network"] == network], y))
    for ax in axes[-1]:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.32), fontsize=7, ncols=1)
        ax.set_xlabel(_AXES[x], fontsize=7)
    figure.suptitle(f"mean over {data['seed'].nunique()} seeds; band: 95 % t interval, cut off at the frame", fontsize=9)
    return figure


def _span(table: pd.DataFrame, y: str) -> tuple[float, float]:
    """Limits that show all means; what bands of two or three seeds reach beyond is cut off."""
    if y == "accuracy":
        return 0.0, 1.0
    means = table.groupby(["method", "level"])[y].mean()
    room = 0.25 * (means.max() - means.min()) or 1.0
    return float(means.min() - room), float(means.max() + room)


def area_dots(table: pd.DataFrame) -> Figure:
    """The area under each method's curve, mean over seeds with 95 % t interval; a panel a network, random as a line."""
    found = intervals(areas(table), ["network", "method"], ["change"])
    networks = list(dict.fromkeys(found["network"]))
    places: dict[Hashable, str] = {m: label for m, label in METHODS.items() if m in set(found["method"])}
    figure, axes = panels(len(networks), 3.0, 0.24 * len(places) + 0.8, sharey=True)
    for ax, network in zip(axes, networks, strict=True):
        one = found[found["network"] == network]
        ax.axvline(one.loc[one["method"] == "random", "mean"].iloc[0], color="#000000", linewidth=0.8, linestyle="--")
        dots(ax, one, "method", places, unit=1)
        ax.set(title=network, xlabel="mean change of the test loss\nover the share removed (nats)")
    figure.suptitle(f"mean over {found['n'].max()} seeds with 95 % t interval; dashed: random", fontsize=9)
    return figure


def tuning(table: pd.DataFrame) -> Figure:
    """Test loss at the share that is fine-tuned, before and after, and from new initial weights; a panel a network."""
    return _at_share(
        table, "removal", "weights", {"kept": "pruned", "tuned": "pruned and fine-tuned", "new": "same structure, new weights"}
    )


def transfer(table: pd.DataFrame) -> Figure:
    """Test loss on the new classes after fine-tuning, by the task that the removed edges were chosen on; a panel a network."""
    tuned = table[table["weights"] == "tuned"]
    series = {"this": "chosen on the new task", "old": "chosen on the old task", "none": "chosen on none"}
    return _at_share(tuned, "transfer", "chosen_on", series)


def _at_share(table: pd.DataFrame, scenario: str, column: str, labels: Mapping[str, str]) -> Figure:
    found = intervals(at_share(table, scenario), ["network", "method", column], ["loss"])
    networks = list(dict.fromkeys(found["network"]))
    places: dict[Hashable, str] = {m: label for m, label in ({"unpruned": "unpruned"} | METHODS).items() if m in set(found["method"])}
    look = styles({name: label for name, label in labels.items() if name in set(found[column])})
    figure, axes = panels(len(networks), 3.1, 0.32 * len(places) + 1.0, sharey=True)
    for ax, network in zip(axes, networks, strict=True):
        one = found[found["network"] == network]
        dots(ax, one, "method", places, column, look, unit=1)
        if one["mean"].max() > 10 * one["mean"].min():
            ax.set_xscale("log")
        ax.set(title=network, xlabel="test loss (nats)")
        ax.set_xlim(left=max(ax.get_xlim()[0], 0.0) if np.isfinite(ax.get_xlim()[0]) and ax.get_xscale() == "linear" else None)
    legend(figure, axes)
    figure.suptitle(f"mean over {found['n'].max()} seeds with 95 % t interval", fontsize=9)
    return figure
