"""The networks of the table and what they are called with: from a configuration, with random
weights of which none are trivial.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.compatibility.names import LENGTH, VOCABULARY, Architecture
from benchmarks.compatibility.stubs import make_importable

# A model is called with a tuple of positional arguments, or a dict of keyword arguments.
Inputs = tuple[Any, ...] | dict[str, Any]


def built(architecture: Architecture, seed: int = 0) -> nn.Module:
    """The network in evaluation mode, its weights drawn from the seed."""
    torch.manual_seed(seed)
    make = {"torchvision": _torchvision, "timm": _timm, "transformers": _transformers}
    model: nn.Module = make[architecture.library](architecture)
    perturb(model.eval(), seed)
    settle(model, call_inputs=example(architecture, 2 * architecture.examples, seed=seed + 1))
    return model


def _torchvision(architecture: Architecture) -> nn.Module:
    make_importable()
    models = importlib.import_module("torchvision.models")
    # No weights at all, also none of a backbone, which some functions fetch by default.
    settings = {"weights": None, "weights_backbone": None} | dict(architecture.settings)
    function = models.get_model_builder(architecture.name)
    if "weights_backbone" not in inspect.signature(function).parameters:
        del settings["weights_backbone"]
    return function(**settings)


def _timm(architecture: Architecture) -> nn.Module:
    make_importable()  # timm imports torchvision
    timm = importlib.import_module("timm")
    return timm.create_model(architecture.name, pretrained=False, **architecture.settings)


def _transformers(architecture: Architecture) -> nn.Module:
    make_importable()
    library = importlib.import_module("transformers")
    configuration = getattr(library, architecture.configuration)(**architecture.settings)
    return getattr(library, architecture.name)(configuration)


def perturb(model: nn.Module, seed: int = 0) -> None:
    """Draw what is constant: biases and scales that begin at zero or one.

    A branch that begins as zero, or as the identity, would make wrong removals look right.
    """
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point() and _constant(parameter):
                parameter += 0.1 * torch.randn(parameter.shape, generator=draw).to(parameter)


def settle(model: nn.Module, call_inputs: Inputs) -> None:
    """Let batch norms know the statistics of what reaches them.

    With those that they begin with, the values of a deep network vanish or explode, and its outputs
    hardly depend on its inputs.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    with torch.no_grad():
        if norms:
            call(model, call_inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval()
        norm.momentum = momentum


def _constant(parameter: Tensor) -> bool:
    return bool(parameter.numel()) and bool((parameter == parameter.flatten()[0]).all())


def example(
    architecture: Architecture, count: int = 0, length: int = LENGTH, seed: int = 0
) -> Inputs:
    """What the network is called with, as people call it.

    Args:
        architecture: says which kind.
        count: of examples; 0 is what the table says.
        length: of texts, tokens.
        seed: of the values.
    """
    draw = torch.Generator().manual_seed(seed)
    count = count or architecture.examples
    return INPUTS[architecture.inputs](draw, count, architecture.size, length)


def _normal(draw: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=draw)


def _text(draw: torch.Generator, count: int, length: int) -> dict[str, Tensor]:
    """Token ids, and a mask: the first text is two tokens shorter and padded with zeros."""
    # 0, 1 and 2 are the padding, the beginning and the end
    ids = torch.randint(3, VOCABULARY, (count, length), generator=draw)
    mask = torch.ones_like(ids)
    ids[0, -2:], mask[0, -2:] = 0, 0
    return {"input_ids": ids, "attention_mask": mask}


def _two_texts(draw: torch.Generator, count: int, length: int) -> dict[str, Tensor]:
    target = torch.randint(3, VOCABULARY, (count, length - 4), generator=draw)
    return _text(draw, count, length) | {"decoder_input_ids": target}


INPUTS: dict[str, Callable[[torch.Generator, int, int, int], Inputs]] = {
    "image": lambda draw, n, size, _: (_normal(draw, n, 3, size, size),),
    "two images": lambda draw, n, size, _: (
        _normal(draw, n, 3, size, size),
        _normal(draw, n, 3, size, size),
    ),
    "video": lambda draw, n, size, _: (_normal(draw, n, 3, 4, size, size),),
    "text": lambda draw, n, _, length: _text(draw, n, length),
    "plain text": lambda draw, n, _, length: {"input_ids": _text(draw, n, length)["input_ids"]},
    "two texts": lambda draw, n, _, length: _two_texts(draw, n, length),
    "pixels": lambda draw, n, size, _: {"pixel_values": _normal(draw, n, 3, size, size)},
    "sound": lambda draw, n, size, _: {"input_values": _normal(draw, n, size)},
    "spectrogram": lambda draw, n, size, length: {
        "input_features": _normal(draw, n, 16, size),
        "decoder_input_ids": torch.randint(3, VOCABULARY, (n, length), generator=draw),
    },
    "text and image": lambda draw, n, size, length: {
        **_text(draw, n, length),
        "pixel_values": _normal(draw, n, 3, size, size),
    },
}
HAS_LENGTH = ("text", "plain text", "two texts", "spectrogram", "text and image")


def call(model: Callable[..., Any], inputs: Inputs) -> Any:
    """The model's outputs."""
    return model(**inputs) if isinstance(inputs, dict) else model(*inputs)


def tensors(value: Any) -> list[Tensor]:
    """All tensors of an output, in order: of containers, and of other objects such as caches."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        parts = list(value.values())
    elif isinstance(value, (list, tuple)):
        parts = list(value)
    elif isinstance(value, (type, nn.Module)) or callable(value):
        return []
    else:
        parts = list(getattr(value, "__dict__", {}).values())
    return [tensor for part in parts for tensor in tensors(part)]


def main_output(outputs: Any, count: int) -> Tensor:
    """The first tensor of floating-point numbers with a row for each example.

    Raises:
        ValueError: there is none.
    """
    for tensor in tensors(outputs):
        if tensor.is_floating_point() and tensor.dim() and len(tensor) == count:
            return tensor
    raise ValueError(f"no output has a row for each of {count} examples")
