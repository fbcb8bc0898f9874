"""Bipartite invariants: what a network can know of a mask between layers of exchangeable units.

A mask between two layers of units that are drawn alike is a bipartite graph, rows (outputs) on one
side and columns (inputs) on the other. Renumbering either side is a symmetry of the network, so
only what both renumberings leave as it is can be related to how well the network learns (notebook
08). Of a mask M with row degrees r and column degrees c:

``dead_outputs``, ``dead_inputs``
    rows and columns without a one
``output_degree_sd``, ``input_degree_sd``
    standard deviation of r and of c
``degree_product``
    sum of r_i c_j over the ones (the s-metric of the bipartite graph)
``four_cycles``
    pairs of rows that share two columns: sum of C(m, 2) over the pairs' common columns m
``largest_singular``, ``singular_gap``
    the largest singular value, and its distance to the second
``effective_rank``
    exp of the entropy of the squared singular values' shares (after Roy & Vetterli 2007, who take
    the values themselves); 0 without ones
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from bogp.checks import refuse, texts
from bogp.graphs.database import MaskDatabase
from bogp.graphs.relational import Mask

Values = NDArray[np.float64]
_BLOCK = 64  # masks a thread takes at a time


def measure(masks: ArrayLike, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Measure the bipartite invariants of every mask.

    Args:
        masks: (d_out, d_in) or (N, d_out, d_in), of zeros and ones; they need not be symmetric.
        columns: the invariants wanted, among ``INVARIANTS``; None is all.

    Returns:
        A table of N rows with those columns, in that order, float64.

    Raises:
        InvalidInput: the masks are no matrices of zeros and ones, or an invariant is unknown.
    """
    wanted = INVARIANTS if columns is None else columns
    refuse(
        isinstance(wanted, str) or not set(texts("columns", wanted)) <= set(INVARIANTS),
        f"columns is {columns!r}; name invariants among {', '.join(INVARIANTS)}.",
    )
    graphs = _Bipartite(_matrices(masks))
    return pd.DataFrame({name: _INVARIANTS[name](graphs) for name in wanted}, dtype=np.float64)


def with_invariants(database: MaskDatabase) -> MaskDatabase:
    """The database with the invariants as further columns of its table, so that they can be
    searched as properties are.
    """
    return database.with_columns(measure(database.masks()))


def degree_sequences(masks: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row degrees (N, d_out) and column degrees (N, d_in), each in descending order."""
    graphs = _Bipartite(_matrices(masks))
    return -np.sort(-graphs.rows, axis=1), -np.sort(-graphs.columns, axis=1)


def singular_values(masks: ArrayLike) -> Values:
    """(N, min(d_out, d_in)) singular values of each mask, in descending order."""
    return _Bipartite(_matrices(masks)).singular


def exchangeable_pair(mask: Mask) -> tuple[Mask, Mask]:
    """Two masks of one bipartite graph: I (x) A and X (x) A with X = [[0, 1], [1, 0]], which is the
    first with two halves of its rows swapped.

    As relational graphs they differ: the first is two copies of A and disconnected; the second is
    connected if A's is and has an odd cycle, and has no triangle, for it is bipartite.

    Args:
        mask: A, (n, n), symmetric.

    Returns:
        Two symmetric (2n, 2n) masks.

    Example:
        Two triangles and a hexagon.

        >>> triangle = ~np.eye(3, dtype=bool)
        >>> triangles, hexagon = exchangeable_pair(triangle)
        >>> from bogp.graphs.properties import measure as properties
        >>> properties([triangles, hexagon], ["clustering"])["clustering"].tolist()
        [1.0, 0.0]
        >>> measure([triangles, hexagon])["largest_singular"].tolist()
        [2.0, 2.0]
    """
    return np.kron(np.eye(2, dtype=bool), mask), np.kron(~np.eye(2, dtype=bool), mask)


@dataclass
class _Bipartite:
    """N masks, and what several invariants are made of, computed once and only when asked for."""

    masks: NDArray[np.float64]  # (N, d_out, d_in)

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        return self.masks.sum(axis=2).astype(np.int64)

    @cached_property
    def columns(self) -> NDArray[np.int64]:
        return self.masks.sum(axis=1).astype(np.int64)

    @cached_property
    def singular(self) -> Values:
        """A symmetric matrix has its eigenvalues' sizes, which are found in half the time."""
        square = self.masks.shape[1] == self.masks.shape[2]
        if square and (self.masks == self.masks.transpose(0, 2, 1)).all():
            return -np.sort(-np.abs(_in_blocks(np.linalg.eigvalsh, self.masks)), axis=1)
        return _in_blocks(partial(np.linalg.svd, compute_uv=False), self.masks)


def _in_blocks(function: Callable[[Any], Any], masks: Values) -> Values:
    """Blocks of masks on all cores; LAPACK on one thread each, so that bits do not depend on their
    number.
    """
    blocks = np.split(masks, range(_BLOCK, len(masks), _BLOCK))
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.concatenate(list(pool.map(function, blocks)))


def _four_cycles(graphs: _Bipartite) -> Values:
    # sums of whole numbers far below 2^53: exact
    def ordered_pairs(masks: Values) -> Values:
        common = masks @ masks.transpose(0, 2, 1)
        return np.einsum("bij,bij->b", common, common - 1)

    own = (graphs.rows * (graphs.rows - 1)).sum(axis=1)
    return (_in_blocks(ordered_pairs, graphs.masks) - own) / 4


def _effective_rank(graphs: _Bipartite) -> Values:
    power = graphs.singular**2
    share = power / np.maximum(power.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    entropy = -(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=1)
    return np.where(power.any(axis=1), np.exp(entropy), 0.0)


def _gap(graphs: _Bipartite) -> Values:
    values = graphs.singular
    return values[:, 0] - (values[:, 1] if values.shape[1] > 1 else 0.0)


_INVARIANTS: dict[str, Callable[[_Bipartite], Values]] = {
    "dead_outputs": lambda graphs: (graphs.rows == 0).sum(axis=1),
    "dead_inputs": lambda graphs: (graphs.columns == 0).sum(axis=1),
    "output_degree_sd": lambda graphs: graphs.rows.std(axis=1),
    "input_degree_sd": lambda graphs: graphs.columns.std(axis=1),
    "degree_product": lambda graphs: (
        graphs.rows * np.einsum("bij,bj->bi", graphs.masks, graphs.columns)
    ).sum(axis=1),
    "four_cycles": _four_cycles,
    "largest_singular": lambda graphs: graphs.singular[:, 0],
    "singular_gap": _gap,
    "effective_rank": _effective_rank,
}
INVARIANTS = tuple(_INVARIANTS)


def _matrices(masks: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(masks)
    refuse(
        array.ndim not in (2, 3) or array.size == 0,
        f"Bipartite masks are matrices, (d_out, d_in) or (N, d_out, d_in); this has shape "
        f"{array.shape}.",
    )
    refuse(
        not (np.issubdtype(array.dtype, np.number) or array.dtype == bool)
        or not ((array == 0) | (array == 1)).all(),
        "A mask holds zeros and ones, or booleans; other values were found.",
    )
    batch = array if array.ndim == 3 else array[None]
    return batch.astype(np.float64)
