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
    assert claims.findings(table) in README.replace("\n", " ")


def test_the_speed_table_is_the_committed_one():
    from benchmarks.speed import markdown

    assert markdown(pd.read_csv(RESULTS / "speed.csv")) in README


def test_what_it_says_of_bfloat16_is_what_was_measured():
    measured = pd.read_csv(RESULTS / "precision_calibrated.csv").set_index("measure").loc["validation_accuracy"]
    assert f"{measured.difference:+.5f}, 90 % interval [{measured.low_90:+.5f}, {measured.high_90:+.5f}]" in README
    assert f"{measured.spread_ratio:.2f} [{measured.spread_low_95:.2f}, {measured.spread_high_95:.2f}]" in README
    assert ("so equivalent within 0.001" in README) == bool(measured.equivalent)


def test_nothing_was_left_to_fill_in():
    assert not any(word in README for word in ("SPEED_TABLE", "SHARES", "EQUIVALENCE", "TODO"))


def test_the_committed_evaluations_are_of_this_engine():
    from bogp.evaluation import COLUMNS
    from bogp.training import ENGINE_VERSION

    for path in (ROOT / "data" / "evaluations" / "paper").glob("*.parquet"):
        table = pd.read_parquet(path)
        assert list(table.columns) == list(COLUMNS)
        assert set(table.engine_version) == {ENGINE_VERSION}


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
        seeds = int(chosen.fresh_seeds.iloc[0])
        for one in chosen.itertuples():
            mine = range(5_000 + one.search_seed * seeds, 5_000 + (one.search_seed + 1) * seeds)
            rows = stored[(stored.recipe == stored.recipe[one.key]) & stored.seed.isin(mine)]
            assert len(rows) == seeds
            assert abs(rows.test_accuracy.mean() - one.fresh_test) < 1e-12


def test_all_sparsities_of_the_paper_profile_are_committed():
    import yaml

    profile = yaml.safe_load((ROOT / "notebooks" / "profiles" / "paper.yaml").read_text())
    names = {f"{protocol}_s{s:.2f}" for protocol, search in profile["fixed_sparsity"].items() for s in search["sparsities"]}
    assert {f.name.removesuffix("_history.csv") for f in (RESULTS / claims.FIXED_SPARSITY).glob("*_history.csv")} == names
    assert {f.stem for f in (ROOT / "docs" / "executed").glob("*.ipynb")} == {"02_mask_database", *(f"03_{name}" for name in names)}


def test_no_file_names_the_machine_it_was_made_on():
    for path in [*ROOT.glob("docs/executed/*.ipynb"), *ROOT.glob("notebooks/*.ipynb"), *RESULTS.rglob("*.json"), *RESULTS.rglob("*.csv")]:
        assert str(Path.home()) not in path.read_text() and str(ROOT) not in path.read_text(), path


def test_the_python_example_runs(tmp_path):
    import os
    import re
    import subprocess
    import sys

    code = re.search(r"```python\n(.*?)```", README, re.S).group(1)
    environment = os.environ | {"BOGP_HOME": str(tmp_path), "TQDM_DISABLE": "1"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "bogp" in result.stdout and "random" in result.stdout


def test_calibrated_is_what_the_sweep_chose():
    import runpy

    from bogp.protocols import CALIBRATED

    sweep = pd.read_csv(RESULTS / "calibration.csv")
    assert f"the cheapest of {len(sweep) // sweep.seed.nunique()} settings" in README
    best = runpy.run_path(str(ROOT / "benchmarks" / "calibrate.py"))["choose"](sweep)
    assert (best.schedule, best.batch_size, best.learning_rate, best.steps) == (
        CALIBRATED.schedule, CALIBRATED.batch_size, CALIBRATED.learning_rate, CALIBRATED.steps,
    )  # fmt: skip
    assert best.validation_accuracy >= 0.970
