import itertools

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bogp.errors import InvalidInput
from bogp.graphs import relational


def random_mask(n, density, seed):
    upper = np.triu(np.random.default_rng(seed).random((n, n)) < density)
    return upper | upper.T


@given(n=st.integers(1, 12), density=st.floats(0, 1), seed=st.integers(0, 999))
def test_a_mask_becomes_a_graph_and_the_same_mask_again(n, density, seed):
    mask = random_mask(n, density, seed)
    graph = relational.mask_to_graph(mask)
    assert sorted(graph.nodes) == list(range(n))
    assert {frozenset(e) for e in graph.edges} == {
        frozenset((i, j)) for i in range(n) for j in range(n) if mask[i, j]
    }
    np.testing.assert_array_equal(relational.graph_to_mask(graph), mask)


def test_mask_to_graph_is_networkx_from_numpy_array_edge_order_included():
    # The order decides which cycle nx.find_cycle finds.
    mask = random_mask(20, 0.4, 1)
    ours, theirs = relational.mask_to_graph(mask), nx.from_numpy_array(mask)
    assert {node: list(ours[node]) for node in ours} == {
        node: list(theirs[node]) for node in theirs
    }


def test_graph_to_mask_ignores_weights():
    graph = nx.Graph()
    graph.add_edge(0, 1, weight=-2.0)
    assert relational.graph_to_mask(graph).tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize(
    "graph", [nx.DiGraph([(0, 1)]), nx.MultiGraph([(0, 1), (0, 1)]), nx.Graph()]
)
def test_graph_to_mask_refuses_what_is_no_relational_graph(graph):
    with pytest.raises(InvalidInput):
        relational.graph_to_mask(graph)


def test_mask_to_graph_refuses_a_batch():
    with pytest.raises(InvalidInput, match="batch of 2"):
        relational.mask_to_graph(np.ones((2, 3, 3)))


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (np.ones((2, 3)), "shape"),
        (np.ones(3), "shape"),
        (np.ones((1, 1, 2, 2)), "shape"),
        (np.ones((0, 0)), "shape"),
        (np.array([[0, 1], [0, 0]]), "not symmetric"),
        (np.array([[0, 2], [2, 0]]), "only 0 and 1"),
        (np.array([[0, np.nan], [np.nan, 0]]), "only 0 and 1"),
        (np.array([["0", "1"], ["1", "0"]]), "type"),
        (np.array([[None, 1], [1, None]]), "type"),
        ([[0, 1], [1]], "shape"),
    ],
)
def test_what_is_no_mask_is_refused_with_the_reason(bad, text):
    with pytest.raises(InvalidInput, match=text):
        relational.as_masks(bad)


def test_the_first_bad_mask_of_a_batch_is_named():
    batch = np.zeros((4, 3, 3))
    batch[2, 0, 1] = 1
    with pytest.raises(InvalidInput, match="Mask 2 is not symmetric"):
        relational.as_masks(batch)
    batch[1, 2, 2] = 7
    with pytest.raises(InvalidInput, match=r"Mask 1 holds 7.0 at \(2, 2\)"):
        relational.as_masks(batch)


@given(
    n=st.integers(1, 6),
    more_in=st.integers(0, 9),
    more_out=st.integers(0, 9),
    seed=st.integers(0, 99),
)
def test_expand_makes_each_entry_a_block_of_even_size(n, more_in, more_out, seed):
    mask, d_in, d_out = random_mask(n, 0.5, seed), n + more_in, n + more_out
    full = relational.expand(mask, d_in, d_out)
    assert full.shape == (d_out, d_in)
    # np.array_split has the same rule: as even as possible, the first parts one longer.
    for i, rows in enumerate(np.array_split(np.arange(d_out), n)):
        for j, columns in enumerate(np.array_split(np.arange(d_in), n)):
            assert (full[np.ix_(rows, columns)] == mask[i, j]).all()


def test_expand_to_its_own_width_changes_nothing():
    mask = random_mask(9, 0.5, 3)
    np.testing.assert_array_equal(relational.expand(mask, 9, 9), mask)


@pytest.mark.parametrize(("d_in", "d_out"), [(3, 10), (10, 3)])
def test_expand_refuses_a_layer_smaller_than_the_graph(d_in, d_out):
    with pytest.raises(InvalidInput, match="4 nodes"):
        relational.expand(np.ones((4, 4)), d_in, d_out)


def test_expand_refuses_a_batch_rather_than_drop_all_but_one():
    with pytest.raises(InvalidInput):
        relational.expand(np.ones((2, 3, 3)), 3, 3)


def test_layer_masks_covers_the_chosen_layers_only():
    mask = random_mask(4, 0.5, 5)
    first, second, third = relational.layer_masks(mask, (8, 4, 6, 2), (0, 1))
    np.testing.assert_array_equal(first, relational.expand(mask, 8, 4))
    np.testing.assert_array_equal(second, relational.expand(mask, 4, 6))
    assert third is None
    assert relational.layer_masks(None, (8, 4, 6, 2), (0, 1)) == (None, None, None)


@pytest.mark.parametrize("layer", [-1, 3])
def test_layer_masks_refuses_a_layer_that_is_not_there(layer):
    # Otherwise a typing slip trains the dense network under a mask's name.
    with pytest.raises(InvalidInput):
        relational.layer_masks(np.ones((2, 2)), (4, 4, 4, 4), (layer,))


def test_mask_sparsity_is_the_share_of_zeros():
    masks = np.array([[[1, 0], [0, 1]], [[1, 1], [1, 1]], [[0, 0], [0, 1]]])
    np.testing.assert_allclose(relational.mask_sparsity(masks), [0.5, 0.0, 0.75])


def test_a_sparse_hidden_mask_is_an_eighth_of_the_weights():
    hidden = np.ones((128, 128), dtype=bool)
    hidden.reshape(-1)[: round(0.9 * 128 * 128)] = False
    found = relational.model_sparsity((None, hidden, None), (784, 128, 128, 10))
    assert found == pytest.approx(0.9 * 128**2 / (784 * 128 + 128**2 + 1280), abs=1e-5)
    assert found == pytest.approx(0.125, abs=5e-4)


def effective_by_paths(masks, widths):
    """Enumerate every path from an input to an output; a weight counts as kept if a live path runs
    through it.
    """
    on_path = set()
    for nodes in itertools.product(*map(range, widths)):
        steps = [(layer, nodes[layer + 1], nodes[layer]) for layer in range(len(masks))]
        if all(masks[layer] is None or masks[layer][out, into] for layer, out, into in steps):
            on_path.update(steps)
    return 1 - len(on_path) / sum(a * b for a, b in itertools.pairwise(widths))


@pytest.mark.parametrize("seed", range(25))
def test_the_sparsities_of_a_model_equal_path_enumeration(seed):
    rng = np.random.default_rng(seed)
    widths = tuple(int(w) for w in rng.integers(1, 5, size=rng.integers(2, 6)))
    masks = [rng.random((b, a)) < rng.uniform(0.1, 0.9) for a, b in itertools.pairwise(widths)]
    if seed % 3 == 0:
        masks[rng.integers(len(masks))] = None
    kept = sum(
        a * b if m is None else int(m.sum())
        for m, (a, b) in zip(masks, itertools.pairwise(widths), strict=True)
    )
    total = sum(a * b for a, b in itertools.pairwise(widths))
    assert relational.model_sparsity(tuple(masks), widths) == pytest.approx(1 - kept / total)
    assert relational.effective_sparsity(tuple(masks), widths) == pytest.approx(
        effective_by_paths(masks, widths)
    )


def test_weights_of_a_dead_unit_count_as_pruned():
    first = np.array([[True, True], [False, False]])  # the second hidden unit has no input
    assert relational.model_sparsity((first, None), (2, 2, 2)) == pytest.approx(2 / 8)
    assert relational.effective_sparsity((first, None), (2, 2, 2)) == pytest.approx(4 / 8)


def test_a_network_with_no_path_is_entirely_pruned():
    assert relational.effective_sparsity((None, np.zeros((3, 3), bool), None), (2, 3, 3, 2)) == 1.0


@pytest.mark.parametrize("measure", [relational.model_sparsity, relational.effective_sparsity])
def test_layer_masks_that_do_not_fit_the_network_are_refused(measure):
    with pytest.raises(InvalidInput, match="2 layers; 1"):
        measure((None,), (2, 3, 2))
    with pytest.raises(InvalidInput, match="mask of layer 0"):
        measure((np.ones((2, 3), bool), None), (2, 3, 2))
