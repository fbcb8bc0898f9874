"""The new graphs of notebook 14 in tables: correlations with and without the number of removed
edges held fixed, priors against permuted ones, single edges, and the rules' verdicts.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from bogp.outputs import verdict
from bogp.statistics import correlation_intervals, paired_difference

LABELS = {
    "number": "number of removed edges",
    "live_edges": "number of live edges",
    "magnitude": "kept magnitude (L1)",
    "published_taylor": "kept Taylor, as published",
    "published_taylor_cooled": "kept Taylor, logits / 3",
    "first_order": "first order, signed",
    "first_order_cooled": "first order, logits / 3",
    "fisher": "second order, Fisher",
    "hessian": "second order, Hessian",
    "equal_shares": "equal shares, no pass",
    "shares": "flow shares",
    "shares_noise": "flow shares, noise as input",
    "flow": "flow",
    "flow_noise": "flow, noise as input",
    "leave_one_out": "measured loss",
    "path": "path surrogate, fitted",
    "process_constant": "process, constant prior",
    "process_permuted": "process, permuted flow as prior",
    "process_taylor": "process, Taylor prior",
    "process_flow": "process, flow as prior",
}
SINGLE = ("leave_one_out", "hessian", "flow", "shares", "number")
WANTED = {"spearman": 0.95, "given": 0.9}  # of flow, in each class
ENOUGH = 10  # graphs of a class, below which there is no verdict


def summary(ranked: pd.DataFrame) -> pd.DataFrame:
    """Mean over graphs with 95 % t interval, its ends kept within [-1, 1].

    Args:
        ranked: from ``fresh.ranks``, of all graphs.

    Returns:
        A row for each ``size``, ``masks``, ``predictor`` and ``measure`` (``spearman``, ``given``):
        ``evaluations`` (mean over graphs of the masks that it needs; one row for each budget of a
        process), ``mean``, ``low``, ``high`` and ``n`` graphs where it is defined.
    """
    # The published design and single edges are as many as a graph has edges.
    own = ranked["predictor"].isin(["path", "leave_one_out"])
    needs = ranked.groupby(["size", "masks", "predictor"])["evaluations"].transform("mean")
    table = ranked.assign(evaluations=ranked["evaluations"].where(~own, needs.round(1)))
    return correlation_intervals(table, ["size", "masks", "predictor", "evaluations"])


def priors(ranked: pd.DataFrame, searched: pd.DataFrame) -> pd.DataFrame:
    """What a prior mean adds to a permuted one, paired over graphs.

    Args:
        ranked: from ``fresh.ranks``, of all graphs.
        searched: from ``hard_search.measure``, of all graphs; what counts is the regret in the end.

    Returns:
        A row for each ``task`` (``ranking``: Spearman given the number of removed edges;
        ``search``: regret), ``size``, ``evaluations`` and ``prior``: its ``mean``; and
        ``difference`` from the permuted prior, with ``low``, ``high`` (95 % t interval) and ``n``.
    """
    fitted = ranked[(ranked["masks"] == "connected") & ranked["predictor"].str.match("process_")]
    fitted = fitted.assign(prior=fitted["predictor"].str.removeprefix("process_"), task="ranking")
    last = searched.groupby(["size", "seed", "prior"], sort=False).last().reset_index()
    last = last.rename(columns={"evaluation": "evaluations"}).assign(task="search")
    both = pd.concat(
        [fitted.rename(columns={"given": "value"}), last.rename(columns={"regret": "value"})]
    )
    rows = []
    for key, one in both.groupby(["task", "size", "evaluations"], sort=False):
        wide = one.pivot(index="seed", columns="prior", values="value").dropna()
        for prior in wide.columns if len(wide) else ():
            gap = paired_difference(wide[prior], wide["permuted"])
            who = dict(zip(("task", "size", "evaluations"), key, strict=True)) | {"prior": prior}
            found = {"mean": wide[prior].mean(), "difference": gap.mean}
            rows.append(who | found | {"low": gap.low, "high": gap.high, "n": gap.n})
    return pd.DataFrame(rows)


def singles(summarised: pd.DataFrame) -> pd.DataFrame:
    """What single removals need, by class: mean Spearman over graphs, and evaluated masks.

    Args:
        summarised: from ``summary``.
    """
    some = summarised.query("masks == 'single' and measure == 'spearman'")
    some = some[some["predictor"].isin(SINGLE)]
    return some.pivot_table("mean", ["predictor"], "size", sort=False).reindex(
        columns=summarised["size"].unique()
    )


def recommendation(summarised: pd.DataFrame) -> str:
    """Which method to take for one removal, in words, from ``singles``: the best without an
    evaluation, and what the exact one adds.
    """
    table = singles(summarised)
    free = table.drop(index="leave_one_out")
    said = []
    for size in table:
        best = free[size].idxmax()
        said.append(
            f"{size} edges: {LABELS[best]} {free.loc[best, size]:.2f} without an evaluation, the "
            f"measured loss {table.loc['leave_one_out', size]:.2f}"
        )
    exact = (table.loc["leave_one_out"] > free.max()).all()
    advice = (
        "take the measured loss of each (`leave_one_out`)"
        if exact
        else "no method is best at each size"
    )
    return f"For single edges, {advice}. {'; '.join(said)}."


def verdicts(summarised: pd.DataFrame) -> pd.DataFrame:
    """The two targets of flow in each class by their rules.

    Args:
        summarised: from ``summary``.

    Returns:
        ``target``, ``verdict`` and ``measured``, in words, as ``tables.verdicts``.
    """
    words = {"spearman": "", "given": ", given the number of removed edges,"}
    flow = summarised.query("predictor == 'flow' and masks == 'connected'")
    rows = []
    for one in flow.itertuples():
        want = WANTED[one.measure]
        said = f"Mean {one.mean:.3f} [{one.low:.3f}, {one.high:.3f}], n = {one.n} graphs."
        target = f"Flow{words[one.measure]} reaches {want} on connected masks at {one.size} edges"
        rows.append((target, verdict(one.mean >= want, one.n >= ENOUGH), said))
    return pd.DataFrame(rows, columns=["target", "verdict", "measured"])


def answer(summarised: pd.DataFrame) -> str:
    """What ``verdicts`` says in one sentence a target: classes that meet it, and their means.

    Args:
        summarised: from ``summary``.
    """
    flow = summarised.query("predictor == 'flow' and masks == 'connected'")
    words = {"spearman": "mean Spearman", "given": "given the number of removed edges"}
    said = []
    for measure, of in flow.groupby("measure", sort=False):
        want, mean = WANTED[measure], of["mean"]
        met = verdict((mean >= want).all(), of["n"].min() >= ENOUGH)
        span = f"{mean.min():.3f} to {mean.max():.3f}"
        said.append(f"{words[measure]} {span} ({want} wanted in each: {met})")
    return f"Flow on connected masks of new graphs, by class: {'; '.join(said)}."


def signs(ranked: pd.DataFrame) -> pd.DataFrame:
    """Spearman of the signed first order less that of the unsigned published form, at the trained
    network and with logits divided by 3, where the gradient does not vanish; connected masks,
    paired over graphs.

    Returns:
        A row for each ``size`` and ``logits`` (``as trained``, ``divided``), with ``signed`` and
        ``unsigned``, their means, and ``difference``, ``low``, ``high``, ``n``; the same given the
        number of removed edges (``measure``).
    """
    some = ranked[ranked["masks"] == "connected"]
    rows = []
    for size, one in some.groupby("size", sort=False):
        for measure in ("spearman", "given"):
            wide = one.pivot_table(measure, "seed", "predictor")
            for logits, end in (("as trained", ""), ("divided", "_cooled")):
                pair = wide[[f"first_order{end}", f"published_taylor{end}"]].dropna()
                signed, unsigned = pair.to_numpy().T
                gap = paired_difference(signed, unsigned)
                means = {"signed": np.mean(signed), "unsigned": np.mean(unsigned)}
                who = {"size": size, "measure": measure, "logits": logits}
                found = {"difference": gap.mean, "low": gap.low, "high": gap.high, "n": gap.n}
                rows.append(who | means | found)
    return pd.DataFrame(rows)


def wide(summarised: pd.DataFrame, measure: str = "given") -> pd.DataFrame:
    """The means of ``summary`` on connected masks with a column for each class, beside the number
    of evaluated masks that a predictor needs (at the largest class, where it depends on the graph).
    """
    some = summarised[(summarised["masks"] == "connected") & (summarised["measure"] == measure)]
    own = some["predictor"] == "path"
    some = some.assign(
        evaluations=some["evaluations"].where(~own, some.loc[own, "evaluations"].max())
    )
    table = some.pivot_table("mean", ["predictor", "evaluations"], "size", sort=False)
    columns = [s for s in summarised["size"].unique() if s in table]
    return table[columns].rename(index=LABELS, level="predictor").round(3)
