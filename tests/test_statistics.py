import numpy as np
import pytest
from scipy import stats

from bogp.errors import InvalidInput
from bogp.statistics import equivalence, mean_interval, paired_difference, spread_ratio


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


def test_equivalence_agrees_with_scipys_one_sided_tests():
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.9702, 0.002, 20), rng.normal(0.97, 0.002, 20)
    for margin in (0.0001, 0.001, 0.01):
        found = equivalence(first, second, margin)
        lower = stats.ttest_1samp(first - second, -margin, alternative="greater").pvalue
        upper = stats.ttest_1samp(first - second, margin, alternative="less").pvalue
        assert found.p == pytest.approx(max(lower, upper), rel=1e-9)
        inside = -margin < found.difference.low and found.difference.high < margin
        assert found.holds == inside == (max(lower, upper) < 0.05)


def test_equivalence_of_constant_differences_is_settled_by_the_margin():
    values = np.arange(5.0)
    assert equivalence(values, values + 0.5, 1.0).holds
    assert not equivalence(values, values + 0.5, 0.5).holds


@pytest.mark.parametrize(
    ("values", "margin"), [([1.0], 0.1), ([], 0.1), ([1.0, 2.0], 0.0), ([1.0, 2.0], -1.0), ([1.0, 2.0], np.nan)], ids=str
)
def test_equivalence_refuses_what_it_cannot_test(values, margin):
    with pytest.raises(InvalidInput):
        equivalence(values, values, margin)


def test_the_spread_interval_holds_the_true_ratio_as_often_as_it_says():
    rng, inside, rejected = np.random.default_rng(0), 0, 0
    for _ in range(2000):
        common = rng.standard_normal(25)
        first, second = 1.5 * (common + rng.standard_normal(25)), common + rng.standard_normal(25)
        found = spread_ratio(first, second)
        inside += found.low <= 1.5 <= found.high
        rejected += spread_ratio(first / 1.5, second).p < 0.05
    assert 0.935 < inside / 2000 < 0.965  # three standard errors around .95
    assert 0.035 < rejected / 2000 < 0.065


def test_the_spread_test_is_pitmans_correlation_of_sums_and_differences():
    rng = np.random.default_rng(1)
    first = rng.standard_normal(30)
    second = 0.5 * first + rng.standard_normal(30)
    found = spread_ratio(first, second)
    assert found.p == pytest.approx(stats.pearsonr(first + second, first - second).pvalue, rel=1e-9)
    assert found.ratio == pytest.approx(first.std(ddof=1) / second.std(ddof=1))
    assert (found.low <= 1 <= found.high) == (found.p >= 0.05)


def test_spread_of_equal_lists_is_unchanged():
    values = [1.0, 2.0, 4.0, 3.0]
    assert spread_ratio(values, values).ratio == 1
    assert spread_ratio(values, values).p == 1


@pytest.mark.parametrize(
    ("first", "second"), [([1.0, 2.0], [1.0, 2.0]), ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]), ([1.0, 2.0, np.nan], [1.0, 2.0, 3.0])], ids=str
)
def test_spread_refuses_what_it_cannot_test(first, second):
    with pytest.raises(InvalidInput):
        spread_ratio(first, second)
