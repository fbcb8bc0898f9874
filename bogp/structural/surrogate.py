"""Models that predict the loss of a mask: fitted to evaluated masks, or from one look at the
trained network (zero-shot).

A surrogate is a frozen set of settings with ``fit(masks, losses)``, which gives a ``Fitted`` with
``predict(masks)``. Predictions are losses: higher is worse. ``PathSurrogate`` is the published one;
the others are the controls it needs, and what can be made of the Taylor model when some masks may
be evaluated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from bogp.checks import bits, floats
from bogp.errors import InvalidInput
from bogp.structural.graph import ComputationGraph

Array = NDArray[np.float64]
# (M, E) masks -> (M,) predicted losses, or changes of the loss
Predictor = Callable[[ArrayLike], Array]
Features = Callable[[ArrayLike], Array]  # (M, E) masks -> (M, D) what a surrogate reads of them


@dataclass(frozen=True, eq=False)
class Fitted:
    """A surrogate fitted to evaluated masks.

    Attributes:
        predict: of (M, E) masks the (M,) predicted losses.
    """

    predict: Predictor


class Surrogate(Protocol):
    """Settings of a surrogate."""

    def fit(self, masks: ArrayLike, losses: ArrayLike) -> Fitted:
        """Fit it to the (M,) losses of (M, E) masks."""
        ...


def checked(masks: ArrayLike, losses: ArrayLike) -> tuple[NDArray[np.bool_], Array]:
    """Masks and their losses, as arrays.

    Raises:
        InvalidInput: not one finite loss a mask, of a size whose square can be computed with, or
            fewer than two masks.
    """
    rows, values = bits("Masks", masks), floats("losses", losses)
    if rows.ndim != 2 or values.shape != (len(rows),) or len(rows) < 2:
        raise InvalidInput(
            f"A surrogate is fitted to two or more masks, a loss each; got masks {rows.shape} "
            f"and losses {values.shape}."
        )
    bad = np.flatnonzero(~(np.abs(values) < 1e100))
    if len(bad):
        raise InvalidInput(
            f"The loss of mask {bad[0]} is {values[bad[0]]}, which is not finite or beyond "
            "1e100; leave that mask out."
        )
    return rows, values


# what is read of a mask


def kept_features(edges: NDArray[np.intp]) -> Features:
    """The mask itself, 0 and 1, at those edges."""
    return lambda masks: bits("Masks", masks)[:, edges].astype(np.float64)


def live_features(graph: ComputationGraph, edges: NDArray[np.intp]) -> Features:
    """``ComputationGraph.live``, 0 and 1, at those edges: masks that make the same network read
    alike.
    """
    return lambda masks: graph.live(masks)[:, edges].astype(np.float64)


# the published surrogate


def path_weights(graph: ComputationGraph, masks: ArrayLike, logits: Tensor) -> Tensor:
    """(M,) G(gamma, M): the sum over paths that survive a mask, from an input to an output, of the
    product of their edges' gammas.

    One sweep over the graph in topological order, so that it costs as much as there are edges,
    however many paths there are.

    Args:
        graph: of the network.
        masks: (M, E), True where an edge stays.
        logits: (E,) float64; gamma is their softmax over each vertex's outgoing edges, so that G is
            1 for the full graph where every vertex leads on.
    """
    rows = torch.as_tensor(graph.masks(masks), dtype=torch.float64)
    source, target = (torch.as_tensor(end) for end in graph.ends)
    high = torch.full((len(graph.vertices),), -torch.inf, dtype=torch.float64).scatter_reduce(
        0, source, logits.detach(), "amax"
    )
    scaled = torch.exp(logits - high[source])
    gamma = (
        scaled
        / torch.zeros(len(graph.vertices), dtype=torch.float64).index_add(0, source, scaled)[source]
    )
    kept = rows * gamma
    inputs = [v.index for v in graph.vertices if v.kind == "input"]
    reached: list[Tensor] = []
    for vertex in graph.vertices:
        into = torch.nonzero(target == vertex.index).ravel()
        if vertex.index in inputs:
            reached.append(torch.full((len(rows),), 1.0 / len(inputs), dtype=torch.float64))
        elif len(into):
            reached.append(
                (
                    kept[:, into] * torch.stack([reached[s] for s in source[into].tolist()], dim=1)
                ).sum(dim=1)
            )
        else:
            reached.append(torch.zeros(len(rows), dtype=torch.float64))
    return torch.stack([reached[v.index] for v in graph.vertices if v.kind == "output"]).sum(dim=0)


@dataclass(frozen=True)
class PathSurrogate:
    """The published surrogate: G(gamma, M), fitted by mean squared error to 1 - (min-max scaled
    loss).

    Attributes:
        graph: of the network.
        steps: most iterations of L-BFGS, from equal weights.
    """

    graph: ComputationGraph
    steps: int = 100

    def fit(self, masks: ArrayLike, losses: ArrayLike) -> Fitted:
        """Fit the weights of the edges.

        Raises:
            InvalidInput: as ``checked``; or all losses are equal.
        """
        rows, values = checked(masks, losses)
        low, high = values.min(), values.max()
        if high == low:
            raise InvalidInput(
                "All losses are equal, so they have no min-max scale; evaluate masks that "
                "differ more."
            )
        goal = torch.as_tensor(1 - (values - low) / (high - low))
        logits = torch.zeros(len(self.graph.edges), dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.LBFGS([logits], max_iter=self.steps, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimiser.zero_grad()
            error = (path_weights(self.graph, rows, logits) - goal).square().mean()
            error.backward()
            return error

        optimiser.step(closure)
        fitted = logits.detach()

        def predict(masks: ArrayLike) -> Array:
            weights: Array = path_weights(self.graph, masks, fitted).numpy()
            return float(low) + (1 - weights) * (float(high) - float(low))

        return Fitted(predict)


# regressions


@dataclass(frozen=True)
class LinearSurrogate:
    """Ridge regression, its penalty chosen by leave-one-out error.

    Attributes:
        features: what it reads of a mask.
        pairs: whether products of two features stand beside the features, both coded as -1 and 1.
    """

    features: Features
    pairs: bool = False

    def fit(self, masks: ArrayLike, losses: ArrayLike) -> Fitted:
        """Fit the coefficients.

        Raises:
            InvalidInput: as ``checked``.
        """
        from sklearn.linear_model import RidgeCV

        rows, values = checked(masks, losses)
        regression = RidgeCV(alphas=np.logspace(-6, 6, 25)).fit(self._read(rows), values)

        def predict(masks: ArrayLike) -> Array:
            read = self._read(masks)
            return np.asarray(regression.predict(read)) if len(read) else np.empty(0)

        return Fitted(predict)

    def _read(self, masks: ArrayLike) -> Array:
        signs = 2 * self.features(masks) - 1
        if not self.pairs:
            return signs
        first, second = np.triu_indices(signs.shape[1], 1)
        return np.concatenate([signs, signs[:, first] * signs[:, second]], axis=1)


@dataclass(frozen=True, eq=False)
class FittedProcess(Fitted):
    """A fitted Gaussian process.

    Attributes:
        predict_with_std: of (M, E) masks the (M,) predicted losses and their (M,) standard
            deviations, noise included.
        slope: of the prior in the process's mean; zero without one.
    """

    predict_with_std: Callable[[ArrayLike], tuple[Array, Array]]
    slope: float


@dataclass(frozen=True)
class GaussianProcess:
    """A Gaussian process over masks with noise; its Matern kernel falls with the number of features
    in which two masks differ.

    Attributes:
        features: what it reads of a mask.
        prior: predicts the change of the loss (``TaylorModel.change``); the process then has
            ``offset + slope * prior`` for its mean, both fitted by least squares, and learns the
            rest. None: a constant mean.
    """

    features: Features
    prior: Predictor | None = None

    def fit(self, masks: ArrayLike, losses: ArrayLike) -> FittedProcess:
        """Fit the mean, then length scale, variance and noise by marginal likelihood.

        Raises:
            InvalidInput: as ``checked``.
        """
        import warnings

        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        rows, values = checked(masks, losses)
        prior = self.prior or (lambda masks: np.zeros(len(np.asarray(masks))))
        offset, slope = _line(prior(rows), values)
        read = self.features(rows)
        rest = values - offset - slope * prior(rows)
        scale = float(rest.std()) or 1.0
        length = np.sqrt(read.shape[1])
        kernel = ConstantKernel(1.0, (1e-3, 1e3)) * Matern(
            length, (0.3, 30 * length), nu=2.5
        ) + WhiteKernel(1e-2, (1e-6, 1.0))
        process = GaussianProcessRegressor(kernel, random_state=0)
        with warnings.catch_warnings():
            # of a parameter at its bound: few masks leave the kernel undetermined
            warnings.simplefilter("ignore", ConvergenceWarning)
            process.fit(read, rest / scale)

        def predict_with_std(masks: ArrayLike) -> tuple[Array, Array]:
            read = self.features(masks)
            if len(read) == 0:
                return np.empty(0), np.empty(0)
            mean, std = process.predict(read, return_std=True)
            return offset + slope * prior(masks) + scale * mean, scale * std

        return FittedProcess(lambda masks: predict_with_std(masks)[0], predict_with_std, slope)


def _line(x: Array, y: Array) -> tuple[float, float]:
    """Offset and slope of the least-squares line; the slope is zero where x is constant, and never
    negative.
    """
    centred = x - x.mean()
    spread = float(centred @ centred)
    slope = max(float(centred @ (y - y.mean())) / spread, 0.0) if spread > 0 else 0.0
    return float(y.mean() - slope * x.mean()), slope


# zero-shot


def kept_sum(importance: ArrayLike) -> Predictor:
    """The published zero-shot form: a mask is as good as the sum of its kept edges' importance,
    (E,) of them; as a prediction of loss, its negative.
    """
    weights = floats("importance", importance)
    return lambda masks: -(np.asarray(masks, dtype=np.float64) @ weights)


def reader_magnitude(graph: ComputationGraph) -> Array:
    """(E,) mean absolute weight of the vertex that reads each edge (published L1, as we read it);
    zero where that has no weights.
    """
    parameters = dict(graph.module.named_parameters())
    found = []
    for edge in graph.edges:
        weights = [
            parameters[p].detach().abs().ravel()
            for p in graph.vertices[edge.target].parameters
            if parameters[p].dim() > 1
        ]
        found.append(float(torch.cat(weights).double().mean()) if weights else 0.0)
    return np.array(found)
