"""Networks that do not keep the batch first: folded into tokens, moved, fixed, or mixed.

Gradient scores are held against derivatives by a factor in a hand-written network, one example
after the other (or all at once, where examples act on each other), losses against the network
without the branch.
"""

import numpy as np
import pytest
import torch
from torch import nn

from bogp import structural
from bogp.errors import NotCapturable
from bogp.structural import taylor
from bogp.structural.gates import Examples, leave_one_out, mean_activations
from bogp.structural.importance import METHODS, importances, removal_order
from bogp.structural.surgery import remove
from tests.structural.models import Linears, make, x


class Scaled(Linears):
    """Branch ``b`` is multiplied by ``z``, which stands for its gate."""

    z = 1.0

    def __init__(self):
        super().__init__("a", "b", "head")


class Folds(Scaled):
    """Tokens of all examples in one dimension (OPT, Bloom, CLIP)."""

    def forward(self, x):
        n, t, d = x.shape
        h = x.reshape(n * t, d)
        h = self.a(h) + self.z * torch.tanh(self.b(h))
        return self.head(torch.tanh(h)).view(n, t, d)


class Windows(Scaled):
    """Attention within windows of two tokens."""

    def forward(self, x):
        n, t, d = x.shape
        h = x.view(n, t // 2, 2, d).reshape(-1, 2, d)
        h = self.a(h) + self.z * ((self.b(h) @ h.transpose(1, 2)).softmax(-1) @ h)
        return self.head(torch.tanh(h)).view(n, t, d)


class Experts(Scaled):
    """A mixture of experts: each token is weighted between two."""

    def forward(self, x):
        h = x.flatten(0, 1)
        weights = torch.softmax(self.head(h)[:, :2], dim=-1)
        mixed = self.a(h) * weights[:, :1] + self.z * (self.b(h) * weights[:, 1:])
        return torch.tanh(mixed).unflatten(0, x.shape[:2])


class States(Scaled):
    """States of a recurrent layer have the batch in their second dimension."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 6, batch_first=True)

    def forward(self, x):
        y, (h, c) = self.lstm(x)
        state = self.a(h) + self.z * torch.tanh(self.b(c))
        return self.head(y + torch.tanh(state).transpose(0, 1))


class Mixes(Scaled):
    """Examples act on each other."""

    def forward(self, x):
        h = self.a(x) + self.z * torch.tanh(self.b(x - x.mean(0)))
        return self.head(torch.tanh(h))


class Fixed(Scaled):
    """The size of the batch is a number in the code."""

    def forward(self, x):
        h = self.a(x).view(3, 4, 6) + self.z * torch.tanh(self.b(x)).view(3, 4, 6)
        return self.head(torch.tanh(h))


ALONE = [Folds, Windows, Experts, States]
TOGETHER = [Mixes, Fixed]


def loss(outputs, targets):
    return outputs.square().flatten(1).mean(1) * targets


def problem(network):
    model, inputs = make(network), x(3, 4, 6)
    graph = structural.capture(model, inputs)
    assert not graph.batched
    return model, graph, Examples(inputs, torch.tensor([1.0, 2.0, -0.5]))


def edge(graph):
    """The candidate that carries branch b into the sum."""
    names = {v.index: v.name for v in graph.vertices}
    found = [
        int(e)
        for e in graph.candidates
        if "mul" in graph.edges[e].producer or " b" in f" {names[graph.edges[e].source]}"
    ]
    return found[-1]


def by_factor(model, examples, part):
    """Losses of some examples as a function of the factor of branch b."""

    def at(z):
        model.z = z
        try:
            return loss(model(examples.inputs[0][part]), examples.targets[part])
        finally:
            del model.z

    return at


@pytest.mark.parametrize("network", [*ALONE, *TOGETHER])
def test_scores_need_no_batch_dimension(network):
    model, graph, examples = problem(network)
    at = edge(graph)
    rows = [slice(i, i + 1) for i in range(3)] if network in ALONE else [slice(0, 3)]
    one = torch.ones(())
    slopes = torch.cat(
        [torch.autograd.functional.jacobian(by_factor(model, examples, r), one) for r in rows]
    ).numpy()
    everything = by_factor(model, examples, slice(0, 3))
    bend = torch.autograd.functional.hessian(lambda z: everything(z).mean(), one).item()
    with torch.no_grad():
        change = (everything(0.0).mean() - everything(1.0).mean()).item()

    assert taylor.gate_gradients(graph, examples, loss)[:, at] == pytest.approx(slopes, abs=1e-6)
    assert taylor.mean_gradient(graph, examples, loss)[at] == pytest.approx(slopes.mean(), abs=1e-6)
    assert taylor.hessian(graph, examples, loss)[at, at] == pytest.approx(bend, abs=1e-5)
    names = [m for m in METHODS if network in ALONE or m != "block_influence"]
    table = importances(graph, examples, loss, names).set_index("edge").loc[at]
    assert table["first_order"] == pytest.approx(-slopes.mean(), abs=1e-6)
    assert table["absolute_first_order"] == pytest.approx(abs(slopes.mean()), abs=1e-6)
    assert table["unsigned_taylor"] == pytest.approx(np.square(slopes).mean(), abs=1e-6)
    assert table["fisher"] == pytest.approx(-slopes.mean() + np.square(slopes).mean() / 2, abs=1e-6)
    assert table["hessian"] == pytest.approx(-slopes.mean() + bend / 2, abs=1e-5)
    assert table["leave_one_out"] == pytest.approx(change, abs=1e-6)
    only = importances(graph, examples, loss, ["first_order"]).set_index("edge").loc[at]
    assert only["first_order"] == pytest.approx(-slopes.mean(), abs=1e-6)
    assert len(removal_order(graph, examples, loss, "hessian_greedy"))
    with pytest.raises(NotCapturable, match="batch as the first dimension"):
        mean_activations(graph, examples)


def test_block_influence_looks_at_one_example_at_a_time():
    model, graph, examples = problem(Folds)
    found = importances(graph, examples, loss, ["block_influence"]).set_index("edge")
    truth = []
    for one in examples.inputs[0]:
        with torch.no_grad():
            before = torch.tanh(model.a(one) + torch.tanh(model.b(one)))
            after = torch.tanh(model.a(one))
            pair = model.head(before).flatten(), model.head(after).flatten()
        truth.append(1 - torch.cosine_similarity(*pair, dim=0).item())
    names = {v.index: v.name for v in graph.vertices}
    into = graph.edges[edge(graph)]
    assert "head" in names[into.target]  # the sum goes on to what the network gives
    assert found.loc[into.index, "block_influence"] == pytest.approx(np.mean(truth), abs=1e-6)
    _, mixing, others = problem(Mixes)
    with pytest.raises(NotCapturable, match="block_influence compares single examples"):
        importances(mixing, others, loss, ["block_influence"])


def test_a_fixed_batch_is_said_in_words():
    model, graph, _ = problem(Fixed)
    twice = Examples(torch.cat([x(3, 4, 6), x(3, 4, 6, seed=4)]), torch.ones(6))
    with pytest.raises(NotCapturable, match=r"fails on inputs of these sizes.*shape"):
        leave_one_out(graph, twice, loss)
    # in batches of its size it works
    with torch.no_grad():
        parts = [twice.inputs[0][:3], twice.inputs[0][3:]]
        full = torch.cat([loss(model(p), torch.ones(3)) for p in parts]).mean()
        model.z = 0.0
        less = torch.cat([loss(model(p), torch.ones(3)) for p in parts]).mean()
    changes = dict(zip(graph.candidates, leave_one_out(graph, twice, loss, batch=3), strict=True))
    assert changes[edge(graph)] == pytest.approx((less - full).item(), abs=1e-6)
    cut = remove(graph, graph.without([edge(graph)]))
    with torch.no_grad():
        torch.testing.assert_close(cut(x(3, 4, 6)), model(x(3, 4, 6)))
