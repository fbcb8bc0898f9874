"""Notebook 08 in tables: the rules judged, and the answer in words."""

import pandas as pd

from bogp.graphs import properties
from bogp.outputs import verdict, with_interval
from bogp.studies.symmetries.measure import CASES, ROUNDING

EQUAL, APART = 1e-12, 1e-4  # limits of the rules: largest and smallest relative gap of losses


def judged(renumbered: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """The two rules in each case.

    Args:
        renumbered, pairs: from ``measure.renumbered`` and ``measure.told_apart``.

    Returns:
        ``case``, ``rule``, ``found`` and ``verdict``.
    """
    rows = []
    for case in CASES:
        own = renumbered[renumbered["case"] == case]
        worst, control = own["difference"].max(), own["same_start"].min()
        rows.append(
            (
                case,
                f"twins differ by at most {EQUAL:g}, from the same start by more than {APART:g}",
                f"{worst:.1e}; {control:.1e}",
                verdict(worst <= EQUAL and control > APART),
            )
        )
        for pair in pairs[pairs["case"] == case].itertuples():
            apart = f"no order makes one the other: gap above {APART:g}"
            same = f"one network: gap at most {EQUAL:g}"
            found = pair.difference > APART if pair.expected else pair.difference <= EQUAL
            tried = f"{'all ' if pair.all else ''}{pair.orders} orders"
            rows.append(
                (
                    case,
                    f"{pair.first}, {pair.second}: {apart if pair.expected else same}",
                    f"{pair.difference:.1e} ({tried})",
                    verdict(bool(found)),
                )
            )
    return pd.DataFrame(rows, columns=["case", "rule", "found", "verdict"])


def invariants(known: pd.DataFrame) -> pd.DataFrame:
    """What can be known of a mask in each case: ``yes``, ``no``, or ``without loops``, where only
    self-loops tell twins apart (networkx counts them twice in a degree).

    Args:
        known: from ``measure.known``.

    Returns:
        One row a property, with its ``kind`` and a column a case; empty where it does not apply.
    """
    words = known["known"].map({True: "yes", False: "no"})
    words[~known["known"] & (known["without_loops"] < ROUNDING)] = "without loops"
    wide = known.assign(word=words).pivot(index="property", columns="case", values="word")
    first = known.drop_duplicates("property")
    table = first[["property", "kind"]].merge(wide[list(CASES)].reset_index(), on="property")
    return table.fillna("")


def unknowable(known: pd.DataFrame, case: str) -> list[str]:
    """Which of the paper's nine properties no network can know in a case, self-loops or not."""
    rows = known[(known["case"] == case) & (known["kind"] == "the paper's nine")]
    return rows["property"][rows["without_loops"] >= ROUNDING].tolist()


def answer(known: pd.DataFrame, rules: pd.DataFrame) -> str:
    """The notebook's answer in a sentence or three.

    Args:
        known: from ``measure.known``.
        rules: from ``judged``.
    """
    hidden, stream = (unknowable(known, case) for case in (CASES[0], CASES[2]))
    met = (rules["verdict"] == "met").sum()
    return (
        f"Between dense layers, where the paper puts its masks, **{len(hidden)} of the paper's "
        f"{len(properties.NINE)} properties cannot be known by any network** "
        f"({', '.join(hidden)}): masks that differ in them are one network under two names. In a "
        f"residual stream only {', '.join(stream) or 'none'} cannot. The theory's predictions hold "
        f"in {met} of {len(rules)} tests."
    )


def leading(table: pd.DataFrame, case: str, known: pd.DataFrame) -> pd.DataFrame:
    """Rank correlations in words, with whether the network can know the property.

    Args:
        table: from ``measure.correlations``.
        case: where the masks lay.
        known: from ``measure.known``.
    """
    can = invariants(known).set_index("property")[case]
    words = [with_interval(row, "+.2f") for _, row in table.iterrows()]
    return pd.DataFrame(
        {
            "property": table["property"],
            "kind": table["kind"],
            "can be known": can.loc[table["property"]].to_numpy(),
            "rank correlation with test accuracy": words,
        }
    )
