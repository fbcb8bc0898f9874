"""Graphs as sets of bits: row i of a graph holds node i's neighbours, 64 to a word, so that one
operation serves 64 nodes.
"""

import numpy as np
from numpy.typing import NDArray

from bogp.compiled import compiled

_NONE, _ONE = np.uint64(0), np.uint64(1)
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
    rows, nodes = _bits(adjacency), np.arange(adjacency.shape[-1])
    rows[:, nodes, nodes // 64] &= ~(_ONE << (nodes % 64).astype(np.uint64))
    return rows


def symmetric(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether each mask is its own transpose, 64 x 64 bits at a time: (B, n, n) to (B,)."""
    return _symmetric(_bits(masks))


def _bits(matrices: NDArray[np.uint8] | NDArray[np.bool_]) -> NDArray[np.uint64]:
    n = matrices.shape[-1]
    words = np.zeros((*matrices.shape[:2], -(-n // 64) * 8), dtype=np.uint8)
    words[..., : -(-n // 8)] = np.packbits(matrices, axis=2, bitorder="little")
    return words.view("<u8").astype(np.uint64, copy=False)


@compiled
def _symmetric(rows: NDArray[np.uint64]) -> NDArray[np.bool_]:
    count, n, words = rows.shape
    found, square = np.ones(count, np.bool_), np.zeros(64, np.uint64)
    for b in range(count):
        for top in range(words):
            for left in range(top + 1):
                for i in range(64):
                    square[i] = rows[b, 64 * top + i, left] if 64 * top + i < n else _NONE
                _transpose(square)
                for j in range(min(64, n - 64 * left)):
                    found[b] &= square[j] == rows[b, 64 * left + j, top]
    return found


@compiled
def _transpose(square: NDArray[np.uint64]) -> None:
    """Transpose 64 x 64 bits in place: exchange ever smaller squares on both sides of the diagonal
    (Warren 2012, Hacker's Delight, section 7-3).
    """
    side, low = 32, np.uint64(0xFFFFFFFF)  # the lower half of each pair of squares
    while side:
        shift = np.uint64(side)
        for i in range(64):
            if not i & side:
                swapped = ((square[i] >> shift) ^ square[i + side]) & low
                square[i] ^= swapped << shift
                square[i + side] ^= swapped
        side >>= 1
        low ^= low << np.uint64(side)


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
