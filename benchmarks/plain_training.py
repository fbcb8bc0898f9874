"""The plain way of training, which the benchmarks compare with: one network after another,
autograd, ``torch.nn.utils.prune``, ``torch.optim.Adam``.

Nothing here is slowed down: data lie in memory as the loop wants them, and PyTorch is used as its
documentation shows.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from bogp.graphs.relational import LayerMasks
from bogp.training.protocols import Protocol

Part = tuple[Tensor, Tensor]  # images (N, 784) float32 in [0, 1], labels (N,)


class Residual(nn.Sequential):
    """Dense, blocks x + relu(M x + b), dense."""

    def forward(self, x: Tensor) -> Tensor:
        first, *blocks, last = self
        x = first(x)
        for block in blocks:
            x = x + block(x).relu()
        return last(x)


def train(
    masks: LayerMasks, seed: int, protocol: Protocol, train: Part, validation: Part, test: Part
) -> tuple[list[float], tuple[float, ...]]:
    """Train one network as anyone would, under ``paper``, ``calibrated`` or a protocol like them.

    Returns:
        Loss before each step; accuracy on as many training images as there are validation images,
        on validation, and on test.
    """
    assert (protocol.loss, protocol.input_scaling, protocol.check_every) == (
        "cross_entropy",
        "unit",
        None,
    )
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for d_in, d_out, mask in zip(protocol.widths, protocol.widths[1:], masks, strict=False):
        layer = nn.Linear(d_in, d_out)
        if mask is not None:
            prune.custom_from_mask(layer, "weight", torch.from_numpy(mask))
        layers.append(layer)
    if protocol.first_layer == "frozen":
        layers[0].requires_grad_(False)
    plain = [module for layer in layers for module in (layer, nn.ReLU())][:-1]
    model = Residual(*layers) if protocol.blocks == "residual" else nn.Sequential(*plain)
    trained = [p for p in model.parameters() if p.requires_grad]
    adam = torch.optim.Adam(trained, lr=protocol.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        adam, lambda step: protocol.learning_rate_at(step) / protocol.learning_rate
    )
    (x, y), losses = train, []
    order = _batches(seed, len(x), protocol.batch_size)
    for _ in range(protocol.steps):
        index = next(order)
        loss = nn.functional.cross_entropy(
            model(x if index is None else x[index]), y if index is None else y[index]
        )
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
        losses.append(loss.detach())
    with torch.no_grad():
        parts = (x[: len(validation[0])], y[: len(validation[0])]), validation, test
        return torch.stack(losses).tolist(), tuple(
            (model(images).argmax(1) == labels).double().mean().item() for images, labels in parts
        )


def _batches(seed: int, images: int, size: int | None) -> Iterator[Tensor | None]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        if size is None:
            yield None
        else:
            order = torch.randperm(images, generator=generator)
            yield from order[: images - images % size].split(size)
