"""Notebook 10 run for real, small; its scores and losses against networks built and masked by
hand.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import cross_entropy

from bogp import datasets, paths
from bogp.zoo import networks
from tests.notebooks.in_process import refusal, run

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "10_computation_graphs.ipynb"
SMALL = {"run": "t", "steps": 2, "images": 20, "removed": 2}


def random_graph_by_hand():
    """The first network, trained as the notebook does, and its losses without each edge, forward
    passes written out.
    """
    data = datasets.load("mnist-5k")
    torch.manual_seed(0)
    parents = networks.random_parents("20-40", 0)
    model = networks.RandomDag(parents, 784, 32, 10)
    x, y = (
        torch.from_numpy(data.train.images).float() / 255,
        torch.from_numpy(data.train.labels).long(),
    )
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    for rows in torch.randint(len(y), (2, 50), generator=torch.Generator().manual_seed(0)):
        optimiser.zero_grad()
        cross_entropy(model(x[rows]), y[rows]).backward()
        optimiser.step()
    x, y = (
        torch.from_numpy(data.validation.images[:20]).float() / 255,
        torch.from_numpy(data.validation.labels[:20]).long(),
    )

    def loss(without):
        values = []
        for j, (read, vertex) in enumerate(zip(parents, model.vertices, strict=True)):
            left = [values[p] for p in read if (p, j) != without and values[p] is not None]
            values.append(
                torch.relu(vertex(sum(left) if read else x)) if left or not read else None
            )
        return np.nan if values[-1] is None else float(cross_entropy(model.head(values[-1]), y))

    with torch.no_grad():
        full = loss(None)
        return np.array([loss((p, j)) - full for j, read in enumerate(parents) for p in read])


def test_10_computation_graphs_and_again(home):
    results = paths.results_dir("t") / "10_computation_graphs"
    run(NOTEBOOK, SMALL)
    graphs, scores, surgery, captured = (
        pd.read_csv(results / f"{t}.csv") for t in ("graphs", "scores", "surgery", "captured")
    )
    assert graphs.network.tolist() == ["random graph", "residual", "inception", "transformer"]
    assert (
        (graphs.difference <= 1e-6).all()
        and (surgery.difference <= 1e-5).all()
        and (surgery.edges_removed == 2).all()
    )
    assert (surgery.parameters_before == graphs.parameters).all()
    # in the random graph an edge may go and leave all its vertices at work
    for what in ("parameters", "flops"):
        saved = surgery[f"{what}_before"] - surgery[f"{what}_after"]
        assert saved[0] >= 0 and (saved[1:] > 0).all()
    assert (scores.groupby("network").size()[graphs.network] == graphs.candidates.to_numpy()).all()
    mine = scores[scores.network == "random graph"].change
    truth = random_graph_by_hand()
    for one in mine:  # a vertex with one reader is cut in two places that are one removal
        assert np.nanmin(np.abs(truth - one)) < 1e-5
    for one in truth[~np.isnan(truth)]:
        assert np.abs(mine - one).min() < 1e-5, "no removal is missing"
    assert set(captured[captured.traced_by.isna()].network) == {
        "control flow by data",
        "a tensor made a Python number",
        "a detour through numpy",
        "randomness",
    }
    assert (
        captured.refused_because.notna().sum() == 4 and (captured.difference.dropna() <= 1e-6).all()
    )
    latency = pd.read_csv(results / "latency.csv")
    assert (latency[["before", "after"]] > 0).all(axis=None)
    assert len(list(paths.figures_dir("t").glob("10_*.p[dn][fg]"))) == 8
    files = {f.name: f.read_bytes() for f in results.glob("*.csv") if f.stem != "latency"}
    run(NOTEBOOK, SMALL, save_figures=False)
    assert {name: (results / name).read_bytes() for name in files} == files


def test_bad_values_end_in_one_clear_message_before_any_training(home):
    assert "removed is 0" in refusal(NOTEBOOK, SMALL | {"removed": 0})
    assert not list(paths.results_dir("t").rglob("*.csv"))
