"""Notebook 14 in tables: means over graphs beside the printed values, the three rules, and the
answer.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from bogp.outputs import verdict
from bogp.statistics import group_intervals, mean_interval, paired_difference
from bogp.zoo.networks import SIZES

# Mean Spearman correlations, as printed, of 500 Bernoulli(1/2) masks of graphs of each class.
PRINTED = pd.DataFrame(
    {
        "size": list(SIZES),
        "path": (0.299, 0.296, 0.349, 0.411),
        "linear": (0.060, 0.201, 0.248, 0.294),
        "magnitude": (0.547, 0.505, 0.369, 0.280),
        "published_taylor": (0.119, -0.052, -0.136, -0.204),
    }
).melt("size", var_name="predictor", value_name="spearman")
# Of each predictor, by the masks it is fitted to.
PREDICTORS = {
    ("zero-shot", "magnitude"): "kept magnitude (L1)",
    ("zero-shot", "published_taylor"): "kept Taylor, as published",
    ("zero-shot", "live_edges"): "number of live edges",
    ("zero-shot", "first_order"): "first order, signed",
    ("zero-shot", "gauss_newton"): "second order, Gauss-Newton",
    ("zero-shot", "fisher"): "second order, Fisher",
    ("zero-shot", "hessian"): "second order, Hessian",
    ("published", "path"): "paths, E + 2 masks",
    ("published", "linear"): "linear, E + 2 masks",
    ("larger", "path"): "paths, more masks",
    ("larger", "linear"): "linear, more masks",
    ("larger", "linear_live"): "linear in live edges, more masks",
    ("larger", "pairs_live"): "pairs of live edges, more masks",
    ("larger", "process_live"): "process on live edges, more masks",
    ("larger", "process_taylor"): "process with Taylor mean, more masks",
}
METHODS = {
    "random": "random",
    "greedy": "greedy",
    "quadratic": "Taylor model alone",
    "bo": "BO, Taylor mean",
    "bo_constant": "BO, constant mean",
    "bo_permuted": "BO, mean of permuted edges",
}
ENOUGH = 10  # graphs that a verdict needs
# rule 3: the regret that is aimed at, after this share of the evaluations
WITHIN, SHARE = 0.05, 0.1
REACHES = 0.8  # rule 2: the mean rank correlation that is aimed at


def summary(ranked: pd.DataFrame) -> pd.DataFrame:
    """Mean over graphs with 95 % t interval, its ends kept within [-1, 1], for each class, beside
    the printed values.

    Graphs whose losses do not differ are left out; ``n`` counts those that stay.

    Args:
        ranked: from ``ranking.ranks``, of all graphs.
    """
    keys = ["size", "reading", "design", "predictor", "masks"]
    rows = [
        dict(zip(keys, key, strict=True))
        | mean_interval(group["spearman"]).columns("spearman")
        | mean_interval(group["kendall"]).columns("kendall")
        | {"n": len(group)}
        for key, group in ranked.dropna(subset=["spearman"]).groupby(keys, sort=False)
    ]
    printed = PRINTED.rename(columns={"spearman": "printed"})
    table = pd.DataFrame(rows).merge(printed, on=["size", "predictor"], how="left")
    ends = [f"{value}_{end}" for value in ("spearman", "kendall") for end in ("low", "high")]
    return table.assign(**table[ends].clip(-1, 1))


def signed_against_unsigned(ranked: pd.DataFrame) -> pd.DataFrame:
    """Spearman of the signed first order less that of the unsigned published form, paired over
    graphs.

    Returns:
        A row for each set of ``masks`` (``connected``, ``single``) and ``size`` (``all`` first):
        mean difference with 95 % t interval.
    """
    scored = ranked.query("reading == 'removed' and design == 'zero-shot'")
    keys, pair = ["masks", "size", "seed"], ["first_order", "published_taylor"]
    wide = scored.pivot(index=keys, columns="predictor", values="spearman")[pair].dropna()
    return pd.DataFrame(
        {"masks": masks, "size": size, **vars(paired_difference(*group.to_numpy().T))}
        for masks in ("connected", "single")
        for size, group in [
            ("all", wide.loc[masks]),
            *wide.loc[masks].groupby("size", sort=False),
        ]
    )


def reached(found: pd.DataFrame, within: float = WITHIN, share: float = SHARE) -> pd.DataFrame:
    """For each method, how many graphs have a mean regret (over repeats) within a bound after a
    share of the evaluations.

    Args:
        found: from ``searching.searches``, of all graphs.
        within: the bound.
        share: of the feasible masks.

    Returns:
        ``method``, ``graphs`` within the bound, ``of`` all graphs, and the mean regret with its 95
        % t interval over graphs.
    """
    early = found[found["share"] <= share + 1e-9].groupby(["method", "seed", "repeat"], sort=False)
    regret = early["regret"].last().groupby(["method", "seed"], sort=False).mean()
    by_graph = regret.reset_index().assign(near=regret.to_numpy() <= within)
    near = by_graph.groupby("method", sort=False)["near"].agg(["sum", "size"])
    means = group_intervals(by_graph, ["method"], ["regret"])[["mean", "low", "high"]]
    counts = {"method": near.index, "graphs": near["sum"].to_numpy(), "of": near["size"].to_numpy()}
    return pd.DataFrame(counts).join(means)


def verdicts(
    ranked: pd.DataFrame, summarised: pd.DataFrame, reached_by: pd.DataFrame, share: float
) -> pd.DataFrame:
    """The three targets by their rules: met, not met, or no verdict where there are too few graphs
    or other settings than the rule's.

    Args:
        ranked: from ``ranking.ranks``, of all graphs.
        summarised: from ``summary``.
        reached_by: from ``reached``.
        share: of the feasible masks that searches could evaluate; the rule needs at least 10 %.

    Returns:
        ``target``, ``verdict`` and ``measured``, in words.
    """
    seeds = ranked.groupby("size")["seed"].nunique()
    pair = signed_against_unsigned(ranked).iloc[0]
    rows = [
        (
            "Signed first order beats the unsigned published form on connected masks",
            seeds.min() >= ENOUGH and len(seeds) == len(SIZES),
            pair["low"] > 0,
            f"Difference in Spearman {pair['mean']:+.3f} [{pair['low']:+.3f}, "
            f"{pair['high']:+.3f}], "
            f"n = {pair['n']} graphs.",
        )
    ]
    fitted = summarised.query(
        "size == '> 100' and masks == 'connected' and design != 'zero-shot' and reading == "
        "'removed'"
    )
    if len(fitted):
        best = fitted.sort_values("spearman").iloc[-1]
        rows.append(
            (
                "Some surrogate reaches 0.8 on connected masks at > 100 edges",
                best["n"] >= ENOUGH,
                best["spearman"] >= REACHES,
                f"Best: {PREDICTORS[best['design'], best['predictor']]}; mean Spearman "
                f"{best['spearman']:.3f} [{best['spearman_low']:.3f}, "
                f"{best['spearman_high']:.3f}].",
            )
        )
    (bo,) = reached_by[reached_by["method"] == "bo"].itertuples()
    others = reached_by[reached_by["method"] != "bo"].itertuples()
    rows.append(
        (
            "Search with the Taylor prior reaches 5 % regret with 10 % of the evaluations in "
            "8 of 10 graphs",
            bo.of >= ENOUGH and share >= SHARE,
            bo.graphs >= 0.8 * bo.of,
            f"{bo.graphs} of {bo.of} graphs, mean regret {bo.mean:.3f} [{bo.low:.3f}, "
            f"{bo.high:.3f}]; "
            f"{'; '.join(f'{METHODS[r.method]} {r.graphs} of {r.of}' for r in others)}.",
        )
    )
    judged = [(target, verdict(met, enough), said) for target, enough, met, said in rows]
    return pd.DataFrame(judged, columns=["target", "verdict", "measured"])


def answer(judged: pd.DataFrame, of_flow: str) -> str:
    """The answer to the notebook's question in words: the rules, their verdicts and what was
    measured.

    Args:
        judged: from ``verdicts``.
        of_flow: from ``fresh_tables.answer``.
    """
    said = [f"{one.target}: {one.verdict}. {one.measured}" for one in judged.itertuples()]
    return " ".join([*said, of_flow])


def facts(measured: Mapping[tuple[str, int], pd.DataFrame]) -> pd.DataFrame:
    """Accuracy of the full networks, and the share of half-masks that keep them connected: means by
    class.

    Args:
        measured: from ``measure.measured``.
    """
    rows = (
        {
            "size": size,
            "accuracy": table["accuracy"][0],
            "connected half-masks": table.loc[table["part"] == "half", "connected"].mean(),
        }
        for (size, _), table in measured.items()
    )
    return pd.DataFrame(rows).groupby("size", sort=False).mean()


def wide(summarised: pd.DataFrame) -> pd.DataFrame:
    """The correlations of ``summary`` with a column for each class of graphs, by reading and
    masks; predictors have their names.
    """
    names = [PREDICTORS[key] for key in zip(summarised.design, summarised.predictor, strict=True)]
    index, values = ["reading", "masks", "predictor"], ["spearman", "kendall"]
    table = summarised.assign(predictor=names).pivot_table(
        index=index, columns="size", values=values, sort=False
    )
    return table.reindex(columns=summarised["size"].unique(), level="size").round(3)
