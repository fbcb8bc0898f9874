"""Edge connectivity, exactly: the fewest edges whose removal disconnects a graph.

No cut is ever guessed. A set of nodes that no small cut can split is grown until it dominates the
graph, and then no small cut is left:

**Lemma 1** (Matula 1987, "Determining edge connectivity in O(nm)"). A cut of fewer edges than the
minimum degree d has, on each side, a node whose neighbours all lie on that side. *Proof.* A side S
of at most d nodes would cut at least ``|S| (d - |S| + 1) >= d`` edges, as each node has at most
``|S| - 1`` neighbours in S, and the product is concave in ``|S|`` and equals d at 1 and at d. So S
has more nodes than the cut has edges, and one of them touches none. *Hence* a set that dominates
the graph (each node is in it or next to it) has nodes on both sides of such a cut: if no cut of
fewer than b <= d edges splits the set, there is none, and the edge connectivity is at least b.

**Lemma 2.** If no cut of fewer than b edges splits a set, and a node outside has b neighbours in
it, no such cut splits the two together:
it would separate the node from all of the set, and so cut these b edges.

**Lemma 3** (Nagamochi & Ibaraki 1992, "Computing edge-connectivity in multigraphs and capacitated
graphs"; Stoer & Wagner 1997, "A simple min-cut algorithm", lemma 3.1). Number the nodes such that
each in turn has the most edges to those before it. If v has r such edges, no cut of fewer than r
edges separates v from the node numbered just before it.

The set starts as a run of lemma 3 with r >= d. Dense and random graphs are settled by it at once,
with the minimum degree; elsewhere lemma 2 and maximum flows (Ford & Fulkerson 1956) from further
nodes to the set enlarge it.
"""

import numpy as np
from numpy.typing import NDArray

from bogp.compiled import compiled
from bogp.graphs.bitsets import lowest, popcount, sizes

_ONE = np.uint64(1)
_LOW = np.int64(2**32 - 1)  # of a key: the node; above it, the number of edges


@compiled
def edge_connectivity(
    adjacency: NDArray[np.uint8], rows: NDArray[np.uint64]
) -> NDArray[np.float64]:
    """Size of the smallest edge cut of each graph, self-loops ignored; 0 for a disconnected graph
    and for a single node.

    Args:
        adjacency: (B, n, n), of zeros and ones, symmetric.
        rows: (B, n, words) the same as bits, without self-loops (``bitsets.pack``).

    Returns:
        (B,) whole numbers.
    """
    values = np.empty(len(rows))
    degrees = sizes(rows)
    for b in range(len(rows)):
        values[b] = _smallest_cut(adjacency[b], rows[b], degrees[b])
    return values


@compiled
def _smallest_cut(
    adjacency: NDArray[np.uint8], rows: NDArray[np.uint64], degrees: NDArray[np.int64]
) -> int:
    n = len(adjacency)
    best = n
    for degree in degrees:
        best = min(best, degree)
    if best == 0:
        return 0
    inside = _unsplittable(adjacency, best)
    links = np.zeros(n, np.int32)  # of each node, neighbours inside
    for i in range(n):
        if inside[i]:
            _link(links, adjacency, i)
    while best > 0:
        dominating, closest = True, -1
        for i in range(n):
            if not inside[i]:
                dominating = dominating and links[i] > 0
                if closest < 0 or links[i] > links[closest]:
                    closest = i
        if dominating:  # lemma 1
            break
        if links[closest] < best:  # else lemma 2
            closest = _covering(rows, inside, links)
            # of value b: no cut of fewer than b edges splits the two
            best = min(best, _flow(rows, inside, closest, best))
        inside[closest] = True
        _link(links, adjacency, closest)
    return best


@compiled
def _link(links: NDArray[np.int32], adjacency: NDArray[np.uint8], node: int) -> None:
    for i in range(len(links)):
        links[i] += adjacency[node, i]


@compiled
def _unsplittable(adjacency: NDArray[np.uint8], least: int) -> NDArray[np.bool_]:
    """The longest run of nodes, in the order of lemma 3, that have at least that many edges to the
    nodes before them, and the one before the run.
    """
    n = len(adjacency)
    key = np.arange(n)  # edges to the numbered nodes, then the node; negative once numbered
    order = np.empty(n, np.int64)
    step = _LOW + 1
    start, longest, first = 0, 0, 0
    node = 0
    for position in range(n):
        order[position] = node
        key[node] = -(1 << 62)
        row = adjacency[node]
        top = np.int64(-1)
        for i in range(n):
            moved = key[i] + (step if row[i] else 0)
            key[i] = moved
            top = max(top, moved)
        if position + 1 - start > longest:
            longest, first = position + 1 - start, start
        if top >> 32 < least:
            start = position + 1
        node = int(top & _LOW)
    inside = np.zeros(n, np.bool_)
    for position in range(first, first + longest):
        inside[order[position]] = True
    return inside


@compiled
def _covering(rows: NDArray[np.uint64], inside: NDArray[np.bool_], links: NDArray[np.int32]) -> int:
    """The node next to most of the nodes that the set does not dominate, itself included."""
    n, words = rows.shape
    missing = np.zeros(words, np.uint64)
    for i in range(n):
        if not inside[i] and links[i] == 0:
            missing[i >> 6] |= _ONE << np.uint64(i & 63)
    chosen, most = 0, -1
    for i in range(n):
        covered = int(np.int64((missing[i >> 6] >> np.uint64(i & 63)) & _ONE))
        for w in range(words):
            covered += popcount(rows[i, w] & missing[w])
        if covered > most:
            chosen, most = i, covered
    return chosen


@compiled
def _flow(rows: NDArray[np.uint64], inside: NDArray[np.bool_], node: int, limit: int) -> int:
    """Edge-disjoint paths from a node to a set, found breadth-first one by one, up to a limit (Ford
    & Fulkerson 1956, unit capacities).
    """
    n, words = rows.shape
    free = rows.copy()  # bit j of row i: an edge from i to j that carries nothing from i to j
    target = np.zeros(words, np.uint64)
    for i in range(n):
        if inside[i]:
            target[i >> 6] |= _ONE << np.uint64(i & 63)
    parent, queue = np.empty(n, np.int64), np.empty(n, np.int64)
    for found in range(limit):
        end = _path(free, target, node, parent, queue)
        if end < 0:
            return found
        while end != node:
            before = parent[end]
            back = _ONE << np.uint64(before & 63)
            if free[end, before >> 6] & back:
                free[before, end >> 6] &= ~(_ONE << np.uint64(end & 63))
            else:  # the edge carried one the other way: the two cancel
                free[end, before >> 6] |= back
            end = before
    return limit


@compiled
def _path(
    free: NDArray[np.uint64],
    target: NDArray[np.uint64],
    node: int,
    parent: NDArray[np.int64],
    queue: NDArray[np.int64],
) -> int:
    """Where the shortest free path from a node to the target ends, -1 if there is none; the way
    back is left in ``parent``.
    """
    words = len(target)
    unseen = np.full(words, ~np.uint64(0))
    unseen[node >> 6] ^= _ONE << np.uint64(node & 63)
    queue[0], read, written = node, 0, 1
    while read < written:
        here = queue[read]
        read += 1
        for w in range(words):
            hit = free[here, w] & target[w]
            if hit:
                end = 64 * w + lowest(hit)
                parent[end] = here
                return end
        for w in range(words):
            new = free[here, w] & unseen[w]
            unseen[w] ^= new
            while new:
                queue[written] = 64 * w + lowest(new)
                parent[queue[written]] = here
                written += 1
                new &= new - _ONE
    return -1
