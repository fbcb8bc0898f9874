import numpy as np
import pytest
from scipy import stats

from bogp.errors import InvalidInput
from bogp.statistics import mean_interval, paired_difference


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("n", [2, 5, 30])
def test_mean_interval_is_scipys_t_interval(n, level):
    values = np.random.default_rng(n).normal(3.0, 2.0, n)
    found = mean_interval(values, level)
    low, high = stats.t.interval(level, n - 1, loc=values.mean(), scale=stats.sem(values))
    np.testing.assert_allclose([found.mean, found.low, found.high], [values.mean(), low, high], rtol=1e-12)
    assert found.n == n


def test_mean_interval_covers_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [mean_interval(rng.normal(1.0, 3.0, 4), 0.9) for _ in range(3000)]
    covered = np.mean([i.low <= 1.0 <= i.high for i in intervals])
    assert abs(covered - 0.9) < 0.02  # the standard error is 0.0055; a normal in place of a t interval covers 0.80


def test_one_value_says_nothing_about_spread():
    found = mean_interval([0.97])
    assert (found.mean, found.n) == (0.97, 1)
    assert np.isnan(found.low)
    assert np.isnan(found.high)


def test_equal_values_have_an_interval_of_no_width():
    found = mean_interval([0.5, 0.5, 0.5])
    assert (found.low, found.high) == (0.5, 0.5)


def test_an_interval_prints_its_ends_and_its_n():
    assert str(mean_interval([0.5, 0.5])) == "0.5000 [0.5000, 0.5000] (n = 2)"


def test_paired_difference_uses_the_pairs():
    seeds = np.random.default_rng(1).normal(0.0, 1.0, 20)  # what a seed does to both methods
    first, second = seeds + 0.1, seeds + np.random.default_rng(2).normal(0.0, 0.01, 20)
    found = paired_difference(first, second)
    test = stats.ttest_rel(first, second).confidence_interval(0.95)
    np.testing.assert_allclose([found.low, found.high], [test.low, test.high], rtol=1e-9)
    assert found.low > 0.08  # unpaired, the spread between seeds would drown the difference
    assert found.n == 20


def test_paired_difference_changes_sign_with_the_order():
    there, back = paired_difference([3.0, 5.0, 4.0], [1.0, 1.0, 1.0]), paired_difference([1.0, 1.0, 1.0], [3.0, 5.0, 4.0])
    assert (there.mean, there.low, there.high) == (-back.mean, -back.high, -back.low)


@pytest.mark.parametrize("values", [[], [[1.0, 2.0]], 1.0, [1.0, np.nan], [np.inf]], ids=str)
def test_mean_interval_refuses_what_has_no_mean(values):
    with pytest.raises(InvalidInput):
        mean_interval(values)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5, 95, np.nan])
def test_a_level_is_strictly_between_0_and_1(level):
    with pytest.raises(InvalidInput, match="level"):
        mean_interval([1.0, 2.0], level)


@pytest.mark.parametrize("second", [[1.0], [], [[1.0, 2.0]]], ids=str)
def test_pairs_of_different_lengths_are_refused(second):
    with pytest.raises(InvalidInput):
        paired_difference([1.0, 2.0], second)


def test_two_empty_lists_are_no_pairs():
    with pytest.raises(InvalidInput):
        paired_difference([], [])
