import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bogp.errors import InvalidInput
from bogp.graphs.database import DatabaseSpec, MaskDatabase
from bogp.graphs.families import bernoulli
from bogp.graphs.properties import measure
from bogp.statistics import partial_rank_correlation
from bogp.studies.claims import prediction
from bogp.studies.claims.prediction import (
    out_of_fold,
    pooled,
    predictors,
    spearman,
    spearman_p,
    table,
)
from bogp.variance import components


def database(n=8, **columns):
    values = pd.DataFrame(columns)
    return MaskDatabase(
        values,
        DatabaseSpec((0.5,), len(values), n=n),
        np.zeros((len(values), n * n // 8), dtype=np.uint8),
    )


def planted(masks=80, seeds=8, rest=0.002, signal=0.01, seed=0):
    """Accuracies that are a smooth function of one property, a part of the seed, and noise."""
    rng = np.random.default_rng(seed)
    values = pd.DataFrame(
        rng.normal(size=(masks, 4)),
        columns=["clustering", "path_length", "s_metric", "density"],
        index=rng.permutation(masks),
    )
    x = values["clustering"].to_numpy()
    accuracies = (
        0.95
        + signal * (x - 0.15 * x**2)[:, None]
        + rng.normal(0, 0.02, seeds)
        + rng.normal(0, rest, (masks, seeds))
    )
    return values, accuracies


def r2(y, predicted):
    return 1 - np.square(y - predicted).sum() / np.square(y - y.mean()).sum()


def test_a_planted_signal_is_found_and_nothing_else_is():
    values, accuracies = planted()
    found = table(values, accuracies, folds=5, models=["ridge"]).set_index("predictor")
    assert list(found.index) == [
        "clustering",
        "path_length",
        "s_metric",
        "density",
        "all",
        "all + density",
    ]
    for name in ("clustering", "all", "all + density"):
        row = found.loc[name]
        assert 0.95 < row.share < 1.01
        assert row.r2_low < row.cv_r2 < row.r2_high
        assert row.rho_low > 0.9
        assert row.p_above < 1e-6
        assert row.p_below == 1
    for name in ("path_length", "s_metric", "density"):
        row = found.loc[name]
        assert row.r2_low < 0
        assert row.cv_r2 < 0.1
        assert row.rho_low < 0 < row.rho_high
    x, mean = values["clustering"], accuracies.mean(axis=1)
    assert found.rho["clustering"] == pytest.approx(stats.spearmanr(x, mean).statistic)
    assert found.rho_given_density["clustering"] == pytest.approx(
        partial_rank_correlation(x, mean, values["density"])
    )
    assert np.isnan(found.rho_given_density["density"])
    np.testing.assert_allclose(found.ceiling, components(accuracies).ceiling.value)
    np.testing.assert_allclose(found.share, found.cv_r2 / found.ceiling)
    assert set(found.n) == {80}


def test_a_noisy_signal_is_predicted_as_well_as_noise_allows():
    # three quarters of the noise averaged away leave a ceiling near one half
    values, accuracies = planted(masks=300, rest=0.03)
    found = table(values, accuracies, models=["ridge"]).set_index("predictor").loc["clustering"]
    assert 0.3 < found.ceiling < 0.7
    assert found.cv_r2 < found.ceiling + 0.1
    assert 0.8 < found.share < 1.2


def test_the_forest_finds_the_planted_signal_too():
    values, accuracies = planted()
    found = table(
        values[["clustering", "s_metric"]], accuracies, folds=3, models=["forest"]
    ).set_index("predictor")
    assert list(found.model) == ["ridge", "ridge", "forest"]  # no density, so no row with it
    assert found.share["all"] > 0.8
    assert found.rho["all"] > 0.9
    assert found.rho_given_density.isna().all()


@pytest.mark.parametrize("model", ["ridge", "forest"])
def test_noise_is_not_predicted(model):
    values, accuracies = planted(signal=0.0, seed=1)
    found = table(values.drop(columns="density"), accuracies, folds=3, models=[model])
    assert (found.r2_low < 0).all()
    assert (found.cv_r2 < 0.1).all()  # a forest that has seen the masks it predicts has 0.8
    assert (found.rho_low < 0.05).all()
    assert (found.p_below < 0.5).all()


@pytest.mark.parametrize("model", ["ridge", "forest"])
def test_a_mask_has_no_part_in_its_own_prediction_nor_in_that_of_its_fold(model):
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(40, 3)), np.sort(rng.normal(size=40))
    gap = np.diff(y)
    chosen = int(np.argmax(np.minimum(gap[:-1], gap[1:]))) + 1
    moved = y.copy()
    moved[chosen] += 0.9 * gap[chosen]  # the order, and with it the division into folds, stays
    predicted = out_of_fold(x, y, model, folds=2)
    same = predicted == out_of_fold(x, moved, model, folds=2)
    assert same[chosen]
    assert same.sum() == 20  # its fold
    other = x.copy()
    other[chosen] += 5
    kept = predicted == out_of_fold(other, y, model, folds=2)
    assert kept[same].sum() == 19  # scaling, too, is fitted on the other folds alone
    assert not kept[chosen]


def test_folds_are_balanced_so_that_knowing_nothing_predicts_nothing():
    y = np.random.default_rng(3).permutation(100.0 + np.arange(100))
    predicted = out_of_fold(np.zeros((100, 1)), y, "ridge")
    levels, sizes = np.unique(predicted, return_counts=True)
    assert list(sizes) == [10] * 10
    assert np.ptp(levels) < 2  # means of all folds but one; random folds spread them by about 3
    assert abs(stats.spearmanr(predicted, y).statistic) < 0.12  # with random folds it is near -0.3


def test_the_order_of_masks_does_not_matter_and_the_seed_does():
    values, accuracies = planted(masks=40, rest=0.03)
    values = values.drop(columns="density")
    order = np.random.default_rng(4).permutation(40)
    first, second = (
        table(v, a, folds=2)
        for v, a in ((values, accuracies), (values.iloc[order], accuracies[order]))
    )
    pd.testing.assert_frame_equal(first, second, rtol=1e-9)
    x, y = values.to_numpy(), accuracies.mean(axis=1)
    assert not np.array_equal(
        out_of_fold(x, y, "ridge", 4, seed=0), out_of_fold(x, y, "ridge", 4, seed=1)
    )


def test_ridge_fits_squares_and_does_not_mind_units():
    x = np.random.default_rng(5).normal(size=(60, 2))
    y = x[:, 0] ** 2 - x[:, 1]
    predicted = out_of_fold(x, y, "ridge")
    assert r2(y, predicted) > 0.999
    np.testing.assert_allclose(
        out_of_fold(x * [1e3, 1e-3] + [5, 0], y, "ridge"), predicted, atol=1e-6
    )


def test_the_r2_and_its_interval_are_those_of_scikit_learn_and_of_scipys_bootstrap():
    values, accuracies = planted(masks=60, rest=0.03)
    row = table(values[["clustering"]], accuracies, models=["ridge"]).iloc[0]
    y = accuracies.mean(axis=1)
    predicted = out_of_fold(values[["clustering"]], y, "ridge")
    assert row.cv_r2 == pytest.approx(r2(y, predicted))
    ends = stats.bootstrap(
        (y, predicted),
        r2,
        paired=True,
        vectorized=False,
        n_resamples=9999,
        method="percentile",
        rng=0,
    ).confidence_interval
    np.testing.assert_allclose([row.r2_low, row.r2_high], ends, atol=0.016)  # random by 0.005


def test_accuracies_without_differences_have_nothing_to_predict():
    values, _ = planted(masks=20)
    found = table(values, np.full((20, 3), 0.97), folds=4, models=["ridge"])
    assert (
        found[["rho", "rho_low", "cv_r2", "r2_low", "share", "ceiling", "p_above"]]
        .isna()
        .all(axis=None)
    )
    rng = np.random.default_rng(0)
    seeds = np.tile(rng.normal(size=(1, 4)), (20, 1)) + rng.normal(0, 0.1, (20, 4))
    # mean square of masks far below that of the rest
    seeds -= seeds.mean(axis=1, keepdims=True) - rng.normal(0, 1e-3, (20, 1))
    below = table(values, seeds, folds=4, models=["ridge"])
    assert (below.ceiling == 0).all()
    assert below.share.isna().all()


def test_predictors_are_the_columns_that_vary_and_the_rows_without_nan():
    nan = np.nan
    masks = database(
        clustering=[0.1, 0.2, 0.3, 0.4, 0.5],
        path_length=[1.0, nan, 2.0, 3.0, 1.5],
        wiener_index=[nan] * 5,
        s_metric=[7.0] * 5,
        cycle_rank=[3.0, 9.0, 3.0, 3.0, 3.0],  # constant once the row with a NaN is gone
        edge_connectivity=[1, 2, 3, 4, nan],  # not asked for
        sparsity=[0.5, 0.6, 0.7, 0.5, 0.6],
    )
    found = predictors(
        masks, ["path_length", "clustering", "wiener_index", "s_metric", "cycle_rank"]
    )
    assert list(found.columns) == ["path_length", "clustering", "density"]
    assert list(found.index) == [0, 2, 3, 4]
    np.testing.assert_allclose(
        found, [[1, 0.1, 0.5], [2, 0.3, 0.3], [3, 0.4, 0.5], [1.5, 0.5, 0.4]]
    )
    fixed = database(clustering=[0.1, 0.2, 0.3], sparsity=[0.5, 0.5, 0.5])
    assert list(predictors(fixed, ["clustering"]).columns) == ["clustering"]
    with pytest.raises(InvalidInput, match="constant"):
        predictors(database(clustering=[0.1, 0.1], sparsity=[0.5, 0.5]), ["clustering"])
    with pytest.raises(InvalidInput, match="name one or more"):
        predictors(fixed, ["colour"])


def test_pooled_databases_keep_what_differs_between_them_and_the_seeds_that_all_have():
    one, two = (
        database(clustering=[0.1, 0.1], sparsity=[0.5, 0.5]),
        database(clustering=[0.3, 0.3, 0.3], sparsity=[0.6, 0.6, 0.6]),
    )
    a, b = np.arange(8.0).reshape(2, 4), 10 + np.arange(6.0).reshape(3, 2)
    whole, accuracies = pooled([(one, a), (two, b)])
    np.testing.assert_array_equal(accuracies, [[0, 1], [4, 5], [10, 11], [12, 13], [14, 15]])
    assert (len(whole), whole.bits.shape) == (5, (5, 8))
    found = predictors(whole, ["clustering"])
    np.testing.assert_allclose(found, [[0.1, 0.5]] * 2 + [[0.3, 0.4]] * 3)
    assert list(found.index) == list(range(5))


@pytest.mark.parametrize("r", [0.0, 0.5, -0.9])
def test_the_interval_of_spearmans_correlation_covers_the_truth(r):
    draws = np.random.default_rng(6).multivariate_normal([0, 0], [[1, r], [r, 1]], (1000, 80))
    # ranks do not see monotone changes
    found = [spearman(np.exp(pairs[:, 0]), pairs[:, 1] ** 3) for pairs in draws]
    truth = 6 / np.pi * np.arcsin(r / 2)
    covered = np.mean([f.low < truth < f.high for f in found])
    assert abs(covered - 0.95) < 3.5 * np.sqrt(0.05 * 0.95 / 1000)
    assert np.mean([f.value for f in found]) == pytest.approx(truth, abs=0.015)


@pytest.mark.parametrize("threshold", [-0.5, 0.0, 0.3, 0.6])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_p_values_of_a_correlation_agree_with_its_interval(threshold, level):
    rng = np.random.default_rng(7)
    for n in (5, 40, 300):
        x = rng.normal(size=n)
        y = 0.4 * x + rng.normal(size=n)
        rho, (above, below) = spearman(x, y, level), spearman_p(x, y, threshold)
        assert (above < 1 - level) == (rho.low > threshold)
        assert (below < 1 - level) == (rho.high < threshold)
        assert max(above, below) == 1


def test_the_interval_has_the_standard_error_of_bonett_and_wright():
    x, y = [1, 2, 3, 4, 5, 6, 7], [2, 1, 4, 3, 7, 5, 6]
    r = 1 - 6 * 10 / (7 * 48)  # the ranks' squared differences sum to 10
    half = 1.959964 * np.sqrt((1 + r**2 / 2) / 4)
    found = spearman(x, y)
    np.testing.assert_allclose(
        [found.value, found.low, found.high],
        [r, *np.tanh([np.arctanh(r) - half, np.arctanh(r) + half])],
        rtol=1e-6,
    )


def test_orders_that_are_the_same_have_a_correlation_of_one_and_constants_none():
    same = spearman([1, 2, 3, 4], [1, 4, 9, 16])
    assert (same.low, same.value, same.high) == (1, 1, 1)
    assert spearman_p([1, 2, 3, 4], [1, 4, 9, 16], 0.3) == (0, 1)
    assert np.isnan(spearman([1, 1, 1, 1], [1, 4, 9, 16]).high)
    assert np.isnan(spearman_p([1, 1, 1, 1], [1, 4, 9, 16], 0.3)).all()


def test_what_cannot_be_used_is_refused():
    values, accuracies = planted(masks=12, seeds=2)
    for arguments in (
        (values, accuracies.mean(axis=1)),
        (values, accuracies[:, :1]),
        (values[:3], accuracies[:3], 3),
    ):
        with pytest.raises(InvalidInput):
            table(*arguments)
    with pytest.raises(InvalidInput, match="at least four pairs; got 3"):
        spearman([1, 2, 3], [1, 2, 3])


def test_sets_are_predicted_alone_and_with_others_of_their_sparsity(monkeypatch):
    monkeypatch.setattr(
        prediction,
        "of",
        lambda one, y, columns: pd.DataFrame({"n": [len(one)], "seeds": y.shape[1]}),
    )
    trainings = pd.concat(
        [
            pd.DataFrame(
                {
                    "mask": np.repeat(range(3), k),
                    "seed": [*range(k)] * 3,
                    "test_accuracy": 0.9,
                    "set": name,
                }
            )
            for name, k in (
                ("bernoulli, s = 0.60", 4),
                ("bernoulli, s = 0.90", 4),
                ("ws_flex, s = 0.60", 2),
            )
        ]
    )
    masks = database(clustering=[0.1, 0.2, 0.3], sparsity=[0.5, 0.5, 0.5])
    found = prediction.of_sets(
        dict.fromkeys(trainings["set"].unique(), masks), trainings
    ).set_index("set")
    assert found["n"].to_dict() == dict.fromkeys(trainings["set"].unique(), 3) | {
        "all families, s = 0.60": 6,
        "all families, s = 0.90": 3,
    }
    assert found["seeds"].tolist() == [4, 4, 2, 2, 4]


def test_of_takes_the_accuracies_of_the_masks_that_have_all_properties():
    masks = np.array(
        [family(12, 0.75, np.random.default_rng(k)) for k, family in enumerate([bernoulli] * 20)]
    )
    table = measure(masks).assign(
        sparsity=1 - masks.mean(axis=(1, 2)), mask_id=[str(k) for k in range(20)]
    )
    assert table.path_length.isna().any() and table.path_length.notna().sum() > 6
    database = MaskDatabase(
        table, DatabaseSpec((0.75,), 20, n=12), np.packbits(masks.reshape(20, -1), axis=1)
    )
    accuracies = np.random.default_rng(0).normal(0.97, 0.001, (20, 3))
    found = prediction.of(database, accuracies, ["path_length", "clustering"])
    known = table.path_length.notna().to_numpy()
    assert set(found.left_out) == {(~known).sum()} and set(found.n) == {known.sum()}
    alone = found[found.predictor == "path_length"].iloc[0]
    assert alone.rho == pytest.approx(
        stats.spearmanr(table.path_length[known], accuracies.mean(1)[known])[0]
    )


def test_indications_take_the_model_that_was_chosen_on_inner_folds():
    rows = pd.DataFrame(
        {
            "set": ["a", "a", "a", "b", "b"],
            "predictor": ["clustering", "all", "all", "all", "all"],
            "model": ["ridge", "ridge", prediction.NESTED, "forest", prediction.NESTED],
            "n": 100,
            "rho": [0.9, 0.4, 0.2, 0.1, -0.1],
            "rho_low": 0.0,
            "rho_high": 0.5,
            "rho_ceiling": 0.6,
            "p_above": [0.0, 0.02, 0.3, 0.7, 0.9],
            "p_below": [1, 0.9, 0.1, 0.01, 0.001],
        }
    )
    found = prediction.indications(rows).set_index("case")
    assert found.estimate.to_dict() == {"a": 0.2, "b": -0.1}
    assert found.p_for.to_dict() == {"a": 0.3, "b": 0.9}
    assert found.p_against.to_dict() == {"a": 0.1, "b": 0.001}
    assert set(found.rho_ceiling) == {0.6}


def test_the_better_model_is_found_on_inner_folds_and_fitted():
    x = np.random.default_rng(8).normal(size=(120, 3))
    steps = np.floor(3 * x[:, 0]) % 2 + 0.01 * x[:, 1]  # a forest splits, a parabola does not
    assert prediction.better(x, steps) == "forest"
    assert prediction.better(x, x[:, 0] - x[:, 1]) == "ridge"
    predicted = prediction.fitted(x, x[:, 0] - x[:, 1])(x[:5])
    np.testing.assert_allclose(predicted, x[:5, 0] - x[:5, 1], atol=0.01)
    nested = out_of_fold(x, steps, prediction.NESTED, folds=3)
    np.testing.assert_array_equal(nested, out_of_fold(x, steps, "forest", folds=3))


class Column:
    """The least squares line on one column."""

    def __init__(self, column):
        self.column = column

    def fit(self, x, y):
        self.line = np.polyfit(x[:, self.column], y, 1)
        return self

    def predict(self, x):
        return np.polyval(self.line, x[:, self.column])


def test_the_better_of_two_models_is_too_good_under_noise_and_the_nested_choice_is_not(monkeypatch):
    monkeypatch.setattr(prediction, "_model", lambda name, seed: Column({"ridge": 0}.get(name, 1)))
    rng, found = np.random.default_rng(9), []
    for _ in range(200):
        x, y = rng.normal(size=(40, 2)), rng.normal(size=40)
        found.append(
            [
                stats.spearmanr(out_of_fold(x, y, model, folds=4), y).statistic
                for model in (*prediction.MODELS, prediction.NESTED)
            ]
        )
    rho = np.array(found)
    error = rho[:, 2].std() / np.sqrt(200)
    assert rho[:, 2].mean() < 2 * error, "nothing is found where nothing is"
    assert rho[:, :2].max(axis=1).mean() > rho[:, 2].mean() + 3 * error


def test_the_ceiling_of_the_correlation_is_that_of_the_mask_itself():
    rng = np.random.default_rng(10)
    masks = rng.normal(size=(2000, 1))
    accuracies = masks + 2 * rng.normal(size=(2000, 4))
    found = table(pd.DataFrame({"clustering": masks[:, 0]}), accuracies, 3, models=["ridge"])
    assert found["rho_ceiling"].iloc[0] == pytest.approx(np.sqrt(0.5), abs=0.02)
    pearson = np.corrcoef(masks[:, 0], accuracies.mean(axis=1))[0, 1]
    assert pearson == pytest.approx(found["rho_ceiling"].iloc[0], abs=0.03)


def test_a_detectable_correlation_is_found_as_often_as_it_says():
    n, threshold = 200, 0.3
    truth = threshold + prediction.detectable_correlation(n, threshold)
    rng = np.random.default_rng(1)
    # of the normal pair whose rank correlation is the truth
    pearson = 2 * np.sin(np.pi * truth / 6)
    found = []
    for _ in range(400):
        x, e = rng.normal(size=(2, n))
        found.append(
            prediction.spearman_p(x, pearson * x + np.sqrt(1 - pearson**2) * e, threshold)[0] < 0.05
        )
    assert abs(np.mean(found) - 0.8) < 4 * np.sqrt(0.8 * 0.2 / 400)


def test_of_two_masks_the_draws_of_one_alone_say_nothing():
    found = prediction._r2(np.array([0.1, 0.3]), np.array([0.15, 0.2]), 0)
    assert np.isfinite([found.value, found.low, found.high]).all()
    assert found.low <= found.value <= found.high
