"""The engine: trains many masked networks side by side and measures their accuracies (the training step of Algorithms 3 and 4).

Each network is trained from start to end by one thread of a small pool, with its own arithmetic in an order that depends on nothing else: its
numbers are the same whatever is trained beside it, and on however many cores. A training step is written out by hand (no autograd) over tiles of images that
stay in the processor's cache. A pruned weight is zero at the start and its gradient is zeroed at every step, which is what
``torch.nn.utils.prune`` computes: Adam then never moves it.

Needs numpy and torch only.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
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
THREADS = 1  # of each network's arithmetic, whatever the machine has, so that the same job gives the same bits everywhere
TILE_ROWS = 1280  # images in flight: their activations stay in the processor's cache

Layers = list[tuple[Tensor, Tensor]]  # a layer each: weights (K, d_out, d_in), biases (K, d_out)
_DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Training:
    """What training K networks gave.

    Attributes:
        train_accuracy, validation_accuracy, test_accuracy: (K,) shares of images classified correctly, after training. The first is
            measured on the first training images, as many as there are validation images (the order is shuffled and stratified).
            Under the split ``reported`` validation and test are the same images.
        loss: (K, steps) mean training loss before each step, of that step's batch.
        final_loss: (K,) last entry of each loss curve; NaN where training diverged.
        steps: (K,) optimiser steps behind the measured weights.
        looks: (K, looks) validation accuracy every ``Protocol.check_every`` steps; (K, 0) without. Rows of ``loss`` and ``looks`` that ended
            early are filled up with NaN.
        weights: on request, the layers after training.
    """

    train_accuracy: NDArray[np.float64]
    validation_accuracy: NDArray[np.float64]
    test_accuracy: NDArray[np.float64]
    loss: NDArray[np.float64]
    final_loss: NDArray[np.float64]
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
    workers: int | None = None,
    on_step: Callable[[], object] | None = None,
) -> Training:
    """Train K masked networks side by side.

    Args:
        layer_masks: K tuples with one mask a layer, (d_out, d_in), or None for dense.
        seeds: K seeds; seed k fixes the initial weights (``initial_layers``) and the batch order (``batches``).
        protocol: everything else.
        dataset: the images.
        init: layers of K networks to start from instead of the seeds' own; not changed.
        precision: ``float32`` or ``float64``.
        return_weights: also return the trained layers.
        workers: networks trained at a time; None is one a core. It changes the time, never the numbers.
        on_step: called after each optimiser step of each network, from the thread that trains it.

    Returns:
        Accuracies on each split, the loss curves, and the weights on request.

    Raises:
        InvalidInput: masks, seeds, protocol and data do not fit each other.
    """
    splits = _splits(dataset, protocol)
    _check(layer_masks, seeds, protocol, splits[0], precision)
    if init is not None and [(w.shape, b.shape) for w, b in init] != [((len(seeds), o, i), (len(seeds), o)) for i, o in _shapes(protocol)]:
        raise InvalidInput(f"init does not hold the layers of {len(seeds)} networks of widths {protocol.widths}.")
    dtype = _DTYPES[precision]
    data = [_tensors(split, protocol, dtype) for split in splits]
    starts = [initial_layers(seed, protocol) if init is None else _network(init, k) for k, seed in enumerate(seeds)]
    stop = threading.Event()

    def one(k: int) -> _Trained:
        torch.set_num_threads(THREADS)  # of this thread's matrix products
        with torch.no_grad():
            return _train_one(layer_masks[k], seeds[k], starts[k], protocol, data, dtype, stop, on_step)

    threads = torch.get_num_threads()
    with ThreadPoolExecutor(workers or _cores()) as pool:
        try:
            networks = list(pool.map(one, range(len(seeds))))
        except BaseException:  # an interruption must not wait for trainings to end
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            torch.set_num_threads(threads)
    return _collect(networks, protocol, return_weights)


@dataclass
class _Trained:
    """One network after training: its layers, (train, validation, test) accuracy, loss curve, steps behind the layers, and looks."""

    layers: Layers
    accuracy: tuple[float, float, float]
    loss: NDArray[np.float64]
    steps: int
    looks: list[float]


def _train_one(
    layer_masks: LayerMasks,
    seed: int,
    start: Layers,
    protocol: Protocol,
    data: list[tuple[Tensor, Tensor]],
    dtype: torch.dtype,
    stop: threading.Event,
    on_step: Callable[[], object] | None,
) -> _Trained:
    """The training loop of one network; ``data`` is (images, labels) of each split."""
    (images, labels), validation, test = data
    masks = [None if mask is None else torch.from_numpy(np.ascontiguousarray(mask)).to(dtype) for mask in layer_masks]
    layers = [(w[0].to(dtype, copy=True), b[0].to(dtype, copy=True)) for w, b in start]
    _apply(masks, layers)
    grads = [(torch.zeros_like(w), torch.zeros_like(b)) for w, b in layers]
    for parameter, grad in zip(_flatten(layers), _flatten(grads), strict=True):
        parameter.grad = grad
    adam = torch.optim.Adam(_flatten(layers), lr=protocol.learning_rate, fused=True)
    order = batches(seed, len(images), protocol) if protocol.batch_size else None
    best = _EarlyStopping(layers, protocol) if protocol.check_every else None
    loss, step = np.zeros(protocol.steps), 0
    while step < protocol.steps and not (best and best.finished):
        if stop.is_set():
            raise KeyboardInterrupt
        adam.zero_grad(set_to_none=False)
        for x, y, share in _tiles(images, labels, next(order) if order else None):
            loss[step] += _add_gradients(x, y, layers, grads, protocol.loss, share)
        _apply(masks, grads)
        adam.param_groups[0]["lr"] = protocol.learning_rate * (1 - step / protocol.steps if protocol.schedule == "linear" else 1)
        adam.step()
        step += 1
        if on_step:
            on_step()
        if best and step % protocol.check_every == 0:  # type: ignore[operator]
            best.look(step, _accuracy(layers, *validation))
    if best:
        step_of_layers, looks = best.restore(), best.looks
    else:
        step_of_layers, looks = step, []
    sample = len(validation[1])
    measured = _accuracy(layers, images[:sample], labels[:sample]), _accuracy(layers, *validation), _accuracy(layers, *test)
    return _Trained(layers, measured, loss[:step], step_of_layers, looks)


def _collect(networks: list[_Trained], protocol: Protocol, weights: bool) -> Training:
    """Stack K networks; a loss curve or looks that ended early (patience) are filled up with NaN."""
    accuracy = np.array([n.accuracy for n in networks])
    return Training(
        train_accuracy=accuracy[:, 0],
        validation_accuracy=accuracy[:, 1],
        test_accuracy=accuracy[:, 2],
        loss=_filled([n.loss for n in networks]),
        final_loss=np.array([n.loss[-1] for n in networks]),
        steps=np.array([n.steps for n in networks]),
        looks=_filled([np.array(n.looks) for n in networks]),
        weights=[
            (torch.stack([n.layers[i][0].detach() for n in networks]), torch.stack([n.layers[i][1].detach() for n in networks]))
            for i in range(len(protocol.widths) - 1)
        ]
        if weights
        else None,
    )


def _filled(curves: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    table = np.full((len(curves), max(map(len, curves))), np.nan)
    for row, curve in zip(table, curves, strict=True):
        row[: len(curve)] = curve
    return table


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


def _accuracy(layers: Layers, images: Tensor, labels: Tensor) -> float:
    """Share of images that one network classifies correctly."""
    correct = 0
    for x, y, _ in _tiles(images, labels, None):
        for weight, bias in layers[:-1]:
            x = torch.addmm(bias, x, weight.T).relu_()
        correct += int((torch.addmm(layers[-1][1], x, layers[-1][0].T).argmax(1) == y).sum())
    return correct / len(labels)


def _add_gradients(x: Tensor, y: Tensor, layers: Layers, grads: Layers, loss: str, share: float) -> float:
    """Forward and backward pass over one tile.

    Args:
        x, y: images (c, d_in) and labels (c,).
        layers, grads: parameters, and where their gradients are added up.
        loss: see ``Protocol.loss``.
        share: weight of one image in the mean loss, one over the batch size.

    Returns:
        This tile's part of the mean loss.
    """
    hidden = [x]  # the input of each layer
    for weight, bias in layers[:-1]:
        hidden.append(torch.addmm(bias, hidden[-1], weight.T).relu_())
    logits = torch.addmm(layers[-1][1], hidden[-1], layers[-1][0].T)
    inputs = logits.softmax(1) if loss == "softmax_cross_entropy" else logits
    log_p = inputs.log_softmax(1)
    value = -float(log_p.gather(1, y[:, None]).sum(dtype=torch.float64)) * share
    delta = log_p.exp_()
    delta.scatter_add_(1, y[:, None], torch.full_like(delta[:, :1], -1))
    if loss == "softmax_cross_entropy":  # through the extra softmax: J' d = p * (d - <p, d>)
        delta = inputs * (delta - (inputs * delta).sum(1, keepdim=True))
    delta *= share
    for i in reversed(range(len(layers))):
        grads[i][0].addmm_(delta.T, hidden[i])
        grads[i][1].add_(delta.sum(0))
        if i:
            delta = torch.ops.aten.threshold_backward(torch.mm(delta, layers[i][0]), hidden[i], 0)  # through the ReLU
    return value


def _tiles(images: Tensor, labels: Tensor, index: Tensor | None) -> Iterator[tuple[Tensor, Tensor, float]]:
    """Cut a batch (all images, or those of an index) into tiles of TILE_ROWS rows: images, labels, weight of one image in the mean."""
    size = len(images) if index is None else len(index)
    for first in range(0, size, TILE_ROWS):
        rows = slice(first, first + TILE_ROWS) if index is None else index[first : first + TILE_ROWS]
        yield images[rows], labels[rows], 1.0 / size


class _EarlyStopping:
    """Keeps a network's weights at its best look at validation accuracy until the patience has run out."""

    def __init__(self, layers: Layers, protocol: Protocol) -> None:
        self._current, self._patience = _flatten(layers), protocol.patience or 0
        self._best = [p.clone() for p in self._current]
        self._steps, self._waited = 0, 0
        self.looks: list[float] = []

    def look(self, step: int, accuracy: float) -> None:
        self._waited += 1
        if accuracy > max(self.looks, default=-1.0):
            self._best, self._steps, self._waited = [p.clone() for p in self._current], step, 0
        self.looks.append(accuracy)

    @property
    def finished(self) -> bool:
        return self._waited >= self._patience

    def restore(self) -> int:
        """Put the best weights back; returns the steps behind them."""
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


def _network(layers: Layers, k: int) -> Layers:
    return [(weight[k : k + 1], bias[k : k + 1]) for weight, bias in layers]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
