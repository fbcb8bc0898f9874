"""Notebook 05 run for real, small; its numbers against the stored evaluations."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bogp import paths
from bogp.graphs import database
from bogp.training.store import Store
from tests.notebooks.in_process import refusal, run

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "05_baselines.ipynb"
SMALL = {
    "run": "t",
    "database": "t",
    "n_initial": 2,
    "n_iterations": 1,
    "searches": 2,
    "fresh_seeds": 1,
}


@pytest.fixture
def masks(home):
    """A database ``t`` of 24 masks."""
    spec = database.DatabaseSpec((0.6, 0.9), 12)
    return database.build(spec, paths.database_dir("t"), workers=1)


def test_05_baselines_cell_by_cell_and_then_the_whole_table(home, quick, masks):
    results = paths.results_dir("t") / "05_baselines"
    for sparsity in (0.6, 0.9):
        run(NOTEBOOK, SMALL | {"sparsities": [sparsity], "cell": True}, save_figures=False)
    with Store(paths.store_path()) as store:
        before = store.table()
    run(NOTEBOOK, SMALL | {"sparsities": [0.6, 0.9]})
    with Store(paths.store_path()) as store:
        pd.testing.assert_frame_equal(store.table(), before)  # the cells trained everything

    rows = before.set_index("key")
    table = pd.read_csv(results / "calibrated_table1.csv")
    cells = table.set_index(["accounting", "target_sparsity", "method", "measure"])
    for sparsity in (0.6, 0.9):
        mine = pd.read_csv(results / f"calibrated_s{sparsity:.2f}_results.csv")
        one = mine[(mine.accounting == "as in the paper") & (mine.method == "glob_1")]
        stored = rows.loc[one.key]
        settings = stored.method.map(json.loads)
        assert all(
            (m["score"], m["allocation"], m["rounds"], m["sparsity"])
            == ("magnitude", "global", 1, sparsity)
            for m in settings
        )
        assert stored.seed.tolist() == [5000, 5001]
        low, high = stats.t.interval(
            0.95, 1, stored.test_accuracy.mean(), stats.sem(stored.test_accuracy)
        )
        cell = cells.loc[("as in the paper", sparsity, "glob_1", "test")]
        assert (cell["mean"], cell["low"], cell["high"]) == pytest.approx(
            (stored.test_accuracy.mean(), low, high)
        )
        assert cell["paper"] == {0.6: 0.967, 0.9: 0.945}[sparsity]
        np.testing.assert_allclose(stored.model_sparsity, round(sparsity * 118_016) / 118_016)
        like = mine[
            (mine.accounting == "like for like")
            & ~mine.method.isin(
                ["random_search", "random_mask", "base", "one_hidden_layer", "smaller_dense"]
            )
        ]
        like = like.pivot_table(index="method", columns="pair", values="weights")
        # what is not paired has the first pair alone
        same = like.eq(like.loc["bogp"]) | like.isna()
        assert same.all(axis=None), "the same number of weights in every pair"
    shuffled = cells.loc[("as in the paper", 0.9, "glob_1_shuffled", "test")]
    assert shuffled["mean"] != cells.loc[("as in the paper", 0.9, "glob_1", "test")]["mean"]

    emptied = pd.read_csv(results / "calibrated_emptied.csv").groupby("name")
    assert emptied.effective_sparsity.mean()["glob_1"] == 1
    # mnist-5k: 100 test images a digit
    assert (emptied.test_accuracy.max()["glob_1"], emptied.test_accuracy.min()["glob_1"]) == (
        0.1,
        0.1,
    )
    assert emptied.test_accuracy.min()["unif_1"] > 0.85
    assert len(list(paths.figures_dir("t").glob("05_calibrated_[!s]*.p[dn][fg]"))) == 2 * 5


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"design": "none"}, "no design 'none'"),
        ({"sparsities": [0.7]}, "holds no masks of sparsity 0.7"),
        ({"sparsities": [1.0]}, "strictly between 0 and 1"),
        ({"searches": 0}, "at least 1 is needed"),
        ({"protocol": "best"}, "no protocol 'best'"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_bad_values_end_in_one_clear_message_before_training(home, masks, parameters, message):
    assert message in refusal(NOTEBOOK, SMALL | {"sparsities": [0.6]} | parameters)
    with Store(paths.store_path()) as store:
        assert store.table().empty, "nothing was trained"
