"""Table 1 from the results of ``comparison``: intervals, paired differences from BoGP, and what
they come to.
"""

from collections.abc import Collection
from dataclasses import astuple

import numpy as np
import pandas as pd

from bogp.statistics import Interval, equivalence, mean_interval, paired_difference
from bogp.studies.baselines.measure import LIKE, PAPER

# in accuracy: smaller differences count as none where equivalence is tested; set before the first
# run
MARGIN = 0.002
LABELS = {
    "base": "Base (unpruned)",
    "one_hidden_layer": "Base without the masked layer",
    "smaller_dense": "smaller dense network",
    "bogp": "BoGP",
    "bogp_mask": "BoGP's mask, given",
    "random_mask": "random search's mask, given",
    "random_hidden": "random mask, hidden layer",
    "random": "random",
    "erk": "ERK",
    "glob_1": "Glob_1",
    "glob_1_shuffled": "Glob_1, shuffled",
    "glob_5": "Glob_5",
    "unif_1": "Unif_1",
    "unif_5": "Unif_5",
    "lamp_1": "LAMP_1",
    "lamp": "LAMP after training",
    "snip": "SNIP",
    "snip_shuffled": "SNIP, shuffled",
    "synflow": "SynFlow",
    "synflow_shuffled": "SynFlow, shuffled",
    "lottery": "lottery ticket",
    "base_best": "Base, best of n",
    "random_search": "random search",
    "random_best": "random, best of n",
    "glob_1_best": "Glob_1, best of n",
    "glob_5_best": "Glob_5, best of n",
    "snip_best": "SNIP, best of n",
    "synflow_best": "SynFlow, best of n",
    "lottery_best": "lottery ticket, best of n",
}


def summary(table: pd.DataFrame, printed: dict[str, dict[float, float]]) -> pd.DataFrame:
    """Table 1: mean and 95 % t interval over pairs of each method at each sparsity, in both
    accountings.

    Args:
        table: from ``results``, of one or more sparsities.
        printed: the paper's accuracy by method and sparsity; it stands beside ours in the paper's
            accounting.

    Returns:
        One row a protocol, accounting, method, sparsity and measure (``validation``, ``test``):
        mean, low, high, n, ``paper``, ``budget``, the three sparsities (means), and the paired
        difference from BoGP on the same pairs, ``gap``, ``gap_low``, ``gap_high``, ``gap_n`` (from
        its network where a method's best of several was chosen as well, else from its mask trained
        again), and ``at_par``: whether it is smaller than ``MARGIN`` by two one-sided tests at 5 %.
    """
    rows = []
    keys = ["dataset", "protocol", "accounting", "target_sparsity"]
    shares = ["budget", "mask_sparsity", "model_sparsity", "effective_sparsity"]
    for (*at, method), one in table.groupby([*keys, "method"]):
        *_, accounting, sparsity = at
        reference = "bogp" if accounting == PAPER or is_chosen(method) else "bogp_mask"
        cell = (table[keys] == at).all(axis=1) & (table["method"] == reference)
        both = one.merge(table[cell], on="pair", suffixes=("", "_bogp"))
        own = printed.get(method, {}).get(sparsity, np.nan) if accounting == PAPER else np.nan
        for measure in ("validation", "test"):
            gap, at_par = Interval(np.nan, np.nan, np.nan, 0), False
            if method != reference:
                pairs = both[measure], both[f"{measure}_bogp"]
                gap = paired_difference(*pairs)
                at_par = gap.n > 1 and equivalence(*pairs, MARGIN).holds
            rows.append(
                dict(zip(keys, at, strict=True))
                | {"method": method, "measure": measure}
                | vars(mean_interval(one[measure]))
                | {"paper": own}
                | one[shares].mean().to_dict()
                | gap.columns("gap")
                | {"gap_n": gap.n, "at_par": at_par}
            )
    return pd.DataFrame(rows)


def is_chosen(method: str) -> bool:
    """Whether a line of the accounting like for like shows the network that validation chose among
    a whole budget of them.
    """
    return method in ("bogp", "random_search") or method.endswith("_best")


def rendered(
    table: pd.DataFrame,
    accounting: str,
    measure: str = "test",
    methods: Collection[str] | None = None,
) -> pd.DataFrame:
    """One accounting of Table 1 for people: a line a method, a column a sparsity, mean and half
    width of the 95 % interval, the paper's number in brackets.

    Args:
        table: from ``summary``, of one protocol.
        accounting: ``PAPER`` or ``LIKE``.
        measure: ``test`` or ``validation``.
        methods: which; None is all.
    """
    wanted = table["method"].isin(methods or set(table["method"]))
    mine = table[(table["accounting"] == accounting) & (table["measure"] == measure) & wanted]
    there = set(mine["method"])
    lines = []
    for name in [*(n for n in LABELS if n in there), *sorted(there - set(LABELS))]:
        one = mine[mine["method"] == name].set_index("target_sparsity").sort_index()
        line = {"method": LABELS.get(name, name), "trainings": round(one["budget"].iloc[0])}
        cells = {f"s = {sparsity:.2f}": _cell(row) for sparsity, row in one.iterrows()}
        lines.append(line | {"n": one["n"].iloc[0]} | cells)
    return pd.DataFrame(lines).fillna("")


def _cell(row: pd.Series) -> str:
    half = "" if np.isnan(row["low"]) else f" ± {row['high'] - row['mean']:.4f}"
    return f"{row['mean']:.4f}{half}" + ("" if np.isnan(row["paper"]) else f" [{row['paper']:.3f}]")


def shuffles(table: pd.DataFrame) -> pd.DataFrame:
    """What a method's score is worth beyond how many weights each layer keeps: test accuracy minus
    that of its shuffled mask, on the same pairs.

    Args:
        table: from ``results``, of one or more sparsities.

    Returns:
        One row a method and sparsity whose shuffled control is there: mean difference, ``low``,
            ``high`` (95 % t interval) and ``n``.
    """
    paper = table[table["accounting"] == PAPER]
    control = paper[paper["method"].str.endswith("_shuffled")]
    control = control.assign(method=control["method"].str.removesuffix("_shuffled"))
    keys = ["method", "target_sparsity"]
    both = control.merge(paper, on=[*keys, "pair"], suffixes=("_shuffled", ""))
    rows = [
        (
            LABELS.get(method, method),
            sparsity,
            *astuple(paired_difference(one["test"], one["test_shuffled"])),
        )
        for (method, sparsity), one in both.groupby(keys, sort=False)
    ]
    return pd.DataFrame(
        rows, columns=["method", "sparsity", "method minus shuffled", "low", "high", "n"]
    )


def verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """At how many sparsities each method is better or worse than BoGP on test images, or cannot be
    told apart from it (95 % intervals, uncorrected), and at how many it is at par (two one-sided
    tests, margin ``MARGIN``).

    Args:
        table: from ``summary``, of one protocol.
    """
    rows = []
    for (accounting, method), one in _tested(table).groupby(["accounting", "method"]):
        worse, better, undecided = _counts(one)
        largest = one.loc[one["gap"].abs().idxmax()]
        rows.append(
            {
                "accounting": accounting,
                "method": LABELS.get(method, method),
                "better than BoGP": better,
                "worse than BoGP": worse,
                "undecided": undecided,
                f"at par within {MARGIN}": int(one["at_par"].sum()),
                "largest difference": largest["gap"],
                "at sparsity": largest["target_sparsity"],
                "n": one["gap_n"].min(),
            }
        )
    return pd.DataFrame(rows)


def answer(table: pd.DataFrame) -> str:
    """What notebook 05 found like for like, in two sentences.

    Args:
        table: from ``summary``, of one protocol.
    """
    return (
        "Like for like, against a mask by magnitude before training, BoGP's mask is "
        f"{_compared(table, LIKE, ['glob_1'])}; against a random one it is "
        f"{_compared(table, LIKE, ['random'])}. With the whole budget, against the best of as many "
        f"networks, it is {_compared(table, LIKE)} (test images, 95 % intervals)."
    )


def findings(table: pd.DataFrame) -> str:
    """What Table 1 comes to, worked out from it: BoGP against each group of comparisons.

    Args:
        table: from ``summary``, of one protocol.
    """
    test = _tested(table)
    cheap = test["method"].isin(["random", "glob_1", "random_search", "glob_1_best"])
    largest = test[(test["accounting"] == LIKE) & cheap]["gap"].abs().max()
    four = _compared(table, PAPER, ["glob_1", "glob_5", "unif_1", "unif_5"])
    return (
        f"Against the paper's four baselines as the paper counts, BoGP is {four} comparisons; "
        "against a random mask on the same layer "
        f"{_compared(table, PAPER, ['random_hidden'])}. Like for like its mask is "
        f"{_compared(table, LIKE, ['glob_1'])} against magnitude pruning before training, and "
        f"{_compared(table, LIKE, ['random'])} against random pruning; the network that the search "
        f"chose is {_compared(table, LIKE)} against others chosen with the same "
        "budget. The largest mean difference from random and magnitude pruning, like for like, is "
        f"{largest:.4f}."
    )


def _tested(table: pd.DataFrame) -> pd.DataFrame:
    """The differences on test images that have an interval."""
    return table[table["measure"] == "test"].dropna(subset="gap_low")


def _counts(test: pd.DataFrame) -> tuple[int, int, int]:
    """How often BoGP is better, worse, and cannot be told apart."""
    better, worse = int((test["gap_high"] < 0).sum()), int((test["gap_low"] > 0).sum())
    return better, worse, len(test) - better - worse


def _compared(table: pd.DataFrame, accounting: str, methods: Collection[str] = ()) -> str:
    """BoGP against some methods, in words; against all that were chosen by validation if none is
    named.
    """
    test = _tested(table)
    wanted = test["method"].isin(methods) if methods else test["method"].map(is_chosen)
    one = test[(test["accounting"] == accounting) & wanted]
    better, worse, undecided = _counts(one)
    return f"better in {better}, worse in {worse}, undecided in {undecided} of {len(one)}"
