"""The usual case in one call: what goes, what it costs, and how it goes on when interrupted."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from bogp import structural
from bogp.errors import InvalidInput, NotFinite, NothingToRemove
from bogp.structural.gates import (
    Examples,
    Removals,
    cross_entropy,
    leave_one_out,
    losses_under,
    next_token,
    own_loss,
    single_removals,
)
from bogp.structural.importance import importances, removal_order
from bogp.structural.journal import Journal
from bogp.structural.tracing import capture
from tests.structural.test_levels import ResNet, Transformer, ids, images, made

DEPTH = 6


def texts(count=12):
    return ids(3, count, 9)


@pytest.fixture(scope="module")
def model():
    return made(Transformer(DEPTH))


@pytest.mark.parametrize(
    "method",
    ["magnitude", "block_influence", "first_order", "fisher", "leave_one_out", "exact_greedy"],
)
def test_a_quarter_of_the_blocks_goes_by_any_method(model, method):
    x = texts()
    small = structural.prune(model, (x, x), next_token, share=1 / 3, method=method, progress=False)
    assert type(small.model) is Transformer and len(small.model.layers) == DEPTH - 2
    assert len(small.removed) == 2 and list(small.table.index) == ["before", "after"]
    for row, module in (("before", model), ("after", small.model)):
        with torch.no_grad():
            loss = float(next_token(module(x), x).mean())
        assert small.table.loss[row] == pytest.approx(loss, rel=1e-5)
        assert small.table.parameters[row] == sum(p.numel() for p in module.parameters())
    assert (small.table.latency > 0).all() and small.table.flops.is_monotonic_decreasing
    assert "removed layers." in repr(small) and "before" in repr(small)


def test_exact_methods_take_what_brute_force_takes(model):
    x = texts()
    without = {}
    for at in range(DEPTH):
        rest = made(Transformer(DEPTH))
        del rest.layers[at]
        with torch.no_grad():
            without[at] = float(next_token(rest(x), x).mean())
    best = sorted(without, key=without.get)
    small = structural.prune(model, (x, x), next_token, 1 / 3, progress=False)
    assert small.removed == tuple(f"layers.{at}" for at in best[:2])
    # greedy: the best second given the first
    pairs = {}
    for at in set(range(DEPTH)) - {best[0]}:
        rest = made(Transformer(DEPTH))
        for one in sorted((at, best[0]), reverse=True):
            del rest.layers[one]
        with torch.no_grad():
            pairs[at] = float(next_token(rest(x), x).mean())
    found = structural.prune(
        model, (x, x), next_token, 1 / 3, method="exact_greedy", progress=False
    )
    assert found.removed == (f"layers.{best[0]}", f"layers.{min(pairs, key=pairs.get)}")


def test_block_influence_is_that_of_shortgpt(model):
    x = texts()
    found = importances(
        capture(model, x, level="blocks"), Examples(x, x), next_token, ["block_influence"]
    )
    with torch.no_grad():
        stream = [model.words(x)]
        for layer in model.layers:
            stream.append(layer(stream[-1]))
    expected = [
        float(1 - torch.cosine_similarity(a, b, dim=-1).double().mean())
        for a, b in zip(stream, stream[1:], strict=False)
    ]
    assert found["block_influence"].tolist() == pytest.approx(expected, abs=1e-6)


def test_fine_tuning_gets_the_smaller_model_in_training_mode(model):
    x = texts()

    def finetune(smaller):
        assert smaller.training and len(smaller.layers) == DEPTH - 2
        optimiser = torch.optim.Adam(smaller.parameters(), 0.01)
        for _ in range(5):
            optimiser.zero_grad()
            next_token(smaller(x), x).mean().backward()
            optimiser.step()

    small = structural.prune(model, (x, x), next_token, 1 / 3, finetune=finetune, progress=False)
    assert list(small.table.index) == ["before", "after", "fine-tuned"]
    assert small.table.loss["fine-tuned"] < small.table.loss["after"]
    assert not small.model.training


def test_levels_of_a_convolutional_network():
    net, x = made(ResNet()), images(0, 8)
    targets = torch.arange(8) % 4
    for level, gone in (("blocks", 1), ("residual", 1), ("all", 2)):
        small = structural.prune(net, (x, targets), cross_entropy, level=level, progress=False)
        assert len(small.edges) == gone
        with torch.no_grad():
            loss = float(cross_entropy(small.model(x), targets).mean())
        assert small.table.loss["after"] == pytest.approx(loss, rel=1e-4)


def test_bad_input_is_refused_before_work_starts(model):
    x = texts()
    calls = []

    def counted(outputs, targets):
        calls.append(1)
        return next_token(outputs, targets)

    for wrong, message in (
        ({"share": 0.0}, "strictly between"),
        ({"share": 1.0}, "strictly between"),
        ({"share": "half"}, "share"),
        ({"level": "stages"}, "no level 'stages'"),
        ({"method": "best"}, "no method 'best'"),
        ({"seed": -1}, "seed"),
        ({"memory": 0}, "memory"),
        ({"finetune": 3}, "finetune"),
    ):
        with pytest.raises(InvalidInput, match=message):
            structural.prune(model, (x, x), counted, **wrong)
    with pytest.raises(InvalidInput, match="loss is no function"):
        structural.prune(model, (x, x), "next_token")
    with pytest.raises(InvalidInput, match="a pair of both"):
        structural.prune(model, x, counted)
    assert not calls
    with pytest.raises(NotFinite, match="not finite"):
        structural.prune(model, (x, x), lambda o, t: next_token(o, t) * np.inf, progress=False)
    with pytest.raises(NothingToRemove, match="no block"):
        structural.prune(
            nn.Sequential(nn.Linear(9, 4)).eval(), (x.float(), x), next_token, progress=False
        )
    with pytest.raises(InvalidInput, match="one example take about"):
        structural.prune(model, (x, x), next_token, memory=1000, progress=False)


def test_an_interrupted_scoring_goes_on_where_it_stopped(model, tmp_path):
    x, path = texts(), tmp_path / "losses.jsonl"
    graph, examples = capture(model, x[:2], level="blocks"), Examples(x, x)
    whole = leave_one_out(graph, examples, next_token)
    runs = []

    def stops(outputs, targets):
        runs.append(1)
        if len(runs) == 4:
            raise KeyboardInterrupt
        return next_token(outputs, targets)

    stops.__qualname__, stops.__module__ = next_token.__qualname__, next_token.__module__
    with pytest.raises(KeyboardInterrupt):
        leave_one_out(graph, examples, stops, record=path)
    assert len(path.read_text().splitlines()) == 4  # the head and three sums
    with path.open("a") as file:
        file.write('{"key": "0:ab')  # killed while writing
    found = leave_one_out(graph, examples, stops, record=path)
    assert found == pytest.approx(whole, rel=1e-6)
    assert len(runs) == 4 + DEPTH + 1 - 3
    leave_one_out(graph, examples, stops, record=path)
    assert len(runs) == 4 + DEPTH + 1 - 3  # all known
    with pytest.raises(InvalidInput, match="another network, other examples or another loss"):
        leave_one_out(graph, Examples(x[:6], x[:6]), next_token, record=path)
    path.write_text("no record\nat all\n")
    with pytest.raises(InvalidInput, match="no record of a scoring"):
        Journal(path, "abc")


def test_passes_leave_out_what_a_removal_leaves_unchanged_and_keep_values_between_rounds(model):
    x = texts()
    graph, examples = capture(model, x[:2], level="blocks"), Examples(x, x)
    masks = np.concatenate([np.ones((1, len(graph.edges)), dtype=bool), single_removals(graph)])
    once = Removals(graph, examples, next_token)
    once.under(masks)
    full = int((graph.program.plans(np.zeros((1, len(graph.edges)), bool))[0] > 0).sum())
    assert once.passes.steps < 0.6 * full * len(masks)
    spent = {}
    orders = {}
    for kept in (True, False):
        removals = Removals(graph, examples, next_token, rounds=kept)
        gone = []
        for _ in range(3):
            left = [e for e in graph.candidates if e not in gone]
            losses = removals.under(np.stack([graph.without([*gone, e]) for e in left]))
            gone.append(left[int(np.argmin(losses))])
        spent[kept], orders[kept] = removals.passes.steps, gone
    assert orders[True] == orders[False]
    assert spent[True] < spent[False]
    assert (
        removal_order(graph, examples, next_token, "exact_greedy", limit=3).tolist()
        == (orders[True])
    )


def test_memory_bounds_the_examples_in_a_pass(model):
    x = texts(64)
    graph, examples = capture(model, x[:2], level="blocks"), Examples(x, x)
    each = 3 * graph.program.bytes_of_example[0] // 2
    few = Removals(graph, examples, next_token, memory=5 * each)
    assert [len(targets) for _, targets in few.passes.parts] == [5] * 12 + [4]
    masks = np.concatenate([np.ones((1, len(graph.edges)), dtype=bool), single_removals(graph)])
    assert few.under(masks) == pytest.approx(losses_under(graph, masks, examples, next_token))


# losses


def test_losses_of_language_models():
    scores, tokens = torch.randn(3, 5, 7), torch.randint(7, (3, 5))
    by_hand = [float(nn.functional.cross_entropy(scores[i, :-1], tokens[i, 1:])) for i in range(3)]
    for outputs in (scores, SimpleNamespace(logits=scores), {"logits": scores}):
        assert next_token(outputs, tokens).tolist() == pytest.approx(by_hand, rel=1e-5)
    padded = tokens.clone()
    padded[0, 3:] = -100
    first = float(nn.functional.cross_entropy(scores[0, :2], tokens[0, 1:3]))
    assert next_token(scores, padded).tolist() == pytest.approx([first, *by_hand[1:]], rel=1e-5)
    assert own_loss({"loss": torch.tensor(2.0)}, tokens).tolist() == [2, 2, 2]
    with pytest.raises(InvalidInput, match="hold no loss"):
        own_loss(scores, tokens)
    with pytest.raises(InvalidInput, match="hold no logits"):
        cross_entropy({"scores": scores}, tokens)


class OwnLoss(nn.Module):
    """Gives its loss beside its scores, as Hugging Face's models do."""

    def __init__(self) -> None:
        super().__init__()
        self.core = Transformer(3)

    def forward(self, input_ids, labels=None):
        logits = self.core(input_ids)
        loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return {"loss": loss, "logits": logits}


def test_the_models_own_loss_gives_the_scores_of_the_same_loss_outside():
    model, x = made(OwnLoss()), texts(6)
    inside = capture(model, {"input_ids": x, "labels": x}, level="blocks")
    outside = capture(model.core, x, level="blocks")
    own = Examples({"input_ids": x, "labels": x}, x)
    names = ["leave_one_out", "first_order", "fisher"]
    found = importances(inside, own, own_loss, names)
    expected = importances(outside, Examples(x, x), next_token, names)
    for name in names:
        np.testing.assert_allclose(found[name], expected[name], rtol=2e-4, atol=1e-6)
