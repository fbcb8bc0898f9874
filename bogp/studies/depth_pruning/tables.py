"""What the removal of blocks cost, over seeds of trained networks: intervals, comparisons in pairs
of one network, and how far draws of calibration examples differ.

The unit of every interval is the seed of a trained network; what several draws of calibration
examples gave for one network is averaged first.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bogp.statistics import group_intervals, paired_difference
from bogp.studies.depth_pruning.measure import BLOCKS, METHODS
from bogp.studies.scenarios.tables import APART, POWER, compared, detectable, not_told_apart

WEIGHTS = {"kept": "before fine-tuning", "tuned": "after fine-tuning"}
LEAST = 3  # seeds, below which there are no verdicts
_VALUES = ["loss", "change", "accuracy", "parameters", "flops", "latency"]


def by_seed(table: pd.DataFrame) -> pd.DataFrame:
    """The mean over draws.

    Returns:
        A row for each ``network``, ``seed``, ``method``, ``count`` and ``weights``.
    """
    keys = ["network", "seed", "method", "count", "weights"]
    return table.groupby(keys, sort=False)[_VALUES].mean().reset_index()


def means(table: pd.DataFrame) -> pd.DataFrame:
    """``loss``, ``change`` and ``accuracy``: mean over seeds with 95 % t interval.

    Returns:
        A row for each ``network``, ``method``, ``count``, ``weights`` and ``measure``.
    """
    keys = ["network", "method", "count", "weights"]
    return group_intervals(by_seed(table), keys, ["loss", "change", "accuracy"])


def tuned_count(table: pd.DataFrame) -> int:
    """How many blocks are removed before fine-tuning."""
    return int(table.loc[table["weights"] == "tuned", "count"].max())


def both(table: pd.DataFrame) -> pd.DataFrame:
    """The measurements of networks that were fine-tuned, before and after: the first draw of each
    method, all orders at random, and the whole network.
    """
    keys = ["network", "seed", "method", "draw", "count"]
    tuned = table.loc[table["weights"] == "tuned", keys]
    return table.merge(tuned, on=keys)


def against_random(table: pd.DataFrame) -> pd.DataFrame:
    """Each method against random removal, where blocks are removed before fine-tuning.

    Test losses, paired over seeds; a family is one network, before or after fine-tuning.

    Returns:
        As ``scenarios.tables.compared``, with ``network``, ``weights``, and ``detectable``: the
        least mean difference that would be found with probability 0.8 at the first step of Holm's
        test, if seeds differ as these do.
    """
    found = []
    for (network, weights), one in _at_count(table).groupby(["network", "weights"], sort=False):
        wide = _wide(one)
        pairs = {m: (wide[m], wide["random"]) for m in wide if m not in ("random", "unpruned")}
        family = compared(pairs).assign(network=network, weights=weights)
        family["detectable"] = [detectable(a - b, len(pairs)) for a, b in pairs.values()]
        found.append(family)
    return pd.concat(found, ignore_index=True)


def closing(table: pd.DataFrame) -> pd.DataFrame:
    """Whether fine-tuning brings the methods, random removal included, nearer to each other.

    Before and after are of the same draws (``both``).

    Returns:
        A row a network: the standard deviation of the test loss over methods ``before`` and
        ``after`` fine-tuning (means over seeds); ``difference``, after - before, with its 95 % t
        interval (``low``, ``high``); ``detectable``, the least that would be found; ``verdict``:
        ``narrowed`` (the interval lies below 0), ``widened`` (above 0) or ``not told apart``.
    """
    rows = []
    for network, one in _at_count(both(table)).query("method != 'unpruned'").groupby("network"):
        wide = [_wide(one[one["weights"] == weights]) for weights in WEIGHTS]
        before, after = (np.std(list(of.values()), axis=0) for of in wide)
        gap = paired_difference(after, before)
        verdict = "narrowed" if gap.high < 0 else "widened" if gap.low > 0 else APART
        mean = {"network": network, "before": before.mean(), "after": after.mean()}
        rows.append(mean | {"difference": gap.mean, "low": gap.low, "high": gap.high, "n": gap.n})
        rows[-1] |= {"detectable": detectable(after - before), "verdict": verdict}
    order = list(dict.fromkeys(table["network"]))
    return pd.DataFrame(rows).sort_values("network", key=lambda c: c.map(order.index))


def chosen(table: pd.DataFrame) -> pd.DataFrame:
    """How often each block is among those that go first.

    Returns:
        A row for each ``network``, ``method`` and ``block``: ``share`` of seeds and draws in which
        it is removed, where as many blocks go as before fine-tuning.
    """
    some = _first(table)
    return pd.DataFrame(
        [
            {"network": network, "method": method, "block": block}
            | {"share": float(np.mean([block in names.split() for names in one["blocks"]]))}
            for (network, method), one in some.groupby(["network", "method"], sort=False)
            for block in BLOCKS[network]
        ]
    )


def spread(table: pd.DataFrame) -> pd.DataFrame:
    """How far the draw of calibration examples matters, beside the seed of the network.

    Returns:
        A row for each ``network`` and ``method``: ``same``, the share of pairs of draws, within
        seeds, that remove the same blocks; ``over_draws`` and ``over_seeds``, standard deviations
        of the change of the test loss, within seeds (pooled) and of the means of seeds.
    """
    rows = []
    for (network, method), one in _first(table).groupby(["network", "method"], sort=False):
        seeds = [mine for _, mine in one.groupby("seed")]
        sets = [[frozenset(names.split()) for names in mine["blocks"]] for mine in seeds]
        pairs = [a == b for of in sets for a, b in combinations(of, 2)]
        within = np.mean([mine["change"].var() for mine in seeds])
        between = np.array([mine["change"].mean() for mine in seeds])
        rows.append(
            {
                "network": network,
                "method": method,
                "same": float(np.mean(pairs)) if pairs else np.nan,
                "over_draws": float(np.sqrt(within)),
                "over_seeds": float(between.std(ddof=1)) if len(between) > 1 else np.nan,
            }
        )
    return pd.DataFrame(rows)


def costs(table: pd.DataFrame) -> pd.DataFrame:
    """What is left of the whole network's parameters, operations and latency, by the number of
    removed blocks: mean over all that was removed.

    Returns:
        A row for each ``network`` and ``count``: ``parameters`` (their number), ``latency`` (ms, of
        ``TIMED`` examples), and shares of the whole network's: ``parameters_left``, ``flops_left``,
        ``latency_left``, and the least and the most of the latter, ``latency_from`` and
        ``latency_to``.
    """
    kept = table[table["weights"] == "kept"]
    rows = []
    for (network, count), one in kept.groupby(["network", "count"], sort=False):
        whole = kept[(kept["network"] == network) & (kept["count"] == 0)].iloc[0]
        left = one[_VALUES[3:]] / whole[_VALUES[3:]].astype(float)
        rows.append(
            {"network": network, "count": count}
            | {"parameters": one["parameters"].mean(), "latency": 1000 * one["latency"].mean()}
            | {f"{what}_left": left[what].mean() for what in left}
            | {"latency_from": left["latency"].min(), "latency_to": left["latency"].max()}
        )
    return pd.DataFrame(rows)


def scoring(table: pd.DataFrame) -> pd.DataFrame:
    """Seconds that each method takes for its order, mean over seeds and draws; networks as
    columns.
    """
    took = table[(table["weights"] == "kept") & (table["count"] == 1)]
    wide = took.pivot_table(index="method", columns="network", values="seconds", sort=False)
    return wide.reset_index()


BEFORE = "Which methods of removing blocks are told apart from random, before fine-tuning?"
AFTER = "Which methods of removing blocks are told apart from random, after fine-tuning?"
CLOSES = "Does fine-tuning bring the methods of removing blocks nearer to each other?"


def verdicts(table: pd.DataFrame, comparable: bool) -> pd.DataFrame:
    """The answers by the rules of notebook 15.

    Args:
        table: long, from ``measure.studied``.
        comparable: False for a run that is too small to judge: there are no answers then.

    Returns:
        Columns ``question``, ``network``, ``answer``, ``detail``.
    """
    rows: list[tuple[str, str, str, str]] = []
    for (network, weights), one in against_random(table).groupby(
        ["network", "weights"], sort=False
    ):
        apart = one[one["verdict"] != APART]
        named = ", ".join(f"{METHODS[r.method]} ({r.verdict})" for r in apart.itertuples())
        low, high = one["detectable"].min(), one["detectable"].max()
        detail = (
            f"differences from {one['difference'].min():+.3f} to {one['difference'].max():+.3f} "
            f"nats; found with probability {POWER} would be {low:.2f} to {high:.2f}"
        )
        question = BEFORE if weights == "kept" else AFTER
        least = f"least effect found with {100 * POWER:.0f} % power, by method"
        none = f"{APART} ({least}: {low:.2g} to {high:.2g} nats)"
        rows.append((question, network, named or none, detail))
    for one in closing(table).itertuples():
        detail = (
            f"standard deviation over methods {one.before:.3f}, then {one.after:.3f} nats; "
            f"change {one.difference:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"
        )
        said = not_told_apart(one.detectable) if one.verdict == APART else one.verdict
        rows.append((CLOSES, one.network, said, detail))
    columns = ["question", "network", "answer", "detail"]
    return pd.DataFrame(rows if comparable else [], columns=columns)


def answer(table: pd.DataFrame, comparable: bool) -> str:
    """The answer to the notebook's question in words.

    Args:
        table: long.
        comparable: False for a run that is too small to judge.
    """
    count, left = tuned_count(table), costs(table)
    by = means(table).query("measure == 'change'")
    apart = against_random(table)
    apart = apart[apart["weights"] == "kept"]

    def said(network: str) -> str:
        mine = by[(by["network"] == network) & by["count"].isin([0, count])]
        kept, tuned = (
            mine[mine["weights"] == weights].set_index("method")["mean"] for weights in WEIGHTS
        )
        best = kept[[m for m in METHODS if m in kept and m != "random"]].idxmin()
        one = left[(left["network"] == network) & (left["count"] == count)].iloc[0]
        verdict = apart[apart["network"] == network].set_index("method").loc[best, "verdict"]
        judged = f" ({verdict})" if comparable else ""
        return (
            f"{network}: {count} blocks less leave {one.parameters_left:.0%} of the parameters and "
            f"{one.latency_left:.0%} of the time, and cost least by {METHODS[best]}, "
            f"{kept[best]:+.2f} nats against {kept['random']:+.2f} at random{judged}; after "
            f"fine-tuning {tuned[best]:+.2f} against {tuned['random']:+.2f}, and "
            f"{tuned['unpruned']:+.2f} for the whole network"
        )

    small = "" if comparable else " This run is too small for verdicts."
    return f"{'. '.join(map(said, dict.fromkeys(table['network'])))}.{small}"


def _at_count(table: pd.DataFrame) -> pd.DataFrame:
    """The means of seeds where as many blocks are gone as before fine-tuning."""
    means = by_seed(table)
    return means[means["count"] == tuned_count(table)]


def _first(table: pd.DataFrame) -> pd.DataFrame:
    """Single draws of the methods with that many blocks gone, before fine-tuning."""
    chosen = (table["count"] == tuned_count(table)) & (table["weights"] == "kept")
    return table[chosen & (table["method"] != "unpruned")]


def _wide(one: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """The losses of each method, seed by seed."""
    wide: Any = one.pivot(index="seed", columns="method", values="loss")
    return {m: wide[m].to_numpy() for m in dict.fromkeys(one["method"])}
