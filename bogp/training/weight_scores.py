"""What each weight of a network is worth, how many weights each layer keeps, and which: the
arithmetic of pruning, over plain arrays.

A network is its layers' weights, (d_out, d_in) each, in float64, zero where pruned.
"""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from bogp.errors import InvalidInput
from bogp.parallel import one_thread

Weights = Sequence[NDArray[np.float64]]


def lamp(weights: ArrayLike) -> NDArray[np.float64]:
    """Each squared weight over the sum of those of its layer that are at least as large (Lee et al.
    2021, equation 1).

    Args:
        weights: (d_out, d_in) of one layer.

    Returns:
        (d_out, d_in); the largest weight of a layer has 1, so no layer is emptied before all layers
        are down to one weight.
    """
    square = np.asarray(weights, dtype=np.float64) ** 2
    # of equal weights the first is worth most, as in ``highest``
    order = np.argsort(-square, axis=None, kind="stable")
    falling = square.ravel()[order]
    result = np.empty_like(square)
    result.flat[order] = falling / np.maximum(np.cumsum(falling), np.finfo(np.float64).tiny)
    return result


def snip(
    weights: Weights,
    biases: Weights,
    images: NDArray[np.float64],
    labels: NDArray[np.int64],
    extra_softmax: bool = False,
) -> list[NDArray[np.float64]]:
    """``|gradient x weight|``: how much the loss would feel the weight's removal (Lee et al. 2019,
    equation 6, without its norm, which changes no rank).

    Args:
        weights, biases: (d_out, d_in) and (d_out,) of each layer; ReLU between layers.
        images: (N, d_in) as the network reads them.
        labels: (N,) classes.
        extra_softmax: the loss applies a softmax before its own, see ``Protocol.loss``.

    Returns:
        (d_out, d_in) a layer.
    """
    with one_thread():
        parameters = [torch.from_numpy(w).requires_grad_() for w in weights]
        logits = _forward(parameters, biases, images)
        torch.nn.functional.cross_entropy(
            logits.softmax(dim=1) if extra_softmax else logits, torch.from_numpy(labels)
        ).backward()
        return [(p.grad * p).abs().detach().numpy() for p in parameters if p.grad is not None]


def grasp(
    weights: Weights,
    biases: Weights,
    images: NDArray[np.float64],
    labels: NDArray[np.int64],
    temperature: float = 200.0,
) -> list[NDArray[np.float64]]:
    """``weight x (Hessian x gradient)``: half of how much the squared norm of the gradient would
    fall with the weight's removal, to first order (GraSP: Wang et al. 2020, with the sign turned
    round, so that the highest stay).

    Args:
        weights, biases, images, labels: as in ``snip``.
        temperature: that logits are divided by before the loss, 200 as in its publication.

    Returns:
        (d_out, d_in) a layer.
    """
    with one_thread():
        parameters = [torch.from_numpy(w).requires_grad_() for w in weights]
        logits = _forward(parameters, biases, images) / temperature
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))
        gradients = torch.autograd.grad(loss, parameters, create_graph=True)
        flow = torch.stack([(g.detach() * g).sum() for g in gradients]).sum()
        products = torch.autograd.grad(flow, parameters)
        return [
            (weight * product).detach().numpy()
            for weight, product in zip(parameters, products, strict=True)
        ]


def _forward(
    weights: Sequence[torch.Tensor], biases: Weights, images: NDArray[np.float64]
) -> torch.Tensor:
    """Logits of a network of linear layers with ReLU between them."""
    x = torch.from_numpy(images)
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        x = torch.nn.functional.linear(x if i == 0 else x.relu(), weight, torch.from_numpy(bias))
    return x


def synflow(weights: Weights) -> list[NDArray[np.float64]]:
    """Each weight's share in the sum, over all paths, of the product of absolute weights (Tanaka et
    al. 2020, equation 3).

    Args:
        weights: (d_out, d_in) of each layer.

    Returns:
        (d_out, d_in) a layer; each layer has the same sum, and so has what enters and leaves a
        hidden unit.
    """
    with one_thread():
        layers = [torch.from_numpy(np.abs(w)) for w in weights]
        first, last = layers[0].new_ones(layers[0].shape[1]), layers[-1].new_ones(len(layers[-1]))
        into = accumulate(layers[:-1], lambda flow, layer: layer @ flow, initial=first)
        out = accumulate(layers[:0:-1], lambda flow, layer: layer.T @ flow, initial=last)
        return [
            (layer * a * b[:, None]).numpy()
            for layer, a, b in zip(layers, into, reversed(list(out)), strict=True)
        ]


def highest(
    worth: Weights, alive: Sequence[NDArray[np.bool_]], count: int
) -> list[NDArray[np.bool_]]:
    """The living weights of highest worth, over several layers together.

    Args:
        worth: (d_out, d_in) a layer, finite.
        alive: (d_out, d_in) a layer, True where the weight may stay.
        count: how many stay, at most as many as are alive.

    Returns:
        Masks, (d_out, d_in) a layer, with ``count`` ones in all; of equally worthy weights those
        that stand first stay.

    Raises:
        InvalidInput: fewer weights are alive.
    """
    if not 0 <= count <= sum(int(a.sum()) for a in alive):
        raise InvalidInput(
            f"{count} weights are to stay; {sum(int(a.sum()) for a in alive)} are there."
        )
    flat = np.concatenate(
        [np.where(a, w, -np.inf).reshape(-1) for w, a in zip(worth, alive, strict=True)]
    )
    threshold = np.partition(flat, -count)[-count] if count else np.inf
    keep = flat > threshold
    keep[np.flatnonzero(flat == threshold)[: count - int(keep.sum())]] = True
    parts = np.split(keep, np.cumsum([w.size for w in worth])[:-1])
    return [part.reshape(w.shape) for part, w in zip(parts, worth, strict=True)]


def erk(total: int, shapes: Sequence[tuple[int, int]]) -> list[int]:
    """Weights of each layer in proportion to d_in + d_out, at most all of them (Mocanu et al. 2018,
    Evci et al. 2020).

    Args:
        total: weights of all layers together.
        shapes: (d_out, d_in) of each layer.

    Returns:
        One number a layer; they sum up to ``total`` (largest remainders are rounded up).
    """
    sizes = np.array([d_out * d_in for d_out, d_in in shapes], dtype=np.float64)
    wish = np.array([d_out + d_in for d_out, d_in in shapes], dtype=np.float64)
    full = np.zeros(len(sizes), bool)
    # layers that would need more than all their weights stay dense, and the others share what is
    # left
    while True:
        share = np.where(
            full, sizes, wish * (total - sizes[full].sum()) / max(wish[~full].sum(), 1.0)
        )
        if not (more := share > sizes).any():
            break
        full |= more
    counts = np.floor(share).astype(int)
    counts[np.argsort(counts - share, kind="stable")[: total - counts.sum()]] += 1
    return [int(count) for count in counts]
