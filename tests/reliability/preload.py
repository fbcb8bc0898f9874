"""What the server of processes does once, so that each child starts in no time: it imports
everything, and reads the data set. Nobody else imports this.
"""

from bogp import datasets
from tests.reliability import victim  # noqa: F401

_MNIST_5K = datasets.load("mnist-5k")


def _load(name: str) -> datasets.Dataset:
    if name != _MNIST_5K.name:
        raise ValueError(f"The victims train on {_MNIST_5K.name} alone, not on {name}.")
    return _MNIST_5K


datasets.load = _load  # type: ignore[assignment]
