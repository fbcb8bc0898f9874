"""Families of random masks at a given sparsity.

Each family is a function ``family(n, sparsity, rng, ...) -> (n, n) mask``. ``bernoulli`` is
Algorithm 1 of the paper and varies in sparsity; ``exact`` has the same law but hits the sparsity;
the others are the graph models of the field with a unit diagonal by default (a unit always feeds
itself, as in You et al. 2020). A structured family draws the number of edges that comes nearest to
the sparsity asked for, and refuses a sparsity that lies further than half a step outside its range.
What was achieved: ``relational.mask_sparsity``.

A family of your own is any such function, handed to ``database.build``.
"""

from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from bogp.checks import choice, flag, number, refuse, share, whole
from bogp.errors import UnreachableSparsity
from bogp.graphs.relational import Mask

Family = Callable[..., Mask]
MOST_NODES = 10_000  # a mask holds their square


def bernoulli(n: int, sparsity: float, rng: np.random.Generator) -> Mask:
    """Each entry of the upper triangle, diagonal included, is one with probability 1 - sparsity,
    and mirrored (paper, Algorithm 1).

    Args:
        n: nodes.
        sparsity: expected share of zeros, in (0, 1).
        rng: source of randomness.

    Returns:
        (n, n) mask.

    Raises:
        InvalidInput: n or sparsity out of range.
    """
    check_size(n, sparsity)
    upper = np.triu(rng.random((n, n)) < 1.0 - sparsity)
    return upper | upper.T


def exact(n: int, sparsity: float, rng: np.random.Generator) -> Mask:
    """As ``bernoulli``, given the number of ones: K = round((1 - s) n^2), of which the number
    nearest to (1 - s) n with K's parity on the diagonal.

    Degree centrality is then the same for all masks of one sparsity.
    """
    check_size(n, sparsity)
    ones = round((1.0 - sparsity) * n * n)
    pairs = n * (n - 1) // 2
    loops = min(
        (k for k in range(n + 1) if (ones - k) % 2 == 0 and 0 <= (ones - k) // 2 <= pairs),
        key=lambda k: (abs(k - (1.0 - sparsity) * n), k),
    )
    mask = _from_edges(n, rng.choice(pairs, (ones - loops) // 2, replace=False), diagonal=False)
    mask[np.diag_indices(n)] = np.isin(np.arange(n), rng.choice(n, loops, replace=False))
    return mask


def erdos_renyi(
    n: int, sparsity: float, rng: np.random.Generator, *, diagonal: bool = True
) -> Mask:
    """Edges drawn uniformly, their number fixed: G(n, m) of Erdos & Renyi (1959). Any sparsity that
    leaves room for the diagonal.
    """
    check_size(n, sparsity)
    pairs = n * (n - 1) // 2
    edges = _edges_for("erdos_renyi", n, sparsity, diagonal, low=0, high=pairs)
    return _from_edges(n, rng.choice(pairs, edges, replace=False), diagonal)


def ws_flex(
    n: int, sparsity: float, rng: np.random.Generator, *, rewire: float = 0.3, diagonal: bool = True
) -> Mask:
    """WS-flex (You et al. 2020, section 3.2): a ring lattice of real-valued degree, each edge
    rewired with a probability.

    Each node is joined to its nearest neighbours on the ring, ring by ring; the edges left over go
    to nodes drawn at random, one step further out. A rewired edge keeps one end and gets a new
    other end, so that the number of edges stays.

    Args:
        n, sparsity, rng: as in ``bernoulli``.
        rewire: probability of rewiring an edge, in [0, 1].
        diagonal: put ones on the diagonal.

    Raises:
        UnreachableSparsity: the degree would be below 2 (no ring) or above n - 1.
    """
    check_size(n, sparsity)
    refuse(
        not 0.0 <= number("rewire", rewire) <= 1.0,
        f"rewire is {rewire}; a probability in [0, 1] is needed.",
    )
    pairs, offset = n * (n - 1) // 2, 1
    left = _edges_for("ws_flex", n, sparsity, diagonal, low=min(n, pairs), high=pairs)
    mask = np.zeros((n, n), dtype=bool)
    while left:
        ring = np.arange(n // 2 if 2 * offset == n else n)
        starts = ring if left >= len(ring) else rng.choice(ring, left, replace=False)
        ends = (starts + offset) % n
        mask[starts, ends] = mask[ends, starts] = True
        left -= len(starts)
        offset += 1
    for i, j in np.argwhere(np.triu(mask)):
        if rng.random() < rewire:
            free = np.flatnonzero(~mask[i] & (np.arange(n) != i))
            if len(free):
                new = rng.choice(free)
                mask[i, j] = mask[j, i] = False
                mask[i, new] = mask[new, i] = True
    return _with_diagonal(mask, diagonal)


def random_regular(
    n: int, sparsity: float, rng: np.random.Generator, *, diagonal: bool = True
) -> Mask:
    """A random graph in which every node has the same degree (networkx; Kim & Vu 2003). Moves in
    steps of 1/n, of 2/n where n is odd.
    """
    return _regular("random_regular", n, sparsity, rng, diagonal)


def regular_short_paths(
    n: int,
    sparsity: float,
    rng: np.random.Generator,
    *,
    swaps: int = 1_000,
    diagonal: bool = True,
) -> Mask:
    """A random regular graph improved by edge swaps towards short paths (RGP: Chen et al. 2021).

    Two edges (a, b) and (c, d) become (a, c) and (b, d), or (a, d) and (b, c), where that shortens
    the average path. Degrees stay. Moves in steps as ``random_regular`` does.

    Args:
        n, sparsity, rng: as in ``bernoulli``.
        swaps: that are tried.
        diagonal: put ones on the diagonal.
    """
    from bogp.graphs import properties  # needs the compiler, which takes a while to import

    mask = _regular("regular_short_paths", n, sparsity, rng, diagonal)
    ends = np.argwhere(np.triu(mask, 1))

    def length(candidate: Mask) -> float:
        found = float(properties.measure(candidate, ["path_length"])["path_length"].iloc[0])
        return found if np.isfinite(found) else np.inf

    shortest = length(mask)
    for _ in range(whole("swaps", swaps, 0) if len(ends) > 1 else 0):
        chosen = rng.choice(len(ends), 2, replace=False)
        (a, b), (c, d) = ends[chosen][:, :: 1 if rng.random() < 0.5 else -1]
        if rng.random() < 0.5:
            c, d = d, c
        if len({a, b, c, d}) < 4 or mask[a, c] or mask[b, d]:
            continue
        swapped = mask.copy()
        swapped[[a, b, c, d], [b, a, d, c]] = False
        swapped[[a, c, b, d], [c, a, d, b]] = True
        if (found := length(swapped)) < shortest:
            mask, shortest = swapped, found
            ends[chosen] = [[a, c], [b, d]]
    return mask


def barabasi_albert(
    n: int, sparsity: float, rng: np.random.Generator, *, diagonal: bool = True
) -> Mask:
    """Growth with preferential attachment (Barabasi & Albert 1999), from a star; each new node
    brings m or m + 1 edges, so that the total fits.

    Raises:
        UnreachableSparsity: fewer edges than a tree, or more than m (n - m) allows (s < .492 at n =
            128 with the diagonal).
    """
    check_size(n, sparsity)
    best = n // 2
    edges = _edges_for(
        "barabasi_albert",
        n,
        sparsity,
        diagonal,
        low=max(n - 1, 0),
        high=max(best * (n - best), n - 1),
    )
    if n == 1:
        return _with_diagonal(np.zeros((1, 1), dtype=bool), diagonal)
    # With attachments m - 1 or m after a star of m leaves, the total runs from (m - 1)(n - m) + 1
    # to m (n - m).
    m = next((m for m in range(1, best + 1) if edges <= m * (n - m)), 1)
    arrivals = np.full(max(n - m - 1, 0), m)
    arrivals[rng.choice(len(arrivals), m + int(arrivals.sum()) - edges, replace=False)] -= 1
    mask = np.zeros((n, n), dtype=bool)
    mask[0, 1 : m + 1] = mask[1 : m + 1, 0] = True
    ends = [0] * m + list(range(1, m + 1))  # one entry per edge end: a uniform draw is preferential
    for node, count in enumerate(arrivals, start=m + 1):
        targets: set[int] = set()
        while len(targets) < count:
            targets.add(ends[rng.integers(len(ends))])
        chosen = sorted(targets)
        mask[node, chosen] = mask[chosen, node] = True
        ends += chosen + [node] * len(chosen)
    return _with_diagonal(mask, diagonal)


def stochastic_block(
    n: int,
    sparsity: float,
    rng: np.random.Generator,
    *,
    blocks: int = 4,
    ratio: float = 4.0,
    diagonal: bool = True,
) -> Mask:
    """Stochastic block model (Holland et al. 1983) with exact counts: blocks of even size, edges
    within a block ``ratio`` times as likely.

    Args:
        n, sparsity, rng: as in ``bernoulli``.
        blocks: number of blocks, from 1 to n.
        ratio: density within blocks over density between them, positive.
        diagonal: put ones on the diagonal.

    Raises:
        UnreachableSparsity: the ratio would need a density above one.
    """
    check_size(n, sparsity)
    refuse(
        not 1 <= whole("blocks", blocks) <= n or not 0 < number("ratio", ratio) < np.inf,
        f"blocks is {blocks} and ratio {ratio}; from 1 to n = {n} blocks and a positive "
        "ratio are needed.",
    )
    member = np.arange(n) * blocks // n
    rows, columns = np.triu_indices(n, 1)
    within = member[rows] == member[columns]
    n_in, n_out = int(within.sum()), int((~within).sum())
    density_out = min(1.0, 1.0 / ratio)
    edges = _edges_for(
        "stochastic_block",
        n,
        sparsity,
        diagonal,
        low=0,
        high=int(ratio * density_out * n_in + density_out * n_out + 1e-9),
    )
    inside = min(
        n_in, max(edges - n_out, round(edges * ratio * n_in / max(ratio * n_in + n_out, 1e-12)))
    )
    chosen = (
        rng.choice(np.flatnonzero(within), inside, replace=False),
        rng.choice(np.flatnonzero(~within), edges - inside, replace=False),
    )
    return _from_edges(n, np.concatenate(chosen), diagonal)


FAMILIES: dict[str, Family] = {
    f.__name__: f
    for f in (
        bernoulli,
        exact,
        erdos_renyi,
        ws_flex,
        random_regular,
        regular_short_paths,
        barabasi_albert,
        stochastic_block,
    )
}


def family(name: str) -> Family:
    """The built-in family of that name.

    Raises:
        InvalidInput: there is none.
    """
    return FAMILIES[choice("mask family", name, FAMILIES)]


def check_size(n: Any, sparsity: Any) -> None:
    """Refuse a graph without nodes, or with more than ``MOST_NODES``, and a sparsity outside (0,
    1).
    """
    whole("n", n, 1, MOST_NODES)
    share("Sparsity", sparsity)


def _edges_for(name: str, n: int, sparsity: float, diagonal: bool, low: int, high: int) -> int:
    """Number of edges whose sparsity is nearest, refused where it lies outside [low, high]."""
    flag("diagonal", diagonal)
    wanted = ((1.0 - sparsity) * n * n - diagonal * n) / 2
    if wanted < low - 0.5 - 1e-9 or wanted > high + 0.5 + 1e-9:
        _refuse(
            name,
            n,
            sparsity,
            diagonal,
            (2 * low + diagonal * n) / n**2,
            (2 * high + diagonal * n) / n**2,
        )
    return min(max(round(wanted), low), high)


def _regular(name: str, n: int, sparsity: float, rng: np.random.Generator, diagonal: bool) -> Mask:
    check_size(n, sparsity)
    step = 1 + n % 2  # an odd number of nodes has even degrees only
    flag("diagonal", diagonal)
    highest = (n - 1) // step * step
    wanted = (1.0 - sparsity) * n - diagonal
    degree = min(max(round(wanted / step) * step, 0), highest)
    if abs(wanted - degree) > step / 2 + 1e-9:
        _refuse(name, n, sparsity, diagonal, diagonal / n, (highest + diagonal) / n)
    # A dense regular graph is the complement of a sparse one, which is much quicker to draw.
    graph = nx.random_regular_graph(min(degree, n - 1 - degree), n, seed=int(rng.integers(2**31)))
    mask = nx.to_numpy_array(graph, nodelist=range(n), weight=None) > 0
    if degree > n - 1 - degree:
        mask = ~mask & ~np.eye(n, dtype=bool)
    return _with_diagonal(mask, diagonal)


def _refuse(
    name: str, n: int, sparsity: float, diagonal: bool, low_density: float, high_density: float
) -> None:
    raise UnreachableSparsity(
        f"{name} cannot reach sparsity {sparsity:g} with n = {n} and diagonal={diagonal}: "
        f"it reaches {1 - high_density:.4f} to {1 - low_density:.4f}. Choose a sparsity in "
        "that range or another family."
    )


def _from_edges(n: int, pairs: NDArray[np.integer], diagonal: bool) -> Mask:
    """Mask from indices into the strict upper triangle, row by row."""
    rows, columns = np.triu_indices(n, 1)
    mask = np.zeros((n, n), dtype=bool)
    mask[rows[pairs], columns[pairs]] = mask[columns[pairs], rows[pairs]] = True
    return _with_diagonal(mask, diagonal)


def _with_diagonal(mask: Mask, diagonal: bool) -> Mask:
    return mask | np.diag(np.full(len(mask), bool(diagonal)))
