"""A fixed pool of masks that a method searches, mask by mask.

The interface is that of HPO-B (Pineda Arango et al. 2021), discrete: a method has one function,
``observe_and_suggest(X_obs, y_obs, X_pen)``, which sees what was observed so far and names one of
the masks that are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from typing import Protocol as Interface

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
            y_obs: (t, 1) its accuracies, larger is better.
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
        """What choosing the mask with the highest of *all* observations is judged by: the ceiling
        of every search that trusts its observations.
        """
        return float(self.judged[int(np.argmax(self.observed))])

    def evaluate(
        self, method: Method, budget: int = 25, *, seed: int = 0, initial: int = 5
    ) -> pd.DataFrame:
        """Let a method search the pool.

        Args:
            method: a fresh one; it may keep what it likes between calls.
            budget: masks that are observed, the initial ones among them.
            seed: of the initial masks, which are the same for each method.
            initial: masks drawn uniformly before the method is asked.

        Returns:
            One row an observation: ``trial`` (from 1), ``id``, ``observed``, ``chosen`` (the id of
            the best observed so far), ``judged`` (of the chosen) and ``regret`` (``best`` minus
            that).

        Raises:
            InvalidInput: a budget out of range, or a suggestion that is no row of what is left.
        """
        whole("budget", budget, 1, len(self))
        whole("initial", initial, 1, budget)
        rng = np.random.default_rng((whole("seed", seed, 0), 17))
        rows = rng.choice(len(self), initial, replace=False).tolist()
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
    fits = isinstance(asked, (int, np.integer)) and 0 <= asked < left
    refuse(
        not fits,
        f"The method suggested {asked!r}; a row of X_pen is needed, a whole number from 0 to "
        f"{left - 1}.",
    )
    return int(asked)
