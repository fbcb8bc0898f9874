import re

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bogp.errors import InvalidInput, UnreachableSparsity
from bogp.graphs import families
from bogp.graphs.properties import measure
from bogp.graphs.relational import mask_sparsity

STRUCTURED = [f for name, f in families.FAMILIES.items() if name not in ("bernoulli", "exact")]
# bernoulli hits its sparsity on average only
HITTING = [f for name, f in families.FAMILIES.items() if name != "bernoulli"]


def rng(seed=0):
    return np.random.default_rng(seed)


def half_step(family, n):
    """Half the distance between two sparsities that the family can reach: one entry, one edge, or
    one more degree for all.
    """
    if family in (families.random_regular, families.regular_short_paths):
        return (1 + n % 2) / (2 * n)
    return 0.5 / n**2 if family is families.exact else 1 / n**2


def check(mask, n):
    assert mask.shape == (n, n)
    assert mask.dtype == bool
    assert (mask == mask.T).all()


def edges(mask):
    return int(np.triu(mask, 1).sum())


def sparsity_of(n, n_edges, diagonal=True):
    return 1 - (2 * n_edges + n * diagonal) / n**2


@pytest.mark.parametrize("family", families.FAMILIES.values())
def test_a_mask_is_symmetric_binary_and_a_function_of_its_seed(family):
    first, again, other = (family(40, 0.7, rng(seed)) for seed in (3, 3, 4))
    check(first, 40)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("family", HITTING)
@given(n=st.integers(2, 40), sparsity=st.floats(0.001, 0.999))
def test_a_family_comes_within_half_a_step_or_says_what_it_reaches(family, n, sparsity):
    try:
        mask = family(n, sparsity, rng())
    except UnreachableSparsity as error:
        low, high = map(float, re.search(r"reaches (\S+) to (\d+\.\d+)", str(error)).groups())
        assert family.__name__ in str(error)
        margin = half_step(family, n) - 1e-4  # the range is printed to four decimals
        assert sparsity < low - margin or sparsity > high + margin
    except InvalidInput:
        assert family is families.stochastic_block and n < 4  # fewer nodes than its four blocks
    else:
        check(mask, n)
        assert abs(mask_sparsity(mask)[0] - sparsity) <= half_step(family, n) + 1e-9


@pytest.mark.parametrize("family", [f for f in HITTING if f is not families.stochastic_block])
def test_a_single_node_is_a_mask_or_a_refusal(family):
    try:
        check(family(1, 0.5, rng()), 1)
    except UnreachableSparsity as error:
        assert family.__name__ in str(error)


@pytest.mark.parametrize("family", STRUCTURED)
def test_the_diagonal_is_full_unless_switched_off(family):
    assert family(24, 0.7, rng()).diagonal().all()
    without = family(24, 0.7, rng(), diagonal=False)
    assert not without.diagonal().any()
    assert abs(mask_sparsity(without)[0] - 0.7) <= half_step(family, 24) + 1e-9


def within_five_sigma(ones, draws, p):
    return abs(ones - draws * p) < 5 * np.sqrt(draws * p * (1 - p))


def test_bernoulli_draws_diagonal_and_edges_with_the_same_probability():
    drawn = np.stack([families.bernoulli(20, 0.7, rng(seed)) for seed in range(2_000)])
    loops, upper = drawn.diagonal(axis1=1, axis2=2), drawn[:, *np.triu_indices(20, 1)]
    assert within_five_sigma(loops.sum(), loops.size, 0.3)
    assert within_five_sigma(upper.sum(), upper.size, 0.3)
    # Independent entries: the number of edges of a mask spreads as a binomial does (the standard
    # error of a variance is sqrt(2/N) of it).
    assert upper.sum(1).var() == pytest.approx(190 * 0.3 * 0.7, rel=5 * np.sqrt(2 / 2_000))


@given(n=st.integers(1, 30), sparsity=st.floats(0.001, 0.999), seed=st.integers(0, 99))
def test_exact_places_exactly_k_ones(n, sparsity, seed):
    mask = families.exact(n, sparsity, rng(seed))
    check(mask, n)
    assert mask.sum() == round((1 - sparsity) * n * n)
    # No other number of loops of the same parity lies closer to (1 - s) n.
    assert abs(mask.trace() - (1 - sparsity) * n) <= 1 + 1e-9 or mask.sum() >= n * n - n


def test_exact_masks_of_one_sparsity_share_their_degree_centrality():
    table = measure(np.stack([families.exact(32, 0.6, rng(seed)) for seed in range(20)]))
    assert np.ptp(table["degree_centrality"]) < 1e-12
    assert np.ptp(table["clustering"]) > 0


@pytest.mark.parametrize("family", [families.exact, families.erdos_renyi])
def test_each_edge_is_drawn_equally_often(family):
    drawn = np.stack([family(8, 0.5, rng(seed)) for seed in range(2_000)])
    counts = drawn.sum(0)[np.triu_indices(8, 1)]
    p = edges(drawn[0]) / 28
    assert all(within_five_sigma(count, 2_000, p) for count in counts)


@pytest.mark.parametrize(("n", "sparsity"), [(32, 0.5), (31, 0.7), (40, 0.1), (40, 0.95), (9, 0.3)])
def test_random_regular_gives_each_node_the_same_degree(n, sparsity):
    assert len(set(families.random_regular(n, sparsity, rng()).sum(0))) == 1


@pytest.mark.parametrize(("n", "degree"), [(16, 2), (16, 6), (17, 4), (17, 16), (12, 11)])
def test_unrewired_ws_flex_of_even_degree_is_the_ring_lattice(n, degree):
    mask = families.ws_flex(
        n, sparsity_of(n, n * degree // 2, diagonal=False), rng(), rewire=0.0, diagonal=False
    )
    ring = nx.circulant_graph(n, range(1, (degree + 1) // 2 + 1))
    np.testing.assert_array_equal(mask, nx.to_numpy_array(ring) > 0)


def test_ws_flex_of_real_valued_degree_gives_the_edges_left_over_to_some_nodes():
    n = 32
    mask = families.ws_flex(n, sparsity_of(n, 88), rng(), rewire=0.0)  # mean degree 5.5
    degrees = mask.sum(0) - 1
    assert degrees.mean() == 5.5
    assert set(degrees) == {4, 5, 6}
    inner, outer = (
        nx.to_numpy_array(nx.circulant_graph(n, range(1, k + 1))) + np.eye(n) > 0 for k in (2, 3)
    )
    assert (inner <= mask).all()
    assert (mask <= outer).all()


@given(n=st.integers(5, 30), share=st.floats(0, 1), rewire=st.floats(0, 1), seed=st.integers(0, 99))
def test_rewiring_keeps_the_number_of_edges(n, share, rewire, seed):
    wanted = n + round(share * (n * (n - 1) // 2 - n) * 0.99)
    mask = families.ws_flex(
        n, sparsity_of(n, wanted, diagonal=False), rng(seed), rewire=rewire, diagonal=False
    )
    check(mask, n)
    assert edges(mask) == wanted
    assert not mask.diagonal().any()


def test_rewiring_shortens_paths_and_lowers_clustering():
    ring, rewired = (measure(families.ws_flex(64, 0.9, rng(), rewire=p)).loc[0] for p in (0.0, 0.5))
    assert rewired["path_length"] < ring["path_length"]
    assert rewired["clustering"] < ring["clustering"]


@pytest.mark.parametrize("rewire", [-0.1, 1.1, float("nan")])
def test_ws_flex_refuses_a_rewire_that_is_no_probability(rewire):
    with pytest.raises(InvalidInput, match="rewire"):
        families.ws_flex(16, 0.5, rng(), rewire=rewire)


@pytest.mark.parametrize(("n", "sparsity"), [(128, 0.5), (128, 0.9), (40, 0.8), (41, 0.7)])
def test_barabasi_albert_is_connected_and_has_a_heavier_hub_than_erdos_renyi(n, sparsity):
    hubs = {}
    for family in (families.barabasi_albert, families.erdos_renyi):
        drawn = [family(n, sparsity, rng(seed)) for seed in range(6)]
        hubs[family] = np.mean([m.sum(0).max() for m in drawn])
        if family is families.barabasi_albert:
            assert all(nx.is_connected(nx.from_numpy_array(m)) for m in drawn)
    assert hubs[families.barabasi_albert] > 1.3 * hubs[families.erdos_renyi]


@pytest.mark.parametrize("n", [2, 3, 10, 50])
def test_barabasi_albert_with_the_fewest_edges_is_a_tree(n):
    mask = families.barabasi_albert(n, sparsity_of(n, n - 1, diagonal=False), rng(), diagonal=False)
    assert nx.is_tree(nx.from_numpy_array(mask))


def test_stochastic_block_joins_within_blocks_more_often_by_the_ratio():
    within, between = [], []
    block = np.arange(64) // 16
    same, upper = block[:, None] == block, np.triu(np.ones((64, 64), bool), 1)
    for seed in range(10):
        mask = families.stochastic_block(64, 0.8, rng(seed), blocks=4, ratio=4.0)
        within.append(mask[same & upper].mean())
        between.append(mask[~same & upper].mean())
    assert np.mean(within) / np.mean(between) == pytest.approx(4.0, rel=0.02)
    mask = families.stochastic_block(64, 0.8, rng(), ratio=0.25)
    assert mask[same & upper].mean() / mask[~same & upper].mean() == pytest.approx(0.25, rel=0.05)


@pytest.mark.parametrize(
    "parameters",
    [
        {"blocks": 0},
        {"blocks": 17},
        {"ratio": 0.0},
        {"ratio": -1.0},
        {"ratio": np.inf},
        {"ratio": np.nan},
    ],
)
def test_stochastic_block_refuses_parameters_without_a_meaning(parameters):
    with pytest.raises(InvalidInput, match="blocks"):
        families.stochastic_block(16, 0.7, rng(), **parameters)


@pytest.mark.parametrize(
    ("family", "n", "sparsity", "low", "high"),
    [
        # At most m (n - m) edges with m = n / 2; at least those of a tree.
        (families.barabasi_albert, 128, 0.3, sparsity_of(128, 64 * 64), sparsity_of(128, 127)),
        (families.barabasi_albert, 128, 0.99, sparsity_of(128, 64 * 64), sparsity_of(128, 127)),
        # A ring needs degree 2.
        (families.ws_flex, 64, sparsity_of(64, 48), 0.0, sparsity_of(64, 64)),
        (families.erdos_renyi, 20, 0.97, 0.0, 1 - 1 / 20),
        (families.random_regular, 20, 0.99, 0.0, 1 - 1 / 20),
        # Within blocks everything, between them a quarter: 4 * 6 + 96 / 4 edges.
        (families.stochastic_block, 16, 0.5, sparsity_of(16, 48), 1 - 1 / 16),
    ],
)
def test_an_unreachable_sparsity_is_refused_with_the_family_and_its_range(
    family, n, sparsity, low, high
):
    with pytest.raises(
        UnreachableSparsity, match=f"{family.__name__} .* reaches {low:.4f} to {high:.4f}"
    ):
        family(n, sparsity, rng())
    for end in (low, high):
        if 0 < end < 1:
            assert mask_sparsity(family(n, end, rng()))[0] == pytest.approx(end, abs=1e-9)


@pytest.mark.parametrize("family", families.FAMILIES.values())
@pytest.mark.parametrize(
    "sparsity", [0, 1, 0.0, 1.0, -0.1, 1.5, float("nan"), float("inf"), True, False, "0.5", None]
)
def test_a_sparsity_that_is_no_share_between_zero_and_one_is_refused(family, sparsity):
    with pytest.raises(InvalidInput, match="Sparsity is"):
        family(16, sparsity, rng())


@pytest.mark.parametrize("family", families.FAMILIES.values())
@pytest.mark.parametrize("n", [0, -3])
def test_a_graph_without_nodes_is_refused(family, n):
    with pytest.raises(InvalidInput):
        family(n, 0.5, rng())


@pytest.mark.parametrize("n", [2.5, "16", None])
def test_a_number_of_nodes_that_is_no_integer_is_refused(n):
    with pytest.raises(InvalidInput, match="n is"):
        families.bernoulli(n, 0.5, rng())


def test_a_family_is_found_by_its_name_and_an_unknown_name_lists_them():
    assert families.family("ws_flex") is families.ws_flex
    with pytest.raises(InvalidInput, match=r"'watts'.*ws_flex"):
        families.family("watts")


@given(n=st.integers(6, 24), sparsity=st.floats(0.3, 0.85), seed=st.integers(0, 99))
def test_edge_swaps_keep_degrees_and_shorten_paths(n, sparsity, seed):
    try:
        before = families.random_regular(n, sparsity, rng(seed))
    except UnreachableSparsity:
        return
    after = families.regular_short_paths(n, sparsity, rng(seed), swaps=60)
    check(after, n)
    assert (after.sum(axis=0) == before.sum(axis=0)).all()
    ends = [nx.from_numpy_array(mask) for mask in (before, after)]
    if nx.is_connected(ends[0]):
        lengths = list(map(nx.average_shortest_path_length, ends))
        assert lengths[1] <= lengths[0]
    np.testing.assert_array_equal(
        families.regular_short_paths(n, sparsity, rng(seed), swaps=0), before
    )


def test_edge_swaps_find_shorter_paths_where_there_are_any():
    lengths = [
        measure(family(64, 0.94, rng(1)), ["path_length"])["path_length"].iloc[0]
        for family in (families.random_regular, families.regular_short_paths)
    ]
    assert lengths[1] < 0.98 * lengths[0]
