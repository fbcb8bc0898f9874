"""What was asked of structural pruning and what was found, from the tables that notebooks 11 to 15
and the benchmark wrote.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from bogp.outputs import as_markdown, verdict
from bogp.records import read_table

ENOUGH = 5  # seeds, below which notebook 11 gives no verdict
COLUMNS = ["question", "where", "answer", "found", "table"]
SHORT = 80  # characters of what stands in the short table

Answers = list[tuple[str, str, str, str]]  # question, where, answer, found


def _speed(table: pd.DataFrame) -> Answers:
    question = "Are batched losses of masks 3 times as fast as one after another?"
    return [(question, r.network, r.verdict, f"ratio {r.ratio:.1f}") for r in table.itertuples()]


def _depth(table: pd.DataFrame) -> Answers:
    question = (
        "Is the exact loss of every residual branch as fast, against forward hooks, as the counted "
        "operations allow (at least 0.88 of it)?"
    )
    return [
        (question, r.network, r.verdict, f"ratio {r.ratio:.2f} of {r.allowed:.2f}")
        for r in table.itertuples()
    ]


def _second_order(table: pd.DataFrame) -> Answers:
    question = (
        "Does the second order reach a median Spearman of 0.8 with the true single-edge change?"
    )
    return [
        (question, r.network, verdict(r.met), f"median {r.median:.2f}") for r in table.itertuples()
    ]


def _signed(table: pd.DataFrame) -> Answers:
    question = "Does the signed first order beat the unsigned published form on connected masks?"
    return [
        (
            question,
            r.network,
            verdict(r.low > 0, r.n >= ENOUGH),
            f"difference in Spearman {r.mean:+.2f} [{r.low:+.2f}, {r.high:+.2f}], n = {r.n}",
        )
        for r in table[table.iloc[:, 0].str.startswith("signed")].itertuples()
    ]


def _flow(table: pd.DataFrame) -> Answers:
    question = "Does flow rank several removals, given their number (mean Spearman)?"
    return [
        (
            question,
            r.network,
            r.verdict,
            f"{r.mean:.2f} [{r.low:.2f}, {r.high:.2f}], n = {r.n}, wanted {r.wanted:.2f}",
        )
        for r in table.itertuples()
    ]


def _surrogates(table: pd.DataFrame) -> Answers:
    return [(f"{r.target}?", "random graphs", r.verdict, r.measured) for r in table.itertuples()]


def _fresh(table: pd.DataFrame) -> Answers:
    rows = [
        (*r.target.rsplit(" at ", 1), r.verdict, r.measured.rstrip(".").replace("Mean", "mean"))
        for r in table.itertuples()
    ]
    return [(f"{target}?", f"new graphs, {size}", *found) for target, size, *found in rows]


def _scenarios(table: pd.DataFrame) -> Answers:
    return list(
        table[["question", "network", "answer", "detail"]].itertuples(index=False, name=None)
    )


_READ: dict[str, Callable[[pd.DataFrame], Answers]] = {
    "speed_structural.csv": _speed,
    "speed_depth.csv": _depth,
    "11_edge_importance/target_1.csv": _second_order,
    "11_edge_importance/differences.csv": _signed,
    "11_edge_importance/flow_verdicts.csv": _flow,
    "14_surrogate_search/verdicts.csv": _surrogates,
    "14_surrogate_search/fresh_verdicts.csv": _fresh,
    "12_cifar10_scenarios/verdicts.csv": _scenarios,
    "13_wikitext/verdicts.csv": _scenarios,
    "15_depth_pruning/verdicts.csv": _scenarios,
    "15_depth_pruning/set_verdicts.csv": _scenarios,
}


def answers(results: Path) -> pd.DataFrame:
    """One row for each question and place it was asked at.

    Args:
        results: folder of a run's tables, such as ``data/results/paper``; tables that are not there
            are left out.

    Returns:
        ``question``, ``where`` (the networks), ``answer``, ``found`` (with 95 % intervals, in
        words) and ``table`` (its path below ``results``).

    Raises:
        BogpError: a table is not what was written.
    """
    rows = [
        (*row, name)
        for name, read in _READ.items()
        if (results / name).exists()
        for row in read(read_table(results / name))
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def markdown(table: pd.DataFrame) -> str:
    """The table as Markdown, a question's name in its first row alone."""
    first = table["question"] != table["question"].shift()
    return as_markdown(table.assign(question=table["question"].where(first, "")))


def in_short(table: pd.DataFrame) -> str:
    """The table as Markdown with one row a question: each place with its answer, and what was found
    where that is one number.
    """
    numbers = np.where(table["found"].str.len() <= SHORT, " (" + table["found"] + ")", "")
    both = (table["answer"] + numbers).str.replace(") (", "; ", regex=False)
    said = (table["where"] + ": " + both).groupby(table["question"], sort=False)
    return as_markdown(said.agg("; ".join).rename("answer").reset_index())
