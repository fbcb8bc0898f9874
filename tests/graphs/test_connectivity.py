"""Edge connectivity, against networkx (all graphs with up to 7 nodes: test_properties), igraph, all
bipartitions, and its three lemmas.
"""

import itertools

import igraph
import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bogp.graphs import bitsets, connectivity, families


def adjacency(graph):
    return nx.to_numpy_array(graph, weight=None) > 0


def found(batch):
    batch = np.ascontiguousarray(batch)
    batch = (batch if batch.ndim == 3 else batch[None]).view(np.uint8)
    return connectivity.edge_connectivity(batch, bitsets.pack(batch))


def by_igraph(mask):
    return igraph.Graph(
        n=len(mask), edges=np.argwhere(np.triu(mask, 1)).tolist()
    ).edge_connectivity()


def without_loops(mask):
    return mask & ~np.eye(len(mask), dtype=bool)


def least_degree(mask):
    return int(without_loops(mask).sum(1).min())


def planted(sizes, inside, joins, rng):
    """Blocks of that density, each joined to the next by so many edges."""
    n = sum(sizes)
    mask = np.zeros((n, n), dtype=bool)
    ends = np.cumsum(sizes)
    for first, end in zip(ends - sizes, ends, strict=True):
        mask[first:end, first:end] = rng.random((end - first, end - first)) < inside
    for a, b, c in zip(ends - sizes, ends, ends[1:], strict=False):
        pairs = rng.choice((b - a) * (c - b), joins, replace=False)
        mask[a + pairs // (c - b), b + pairs % (c - b)] = True
    mask = np.triu(mask)
    return mask | mask.T


def random_order(mask, rng):
    order = rng.permutation(len(mask))
    return mask[np.ix_(order, order)]


# --- values ---


@pytest.mark.parametrize("n", [63, 64, 65, 127, 128, 129, 200])
@pytest.mark.parametrize("sparsity", [0.3, 0.9, 0.95, 0.97])
def test_random_masks_agree_with_igraph_around_the_ends_of_a_word(n, sparsity):
    rng = np.random.default_rng(n)
    batch = np.stack([families.bernoulli(n, sparsity, rng) for _ in range(3)])
    np.testing.assert_array_equal(found(batch), [by_igraph(m) for m in batch])


@pytest.mark.parametrize("sparsity", [0.6, 0.9, 0.95, 0.97])
@pytest.mark.parametrize("name", [name for name in families.FAMILIES if name != "bernoulli"])
def test_every_family_agrees_with_igraph(name, sparsity):
    rng = np.random.default_rng(0)
    batch = np.stack([families.FAMILIES[name](128, sparsity, rng) for _ in range(3)])
    np.testing.assert_array_equal(found(batch), [by_igraph(m) for m in batch])


@pytest.mark.parametrize(
    "sizes", [(8, 8), (10, 25), (40, 40), (64, 64), (100, 28), (63, 65, 30), (20, 20, 20, 20)]
)
@pytest.mark.parametrize("joins", [0, 1, 2, 3, 5])
def test_dense_blocks_joined_by_few_edges_are_cut_between_the_blocks(sizes, joins):
    rng = np.random.default_rng(joins)
    mask = random_order(planted(sizes, 0.98, joins, rng), rng)
    assert least_degree(mask) > joins  # else the test shows nothing
    assert found(mask)[0] == joins == by_igraph(mask)


@pytest.mark.parametrize("joins", [10, 20, 25, 30, 40])
def test_blocks_joined_by_about_as_many_edges_as_the_minimum_degree_agree_with_igraph(joins):
    rng = np.random.default_rng(joins)
    batch = np.stack([random_order(planted((64, 64), 0.5, joins, rng), rng) for _ in range(5)])
    np.testing.assert_array_equal(found(batch), [by_igraph(m) for m in batch])


NAMED = {
    "single node": (nx.empty_graph(1), 0),
    "no edges": (nx.empty_graph(70), 0),
    "complete": (nx.complete_graph(90), 89),
    "path": (nx.path_graph(130), 1),
    "cycle": (nx.cycle_graph(130), 2),
    "grid": (nx.grid_2d_graph(9, 11), 2),
    "torus": (nx.grid_2d_graph(8, 9, periodic=True), 4),
    "hypercube": (nx.hypercube_graph(7), 7),
    "barbell": (nx.barbell_graph(40, 0), 1),
    "long barbell": (nx.barbell_graph(20, 30), 1),
    "windmill": (nx.windmill_graph(6, 9), 8),
    "cavemen": (nx.connected_caveman_graph(12, 9), 2),
    "two cliques apart": (nx.disjoint_union(nx.complete_graph(64), nx.complete_graph(64)), 0),
    "bipartite": (nx.complete_bipartite_graph(30, 70), 30),
    "line graph": (nx.line_graph(nx.complete_graph(12)), 20),
    "circulant": (nx.circulant_graph(101, [1, 2, 5]), 6),
}


@pytest.mark.parametrize("name", NAMED)
def test_named_graphs_have_their_known_edge_connectivity(name):
    graph, expected = NAMED[name]
    mask = adjacency(graph)
    assert found(mask)[0] == expected
    assert found(mask | np.eye(len(mask), dtype=bool))[0] == expected  # self-loops join nothing
    assert found(random_order(mask, np.random.default_rng(0)))[0] == expected


@given(
    sizes=st.lists(st.integers(1, 14), min_size=1, max_size=3),
    inside=st.sampled_from([0.2, 0.5, 0.8, 1.0]),
    joins=st.integers(0, 6),
    seed=st.integers(0, 9999),
)
def test_random_graphs_of_blocks_agree_with_networkx(sizes, inside, joins, seed):
    rng = np.random.default_rng(seed)
    largest = min((a * b for a, b in itertools.pairwise(sizes)), default=joins)
    mask = random_order(planted(sizes, inside, min(joins, largest), rng), rng)
    assert found(mask)[0] == nx.edge_connectivity(nx.from_numpy_array(without_loops(mask)))


# --- why they are right ---


def cuts(n):
    """(2^(n-1) - 1, n) all ways to split n nodes in two."""
    sides = np.array(list(itertools.product([False, True], repeat=n)))
    return sides[(~sides[:, 0]) & sides.any(1)]


def sizes_of(sides, mask):
    return np.einsum(
        "ki,ij,kj->k", sides.astype(int), without_loops(mask).astype(int), (~sides).astype(int)
    )


def small_cuts(mask):
    """The cuts of fewer edges than the minimum degree."""
    sides = cuts(len(mask))
    return sides[sizes_of(sides, mask) < least_degree(mask)]


def small_graphs():
    yield from (adjacency(g) for g in nx.graph_atlas_g() if len(g) > 1)
    rng = np.random.default_rng(0)  # the atlas has few graphs with a cut below the minimum degree
    yield from (
        random_order(planted(s, p, 1, rng), rng)
        for s in ((4, 4), (4, 5), (5, 5), (3, 3, 3))
        for p in (0.8, 0.9, 1.0)
        for _ in range(20)
    )


def test_on_small_graphs_a_cut_below_the_minimum_degree_leaves_an_interior_node_on_each_side():
    seen = 0
    for mask in small_graphs():
        for side in small_cuts(mask):
            for one in (side, ~side):
                assert (one & ~mask[:, ~one].any(1)).any()
            seen += 1
    assert seen > 100


def test_on_small_graphs_no_cut_below_the_minimum_degree_splits_the_set_that_the_numbering_gives():
    split = certified = 0
    for mask in small_graphs():
        if least_degree(mask) > 0:
            inside = connectivity._unsplittable(mask.view(np.uint8), least_degree(mask))
            assert inside.sum() >= 2
            found_cuts = small_cuts(mask)
            assert (found_cuts[:, inside].all(1) | ~found_cuts[:, inside].any(1)).all()
            dominating = (inside | mask[:, inside].any(1)).all()
            # it would certify the minimum degree, which is not the answer
            assert not (dominating and len(found_cuts))
            split += len(found_cuts) > 0
            certified += dominating
    assert split > 100
    assert certified > 500


@given(
    n=st.integers(2, 30),
    density=st.sampled_from([0.1, 0.3, 0.6]),
    members=st.integers(1, 29),
    seed=st.integers(0, 9999),
)
def test_a_flow_to_a_set_is_the_maximum_flow(n, density, members, seed):
    rng = np.random.default_rng(seed)
    mask = families.bernoulli(n, 1 - density, rng)
    inside = np.zeros(n, dtype=bool)
    inside[1 : 1 + min(members, n - 1)] = True
    graph = nx.from_numpy_array(without_loops(mask).astype(int))
    nx.set_edge_attributes(graph, 1, "capacity")
    # without a capacity: unbounded
    graph.add_edges_from((int(i), "set") for i in np.flatnonzero(inside))
    expected = nx.maximum_flow_value(graph, 0, "set")
    rows = bitsets.pack(mask[None].view(np.uint8))[0]
    assert connectivity._flow(rows, inside, 0, n) == expected
    assert connectivity._flow(rows, inside, 0, expected // 2) == expected // 2  # stops at the limit


# A path found later takes an edge of an earlier one backwards, which frees it; in the second, a
# third path needs it again.
TAKEN_BACK = (
    "0-2 0-3 0-6 1-2 1-3 1-6 1-8 2-5 2-7 4-7 4-8 5-8",
    "0-1 0-6 0-11 1-2 1-4 1-8 2-5 2-6 2-7 3-12 3-13 4-10 5-13 7-9 8-11 9-12 10-13",
)


@pytest.mark.parametrize("edges", TAKEN_BACK)
def test_a_flow_takes_back_what_stands_in_its_way(edges):
    graph = nx.Graph(tuple(map(int, edge.split("-"))) for edge in edges.split())
    last = len(graph) - 1
    mask = nx.to_numpy_array(graph, nodelist=range(len(graph))) > 0
    rows = bitsets.pack(mask[None].view(np.uint8))[0]
    flow = connectivity._flow(rows, np.arange(len(graph)) == last, 0, len(graph))
    assert flow == nx.edge_connectivity(graph, 0, last) == 3


@pytest.mark.parametrize("sparsity", [0.15, 0.6, 0.9])
def test_most_random_masks_are_settled_by_the_numbering_alone(sparsity):
    rng = np.random.default_rng(0)
    settled = 0
    for _ in range(30):
        mask = families.bernoulli(128, sparsity, rng)
        inside = connectivity._unsplittable(mask.view(np.uint8), least_degree(mask))
        settled += (inside | mask[:, inside].any(1)).all()
    assert settled > 15
