"""What the scenarios' long table says: one number a method, intervals over seeds, and comparisons
in pairs of one seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from bogp.errors import InvalidInput
from bogp.statistics import equivalence, holm, mean_interval, paired_difference
from bogp.studies.scenarios.measure import METHODS

# Of each method: its values and those it is compared with, seed by seed.
Pairs = Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]

_VALUES = ["share_edges", "share_parameters", "loss", "change", "absolute_change", "accuracy"]


def curves(table: pd.DataFrame) -> pd.DataFrame:
    """Edge removal at all levels, the mean over the draws of ``random``.

    Returns:
        A row for each ``network``, ``seed``, ``method`` and ``level``.
    """
    some = table.query("scenario == 'removal' and weights == 'kept' and method != 'unpruned'")
    keys = ["network", "seed", "method", "level"]
    return some.dropna(subset=["level"]).groupby(keys, sort=False)[_VALUES].mean().reset_index()


def areas(table: pd.DataFrame) -> pd.DataFrame:
    """One number a method: the mean over the share of removed edges, from none to the most, by the
    trapezoidal rule.

    Returns:
        A row for each ``network``, ``seed`` and ``method``: ``change`` of the loss (signed),
        ``absolute_change``, ``accuracy``.
    """
    keys, values = ["network", "seed", "method"], ["change", "absolute_change", "accuracy"]

    def means(one: pd.DataFrame) -> pd.Series:
        x = one["share_edges"].to_numpy()
        return pd.Series({v: np.trapezoid(one[v], x) / (x[-1] - x[0]) for v in values})

    groups = curves(table).groupby(keys, sort=False)[["share_edges", *values]]
    return groups.apply(means).reset_index()


def at_share(table: pd.DataFrame, scenario: str) -> pd.DataFrame:
    """The networks at the one share that is fine-tuned, and the unpruned ones.

    Returns:
        A row for each ``network``, ``seed``, ``method``, ``chosen_on``, ``weights``.
    """
    chosen = table["level"].isna() | (table["method"] == "unpruned")
    some = table[(table["scenario"] == scenario) & chosen]
    keys = ["network", "seed", "method", "chosen_on", "weights"]
    return some.groupby(keys, sort=False)[_VALUES].mean().reset_index()


def compared(pairs: Pairs) -> pd.DataFrame:
    """Paired comparisons that make one family.

    Args:
        pairs: of each method two lists of losses, of the same seeds in the same order: its own, and
            what it is compared with.

    Returns:
        A row a method: ``mean``, ``low``, ``high`` of its own; ``difference`` with
        ``difference_low`` and ``difference_high`` (95 % t interval, not corrected); ``p`` of a
        paired t test and ``p_holm``; ``verdict``: ``lower``, ``higher`` (p_holm < .05) or ``not
        told apart``.
    """
    rows = [
        {"method": method}
        | vars(mean_interval(own))
        | paired_difference(own, other).columns("difference")
        # Two methods that agree in each seed have nothing to test.
        | {"p": float(stats.ttest_rel(own, other).pvalue) if np.ptp(own - other) > 0 else 1.0}
        for method, (own, other) in pairs.items()
    ]
    found = pd.DataFrame(rows)
    found["p_holm"] = holm(found["p"])
    words = np.where(found["difference"] < 0, "lower", "higher")
    return found.assign(verdict=np.where(found["p_holm"] < 0.05, words, "not told apart"))


def against_random(table: pd.DataFrame, value: str = "change") -> pd.DataFrame:
    """Each method against random removal: areas under the curves, paired over seeds, one family a
    network (``compared``).
    """
    wide_of = {n: _wide(one, value) for n, one in areas(table).groupby("network", sort=False)}
    found = [
        compared({m: (own, wide["random"]) for m, own in wide.items() if m != "random"}).assign(
            network=network
        )
        for network, wide in wide_of.items()
    ]
    return pd.concat(found, ignore_index=True)


def closing(table: pd.DataFrame, margin: float) -> pd.DataFrame:
    """Whether fine-tuning closes the gaps between methods at the share that is fine-tuned.

    Args:
        table: long.
        margin: difference from random removal, in nats, that counts as none.

    Returns:
        A row a network: the standard deviation of the loss over methods ``before`` and ``after``
        fine-tuning (means over seeds), their ``difference``, after - before, with its 95 % t
        interval (``low``, ``high``); ``worst_p``, the largest p value of the methods' tests of
        equivalence with random after fine-tuning; ``verdict``: ``closed`` (all are equivalent),
        ``narrowed`` (the interval lies below 0), ``widened`` or ``not told apart``.
    """
    rows = []
    pruned = at_share(table, "removal").query("method != 'unpruned'")
    for network, one in pruned.groupby("network", sort=False):
        before, after = (_wide(one[one["weights"] == w], "loss") for w in ("kept", "tuned"))
        spread, spread_after = (np.std(list(wide.values()), axis=0) for wide in (before, after))
        gap, worst = paired_difference(spread_after, spread), float("nan")
        if gap.n > 1:
            others = [after[m] for m in after if m != "random"]
            worst = max(equivalence(other, after["random"], margin).p for other in others)
        verdict = "narrowed" if gap.high < 0 else "widened" if gap.low > 0 else "not told apart"
        means = {"network": network, "before": spread.mean(), "after": spread_after.mean()}
        tested = {"worst_p": worst, "verdict": "closed" if worst < 0.05 else verdict}
        rows.append(means | vars(gap) | tested)
    return pd.DataFrame(rows).rename(columns={"mean": "difference"})


def transferred(table: pd.DataFrame) -> pd.DataFrame:
    """Networks fine-tuned on the new classes, compared with three others.

    Each method chosen on the new task is compared with the same on the old task, with random
    removal, and with no pruning; a family is one network and one of these (column ``against``).

    Raises:
        InvalidInput: nothing was transferred.
    """
    tuned = at_share(table, "transfer").query("weights == 'tuned'")
    if tuned.empty:
        raise InvalidInput("Nothing was transferred: no study has old and new classes.")
    found = []
    for network, one in tuned.groupby("network", sort=False):
        new, old, none = (
            _wide(one[one["chosen_on"] == c], "loss") for c in ("this", "old", "none")
        )
        pairs = {
            "old task": {m: (new[m], old[m]) for m in new},
            "random": {m: (new[m], none["random"]) for m in new},
            "unpruned": {m: (new[m], none["unpruned"]) for m in new},
        }
        found += [compared(of).assign(network=network, against=n) for n, of in pairs.items()]
    return pd.concat(found, ignore_index=True)


BEATS = "Does each data-aware method beat random removal?"
CLOSES = "Does fine-tuning close the gap between methods?"


def verdicts(table: pd.DataFrame, margin: float, comparable: bool = True) -> pd.DataFrame:
    """The answers to the questions of notebooks 12 and 13, by the rules that stand there.

    Args:
        table: long.
        margin: see ``closing``.
        comparable: False for a run that is too small to judge: there are no answers then.

    Returns:
        Columns ``question``, ``network``, ``answer``, ``detail``.
    """
    rows: list[tuple[str, str, str, str]] = []
    tested = against_random(table).query("method != 'magnitude'")  # which reads no data
    for network, aware in tested.groupby("network", sort=False):
        answer = "yes" if (aware["verdict"] == "lower").all() else f"{_lower(aware)} methods do"
        rows.append((BEATS, network, answer, _by_verdict(aware)))
    for one in closing(table, margin).itertuples():
        detail = (
            f"standard deviation over methods {one.before:.3f}, then {one.after:.3f} nats; "
            f"change {one.difference:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"
        )
        rows.append((CLOSES, one.network, one.verdict, detail))
    if (table["scenario"] == "transfer").any():
        others = {
            "old task": "choosing on the old task",
            "random": "random removal",
            "unpruned": "no pruning",
        }
        question = "After transfer, is choosing on the new task better than"
        groups = transferred(table).groupby(["network", "against"], sort=False)
        rows += [
            (f"{question} {others[who]}?", network, f"{_lower(one)} methods are", _by_verdict(one))
            for (network, who), one in groups
        ]
    return pd.DataFrame(
        rows if comparable else [], columns=["question", "network", "answer", "detail"]
    )


def answer(against: pd.DataFrame, closed: pd.DataFrame, comparable: bool) -> str:
    """The answer to the notebook's question in words: what removal costs, and what fine-tuning wins
    back.

    Args:
        against: from ``against_random``.
        closed: from ``closing``.
        comparable: False for a run that is too small to judge.
    """

    def said(one: Any) -> str:
        mine = against[against["network"] == one.network]
        best = mine.loc[mine["mean"].idxmin()]
        return (
            f"{one.network}: {_lower(mine)} methods cost "
            "less than "
            f"random removal, least {METHODS[best['method']]} ({best['mean']:+.2f} against "
            f"{best['mean'] - best['difference']:+.2f} nats); fine-tuning takes the spread "
            "over methods "
            f"from {one.before:.2f} to {one.after:.2f} nats ({one.verdict})"
        )

    small = "" if comparable else " This run is too small for verdicts."
    return f"{'. '.join(map(said, closed.itertuples()))}.{small}"


def _lower(found: pd.DataFrame) -> str:
    return f"{(found['verdict'] == 'lower').sum()} of {len(found)}"


def _by_verdict(found: pd.DataFrame) -> str:
    groups = found.groupby("verdict")
    return "; ".join(f"{verdict}: {', '.join(one['method'])}" for verdict, one in groups)


def _wide(table: pd.DataFrame, value: str) -> dict[str, NDArray[np.float64]]:
    """The values of each method, seed by seed."""
    wide = table.pivot(index="seed", columns="method", values=value)
    return {m: wide[m].to_numpy() for m in dict.fromkeys(table["method"])}
