"""Tables of notebook 07: chosen masks, their scores with fresh seeds, and the answer."""

import pandas as pd

from bogp import search
from bogp.statistics import mean_interval, paired_difference

LABELS = {
    "bogp": "BoGP",
    "climb": "climber",
    "random": "random search",
    "any mask": "any mask",
    "magnitude": "magnitude",
    "unpruned": "unpruned",
}


def choices(history: pd.DataFrame) -> pd.DataFrame:
    """The best mask of each search; and, as ``any mask``, the first that random search drew."""
    first = history[(history["method"] == "random") & (history["evaluation"] == 0)]
    best = search.recommend(history)
    return pd.concat([best, first.assign(method="any mask")], ignore_index=True)


def summary(fresh: pd.DataFrame) -> pd.DataFrame:
    """Each method's mean over searches, and its paired difference from random search.

    Args:
        fresh: columns ``method``, ``search_seed``, ``fresh``; all methods with the same searches.

    Returns:
        One row a method: ``mean``, ``low``, ``high`` (95 % t interval), ``n``, and ``gap_mean``,
        ``gap_low``, ``gap_high`` of the difference.
    """
    scores = fresh.pivot(index="search_seed", columns="method", values="fresh")
    rows = [
        {"method": method}
        | vars(mean_interval(scores[method]))
        | paired_difference(scores[method], scores["random"]).columns("gap")
        for method in LABELS
    ]
    return pd.DataFrame(rows).rename(columns={"gap": "gap_mean"})


def gaps(table: pd.DataFrame) -> pd.DataFrame:
    """Each method against random search, in words; from ``summary``."""
    others = table[table["method"] != "random"]
    words = [_words(row.gap_low, row.gap_high) for row in others.itertuples()]
    gap = [_interval(row.gap_mean, row.gap_low, row.gap_high) for row in others.itertuples()]
    labels = others["method"].map(LABELS)
    return pd.DataFrame({"method": labels, "against random search": words, "difference": gap})


def answer(table: pd.DataFrame, removed: float) -> str:
    """How a network of your own is pruned, and what came of it here.

    Args:
        table: from ``summary``.
        removed: share of weights that the masks remove from the masked layers.
    """
    by = table.set_index("method")
    bogp = by.loc["bogp"]
    gap = _interval(bogp["gap_mean"], bogp["gap_low"], bogp["gap_high"])
    return (
        "Give a function that makes your network, one that scores it, and the names of its layers; "
        f"the search is one call. Here it removed {removed:.0%} of the weights of two layers. "
        f"BoGP's masks have a test accuracy of {bogp['mean']:.3f} with fresh seeds and are "
        f"{_words(bogp['gap_low'], bogp['gap_high'])} random search's ({gap}, "
        f"n = {bogp['n']:.0f} pairs); magnitude pruning has {by.loc['magnitude', 'mean']:.3f}, "
        f"the unpruned network {by.loc['unpruned', 'mean']:.3f}."
    )


def _words(low: float, high: float) -> str:
    return "better than" if low > 0 else "worse than" if high < 0 else "not told apart from"


def _interval(mean: float, low: float, high: float) -> str:
    return f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]"
