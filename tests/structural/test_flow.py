"""Flow against loops over edges, explicit paths, closed forms of linear networks, and true outputs
under masks.
"""

import itertools

import networkx as nx
import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from bogp.errors import InvalidInput
from bogp.structural import flow
from bogp.structural.graph import as_gates, edge_values
from bogp.structural.traced import moments
from bogp.structural.tracing import capture
from bogp.studies.edge_importance.measure import connected_removals
from bogp.zoo import networks
from tests.structural import models
from tests.structural.models import ANY, captured, make

DOUBLE = torch.float64


def outputs(graph, masks, inputs):
    """(M, N, C) of the network under masks."""
    with torch.no_grad():
        return torch.stack(
            [graph.gated(as_gates(graph, g), None, *inputs) for g in graph.gates(masks)]
        ).double()


def all_masks(graph):
    own = graph.candidates
    rows = [
        graph.without(own[list(gone)])
        for k in range(len(own) + 1)
        for gone in itertools.combinations(range(len(own)), k)
    ]
    return np.array(rows)


class ParallelChains(nn.Module):
    """Linear chains of several lengths side by side, without biases."""

    def __init__(self):
        super().__init__()

        def linear():
            return nn.Linear(6, 6, bias=False)

        self.a, self.b = linear(), nn.Sequential(linear(), linear())
        self.c, self.d = nn.Sequential(linear(), linear(), linear()), linear()

    def forward(self, x):
        return self.a(x) + self.b(x) + self.c(x) + self.d(x)


# shares and paths


@pytest.mark.parametrize("size", ["10-15", "20-40"])
def test_shares_are_those_of_a_loop_over_edges(size):
    graph = capture(networks.untrained("dag", torch.zeros(2, 20), 5, 1, size=size), models.x(2, 20))
    inputs = (models.x(30, 20),)
    values = edge_values(graph, inputs)
    found = flow.shares(graph, inputs)
    for edge in graph.edges:
        into = [e for e in graph.edges if e.target == edge.target]
        if graph.vertices[edge.target].kind != "sum":
            assert found[edge.index] == 1
            continue
        whole = sum(values[e.producer].double() for e in into).flatten()
        own = values[edge.producer].double().flatten()
        assert found[edge.index] == pytest.approx(float(own @ whole / (whole @ whole)), rel=1e-5)


def test_shares_of_a_concatenation_are_its_parts_energies():
    graph = capture(make(models.Concatenating), models.x(4, 6))
    values = edge_values(graph, (models.x(9, 6),))
    found = flow.shares(graph, (models.x(9, 6),))
    cat = next(v.index for v in graph.vertices if v.kind == "cat")
    into = [e for e in graph.edges if e.target == cat]
    sizes = np.array([float(values[e.producer].double().square().sum()) for e in into])
    np.testing.assert_allclose(found[[e.index for e in into]], sizes / sizes.sum(), rtol=1e-6)
    assert found[[e.index for e in into]].sum() == pytest.approx(1)


def test_path_flow_is_the_sum_over_explicit_paths():
    made = networks.untrained("dag", torch.zeros(2, 20), 5, 0, size="10-15")
    graph = capture(made, models.x(2, 20))
    rng = np.random.default_rng(0)
    weights = rng.random(len(graph.edges))
    masks = np.array(
        [graph.without(rng.choice(graph.candidates, k, replace=False)) for k in (0, 1, 2, 4)]
    )
    found = flow.path_flow(graph, masks, weights)
    start = next(v.index for v in graph.vertices if v.kind == "input")
    end = next(v.index for v in graph.vertices if v.kind == "output")
    for mask, value in zip(masks, found, strict=True):
        whole = nx.MultiDiGraph()
        whole.add_nodes_from(v.index for v in graph.vertices)
        for edge in graph.edges:
            if mask[edge.index]:
                whole.add_edge(edge.source, edge.target, key=edge.index)
        paths = nx.all_simple_edge_paths(whole, start, end)
        expected = sum(np.prod([weights[key] for *_, key in path]) for path in paths)
        assert value == pytest.approx(expected)


@pytest.mark.parametrize("name", sorted(ANY))
def test_the_full_network_has_all_its_flow_and_no_change(name):
    graph = captured(name)
    full = graph.without([])[None]
    inputs = graph.example_inputs
    assert flow.path_flow(graph, full, flow.shares(graph, inputs)) == pytest.approx(1.0)
    assert flow.flow_model(graph, inputs).change(full) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", sorted(ANY))
def test_masks_of_one_network_change_alike(name):
    graph = captured(name)
    model = flow.flow_model(graph, graph.example_inputs)
    rng = np.random.default_rng(0)
    own = [e.index for e in graph.edges if e.is_floating]
    masks = np.ones((30, len(graph.edges)), dtype=bool)
    masks[:, own] = rng.random((30, len(own))) < 0.6
    gates = [row.tobytes() for row in graph.gates(masks)]
    found = model.change(masks)
    assert np.isfinite(found).all() and (found >= 0).all()
    for one, other in itertools.combinations(range(30), 2):
        if gates[one] == gates[other]:
            assert found[one] == pytest.approx(found[other])


# theory: what is exact


def test_flow_is_exact_for_parallel_linear_paths():
    """The score is the coefficient of the masked output on the full one; the model is the relative
    distance of the outputs.
    """
    graph = capture(make(ParallelChains, DOUBLE), models.x(3, 6).double())
    inputs = (models.x(40, 6).double(),)
    masks = all_masks(graph)
    assert len(masks) == 16
    under = outputs(graph, masks, inputs)
    full = outputs(graph, graph.without([])[None], inputs)[0]
    share = (under * full).sum(dim=(1, 2)) / full.square().sum()
    np.testing.assert_allclose(
        flow.path_flow(graph, masks, flow.shares(graph, inputs)), share, atol=1e-12
    )
    vary, of = under - under.mean(dim=1, keepdim=True), full - full.mean(dim=0)
    signal = (vary * of).sum(dim=(1, 2)) / of.square().sum()
    noise = vary.square().sum(dim=(1, 2)) / of.square().sum() - signal**2
    (moved,) = flow.flow_model(graph, inputs).moments(masks).values()
    np.testing.assert_allclose(moved.signal, signal, atol=1e-10)
    np.testing.assert_allclose(moved.noise, noise, atol=1e-10)
    np.testing.assert_allclose(moved.mean, under.mean(dim=1), atol=1e-10)
    shift = under.mean(dim=1) - full.mean(dim=0)
    shift = shift - shift.mean(dim=1, keepdim=True)
    apart = (vary - of).square().sum(dim=(1, 2)) + len(full) * shift.square().sum(dim=1)
    np.testing.assert_allclose(
        flow.flow_model(graph, inputs).change(masks), apart / of.square().sum(), atol=1e-10
    )


def true_and_predicted(model, masks_of=all_masks):
    """(M,) the coefficient of the masked output on the full one, and what path flow says of it."""
    graph = capture(model, models.x(3, 6).double())
    inputs = (models.x(200, 6).double(),)
    masks = masks_of(graph)
    under, full = outputs(graph, masks, inputs), outputs(graph, graph.without([])[None], inputs)[0]
    true = ((under * full).sum(dim=(1, 2)) / full.square().sum()).numpy()
    live = graph.connected(masks)
    return true[live], flow.path_flow(graph, masks, flow.shares(graph, inputs))[live]


class InSeries(nn.Module):
    """Sums in series, a linear map behind each; ``branch`` makes what is added to a value."""

    def __init__(self, branch, behind, bias=False):
        super().__init__()
        self.branches = nn.ModuleList(branch() for _ in range(3))
        self.behind = nn.ModuleList(behind(bias) for _ in range(3))

    def forward(self, x):
        for branch, behind in zip(self.branches, self.behind, strict=True):
            x = behind(x + branch(x))
        return x


class Scale(nn.Module):
    """Multiplies by a number."""

    def __init__(self):
        super().__init__()
        self.by = nn.Parameter(torch.rand(()))

    def forward(self, x):
        return self.by * x


def linear(bias=False):
    return nn.Linear(6, 6, bias=bias)


def isometry(bias=False):
    layer = linear(bias)
    nn.init.orthogonal_(layer.weight)
    return layer


@pytest.mark.parametrize(
    "series",
    [
        lambda: InSeries(Scale, linear),
        lambda: nn.Sequential(InSeries(Scale, linear), nn.ReLU(), linear()),
    ],
)
def test_products_along_a_path_are_exact_where_what_is_added_points_the_same_way(series):
    """Each masked sum is then its share times the full one, whatever linear map, or ReLU, comes
    behind.
    """
    true, predicted = true_and_predicted(make(series, DOUBLE))
    assert len(true) > 8 and np.ptp(true) > 0.5
    np.testing.assert_allclose(predicted, true, atol=1e-10)


def test_behind_an_isometry_the_share_of_a_sum_stays():
    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.behind = linear(), linear(), isometry()

        def forward(self, x):
            return self.behind(x + self.a(x) + self.b(x))

    true, predicted = true_and_predicted(make(One, DOUBLE))
    assert len(true) == 7
    np.testing.assert_allclose(predicted, true, atol=1e-6)  # weights are made in float32


@pytest.mark.parametrize(
    "breaks",
    [
        # what is left points elsewhere, and the map or the next sum turns some of it back
        lambda: InSeries(linear, linear),
        lambda: InSeries(linear, isometry),
        # a constant stays, whatever share of the rest does
        lambda: InSeries(Scale, linear, bias=True),
        # a sum of several directions through a kink
        lambda: nn.Sequential(InSeries(linear, linear), nn.ReLU(), linear()),
    ],
)
def test_what_breaks_the_product_of_shares(breaks):
    true, predicted = true_and_predicted(make(breaks, DOUBLE))
    assert np.abs(true - predicted).max() > 0.01


def test_a_normalisation_undoes_shares_and_the_model_sees_it():
    """Two equal branches behind which a layer norm lies: to remove one changes nothing."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.head = nn.Linear(6, 6, bias=False), nn.Linear(6, 3)
            self.norm = nn.LayerNorm(6)

        def forward(self, x):
            h = torch.relu(self.stem(x))
            return self.head(self.norm(h + 1.0 * h))

    graph = capture(make(Twice), models.x(3, 6))
    inputs = (models.x(300, 6),)
    mask = graph.without([graph.candidates[0]])[None]
    under = outputs(graph, mask, inputs)[0]
    full = outputs(graph, graph.without([])[None], inputs)[0]
    assert (under - full).square().mean() < 1e-3 * full.var()
    assert flow.path_flow(graph, mask, flow.shares(graph, inputs)) == pytest.approx(0.5)
    assert flow.flow_model(graph, inputs).change(mask) < 0.01


@pytest.mark.parametrize("kind", ["residual", "inception"])
def test_single_removals_are_ranked_by_how_far_they_move_the_outputs(kind):
    inputs = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    graph = capture(networks.untrained(kind, inputs, 10, 0), inputs[:2])
    model = flow.flow_model(graph, inputs)
    masks = np.array([graph.without([edge]) for edge in graph.candidates])
    under = outputs(graph, masks, (inputs,))
    full = outputs(graph, graph.without([])[None], (inputs,))[0]
    of = full - full.mean(dim=0)
    apart = (under - full).square().sum(dim=(1, 2)) / of.square().sum()
    found = model.change(masks)
    assert spearmanr(found, apart)[0] > 0.6


def test_subtractions_and_factors_enter_as_they_are():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = (nn.Linear(6, 6, bias=False) for _ in range(2))

        def forward(self, x):
            return 1.0 - torch.sub(self.a(x), self.b(x), alpha=0.5)

    graph = capture(make(Mixed, DOUBLE), models.x(3, 6).double())
    inputs = (models.x(40, 6).double(),)
    masks = all_masks(graph)
    under = outputs(graph, masks, inputs)
    (moved,) = flow.flow_model(graph, inputs).moments(masks).values()
    live = graph.connected(masks)
    assert live.sum() > 2
    np.testing.assert_allclose(moved.mean[live], under.mean(dim=1)[live], atol=1e-10)
    full = under[0] - under[0].mean(dim=0)
    vary = under - under.mean(dim=1, keepdim=True)
    signal = (vary * full).sum(dim=(1, 2)) / full.square().sum()
    np.testing.assert_allclose(moved.signal[live], signal[live], atol=1e-10)


class Looped(nn.Module):
    """The same network in two ways of writing; torch.fx does not follow the loop."""

    def __init__(self, loop):
        super().__init__()
        self.loop = loop
        self.stem, self.conv = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, 2, 1, groups=2)
        self.around, self.norm = nn.Conv2d(6, 6, 1, 2), nn.BatchNorm2d(6)
        self.rows, self.head = nn.LayerNorm(6), nn.Linear(6, 4)

    def forward(self, x):
        h = torch.relu(self.stem(x))
        for _ in range(x.shape[1] - 2) if self.loop else range(1):
            h = torch.relu(self.around(h) + self.norm(self.conv(h)))
        return self.head(self.rows(h.mean(dim=(2, 3)) + h.amax(dim=(2, 3))))


def test_functions_have_the_rules_of_layers():
    inputs = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = {}
    for loop in (False, True):
        torch.manual_seed(0)
        model = Looped(loop)
        model.norm.running_mean.normal_()
        model.norm.running_var.uniform_(0.5, 2)
        graph = capture(model.eval(), inputs[:2])
        single = [graph.without([edge]) for edge in graph.candidates]
        found[graph.traced_by] = flow.flow_model(graph, inputs).change(single)
    assert set(found) == {"torch.fx", "torch.export"}
    np.testing.assert_allclose(found["torch.fx"], found["torch.export"], rtol=0.05)


def test_a_model_of_the_flow_holds_no_values():
    graph = captured("residual")
    model = flow.flow_model(graph, graph.example_inputs)
    assert all(full.variation.numel() == 0 for full in model.outputs.values())


# what is refused


def test_what_cannot_be_run_is_refused():
    graph = capture(make(models.MultiBranch), models.x(3, 6))
    with pytest.raises(InvalidInput, match="seed"):
        flow.flow_model(graph, (models.x(3, 6),), seed=-1)
    with pytest.raises(InvalidInput, match="noise_gain"):
        flow.flow_model(graph, (models.x(3, 6),), noise_gain=-0.1)
    for weights in ([1.0], ["a"] * len(graph.edges), [np.nan] * len(graph.edges)):
        with pytest.raises(InvalidInput, match="weights"):
            flow.path_flow(graph, graph.without([])[None], weights)
    with pytest.raises(InvalidInput, match="mask"):
        flow.flow_model(graph, (models.x(3, 6),)).change(np.ones((1, 2), dtype=bool))


# what is looked at of large values


def test_large_values_are_sampled_at_the_same_places():
    rng = torch.Generator().manual_seed(0)
    value = torch.randn(9, 5, 40, 40, generator=rng) * torch.arange(1, 6).view(-1, 1, 1) + 3
    found, other = (moments.channels(v, 1) for v in (value, 2 * value + 1))
    assert found.variation.shape[1] < 9 * 40 * 40
    torch.testing.assert_close(other.variation, 2 * found.variation, rtol=1e-5, atol=1e-5)
    whole = value.double().movedim(1, 0).flatten(1)
    torch.testing.assert_close(found.mean, whole.mean(dim=1), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.variance, whole.var(dim=1), rtol=0.15, atol=0)


@pytest.mark.parametrize("name", ["residual", "inception"])
def test_a_sample_predicts_what_all_entries_do(name, monkeypatch):
    graph = captured(name)
    inputs = (models.x(16, *graph.example_inputs[0].shape[1:]),)
    masks = connected_removals(graph, 40, 0)
    found = flow.flow_model(graph, inputs).change(masks)
    moments._places.cache_clear()
    monkeypatch.setattr(moments, "_MOST", 10**9)
    monkeypatch.setattr(moments, "_OF_A_VALUE", 10**9)
    whole = flow.flow_model(graph, inputs).change(masks)
    moments._places.cache_clear()
    assert spearmanr(found, whole)[0] > 0.9


@pytest.mark.parametrize("groups", [1, 2])
def test_squares_of_weights_are_those_of_independent_noise(groups):
    layer = nn.Conv2d(4, 6, 3, padding=1, groups=groups).requires_grad_(False)
    how = moments.Convolution(padding=1, groups=groups)
    share = moments.coverage((3, 3), how, (5, 5))
    found = moments.channel_squares(layer.weight, share, groups)
    expected = []
    for channel in range(4):  # the energy that each entry of a channel leaves in the outputs
        total = 0.0
        for at in np.ndindex(5, 5):
            noise = torch.zeros(1, 4, 5, 5)
            noise[0, channel, at[0], at[1]] = 1
            made = nn.functional.conv2d(noise, layer.weight, None, 1, 1, 1, groups)
            total += float(made.square().sum()) / 25
        expected.append(total)
    torch.testing.assert_close(found.double(), torch.tensor(expected).double(), rtol=1e-5, atol=0)


def test_the_squares_of_many_outputs_are_estimated_from_some():
    weight = torch.randn(1_000, 7, generator=torch.Generator().manual_seed(0))
    found = moments.channel_squares(weight)
    torch.testing.assert_close(found, weight.square().sum(dim=0), rtol=0.6, atol=0)
    torch.testing.assert_close(found.sum(), weight.square().sum(), rtol=0.2, atol=0)


class Products(nn.Module):
    """Two branches, multiplied."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        return self.a(x) * self.b(x)


def test_the_arguments_of_one_operation_have_noise_of_their_own():
    made = make(Products)
    model = flow.flow_model(capture(made, models.x(4, 6)), (models.x(200, 6),))
    (rule,) = [s.rule for s in model.steps if isinstance(s.rule, moments.Sampled)]
    one, other = (draws.flatten() for draws in rule.draws)
    assert (
        len(rule.draws) == 2 and abs(float(torch.corrcoef(torch.stack([one, other]))[0, 1])) < 0.2
    )
