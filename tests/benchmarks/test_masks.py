"""The benchmark of the benchmark of masks, once."""

import numpy as np

from benchmarks import masks


def test_all_actions_are_timed():
    table = masks.measured(runs=1).set_index("action")
    assert list(table.index) == ["load", "query", "graphs", "search"]
    assert (table["seconds"] > 0).all()
    for action, most in masks.AT_MOST.items():
        met = table.loc[action, "seconds"] <= most
        assert table.loc[action, "verdict"] == ("met" if met else "missed")
    assert np.isnan(table.loc["search", "at_most"])
