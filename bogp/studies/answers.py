"""What was asked of structural pruning and what was found, as one table: from the tables that notebooks 11 to 14 and the benchmark wrote."""

from pathlib import Path

import pandas as pd

from bogp.records import read_table

ENOUGH = 5  # seeds, below which notebook 11 gives no verdict
COLUMNS = ["question", "where", "answer", "found", "table"]
SHORT = 80  # characters of what stands in the short table
_MET = {True: "met", False: "not met"}


def answers(results: Path) -> pd.DataFrame:
    """One row for each question and place it was asked at.

    Args:
        results: folder of a run's tables, such as ``data/results/paper``; tables that are not there are left out.

    Returns:
        ``question``, ``where`` (the networks), ``answer``, ``found`` (with 95 % intervals, in words) and ``table`` (its path below ``results``).

    Raises:
        BogpError: a table is not what was written.
    """
    rows: list[tuple[str, str, str, str, str]] = []
    if (path := results / "speed_structural.csv").exists():
        for one in read_table(path).itertuples():
            rows.append(
                (
                    "Are batched losses of masks 3 times as fast as one after another?",
                    one.network,
                    one.verdict,
                    f"ratio {one.ratio:.1f}",
                    path.name,
                )
            )
    folder = results / "11_edge_importance"
    if (path := folder / "target_1.csv").exists():
        for one in read_table(path).itertuples():
            question = "Does the second order reach a median Spearman of 0.8 with the true single-edge change?"
            rows.append((question, one.network, _MET[bool(one.met)], f"median {one.median:.2f}", f"{folder.name}/{path.name}"))
    if (path := folder / "differences.csv").exists():
        table = read_table(path)
        for one in table[table.iloc[:, 0].str.startswith("signed")].itertuples():
            question = "Does the signed first order beat the unsigned published form on connected masks?"
            answer = _MET[bool(one.low > 0)] if one.n >= ENOUGH else "no verdict"
            found = f"difference in Spearman {one.mean:+.2f} [{one.low:+.2f}, {one.high:+.2f}], n = {one.n}"
            rows.append((question, one.network, answer, found, f"{folder.name}/{path.name}"))
    if (path := results / "14_surrogate_search" / "verdicts.csv").exists():
        rows += [
            (f"{one.target}?", "random graphs", one.verdict, one.measured, f"14_surrogate_search/{path.name}")
            for one in read_table(path).itertuples()
        ]
    for name in ("12_cifar10_scenarios", "13_wikitext"):
        if (path := results / name / "verdicts.csv").exists():
            rows += [(one.question, one.network, one.answer, one.detail, f"{name}/{path.name}") for one in read_table(path).itertuples()]
    return pd.DataFrame(rows, columns=COLUMNS)


def markdown(table: pd.DataFrame) -> str:
    """The table as Markdown, a question's name in its first row alone."""
    lines = ["| question | where | answer | found | table |", "| --- | --- | --- | --- | --- |"]
    before = ""
    for one in table.itertuples():
        lines.append(f"| {one.question if one.question != before else ''} | {one.where} | {one.answer} | {one.found} | {one.table} |")
        before = one.question
    return "\n".join(lines)


def in_short(table: pd.DataFrame) -> str:
    """The table as Markdown with one row a question: each place with its answer, and what was found where that is one number."""
    lines = ["| question | answer |", "| --- | --- |"]
    for question, one in table.groupby("question", sort=False):
        said = [f"{r.where}: {r.answer}" + (f" ({r.found})" if len(r.found) <= SHORT else "") for r in one.itertuples()]
        lines.append(f"| {question} | {'; '.join(said)} |")
    return "\n".join(lines)
