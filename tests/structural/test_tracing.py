"""Graphs of networks of every shape: the same outputs, the right structure, candidates by networkx;
what cannot be captured is refused by name.
"""

import copy

import networkx as nx
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._pytree import tree_flatten

from bogp.errors import InvalidInput, NotCapturable
from bogp.structural.traced.nodes import arguments
from bogp.structural.tracing import capture
from tests.structural import by_hand, models
from tests.structural.models import ANY, Linears, make


def same(found, expected, atol=1e-6):
    (ours, one), (theirs, other) = tree_flatten(found), tree_flatten(expected)
    assert one == other, "the same containers"
    return all(
        torch.allclose(a, b, rtol=1e-6, atol=atol) if isinstance(b, torch.Tensor) else a == b
        for a, b in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize("name", ANY)
def test_gates_all_one_reproduce_the_model_which_stays_as_it_was(name):
    factory, inputs = ANY[name]
    model = make(factory)
    before, code = copy.deepcopy(model.state_dict()), str(model)
    graph = capture(model, inputs)
    others = tuple(torch.cat([i.flip(0), i]) for i in inputs) if graph.batched else inputs
    with torch.no_grad():
        for given in (inputs, others):
            expected = model(*given)
            assert same(graph.gated(torch.ones(len(graph.edges)), None, *given), expected)
            assert same(graph.module(*given), expected)
    if graph.batched:
        rows = torch.ones(len(others[0]), len(graph.edges))
        with torch.no_grad():
            assert same(graph.gated(rows, None, *others), model(*others))
    assert str(model) == code and all(
        torch.equal(before[k], v) for k, v in model.state_dict().items()
    )
    own = {p.data_ptr() for p in model.parameters()}
    assert {p.data_ptr() for p in graph.module.parameters()} <= own, "it shares its parameters"
    for vertex in graph.vertices:
        assert {
            dict(graph.module.named_parameters(remove_duplicate=False))[p].data_ptr()
            for p in vertex.parameters
        } <= own


@pytest.mark.parametrize("name", ANY)
def test_vertices_and_edges_are_the_data_dependencies_between_nodes(name):
    graph = models.captured(name)
    nodes = {n.name: n for n in graph.module.graph.nodes}
    home = {node: v.index for v in graph.vertices for node in v.nodes if v.kind != "output"}
    assert len(home) == sum(len(v.nodes) for v in graph.vertices if v.kind != "output"), (
        "each node in one vertex"
    )
    outputs = iter([v.index for v in graph.vertices if v.kind == "output"])
    truth = []
    for node in graph.module.graph.nodes:
        for slot, a in enumerate(arguments(node)):
            if a.name in home and (
                node.op == "output" or home[a.name] != home.get(node.name, home[a.name])
            ):
                truth.append(
                    (
                        home[a.name],
                        next(outputs) if node.op == "output" else home[node.name],
                        a.name,
                        node.name,
                        slot,
                    )
                )
    assert sorted(
        (e.source, e.target, e.producer, e.consumer, e.slot) for e in graph.edges
    ) == sorted(truth)
    assert all(e.source < e.target for e in graph.edges) and [e.index for e in graph.edges] == list(
        range(len(graph.edges))
    )
    drawn = graph.networkx()
    assert nx.is_directed_acyclic_graph(drawn) and drawn.number_of_edges() == len(graph.edges)
    degrees = dict(drawn.in_degree())
    for vertex in graph.vertices:
        into = degrees[vertex.index]
        assert {"input": into == 0, "output": into == 1, "chain": into == 1}.get(
            vertex.kind, into >= 2
        )
    contents = [n for v in graph.vertices if v.kind == "chain" for n in v.nodes]
    for name in contents:
        assert len({a.name for a in arguments(nodes[name]) if a.name in home}) == 1, (
            "a chain has one input"
        )


@pytest.mark.parametrize("name", ANY)
def test_candidates_are_all_removals_that_disconnect_nothing_each_once(name):
    graph, inputs = models.captured(name), ANY[name][1]
    outputs = [v.index for v in graph.vertices if v.kind == "output"]
    full = by_hand.outputs(graph, np.ones(len(graph.edges), dtype=bool), inputs)
    for edge in graph.edges:
        mask = np.ones(len(graph.edges), dtype=bool)
        mask[edge.index] = False
        live = by_hand.alive(graph, mask)
        bridge = not all(live[o] for o in outputs)
        if edge.is_floating:
            assert graph.connected(mask)[0] == (not bridge)
            assert ("bridge" in edge.why_kept) == bridge
        kept = nx.MultiDiGraph([(e.source, e.target) for e in graph.edges if mask[e.index]])
        kept.add_nodes_from(range(len(graph.vertices)))
        cut_off = any(
            not any(nx.has_path(kept, v.index, o) for v in graph.vertices if v.kind == "input")
            for o in outputs
        )
        assert bridge or not cut_off, "what disconnects the graph is a bridge; a product adds more"
        if {v.kind for v in graph.vertices} <= {"input", "chain", "sum", "cat", "output"}:
            assert bridge == cut_off
        if edge.why_kept.startswith("same"):
            twin = graph.without([int(edge.why_kept.split()[-1])])
            assert same(by_hand.outputs(graph, mask, inputs), by_hand.outputs(graph, twin, inputs))
        if edge.index in graph.candidates:
            assert not same(by_hand.outputs(graph, mask, inputs), full), "it changes the outputs"


STRUCTURES = {
    "multi-branch": {
        "x > stem + relu",
        "stem + relu > a",
        "stem + relu > b + tanh",
        "stem + relu > c",
        "a > sum + head",
        "b + tanh > sum + head",
        "c > sum + head",
        "sum + head > output",
    },
    "concatenating": {
        "x > a",
        "x > b",
        "x > c + sin",
        "a > cat + head",
        "b > cat + head",
        "c + sin > cat + head",
        "cat + head > output",
    },
    "chunk": {
        "x > stem + chunk",
        "stem + chunk > a",
        "stem + chunk > b",
        "stem + chunk > c",
        "a > sum + head",
        "b > sum + head",
        "c > sum + head",
        "sum + head > output",
    },
    "two inputs": {
        "x > a",
        "x > c",
        "y > b",
        "a > sum + head",
        "b > sum + head",
        "c > sum + head",
        "sum + head > output",
    },
    "tuple output": {
        "x > stem",
        "stem > a",
        "stem > b",
        "stem > c",
        "a > sum",
        "b > sum",
        "stem > sum",
        "c > sum",
        "sum > output 0",
        "sum > output 1",
    },
    "LSTM": {
        "x > lstm",
        "x > around",
        "lstm > sum + head",
        "around > sum + head",
        "sum + head > output",
    },
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_graphs_that_can_be_told_by_eye(name):
    graph = models.captured(name)
    title = [v.name.replace("getitem + ", "").replace(" + getitem", "") for v in graph.vertices]
    assert {f"{title[e.source]} > {title[e.target]}" for e in graph.edges} == STRUCTURES[name]


def test_what_only_export_follows_is_traced_by_it():
    traced = {name: models.captured(name).traced_by for name in ANY}
    assert {n for n, by in traced.items() if by == "torch.export"} == {
        "assigns items",
        "loop over a shape",
        "asserts on shapes",
    }


def test_the_batch_first_is_seen_by_other_examples_beside_it():
    class Mixing(Linears):
        def __init__(self):
            super().__init__("a", "b")

        def forward(self, x):
            return self.a(x) + self.b(x - x.mean(dim=0))

    assert not capture(make(Mixing), (models.x(4, 6),)).batched
    assert {name for name in ANY if not models.captured(name).batched} == {"batch moves"}


class Branches(Linears):
    def __init__(self):
        super().__init__("a", "b")


class IfData(Branches):
    def forward(self, x):
        if x.sum() > 0:
            return self.a(x) + x
        return self.b(x) + x


class ToNumber(Branches):
    def forward(self, x):
        return self.a(x) * x.mean().item() + self.b(x)


class ThroughNumpy(Branches):
    def forward(self, x):
        return self.a(x) + torch.from_numpy(self.b(x).detach().numpy() * 2)


class NamedTuple(Branches):
    def forward(self, x):
        return (self.a(x) + self.b(x)).topk(2, dim=1)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (IfData, r"`if x.sum\(\) > 0:` \(forward, line \d+\)"),
        (ToNumber, "item turns a tensor into Python numbers"),
        (ThroughNumpy, r"torch.from_numpy\(self.b\(x\).*numpy"),
        (NamedTuple, "topk hands several values at once"),
    ],
)
def test_what_cannot_be_captured_is_refused_by_the_name_of_the_operation(factory, message):
    with pytest.raises(NotCapturable, match=message):
        capture(make(factory), (models.x(4, 6),))


class Random(Branches):
    def forward(self, x):
        return self.a(x) + F.dropout(self.b(x))


class NotANumber(Branches):
    def forward(self, x):
        return torch.log(self.a(x)) + self.b(x)


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        (
            lambda: make(lambda: nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6))).train(),
            models.x(4, 6),
            r"1 \(BatchNorm1d\) mixes.*eval",
        ),
        (
            lambda: make(lambda: nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5))).train(),
            models.x(4, 6),
            r"1 \(Dropout\) draws at random",
        ),
        (
            lambda: nn.BatchNorm1d(6, track_running_stats=False).eval(),
            models.x(4, 6),
            "keeps no running statistics",
        ),
        (
            lambda: make(lambda: nn.LSTM(6, 6, 2, dropout=0.5)).train(),
            models.x(4, 6),
            "other outputs when it is called again",
        ),
        (lambda: make(Random), models.x(4, 6), "other outputs when it is called again"),
        (lambda: make(NotANumber), models.x(4, 6), "not finite"),
        (
            lambda: make(models.Chain),
            models.x(4, 5),
            "cannot be called with the example inputs: mat1",
        ),
        (lambda: torch.relu, models.x(4, 6), "a torch.nn.Module is needed"),
    ],
)
def test_bad_models_and_inputs_are_refused_before_any_work(model, inputs, message):
    with pytest.raises(InvalidInput, match=message):
        capture(model(), inputs)


def test_layers_that_do_not_mix_may_be_in_training_mode():
    assert len(capture(make(models.MultiBranch).train(), models.x(4, 6)).candidates) == 3
