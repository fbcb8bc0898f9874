import itertools
from dataclasses import replace

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from bogp.graphs import properties
from bogp.graphs.bipartite import exchangeable_pair
from bogp.graphs.database import DatabaseSpec, build
from bogp.graphs.families import barabasi_albert, erdos_renyi
from bogp.graphs.relational import layer_masks, mask_to_graph
from bogp.studies.claims import exchangeable
from bogp.studies.claims.exchangeable import (
    relabel,
    rewire,
    shuffle,
    twins,
    variants,
)
from bogp.training.evaluation import Job, Recipe
from bogp.training.protocols import Protocol
from bogp.training.symmetries import loss_gap
from bogp.training.symmetries import losses as losses_of
from bogp.variance import nested

PROTOCOL = Protocol("small", widths=(784, 32, 32, 10), learning_rate=1e-2, batch_size=50, steps=30)
ALL = Protocol(
    "all", widths=(784, 16, 16, 10), learning_rate=1e-2, batch_size=50, steps=3, scope="all"
)
TRUE_PROPERTIES = [c for c in properties.ALL if c != "cycle_length"]
SEEDS = st.integers(0, 2**32)


@st.composite
def masks(draw, smallest=1, largest=8):
    n = draw(st.integers(smallest, largest))
    upper = np.zeros((n, n), bool)
    upper[np.triu_indices(n)] = draw(
        st.lists(st.booleans(), min_size=n * (n + 1) // 2, max_size=n * (n + 1) // 2)
    )
    return upper | upper.T


# --- relabel ---


@given(masks(), SEEDS)
def test_relabelling_keeps_every_property_but_the_length_of_the_cycle_found(mask, seed):
    after = relabel(mask, np.random.default_rng(seed))
    assert nx.is_isomorphic(mask_to_graph(mask), mask_to_graph(after))
    np.testing.assert_allclose(
        properties.measure(after, TRUE_PROPERTIES),
        properties.measure(mask, TRUE_PROPERTIES),
        rtol=1e-9,
        atol=1e-12,
    )


def test_relabelling_changes_the_mask_and_the_length_of_the_cycle_found():
    mask, rng = (
        erdos_renyi(16, 0.7, np.random.default_rng(0), diagonal=False),
        np.random.default_rng(1),
    )
    others = np.stack([relabel(mask, rng) for _ in range(12)])
    assert len({m.tobytes() for m in (mask, *others)}) == 13
    assert properties.measure(others, ["cycle_length"])["cycle_length"].nunique() > 1


# --- rewire ---


@given(masks(largest=10), SEEDS)
def test_rewiring_keeps_degrees_and_loops_and_gives_a_mask(mask, seed):
    before = mask.copy()
    after = rewire(mask, np.random.default_rng(seed))
    assert (after.shape, after.dtype) == (mask.shape, bool)
    np.testing.assert_array_equal(after, after.T)
    np.testing.assert_array_equal(np.diag(after), np.diag(mask))
    np.testing.assert_array_equal(after.sum(axis=0), mask.sum(axis=0))
    np.testing.assert_array_equal(mask, before)  # the mask that was given stays as it is


def test_rewiring_changes_most_of_what_it_can():
    """In a random graph of density 1/3, as many edges stay as two independent graphs share: about a
    third.
    """
    for seed in range(3):
        mask = erdos_renyi(40, 0.66, np.random.default_rng(seed))
        edges, after = np.triu(mask, 1), np.triu(rewire(mask, np.random.default_rng(seed + 10)), 1)
        assert 0.2 < (edges & after).sum() / edges.sum() < 0.5


def with_degrees(degrees):
    """All graphs without loops in which node i has degrees[i], as sets of edges."""
    pairs = list(itertools.combinations(range(len(degrees)), 2))
    for edges in itertools.combinations(pairs, sum(degrees) // 2):
        if all(sum(node in edge for edge in edges) == d for node, d in enumerate(degrees)):
            yield frozenset(edges)


@pytest.mark.parametrize(
    ("degrees", "count"),
    [((1, 1, 1, 1), 3), ((2, 2, 2, 2, 2, 2), 70), ((3, 2, 2, 2, 2, 1), 36)],
    ids=str,
)
def test_rewiring_reaches_every_graph_of_these_degrees_and_each_as_often(degrees, count):
    """The second ones are 60 hexagons and 10 pairs of triangles, so that graphs come apart and
    together again.
    """
    graphs = dict.fromkeys(with_degrees(degrees), 0)
    assert len(graphs) == count
    mask, rng = np.zeros((len(degrees), len(degrees)), bool), np.random.default_rng(0)
    for a, b in next(iter(graphs)):
        mask[a, b] = mask[b, a] = True
    for _ in range(25 * count):
        # a graph of other degrees is a KeyError
        graphs[frozenset(zip(*np.nonzero(np.triu(rewire(mask, rng))), strict=True))] += 1
    assert chisquare(list(graphs.values())).pvalue > 1e-3


@pytest.mark.parametrize(
    "mask",
    [np.eye(3, dtype=bool), np.ones((4, 4), bool), np.array([[0, 1], [1, 0]], bool)],
    ids=["no edges", "complete", "one edge"],
)
def test_rewiring_leaves_what_is_alone_with_its_degrees(mask):
    np.testing.assert_array_equal(rewire(mask, np.random.default_rng(0)), mask)


# --- shuffle ---


def test_shuffling_keeps_the_number_of_weights_in_each_layer_and_nothing_else():
    layers = layer_masks(
        barabasi_albert(64, 0.9, np.random.default_rng(0)), (784, 128, 64, 10), (0, 1)
    )
    before = [None if m is None else m.copy() for m in layers]
    after = shuffle(layers, np.random.default_rng(1))
    assert after[2] is None
    for old, kept, new in zip(layers[:2], before[:2], after[:2], strict=True):
        np.testing.assert_array_equal(old, kept)  # the masks that were given stay as they are
        assert (new.shape, new.dtype, new.sum()) == (old.shape, bool, old.sum())
        # hubs are gone: units differ in their number of weights as independent draws do
        for axis in (0, 1):
            mean, size = new.sum(axis=axis).mean(), new.shape[axis]
            spread = np.sqrt(mean * (1 - mean / size))
            assert 0.5 * spread < new.sum(axis=axis).std() < 1.3 * spread < old.sum(axis=axis).std()


# --- one network under two masks ---


def test_twins_are_compared_from_renumbered_starts_and_from_one_start(digits):
    blocks = {
        name: erdos_renyi(16, s, np.random.default_rng(0)) for name, s in (("b", 0.6), ("a", 0.8))
    }
    found, losses = twins(blocks, replace(PROTOCOL, steps=7), digits, steps=30, seed=3)
    assert found["case"].tolist() == ["b", "a"]
    assert (found["difference"] < 1e-12).all()
    for row in found.itertuples():
        masks = [(None, mask, None) for mask in exchangeable_pair(blocks[row.case])]
        same = losses_of(masks, [[None] * 4] * 2, PROTOCOL, digits, 3)
        assert row.same_start == loss_gap(same)
        assert row.same_start > 1e-3
        assert row.n == 30
    assert losses.shape == (2, 30) and loss_gap(losses) == found["difference"][0]


def test_blocks_are_quarters_of_the_first_bernoulli_masks(tmp_path):
    masks = build(DatabaseSpec((0.7,), 2, n=16), tmp_path / "x", workers=1)
    found = exchangeable.blocks({"bernoulli, s = 0.70": masks, "ws_flex, s = 0.70": masks})
    assert list(found) == ["s = 0.70"]
    np.testing.assert_array_equal(found["s = 0.70"], masks.mask(0)[:8, :8])


# --- changed versions of masks ---


def expected_draw(change, i, version, mask):
    """Version by version, from generators written out here: what was trained once must be drawn
    again.
    """
    rng = np.random.default_rng(
        np.random.SeedSequence(
            i, spawn_key=(6, ("relabelled", "rewired", "shuffled").index(change), version)
        )
    )
    if change == "shuffled":
        return shuffle(layer_masks(mask, ALL.widths, (0, 1)), rng)
    return layer_masks(
        {"relabelled": relabel, "rewired": rewire}[change](mask, rng), ALL.widths, (0, 1)
    )


def same_layers(one, other):
    return all(
        (a is None and b is None) or np.array_equal(a, b) for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("change", ["relabelled", "rewired", "shuffled"])
def test_each_version_depends_on_its_mask_and_numbers_alone(change):
    graphs = np.stack([erdos_renyi(16, 0.7, np.random.default_rng(k)) for k in (0, 1, 1)])
    found = variants(graphs, change, 3, ALL)
    assert len(found) == 9
    for k, layers in enumerate(found):
        assert layers[2] is None
        assert same_layers(layers, expected_draw(change, k // 3, k % 3, graphs[k // 3]))
    assert len({layers[0].tobytes() for layers in found}) == 9
    fewer = variants(graphs[:2], change, 1, ALL)
    assert all(same_layers(a, b) for a, b in zip(fewer, (found[0], found[3]), strict=True))


def test_changed_versions_are_trained_from_each_seed_and_numbered(evaluator, tmp_path):
    database = build(DatabaseSpec((0.7,), 3, n=16), tmp_path / "x", workers=1)
    every = exchangeable.train(database, 2, 3, 2, ALL, "mnist-5k", evaluator)
    assert every["change"].tolist() == np.repeat(["relabelled", "rewired", "shuffled"], 12).tolist()
    rows = every.query("change == 'rewired'").reset_index(drop=True)
    assert rows["graph"].tolist() == np.repeat([0, 1], 6).tolist()
    assert rows["version"].tolist() == [0, 0, 1, 1, 2, 2] * 2
    assert rows["seed"].tolist() == [0, 1] * 6
    layers = variants(database.masks()[:2], "rewired", 3, ALL)
    jobs = [
        Job(Recipe(layers[3 * row.graph + row.version]), row.seed, ALL, "mnist-5k")
        for row in rows.itertuples()
    ]
    known = evaluator.evaluate(jobs)
    assert evaluator.trained == 36  # nothing but what was trained already
    pd.testing.assert_frame_equal(rows[["test_accuracy", "key"]], known[["test_accuracy", "key"]])


def test_parts_are_those_of_the_nested_design_whatever_the_order_of_rows():
    rng = np.random.default_rng(0)
    y = (
        0.9
        + 0.01 * rng.normal(size=(5, 1, 1))
        + 0.003 * rng.normal(size=(5, 3, 1))
        + 0.001 * rng.normal(size=(5, 3, 2))
    )
    index = pd.MultiIndex.from_product(
        [range(5), range(3), range(2)], names=["graph", "version", "seed"]
    )
    rows = (
        pd.DataFrame({"test_accuracy": y.ravel()}, index)
        .reset_index()
        .assign(change="rewired")
        .sample(frac=1, random_state=1)
    )
    found = exchangeable.parts(rows).set_index("part")
    expected = nested(y)
    for part, estimate in (
        ("graphs", expected.between_graphs),
        ("versions", expected.between_versions),
        ("share", expected.share),
    ):
        assert tuple(found.loc[part, ["value", "low", "high"]]) == (
            estimate.value,
            estimate.low,
            estimate.high,
        )
    assert tuple(found.loc["graphs", ["graphs", "versions", "seeds", "p"]]) == (
        5,
        3,
        2,
        expected.p_graphs,
    )
    assert found.loc["versions", "p"] == expected.p_versions
