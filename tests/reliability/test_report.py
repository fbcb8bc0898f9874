"""The committed report follows from the committed counts, and from nothing else."""

import pandas as pd
import pytest

from bogp.errors import BogpError
from tests.reliability import report
from tests.reliability.report import Count, page, record


def test_the_page_is_what_the_counts_give():
    assert report.PAGE.read_text() == page()


def test_every_point_has_a_test_a_table_and_at_least_one_trial():
    for point in report.POINTS:
        assert (report.ROOT / report.test_of(point)).exists()
        table = pd.read_csv(report.RESULTS / f"{point}.csv")
        assert len(table) > 0
        assert (table["tried"] > 0).all()


def test_no_trial_ended_in_what_must_not_be():
    """What the committed counts say, and what the reliability page repeats."""
    tables = {point: pd.read_csv(report.RESULTS / f"{point}.csv") for point in report.POINTS}
    assert all(
        (table["failed"] == 0).all() and (table["duplicated"] == 0).all()
        for table in tables.values()
    )
    assert tables["interrupted"]["lost"].max() <= 8  # the group in flight


def test_counts_are_kept_only_where_the_report_is_made_and_their_table_is_checked(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.delenv("BOGP_REPORT", raising=False)
    record("damaged", [Count("x", 3, 0)], seed=1)
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("BOGP_REPORT", "1")
    for point in report.POINTS:
        record(
            point, [Count("a file", 1_234, 2, lost=3, duplicated=4, note="noticed 1,232")], seed=1
        )
    assert "| a file | 1,234 | 1,232 | 2 | 3 | 4 | noticed 1,232 |" in page(tmp_path)
    path = tmp_path / "damaged.csv"
    path.write_text(path.read_text().replace(",2,", ",0,"))
    with pytest.raises(BogpError, match="not what was written"):
        page(tmp_path)
