import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bogp.errors import InvalidInput
from bogp.statistics import mean_interval
from bogp.variance import (
    components,
    detectable_mean,
    detectable_spread,
    nested,
    spread_p,
)

# Shrout & Fleiss 1979, Table 2
JUDGES = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]


def crossed(rng, masks, seeds, between, across, rest):
    return (
        0.95
        + between * rng.normal(size=(masks, 1))
        + across * rng.normal(size=(1, seeds))
        + rest * rng.normal(size=(masks, seeds))
    )


def hierarchy(rng, graphs, versions, seeds, between, within, rest):
    y = (
        0.9
        + between * rng.normal(size=(graphs, 1, 1))
        + within * rng.normal(size=(graphs, versions, 1))
    )
    return (
        y
        + 0.02 * rng.normal(size=(1, 1, seeds))
        + rest * rng.normal(size=(graphs, versions, seeds))
    )


def residual_sum(y, *factors):
    """What a linear model of dummy variables leaves, by least squares."""
    design = np.hstack(
        [np.ones((y.size, 1)), *(np.asarray(f).ravel()[:, None] == np.unique(f) for f in factors)]
    ).astype(float)
    fit = np.linalg.lstsq(design, y.ravel(), rcond=None)[0]
    return np.square(y.ravel() - design @ fit).sum()


def assert_covers(estimates, truth, level=0.95, at_most=None):
    """Coverage within 3.5 standard errors of the level (of a range, where the interval may be wider
    than it says).
    """
    covered = np.mean([e.low <= truth <= e.high for e in estimates])
    error = 3.5 * np.sqrt(level * (1 - level) / len(estimates))
    assert level - error < covered < (at_most or level) + error


def test_shares_are_those_of_shrout_and_fleiss():
    found = components(JUDGES)
    assert found.icc.value == pytest.approx(0.7148, abs=5e-5)
    assert found.ceiling.value == pytest.approx(0.9093, abs=5e-5)
    np.testing.assert_allclose(
        [found.icc.low, found.icc.high, found.ceiling.low, found.ceiling.high],
        [0.34, 0.95, 0.68, 0.99],
        atol=0.005,
    )
    # between targets, between judges, residual, as printed in their Table 3
    squares = [11.24, 32.49, 1.02]
    between, across = (squares[0] - squares[2]) / 4, (squares[1] - squares[2]) / 6
    values = [found.between_masks.value, found.between_seeds.value, found.residual.value]
    np.testing.assert_allclose(np.square(values), [between, across, squares[2]], atol=0.005)
    assert (found.masks, found.seeds, found.mean) == (6, 4, pytest.approx(np.mean(JUDGES)))


def test_the_f_test_is_that_of_nested_linear_models():
    y = crossed(np.random.default_rng(0), 7, 5, 0.5, 2.0, 1.0)
    mask, seed = np.indices(y.shape)
    full, reduced = residual_sum(y, mask, seed), residual_sum(y, seed)
    ratio = (reduced - full) / 6 / (full / 24)
    found = components(y)
    assert found.p == pytest.approx(stats.f.sf(ratio, 6, 24), rel=1e-9)
    assert found.residual.value == pytest.approx(np.sqrt(full / 24), rel=1e-9)
    # which counts the seeds' degrees of freedom as its own
    one_way = stats.f_oneway(*(y - y.mean(axis=0)))
    assert ratio == pytest.approx(one_way.statistic * 6 / 7, rel=1e-9)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    found = [components(crossed(rng, 12, 5, 0.5, 0.8, 1.0)) for _ in range(1200)]
    assert_covers([f.residual for f in found], 1.0)
    assert_covers([f.icc for f in found], 0.25 / 1.25)
    assert_covers([f.ceiling for f in found], 0.25 / (0.25 + 1 / 5))
    # exact in neither, conservative by a little
    assert_covers([f.between_masks for f in found], 0.5, at_most=0.965)
    assert_covers([f.between_seeds for f in found], 0.8, at_most=0.965)
    for spread, truth in (("between_masks", 0.5), ("between_seeds", 0.8)):
        missed = np.mean(
            [[getattr(f, spread).low > truth, getattr(f, spread).high < truth] for f in found],
            axis=0,
        )
        # on either side 0.02 to 0.025, with a standard error of 0.0045
        assert (missed > 0.008).all()
        assert (missed < 0.041).all()
    few = [components(crossed(rng, 12, 5, 0.5, 0.8, 1.0), level=0.6) for _ in range(600)]
    assert_covers([f.residual for f in few], 1.0, level=0.6)
    assert_covers([f.icc for f in few], 0.2, level=0.6)


EFFECTS = {
    "normal": lambda rng, size: rng.normal(size=size),
    "exponential": lambda rng, size: rng.exponential(size=size) - 1,
    "t4": lambda rng, size: rng.standard_t(4, size=size) / np.sqrt(2),
}


@pytest.mark.parametrize("name", EFFECTS)
def test_exact_intervals_are_exact_for_normal_effects_and_too_narrow_for_longer_tails(name):
    """The mask's part alone has other effects; the rest of a training is normal."""
    rng, draw, found = np.random.default_rng(11), EFFECTS[name], []
    for _ in range(400):
        y = 0.002 * draw(rng, (64, 1)) + 0.002 * rng.normal(size=(64, 8))
        found.append(components(y))
    assert_covers([f.residual for f in found], 0.002)
    for part, truth in (("between_masks", 0.002), ("icc", 0.5), ("ceiling", 8 / 9)):
        estimates = [getattr(f, part) for f in found]
        if name == "normal":
            assert_covers(estimates, truth)
        else:
            covered = np.mean([e.low <= truth <= e.high for e in estimates])
            assert 0.65 < covered < 0.85, "as the notebook says: two thirds to four fifths"


@pytest.mark.parametrize(
    ("name", "n", "low", "high"),
    [
        ("normal", 5, 0.94, 0.96),
        ("normal", 20, 0.94, 0.96),
        ("exponential", 5, 0.865, 0.90),
        ("exponential", 20, 0.895, 0.925),
        ("t4", 5, 0.95, 0.975),
        ("t4", 20, 0.945, 0.97),
    ],
)
def test_t_intervals_of_means_cover_as_the_notebook_says(name, n, low, high):
    x = EFFECTS[name](np.random.default_rng(12), (6000, n))
    half = stats.t.ppf(0.975, n - 1) * x.std(axis=1, ddof=1) / np.sqrt(n)
    np.testing.assert_allclose(mean_interval(x[0]).high - x[0].mean(), half[0])
    assert low < np.mean(np.abs(x.mean(axis=1)) <= half) < high


def test_without_a_rest_the_spread_between_masks_has_the_interval_of_a_sample_standard_deviation():
    y = crossed(np.random.default_rng(8), 6, 3, 0.5, 0.8, 1e-6)
    spread, sample = components(y).between_masks, y.mean(axis=1).var(ddof=1)
    ends = 5 * sample / stats.chi2.ppf([0.975, 0.025], 5)
    np.testing.assert_allclose(
        np.square([spread.value, spread.low, spread.high]), [sample, *ends], rtol=1e-4
    )


def test_without_a_spread_between_masks_the_interval_reaches_zero_and_p_is_uniform():
    rng = np.random.default_rng(2)
    found = [components(crossed(rng, 12, 5, 0.0, 0.8, 1.0)) for _ in range(800)]
    assert stats.kstest([f.p for f in found], "uniform").pvalue > 1e-3
    error = 3.5 * np.sqrt(0.025 * 0.975 / 800)
    assert abs(np.mean([f.between_masks.low > 0 for f in found]) - 0.025) < error
    assert all(
        (f.between_masks.low > 0) == (f.p < 0.025) == (f.icc.low > 0) == (f.ceiling.low > 0)
        for f in found
    )
    assert min(f.between_masks.value for f in found) == 0
    assert all((f.between_masks.high == 0) == (f.p > 0.975) for f in found)


tables = st.tuples(
    st.integers(2, 8), st.integers(2, 6), st.integers(0, 10**6), st.sampled_from([0.0, 0.3, 3.0])
).map(lambda t: crossed(np.random.default_rng(t[2]), t[0], t[1], t[3], 1.0, 1.0))


def numbers(found, unit=1.0):
    spreads = [[e.value, e.low, e.high] for e in (found.between_masks, found.residual)]
    return np.concatenate(
        [
            *np.divide(spreads, unit),
            [found.p],
            *([e.value, e.low, e.high] for e in (found.icc, found.ceiling)),
        ]
    )


@settings(max_examples=20, deadline=None)
@given(tables, st.integers(0, 1000))
def test_masks_are_judged_alike_with_other_seed_effects_other_units_and_in_other_order(y, seed):
    rng = np.random.default_rng(seed)
    expected = numbers(components(y))
    np.testing.assert_allclose(
        numbers(components(y + rng.normal(0, 10, (1, y.shape[1])))), expected, atol=1e-6
    )
    np.testing.assert_allclose(
        numbers(components(rng.permutation(rng.permutation(y, axis=1)))), expected, atol=1e-7
    )
    np.testing.assert_allclose(numbers(components(0.001 * y), 0.001), expected, atol=1e-7)
    swapped = components(y.T)
    assert swapped.between_seeds.high == pytest.approx(components(y).between_masks.high, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(tables)
def test_the_ceiling_is_the_share_of_one_training_stepped_up_to_the_mean_by_spearman_and_brown(y):
    found, k = components(y), y.shape[1]
    for end in ("value", "low", "high"):
        one = getattr(found.icc, end)
        assert getattr(found.ceiling, end) == pytest.approx(k * one / (1 + (k - 1) * one), abs=1e-9)


def test_the_ceiling_is_the_largest_r2_of_a_predictor_that_knows_the_mask():
    rng = np.random.default_rng(3)
    effect = rng.normal(size=5000)
    y = effect[:, None] + rng.normal(0, 2, (5000, 8)) + rng.normal(0, 5, 8)
    assert components(y).ceiling.value == pytest.approx(
        np.corrcoef(effect, y.mean(axis=1))[0, 1] ** 2, abs=0.03
    )


def test_tables_without_spread_have_parts_of_zero_and_say_nothing_of_shares():
    constant = components(np.full((5, 3), 0.97))
    # rounding leaves residuals of 1e-17
    seeds_alone = components(np.full((5, 3), 0.97) + np.array([0.01, 0.0, -0.003]))
    for found in (constant, seeds_alone):
        assert (found.between_masks.high, found.residual.high, found.p) == (0, 0, 1)
        assert np.isnan(
            [found.icc.value, found.icc.low, found.ceiling.value, found.ceiling.high]
        ).all()
    assert constant.between_seeds.high == 0
    assert seeds_alone.between_seeds.value == pytest.approx(np.std([0.01, 0.0, -0.003], ddof=1))
    masks_alone = components(np.full((3, 4), 0.97) + np.array([[0.01], [0.0], [-0.003]]))
    assert (masks_alone.p, masks_alone.icc.low, masks_alone.ceiling.value) == (0, 1, 1)
    assert spread_p(np.full((5, 3), 0.97), 0.002) == (1.0, 0.0)


@settings(max_examples=40, deadline=None)
@given(tables, st.floats(0.0, 4.0), st.sampled_from([0.5, 0.8, 0.95, 0.999]))
def test_p_values_of_a_spread_agree_with_its_interval_at_each_level(y, threshold, level):
    above, below = spread_p(y, threshold)
    spread = components(y, level).between_masks
    assert (above < 1 - level) == (spread.low > threshold)
    assert (below < 1 - level) == (spread.high < threshold)
    assert max(above, below) == 1


def test_p_values_of_a_spread_are_small_on_the_right_side_and_rarely_small_at_the_truth():
    rng = np.random.default_rng(4)
    above, below = np.transpose(
        [spread_p(crossed(rng, 12, 5, 0.5, 0.8, 1.0), 0.5) for _ in range(600)]
    )
    error = 3.5 * np.sqrt(0.05 * 0.95 / 600)
    assert 0.04 - error < np.mean(np.minimum(above, below) < 0.05) < 0.05 + error
    assert min(np.mean(above < 0.05), np.mean(below < 0.05)) > 0.005
    clear = crossed(rng, 200, 8, 0.5, 0.8, 1.0)
    assert spread_p(clear, 0.35)[0] < 1e-3
    assert spread_p(clear, 0.7)[1] < 1e-3
    # no standard deviation is below 0, whatever the mean squares
    assert spread_p(np.array([[0.0, 1.0], [1.0, 0.0]]), 0.0)[1] == 1
    assert spread_p(clear, 0.0) == (pytest.approx(2 * components(clear).p, abs=2e-16), 1.0)


@pytest.mark.parametrize(("masks", "seeds", "power"), [(8, 4, 0.8), (30, 2, 0.5)])
def test_the_f_test_finds_the_detectable_spread_with_its_power(masks, seeds, power):
    rng = np.random.default_rng(masks)
    spread = detectable_spread(masks, seeds, 1.5, power)
    effects, rest = (
        rng.normal(0, spread, (4000, masks, 1)),
        rng.normal(0, 1.5, (4000, masks, seeds)),
    )
    y = effects + rest - (effects + rest).mean(axis=1, keepdims=True)  # the seeds' part removed
    between = seeds * y.mean(axis=2).var(axis=1, ddof=1)
    within = np.square(y - y.mean(axis=2, keepdims=True)).sum(axis=(1, 2)) / (
        (masks - 1) * (seeds - 1)
    )
    found = np.mean(stats.f.sf(between / within, masks - 1, (masks - 1) * (seeds - 1)) < 0.05)
    assert abs(found - power) < 3.5 * np.sqrt(power * (1 - power) / 4000)


@pytest.mark.parametrize(
    ("seeds", "power", "level"), [(2, 0.8, 0.05), (4, 0.8, 0.05), (16, 0.8, 0.05), (5, 0.3, 0.2)]
)
def test_the_t_test_finds_the_detectable_difference_with_its_power(seeds, power, level):
    rng = np.random.default_rng(seeds)
    # two masks; the seeds' part is that of both
    y = rng.normal(0, 0.3, (2, 4000, seeds)) + rng.normal(0, 2, (4000, seeds))
    y[0] += detectable_mean(0.3 * np.sqrt(2 / seeds), seeds - 1, power, level)
    found = np.mean(stats.ttest_rel(y[0], y[1], axis=1).pvalue < level)
    assert abs(found - power) < 3.5 * np.sqrt(power * (1 - power) / 4000)


def test_the_detectable_mean_is_near_the_normal_one_with_many_degrees_of_freedom():
    assert detectable_mean(0.5, 1e6) == pytest.approx(
        0.5 * (stats.norm.isf(0.025) + stats.norm.ppf(0.8)), rel=1e-4
    )
    assert detectable_mean(0.0, 5) == 0


def test_nested_tests_are_those_of_nested_linear_models():
    y = hierarchy(np.random.default_rng(5), 5, 3, 4, 0.05, 0.01, 0.01)
    graph, version, seed = np.indices(y.shape)
    unit = 10 * graph + version
    full, no_versions = residual_sum(y, unit, seed), residual_sum(y, graph, seed)
    found = nested(y)
    of_versions = (no_versions - full) / 10
    assert found.p_versions == pytest.approx(
        stats.f.sf(of_versions / (full / 42), 10, 42), rel=1e-9
    )
    assert found.p_graphs == pytest.approx(stats.f_oneway(*y.mean(axis=2)).pvalue, rel=1e-9)
    of_graphs = (residual_sum(y, seed) - no_versions) / 4
    assert found.residual.value == pytest.approx(np.sqrt(full / 42), rel=1e-9)
    assert found.between_versions.value == pytest.approx(
        np.sqrt((of_versions - full / 42) / 4), rel=1e-9
    )
    assert found.between_graphs.value == pytest.approx(
        np.sqrt((of_graphs - of_versions) / 12), rel=1e-9
    )
    assert found.share.value == pytest.approx(
        found.between_graphs.value**2
        / (found.between_graphs.value**2 + found.between_versions.value**2)
    )
    moved = nested(y + np.array([0.3, -0.1, 0.0, 7.0]))  # the seeds' part is no one else's
    assert moved.p_versions == pytest.approx(found.p_versions, rel=1e-6)
    assert moved.between_graphs.high == pytest.approx(found.between_graphs.high, rel=1e-6)


def test_nested_intervals_cover_the_truth():
    rng = np.random.default_rng(6)
    found = [nested(hierarchy(rng, 16, 4, 4, 0.6, 0.4, 0.5)) for _ in range(500)]
    assert_covers([f.residual for f in found], 0.5)
    assert_covers([f.between_graphs for f in found], 0.6, at_most=0.965)
    assert_covers([f.between_versions for f in found], 0.4, at_most=0.965)
    assert_covers([f.share for f in found], 0.36 / 0.52, at_most=0.965)
    assert nested(hierarchy(np.random.default_rng(0), 4, 4, 4, 1, 1, 1)) == nested(
        hierarchy(np.random.default_rng(0), 4, 4, 4, 1, 1, 1)
    )


@pytest.mark.parametrize("graphs", [4, 16])
def test_without_a_rest_the_share_of_the_graph_is_the_exact_share_of_one_way_analysis(graphs):
    y = hierarchy(np.random.default_rng(graphs), graphs, 3, 2, 0.02, 0.01, 1e-7)
    ratio, ends = (
        stats.f_oneway(*y.mean(axis=2)).statistic,
        stats.f.ppf([0.975, 0.025], graphs - 1, 2 * graphs),
    )
    # Shrout & Fleiss 1979, ICC(1,1)
    low, high = np.maximum((ratio / ends - 1) / (ratio / ends + 2), 0)
    found = nested(y).share
    np.testing.assert_allclose([found.low, found.high], [low, high], atol=0.015)  # of 10,000 draws
    assert found.value == pytest.approx((ratio - 1) / (ratio + 2), rel=1e-6)


def test_the_share_of_the_graph_finds_either_extreme():
    rng = np.random.default_rng(7)
    assert nested(hierarchy(rng, 16, 4, 4, 0.02, 0.0, 0.005)).share.low > 0.8
    assert nested(hierarchy(rng, 16, 4, 4, 0.0, 0.02, 0.005)).share.high < 0.5
    noise = nested(hierarchy(rng, 16, 4, 4, 0.0, 0.0, 0.005))
    # nothing varies: nothing is known of its share
    assert (noise.share.low, noise.share.high) == (0, 1)
    assert min(noise.p_graphs, noise.p_versions) > 0.01
    constant = nested(np.full((3, 2, 2), 0.97))
    assert (constant.between_graphs.high, constant.p_graphs, constant.p_versions) == (0, 1, 1)
    assert np.isnan(constant.share.value)
    assert (constant.share.low, constant.share.high) == (0, 1)


@pytest.mark.parametrize(
    "table",
    [[1.0, 2.0], [[1.0, 2.0]], [[1.0], [2.0]], [[1.0, np.nan], [2.0, 3.0]], np.zeros((2, 2, 2))],
)
def test_what_is_no_table_is_refused(table):
    for use in (components, lambda t: spread_p(t, 0.1)):
        with pytest.raises(InvalidInput, match="at least two of each"):
            use(table)


def test_arguments_out_of_range_are_refused():
    for level in (0, 1, np.nan):
        with pytest.raises(InvalidInput, match="level"):
            components(JUDGES, level)
        with pytest.raises(InvalidInput, match="level"):
            nested(np.zeros((2, 2, 2)), level)
    for threshold in (-0.1, np.nan, np.inf):
        with pytest.raises(InvalidInput, match="threshold"):
            spread_p(JUDGES, threshold)
    for shape in ((1, 2, 2), (2, 1, 2), (2, 2, 1), (2, 2)):
        with pytest.raises(InvalidInput, match="graphs, versions, seeds"):
            nested(np.zeros(shape))
    for call in (
        lambda: detectable_spread(1, 4, 0.1),
        lambda: detectable_spread(4, 1, 0.1),
        lambda: detectable_spread(4, 4, -0.1),
        lambda: detectable_spread(4, 4, np.nan),
        lambda: detectable_spread(4, 4, 0.1, power=0.04),
        lambda: detectable_mean(0.1, 0),
        lambda: detectable_mean(0.1, 4, power=1),
        lambda: detectable_mean(np.inf, 4),
    ):
        with pytest.raises(InvalidInput):
            call()


@pytest.mark.parametrize(("power", "level"), [(0.8, 1e-100), (1 - 1e-12, 0.05)])
def test_levels_and_powers_that_would_be_computed_for_ever_are_refused(power, level):
    with pytest.raises(InvalidInput, match="1e-06 <= level < power"):
        detectable_mean(1.0, 1, power, level)
