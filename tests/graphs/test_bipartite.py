"""Bipartite invariants against networkx, loops over sets, and the symmetry that names them."""

from itertools import combinations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from bogp.errors import InvalidInput
from bogp.graphs import bipartite, families, properties
from bogp.graphs.bipartite import INVARIANTS, exchangeable_pair, measure
from bogp.graphs.database import DatabaseSpec, build
from bogp.graphs.relational import mask_to_graph


@st.composite
def symmetric(draw):
    n = draw(st.integers(1, 8))
    upper = np.zeros((n, n), bool)
    upper[np.triu_indices(n)] = draw(
        st.lists(st.booleans(), min_size=n * (n + 1) // 2, max_size=n * (n + 1) // 2)
    )
    return upper | upper.T


@st.composite
def matrices(draw):
    shape = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    bits = draw(st.lists(st.booleans(), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))
    return np.array(bits).reshape(shape)


def as_graph(mask):
    return nx.bipartite.from_biadjacency_matrix(csr_array(mask.astype(int)))


@given(matrices())
def test_invariants_are_what_networkx_and_loops_say(mask):
    found = measure(mask).iloc[0]
    graph = as_graph(mask)
    rows = [set(np.flatnonzero(row)) for row in mask]
    degree = [graph.degree(node) for node in range(sum(mask.shape))]
    out, into = degree[: len(mask)], degree[len(mask) :]
    assert found["dead_outputs"] == out.count(0)
    assert found["dead_inputs"] == into.count(0)
    assert found["output_degree_sd"] == pytest.approx(np.std(out))
    assert found["input_degree_sd"] == pytest.approx(np.std(into))
    assert found["degree_product"] == sum(graph.degree(u) * graph.degree(v) for u, v in graph.edges)
    cycles = nx.simple_cycles(graph, length_bound=4)
    assert found["four_cycles"] == sum(len(cycle) == 4 for cycle in cycles)
    assert found["four_cycles"] == sum(
        len(list(combinations(a & b, 2))) for a, b in combinations(rows, 2)
    )
    values = np.linalg.svd(mask.astype(float), compute_uv=False)
    assert found["largest_singular"] == pytest.approx(values[0], abs=1e-12)
    second = values[1] if len(values) > 1 else 0.0
    assert found["singular_gap"] == pytest.approx(values[0] - second, abs=1e-12)
    power = values[values > 1e-9] ** 2
    share = power / power.sum() if len(power) else power
    expected = np.exp(-(share * np.log(share)).sum()) if len(power) else 0.0
    assert found["effective_rank"] == pytest.approx(expected, abs=1e-9)


@given(matrices(), st.integers(0, 2**32 - 1))
def test_renumbering_either_side_changes_nothing(mask, seed):
    rng = np.random.default_rng(seed)
    moved = rng.permutation(rng.permutation(mask, axis=0), axis=1)
    np.testing.assert_allclose(measure(moved), measure(mask), atol=1e-10)
    for one, other in zip(
        bipartite.degree_sequences(moved), bipartite.degree_sequences(mask), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(
        bipartite.singular_values(moved), bipartite.singular_values(mask), atol=1e-10
    )


def test_a_symmetric_batch_has_the_singular_values_of_each_mask():
    rng = np.random.default_rng(0)
    masks = np.stack([families.erdos_renyi(20, 0.8, rng) for _ in range(130)])
    expected = np.stack([np.linalg.svd(mask.astype(float), compute_uv=False) for mask in masks])
    np.testing.assert_allclose(bipartite.singular_values(masks), expected, atol=1e-10)


def test_a_database_holds_them_as_columns(tmp_path):
    database = build(DatabaseSpec((0.8,), 12, n=16), tmp_path)
    wider = bipartite.with_invariants(database)
    assert list(wider.table.columns) == [*database.table.columns, *INVARIANTS]
    np.testing.assert_array_equal(
        wider.table[list(INVARIANTS)], measure(database.masks()).to_numpy()
    )


@pytest.mark.parametrize("bad", [np.zeros(3), np.full((2, 2), 2), [["a"]], np.zeros((0, 3))])
def test_what_is_no_mask_is_refused(bad):
    with pytest.raises(InvalidInput):
        measure(bad)


def test_an_unknown_invariant_is_refused_by_name():
    with pytest.raises(InvalidInput, match="four_cycles"):
        measure(np.eye(3), ["five_cycles"])
    assert list(measure(np.eye(3), ["four_cycles"]).columns) == ["four_cycles"]


# --- the pair that properties tell apart although it is one network ---


@given(symmetric())
def test_of_a_pair_the_first_is_two_copies_and_the_second_the_bipartite_double(mask):
    first, second = exchangeable_pair(mask)
    n, graph = len(mask), mask_to_graph(mask)
    np.testing.assert_array_equal(second, np.concatenate([first[n:], first[:n]]))
    assert nx.is_isomorphic(mask_to_graph(first), nx.disjoint_union(graph, graph))
    assert not nx.is_connected(mask_to_graph(first))
    assert nx.is_bipartite(mask_to_graph(second))
    odd_cycle = not nx.is_bipartite(graph)  # a self-loop is one
    assert nx.is_connected(mask_to_graph(second)) == (nx.is_connected(graph) and odd_cycle)


def test_a_pair_has_one_sparsity_and_other_properties():
    mask = families.erdos_renyi(16, 0.6, np.random.default_rng(0))
    pair = exchangeable_pair(mask)
    one, first, second = (properties.measure(m).iloc[0] for m in (mask, *pair))
    assert pair[0].sum() == pair[1].sum() == 2 * mask.sum()
    np.testing.assert_allclose(measure(pair[0]), measure(pair[1]), atol=1e-12)
    assert np.isnan(first["path_length"])
    assert np.isfinite(second["path_length"])
    assert first["clustering"] == pytest.approx(one["clustering"])
    assert first["clustering"] > 0.3
    assert second["clustering"] == 0
    assert first["edge_connectivity"] == 0
    assert second["edge_connectivity"] > 0
