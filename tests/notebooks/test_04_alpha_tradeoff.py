"""Notebook 04 run for real, small; numbers are asserted from what it wrote, by arithmetic of its
own.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bogp import paths
from bogp.graphs import database
from bogp.training.store import Store
from tests.notebooks.in_process import refusal, run

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "04_alpha_tradeoff_bo.ipynb"
SMALL = {"run": "t", "database": "t", "n_initial": 2, "n_iterations": 1, "alphas": [0.1, 0.9]}
SPEC = database.DatabaseSpec((), 20, sparsity_range=(0.1, 0.99))
TABLES = ["chosen", "table2", "front", "alpha_ranges", "tables_compared", "reference"]


def test_04_one_alpha_at_a_time_then_all_without_training(home, quick):
    database.build(SPEC, paths.database_dir("t"), workers=1)
    results = paths.results_dir("t") / "04_alpha_tradeoff_bo"
    for alpha in SMALL["alphas"]:
        run(NOTEBOOK, SMALL | {"alphas": [alpha], "cell": True}, save_figures=False)
    assert {p.name for p in results.glob("*.csv")} == {
        f"calibrated_a{alpha}_{table}.csv"
        for alpha in ("0.10", "0.90")
        for table in ["history", *TABLES]
    }
    histories = {p: p.read_bytes() for p in results.glob("*_history.*")}
    with Store(paths.store_path()) as store:
        before = store.table()
    paths.store_path().unlink()  # so that all must come from what each alpha exported
    run(NOTEBOOK, SMALL)
    with Store(paths.store_path()) as store:
        # with the times of the first runs: nothing was trained anew
        pd.testing.assert_frame_equal(store.table(), before)
    # read, not written again
    assert {p: p.read_bytes() for p in results.glob("*_history.*")} == histories
    assert {p.name for p in paths.figures_dir("t").glob("04_calibrated_[frt]*.png")} == {
        f"04_calibrated_{figure}.png" for figure in ("front", "reference", "table2")
    }

    history = pd.concat(
        [pd.read_csv(p) for p in sorted(results.glob("*_history.csv"))], ignore_index=True
    )
    assert history.groupby(["alpha", "form", "method", "search_seed"]).size().tolist() == [3] * 16
    weight = np.where(history.form == "sum", 1, 1 - history.alpha)
    np.testing.assert_allclose(
        history.objective, weight * history.validation_accuracy + history.alpha * history.sparsity
    )
    # 3,000 training images; chance is 0.10
    assert history.validation_accuracy.between(0.85, 0.97).all()
    masks = database.open_database(paths.database_dir("t"))
    of = dict(zip(masks.table.mask_id, 1 - masks.masks().mean((1, 2)), strict=True))
    np.testing.assert_allclose(history.sparsity, [of[m] for m in history.mask_id])

    # Table 2: the sparsity of the best evaluation of each search, mean over searches, and the
    # paper's number.
    table = pd.read_csv(results / "calibrated_table2.csv").set_index(
        ["alpha", "form", "method", "measure"]
    )
    best = (
        history.sort_values("objective", ascending=False, kind="stable")
        .groupby(["alpha", "form", "method", "search_seed"])
        .first()
    )
    for key, mean in best.groupby(["alpha", "form", "method"]).sparsity.mean().items():
        assert table.loc[(*key, "sparsity"), "mean"] == pytest.approx(mean)
    assert table.loc[(0.9, "sum", "bogp", "sparsity"), "paper"] == 0.98
    model = (
        table.xs("model_sparsity", level="measure")["mean"]
        / table.xs("sparsity", level="measure")["mean"]
    )
    np.testing.assert_allclose(model[model.notna()], 16384 / 118016)  # of differences too

    # The front and what each alpha asks for, by trying all masks.
    points = pd.read_csv(results / "calibrated_front.csv")
    reference = pd.read_csv(results / "calibrated_reference.csv")
    keys = set(history.key) | set(reference[reference.protocol == "calibrated"].key)
    assert points.trainings.sum() == len(keys)
    ranges = pd.read_csv(results / "calibrated_alpha_ranges.csv")
    for alpha in np.linspace(0.01, 0.99, 50):
        for form, w in (("sum", 1.0), ("interpolated", 1 - alpha)):
            score = w * points.accuracy + alpha * points.sparsity
            one = ranges[
                (ranges.curve == "front")
                & (ranges.form == form)
                & (ranges.lowest <= alpha)
                & (alpha <= ranges.highest)
            ].iloc[-1]
            assert w * one.accuracy + alpha * one.sparsity == pytest.approx(score.max())
            assert (one.asks_for == "the sparsest") == (one.sparsity == max(of.values()))
    assert points.loc[points.on_front, "sparsity"].is_monotonic_increasing
    assert points.loc[points.on_front, "accuracy"].is_monotonic_decreasing


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"alphas": [0.1, 1.5]}, "alpha is 1.5"),
        ({"alphas": [float("nan")]}, "alpha is nan"),
        ({"alphas": ["half"]}, "alphas"),
        ({"database": "none"}, "no database 'none'"),
        ({"reference": "none"}, "no reference 'none'"),
        ({"fresh_seeds": 0}, "seeds is 0"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_04_refuses_bad_values_before_anything_is_trained(home, parameters, message):
    database.build(SPEC, paths.database_dir("t"), workers=1)
    assert message in refusal(NOTEBOOK, SMALL | parameters)
    assert not paths.store_path().exists() or Store(paths.store_path()).table().empty
