"""The strongest ways that others offer to train many small masked networks side by side on one
core: ``torch.func`` (vmap and grad, fused Adam) and JAX (vmap, jit, scan).

Each trains K networks of one seed under ``calibrated`` or a protocol like it: the same masks,
initial weights, batches and learning rates as the engine, and the same three accuracies at the end.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bogp.graphs.relational import LayerMasks
from bogp.training import engine
from bogp.training.protocols import Protocol

Part = tuple[Tensor, Tensor]  # images (N, pixels) float32 in [0, 1], labels (N,)


def has_jax() -> bool:
    """Whether JAX is installed (the extra ``peers``)."""
    return find_spec("jax") is not None


def with_torch_func(
    masks: Sequence[LayerMasks], seed: int, protocol: Protocol, parts: Sequence[Part]
) -> tuple[np.ndarray, np.ndarray]:
    """Train with ``torch.func``.

    Args:
        masks: of K networks.
        seed: of all of them.
        protocol: mini-batches, plain blocks.
        parts: training, validation and test part.

    Returns:
        (K,) loss before the last step, and (K,) test accuracy.
    """
    (x, y), validation, test = parts
    start, kept = _start(masks, seed, protocol), _kept(masks, protocol)
    parameters = [(w * m).requires_grad_() for (w, _), m in zip(start, kept, strict=True)]
    biases = [b.clone().requires_grad_() for _, b in start]
    adam = torch.optim.Adam([*parameters, *biases], lr=protocol.learning_rate, fused=True)

    def logits(weights: list[Tensor], shifts: list[Tensor], images: Tensor) -> Tensor:
        for i, (weight, shift) in enumerate(zip(weights, shifts, strict=True)):
            images = torch.nn.functional.linear(images.relu() if i else images, weight, shift)
        return images

    def loss(weights: list[Tensor], shifts: list[Tensor], images: Tensor, labels: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(logits(weights, shifts, images), labels)

    gradients = torch.func.vmap(
        torch.func.grad_and_value(loss, argnums=(0, 1)), in_dims=(0, 0, None, None)
    )
    order, value = engine.batches(seed, len(x), protocol), torch.zeros(len(masks))
    for step in range(protocol.steps):
        batch = next(order)
        (of_weights, of_biases), value = gradients(parameters, biases, x[batch], y[batch])
        for parameter, gradient, mask in zip(parameters, of_weights, kept, strict=True):
            parameter.grad = gradient * mask
        for bias, gradient in zip(biases, of_biases, strict=True):
            bias.grad = gradient
        adam.param_groups[0]["lr"] = protocol.learning_rate_at(step)
        adam.step()
    with torch.no_grad():
        several = torch.func.vmap(logits, in_dims=(0, 0, None))
        accuracies = [
            (several(parameters, biases, images).argmax(2) == labels).double().mean(1)
            for images, labels in ((x[: len(validation[0])], y[: len(validation[0])]), test)
        ]
        several(parameters, biases, validation[0]).argmax(2)  # the third accuracy's work
    return value.detach().numpy(), accuracies[-1].numpy()


def with_jax(
    masks: Sequence[LayerMasks], seed: int, protocol: Protocol, parts: Sequence[Part]
) -> Any:
    """The same with JAX; returns a function without arguments that trains, compiled at its first
    call.
    """
    import jax
    import jax.numpy as jnp

    data = [(jnp.asarray(x.numpy()), jnp.asarray(y.numpy())) for x, y in parts]
    (x, y), validation, test = data
    order = engine.batches(seed, len(x), protocol)
    batches = jnp.asarray(np.stack([next(order).numpy() for _ in range(protocol.steps)]))
    rates = jnp.asarray(
        [protocol.learning_rate_at(step) for step in range(protocol.steps)], jnp.float32
    )
    kept = [jnp.asarray(m.numpy()) for m in _kept(masks, protocol)]
    start = [
        (jnp.asarray(w.numpy()) * m, jnp.asarray(b.numpy()))
        for (w, b), m in zip(_start(masks, seed, protocol), kept, strict=True)
    ]

    def logits(layers: Any, images: Any) -> Any:
        for i, (weight, bias) in enumerate(layers):
            images = (jax.nn.relu(images) if i else images) @ weight.T + bias
        return images

    def loss(layers: Any, images: Any, labels: Any) -> Any:
        log_p = jax.nn.log_softmax(logits(layers, images))
        return -jnp.take_along_axis(log_p, labels[:, None], 1).mean()

    gradients = jax.vmap(jax.value_and_grad(loss), in_axes=(0, None, None))
    tree = jax.tree_util.tree_map

    def one_step(state: Any, given: Any) -> Any:
        layers, mean, square, step = state
        batch, rate = given
        value, gradient = gradients(layers, x[batch], y[batch])
        gradient = [(w * m, b) for (w, b), m in zip(gradient, kept, strict=True)]
        mean = tree(lambda m, g: 0.9 * m + 0.1 * g, mean, gradient)
        square = tree(lambda s, g: 0.999 * s + 0.001 * g * g, square, gradient)
        size, root = rate / (1 - 0.9**step), 1 / jnp.sqrt(1 - 0.999**step)
        layers = tree(
            lambda p, m, s: p - size * m / (jnp.sqrt(s) * root + 1e-8), layers, mean, square
        )
        return (layers, mean, square, step + 1), value

    @jax.jit
    def train() -> Any:
        zeros = tree(jnp.zeros_like, start)
        state, values = jax.lax.scan(
            one_step, (start, zeros, zeros, jnp.float32(1)), (batches, rates)
        )
        several = jax.vmap(logits, in_axes=(0, None))
        accuracies = [
            (several(state[0], images).argmax(2) == labels).mean(1)
            for images, labels in ((x[: len(validation[0])], y[: len(validation[0])]), test)
        ]
        seen = several(state[0], validation[0]).argmax(2).sum()
        return values[-1], accuracies[-1], accuracies[0], seen

    def run() -> tuple[np.ndarray, np.ndarray]:
        value, accuracy, *_ = jax.block_until_ready(train())
        return np.asarray(value), np.asarray(accuracy)

    return run


def _start(masks: Sequence[LayerMasks], seed: int, protocol: Protocol) -> list[Part]:
    return [
        (w.expand(len(masks), -1, -1).clone(), b.expand(len(masks), -1).clone())
        for w, b in engine.initial_layers(seed, protocol)
    ]


def _kept(masks: Sequence[LayerMasks], protocol: Protocol) -> list[Tensor]:
    """One layer's masks of all networks as numbers, (K, d_out, d_in)."""
    shapes = [(w.shape[1], w.shape[2]) for w, _ in engine.initial_layers(0, protocol)]
    return [
        torch.stack(
            [
                torch.ones(shape) if own[i] is None else torch.from_numpy(own[i]).float()
                for own in masks
            ]
        )
        for i, shape in enumerate(shapes)
    ]
