"""Notebook 07 run for real, small; its numbers against networks whose masks are multiplied by hand
in the forward pass.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch.nn.functional import conv2d, cross_entropy, linear

from bogp import datasets, paths
from bogp.graphs import database
from bogp.workflow.notebook import main
from tests.notebooks.in_process import run

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "07_your_own_network.ipynb"
SMALL = {
    "run": "t",
    "steps": 12,
    "nodes": 8,
    "masks": 8,
    "n_initial": 1,
    "n_iterations": 2,
    "searches": 2,
    "fresh_seeds": 1,
}


def trained_by_hand(mask, seed, split):
    """Accuracy of the notebook's network under a mask: no modules and no pruning state, masks as
    factors in the forward pass.
    """
    torch.manual_seed(seed)
    layers = [
        torch.nn.Conv2d(1, 16, 5),
        torch.nn.Conv2d(16, 32, 3),
        torch.nn.Linear(512, 64),
        torch.nn.Linear(64, 10),
    ]
    w = [p.detach().requires_grad_() for layer in layers for p in layer.parameters()]
    second = torch.from_numpy(np.kron(mask, np.ones((32 // 8, 16 // 8)))).float()[:, :, None, None]
    third = torch.from_numpy(np.kron(mask, np.ones((64 // 8, 512 // 8)))).float()

    def outputs(images):
        x = torch.from_numpy(images).reshape(-1, 1, 28, 28) / 255
        x = torch.relu(
            conv2d(
                torch.relu(conv2d(x, w[0], w[1], stride=3)),
                w[2] * second,
                w[3],
                stride=2,
                padding=1,
            )
        )
        return linear(torch.relu(linear(x.flatten(1), w[4] * third, w[5])), w[6], w[7])

    data = datasets.load("mnist-5k")
    optimiser = torch.optim.Adam(w, lr=0.01)
    for batch in torch.randint(
        3000, (SMALL["steps"], 100), generator=torch.Generator().manual_seed(seed)
    ).numpy():
        optimiser.zero_grad()
        cross_entropy(
            outputs(data.train.images[batch]), torch.from_numpy(data.train.labels[batch]).long()
        ).backward()
        optimiser.step()
    part = getattr(data, split)
    return float((outputs(part.images).argmax(1).numpy() == part.labels).mean())


def test_07_your_own_network_and_again_from_its_record(home):
    results = paths.results_dir("t") / "07_your_own_network"
    run(NOTEBOOK, SMALL)
    history, fresh, summary = (
        pd.read_csv(results / f"{t}.csv") for t in ("history", "fresh", "summary")
    )
    assert history.groupby(["method", "search_seed"]).size().tolist() == [3] * 6
    assert set(history.method) == {"bogp", "climb", "random"}
    masks = database.open_database(paths.database_dir("own-unequal-n8-s0.8-8"))
    of = dict(zip(masks.table.mask_id, masks.masks(), strict=True))
    for one in [
        *history[history.method == "climb"].head(2).itertuples(),
        history[history.method == "bogp"].iloc[-1],
    ]:
        assert one.objective == pytest.approx(
            trained_by_hand(of[one.mask_id], int(one.training_seed), "validation"), abs=0.003
        )
        assert one.masked_sparsity == pytest.approx(1 - of[one.mask_id].mean()), (
            "eight nodes divide all widths"
        )
        dense, masked = 400 + 640, 32 * 16 * 9 + 512 * 64
        assert one.model_sparsity == pytest.approx(one.masked_sparsity * masked / (dense + masked))
    assert history.objective.between(0.2, 0.9).all()  # twelve steps; chance is 0.1
    best = (
        history.loc[history.groupby(["method", "search_seed"]).objective.idxmax()]
        .set_index(["method", "search_seed"])
        .mask_id
    )
    fresh = fresh.set_index(["method", "search_seed"]).fresh
    assert fresh["random", 1] == pytest.approx(
        trained_by_hand(of[best["random", 1]], 5_001, "test"), abs=0.003
    )
    assert fresh["unpruned", 0] == pytest.approx(
        trained_by_hand(np.ones((8, 8)), 5_000, "test"), abs=0.003
    )
    assert fresh["any mask", 0] == pytest.approx(
        trained_by_hand(
            of[history[(history.method == "random") & (history.search_seed == 0)].mask_id.iloc[0]],
            5_000,
            "test",
        ),
        abs=0.003,
    )
    for row in summary.itertuples():
        low, high = stats.t.interval(
            0.95, 1, fresh[row.method].mean(), stats.sem(fresh[row.method])
        )
        assert (row.mean, row.low, row.high, row.n) == pytest.approx(
            (fresh[row.method].mean(), low, high, 2)
        )
        assert row.gap_mean == pytest.approx((fresh[row.method] - fresh["random"]).mean())
    assert set(summary.method) == {"bogp", "climb", "random", "any mask", "magnitude", "unpruned"}
    assert len(list(paths.figures_dir("t").glob("07_*.p[dn][fg]"))) == 6

    files = {
        f.name: f.read_bytes()
        for f in results.iterdir()
        if f.suffix == ".csv" or f.name in ("scores.json", "pruned.safetensors")
    }
    assert len(files) == 5
    run(NOTEBOOK, SMALL, save_figures=False)
    # with the times of the first run: nothing was searched anew
    assert {name: (results / name).read_bytes() for name in files} == files


def test_bad_values_end_in_one_clear_message_before_any_training(home, capsys):
    assert (
        main(
            [
                str(NOTEBOOK),
                str(home / "out.ipynb"),
                "--no-progress",
                "-y",
                json.dumps(SMALL | {"steps": 0}),
            ]
        )
        == 1
    )
    error = capsys.readouterr().err
    assert "steps is 0" in error
    assert "Traceback" not in error
    assert not list(paths.results_dir("t").rglob("*.csv"))
