"""Algorithms 3 and 4: Bayesian optimisation of a mask through its graph properties, and random search beside it (paper section 5.3).

A *searcher* proposes masks (``ask``) and learns what they scored (``tell``). ``run`` advances any number of searchers together, one call of
the evaluator a round, and returns every evaluation as one table. Nothing is kept between runs but the evaluations themselves: a search that was
interrupted asks the same questions again, gets the answers from the store, and goes on.

Seeds: the first training of a mask in search k has seed k, so that all masks and methods of one k are compared from the same initial weights and
batches. A mask that is proposed again is a replication and trains with seed 10,000 + k, then 20,000 + k, and so on.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol as Interface

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bogp.checks import known, number, texts, whole
from bogp.database import METRICS, SCALINGS, MaskDatabase, Nearest, Scaling, fit_scaling, nearest
from bogp.errors import InvalidInput
from bogp.evaluation import Evaluator, Job, Recipe
from bogp.properties import PAPER_FIVE
from bogp.protocols import Protocol
from bogp.relational import layer_masks

SEED_LIMIT = 10_000  # search seeds and fresh seeds lie below it, replications above
FRESH_SEED = 5_000  # the first seed of retraining; search seeds lie below it
Objective = Callable[[pd.DataFrame], NDArray[np.float64]]
LookUp = Callable[[NDArray[np.float64], MaskDatabase, Scaling, str], Nearest]


@dataclass(frozen=True)
class SearchSettings:
    """Settings of one search; the defaults are the paper's (section 6.3), the scaling apart, which it does not name.

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
        if not known(self.metric, METRICS) or not known(self.scaling, SCALINGS):
            raise InvalidInput(f"metric is {self.metric!r} and scaling {self.scaling!r}; allowed: {METRICS} and {SCALINGS}.")
        whole("n_initial", self.n_initial, 1, SEED_LIMIT)
        whole("n_iterations", self.n_iterations, 0, SEED_LIMIT)
        if not 0 <= number("kappa", self.kappa) < np.inf:
            raise InvalidInput(f"kappa is {self.kappa}; it is finite and not negative.")

    @property
    def budget(self) -> int:
        """Evaluations of one search."""
        return self.n_initial + self.n_iterations


@dataclass(frozen=True)
class Proposal:
    """One mask to evaluate: its row in the database, and for a box search the point that was asked for.

    Attributes:
        row: of the database.
        phase: ``initial``, ``surrogate`` or ``random``.
        query: property values that were asked for, by name; empty for random search.
        similarity: of the mask to the query; NaN for random search.
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
        """The next proposals, all to be evaluated before the next call; empty when the search is over."""

    def tell(self, scores: Sequence[float]) -> None:
        """The objective (larger is better) of each of the last proposals."""


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
        """(count, d) points drawn uniformly with a search's seed; the first of them are the same however many are drawn."""
        drawn = int(np.random.SeedSequence(seed).generate_state(2)[0])  # the second is the optimiser's
        return np.random.default_rng(drawn).uniform(self.low, self.high, size=(count, len(self.low)))

    def proposals(self, points: NDArray[np.float64], phase: str, look_up: LookUp = nearest) -> list[Proposal]:
        """The mask of each of the (Q, d) points."""
        values = self.scaling.inverse(points)
        found = look_up(values, self.database, self.scaling, self.metric)
        queries = [dict(zip(self.scaling.columns, point.tolist(), strict=True)) for point in values]
        return [
            Proposal(int(row), phase, query, float(s)) for row, query, s in zip(found.row, queries, found.similarity, strict=True)
        ]  # fmt: skip


def box(database: MaskDatabase, settings: SearchSettings) -> Box:
    """The box of property ranges: [0.001, 1] in each property after minmax scaling, else the range over the database.

    Raises:
        InvalidInput: the settings' columns are none of the database's, or none of them varies.
        DatabaseError: the database is empty.
    """
    scaling = fit_scaling(database, settings.columns, settings.scaling)
    scaled = scaling.transform(database.values(scaling.columns))
    low, high = np.nanmin(scaled, axis=0), np.nanmax(scaled, axis=0)
    if settings.scaling == "minmax":
        low = np.full_like(low, 0.001)
    return Box(database, scaling, settings.metric, low, high)


class BoxSearch:
    """Bayesian optimisation in the continuous box of property ranges, then the nearest mask (``box`` mode, the paper's).

    scikit-optimize's Gaussian process (Matern 5/2, noise fitted) is told the query (a point of ``box``), as the paper's black-box function takes a property
    vector, and the lower confidence bound on the negated objective proposes the next one.

    Args:
        database: the masks to choose from, of one sparsity (Psi_s) or of many.
        settings: of the search.
        seed: of the initial points and the optimiser, and of the trainings.
        look_up: finds the mask of each query; the arguments are those of ``database.nearest``, which it is.
    """

    def __init__(self, database: MaskDatabase, settings: SearchSettings, seed: int, name: str = "bogp", look_up: LookUp = nearest) -> None:
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
            random_state=int(np.random.SeedSequence(seed).generate_state(2)[1]) % 2**31,
        )
        self._told = 0

    def ask(self) -> list[Proposal]:
        """The initial points at once, then one point a round."""
        if self._told >= self._settings.budget:
            return []
        phase = "initial"
        if self._told:
            with warnings.catch_warnings():  # a point that was asked before is replaced by a random one, which is as good as any here
                warnings.filterwarnings("ignore", message="The objective has been evaluated at")
                self._points, phase = np.array([self._optimiser.ask()]), "surrogate"
        return self._box.proposals(self._points, phase, self._look_up)

    def tell(self, scores: Sequence[float]) -> None:
        """Fit the surrogate to the negated scores."""
        self._told += len(scores)
        more = self._told < self._settings.budget
        with threadpool_limits(1):  # quicker on matrices this small, and the same bits on any number of cores
            self._optimiser.tell(self._points.tolist(), [-float(s) for s in scores], fit=more)


class RandomSearch:
    """Masks drawn uniformly from the database, each at most once: what any search has to beat at the same budget."""

    def __init__(self, database: MaskDatabase, budget: int, seed: int, name: str = "random") -> None:
        self.name, self.seed = name, checked_seed(seed)
        if not 1 <= whole("budget", budget) <= len(database):
            raise InvalidInput(f"A random search of {budget} masks needs a database of at least as many; this one has {len(database)}.")
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
        self._rows = rng.choice(len(database), budget, replace=False).tolist()

    def ask(self) -> list[Proposal]:
        """All masks at once: none of them depends on another's score."""
        rows, self._rows = self._rows, []
        return [Proposal(row, "random", {}) for row in rows]

    def tell(self, scores: Sequence[float]) -> None:
        """Nothing is learnt."""


def validation_accuracy(rows: pd.DataFrame) -> NDArray[np.float64]:
    """The objective of Algorithm 3: accuracy on the split that selection reads."""
    return rows["validation_accuracy"].to_numpy(dtype=np.float64)


def run(
    searchers: Sequence[Searcher],
    database: MaskDatabase,
    evaluator: Evaluator,
    protocol: Protocol,
    dataset: str,
    objective: Objective | Mapping[str, Objective] = validation_accuracy,
) -> pd.DataFrame:
    """Advance searchers in lockstep, one call of the evaluator a round, until all are done.

    Args:
        searchers: over that database; each pair of name and seed once.
        database: the masks that proposals refer to.
        evaluator: trains what the store does not hold.
        protocol: how masks are trained, and which layers they sit on.
        dataset: name of the data set.
        objective: turns rows of the evaluator (with the mask's ``sparsity`` added) into scores; larger is better. Or one for each name of a
            searcher, so that searches for different things advance together.

    Returns:
        The history, one evaluation a row, ordered by method, seed and evaluation: ``method``, ``search_seed``, ``evaluation`` (from 0), ``phase``,
        ``mask_id``, ``visit`` (0 for a mask's first training in this search), ``training_seed``, ``similarity``, ``sparsity``, ``objective``, the
        accuracies on each split, ``seconds``, ``key`` (of the evaluation), and ``query_...`` for each searched property.

    Raises:
        InvalidInput: no searchers, or two of one name and seed; a searcher without an objective, or one without a searcher; the graph does not
            fit the protocol.
    """
    if not searchers:
        raise InvalidInput("There are no searchers to run.")
    if len({(s.name, s.seed) for s in searchers}) != len(searchers):
        raise InvalidInput("Two searchers have the same name and seed; their histories could not be told apart.")
    names = {s.name for s in searchers}
    objectives = objective if isinstance(objective, Mapping) else dict.fromkeys(names, objective)
    if set(objectives) != names:
        raise InvalidInput(
            f"The objectives are named {sorted(objectives)} and the searchers {sorted(names)}; each name needs one objective."
        )
    history: list[pd.DataFrame] = []
    visits: dict[tuple[str, int, int], int] = {}
    while asked := [(s, p) for s in searchers for p in s.ask()]:
        seen = []
        for searcher, proposal in asked:
            at = (searcher.name, searcher.seed, proposal.row)
            seen.append(visits.get(at, 0))
            visits[at] = seen[-1] + 1
        seeds = [searcher.seed + SEED_LIMIT * visit for (searcher, _), visit in zip(asked, seen, strict=True)]
        jobs = [mask_job(database, p.row, seed, protocol, dataset) for (_, p), seed in zip(asked, seeds, strict=True)]
        rows = evaluator.evaluate(jobs)
        rows["sparsity"] = [float(database.table["sparsity"].iloc[p.row]) for _, p in asked]
        rows["objective"] = _scores(rows, [s.name for s, _ in asked], objectives)
        history.append(_history(asked, seen, seeds, rows, database))
        for searcher in searchers:
            mine = [score for (s, _), score in zip(asked, rows["objective"], strict=True) if s is searcher]
            if mine:
                searcher.tell(mine)
    table = pd.concat(history, ignore_index=True).sort_values(["method", "search_seed"], kind="stable", ignore_index=True)
    table.insert(2, "evaluation", table.groupby(["method", "search_seed"]).cumcount())
    return table


def mask_job(database: MaskDatabase, row: int, seed: int, protocol: Protocol, dataset: str) -> Job:
    """The job of training the network under the mask in that row of the database, laid over the protocol's masked layers."""
    return Job(Recipe(layer_masks(database.mask(row), protocol.widths, protocol.masked_layers)), seed, protocol, dataset)


def unpruned_job(seed: int, protocol: Protocol, dataset: str) -> Job:
    """The job of training the network without any mask."""
    return Job(Recipe((None,) * (len(protocol.widths) - 1)), seed, protocol, dataset)


def recommend(history: pd.DataFrame) -> pd.DataFrame:
    """The best observed evaluation of each search (the first where several are equal): one row a method and seed."""
    return history.loc[history.groupby(["method", "search_seed"])["objective"].idxmax()].reset_index(drop=True)


def retrain(
    chosen: pd.DataFrame, database: MaskDatabase, evaluator: Evaluator, protocol: Protocol, dataset: str, seeds: int
) -> pd.DataFrame:
    """Train chosen masks again with fresh seeds, which played no part in choosing them.

    The search of seed k has fresh seeds of its own, ``FRESH_SEED + k * seeds`` and the following, the same for each method: searches are then
    independent of each other, and methods still compared in pairs.

    Args:
        chosen: from ``recommend``.
        database, evaluator, protocol, dataset: as in ``run``.
        seeds: how many fresh seeds for each search.

    Returns:
        ``chosen`` with ``apparent`` (the validation accuracy that it was chosen by) and the means over the fresh seeds,
        ``fresh_validation`` and ``fresh_test``; and ``fresh_seeds``, their number.

    Raises:
        InvalidInput: a number of seeds out of range.
    """
    check_fresh_seeds(seeds, int(chosen["search_seed"].max()) + 1)
    row_of = database.row_of()
    jobs = [
        mask_job(database, row_of[one.mask_id], FRESH_SEED + one.search_seed * seeds + i, protocol, dataset)
        for one in chosen.itertuples()
        for i in range(seeds)
    ]
    rows = evaluator.evaluate(jobs)[["validation_accuracy", "test_accuracy"]].to_numpy().reshape(len(chosen), seeds, 2).mean(axis=1)
    return chosen.assign(apparent=chosen["validation_accuracy"], fresh_validation=rows[:, 0], fresh_test=rows[:, 1], fresh_seeds=seeds)


def check_fresh_seeds(seeds: int, searches: int) -> None:
    """Refuse no searches, and a number of fresh seeds that the searches with seeds 0 to ``searches`` - 1 cannot each have for themselves."""
    if whole("searches", searches) < 1:
        raise InvalidInput(f"searches is {searches}; at least one is needed.")
    most = (SEED_LIMIT - FRESH_SEED) // searches
    if not 1 <= whole("seeds", seeds) <= most:
        raise InvalidInput(f"seeds is {seeds}; with search seeds up to {searches - 1}, from 1 to {most} are allowed.")


def best_so_far(history: pd.DataFrame) -> pd.Series:
    """Largest objective that each search had seen after each evaluation."""
    return history.groupby(["method", "search_seed"])["objective"].cummax()


def _scores(rows: pd.DataFrame, names: Sequence[str], objectives: Mapping[str, Objective]) -> NDArray[np.float64]:
    """Each row under the objective of the searcher that asked for it."""
    scores = np.empty(len(rows))
    for name, objective in objectives.items():
        mine = np.array([n == name for n in names])
        if mine.any():
            scores[mine] = objective(rows[mine])
    return scores


def _history(
    asked: Sequence[tuple[Searcher, Proposal]], visits: Sequence[int], seeds: Sequence[int], rows: pd.DataFrame, database: MaskDatabase
) -> pd.DataFrame:
    proposals = [p for _, p in asked]
    table = pd.DataFrame(
        {
            "method": [s.name for s, _ in asked],
            "search_seed": [s.seed for s, _ in asked],
            "phase": [p.phase for p in proposals],
            "mask_id": [database.table["mask_id"].iloc[p.row] for p in proposals],
            "visit": list(visits),
            "training_seed": list(seeds),
            "similarity": [p.similarity for p in proposals],
        }
    )
    measured = ["sparsity", "objective", "train_accuracy", "validation_accuracy", "test_accuracy", "seconds", "key"]
    queries = pd.DataFrame([p.query for p in proposals]).add_prefix("query_")
    return pd.concat([table, rows[measured].reset_index(drop=True), queries], axis=1)


def checked_seed(seed: int) -> int:
    """A search seed, refused where it lies out of the range of search seeds."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < FRESH_SEED:
        raise InvalidInput(f"A search seed is {seed!r}; a whole number from 0 to {FRESH_SEED - 1} is needed.")
    return int(seed)
