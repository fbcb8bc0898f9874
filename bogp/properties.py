"""The nine graph properties of the paper (section 2.3 and Figure 8), for a whole batch of masks at once.

The values of networkx on ``nx.from_numpy_array(mask)`` are the definition; a self-loop counts twice in a degree there, and here. Four stated
deviations:

- average degree connectivity is a dictionary in networkx; here it is the mean of its values;
- path length and Wiener index of a disconnected graph are NaN (networkx raises, or gives infinity);
- edge connectivity is the true minimum cut, self-loops ignored (networkx counts them in the minimum degree that bounds it);
- eigenvector centrality is the limit of the power iteration from a uniform start, where networkx may give up.

``cycle_length`` is what the paper calls the number of cycles: the length of the cycle that ``nx.find_cycle`` happens to find. It depends on how nodes
are numbered, so it is no property of the graph; ``cycle_rank`` (edges - nodes + components) is, and replaces it in the corrected set.
"""

import igraph
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from bogp.relational import Mask, as_masks

NINE = (
    "degree_centrality",
    "degree_connectivity",
    "eigenvector_centrality",
    "clustering",
    "path_length",
    "s_metric",
    "wiener_index",
    "edge_connectivity",
    "cycle_length",
)
ALL = (*NINE, "cycle_rank")
PAPER_FIVE = ("degree_centrality", "clustering", "edge_connectivity", "eigenvector_centrality", "cycle_length")
CORRECTED_FIVE = ("degree_centrality", "clustering", "edge_connectivity", "eigenvector_centrality", "cycle_rank")

_BLOCK = 64  # masks in flight, so that memory does not grow with their number


def measure(masks: ArrayLike) -> pd.DataFrame:
    """Measure every property of every mask.

    Args:
        masks: (n, n) or (N, n, n), symmetric, of zeros and ones.

    Returns:
        A table of N rows with the columns ``ALL``, all float64. ``path_length`` and ``wiener_index`` are NaN where the graph is disconnected.

    Raises:
        InvalidInput: the masks are no masks (see ``relational.as_masks``).
    """
    checked = as_masks(masks)
    blocks = [_measure_block(checked[i : i + _BLOCK]) for i in range(0, len(checked), _BLOCK)]
    return pd.concat(blocks, ignore_index=True) if blocks else pd.DataFrame(columns=list(ALL), dtype=float)


def _measure_block(masks: Mask) -> pd.DataFrame:
    n = masks.shape[-1]
    adjacency = masks.astype(np.float64)
    loops = np.einsum("bii->bi", adjacency)
    degree = adjacency.sum(2) + loops
    simple = adjacency * (1.0 - np.eye(n))
    distance_sum, eccentricity = _distances(simple)
    parts = np.array([connected_components(csr_array(m), directed=False, return_labels=False) for m in masks])
    return pd.DataFrame(
        {
            "degree_centrality": degree.mean(1) / (n - 1) if n > 1 else np.ones(len(masks)),
            "degree_connectivity": _degree_connectivity(adjacency, degree),
            "eigenvector_centrality": _eigenvector_centrality(adjacency),
            "clustering": _clustering(simple),
            "path_length": distance_sum / (n * (n - 1)) if n > 1 else np.zeros(len(masks)),
            "s_metric": (np.einsum("bi,bij,bj->b", degree, adjacency, degree) + (loops * degree**2).sum(1)) / 2,
            "wiener_index": distance_sum / 2,
            "edge_connectivity": _edge_connectivity(simple, eccentricity),
            "cycle_length": np.array([float(_cycle_length(m)) for m in masks]),
            "cycle_rank": (adjacency.sum((1, 2)) + loops.sum(1)) / 2 - n + parts,
        },
        columns=list(ALL),
    )


def _degree_connectivity(adjacency: NDArray[np.float64], degree: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the degrees that occur of: neighbours' degrees summed over the nodes of that degree, over the sum of those nodes' degrees."""
    neighbours = np.einsum("bij,bj->bi", adjacency, degree)
    values = np.empty(len(adjacency))
    for b, (deg, total) in enumerate(zip(degree.astype(np.int64), neighbours, strict=True)):
        norm, summed = np.bincount(deg, weights=deg), np.bincount(deg, weights=total)
        present = np.bincount(deg) > 0
        values[b] = (summed[present] / np.where(norm[present] == 0, 1.0, norm[present])).mean()
    return values


def _eigenvector_centrality(adjacency: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean entry of the unit vector that power iteration on A + I reaches from a uniform start: its projection on the top eigenspace."""
    n = adjacency.shape[-1]
    values, vectors = np.linalg.eigh(adjacency)
    top = values >= values[:, -1:] - 1e-9 * (1.0 + np.abs(values[:, -1:]))
    weight = vectors.sum(1) * top  # of the uniform vector along each top eigenvector
    limit = np.einsum("bij,bj->bi", vectors, weight)
    return limit.sum(1) / np.linalg.norm(limit, axis=1) / n


def _clustering(simple: NDArray[np.float64]) -> NDArray[np.float64]:
    triangles = np.einsum("bij,bij->bi", simple @ simple, simple)  # each counted twice
    degree = simple.sum(2)
    pairs = degree * (degree - 1)
    return np.where(pairs > 0, triangles / np.where(pairs > 0, pairs, 1.0), 0.0).mean(1)


def _distances(simple: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum of distances over ordered pairs, NaN where disconnected, and the diameter, infinite where disconnected; breadth-first, all pairs at once."""
    n = simple.shape[-1]
    step = (simple + np.eye(n)).astype(np.float32)
    reached = np.broadcast_to(np.eye(n, dtype=np.float32), step.shape)
    total, diameter = np.zeros(len(simple)), np.zeros(len(simple))
    while True:
        missing = n * n - reached.sum((1, 2), dtype=np.float64)
        grown = (reached @ step > 0).astype(np.float32)
        moved = grown.sum((1, 2), dtype=np.float64) > n * n - missing
        if not moved.any():
            break
        total += missing * moved  # each pair not yet reached is at least one step further apart
        diameter += moved
        reached = grown
    return np.where(missing > 0, np.nan, total), np.where(missing > 0, np.inf, diameter)


def _edge_connectivity(simple: NDArray[np.float64], diameter: NDArray[np.float64]) -> NDArray[np.float64]:
    """Size of the smallest edge cut.

    In a graph of diameter at most 2 it equals the minimum degree (Plesnik 1975, "Critical graphs of given diameter"); otherwise an exact
    minimum cut is computed by igraph. A disconnected graph has 0, a single node too.
    """
    values = simple.sum(2).min(1)
    values[np.isinf(diameter)] = 0.0
    for b in np.flatnonzero((diameter > 2) & np.isfinite(diameter)):
        values[b] = igraph.Graph(n=simple.shape[-1], edges=np.argwhere(np.triu(simple[b])).tolist()).edge_connectivity()
    return values


def _cycle_length(mask: Mask) -> int:
    """Length of the cycle that ``nx.find_cycle`` returns on the graph with nodes in order, 0 if there is none.

    networkx walks depth-first, taking each node's edges in ascending order and no edge twice, and stops at the first edge that
    leads to a node of the path it stands on (a self-loop is a cycle of length 1).
    """
    n = len(mask)
    neighbours = [np.flatnonzero(row).tolist() for row in mask]
    position = [-1] * n  # on the current path, or -1
    visited = [False] * n
    for root in range(n):
        if visited[root]:
            continue
        path, cursors = [root], [iter(neighbours[root])]
        position[root], visited[root] = 0, True
        came_from = [-1]
        while path:
            node = path[-1]
            for nxt in cursors[-1]:
                if nxt == came_from[-1]:
                    continue  # the edge just walked
                if position[nxt] >= 0:
                    return len(path) - position[nxt]
                if not visited[nxt]:
                    visited[nxt], position[nxt] = True, len(path)
                    path.append(nxt)
                    cursors.append(iter(neighbours[nxt]))
                    came_from.append(node)
                    break
            else:
                position[path.pop()] = -1
                cursors.pop()
                came_from.pop()
    return 0


def select_uncorrelated(correlation: pd.DataFrame, threshold: float = 0.9) -> list[str]:
    """The stated rule for keeping uncorrelated properties (paper section 5.1, which gives none).

    While two of the properties have an absolute correlation of at least the threshold, the one of the most correlated pair that is more correlated
    with all the others, on average, is dropped. Properties without variation (NaN correlations) are dropped first.

    Args:
        correlation: square, with names.
        threshold: in (0, 1].

    Returns:
        The names that are kept, in their order.
    """
    kept = [c for c in correlation.columns if np.isfinite(correlation.loc[c, c])]
    while len(kept) > 1:
        strength = correlation.loc[kept, kept].abs().to_numpy(copy=True)
        np.fill_diagonal(strength, 0.0)
        strength = np.nan_to_num(strength)
        i, j = np.unravel_index(np.argmax(strength), strength.shape)
        if strength[i, j] < threshold:
            break
        kept.pop(int(i if strength[i].mean() >= strength[j].mean() else j))
    return kept
