"""Graphs as sets of bits: row i of a graph holds node i's neighbours, 64 to a word, so that one
operation serves 64 nodes.
"""

import numpy as np
from numpy.typing import NDArray

from bogp.compiled import compiled

_ONE = np.uint64(1)
_M1, _M2, _M4, _BYTES = (
    np.uint64(m)
    for m in (0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F, 0x0101010101010101)
)


def pack(adjacency: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The neighbours of each node as bits, self-loops left out: node j is bit ``j % 64`` of word
    ``j // 64``.

    Args:
        adjacency: (B, n, n), of zeros and ones.

    Returns:
        (B, n, ceil(n / 64)); bits past n are zero.
    """
    n = adjacency.shape[-1]
    words = np.zeros((*adjacency.shape[:2], -(-n // 64) * 8), dtype=np.uint8)
    words[..., : -(-n // 8)] = np.packbits(adjacency, axis=2, bitorder="little")
    rows = words.view("<u8").astype(np.uint64, copy=False)
    nodes = np.arange(n)
    rows[:, nodes, nodes // 64] &= ~(_ONE << (nodes % 64).astype(np.uint64))
    return rows


@compiled
def popcount(word: np.uint64) -> int:
    """Number of ones in a word (Wilkes, Wheeler & Gill 1957); the compiler knows the pattern and
    makes one instruction of it.
    """
    word = word - ((word >> _ONE) & _M1)
    word = (word & _M2) + ((word >> np.uint64(2)) & _M2)
    word = (word + (word >> np.uint64(4))) & _M4
    # signed: with an unsigned word numba would go on in floats
    return int(np.int64((word * _BYTES) >> np.uint64(56)))


@compiled
def lowest(word: np.uint64) -> int:
    """Position of the lowest one of a word; 64 for zero."""
    return popcount(~word & (word - _ONE))


@compiled
def sizes(rows: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Number of neighbours of each node: (B, n, words) to (B, n)."""
    found = np.zeros(rows.shape[:2], np.int64)
    for b in range(rows.shape[0]):
        for i in range(rows.shape[1]):
            for w in range(rows.shape[2]):
                found[b, i] += popcount(rows[b, i, w])
    return found
