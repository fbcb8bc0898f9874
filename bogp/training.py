"""The engine: trains many masked networks in one pass and measures their accuracies (the training step of Algorithms 3 and 4).

The networks of a call share nothing but the data, and each one's arithmetic is its own matrix products in an order that does not
depend on its company: the numbers of a network are the same whichever others are trained beside it. The weights of one layer of all networks lie
in one (K, d_out, d_in) tensor, so that batched products and one fused Adam step serve them all. A pruned weight is zero at the start and its
gradient is zeroed at every step, which is what ``torch.nn.utils.prune`` computes: Adam then never moves it.

Needs numpy and torch only.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bogp.datasets import Dataset, Split
from bogp.errors import InvalidInput
from bogp.protocols import Protocol
from bogp.relational import LayerMasks

ENGINE_VERSION = 1  # raise it when a change alters numbers: stored evaluations of other versions then no longer count
THREADS = 2  # fixed, whatever the machine has, so that the same job gives the same bits; more cores run more workers
TILE_ROWS = 1280  # images x networks in flight: their activations stay in the processor's cache

Layers = list[tuple[Tensor, Tensor]]  # a layer each: weights (K, d_out, d_in), biases (K, d_out)
_DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Training:
    """What training K networks gave.

    Attributes:
        train_accuracy, validation_accuracy, test_accuracy: (K,) shares of images classified correctly, after training. The first is
            measured on the first training images, as many as there are validation images (the order is shuffled and stratified).
            Under the split ``reported`` validation and test are the same images.
        loss: (K, steps) training loss before each step, of that step's batch.
        steps: (K,) optimiser steps behind the measured weights.
        looks: (K, looks) validation accuracy every ``Protocol.check_every`` steps; (K, 0) without.
        weights: on request, the layers after training.
    """

    train_accuracy: NDArray[np.float64]
    validation_accuracy: NDArray[np.float64]
    test_accuracy: NDArray[np.float64]
    loss: NDArray[np.float64]
    steps: NDArray[np.int64]
    looks: NDArray[np.float64]
    weights: Layers | None = None


def train(
    layer_masks: Sequence[LayerMasks],
    seeds: Sequence[int],
    protocol: Protocol,
    dataset: Dataset,
    init: Layers | None = None,
    *,
    precision: str = "float32",
    return_weights: bool = False,
    on_step: Callable[[], object] | None = None,
) -> Training:
    """Train K masked networks side by side.

    Args:
        layer_masks: K tuples with one mask a layer, (d_out, d_in), or None for dense.
        seeds: K seeds; seed k fixes the initial weights (``initial_layers``) and the batch order (``batches``).
        protocol: everything else.
        dataset: the images.
        init: layers to start from instead of the seeds' own; not changed.
        precision: ``float32`` or ``float64``.
        return_weights: also return the trained layers.
        on_step: called after each optimiser step.

    Returns:
        Accuracies on each split, the loss curve, and the weights on request.

    Raises:
        InvalidInput: masks, seeds, protocol and data do not fit each other.
    """
    k = len(seeds)
    train_split, validation, test = _splits(dataset, protocol)
    _check(layer_masks, seeds, protocol, train_split, precision)
    dtype = _DTYPES[precision]
    with _threads(THREADS), torch.no_grad():
        images, labels = _tensors(train_split, protocol, dtype)
        layers = [(w.to(dtype, copy=True), b.to(dtype, copy=True)) for w, b in init or _initial_stack(seeds, protocol)]
        masks = [_mask_stack(per_layer, w.shape, dtype) for per_layer, (w, _) in zip(zip(*layer_masks, strict=True), layers, strict=True)]
        _apply(masks, layers)

        grads = [(torch.zeros_like(w), torch.zeros_like(b)) for w, b in layers]
        for parameter, grad in zip(_flatten(layers), _flatten(grads), strict=True):
            parameter.grad = grad
        adam = torch.optim.Adam(_flatten(layers), lr=protocol.learning_rate, fused=True)
        orders = [batches(seed, len(train_split), protocol) for seed in seeds]
        best = _EarlyStopping(layers, protocol) if protocol.check_every else None
        loss = torch.zeros(k, protocol.steps, dtype=torch.float64)
        step = 0
        while step < protocol.steps:
            adam.zero_grad(set_to_none=False)
            for nets, x, y, share in _tiles(images, labels, [next(o) for o in orders] if protocol.batch_size else None, k):
                loss[nets, step] += _add_gradients(x, y, _slice(layers, nets), _slice(grads, nets), protocol.loss, share)
            _apply(masks, grads)
            adam.param_groups[0]["lr"] = protocol.learning_rate * (1 - step / protocol.steps if protocol.schedule == "linear" else 1)
            adam.step()
            step += 1
            if on_step:
                on_step()
            if best and step % protocol.check_every == 0:  # type: ignore[operator]
                best.look(step, accuracy(layers, validation, protocol))
                if best.finished:
                    break
        steps = best.restore() if best else np.full(k, step)
        sample = Split(train_split.images[: len(validation)], train_split.labels[: len(validation)])
        return Training(
            train_accuracy=accuracy(layers, sample, protocol),
            validation_accuracy=accuracy(layers, validation, protocol),
            test_accuracy=accuracy(layers, test, protocol),
            loss=loss[:, :step].numpy(),
            steps=steps,
            looks=np.stack(best.looks, axis=1) if best else np.empty((k, 0)),
            weights=[(w.detach(), b.detach()) for w, b in layers] if return_weights else None,
        )


def initial_layers(seed: int, protocol: Protocol) -> Layers:
    """The weights that ``torch.manual_seed(seed)`` and ``torch.nn.Linear``, layer after layer, start from; K = 1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        linear = [torch.nn.Linear(d_in, d_out) for d_in, d_out in _shapes(protocol)]
    return [(m.weight.detach()[None], m.bias.detach()[None]) for m in linear]


def batches(seed: int, images: int, protocol: Protocol) -> Iterator[Tensor]:
    """Indices of each step's mini-batch, (batch_size,): a fresh permutation an epoch, an incomplete last batch left out."""
    generator = torch.Generator().manual_seed(seed)
    size = protocol.batch_size or images
    while True:
        order = torch.randperm(images, generator=generator)
        yield from order[: images - images % size].split(size)


def accuracy(layers: Layers, split: Split, protocol: Protocol) -> NDArray[np.float64]:
    """Share of a split's images that each of K networks classifies correctly: (K,)."""
    images, labels = _tensors(split, protocol, layers[0][0].dtype)
    correct = torch.zeros(len(layers[0][0]), dtype=torch.int64)
    for nets, x, y, _ in _tiles(images, labels, None, len(correct)):
        for weight, bias in _slice(layers, nets)[:-1]:
            x = torch.baddbmm(bias[:, None], x, weight.transpose(1, 2)).relu_()
        weight, bias = layers[-1][0][nets], layers[-1][1][nets]
        correct[nets] += (torch.baddbmm(bias[:, None], x, weight.transpose(1, 2)).argmax(2) == y).sum(1)
    return correct.numpy() / len(split)


def _add_gradients(x: Tensor, y: Tensor, layers: Layers, grads: Layers, loss: str, share: float) -> Tensor:
    """Forward and backward pass of G networks over one tile.

    Args:
        x, y: (G, c, d_in) and (G, c).
        layers, grads: G networks' parameters, and where their gradients are added up.
        loss: see ``Protocol.loss``.
        share: weight of one image in the mean loss, one over the batch size.

    Returns:
        (G,) this tile's part of the mean loss.
    """
    hidden = [x]  # the input of each layer
    for weight, bias in layers[:-1]:
        hidden.append(torch.baddbmm(bias[:, None], hidden[-1], weight.transpose(1, 2)).relu_())
    logits = torch.baddbmm(layers[-1][1][:, None], hidden[-1], layers[-1][0].transpose(1, 2))
    inputs = logits.softmax(2) if loss == "softmax_cross_entropy" else logits
    log_p = inputs.log_softmax(2)
    value = -log_p.gather(2, y[..., None]).sum((1, 2)).double() * share
    delta = log_p.exp_()
    delta.scatter_add_(2, y[..., None], torch.full_like(y, -1, dtype=delta.dtype)[..., None])
    if loss == "softmax_cross_entropy":  # through the extra softmax: J' d = p * (d - <p, d>)
        delta = inputs * (delta - (inputs * delta).sum(2, keepdim=True))
    delta *= share
    for i in reversed(range(len(layers))):
        grads[i][0].baddbmm_(delta.transpose(1, 2), hidden[i])
        grads[i][1].add_(delta.sum(1))
        if i:
            delta = torch.ops.aten.threshold_backward(torch.bmm(delta, layers[i][0]), hidden[i], 0)  # of ReLU
    return value


def _tiles(images: Tensor, labels: Tensor, order: list[Tensor] | None, k: int) -> Iterator[tuple[slice, Tensor, Tensor, float]]:
    """Cut one batch of K networks into tiles of at most TILE_ROWS rows: (networks, images, labels, weight of an image)."""
    if order is None:  # every network reads all images: a few rows at a time, network after network
        for rows in range(0, len(images), TILE_ROWS):
            x, y = images[None, rows : rows + TILE_ROWS], labels[None, rows : rows + TILE_ROWS]
            for net in range(k):
                yield slice(net, net + 1), x, y, 1.0 / len(images)
        return
    size = len(order[0])
    width = max(1, TILE_ROWS // size)
    for first in range(0, k, width):
        index = torch.stack(order[first : first + width])
        yield slice(first, first + len(index)), images[index], labels[index], 1.0 / size


class _EarlyStopping:
    """Keeps each network's weights at its best look at validation accuracy until its patience ran out."""

    def __init__(self, layers: Layers, protocol: Protocol) -> None:
        self._current, self._patience = _flatten(layers), protocol.patience or 0
        self.looks: list[NDArray[np.float64]] = []
        self._best = [p.clone() for p in self._current]
        k = len(self._current[0])
        self._score = np.full(k, -np.inf)
        self._steps = np.zeros(k, dtype=np.int64)
        self._waited = np.zeros(k, dtype=np.int64)

    def look(self, step: int, score: NDArray[np.float64]) -> None:
        self.looks.append(score)
        better = (score > self._score) & ~self._stopped
        for best, current in zip(self._best, self._current, strict=True):
            best[better] = current[better]
        self._score[better], self._steps[better], self._waited[better] = score[better], step, 0
        self._waited[~better] += 1

    @property
    def _stopped(self) -> NDArray[np.bool_]:
        return self._waited >= self._patience

    @property
    def finished(self) -> bool:
        return bool(self._stopped.all())

    def restore(self) -> NDArray[np.int64]:
        """Put the best weights back; returns the steps behind them, (K,)."""
        for best, current in zip(self._best, self._current, strict=True):
            current.copy_(best)
        return self._steps


def _splits(dataset: Dataset, protocol: Protocol) -> tuple[Split, Split, Split]:
    if protocol.split == "held_out":
        return dataset.train, dataset.validation, dataset.test
    parts = dataset.train, dataset.validation
    whole = Split(np.concatenate([p.images for p in parts]), np.concatenate([p.labels for p in parts]))
    return whole, dataset.test, dataset.test


def _tensors(split: Split, protocol: Protocol, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(split.images).to(dtype)
    if protocol.input_scaling == "unit":
        images /= 255
    return images, torch.from_numpy(split.labels).long()


def _shapes(protocol: Protocol) -> list[tuple[int, int]]:
    return list(zip(protocol.widths, protocol.widths[1:], strict=False))


def _flatten(layers: Layers) -> list[Tensor]:
    return [parameter for layer in layers for parameter in layer]


def _slice(layers: Layers, nets: slice) -> Layers:
    return [(weight[nets], bias[nets]) for weight, bias in layers]


def _initial_stack(seeds: Sequence[int], protocol: Protocol) -> Layers:
    each = {seed: initial_layers(seed, protocol) for seed in set(seeds)}
    return [(torch.cat([each[s][i][0] for s in seeds]), torch.cat([each[s][i][1] for s in seeds])) for i in range(len(_shapes(protocol)))]


def _mask_stack(masks: Sequence[NDArray[np.bool_] | None], shape: torch.Size, dtype: torch.dtype) -> Tensor | None:
    if all(m is None for m in masks):
        return None
    return torch.from_numpy(np.stack([np.ones(shape[1:], dtype=bool) if m is None else m for m in masks])).to(dtype)


def _apply(masks: list[Tensor | None], layers: Layers) -> None:
    for mask, (weight, _) in zip(masks, layers, strict=True):
        if mask is not None:
            weight.mul_(mask)


def _check(layer_masks: Sequence[LayerMasks], seeds: Sequence[int], protocol: Protocol, train_split: Split, precision: str) -> None:
    if not seeds or len(layer_masks) != len(seeds):
        raise InvalidInput(
            f"{len(layer_masks)} networks' masks and {len(seeds)} seeds were given; there must be as many, and at least one."
        )
    for masks in layer_masks:
        if len(masks) != len(protocol.widths) - 1:
            raise InvalidInput(f"Widths {protocol.widths} make {len(protocol.widths) - 1} layers; {len(masks)} layer masks were given.")
        for layer, (mask, (d_in, d_out)) in enumerate(zip(masks, _shapes(protocol), strict=True)):
            if mask is not None and mask.shape != (d_out, d_in):
                raise InvalidInput(f"The mask of layer {layer} has shape {mask.shape}; the layer's weight is {(d_out, d_in)}.")
    if train_split.images.shape[1] != protocol.widths[0]:
        raise InvalidInput(f"Images have {train_split.images.shape[1]} pixels; the protocol's input width is {protocol.widths[0]}.")
    if (protocol.batch_size or 1) > len(train_split):
        raise InvalidInput(f"batch_size {protocol.batch_size} is more than the {len(train_split)} training images.")
    if precision not in _DTYPES:
        raise InvalidInput(f"precision is {precision!r}; allowed: {', '.join(_DTYPES)}.")


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
