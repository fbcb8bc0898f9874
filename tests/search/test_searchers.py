import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import cdist
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from threadpoolctl import threadpool_limits

from bogp.errors import DatabaseError, InvalidInput
from bogp.graphs.database import DatabaseSpec, MaskDatabase
from bogp.search.searchers import (
    BoxRandom,
    BoxSearch,
    PoolSearch,
    RandomSearch,
    SearchSettings,
    best_observed,
    best_posterior_mean,
    permuted,
    unit_values,
)

COLUMNS = ("clustering", "s_metric")
SETTINGS = SearchSettings(columns=COLUMNS, n_initial=4, n_iterations=6, kappa=1.0)


def database_of(values, **more):
    """Masks with the given values of ``COLUMNS``, each mask another one."""
    values = np.asarray(values, dtype=float)
    n = len(values)
    table = pd.DataFrame(
        {
            "mask_id": [f"m{i}" for i in range(n)],
            "family": "made",
            "seed": np.arange(n) % 3,
            "sparsity": 0.5 + 0.3 * values[:, 0],
        }
    )
    table = table.assign(**dict(zip(COLUMNS, (values * [1.0, 1000.0]).T, strict=True)), **more)
    bits = np.random.default_rng(n).integers(0, 256, (n, 32), np.uint8)
    return MaskDatabase(table, DatabaseSpec((0.5,), max(n, 1), n=16), bits)


@pytest.fixture(scope="module")
def database():
    return database_of(np.random.default_rng(0).random((60, 2)))


def smooth(database, target=(0.6, 0.35)):
    values = database.values(COLUMNS) / [1.0, 1000.0]
    return -((values - target) ** 2).sum(axis=1)


def go(searcher, scores):
    """Proposals of a whole search, round by round."""
    rounds = []
    while asked := searcher.ask():
        rounds.append(asked)
        searcher.tell([scores[p.row] for p in asked])
    return rounds


def visited(searcher, scores):
    return [p.row for asked in go(searcher, scores) for p in asked]


# --- searching the pool ---


def test_a_pool_search_asks_for_the_initial_masks_at_once_and_then_for_one_a_round(database):
    searcher = PoolSearch(database, SETTINGS, 3)
    rounds = go(searcher, smooth(database))
    assert (searcher.name, searcher.seed) == ("pool", 3)
    assert [len(asked) for asked in rounds] == [4, 1, 1, 1, 1, 1, 1]
    assert [p.phase for asked in rounds for p in asked] == ["initial"] * 4 + ["surrogate"] * 6
    assert all(p.query == {} and np.isnan(p.similarity) for asked in rounds for p in asked)


@pytest.mark.parametrize("kind", ["smooth", "constant", "random"])
def test_a_pool_search_visits_no_mask_twice_even_when_it_visits_all(kind):
    few = database_of(np.random.default_rng(1).random((12, 2)))
    scores = {
        "smooth": smooth(few),
        "constant": np.full(12, 0.97),
        "random": np.random.default_rng(2).random(12),
    }[kind]
    assert sorted(
        visited(PoolSearch(few, replace(SETTINGS, n_initial=3, n_iterations=9), 0), scores)
    ) == list(range(12))


def test_a_pool_search_depends_on_its_seed_alone(database):
    first, again, other = (
        visited(PoolSearch(database, SETTINGS, seed), smooth(database)) for seed in (5, 5, 6)
    )
    assert first == again
    assert first[:4] != other[:4]


def test_each_mask_is_as_likely_to_be_an_initial_one(database):
    drawn = [[p.row for p in PoolSearch(database, SETTINGS, seed).ask()] for seed in range(800)]
    assert all(len(set(rows)) == 4 for rows in drawn)
    counts, expected = np.bincount(np.ravel(drawn), minlength=60), 800 * 4 / 60
    assert stats.chi2.sf(((counts - expected) ** 2 / expected).sum(), 59) > 1e-3


def reference(points, y, candidates, kappa):
    """Lower confidence bound on -y at the candidates by scikit-learn's Gaussian process, its fit
    restarted often.
    """
    kernel = ConstantKernel(1.0, (0.01, 1000.0)) * Matern(
        np.ones(points.shape[1]), [(0.01, 100.0)] * points.shape[1], nu=2.5
    )
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = GaussianProcessRegressor(
            kernel + WhiteKernel(), normalize_y=True, n_restarts_optimizer=3, random_state=0
        ).fit(points, -y)
        mean, total = model.predict(candidates, return_std=True)
    # sklearn's deviation is that of another noisy observation
    noise = model.kernel_.k2.noise_level * y.std() ** 2
    return mean - kappa * np.sqrt(np.maximum(total**2 - noise, 0))


@pytest.mark.parametrize("kappa", [0.0, 2.0, 1000.0])
def test_the_next_mask_has_the_lowest_confidence_bound_of_those_not_yet_visited(kappa, database):
    scores = smooth(database) + 0.01 * np.random.default_rng(4).normal(size=60)
    rows = visited(
        PoolSearch(database, replace(SETTINGS, n_initial=15, n_iterations=2, kappa=kappa), 1),
        scores,
    )
    values = database.values(COLUMNS)
    values = (values - values.min(axis=0)) / np.ptp(values, axis=0)
    for known in (15, 16):
        free = np.setdiff1d(np.arange(60), rows[:known])
        bound = reference(values[rows[:known]], scores[rows[:known]], values[free], kappa)
        assert rows[known] == free[np.argmin(bound)]


def test_a_pool_search_does_not_care_for_units_or_the_scaling_of_the_box(database):
    other = MaskDatabase(
        database.table.assign(clustering=1e6 * database.table["clustering"] - 5),
        database.spec,
        database.bits,
    )
    expected = visited(PoolSearch(database, SETTINGS, 0), smooth(database))
    for scaling, metric in (("minmax", "cosine"), ("none", "l1")):
        assert (
            visited(
                PoolSearch(other, replace(SETTINGS, scaling=scaling, metric=metric), 0),
                smooth(database),
            )
            == expected
        )


def test_of_masks_with_the_same_properties_the_one_in_the_lowest_row_is_asked_for_first():
    once = np.random.default_rng(5).random((7, 2))
    twice = database_of(np.concatenate([once, once]))
    for seed in range(3):
        rows = visited(
            PoolSearch(twice, replace(SETTINGS, n_initial=2, n_iterations=9), seed), smooth(twice)
        )
        later = [(at, row) for at, row in enumerate(rows) if at >= 2 and row >= 7]
        assert later
        assert all(row - 7 in rows[:at] for at, row in later)


def test_a_pool_search_finds_better_masks_than_random_search_when_properties_decide(database):
    score = smooth(database)
    # 1 is the best mask; ten random draws of 60 reach 61 / 11 = 5.5 on average
    rank = stats.rankdata(-score)
    pool, random = (
        np.array([min(rank[visited(make(seed), score)]) for seed in range(6)])
        for make in (
            lambda k: PoolSearch(database, SETTINGS, k),
            lambda k: RandomSearch(database, SETTINGS.budget, k),
        )
    )
    assert (pool <= random).all()
    assert pool.mean() < 2
    assert random.mean() > 3


def test_masks_with_a_missing_property_are_no_candidates():
    values = np.random.default_rng(6).random((12, 2))
    values[[0, 4, 7], 1] = np.nan
    holes = database_of(values)
    rows = visited(
        PoolSearch(holes, replace(SETTINGS, n_initial=4, n_iterations=5), 0), np.linspace(0, 1, 12)
    )
    assert sorted(rows) == sorted(set(range(12)) - {0, 4, 7})
    with pytest.raises(InvalidInput, match=r"10 masks.*9 have all"):
        PoolSearch(holes, replace(SETTINGS, n_initial=4, n_iterations=6), 0)


def test_what_cannot_be_searched_is_refused(database):
    with pytest.raises(InvalidInput, match="search of 61 masks"):
        PoolSearch(database, replace(SETTINGS, n_iterations=57), 0)
    for make in (PoolSearch, BoxRandom):
        with pytest.raises(InvalidInput, match="search seed"):
            make(database, SETTINGS, -1)
        with pytest.raises(InvalidInput, match="name one or more"):
            make(database, replace(SETTINGS, columns=("colour",)), 0)
        with pytest.raises(DatabaseError, match="empty"):
            make(database_of(np.zeros((0, 2))), SETTINGS, 0)


# --- the box without a surrogate ---


@pytest.mark.parametrize("scaling", ["minmax", "none"])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_the_initial_points_are_those_of_the_box_search_of_the_same_seed(metric, scaling, database):
    settings = replace(SETTINGS, metric=metric, scaling=scaling)
    for seed in (0, 7):
        assert (
            BoxRandom(database, settings, seed).ask()[:4]
            == BoxSearch(database, settings, seed).ask()
        )


def test_random_points_of_the_box_fill_it_and_get_their_nearest_mask(database):
    searcher = BoxRandom(database, replace(SETTINGS, metric="l2", n_iterations=1496), 2)
    asked = searcher.ask()
    searcher.tell([0.0] * 1500)
    assert searcher.ask() == []
    assert [p.phase for p in asked] == ["initial"] * 4 + ["random"] * 1496
    values = database.values(COLUMNS)
    low, span = values.min(axis=0), np.ptp(values, axis=0)
    points = (np.array([[p.query[c] for c in COLUMNS] for p in asked]) - low) / span
    for column in points.T:
        assert stats.kstest(column, stats.uniform(0.001, 0.999).cdf).pvalue > 1e-3
    assert abs(stats.spearmanr(*points.T).statistic) < 0.1
    assert [p.row for p in asked] == cdist(points, (values - low) / span).argmin(axis=1).tolist()


# --- property vectors permuted among the masks ---


@given(n=st.integers(2, 40), seed=st.integers(0, 2**32))
def test_permuting_moves_whole_property_vectors_and_leaves_masks_and_ids(n, seed):
    before = database_of(
        np.random.default_rng(n).random((n, 2)),
        target_sparsity=np.arange(n) / 50,
        labelled_degree=np.arange(n) ** 2,
    )
    kept = before.table.copy()
    after = permuted(before, seed)
    pd.testing.assert_frame_equal(before.table, kept)
    np.testing.assert_array_equal(after.masks(), before.masks())
    assert after.table[["mask_id", "family"]].equals(before.table[["mask_id", "family"]])
    numeric = ["seed", "sparsity", *COLUMNS, "target_sparsity", "labelled_degree"]
    came_from = np.sqrt(after.table["labelled_degree"]).astype(int)
    assert sorted(came_from) == list(range(n))
    pd.testing.assert_frame_equal(
        after.table[numeric], before.table[numeric].iloc[came_from].reset_index(drop=True)
    )
    assert list(after.table.columns) == list(before.table.columns)


def test_all_permutations_are_drawn_equally_often():
    three = database_of(np.random.default_rng(0).random((3, 2)), target_sparsity=[0, 1, 2])
    drawn = [tuple(permuted(three, seed).table["target_sparsity"]) for seed in range(900)]
    counts = pd.Series(drawn).value_counts()
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("n", [0, 1])
def test_nothing_is_left_to_permute_among_fewer_than_two_masks(n):
    with pytest.raises(InvalidInput, match="permute"):
        permuted(database_of(np.zeros((n, 2))), 0)


def test_unit_values_are_scaled_to_the_range_over_the_database_without_constant_properties():
    some = database_of([[0.2, 0.5], [0.4, 0.5], [1.2, 0.5]])
    np.testing.assert_allclose(unit_values(some, COLUMNS), [[0.0], [0.2], [1.0]])
    with pytest.raises(InvalidInput, match="constant"):
        unit_values(some, COLUMNS[1:])


# --- recommenders ---


@pytest.mark.parametrize(
    ("rows", "scores", "best"),
    [([3, 5, 3], [0.1, 0.4, 0.9], 3), ([3, 5, 9], [0.1, 0.9, 0.9], 5), ([8], [-1.0], 8)],
    ids=str,
)
def test_the_best_observed_mask_has_the_highest_single_score_the_first_of_equals(
    rows, scores, best
):
    assert best_observed(rows, scores) == best


def test_one_lucky_training_of_many_does_not_make_the_best_posterior_mean():
    rows, scores = [0, 0, 0, 0, 1, 1, 1, 1], [0.99, 0.95, 0.95, 0.95, 0.97, 0.972, 0.971, 0.969]
    values = np.array([[0.0], [1.0]])
    assert best_observed(rows, scores) == 0
    assert best_posterior_mean(rows, scores, values) == 1


def test_good_neighbours_make_a_better_posterior_mean_than_one_lucky_score():
    values = np.linspace(0, 1, 21)[:, None]
    truth = -((values[:, 0] - 0.7) ** 2)
    lucky = truth.copy()
    lucky[2] = 0.02  # among masks that scored -0.3 to -0.5
    order = np.random.default_rng(0).permutation(21)
    assert best_observed(order, lucky[order]) == 2
    assert best_posterior_mean(order, lucky[order], values) in (13, 14, 15)


@pytest.mark.parametrize("seed", range(3))
def test_the_posterior_mean_is_that_of_a_gaussian_process_on_all_evaluations(seed):
    rng = np.random.default_rng(seed)
    values, rows = rng.random((30, 2)), rng.integers(0, 30, 25)
    assert len(set(rows)) < 25  # replications
    scores = 0.97 + 0.01 * np.sin(4 * values[rows]).sum(axis=1) + 0.002 * rng.normal(size=25)
    bound = reference(values[rows], scores, values[rows], 0.0)
    assert best_posterior_mean(rows, scores, values) == rows[np.argmin(bound)]


def test_of_equal_posterior_means_the_first_visited_is_taken():
    values = np.array([[0.1], [0.9], [0.9], [0.9], [0.4]])
    # one and the same vector
    assert best_posterior_mean([0, 2, 1, 3], [0.1, 0.8, 0.9, 0.85], values) == 2
    assert best_posterior_mean([4, 1, 0], [0.5, 0.5, 0.5], values) == 4


def test_a_visited_mask_with_a_missing_property_has_no_posterior_mean():
    values = np.array([[0.1, 0.2], [np.nan, 0.5], [0.9, 0.8]])
    assert best_posterior_mean([0, 1, 2], [0.1, 0.9, 0.5], values) == 2
    with pytest.raises(InvalidInput, match="None of the visited"):
        best_posterior_mean([1, 1], [0.1, 0.9], values)


@pytest.mark.parametrize(
    ("rows", "scores"),
    [([], []), ([1], [0.5, 0.6]), ([1, 2], [0.5, np.nan]), ([[1]], [[0.5]])],
    ids=str,
)
def test_evaluations_that_are_none_are_refused(rows, scores):
    for recommend in (best_observed, lambda r, s: best_posterior_mean(r, s, np.eye(3))):
        with pytest.raises(InvalidInput, match="evaluation"):
            recommend(rows, scores)
