"""Notebook 12 run for real, small: its tables against what its units say, by other means."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bogp import paths
from tests.notebooks.in_process import refusal, run

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "12_cifar10_scenarios.ipynb"
SMALL = {
    "run": "t",
    "networks": ["dag"],
    "dag_epochs": 2,
    "calibration": 20,
    "test": 60,
    "draws": 2,
    "cores": 1,
    "seeds": 2,
    "first": [3, 0],
}


def test_12_cifar10_scenarios_and_again_from_its_units(home, capsys):
    run(NOTEBOOK, SMALL)
    results, units = (
        paths.results_dir("t") / "12_cifar10_scenarios",
        paths.evaluations_dir("t") / "12_cifar10_scenarios",
    )
    tables = {f.stem: pd.read_csv(f) for f in results.glob("*.csv")}
    assert set(tables) == {
        "fixed_share",
        "areas",
        "against_random",
        "tested",
        "closing",
        "transferred",
        "tuned",
        "verdicts",
    }
    measured = pd.concat(
        [pd.read_csv(units / f"dag_mixture_{seed}.csv.gz") for seed in (3, 4)], ignore_index=True
    )
    at = measured[measured.level.isna() | (measured.method == "unpruned")]
    keys = ["scenario", "seed", "method", "chosen_on", "weights"]
    fixed = tables["fixed_share"].set_index(keys).loss
    assert fixed.to_dict() == pytest.approx(at.groupby(keys).loss.mean().to_dict())
    methods = measured.groupby("seed").method.unique().map(set)
    assert methods[3] == methods[4] and len(methods[3]) == 16
    assert (measured.groupby(["seed", "scenario"]).share_edges.max() <= 0.53).all()
    first = measured[(measured.method != "unpruned") & (measured.level == 0)]
    assert (first.change == 0).all(), "at level 0 nothing is removed"
    assert (first.share_parameters == 0).all()

    kept = measured[
        (measured.scenario == "removal")
        & (measured.weights == "kept")
        & measured.level.notna()
        & (measured.method != "unpruned")
    ]
    curve = kept.groupby(["seed", "method", "level"])[["share_edges", "change"]].mean()
    area = {
        (seed, method): np.sum(
            np.diff(c.share_edges) * (c.change.to_numpy()[1:] + c.change.to_numpy()[:-1]) / 2
        )
        / c.share_edges.iloc[-1]
        for (seed, method), c in curve.groupby(["seed", "method"])
    }
    areas = tables["areas"].set_index(["seed", "method"]).change
    assert areas.to_dict() == pytest.approx(area)
    for row in tables["against_random"].itertuples():
        gaps = [area[s, row.method] - area[s, "random"] for s in (3, 4)]
        low, high = stats.t.interval(0.95, row.n - 1, np.mean(gaps), stats.sem(gaps))
        assert row.n == 2 and (
            row.difference,
            row.difference_low,
            row.difference_high,
        ) == pytest.approx((np.mean(gaps), low, high))
        assert row.verdict == (
            "not told apart" if row.p_holm >= 0.05 else "lower" if row.difference < 0 else "higher"
        )
    aware = methods[3] - {"unpruned", "random", "magnitude"}
    tested = tables["tested"].set_index("question")
    for question, names in {
        "On average, do methods that read data cost less than random removal?": aware,
        "Does measured loss, edge after edge, cost less than random removal?": {"exact_greedy"},
        "Does flow, edge after edge, cost less than random removal?": {"flow_greedy"},
    }.items():
        gaps = [np.mean([area[s, m] for m in names]) - area[s, "random"] for s in (3, 4)]
        low, high = stats.t.interval(0.95, 1, np.mean(gaps), stats.sem(gaps))
        row = tested.loc[question]
        assert (row.difference, row.difference_low, row.difference_high, row.p) == pytest.approx(
            (np.mean(gaps), low, high, stats.ttest_1samp(gaps, 0).pvalue)
        )

    tuned = measured[(measured.scenario == "transfer") & (measured.weights == "tuned")]
    of_seed = tuned.groupby(["seed", "method", "chosen_on"]).loss.mean()
    pooled = (
        of_seed[of_seed.index.isin(aware, level="method")].groupby(["seed", "chosen_on"]).mean()
    )
    for question, others in {
        "choosing on the old?": pooled[:, "old"],
        "random removal?": of_seed[:, "random", "none"],
        "no pruning?": of_seed[:, "unpruned", "none"],
    }.items():
        row = tested.loc[f"After transfer, does choosing on the new task cost less than {question}"]
        assert row.n == 2 and row.difference == pytest.approx(
            np.mean([pooled[s, "this"] - others[s] for s in (3, 4)])
        )
    for row in tables["transferred"].itertuples():
        means = of_seed.groupby(["method", "chosen_on"]).mean()
        other = {
            "old task": (row.method, "old"),
            "random": ("random", "none"),
            "unpruned": ("unpruned", "none"),
        }[row.against]
        assert row.difference == pytest.approx(means[row.method, "this"] - means[other])
    assert tables["verdicts"].empty, "two networks on synthetic data get no verdict"
    assert "Too small for verdicts" in capsys.readouterr().out
    assert len(list(paths.figures_dir("t").glob("12_*.p[dn][fg]"))) == 10

    written = {f.name: f.stat().st_mtime_ns for f in units.iterdir()}
    before = (results / "areas.csv").read_bytes()
    run(NOTEBOOK, SMALL, save_figures=False)
    assert {f.name: f.stat().st_mtime_ns for f in units.iterdir()} == written, (
        "nothing was trained anew"
    )
    assert (results / "areas.csv").read_bytes() == before


def test_bad_values_end_in_one_clear_message_before_any_training(home):
    assert "tuning_part is 2.0" in refusal(NOTEBOOK, SMALL | {"tuning_part": 2.0})
    assert not list(paths.evaluations_dir("t").rglob("*.csv*"))
