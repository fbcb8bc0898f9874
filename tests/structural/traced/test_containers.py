"""What networks are called with and what they give: tensors in containers of any class.

The right values come from the model itself, or from a hand-written network without the branch.
"""

import copy
import io
from collections import OrderedDict, UserDict, namedtuple
from dataclasses import dataclass, fields
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bogp import structural
from bogp.errors import InvalidInput, NotCapturable
from bogp.structural.gates import Examples, leave_one_out
from bogp.structural.importance import importances
from bogp.structural.surgery import remove
from bogp.structural.traced.containers import alike, tensors_of
from tests.structural.models import Linears, make, x

Pair = namedtuple("Pair", ["logits", "hidden"])


@dataclass
class Plain:
    logits: Tensor
    hidden: Any = None
    steps: int = 3


@dataclass(frozen=True)
class Frozen:
    logits: Tensor
    hidden: Any = None


class OutputDict(OrderedDict):
    """What transformers' ``ModelOutput`` is: keys and attributes are the same, None is left out."""

    def __post_init__(self):
        for field in fields(self):
            if getattr(self, field.name) is not None:
                self[field.name] = getattr(self, field.name)

    def __getitem__(self, key):
        return dict(self.items())[key] if isinstance(key, str) else tuple(self.values())[key]

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        super().__setattr__(key, value)

    def __setattr__(self, name, value):
        if name in self.keys() and value is not None:
            super().__setitem__(name, value)
        super().__setattr__(name, value)

    def __reduce__(self):
        make, _, *rest = super().__reduce__()
        return make, tuple(getattr(self, field.name) for field in fields(self)), *rest


@dataclass
class LanguageOutput(OutputDict):
    loss: Any = None
    logits: Any = None
    hidden: Any = None


class Cache:
    """Keys of former tokens beside plain numbers, in nested lists, as in a decoder."""

    def __init__(self):
        self.layers, self.seen, self.name = [], 0, "cache"

    def update(self, value: Tensor) -> Tensor:
        self.layers.append({"keys": value})
        self.seen += 1
        return value


def of_list(logits, hidden):
    return [logits, (hidden, None, 3, "text")]


FORMS = {
    "list": of_list,
    "dict": lambda a, b: {"logits": a, "more": {"hidden": [b]}, "none": None},
    "numbered dict": lambda a, b: {0: a, 1: b},
    "ordered": lambda a, b: OrderedDict([("out", a), ("aux", b)]),
    "user dict": lambda a, b: UserDict(out=a, aux=b),
    "named tuple": Pair,
    "dataclass": lambda a, b: Plain(a, [b]),
    "frozen dataclass": lambda a, b: Frozen(a, (b, None)),
    "model output": lambda a, b: LanguageOutput(logits=a, hidden=(a, b)),
    "nested": lambda a, b: (Plain(a), {"pair": Pair(b, None)}, True),
    "no tensor of its own": lambda a, b: [a, b, a],
}


class Gives(Linears):
    def __init__(self, form="list"):
        super().__init__("a", "b", "c")
        self.form = form

    def forward(self, x):
        h = self.a(x) + self.b(x)
        return FORMS[self.form](h, h + self.c(x))


class WithoutB(Gives):
    """The same, written without b."""

    def forward(self, x):
        h = self.a(x)
        return FORMS[self.form](h, h + self.c(x))


class OnlyByExport(Gives):
    def forward(self, x):
        if x.shape[0] > 1000:  # stops torch.fx
            x = -x
        return super().forward(x)


def edge_of(graph, producer, consumer="add"):
    return next(
        e.index
        for e in graph.edges
        if e.producer.startswith(producer) and e.consumer.startswith(consumer)
    )


def first_output(outputs, targets):
    return tensors_of(outputs)[0].square().mean(1)


def saved_and_loaded(module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("network", [Gives, OnlyByExport])
@pytest.mark.parametrize("form", FORMS)
def test_outputs_come_back_in_the_containers_of_the_model(form, network):
    model, inputs = make(lambda: network(form)), x(4, 6)
    graph = structural.capture(model, inputs)
    assert graph.traced_by == ("torch.fx" if network is Gives else "torch.export")
    truth = make(lambda: WithoutB(form))
    mask = graph.without([edge_of(graph, "b" if network is Gives else "linear_1")])
    cut = remove(graph, mask)
    gates = torch.as_tensor(graph.gates(mask)[0], dtype=torch.float32)
    for others in (inputs, x(3, 6, seed=5)):
        with torch.no_grad():
            assert alike(graph.module(others), model(others))
            assert alike(graph.gated(torch.ones(len(graph.edges)), None, others), model(others))
            for smaller in (
                cut(others),
                graph.gated(gates, None, others),
                copy.deepcopy(cut)(others),
                saved_and_loaded(cut)(others),
            ):
                assert alike(smaller, truth(others))
    examples = Examples(inputs, torch.zeros(4))
    with torch.no_grad():
        change = [(first_output(m(inputs), None).mean()).item() for m in (truth, model)]
    candidates = [graph.edges[e].producer for e in graph.candidates]
    at = next(i for i, name in enumerate(candidates) if name.startswith(("b", "linear_1")))
    assert leave_one_out(graph, examples, first_output)[at] == pytest.approx(
        change[0] - change[1], abs=1e-6
    )


class KeepsACache(Linears):
    def __init__(self):
        super().__init__("a", "b", "c")

    def forward(self, x):
        cache = Cache()
        h = cache.update(self.a(x) + self.b(x))
        return LanguageOutput(logits=self.c(h) + x, hidden=cache)


@pytest.mark.parametrize("network", [KeepsACache])
def test_cache_objects_beside_tensors_are_handed_back(network):
    model, inputs = make(network), x(4, 6)
    graph = structural.capture(model, inputs)
    cut = remove(graph, graph.without([edge_of(graph, "b")]))
    for _ in range(2):  # a cache is new in each call
        with torch.no_grad():
            assert alike(graph.module(inputs), model(inputs))
            out, h = cut(inputs), model.a(inputs)
        assert type(out) is LanguageOutput and type(out.hidden) is Cache
        assert (out.hidden.seen, out.hidden.name) == (1, "cache")
        torch.testing.assert_close(out.hidden.layers[0]["keys"], h)
        torch.testing.assert_close(out.logits, model.c(h) + inputs)
        torch.testing.assert_close(out["logits"], out.logits)


class Batch(UserDict):
    """A mapping that is no dict, such as what tokenizers give."""


class TakesWords(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.a, self.b = nn.Embedding(11, 6), nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, ids, labels=None, *, mask=None, scale: float = 1.0, deep=False):
        h = self.words(ids)
        if mask is not None:
            h = h * mask[..., None]
        h = self.a(h) + self.b(h)
        if deep:
            h = torch.relu(h)
        return {"logits": h.mean(1) * scale}


def ids(*shape):
    return torch.randint(11, shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", [dict, Batch])
def test_keyword_arguments_are_given_as_a_mapping(kind):
    model = make(TakesWords)
    inputs = kind(mask=torch.tensor([[1.0, 1, 1], [1, 1, 0]]), ids=ids(2, 3))
    graph = structural.capture(model, inputs)
    cut = remove(graph, graph.without([edge_of(graph, "b")]))
    with torch.no_grad():
        h = model.words(inputs["ids"]) * inputs["mask"][..., None]
        truth = {"logits": model.a(h).mean(1)}
        assert alike(graph.module(**inputs), model(**inputs))
        assert alike(cut(**inputs), truth)
        assert alike(cut(mask=inputs["mask"], ids=inputs["ids"]), truth)
        assert alike(cut(inputs["ids"], mask=inputs["mask"]), truth)
    examples = Examples(inputs, torch.zeros(2))
    table = importances(graph, examples, first_output)
    with torch.no_grad():
        change = first_output(truth, None).mean() - first_output(model(**inputs), None).mean()
    row = table[table.edge == edge_of(graph, "b")]
    assert row.leave_one_out.item() == pytest.approx(change.item(), abs=1e-6)


def test_options_are_the_ones_of_the_example_or_refused():
    """What was written into the network for one value is not used for another."""
    model, words = make(TakesWords), ids(2, 3)
    graph = structural.capture(model, {"ids": words, "scale": 2.0, "deep": True})
    with torch.no_grad():
        given = {"ids": words, "scale": 2.0, "deep": True}
        assert alike(graph.module(**given), model(**given))
        for wrong in ({"scale": 3.0}, {"deep": False}):
            with pytest.raises(AssertionError, match=f"{next(iter(wrong))} == "):
                graph.module(**given | wrong)
    with pytest.raises(NotCapturable, match="deep == True"):
        graph.outputs(torch.ones(len(graph.edges)), None, given | {"deep": False})


def test_an_argument_that_was_left_out_keeps_its_place():
    class Three(Linears):
        def __init__(self):
            super().__init__("a", "b")

        def forward(self, x, y=None, z=None):
            x = self.a(x) + self.b(x if z is None else z)
            return x if y is None else x * y

    model, a, b = make(Three), x(4, 6), x(4, 6, seed=3)
    graph = structural.capture(model, {"z": b, "x": a})
    with torch.no_grad():
        assert alike(graph.module(a, None, b), model(a, None, b))
        assert alike(graph.module(a, z=b), model(a, z=b))
        with pytest.raises((AssertionError, TypeError)):
            graph.module(a, b, b)


class AnyArguments(Linears):
    def __init__(self):
        super().__init__("a", "b")

    def forward(self, *args, **kwargs):
        return self.a(args[0]) + self.b(args[1]) + sum(kwargs.values())


class NestedInputs(Linears):
    def __init__(self):
        super().__init__("a", "b", "c")

    def forward(self, batch, more, pair):
        h = self.a(batch["x"]) + self.b(batch["deep"].logits)
        return self.c(h) + more[0] + pair.hidden


class OneDict(Linears):
    def __init__(self):
        super().__init__("a", "b")

    def forward(self, batch):
        return self.a(batch["x"]) + self.b(batch["y"])


INPUTS = {
    "any arguments": (AnyArguments, lambda: (x(4, 6), x(4, 6, seed=2))),
    "one dict": (OneDict, lambda: ({"x": x(4, 6), "y": x(4, 6, seed=2)},)),
    "nested": (
        NestedInputs,
        lambda: (
            OrderedDict(x=x(4, 6), deep=Plain(x(4, 6, seed=2))),
            [x(4, 6, seed=3), None, 2.0],
            Pair(None, x(4, 6, seed=4)),
        ),
    ),
}


def more(inputs):
    """The inputs with one more part."""
    first, *rest = inputs
    if isinstance(first, dict):
        yield type(first)({**first, "z": x(4, 6)}), *rest
    elif isinstance(first, Tensor):
        yield *inputs, x(4, 6)
    if rest and isinstance(rest[0], list):
        yield first, [*rest[0], x(4, 6)], *rest[1:]


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_can_be_containers(name):
    network, given = INPUTS[name]
    model, inputs = make(network), given()
    graph = structural.capture(model, inputs)
    assert graph.batched
    cut = remove(graph, graph.without([edge_of(graph, "b")]))
    model_without = copy.deepcopy(model)
    nn.init.zeros_(model_without.b.weight), nn.init.zeros_(model_without.b.bias)
    with torch.no_grad():
        assert alike(graph.module(*inputs), model(*inputs))
        for one in (cut, saved_and_loaded(cut)):
            assert alike(one(*inputs), model_without(*inputs))
        for one in (graph.module, cut, saved_and_loaded(cut)):
            for longer in more(inputs):
                with pytest.raises((AssertionError, TypeError)):  # the model might have read it
                    one(*longer)
    targets = torch.zeros(4)
    table = importances(graph, Examples(inputs, targets), lambda o, t: o.mean(1))
    assert set(table.edge) == set(graph.candidates)
    with torch.no_grad():
        change = (model_without(*inputs).mean() - model(*inputs).mean()).item()
    row = table[table.edge == edge_of(graph, "b")]
    assert row.leave_one_out.item() == pytest.approx(change, abs=1e-6)
    assert row.first_order.item() == pytest.approx(change, abs=1e-5)  # it is linear in the gate


def test_a_dict_by_itself_is_keyword_arguments():
    model = make(OneDict)
    with pytest.raises(InvalidInput, match="A dict that is one argument stands in a tuple"):
        structural.capture(model, {"x": x(4, 6), "y": x(4, 6)})
    words = {"ids": ids(2, 3)}
    assert structural.cost(make(TakesWords), words, seconds=1e-3).flops == 2 * 2 * 3 * 2 * 36


def test_a_single_tensor_is_one_argument_of_examples():
    assert len(Examples(x(4, 6), torch.zeros(4)).inputs) == 1
    with pytest.raises(InvalidInput, match="same number"):
        Examples({"x": x(4, 6), "y": x(3, 6)}, torch.zeros(4))


def test_no_class_is_registered_anywhere():
    before = dict(torch.utils._pytree.SUPPORTED_NODES)
    structural.capture(make(KeepsACache), x(4, 6))
    structural.capture(make(lambda: OnlyByExport("model output")), x(4, 6))
    assert dict(torch.utils._pytree.SUPPORTED_NODES) == before
