"""Notebook 17 run for real, small; its tables against the benchmark."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bogp import benchmark, paths
from bogp.studies.mask_benchmark import measure
from tests.notebooks.in_process import refusal, run

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "17_mask_benchmark.ipynb"


def test_17_mask_benchmark(home):
    run(NOTEBOOK, {"run": "t", "sparsities": [0.97], "budget": 8})
    results = paths.results_dir("t") / "17_mask_benchmark"
    curves, ends, over, known, families = (
        pd.read_csv(results / f"{name}.csv")
        for name in ("curves", "ends", "against_random", "known", "families")
    )
    assert curves["trial"].max() == 8 and set(curves["n"]) == {3}
    assert len(ends) == 3 * 2  # arms, data sets
    masks = benchmark.load()
    table = measure.accuracies(masks, 0.97, "mnist")
    assert known.loc[known["dataset"] == "mnist", "mean"].item() == pytest.approx(table.mean())
    last = curves[curves["trial"] == 8].set_index(["arm", "dataset"])["judged"]
    difference = last["Gaussian process, all columns"] - last["random search"]
    row = over.set_index("arm").loc["Gaussian process, all columns"]
    assert row["mean"] == pytest.approx(difference.mean())
    own = families[(families["dataset"] == "mnist") & (families["family"] == "exact")]
    rows = np.flatnonzero((masks.table["sparsity"] == 0.97) & (masks.table["family"] == "exact"))
    mean = masks.accuracies[rows, 0, :, 2].mean()
    assert own["mean"].item() == pytest.approx(mean, abs=1e-6)


def test_17_refuses_what_it_has_not(home):
    assert "random_forest" in refusal(NOTEBOOK, {"run": "t", "methods": ["annealing"]})
    assert "0.75" in refusal(NOTEBOOK, {"run": "t", "sparsities": [0.5]})
