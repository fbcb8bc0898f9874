"""Notebook 16 run for real, small; its tables against the store and against networkx."""

from dataclasses import replace
from pathlib import Path

import nbformat
import networkx as nx
import numpy as np
import pandas as pd
import pytest

from bogp import paths
from bogp.graphs.relational import mask_to_graph
from bogp.studies.residual_stream import designs, measure
from bogp.training.store import Store
from tests.notebooks.in_process import refusal, run

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "16_residual_stream.ipynb"


@pytest.fixture
def small(home, monkeypatch):
    """The smoke design with fewer steps and graphs."""
    design = replace(designs.named("smoke"), steps=20, database=6, transformers=2)
    monkeypatch.setitem(designs.NAMED, "smoke", design)
    return design


def test_16_residual_stream(small):
    results = paths.results_dir("t") / "16_residual_stream"
    run(NOTEBOOK, {"run": "t"})
    mapped, fresh, attention, rules = (
        pd.read_csv(results / f"{name}.csv") for name in ("mapped", "fresh", "attention", "rules")
    )
    with Store(paths.store_path()) as store:
        for table in (mapped, fresh):
            rows = store.get(table["key"].tolist())
            np.testing.assert_array_equal(
                table["test_accuracy"], [rows[key]["test_accuracy"] for key in table["key"]]
            )
    assert fresh["seed"].min() == measure.FRESH
    ring = fresh[fresh["family"] == "ring"].iloc[0]
    degree = int(ring["cell"].split()[-1])
    graph = mask_to_graph(measure.graph("ring", degree, measure.FRESH))
    assert ring["path_length"] == pytest.approx(nx.average_shortest_path_length(graph))
    assert ring["clustering"] == pytest.approx(nx.average_clustering(graph))
    assert len(attention) == 2 * small.transformers * small.transformer_seeds
    assert rules["rule"].tolist() == list(designs.RULES)
    assert (rules["verdict"] == "no verdict").all()  # two seeds


def test_16_refuses_what_it_has_not(home):
    assert "design" in refusal(NOTEBOOK, {"run": "t", "design": "huge"})


def test_the_rules_of_the_notebook_are_those_that_judge():
    prose = " ".join(c.source for c in nbformat.read(NOTEBOOK, as_version=4).cells)
    for rule, text in designs.RULES.items():
        assert f"| {rule} | {text} |" in prose
