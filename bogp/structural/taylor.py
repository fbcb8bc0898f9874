"""The change of the loss under any removal, predicted from derivatives at the full network (paper
section 2, second approach).

With a gate on each edge a removal is a step of -1 in the gates that it closes, so that the change
of the mean loss is, to second order,
- sum g + 1/2 sum sum H over the closed gates: the terms of pairs are what scores of single edges
lack. One forward and backward pass gives the gradient of each example's loss by its own gates
(Molchanov et al. 2019); their mean is g, and their mean outer product the Fisher matrix, which
stands in for H near a minimum.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from bogp.checks import indices, is_one_of
from bogp.errors import InvalidInput, NotCapturable, NotFinite
from bogp.structural.gates import BATCH, Examples, Loss, check_losses, spread, stand_alone
from bogp.structural.graph import ComputationGraph, check_ready, open_gates
from bogp.structural.traced.containers import filled, flattened
from bogp.structural.traced.nodes import first_line


@dataclass(frozen=True, eq=False)
class TaylorModel:
    """A quadratic model of the loss in the gates, at the full network.

    Attributes:
        graph: of the network.
        gradient: (E,) of the mean loss by the gates.
        curvature: (E, E) its Hessian or what stands in for it, at the gates that a removal can
            close; zeros for the first order.
    """

    graph: ComputationGraph
    gradient: NDArray[np.float64]
    curvature: NDArray[np.float64]

    def change(self, masks: ArrayLike) -> NDArray[np.float64]:
        """(M,) the predicted change of the mean loss under each mask."""
        closed = 1.0 - self.graph.gates(masks)
        return -closed @ self.gradient + 0.5 * np.einsum(
            "me,ef,mf->m", closed, self.curvature, closed, optimize=True
        )


def gate_gradients(
    graph: ComputationGraph,
    examples: Examples,
    loss: Loss,
    batch: int = BATCH,
    gates: Sequence[int] | None = None,
) -> NDArray[np.float64]:
    """(N, E) the gradient of each example's loss by the gates, at the full network.

    Where the batch comes first everywhere, each example has gates of its own, and one forward and
    one backward pass give all gradients. Elsewhere, such as where examples are folded into tokens,
    all have the same gates, with a backward pass for each example: of that example alone, where it
    gets the same outputs alone.

    Args:
        graph: of the network.
        examples: N of them.
        loss: of each example.
        batch: the most examples in one pass.
        gates: those whose derivatives are wanted, the others are left at zero; None for all. A gate
            costs a pass over the value that it scales.

    Raises:
        InvalidInput: a layer in training mode, or a loss that is not one number an example, or does
            not follow from the gates by differentiable operations.
        NotCapturable: the network does not run on batches of this size, or an operation has no
            derivative.
        NotFinite: a gradient is NaN or infinite.
    """
    check_ready(graph)
    found = []
    size = 1 if not graph.batched and stand_alone(graph, examples, spread) else batch
    for part in examples.batches(size):
        with _derivatives("gradient"):
            ones = _ones(graph, *[len(part)] * graph.batched)
            losses = _losses(graph, ones, part, loss, gates)
            sums = [losses.sum()] if graph.batched else losses
            rows = [_grads([one], [ones])[0].reshape(-1, len(graph.edges)) for one in sums]
            found += [row.double().cpu().numpy() for row in rows]
    return _finite(np.concatenate(found), "The gradient of the loss by the gates")


def mean_gradient(
    graph: ComputationGraph,
    examples: Examples,
    loss: Loss,
    batch: int = BATCH,
    gates: Sequence[int] | None = None,
) -> NDArray[np.float64]:
    """(E,) the gradient of the mean loss by the gates: the mean of ``gate_gradients``, at one
    backward pass whatever the network does with the batch; arguments as there.

    Raises:
        InvalidInput, NotCapturable, NotFinite: as ``gate_gradients``.
    """
    check_ready(graph)
    total = np.zeros(len(graph.edges))
    for part in examples.batches(batch):
        with _derivatives("gradient"):
            ones = _ones(graph)
            losses = _losses(graph, ones, part, loss, gates)
            total += _grads([losses.sum()], [ones])[0].double().cpu().numpy()
    return _finite(total / len(examples), "The gradient of the loss by the gates")


def _ones(graph: ComputationGraph, *examples: int) -> Tensor:
    """(E,) open gates for all examples, or (N, E), whose derivatives are wanted."""
    return open_gates(graph, *examples).requires_grad_()


def _losses(
    graph: ComputationGraph,
    gates: Tensor,
    part: Examples,
    loss: Loss,
    only: Sequence[int] | None = None,
) -> Tensor:
    """(N,) losses of examples, as a function of the gates, or of some of them only."""
    return _checked(loss(graph.outputs(gates, None, part.inputs, only), part.targets), part)


def _checked(losses: Tensor, part: Examples) -> Tensor:
    check_losses(losses, len(part))
    if not losses.requires_grad:
        raise InvalidInput(
            "The loss does not follow from the gates by differentiable operations (no_grad, detach "
            "or whole numbers are on the way); leave_one_out needs no derivatives."
        )
    return losses


@contextlib.contextmanager
def _derivatives(what: str) -> Iterator[None]:
    """Says in words which operation torch cannot differentiate."""
    try:
        yield
    except RuntimeError as error:
        if not re.search("derivative|differentiat|double backward", str(error), re.IGNORECASE):
            raise
        name = re.search(r"(?:aten::|')(\w+?)(?:_backward)?\b", str(error))
        raise NotCapturable(
            f"The {what} needs a derivative of {name[1] if name else 'an operation'} that torch "
            "does not have; use a method of lower order (first_order, fisher, leave_one_out), or "
            f"another operation in its place. torch says: {first_line(error)}"
        ) from error


def fisher(gradients: NDArray[np.float64]) -> NDArray[np.float64]:
    """(E, E) the empirical Fisher matrix of the gates, from the (N, E) gradients of single
    examples.
    """
    return gradients.T @ gradients / len(gradients)


def hessian(
    graph: ComputationGraph,
    examples: Examples,
    loss: Loss,
    batch: int = BATCH,
    gates: Sequence[int] | None = None,
) -> NDArray[np.float64]:
    """(E, E) the exact Hessian of the mean loss by the gates, a row for each product with a unit
    vector.

    Args:
        graph: of the network.
        examples: N of them.
        loss: of each example.
        batch: examples in one pass.
        gates: those whose rows and columns are wanted, the others are left at zero; None for all.

    Raises:
        InvalidInput: a layer in training mode, or a loss that is not one number an example.
        NotCapturable: an operation has no second derivative in torch; the message names it.
        NotFinite: an entry is NaN or infinite.
    """

    def part_of_it(part: Examples, ones: Tensor, rows: list[int]) -> Tensor:
        losses = _losses(graph, ones, part, loss)
        (gradient,) = torch.autograd.grad(losses.sum(), ones, create_graph=True)
        return torch.stack([_grads([gradient[row]], [ones])[0][rows] for row in rows])

    return _summed(graph, examples, batch, gates, part_of_it, "Hessian of the loss by the gates")


def gauss_newton(
    graph: ComputationGraph,
    examples: Examples,
    loss: Loss,
    batch: int = 128,
    gates: Sequence[int] | None = None,
) -> NDArray[np.float64]:
    """(E, E) J' H J averaged over examples.

    J is the derivative of the network's outputs by the gates, H the Hessian of the loss by the
    outputs. The matrix is positive semi-definite for a convex loss, and the Hessian itself where
    the outputs are linear in the gates. A column of J is the derivative of J'u, which is linear in
    u, by u: two backward passes, where forward differentiation costs many times as much.

    Args:
        graph, examples, loss, batch, gates: as for ``hessian``.

    Raises:
        InvalidInput: a layer in training mode, or a loss that is not one number an example.
        NotCapturable: an operation has no second derivative in torch; the message names it.
        NotFinite: an entry is NaN or infinite.
    """

    def part_of_it(part: Examples, ones: Tensor, rows: list[int]) -> Tensor | None:
        flat, form = flattened(graph.outputs(ones, None, part.inputs))
        outputs = [o.detach().requires_grad_() if o.is_floating_point() else o for o in flat]
        losses = _checked(loss(filled(form, outputs), part.targets), part)
        pairs = [(o, f) for o, f in zip(outputs, flat, strict=True) if f.requires_grad]
        by = [o for o, _ in pairs]
        slopes = torch.autograd.grad(losses.sum(), by, create_graph=True, allow_unused=True)
        # Outputs that the loss reads in a way that bends; a straight one adds nothing.
        bent = [
            (*p, s) for p, s in zip(pairs, slopes, strict=True) if s is not None and s.requires_grad
        ]
        if not bent:
            return None
        at, of, slope = (list(some) for some in zip(*bent, strict=True))
        u = [torch.zeros_like(o, requires_grad=True) for o in at]
        (pulled,) = torch.autograd.grad(of, ones, u, create_graph=True)
        columns = [_grads([pulled[row]], u) for row in rows]
        products = [_joined(_grads(slope, at, column)) for column in columns]
        return torch.stack([_joined(column) for column in columns]) @ torch.stack(products).T

    return _summed(graph, examples, batch, gates, part_of_it, "Gauss-Newton matrix of the gates")


def _summed(
    graph: ComputationGraph,
    examples: Examples,
    batch: int,
    gates: Sequence[int] | None,
    matrix: Callable[[Examples, Tensor, list[int]], Tensor | None],
    what: str,
) -> NDArray[np.float64]:
    """(E, E) the mean over examples of a matrix by the gates, made symmetric.

    Args:
        graph, examples, batch, gates: as for ``hessian``.
        matrix: of some examples, the (E,) gates and the R gates that are wanted: (R, R), their sum
            over those examples; None for zeros.
        what: the name of the matrix in the error.
    """
    check_ready(graph)
    count = len(graph.edges)
    rows = list(range(count)) if gates is None else indices("gates", gates, count)
    total = np.zeros((count, count))
    with sdpa_kernel(SDPBackend.MATH):  # the fast kernels of attention have no second derivative
        for part in examples.batches(batch) if rows else ():
            with _derivatives(what):
                found = matrix(part, _ones(graph), rows)
            if found is not None:
                total[np.ix_(rows, rows)] += found.double().cpu().numpy()
    return _finite((total + total.T) / (2 * len(examples)), f"The {what}")


def _grads(
    of: Sequence[Tensor], by: Sequence[Tensor], weights: Sequence[Tensor] | None = None
) -> list[Tensor]:
    """Derivatives, zero where there is no dependence; the graph is kept."""
    if not any(o.requires_grad for o in of):
        return [torch.zeros_like(b) for b in by]
    found = torch.autograd.grad(of, by, weights, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(b) if f is None else f for f, b in zip(found, by, strict=True)]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([p.detach().reshape(-1).double() for p in parts])


def closable(graph: ComputationGraph) -> list[int]:
    """The gates that some removal closes: those into sums, concatenations and outputs, for what
    else loses an input goes as a whole.
    """
    return [
        e.index
        for e in graph.edges
        if e.is_floating and graph.vertices[e.target].kind in ("sum", "cat", "output")
    ]


def taylor_model(
    graph: ComputationGraph,
    examples: Examples,
    loss: Loss,
    curvature: str = "hessian",
    batch: int = BATCH,
) -> TaylorModel:
    """The quadratic model of the loss from one subset of the data.

    Args:
        graph: of the network.
        examples: for calibration.
        loss: of each example.
        curvature: ``none`` (first order), ``fisher``, ``gauss_newton`` or ``hessian``.
        batch: examples in one pass.

    Raises:
        InvalidInput: no such curvature; and as ``gate_gradients``.
    """
    if not is_one_of(curvature, CURVATURES):
        raise InvalidInput(
            f"There is no curvature {curvature!r}; there are: {', '.join(CURVATURES)}."
        )
    if curvature == "fisher":
        gradients = gate_gradients(graph, examples, loss, batch)
        return TaylorModel(graph, gradients.mean(axis=0), fisher(gradients))
    matrix = np.zeros((len(graph.edges),) * 2)
    if curvature != "none":
        matrix = {"hessian": hessian, "gauss_newton": gauss_newton}[curvature](
            graph, examples, loss, gates=closable(graph)
        )
    return TaylorModel(graph, mean_gradient(graph, examples, loss, batch), matrix)


CURVATURES = ("none", "fisher", "gauss_newton", "hessian")


def _finite(values: NDArray[np.float64], what: str) -> NDArray[np.float64]:
    if not np.isfinite(values).all():
        raise NotFinite(f"{what} is not finite; check the weights, the data and the loss.")
    return values
