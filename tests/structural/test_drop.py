"""Blocks and branches leave the user's own model: it stays of its class, gives what the gated
network gives, trains, and is loaded again; what cannot be changed in place is said.
"""

import copy
import warnings
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from bogp import structural
from bogp.errors import InvalidInput
from bogp.structural.drop import NotInPlace, Skipped, Zeros, drop, emptied, empty
from bogp.structural.tracing import capture
from bogp.zoo.networks import ResNet20
from tests.structural.test_levels import (
    WIDTH,
    Biased,
    Layer,
    ResNet,
    Transformer,
    ids,
    images,
    made,
    outputs,
)


def test_a_block_leaves_its_list_and_the_model_stays_as_it_was():
    model, x = made(Transformer(4)), ids()
    before = copy.deepcopy(model.state_dict())
    graph = capture(model, x, level="blocks")
    dropped = drop(model, graph, ["layers.1", "layers.3"])
    assert type(dropped) is Transformer and len(dropped.layers) == 2
    by_hand = copy.deepcopy(model)
    by_hand.layers = nn.ModuleList([model.layers[0], model.layers[2]])
    assert dropped.state_dict().keys() == by_hand.state_dict().keys()
    for inputs in (x, ids(9, 2, 5)):
        torch.testing.assert_close(dropped(inputs), by_hand(inputs), atol=0, rtol=0)
    assert len(model.layers) == 4
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert {id(p) for p in dropped.parameters()}.isdisjoint({id(p) for p in model.parameters()})


def test_a_whole_stage_can_go_and_a_list_that_loses_all_keeps_its_places():
    torch.manual_seed(0)
    model, x = ResNet20().eval(), torch.randn(2, 3, 32, 32)
    graph = capture(model, x, level="blocks")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dropped = drop(model, graph, ["layer1.1", "layer1.0", "layer1.2"])
    expected = model.head(model.layer3(model.layer2(model.stem(x))).mean(dim=(2, 3)))
    assert type(dropped) is ResNet20 and len(dropped.layer1) == 0
    torch.testing.assert_close(dropped(x), expected)
    listed = made(Transformer(2))
    none = drop(listed, capture(listed, ids(), level="blocks"), ["layers.0", "layers.1"])
    assert [type(layer) for layer in none.layers] == [Skipped] * 2
    torch.testing.assert_close(none(ids()), listed.head(listed.words(ids())))


@pytest.mark.parametrize("post", [False, True])
def test_a_branch_stands_empty_and_everything_left_trains(post):
    model, x = made(Transformer(3, post)), ids()
    graph = capture(model, x, level="residual")
    dropped = drop(model, graph, ["layers.1.attention", "layers.2.mlp"])
    assert isinstance(dropped.layers[1].attention, Zeros)
    expected = outputs(
        graph, [*graph.edges_of("layers.1.attention"), *graph.edges_of("layers.2.mlp")], x
    )
    torch.testing.assert_close(dropped(x), expected, atol=1e-5, rtol=1e-5)
    fewer = sum(p.numel() for p in model.layers[1].attention.parameters())
    fewer += sum(p.numel() for p in model.layers[2].mlp.parameters())
    norms = 0 if post else 2 * 2 * WIDTH  # before the branch they lead to it alone
    counted = [sum(p.numel() for p in m.parameters()) for m in (model, dropped)]
    assert counted[0] - counted[1] == fewer + norms
    dropped.train()(x).square().mean().backward()
    assert all(p.grad is not None for p in dropped.parameters())


def test_an_emptied_model_is_made_again_from_its_description_and_its_state():
    model, x = made(Transformer(3)), ids()
    dropped = drop(model, capture(model, x, level="residual"), ["layers.0.mlp"])
    description = emptied(dropped)
    assert description == {
        "layers.0.mlp": {"gives": "zeros", "values": 0},
        "layers.0.norm2": {"gives": "input", "values": 0},
    }
    again = empty(made(Transformer(3), seed=5), description)
    again.load_state_dict(dropped.state_dict())
    torch.testing.assert_close(again(x), dropped(x), atol=0, rtol=0)
    with pytest.raises(InvalidInput, match="no module 'layers\\.7'"):
        empty(model, {"layers.7": {"gives": "zeros", "values": 0}})


class Configured(nn.Module):
    """Layers counted by a configuration, each of which knows its number."""

    def __init__(self, **fields: object) -> None:
        super().__init__()
        self.config = SimpleNamespace(**fields)
        self.core = Transformer(4)
        for at, layer in enumerate(self.core.layers):
            layer.attention.layer_idx = at

    def forward(self, x: Tensor) -> Tensor:
        return self.core(x)


def test_the_configuration_and_the_numbers_of_layers_follow():
    fields = {
        "n_layer": 4,
        "num_feature_layers": 4,
        "layer_types": ["a", "b", "c", "d"],
        "kinds": [1, 2, 3, 4],
    }
    model, x = made(Configured(**fields)), ids()
    dropped = drop(model, capture(model, x, level="blocks"), ["core.layers.0", "core.layers.2"])
    fewer = {"n_layer": 2, "layer_types": ["b", "d"]}
    assert vars(dropped.config) == fields | fewer  # what counts no layers is as long by chance
    assert [layer.attention.layer_idx for layer in dropped.core.layers] == [0, 1]
    assert model.config.n_layer == 4


def test_stages_are_counted_in_their_place():
    class Stages(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = SimpleNamespace(depths=[2, 3], num_layers=3)
            self.stages = nn.ModuleList([nn.Sequential(Layer(), Layer()), nn.Sequential()])
            self.stages[1].extend([Layer(), Layer(), Layer()])

        def forward(self, x: Tensor) -> Tensor:
            return self.stages[1](self.stages[0](x))

    model = made(Stages())
    graph = capture(model, torch.randn(2, 5, WIDTH), level="blocks")
    dropped = drop(model, graph, ["stages.0.1", "stages.1.0", "stages.1.1"])
    assert vars(dropped.config) == {"depths": [1, 1], "num_layers": 3}


def test_an_encoder_and_a_decoder_are_counted_apart():
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = SimpleNamespace(num_layers=3, num_decoder_layers=3)
            self.encoder, self.decoder = Transformer(3), nn.ModuleList(Layer() for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            y = self.encoder.words(x)
            for layer in (*self.encoder.layers, *self.decoder):
                y = layer(y)
            return y

    model = made(Pair())
    graph = capture(model, ids(), level="blocks")
    assert vars(drop(model, graph, ["decoder.1"]).config) == {
        "num_layers": 3,
        "num_decoder_layers": 2,
    }
    assert vars(drop(model, graph, ["encoder.layers.1"]).config) == {
        "num_layers": 2,
        "num_decoder_layers": 3,
    }


def test_stages_of_a_sequential_keep_the_names_that_were_given():
    model = nn.Sequential()
    for name in ("first", "second", "third"):
        model.add_module(name, Layer())
    model = made(model)
    x = torch.randn(2, 5, WIDTH)
    dropped = drop(model, capture(model, x, level="blocks"), ["second"])
    assert list(dropped._modules) == ["first", "third"]
    resnet = made(ResNet())
    smaller = drop(resnet, capture(resnet, images(), level="blocks"), ["stage1.0"])
    assert len(smaller.stage1) == 1
    torch.testing.assert_close(
        smaller.stage1(torch.ones(1, 8, 4, 4)), resnet.stage1[1](torch.ones(1, 8, 4, 4))
    )


def test_a_block_outside_of_a_list_hands_on_what_it_gets():
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = Layer(), Layer()

        def forward(self, x: Tensor) -> Tensor:
            return self.two(self.one(x))

    model, x = made(Named()), torch.randn(2, 5, WIDTH)
    dropped = drop(model, capture(model, x, level="blocks"), ["one"])
    assert type(dropped) is Named and isinstance(dropped.one, Skipped)
    torch.testing.assert_close(dropped(x), model.two(x))


def test_what_cannot_be_changed_in_place_is_given_as_a_module_of_its_own_and_said():
    model, x = made(ResNet()), images()
    graph = capture(model, x, level="residual")
    with pytest.warns(NotInPlace, match="ResNet cannot be changed in place"):
        cut = drop(model, graph, ["stage2.0.conv1..conv2"])  # its shortcut changes the shape
    expected = outputs(graph, graph.edges_of("stage2.0"), x)
    torch.testing.assert_close(cut(x), expected, atol=1e-5, rtol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotInPlace)
        drop(model, graph, ["stage1.0.conv1..conv2"])


def test_bad_removals_are_refused_by_name():
    model, x = made(Transformer(3)), ids()
    graph = capture(model, x, level="blocks")
    for wrong, message in (
        (["layers.7"], "no module 'layers.7'"),
        (["layers.1.mlp"], "layers.1.mlp cannot be removed: it has no way around"),
        ([], "nothing to remove"),
        ([0], "Edge 0 is no candidate"),
        ([999], "999"),
    ):
        with pytest.raises(InvalidInput, match=message):
            drop(model, graph, wrong)
    with pytest.raises(InvalidInput, match=r"structural\.remove"):
        drop(model, capture(model, x), capture(model, x).candidates[:1])
    none = drop(model, graph, ["layers.0", "layers.1", "layers.2"])  # a list keeps its places
    assert [type(layer) for layer in none.layers] == [Skipped] * 3
    biased = made(Biased())
    graph = capture(biased, torch.randn(2, 5, WIDTH), level="blocks")
    with pytest.raises(InvalidInput, match=r"block\.0 cannot be removed: it gives 2 values"):
        drop(biased, graph, ["block.0"])


def test_layers_that_share_parameters_and_unknown_configurations_are_refused():
    model = made(Transformer(3))
    model.layers[1].mlp.up.weight = model.layers[2].mlp.up.weight
    graph = capture(model, ids(), level="blocks")
    with pytest.raises(InvalidInput, match=r"layers\.1 shares parameters with layers\.2"):
        drop(model, graph, ["layers.1"])
    configured = made(Configured(num_hidden_layers=7))
    graph = capture(configured, ids(), level="blocks")
    with pytest.raises(InvalidInput, match="no field that counts the 4 layers"):
        drop(configured, graph, ["core.layers.1"])
    assert len(configured.core.layers) == 4


def test_a_cut_module_of_blocks_is_an_ordinary_network():
    model, x = made(Transformer(3)), ids()
    graph = capture(model, x, level="blocks")
    cut = structural.remove(graph, graph.without(graph.candidates[:1]))
    assert "bypass" not in cut.code
    exported = torch.export.export(cut, (x,))
    torch.testing.assert_close(exported.module()(x), cut(x))
