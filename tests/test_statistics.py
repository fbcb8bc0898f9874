import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bogp.errors import InvalidInput
from bogp.statistics import (
    correlation_intervals,
    equivalence,
    holm,
    mean_interval,
    mean_rank_correlation,
    monotonicity,
    paired_difference,
    partial_rank_correlation,
    rank_correlation,
    spread_ratio,
)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("n", [2, 5, 30])
def test_mean_interval_is_scipys_t_interval(n, level):
    values = np.random.default_rng(n).normal(3.0, 2.0, n)
    found = mean_interval(values, level)
    low, high = stats.t.interval(level, n - 1, loc=values.mean(), scale=stats.sem(values))
    np.testing.assert_allclose(
        [found.mean, found.low, found.high], [values.mean(), low, high], rtol=1e-12
    )
    assert found.n == n


def test_mean_interval_covers_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [mean_interval(rng.normal(1.0, 3.0, 4), 0.9) for _ in range(3000)]
    covered = np.mean([i.low <= 1.0 <= i.high for i in intervals])
    # the standard error is 0.0055; a normal in place of a t interval covers 0.80
    assert abs(covered - 0.9) < 0.02


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
    there, back = (
        paired_difference([3.0, 5.0, 4.0], [1.0, 1.0, 1.0]),
        paired_difference([1.0, 1.0, 1.0], [3.0, 5.0, 4.0]),
    )
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
    ("values", "margin"),
    [([1.0], 0.1), ([], 0.1), ([1.0, 2.0], 0.0), ([1.0, 2.0], -1.0), ([1.0, 2.0], np.nan)],
    ids=str,
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
    ("first", "second"),
    [
        ([1.0, 2.0], [1.0, 2.0]),
        ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]),
        ([1.0, 2.0, np.nan], [1.0, 2.0, 3.0]),
    ],
    ids=str,
)
def test_spread_refuses_what_it_cannot_test(first, second):
    with pytest.raises(InvalidInput):
        spread_ratio(first, second)


@pytest.mark.parametrize("steps", [3, 10, 10**6], ids=["many ties", "some ties", "no ties"])
def test_rank_correlation_is_scipys(steps):
    rng = np.random.default_rng(steps)
    for _ in range(20):
        x, y = rng.integers(0, steps, 21), rng.integers(0, steps, 21)
        assert rank_correlation(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


def test_rank_correlation_sees_the_order_alone():
    x = np.random.default_rng(0).normal(size=10)
    assert rank_correlation(x, np.exp(x)) == pytest.approx(1)
    assert rank_correlation(x, -(x**3)) == pytest.approx(-1)
    assert np.isnan(rank_correlation(x, np.ones(10)))


def test_partial_rank_correlation_is_the_correlation_of_what_regression_on_the_ranks_leaves():
    rng = np.random.default_rng(1)
    for _ in range(20):
        given = rng.integers(0, 5, 21)
        x, y = given + rng.normal(0, 2, 21), given + rng.normal(0, 2, 21)
        z = stats.rankdata(given)
        left = [
            stats.rankdata(v) - np.polyval(np.polyfit(z, stats.rankdata(v), 1), z) for v in (x, y)
        ]
        assert partial_rank_correlation(x, y, given) == pytest.approx(
            np.corrcoef(*left)[0, 1], abs=1e-10
        )


def test_a_common_cause_is_taken_away_and_nothing_else():
    rng = np.random.default_rng(2)
    cause = rng.normal(size=5000)
    x, y = cause + rng.normal(size=5000), cause + rng.normal(size=5000)
    assert rank_correlation(x, y) > 0.4
    assert abs(partial_rank_correlation(x, y, cause)) < 0.05
    assert partial_rank_correlation(x, x + rng.normal(size=5000), cause) > 0.5


@pytest.mark.parametrize(
    "x",
    [[1, 1, 2, 3, 5], [10, 10, 5, 3, 1], [1, 1, 1, 1, 1]],
    ids=["same order", "reverse order", "constant"],
)
def test_partial_rank_correlation_is_undefined_where_nothing_is_left(x):
    given, y = [0.1, 0.1, 0.2, 0.3, 0.4], [3, 1, 2, 5, 4]
    assert np.isnan(partial_rank_correlation(x, y, given))
    assert np.isnan(partial_rank_correlation(y, x, given))
    assert np.isfinite(partial_rank_correlation(y, [2, 1, 3, 5, 4], given))


def test_mean_rank_correlation_is_the_t_interval_of_the_coefficients():
    rng = np.random.default_rng(3)
    x, given = rng.normal(size=21), rng.integers(0, 4, 21)
    y = 0.5 * x + rng.normal(size=(12, 21))
    assert mean_rank_correlation(x, y) == mean_interval(
        [stats.spearmanr(x, row).statistic for row in y]
    )
    partial = mean_rank_correlation(x, y, given)
    assert partial.mean == pytest.approx(
        np.mean([partial_rank_correlation(x, row, given) for row in y])
    )
    assert partial.n == 12


def test_mean_rank_correlation_stays_within_its_range_and_says_where_it_is_undefined():
    x = np.arange(5.0)
    assert mean_rank_correlation(x, [x, x, [0, 1, 2, 4, 3]]).high == 1
    undefined = mean_rank_correlation(x, [x, np.ones(5)])
    assert undefined.n == 0
    assert np.isnan([undefined.mean, undefined.low, undefined.high]).all()


def test_holm_is_the_step_down_rule():
    rng = np.random.default_rng(4)
    for _ in range(50):
        p = np.round(rng.uniform(0, 0.06, 8), 3)  # with ties
        rejected = np.zeros(8, bool)
        for step, i in enumerate(sorted(range(8), key=lambda i: p[i])):
            if p[i] >= 0.05 / (8 - step):
                break
            rejected[i] = True
        np.testing.assert_array_equal(holm(p) < 0.05, rejected)
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.5]), [0.04, 0.09, 0.09, 0.5])
    assert holm([0.9, 0.8]).tolist() == [1, 1]


def test_holm_makes_a_false_rejection_as_seldom_as_it_says():
    p = np.random.default_rng(5).uniform(size=(3000, 40))
    # three standard errors around .05
    assert 0.038 < np.mean([(holm(row) < 0.05).any() for row in p]) < 0.062


def noisy(means, repetitions, noise, seed):
    return np.asarray(means) + np.random.default_rng(seed).normal(
        0, noise, (repetitions, len(means))
    )


def test_monotonicity_counts_pairs_as_scipy_tests_them():
    x = np.array([0, 0, 1, 2, 3, 3, 4, 5])
    y = noisy([0.0, 0.5, 1.0, 3.0, 0.5, 3.5, 4.0, 1.0], 6, 0.3, 0)
    pairs = [(i, j) for i in range(8) for j in range(i)]
    p = np.array([stats.ttest_rel(y[:, i], y[:, j]).pvalue for i, j in pairs])
    found, differ = monotonicity(x, y), holm(p) < 0.05
    step = np.array([np.sign(x[i] - x[j]) * (y[:, i] - y[:, j]).mean() for i, j in pairs])
    tied = np.array([x[i] == x[j] for i, j in pairs])
    assert found.direction == 1
    assert (found.pairs, found.tied_pairs) == (26, 2)
    assert found.agreeing == (differ & (step > 0)).sum() > 0
    assert found.contradicting == (differ & (step < 0)).sum() > 0
    assert found.tied_apart == (differ & tied).sum() > 0
    assert found.largest == pytest.approx(-step[differ].min())
    assert found.largest_tied == pytest.approx(abs(y[:, 5] - y[:, 4]).mean(), rel=0.5)
    assert found.rejected


@pytest.mark.parametrize("sign", [1, -1])
def test_a_monotone_function_is_seldom_rejected_and_a_hump_always(sign):
    x = np.arange(12.0)
    truth, hump = sign * np.sqrt(x), sign * -((x - 5.5) ** 2) / 10
    rejected = [monotonicity(x, noisy(truth, 6, 0.4, seed)) for seed in range(400)]
    assert np.mean([r.rejected for r in rejected]) <= 0.05
    assert np.mean([r.agreeing > 0 for r in rejected]) > 0.9
    assert {r.direction for r in rejected} == {sign}
    assert all(monotonicity(x, noisy(hump, 6, 0.1, seed)).rejected for seed in range(20))


def test_noise_alone_finds_a_pair_as_seldom_as_holm_says():
    found = [monotonicity(np.arange(8.0), noisy(np.zeros(8), 5, 1.0, seed)) for seed in range(600)]
    # at most .05, and three standard errors
    assert np.mean([f.agreeing + f.contradicting > 0 for f in found]) < 0.077
    assert not any(f.rejected for f in found if f.agreeing + f.contradicting < 2)


def test_equal_values_with_different_means_are_no_function_and_counted_apart():
    found = monotonicity([1, 1, 1, 1], noisy([0, 0, 5, 5], 6, 0.1, 0))
    assert (found.pairs, found.tied_pairs, found.tied_apart) == (0, 6, 4)
    assert found.largest_tied == pytest.approx(5, abs=0.3)
    assert not found.rejected


def test_a_difference_without_spread_is_never_significant():
    found = monotonicity([1, 2, 3], [[0.5, 0.7, 0.6], [0.6, 0.8, 0.7], [0.2, 0.4, 0.3]])
    assert (found.agreeing, found.contradicting) == (0, 0)


@pytest.mark.parametrize(
    "call",
    [
        lambda: rank_correlation([1, 2], [1, 2]),
        lambda: rank_correlation([1, 2, 3], [1, 2, 3, 4]),
        lambda: rank_correlation([1, 2, np.nan], [1, 2, 3]),
        lambda: rank_correlation([[1, 2, 3]], [[1, 2, 3]]),
        lambda: partial_rank_correlation([1, 2, 3], [1, 3, 2], [2, 1, 3]),
        lambda: mean_rank_correlation([1, 2, 3], [1, 2, 3]),
        lambda: mean_rank_correlation([1, 2, 3], np.ones((0, 3))),
        lambda: monotonicity([1, 2, 3], [[1, 2, 3]]),
        lambda: monotonicity([1, 2, 3], [[1, 2], [3, 4]]),
        lambda: holm([]),
        lambda: holm([0.5, np.nan]),
        lambda: holm([1.5]),
    ],
)
def test_rank_statistics_refuse_what_has_no_answer(call):
    with pytest.raises(InvalidInput):
        call()


def test_monotonicity_without_items_is_refused():
    with pytest.raises(InvalidInput, match="at least three items"):
        monotonicity([], np.zeros((2, 0)))


def test_intervals_of_correlations_leave_out_what_is_undefined_and_end_within_one():
    table = pd.DataFrame(
        {
            "who": ["a", "a", "a", "b", "b"],
            "spearman": [0.99, 0.7, 0.95, 0.1, 0.3],
            "given": [0.5, np.nan, 0.7, np.nan, np.nan],
        }
    )
    found = correlation_intervals(table, ["who"]).set_index(["who", "measure"])
    assert found.n.to_dict() == {("a", "spearman"): 3, ("a", "given"): 2, ("b", "spearman"): 2}
    low, high = stats.t.interval(0.95, 2, *(f([0.99, 0.7, 0.95]) for f in (np.mean, stats.sem)))
    one = found.loc["a", "spearman"]
    assert high > 1 and (one.low, one.high) == pytest.approx((low, 1.0))
