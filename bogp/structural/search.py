"""Searches for the mask that removes exactly k edges, keeps the outputs connected and has the least
loss, at a budget of evaluated masks.

Each search is handed ``losses(masks) -> (M,)`` and returns what it evaluated, in order:
``evaluation`` (counted from 1), ``removed`` (the edges, such as ``3 7 12``), ``edges`` (how many),
``loss``, and ``best``, the least loss so far of a mask with k removed edges (NaN before there is
one).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from bogp.checks import whole
from bogp.errors import Disconnected, InvalidInput
from bogp.structural.graph import ComputationGraph
from bogp.structural.surrogate import GaussianProcess, Predictor, live_features

Masks = NDArray[np.bool_]
Losses = Callable[[Masks], NDArray[np.float64]]
FEW = 20_000  # masks that are all looked at; of more, a sample


@dataclass(frozen=True, eq=False)
class Space:
    """The masks that remove k of a graph's candidate edges and keep each output connected.

    Attributes:
        graph: of the network.
        removed: k.

    Raises:
        InvalidInput: k is no whole number from 1 to the number of candidates.
        Disconnected: no such mask was found.
    """

    graph: ComputationGraph
    removed: int

    def __post_init__(self) -> None:
        candidates = len(self.graph.candidates)
        whole("The number of removed edges", self.removed, 1, candidates)
        if len(self.all() if self.is_small else self.draw(1, np.random.default_rng(0))) == 0:
            raise Disconnected(
                f"No removal of {self.removed} of the {candidates} candidate edges was found "
                "that keeps the output connected; remove fewer."
            )

    @property
    def is_small(self) -> bool:
        """Whether all masks are looked at."""
        return comb(len(self.graph.candidates), self.removed) <= FEW

    def all(self) -> Masks:
        """(M, E) each feasible mask, in lexicographic order of its removed edges.

        Raises:
            InvalidInput: there are too many.
        """
        if not self.is_small:
            raise InvalidInput(
                f"There are {comb(len(self.graph.candidates), self.removed):,} masks; at most "
                f"{FEW:,} are listed. Search by another way."
            )
        return self._feasible(list(combinations(self.graph.candidates.tolist(), self.removed)))

    def draw(self, count: int, rng: np.random.Generator) -> Masks:
        """(at most ``count``, E) distinct feasible masks, drawn uniformly; fewer where a hundred
        times as many draws do not give them.
        """
        candidates = self.graph.candidates
        found: dict[bytes, NDArray[np.bool_]] = {}
        for _ in range(100):
            order = rng.random((max(count, 64), len(candidates))).argsort(axis=1)[:, : self.removed]
            for mask in self._feasible(candidates[order]):
                found.setdefault(mask.tobytes(), mask)
            if len(found) >= count:
                break
        return np.array(list(found.values())[:count], dtype=bool).reshape(-1, len(self.graph.edges))

    def swaps(self, mask: NDArray[np.bool_]) -> Masks:
        """(M, E) the feasible masks that keep one of its removed candidates and remove another in
        its place.
        """
        gone = [int(e) for e in self.graph.candidates if not mask[e]]
        kept = [int(e) for e in self.graph.candidates if mask[e]]
        return self._feasible(
            [[*(g for g in gone if g != back), out] for back in gone for out in kept]
        )

    def _feasible(self, removals: Sequence[Sequence[int]] | NDArray[np.intp]) -> Masks:
        masks = np.ones((len(removals), len(self.graph.edges)), dtype=bool)
        if len(removals):
            masks[np.arange(len(removals))[:, None], np.asarray(removals, dtype=np.intp)] = False
        return masks[self.graph.connected(masks)] if len(masks) else masks


class _Record:
    """What a search evaluated; it refuses to spend more than the budget."""

    def __init__(self, space: Space, losses: Losses, budget: int) -> None:
        self.space, self.losses, self.budget = space, losses, whole("budget", budget, 1)
        self.masks: list[NDArray[np.bool_]] = []
        self.values: list[float] = []
        self.seen: set[bytes] = set()

    @property
    def left(self) -> int:
        return self.budget - len(self.values)

    def evaluate(self, masks: Masks) -> NDArray[np.float64]:
        assert len(masks) <= self.left
        values = np.asarray(self.losses(masks), dtype=np.float64)
        if values.shape != (len(masks),) or not np.isfinite(values).all():
            raise InvalidInput(
                f"losses gave {values.shape} values for {len(masks)} masks, or some that are "
                "not finite; one finite loss each is needed."
            )
        self.masks += list(masks)
        self.values += values.tolist()
        self.seen |= {mask.tobytes() for mask in masks}
        return values

    def fresh(self, masks: Masks) -> Masks:
        return masks[[mask.tobytes() not in self.seen for mask in masks]]

    def table(self) -> pd.DataFrame:
        removed = [np.flatnonzero(~mask).tolist() for mask in self.masks]
        count = np.array([len(r) for r in removed])
        values = np.array(self.values)
        best = np.minimum.accumulate(np.where(count == self.space.removed, values, np.inf))
        return pd.DataFrame(
            {
                "evaluation": np.arange(1, len(values) + 1),
                "removed": [" ".join(map(str, r)) for r in removed],
                "edges": count,
                "loss": values,
                "best": np.where(np.isfinite(best), best, np.nan),
            }
        )


def exhaustive(space: Space, losses: Losses) -> pd.DataFrame:
    """Evaluate every mask.

    Raises:
        InvalidInput: there are too many.
    """
    masks = space.all()
    record = _Record(space, losses, len(masks))
    record.evaluate(masks)
    return record.table()


def random(space: Space, losses: Losses, budget: int, seed: int) -> pd.DataFrame:
    """Evaluate masks drawn uniformly, none twice; fewer than the budget where there are no more."""
    record = _Record(space, losses, budget)
    record.evaluate(_some(space, record, record.left, _generator(seed)))
    return record.table()


def greedy_cost(space: Space) -> int:
    """The most evaluations that ``greedy`` makes."""
    return sum(len(space.graph.candidates) - step for step in range(space.removed))


def greedy(space: Space, losses: Losses, budget: int) -> pd.DataFrame:
    """Remove the edge whose removal gives the least loss, each measured, k times. A removal that
    leaves no way on is passed over.

    Raises:
        InvalidInput: the budget does not reach to the end.
        Disconnected: it took a path from which no further edge can go.
    """
    record = _Record(space, losses, budget)
    if budget < greedy_cost(space):
        raise InvalidInput(
            f"budget is {budget}; greedy search evaluates up to {greedy_cost(space)} masks to "
            f"remove {space.removed} edges."
        )
    mask = np.ones(len(space.graph.edges), dtype=bool)
    for step in range(space.removed):
        tries = np.array(
            [mask & (np.arange(len(mask)) != e) for e in space.graph.candidates if mask[e]]
        )
        tries = tries[space.graph.connected(tries)]
        if len(tries) == 0:
            raise Disconnected(
                f"Greedy search removed {step} edges, and any further removal disconnects the "
                "output; remove fewer."
            )
        mask = tries[int(np.argmin(record.evaluate(tries)))]
    return record.table()


def quadratic(
    space: Space, losses: Losses, budget: int, model: Predictor, seed: int
) -> pd.DataFrame:
    """Evaluate the masks that a model (``TaylorModel.change``) puts first, best first; it learns
    nothing from what it finds.

    All masks are ranked where they are few; of more, those that descents by swaps from random
    starts come by.
    """
    record = _Record(space, losses, budget)
    masks = space.all() if space.is_small else _descents(space, model, budget, _generator(seed))
    order = np.argsort(model(masks), kind="stable")[: record.left]
    record.evaluate(masks[order])
    return record.table()


def _descents(space: Space, model: Predictor, count: int, rng: np.random.Generator) -> Masks:
    found: dict[bytes, NDArray[np.bool_]] = {}
    for start in space.draw(8, rng):
        mask, value = start, float(model(start[None])[0])
        while True:
            near = space.swaps(mask)
            predicted = model(near) if len(near) else np.array([np.inf])
            found |= {
                near[i].tobytes(): near[i]
                for i in np.argsort(predicted, kind="stable")[:count]
                if len(near)
            }
            found[mask.tobytes()] = mask
            if predicted.min() >= value:
                break
            mask, value = near[int(np.argmin(predicted))], float(predicted.min())
    return np.array(list(found.values()))


def bayesian(
    space: Space,
    losses: Losses,
    budget: int,
    seed: int,
    *,
    prior: Predictor | None = None,
    initial: int = 10,
    batch: int = 5,
) -> pd.DataFrame:
    """Bayesian optimisation: a Gaussian process over live edges, and the masks of the largest
    expected improvement.

    Args:
        space: what is searched.
        losses: of masks.
        budget: most evaluations.
        seed: of all draws.
        prior: predicts the change of the loss (``TaylorModel.change``), for the process's mean;
            half of the initial masks are then those that it puts first. None: a constant mean, and
            random initial masks.
        initial: masks before the first fit, at least 2.
        batch: masks between two fits.

    Raises:
        InvalidInput: a budget below ``initial``, or numbers out of range.
    """
    record = _Record(space, losses, budget)
    whole("initial", initial, 2, budget)
    whole("batch", batch, 1)
    rng = _generator(seed)
    pool = space.all() if space.is_small else None
    surrogate = GaussianProcess(live_features(space.graph, space.graph.candidates), prior)
    if prior is not None:
        some = _pool(space, record, pool, rng)
        record.evaluate(some[np.argsort(prior(some), kind="stable")[: initial // 2]])
    record.evaluate(_some(space, record, initial - len(record.values), rng))
    while record.left:
        masks = record.fresh(_pool(space, record, pool, rng))
        if len(masks) == 0:
            break
        mean, std = surrogate.fit(np.array(record.masks), record.values).predict_with_std(masks)
        gain = (min(record.values) - mean) / std
        improvement = std * (gain * stats.norm.cdf(gain) + stats.norm.pdf(gain))
        record.evaluate(masks[np.argsort(-improvement, kind="stable")[: min(batch, record.left)]])
    return record.table()


def _pool(space: Space, record: _Record, pool: Masks | None, rng: np.random.Generator) -> Masks:
    """All masks where they are few; else random ones and swaps of the three best so far."""
    if pool is not None:
        return pool
    best = np.argsort(record.values, kind="stable")[:3]
    return np.unique(
        np.concatenate([space.draw(1_000, rng), *(space.swaps(record.masks[i]) for i in best)]),
        axis=0,
    )


def _some(space: Space, record: _Record, count: int, rng: np.random.Generator) -> Masks:
    """At most ``count`` random masks that were not evaluated yet."""
    if space.is_small:
        masks = record.fresh(space.all())
        return masks[rng.permutation(len(masks))[:count]]
    return record.fresh(space.draw(count + len(record.seen), rng))[:count]


def _generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(whole("seed", seed, 0)))
