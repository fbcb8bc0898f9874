"""What networks are written with, read by flow: beside true outputs under masks, and what is
refused.
"""

from collections import OrderedDict, namedtuple
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn
from torch.nn import functional

from bogp.errors import InvalidInput, NotFinite
from bogp.structural import Examples, cross_entropy, flow, prune, squared_error
from bogp.structural.graph import as_gates
from bogp.structural.traced.containers import tensors_of
from bogp.structural.traced.moments import Moments
from bogp.structural.tracing import capture

SEED = torch.Generator().manual_seed(0)
ROWS, TOKENS = (torch.randn(size, generator=SEED) for size in ((64, 8), (64, 6, 8)))
LATER = torch.ones(6, 6).triu(1).bool()
Named = namedtuple("Named", "logits")
NORM = ("running_mean", "running_var", "weight", "bias")


@dataclass
class Output:
    logits: torch.Tensor


class Residual(nn.Module):
    """Four branches, then what is asked about."""

    def __init__(self, end):
        super().__init__()
        torch.manual_seed(0)
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)) for _ in range(4)
        )
        self.end = end

    def forward(self, x):
        for branch in self.branches:
            x = x + branch(x)
        return self.end(x)


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.cells = kind(8, 8, batch_first=True)

    def forward(self, x):
        return self.cells(x)[0]


class Heads(nn.Module):
    """Queries, keys and values from one layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.all = nn.Linear(8, 24)

    def forward(self, x):
        q, k, v = self.all(x).chunk(3, -1)
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def attention(masked):
    def end(h):
        return masked(h @ h.transpose(1, 2)).softmax(-1) @ h

    return end


def gated(h):
    a, b = h.chunk(2, -1)
    return a * b.sigmoid()


WRITTEN = {
    # containers of any class
    "ordered": (lambda h: OrderedDict(logits=h), ROWS),
    "dataclass": (Output, ROWS),
    "named tuple": (Named, ROWS),
    # results that are no floating-point tensors
    "chunk": (gated, ROWS),
    "split": (lambda h: torch.cat(h.split(4, -1), -1), ROWS),
    "unbind": (lambda h: h.unbind(1)[0] + h.unbind(1)[1], TOKENS),
    "max with places": (lambda h: h.max(1).values, TOKENS),
    "top k": (lambda h: h.topk(3, -1).values, ROWS),
    "sort": (lambda h: h.sort(-1).values, ROWS),
    "truth values": (lambda h: (h > 0).float(), ROWS),
    "Fourier": (lambda h: torch.fft.rfft(h, dim=1).abs(), TOKENS),
    "LSTM": (Recurrent(nn.LSTM), TOKENS),
    "GRU": (Recurrent(nn.GRU), TOKENS),
    # attention and its masks
    "no mask": (attention(lambda s: s), TOKENS),
    "filled": (attention(lambda s: s.masked_fill(LATER, -torch.inf)), TOKENS),
    "filled, finite": (attention(lambda s: s.masked_fill(LATER, -1e9)), TOKENS),
    "added": (attention(lambda s: s + torch.zeros(6, 6).masked_fill(LATER, -1e9)), TOKENS),
    "taken away": (attention(lambda s: s - 1e9 * LATER.float()), TOKENS),
    "chosen": (attention(lambda s: torch.where(LATER, torch.tensor(-torch.inf), s)), TOKENS),
    "float mask": (
        lambda h: functional.scaled_dot_product_attention(h, h, h, attn_mask=torch.zeros(6, 6)),
        TOKENS,
    ),
    # norms by hand, and functions that are not defined everywhere
    "rsqrt": (lambda h: h * (h.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt(), TOKENS),
    "power": (lambda h: h * (h.pow(2).mean(-1, keepdim=True) + 1e-6) ** -0.5, TOKENS),
    "divided": (lambda h: h / (h.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt(), TOKENS),
    "root": (lambda h: h.relu().sqrt(), ROWS),
    "logarithm": (lambda h: h.exp().log(), ROWS),
    # axes
    "over both": (nn.LayerNorm([6, 8]), TOKENS),
    "log softmax": (lambda h: h.log_softmax(1), ROWS),
    "log softmax layer": (nn.LogSoftmax(-1), ROWS),
    "softmax over tokens": (nn.Softmax(dim=1), TOKENS),
    "tokens side by side": (lambda h: torch.cat([h, h.relu()], 1), TOKENS),
    "stacked": (lambda h: torch.stack([h, h.tanh()]).sum(0), ROWS),
    "narrow term": (lambda h: h.mean(-1, keepdim=True) + h.tanh(), TOKENS),
    "narrow sum": (lambda h: h[..., :1] + h[..., 1:2] + h.tanh(), TOKENS),
    # one number an example
    "one column": (nn.Linear(8, 1), ROWS),
    "flat": (nn.Sequential(nn.Linear(8, 1), nn.Flatten(0)), ROWS),
}


# what is only known by its result, or has terms whose noise is not independent
ROUGH = {"top k", "LSTM", "GRU", "logarithm", "softmax over tokens", "narrow sum"}


class Parametrised(nn.Module):
    """Images and a parameter."""

    def __init__(self, size, join):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(8, 8, 1)
        self.of = nn.Parameter(torch.randn(size) + 1)
        self.join = join

    def forward(self, x):
        images = x.transpose(1, 2).unflatten(2, (2, 3))
        return self.join(images, self.layer(images), self.of).mean(dim=(2, 3))


@pytest.mark.parametrize(
    ("size", "join"),
    [
        ((8, 1, 1), lambda x, y, p: x + p * y),
        ((1, 8, 1, 1), lambda x, y, p: x + p * y),
        ((8, 1, 1), lambda x, y, p: x + (y + 1000 * p)),
        ((12,), lambda x, y, p: x + y * p[: y.size(1)].view(1, -1, 1, 1)),
    ],
)
def test_parameters_lie_along_the_channels_that_they_meet(size, join):
    graph = capture(Residual(Parametrised(size, join)).eval(), TOKENS[:4], level="residual")
    masks = np.array(
        [graph.without(s) for k in range(5) for s in combinations(graph.candidates, k)]
    )
    found = flow.flow_model(graph, TOKENS).change(masks)
    assert found[0] == pytest.approx(0, abs=1e-6)
    assert spearmanr(found, true_change(graph, masks, (TOKENS,))).statistic > 0.85


@pytest.mark.parametrize(
    ("end", "inputs"),
    [
        (nn.Identity(), 2000 * ROWS),  # large numbers are no masks
        (lambda h: torch.stack([h, h.tanh()]).sum(0), ROWS[:8]),  # as many examples as channels
        (lambda h: h + h.transpose(1, 2).tanh(), TOKENS[:, [0, 1, 2, 3, 4, 5, 0, 1]]),
        (attention(lambda s: s.masked_fill(LATER, -1e9) / 2), TOKENS),
        (lambda h: torch.cat([torch.tensor([]), h], -1), ROWS),
        (lambda h: torch.cat([h[:, :0], h], 1), TOKENS),
    ],
)
def test_what_looks_like_something_else_is_read_as_what_it_is(end, inputs):
    graph = capture(Residual(end).eval(), inputs[:4], level="residual")
    masks = np.array(
        [graph.without(s) for k in range(5) for s in combinations(graph.candidates, k)]
    )
    found = flow.flow_model(graph, inputs).change(masks)
    assert found[0] == pytest.approx(0, abs=1e-6)
    assert spearmanr(found, true_change(graph, masks, (inputs,))).statistic > 0.85


def test_a_layer_may_have_the_name_of_an_operation():
    class Named(nn.Module):
        def __init__(self, name):
            super().__init__()
            torch.manual_seed(0)
            self.add_module(name, nn.Linear(8, 5))

        def forward(self, x):
            (layer,) = self.children()
            return layer(x)

    found = []
    for name in ("head", "sub"):
        graph = capture(Residual(Named(name)).eval(), ROWS[:4], level="residual")
        masks = [graph.without([edge]) for edge in graph.candidates]
        found.append(flow.flow_model(graph, ROWS).change(masks))
    np.testing.assert_allclose(*found)


def test_norms_are_alike_as_layers_and_functions():
    norm = nn.BatchNorm1d(8)
    with torch.no_grad():
        norm.running_var.copy_(torch.linspace(0.2, 3.0, 8))
        norm.weight.copy_(torch.linspace(-1, 2, 8))
    kinds = [norm, lambda h: functional.batch_norm(h, *(getattr(norm, n) for n in NORM))]
    found = []
    for kind in kinds:
        graph = capture(Residual(kind).eval(), ROWS[:4], level="residual")
        masks = [graph.without([edge]) for edge in graph.candidates]
        found.append(flow.flow_model(graph, ROWS).change(masks))
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_values_of_an_attention_are_found_by_name():
    def end(h):
        named = {"value": h, "key": h.tanh(), "query": h.tanh()}
        return functional.scaled_dot_product_attention(**named)

    graph = capture(Residual(end).eval(), TOKENS[:4], level="residual")
    masks = [graph.without([edge]) for edge in graph.candidates]
    assert (flow.flow_model(graph, TOKENS).change(masks) > 0.01).all()


def test_rows_without_anything_to_look_at_are_no_error():
    none = LATER.clone()
    none[0] = True
    graph = capture(
        Residual(attention(lambda s: s.masked_fill(none, -1e9))).eval(),
        TOKENS[:4],
        level="residual",
    )
    masks = [graph.without([edge]) for edge in graph.candidates]
    assert (flow.flow_model(graph, TOKENS).change(masks) > 0).all()


def true_change(graph, masks, inputs):
    """The squared distance of outputs over the energy of their variation; what is added to all
    channels left out.
    """
    with torch.no_grad():
        found = [tensors_of(graph.outputs(as_gates(graph, g), None, inputs)) for g in masks]
    (full,) = found[0]
    wide = full[:, None] if full.dim() == 1 else full
    energy = (wide - wide.mean(dim=tuple(range(wide.dim() - 1)))).square().mean()
    gaps = [(one - full).reshape(wide.shape) for (one,) in found]
    if wide.shape[-1] > 1:
        others = tuple(range(wide.dim() - 1))
        means = [gap.mean(dim=others) for gap in gaps]
        gaps = [gap - mean.mean() for gap, mean in zip(gaps, means, strict=True)]
    return np.array([float(gap.square().mean() / energy) for gap in gaps])


@pytest.mark.parametrize("name", WRITTEN)
def test_sets_of_branches_are_ranked_as_true_outputs_do(name):
    end, inputs = WRITTEN[name]
    graph = capture(Residual(end).eval(), inputs[:4], level="residual")
    own = graph.candidates
    masks = np.array([graph.without(s) for k in range(5) for s in combinations(own, k)])
    found = flow.flow_model(graph, inputs).change(masks)
    assert found[0] == pytest.approx(0, abs=1e-6) and (found[1:] > 0).all()
    truth = true_change(graph, masks, (inputs,))
    assert spearmanr(found, truth).statistic > (0.75 if name in ROUGH else 0.9)
    assert flow.path_flow(graph, masks[:1], flow.shares(graph, inputs)) == pytest.approx(1)


def test_a_part_of_a_layers_channels_moves_as_the_whole_does():
    graph = capture(Residual(Heads()).eval(), TOKENS[:4], level="residual")
    apart = Heads()

    def by_slices(h):
        q, k, v = (
            functional.linear(h, w, b)
            for w, b in zip(apart.all.weight.chunk(3), apart.all.bias.chunk(3), strict=True)
        )
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)

    other = capture(Residual(by_slices).eval(), TOKENS[:4], level="residual")
    found, expected = (
        flow.flow_model(g, TOKENS).change([g.without([edge]) for edge in g.candidates])
        for g in (graph, other)
    )
    assert len(found) == 4
    np.testing.assert_allclose(found, expected, rtol=0.05)


class Signed(nn.Module):
    """Three linear branches without constants."""

    def __init__(self, join):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = (nn.Linear(8, 8, bias=False) for _ in range(3))
        self.join = join

    def forward(self, x):
        return self.join(self.a(x), self.b(x), self.c(x))


@pytest.mark.parametrize(
    "join",
    [
        lambda a, b, c: a - b + c,
        lambda a, b, c: a - (b - c),
        lambda a, b, c: torch.add(a, b, alpha=0.1) - c,
        lambda a, b, c: torch.sub(a, torch.sub(b, c, alpha=2), alpha=0.5),
    ],
)
def test_shares_have_the_signs_and_factors_of_a_sum(join):
    graph = capture(Signed(join).eval(), ROWS[:4])
    masks = np.array([graph.without([edge]) for edge in graph.candidates])
    with torch.no_grad():
        full = graph.module(ROWS)
        left = [graph.outputs(as_gates(graph, mask), None, (ROWS,)) for mask in masks]
    true = [float((one * full).sum() / full.square().sum()) for one in left]
    np.testing.assert_allclose(flow.path_flow(graph, masks, flow.shares(graph, ROWS)), true, 1e-5)
    gaps = [float((one - full).square().sum()) for one in left]
    centred = (full - full.mean(dim=0)).square().sum()
    found = flow.flow_model(graph, ROWS).change(masks, scores=False)
    np.testing.assert_allclose(found, np.array(gaps) / float(centred), rtol=1e-4)


def test_outputs_of_any_class_are_pruned_as_plain_ones():
    class Block(nn.Module):
        def __init__(self, size):
            super().__init__()
            self.layer = nn.Linear(8, 8)
            with torch.no_grad():
                for one in self.layer.parameters():
                    one.mul_(size)

        def forward(self, x):
            return x + self.layer(x)

    class Wrapped(nn.Module):
        def forward(self, x):
            return Output(x)

    targets = torch.randint(4, (64,))
    removed = []
    for end in ([], [Wrapped()]):
        torch.manual_seed(0)
        blocks = [Block(size) for size in (3, 3, 1e-6)]
        model = nn.Sequential(nn.Linear(8, 8), *blocks, nn.Linear(8, 4), *end).eval()

        def loss(outputs, y):
            return cross_entropy(getattr(outputs, "logits", outputs), y)

        small = prune(model, (ROWS, targets), loss, method="flow_greedy", progress=False)
        removed.append(small.removed)
    assert removed[0] == removed[1] == ("3",)


def test_one_output_is_compared_with_its_mean():
    """A branch that only adds a constant is what a regression must keep."""

    class Three(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.constant, self.small = (nn.Linear(8, 1) for _ in range(3))
            with torch.no_grad():
                self.constant.weight.mul_(1e-3)
                self.constant.bias.fill_(10.0)
                self.small.weight.mul_(0.1)
                self.small.bias.zero_()

        def forward(self, x):
            return self.a(x) + self.constant(x) + self.small(x)

    model = Three().eval()
    data = ROWS, model(ROWS).detach()
    small = prune(
        model, data, squared_error, share=0.3, level="all", method="flow_greedy", progress=False
    )
    assert (small.model(ROWS) - data[1]).square().mean() < 0.1


@pytest.fixture
def graph():
    return capture(Residual(nn.Identity()).eval(), ROWS[:4], level="residual")


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (ROWS[:1], InvalidInput, "16 to 64 different examples"),
        (ROWS[:1].repeat(32, 1), InvalidInput, "does not vary over these inputs"),
        (ROWS * 1e-17, InvalidInput, "less than rounding"),
        (ROWS * float("nan"), NotFinite, "is no finite number"),
        (ROWS[:0], InvalidInput, "no example"),
        (ROWS.numpy(), InvalidInput, "class ndarray; a tensor, a tuple"),
        (None, InvalidInput, "class NoneType"),
        (Examples((ROWS,), torch.zeros(64)), InvalidInput, "of Examples their inputs"),
    ],
)
def test_examples_that_say_nothing_are_refused(graph, inputs, error, message):
    with pytest.raises(error, match=message):
        flow.flow_model(graph, inputs)


def test_shares_refuse_what_is_not_finite_and_training_mode(graph):
    with pytest.raises(NotFinite, match="no finite numbers"):
        flow.shares(graph, ROWS * float("inf"))
    normed = capture(Residual(nn.BatchNorm1d(8)).eval(), ROWS[:4], level="residual")
    normed.module.train()
    with pytest.raises(InvalidInput, match=r"call model.eval\(\) first"):
        flow.shares(normed, ROWS)


@pytest.mark.parametrize("end", [lambda h: h.argmax(-1), lambda h: h.square().mean()])
def test_outputs_that_cannot_be_compared_are_refused(end):
    made = capture(Residual(end).eval(), ROWS[:4], level="residual")
    with pytest.raises(InvalidInput, match="flow has nothing to compare"):
        flow.flow_model(made, ROWS)


def test_no_masks_have_no_change_and_what_explodes_is_named(graph):
    model = flow.flow_model(graph, ROWS)
    assert model.change(np.ones((0, len(graph.edges)), dtype=bool)).shape == (0,)
    with pytest.raises(InvalidInput, match="seed is"):
        flow.flow_model(graph, ROWS, seed=2**70)
    *steps, last = model.steps

    def unbounded(given):
        one = given[0]
        return Moments(one.signal, one.noise, one.mean / 0.0)

    broken = replace(model, steps=(*steps, replace(last, rule=unbounded)))
    with pytest.raises(NotFinite, match=f"cannot follow the values through {last.name}"):
        broken.change(graph.without(graph.candidates[:1])[None])


def test_a_network_whose_argument_has_the_name_of_a_builtin_is_captured():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(layer, 2), nn.Linear(8, 4)).eval()
    made = capture(model, TOKENS[:4], level="residual")
    assert isinstance(made.module.state_dict(), Mapping) and len(made.candidates) == 4
