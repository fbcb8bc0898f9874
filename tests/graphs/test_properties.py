import itertools

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bogp.errors import InvalidInput
from bogp.graphs import families, properties


def uniform_limit(mask):
    """A million steps of x <- (A + I) x from the uniform vector, by squaring the matrix twenty
    times.
    """
    power = mask + np.eye(len(mask))
    for _ in range(20):
        power = power @ power
        power /= np.abs(power).max()
    x = power.sum(1)
    return x / np.linalg.norm(x)


def by_networkx(mask):
    mask = np.asarray(mask, dtype=float)
    graph = nx.from_numpy_array(mask)
    loop_free = graph.copy()
    loop_free.remove_edges_from(list(nx.selfloop_edges(graph)))
    connected = nx.is_connected(graph)
    try:
        cycle = len(nx.find_cycle(graph))
    except nx.NetworkXNoCycle:
        cycle = 0
    return {
        "degree_centrality": np.mean(list(nx.degree_centrality(graph).values())),
        "degree_connectivity": np.mean(list(nx.average_degree_connectivity(graph).values())),
        "eigenvector_centrality": uniform_limit(mask).mean(),
        "clustering": nx.average_clustering(graph),
        "path_length": nx.average_shortest_path_length(graph) if connected else np.nan,
        "s_metric": nx.s_metric(graph),
        "wiener_index": nx.wiener_index(graph) if connected else np.nan,
        "edge_connectivity": nx.edge_connectivity(loop_free),
        "cycle_length": cycle,
        "cycle_rank": graph.number_of_edges() - len(graph) + nx.number_connected_components(graph),
    }


def agree(batch):
    found = properties.measure(batch)
    expected = pd.DataFrame(
        [by_networkx(mask) for mask in batch], columns=list(properties.ALL)
    ).astype(float)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-8, atol=1e-9)


def adjacency(graph):
    return nx.to_numpy_array(graph, weight=None)


def with_random_loops(mask, rng):
    return np.maximum(mask, np.diag(rng.random(len(mask)) < 0.5))


@pytest.mark.parametrize("n", range(1, 8))
@pytest.mark.parametrize("loops", [False, True])
def test_every_graph_of_the_atlas_agrees_with_networkx(n, loops):
    rng = np.random.default_rng(n)
    batch = [adjacency(g) for g in nx.graph_atlas_g() if len(g) == n]
    agree(np.stack([with_random_loops(m, rng) for m in batch] if loops else batch))


NAMED = {
    "complete": nx.complete_graph(9),
    "empty": nx.empty_graph(5),
    "path": nx.path_graph(12),
    "cycle": nx.cycle_graph(11),
    "star": nx.star_graph(8),
    "petersen": nx.petersen_graph(),
    "karate": nx.karate_club_graph(),
    "barbell": nx.barbell_graph(5, 3),
    "two triangles": nx.disjoint_union(nx.complete_graph(3), nx.complete_graph(3)),
    "triangle and isolated node": nx.disjoint_union(nx.complete_graph(3), nx.empty_graph(1)),
    "tree": nx.balanced_tree(2, 3),
    "bipartite": nx.complete_bipartite_graph(3, 5),
    "grid": nx.convert_node_labels_to_integers(nx.grid_2d_graph(3, 5)),
}


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("loops", [False, True])
def test_named_graphs_agree_with_networkx(name, loops):
    mask = adjacency(NAMED[name])
    agree((with_random_loops(mask, np.random.default_rng(0)) if loops else mask)[None])


@pytest.mark.parametrize(
    ("n", "name"),
    list(zip(itertools.cycle((24, 30, 36, 43, 50, 57, 64)), families.FAMILIES, strict=False)),
)
def test_a_mask_of_each_family_agrees_with_networkx(n, name):
    agree(families.FAMILIES[name](n, 0.8, np.random.default_rng(n))[None])


@pytest.mark.parametrize("n", [63, 64, 65, 127, 129, 200])
@pytest.mark.parametrize("sparsity", [0.8, 0.98])
def test_masks_around_the_ends_of_a_word_agree_with_networkx(n, sparsity):
    agree(families.bernoulli(n, sparsity, np.random.default_rng(n))[None])


@pytest.mark.parametrize("sparsity", [0.15, 0.9, 0.97])
def test_dense_and_disconnected_masks_agree_with_networkx(sparsity):
    agree(families.bernoulli(40, sparsity, np.random.default_rng(1))[None])


def test_path_length_and_wiener_index_are_nan_exactly_where_disconnected():
    rng = np.random.default_rng(0)
    batch = np.stack([families.bernoulli(12, 0.8, rng) for _ in range(60)])
    connected = np.array([nx.is_connected(nx.from_numpy_array(m)) for m in batch])
    assert 0 < connected.sum() < 60  # else the test shows nothing
    table = properties.measure(batch)
    for name in ("path_length", "wiener_index"):
        np.testing.assert_array_equal(table[name].notna(), connected)
    assert table.drop(columns=["path_length", "wiener_index"]).notna().all(axis=None)


@pytest.mark.parametrize(
    "graph",
    [
        nx.cycle_graph(10),
        nx.complete_graph(7),
        nx.petersen_graph(),
        nx.empty_graph(6),
        NAMED["two triangles"],
    ],
)
def test_eigenvector_centrality_of_a_regular_graph_is_one_over_root_n(graph):
    # Two equal components too: the limit from a uniform start spreads over both.
    found = properties.measure(adjacency(graph))["eigenvector_centrality"][0]
    assert found == pytest.approx(1 / np.sqrt(len(graph)), rel=1e-12)


@pytest.mark.parametrize("leaves", [1, 4, 25])
def test_eigenvector_centrality_of_a_star_has_its_closed_form(leaves):
    # The unit vector is 1/sqrt(2) at the centre and 1/sqrt(2 leaves) at each leaf; bipartite, so
    # plain power iteration oscillates.
    found = properties.measure(adjacency(nx.star_graph(leaves)))["eigenvector_centrality"][0]
    assert found == pytest.approx((1 + np.sqrt(leaves)) / np.sqrt(2) / (leaves + 1), rel=1e-12)


def test_eigenvector_centrality_lives_on_the_component_with_the_larger_eigenvalue():
    graph = nx.disjoint_union(nx.complete_graph(4), nx.cycle_graph(5))
    assert properties.measure(adjacency(graph))["eigenvector_centrality"][0] == pytest.approx(
        4 * 0.5 / 9, rel=1e-12
    )


def test_a_batch_gives_the_same_as_one_by_one():
    rng = np.random.default_rng(2)
    # more than two blocks
    batch = np.stack([families.bernoulli(10, rng.uniform(0.2, 0.95), rng) for _ in range(130)])
    single = pd.concat([properties.measure(m) for m in batch], ignore_index=True)
    pd.testing.assert_frame_equal(properties.measure(batch), single, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "columns",
    [
        properties.PAPER_FIVE,
        properties.NINE,
        *([c] for c in properties.ALL),
    ],
)
def test_the_columns_asked_for_are_those_of_the_whole_table_bit_by_bit(columns):
    rng = np.random.default_rng(3)
    batch = np.stack([families.bernoulli(70, rng.uniform(0.2, 0.98), rng) for _ in range(70)])
    whole = properties.measure(batch)
    assert list(whole.columns) == list(properties.ALL)
    pd.testing.assert_frame_equal(
        properties.measure(batch, columns), whole[list(columns)], check_exact=True
    )
    backwards = list(columns)[::-1]
    assert list(properties.measure(batch[:1], backwards).columns) == backwards


@pytest.mark.parametrize("columns", [["clustering", "diameter"], ["Clustering"], "clustering"])
def test_an_unknown_property_is_refused_and_the_known_ones_named(columns):
    with pytest.raises(InvalidInput, match=r"degree_centrality, .*, cycle_rank"):
        properties.measure(np.eye(4), columns)


def test_masks_of_any_type_and_layout_give_the_same():
    mask = families.bernoulli(20, 0.5, np.random.default_rng(0))
    frozen = mask.copy()
    frozen.flags.writeable = False
    expected = properties.measure(mask)
    for other in (
        mask.astype(int),
        mask.astype(np.float32),
        np.asfortranarray(mask),
        frozen,
        np.ones((40, 40), bool)[::2, ::2] & mask,
    ):
        pd.testing.assert_frame_equal(properties.measure(other), expected, check_exact=True)
    order = np.arange(20)[::-1]
    pd.testing.assert_frame_equal(
        properties.measure(mask[::-1, ::-1]),
        properties.measure(mask[np.ix_(order, order)]),
        check_exact=True,
    )


def test_no_masks_give_an_empty_table():
    table = properties.measure(np.zeros((0, 4, 4)))
    assert list(table.columns) == list(properties.ALL)
    assert len(table) == 0
    assert set(map(str, table.dtypes)) == {"float64"}


@st.composite
def small_masks(draw, largest=9):
    n = draw(st.integers(1, largest))
    bits = draw(st.lists(st.booleans(), min_size=n * (n + 1) // 2, max_size=n * (n + 1) // 2))
    mask = np.zeros((n, n), dtype=bool)
    mask[np.triu_indices(n)] = bits
    return mask | mask.T


@given(mask=small_masks(), seed=st.integers(0, 999))
def test_renumbering_the_nodes_changes_nothing_but_cycle_length(mask, seed):
    order = np.random.default_rng(seed).permutation(len(mask))
    before, after = properties.measure(mask), properties.measure(mask[np.ix_(order, order)])
    pd.testing.assert_frame_equal(
        before.drop(columns="cycle_length"),
        after.drop(columns="cycle_length"),
        rtol=1e-9,
        atol=1e-9,
    )


def test_renumbering_the_nodes_can_change_cycle_length():
    mask = adjacency(nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(4)))
    assert properties.measure(mask)["cycle_length"][0] == 3
    assert properties.measure(mask[::-1, ::-1])["cycle_length"][0] == 4


def smallest_cut(mask):
    """Edges across the best of all ways to split the nodes in two; 0 for a single node."""
    n = len(mask)
    sides = (np.array(s) for s in itertools.product([False, True], repeat=n) if not s[0] and any(s))
    return min((mask[side][:, ~side].sum() for side in sides), default=0)


@given(mask=small_masks(largest=8))
def test_edge_connectivity_is_the_smallest_cut_over_all_bipartitions(mask):
    assert properties.measure(mask)["edge_connectivity"][0] == smallest_cut(mask)


def test_edge_connectivity_is_right_where_self_loops_mislead_networkx():
    mask = np.ones((6, 6), dtype=bool)
    true_cut = smallest_cut(mask)
    assert true_cut == 5
    assert properties.measure(mask)["edge_connectivity"][0] == true_cut
    # its bound, the minimum degree, counts each loop twice
    assert nx.edge_connectivity(nx.from_numpy_array(mask)) > true_cut


def test_edge_connectivity_of_a_wide_graph_can_lie_below_the_minimum_degree():
    mask = adjacency(nx.barbell_graph(6, 0))
    assert mask.sum(1).min() == 5
    assert properties.measure(mask)["edge_connectivity"][0] == 1


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (np.ones((3, 4)), "shape"),
        (np.ones(4), "shape"),
        (np.array([[0, 1], [0, 0]]), "not symmetric"),
        (np.array([[0, 2], [2, 0]]), "only 0 and 1"),
        (np.array([[np.nan, 1], [1, 0]]), "only 0 and 1"),
        (np.array([["0", "1"], ["1", "0"]]), "type"),
    ],
)
def test_what_is_no_mask_is_refused_with_the_reason(bad, text):
    with pytest.raises(InvalidInput, match=text):
        properties.measure(bad)


def test_uncorrelated_properties_are_all_kept_and_constant_ones_dropped():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.random(200), "constant": 1.0, "b": rng.random(200)})
    assert properties.select_uncorrelated(table.corr()) == ["a", "b"]


def test_of_the_most_correlated_pair_the_one_that_resembles_the_rest_is_dropped():
    names = ["a", "b", "c"]
    correlation = pd.DataFrame(
        [[1, -0.95, 0.1], [-0.95, 1, 0.8], [0.1, 0.8, 1]], index=names, columns=names
    )
    assert properties.select_uncorrelated(correlation) == ["a", "c"]
    assert properties.select_uncorrelated(correlation, threshold=0.96) == names
    assert properties.select_uncorrelated(correlation, threshold=0.05) in (["a"], ["c"])


@given(seed=st.integers(0, 999), threshold=st.floats(0.1, 1))
def test_no_two_properties_that_are_kept_are_correlated(seed, threshold):
    rng = np.random.default_rng(seed)
    correlation = pd.DataFrame(rng.random((20, 3)) @ rng.normal(size=(3, 6))).corr().abs()
    kept = properties.select_uncorrelated(correlation, threshold)
    assert kept == sorted(kept)
    assert kept
    assert all(correlation.loc[a, b] < threshold for a, b in itertools.combinations(kept, 2))


def test_the_only_property_that_varies_is_kept():
    correlation = pd.DataFrame({"a": [1.0, 2.0, 3.0], "constant": 1.0}).corr()
    assert properties.select_uncorrelated(correlation) == ["a"]
