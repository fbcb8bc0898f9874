"""The pruned network against the masked one and against one worked out vertex by vertex; what is
left of its parameters.
"""

import copy
import io

import numpy as np
import pytest
import torch
from safetensors.torch import load_model, save_model
from torch import nn
from torch.utils._pytree import tree_leaves

from bogp.errors import Disconnected, InvalidInput
from bogp.structural import gates, surgery
from bogp.structural.gates import Examples
from bogp.structural.tracing import capture
from tests.structural import by_hand, models
from tests.structural.models import ANY, ZOO, make
from tests.structural.test_gates import gated, masks_of


def connected(graph, count, share=0.8, seed=0):
    masks = masks_of(graph, 400, share, seed)
    return masks[graph.connected(masks)][:count]


def same(ours, truth, atol=1e-5):
    pairs = zip(tree_leaves(ours), tree_leaves(truth), strict=True)
    return all(
        torch.allclose(a, b, rtol=1e-5, atol=atol) if isinstance(b, torch.Tensor) else a == b
        for a, b in pairs
    )


def run(module, inputs):
    with torch.no_grad():
        return module(*inputs)


@pytest.mark.parametrize("name", ANY)
def test_the_pruned_network_is_the_masked_one(name):
    graph, inputs = models.captured(name), ANY[name][1]
    model = make(ANY[name][0])
    before = {k: v.clone() for k, v in graph.module.state_dict().items()}
    some = connected(graph, 4)
    assert len(some) or not len(graph.candidates)
    for mask in [
        np.ones(len(graph.edges), dtype=bool),
        *some,
        *[graph.without([e]) for e in graph.candidates[:6]],
    ]:
        pruned = surgery.remove(graph, mask)
        found = run(pruned, inputs)
        assert same(found, gated(graph, graph.gates(mask)[0], inputs))
        assert same(found, by_hand.outputs(graph, mask, inputs))
        mine = {p.data_ptr() for p in [*pruned.parameters(), *pruned.buffers()]}
        assert not mine & {
            p.data_ptr() for p in [*graph.module.parameters(), *graph.module.buffers()]
        }, "it shares nothing"
    assert same(dict(graph.module.state_dict()), before, 0)
    assert same(run(model, inputs), run(graph.module, inputs))


@pytest.mark.parametrize("name", ZOO)
def test_it_runs_on_other_batch_sizes_and_is_smaller(name):
    graph, inputs = models.captured(name), ZOO[name][1]
    full = surgery.cost(graph.module, inputs, seconds=0.001)
    others = tuple(torch.cat([i, i.flip(0), i]) for i in inputs)
    for mask in connected(graph, 3, 0.7):
        pruned = surgery.remove(graph, mask)
        assert same(run(pruned, others), gated(graph, graph.gates(mask)[0], others))
        less = surgery.cost(pruned, inputs, seconds=0.001)
        assert less.flops < full.flops and less.parameters < full.parameters and less.latency > 0
        assert {n.name for n in pruned.graph.nodes if n.op == "placeholder"} == {
            n.name for n in graph.module.graph.nodes if n.op == "placeholder"
        }


@pytest.mark.parametrize(
    "name",
    [*ZOO, "shared and unused parameters", "loop over a shape", "dict output", "assigns items"],
)
def test_it_can_be_saved_loaded_copied_exported_and_trained(name, tmp_path):
    factory, inputs = ANY[name]
    graph = models.captured(name)
    mask = connected(graph, 1, 0.8)[0]
    pruned = surgery.remove(graph, mask)
    expected = run(pruned, inputs)

    buffer = io.BytesIO()
    torch.save(pruned, buffer)
    buffer.seek(0)
    assert same(run(torch.load(buffer, weights_only=False), inputs), expected, 0)

    other = surgery.remove(capture(make(factory, seed=1), inputs), mask)
    assert not same(run(other, inputs), expected)
    save_model(pruned, str(tmp_path / "pruned.safetensors"))
    load_model(other, str(tmp_path / "pruned.safetensors"))
    assert same(run(other, inputs), expected, 0)
    other.load_state_dict(pruned.state_dict())
    assert same(run(copy.deepcopy(other), inputs), expected, 0)
    assert same(run(torch.export.export(pruned, inputs, strict=False).module(), inputs), expected)

    loss = sum(
        leaf.square().mean()
        for leaf in tree_leaves(pruned(*inputs))
        if isinstance(leaf, torch.Tensor)
    )
    loss.backward()
    assert all(p.grad is not None for p in pruned.parameters()), (
        "each parameter that is left is used"
    )


def test_a_pruned_network_can_be_captured_again():
    graph, inputs = models.captured("dag, large"), ZOO["dag, large"][1]
    first = connected(graph, 1, 0.8)[0]
    again = capture(surgery.remove(graph, first), inputs)
    assert len(again.edges) < len(graph.edges)
    edge = again.edges[again.candidates[0]]
    twice = first.copy()
    same_edge = [
        e
        for e in graph.edges
        if first[e.index]
        and same(
            gates_of(graph, first, e, inputs),
            run(surgery.remove(again, again.without([edge.index])), inputs),
        )
    ]
    assert same_edge
    twice[same_edge[0].index] = False
    assert same(
        run(surgery.remove(graph, twice), inputs),
        run(surgery.remove(again, again.without([edge.index])), inputs),
    )


def gates_of(graph, mask, edge, inputs):
    one = mask.copy()
    one[edge.index] = False
    return gated(graph, graph.gates(one)[0], inputs)


class Order(nn.Module):
    """Which side is cut, its sign, its factor, three-way sums and one node on both sides."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)
        self.bias = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, x):
        a, b, c = self.a(x), self.b(x), self.c(x)
        first = torch.sub(a, b, alpha=3) + 0.25
        second = torch.add(c, c, alpha=0.5)
        third = (a - b) + self.bias - c
        return first, second, third


def test_order_sign_and_factor_of_what_is_left():
    model, inputs = make(Order), (models.x(4, 3),)
    graph = capture(model, inputs)
    x = inputs[0]
    with torch.no_grad():
        a, b, c, bias = model.a(x), model.b(x), model.c(x), model.bias

    def pruned(*removed):
        edges = [
            e.index
            for e in graph.edges
            if (e.producer, e.consumer) in removed or (e.producer, e.consumer, e.slot) in removed
        ]
        assert len(edges) >= len(removed)
        return run(surgery.remove(graph, graph.without(edges)), inputs)

    assert same(pruned(("a", "sub")), (-3 * b + 0.25, 1.5 * c, a - b + bias - c))
    assert same(pruned(("b", "sub")), (a + 0.25, 1.5 * c, a - b + bias - c))
    assert same(pruned(("c", "add_1", 0)), (a - 3 * b + 0.25, 0.5 * c, a - b + bias - c))
    assert same(pruned(("c", "add_1", 1)), (a - 3 * b + 0.25, c, a - b + bias - c))
    assert same(pruned(("a", "sub_1")), (a - 3 * b + 0.25, 1.5 * c, -b + bias - c))
    assert same(pruned(("a", "sub_1"), ("b", "sub_1")), (a - 3 * b + 0.25, 1.5 * c, bias - c))
    assert same(pruned(("c", "sub_2")), (a - 3 * b + 0.25, 1.5 * c, a - b + bias))
    with pytest.raises(Disconnected, match="output 1"):
        pruned(("c", "add_1"))


class Blocks(nn.Module):
    """Concatenations read by layers, through pooling and flattening, and once through a norm."""

    def __init__(self, last: str = "conv", groups: int = 1):
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(2, k, 3, padding=1) for k in (3, 4, 5))
        self.conv = nn.Conv2d(12, 4, 3, groups=groups)
        self.norm, self.pool, self.linear = (
            nn.BatchNorm2d(12),
            nn.MaxPool2d(2),
            nn.Linear(12 * 9, 4),
        )
        self.last = last

    def forward(self, x):
        y = torch.cat([self.a(x), self.b(x), self.c(x)], 1)
        if self.last == "conv":
            return self.conv(y)
        if self.last == "flat":
            return self.linear(torch.relu(self.pool(y)).flatten(1))
        return (
            self.conv(self.norm(y))
            if self.last == "norm"
            else (self.conv(y), self.conv(torch.tanh(y) + y))
        )


@pytest.mark.parametrize(
    ("last", "groups", "narrow"),
    [
        ("conv", 1, 8 * 36),
        ("conv", 4, 12 * 9),
        ("flat", 1, 8 * 36),
        ("norm", 1, 12 * 36),
        ("shared", 1, 432),
    ],
)
def test_blocks_of_a_concatenation_go_with_the_weights_that_read_them(last, groups, narrow):
    model, inputs = make(lambda: Blocks(last, groups)), (models.x(3, 2, 6, 6),)
    graph = capture(model, inputs)
    mask = graph.without([e.index for e in graph.edges if e.producer == "b"])
    pruned = surgery.remove(graph, mask)
    assert same(run(pruned, inputs), gated(graph, graph.gates(mask)[0], inputs))
    weights = {
        n: p.numel()
        for n, p in pruned.named_parameters()
        if n.endswith(("conv.weight", "linear.weight"))
    }
    assert sum(weights.values()) == narrow and not any(
        n.startswith("b.") for n, _ in pruned.named_parameters()
    )
    assert len(model.conv.weight) == 4 and model.conv.weight.shape[1] == 12 // groups


def test_a_layer_that_works_elsewhere_too_is_not_damaged():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.head = nn.Linear(6, 2), nn.Linear(6, 4), nn.Linear(6, 3)

        def forward(self, x):
            return self.head(torch.cat([self.a(x), self.b(x)], dim=-1)) + self.head(x)

    graph = capture(make(Twice), (models.x(4, 6),))
    mask = graph.without([e.index for e in graph.edges if e.producer == "a"])
    pruned = surgery.remove(graph, mask)
    assert same(
        run(pruned, graph.example_inputs), gated(graph, graph.gates(mask)[0], graph.example_inputs)
    )
    assert {n: tuple(p.shape) for n, p in pruned.named_parameters() if n.endswith("weight")} == {
        "b.weight": (4, 6),
        "head.weight": (3, 6),
        "head_narrow.weight": (3, 4),
    }


@pytest.mark.parametrize(
    "name",
    [
        *[n for n in ZOO if n != "transformer"],
        "MultiheadAttention",
        "product",
        "widening",
        "two inputs",
    ],
)
def test_mean_activations_become_buffers(name):
    graph, inputs = models.captured(name), ANY[name][1]
    references = gates.mean_activations(graph, Examples(inputs, torch.zeros(len(inputs[0]))))
    for mask in connected(graph, 3, 0.8):
        pruned = surgery.remove(graph, mask, references)
        assert same(run(pruned, inputs), gated(graph, mask, inputs, references))
        twice = tuple(torch.cat([i, i]) for i in inputs)
        assert same(run(pruned, twice), gated(graph, mask, twice, references))
    exported = torch.export.export(pruned, inputs, strict=False).module()
    assert same(run(exported, inputs), run(pruned, inputs))


def test_a_vertex_goes_with_all_its_edges():
    model, inputs = make(models.MultiBranch), (models.x(4, 6),)
    graph = capture(model, inputs)
    vertex = next(v for v in graph.vertices if v.name.startswith("b"))
    mask = surgery.without_vertices(graph, [vertex.index])
    assert [e.index for e in graph.edges if vertex.index in (e.source, e.target)] == np.flatnonzero(
        ~mask
    ).tolist()
    pruned = surgery.remove(graph, mask)
    with torch.no_grad():
        x = torch.relu(model.stem(inputs[0]))
        assert same(pruned(*inputs), model.head(model.a(x) - model.c(x)))
    assert not hasattr(pruned, "b")
    for end in (0, len(graph.vertices) - 1):
        with pytest.raises(Disconnected, match="cannot be removed"):
            surgery.without_vertices(graph, [end])
    with pytest.raises(InvalidInput, match="An item of vertices is 99"):
        surgery.without_vertices(graph, [99])


def test_costs_of_a_known_network():
    model, x = (
        nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2, bias=False)),
        models.x(5, 6),
    )
    found = surgery.cost(model, (x,), seconds=0.001)
    assert (found.parameters, found.flops) == (28 + 8, 2 * 5 * (24 + 8))
    with pytest.raises(InvalidInput, match="positive time"):
        surgery.cost(model, (x,), seconds=0)


def test_disconnecting_removals_and_wrong_masks_are_refused():
    graph = capture(make(models.DictOutput), (models.x(4, 6),))
    for edges in ([0], [e.index for e in graph.edges if e.target == len(graph.vertices) - 1]):
        with pytest.raises(Disconnected, match="no input reaches output"):
            surgery.remove(graph, graph.without(edges))
    with pytest.raises(InvalidInput, match="one entry an edge"):
        surgery.remove(graph, np.ones(3))
    with pytest.raises(InvalidInput, match="One mask"):
        surgery.remove(graph, np.ones((2, len(graph.edges))))
