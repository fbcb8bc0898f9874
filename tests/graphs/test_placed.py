"""Placed graphs against their law: counts, enumeration, and what a symmetry leaves."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from bogp.errors import InvalidInput, UnreachableSparsity
from bogp.graphs import placed
from bogp.graphs.database import DatabaseSpec, build
from bogp.graphs.placed import PlacedSettings, Places
from bogp.graphs.relational import expand

SIDE, NODES = 8, 16
WIDTHS, LAYERS = (SIDE * SIDE, NODES, NODES, 3), (0, 1)
WEIGHTS = SIDE * SIDE * NODES + NODES * NODES
INF = float("inf")
settings_of = st.builds(
    PlacedSettings,
    first_locality=st.sampled_from([0.3, 1.0, 4.0, INF]),
    hidden_locality=st.sampled_from([0.3, 1.0, 4.0, INF]),
    salience=st.sampled_from([0.0, 1.0, 3.0]),
    spread=st.sampled_from([0.0, 1.0]),
    loops=st.floats(0, 1),
    hidden_ratio=st.sampled_from([0.1, 0.25, 1.0, 4.0, 16.0]),
)


def rng(seed=0):
    return np.random.default_rng(seed)


def images(seed=0, count=400, side=SIDE):
    """Smooth noise over a square, dark towards the upper corners, and dead in one of them."""
    rows, columns = np.divmod(np.arange(side * side), side)
    near = np.exp(-((rows[:, None] - rows) ** 2 + (columns[:, None] - columns) ** 2) / 4)
    smooth = rng(seed).normal(size=(count, side * side)) @ near
    lit = (smooth - smooth.min()) / np.ptp(smooth) * 255 * np.linspace(0.2, 1, side * side)
    lit[:, 0] = 0
    return lit.astype(np.uint8)


PLACES = placed.pixel_places(images(), SIDE, NODES)


def line(n=6, salience=None):
    """Places of n nodes in a line, one channel each."""
    at = np.arange(n, dtype=float)[:, None]
    return Places(
        np.arange(n),
        at,
        np.ones(n) if salience is None else np.asarray(salience, float),
        np.abs(at - at.T),
    )


@given(settings_of, st.floats(0.3, 0.98), st.booleans(), st.integers(0, 99))
def test_sparsity_is_exact_over_the_layers_together(settings, sparsity, symmetric, seed):
    masks = placed.draw(settings, PLACES, sparsity, WIDTHS, LAYERS, rng(seed), symmetric=symmetric)
    assert masks[2] is None
    assert sum(int(mask.sum()) for mask in masks[:2]) == round((1 - sparsity) * WEIGHTS)
    if symmetric:
        assert (masks[1] == masks[1].T).all()


@given(settings_of, st.floats(0.2, 0.98), st.sampled_from([(0,), (1,), (1, 2), (0, 1, 2)]))
def test_other_layers_come_as_near_as_whole_edges_allow(settings, sparsity, layers):
    widths = (SIDE * SIDE, NODES, 2 * NODES, 2 * NODES, 3)
    sizes = [SIDE * SIDE * NODES, 2 * NODES * NODES, 4 * NODES * NODES]
    masks = placed.draw(settings, PLACES, sparsity, widths, layers, rng())
    assert [i for i, mask in enumerate(masks) if mask is not None] == list(layers)
    wanted = round((1 - sparsity) * sum(sizes[i] for i in layers))
    assert 0 <= wanted - sum(int(masks[i].sum()) for i in layers) <= 2 * 4 + 2 * 2 * 4


@given(st.integers(0, 99))
def test_a_draw_is_a_function_of_its_generator(seed):
    one, again, other = (
        placed.draw(PlacedSettings(spread=0.5), PLACES, 0.9, WIDTHS, LAYERS, rng(k))
        for k in (seed, seed, seed + 1)
    )
    np.testing.assert_array_equal(one[0], again[0])
    assert (one[0] != other[0]).any()


def test_the_first_edge_follows_its_weight():
    """One edge drawn from six nodes: its law is the weights' share, to three standard errors."""
    places, draws = line(4, [1.0, 2.0, 0.5, 1.0]), 6_000
    settings = {"locality": 1.5, "salience": 1.0, "loops": 0.0}
    counts = np.zeros((4, 4))
    source = rng(1)
    for _ in range(draws):
        counts += placed.family(4, 1 - 2 / 16, source, places=places, **settings)
    v, d = places.salience, places.distance
    weight = np.triu(np.outer(v, v) * np.exp(-(d**2) / (2 * 1.5**2)), 1)
    share = weight / weight.sum()
    error = np.sqrt(share * (1 - share) / draws)
    assert (np.abs(np.triu(counts, 1) / draws - share) <= 3.5 * error + 1e-12).all()


def test_without_place_and_salience_all_edges_are_alike():
    settings, source = PlacedSettings(INF, INF, 0.0, 0.0, 0.0, 1.0), rng(2)
    seen = sum(
        placed.graphs(settings, PLACES, 0.8, WIDTHS, LAYERS, source)[1].astype(int)
        for _ in range(2_000)
    )
    off = seen[~np.eye(NODES, dtype=bool)] / 2_000
    assert np.ptp(off) < 7 * off.std() / 1.2
    assert off.std() < 1.5 * np.sqrt(off.mean() * (1 - off.mean()) / 2_000)


def test_near_and_varying_nodes_are_joined_first():
    tight = placed.family(6, 1 - 16 / 36, rng(), places=line(), locality=0.15, loops=1.0)
    np.testing.assert_array_equal(tight, np.abs(np.subtract.outer(range(6), range(6))) <= 1)
    alive = line(6, [1, 1, 1, 0, 0, 0])
    chosen = placed.family(6, 1 - 6 / 36, rng(), places=alive, locality=INF, loops=0.0)
    assert chosen[:3, :3].sum() == 6


def test_rows_of_pixels_lie_as_expand_lays_them():
    first, hidden = placed.graphs(PlacedSettings(), PLACES, 0.7, WIDTHS, LAYERS, rng())
    masks = placed.lay(first, hidden, PLACES, WIDTHS, LAYERS)
    np.testing.assert_array_equal(masks[0], expand(first, SIDE * SIDE, NODES))
    np.testing.assert_array_equal(masks[1], hidden)


def test_pixel_places_are_means_and_variances():
    pictures = images()
    for patches in (False, True):
        places = placed.pixel_places(pictures, SIDE, NODES, patches=patches)
        assert (places.channels == 4).all()
        for node in range(NODES):
            held = np.flatnonzero(places.node_of_channel == node)
            at = [divmod(int(pixel), SIDE) for pixel in held]
            np.testing.assert_allclose(places.position[node], np.mean(at, axis=0))
            own = np.mean([pictures[:, pixel].astype(float).var() for pixel in held])
            mean = pictures.astype(float).var(axis=0).mean()
            assert places.salience[node] == pytest.approx(own / mean)
    spread = places.position[:, None] - places.position
    np.testing.assert_allclose(
        places.distance * np.sqrt((spread[0] ** 2).sum(-1))[1] / places.distance[0, 1],
        np.sqrt((spread**2).sum(-1)),
    )
    nearest = np.where(np.eye(NODES, dtype=bool), np.inf, places.distance).min(axis=1)
    assert np.median(nearest) == pytest.approx(1.0)


def test_colour_planes_share_places():
    grey = images()
    colours = np.concatenate([grey, grey, grey], axis=1)
    places = placed.pixel_places(colours, SIDE, 3 * NODES, planes=3)
    for plane in (1, 2):
        np.testing.assert_allclose(
            places.position[:NODES], places.position[plane * NODES : (plane + 1) * NODES]
        )
        assert np.allclose(np.diag(places.distance, plane * NODES)[:NODES], 0)


def test_learned_places_do_not_depend_on_numpys_random_state_or_the_number_of_threads():
    data = np.random.default_rng(0).random((400, 260)).cumsum(axis=1) % 1.0
    found = []
    for state, threads in ((0, 1), (1, 2)):
        np.random.seed(state)  # noqa: NPY002
        with threadpool_limits(threads):
            found.append(placed.learned_places(data, 20))
    first, second = found
    assert (first.node_of_channel == second.node_of_channel).all()
    assert (first.position == second.position).all()


def test_places_are_learned_from_data_alone():
    """Neighbours in the image are found from what varies together; shuffling channels changes
    nothing but their numbers.
    """
    pictures = images(count=3_000)
    learned = placed.learned_places(pictures, NODES, neighbours=6)
    rows, columns = np.divmod(np.arange(SIDE * SIDE), SIDE)
    centre = [
        [axis[learned.node_of_channel == node].mean() for axis in (rows, columns)]
        for node in range(NODES)
    ]
    true = np.sqrt(((np.array(centre)[:, None] - centre) ** 2).sum(-1))
    pairs = np.triu_indices(NODES, 1)
    assert np.corrcoef(true[pairs], learned.distance[pairs])[0, 1] > 0.85
    order = rng(5).permutation(SIDE * SIDE)
    again = placed.learned_places(pictures[:, order], NODES, neighbours=6)
    groups = [
        {
            frozenset(numbers[np.flatnonzero(places.node_of_channel == node)].tolist())
            for node in range(NODES)
        }
        for places, numbers in ((learned, np.arange(SIDE * SIDE)), (again, order))
    ]
    assert len(groups[0] & groups[1]) >= NODES - 4  # equal places are told apart by number


def test_channels_that_never_vary_have_nodes_of_their_own():
    data = rng().normal(size=(200, 40)).cumsum(axis=1)
    data[:, 5:17] = 3.0
    learned = placed.learned_places(data, 10)
    assert (learned.channels == 4).all()
    assert (learned.salience == 0).sum() == 3
    assert set(learned.node_of_channel[5:17]) == {7, 8, 9}


def test_parts_that_no_path_joins_are_placed_without_a_warning(recwarn):
    source = rng(4)
    apart = np.concatenate([source.normal(size=(500, 12)).cumsum(axis=1) for _ in range(2)], axis=1)
    learned = placed.learned_places(apart, 8, neighbours=3)
    assert (learned.channels == 3).all() and np.isfinite(learned.distance).all()
    assert not [w for w in recwarn if "connected components" in str(w.message)]


@given(st.integers(0, 99))
def test_nulls_keep_what_they_say(seed):
    both = placed.renumbered(PLACES, rng(seed))
    np.testing.assert_allclose(np.sort(both.salience), np.sort(PLACES.salience))
    np.testing.assert_allclose(np.sort(both.distance, None), np.sort(PLACES.distance, None))
    np.testing.assert_array_equal(both.node_of_channel, PLACES.node_of_channel)
    places = placed.with_other_places(PLACES, rng(seed))
    np.testing.assert_array_equal(places.salience, PLACES.salience)
    salience = placed.with_other_salience(PLACES, rng(seed))
    np.testing.assert_array_equal(salience.distance, PLACES.distance)
    np.testing.assert_allclose(np.sort(salience.salience), np.sort(PLACES.salience))


def test_stretched_and_mirrored_places():
    grid = placed.pixel_places(images(), SIDE, SIDE * SIDE)
    at = grid.position
    long = placed.stretched(grid, 2.0)
    expected = np.sqrt(((at[:, None] - at) ** 2 / [4, 1]).sum(-1))
    scale = expected[0, 1] / long.distance[0, 1]
    np.testing.assert_allclose(long.distance * scale, expected)
    folded = placed.mirrored(grid).distance.reshape(SIDE, SIDE, SIDE, SIDE)
    assert folded[3, 0, 3, SIDE - 1] == pytest.approx(0)
    assert folded[3, 0, 3, 1] == pytest.approx(1)
    assert folded[0, 2, 4, SIDE - 3] == pytest.approx(4)


def test_a_database_of_placed_graphs(tmp_path):
    spec = DatabaseSpec((0.8,), 6, n=NODES, family="placed")
    database = build(spec, tmp_path, sampler=partial(placed.family, places=PLACES), workers=1)
    assert (database.masks().sum(axis=(1, 2)) == round(0.2 * NODES**2)).all()


@pytest.mark.parametrize("name", ["first_locality", "hidden_locality", "hidden_ratio"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), "near", None])
def test_bad_settings_are_refused_by_name(name, value):
    with pytest.raises(InvalidInput, match=name):
        PlacedSettings(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("salience", -1), ("spread", -0.1), ("loops", 1.1), ("loops", -0.1), ("hidden_ratio", INF)],
)
def test_settings_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(InvalidInput, match=name):
        PlacedSettings(**{name: value})


def test_what_does_not_fit_is_refused():
    with pytest.raises(InvalidInput, match="channels"):
        placed.draw(PlacedSettings(), PLACES, 0.9, (99, NODES, NODES, 3), LAYERS, rng())
    with pytest.raises(InvalidInput, match="unit"):
        placed.draw(PlacedSettings(), PLACES, 0.9, (64, 8, 8, 3), LAYERS, rng())
    with pytest.raises(UnreachableSparsity):
        placed.draw(PlacedSettings(), PLACES, 0.9999, WIDTHS, LAYERS, rng())
    with pytest.raises(InvalidInput, match="side"):
        placed.pixel_places(images(), SIDE + 1, NODES)
    with pytest.raises(InvalidInput, match="varies"):
        placed.pixel_places(np.ones((5, 64)), SIDE, NODES)
    with pytest.raises(InvalidInput, match="nodes"):
        placed.learned_places(images(), 65)
    with pytest.raises(InvalidInput, match="NaN"):
        placed.learned_places(np.where(np.eye(64), np.nan, rng().normal(size=(64, 64))), 8)
    with pytest.raises(InvalidInput, match="factor"):
        placed.stretched(PLACES, 0)
    with pytest.raises(InvalidInput, match="places"):
        placed.family(NODES + 1, 0.5, rng(), places=PLACES)
