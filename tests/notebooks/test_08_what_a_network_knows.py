"""Notebook 08 run for real, small; its tables against the store and against theory."""

from pathlib import Path

import numpy as np
import pandas as pd

from bogp import paths
from bogp.graphs import bipartite
from bogp.training.store import Store
from tests.notebooks.in_process import refusal, run

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "08_what_a_network_knows.ipynb"
SMALL = {"run": "t", "nodes": 12, "graphs": 1, "steps": 4, "most_orders": 6, "pairs": 3}
SMALL |= {"each": 2, "seeds": 2}


def test_08_what_a_network_knows_and_again(home, quick):
    results = paths.results_dir("t") / "08_what_a_network_knows"
    run(NOTEBOOK, SMALL)
    twins, known, trainings, correlations = (
        pd.read_csv(results / f"{name}.csv")
        for name in ("twins", "known", "trainings", "correlations")
    )
    assert (twins["difference"] <= 1e-12).all() and (twins["same_start"] > 1e-4).all()
    hidden = known[(known["case"] == "one layer") & ~known["known"]]
    assert "clustering" in set(hidden["property"])
    assert not set(bipartite.INVARIANTS) & set(hidden["property"])
    assert len(trainings) == 5 * 2 * 2
    with Store(paths.store_path()) as store:
        rows = store.get(trainings["key"].tolist())
    np.testing.assert_array_equal(
        trainings["test_accuracy"], [rows[key]["test_accuracy"] for key in trainings["key"]]
    )
    assert correlations["mean"].abs().max() <= 1
    before = {path.name: path.read_bytes() for path in results.glob("*.csv")}
    run(NOTEBOOK, SMALL)
    assert before == {path.name: path.read_bytes() for path in results.glob("*.csv")}


def test_08_refuses_what_it_has_not(home):
    assert "protocol" in refusal(NOTEBOOK, SMALL | {"protocol": "none"})
