"""Pixels counted one by one, over groups that numpy splits."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bogp.errors import InvalidInput
from bogp.graphs import pixel_features, properties
from bogp.graphs.database import DatabaseSpec, build
from bogp.graphs.families import erdos_renyi, stochastic_block
from bogp.graphs.pixel_features import FEATURES, measure, with_features
from bogp.graphs.relational import expand

SIDE = 4  # of the small images: 16 pixels


@st.composite
def masks(draw, largest=8):
    n = draw(st.integers(1, largest))
    upper = np.zeros((n, n), bool)
    upper[np.triu_indices(n)] = draw(
        st.lists(st.booleans(), min_size=n * (n + 1) // 2, max_size=n * (n + 1) // 2)
    )
    return upper | upper.T


def images(seed=0, side=SIDE, count=20):
    """Noise, darker towards one corner, with a pixel that is never lit."""
    rng = np.random.default_rng(seed)
    lit = rng.integers(0, 256, (count, side * side)) * np.linspace(0, 1, side * side) ** 2
    return lit.astype(np.uint8)


def brute_force(mask, pictures, side):
    """The definitions of the module's docstring, in loops."""
    groups = np.array_split(np.arange(side * side), len(mask))  # the first ones hold one more
    variance = [float(np.var(pictures[:, p].astype(float))) for p in range(side * side)]
    at_ends = [
        variance[p]
        for i in range(len(mask))
        for j in range(len(mask))
        if mask[i, j]
        for p in groups[j]
    ]
    lit = np.mean(at_ends) / np.mean(variance) if at_ends else math.nan
    centres = [
        (np.mean([p // side for p in group]), np.mean([p % side for p in group]))
        for group in groups
    ]
    joined = [(i, j) for i in range(len(mask)) for j in range(i) if mask[i, j]]
    distance = (
        np.mean([math.dist(centres[i], centres[j]) for i, j in joined]) if joined else math.nan
    )
    spreads = []
    for row in mask:
        read = [centre for centre, there in zip(centres, row, strict=True) if there]
        if read:
            centroid = np.mean(read, axis=0)
            spreads.append(math.sqrt(np.mean([math.dist(point, centroid) ** 2 for point in read])))
    return lit, distance, np.mean(spreads) if spreads else math.nan


@given(masks())
def test_each_feature_is_what_loops_over_pixels_give(mask):
    found = measure(mask, images(), SIDE)
    assert list(found.columns) == list(FEATURES)
    np.testing.assert_allclose(
        found.iloc[0], brute_force(mask, images(), SIDE), rtol=1e-12, atol=1e-12
    )


def test_a_batch_has_the_rows_of_its_masks_one_by_one():
    rng = np.random.default_rng(1)
    batch = np.stack([erdos_renyi(24, s, rng) for s in (0.5, 0.7, 0.9)])
    pictures = images(side=28)
    together = measure(batch, pictures)
    assert (together.dtypes == np.float64).all()
    pd.testing.assert_frame_equal(
        together,
        pd.concat([measure(m, pictures) for m in batch], ignore_index=True),
        check_exact=True,
    )
    np.testing.assert_allclose(together.iloc[2], brute_force(batch[2], pictures, 28), rtol=1e-12)


def test_lit_share_is_the_mean_over_the_weights_of_the_layer_that_the_mask_makes():
    mask, pictures = erdos_renyi(16, 0.7, np.random.default_rng(2)), images(side=28)
    variance, layer = pictures.astype(float).var(axis=0), expand(mask, 784, 32)
    lit_share = measure(mask, pictures)["lit_share"].item()
    assert lit_share == pytest.approx((layer @ variance).sum() / layer.sum() / variance.mean())
    coverage = (layer @ variance).mean() / variance.sum()  # of the images' variance by a unit
    assert lit_share == pytest.approx(coverage / layer.mean())


def test_a_complete_mask_reads_all_pixels_alike():
    found = measure(np.ones((SIDE**2, SIDE**2), bool), images(), SIDE).iloc[0]
    assert found["lit_share"] == pytest.approx(1)
    pairs = [math.dist(divmod(p, SIDE), divmod(q, SIDE)) for p in range(SIDE**2) for q in range(p)]
    assert found["image_distance"] == pytest.approx(np.mean(pairs))
    # twice the variance of 0, ..., SIDE - 1
    assert found["field_spread"] == pytest.approx(math.sqrt((SIDE**2 - 1) / 6))


@pytest.mark.parametrize("n", [1, 5, 16])
def test_nodes_that_read_their_own_pixels_alone_have_no_distance_and_no_spread(n):
    lit_share, distance, spread = measure(np.eye(n, dtype=bool), images(), SIDE).iloc[0]
    assert lit_share == pytest.approx(1)
    assert math.isnan(distance)
    assert spread == 0  # exactly


def test_pixels_joined_to_their_neighbours_are_one_pixel_apart():
    at = np.array([divmod(p, SIDE) for p in range(SIDE**2)])
    grid = np.abs(at[:, None] - at[None]).sum(axis=2) == 1
    assert measure(grid, images(), SIDE)["image_distance"].item() == pytest.approx(1)


def test_connections_that_go_to_the_one_lit_pixel_are_told_from_those_that_avoid_it():
    pictures = np.zeros((2, SIDE**2), np.uint8)
    pictures[0, 5] = 255
    star = np.zeros((SIDE**2, SIDE**2), bool)
    star[5] = star[:, 5] = True  # 16 of its 31 connections read node 5
    elsewhere = np.eye(SIDE**2, dtype=bool)
    elsewhere[5, 5] = False
    assert measure(np.stack([star, elsewhere]), pictures, SIDE)[
        "lit_share"
    ].tolist() == pytest.approx([16 * 16 / 31, 0])


@given(masks(), st.integers(0, 5))
def test_features_lie_in_their_bounds(mask, seed):
    pictures = images(seed)
    variance = pictures.astype(float).var(axis=0)
    lit, distance, spread = measure(mask, pictures, SIDE).iloc[0]
    diagonal = (SIDE - 1) * math.sqrt(2)
    assert math.isnan(lit) == (not mask.any())
    assert math.isnan(distance) == (not np.triu(mask, 1).any())
    assert math.isnan(lit) or 0 <= lit <= variance.max() / variance.mean() + 1e-12
    assert math.isnan(distance) or 0 <= distance <= diagonal
    # no further than from the middle of the image
    assert math.isnan(spread) or 0 <= spread <= diagonal / 2 + 1e-12


def test_renumbered_nodes_have_other_features_and_the_same_properties():
    """In blocks of neighbouring nodes, which numbering at random takes apart."""
    rng = np.random.default_rng(3)
    mask, pictures = stochastic_block(28, 0.8, rng, ratio=30.0), images(side=28)
    orders = [np.arange(28), *(rng.permutation(28) for _ in range(20))]
    batch = np.stack([mask[np.ix_(order, order)] for order in orders])
    others = [c for c in properties.ALL if c != "cycle_length"]
    np.testing.assert_allclose(properties.measure(batch, others).std(), 0, atol=1e-9)
    found = measure(batch, pictures)
    assert (found.nunique() > 15).all()
    assert (found["image_distance"][1:] > 1.2 * found["image_distance"][0]).all()
    assert (found["field_spread"][1:] > 1.2 * found["field_spread"][0]).all()


def moved(order, mask, pictures):
    """The same network on images whose pixels stand in another order, one pixel a node."""
    return measure(mask[np.ix_(order, order)], pictures[:, order], SIDE).iloc[0]


def test_an_image_that_is_turned_with_its_nodes_has_the_same_features():
    mask, place = (
        erdos_renyi(SIDE**2, 0.7, np.random.default_rng(4)),
        np.arange(SIDE**2).reshape(SIDE, SIDE),
    )
    still = measure(mask, images(), SIDE).iloc[0]
    for turned in (place.T, place[::-1], np.rot90(place)):
        np.testing.assert_allclose(moved(turned.ravel(), mask, images()), still, rtol=1e-12)
        # the image alone
        assert (
            abs(
                measure(mask, images()[:, turned.ravel()], SIDE)["lit_share"].item()
                - still["lit_share"]
            )
            > 1e-3
        )


def test_pixels_moved_with_their_nodes_are_as_lit_but_elsewhere():
    mask = erdos_renyi(SIDE**2, 0.7, np.random.default_rng(5))
    still, now = (
        measure(mask, images(), SIDE).iloc[0],
        moved(np.random.default_rng(6).permutation(SIDE**2), mask, images()),
    )
    assert now["lit_share"] == pytest.approx(still["lit_share"], rel=1e-12)
    assert (abs(now - still)[["image_distance", "field_spread"]] > 1e-3).all()


def test_a_mask_without_ones_has_no_features():
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # known beforehand, not a division by zero that went well
        assert measure(np.zeros((3, 3), bool), images(), SIDE).isna().all(axis=None)


def test_a_database_gets_the_features_as_further_columns(tmp_path):
    database = build(DatabaseSpec((0.5, 0.7), 4, n=8), tmp_path / "x", workers=1).at(0.7)
    found = with_features(database, images(), SIDE)
    pd.testing.assert_frame_equal(found.table[list(database.table.columns)], database.table)
    np.testing.assert_array_equal(found.values(FEATURES), measure(database.masks(), images(), SIDE))
    np.testing.assert_array_equal(found.masks(), database.masks())
    # the database that was given stays as it is
    assert not set(FEATURES) & set(database.table.columns)
    again = with_features(found, images(7), SIDE)
    assert list(again.table.columns) == list(found.table.columns)
    # of the images that were given last
    assert (again.table["lit_share"] != found.table["lit_share"]).all()


def test_rows_keep_their_features_whatever_the_index_of_the_table(tmp_path):
    database = build(DatabaseSpec((0.7,), 4, n=8), tmp_path / "x", workers=1)
    shuffled = pixel_features.MaskDatabase(
        database.table.set_index(np.array([3, 1, 0, 7])), database.spec, database.bits
    )
    np.testing.assert_array_equal(
        with_features(shuffled, images(), SIDE).values(FEATURES),
        measure(database.masks(), images(), SIDE),
    )


@pytest.mark.parametrize(
    ("mask", "pictures", "message"),
    [
        (np.eye(3), images(side=5), r"side 4 .* \(images, 16\)"),
        (np.eye(3), images()[0], r"side 4"),
        (np.eye(3), images()[:0], r"at least one"),
        (np.eye(3), np.full((5, 16), 9, np.uint8), r"No pixel differs"),
        (np.eye(17), images(), r"17 nodes"),
        (np.triu(np.ones((3, 3))), images(), r"not symmetric"),
    ],
    ids=["other side", "one image", "none", "all alike", "too many nodes", "no mask"],
)
def test_what_has_no_features_is_refused(mask, pictures, message):
    with pytest.raises(InvalidInput, match=message):
        measure(mask, pictures, SIDE)
