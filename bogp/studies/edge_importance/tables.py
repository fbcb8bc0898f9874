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
    correlation_intervals,
    group_intervals,
    mean_interval,
    paired_difference,
    partial_rank_correlation,
    rank_correlation,
)

OVERALL = "all networks"
ENOUGH = 5  # seeds, below which no rule gives a verdict
TARGET = 0.8  # median rank correlation that rule 1 asks for
SIGNED = "signed first order - unsigned"
PAIRS = "exact Hessian - sum of exact changes"
# mean rank correlation of flow given the number of removed edges, and seeds that a verdict needs
FLOW = {"residual": 0.8, "inception": 0.8, "transformer": 0.85}
NEW = 10


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


def given_number(table: pd.DataFrame) -> pd.DataFrame:
    """Rank correlation of predicted with true changes of several removals, given their number.

    Args:
        table: from ``measure.units``.

    Returns:
        A row for each ``network``, ``seed`` and ``method`` (``number`` of removed edges among
        them): ``spearman``; ``given``, with the ranks of the number held fixed (NaN for the number
        itself, and where nothing of a side is left).
    """
    rows = []
    for (network, seed), one in table.groupby(["network", "seed"], sort=False):
        number = one[one["part"] == "removed"].set_index("item")["predicted"]
        several = one[one["part"] == "several"]
        for method, some in several.groupby("method", sort=False):
            count = number.loc[some["item"]].to_numpy()
            found = {
                "spearman": rank_correlation(some["predicted"], some["change"]),
                "given": partial_rank_correlation(some["predicted"], some["change"], count),
            }
            rows.append({"network": network, "seed": seed, "method": method} | found)
        alone = {"spearman": rank_correlation(count, some["change"]), "given": np.nan}
        rows.append({"network": network, "seed": seed, "method": "number"} | alone)
    return pd.DataFrame(rows)


def given_summary(correlations: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds with 95 % t interval, its ends kept within [-1, 1].

    Args:
        correlations: from ``given_number``.

    Returns:
        A row for each ``network``, ``method`` and ``measure`` (``spearman``, ``given``): ``mean``,
        ``low``, ``high`` and ``n`` seeds; none where a correlation is undefined.
    """
    return correlation_intervals(correlations, ["network", "method"])


def flow_verdicts(summarised: pd.DataFrame) -> pd.DataFrame:
    """The target of flow on new networks by its rule.

    Args:
        summarised: from ``given_summary``.

    Returns:
        A row for each network that has a target: ``network``, ``wanted``, ``mean``, ``low``,
        ``high``, ``n`` and ``verdict``.
    """
    flow = summarised.query("method == 'flow' and measure == 'given'")
    flow = flow[flow["network"].isin(FLOW)]
    wanted = flow["network"].map(FLOW)
    judged = [
        verdict(mean >= want, n >= NEW)
        for mean, want, n in zip(flow["mean"], wanted, flow["n"], strict=True)
    ]
    table = flow.assign(wanted=wanted, verdict=judged)
    return table[["network", "wanted", "mean", "low", "high", "n", "verdict"]].reset_index(
        drop=True
    )


def flow_said(judged: pd.DataFrame) -> str:
    """A line for each network that has a target.

    Args:
        judged: from ``flow_verdicts``.
    """
    return "\n".join(
        f"Target 3, {r.network}: flow given the number of removed edges {r.mean:.2f} "
        f"[{r.low:.2f}, {r.high:.2f}] (n = {r.n}), wanted {r.wanted:.2f}: {r.verdict}"
        for r in judged.itertuples()
    )


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


def answer(target: pd.DataFrame, signed: pd.DataFrame, flow: pd.DataFrame) -> str:
    """The answer to the notebook's question in words, from the rows over all networks.

    Args:
        target, signed: as in ``verdicts``.
        flow: from ``flow_verdicts``; nothing is said of it where it is empty.
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
    ) + _of_flow(flow)


def _of_flow(flow: pd.DataFrame) -> str:
    if flow.empty:
        return ""
    found = ", ".join(
        f"{r.network} {r.mean:.2f} [{r.low:.2f}, {r.high:.2f}] (target {r.wanted}: {r.verdict})"
        for r in flow.itertuples()
    )
    return (
        " On new networks flow, read in one pass without labels, has a rank correlation with the "
        f"change under several removals, given their number, of {found}."
    )
