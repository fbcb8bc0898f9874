"""Notebook 11 in tables: how well importances agree with true changes, what they cost, and the
answer.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd

from bogp.outputs import verdict
from bogp.statistics import (
    Interval,
    group_intervals,
    mean_interval,
    paired_difference,
    rank_correlation,
)

OVERALL = "all networks"
ENOUGH = 5  # seeds, below which no rule gives a verdict
TARGET = 0.8  # median rank correlation that rule 1 asks for
SIGNED = "signed first order - unsigned"
PAIRS = "exact Hessian - sum of exact changes"


def agreement(table: pd.DataFrame, part: str) -> pd.DataFrame:
    """Spearman's rank correlation of predicted with true changes.

    Args:
        table: from ``measure.units``.
        part: ``single`` or ``several``.

    Returns:
        A row for each ``network``, ``seed``, ``method`` and number of ``examples``: ``signed``
        (with the true change) and ``absolute`` (with its size).
    """
    keys = ["network", "seed", "method", "examples"]
    return pd.DataFrame(
        dict(zip(keys, key, strict=True))
        | {
            "signed": rank_correlation(one["predicted"], one["change"]),
            "absolute": rank_correlation(one["predicted"], one["change"].abs()),
        }
        for key, one in table[table["part"] == part].groupby(keys, sort=False)
    )


def summary(correlations: pd.DataFrame, value: str = "signed") -> pd.DataFrame:
    """Mean over seeds with its 95 % t interval, and median, by network and method; and over all
    networks.

    Args:
        correlations: from ``agreement``, of one number of examples.
        value: ``signed`` or ``absolute``.

    Returns:
        Columns ``network``, ``method``, ``mean``, ``low``, ``high``, ``n`` (seeds) and ``median``
        (of the correlations). Over all networks each seed counts with the mean over its networks,
        and the median is that of all the correlations. NaN where a correlation is undefined.
    """
    rows = []
    for method, one in correlations.groupby("method", sort=False):
        for network, some in [*one.groupby("network", sort=False), (OVERALL, one)]:
            found = Interval(np.nan, np.nan, np.nan, 0)
            if some[value].notna().all():
                found = mean_interval(some.groupby("seed")[value].mean())
            rows.append(
                {"network": network, "method": method}
                | vars(found)
                | {"median": some[value].median(skipna=False)}
            )
    table = pd.DataFrame(rows)
    # A correlation lies within [-1, 1], which a t interval does not know.
    return table.assign(low=table["low"].clip(-1, 1), high=table["high"].clip(-1, 1))


def difference(correlations: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """How much higher one method's correlation is than another's, in pairs of one seed.

    Returns:
        Columns ``network`` (each, and all of them), ``mean``, ``low``, ``high``, ``n``.
    """
    wide = correlations.pivot(index=["network", "seed"], columns="method", values="signed")
    groups = {network: wide.loc[network] for network in correlations["network"].unique()}
    groups[OVERALL] = wide.groupby("seed").mean()
    return pd.DataFrame(
        {"network": network, **asdict(paired_difference(some[first], some[second]))}
        for network, some in groups.items()
    )


def differences(correlations: pd.DataFrame) -> pd.DataFrame:
    """Both paired comparisons of the notebook, named in the column ``difference in Spearman``."""
    pairs = {SIGNED: ("first_order", "unsigned_taylor"), PAIRS: ("hessian", "leave_one_out")}
    compared = {name: difference(correlations, *methods) for name, methods in pairs.items()}
    return pd.concat(compared, names=["difference in Spearman"]).reset_index(level=0)


def costs(table: pd.DataFrame) -> pd.DataFrame:
    """Seconds of each method and how many forward passes that is, by network.

    Args:
        table: from ``measure.units``.

    Returns:
        Columns ``network``, ``method``, ``seconds``, ``mean``, ``low``, ``high`` (forward passes:
        the geometric mean over seeds with the 95 % t interval of the logarithms) and ``n``.
    """
    cost, keys = table[table["part"] == "cost"], ["network", "method"]
    cost = cost.assign(passes=np.log(cost["predicted"] / cost["change"]))
    seconds = cost.groupby(keys, sort=False)["predicted"].mean().rename("seconds").reset_index()
    logs = group_intervals(cost, keys, "passes")
    return seconds.assign(**np.exp(logs[["mean", "low", "high"]]), n=logs["n"])


def references(table: pd.DataFrame) -> pd.DataFrame:
    """What a removed edge is replaced by: zeros against mean activations, on test data.

    Args:
        table: from ``measure.units``.

    Returns:
        Columns ``network``, ``measure``, ``mean``, ``low``, ``high``, ``n`` (seeds, with a 95 % t
        interval). Measures: the mean over edges of the signed and of the absolute change with zeros
        and with means, and the rank correlation between the two changes of an edge.
    """
    zeros_and_means = table[table["part"] == "mean reference"]
    by_seed = pd.DataFrame(
        {
            "network": network,
            "signed change, zeros": one["predicted"].mean(),
            "signed change, mean activations": one["change"].mean(),
            "absolute change, zeros": one["predicted"].abs().mean(),
            "absolute change, mean activations": one["change"].abs().mean(),
            "rank correlation of the two": rank_correlation(one["predicted"], one["change"]),
        }
        for (network, _), one in zeros_and_means.groupby(["network", "seed"], sort=False)
    )
    return group_intervals(by_seed, ["network"], list(by_seed.columns[1:]))


def reached(by_network: pd.DataFrame, method: str, threshold: float) -> pd.DataFrame:
    """Whether a method's median rank correlation reaches a threshold, by network and over all of
    them.

    Returns:
        Columns ``network``, ``median``, ``met``.
    """
    mine = by_network.loc[by_network["method"] == method, ["network", "median"]]
    return mine.assign(met=mine["median"] >= threshold).reset_index(drop=True)


def verdicts(target: pd.DataFrame, signed: pd.DataFrame) -> str:
    """A line for each rule and network: what was measured, and ``met``, ``not met`` or ``no
    verdict``.

    Args:
        target: from ``reached``, of the exact Hessian.
        signed: from ``difference``, of the signed first order and the unsigned published form.
    """
    judged = signed["n"].min() >= ENOUGH
    lines = [
        f"Target 1, {row.network}: median Spearman of the second order {row.median:.2f}, "
        f"wanted {TARGET:.2f}: {verdict(row.met, judged)}"
        for row in target.itertuples()
    ] + [
        f"Target 2, {row.network}: signed - unsigned {row.mean:+.2f} [{row.low:+.2f}, "
        f"{row.high:+.2f}] "
        f"(n = {row.n}): {verdict(row.low > 0, judged)}"
        for row in signed.itertuples()
    ]
    return "\n".join(lines)


def answer(target: pd.DataFrame, signed: pd.DataFrame) -> str:
    """The answer to the notebook's question in words, from the rows over all networks; as
    ``verdicts``.
    """
    judged = signed["n"].min() >= ENOUGH
    median, gap = target.iloc[-1]["median"], signed.iloc[-1]
    return (
        "Over all networks the second order reaches a median rank correlation of "
        f"{median:.2f} with "
        f"the true change of single edges (target {TARGET}: "
        f"{verdict(median >= TARGET, judged)}); for "
        f"several edges at once the signed first order differs from the unsigned published form by "
        f"{gap['mean']:+.2f} [{gap['low']:+.2f}, {gap['high']:+.2f}], n = {gap['n']} seeds "
        f"(target above 0: {verdict(gap['low'] > 0, judged)})."
    )
