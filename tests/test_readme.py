"""The README says what the committed results say."""

from pathlib import Path

import pandas as pd

from bogp import claims

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
RESULTS = ROOT / "data" / "results" / "paper"


def test_the_table_is_the_committed_one(monkeypatch):
    monkeypatch.setenv("BOGP_HOME", str(ROOT))
    table = claims.fixed_sparsity_table("paper")
    pd.testing.assert_frame_equal(table, pd.read_csv(RESULTS / "fixed_sparsity.csv"))
    assert claims.markdown(table) in README


def test_the_summary_follows_from_the_committed_evaluations():
    """Every number of the table again, from the exported evaluations: nothing in between is taken on trust."""
    for path in sorted((RESULTS / claims.FIXED_SPARSITY).glob("*_history.csv")):
        name = path.name.removesuffix("_history.csv")
        history = pd.read_csv(path).set_index("key")
        stored = pd.read_parquet(ROOT / "data" / "evaluations" / "paper" / f"{claims.FIXED_SPARSITY}_{name}.parquet").set_index("key")
        for column in ("validation_accuracy", "test_accuracy"):
            pd.testing.assert_series_equal(history[column], stored.loc[history.index, column])
        chosen = pd.read_csv(path.with_name(f"{name}_chosen.csv"))
        best = history.groupby(["method", "search_seed"]).objective.max().to_numpy()
        assert (chosen.sort_values(["method", "search_seed"]).apparent.to_numpy() == best).all()
        fresh = stored[stored.seed.between(5_000, 9_999)].groupby("recipe").test_accuracy.mean()
        recipe = stored.recipe.loc[chosen.key].to_numpy()
        assert abs(chosen.fresh_test.to_numpy() - fresh.loc[recipe].to_numpy()).max() < 1e-12


def test_calibrated_is_what_the_sweep_chose():
    import runpy

    from bogp.protocols import CALIBRATED

    best = runpy.run_path(str(ROOT / "benchmarks" / "calibrate.py"))["choose"](pd.read_csv(RESULTS / "calibration.csv"))
    assert (best.schedule, best.batch_size, best.learning_rate, best.steps) == (
        CALIBRATED.schedule, CALIBRATED.batch_size, CALIBRATED.learning_rate, CALIBRATED.steps,
    )  # fmt: skip
    assert best.validation_accuracy >= 0.970
