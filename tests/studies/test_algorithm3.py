"""Searches of a database beside random search: what is compared, and with what an oracle has."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bogp.graphs.database import DatabaseSpec, build
from bogp.studies import algorithm3
from bogp.training.evaluation import Evaluator
from bogp.training.protocols import CALIBRATED


def test_evidence_is_a_paired_t_interval_with_the_effect_that_would_be_found():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.91, 0.01, 20), rng.normal(0.9, 0.01, 20)
    found = algorithm3.evidence(a, b)
    test = stats.ttest_rel(a, b).confidence_interval()
    assert (found["low"], found["high"]) == pytest.approx((test.low, test.high))
    assert found["n"] == 20
    # at that effect, in units of the standard error, a two-sided t test has a power of .8
    error = np.std(a - b, ddof=1) / np.sqrt(20)
    shift, critical = found["detectable"] / error, stats.t.isf(0.025, 19)
    power = stats.nct.sf(critical, 19, shift) + stats.nct.cdf(-critical, 19, shift)
    assert power == pytest.approx(0.8, abs=1e-6)
    assert algorithm3.evidence(a, a)["detectable"] == 0


def test_searches_are_compared_seed_by_seed():
    rows = [("x", k, 0.9 + 0.01 * k + 0.002) for k in range(4)]
    rows += [("random", k, 0.9 + 0.01 * k) for k in range(4)]
    table = pd.DataFrame(rows, columns=["method", "search_seed", "fresh_test"])
    found = algorithm3.against_random(table)
    assert found["searched"].tolist() == ["x"]
    assert found["mean"].iloc[0] == pytest.approx(0.002)


def test_all_kinds_of_search_are_judged_by_seeds_that_they_did_not_see(home, tmp_path):
    base = build(DatabaseSpec((0.8,), 8, n=16), tmp_path / "b", workers=1).at(0.8)
    short = replace(CALIBRATED, widths=(784, 16, 16, 10), steps=4)
    evaluator = Evaluator(progress=False)
    how = (short, "mnist-5k", evaluator)
    columns = ("clustering", "s_metric")
    asked = (base, {"two": columns}, ("mixed", columns), (3, 1), 2, 2, *how)
    found = algorithm3.retrained(*asked, tmp_path / "history.csv")
    again = algorithm3.retrained(*asked, tmp_path / "history.csv")
    pd.testing.assert_frame_equal(found, again)
    assert sorted(found["method"].unique()) == ["mixed", "random", "two"]
    assert len(found) == 6 and set(found["search_seed"]) == {0, 1}
    known = algorithm3.all_graphs(base, 2, *how)
    assert known.shape == (8, 2, 2)
    with evaluator.store as store:
        table = store.table()
    seeds = {seed for seed in table["seed"] if seed < 10_000}  # above: replications of a search
    # searches, what judges them, and what an oracle knows: no seed serves two
    assert seeds == {0, 1} | {5_000, 5_001, 5_002, 5_003} | {9_000, 9_001}
    rarity = algorithm3.rarity(known)
    assert rarity["graphs"] == 8 and 1 / 8 <= rarity["near_best"] <= 1


def test_rarity_counts_graphs_near_the_best():
    rng = np.random.default_rng(0)
    means = np.array([0.95, 0.9495] + [0.9] * 38)
    known = means[:, None, None] + rng.normal(0, 0.002, (40, 16, 2))
    found = algorithm3.rarity(known)
    assert found["near_best"] == pytest.approx(2 / 40)
    assert found["ceiling"] == pytest.approx(0.95 - means.mean(), abs=0.003)
    assert found["spread"] == pytest.approx(0.002, rel=0.3)
