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
from bogp.variance import detectable_mean

# Of each method: its values and those it is compared with, seed by seed.
Pairs = Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]

# Methods that read data, which the pooled tests take the mean over.
AWARE = (
    "activation",
    "block_influence",
    "flow",
    "flow_greedy",
    "first_order",
    "absolute_first_order",
    "unsigned_taylor",
    "fisher",
    "gauss_newton",
    "hessian",
    "hessian_greedy",
    "leave_one_out",
    "exact_greedy",
)
POWER = 0.8
# Of each question the method that is tested; None is the mean over ``AWARE``.
REMOVAL: dict[str, str | None] = {
    "On average, do methods that read data cost less than random removal?": None,
    "Does measured loss, edge after edge, cost less than random removal?": "exact_greedy",
    "Does flow, edge after edge, cost less than random removal?": "flow_greedy",
}
CLOSES = "Does fine-tuning close the gap between methods?"
# Of each question what the networks chosen on the new task are compared with.
TRANSFER = {
    "After transfer, does choosing on the new task cost less than choosing on the old?": "old task",
    "After transfer, does choosing on the new task cost less than random removal?": "random",
    "After transfer, does choosing on the new task cost less than no pruning?": "unpruned",
}
APART = "not told apart"
_ANSWERS = {"lower": "yes", "higher": "no, it costs more"}
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


def fixed_share(table: pd.DataFrame) -> pd.DataFrame:
    """``at_share`` of each ``scenario``."""
    found = [at_share(table, s).assign(scenario=s) for s in dict.fromkeys(table["scenario"])]
    return pd.concat(found, ignore_index=True)


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
    return found.assign(verdict=np.where(found["p_holm"] < 0.05, words, APART))


def detectable(differences: NDArray[np.float64], family: int = 1) -> float:
    """The smallest mean difference that a paired two-sided t test finds with probability 0.8, if
    pairs differ as these do.

    Args:
        differences: of the pairs.
        family: tests that are corrected together; the first step of Holm's test is meant.

    Returns:
        In the unit of the differences; NaN where they have no spread.
    """
    count = len(differences)
    error = differences.std(ddof=1) / np.sqrt(count) if count > 1 else 0.0
    return detectable_mean(error, count - 1, POWER, 0.05 / family) if error > 0 else np.nan


def against_random(table: pd.DataFrame, value: str = "change") -> pd.DataFrame:
    """Each method against random removal: areas under the curves, paired over seeds, one family a
    network (``compared``).
    """
    wide_of = {n: _wide(one, value) for n, one in areas(table).groupby("network", sort=False)}
    found = [
        compared({m: (wide[m], wide["random"]) for m in wide if m != "random"}).assign(
            network=network
        )
        for network, wide in wide_of.items()
    ]
    return pd.concat(found, ignore_index=True)


def tested(table: pd.DataFrame) -> pd.DataFrame:
    """The tests that were named before the run. Each question is one family, a test a network.

    Args:
        table: long; each of ``AWARE`` is there in each seed.

    Returns:
        A row for each ``question`` and ``network``, as ``compared``, with ``detectable``
        (``detectable``). Questions of transfer are left out where nothing was transferred.

    Raises:
        InvalidInput: a method is missing, or is not there in each seed.
    """
    of_areas = {n: _wide(one, "change") for n, one in areas(table).groupby("network", sort=False)}
    families = {
        question: {n: (_pooled(w, method), w["random"]) for n, w in of_areas.items()}
        for question, method in REMOVAL.items()
    }
    if (table["scenario"] == "transfer").any():
        sides = _transfer_sides(table)
        families |= {
            question: {n: _pooled_sides(side[against]) for n, side in sides.items()}
            for question, against in TRANSFER.items()
        }
    found = [
        compared(pairs)
        .rename(columns={"method": "network"})
        .assign(
            question=question, detectable=[detectable(a - b, len(pairs)) for a, b in pairs.values()]
        )
        for question, pairs in families.items()
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
        interval (``low``, ``high``) and ``n`` seeds, and what of it would be ``detectable``;
        ``worst_p``, the largest p value of the methods' tests of
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
        verdict = "narrowed" if gap.high < 0 else "widened" if gap.low > 0 else APART
        means = {"network": network, "before": spread.mean(), "after": spread_after.mean()}
        least = {"detectable": detectable(spread_after - spread), "worst_p": worst}
        rows.append(means | vars(gap) | least | {"verdict": "closed" if worst < 0.05 else verdict})
    return pd.DataFrame(rows).rename(columns={"mean": "difference"})


def tuned(table: pd.DataFrame) -> pd.DataFrame:
    """Networks after fine-tuning, at the share that is fine-tuned.

    Returns:
        As ``compared``. In rows with ``against`` ``random`` each method is compared with random
        removal, a family a network; with ``fine-tuned``, new initial weights in the structure that
        a method chose with the trained ones, fine-tuned.
    """
    pruned = at_share(table, "removal").query("method != 'unpruned'")
    found = []
    for network, one in pruned.groupby("network", sort=False):
        after, new = (_wide(one[one["weights"] == w], "loss") for w in ("tuned", "new"))
        sides: dict[str, Pairs] = {
            "random": {m: (after[m], after["random"]) for m in after if m != "random"},
            "fine-tuned": {m: (new[m], after[m]) for m in new},
        }
        found += [
            compared(pairs).assign(network=network, against=against)
            for against, pairs in sides.items()
            if pairs
        ]
    return pd.concat(found, ignore_index=True)


def transferred(table: pd.DataFrame) -> pd.DataFrame:
    """Networks fine-tuned on the new classes, compared with three others.

    Each method chosen on the new task is compared with the same on the old task, with random
    removal, and with no pruning; a family is one network and one of these (column ``against``).

    Raises:
        InvalidInput: nothing was transferred.
    """
    found = [
        compared(pairs).assign(network=network, against=against)
        for network, sides in _transfer_sides(table).items()
        for against, pairs in sides.items()
    ]
    return pd.concat(found, ignore_index=True)


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
    if comparable:
        found, closed = tested(table), closing(table, margin)
        of_removal = found["question"].isin(list(REMOVAL))
        rows += [_tested_row(one) for one in found[of_removal].itertuples()]
        rows += [_closing_row(one) for one in closed.itertuples()]
        rows += [_tested_row(one) for one in found[~of_removal].itertuples()]
    return pd.DataFrame(rows, columns=["question", "network", "answer", "detail"])


def answer(found: pd.DataFrame, closed: pd.DataFrame, comparable: bool) -> str:
    """The answer to the notebook's question in words: what removal costs, and what fine-tuning wins
    back.

    Args:
        found: from ``tested``.
        closed: from ``closing``.
        comparable: False for a run that is too small to judge.
    """

    def judged(verdict: str) -> str:
        return f" ({verdict})" if comparable else ""

    def said(one: Any) -> str:
        mine = found[found["network"] == one.network].set_index("question")
        pooled, exact, flow = (mine.loc[question] for question in REMOVAL)
        return (
            f"{one.network}: against random removal, methods that read data cost on average "
            f"{_interval(pooled)} nats{judged(pooled.verdict)}, measured loss edge after edge "
            f"{_interval(exact)}{judged(exact.verdict)}, flow edge after edge "
            f"{_interval(flow)}{judged(flow.verdict)}; fine-tuning takes the spread over methods "
            f"from {one.before:.2f} to {one.after:.2f} nats{judged(one.verdict)}"
        )

    small = "" if comparable else " This run is too small for verdicts."
    return f"{'. '.join(map(said, closed.itertuples()))}.{small}"


def _tested_row(one: Any) -> tuple[str, str, str, str]:
    detail = f"{_interval(one, 3)} nats, n = {one.n}, p = {one.p_holm:.2g} after Holm"
    said = _ANSWERS.get(one.verdict) or not_told_apart(one.detectable)
    return one.question, one.network, said, detail


def _closing_row(one: Any) -> tuple[str, str, str, str]:
    detail = (
        f"standard deviation over methods {one.before:.3f}, then {one.after:.3f} nats; "
        f"change {one.difference:+.3f} [{one.low:+.3f}, {one.high:+.3f}], n = {one.n}"
    )
    said = not_told_apart(one.detectable) if one.verdict == APART else one.verdict
    return CLOSES, one.network, said, detail


def not_told_apart(least: float) -> str:
    """The answer of a test that finds nothing, with the least effect that it would have found.

    Args:
        least: from ``detectable``, in nats; NaN where seeds do not differ.
    """
    if np.isnan(least):
        return f"{APART} (all seeds gave the same)"
    return f"{APART} (least effect found with {100 * POWER:.0f} % power: {least:.2g} nats)"


def _interval(one: Any, digits: int = 2) -> str:
    mean, low, high = (
        f"{x:+.{digits}f}" for x in (one.difference, one.difference_low, one.difference_high)
    )
    return f"{mean} [{low}, {high}]"


def _pooled(wide: Mapping[str, NDArray[np.float64]], method: str | None) -> NDArray[np.float64]:
    """One number a seed: a method's, or the mean over ``AWARE``."""
    wanted = AWARE if method is None else (method,)
    missing = [m for m in wanted if m not in wide or np.isnan(wide[m]).any()]
    if missing:
        raise InvalidInput(f"{', '.join(missing)}: the tests need these in each seed.")
    return np.mean([wide[m] for m in wanted], axis=0)


def _pooled_sides(pairs: Pairs) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    new, other = ({m: pair[side] for m, pair in pairs.items()} for side in (0, 1))
    return _pooled(new, None), _pooled(other, None)


def _transfer_sides(table: pd.DataFrame) -> dict[str, dict[str, Pairs]]:
    """Of each network, and of each of what it is compared with: losses on the new classes after
    fine-tuning, of each method chosen on the new task, and of the other.
    """
    tuned = at_share(table, "transfer").query("weights == 'tuned'")
    if tuned.empty:
        raise InvalidInput("Nothing was transferred: no study has old and new classes.")
    found: dict[str, dict[str, Pairs]] = {}
    for network, one in tuned.groupby("network", sort=False):
        new, old, none = (
            _wide(one[one["chosen_on"] == c], "loss") for c in ("this", "old", "none")
        )
        found[network] = {
            "old task": {m: (new[m], old[m]) for m in new},
            "random": {m: (new[m], none["random"]) for m in new},
            "unpruned": {m: (new[m], none["unpruned"]) for m in new},
        }
    return found


def _wide(table: pd.DataFrame, value: str) -> dict[str, NDArray[np.float64]]:
    """The values of each method, seed by seed."""
    wide = table.pivot(index="seed", columns="method", values=value)
    return {m: wide[m].to_numpy() for m in dict.fromkeys(table["method"])}
