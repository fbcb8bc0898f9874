"""Searches over the numbers of a generator, on functions that are known."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bogp.errors import InvalidInput
from bogp.search import generator
from bogp.search.generator import Axis, BayesianPoints, PointsAtOnce, numbers
from bogp.search.searchers import FRESH_SEED
from bogp.training.protocols import CALIBRATED

SPACE = (Axis("share", 0.1, 0.9), Axis("scale", 0.5, 8.0, log=True))


def draw(at, rng):
    """A mask of one layer whose share of ones is the first number, and no mask of the second."""
    return (rng.random((20, 20)) < at["share"],)


class Counted:
    """An evaluator whose accuracy is highest where half of the weights are kept."""

    def __init__(self, noise=0.0):
        self.jobs, self.calls, self.noise = [], 0, noise

    def evaluate(self, jobs):
        self.jobs += jobs
        self.calls += 1
        kept = np.array([job.recipe.layer_masks[0].mean() for job in jobs])
        lucky = np.array([np.random.default_rng(job.seed + 1).normal() for job in jobs])
        accuracy = 1 - (kept - 0.5) ** 2 + self.noise * lucky
        names = ["train_accuracy", "validation_accuracy", "test_accuracy"]
        return pd.DataFrame(dict.fromkeys(names, accuracy)).assign(key=[str(j.seed) for j in jobs])


def searchers(seeds=2, initial=3, proposed=2):
    both = []
    for seed in range(seeds):
        both.append(BayesianPoints(2, initial, proposed, seed))
        both += [PointsAtOnce(2, initial + proposed, seed, kind) for kind in ("random", "sobol")]
    return both


def test_axes_say_what_coordinates_mean():
    assert [SPACE[0].value(at) for at in (0, 0.5, 1)] == pytest.approx([0.1, 0.5, 0.9])
    assert [SPACE[1].value(at) for at in (0, 0.5, 1)] == pytest.approx([0.5, 2.0, 8.0])
    assert numbers(SPACE, np.array([1.0, 0.0])) == pytest.approx({"share": 0.9, "scale": 0.5})


@given(st.floats(0, 1), st.floats(0, 1))
def test_coordinates_are_found_again(a, b):
    at = numbers(SPACE, np.array([a, b]))
    back = [float(generator._coordinate(axis, at[axis.name])) for axis in SPACE]
    assert back == pytest.approx([a, b], abs=1e-9)


@pytest.mark.parametrize(
    ("low", "high", "log"),
    [(1, 1, False), (2, 1, False), (0, 1, True), (math.nan, 1, False), (0, math.inf, False)],
)
def test_an_axis_without_a_range_is_refused_by_name(low, high, log):
    with pytest.raises(InvalidInput, match="width"):
        Axis("width", low, high, log)


def test_points_lie_in_the_cube_and_are_functions_of_their_seed():
    for kind in ("random", "sobol"):
        one, again, other = (PointsAtOnce(3, 9, seed, kind).ask() for seed in (1, 1, 2))
        assert len(one) == 9 and all(((p >= 0) & (p <= 1)).all() for p in one)
        np.testing.assert_array_equal(one, again)
        assert not np.array_equal(one, other)
    # a balanced sequence: each half of each axis holds half of a power of two
    points = np.array(PointsAtOnce(3, 16, 0, "sobol").ask())
    assert ((points < 0.5).sum(axis=0) == 8).all()
    searcher = PointsAtOnce(3, 4, 0, "random")
    assert len(searcher.ask()) == 4 and searcher.ask() == []
    with pytest.raises(InvalidInput, match="sobol"):
        PointsAtOnce(3, 4, 0, "grid")


def test_bayesian_points_end_nearer_to_the_best_than_random_ones():
    def score(point):
        return -float(((point - 0.3) ** 2).sum())

    best: dict[str, list[float]] = {"bayesian": [], "random": []}
    for seed in range(4):
        searcher, found = BayesianPoints(3, 6, 12, seed), []
        while points := searcher.ask():
            scores = [score(point) for point in points]
            found += scores
            searcher.tell(scores)
        assert len(found) == 18
        best["bayesian"].append(max(found))
        best["random"].append(max(map(score, PointsAtOnce(3, 18, seed, "random").ask())))
    assert np.mean(best["bayesian"]) > 0.5 * np.mean(best["random"])


def test_searches_advance_together_and_share_seeds():
    evaluator = Counted()
    history = generator.run(searchers(), SPACE, draw, evaluator, CALIBRATED, "x")
    assert evaluator.calls == 1 + 2  # all at once, then a round a proposal
    assert len(history) == 2 * 3 * 5
    assert (
        history.groupby(["method", "search_seed"])["evaluation"].apply(list).tolist()
        == [[*range(5)]] * 6
    )
    assert {job.seed for job in evaluator.jobs} == {0, 1}
    assert (history["key"] == history["search_seed"].astype(str)).all()
    # an interrupted search is the same again
    again = generator.run(searchers(), SPACE, draw, Counted(), CALIBRATED, "x")
    pd.testing.assert_frame_equal(history, again)
    masks = {job.recipe.id for job in evaluator.jobs}
    # a fresh mask an evaluation; a Bayesian search begins with the Sobol search of its seed
    assert len(masks) == len(history) - 2 * 3


def test_a_recommendation_is_the_highest_posterior_mean_not_the_luckiest():
    share = np.linspace(0.1, 0.9, 17)
    accuracy = 1 - (share - 0.5) ** 2
    accuracy[1] = 1.02  # far from the best, and lucky
    history = pd.DataFrame(
        {
            "method": "random",
            "search_seed": 0,
            "share": share,
            "scale": 2.0,
            "validation_accuracy": accuracy,
        }
    )
    chosen = generator.recommend(history, SPACE[:1])
    assert 0.35 <= chosen["share"].iloc[0] <= 0.65


def test_what_is_chosen_is_judged_by_fresh_masks_and_seeds():
    evaluator = Counted()
    history = generator.run(searchers(), SPACE, draw, evaluator, CALIBRATED, "x")
    known = {job.recipe.id for job in evaluator.jobs}
    chosen = generator.recommend(history, SPACE)
    later = Counted()
    found = generator.fresh(chosen, SPACE, draw, later, CALIBRATED, "x", 3)
    assert len(found) == len(chosen) * 3
    seeds = found.assign(seed=[job.seed for job in later.jobs])
    for row in seeds.itertuples():
        assert row.seed == FRESH_SEED + row.search_seed * 3 + row.mask
    assert not known & {job.recipe.id for job in later.jobs}


def test_two_searchers_of_one_name_and_seed_are_refused():
    twice = [PointsAtOnce(2, 3, 0, "random")] * 2
    for some in ([], twice):
        with pytest.raises(InvalidInput, match="searcher"):
            generator.run(some, SPACE, draw, Counted(), CALIBRATED, "x")
