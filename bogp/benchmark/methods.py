"""Methods of search in a pool, each with HPO-B's one function: those of the first table.

Each is made anew for a search, with a seed of its own.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bogp.benchmark.pool import Method
from bogp.checks import refuse, whole
from bogp.errors import InvalidInput

Values = NDArray[np.float64]


class RandomSearch:
    """A mask drawn uniformly from those left: what every method has to beat."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(whole("seed", seed, 0, 2**32 - 1))

    def observe_and_suggest(self, X_obs: Values, y_obs: Values, X_pen: Values) -> int:
        """See ``Method``."""
        return int(self._rng.integers(len(X_pen)))


class PrintedSearch:
    """The search of the first paper (Algorithms 2 and 3): Bayesian optimisation in the box of the
    properties with scikit-optimize's Gaussian process and the lower confidence bound (kappa 5),
    then the mask that is most similar to the query by the cosine.

    Other than in the paper, a mask is observed once at most, as the interface asks.
    """

    def __init__(self, seed: int) -> None:
        self._seed, self._queries = whole("seed", seed, 0, 2**32 - 1), np.empty((0, 0))

    def observe_and_suggest(self, X_obs: Values, y_obs: Values, X_pen: Values) -> int:
        """See ``Method``."""
        from skopt import Optimizer

        # of the first masks, which nobody asked for, the query is the mask itself
        known = len(self._queries)
        _check_fresh(known, len(X_obs))
        told = np.vstack([self._queries, X_obs[known:]]) if known else X_obs
        told = np.clip(told, 0.001, 1.0)
        optimiser = Optimizer(
            [(0.001, 1.0)] * X_obs.shape[1],
            base_estimator="GP",
            n_initial_points=len(X_obs),
            acq_func="LCB",  # explicit: kappa is ignored under the default
            acq_func_kwargs={"kappa": 5.0},
            random_state=(self._seed * 1_000 + len(X_obs)) % 2**31,
        )
        with threadpool_limits(1):  # the same bits on any cores
            optimiser.tell(told.tolist(), (-y_obs[:, 0]).tolist())
            query = np.array(optimiser.ask())
        self._queries = np.vstack([told, query])
        length = np.linalg.norm(X_pen, axis=1)
        return int(np.argmax(X_pen @ query / np.where(length > 0, length, 1.0)))


class GaussianProcess:
    """A Gaussian process (Matern 5/2, one length for all columns, noise fitted) over the masks
    themselves, and the largest expected improvement of the accuracy without its noise. Nothing in
    it is random.
    """

    def __init__(self, seed: int) -> None:
        self._seed = whole("seed", seed, 0, 2**32 - 1)

    def observe_and_suggest(self, X_obs: Values, y_obs: Values, X_pen: Values) -> int:
        """See ``Method``."""
        import warnings

        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        kernel = ConstantKernel(1.0, (1e-2, 1e2)) * Matern(1.0, (1e-1, 1e2), nu=2.5)
        model = GaussianProcessRegressor(
            kernel + WhiteKernel(0.1, (1e-4, 1e1)), normalize_y=True, random_state=self._seed
        )
        with threadpool_limits(1), warnings.catch_warnings():
            # a length at its bound says that nothing varies along the columns
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(X_obs, y_obs[:, 0])
            mean, deviation = model.predict(X_pen, return_std=True)
            known = model.predict(X_obs)
        noise = model.kernel_.k2.noise_level * y_obs.var()
        latent = np.sqrt(np.maximum(deviation**2 - noise, 0.0))
        return int(np.argmax(expected_improvement(mean, latent, float(known.max()))))


class RandomForest:
    """A random forest of 100 trees, and the largest expected improvement over their spread (as
    SMAC: Hutter et al. 2011).
    """

    def __init__(self, seed: int) -> None:
        self._seed = whole("seed", seed, 0, 2**32 - 1)

    def observe_and_suggest(self, X_obs: Values, y_obs: Values, X_pen: Values) -> int:
        """See ``Method``."""
        from sklearn.ensemble import RandomForestRegressor

        forest = RandomForestRegressor(100, min_samples_leaf=2, random_state=self._seed)
        forest.fit(X_obs, y_obs[:, 0])
        trees = np.array([tree.predict(X_pen) for tree in forest.estimators_])
        improvement = expected_improvement(
            trees.mean(axis=0), trees.std(axis=0), float(y_obs.max())
        )
        return int(np.argmax(improvement))


class TPE:
    """The tree-structured Parzen estimator of Optuna (Bergstra et al. 2011), then the nearest mask.

    Needs the extra ``optuna``.

    Raises:
        InvalidInput: Optuna is not installed.
    """

    def __init__(self, seed: int) -> None:
        try:
            import optuna
        except ImportError:
            raise InvalidInput(
                "TPE needs Optuna; install it with: pip install 'bogp[optuna]'."
            ) from None

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(
            seed=whole("seed", seed, 0, 2**32 - 1), n_startup_trials=1
        )
        self._study = optuna.create_study(direction="maximize", sampler=sampler)

    def observe_and_suggest(self, X_obs: Values, y_obs: Values, X_pen: Values) -> int:
        """See ``Method``."""
        import optuna

        space: dict[str, Any] = {
            f"x{k:03d}": optuna.distributions.FloatDistribution(0.0, 1.0)
            for k in range(X_obs.shape[1])
        }
        _check_fresh(self._told, len(X_obs))
        # the masks that were observed, not the points that were asked for
        for x, y in zip(X_obs[self._told :], y_obs[self._told :, 0], strict=True):
            params = dict(zip(space, x.tolist(), strict=True))
            self._study.add_trial(
                optuna.trial.create_trial(params=params, distributions=space, value=float(y))
            )
        asked = self._study.ask(space)
        self._study.tell(asked, state=optuna.trial.TrialState.FAIL)
        point = np.array([asked.params[name] for name in space])
        return int(np.argmin(((X_pen - point) ** 2).sum(axis=1)))

    @property
    def _told(self) -> int:
        import optuna

        done = (optuna.trial.TrialState.COMPLETE,)
        return len(self._study.get_trials(deepcopy=False, states=done))


def _check_fresh(told: int, observed: int) -> None:
    refuse(
        told > observed,
        "This method has searched before; make a new one for each search.",
    )


def expected_improvement(mean: Values, deviation: Values, best: float) -> Values:
    """E[max(f - best, 0)] for f normal with such means and standard deviations (Mockus 1978)."""
    from scipy.stats import norm

    safe = np.where(deviation > 0, deviation, 1.0)
    score = (mean - best) / safe
    found = (mean - best) * norm.cdf(score) + safe * norm.pdf(score)
    return np.where(deviation > 0, found, np.maximum(mean - best, 0.0))


METHODS: Mapping[str, Callable[[int], Method]] = {
    "random": RandomSearch,
    "printed": PrintedSearch,
    "gaussian_process": GaussianProcess,
    "random_forest": RandomForest,
    "tpe": TPE,
}
