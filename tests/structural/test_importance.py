"""Importances against closed forms, loops and brute force."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from bogp.errors import InvalidInput, NothingToRemove
from bogp.structural import importance as structural_importance
from bogp.structural.flow import flow_model
from bogp.structural.gates import Examples, leave_one_out, losses_under, squared_error
from bogp.structural.taylor import gate_gradients, taylor_model
from bogp.structural.tracing import capture
from bogp.zoo import networks


class Parallel(nn.Module):
    """Linear branches side by side, the last of them dead: linear in its gates."""

    def __init__(self):
        super().__init__()
        self.branches = nn.ModuleList(nn.Linear(3, 2, bias=False) for _ in range(4))
        nn.init.zeros_(self.branches[3].weight)

    def forward(self, x):
        return sum(branch(x) for branch in self.branches)


@pytest.fixture
def linear():
    torch.manual_seed(0)
    model = Parallel().double().eval()
    examples = Examples(
        (torch.randn(12, 3, dtype=torch.float64),), torch.randn(12, 2, dtype=torch.float64)
    )
    return model, capture(model, examples.inputs), examples


@pytest.fixture
def dag():
    torch.manual_seed(1)
    model = networks.RandomDag(networks.random_parents("10-15", 0), 4, 5, 3).double().eval()
    examples = Examples(
        (torch.randn(9, 4, dtype=torch.float64),), torch.randn(9, 3, dtype=torch.float64)
    )
    return model, capture(model, examples.inputs), examples


def test_closed_forms_on_linear_branches(linear):
    model, graph, examples = linear
    table = structural_importance.importances(graph, examples, squared_error)
    (x,), y = examples.inputs, examples.targets
    with torch.no_grad():
        parts = [branch(x) for branch in model.branches]
    total = sum(parts)
    assert len(table) == 4
    for part, one, branch in zip(parts, table.itertuples(), model.branches, strict=True):
        slope = (total - y) * part  # of each example's mean over two outputs, by its gate
        assert one.leave_one_out == pytest.approx(
            float(((total - part - y) ** 2).mean() - ((total - y) ** 2).mean())
        )
        assert one.first_order == pytest.approx(-float(slope.sum(dim=1).mean()))
        assert one.absolute_first_order == pytest.approx(abs(float(slope.sum(dim=1).mean())))
        assert one.unsigned_taylor == pytest.approx(float((slope.sum(dim=1) ** 2).mean()))
        assert one.fisher_diagonal == pytest.approx(one.unsigned_taylor / 2)
        assert one.fisher == pytest.approx(one.first_order + one.unsigned_taylor / 2)
        assert one.gauss_newton == pytest.approx(one.hessian, abs=1e-12)
        assert one.hessian == pytest.approx(one.leave_one_out, abs=1e-9), (
            "squared loss, linear in the gates"
        )
        assert one.magnitude == pytest.approx(float(branch.weight.detach().abs().mean()))
        assert one.activation == pytest.approx(float((part**2).mean()) ** 0.5)
        similar = float(torch.nn.functional.cosine_similarity(total, total - part, dim=1).mean())
        assert one.block_influence == pytest.approx(1 - similar, abs=1e-12)
        vary = total - total.mean(dim=0)
        gone, moved = part - part.mean(dim=0), part.mean(dim=0) - part.mean()
        apart = float(gone.square().sum() + len(x) * moved.square().sum())
        assert one.flow == pytest.approx(apart / float(vary.square().sum()), abs=1e-9)


def test_a_dead_branch_has_no_importance(linear):
    _, graph, examples = linear
    table = structural_importance.importances(graph, examples, squared_error).iloc[3]
    assert (table.drop(["edge", "random", "flow"]) == 0).all()
    assert table["flow"] == pytest.approx(0, abs=1e-12)
    assert (
        structural_importance.removal_order(graph, examples, squared_error, "block_influence")[0]
        == graph.candidates[3]
    )


def test_gradient_scores_match_a_loop_over_examples(dag):
    _, graph, examples = dag
    closed = structural_importance.closed_gates(graph)
    slopes = []
    for k in range(len(examples)):
        gates = torch.ones(len(graph.edges), dtype=torch.float64, requires_grad=True)
        loss = squared_error(
            graph.gated(gates, None, examples.inputs[0][k : k + 1]), examples.targets[k : k + 1]
        )
        slopes.append(torch.autograd.grad(loss.sum(), gates)[0].numpy())
    table = structural_importance.importances(graph, examples, squared_error)
    for row, shut in zip(table.itertuples(), closed, strict=True):
        assert row.first_order == pytest.approx(-np.mean([s @ shut for s in slopes]))
        assert row.unsigned_taylor == pytest.approx(
            sum(np.mean([s[e] ** 2 for s in slopes]) for e in np.flatnonzero(shut))
        )
        assert row.fisher == pytest.approx(
            row.first_order + np.mean([(s @ shut) ** 2 for s in slopes]) / 2
        )
        mask = graph.without([row.edge])
        losses = losses_under(graph, [np.ones_like(mask), mask], examples, squared_error)
        assert row.leave_one_out == pytest.approx(losses[1] - losses[0])


def test_block_influence_matches_the_consumer_run_by_hand(dag):
    model, graph, examples = dag
    values = [torch.relu(model.vertices[0](examples.inputs[0]))]
    for parents, vertex in zip(model.parents[1:], model.vertices[1:], strict=True):
        values.append(torch.relu(vertex(sum(values[p] for p in parents))))
    found = structural_importance.block_influence(graph, examples, batch=4)
    producers = {
        v.name.split("vertices.")[-1].split(" ")[0]: v.index
        for v in graph.vertices
        if "vertices." in v.name
    }
    number = {index: int(name) for name, index in producers.items()}
    shut = structural_importance.closed_gates(graph)
    checked = 0
    for value, gates in zip(found, shut, strict=True):
        (edge, *others) = np.flatnonzero(gates)
        child = number.get(graph.edges[edge].target)
        parent = number.get(graph.edges[edge].source)
        if others or child is None or parent is None:
            continue
        after = torch.relu(
            model.vertices[child](sum(values[p] for p in model.parents[child]) - values[parent])
        )
        before = values[child]
        if child == len(values) - 1:  # the head is of the same vertex
            before, after = model.head(before), model.head(after)
        same = (after == before).all(dim=1)
        cosine = (
            torch.where(same, 1.0, torch.nn.functional.cosine_similarity(after, before, dim=1))
            .mean()
            .detach()
        )
        assert value == pytest.approx(float(1 - cosine), abs=1e-12)
        checked += 1
    assert checked >= 3


def test_magnitude_of_what_goes_and_of_what_only_carries():
    torch.manual_seed(0)
    model = networks.Residual(widths=(4, 4), blocks=1).eval()
    graph = capture(model, torch.randn(2, 3, 32, 32))
    mean = lambda *ps: float(torch.cat([p.detach().abs().ravel() for p in ps]).mean())  # noqa: E731
    block, stem = model.blocks[0], model.stem
    branch = (
        *block.first.parameters(),
        *block.first_norm.parameters(),
        *block.second.parameters(),
        *block.second_norm.parameters(),
    )
    found = structural_importance.magnitude(graph)
    assert any(v == pytest.approx(mean(*branch)) for v in found), (
        "the branch goes with its parameters"
    )
    assert any(v == pytest.approx(mean(*stem.parameters())) for v in found), (
        "a skip connection has its producer's"
    )


def test_orders_keep_every_output_connected_and_leave_nothing_out(dag):
    _, graph, examples = dag
    values = np.random.default_rng(0).random(len(graph.candidates))
    gone = structural_importance.order(graph, values)
    importance = dict(zip(graph.candidates.tolist(), values, strict=True))
    expected = []
    for edge in sorted(importance, key=importance.get):
        if graph.connected(graph.without([*expected, edge]))[0]:
            expected.append(edge)
    assert gone.tolist() == expected
    assert all(graph.connected(graph.without(gone[:k]))[0] for k in range(len(gone) + 1))
    left = set(graph.candidates) - set(gone)
    assert not any(graph.connected(graph.without([*gone, e]))[0] for e in left)
    assert (
        structural_importance.order(graph, np.zeros(len(values))).tolist()[:1]
        == graph.candidates.tolist()[:1]
    ), "the earlier edge among equals"
    same = structural_importance.removal_order(graph, examples, squared_error, "random", seed=3)
    assert (
        same.tolist()
        == structural_importance.removal_order(
            graph, examples, squared_error, "random", seed=3
        ).tolist()
    )
    assert (
        same.tolist()
        != structural_importance.removal_order(
            graph, examples, squared_error, "random", seed=4
        ).tolist()
    )


def test_greedy_orders_by_brute_force(linear):
    _, graph, examples = linear
    exact = structural_importance.removal_order(graph, examples, squared_error, "exact_greedy")
    gone: list[int] = []
    for step in exact:
        options = [
            e
            for e in graph.candidates
            if e not in gone and graph.connected(graph.without([*gone, e]))[0]
        ]
        losses = losses_under(
            graph, [graph.without([*gone, e]) for e in options], examples, squared_error
        )
        assert step == options[int(np.argmin(losses))]
        gone.append(int(step))
    assert (
        structural_importance.removal_order(
            graph, examples, squared_error, "hessian_greedy"
        ).tolist()
        == exact.tolist()
    ), "quadratic, so the same"
    assert (
        structural_importance.removal_order(
            graph, examples, squared_error, "exact_greedy", limit=2
        ).tolist()
        == exact.tolist()[:2]
    )
    assert len(exact) == 3, "one branch must stay"
    change = flow_model(graph, examples.inputs).change
    for limit in (None, 2):
        found = structural_importance.removal_order(
            graph, examples, squared_error, "flow_greedy", limit=limit
        )
        gone = []
        for step in found:
            options = [e for e in graph.candidates if e not in gone]
            assert step == min(options, key=lambda e: change([graph.without([*gone, e])])[0])
            gone.append(int(step))
        assert len(found) == (limit or 3)


def test_flow_reads_no_targets_and_the_first_64_examples(dag):
    _, graph, _ = dag
    examples = Examples(
        (torch.randn(80, 4, dtype=torch.float64),), torch.full((80, 3), torch.nan).double()
    )
    table = structural_importance.importances(graph, examples, squared_error, ["flow"])
    model = flow_model(graph, (examples.inputs[0][:64],))
    single = [graph.without([edge]) for edge in graph.candidates]
    np.testing.assert_array_equal(table["flow"], model.change(single))


def test_second_order_is_the_true_change_of_all_masks_of_a_linear_network(linear):
    _, graph, examples = linear
    masks = [
        graph.without(s) for k in range(1, 4) for s in itertools.combinations(graph.candidates, k)
    ]
    losses = losses_under(graph, [np.ones(len(graph.edges)), *masks], examples, squared_error)
    for curvature in ("hessian", "gauss_newton"):
        predicted = taylor_model(graph, examples, squared_error, curvature).change(masks)
        np.testing.assert_allclose(predicted, losses[1:] - losses[0], atol=1e-9)


def test_same_numbers_alone_as_among_others(dag):
    _, graph, examples = dag
    table = structural_importance.importances(graph, examples, squared_error, seed=2)
    assert table.edge.tolist() == graph.candidates.tolist()
    for name in structural_importance.METHODS:
        np.testing.assert_array_equal(
            structural_importance.importances(graph, examples, squared_error, [name], seed=2)[name],
            table[name],
        )
    np.testing.assert_allclose(table.leave_one_out, leave_one_out(graph, examples, squared_error))
    np.testing.assert_allclose(
        table.first_order,
        structural_importance.first_order(graph, gate_gradients(graph, examples, squared_error)),
    )


def test_bad_input_is_refused_with_what_is_allowed(dag):
    _, graph, examples = dag
    with pytest.raises(InvalidInput, match="hessian"):
        structural_importance.importances(graph, examples, squared_error, ["hesian"])
    with pytest.raises(InvalidInput, match="one or more"):
        structural_importance.importances(graph, examples, squared_error, [])
    with pytest.raises(InvalidInput, match="exact_greedy"):
        structural_importance.removal_order(graph, examples, squared_error, "best")
    with pytest.raises(InvalidInput, match="one finite number a candidate"):
        structural_importance.order(graph, np.ones(2))
    with pytest.raises(InvalidInput, match="one finite number a candidate"):
        structural_importance.order(graph, np.full(len(graph.candidates), np.nan))
    with pytest.raises(InvalidInput, match="limit"):
        structural_importance.removal_order(graph, examples, squared_error, "exact_greedy", limit=0)
    chain = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3)).double()
    with pytest.raises(NothingToRemove, match="no edge"):
        structural_importance.importances(
            capture(chain, examples.inputs), examples, squared_error, ["magnitude"]
        )
