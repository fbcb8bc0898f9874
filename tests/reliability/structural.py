"""Entry points of ``bogp.structural`` for the test of bad input: graphs, models and data are valid,
what stands beside them is generated.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from bogp import structural
from bogp.structural import flow, gates, search, surgery, surrogate, taylor
from bogp.structural import importance as structural_importance
from bogp.structural.graph import ComputationGraph
from bogp.structural.levels import at_level
from bogp.structural.tracing import capture
from bogp.studies.edge_importance import measure as edge_importance_measure
from bogp.studies.scenarios import measure as scenarios_measure
from bogp.studies.surrogates import measure as surrogates_measure
from bogp.studies.surrogates import searching
from bogp.zoo import cifar_wikitext, networks, tasks
from tests.reliability.values import count, name, numbers, seed, share

SIZE = "10-15"


@cache
def graph() -> ComputationGraph:
    return surrogates_measure.blank_graph(SIZE, 9)


@cache
def examples() -> gates.Examples:
    rng = np.random.default_rng(0)
    shape = graph().example_inputs[0].shape[1:]
    return gates.Examples(
        (torch.as_tensor(rng.random((6, *shape)), dtype=torch.float32),), torch.arange(6) % 10
    )


@cache
def space() -> search.Space:
    return search.Space(graph(), 2)


def losses(masks: np.ndarray) -> np.ndarray:
    return np.asarray((~masks).sum(axis=1) + np.arange(len(masks)) * 0.01, dtype=float)


def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return networks.RandomDag(((), (0,), (0, 1), (1, 2)), 4, 3, 2)


class Branches(torch.nn.Module):
    """Two layers with skips around them."""

    def __init__(self) -> None:
        super().__init__()
        width = graph().example_inputs[0].shape[1]
        self.first, self.second = torch.nn.Linear(width, width), torch.nn.Linear(width, width)
        self.head = torch.nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.first(x).tanh()
        return self.head(x + self.second(x))


@cache
def residual() -> torch.nn.Module:
    torch.manual_seed(0)
    return Branches().eval()


@cache
def branches() -> ComputationGraph:
    return capture(residual(), examples().inputs, level="residual")


EDGES = len(graph().edges)
one_cut = st.integers(0, EDGES - 1).map(lambda e: np.arange(EDGES) != e)
mask = (
    one_cut
    | st.lists(st.booleans(), min_size=EDGES, max_size=EDGES)
    | st.lists(st.integers(0, 2), max_size=EDGES)
)
some_masks = st.builds(lambda n: ~np.eye(EDGES, dtype=bool)[:n], st.integers(0, 4))
masks = some_masks | st.lists(mask, max_size=4)
candidate_scores = (
    st.lists(st.floats(-2, 2), min_size=len(graph().candidates), max_size=len(graph().candidates))
    | numbers
)
batch = st.sampled_from([1, 2, 64]) | count
method = st.sampled_from([*structural_importance.METHODS, "x"])
size = st.sampled_from([SIZE, "x"])


def calibrated(call: Callable[..., Any]) -> Callable[..., Any]:
    return lambda **given: call(graph(), examples=examples(), loss=gates.cross_entropy, **given)


def fitted(settings: surrogate.Surrogate) -> Callable[..., Any]:
    return lambda masks, losses, others: settings.fit(masks, losses).predict(others)


TO_FIT = {
    "masks": st.builds(lambda n: ~np.eye(EDGES, dtype=bool)[:n], st.integers(2, 4)) | masks,
    "losses": numbers,
    "others": masks,
}
FEATURES = surrogate.live_features(graph(), graph().candidates)

ENTRIES: dict[str, tuple[Callable[..., Any], Mapping[str, Any]]] = {
    "structural.capture": (
        lambda inputs, of: capture(model().eval() if of is None else of, inputs),
        {
            "inputs": st.sampled_from(
                [
                    torch.zeros(2, 4),
                    torch.zeros(2, 5),
                    torch.zeros(0, 4),
                    torch.zeros(4),
                    torch.full((2, 4), torch.nan),
                    (),
                ]
            ),
            "of": st.none(),
        },
    ),
    "structural.prune": (
        lambda **given: structural.prune(
            residual(), examples(), gates.cross_entropy, progress=False, **given
        ),
        {
            "share": st.just(0.4) | share,
            "level": st.sampled_from(["residual", "residual", "blocks", "all", "x"]),
            "method": st.sampled_from(["magnitude", "first_order", "leave_one_out", "x"]),
            "seed": seed,
            "memory": st.just(2**30) | count,
        },
    ),
    "structural.drop": (
        lambda removed: structural.drop(residual(), branches(), removed),
        {
            "removed": st.sampled_from([["second"], ["second", "second"], ["first"], ["x"], []])
            | st.lists(st.integers(-1, 9), max_size=3)
            | name,
        },
    ),
    "levels.at_level": (
        lambda level: at_level(graph(), level),
        {"level": st.sampled_from(["all", "residual"]) | name},
    ),
    "ComputationGraph.edges_of": (
        branches().edges_of,
        {"module": st.sampled_from(["first", "second", ""]) | name},
    ),
    "ComputationGraph.gates": (graph().gates, {"masks": masks}),
    "ComputationGraph.live": (graph().live, {"masks": masks}),
    "ComputationGraph.connected": (graph().connected, {"masks": masks}),
    "ComputationGraph.without": (
        graph().without,
        {"edges": st.lists(st.integers(-1, EDGES), max_size=4)},
    ),
    "gates.losses_under": (calibrated(gates.losses_under), {"masks": masks, "batch": batch}),
    "gates.leave_one_out": (calibrated(gates.leave_one_out), {"batch": batch}),
    "gates.mean_activations": (
        lambda batch: gates.mean_activations(graph(), examples(), batch),
        {"batch": batch},
    ),
    "taylor.gate_gradients": (calibrated(taylor.gate_gradients), {"batch": batch}),
    "taylor.hessian": (
        calibrated(taylor.hessian),
        {"batch": batch, "gates": st.none() | st.lists(st.integers(-1, EDGES), max_size=4)},
    ),
    "taylor.gauss_newton": (
        calibrated(taylor.gauss_newton),
        {"batch": batch, "gates": st.none() | st.lists(st.integers(-1, EDGES), max_size=4)},
    ),
    "taylor.taylor_model": (
        calibrated(taylor.taylor_model),
        {"curvature": st.sampled_from([*taylor.CURVATURES, "x"]), "batch": batch},
    ),
    "flow.flow_model": (
        lambda **given: flow.flow_model(graph(), examples().inputs, **given),
        {"noise_gain": share, "seed": seed},
    ),
    "flow.path_flow": (
        lambda **given: flow.path_flow(graph(), **given),
        {"masks": masks, "weights": st.just(np.ones(EDGES)) | candidate_scores},
    ),
    "importance.importances": (
        calibrated(structural_importance.importances),
        {"names": st.lists(method, max_size=3), "seed": seed},
    ),
    "importance.order": (
        lambda importance: structural_importance.order(graph(), importance),
        {"importance": candidate_scores},
    ),
    "importance.removal_order": (
        calibrated(structural_importance.removal_order),
        {
            "name": method | st.sampled_from(structural_importance.GREEDY),
            "seed": seed,
            "limit": st.none() | count,
        },
    ),
    "surgery.remove": (lambda mask: surgery.remove(graph(), mask), {"mask": mask}),
    "surgery.without_vertices": (
        lambda vertices: surgery.without_vertices(graph(), vertices),
        {"vertices": st.lists(st.integers(-1, 20), max_size=3)},
    ),
    "surgery.cost": (
        lambda threads: surgery.cost(model().eval(), (torch.zeros(2, 4),), 1e-4, threads),
        {"threads": count},
    ),
    "surrogate.PathSurrogate": (fitted(surrogate.PathSurrogate(graph(), 5)), TO_FIT),
    "surrogate.LinearSurrogate": (fitted(surrogate.LinearSurrogate(FEATURES)), TO_FIT),
    "surrogate.GaussianProcess": (fitted(surrogate.GaussianProcess(FEATURES)), TO_FIT),
    "search.Space": (lambda removed: search.Space(graph(), removed), {"removed": count}),
    "structural.search.random": (
        lambda **given: search.random(space(), losses, **given),
        {"budget": count, "seed": seed},
    ),
    "structural.search.greedy": (
        lambda budget: search.greedy(space(), losses, budget),
        {"budget": st.just(30) | count},
    ),
    "structural.search.quadratic": (
        lambda **given: search.quadratic(space(), losses, model=losses, **given),
        {"budget": count, "seed": seed},
    ),
    "structural.search.bayesian": (
        lambda **given: search.bayesian(space(), losses, **given),
        {"budget": count, "seed": seed, "initial": st.just(2) | count, "batch": count},
    ),
    "zoo.random_parents": (networks.random_parents, {"size": size, "seed": seed}),
    "cifar_wikitext.cifar10": (
        cifar_wikitext.cifar10,
        {"name": name.filter(lambda n: n != "cifar10")},
    ),
    "cifar_wikitext.check": (cifar_wikitext.check, {"name": name}),
    "tasks.load": (tasks.load, {"name": st.sampled_from(["mnist-5k", "x"]), "seed": seed}),
    "tasks.train": (
        lambda **given: tasks.train(
            model(),
            gates.Examples((torch.ones(6, 4),), torch.arange(6) % 2),
            gates.cross_entropy,
            epochs=2,
            **given,
        ),
        {
            "seed": seed,
            "rate": st.just(1e-3) | st.floats(),
            "decay": st.just(0.0) | st.floats(),
            "batch": batch,
        },
    ),
    "edge_importance.cases": (
        edge_importance_measure.cases,
        {
            "kinds": st.just(["dag"])
            | st.lists(st.sampled_from(["dag", "residual", "x"]), max_size=2),
            "of": st.just(["mnist-5k"]) | st.lists(st.sampled_from(["mnist-5k", "x"]), max_size=2),
            "epochs": st.just([1]) | st.lists(count, max_size=2),
        },
    ),
    "edge_importance.Settings": (
        edge_importance_measure.Settings,
        {
            "calibration": st.just([2, 4]) | st.lists(count, max_size=2),
            "test": st.just(2) | count,
            "masks": st.just(3) | count,
        },
    ),
    "scenarios.Study": (
        scenarios_measure.Study,
        {
            "network": st.just("dag") | st.sampled_from(["residual", "x"]),
            "task": st.just("mnist-5k") | name,
            "epochs": st.just(1) | count,
            "deepest": st.just(0.5) | share,
            "share": st.just(0.25) | share,
            "tuning_epochs": st.just(1) | count,
            "tuning_part": st.just(1.0) | share,
            "methods": st.just(["random", "magnitude"]) | st.lists(method, max_size=3),
            "old": st.just([0]) | st.lists(count, max_size=2),
            "anew": st.just([]) | st.lists(method, max_size=1),
            "new": st.just([1]) | st.lists(count, max_size=2),
        },
    ),
    "ranking.Settings": (
        surrogates_measure.Settings,
        {
            "dataset": st.just("mnist-5k") | name,
            "width": st.just(8) | count,
            "train": st.just(64) | count,
            "epochs": st.just(1) | count,
            "images": st.just(10) | count,
            "masks": st.just(10) | count,
            "design": st.just(1) | count,
        },
    ),
    "ranking.feasible": (lambda removed: searching.feasible(graph(), removed), {"removed": count}),
}
