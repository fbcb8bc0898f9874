"""Search over the numbers of a generator of masks: no database, each evaluation draws a fresh mask.

Where masks come from a family with a few numbers (``graphs.placed``), those numbers are a better
space than the properties of masks that were drawn before: low-dimensional, and every point of it is
a mask. A *point* lies in the unit cube; ``Axis`` says what its coordinates mean. As in ``loop``,
searchers ``ask`` and are told (``tell``), all advance together, and what was trained is kept in the
store, so an interrupted search goes on from there.

Seeds: the evaluations of search k train with seed k, each under a mask of its own. What a search
recommends is judged by fresh masks and fresh seeds, the same for each method.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from typing import Protocol as Interface

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bogp.checks import number, refuse, whole
from bogp.graphs.relational import LayerMasks
from bogp.search.loop import check_fresh_seeds
from bogp.search.searchers import FRESH_SEED, best_posterior_mean, checked_seed
from bogp.training.evaluation import Evaluator, Job, Recipe
from bogp.training.protocols import Protocol

Point = NDArray[np.float64]  # (d,) in the unit cube
# From the numbers of a point and a source of randomness to one mask a layer.
Draw = Callable[[Mapping[str, float], np.random.Generator], LayerMasks]

_SEARCH = ["method", "search_seed"]
_MEASURED = ["train_accuracy", "validation_accuracy", "test_accuracy", "key"]
_POINTS, _MASKS, _FRESH = 7, 8, 9  # what a search seed's random numbers are for


@dataclass(frozen=True)
class Axis:
    """One number of a generator, from ``low`` to ``high``, evenly or (``log``) by its logarithm."""

    name: str
    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        ends = number(f"The low end of {self.name}", self.low), number("The high end", self.high)
        refuse(
            not (np.isfinite(ends).all() and ends[0] < ends[1]) or (self.log and ends[0] <= 0),
            f"The axis {self.name} runs from {self.low} to {self.high}; two finite numbers in "
            "ascending order are needed, above 0 for a logarithmic one.",
        )

    def value(self, at: float) -> float:
        """The number at a coordinate in [0, 1]."""
        if self.log:
            return float(self.low * (self.high / self.low) ** at)
        return float(self.low + (self.high - self.low) * at)


def numbers(space: Sequence[Axis], point: Point) -> dict[str, float]:
    """What a point of the unit cube stands for, by name."""
    return {axis.name: axis.value(at) for axis, at in zip(space, point.tolist(), strict=True)}


class PointSearcher(Interface):
    """What ``run`` needs of a search method over points."""

    name: str
    seed: int

    def ask(self) -> list[Point]:
        """The next points, to be evaluated before the next call; empty when all is done."""

    def tell(self, scores: Sequence[float]) -> None:
        """The objective (larger is better) of each of the last points."""


class PointsAtOnce:
    """A searcher that learns nothing: ``random`` points, or a scrambled ``sobol`` sequence.

    Args:
        dimensions: of the points.
        budget: how many.
        seed: of the points.
        kind: ``random`` or ``sobol``, which is its name, too.
    """

    def __init__(self, dimensions: int, budget: int, seed: int, kind: str) -> None:
        from scipy.stats import qmc

        refuse(kind not in ("random", "sobol"), f"kind is {kind!r}; allowed: random, sobol.")
        self.name, self.seed = kind, checked_seed(seed)
        rng = _generator(seed, _POINTS, 0 if kind == "random" else 1)
        count = whole("budget", budget, 1)
        if kind == "random":
            points = rng.random((count, dimensions))
        else:  # a power of two is balanced; the first of it are used
            power = int(np.ceil(np.log2(count)))
            points = qmc.Sobol(dimensions, rng=rng).random_base2(power)[:count]
        self._points = list(points)

    def ask(self) -> list[Point]:
        """All points at once."""
        points, self._points = self._points, []
        return points

    def tell(self, scores: Sequence[float]) -> None:
        """Nothing is learnt."""


class BayesianPoints:
    """Bayesian optimisation: scikit-optimize's Gaussian process (Matern 5/2, noise fitted) with the
    lower confidence bound on the negated objective.

    Args:
        dimensions: of the points.
        n_initial: points before the surrogate is fitted: the first of the ``sobol`` ones of the
            same seed.
        n_iterations: points that the surrogate proposes.
        seed: of the initial points and the optimiser.
        kappa: exploration weight of the bound.
        name: of the method.
    """

    def __init__(
        self,
        dimensions: int,
        n_initial: int,
        n_iterations: int,
        seed: int,
        *,
        kappa: float = 1.0,
        name: str = "bayesian",
    ) -> None:
        from skopt import Optimizer

        self.name, self.seed = name, checked_seed(seed)
        self._points = PointsAtOnce(dimensions, n_initial, seed, "sobol").ask()
        self._budget, self._told = n_initial + whole("n_iterations", n_iterations, 0), 0
        self._optimiser = Optimizer(
            [(0.0, 1.0)] * dimensions,
            base_estimator="GP",
            n_initial_points=n_initial,
            acq_func="LCB",
            acq_func_kwargs={"kappa": kappa},
            random_state=int(_generator(seed, _POINTS, 2).integers(2**31)),
        )

    def ask(self) -> list[Point]:
        """The initial points at once, then one point a round."""
        if self._told >= self._budget:
            return []
        if self._told:
            # A point that was asked before is replaced by a random one, which is as good here.
            with threadpool_limits(1), warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="The objective has been evaluated at")
                self._points = [np.array(self._optimiser.ask())]
        return self._points

    def tell(self, scores: Sequence[float]) -> None:
        """Fit the surrogate to the negated scores."""
        self._told += len(scores)
        with threadpool_limits(1):  # quicker on small matrices, and the same bits on any cores
            self._optimiser.tell(
                [point.tolist() for point in self._points],
                [-float(s) for s in scores],
                fit=self._told < self._budget,
            )


def run(
    searchers: Sequence[PointSearcher],
    space: Sequence[Axis],
    draw: Draw,
    evaluator: Evaluator,
    protocol: Protocol,
    dataset: str,
) -> pd.DataFrame:
    """Advance searchers in lockstep, one call of the evaluator a round, until all are done.

    Args:
        searchers: each pair of name and seed once.
        space: what the coordinates of points mean.
        draw: makes a mask of a point's numbers.
        evaluator: trains what the store does not hold.
        protocol, dataset: of all trainings; selection reads validation accuracy.

    Returns:
        One evaluation a row, ordered by method, seed and evaluation: ``method``, ``search_seed``,
        ``evaluation`` (from 0), the numbers by name, the accuracies on each split and ``key``.

    Raises:
        InvalidInput: no searchers, or two of one name and seed.
    """
    refuse(
        not searchers or len({(s.name, s.seed) for s in searchers}) != len(searchers),
        "At least one searcher is needed, and each pair of name and seed only once.",
    )
    made = dict.fromkeys(((s.name, s.seed) for s in searchers), 0)
    rounds = []
    while asked := [(s, point) for s in searchers for point in s.ask()]:
        rows, jobs = [], []
        for searcher, point in asked:
            own = (searcher.name, searcher.seed)
            at = numbers(space, point)
            rows.append(dict(zip(_SEARCH, own, strict=True)) | {"evaluation": made[own]} | at)
            masks = draw(at, _generator(searcher.seed, _MASKS, made[own]))
            jobs.append(Job(Recipe(masks), searcher.seed, protocol, dataset))
            made[own] += 1
        measured = evaluator.evaluate(jobs)[_MEASURED]
        table = pd.DataFrame(rows).join(measured)
        for searcher in searchers:
            if (mine := np.array([s is searcher for s, _ in asked])).any():
                searcher.tell(table["validation_accuracy"][mine].tolist())
        rounds.append(table)
    history = pd.concat(rounds, ignore_index=True)
    return history.sort_values([*_SEARCH, "evaluation"], ignore_index=True)


def recommend(history: pd.DataFrame, space: Sequence[Axis]) -> pd.DataFrame:
    """The visited point with the highest posterior mean of each search, one row a search.

    A single training under a single mask is noisy, so the best one seen is often a lucky one; the
    mean of a Gaussian process over all of a search's evaluations is what it believes.
    """
    chosen = []
    for _, one in history.groupby(_SEARCH, sort=False):
        values = np.column_stack([_coordinate(axis, one[axis.name]) for axis in space])
        best = best_posterior_mean(range(len(one)), one["validation_accuracy"].tolist(), values)
        chosen.append(one.iloc[best])
    return pd.DataFrame(chosen).reset_index(drop=True)


def fresh(
    chosen: pd.DataFrame,
    space: Sequence[Axis],
    draw: Draw,
    evaluator: Evaluator,
    protocol: Protocol,
    dataset: str,
    masks: int,
) -> pd.DataFrame:
    """Train fresh masks of chosen points with fresh seeds, which played no part in choosing.

    The search of seed k has masks and training seeds of its own, the same for each method.

    Args:
        chosen: ``method``, ``search_seed`` and the numbers by name, such as ``recommend`` gives.
        space, draw, evaluator, protocol, dataset: as in ``run``.
        masks: of each, each with a training seed of its own.

    Returns:
        One row a mask: ``chosen``'s method, seed and numbers, ``mask`` (its number),
        ``validation_accuracy``, ``test_accuracy`` and ``key``.
    """
    check_fresh_seeds(masks, int(chosen["search_seed"].max()) + 1)
    names = [axis.name for axis in space]
    rows, jobs = [], []
    for one in chosen[[*_SEARCH, *names]].to_dict("records"):
        at, seed = {name: float(one[name]) for name in names}, int(one["search_seed"])
        for i in range(masks):
            rows.append(one | {"mask": i})
            recipe = Recipe(draw(at, _generator(seed, _FRESH, i)))
            jobs.append(Job(recipe, FRESH_SEED + seed * masks + i, protocol, dataset))
    measured = evaluator.evaluate(jobs)[["validation_accuracy", "test_accuracy", "key"]]
    return pd.DataFrame(rows).join(measured)


def _coordinate(axis: Axis, values: Any) -> NDArray[np.float64]:
    at = np.asarray(values, dtype=np.float64)
    if axis.log:
        return np.log(at / axis.low) / np.log(axis.high / axis.low)
    return (at - axis.low) / (axis.high - axis.low)


def _generator(seed: int, *purpose: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=purpose))
