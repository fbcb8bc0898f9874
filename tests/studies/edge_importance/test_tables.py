"""The answer of notebook 11 says what its tables say, and gives no verdict on few seeds."""

import pandas as pd

from bogp.studies.edge_importance import tables


def of(median, low, seeds):
    target = pd.DataFrame(
        {"network": ["dag", tables.OVERALL], "median": [0.1, median], "met": [False, median >= 0.8]}
    )
    signed = pd.DataFrame(
        {
            "network": ["dag", tables.OVERALL],
            "mean": 0.3,
            "low": [-1.0, low],
            "high": 0.5,
            "n": seeds,
        }
    )
    return target, signed


def test_both_rules_are_judged_over_all_networks():
    said = tables.answer(*of(0.85, -0.1, 5))
    assert "correlation of 0.85" in said and "(target 0.8: met)" in said
    assert "+0.30 [-0.10, +0.50], n = 5 seeds (target above 0: not met)" in said
    assert tables.answer(*of(0.75, 0.1, 5)).count("not met") == 1


def test_with_few_seeds_there_is_no_verdict():
    for text in (tables.answer(*of(0.85, 0.1, 4)), tables.verdicts(*of(0.85, 0.1, 4))):
        assert "no verdict" in text and "met" not in text.replace("method", "")


def test_each_network_has_a_line_for_each_rule():
    lines = tables.verdicts(*of(0.85, 0.1, 5)).splitlines()
    assert [line.split(",")[0] for line in lines] == ["Target 1"] * 2 + ["Target 2"] * 2
    assert [line.split(": ")[-1] for line in lines] == ["not met", "met", "not met", "met"]
