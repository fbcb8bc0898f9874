"""The benchmark of flow, on tiny networks."""

import pytest

from benchmarks import flow
from benchmarks.large_networks import NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_row_says_how_many_passes_reading_takes(name):
    row = flow.row(name, examples=4, tiny=True, runs=1)
    assert row["forward_passes"] == pytest.approx(row["reading_ms"] / row["forward_ms"])
    assert row["verdict"] == ("met" if row["forward_passes"] <= 1.5 else "missed")
    assert row["masks"] >= 1 and row["prediction_ms"] > 0
