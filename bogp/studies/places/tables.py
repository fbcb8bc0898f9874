"""Notebook 09 in tables: units of comparison, what each rule says, and the answer in words."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from bogp.outputs import verdict, with_interval
from bogp.statistics import equivalence, group_intervals
from bogp.studies.algorithm3 import against_random, evidence
from bogp.studies.places.designs import EFFECTIVE_DIMENSION, GAIN, MAIN, RULES, SPACE

ENOUGH = 5  # pairs, below which there is no verdict
ZERO_SHOT = ("erk", "snip", "grasp", "synflow")
MARGIN = 0.015  # of the search over random graphs
LABELS = {
    "bayesian": "Bayesian optimisation",
    "random": "random search",
    "sobol": "Sobol points",
    "field random": "random weights",
    "erk": "ERK",
    "snip": "SNIP",
    "grasp": "GraSP",
    "synflow": "SynFlow",
    "lottery": "lottery ticket",
    "lamp": "LAMP",
}
OTHERS = (
    "random graph",
    "random",
    "sobol",
    "best of random graphs",
    "placed: both",
    "regular graph",
    "RGP",
    "field random",
    "erk",
    "snip",
    "grasp",
    "synflow",
    "lottery",
    "magnitude",
    "lamp",
    "iterative magnitude",
    "smaller dense",
)


def units(fresh: pd.DataFrame, field: pd.DataFrame, budget: int) -> pd.DataFrame:
    """One number a method and search, or seed: what methods are compared by.

    Args:
        fresh: of searches, from ``measure.searched``; a search's masks are averaged.
        field: from ``measure.field`` and ``measure.best_of_random``; several trainings of one
            number are averaged; its method ``random`` is called ``field random``.
        budget: trainings of a search.

    Returns:
        ``dataset``, ``sparsity``, ``method``, ``number``, ``trainings``, ``test_accuracy``.
    """
    searches = fresh.rename(columns={"search_seed": "number"}).assign(trainings=budget)
    others = field.assign(method=field["method"].replace({"random": "field random"}))
    keys = ["dataset", "sparsity", "method", "number", "trainings"]
    both = pd.concat([searches, others])[[*keys, "test_accuracy"]]
    return both.groupby(keys, sort=False)["test_accuracy"].mean().reset_index()


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean test accuracy of each method with its 95 % t interval over searches or seeds."""
    by = ["dataset", "sparsity", "method", "trainings"]
    return group_intervals(table, by, "test_accuracy")


def differences(table: pd.DataFrame, first: str, others: Sequence[str]) -> pd.DataFrame:
    """What one method has over others, pair by pair (search or seed k with seed k).

    Args:
        table: from ``units``.
        first: a method.
        others: methods.

    Returns:
        ``dataset``, ``sparsity``, ``against``, ``mean``, ``low``, ``high`` (95 % t interval),
        ``n``, and ``detectable``: the difference that would be found with 80 % power.
    """
    rows = []
    for (dataset, sparsity), one in table.groupby(["dataset", "sparsity"], sort=False):
        wide = one.pivot_table(index="number", columns="method", values="test_accuracy")
        for other in others:
            if first in wide and other in wide:
                both = wide[[first, other]].dropna()
                if len(both) < 2:
                    continue
                found = evidence(both[first], both[other])
                rows.append({"dataset": dataset, "sparsity": sparsity, "against": other} | found)
    columns = ["dataset", "sparsity", "against", "mean", "low", "high", "n", "detectable"]
    return pd.DataFrame(rows, columns=columns)


def ceiling(fresh: pd.DataFrame) -> pd.DataFrame:
    """What an oracle gains over random search: the best of all recommended points, chosen by half
    of their fresh masks and measured by the other half, both ways.

    Args:
        fresh: from ``measure.searched``.

    Returns:
        ``dataset``, ``sparsity``, ``oracle``, ``random`` (means) and ``ceiling``, their difference.
    """
    rows = []
    for (dataset, sparsity), one in fresh.groupby(["dataset", "sparsity"], sort=False):
        wide = one.pivot_table(
            index=["method", "search_seed"], columns="mask", values="test_accuracy"
        )
        values = wide.to_numpy()
        half = values.shape[1] // 2
        if not half:
            continue
        parts = values[:, :half].mean(axis=1), values[:, half:].mean(axis=1)
        oracle = np.mean([parts[1][parts[0].argmax()], parts[0][parts[1].argmax()]])
        plain = float(wide.loc["random"].to_numpy().mean())
        rows.append((dataset, sparsity, float(oracle), plain, float(oracle) - plain))
    return pd.DataFrame(rows, columns=["dataset", "sparsity", "oracle", "random", "ceiling"])


def gains(rows: pd.DataFrame, described: pd.DataFrame, held_out: Sequence[str]) -> pd.DataFrame:
    """What places gain on each data set, and whether the statement says so.

    Args:
        rows: from ``measure.settings_on``, of several data sets.
        described: ``dataset`` and ``measure.described``.
        held_out: data sets that did not suggest the statement.

    Returns:
        A row a data set: the description; ``mean``, ``low``, ``high``, ``n`` and ``detectable`` of
        the setting ``both`` over random graphs; ``salience`` and ``locality``, mean gains of those
        alone; ``expected`` (gain of ``GAIN`` or more), ``right``, ``held_out``.
    """
    found = []
    for dataset, one in rows.groupby("dataset", sort=False):
        wide = one.pivot_table(index="number", columns="kind", values="test_accuracy")
        base = wide["random graph"]
        row = {"dataset": dataset} | evidence(wide["both"], base)
        row |= {name: float((wide[name] - base).mean()) for name in ("salience", "locality")}
        found.append(row)
    table = described.merge(pd.DataFrame(found), on="dataset")
    expected = table["effective_dimension"] > EFFECTIVE_DIMENSION
    right = expected == (table["mean"] >= GAIN)
    return table.assign(
        expected=expected, right=right, held_out=table["dataset"].isin(list(held_out))
    )


def taken_away(rows: pd.DataFrame) -> pd.DataFrame:
    """What each null leaves of the setting ``both``: its gain over random graphs.

    Args:
        rows: of ``measure.settings_on`` with the kinds of ``measure.nulls`` and random graphs.

    Returns:
        ``kind``, ``mean``, ``low``, ``high``, ``n``, ``detectable``; ``equivalent``: whether the
        90 % interval lies within ``GAIN`` of random graphs.
    """
    wide = rows.pivot_table(index="number", columns="kind", values="test_accuracy")
    base, found = wide["random graph"], []
    for kind in rows["kind"].unique():
        if kind == "random graph":
            continue
        same = equivalence(wide[kind], base, GAIN).holds
        found.append({"kind": kind} | evidence(wide[kind], base) | {"equivalent": same})
    return pd.DataFrame(found)


def learned(fixed: pd.DataFrame, dataset: str) -> dict[str, float]:
    """The gain with places learned, minus two thirds of the gain with places known, pair by pair.

    Args:
        fixed: from ``measure.fixed``.
        dataset: of which there is a version with pixels shuffled, too.

    Returns:
        As ``evidence``, with ``learned`` and ``known``, the mean gains.
    """
    parts = []
    for name in (f"{dataset}+shuffled", dataset):
        rows = fixed[fixed["dataset"] == name]
        wide = rows.pivot_table(index="number", columns="kind", values="test_accuracy")
        parts.append((wide["both"] - wide["random graph"]).to_numpy())
    found = evidence(parts[0], 2 / 3 * parts[1])
    return found | {"learned": float(parts[0].mean()), "known": float(parts[1].mean())}


def printed_against(retrained: pd.DataFrame) -> pd.DataFrame:
    """What each search of the printed algorithm has over random search in the same database.

    Args:
        retrained: from ``measure.printed``.

    Returns:
        ``database``, and as ``algorithm3.against_random``.
    """
    parts = [
        against_random(one).assign(database=database)
        for database, one in retrained.groupby("database", sort=False)
    ]
    return pd.concat(parts, ignore_index=True)


def judged(
    against: pd.DataFrame,
    printed: pd.DataFrame,
    shuffled: Mapping[str, float],
    null: pd.DataFrame,
    gained: pd.DataFrame,
    dataset: str,
) -> pd.DataFrame:
    """Each rule of ``designs.RULES`` on what was found, at the main sparsity.

    Args:
        against: ``differences`` of Bayesian optimisation and ``OTHERS``.
        printed: from ``printed_against``.
        shuffled: from ``learned``.
        null: from ``taken_away``.
        gained: from ``gains``.
        dataset: on which rules are judged.

    Returns:
        ``rule``, ``text``, ``found``, ``detectable`` and ``verdict``.
    """
    main = against.query("dataset == @dataset and sparsity == @MAIN").set_index("against")
    own = printed.query("database == 'placed'").set_index("searched")
    nobody = null.set_index("kind").loc["nodes renumbered"]
    held = gained[gained["held_out"]]

    def row(rule: str, rows: Sequence[Mapping[str, float]], met: bool) -> tuple[object, ...]:
        words = "; ".join(with_interval(one, "+.4f") for one in rows)
        least = max(float(one["detectable"]) for one in rows)
        enough = min(int(one["n"]) for one in rows) >= ENOUGH
        return rule, RULES[rule], words, least, verdict(met, enough)

    def above(one: Mapping[str, float], margin: float = 0.0) -> bool:
        return bool(one["low"] >= margin if margin else one["low"] > 0)

    zero_shot = [dict(main.loc[name]) for name in ZERO_SHOT]
    graphs, lottery = dict(main.loc["random graph"]), dict(main.loc["lottery"])
    better, features = dict(main.loc["random"]), dict(own.loc["labelled features"])
    right, enough = int(held["right"].sum()), held["n"].min() >= ENOUGH
    rows = [
        row("random graphs", [graphs], above(graphs, MARGIN)),
        row("zero-shot", zero_shot, all(map(above, zero_shot))),
        row("lottery ticket", [lottery], above(lottery)),
        row("bayesian", [better], above(better)),
        row("printed", [features], above(features)),
        row("learned", [shuffled], above(shuffled)),
        row("renumbered", [dict(nobody)], bool(nobody["equivalent"])),
        (
            "statement",
            RULES["statement"],
            f"{right} of {len(held)} right",
            float("nan"),
            verdict(right == len(held), bool(enough)),
        ),
    ]
    return pd.DataFrame(rows, columns=["rule", "text", "found", "detectable", "verdict"])


def standing(
    means: pd.DataFrame, against: pd.DataFrame, sparsity: float | None = None
) -> pd.DataFrame:
    """All methods in words, best first: accuracy, trainings, and what the search has over them.

    Args:
        means: from ``summary``.
        against: from ``differences``.
        sparsity: of the rows; None is all.
    """
    rows = means if sparsity is None else means[means["sparsity"] == sparsity]
    keys = ["dataset", "sparsity"]
    found = against.set_index([*keys, "against"])
    words = []
    for row in rows.to_dict("records"):
        key = (row["dataset"], row["sparsity"], row["method"])
        over = with_interval(found.loc[key], "+.4f") if key in found.index else ""
        words.append((with_interval(row), over))
    table = rows[[*keys, "method", "trainings", "n"]].assign(
        method=rows["method"].replace(LABELS),
        **{"test accuracy": [w for w, _ in words], "the search has over it": [o for _, o in words]},
    )
    order = np.lexsort([-rows["mean"], rows["sparsity"], rows["dataset"]])
    return table.iloc[order].reset_index(drop=True)


def in_words(gained: pd.DataFrame) -> pd.DataFrame:
    """``gains`` for people: what places gain, by data set."""
    yes = {True: "yes", False: "no"}
    return pd.DataFrame(
        {
            "data set": gained["dataset"],
            "effective dimension": [f"{d:.1f}" for d in gained["effective_dimension"]],
            "over random graphs": [with_interval(r, "+.4f") for r in gained.to_dict("records")],
            "salience alone": [f"{x:+.4f}" for x in gained["salience"]],
            "locality alone": [f"{x:+.4f}" for x in gained["locality"]],
            f"{GAIN:g} expected": gained["expected"].map(yes),
            "right": gained["right"].map(yes),
            "held out": gained["held_out"].map(yes),
        }
    )


def beside(against: pd.DataFrame) -> pd.DataFrame:
    """``differences`` for people: what the search has over each method, by data set."""
    words = [with_interval(row, "+.4f") for row in against.to_dict("records")]
    named = against.assign(words=words, against=against["against"].replace(LABELS))
    wide = named.pivot(index="dataset", columns="against", values="words").fillna("")
    order = named["dataset"].unique(), named["against"].unique()
    return wide.loc[order[0], order[1]].reset_index().rename(columns={"dataset": "data set"})


def numbers(fresh: pd.DataFrame) -> pd.DataFrame:
    """Median and quartiles of the numbers that Bayesian searches recommend, by sparsity."""
    own = fresh[(fresh["method"] == "bayesian") & (fresh["mask"] == 0)]
    rows = []
    for sparsity, one in own.groupby("sparsity", sort=False):
        quartiles = {a.name: np.percentile(one[a.name], [50, 25, 75]) for a in SPACE}
        words = {name: "{:.2g} ({:.2g} to {:.2g})".format(*q) for name, q in quartiles.items()}
        rows.append({"sparsity": sparsity} | words)
    return pd.DataFrame(rows)


def by_kind(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean test accuracy of each kind of mask and network, with its 95 % t interval, in words."""
    table = group_intervals(rows, ["network", "kind"], "test_accuracy")
    words = [with_interval(row) for row in table.to_dict("records")]
    wide = table.assign(words=words).pivot(index="kind", columns="network", values="words")
    return wide.loc[rows["kind"].unique()]


def answer(rules: pd.DataFrame, gained: pd.DataFrame, where: str) -> str:
    """The notebook's answer.

    Args:
        rules: from ``judged``.
        gained: from ``gains``.
        where: the data set that rules are judged on.
    """
    of = rules.set_index("rule")
    met = (rules["verdict"] == "met").sum()
    none = gained[gained["mean"] < GAIN]["dataset"].tolist()
    nothing = f" Places gain less than {GAIN:g} on {', '.join(none)}." if none else ""
    return (
        f"On {where}, all layers masked at s = {MAIN:g}, masks searched by six numbers beat random "
        f"graphs by {of['found']['random graphs']} and the lottery ticket by "
        f"{of['found']['lottery ticket']}. To draw such a mask takes no label and no gradient; to "
        "search takes trainings, whose number the figure gives. Bayesian "
        f"optimisation beats random search in the same space by {of['found']['bayesian']}, and the "
        f"printed algorithm over labelled features by {of['found']['printed']}.{nothing} {met} of "
        f"{len(rules)} rules are met."
    )
