"""Notebook 13 run for real, small: its tables against what its units say."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bogp import paths
from tests.notebooks.in_process import run

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "13_wikitext.ipynb"
SMALL = {
    "run": "t",
    "first": 1,
    "epochs": 1,
    "calibration": 8,
    "test": 16,
    "draws": 1,
    "cores": 1,
    "tuning_part": 0.1,
}


def test_13_wikitext(home):
    run(NOTEBOOK, SMALL)
    results = paths.results_dir("t") / "13_wikitext"
    tables = {f.stem: pd.read_csv(f) for f in results.glob("*.csv")}
    assert set(tables) == {
        "fixed_share",
        "areas",
        "against_random",
        "tested",
        "closing",
        "at_share",
        "tuned",
        "verdicts",
    }
    units = sorted((paths.evaluations_dir("t") / "13_wikitext").glob("*.csv.gz"))
    measured = pd.concat(map(pd.read_csv, units), ignore_index=True)
    assert measured.seed.unique().tolist() == [1, 2]
    assert set(measured.scenario) == {"removal"}, "text has no classes to transfer between"
    assert measured.loss.between(0, 10).all()
    unpruned = measured[(measured.method == "unpruned") & (measured.weights == "kept")]
    assert (unpruned.loss < np.log(22) + 0.1).all(), "hardly worse than a guess among 22 tokens"
    np.testing.assert_allclose(
        measured.change,
        measured.loss - measured.seed.map(unpruned.set_index("seed").loss),
        atol=1e-9,
    )
    some = tables["at_share"].set_index(["method", "weights"])
    of = measured[
        measured.level.isna() & (measured.method == "hessian") & (measured.weights == "tuned")
    ]
    assert some["mean"]["hessian", "tuned"] == pytest.approx(of.loss.mean())
    closing = tables["closing"].iloc[0]
    at = measured[measured.level.isna() & (measured.method != "unpruned")]
    spread = (
        at[at.weights == "tuned"]
        .groupby(["seed", "method"])
        .loss.mean()
        .unstack()
        .std(axis=1, ddof=0)
    )
    assert closing.after == pytest.approx(spread.mean()) and closing.n == len(spread) == 2
    areas = tables["areas"].pivot(index="seed", columns="method", values="change")
    gaps = areas.drop(columns=["random", "magnitude"]).mean(axis=1) - areas["random"]
    assert tables["tested"].difference.iloc[0] == pytest.approx(gaps.mean())
    assert len(tables["tested"]) == 3
    assert at[at.weights == "new"].method.unique().tolist() == ["leave_one_out"]
    assert tables["verdicts"].empty
    assert len(list(paths.figures_dir("t").glob("13_*.p[dn][fg]"))) == 8
