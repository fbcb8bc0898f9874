"""Notebook 16 in tables: the rules judged, and the answer in words."""

import pandas as pd

from bogp.outputs import verdict, with_interval
from bogp.studies.residual_stream.designs import RULES

ENOUGH = 3  # seeds, below which there is no verdict
MOST_GOOD = 0.05  # share of graphs near the best, in a database where they are rare


def judged(
    confirmed: pd.DataFrame,
    predicted: pd.DataFrame,
    against: pd.DataFrame,
    rarity: pd.DataFrame,
    numbered: pd.DataFrame,
    attention: pd.DataFrame,
) -> pd.DataFrame:
    """Each rule of ``designs.RULES`` on what was found.

    Args:
        confirmed: ``measure.shares`` of fresh graphs and seeds.
        predicted: from ``measure.predictors``.
        against, rarity: from ``measure.searched``.
        numbered: ``exchangeable.parts`` of renumbered graphs.
        attention: ``measure.shares`` of transformers, by embeddings.

    Returns:
        ``rule``, ``text``, ``found``, ``detectable`` (of a difference, where one is asked for) and
        ``verdict``.
    """
    one = confirmed.iloc[0]
    enough = int(one["seeds"]) >= ENOUGH
    share = with_interval({"mean": one["icc"], "low": one["low"], "high": one["high"]}, ".2f")
    right = predicted[predicted["agrees"]]
    named = ", ".join(
        f"{row['property']} {with_interval(row, '+.2f')}" for row in right.to_dict("records")
    )
    over = against.set_index(["database", "searched"]).xs("nine properties", level="searched")
    near = rarity.set_index("database")["near_best"]
    p = numbered.set_index("part")["p"]
    stream = attention.set_index("embeddings").loc["fixed"]
    none = float("nan")
    rows = [
        ("one training", f"ICC {share}", none, one["low"] > 0.5),
        ("properties", f"{len(right)}: {named or 'none'}", none, len(right) >= 2),
        _printed("printed", over.loc["long paths"]),
        ("rare", f"{near['long paths']:.1%}", none, near["long paths"] <= MOST_GOOD),
        _printed("printed, rarer", over.loc["rarer"]),
        ("rarer", f"{near['rarer']:.1%}", none, near["rarer"] <= MOST_GOOD),
        (
            "renumbered",
            f"p of numberings {p['versions']:.2g}, of graphs {p['graphs']:.2g}",
            none,
            p["versions"] >= 0.05 and p["graphs"] < 0.05,
        ),
        (
            "transformer",
            f"p = {stream['p']:.2g}, spread {stream['between']:.4f}",
            float(stream["detectable"]),
            stream["p"] < 0.05,
        ),
    ]
    return pd.DataFrame(
        [
            (rule, RULES[rule], found, least, verdict(bool(met), enough))
            for rule, found, least, met in rows
        ],
        columns=["rule", "text", "found", "detectable", "verdict"],
    )


def _printed(rule: str, over: pd.Series) -> tuple[str, str, float, bool]:
    found = with_interval({name: over[name] for name in ("mean", "low", "high")}, "+.4f")
    return rule, found, float(over["detectable"]), bool(over["low"] > 0)


def answer(
    shares: pd.DataFrame, confirmed: pd.DataFrame, rules: pd.DataFrame, rarity: pd.DataFrame
) -> str:
    """The notebook's answer.

    Args:
        shares: of the map, from ``measure.shares``.
        confirmed: the same of fresh graphs and seeds.
        rules: from ``judged``.
        rarity: from ``measure.searched``.
    """
    of, one = rules.set_index("rule"), confirmed.iloc[0]
    quiet = shares[shares["p"] >= 0.05]["cell"].tolist()
    met = int((rules["verdict"] == "met").sum())
    left = (rarity["ceiling"] - rarity["best_of_25"]).set_axis(rarity["database"])
    nothing = f" No part of a graph is told from 0 with {'; '.join(quiet)}." if quiet else ""
    return (
        f"Where the blocks alone mix the stream ({one['cell']}), graphs of one sparsity differ by "
        f"a standard deviation of {one['between']:.4f} beside {one['rest']:.4f} of a training: "
        f"{of['found']['one training']}. Properties that rank graphs of other families: "
        f"{of['found']['properties']}. The printed algorithm has {of['found']['printed']} over "
        f"random search where an oracle has {left['long paths']:.4f}, and "
        f"{of['found']['printed, rarer']} where good graphs are rarer and an oracle has "
        f"{left['rarer']:.4f}."
        f"{nothing} {met} of {len(rules)} rules are met."
    )
