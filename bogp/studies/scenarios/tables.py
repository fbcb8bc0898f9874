"""What the scenarios' long table says: one number a method, intervals over seeds, and comparisons in pairs of one seed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from bogp.errors import InvalidInput
from bogp.statistics import equivalence, holm, mean_interval, paired_difference

Pairs = Mapping[
    str, tuple[NDArray[np.float64], NDArray[np.float64]]
]  # of each method: its values and those it is compared with, seed by seed

_VALUES = ["share_edges", "share_parameters", "loss", "change", "absolute_change", "accuracy"]


def curves(table: pd.DataFrame) -> pd.DataFrame:
    """Edge removal at all levels: a row for each ``network``, ``seed``, ``method`` and ``level``, the mean over the draws of ``random``."""
    some = table[(table["scenario"] == "removal") & (table["weights"] == "kept") & table["level"].notna() & (table["method"] != "unpruned")]
    return some.groupby(["network", "seed", "method", "level"], sort=False)[_VALUES].mean().reset_index()


def areas(table: pd.DataFrame) -> pd.DataFrame:
    """One number a method: the mean over the share of removed edges, from none to the most, by the trapezoidal rule.

    Returns:
        A row for each ``network``, ``seed`` and ``method``: ``change`` of the loss (signed), ``absolute_change``, ``accuracy``.
    """
    rows = []
    for (network, seed, method), one in curves(table).groupby(["network", "seed", "method"], sort=False):
        x = one["share_edges"].to_numpy()
        means = {v: np.trapezoid(one[v], x) / (x[-1] - x[0]) for v in ("change", "absolute_change", "accuracy")}
        rows.append({"network": network, "seed": seed, "method": method} | means)
    return pd.DataFrame(rows)


def at_share(table: pd.DataFrame, scenario: str) -> pd.DataFrame:
    """The networks at the one share that is fine-tuned, and the unpruned ones: a row for each ``network``, ``seed``, ``method``, ``chosen_on``, ``weights``."""
    some = table[(table["scenario"] == scenario) & (table["level"].isna() | (table["method"] == "unpruned"))]
    return some.groupby(["network", "seed", "method", "chosen_on", "weights"], sort=False)[_VALUES].mean().reset_index()


def intervals(table: pd.DataFrame, by: list[str], values: list[str]) -> pd.DataFrame:
    """Mean with 95 % t interval over seeds: a row for each group and value, columns ``measure``, ``mean``, ``low``, ``high``, ``n``."""
    rows = []
    for keys, one in table.groupby(by, sort=False):
        rows += [dict(zip(by, keys, strict=True)) | {"measure": v} | vars(mean_interval(one[v])) for v in values]
    return pd.DataFrame(rows)


def compared(pairs: Pairs) -> pd.DataFrame:
    """Paired comparisons that make one family.

    Args:
        pairs: of each method two lists of losses, of the same seeds in the same order: its own, and what it is compared with.

    Returns:
        A row a method: ``mean``, ``low``, ``high`` of its own; ``difference`` with ``difference_low`` and ``difference_high`` (95 % t interval, not
        corrected); ``p`` of a paired t test and ``p_holm``; ``verdict``: ``lower``, ``higher`` (p_holm < .05) or ``not told apart``.
    """
    rows = []
    for method, (own, other) in pairs.items():
        mean, gap = mean_interval(own), paired_difference(own, other)
        varied = np.ptp(own - other) > 0  # two methods that agree in each seed have nothing to test
        p = float(stats.ttest_rel(own, other).pvalue) if varied else 1.0
        row = {"method": method, "mean": mean.mean, "low": mean.low, "high": mean.high, "n": mean.n, "difference": gap.mean}
        rows.append(row | {"difference_low": gap.low, "difference_high": gap.high, "p": p})
    found = pd.DataFrame(rows)
    found["p_holm"] = holm(found["p"])
    sure, below = found["p_holm"] < 0.05, found["difference"] < 0
    found["verdict"] = np.where(sure & below, "lower", np.where(sure, "higher", "not told apart"))
    return found


def against_random(table: pd.DataFrame, value: str = "change") -> pd.DataFrame:
    """Each method against random removal: the areas under the curves, paired over seeds, one family a network (``compared``)."""
    found = []
    for network, one in areas(table).groupby("network", sort=False):
        wide = _wide(one, value)
        found.append(compared({m: (wide[m], wide["random"]) for m in wide if m != "random"}).assign(network=network))
    return pd.concat(found, ignore_index=True)


def closing(table: pd.DataFrame, margin: float) -> pd.DataFrame:
    """Whether fine-tuning closes the gaps between methods at the share that is fine-tuned.

    Args:
        table: long.
        margin: difference from random removal, in nats, that counts as none.

    Returns:
        A row a network: the standard deviation of the loss over methods ``before`` and ``after`` fine-tuning (means over seeds), their ``difference``, after -
        before, with its 95 % t interval (``low``, ``high``); ``worst_p``, the largest p value of the methods' tests of equivalence with random after
        fine-tuning; ``verdict``: ``closed`` (all are equivalent), ``narrowed`` (the interval lies below 0), ``widened`` or ``not told apart``.
    """
    rows = []
    for network, one in at_share(table, "removal").groupby("network", sort=False):
        one = one[one["method"] != "unpruned"]
        before, after = (_wide(one[one["weights"] == w], "loss") for w in ("kept", "tuned"))
        spreads = [np.std(list(wide.values()), axis=0) for wide in (after, before)]
        gap = paired_difference(*spreads)
        several = gap.n > 1
        worst = max(equivalence(after[m], after["random"], margin).p for m in after if m != "random") if several else float("nan")
        verdict = "narrowed" if gap.high < 0 else "widened" if gap.low > 0 else "not told apart"
        row = {"network": network, "before": spreads[1].mean(), "after": spreads[0].mean(), "difference": gap.mean, "low": gap.low}
        rows.append(row | {"high": gap.high, "n": gap.n, "worst_p": worst, "verdict": "closed" if worst < 0.05 else verdict})
    return pd.DataFrame(rows)


def transferred(table: pd.DataFrame) -> pd.DataFrame:
    """Networks fine-tuned on the new classes: each method chosen on the new task against the same on the old task, against random removal, and against no
    pruning; a family is one network and one of these (column ``against``).

    Raises:
        InvalidInput: nothing was transferred.
    """
    tuned = at_share(table, "transfer")
    if tuned.empty:
        raise InvalidInput("Nothing was transferred: no study has old and new classes.")
    found = []
    for network, one in tuned[tuned["weights"] == "tuned"].groupby("network", sort=False):
        new, old, none = (_wide(one[one["chosen_on"] == c], "loss") for c in ("this", "old", "none"))
        against = {"old task": old, "random": dict.fromkeys(new, none["random"]), "unpruned": dict.fromkeys(new, none["unpruned"])}
        found += [compared({m: (new[m], other[m]) for m in new}).assign(network=network, against=name) for name, other in against.items()]
    return pd.concat(found, ignore_index=True)


def verdicts(table: pd.DataFrame, margin: float) -> pd.DataFrame:
    """The answers to the questions of notebooks 12 and 13, by the rules that stand there: columns ``question``, ``network``, ``answer``, ``detail``."""
    rows = []
    for network, one in against_random(table).groupby("network", sort=False):
        aware = one[one["method"] != "magnitude"]  # which reads no data
        sure = aware[aware["verdict"] == "lower"]
        answer = "yes" if len(sure) == len(aware) else f"{len(sure)} of {len(aware)} methods do"
        rows.append(("Does each data-aware method beat random removal?", network, answer, _by_verdict(aware)))
    for one in closing(table, margin).itertuples():
        detail = f"standard deviation over methods {one.before:.3f}, then {one.after:.3f} nats; change {one.difference:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"
        rows.append(("Does fine-tuning close the gap between methods?", one.network, one.verdict, detail))
    if (table["scenario"] == "transfer").any():
        questions = {"old task": "choosing on the old task", "random": "random removal", "unpruned": "no pruning"}
        for (network, against), one in transferred(table).groupby(["network", "against"], sort=False):
            question = f"After transfer, is choosing on the new task better than {questions[str(against)]}?"
            rows.append((question, network, f"{(one['verdict'] == 'lower').sum()} of {len(one)} methods are", _by_verdict(one)))
    return pd.DataFrame(rows, columns=["question", "network", "answer", "detail"])


def _by_verdict(found: pd.DataFrame) -> str:
    return "; ".join(f"{verdict}: {', '.join(one['method'])}" for verdict, one in found.groupby("verdict"))


def _wide(table: pd.DataFrame, value: str) -> dict[str, NDArray[np.float64]]:
    """The values of each method, seed by seed."""
    wide = table.pivot(index="seed", columns="method", values=value)
    return {m: wide[m].to_numpy() for m in dict.fromkeys(table["method"])}
