"""Searchers: each proposes masks of a database (``ask``) and learns what they scored (``tell``).

``BoxSearch`` is the paper's (section 5.3): Bayesian optimisation in the box of property ranges,
then the nearest mask. The others leave parts of it out, and so tell what each part adds:
``PoolSearch`` has the surrogate and no box; ``BoxRandom`` has the box and no surrogate; a search
over ``permuted`` has everything but the relation between properties and masks; ``RandomSearch`` has
nothing. Which mask a search recommends in the end is a choice of its own (``best_observed``,
``best_posterior_mean``).
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from typing import Protocol as Interface

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from bogp.checks import is_one_of, number, refuse, texts, whole
from bogp.graphs.database import (
    METRICS,
    SCALINGS,
    MaskDatabase,
    Nearest,
    Scaling,
    fit_scaling,
    nearest,
)
from bogp.graphs.properties import PAPER_FIVE

SEED_LIMIT = 10_000  # search seeds and fresh seeds lie below it, replications above
FRESH_SEED = 5_000  # the first seed of retraining; search seeds lie below it

# From (Q, d) queries to masks, as ``database.nearest`` does it.
LookUp = Callable[[NDArray[np.float64], MaskDatabase, Scaling, str], Nearest]


@dataclass(frozen=True)
class SearchSettings:
    """Settings of one search; the defaults are the paper's (section 6.3), which names no scaling.

    Attributes:
        columns: the properties that span the search space.
        scaling: ``minmax``, ``zscore`` or ``none`` (see ``database.fit_scaling``).
        metric: similarity of Algorithm 2, ``cosine``, ``l1`` or ``l2``.
        n_initial: points drawn uniformly in the box before the surrogate is fitted.
        n_iterations: points proposed by the surrogate.
        kappa: exploration weight of the lower confidence bound.
    """

    columns: tuple[str, ...] = PAPER_FIVE
    scaling: str = "minmax"
    metric: str = "cosine"
    n_initial: int = 5
    n_iterations: int = 20
    kappa: float = 5.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", texts("columns", self.columns))
        refuse(
            not is_one_of(self.metric, METRICS) or not is_one_of(self.scaling, SCALINGS),
            f"metric is {self.metric!r} and scaling {self.scaling!r}; "
            f"allowed: {METRICS} and {SCALINGS}.",
        )
        whole("n_initial", self.n_initial, 1, SEED_LIMIT)
        whole("n_iterations", self.n_iterations, 0, SEED_LIMIT)
        refuse(
            not 0 <= number("kappa", self.kappa) < np.inf,
            f"kappa is {self.kappa}; it is finite and not negative.",
        )

    @property
    def budget(self) -> int:
        """Evaluations of one search."""
        return self.n_initial + self.n_iterations


@dataclass(frozen=True)
class Proposal:
    """One mask to evaluate, and for a search in a box the point that was asked for.

    Attributes:
        row: of the database.
        phase: ``initial``, ``surrogate`` or ``random``.
        query: property values that were asked for, by name; empty without a box.
        similarity: of the mask to the query; NaN without a box.
    """

    row: int
    phase: str
    query: dict[str, float]
    similarity: float = float("nan")


class Searcher(Interface):
    """What ``run`` needs of a search method; write one of your own to compare it."""

    name: str
    seed: int

    def ask(self) -> list[Proposal]:
        """The next proposals, to be evaluated before the next call; empty when all is done."""

    def tell(self, scores: Sequence[float]) -> None:
        """The objective (larger is better) of each of the last proposals."""


def checked_seed(seed: int) -> int:
    """A search seed, refused where it lies out of the range of search seeds."""
    return whole("A search seed", seed, 0, FRESH_SEED - 1)


# --- what searchers search: the masks themselves, or the box around their properties


def unit_values(database: MaskDatabase, columns: Sequence[str]) -> NDArray[np.float64]:
    """(N, d) property vectors in [0, 1] over the database, constant properties left out.

    Raises:
        InvalidInput: no such columns, or none that varies.
        DatabaseError: the database is empty.
    """
    scaling = fit_scaling(database, columns, "minmax")
    return scaling.transform(database.values(scaling.columns))


@dataclass(frozen=True)
class Box:
    """The continuous space that a box search searches, over the properties that vary.

    Attributes:
        database: the masks to choose from.
        scaling: of the properties; points of the box are in scaled units.
        metric: of Algorithm 2.
        low, high: (d,) its corners.
    """

    database: MaskDatabase
    scaling: Scaling
    metric: str
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def draw(self, count: int, seed: int) -> NDArray[np.float64]:
        """(count, d) uniform points; the first are the same however many are drawn."""
        rng = np.random.default_rng(_two_seeds(seed)[0])
        return rng.uniform(self.low, self.high, size=(count, len(self.low)))

    def proposals(
        self, points: NDArray[np.float64], phase: str, look_up: LookUp = nearest
    ) -> list[Proposal]:
        """The mask of each of the (Q, d) points."""
        values = self.scaling.inverse(points)
        found = look_up(values, self.database, self.scaling, self.metric)
        return [
            Proposal(int(row), phase, dict(zip(self.scaling.columns, point, strict=True)), float(s))
            for row, point, s in zip(found.row, values.tolist(), found.similarity, strict=True)
        ]


def box(database: MaskDatabase, settings: SearchSettings) -> Box:
    """The box of property ranges.

    It is [0.001, 1] in each property after minmax scaling, else the range over the database.

    Raises:
        InvalidInput: the settings' columns are none of the database's, or none of them varies.
        DatabaseError: the database is empty.
    """
    scaling = fit_scaling(database, settings.columns, settings.scaling)
    scaled = scaling.transform(database.values(scaling.columns))
    low, high = np.nanmin(scaled, axis=0), np.nanmax(scaled, axis=0)
    lowest = np.full_like(low, 0.001) if settings.scaling == "minmax" else low
    return Box(database, scaling, settings.metric, lowest, high)


def permuted(database: MaskDatabase, seed: int) -> MaskDatabase:
    """The same masks with each other's property vectors: masks and properties are unrelated.

    Args:
        database: at least two masks.
        seed: of the permutation.

    Returns:
        The database with all numeric columns of its table permuted among the rows together; ids,
        families and masks stay. The column ``sparsity`` is then another mask's too: an objective
        that reads it has no meaning here.

    Raises:
        InvalidInput: fewer than two masks.
    """
    refuse(
        len(database) < 2,
        f"A database of {len(database)} masks has no properties to permute among them.",
    )
    order = np.random.default_rng(np.random.SeedSequence(seed)).permutation(len(database))
    moved = database.table.select_dtypes("number").iloc[order].set_index(database.table.index)
    return MaskDatabase(database.table.assign(**moved), database.spec, database.bits)


# --- searchers that learn nothing: all masks at once, for none depends on another's score


class _AtOnce:
    """A searcher that learns nothing: it proposes all its masks at once."""

    def __init__(self, name: str, seed: int, proposals: list[Proposal]) -> None:
        self.name, self.seed, self._proposals = name, seed, proposals

    def ask(self) -> list[Proposal]:
        """All masks at once."""
        proposals, self._proposals = self._proposals, []
        return proposals

    def tell(self, scores: Sequence[float]) -> None:
        """Nothing is learnt."""


class RandomSearch(_AtOnce):
    """Masks drawn uniformly from the database, each at most once.

    It is what any search has to beat at the same budget.
    """

    def __init__(
        self, database: MaskDatabase, budget: int, seed: int, name: str = "random"
    ) -> None:
        checked_seed(seed)
        refuse(
            not 1 <= whole("budget", budget) <= len(database),
            f"A random search of {budget} masks needs a database of at least as many; "
            f"this one has {len(database)}.",
        )
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
        rows = rng.choice(len(database), budget, replace=False).tolist()
        super().__init__(name, seed, [Proposal(row, "random", {}) for row in rows])


class BoxRandom(_AtOnce):
    """Points drawn uniformly in the box, then the nearest mask: a box search without surrogate.

    Its first ``n_initial`` points are those of the ``BoxSearch`` of the same seed.

    Args:
        database, settings, seed, name: as for ``BoxSearch``.
    """

    def __init__(
        self,
        database: MaskDatabase,
        settings: SearchSettings,
        seed: int,
        name: str = "box_random",
    ) -> None:
        space, first = box(database, settings), settings.n_initial
        points = space.draw(settings.budget, checked_seed(seed))
        initial = space.proposals(points[:first], "initial")
        super().__init__(name, seed, initial + space.proposals(points[first:], "random"))


# --- searchers with a surrogate


class BoxSearch:
    """Bayesian optimisation in the box of property ranges, then the nearest mask (the paper's).

    scikit-optimize's Gaussian process (Matern 5/2, noise fitted) is told the query (a point of
    ``box``), as the paper's black-box function takes a property vector. The lower confidence bound
    on the negated objective proposes the next one.

    Args:
        database: the masks to choose from, of one sparsity (Psi_s) or of many.
        settings: of the search.
        seed: of the initial points and the optimiser, and of the trainings.
        name: of the method.
        look_up: finds the mask of each query; takes the arguments of ``database.nearest``.

    Raises:
        InvalidInput: columns that cannot be used, or a seed out of range.
        DatabaseError: the database is empty.
    """

    def __init__(
        self,
        database: MaskDatabase,
        settings: SearchSettings,
        seed: int,
        name: str = "bogp",
        look_up: LookUp = nearest,
    ) -> None:
        from skopt import Optimizer

        self.name, self.seed = name, checked_seed(seed)
        self._settings, self._look_up, self._box = settings, look_up, box(database, settings)
        self._points = self._box.draw(settings.n_initial, seed)
        self._optimiser = Optimizer(
            list(zip(self._box.low.tolist(), self._box.high.tolist(), strict=True)),
            base_estimator="GP",
            n_initial_points=settings.n_initial,
            acq_func="LCB",  # explicit: kappa is ignored under the default
            acq_func_kwargs={"kappa": settings.kappa},
            random_state=_two_seeds(seed)[1] % 2**31,
        )
        self._told = 0

    def ask(self) -> list[Proposal]:
        """The initial points at once, then one point a round."""
        if self._told >= self._settings.budget:
            return []
        phase = "initial"
        if self._told:
            # A point that was asked before is replaced by a random one, which is as good here.
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="The objective has been evaluated at")
                self._points, phase = np.array([self._optimiser.ask()]), "surrogate"
        return self._box.proposals(self._points, phase, self._look_up)

    def tell(self, scores: Sequence[float]) -> None:
        """Fit the surrogate to the negated scores."""
        self._told += len(scores)
        with threadpool_limits(1):  # quicker on small matrices, and the same bits on any cores
            self._optimiser.tell(
                self._points.tolist(),
                [-float(s) for s in scores],
                fit=self._told < self._settings.budget,
            )


class PoolSearch:
    """Bayesian optimisation over the masks: the acquisition is taken at each mask not yet visited.

    The surrogate is that of ``BoxSearch``, fitted to the property vectors of the masks that were
    trained. As scikit-optimize does with the box, properties are brought to [0, 1] whatever scaling
    the settings name; their metric has no part in it. Masks without one of the properties are no
    candidates.

    Args:
        database: the masks to choose from.
        settings: of the search; its initial masks are drawn uniformly, each at most once.
        seed: of the initial masks and the surrogate.
        name: of the method.

    Raises:
        InvalidInput: fewer masks than evaluations, columns that cannot be used, or a seed out of
            range.
        DatabaseError: the database is empty.
    """

    def __init__(
        self, database: MaskDatabase, settings: SearchSettings, seed: int, name: str = "pool"
    ) -> None:
        self.name, self.seed = name, checked_seed(seed)
        self._settings, self._values = settings, unit_values(database, settings.columns)
        candidates = np.flatnonzero(np.isfinite(self._values).all(axis=1))
        refuse(
            settings.budget > len(candidates),
            f"A search of {settings.budget} masks, each at most once, needs at least as many; "
            f"{len(candidates)} have all the properties.",
        )
        first, self._surrogate_seed = np.random.SeedSequence(seed, spawn_key=(2,)).spawn(2)
        drawn = np.random.default_rng(first).choice(candidates, settings.n_initial, replace=False)
        self._asked, self._open = drawn.tolist(), candidates  # rows that may be proposed
        self._visited: list[int] = []
        self._scores: list[float] = []

    def ask(self) -> list[Proposal]:
        """The initial masks at once, then one mask a round."""
        if len(self._scores) >= self._settings.budget:
            return []
        phase = "initial"
        if self._scores:
            self._asked, phase = [self._lowest_bound()], "surrogate"
        return [Proposal(row, phase, {}) for row in self._asked]

    def tell(self, scores: Sequence[float]) -> None:
        """Remember the scores; the masks that were asked for are not asked for again."""
        self._visited += self._asked
        self._open = np.setdiff1d(self._open, self._asked)
        self._scores += [float(s) for s in scores]

    def _lowest_bound(self) -> int:
        """The open row with the lowest bound on the negated score, the first of equals."""
        # Equal rows are predicted once, so that rounding does not decide between them.
        distinct, at = np.unique(self._values[self._open], axis=0, return_inverse=True)
        seed = int(self._surrogate_seed.generate_state(1)[0])
        model = _fitted(self._values[self._visited], -np.array(self._scores), seed)
        mean, deviation = _predict(model, distinct)
        bound = mean - self._settings.kappa * deviation
        return int(self._open[np.argmin(bound[at.reshape(-1)])])


# --- recommenders: which of the visited masks a search ends with


def best_observed(rows: Sequence[int], scores: Sequence[float]) -> int:
    """The mask with the highest single score, as the paper recommends.

    Args:
        rows: (n,) masks that a search visited, in order; a mask may occur several times.
        scores: (n,) what they scored; larger is better.

    Returns:
        Its row; the first visited where several are equal.

    Raises:
        InvalidInput: no evaluations, a score that is not finite, or not one score a row.
    """
    visited, y = _evaluations(rows, scores)
    return int(visited[np.argmax(y)])


def best_posterior_mean(rows: Sequence[int], scores: Sequence[float], values: ArrayLike) -> int:
    """The visited mask with the highest posterior mean of a Gaussian process.

    It is fitted to all evaluations of the search. A lucky training then counts for less than good
    neighbours; a mask that was trained several times enters as several observations.

    Args:
        rows: (n,) masks that a search visited, in order.
        scores: (n,) what they scored; larger is better.
        values: (N, d) property vectors of all masks of the database, such as ``unit_values`` gives.
            Visited masks with a NaN there take no part.

    Returns:
        Its row; the first visited where several are equal.

    Raises:
        InvalidInput: no evaluations, a score that is not finite, not one score a row, or no visited
            mask that has all the properties.
    """
    visited, y = _evaluations(rows, scores)
    vectors = np.asarray(values, dtype=np.float64)[visited]
    complete = np.isfinite(vectors).all(axis=1)
    refuse(
        not complete.any(),
        "None of the visited masks has all the properties; a surrogate cannot tell them apart.",
    )
    visited, y, vectors = visited[complete], y[complete], vectors[complete]
    distinct, at = np.unique(vectors, axis=0, return_inverse=True)
    mean, _ = _predict(_fitted(vectors, y, 0), distinct)
    return int(visited[np.argmax(mean[at.reshape(-1)])])


def _evaluations(
    rows: Sequence[int], scores: Sequence[float]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    visited, y = np.asarray(rows, dtype=np.intp), np.asarray(scores, dtype=np.float64)
    refuse(
        visited.ndim != 1 or visited.shape != y.shape or len(y) == 0 or not np.isfinite(y).all(),
        "At least one evaluation is needed, and one finite score a row; "
        f"got {visited.shape} rows and {y.shape} scores.",
    )
    return visited, y


# --- the surrogate


def _fitted(vectors: NDArray[np.float64], y: NDArray[np.float64], seed: int) -> Any:
    """scikit-optimize's Gaussian process as ``BoxSearch`` has it, on (n, d) vectors in [0, 1].

    Its fit has one restart instead of two, for speed.
    """
    from skopt.utils import cook_estimator

    model = cook_estimator(
        "GP",
        space=[(0.0, 1.0)] * vectors.shape[1],
        n_restarts_optimizer=1,
        random_state=seed % 2**31,
    )
    with threadpool_limits(1), warnings.catch_warnings():  # the same bits on any number of cores
        # The scale of a property that does not matter has no optimum.
        warnings.filterwarnings("ignore", message="The optimal value found")
        # The best of its starts is good enough here.
        warnings.filterwarnings("ignore", message="lbfgs failed to converge")
        return model.fit(vectors, y)


def _predict(
    model: Any, vectors: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Posterior mean and standard deviation of the noiseless function at (n, d) vectors."""
    with threadpool_limits(1), warnings.catch_warnings():
        # By rounding, at a point that was told.
        warnings.filterwarnings("ignore", message="Predicted variances smaller than 0")
        return model.predict(vectors, return_std=True)


def _two_seeds(seed: int) -> tuple[int, int]:
    """Of the points that a search draws in the box, and of its optimiser."""
    drawn, optimiser = np.random.SeedSequence(seed).generate_state(2)
    return int(drawn), int(optimiser)
