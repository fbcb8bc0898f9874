"""Pruning methods to compare with: which weights go, by what score, when; as rounds of pruning and
training (paper section 6.2, and its peers).

The paper's baselines repeat "prune by magnitude, then train" one or five times. A ``Method`` says
that, and what other methods do: score the weights, decide how many each layer keeps, remove the
rest, train. Weights only, never biases. What a round leaves is exact to one weight: with n rounds,
round i leaves the share (1 - s)^(i / n) of the weights, so that each round removes the same share
of what is left and the last one reaches s.
"""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bogp.checks import flag, is_one_of, refuse, share, texts, whole
from bogp.datasets import Dataset
from bogp.errors import BogpError, InvalidInput, UnreachableSparsity
from bogp.graphs.relational import LayerMasks, weight_shapes
from bogp.training import weight_scores
from bogp.training.engine import Layers, Prepared, Training, initial_layers, train, training_part
from bogp.training.protocols import Protocol

SCORES = ("magnitude", "lamp", "snip", "grasp", "synflow", "random")
ALLOCATIONS = ("global", "uniform", "erk")
LAYERS = ("all", "masked")
# A change of what follows, or of a score, changes numbers without changing any setting: it raises
# training.ENGINE_VERSION.
SYNFLOW_STEPS = 100  # of pruning, as in its publication: one step would collapse a layer
SNIP_IMAGES = 1_000  # training images, drawn by the seed, on which SNIP and GraSP take gradients
# training t of a network that is not rewound sees batches of seed + t * this: an order of its own
_ROUND_SEED = 2**20
_RANDOM, _SHUFFLE, _IMAGES = 2, 3, 4  # what a seed's further random numbers are for

# weights (d_out, d_in) and biases (d_out,) of each layer
Network = list[tuple[NDArray[np.float64], NDArray[np.float64]]]
Masks = list[NDArray[np.bool_]]


@dataclass(frozen=True)
class Method:
    """A way to choose the weights that are removed.

    Attributes:
        sparsity: share of the weights in ``layers`` that is removed in the end, in (0, 1).
        score: the weights that score highest stay. ``magnitude`` (Han et al. 2015); ``lamp``,
            ``snip``, ``grasp`` and ``synflow``, see ``weight_scores``; ``random``.
        allocation: ``global`` ranks all layers' weights together (Morcos et al. 2019), ``uniform``
            keeps the same share of each layer (Zhu & Gupta 2017), ``erk`` keeps a share in
            proportion to (d_in + d_out) / (d_in d_out) (Mocanu et al. 2018, Evci et al. 2020).
        rounds: of pruning and training.
        pretrain: train the unpruned network before the first round.
        rewind: after pruning, put the initial weights back before training (Frankle & Carbin 2019).
        shuffle: permute the mask within each layer: a control that keeps how many weights each
            layer has, and nothing else (Frankle et al. 2021).
        layers: ``all`` layers, or those that the protocol's scope puts a mask on (``masked``).
        allow_empty: whether a layer may lose all its weights.
    """

    sparsity: float
    score: str = "magnitude"
    allocation: str = "global"
    rounds: int = 1
    pretrain: bool = False
    rewind: bool = False
    shuffle: bool = False
    layers: str = "all"
    allow_empty: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "sparsity", share("A method's sparsity", self.sparsity))
        for field, allowed in (("score", SCORES), ("allocation", ALLOCATIONS), ("layers", LAYERS)):
            refuse(
                not is_one_of(getattr(self, field), allowed),
                f"A method's {field} is {getattr(self, field)!r}; allowed: {', '.join(allowed)}.",
            )
        object.__setattr__(self, "rounds", whole("A method's rounds", self.rounds, 1, 100))
        for field in ("pretrain", "rewind", "shuffle", "allow_empty"):
            object.__setattr__(self, field, flag(f"A method's {field}", getattr(self, field)))
        refuse(
            self.score == "synflow" and self.rounds > 1,
            "synflow prunes in many small steps before one training; it has one round.",
        )
        refuse(
            self.shuffle and self.rounds > 1,
            "Only a mask that is made in one round can be shuffled: what was trained on "
            "it would be lost.",
        )

    @property
    def id(self) -> str:
        """A hash of the settings."""
        return hashlib.sha256(self.settings.encode()).hexdigest()[:16]

    @property
    def settings(self) -> str:
        """The settings as JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def trainings(self) -> int:
        """Networks' worth of training that one result costs."""
        return self.rounds + self.pretrain


# settings of named methods: of those with a number of rounds in their name, and of the others
_IN_ROUNDS: dict[str, dict[str, Any]] = {
    "glob": {},
    "unif": {"allocation": "uniform"},
    "lamp": {"score": "lamp"},
}
_ONCE: dict[str, dict[str, Any]] = {
    "random": {"score": "random", "allocation": "uniform"},
    "erk": {"score": "random", "allocation": "erk"},
    "snip": {"score": "snip"},
    "grasp": {"score": "grasp"},
    "synflow": {"score": "synflow"},
    "lottery": {"pretrain": True, "rewind": True},
    "lamp": {"score": "lamp", "pretrain": True},
}


def named(name: str, sparsity: float, layers: str = "all") -> Method:
    """The method that goes by a name.

    Args:
        name: ``glob_N`` and ``unif_N`` (the paper's, N rounds of magnitude pruning and training),
            ``lamp_N``, ``random``, ``erk``, ``snip``, ``grasp``, ``synflow``, ``lottery``
            (magnitude after training, rewound), ``lamp`` (after training, then trained on); those
            of one round also as ``..._shuffled``.
        sparsity, layers: see ``Method``.

    Raises:
        InvalidInput: there is no method of that name, or its sparsity is out of range.
    """
    texts("A method's name", [name])
    plain = name.removesuffix("_shuffled")
    found = re.fullmatch(r"(glob|unif|lamp)_([1-9]\d?)", plain)
    refuse(
        not found and plain not in _ONCE,
        f"There is no pruning method {name!r}; there are: glob_N, unif_N, lamp_N, random, "
        "erk, snip, grasp, synflow, lottery, lamp.",
    )
    settings = _IN_ROUNDS[found[1]] | {"rounds": int(found[2])} if found else _ONCE[plain]
    return Method(sparsity, layers=layers, shuffle=plain != name, **settings)


@dataclass(frozen=True)
class Fitted:
    """What K networks came to: the last training, and the masks that they were trained under."""

    training: Training
    masks: list[LayerMasks]


def first_masks(
    method: Method, seed: int, protocol: Protocol, dataset: Dataset
) -> LayerMasks | None:
    """The mask that the first training of a network sees.

    Args:
        method: what to do.
        seed: of the network.
        protocol, dataset: as in ``fit``.

    Returns:
        One mask a layer, (d_out, d_in), None where the layer is not pruned; None for all where the
        unpruned network is trained first.

    Raises:
        UnreachableSparsity: no weight would stay.
        InvalidInput: a layer would lose all its weights, and that is not allowed; or the score
            follows paths through the network, and the protocol's blocks are not plain.
    """
    refuse(
        method.score in ("snip", "grasp", "synflow") and protocol.blocks != "plain",
        f"{method.score} follows the signal through plain layers; the protocol has "
        f"{protocol.blocks} blocks. Choose magnitude, lamp or random.",
    )
    _check_counts(method, protocol, seed)
    return (
        None
        if method.pretrain
        else _prune(
            method, 1, _network(initial_layers(seed, protocol), 0), None, seed, protocol, dataset
        )
    )


def fit(
    methods: Sequence[Method],
    seeds: Sequence[int],
    protocol: Protocol,
    dataset: Dataset,
    *,
    first: Sequence[LayerMasks | None] | None = None,
    precision: str = "float32",
    device: str = "cpu",
    prepared: Prepared | None = None,
    on_step: Callable[[int], object] | None = None,
) -> Fitted:
    """Prune and train K networks side by side.

    Args:
        methods: K methods, which agree in rounds, ``pretrain`` and ``rewind``.
        seeds: K seeds, of initial weights, batch order and whatever a method draws.
        protocol, dataset, precision, device, prepared, on_step: of each training, see
            ``training.train``. Adam starts afresh in each.
        first: what ``first_masks`` gave, where it is at hand.

    Returns:
        The last training and the masks behind it.

    Raises:
        InvalidInput: as ``first_masks``, in any round; or the methods do not agree.
        BogpError: a network diverged in a round that others were to follow.
    """
    refuse(
        len({(m.rounds, m.pretrain, m.rewind) for m in methods}) != 1 or len(seeds) != len(methods),
        "Networks that advance together need one seed each, and methods with the same "
        "rounds, pretrain and rewind.",
    )
    one, done = methods[0], 0
    starts = [initial_layers(seed, protocol) for seed in seeds]
    initial = [
        (torch.cat([s[i][0] for s in starts]), torch.cat([s[i][1] for s in starts]))
        for i in range(len(protocol.widths) - 1)
    ]
    masks: list[LayerMasks | None] = (
        [first_masks(m, s, protocol, dataset) for m, s in zip(methods, seeds, strict=True)]
        if first is None
        else list(first)
    )

    def trained(now: Sequence[LayerMasks], start: Layers) -> Training:
        orders = [seed + (0 if one.rewind else done * _ROUND_SEED) for seed in seeds]
        return train(
            now,
            orders,
            protocol,
            dataset,
            start,
            precision=precision,
            device=device,
            prepared=prepared,
            return_weights=True,
            on_step=on_step,
        )

    weights = initial
    if one.pretrain:
        weights, done = trained([(None,) * len(initial)] * len(methods), initial).weights or [], 1
    for number in range(1, one.rounds + 1):
        if done:
            masks = [
                _prune(method, number, _network(weights, k), masks[k], seeds[k], protocol, dataset)
                for k, method in enumerate(methods)
            ]
        now = [mask for mask in masks if mask is not None]
        result = trained(now, initial if one.rewind else weights)
        weights, done = result.weights or [], done + 1
    return Fitted(replace(result, weights=None), now)


def score_weights(
    method: Method, network: Network, alive: Masks, seed: int, protocol: Protocol, dataset: Dataset
) -> list[NDArray[np.float64]]:
    """How much each weight is worth by the method's score.

    Args:
        method: of which ``score`` counts.
        network: weights (d_out, d_in) and biases (d_out,) of each layer; pruned weights count as
            zero.
        alive: (d_out, d_in) a layer, True where the weight has not been pruned.
        seed: of random scores, and of the images of SNIP and GraSP.
        protocol: gives SNIP its loss and input scaling.
        dataset: gives SNIP and GraSP their images.

    Returns:
        (d_out, d_in) a layer.
    """
    weights = [np.where(mask, w, 0.0) for (w, _), mask in zip(network, alive, strict=True)]
    if method.score == "random":
        rng = _generator(seed, _RANDOM)
        return [rng.random(w.shape) for w in weights]
    if method.score == "lamp":
        return [weight_scores.lamp(w) for w in weights]
    if method.score in ("snip", "grasp"):
        part = training_part(dataset, protocol)
        chosen = _generator(seed, _IMAGES).permutation(len(part))[:SNIP_IMAGES]
        seen = (
            [b for _, b in network],
            part.images[chosen] / (255.0 if protocol.input_scaling == "unit" else 1.0),
            part.labels[chosen].astype(np.int64),
        )
        if method.score == "grasp":
            return weight_scores.grasp(weights, *seen)
        return weight_scores.snip(weights, *seen, protocol.loss == "softmax_cross_entropy")
    return (
        weight_scores.synflow(weights)
        if method.score == "synflow"
        else [np.abs(w) for w in weights]
    )


def kept_weights(method: Method, rounds: float, shapes: Sequence[tuple[int, int]]) -> list[int]:
    """How many weights are left after so many rounds.

    Args:
        method: gives sparsity, number of rounds and allocation.
        rounds: that are over; a fraction stands in the middle of one.
        shapes: (d_out, d_in) of the layers that are pruned.

    Returns:
        One number for all those layers together where they are ranked together, else one a layer.

    Raises:
        UnreachableSparsity: no weight would stay.
    """
    sizes = [d_out * d_in for d_out, d_in in shapes]
    density = (1 - method.sparsity) ** (rounds / method.rounds)
    total = round(density * sum(sizes))
    refuse(
        round((1 - method.sparsity) * sum(sizes)) == 0,
        f"{_title(method)} would leave none of {sum(sizes):,} weights; the highest "
        f"sparsity is {1 - 1 / sum(sizes):.6f}.",
        UnreachableSparsity,
    )
    return {
        "global": [total],
        "uniform": [round(density * size) for size in sizes],
        "erk": weight_scores.erk(total, shapes),
    }[method.allocation]


def _prune(
    method: Method,
    number: int,
    network: Network,
    before: LayerMasks | None,
    seed: int,
    protocol: Protocol,
    dataset: Dataset,
) -> LayerMasks:
    """The masks of a network after the pruning of round ``number``; ``before`` it had those."""
    refuse(
        not all(np.isfinite(w).all() for w, _ in network),
        f"The network of seed {seed} diverged in training, so {_title(method)} cannot go "
        "on pruning it. Lower the learning rate.",
        BogpError,
    )
    pruned, shapes = _pruned_layers(method, protocol)
    alive = [
        np.ones(w.shape, bool) if mask is None else mask
        for (w, _), mask in zip(network, before or (None,) * len(network), strict=True)
    ]
    steps = SYNFLOW_STEPS if method.score == "synflow" else 1
    for step in range(1, steps + 1):
        weights = score_weights(method, network, alive, seed, protocol, dataset)
        kept = kept_weights(method, number - 1 + step / steps, shapes)
        together = [pruned] if method.allocation == "global" else [[i] for i in pruned]
        for group, count in zip(together, kept, strict=True):
            stay = weight_scores.highest(
                [weights[i] for i in group], [alive[i] for i in group], count
            )
            alive = [stay[group.index(i)] if i in group else a for i, a in enumerate(alive)]
    if method.shuffle:
        rng = _generator(seed, _SHUFFLE)
        for i in pruned:
            alive[i] = rng.permutation(alive[i].reshape(-1)).reshape(alive[i].shape)
    _refuse_empty(method, protocol, seed, [i for i in pruned if not alive[i].any()])
    return tuple(alive[i] if i in pruned else None for i in range(len(alive)))


def _generator(seed: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose,)))


def _check_counts(method: Method, protocol: Protocol, seed: int) -> None:
    """Refuse a sparsity that no round can reach, and layers that the allocation alone leaves
    without a weight in the end.
    """
    pruned, shapes = _pruned_layers(method, protocol)
    kept = kept_weights(method, method.rounds, shapes)
    if method.allocation != "global":
        _refuse_empty(
            method, protocol, seed, [i for i, count in zip(pruned, kept, strict=True) if count == 0]
        )


def _refuse_empty(method: Method, protocol: Protocol, seed: int, empty: list[int]) -> None:
    if empty and not method.allow_empty:
        d_out, d_in = weight_shapes(protocol.widths)[empty[0]]
        raise InvalidInput(
            f"{_title(method)} would remove every weight of layer {empty[0]} ({d_in} x "
            f"{d_out}) for seed {seed}. "
            "Lower the sparsity, choose another allocation, or allow it with allow_empty=True."
        )


def _pruned_layers(method: Method, protocol: Protocol) -> tuple[list[int], list[tuple[int, int]]]:
    """Their indices and the shapes of their weights."""
    shapes = weight_shapes(protocol.widths)
    chosen = list(range(len(shapes)) if method.layers == "all" else protocol.masked_layers)
    return chosen, [shapes[i] for i in chosen]


def _network(layers: Layers, k: int) -> Network:
    return [(w[k].double().numpy(), b[k].double().numpy()) for w, b in layers]


def _title(method: Method) -> str:
    rounds = f", {method.rounds} rounds" if method.rounds > 1 else ""
    return (
        f"Pruning by {method.score} ({method.allocation}{rounds}) at sparsity {method.sparsity:g}"
    )
