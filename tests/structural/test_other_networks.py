"""Kinds of networks that people have: views, sizes, types and infinities that toys do not show.

Each test has its right value from the model itself, or from the same network written without the
removed part.
"""

import operator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bogp import structural
from bogp.errors import NotCapturable
from bogp.structural.gates import Examples, leave_one_out, losses_under
from bogp.structural.importance import activation
from bogp.structural.surgery import remove


def made(network: type[nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return network().eval()


def mean_output(outputs: Tensor, targets: Tensor) -> Tensor:
    """A loss that shows any change of the outputs."""
    return outputs.flatten(1).mean(dim=1)


def first(graph: structural.ComputationGraph, producer: str, consumer: str = "add") -> int:
    """The edge from a node to another, each by the start of its name."""
    return next(
        e.index
        for e in graph.edges
        if e.producer.startswith(producer) and e.consumer.startswith(consumer)
    )


def agree(graph: structural.ComputationGraph, mask: Tensor, inputs: tuple[Tensor, ...]) -> None:
    """The cut network gives what the gated one gives, in the same shape and type."""
    with torch.no_grad():
        gates = torch.as_tensor(graph.gates(mask)[0], dtype=torch.float32)
        gated, cut = graph.gated(gates, None, *inputs), remove(graph, mask)(*inputs)
    assert cut.shape == gated.shape
    assert cut.dtype == gated.dtype
    torch.testing.assert_close(cut, gated, rtol=1e-5, atol=1e-6)


class TwoLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.o = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)


# A1: operations in place on memory that another value shares


class ClampsASlice(TwoLayers):
    def forward(self, x):
        y = self.a(x)
        y[:, :3].clamp_(max=2.0)
        return self.o(y + self.b(x))


class AddsToAView(TwoLayers):
    def forward(self, x):
        y = self.a(x)
        y.view(-1).mul_(0.5)
        return self.o(y + self.b(x))


class FillsAChunk(TwoLayers):
    def forward(self, x):
        y = self.a(x)
        part, _ = y.chunk(2, dim=1)
        part.masked_fill_(part > 1, 0.0)
        return self.o(y + self.b(x))


class ChangesTheBaseOfAView(TwoLayers):
    def forward(self, x):
        y = self.a(x)
        turned = y.transpose(0, 1)
        y.clamp_(min=-0.5)
        return self.o(turned.transpose(0, 1) + self.b(x))


class FunctionInPlace(TwoLayers):
    def forward(self, x):
        y = self.a(x)
        functional.relu(y[:, 2:], True)
        return self.o(y + self.b(x))


class AssignsItems(TwoLayers):
    def forward(self, x):
        y = self.a(x)
        y[:, :2] = y[:, 2:4].clamp(max=1.0)
        return self.o(y + self.b(x))


class WritesIntoOut(TwoLayers):
    def forward(self, x):
        y = self.a(x)
        torch.clamp(y, max=1.0, out=y)
        return self.o(y + self.b(x))


@pytest.mark.parametrize(
    "network",
    [
        *(ClampsASlice, AddsToAView, FillsAChunk, ChangesTheBaseOfAView),
        *(FunctionInPlace, AssignsItems, WritesIntoOut),
    ],
)
def test_what_is_written_into_shared_memory_is_seen_by_all_its_readers(network):
    """On small inputs the writing changes nothing; on others it does, and is reproduced there."""
    model, x = made(network), torch.randn(4, 6) * 0.1
    try:
        graph = structural.capture(model, x)
    except NotCapturable as refusal:
        assert str(refusal)
        return
    examples = Examples((x * 10,), torch.zeros(4))
    loss = losses_under(graph, [[True] * len(graph.edges)], examples, mean_output)[0]
    assert loss == pytest.approx(mean_output(model(x * 10), None).mean().item(), abs=1e-6)
    torch.testing.assert_close(remove(graph, [True] * len(graph.edges))(x * 10), model(x * 10))


# A2: control flow that depends on sizes


class BranchesOnTheBatch(TwoLayers):
    def forward(self, x):
        y = self.a(x) + self.b(x)
        if x.shape[0] > 16:
            y = 2 * y
        return self.o(y)


def test_a_network_is_not_run_with_sizes_that_it_branches_on():
    model, x = made(BranchesOnTheBatch), torch.randn(64, 6)
    graph = structural.capture(model, x[:4])
    everything = [True] * len(graph.edges)
    with pytest.raises(NotCapturable, match="16"):
        losses_under(graph, [everything], Examples((x,), torch.zeros(64)), mean_output)
    with pytest.raises(AssertionError, match="16"):
        remove(graph, everything)(x)
    # Stacking masks on examples reaches such sizes by itself, and must not.
    few = Examples((x[:8],), torch.zeros(8))
    changes = leave_one_out(graph, few, mean_output)
    with torch.no_grad():
        full = model.o(model.a(x[:8]) + model.b(x[:8])).mean()
        without = {"a": model.o(model.b(x[:8])).mean(), "b": model.o(model.a(x[:8])).mean()}
    order = [graph.edges[e].producer[:1] for e in graph.candidates]
    found = {}
    for edge, change in zip(graph.candidates, changes, strict=True):
        removed = graph.vertices[graph.edges[edge].source].name
        found[removed[0]] = change
    assert found.keys() == {"a", "b"} or len(order) == 2
    expected = sorted((value - full).item() for value in without.values())
    assert sorted(changes) == pytest.approx(expected, abs=1e-6)


# A3, A6, B4: what is cut gave the sum its shape or type


class GivesTheLength(TwoLayers):
    def forward(self, x):
        return self.o(self.a(x).mean(1, keepdim=True) + self.b(x)).sum(1)


class ConcatenatesTokens(TwoLayers):
    def forward(self, x):
        return self.o(torch.relu(torch.cat([self.a(x), self.b(x)], dim=1) + 1)).sum(1)


class ConcatenatesExamples(TwoLayers):
    def forward(self, x):
        both = torch.cat([self.a(x), self.b(x)], dim=0)
        return self.o(torch.sigmoid(both))


@pytest.mark.parametrize("network", [GivesTheLength, ConcatenatesTokens, ConcatenatesExamples])
@pytest.mark.parametrize("cut", ["a", "b"])
def test_a_cut_network_takes_other_sizes(network, cut):
    model = made(network)
    graph = structural.capture(model, torch.randn(2, 5, 6))
    producer = {"GivesTheLength": {"a": "mean", "b": "b"}}.get(network.__name__, {}).get(cut, cut)
    consumer = "add" if network is GivesTheLength else "cat"
    mask = graph.without([first(graph, producer, consumer)])
    for shape in [(2, 5, 6), (2, 7, 6), (3, 4, 6), (1, 1, 6)]:
        agree(graph, mask, (torch.randn(*shape),))


class GivesTheDimension(TwoLayers):
    def forward(self, x):
        return torch.relu(self.a(x) + x.mean(0))


class GivesTheType(TwoLayers):
    def forward(self, x):
        return self.o((self.a(x) + self.b(x).double()).relu().float())


@pytest.mark.parametrize(("network", "cut"), [(GivesTheDimension, "a"), (GivesTheType, "double")])
def test_a_cut_network_keeps_shape_and_type(network, cut):
    graph = structural.capture(made(network), torch.randn(3, 6))
    agree(graph, graph.without([first(graph, cut)]), (torch.randn(3, 6),))
    agree(graph, graph.without([first(graph, cut)]), (torch.randn(5, 6),))


# A4: examples that act on each other


class SumsOverTheBatch(TwoLayers):
    def forward(self, x):
        return self.o(self.a(torch.cumsum(x, 0)) + self.b(x))


class ReadsTheNextExample(TwoLayers):
    def forward(self, x):
        return self.o(self.a(torch.roll(x, -1, 0)) + self.b(x))


class ComparesWithTheLargest(TwoLayers):
    def forward(self, x):
        return self.o(self.a(x / x.abs().max()) + self.b(x))


@pytest.mark.parametrize("network", [SumsOverTheBatch, ReadsTheNextExample, ComparesWithTheLargest])
def test_masks_are_not_stacked_where_examples_act_on_each_other(network):
    model, x = made(network), torch.randn(3, 6)
    graph = structural.capture(model, x)
    assert not graph.batched
    changes = leave_one_out(graph, Examples((x,), torch.zeros(3)), mean_output)
    with torch.no_grad():
        full = model(x).mean()
        for edge, change in zip(graph.candidates, changes, strict=True):
            gates = torch.ones(len(graph.edges))
            gates[edge] = 0
            expected = graph.gated(gates, None, x).mean() - full
            assert change == pytest.approx(expected.item(), abs=1e-6)


# A5: what a removal leaves without a use


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 64), nn.Linear(64, 8)

    def forward(self, x):
        h = torch.relu(self.a(x))
        torch._assert(h.ndim == 2, "a matrix is needed")
        return self.b(h)


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 64), nn.Linear(64, 8)

    def forward(self, x):
        h = self.a(x)[:, None]
        return self.b(functional.scaled_dot_product_attention(h, h, h)[:, 0])


@pytest.mark.parametrize("branch", [Branch, Attends])
def test_a_removed_branch_goes_with_all_its_parameters(branch):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.head = branch(), branch(), nn.Linear(8, 2)

        def forward(self, x):
            x = x + self.one(x)
            x = x + self.two(x)
            return self.head(x)

    model, x = made(Net), torch.randn(3, 8)
    graph = structural.capture(model, x)
    cut = remove(graph, graph.without([first(graph, "two_b")]))
    one = sum(p.numel() for p in model.one.parameters())
    assert sum(p.numel() for p in cut.parameters()) == one + 8 * 2 + 2
    cut(x).sum().backward()
    assert all(p.grad is not None for p in cut.parameters())
    torch.testing.assert_close(cut(x), model.head(x + model.one(x)))


# A7: infinities


class AddsAnInfiniteMask(TwoLayers):
    def forward(self, x):
        q, k = self.a(x), self.b(x)
        hidden = torch.full((4, 4), float("-inf")).triu(1) + x.sum((1, 2), keepdim=True) * 0
        scores = (q @ k.transpose(1, 2) + hidden).softmax(-1)
        return self.o(scores @ x + q)


class RepairsNan(TwoLayers):
    def forward(self, x):
        logs = torch.log(self.a(x).clamp(max=0.0))  # NaN or -inf everywhere but at 0
        return self.o(torch.nan_to_num(logs + self.b(x), nan=0.5, neginf=-1.0) + x)


@pytest.mark.parametrize("network", [AddsAnInfiniteMask, RepairsNan])
def test_a_removed_edge_gives_zeros_whatever_it_carried(network):
    model = made(network)
    x = torch.randn(2, 4, 6) if network is AddsAnInfiniteMask else torch.randn(3, 6)
    graph = structural.capture(model, x)
    changes = leave_one_out(graph, Examples((x,), torch.zeros(len(x))), mean_output)
    with torch.no_grad():
        full = model(x).mean()
        for edge, change in zip(graph.candidates, changes, strict=True):
            cut = remove(graph, graph.without([edge]))(x).mean()
            assert change == pytest.approx((cut - full).item(), abs=1e-6)


def test_gradients_by_gates_are_finite_beside_infinities():
    from bogp.structural.taylor import gate_gradients

    model, x = made(AddsAnInfiniteMask), torch.randn(2, 4, 6)
    graph = structural.capture(model, x)
    gradients = gate_gradients(graph, Examples((x,), torch.zeros(2)), mean_output)
    assert torch.isfinite(torch.as_tensor(gradients)).all()


# A8: an edge that carries nothing


def test_an_empty_edge_is_worth_nothing_and_spoils_no_other():
    class Empty(TwoLayers):
        def forward(self, x):
            q = self.a(x)
            return self.o(torch.cat([q[..., 6:], q + self.b(x)], dim=-1))

    graph = structural.capture(made(Empty), torch.randn(3, 6))
    scores = activation(graph, Examples((torch.randn(5, 6),), torch.zeros(5)))
    assert torch.isfinite(torch.as_tensor(scores)).all()


# A9: training the pruned network


class DropsAndNormalises(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.o = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)
        self.norm, self.drop = nn.BatchNorm1d(6), nn.Dropout(0.5)

    def forward(self, x):
        y = self.drop(self.norm(self.a(x))) + self.b(x)
        return self.o(functional.dropout(y, 0.5, training=self.training) + x)


def test_a_pruned_network_trains_as_the_model_does():
    torch.manual_seed(0)
    x = torch.randn(64, 6)
    graph = structural.capture(made(DropsAndNormalises), x)
    cut = remove(graph, graph.without([first(graph, "b")])).train()
    before = cut.norm.running_mean.clone()
    assert not torch.equal(cut(x), cut(x))
    assert not torch.equal(cut.norm.running_mean, before)
    draws = torch.stack([cut(x) for _ in range(2)])
    assert not torch.equal(draws[0], draws[1])
    cut.eval()
    assert torch.equal(cut(x), cut(x))


class DropsByFunction(TwoLayers):
    def forward(self, x):
        y = functional.dropout(self.a(x), 0.5, training=self.training) + self.b(x)
        return self.o(y)


def test_a_dropout_by_function_follows_the_mode():
    x = torch.ones(64, 6)
    graph = structural.capture(made(DropsByFunction), x)
    cut = remove(graph, graph.without([first(graph, "b")]))
    assert torch.equal(cut(x), cut(x))
    assert not torch.equal(cut.train()(x), cut(x))


class OnlyExported(TwoLayers):
    def forward(self, x):
        y = self.a(x) + self.b(x)
        if x.shape[0] > 1000:  # stops torch.fx
            y = operator.neg(y)
        return self.o(functional.dropout(y, 0.5, training=self.training))


def test_training_is_refused_where_the_mode_is_frozen():
    x = torch.randn(4, 6)
    graph = structural.capture(made(OnlyExported), x)
    assert graph.traced_by == "torch.export"
    cut = remove(graph, graph.without([first(graph, "linear")]))
    cut(x)
    with pytest.raises(RuntimeError, match=r"evaluation mode.*torch\.export"):
        cut.train()(x)


# B1: views of values that lie otherwise in memory


class ViewsASum(TwoLayers):
    def forward(self, x):
        y = self.a(x) + self.b(x.transpose(1, 2)).transpose(1, 2)
        return self.o(y.view(-1, 6))


class ViewsASumExported(TwoLayers):
    def forward(self, x):
        y = self.a(x) + self.b(x.transpose(1, 2)).transpose(1, 2)
        if x.shape[0] > 1000:  # stops torch.fx
            y = -y
        return self.o(y.view(-1, 6))


@pytest.mark.parametrize("network", [ViewsASum, ViewsASumExported])
@pytest.mark.parametrize("cut", [0, 1])
def test_views_work_where_one_side_of_a_sum_is_gone(network, cut):
    graph = structural.capture(made(network), torch.randn(2, 6, 6))
    into = [edge.index for edge in graph.edges if edge.consumer.startswith("add")]
    agree(graph, graph.without([into[cut]]), (torch.randn(2, 6, 6),))
