import networkx as nx
import numpy as np
import pytest

from bogp.graphs import centrality, families


def adjacency(graph):
    return np.ascontiguousarray(nx.to_numpy_array(graph, weight=None) > 0)[None].view(np.uint8)


def found(graph):
    return centrality.eigenvector_centrality(adjacency(graph))[0]


def by_eigenvectors(mask):
    """The definition, from all eigenvectors."""
    values, vectors = np.linalg.eigh(mask.astype(float))
    limit = vectors[:, values > values[-1] - 1e-9] @ vectors[:, values > values[-1] - 1e-9].sum(0)
    return (limit / np.linalg.norm(limit)).mean()


def settled_by_lanczos(batch):
    return np.isfinite(centrality._by_lanczos(batch))


@pytest.mark.parametrize("n", [2, 3, 10, 63, 100, 101])
def test_a_path_has_its_closed_form(n):
    # Entries sin(k pi / (n + 1)); the two largest eigenvalues are close, so that Lanczos needs all
    # its steps or the fallback.
    assert found(nx.path_graph(n)) == pytest.approx(
        np.sqrt(2 / (n + 1)) / np.tan(np.pi / 2 / (n + 1)) / n, rel=1e-12
    )


@pytest.mark.parametrize(
    "graph",
    [
        nx.empty_graph(1),
        nx.empty_graph(70),
        nx.complete_graph(128),
        nx.cycle_graph(100),
        nx.hypercube_graph(6),
    ],
)
def test_a_regular_graph_has_one_over_root_n(graph):
    assert found(graph) == pytest.approx(1 / np.sqrt(len(graph)), rel=1e-12)


@pytest.mark.parametrize(("a", "b"), [(1, 1), (1, 200), (3, 5), (64, 64)])
def test_a_complete_bipartite_graph_has_its_closed_form(a, b):
    # 1/sqrt(2a) on one side, 1/sqrt(2b) on the other; minus the largest eigenvalue is one too.
    assert found(nx.complete_bipartite_graph(a, b)) == pytest.approx(
        (np.sqrt(a / 2) + np.sqrt(b / 2)) / (a + b), rel=1e-12
    )


def test_two_equal_blocks_share_the_limit():
    block = nx.gnp_random_graph(40, 0.3, seed=1)
    alone = found(block)
    assert found(nx.disjoint_union(block, block)) == pytest.approx(
        alone * np.sqrt(2) / 2, rel=1e-11
    )


@pytest.mark.parametrize(("size", "tail"), [(6, 1), (6, 2), (6, 3), (6, 4), (20, 1), (20, 2)])
def test_of_two_nearly_equal_blocks_the_one_with_the_larger_eigenvalue_has_all(size, tail):
    # Cliques with tails of different lengths: the eigenvalues differ by as little as 1e-7.
    shorter, longer = nx.lollipop_graph(size, tail), nx.lollipop_graph(size, tail + 1)
    both = nx.disjoint_union(shorter, longer)
    assert found(both) == pytest.approx(
        by_eigenvectors(adjacency(longer)[0]) * len(longer) / len(both), abs=1e-9
    )


@pytest.mark.parametrize("length", range(0, 12))
@pytest.mark.parametrize("size", [4, 20])
def test_nearly_symmetric_barbells_agree_with_all_eigenvectors(size, length):
    graph = nx.barbell_graph(size, length)
    graph.add_edge(0, len(graph))  # a pendant node breaks the symmetry
    assert found(graph) == pytest.approx(by_eigenvectors(adjacency(graph)[0]), abs=1e-9)


@pytest.mark.parametrize("n", [5, 13, 30, 65, 128])
@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.8, 0.95, 0.98])
def test_random_masks_agree_with_all_eigenvectors(n, sparsity):
    rng = np.random.default_rng(n)
    masks = 40 if n < 60 else 10
    batch = np.stack([families.bernoulli(n, sparsity, rng) for _ in range(masks)]).view(np.uint8)
    np.testing.assert_allclose(
        centrality.eigenvector_centrality(batch), [by_eigenvectors(m) for m in batch], atol=1e-10
    )


@pytest.mark.parametrize("seed", range(20))
def test_trees_agree_with_all_eigenvectors(seed):
    graph = nx.random_labeled_tree(60 + seed, seed=seed)
    assert found(graph) == pytest.approx(by_eigenvectors(adjacency(graph)[0]), abs=1e-10)


def test_lanczos_settles_random_masks_and_leaves_close_eigenvalues_to_the_fallback():
    rng = np.random.default_rng(0)
    for sparsity in (0.15, 0.6, 0.9):
        assert settled_by_lanczos(
            np.stack([families.bernoulli(128, sparsity, rng) for _ in range(20)]).view(np.uint8)
        ).all()
    assert not settled_by_lanczos(
        adjacency(nx.disjoint_union(nx.lollipop_graph(20, 2), nx.lollipop_graph(20, 3)))
    ).any()
