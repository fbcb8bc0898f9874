"""Derivatives by gates against loops, finite differences and true changes of the loss."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from bogp.errors import InvalidInput, NotFinite
from bogp.structural import gates, taylor
from bogp.structural.gates import Examples
from bogp.structural.tracing import capture
from tests.structural import models
from tests.structural.models import ZOO, make

DOUBLE = torch.float64


def problem(factory, count=8, outputs=6):
    inputs = (models.x(count, 6).double(),)
    graph = capture(make(factory, DOUBLE), inputs)
    return graph, Examples(inputs, models.x(count, outputs, seed=5).double())


def mean_loss(graph, z, examples, loss):
    with torch.no_grad():
        return float(
            loss(graph.gated(torch.as_tensor(z), None, *examples.inputs), examples.targets).mean()
        )


def test_second_order_is_the_true_change_of_a_linear_network_for_every_mask():
    graph, examples = problem(models.Parallel)
    count = len(graph.edges)
    masks = np.array(list(itertools.product([False, True], repeat=count)))
    assert count == 9 and len(masks) == 2**count
    true = gates.losses_under(graph, masks, examples, gates.squared_error)
    true -= true[-1]
    for curvature in ("hessian", "gauss_newton"):
        model = taylor.taylor_model(graph, examples, gates.squared_error, curvature)
        assert np.abs(model.change(masks) - true).max() < 1e-9
    first = taylor.taylor_model(graph, examples, gates.squared_error, "none").change(masks)
    assert np.abs(first - true).max() > 1e-2, "the quadratic term is needed"


@pytest.mark.parametrize("factory", [models.Smooth, models.Attention, models.Gated])
@pytest.mark.parametrize(
    "loss", [gates.squared_error, lambda o, t: cross_entropy(o, t.softmax(1), reduction="none")]
)
def test_gradient_and_hessian_match_finite_differences(factory, loss):
    inputs = (
        models.x(5, 4, 6).double() if factory is models.Attention else models.x(5, 6).double(),
    )
    graph = capture(make(factory, DOUBLE), inputs)
    examples, count, step = (
        Examples(inputs, models.x(5, 6, seed=3).double()),
        len(graph.edges),
        1e-4,
    )
    units = np.eye(count) * step

    def at(*moves):
        return mean_loss(graph, np.ones(count) + sum(moves), examples, loss)

    gradient = [(at(u) - at(-u)) / (2 * step) for u in units]
    assert taylor.gate_gradients(graph, examples, loss).mean(axis=0) == pytest.approx(
        np.array(gradient), abs=1e-6
    )
    found = taylor.hessian(graph, examples, loss, batch=2)
    scale = np.abs(found).max()
    for i, j in itertools.combinations_with_replacement(range(count), 2):
        u, v = units[i], units[j]
        truth = (at(u, v) - at(u, -v) - at(-u, v) + at(-u, -v)) / (4 * step**2)
        assert (
            found[i, j] == pytest.approx(truth, abs=1e-4 * max(1, scale))
            and found[j, i] == found[i, j]
        )


@pytest.mark.parametrize("name", ZOO)
def test_gradients_of_single_examples_and_their_fisher_match_a_loop(name):
    graph, inputs = models.captured(name), ZOO[name][1]
    targets = inputs[0] if name == "transformer" else torch.arange(len(inputs[0])) % 3
    found = taylor.gate_gradients(graph, Examples(inputs, targets), gates.cross_entropy, batch=2)
    fisher = np.zeros((len(graph.edges),) * 2)
    for row, one in enumerate(found):
        z = torch.ones(len(graph.edges), requires_grad=True)
        outputs = graph.gated(z, None, *[i[row : row + 1] for i in inputs])
        gates.cross_entropy(outputs, targets[row : row + 1]).sum().backward()
        assert one == pytest.approx(z.grad.numpy(), abs=1e-6 * max(1, float(z.grad.abs().max())))
        for i, j in itertools.product(range(len(one)), repeat=2):
            fisher[i, j] += float(z.grad[i]) * float(z.grad[j]) / len(found)
    assert taylor.fisher(found) == pytest.approx(fisher, abs=1e-5 * max(1, np.abs(fisher).max()))


def test_gauss_newton_is_the_hessian_where_outputs_are_linear_in_gates_and_convex_elsewhere():
    graph, examples = problem(models.Parallel)
    loss = gates.squared_error
    used = graph.candidates  # each branch once; products with the output's own gate are not linear
    block = np.ix_(used, used)
    assert taylor.gauss_newton(graph, examples, loss, batch=3)[block] == pytest.approx(
        taylor.hessian(graph, examples, loss)[block], abs=1e-10
    )
    graph, examples = problem(models.Smooth)
    bent, exact = taylor.gauss_newton(graph, examples, loss), taylor.hessian(graph, examples, loss)
    assert np.linalg.eigvalsh(bent).min() > -1e-10
    assert np.abs(bent - exact).max() > 1e-3
    jacobian = []
    for row in range(len(examples)):
        part = examples.part(slice(row, row + 1))
        f = lambda z, part=part: graph.gated(z, None, *part.inputs)[0]  # noqa: E731
        jacobian.append(
            torch.autograd.functional.jacobian(
                f, torch.ones(len(graph.edges), dtype=DOUBLE)
            ).numpy()
        )
    truth = sum(2 / 6 * j.T @ j for j in jacobian) / len(jacobian)
    assert bent == pytest.approx(truth, abs=1e-10)


def test_outputs_of_several_parts_have_a_gauss_newton_too():
    inputs = (models.x(4, 6).double(),)
    graph = capture(make(models.DictOutput, DOUBLE), inputs)

    def loss(outputs, targets):
        return (outputs["one"] * outputs["two"].detach() - targets).square().mean(1) + outputs[
            "two"
        ].square().mean(1)

    found = taylor.gauss_newton(graph, Examples(inputs, models.x(4, 6, seed=9).double()), loss)
    assert (
        found.shape == (len(graph.edges),) * 2
        and np.abs(found - found.T).max() == 0
        and np.abs(found).max() > 0
    )


def test_bad_input_is_refused():
    graph, examples = problem(models.Smooth)
    with pytest.raises(InvalidInput, match="hessian"):
        taylor.taylor_model(graph, examples, gates.squared_error, "newton")
    with pytest.raises(InvalidInput, match="one value for each"):
        taylor.gate_gradients(graph, examples, lambda o, t: (o - t).square().mean())
    with pytest.raises(NotFinite, match="gradient"):
        taylor.gate_gradients(graph, examples, lambda o, t: (o - t).sum(1) * float("inf"))
    with pytest.raises(NotFinite, match="Hessian"):
        taylor.hessian(graph, examples, lambda o, t: (o - t).square().sum(1) * float("inf"))
