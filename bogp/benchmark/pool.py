"""A fixed pool of masks that a method searches, mask by mask.

The interface is that of HPO-B (Pineda Arango et al. 2021), discrete: a method has one function,
``observe_and_suggest(X_obs, y_obs, X_pen)``, which sees what was observed so far and names one of
the masks that are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import index
from typing import Any
from typing import Protocol as Interface
from zlib import crc32

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bogp.checks import refuse, whole

Values = NDArray[np.float64]


class Method(Interface):
    """What ``Pool.evaluate`` needs of a method; those of HPO-B have it too."""

    def observe_and_suggest(self, X_obs: Values, y_obs: Values, X_pen: Values) -> int:
        """The mask to observe next.

        Args:
            X_obs: (t, d) what was observed, each column in [0, 1].
            y_obs: (t, 1) its accuracies as they are, larger is better (HPO-B scales them to [0, 1]
                over the pool, which nobody knows beforehand).
            X_pen: (N - t, d) what is left.

        Returns:
            A row of ``X_pen``.
        """


@dataclass(frozen=True, eq=False)
class Pool:
    """Masks of one sparsity with what a search may read, observe, and is judged by.

    Attributes:
        ids: (N,) of the masks.
        columns: (d,) names of what is read.
        values: (N, d) as they are; NaN where a property does not exist.
        observed: (N,) validation accuracy of one training.
        judged: (N,) mean test accuracy of other trainings.
    """

    ids: tuple[str, ...]
    columns: tuple[str, ...]
    values: Values
    observed: Values
    judged: Values

    def __post_init__(self) -> None:
        masks = len(self.ids)
        shapes: dict[str, tuple[int, ...]] = {"values": (masks, len(self.columns))}
        shapes |= {"observed": (masks,), "judged": (masks,)}
        for name, shape in shapes.items():
            own = np.array(getattr(self, name), dtype=np.float64)  # a copy, nobody else's
            refuse(
                own.shape != shape or (name != "values" and not np.isfinite(own).all()),
                f"A pool's {name} has shape {own.shape}; {shape} is needed for these ids and "
                "columns, and accuracies are finite.",
            )
            own.setflags(write=False)
            object.__setattr__(self, name, own)

    def __repr__(self) -> str:
        return f"Pool({len(self)} masks, {len(self.columns)} columns)"

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def X(self) -> Values:
        """(N, d) the values, ``filled``, with each column from 0 to 1 over the pool; a constant
        column is 0.
        """
        values = filled(self.values)
        low, high = values.min(axis=0), values.max(axis=0)
        return (values - low) / np.where(high > low, high - low, 1.0)

    @property
    def best(self) -> float:
        """The highest of ``judged``. It is partly luck, so that no search can reach it."""
        return float(self.judged.max())

    @property
    def oracle(self) -> float:
        """What choosing the mask with the highest of *all* observations is judged by. It is one
        mask, so it is noisy: take the mean over several pools.
        """
        return float(self.judged[int(np.argmax(self.observed))])

    def random(self, budget: int = 25) -> float:
        """What random search of so many masks is judged by, on average: exact, without a draw.

        Of ``budget`` masks without replacement, those with the k-th highest observation or a higher
        one are missed with probability C(N - k, budget) / C(N, budget).

        Raises:
            InvalidInput: a budget out of range.
        """
        n, masks = whole("budget", budget, 1, len(self)), len(self)
        group = np.unique(-self.observed, return_inverse=True)[1]  # 0 for the highest
        counts = np.bincount(group)
        above = np.cumsum(counts)
        missed = np.exp(_log_choose(masks - above, n) - _log_choose(np.array(masks), n))
        chance = -np.diff(np.concatenate([[1.0], missed]))
        return float(chance @ (np.bincount(group, weights=self.judged) / counts))

    def evaluate(
        self, method: Method, budget: int = 25, *, seed: int = 0, initial: int | None = None
    ) -> pd.DataFrame:
        """Let a method search the pool.

        Args:
            method: a fresh one; it may keep what it likes between calls.
            budget: masks that are observed, the initial ones among them (HPO-B does not count
                those).
            seed: of the initial masks, which are the same for each method, and others in another
                pool.
            initial: masks drawn uniformly before the method is asked; None is 5, or the budget.

        Returns:
            One row an observation: ``trial`` (from 1), ``id``, ``observed``, ``chosen`` (the id of
            the best observed so far), ``judged`` (of the chosen) and ``regret`` (``best`` minus
            that).

        Raises:
            InvalidInput: a method without that function, a budget out of range, or a suggestion
                that is no row of what is left.
        """
        refuse(
            isinstance(method, type) or not callable(getattr(method, "observe_and_suggest", None)),
            f"{method!r} cannot search; an object with observe_and_suggest(X_obs, y_obs, X_pen) is "
            "needed, such as benchmark.GaussianProcess(seed=0).",
        )
        whole("budget", budget, 1, len(self))
        first = min(5, budget) if initial is None else whole("initial", initial, 1, budget)
        own = crc32(self.observed.tobytes())
        rng = np.random.default_rng((whole("seed", seed, 0), own))
        rows = rng.choice(len(self), first, replace=False).tolist()
        pending = np.setdiff1d(np.arange(len(self)), rows)
        while len(rows) < budget:
            asked = method.observe_and_suggest(
                self.X[rows], self.observed[rows][:, None], self.X[pending]
            )
            at = _suggested(asked, len(pending))
            rows.append(int(pending[at]))
            pending = np.delete(pending, at)
        return self._trace(rows)

    def _trace(self, rows: Sequence[int]) -> pd.DataFrame:
        seen = self.observed[list(rows)]
        # the first of equals
        leader = [int(np.argmax(seen[: t + 1])) for t in range(len(rows))]
        chosen = [rows[at] for at in leader]
        return pd.DataFrame(
            {
                "trial": np.arange(1, len(rows) + 1),
                "id": [self.ids[row] for row in rows],
                "observed": seen,
                "chosen": [self.ids[row] for row in chosen],
                "judged": self.judged[chosen],
                "regret": self.best - self.judged[chosen],
            }
        )


def filled(values: Values) -> Values:
    """Values with what does not exist, such as the path length of a graph in several parts, counted
    as the largest of its column: it is a path that no edge closes. A column of nothing else is 0.

    Args:
        values: (N, d).
    """
    finite = np.where(np.isfinite(values), values, np.nan)
    largest = np.nan_to_num(np.fmax.reduce(finite, axis=0))
    return np.where(np.isfinite(finite), finite, largest)


def _suggested(asked: Any, left: int) -> int:
    try:
        row = -1 if isinstance(asked, bool) else index(asked)
    except TypeError:
        row = -1
    refuse(
        not 0 <= row < left,
        f"The method suggested {asked!r}; a row of X_pen is needed, a whole number from 0 to "
        f"{left - 1}.",
    )
    return row


def _log_choose(n: NDArray[np.int64], k: int) -> Values:
    """Logarithm of the number of ways to choose k of n; -inf where there is none."""
    from scipy.special import gammaln

    safe = np.maximum(n, k)
    found = gammaln(safe + 1) - gammaln(k + 1) - gammaln(safe - k + 1)
    return np.where(n >= k, found, -np.inf)
