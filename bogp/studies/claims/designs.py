"""How large each experiment of notebook 06 is; the sizes were fixed before the run."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from bogp.checks import choice, refuse, whole
from bogp.search.searchers import SearchSettings
from bogp.training.protocols import Protocol


@dataclass(frozen=True)
class PoolDesign:
    """Sizes of the experiment with pools of graphs (``pools``); the pool is what repeats.

    Attributes:
        pools: independent pools at each sparsity.
        graphs: of a pool, each trained once.
        renumbered: of these, graphs of one family whose nodes are numbered at random.
        chosen: graphs that each arm chooses in a pool.
        fresh_seeds: trainings of each chosen graph from seeds that chose nothing; even, since the
            oracle chooses by one half of them and is judged by the other.
        sparsities: of the graphs, over all layers.

    Raises:
        InvalidInput: sizes that leave no choice, nothing to judge by, or no spread between pools.
    """

    pools: int
    graphs: int
    renumbered: int
    chosen: int
    fresh_seeds: int
    sparsities: tuple[float, ...]

    def __post_init__(self) -> None:
        whole("The number of pools", self.pools, 2)
        whole("The number of renumbered graphs", self.renumbered, 8, self.graphs - 8)
        # half of a pool is learned from, the other half is chosen from
        whole("The number of chosen graphs", self.chosen, 1, self.renumbered // 2 - 1)
        whole("The number of pairs of fresh seeds", self.fresh_seeds // 2, 1)
        refuse(
            self.fresh_seeds % 2 or not self.sparsities,
            f"{self.fresh_seeds} fresh seeds at {self.sparsities}; an even number is needed, and "
            "at least one sparsity.",
        )


@dataclass(frozen=True)
class Design:
    """Sizes of the experiments; where trainings or searches repeat, their number stands last.

    Attributes:
        audited: protocols that the unpruned network is trained under, and seeds.
        bernoulli: Bernoulli masks of each sparsity, and seeds.
        structured: masks of each structured family and sparsity, and seeds.
        released: masks under the protocol ``released``, and seeds.
        changed: over all layers, graphs of each family, changed versions of each, and seeds.
        regions: over all layers, graphs of each family at each sparsity, and seeds.
        converged: graphs of each family that are trained until they stop improving, and seeds.
        defects: evaluations of a search with a defect, and searches with each.
        replays: evaluations of a search on one hidden layer, and searches of each kind.
        slopes: planted slopes at each sparsity (all signs of five properties are 32), evaluations
            of a search, and searches on each.
        pools: sizes of the pools of graphs over all layers.
        changed_sparsity: of ``changed`` and ``converged``.
        steps: of a training, at most, whatever its protocol says.

    Raises:
        InvalidInput: fewer than two repetitions, between which nothing could vary, or nothing to
            repeat.
    """

    audited: tuple[int, int]
    bernoulli: tuple[int, int]
    structured: tuple[int, int]
    released: tuple[int, int]
    changed: tuple[int, int, int]
    regions: tuple[int, int]
    converged: tuple[int, int]
    defects: tuple[int, int]
    replays: tuple[int, int]
    slopes: tuple[int, int, int]
    pools: PoolDesign
    changed_sparsity: float = 0.9
    steps: int = 1_000_000

    @property
    def settings(self) -> dict[str, Any]:
        """All sizes, for provenance records."""
        return asdict(self)

    def shortened(self, protocol: Protocol) -> Protocol:
        """The protocol with as many steps as the design allows; early stopping keeps one look."""
        steps = max(self.steps, protocol.check_every or 0)
        return replace(protocol, steps=min(protocol.steps, steps))

    def __post_init__(self) -> None:
        for name, sizes in asdict(self).items():
            if isinstance(sizes, tuple):
                whole(f"The smallest size of {name}", min(sizes), 1)
                whole(
                    f"The number of repetitions of {name}",
                    sizes[-1],
                    1 if name == "converged" else 2,
                )


NAMED = {
    "smoke": Design(
        audited=(6, 2),
        bernoulli=(6, 2),
        structured=(4, 2),
        released=(2, 2),
        changed=(1, 2, 2),
        regions=(2, 2),
        converged=(2, 1),
        defects=(2, 2),
        replays=(4, 2),
        slopes=(2, 4, 2),
        pools=PoolDesign(2, 32, 12, 3, 2, (0.95,)),
        steps=200,
    ),
    "paper": Design(
        audited=(16, 5),
        bernoulli=(256, 16),
        structured=(128, 8),
        released=(40, 8),
        changed=(4, 4, 4),
        regions=(16, 4),
        converged=(6, 2),
        defects=(25, 10),
        replays=(25, 40),
        slopes=(32, 25, 10),
        pools=PoolDesign(5, 2000, 500, 16, 4, (0.95, 0.97, 0.99)),
    ),
}


def named(name: str) -> Design:
    """The design of that name.

    Raises:
        InvalidInput: there is none.
    """
    return NAMED[choice("design", name, NAMED)]


def search_of(budget: int) -> SearchSettings:
    """The paper's search with another budget, and fewer initial points where need be."""
    return SearchSettings(n_initial=min(5, budget - 1), n_iterations=max(budget - 5, 1))
