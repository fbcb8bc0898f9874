"""Searches in a pool, against what can be counted by hand."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from bogp.benchmark import METHODS, Pool
from bogp.benchmark.methods import GaussianProcess, PrintedSearch, expected_improvement
from bogp.errors import InvalidInput


def pool(count: int = 60, noise: float = 0.0, columns: int = 2, seed: int = 0) -> Pool:
    """A pool whose accuracy is smooth in what can be read."""
    rng = np.random.default_rng(seed)
    values = rng.random((count, columns))
    truth = 1 - ((values - 0.3) ** 2).sum(axis=1)
    return Pool(
        tuple(f"m{i}" for i in range(count)),
        tuple(f"c{k}" for k in range(columns)),
        values,
        truth + noise * rng.normal(size=count),
        truth,
    )


class First:
    """Names the first that is left, and keeps what it saw."""

    def __init__(self):
        self.seen = []

    def observe_and_suggest(self, X_obs, y_obs, X_pen):
        self.seen.append((X_obs.shape, y_obs.shape, X_pen.shape))
        return 0


def test_a_method_sees_what_hpo_b_shows_it():
    method, of = First(), pool()
    trace = of.evaluate(method, 8, seed=3, initial=5)
    assert method.seen == [((t, 2), (t, 1), (60 - t, 2)) for t in (5, 6, 7)]
    assert trace["trial"].tolist() == list(range(1, 9))
    assert trace["id"].nunique() == 8
    left = [i for i in range(60) if f"m{i}" not in set(trace["id"][:5])]
    assert trace["id"][5:].tolist() == [f"m{i}" for i in left[:3]]


def test_the_chosen_is_the_best_observed_and_judged_by_others():
    of = pool(noise=0.5)
    trace = of.evaluate(First(), 20, seed=1)
    row = {name: i for i, name in enumerate(of.ids)}
    for t in range(20):
        seen = trace["id"][: t + 1]
        best = max(seen, key=lambda name: of.observed[row[name]])
        assert trace["chosen"][t] == best
        assert trace["judged"][t] == of.judged[row[best]]
    np.testing.assert_allclose(trace["regret"], of.judged.max() - trace["judged"])
    full = of.evaluate(First(), 60)
    assert full["judged"].iloc[-1] == of.oracle <= of.best


def test_initial_masks_are_those_of_the_seed():
    a, b, c = (pool().evaluate(First(), 6, seed=s)["id"][:5].tolist() for s in (0, 0, 1))
    assert a == b != c
    assert len(pool().evaluate(First(), 3)) == 3


def test_what_is_read_lies_in_the_unit_cube():
    values = np.array([[1.0, 5.0, np.nan], [3.0, 5.0, 2.0], [2.0, 5.0, 4.0], [0.0, 5.0, np.inf]])
    of = Pool(tuple("abcd"), tuple("xyz"), values, np.arange(4.0), np.arange(4.0))
    np.testing.assert_allclose(of.X, [[1 / 3, 0, 1], [1, 0, 0], [2 / 3, 0, 1], [0, 0, 1]])


def test_random_search_is_the_mean_over_all_draws():
    rng = np.random.default_rng(3)
    observed = rng.integers(0, 4, 7).astype(float)  # with ties
    of = Pool(tuple("abcdefg"), ("x",), rng.random((7, 1)), observed, rng.random(7))
    for budget in (1, 3, 6, 7):
        found = []
        for rows in permutations(range(7), budget):
            found.append(of.judged[rows[int(np.argmax(observed[list(rows)]))]])
        assert of.random(budget) == pytest.approx(np.mean(found))


def test_initial_masks_differ_between_pools():
    a, b = pool(seed=0), pool(seed=1)
    assert a.evaluate(First(), 5)["id"].tolist() != b.evaluate(First(), 5)["id"].tolist()


@pytest.mark.parametrize("method", [None, First, GaussianProcess, 3])
def test_what_cannot_search_is_refused(method):
    with pytest.raises(InvalidInput, match="observe_and_suggest"):
        pool().evaluate(method, 5)


@pytest.mark.parametrize("name", ["printed", "tpe"])
def test_a_method_that_has_searched_is_refused(name):
    if name == "tpe":
        pytest.importorskip("optuna")
    method = METHODS[name](0)
    pool().evaluate(method, 8)
    with pytest.raises(InvalidInput, match="make a new one"):
        pool().evaluate(method, 8)


@pytest.mark.parametrize("change", [{"observed": [1.0]}, {"judged": np.full(60, np.nan)}])
def test_a_pool_of_shapes_that_do_not_fit_is_refused(change):
    with pytest.raises(InvalidInput, match="has shape"):
        replace(pool(), **change)


@pytest.mark.parametrize("suggestion", [-1, 54, 0.0, None, True, "0"])
def test_a_suggestion_that_is_no_row_is_refused(suggestion):
    class Wrong:
        def observe_and_suggest(self, X_obs, y_obs, X_pen):
            return suggestion

    with pytest.raises(InvalidInput, match="row of X_pen"):
        pool().evaluate(Wrong(), 7, initial=6)


@pytest.mark.parametrize(("budget", "initial"), [(0, 1), (61, None), (4, 5), (5, 0), (2.5, 1)])
def test_sizes_out_of_range_are_refused(budget, initial):
    with pytest.raises(InvalidInput):
        pool().evaluate(First(), budget, initial=initial)


@pytest.mark.parametrize("name", list(METHODS))
def test_methods_search_and_are_the_same_again(name):
    if name == "tpe":
        pytest.importorskip("optuna")
    of = pool(noise=0.01)
    first, second = (of.evaluate(METHODS[name](4), 10, seed=2) for _ in range(2))
    assert first.equals(second)
    assert first["id"].nunique() == 10


@pytest.mark.parametrize("name", ["gaussian_process", "random_forest", "printed", "tpe"])
def test_methods_that_learn_beat_random_where_there_is_something_to_learn(name):
    if name == "tpe":
        pytest.importorskip("optuna")
    of = pool(400)
    if name == "printed":  # the cosine knows directions alone
        direction = of.values[:, 0] / np.linalg.norm(of.values, axis=1)
        of = replace(of, observed=direction, judged=direction)
    regret = {
        method: np.mean(
            [
                of.evaluate(METHODS[method](s), 25, seed=s)["regret"].iloc[-1]
                for s in range(3 if name == "printed" else 6)
            ]
        )
        for method in (name, "random")
    }
    assert regret[name] < regret["random"]


def test_nothing_is_learnt_from_nothing():
    """Where accuracy has nothing to do with what is read, the process is no better than luck: its
    masks' mean rank is near the middle.
    """
    rng = np.random.default_rng(5)
    noise = rng.random(300)
    of = Pool(tuple(map(str, range(300))), ("x", "y"), rng.random((300, 2)), noise, noise)
    rank = noise.argsort().argsort() / 300
    seen = [
        rank[int(name)]
        for s in range(8)
        for name in of.evaluate(GaussianProcess(s), 20, seed=s)["id"][5:]
    ]
    assert abs(np.mean(seen) - 0.5) < 4 / np.sqrt(12 * len(seen))


def test_the_printed_search_takes_the_mask_most_like_its_query():
    of, method = pool(80), PrintedSearch(0)
    trace = of.evaluate(method, 9, seed=0)
    row = {name: i for i, name in enumerate(of.ids)}
    for t, query in enumerate(method._queries[5:], start=5):
        left = [i for i in range(80) if of.ids[i] not in set(trace["id"][:t])]
        cosine = [of.X[i] @ query / np.linalg.norm(of.X[i]) / np.linalg.norm(query) for i in left]
        assert row[trace["id"][t]] == left[int(np.argmax(cosine))]


def test_expected_improvement_is_the_mean_over_draws():
    draws = np.random.default_rng(0).normal(0.3, 0.7, 2_000_000)
    found = expected_improvement(np.array([0.3, 0.3, 0.1]), np.array([0.7, 0.0, 0.0]), 0.2)
    assert found[0] == pytest.approx(np.maximum(draws - 0.2, 0).mean(), abs=2e-3)
    np.testing.assert_allclose(found[1:], [0.1, 0.0])
