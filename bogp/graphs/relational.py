"""Masks and relational graphs: each becomes the other, a mask is expanded over a layer, and
sparsity is accounted for.

A *mask* is a symmetric n x n matrix of zeros and ones. Node i of its relational graph (You et al.
2020, section 2) is input channel i together with output channel i, and an edge joins i and j where
the mask is one; a one on the diagonal is a self-loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bogp.checks import listed, refuse, whole
from bogp.errors import InvalidInput

if TYPE_CHECKING:  # imported where it is used, so that training needs numpy and torch only
    import networkx as nx

Mask = NDArray[np.bool_]
LayerMasks = tuple[Mask | None, ...]
# of a layer: its weights are as many as the square, and a slip of the hand would fill the memory
MOST_UNITS = 2**16
_LARGE = 256  # nodes from which on a transpose misses the cache, and bits are quicker


def as_masks(masks: ArrayLike) -> Mask:
    """Check one mask or a batch of them.

    Args:
        masks: (n, n) or (N, n, n), any numeric type.

    Returns:
        The same masks as booleans, (N, n, n).

    Raises:
        InvalidInput: a wrong shape, a NaN, a value other than 0 or 1, or asymmetry; the first
            offending mask is named.
    """
    no_values = getattr(masks, "is_meta", False)
    refuse(no_values, "A mask on the device 'meta' has no values; build it on the CPU.")
    try:
        array = _as_array(masks)
    except ValueError:
        raise InvalidInput(
            "Masks are square, (n, n) or (N, n, n); these rows differ in length, so they have "
            "no shape."
        ) from None
    refuse(
        array.dtype == object or not (np.issubdtype(array.dtype, np.number) or array.dtype == bool),
        f"A mask holds numbers 0 and 1 or booleans; this one has type {array.dtype}.",
    )
    refuse(
        array.ndim not in (2, 3) or array.shape[-1] != array.shape[-2] or array.shape[-1] == 0,
        f"Masks are square, (n, n) or (N, n, n) with n >= 1; this has shape {array.shape}.",
    )
    batch = array if array.ndim == 3 else array[None]
    if batch.dtype != bool:
        bad = np.argwhere((batch != 0) & (batch != 1))
        if len(bad):
            raise InvalidInput(
                f"Mask {bad[0, 0]} holds {batch[tuple(bad[0])]} at "
                f"{tuple(map(int, bad[0, 1:]))}; only 0 and 1 are allowed."
            )
        batch = batch.astype(bool)
    skew = ~_symmetric(batch)
    if skew.any():
        raise InvalidInput(
            f"Mask {int(np.argmax(skew))} is not symmetric; a relational graph is undirected, "
            "so mirror its upper triangle."
        )
    return batch


def _symmetric(masks: Mask) -> NDArray[np.bool_]:
    if masks.shape[-1] < _LARGE:
        return (masks == masks.transpose(0, 2, 1)).all(axis=(1, 2))
    from bogp.graphs import bitsets  # needs the compiler, which takes a while to import

    return bitsets.symmetric(masks)


def _as_array(values: Any) -> NDArray[Any]:
    """Numbers as numpy has them; a tensor of torch may have a type, layout or device that it has
    not.
    """
    if not hasattr(values, "to_dense"):
        return np.asarray(values)
    dense = values.detach().cpu().to_dense()
    return np.asarray(dense if dense.is_complex() else dense.double())


def mask_to_graph(mask: ArrayLike) -> nx.Graph:
    """The relational graph of one (n, n) mask: nodes 0..n-1, an edge where the mask is one
    (Mask_to_graph of Algorithm 1).
    """
    import networkx as nx

    checked = _one(mask)
    graph = nx.empty_graph(len(checked))
    graph.add_edges_from(np.argwhere(np.triu(checked)).tolist())
    return graph


def graph_to_mask(graph: nx.Graph) -> Mask:
    """The (n, n) mask of an undirected simple graph (self-loops allowed), nodes in the graph's own
    order.

    Raises:
        InvalidInput: the graph is directed, has parallel edges, or has no nodes.
    """
    import networkx as nx

    refuse(
        graph.is_directed() or graph.is_multigraph() or len(graph) == 0,
        "graph_to_mask takes an undirected graph without parallel edges and with at least "
        "one node.",
    )
    return nx.to_numpy_array(graph, weight=None) > 0


def expand(mask: ArrayLike, d_in: int, d_out: int) -> Mask:
    """Expand a mask over a layer (You et al. 2020, section 2.2): each entry becomes a block.

    Channels are split over the n nodes as evenly as possible; the first ``d mod n`` nodes hold one
    more.

    Args:
        mask: (n, n).
        d_in: input width of the layer, at least n.
        d_out: output width of the layer, at least n.

    Returns:
        (d_out, d_in), the orientation of ``torch.nn.Linear.weight``.

    Raises:
        InvalidInput: the layer has fewer channels than the graph has nodes.
    """
    checked = _one(mask)
    n = len(checked)
    refuse(
        min(whole("d_in", d_in, high=MOST_UNITS), whole("d_out", d_out, high=MOST_UNITS)) < n,
        f"A graph of {n} nodes cannot be laid over a {d_in} x {d_out} layer: each node "
        "needs a channel on both sides.",
    )
    return checked[np.ix_(node_of_channel(d_out, n), node_of_channel(d_in, n))]


def _one(mask: ArrayLike) -> Mask:
    checked = as_masks(mask)
    refuse(
        len(checked) != 1,
        f"One (n, n) mask is needed here; this is a batch of {len(checked)}.",
    )
    return checked[0]


def node_of_channel(width: int, n: int) -> NDArray[np.intp]:
    """(width,) the node, 0 to n - 1, that holds each channel of a layer (see ``expand``)."""
    return np.repeat(np.arange(n), [width // n + (node < width % n) for node in range(n)])


def layer_masks(mask: ArrayLike | None, widths: Sequence[int], layers: Sequence[int]) -> LayerMasks:
    """One mask expanded over chosen layers of a network, the others left dense.

    Args:
        mask: (n, n), or None for the unpruned network.
        widths: layer widths from input to output.
        layers: indices of the layers to mask, such as ``Protocol.masked_layers``.

    Returns:
        One entry a layer: (d_out, d_in), or None where the layer stays dense.

    Raises:
        InvalidInput: a layer that the network does not have, or one that is too small for the
            graph.
    """
    widths, layers = (
        listed("widths", widths),
        [whole("A layer", layer) for layer in listed("layers", layers)],
    )
    unknown = set(layers) - set(range(len(widths) - 1))
    refuse(
        unknown,
        f"Widths {tuple(widths)} make layers 0 to {len(widths) - 2}; {sorted(unknown)} "
        "were asked for.",
    )
    return tuple(
        expand(mask, d_in, d_out) if mask is not None and layer in layers else None
        for layer, (d_in, d_out) in enumerate(zip(widths, widths[1:], strict=False))
    )


def mask_sparsity(masks: ArrayLike) -> NDArray[np.float64]:
    """Share of zeros of each mask: (N, n, n) -> (N,)."""
    return 1.0 - as_masks(masks).mean(axis=(1, 2))


def model_sparsity(masks: LayerMasks, widths: Sequence[int]) -> float:
    """Share of all weights of the network that the layer masks remove; biases are not counted."""
    return 1.0 - sum(int(m.sum()) for m in _full(masks, widths)) / n_weights(widths)


def effective_sparsity(masks: LayerMasks, widths: Sequence[int]) -> float:
    """As ``model_sparsity``, with weights that lie on no path from an input to an output counted as
    pruned.

    A bias is no path: a unit without live inputs is dead although its bias is not zero (Vysogorets
        & Kempe 2023).
    """
    full = _full(masks, widths)
    # which units of each layer an input reaches, and which reach an output, from both ends
    forward = accumulate(
        full, lambda live, m: np.any(m & live, axis=1), initial=np.ones(widths[0], bool)
    )
    backward = accumulate(
        reversed(full),
        lambda live, m: np.any(m & live[:, None], axis=0),
        initial=np.ones(widths[-1], bool),
    )
    units = zip(full, forward, list(backward)[-2::-1], strict=False)
    kept = sum(int((m & before & after[:, None]).sum()) for m, before, after in units)
    return 1.0 - kept / n_weights(widths)


def weight_shapes(widths: Sequence[int]) -> list[tuple[int, int]]:
    """(d_out, d_in) of each layer of a network of such layer widths."""
    return [(d_out, d_in) for d_in, d_out in zip(widths, widths[1:], strict=False)]


def check_layer_masks(masks: LayerMasks, widths: Sequence[int]) -> None:
    """Refuse layer masks that do not fit a network of such layer widths."""
    shapes = weight_shapes(widths)
    refuse(
        len(masks) != len(shapes),
        f"A network of widths {tuple(widths)} has {len(shapes)} layers; "
        f"{len(masks)} layer masks were given.",
    )
    for layer, (mask, shape) in enumerate(zip(masks, shapes, strict=True)):
        if mask is not None and mask.shape != shape:
            raise InvalidInput(
                f"The mask of layer {layer} has shape {mask.shape}; the layer's weight is {shape}."
            )


def n_weights(widths: Sequence[int]) -> int:
    """Number of weights of a network of such layer widths; biases are not counted."""
    return sum(d_out * d_in for d_out, d_in in weight_shapes(widths))


def _full(masks: LayerMasks, widths: Sequence[int]) -> list[Mask]:
    check_layer_masks(masks, widths)
    return [
        np.ones(shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
        for mask, shape in zip(masks, weight_shapes(widths), strict=True)
    ]
