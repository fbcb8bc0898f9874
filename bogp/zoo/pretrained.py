"""Trained networks, read from the repository: ``zoo.trained("resnet20", seed=0)``.

- ``resnet20``: the ResNet-20 of He et al. (2016) on ``cifar10-12k``; input: (N, 3, 32, 32)
- ``vit``: a vision transformer of 8 blocks on ``cifar10-12k``; input: (N, 3, 32, 32)
- ``char_transformer``: a causal transformer of 8 blocks on the characters of ``wikitext-2``; input:
  (N, T) tokens, T at most 128

Three seeds of each, of the initial weights and of the order of the examples. ``bogp.zoo.train``
made them; how well each does is in ``data/weights/summary.csv``, with the checksum of its weights,
and how it came to that in ``curves.csv``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from bogp import paths, records
from bogp.checks import choice, refuse, whole
from bogp.errors import BogpError
from bogp.zoo import tasks
from bogp.zoo.networks import ResNet20, Transformer, VisionTransformer

SEEDS = (0, 1, 2)
LENGTH = 128  # characters that the transformer reads
CHARACTERS = 96  # the 95 that are most frequent in its training text, and 0 for any other
_ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "resnet20": ResNet20,
    "vit": VisionTransformer,
    "char_transformer": lambda: Transformer(CHARACTERS, LENGTH, width=48, heads=3, blocks=8),
}
NAMES = tuple(_ARCHITECTURES)


def architecture(name: str, seed: int = 0) -> nn.Module:
    """A network as it was before training, in evaluation mode.

    Args:
        name: one of ``NAMES``.
        seed: of the initial weights.

    Raises:
        InvalidInput: there is no such network, or no such seed.
    """
    make = _ARCHITECTURES[choice("trained network", name, NAMES)]
    whole("seed", seed, 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().eval()


def trained(name: str, seed: int = 0) -> nn.Module:
    """A trained network, in evaluation mode and float32, its weights as they were rounded to half
    precision.

    Args:
        name: one of ``NAMES``.
        seed: one of ``SEEDS``.

    Returns:
        The network; each call gives a new one.

    Raises:
        InvalidInput: there is no such network, or none of that seed.
        BogpError: the file of the weights is missing, or is not the one that was written.
    """
    model = architecture(name, seed)
    folder = paths.weights_dir()
    summary = records.read_table(folder / "summary.csv")
    sums = summary[summary["name"] == name].set_index("seed")["sha256"]
    refuse(
        seed not in sums.index,
        f"There is no {name} of seed {seed}; there are: {', '.join(map(str, sums.index))}.",
    )
    path = folder / file_name(name, seed)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BogpError(
            f"{path} cannot be read ({error.strerror}). Restore it from the repository, or train "
            f"it anew: python -m bogp.zoo.train {name} --seeds {seed}"
        ) from None
    refuse(
        hashlib.sha256(content).hexdigest() != sums[seed],
        f"{path} is not what was written: its checksum is not that in summary.csv. Restore it "
        f"from the repository, or train it anew: python -m bogp.zoo.train {name} --seeds {seed}",
        BogpError,
    )
    return from_half(model, content)


def data(name: str) -> tasks.Task:
    """What a trained network learnt from, in the form that it reads.

    It was trained on ``train``, and its epoch was chosen on ``validation``. ``calibration`` and
    ``test`` it has not seen: the former is free for derivatives and importances.

    Args:
        name: one of ``NAMES``.

    Raises:
        InvalidInput: there is no such network.
        DatasetError: the data set is missing or damaged.
    """
    if choice("trained network", name, NAMES) == "char_transformer":
        return tasks.load("wikitext-2", 0, length=LENGTH)
    return tasks.load("cifar10-12k", 0)


def file_name(name: str, seed: int) -> str:
    """Of the weights of a network."""
    return f"{name}_{seed}.safetensors"


def in_half(model: nn.Module) -> bytes:
    """The state of a network as a safetensors file, its floating-point numbers in half
    precision.
    """
    state = {key: _as_type(value, torch.float16) for key, value in model.state_dict().items()}
    return save({key: value.contiguous() for key, value in state.items()})


def from_half(model: nn.Module, content: bytes) -> nn.Module:
    """A network with the state of such a file, in place, in float32 and evaluation mode."""
    model.load_state_dict({k: _as_type(v, torch.float32) for k, v in load(content).items()})
    return model.eval()


def _as_type(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if value.is_floating_point() else value
