"""Notebook 17's numbers against direct computation, and answers that change with them."""

from zlib import crc32

import numpy as np
import pandas as pd
import pytest

from bogp import benchmark
from bogp.errors import InvalidInput
from bogp.studies.mask_benchmark import measure, tables


@pytest.fixture(scope="module")
def masks():
    return benchmark.load()


def test_searches_are_those_of_the_pool_and_are_kept(masks, tmp_path, monkeypatch):
    chosen = measure.arms(["gaussian_process"])
    assert list(chosen) == ["Gaussian process, nine properties", "Gaussian process, all columns"]
    job = (masks, chosen, [0.99], 1, 7, tmp_path, 1)
    found = measure.searched(*job)
    assert len(found) == 3 * 2 * 3 * 7  # arms and random search, data sets, trainings, trials
    pool = masks.pool(0.99, "fashion-mnist", 2, measure.NINE_COLUMNS)
    number = crc32(b"0.99 fashion-mnist 2 0")
    again = pool.evaluate(benchmark.GaussianProcess(number), 7, seed=number)
    own = found[
        (found["arm"] == "Gaussian process, nine properties")
        & (found["dataset"] == "fashion-mnist")
        & (found["seed"] == 2)
    ]
    np.testing.assert_allclose(own["regret"], again["regret"])
    by_chance = found[(found["arm"] == measure.RANDOM) & (found["dataset"] == "fashion-mnist")]
    at = by_chance[(by_chance["seed"] == 2) & (by_chance["trial"] == 7)]
    assert at["judged"].item() == pytest.approx(pool.random(7))
    monkeypatch.setattr(benchmark.Pool, "evaluate", None)  # nothing is searched again
    pd.testing.assert_frame_equal(measure.searched(*job), found)


def test_unknown_methods_are_refused():
    with pytest.raises(InvalidInput, match="random_forest"):
        measure.arms(["annealing"])
    with pytest.raises(InvalidInput, match="name some of printed"):
        measure.arms([])


def test_ceilings(masks):
    known = measure.ceilings(masks, [0.95]).set_index("dataset")
    table = measure.accuracies(masks, 0.95, "mnist")
    assert table.shape == (800, 3)
    row = known.loc["mnist"]
    assert row["mean"] == pytest.approx(table.mean())
    tops = [table[:, [s for s in range(3) if s != k]].mean(axis=1).max() for k in range(3)]
    assert row["best"] == pytest.approx(np.mean(tops))
    assert row["mean"] < row["oracle"] <= row["best"]
    # one-way by hand: mean squares between masks and of the interaction
    grand = table.mean()
    rows, columns = table.mean(axis=1), table.mean(axis=0)
    rest = ((table - rows[:, None] - columns + grand) ** 2).sum() / (799 * 2)
    between = (3 * ((rows - grand) ** 2).sum() / 799 - rest) / 3
    assert row["rest"] == pytest.approx(np.sqrt(rest))
    assert row["between"] == pytest.approx(np.sqrt(between))
    ranks = pd.DataFrame(table).corr(method="spearman").to_numpy()
    alike = ranks[np.triu_indices(3, 1)].mean()
    assert row["rank_ceiling"] == pytest.approx(np.sqrt(3 * alike / (1 + 2 * alike)))


def test_the_rank_ceiling_is_what_the_truth_itself_reaches():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=20_000)
    table = truth[:, None] + rng.normal(size=(20_000, 3))
    alike = measure._between_trainings(table)
    reached = pd.Series(truth).corr(pd.Series(table.mean(axis=1)), method="spearman")
    assert np.sqrt(3 * alike / (1 + 2 * alike)) == pytest.approx(reached, abs=0.02)


def test_families_with_their_own_salience_are_told_apart(masks):
    found = measure.by_family(masks, [0.97]).set_index(["dataset", "family"])
    assert found.loc[("mnist", "placed, own salience"), "size"] == 80
    own = [
        masks.describe(i)["settings"]["places"] == "mnist" for i in masks.ids if "97-placed-" in i
    ]
    rows = np.flatnonzero((masks.table["sparsity"] == 0.97) & (masks.table["family"] == "placed"))
    mean = masks.accuracies[rows[own], 0, :, 2].mean()
    assert found.loc[("mnist", "placed, own salience"), "mean"] == pytest.approx(mean, abs=1e-6)


def ends(gain: float) -> pd.DataFrame:
    rng, rows = np.random.default_rng(0), []
    for sparsity in (0.9, 0.95, 0.99):
        for dataset in ("a", "b"):
            base = rng.normal(0.9, 0.01)
            rows.append(("random search", sparsity, dataset, base, 0.01))
            rows.append(("mine", sparsity, dataset, base + gain + rng.normal(0, 0.001), 0.01))
    return pd.DataFrame(rows, columns=["arm", "sparsity", "dataset", "judged", "regret"])


@pytest.mark.parametrize("gain", [0.01, -0.01])
def test_against_random_follows_the_table(gain):
    table = ends(gain)
    oracle = table[table["arm"] == "random search"].assign(oracle=lambda t: t["judged"] + 0.02)
    over = measure.against_random(table, oracle).iloc[0]
    wide = table.pivot_table(index=["sparsity", "dataset"], columns="arm", values="judged")
    difference = wide["mine"] - wide["random search"]
    assert over["mean"] == pytest.approx(difference.mean())
    assert over["wins"] == (difference > 0).sum()
    assert over["of_the_gap"] == pytest.approx(difference.mean() / 0.02)
    assert (over["low"] > 0) == (gain > 0)
    known = oracle.assign(icc=0.5)
    said = tables.answer(known, measure.against_random(table, oracle), 25, 4_000)
    assert f"mine {difference.mean():+.4f}" in said


def test_models_learn_from_the_fixed_part_alone(masks):
    from sklearn.ensemble import RandomForestRegressor

    found = measure.predicted(masks, [0.97])
    data = masks.regression(0.97, "mnist", measure.NINE_COLUMNS)
    filled = np.where(np.isfinite(data.X), data.X, np.nanmax(data.X, axis=0))
    model = RandomForestRegressor(100, min_samples_leaf=2, random_state=0)
    guess = model.fit(filled[data.train], data.y[data.train]).predict(filled[data.test])
    at = {"dataset": "mnist", "model": "random forest", "columns": "nine properties"}
    row = found[(found[list(at)] == pd.Series(at)).all(axis=1) & (found["split"] == "fixed")]
    rank = pd.Series(guess).corr(pd.Series(data.y[data.test]), method="spearman")
    assert row["spearman"].item() == pytest.approx(rank)
    wide = tables.transfer(found)
    assert set(wide.columns) == {"fixed", "other families"}


def test_agreement_is_a_rank_correlation(masks):
    row = measure.agreement(masks, [0.9]).iloc[0]
    means = [
        pd.Series(measure.accuracies(masks, 0.9, name).mean(axis=1))
        for name in ("mnist", "fashion-mnist")
    ]
    assert row["data_sets"] == pytest.approx(means[0].corr(means[1], method="spearman"))


def test_densities_follow_the_table(masks):
    table = masks.table.copy()
    said = tables.densities(table)
    assert "`bernoulli` by -30 to +40 %" in said and "`random_regular` by -6 to +4 %" in said
    placed = table["family"] == "placed"
    table.loc[placed, "weights"] *= 1.1
    assert "`placed` by +10 to +10 %" in tables.densities(table)


def test_weights_rank_the_masks_whose_number_varies(masks):
    rows = np.flatnonzero(
        (masks.table["sparsity"] == 0.99) & (masks.table["family"] == "bernoulli")
    )
    means = masks.accuracies[rows, 0, :, 2].mean(axis=1)
    weights = pd.Series(masks.table["weights"].to_numpy()[rows])
    own = weights.corr(pd.Series(means), method="spearman")
    assert tables.by_weights(masks) == pytest.approx(own)
