"""From the tables of all experiments to evidence on each claim, in the form that ``verdicts``
judges.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from bogp.studies.baselines.tables import MARGIN
from bogp.studies.claims import NOTEBOOK, crossed, defects, pools, prediction, replay
from bogp.studies.claims.verdicts import ALIKE, CLAIMS, COLUMNS, Tested, within
from bogp.studies.printed import PAPER_BASE

Tables = Mapping[str, pd.DataFrame]  # by the names under which notebook 06 writes them


def of_tables(tables: Tables, protocol: str) -> pd.DataFrame:
    """The evidence on all claims; a table without rows is no evidence.

    Args:
        tables: ``audit``, ``crossed``, ``predicted``, ``twins``, ``replayed``, ``cursed``,
            ``compared``, ``best_of_all``, ``defects`` and ``pools_advantages``.
        protocol: what their files begin with.

    Returns:
        The columns ``verdicts.COLUMNS``, by claim.
    """
    found = [
        rows.assign(
            claim=claim.number, source=f"{NOTEBOOK}/{protocol}_{name}.csv", cell=claim.section
        )[list(COLUMNS)]
        for claim, (name, rows) in zip(CLAIMS, _rows(tables), strict=True)
        if len(rows)
    ]
    return pd.concat(found, ignore_index=True)


def _rows(tables: Tables) -> list[tuple[str, pd.DataFrame]]:
    """For each claim, in order, the table that shows its quantity, and its rows, one a case."""
    paper = tables["audit"].query("protocol == 'paper'")["test_accuracy"]
    spreads, predicted = crossed.spreads(tables["crossed"]), tables["predicted"]
    hidden = predicted[predicted["set"].str.startswith(("bernoulli", "all families"))]
    box = replay.summary(tables["replayed"]).query(
        "method == 'box' and recommender == 'observed' and table.str.startswith('s = ')"
    )
    changes = defects.changes(tables["defects"]).items()
    gains = pools.summary(tables["pools_advantages"])
    return [
        ("audit", _tested({"paper": within(paper, MARGIN, PAPER_BASE)})),
        ("spreads", spreads[spreads["case"].str.startswith("bernoulli")]),
        ("predicted", prediction.indications(hidden)),
        ("twins", _facts(tables["twins"])),
        ("searches", _advantage(box, "table")),
        ("against_permuted", _advantage(replay.against_permuted(tables["replayed"]), "table")),
        # nothing was claimed of random search
        ("cursed", tables["cursed"].query("method == 'bogp'")),
        ("compared", tables["compared"].query("against == 'glob_1'")),
        ("best_of_all", tables["best_of_all"]),
        ("defects", _tested({name: within(change, MARGIN) for name, change in changes})),
        ("pools", gains.query("arm == 'properties'")),
        ("pools", gains.query("arm == 'one family: properties'")),
    ]


def _tested(cases: Mapping[str, Tested]) -> pd.DataFrame:
    return pd.DataFrame([{"case": name} | vars(tested) for name, tested in cases.items()])


def _advantage(compared: pd.DataFrame, case: str) -> pd.DataFrame:
    return compared.assign(case=compared[case], estimate=compared["advantage"])


def _facts(twins: pd.DataFrame) -> pd.DataFrame:
    """A matter of fact has p values of 0 or 1, and no interval."""
    differ = (twins["difference"] > ALIKE).astype(float)
    facts = twins.assign(estimate=twins["difference"], p_for=1 - differ, p_against=differ)
    return facts.assign(low=np.nan, high=np.nan, detectable=np.nan)
