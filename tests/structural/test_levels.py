"""Levels of removals: residual branches and blocks are found, and their removal is the network with
that layer left out, written by hand.
"""

import numpy as np
import pytest
import torch
from matplotlib.patches import FancyBboxPatch
from torch import Tensor, nn

from bogp import structural
from bogp.errors import InvalidInput, NothingToRemove
from bogp.structural.drawing import draw_graph
from bogp.structural.gates import Examples, losses_under
from bogp.structural.levels import at_level, blocks_of
from bogp.structural.tracing import capture

WIDTH, WORDS = 16, 20


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        keep = None if mask is None else mask[:, None, :].bool()
        return self.proj(nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=keep))


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(nn.functional.gelu(self.up(x)))


class Layer(nn.Module):
    """Of a transformer; ``post`` puts the norms on the skips."""

    def __init__(self, post: bool = False) -> None:
        super().__init__()
        self.post = post
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention, self.mlp = Attention(), Mlp()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.post:
            x = self.norm1(x + self.attention(x, mask))
            return self.norm2(x + self.mlp(x))
        x = x + self.attention(self.norm1(x), mask)
        return x + self.mlp(self.norm2(x))


class Other(Layer):
    """The same under another name."""


class Transformer(nn.Module):
    def __init__(self, depth: int = 3, post: bool = False) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.layers = nn.ModuleList(Layer(post) for _ in range(depth))
        self.head = nn.Linear(WIDTH, WORDS)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.words(ids)
        for layer in self.layers:
            x = layer(x, mask)
        return self.head(x)


class Basic(nn.Module):
    def __init__(self, into: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(into, out, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(out), nn.BatchNorm2d(out)
        self.short = nn.Conv2d(into, out, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + self.short(x))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 1, 1)
        self.stage1 = nn.Sequential(Basic(8, 8), Basic(8, 8))
        self.stage2 = nn.Sequential(Basic(8, 16, 2), Basic(16, 16))
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage2(self.stage1(torch.relu(self.stem(x))))
        return self.head(x.mean((2, 3)))


class Biased(nn.Module):
    """The first layer makes a bias of weights alone, which the others read, as in T5."""

    class One(nn.Module):
        def __init__(self, first: bool) -> None:
            super().__init__()
            self.layer = nn.ModuleList([Layer(), Other()])  # two classes: one layer's two parts
            self.bias = nn.Linear(1, WIDTH) if first else None

        def forward(self, x: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
            if self.bias is not None:
                bias = self.bias(torch.ones(1))
            for layer in self.layer:
                x = layer(x) + 0 * bias
            return x, bias

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.ModuleList([self.One(True), self.One(False), self.One(False)])

    def forward(self, x: Tensor) -> Tensor:
        bias = None
        for block in self.block:
            x, bias = block(x, bias)
        return x


def made(network: nn.Module, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    for p in network.parameters():
        nn.init.normal_(p, std=0.3)
    return network.eval()


def ids(seed: int = 1, count: int = 3, length: int = 7) -> Tensor:
    return torch.randint(WORDS, (count, length), generator=torch.Generator().manual_seed(seed))


def images(seed: int = 1, count: int = 3) -> Tensor:
    return torch.randn(count, 3, 12, 12, generator=torch.Generator().manual_seed(seed))


def outputs(graph, removed, inputs):
    gates = torch.as_tensor(graph.gates(graph.without(removed))[0], dtype=torch.float32)
    with torch.no_grad():
        return graph.outputs(gates, None, inputs)


@pytest.mark.parametrize("post", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_a_block_that_goes_is_the_layer_left_out(post, masked):
    model = made(Transformer(post=post))
    x = ids()
    given = (x, torch.ones_like(x)) if masked else (x,)
    graph = capture(model, given, level="blocks")
    assert [graph.name(e) for e in graph.candidates] == [f"layers.{i}" for i in range(3)]
    without = made(Transformer(post=post))
    del without.layers[1]
    other = ids(5, 2, 5)
    others = (other, torch.ones_like(other)) if masked else (other,)
    with torch.no_grad():
        for inputs in (given, others):
            found = outputs(graph, graph.candidates[1:2], inputs)
            torch.testing.assert_close(found, without(*inputs), atol=1e-5, rtol=1e-5)
            cut = structural.remove(graph, graph.without(graph.candidates[1:2]))
            torch.testing.assert_close(cut(*inputs), without(*inputs), atol=1e-5, rtol=1e-5)
    assert structural.cost(cut, given, 0.001).parameters == sum(
        p.numel() for p in without.parameters()
    )


def test_residual_branches_carry_the_names_of_their_modules_with_and_without_a_mask():
    x, wanted = ids(), [f"layers.{i}.{part}" for i in range(3) for part in ("attention", "mlp")]
    for inputs in ((x,), (x, torch.ones_like(x))):
        for post in (False, True):
            graph = capture(made(Transformer(post=post)), inputs, level="residual")
            assert [graph.name(e) for e in graph.candidates] == wanted
    model = made(Transformer())
    with torch.no_grad():
        model.layers[1].mlp.down.weight.zero_()
        model.layers[1].mlp.down.bias.zero_()
        found = outputs(graph := capture(made(Transformer()), x, "residual"), [], x)
        assert not torch.allclose(found, model(x))
        (edge,) = graph.edges_of("layers.1.mlp")
        torch.testing.assert_close(outputs(graph, [edge], x), model(x), atol=1e-5, rtol=1e-5)


def test_blocks_and_branches_of_a_network_with_stages():
    model = made(ResNet())
    blocks = capture(model, images(), level="blocks")
    assert [blocks.name(e) for e in blocks.candidates] == ["stage1.0", "stage1.1", "stage2.1"]
    branches = capture(model, images(), level="residual")
    assert [branches.name(e) for e in branches.candidates] == [
        f"stage{s}.{b}.conv1..conv2" for s in (1, 2) for b in (0, 1)
    ]
    # without its branch a block with a skip is the skip, so both removals are the same
    for block in blocks.candidates:
        (edge,) = branches.edges_of(blocks.name(block))
        torch.testing.assert_close(
            outputs(blocks, [block], images(2)), outputs(branches, [edge], images(2))
        )


def test_what_others_need_is_no_block_and_its_pieces_are_none_either():
    graph = capture(made(Biased()), torch.randn(2, 5, WIDTH))
    found, why = blocks_of(graph)
    assert [b.call for b in found] == ["block.1", "block.2"]
    assert "gives 2 values" in why["block.0"]


def test_what_is_no_block_is_said_by_name():
    plain = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)).eval()
    x = torch.randn(2, 8)
    with pytest.raises(NothingToRemove, match="no block"):
        capture(plain, x, level="blocks")
    with pytest.raises(NothingToRemove, match="no residual branch"):
        capture(plain, x, level="residual")
    with pytest.raises(InvalidInput, match="no level 'layers'"):
        capture(plain, x, level="layers")
    graph = capture(made(ResNet()), images())
    why = blocks_of(graph)[1]
    assert "another shape" in why["stage2.0"]
    assert why["stem"] == "gives a value of another shape than those that it gets"
    with pytest.raises(InvalidInput, match="at level blocks"):
        at_level(at_level(graph, "blocks"), "residual")
    twice = made(Twice())
    assert blocks_of(capture(twice, torch.randn(2, 3, WIDTH)))[1]["layer"] == (
        "is called more than once"
    )


class Joined(nn.Module):
    """Adds to a value what another module made of it: no layer by itself."""

    class Output(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(WIDTH, WIDTH)

        def forward(self, y: Tensor, x: Tensor) -> Tensor:
            return x + self.dense(y)

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.output = Mlp(), self.Output()

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.inner(x), x)


def test_the_end_of_a_layer_that_is_given_its_beginning_is_no_block():
    network = nn.Sequential(nn.Linear(WIDTH, WIDTH), Joined(), Joined())
    found, why = blocks_of(capture(made(network), torch.randn(2, 3, WIDTH)))
    assert [block.call for block in found] == ["1", "2"]
    assert "others made of the value" in why["1.output"]


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = Layer()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x))


class Gelu(nn.Module):
    """An activation with sums of its own, and a layer around it."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.one(x)
        y = 0.5 * y * (1 + torch.tanh(0.8 * (y + 0.04 * y**3)))
        return x + self.two(y)


def test_edges_of_a_module_leave_out_the_sums_of_its_activation():
    graph = capture(nn.Sequential(Gelu(), Gelu()).eval(), torch.randn(2, 8))
    everywhere = {graph.edges[e].target for e in graph.candidates}
    inside = graph.vertices_inside_functions
    assert len(everywhere & inside) == 2  # y + 0.04 y^3 of both
    found = graph.edges_of("1")
    assert len(found) and not {graph.edges[e].target for e in found} & inside
    assert {graph.edges[e].module for e in found} == {"1.two"}
    with pytest.raises(InvalidInput, match=r"no module '1\.too'\. Did you mean 1\.two"):
        graph.edges_of("1.too")


def test_the_text_of_a_graph_is_a_table_of_about_ten_lines():
    text = repr(capture(made(Transformer(12)), ids(), level="blocks")).splitlines()
    assert len(text) <= 11
    assert text[0].startswith("Transformer by torch.fx:") and "12 candidates" in text[0]
    assert "layers.0" in text[2] and "and 5 more" in text[-1]


@pytest.mark.parametrize("level", ["all", "residual", "blocks"])
def test_losses_of_every_level_are_those_of_the_gated_network(level):
    for model, x in ((made(Transformer()), ids()), (made(ResNet()), images())):
        graph = capture(model, x, level=level)
        rng = np.random.default_rng(0)
        masks = np.ones((12, len(graph.edges)), dtype=bool)
        masks[:, graph.candidates] = rng.random((12, len(graph.candidates))) < 0.7
        examples = Examples((x,), torch.zeros(len(x)))

        def loss(o, t):
            return o.flatten(1).square().mean(1)

        expected = [float(loss(outputs(graph, np.flatnonzero(~m), x), None).mean()) for m in masks]
        found = losses_under(graph, masks, examples, loss)
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_the_drawing_of_a_level_has_a_box_for_each_candidate_with_its_name():
    graph = capture(made(Transformer(12)), ids(), level="residual")
    figure = draw_graph(graph, np.linspace(-1, 1, 24), "change of the loss (nats)")
    texts = {t.get_text() for t in figure.axes[0].texts}
    assert {f"{i}\n{part}" for i in range(12) for part in ("attention", "mlp")} <= texts
    assert figure.axes[0].get_title().startswith("Transformer: branches of layers")
    boxes = [p for p in figure.axes[0].patches if isinstance(p, FancyBboxPatch)]
    assert len(boxes) == 24 and boxes[0].get_facecolor() != boxes[-1].get_facecolor()
    left = [b.get_x() for b in boxes]
    assert len(set(np.round(left, 6))) == 12  # two rows
