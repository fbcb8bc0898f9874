"""Surrogates against explicit paths, and against functions that they should recover."""

from itertools import combinations, product

import networkx as nx
import numpy as np
import pytest
import torch

from bogp.errors import InvalidInput
from bogp.structural import surrogate, tracing
from bogp.studies.surrogates.measure import blank_graph, own_edges
from bogp.zoo import networks


@pytest.fixture(scope="module")
def graph():
    return blank_graph("10-15", 9)


def masks_of(graph, count, seed=0):
    rng = np.random.default_rng(seed)
    masks = np.ones((count, len(graph.edges)), dtype=bool)
    own = own_edges(graph)
    masks[:, own] = rng.random((count, len(own))) < 0.6
    return masks


def sum_over_paths(graph, mask, gamma):
    """Each path one by one."""
    ends = [[v.index for v in graph.vertices if v.kind == kind] for kind in ("input", "output")]
    total = 0.0
    for source, target in product(*ends):
        for path in nx.all_simple_edge_paths(graph.networkx(), source, target):
            total += np.prod([gamma[key] * mask[key] for _, _, key in path]) / len(ends[0])
    return total


@pytest.mark.parametrize("seed", [0, 2, 9])
def test_the_sweep_is_the_sum_over_paths(seed):
    graph = blank_graph("10-15", seed)
    logits = np.random.default_rng(seed).normal(size=len(graph.edges))
    gamma = np.exp(logits)
    for vertex in graph.vertices:
        out = [e.index for e in graph.edges if e.source == vertex.index]
        gamma[out] /= gamma[out].sum()
    masks = np.concatenate([masks_of(graph, 20, seed), np.ones((1, len(gamma)), dtype=bool)])
    found = surrogate.path_weights(graph, masks, torch.as_tensor(logits)).numpy()
    assert found == pytest.approx([sum_over_paths(graph, mask, gamma) for mask in masks], abs=1e-12)
    assert found[-1] == pytest.approx(1), "the full graph"
    assert ((found > 0) == graph.connected(masks)).all()


def test_paths_of_a_network_with_concatenations_and_large_logits():
    graph = tracing.capture(networks.Inception(widths=(4, 4)).eval(), torch.randn(2, 3, 16, 16))
    logits = torch.linspace(-800, 800, len(graph.edges), dtype=torch.float64)
    weights = surrogate.path_weights(graph, np.ones((1, len(graph.edges)), dtype=bool), logits)
    assert weights.item() == pytest.approx(1)


def test_a_path_surrogate_recovers_one(graph):
    logits = torch.as_tensor(np.random.default_rng(1).normal(size=len(graph.edges)))
    masks = np.concatenate(
        [
            masks_of(graph, 60),
            np.ones((1, len(logits)), dtype=bool),
            ~np.isin(np.arange(len(logits)), own_edges(graph))[None],
        ]
    )
    losses = 5 - 3 * surrogate.path_weights(graph, masks, logits).numpy()
    fitted = surrogate.PathSurrogate(graph, steps=500).fit(masks, losses)
    other = masks_of(graph, 40, seed=7)
    assert fitted.predict(other) == pytest.approx(
        5 - 3 * surrogate.path_weights(graph, other, logits).numpy(), abs=1e-3
    )
    with pytest.raises(InvalidInput, match="losses are equal"):
        surrogate.PathSurrogate(graph).fit(masks, np.ones(len(masks)))


def test_live_edges_are_those_on_a_surviving_path(graph):
    masks = masks_of(graph, 30, seed=3)
    ends = [next(v.index for v in graph.vertices if v.kind == kind) for kind in ("input", "output")]
    for mask, live in zip(masks, graph.live(masks), strict=True):
        kept = graph.networkx()
        kept.remove_edges_from(
            [(s, t, k) for s, t, k in list(kept.edges(keys=True)) if not mask[k]]
        )
        on = {key for path in nx.all_simple_edge_paths(kept, *ends) for _, _, key in path}
        assert set(np.flatnonzero(live)) == on


def test_regressions_recover_what_they_can_express():
    rng = np.random.default_rng(0)
    masks, new = (rng.random((n, 8)) < 0.5 for n in (120, 50))
    slopes, pairs = rng.normal(size=8), rng.normal(size=(8, 8))
    read = surrogate.kept_features(np.arange(8))

    def additive(m):
        return 2 + m @ slopes

    def paired(m):
        return additive(m) + sum(
            pairs[i, j] * m[:, i] * m[:, j] for i, j in combinations(range(8), 2)
        )

    linear, both = surrogate.LinearSurrogate(read), surrogate.LinearSurrogate(read, pairs=True)
    assert linear.fit(masks, additive(masks)).predict(new) == pytest.approx(additive(new), abs=1e-4)
    assert both.fit(masks, paired(masks)).predict(new) == pytest.approx(paired(new), abs=1e-4)
    assert np.abs(linear.fit(masks, paired(masks)).predict(new) - paired(new)).max() > 0.1


def test_a_process_interpolates_is_less_sure_elsewhere_and_learns_what_its_prior_lacks():
    rng = np.random.default_rng(0)
    masks, new = (rng.random((n, 10)) < 0.5 for n in (40, 200))
    read = surrogate.kept_features(np.arange(10))
    weights = rng.normal(size=10)

    def truth(m):
        return np.square(m @ weights) + m[:, 0]

    plain = surrogate.GaussianProcess(read).fit(masks, truth(masks))
    at, std = plain.predict_with_std(masks)
    assert at == pytest.approx(truth(masks), abs=0.1 * truth(masks).std())
    assert plain.predict_with_std(~masks)[1].mean() > 1.5 * std.mean()

    def prior(m):
        return 0.5 * np.square(np.asarray(m) @ weights)  # half as large, and without the last term

    informed = surrogate.GaussianProcess(read, prior).fit(masks, truth(masks))
    errors = [np.abs(f.predict(new) - truth(new)).mean() for f in (informed, plain)]
    assert errors[0] < 0.5 * errors[1]
    wrong = surrogate.GaussianProcess(read, lambda m: -prior(m)).fit(masks, truth(masks))
    assert wrong.slope == 0, "a prior of the wrong sign is not used"
    assert wrong.predict(new) == pytest.approx(plain.predict(new), abs=1e-9)


def test_zero_shot_forms(graph):
    importance = np.arange(len(graph.edges), dtype=float)
    mask = graph.without([3, 4])
    assert surrogate.kept_sum(importance)(mask[None]) == pytest.approx([-(importance.sum() - 7)])
    magnitude = surrogate.reader_magnitude(graph)
    for edge in graph.edges:
        names = [p for p in graph.vertices[edge.target].parameters if p.endswith("weight")]
        total = sum(graph.module.get_parameter(p).abs().sum().item() for p in names)
        count = sum(graph.module.get_parameter(p).numel() for p in names)
        assert magnitude[edge.index] == pytest.approx(total / max(count, 1), rel=1e-5)
    assert (magnitude > 0).sum() == len(graph.edges) - 1, "all but the output's"


@pytest.mark.parametrize(
    ("masks", "losses"),
    [
        (np.ones((1, 3)), [1.0]),
        (np.ones((3, 3)), [1.0, 2.0]),
        (np.ones(3), [1.0, 2.0, 3.0]),
        (np.ones((2, 3)), [1.0, np.nan]),
    ],
)
def test_bad_data_is_refused(masks, losses):
    with pytest.raises(InvalidInput):
        surrogate.LinearSurrogate(surrogate.kept_features(np.arange(3))).fit(masks, losses)
