"""Other proposers and recommenders beside the paper's search: what they share with it tells what its parts are worth.

``PoolSearch`` has the surrogate and no box; ``BoxRandom`` has the box and no surrogate; a search over ``permuted`` has everything but the relation between
properties and masks. Which mask a search recommends in the end is a choice of its own (``best_observed``, ``best_posterior_mean``), to be crossed with them.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from bogp.database import MaskDatabase, fit_scaling
from bogp.errors import InvalidInput
from bogp.search import Proposal, SearchSettings, box, checked_seed


class PoolSearch:
    """Bayesian optimisation over the masks themselves: the acquisition is evaluated at each mask that was not yet visited (``pool`` mode).

    The surrogate is that of ``BoxSearch``, fitted to the property vectors of the masks that were trained. As scikit-optimize does with the box, properties
    are brought to [0, 1] whatever scaling the settings name; their metric has no part in it. Masks without one of the properties are no candidates.

    Args:
        database: the masks to choose from.
        settings: of the search; its initial masks are drawn uniformly, each at most once.
        seed: of the initial masks and the surrogate.
        name: of the method.

    Raises:
        InvalidInput: fewer masks than evaluations, columns that cannot be used, or a seed out of range.
        DatabaseError: the database is empty.
    """

    def __init__(self, database: MaskDatabase, settings: SearchSettings, seed: int, name: str = "pool") -> None:
        self.name, self.seed = name, checked_seed(seed)
        self._settings, self._values = settings, unit_values(database, settings.columns)
        candidates = np.flatnonzero(np.isfinite(self._values).all(axis=1))
        if settings.budget > len(candidates):
            raise InvalidInput(
                f"A search of {settings.budget} masks, each at most once, needs at least as many; {len(candidates)} have all the properties."
            )
        first, self._surrogate_seed = np.random.SeedSequence(seed, spawn_key=(2,)).spawn(2)
        self._open = candidates  # rows that may be proposed
        self._asked = np.random.default_rng(first).choice(candidates, settings.n_initial, replace=False).tolist()
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
        """The open row with the lowest confidence bound on the negated score, the first where several are equal."""
        distinct, at = np.unique(self._values[self._open], axis=0, return_inverse=True)  # rounding must not decide between equal rows
        model = _fitted(self._values[self._visited], -np.array(self._scores), int(self._surrogate_seed.generate_state(1)[0]))
        mean, deviation = _predict(model, distinct)
        bound = mean - self._settings.kappa * deviation
        return int(self._open[np.argmin(bound[at.reshape(-1)])])


class BoxRandom:
    """Points drawn uniformly in the box, then the nearest mask: a box search without its surrogate.

    Its first ``n_initial`` points are those of the ``BoxSearch`` of the same seed.

    Args:
        database, settings, seed, name: as for ``BoxSearch``.
    """

    def __init__(self, database: MaskDatabase, settings: SearchSettings, seed: int, name: str = "box_random") -> None:
        self.name, self.seed = name, checked_seed(seed)
        self._settings, self._box = settings, box(database, settings)
        self._points = self._box.draw(settings.budget, seed)

    def ask(self) -> list[Proposal]:
        """All masks at once: none of them depends on another's score."""
        points, self._points = self._points, self._points[:0]
        first = self._settings.n_initial
        return self._box.proposals(points[:first], "initial") + self._box.proposals(points[first:], "random")

    def tell(self, scores: Sequence[float]) -> None:
        """Nothing is learnt."""


def permuted(database: MaskDatabase, seed: int) -> MaskDatabase:
    """The same masks with each other's property vectors, so that no relation is left between a mask and its properties.

    Args:
        database: at least two masks.
        seed: of the permutation.

    Returns:
        The database with all numeric columns of its table permuted among the rows together; ids, families and masks stay. The column ``sparsity`` is
        then another mask's too: an objective that reads it has no meaning here.

    Raises:
        InvalidInput: fewer than two masks.
    """
    if len(database) < 2:
        raise InvalidInput(f"A database of {len(database)} masks has no properties to permute among them.")
    order = np.random.default_rng(np.random.SeedSequence(seed)).permutation(len(database))
    numeric = database.table.select_dtypes("number")
    moved = {column: values.to_numpy()[order] for column, values in numeric.items()}
    return MaskDatabase(database.table.assign(**moved), database.spec, database.bits)


def unit_values(database: MaskDatabase, columns: Sequence[str]) -> NDArray[np.float64]:
    """(N, d) property vectors as surrogates see them: brought to [0, 1] over the database, constant properties left out.

    Raises:
        InvalidInput: no such columns, or none that varies.
        DatabaseError: the database is empty.
    """
    scaling = fit_scaling(database, columns, "minmax")
    return scaling.transform(database.values(scaling.columns))


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
    """Among the visited masks the one with the highest posterior mean of a Gaussian process fitted to all evaluations of the search.

    A lucky training then counts for less than good neighbours; a mask that was trained several times enters as several observations.

    Args:
        rows: (n,) masks that a search visited, in order.
        scores: (n,) what they scored; larger is better.
        values: (N, d) property vectors of all masks of the database, such as ``unit_values`` gives. Visited masks with a NaN there take no part.

    Returns:
        Its row; the first visited where several are equal.

    Raises:
        InvalidInput: no evaluations, a score that is not finite, not one score a row, or no visited mask that has all the properties.
    """
    visited, y = _evaluations(rows, scores)
    vectors = np.asarray(values, dtype=np.float64)[visited]
    complete = np.isfinite(vectors).all(axis=1)
    if not complete.any():
        raise InvalidInput("None of the visited masks has all the properties; a surrogate cannot tell them apart.")
    visited, y, vectors = visited[complete], y[complete], vectors[complete]
    distinct, at = np.unique(vectors, axis=0, return_inverse=True)
    mean, _ = _predict(_fitted(vectors, y, 0), distinct)
    return int(visited[np.argmax(mean[at.reshape(-1)])])


def _evaluations(rows: Sequence[int], scores: Sequence[float]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    visited, y = np.asarray(rows, dtype=np.intp), np.asarray(scores, dtype=np.float64)
    if visited.ndim != 1 or visited.shape != y.shape or len(y) == 0 or not np.isfinite(y).all():
        raise InvalidInput(f"At least one evaluation is needed, and one finite score a row; got {visited.shape} rows and {y.shape} scores.")
    return visited, y


def _fitted(vectors: NDArray[np.float64], y: NDArray[np.float64], seed: int) -> Any:
    """scikit-optimize's Gaussian process as ``BoxSearch`` has it, on (n, d) vectors in [0, 1]; one restart of its fit instead of two, for speed."""
    from skopt.utils import cook_estimator

    model = cook_estimator("GP", space=[(0.0, 1.0)] * vectors.shape[1], n_restarts_optimizer=1, random_state=seed % 2**31)
    with threadpool_limits(1), warnings.catch_warnings():  # one thread gives the same bits on any number of cores
        warnings.filterwarnings("ignore", message="The optimal value found")  # of a scale: a property that does not matter has none
        warnings.filterwarnings("ignore", message="lbfgs failed to converge")  # the best of its starts is good enough here
        return model.fit(vectors, y)


def _predict(model: Any, vectors: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Posterior mean and standard deviation of the noiseless function at (n, d) vectors."""
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Predicted variances smaller than 0")  # by rounding, at a point that is known
        return model.predict(vectors, return_std=True)
