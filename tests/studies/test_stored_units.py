"""The committed units of notebooks 11 to 15 are found again by the paper profile: their names and
parameters are what is asked for.

Units are hours of training. A unit counts as recorded only where each of its parameters has the
recorded name and value.
"""

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest
import yaml

from bogp.records import record_of, recorded_table
from bogp.studies.depth_pruning import forms, subsets
from bogp.studies.depth_pruning import measure as depth_pruning
from bogp.studies.edge_importance import measure as edge_importance
from bogp.studies.scenarios import measure as scenarios
from bogp.studies.surrogates import fresh, hard_search, ranking, searching
from bogp.studies.surrogates import measure as surrogates
from bogp.workflow.notebook import check_parameters, declared_parameters

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "data" / "evaluations" / "paper"
SECTIONS = {
    "11_edge_importance": "edge_importance",
    "12_cifar10_scenarios": "cifar10_scenarios",
    "13_wikitext": "wikitext",
    "14_surrogate_search": "surrogate_search",
    "15_depth_pruning": "depth_pruning",
}


def settings_of(notebook: str) -> dict[str, Any]:
    """The names that a notebook has after its set-up cell, run with the paper profile's
    parameters.
    """
    path = ROOT / "notebooks" / f"{notebook}.ipynb"
    profile = yaml.safe_load((ROOT / "notebooks" / "profiles" / "paper.yaml").read_text())
    checked = check_parameters(
        declared_parameters(path), {"run": "paper"} | profile[SECTIONS[notebook]]
    )
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"][:2]
    names: dict[str, Any] = {}
    with plt.rc_context():
        exec(cells[0].source, names)
        exec(cells[1].source, names := names | checked)
    return names


def asked_for(notebook: str) -> dict[str, dict[str, Any]]:
    """What the study asks for, by file: the parameters of each unit."""
    names = settings_of(notebook)
    if notebook == "11_edge_importance":
        some, settings, fresh_seeds = names["confirming"]
        jobs = [(c, names["settings"], s) for c in names["cases"] for s in range(names["seeds"])]
        first = edge_importance.FRESH
        jobs += [(c, settings, first + seed) for c in some for seed in range(fresh_seeds)]
        return dict(edge_importance.record(*job) for job in jobs)
    if notebook in ("12_cifar10_scenarios", "13_wikitext"):
        first = names.get("begin") or {"transformer": names["first"]}
        units = scenarios.jobs(names["studies"], names["seeds"], first)
        return dict(scenarios.record(study, seed) for study, seed in units)
    if notebook == "15_depth_pruning":
        networks = [study.network for study in names["studies"]]
        jobs = [(study, seed) for study in names["studies"] for seed in range(names["seeds"])]
        found = dict(depth_pruning.record(*job) for job in jobs)
        measured = pd.concat([pd.read_csv(UNITS / notebook / name) for name in found])
        sets = [(one, seed) for one in names["kinds"] for seed in range(names["seeds"])]
        found |= dict(record(*job) for job in sets for record in (subsets.record, forms.record))
        return found | dict(depth_pruning.record_of_times(n, measured) for n in networks)
    settings = names["settings"]
    jobs = [(size, seed) for size in names["sizes"] for seed in range(names["graphs"])]
    ranked = dict(surrogates.record(*job, settings) for job in jobs)
    ranked |= dict(ranking.record(pd.DataFrame(), *job, settings) for job in jobs)
    new = [(size, seed) for size in names["sizes"] for seed in fresh.seeds(names["graphs"])]
    ranked |= dict(fresh.record(*job, settings) for job in new)
    hard = [job for job in new if job[0] in hard_search.LARGE]
    ranked |= dict(hard_search.record(*job, settings) for job in hard)
    seeds = searching.search_seeds(names["graphs"])
    return ranked | dict(searching.record(seed, settings) for seed in seeds)


@pytest.mark.parametrize("notebook", SECTIONS)
def test_each_committed_unit_has_the_parameters_that_are_asked_for(notebook):
    asked = asked_for(notebook)
    recorded = {
        path.name: json.loads(record_of(path).read_text())["parameters"]
        for path in (UNITS / notebook).glob("*.csv*")
    }
    assert recorded, "units are committed"
    assert recorded == json.loads(json.dumps(asked))
    for name, parameters in asked.items():
        assert recorded_table(UNITS / notebook / name, parameters) is not None, name
