"""Renumbering units: the symmetries of a network under training, and networks that differ by one.

Units of a hidden layer are drawn alike, so their numbers mean nothing: renumber them, with the rows
and columns of weights, biases and masks that go with them, and the network computes what it did, at
the start and after every step of training (what a step does to a weight depends on its gradient and
its past alone). Two masks that a renumbering maps onto each other are then one network under two
names: a network cannot know which of them it has. Which renumberings there are depends on where the
mask lies:

1. *One layer between dense layers*: units on both sides, each in their own way. M becomes P M Q.
2. *One graph over consecutive layers*: (M, M, ...) becomes (P1 M P0', P2 M P1', ...). For symmetric
   masks that is no finer than the first: if N = P M Q is symmetric too, then N = N' = Q' M P', so
   with P0 = P2 = Q' and P1 = P the two chains are one, and so on for any number of layers.
3. *One graph over the blocks of a residual stream*: the stream's units are the same before and
   after each block, so one order serves all. M becomes P M P': the graph up to isomorphism.
4. *The layer that reads the data*: inputs mean what they mean. M becomes P M: which unit reads an
   input counts for nothing, which inputs are read together does.

What a renumbering changes can have no influence; ``losses`` shows it, in float64.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from bogp.checks import refuse
from bogp.datasets import Dataset, Split
from bogp.graphs.relational import LayerMasks
from bogp.training import engine
from bogp.training.engine import Layers
from bogp.training.protocols import Protocol

_FEW = 16  # images
# For the input, each hidden layer and the output: the old number of each new unit, None if all stay
Orders = Sequence[NDArray[np.intp] | None]


def renumbered_masks(masks: LayerMasks, orders: Orders) -> LayerMasks:
    """Masks of the same network with its units in other orders.

    Args:
        masks: (d_out, d_in) a layer, or None.
        orders: one more than layers; new unit i of a width is its old unit orders[i].
    """
    return tuple(
        None if mask is None else _moved(mask, after, before)
        for mask, before, after in zip(masks, orders[:-1], orders[1:], strict=True)
    )


def renumbered_layers(layers: Layers, orders: Orders) -> Layers:
    """Weights (K, d_out, d_in) and biases (K, d_out) of the same networks with units in other
    orders; ``orders`` as in ``renumbered_masks``.
    """
    moved = []
    for (weight, bias), before, after in zip(layers, orders[:-1], orders[1:], strict=True):
        weight = weight if before is None else weight[:, :, torch.as_tensor(before)]
        rows = None if after is None else torch.as_tensor(after)
        moved.append((weight, bias) if rows is None else (weight[:, rows], bias[:, rows]))
    return moved


def _moved(mask: NDArray[np.bool_], after: NDArray | None, before: NDArray | None) -> NDArray:
    rows = mask if after is None else mask[after]
    return rows if before is None else rows[:, before]


def losses(
    masks: Sequence[LayerMasks],
    orders: Sequence[Orders],
    protocol: Protocol,
    dataset: Dataset,
    seed: int,
) -> NDArray[np.float64]:
    """Losses of networks that all start from one network's weights, each in an order of its own.

    Where the masks are ``renumbered_masks`` of one another by the same orders, the networks are the
    same and differ by rounding alone. The evaluator keeps trainings from a seed's own weights only,
    so these are trained here, in float64.

    Args:
        masks: of each of K networks.
        orders: of each, as in ``renumbered_masks``.
        protocol: of all.
        dataset: trained on.
        seed: of the initial weights, and of the batches of all.

    Returns:
        (K, steps) mean losses before each step.

    Raises:
        InvalidInput: not one permutation (or None) for each width, or masks that do not fit.
    """
    for order in orders:
        refuse(
            len(order) != len(protocol.widths)
            or any(
                o is not None and sorted(np.asarray(o).tolist()) != list(range(width))
                for o, width in zip(order, protocol.widths, strict=True)
            ),
            f"Orders are one permutation, or None, for each of the widths {protocol.widths}.",
        )
    start = engine.initial_layers(seed, protocol)
    each = [renumbered_layers(start, order) for order in orders]
    init = [
        (torch.cat([one[i][0] for one in each]), torch.cat([one[i][1] for one in each]))
        for i in range(len(start))
    ]
    # accuracies are not asked for: a few images of the parts that are not trained on will do
    validation = dataset.validation
    few = Dataset(
        dataset.name,
        dataset.train,
        validation if protocol.split == "reported" else _head(validation),
        _head(dataset.test),
    )
    return engine.train(masks, [seed] * len(each), protocol, few, init, precision="float64").loss


def _head(part: Split) -> Split:
    return Split(part.images[:_FEW], part.labels[:_FEW])


def loss_gap(losses: NDArray[np.float64]) -> float:
    """Largest ``|a - b| / max(|a|, |b|)`` over the steps of two loss curves, (2, steps); NaN if a
    loss is not finite.
    """
    a, b = losses
    return float(np.max(np.abs(a - b) / np.maximum(np.abs(a), np.abs(b))))
