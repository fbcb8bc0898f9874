"""Bipartite invariants against networkx, loops over sets, and the symmetry that names them."""

from itertools import combinations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from bogp.errors import InvalidInput
from bogp.graphs import bipartite, families
from bogp.graphs.bipartite import INVARIANTS, measure
from bogp.graphs.database import DatabaseSpec, build


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
