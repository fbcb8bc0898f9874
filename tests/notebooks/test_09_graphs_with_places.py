"""Notebook 09 run for real, small; its tables against the store."""

from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

from bogp import paths
from bogp.studies.places import designs
from bogp.training.store import Store
from tests.notebooks.in_process import refusal, run

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "09_graphs_with_places.ipynb"


@pytest.fixture
def small(home, quick, monkeypatch):
    """The smoke design at one sparsity."""
    design = replace(designs.named("smoke"), sparsities=(designs.MAIN,), proposed=1, graphs=6)
    monkeypatch.setitem(designs.NAMED, "smoke", design)
    return design


def test_09_graphs_with_places(small):
    results = paths.results_dir("t") / "09_graphs_with_places"
    run(NOTEBOOK, {"run": "t", "longer": "calibrated", "wider": 128})
    fresh, units, rules, fixed, gained, null = (
        pd.read_csv(results / f"{name}.csv")
        for name in ("fresh", "units", "rules", "fixed", "gained", "nulls")
    )
    kept = paths.evaluations_dir("t") / "09_graphs_with_places"
    history = pd.read_csv(kept / f"mnist-5k_s{designs.MAIN:.3f}.csv.gz")
    with Store(paths.store_path()) as store:
        for table in (history, fresh, fixed, null):
            rows = store.get(table["key"].tolist())
            np.testing.assert_array_equal(
                table["test_accuracy"], [rows[key]["test_accuracy"] for key in table["key"]]
            )
    # what methods are compared by, from fresh masks and seeds alone
    means = fresh.groupby(["method", "search_seed"])["test_accuracy"].mean()
    for one in units[units["method"].isin(["bayesian", "random", "sobol"])].itertuples():
        assert one.test_accuracy == pytest.approx(means[one.method, one.number])
    assert not set(fresh["key"]) & set(history["key"])
    wide = fixed.pivot_table(index=["dataset", "number"], columns="kind", values="test_accuracy")
    gain = (wide["both"] - wide["random graph"]).groupby("dataset").mean()
    found = gained.set_index("dataset")["mean"]
    np.testing.assert_allclose(found, gain[found.index])
    assert rules["rule"].tolist() == list(designs.RULES)
    assert (rules["verdict"] == "no verdict").all()  # two pairs


def test_09_refuses_what_it_has_not(home):
    assert "design" in refusal(NOTEBOOK, {"run": "t", "design": "huge"})


def test_the_rules_of_the_notebook_are_those_that_judge():
    prose = " ".join(c.source for c in nbformat.read(NOTEBOOK, as_version=4).cells)
    for rule, text in designs.RULES.items():
        assert f"| {rule} | {text} |" in prose
