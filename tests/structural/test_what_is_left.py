"""What surgery leaves is what the same network, written by hand without the branch, has: its
parameters under their names, its operations, its gradients; and an ordinary module in all ways.
"""

import copy
import shutil

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bogp import structural
from bogp.structural.surgery import remove
from bogp.structural.traced.containers import alike
from tests.structural.models import make, x
from tests.structural.traced.test_containers import edge_of, saved_and_loaded


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(6, 16), nn.LayerNorm(16), nn.Linear(16, 6)

    def forward(self, x):
        h = self.norm(torch.relu(self.a(x)))
        torch._assert(h.dim() == 3, "tokens are needed")
        return self.b(h)


class Attends(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(6, 6) for _ in range(4))

    def forward(self, x):
        return self.out(F.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x)))


class Blocks(nn.Module):
    """Residual blocks; one can be left out by hand."""

    gone = -1

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Mlp(), Attends(), Mlp()])
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        for i, block in enumerate(self.blocks):
            x = x + block(x) if i != self.gone else x
        return self.head(x)


class ReadsShapes(nn.Module):
    """Branch a is read by a sum, and for its shape by what stays."""

    gone = False

    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 6), nn.Linear(6, 1), nn.Linear(6, 2)

    def forward(self, x):
        y = torch.relu(self.a(x))
        start = torch.ones_like(y if not self.gone else x)
        places = torch.arange(y.shape[1] if not self.gone else x.shape[1])[:, None] * 0.1
        spread = self.b(x).expand(y.size() if not self.gone else x.size())
        total = start * 2 + places + spread
        return self.head(total if self.gone else total + y)


class Pads(nn.Module):
    """Operations that fix sizes when they are asked for all sizes at once."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 6), nn.Linear(5, 5), nn.Linear(6, 2)

    def forward(self, x):
        narrow = F.pad(self.b(x[..., 1:]), (0, 1)).mean(1, keepdim=True)
        return self.head(torch.relu(F.pad(self.a(x), (0, 0, 1, 0)) + narrow))


def flops(module, inputs):
    return structural.cost(module, (inputs,), seconds=1e-3).flops


def left(network, inputs, producers, consumer="add"):
    """The network without those edges."""
    model = make(network)
    graph = structural.capture(model, inputs)
    return model, remove(graph, graph.without([edge_of(graph, p, consumer) for p in producers]))


CASES = {
    "first mlp": (Blocks, "blocks_0_b", 0),
    "attention": (Blocks, "blocks_1_out", 1),
    "second mlp": (Blocks, "blocks_2_b", 2),
    "read for its shape": (ReadsShapes, "relu", True),
}


@pytest.mark.parametrize("name", CASES)
def test_parameters_operations_and_gradients_are_those_of_the_network_by_hand(name):
    network, producer, gone = CASES[name]
    inputs = x(3, 4, 6)
    model, cut = left(network, inputs, [producer])
    model.gone = gone
    dead = "a." if network is ReadsShapes else f"blocks.{gone}."
    kept = {k: v for k, v in model.state_dict().items() if not k.startswith(dead)}
    assert cut.state_dict().keys() == kept.keys()
    assert all(torch.equal(cut.state_dict()[k], v) for k, v in kept.items())
    assert sum(p.numel() for p in cut.parameters()) == sum(v.numel() for v in kept.values())
    assert flops(cut, inputs) <= (
        flops(model, inputs) - (2 * 3 * 4 * 36 if network is ReadsShapes else 0)
    )
    for others in (inputs, x(1, 4, 6), x(2, 7, 6)):
        cut.zero_grad(), model.zero_grad()
        assert alike(cut(others), model(others))
        cut(others).square().sum().backward()
        model(others).square().sum().backward()
        for key, parameter in cut.named_parameters():
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, model.get_parameter(key).grad)


@pytest.mark.parametrize("cut", ["pad", "mean"])
def test_sizes_that_an_operation_fixes_follow_the_inputs_all_the_same(cut):
    model, inputs = make(Pads), x(3, 4, 6)
    graph = structural.capture(model, inputs)
    mask = graph.without([edge_of(graph, cut)])
    gates = torch.as_tensor(graph.gates(mask)[0], dtype=torch.float32)
    with torch.no_grad():
        for others in (inputs, x(1, 4, 6), x(5, 9, 6)):
            assert alike(remove(graph, mask)(others), graph.gated(gates, None, others))


def test_a_pruned_network_is_an_ordinary_module():
    inputs = x(3, 4, 6)
    _, cut = left(Blocks, inputs, ["blocks_0_b"])
    with torch.no_grad():
        expected = cut(inputs)
        shapes = {"x": {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}}
        exported = torch.export.export(cut, (inputs,), dynamic_shapes=shapes, strict=False)
        for one in (
            copy.deepcopy(cut),
            saved_and_loaded(cut),
            exported.module(),
            torch.compile(cut, backend="aot_eager"),
        ):
            assert alike(one(inputs), expected)
            assert alike(one(x(2, 7, 6)), cut(x(2, 7, 6)))
    again = structural.capture(cut, inputs)
    assert len(again.candidates) == 4


@pytest.mark.full
@pytest.mark.skipif(shutil.which("g++") is None, reason="no compiler")
def test_a_pruned_network_can_be_compiled():
    inputs = x(3, 4, 6)
    _, cut = left(Blocks, inputs, ["blocks_1_out"])
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(cut)(inputs), cut(inputs))
