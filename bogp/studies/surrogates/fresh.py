"""Notebook 14 confirmed: new random graphs, which had no part in finding flow, and what flow and
the other predictors say of their masks.

Seeds of these graphs begin at ``FRESH``; flow was found on graphs of smaller seeds. As in
``measure``, predictors read *calibration* images and are judged by losses on *test* images.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from bogp.checks import whole
from bogp.parallel import in_parallel
from bogp.records import kept_in_parallel
from bogp.statistics import partial_rank_correlation, rank_correlation
from bogp.structural import surrogate
from bogp.structural.flow import flow_model, path_flow, shares
from bogp.structural.gates import Examples, Loss, losses_under
from bogp.structural.graph import ComputationGraph
from bogp.structural.importance import flow_of
from bogp.structural.taylor import gate_gradients
from bogp.studies.surrogates.measure import (
    Masks,
    Settings,
    as_masks,
    as_text,
    blank_graph,
    drawn,
    looked_up,
    own_edges,
    published_design,
    shortened,
    task_of,
    taylor_models,
    trained,
)

FRESH = 10  # seed of the first graph of each class
COOLED = 3.0  # what logits are divided by: the loss is then far from a minimum
BUDGETS = (10, 30, 100)  # evaluated masks that a Gaussian process is fitted to
FITTED_ON = ("20-40", "50-100")  # classes of graphs whose processes are compared
PRIORS = {"constant": None, "permuted": "permuted_flow", "taylor": "hessian", "flow": "flow"}
ZERO_SHOT = (
    *("number", "live_edges", "magnitude", "published_taylor", "published_taylor_cooled"),
    *("first_order", "first_order_cooled", "fisher", "hessian"),
    *("shares", "shares_noise", "flow", "flow_noise"),
)


def measure(size: str, seed: int, settings: Settings) -> pd.DataFrame:
    """Train the network of a new graph, measure its masks and predict them.

    Returns:
        A row a mask: ``part`` (``published``: all edges, none, each left out; ``design``: connected
        masks to fit to; ``connected``: to be ranked), ``mask`` (``as_text``), ``connected``,
        ``calibration`` (mean loss, nats, of the first two parts), ``test`` (of the first and the
        last), and what each of ``ZERO_SHOT`` and ``permuted_flow`` say; larger is worse.
    """
    network = trained(size, seed, settings)
    graph, loss = network.graph, task_of(settings.dataset).loss
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(16,)))
    published = published_design(graph)
    design = drawn(graph, max(BUDGETS), rng, connected=True, without=published)
    both = np.concatenate([published, design])
    ranked = drawn(graph, settings.masks, rng, connected=True, without=both)
    parts = {"published": published, "design": design, "connected": ranked}
    masks = np.concatenate(list(parts.values()))
    part = np.repeat(list(parts), [len(m) for m in parts.values()])
    found = {"part": part, "mask": as_text(masks), "connected": graph.connected(masks)}
    table = pd.DataFrame(found).assign(accuracy=network.accuracy)
    for column, without, examples in (
        ("calibration", "connected", network.calibration),
        ("test", "design", network.test),
    ):
        rows = np.flatnonzero(part != without)
        table.loc[rows, column] = losses_under(graph, masks[rows], examples, loss)
    order = permuted(graph, rng)
    said = predictions(graph, masks, network.calibration, loss)
    said["permuted_flow"] = flow_of(graph, network.calibration).change(masks[:, order])
    return shortened(table.assign(**said))


def permuted(graph: ComputationGraph, rng: np.random.Generator) -> NDArray[np.intp]:
    """(E,) an order of all edges in which the candidates stand at random in each other's places."""
    order = np.arange(len(graph.edges))
    order[graph.candidates] = rng.permutation(graph.candidates)
    return order


def predictions(
    graph: ComputationGraph, masks: Masks, examples: Examples, loss: Loss
) -> dict[str, NDArray[np.float64]]:
    """(M,) what each of ``ZERO_SHOT`` says of masks, from calibration examples; larger is worse."""

    def cooled(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return loss(outputs / COOLED, targets)

    gradients, models = taylor_models(graph, examples, loss)
    slopes = gate_gradients(graph, examples, cooled)
    closed = 1.0 - graph.gates(masks)
    noise = (uniform(examples.inputs[0]),)
    squares = {
        name: np.square(g).mean(axis=0) for name, g in (("", gradients), ("_cooled", slopes))
    }
    return {
        "number": (~masks).sum(axis=1).astype(float),
        "live_edges": -graph.live(masks).sum(axis=1).astype(float),
        "magnitude": surrogate.kept_sum(surrogate.reader_magnitude(graph))(masks),
        **{f"published_taylor{n}": surrogate.kept_sum(of)(masks) for n, of in squares.items()},
        "first_order": models["first_order"].change(masks),
        "first_order_cooled": -closed @ slopes.mean(axis=0),
        "fisher": models["fisher"].change(masks),
        "hessian": models["hessian"].change(masks),
        "shares": 1 - path_flow(graph, masks, shares(graph, examples.inputs)),
        "shares_noise": 1 - path_flow(graph, masks, shares(graph, noise)),
        "flow": flow_of(graph, examples).change(masks),
        "flow_noise": flow_model(graph, noise).change(masks),
    }


def uniform(images: torch.Tensor) -> torch.Tensor:
    """Noise instead of images: independent entries, uniform over the range of the images'."""
    draws = torch.rand(images.shape, generator=torch.Generator().manual_seed(FRESH))
    low, high = images.min(), images.max()
    return low + (high - low) * draws.to(images.dtype)


def ranks(table: pd.DataFrame, size: str, seed: int) -> pd.DataFrame:
    """Rank correlations of one graph's predictions with the losses on test images.

    Args:
        table: from ``measure``.
        size, seed: of its graph.

    Returns:
        A row for each ``predictor`` (``equal_shares`` is ``path_flow`` without a pass), its
        ``evaluations`` (masks whose loss on calibration images it needs) and set of ``masks``
        (``connected``, and ``single``: one edge left out):
        ``spearman``; ``given``, with the ranks of the number of removed edges held fixed; ``n``
        masks. NaN where a side is constant.
    """
    graph = blank_graph(size, seed)
    number, test = table["number"].to_numpy(), table["test"].to_numpy()
    chosen = {
        "connected": (table["part"] == "connected").to_numpy(),
        "single": ((table["part"] == "published") & (np.arange(len(table)) > 1)).to_numpy(),
    }
    said = {(name, 0): table[name].to_numpy() for name in ZERO_SHOT}
    masks_of = as_masks(table["mask"], len(graph.edges))
    said["equal_shares", 0] = 1 - path_flow(graph, masks_of, equal_shares(graph))
    said |= _fitted(table, graph, size)
    rows = []
    for masks, at in chosen.items():
        exact = {("leave_one_out", int(at.sum())): table["calibration"].to_numpy()}
        for (name, needs), values in (said | (exact if masks == "single" else {})).items():
            of, truth = values[at].round(9), test[at]
            given = np.nan
            if masks == "connected" and name != "number":
                given = partial_rank_correlation(of, truth, number[at])
            who = {"size": size, "seed": seed, "predictor": name, "evaluations": needs}
            found = {"spearman": rank_correlation(of, truth), "given": given, "n": at.sum()}
            rows.append(who | {"masks": masks} | found)
    return pd.DataFrame(rows)


def equal_shares(graph: ComputationGraph) -> NDArray[np.float64]:
    """(E,) 1 over the number of edges into the same vertex: what the graph says without a pass."""
    target = graph.ends[1]
    return 1.0 / np.bincount(target)[target]


def _fitted(
    table: pd.DataFrame, graph: ComputationGraph, size: str
) -> dict[tuple[str, int], NDArray[np.float64]]:
    """The path surrogate on the published design, and Gaussian processes by prior and budget."""
    masks, losses = as_masks(table["mask"], len(graph.edges)), table["calibration"].to_numpy()
    published = np.flatnonzero(table["part"] == "published")
    path = surrogate.PathSurrogate(graph).fit(masks[published], losses[published])
    found = {("path", len(published)): path.predict(masks)}
    design = np.flatnonzero(table["part"] == "design")
    if size in FITTED_ON:
        read = surrogate.live_features(graph, own_edges(graph))
        for prior, column in PRIORS.items():
            mean = looked_up(masks, table[column]) if column else None
            process = surrogate.GaussianProcess(read, mean)
            for budget in BUDGETS:
                rows = design[:budget]
                made = process.fit(masks[rows], losses[rows]).predict(masks)
                found[f"process_{prior}", len(rows)] = made
    return found


def record(size: str, seed: int, settings: Settings) -> tuple[str, dict[str, Any]]:
    """The file that a graph's table of ``measure`` is kept in, and the parameters by which it is
    found again.
    """
    name = f"fresh-{size.replace('> ', 'over-')}-{seed}.csv.gz"
    return name, {"size": size, "seed": seed} | vars(settings)


def seeds(graphs: int) -> range:
    """Of so many new graphs."""
    return range(FRESH, FRESH + whole("fresh", graphs, 2))


def all_ranks(
    sizes: Iterable[str], graphs: int, settings: Settings, folder: Path, cores: int = 1
) -> pd.DataFrame:
    """The ``ranks`` of so many new graphs of each class; their tables are kept
    (``records.kept_in_parallel``).

    Args:
        sizes: classes of ``networks.SIZES``.
        graphs: of each class.
        settings: of the networks.
        folder: of the tables.
        cores: graphs at once; the numbers do not depend on it.

    Raises:
        InvalidInput: a number out of range.
    """
    jobs = [(size, seed, settings) for size in sizes for seed in seeds(graphs)]
    tables = kept_in_parallel(measure, jobs, record, folder, cores, "graph")
    asked = [(table, size, seed) for table, (size, seed, _) in zip(tables, jobs, strict=True)]
    return pd.concat(in_parallel(ranks, asked, cores, "graph"), ignore_index=True)
