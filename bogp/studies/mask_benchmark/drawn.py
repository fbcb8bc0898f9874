"""The masks of the benchmark, drawn: each is a function of its sparsity, family and number alone.

A mask is two graphs of 128 nodes, one over the layer that reads the data and one over the layer
behind it. Those of a relational family are the same graph twice; those of a placed family differ.
Settings of a family are drawn anew for each mask, from ranges named before any was trained.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bogp.benchmark.data import NODES
from bogp.errors import UnreachableSparsity
from bogp.graphs import families, placed
from bogp.graphs.relational import LayerMasks, Mask, expand
from bogp.search.generator import numbers
from bogp.studies.claims.crossed import laid_over_all
from bogp.studies.places.designs import SPACE
from bogp.training.protocols import CALIBRATED

SPARSITIES = (0.75, 0.9, 0.95, 0.97, 0.99)
EACH = 800  # masks at each sparsity
RELATIONAL = 70  # of each family below, at each sparsity that it reaches
PROTOCOL = laid_over_all(CALIBRATED)

_SEED = 20  # of all that is drawn here
_TRIES = 1_000  # settings that a sparsity does not allow are drawn again


def _log_uniform(low: float, high: float, rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _loops(rng: np.random.Generator) -> dict[str, Any]:
    return {"diagonal": bool(rng.random() < 0.5)}


# What draws the settings of each relational family.
_SETTINGS: Mapping[str, Callable[[np.random.Generator], dict[str, Any]]] = {
    "bernoulli": lambda rng: {},
    "exact": lambda rng: {},
    "erdos_renyi": _loops,
    "ws_flex": lambda rng: {"rewire": _log_uniform(0.01, 1.0, rng)} | _loops(rng),
    "random_regular": _loops,
    "regular_short_paths": lambda rng: {"swaps": int(_log_uniform(10, 200, rng))} | _loops(rng),
    "barabasi_albert": _loops,
    "stochastic_block": lambda rng: (
        {"blocks": int(2 ** rng.integers(1, 6)), "ratio": _log_uniform(1.0, 128.0, rng)}
        | _loops(rng)
    ),
}
FAMILIES = (*_SETTINGS, "placed", "placed_renumbered")
# At .99 a ring and a tree have too many edges, and regular graphs miss the density by a fifth.
_TOO_DENSE = ("ws_flex", "random_regular", "regular_short_paths", "barabasi_albert")


@dataclass(frozen=True)
class Drawn:
    """One mask and where it comes from.

    Attributes:
        sparsity: asked for.
        family: of ``FAMILIES``.
        number: of the mask in its family and sparsity.
        settings: of the family, JSON-ready.
        first: (n, n) graph over the layer that reads the data.
        hidden: (n, n) graph over the layer behind it.
    """

    sparsity: float
    family: str
    number: int
    settings: Mapping[str, Any]
    first: Mask
    hidden: Mask

    @property
    def id(self) -> str:
        """Such as ``0.95-ws_flex-003``."""
        return f"{self.sparsity:.2f}-{self.family}-{self.number:03d}"

    def layers(self) -> LayerMasks:
        """One mask a layer of the network of ``PROTOCOL``; the last layer stays dense."""
        inputs, units, behind, _ = PROTOCOL.widths
        return expand(self.first, inputs, units), expand(self.hidden, units, behind), None


def counts(sparsity: float, each: int = EACH, relational: int = RELATIONAL) -> dict[str, int]:
    """How many masks of each family there are at a sparsity: ``relational`` of each relational one
    that reaches it, and of the rest two thirds placed and one third placed and renumbered.
    """
    reached = [name for name in _SETTINGS if sparsity < 0.98 or name not in _TOO_DENSE]
    rest = each - relational * len(reached)
    return dict.fromkeys(reached, relational) | {
        "placed": rest - rest // 3,
        "placed_renumbered": rest // 3,
    }


def places(images: Mapping[str, NDArray[np.uint8]]) -> dict[str, placed.Places]:
    """Where the nodes lie, and what varies there, for the training images of each data set."""
    return {name: placed.pixel_places(of, 28, NODES) for name, of in images.items()}


def drawn(sparsity: float, family: str, number: int, where: Mapping[str, placed.Places]) -> Drawn:
    """One mask.

    Args:
        sparsity: of ``SPARSITIES``.
        family: of ``FAMILIES``.
        number: of the mask.
        where: from ``places``; even numbers of a placed family take the first's, odd ones the
            second's.
    """
    rng = np.random.default_rng((_SEED, round(1000 * sparsity), FAMILIES.index(family), number))
    if family in _SETTINGS:
        settings, graph = _relational(sparsity, family, rng)
        return Drawn(sparsity, family, number, settings, graph, graph)
    name = list(where)[number % len(where)]
    seen = where[name] if family == "placed" else placed.renumbered(where[name], rng)
    own = numbers(SPACE, rng.random(len(SPACE)))
    first, hidden = placed.graphs(
        placed.PlacedSettings(**own), seen, sparsity, PROTOCOL.widths, PROTOCOL.masked_layers, rng
    )
    return Drawn(sparsity, family, number, own | {"places": name}, first, hidden)


def _relational(
    sparsity: float, family: str, rng: np.random.Generator
) -> tuple[dict[str, Any], Mask]:
    for _ in range(_TRIES):
        settings = _SETTINGS[family](rng)
        try:
            return settings, families.family(family)(NODES, sparsity, rng, **settings)
        except UnreachableSparsity:
            continue
    raise UnreachableSparsity(f"{family} reaches sparsity {sparsity:g} with none of its settings.")
