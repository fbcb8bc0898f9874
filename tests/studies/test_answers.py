"""The answers say what the tables say, and nothing where there is no table."""

import pandas as pd
import pytest

from bogp.errors import BogpError
from bogp.records import write_table
from bogp.studies import answers


@pytest.fixture
def results(tmp_path):
    target = pd.DataFrame(
        {"network": ["dag", "residual"], "median": [0.5, 0.9], "met": [False, True]}
    )
    write_table(target, tmp_path / "11_edge_importance" / "target_1.csv", {})
    compared = pd.DataFrame(
        {
            "difference in Spearman": ["signed first order - unsigned"] * 3
            + ["exact Hessian - sum of exact changes"],
            "network": ["dag", "residual", "transformer", "dag"],
            "mean": [0.2, 0.2, -0.1, 0.3],
            "low": [0.1, -0.1, -0.2, 0.2],
            "high": [0.3, 0.5, 0.0, 0.4],
            "n": [5, 5, 2, 5],
        }
    )
    write_table(compared, tmp_path / "11_edge_importance" / "differences.csv", {})
    verdicts = pd.DataFrame(
        {
            "question": ["Q?"],
            "network": ["inception"],
            "answer": ["2 of 3 methods do"],
            "detail": ["lower: a, b; " + "x" * 200],
        }
    )
    write_table(verdicts, tmp_path / "13_wikitext" / "verdicts.csv", {})
    return tmp_path


def test_each_row_of_each_table_is_an_answer(results):
    table = answers.answers(results)
    assert table["answer"].tolist() == [
        "not met",
        "met",
        "met",
        "not met",
        "no verdict",
        "2 of 3 methods do",
    ]
    assert table["where"].tolist() == [
        "dag",
        "residual",
        "dag",
        "residual",
        "transformer",
        "inception",
    ]
    assert "median 0.90" in table["found"][1] and "+0.20 [-0.10, +0.50], n = 5" in table["found"][3]
    assert all((results / path).exists() for path in table["table"])


def test_both_markdown_tables_have_every_answer_and_the_short_one_a_row_a_question(results):
    table = answers.answers(results)
    long, short = answers.markdown(table).splitlines(), answers.in_short(table).splitlines()
    assert len(long) == 2 + len(table) and len(short) == 2 + table["question"].nunique()
    for one in table.itertuples():
        assert (
            sum(f"{one.where}: {one.answer}" in line and one.question in line for line in short)
            == 1
        )
    assert "xxx" not in "".join(short) and "xxx" in "".join(long)
    one = table.head(1).assign(answer="none (found: 1 nat)", found="n = 3")
    assert answers.in_short(one).endswith("dag: none (found: 1 nat; n = 3) |")


def test_without_tables_there_are_no_answers_and_a_damaged_one_is_refused(results, tmp_path):
    assert len(answers.answers(tmp_path / "nothing")) == 0
    path = results / "13_wikitext" / "verdicts.csv"
    path.write_text(path.read_text().replace("2 of 3", "3 of 3"))
    with pytest.raises(BogpError, match="verdicts"):
        answers.answers(results)
