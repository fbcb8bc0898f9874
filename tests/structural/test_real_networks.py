"""What networks of torchvision, timm and transformers showed: states, modes, copies and sizes."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils import _pytree as pytree

from bogp import structural
from bogp.errors import NotCapturable
from bogp.structural import tracing


class OneActivationTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.o = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        h = self.relu(self.a(x))
        return self.o(self.relu(self.b(h) + h))


class WithConstants(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.register_buffer("ids", torch.arange(4.0), persistent=False)
        self.register_buffer("scale", torch.ones(4))

    def forward(self, x):
        return self.scale * (self.a(x) + self.b(x) + torch.tensor([1.0, 2.0, 3.0, 4.0]) + self.ids)


class WithConstantsExported(WithConstants):
    def forward(self, x):
        return super().forward(x) if len(x) > 0 else x


class Inside(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = WithConstantsExported()

    def forward(self, x):
        return self.inner(x)


class CopiesIntoAState(nn.Module):
    """As a recurrent model fills its cache."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        hidden, state = self.a(x), torch.zeros(len(x), 2, 4)
        state[:, 0].copy_(hidden)
        state[:, 1].copy_(hidden[:, :1])
        return state.sum(1) + self.b(x)


def test_a_layer_in_place_that_is_called_twice_needs_no_export():
    torch.manual_seed(0)
    model, x = OneActivationTwice().eval(), torch.randn(3, 4)
    graph = structural.capture(model, x)
    assert graph.traced_by == "torch.fx"
    assert graph.trains
    assert model.relu.inplace, "the model keeps its own layer"
    torch.testing.assert_close(graph.module(x), model(x))


@pytest.mark.parametrize("network", [WithConstants, WithConstantsExported, Inside])
def test_states_have_the_names_of_the_model(network):
    torch.manual_seed(0)
    model, x = network().eval(), torch.randn(3, 4)
    graph = structural.capture(model, x)
    assert graph.module.state_dict().keys() == model.state_dict().keys()
    cut = structural.remove(graph, graph.without([graph.candidates[0]]))
    assert cut.state_dict().keys() < model.state_dict().keys()
    graph.module.load_state_dict(network().state_dict())  # a checkpoint of the model fits


def test_a_copy_into_a_state_has_a_derivative():
    torch.manual_seed(0)
    model, x = CopiesIntoAState().eval(), torch.randn(3, 4)
    model(x).square().sum().backward()
    expected = model.a.weight.grad.clone()
    model.zero_grad()
    structural.capture(model, x).module(x).square().sum().backward()
    torch.testing.assert_close(model.a.weight.grad, expected)


class DropsExamples(nn.Module):
    """A stochastic depth, as people write it."""

    def forward(self, x):
        return x * (torch.rand(len(x), 1) > 0.5) if self.training else x


class WithDepth(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.drop = nn.Linear(4, 4), nn.Linear(4, 4), DropsExamples()

    def forward(self, x):
        return self.a(x) + self.drop(self.b(x))


def test_a_stochastic_depth_of_the_users_follows_the_mode():
    torch.manual_seed(0)
    model, x = WithDepth().eval(), torch.randn(40, 4)
    graph = structural.capture(model, x)
    assert (graph.traced_by, graph.trains) == ("torch.fx", True)
    without_a = next(e.index for e in graph.edges if e.producer == "a")
    cut = structural.remove(graph, graph.without([without_a]))
    torch.testing.assert_close(cut(x), model.b(x))
    dropped = (cut.train()(x) == 0).all(dim=1)
    assert 5 < dropped.sum() < 35


class Box:
    def __init__(self, a):
        self.a, self.device = a, a.device


class GivesABox(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return {"y": self.a(x) + self.b(x), "box": Box(self.a(x))}


def test_a_network_that_gives_a_registered_class_can_be_exported():
    pytree.register_pytree_node(Box, lambda box: ([box.a], None), lambda parts, _: Box(parts[0]))
    torch.manual_seed(0)
    model, x = GivesABox().eval(), torch.randn(3, 4)
    exported = torch.export.export(structural.capture(model, x).module, (x,), strict=False)
    torch.testing.assert_close(exported.module()(x)["y"], model(x)["y"])


class Interpolates(nn.Module):
    """Behind an operation whose sizes torch cannot follow with symbols, those before it stay."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.p, self.o = (nn.Conv2d(i, 3, 1) for i in (3, 3, 3, 9))
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        size = x.shape[-2:]
        assert size[0] > 2
        wide = functional.interpolate(self.p(self.pool(x)), size=size, mode="bilinear")
        return self.o(torch.cat([self.a(x).relu(), self.b(x).relu(), wide], 1))


def test_zeros_for_a_block_have_the_sizes_of_other_inputs():
    torch.manual_seed(0)
    graph = structural.capture(Interpolates().eval(), torch.randn(4, 3, 8, 8))
    mask = graph.without([graph.candidates[0]])
    cut, gates = structural.remove(graph, mask), torch.as_tensor(graph.gates(mask)[0]).float()
    for shape in ((5, 3, 8, 8), (2, 3, 12, 10)):
        x = torch.randn(shape)
        torch.testing.assert_close(cut(x), graph.gated(gates, None, x))


class RoundsItsLengthUp(nn.Module):
    """As networks for images do that cut them into patches."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 4), nn.Linear(5, 4)

    def forward(self, x):
        padded = math.ceil(x.shape[1] / 2) * 2
        y = self.a(x) + self.b(x)
        return (2 * y if padded > 8 else y).mean(dim=1)


def test_conditions_on_rounded_sizes_are_kept():
    torch.manual_seed(0)
    model = RoundsItsLengthUp().eval()
    graph = structural.capture(model, torch.randn(4, 6, 5))
    near, far = torch.randn(3, 7, 5), torch.randn(3, 12, 5)
    ones = torch.ones(len(graph.edges))
    torch.testing.assert_close(graph.gated(ones, None, near), model(near))
    with pytest.raises(NotCapturable, match="captured for inputs with"):
        graph.outputs(ones, None, (far,))


def test_of_a_long_network_for_images_only_the_batch_is_free(monkeypatch):
    """Both sizes of an image as symbols keep torch.export busy for minutes where it is long."""
    monkeypatch.setattr(tracing, "_MOST_FREE", 3)
    torch.manual_seed(0)
    model = Interpolates().eval()
    graph = structural.capture(model, torch.randn(4, 3, 8, 8))
    ones, x = torch.ones(len(graph.edges)), torch.randn(5, 3, 8, 8)
    torch.testing.assert_close(graph.gated(ones, None, x), model(x))
    with pytest.raises(NotCapturable, match=r"captured for inputs with x.shape\[2\] == 8"):
        graph.outputs(ones, None, (torch.randn(4, 3, 12, 10),))
