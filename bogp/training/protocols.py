"""What "train and measure" means: frozen, named and hashable settings (paper section 6.3, and the
readings of it).

A ``Protocol`` fixes everything about a training but the data set, the masks and the seed. Its
``id`` is a short hash of those settings, and every stored number carries it: two numbers are
comparable only if their ids agree.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from bogp.checks import choice, is_one_of, listed, number, refuse, texts, whole
from bogp.errors import UnreachableSparsity
from bogp.graphs.relational import MOST_UNITS, n_weights

_CHOICES = {
    "input_scaling": ("unit", "raw"),
    "loss": ("cross_entropy", "softmax_cross_entropy"),
    "optimiser": ("adam",),
    "schedule": ("constant", "linear"),
    "scope": ("hidden", "all", "input"),
    "blocks": ("plain", "residual"),
    "first_layer": ("trained", "bias", "frozen"),
    "split": ("held_out", "reported"),
}


@dataclass(frozen=True)
class Protocol:
    """Architecture, input, loss, optimiser, schedule, mask scope and the split that selection
    reads.

    Attributes:
        name: for people; not part of the id.
        widths: layer widths from input to output; linear layers with ReLU between them.
        input_scaling: ``unit`` divides pixels by 255, ``raw`` leaves them at 0..255.
        loss: ``cross_entropy`` on logits; ``softmax_cross_entropy`` applies a softmax first, as the
            authors' code does.
        optimiser: ``adam`` (betas .9 and .999, eps 1e-8, as in PyTorch).
        learning_rate: of the first step.
        schedule: ``constant``, or ``linear``: step t of T (from 0) has the learning rate times 1 -
            t / T.
        batch_size: images a step; None is full batch. Each epoch is reshuffled and an incomplete
            last batch is left out.
        steps: optimiser steps; with ``check_every`` an upper bound.
        scope: where one mask goes: ``hidden`` the layers between hidden layers, ``all`` every layer
            but the last, ``input`` the first.
        split: ``held_out`` trains on the training part and selects on the validation part;
            ``reported`` trains on both and selects on the test part, which it also reports (as the
            paper and its code do).
        check_every: None, or the number of steps between looks at validation accuracy.
        patience: looks without improvement after which training stops; the best look's weights
            count.
        blocks: what the layers between hidden layers compute: ``plain`` relu(M x + b), or
            ``residual`` x + relu(M x + b), where the first layer has no ReLU: it writes into the
            stream that the blocks add to.
        first_layer: whether the layer that reads the input is trained, its ``bias`` alone, or
            ``frozen`` as it was drawn.
    """

    name: str
    widths: tuple[int, ...] = (784, 128, 128, 10)
    input_scaling: str = "unit"
    loss: str = "cross_entropy"
    optimiser: str = "adam"
    learning_rate: float = 3e-4
    schedule: str = "constant"
    batch_size: int | None = None
    steps: int = 50
    scope: str = "hidden"
    split: str = "held_out"
    check_every: int | None = None
    patience: int | None = None
    blocks: str = "plain"
    first_layer: str = "trained"

    def __post_init__(self) -> None:
        for field in ("steps", "batch_size", "check_every", "patience"):
            if field == "steps" or getattr(self, field) is not None:
                object.__setattr__(self, field, whole(f"Protocol {field}", getattr(self, field), 1))
        for field, allowed in _CHOICES.items():
            refuse(
                not is_one_of(getattr(self, field), allowed),
                f"Protocol {field} is {getattr(self, field)!r}; allowed: {', '.join(allowed)}.",
            )
        texts("Protocol name", [self.name])
        object.__setattr__(
            self, "learning_rate", number("Protocol learning_rate", self.learning_rate)
        )
        widths = [
            whole("A width", w, 1, MOST_UNITS) for w in listed("Protocol widths", self.widths)
        ]
        object.__setattr__(self, "widths", tuple(widths))
        refuse(
            len(self.widths) < 3,
            f"Protocol widths are {self.widths}; at least an input, a hidden and an output width.",
        )
        refuse(
            self.scope == "hidden" and len(self.widths) < 4,
            "Scope 'hidden' needs two hidden layers with a matrix between them; use scope "
            "'input' or 'all'.",
        )
        refuse(
            self.blocks == "residual" and len(set(self.widths[1:-1])) > 1,
            f"Protocol widths are {self.widths}; residual blocks need hidden layers of one width.",
        )
        refuse(
            not 0 < self.learning_rate < math.inf,
            f"Protocol learning_rate is {self.learning_rate}; it must be positive and finite.",
        )
        refuse(
            (self.check_every or 0) > self.steps,
            "Protocol check_every is more than steps: validation would never be looked at.",
        )
        refuse(
            (self.check_every is None) != (self.patience is None),
            "Protocol check_every and patience go together.",
        )

    @property
    def settings(self) -> dict[str, Any]:
        """All settings, JSON-ready. Those that came later are left out at their defaults, under
        which nothing is computed in another way than before there were any.
        """
        later = {"blocks": "plain", "first_layer": "trained"}
        return {k: v for k, v in asdict(self).items() if k not in later or v != later[k]}

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits that change with any setting but the name."""
        settings = {k: v for k, v in self.settings.items() if k != "name"}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return self.learning_rate * (1 - step / self.steps if self.schedule == "linear" else 1)

    @property
    def masked_layers(self) -> tuple[int, ...]:
        """Indices of the layers that the scope puts the mask on (layer 0 reads the input)."""
        last = len(self.widths) - 2
        return {"hidden": tuple(range(1, last)), "all": tuple(range(last)), "input": (0,)}[
            self.scope
        ]

    def training_flops(self, images: int) -> float:
        """Floating-point operations of the matrix products of one training.

        Forward, weight gradient and input gradient cost two operations a weight and image each. The
        first layer needs no input gradient, and a weight gradient only where it is trained; the
        layer behind a frozen one needs no input gradient either.

        Args:
            images: size of the training part.
        """
        first, *rest = (a * b for a, b in zip(self.widths, self.widths[1:], strict=False))
        an_image = 4.0 * first + 6.0 * sum(rest)
        if self.first_layer != "trained":
            an_image -= 2.0 * first
        if self.first_layer == "frozen":
            an_image -= 2.0 * rest[0]
        return self.steps * (self.batch_size or images) * an_image


PAPER = Protocol("paper", split="reported")
LITERAL = replace(PAPER, name="literal", widths=(784, 128, 10), scope="input")
RELEASED = replace(PAPER, name="released", input_scaling="raw", loss="softmax_cross_entropy")
# Chosen by benchmarks/calibrate.py (sweep: data/results/paper/calibration.csv) before any mask was
# trained.
CALIBRATED = Protocol(
    "calibrated", learning_rate=0.01, schedule="linear", batch_size=128, steps=780
)
CONVERGED = Protocol(
    "converged", learning_rate=1e-3, batch_size=128, steps=40_000, check_every=390, patience=10
)

NAMED = {p.name: p for p in (PAPER, LITERAL, RELEASED, CALIBRATED, CONVERGED)}


def named(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        InvalidInput: there is none.
    """
    return NAMED[choice("protocol", name, NAMED)]


def smaller_dense(protocol: Protocol, weights: int, narrow: str) -> Protocol:
    """The protocol of an unpruned network with about so many weights: what a sparse network has to
    beat.

    Args:
        protocol: of the network to make smaller.
        weights: to come as near to as whole units allow.
        narrow: ``all`` gives all hidden layers one width, ``last`` narrows the last hidden layer
            alone.

    Raises:
        InvalidInput: an unknown ``narrow``.
        UnreachableSparsity: even a width of one unit has more weights, by more than half a unit's.
    """
    refuse(
        not is_one_of(narrow, ("all", "last")),
        f"narrow is {narrow!r}; allowed: all, last.",
    )
    first, *hidden, last = protocol.widths

    def with_width(width: int) -> tuple[int, ...]:
        return (first, *([width] * len(hidden) if narrow == "all" else [*hidden[:-1], width]), last)

    def count(width: int) -> int:
        return n_weights(with_width(width))

    best = min(range(1, max(hidden) + 1), key=lambda width: abs(count(width) - weights))
    refuse(
        count(1) - weights > (count(2) - count(1)) / 2,
        f"A dense network with {weights} weights is asked for; the smallest one of this "
        f"depth has {count(1)}.",
        UnreachableSparsity,
    )
    return resized(protocol, with_width(best))


def resized(protocol: Protocol, widths: Sequence[int]) -> Protocol:
    """The protocol with other layer widths, which its name then carries; for networks without a
    mask.
    """
    return replace(
        protocol,
        name=f"{protocol.name} {'-'.join(map(str, widths))}",
        widths=tuple(widths),
        scope="input",
    )
