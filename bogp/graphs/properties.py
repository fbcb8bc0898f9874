"""The nine graph properties of the paper (section 2.3 and Figure 8), for a whole batch of masks at
once.

The values of networkx on ``nx.from_numpy_array(mask)`` are the definition; a self-loop counts twice
in a degree there, and here. Four stated deviations:

- average degree connectivity is a dictionary in networkx; here it is the mean of its values;
- path length and Wiener index of a disconnected graph are NaN (networkx raises, or gives infinity);
- edge connectivity is the true minimum cut, self-loops ignored (networkx counts them in the minimum
  degree that bounds it);
- eigenvector centrality is the limit of the power iteration from a uniform start, where networkx
  may give up.

``cycle_length`` is what the paper calls the number of cycles: the length of the cycle that
``nx.find_cycle`` happens to find. It depends on how nodes are numbered, so it is no property of the
graph; ``cycle_rank`` (edges - nodes + components) is one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from bogp.checks import refuse, texts
from bogp.compiled import compiled
from bogp.graphs import bitsets
from bogp.graphs.bitsets import lowest, popcount
from bogp.graphs.centrality import eigenvector_centrality
from bogp.graphs.connectivity import edge_connectivity
from bogp.graphs.relational import as_masks

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
PAPER_FIVE = (
    "degree_centrality",
    "clustering",
    "edge_connectivity",
    "eigenvector_centrality",
    "cycle_length",
)

Values = NDArray[np.float64]

_BLOCK = 64  # masks in flight, so that memory does not grow with their number
_ONE = np.uint64(1)


def measure(masks: ArrayLike, columns: Sequence[str] = ALL) -> pd.DataFrame:
    """Measure properties of every mask.

    Args:
        masks: (n, n) or (N, n, n), symmetric, of zeros and ones.
        columns: the properties wanted, among ``ALL``; the others are not computed.

    Returns:
        A table of N rows with those columns, in that order, all float64. ``path_length`` and
        ``wiener_index`` are NaN where the graph is disconnected.

    Raises:
        InvalidInput: the masks are no masks (see ``relational.as_masks``), or a property is
            unknown.
    """
    refuse(
        isinstance(columns, str) or not set(texts("columns", columns)) <= set(ALL),
        f"columns is {columns!r}; name properties among {', '.join(ALL)}.",
    )
    checked = as_masks(masks)
    values = {c: np.empty(len(checked)) for c in columns}
    for start in range(0, len(checked), _BLOCK):
        block = slice(start, start + _BLOCK)
        # one kind of array: compiled once
        graphs = _Graphs(np.require(checked[block], requirements=("C", "W")).view(np.uint8))
        for c in values:
            values[c][block] = _PROPERTIES[c](graphs)
    return pd.DataFrame(values, index=range(len(checked)), columns=list(columns))


@dataclass
class _Graphs:
    """B graphs, and what several properties are made of, computed once and only when asked for."""

    adjacency: NDArray[np.uint8]  # (B, n, n)

    @property
    def n(self) -> int:
        return self.adjacency.shape[-1]

    @cached_property
    def rows(self) -> NDArray[np.uint64]:
        """Neighbours as bits, without self-loops."""
        return bitsets.pack(self.adjacency)

    @cached_property
    def loops(self) -> NDArray[np.int64]:
        return np.einsum("bii->bi", self.adjacency).astype(np.int64)

    @cached_property
    def neighbours(self) -> NDArray[np.int64]:
        """(B, n) their number, without the node itself."""
        return bitsets.sizes(self.rows)

    @cached_property
    def degree(self) -> NDArray[np.int64]:
        """As in networkx: a self-loop counts twice."""
        return self.neighbours + 2 * self.loops

    @cached_property
    def around(self) -> NDArray[np.int64]:
        """(B, n) the neighbours' degrees summed, the node's own too where it has a self-loop."""
        return _degrees_around(self.adjacency, self.degree)

    @cached_property
    def distances(self) -> tuple[Values, Values]:
        """Sum of distances over ordered pairs, NaN where disconnected; and the number of connected
        parts.
        """
        return _distances(self.rows)


def _degree_centrality(graphs: _Graphs) -> Values:
    return graphs.degree.mean(1) / (graphs.n - 1) if graphs.n > 1 else np.ones(len(graphs.degree))


def _s_metric(graphs: _Graphs) -> Values:
    """Product of the degrees at the two ends, summed over the edges."""
    return ((graphs.degree * graphs.around).sum(1) + (graphs.loops * graphs.degree**2).sum(1)) / 2


_PROPERTIES: dict[str, Callable[[_Graphs], Values]] = {
    "degree_centrality": _degree_centrality,
    "degree_connectivity": lambda graphs: _degree_connectivity(graphs.degree, graphs.around),
    "eigenvector_centrality": lambda graphs: eigenvector_centrality(graphs.adjacency),
    "clustering": lambda graphs: _clustering(graphs.rows, graphs.neighbours),
    "path_length": lambda graphs: graphs.distances[0] / max(graphs.n * (graphs.n - 1), 1),
    "s_metric": _s_metric,
    "wiener_index": lambda graphs: graphs.distances[0] / 2,
    "edge_connectivity": lambda graphs: edge_connectivity(graphs.adjacency, graphs.rows),
    "cycle_length": lambda graphs: _cycle_length(graphs.adjacency),
    "cycle_rank": lambda graphs: graphs.degree.sum(1) / 2 - graphs.n + graphs.distances[1],
}


@compiled
def _degrees_around(adjacency: NDArray[np.uint8], degree: NDArray[np.int64]) -> NDArray[np.int64]:
    """A times the degrees."""
    total = np.zeros(degree.shape, np.int64)
    for b in range(len(degree)):
        for i in range(degree.shape[1]):
            around = 0
            for j in range(degree.shape[1]):
                around += adjacency[b, i, j] * degree[b, j]
            total[b, i] = around
    return total


@compiled
def _degree_connectivity(degree: NDArray[np.int64], around: NDArray[np.int64]) -> Values:
    """Mean over the degrees that occur of: neighbours' degrees summed over the nodes of that
    degree, over the sum of those nodes' degrees.
    """
    values = np.empty(len(degree))
    summed, nodes = np.empty(degree.shape[1] + 2, np.int64), np.empty(degree.shape[1] + 2, np.int64)
    for b in range(len(degree)):
        summed[:], nodes[:] = 0, 0
        for i in range(degree.shape[1]):
            summed[degree[b, i]] += around[b, i]
            nodes[degree[b, i]] += 1
        total, occurring = 0.0, 0
        for d in range(len(nodes)):
            if nodes[d]:
                total += summed[d] / (max(d, 1) * nodes[d])
                occurring += 1
        values[b] = total / occurring
    return values


@compiled
def _clustering(rows: NDArray[np.uint64], neighbours: NDArray[np.int64]) -> Values:
    """Mean over the nodes of: the share of pairs of neighbours that are joined; 0 for a node with
    less than two.
    """
    count, n, words = rows.shape
    values = np.empty(count)
    joined = np.empty(n, np.int64)  # ordered pairs of neighbours
    for b in range(count):
        joined[:] = 0
        for i in range(n):
            for first in range(i >> 6, words):
                left = rows[b, i, first]
                if first == i >> 6:
                    left &= ~np.uint64(0) << np.uint64(i & 63)  # each edge once
                while left:
                    j = 64 * first + lowest(left)
                    left &= left - _ONE
                    common = 0
                    for w in range(words):
                        common += popcount(rows[b, i, w] & rows[b, j, w])
                    joined[i] += common
                    joined[j] += common
        total = 0.0
        for i in range(n):
            pairs = neighbours[b, i] * (neighbours[b, i] - 1)
            if pairs > 0:
                total += joined[i] / pairs
        values[b] = total / n
    return values


@compiled
def _distances(rows: NDArray[np.uint64]) -> tuple[Values, Values]:
    """Sum of distances over ordered pairs, NaN where disconnected, and number of connected parts;
    breadth-first from all nodes at once.
    """
    count, n, words = rows.shape
    totals, parts = np.empty(count), np.empty(count)
    # nodes at most so many steps away
    near, grown = np.empty((n, words), np.uint64), np.empty((n, words), np.uint64)
    for b in range(count):
        missing = n * n
        for i in range(n):
            for w in range(words):
                near[i, w] = rows[b, i, w]
                if w == i >> 6:
                    near[i, w] |= _ONE << np.uint64(i & 63)
                missing -= popcount(near[i, w])
        total = n * (n - 1)  # each pair is at least one step apart
        while missing > 0:
            still = _grow(rows[b], near, grown)
            if still == missing:
                break
            total += missing  # each pair not yet reached is at least one step further apart
            missing, near, grown = still, grown, near
        totals[b] = np.nan if missing > 0 else total
        parts[b] = _distinct(near)
    return totals, parts


@compiled
def _grow(rows: NDArray[np.uint64], near: NDArray[np.uint64], grown: NDArray[np.uint64]) -> int:
    """One step further from every node; returns the number of ordered pairs that are still
    missing.
    """
    n, words = rows.shape
    missing = n * n
    for i in range(n):
        for w in range(words):
            grown[i, w] = near[i, w]
        for v in range(words):
            left = rows[i, v]
            while left:
                j = 64 * v + lowest(left)
                left &= left - _ONE
                for w in range(words):
                    grown[i, w] |= near[j, w]
        for w in range(words):
            missing -= popcount(grown[i, w])
    return missing


@compiled
def _distinct(near: NDArray[np.uint64]) -> int:
    """Number of connected parts, from each node's part: the nodes that come first in theirs."""
    parts = 0
    for i in range(len(near)):
        first = True
        for w in range(i >> 6):
            first = first and near[i, w] == 0
        parts += first and lowest(near[i, i >> 6]) == i & 63
    return parts


@compiled
def _cycle_length(adjacency: NDArray[np.uint8]) -> Values:
    """Length of the cycle that ``nx.find_cycle`` returns on each graph with nodes in order, 0 if
    there is none.

    networkx walks depth-first, taking each node's edges in ascending order and no edge twice, and
    stops at the first edge that leads to a node of the path it stands on (a self-loop is a cycle of
    length 1). In an undirected graph every node seen before is on it.
    """
    n = adjacency.shape[1]
    values = np.zeros(len(adjacency))
    path, cursor, depth = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    for b in range(len(adjacency)):
        depth[:] = -1  # not seen yet
        for root in range(n):
            if values[b] > 0:
                break
            if depth[root] < 0:
                depth[root] = 0
                values[b] = _walk(adjacency[b], root, path, cursor, depth)
    return values


@compiled
def _walk(
    adjacency: NDArray[np.uint8],
    root: int,
    path: NDArray[np.int64],
    cursor: NDArray[np.int64],
    depth: NDArray[np.int64],
) -> int:
    """The same from one node; ``path``, ``cursor`` (next neighbour to try) and ``depth`` (of each
    node on the path) are its working space.
    """
    path[0], cursor[0], top = root, 0, 0
    while top >= 0:
        node, nxt = path[top], cursor[top]
        cursor[top] += 1
        if nxt == len(adjacency):
            top -= 1
        elif adjacency[node, nxt] and (
            top == 0 or nxt != path[top - 1]
        ):  # not the edge just walked
            if depth[nxt] >= 0:
                return top + 1 - depth[nxt]
            top += 1
            path[top], cursor[top], depth[nxt] = nxt, 0, top
    return 0


def select_uncorrelated(correlation: pd.DataFrame, threshold: float = 0.9) -> list[str]:
    """The stated rule for keeping uncorrelated properties (paper section 5.1, which gives none).

    While two of the properties have an absolute correlation of at least the threshold, the one of
    the most correlated pair that is more correlated with all the others, on average, is dropped.
    Properties without variation (NaN correlations) are dropped first.

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
