"""Notebook 11 run for real, small; its numbers against networks whose branches are cut by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from bogp import paths
from bogp.studies.edge_importance import measure
from bogp.zoo import tasks
from tests.notebooks.in_process import refusal, run

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "11_edge_importance.ipynb"
SMALL = {
    "run": "t",
    "networks": ["dag"],
    "tasks": ["mixture"],
    "epochs": [1],
    "calibration": [8, 16],
    "test": 60,
    "masks": 5,
    "seeds": 2,
    "fresh": 2,
    "cores": 1,
}


def changes_by_hand(seed):
    """The change of the loss on the notebook's test examples without each link of the random graph:
    summed by a loop, no graph captured.
    """
    task = tasks.load("mixture", seed)
    rng = np.random.default_rng(seed)
    rng.permutation(len(task.calibration))
    test = task.test.part(torch.from_numpy(rng.permutation(len(task.test))[:60]))
    model = measure.trained(measure.Case("dag", "mixture", 1), task, seed)

    def loss(cut):
        values = []
        for child, (parents, vertex) in enumerate(zip(model.parents, model.vertices, strict=True)):
            live = [values[p] for p in parents if (p, child) != cut and values[p] is not None]
            read = sum(live) if live else test.inputs[0] if not parents else None
            values.append(None if read is None else torch.relu(vertex(read)))
        return (
            None
            if values[-1] is None
            else float(task.loss(model.head(values[-1]), test.targets).mean())
        )

    with torch.no_grad():
        links = [(p, c) for c, parents in enumerate(model.parents) for p in parents]
        return {round(loss(link) - loss(None), 5) for link in links if loss(link) is not None}


def test_11_edge_importance_and_again_from_its_units(home, capsys):
    results, units = (
        d("t") / "11_edge_importance" for d in (paths.results_dir, paths.evaluations_dir)
    )
    run(NOTEBOOK, SMALL)
    single, several, summary, target = (
        pd.read_csv(results / f"{t}.csv") for t in ("single", "several", "summary", "target_1")
    )
    for seed in (0, 1):
        unit = pd.read_csv(units / f"dag_mixture_{seed}.csv.gz")
        true = unit[(unit.part == "single") & (unit.method == "hessian") & (unit.examples == 16)]
        by_hand = changes_by_hand(seed)
        assert all(min(abs(change - other) for other in by_hand) < 2e-5 for change in true.change)
        rho = stats.spearmanr(true.predicted, true.change).statistic
        row = single[(single.seed == seed) & (single.method == "hessian") & (single.examples == 16)]
        assert row.signed.item() == pytest.approx(rho)
        assert row.absolute.item() == pytest.approx(
            stats.spearmanr(true.predicted, true.change.abs()).statistic
        )
    mine = single[(single.method == "hessian") & (single.examples == 16)].signed
    one = summary[(summary.method == "hessian") & (summary.network == "dag")].iloc[0]
    assert (one["mean"], one["median"], one.n) == pytest.approx((mine.mean(), mine.median(), 2))
    assert target.met.tolist() == [bool(mine.median() >= 0.8)] * 2
    gaps = pd.read_csv(results / "differences.csv").iloc[0]
    wide = several.pivot(index="seed", columns="method", values="signed")
    low, high = stats.t.interval(
        0.95, 1, *(f(wide.first_order - wide.unsigned_taylor) for f in (np.mean, stats.sem))
    )
    assert (gaps["low"], gaps["high"]) == pytest.approx((low, high))
    text = capsys.readouterr().out
    assert "Target 1" in text and "no verdict" in text
    assert ": met" not in text and ": not met" not in text, "two seeds get no verdict"
    assert len(list(paths.figures_dir("t").glob("11_*.p[dn][fg]"))) == 12
    new = pd.read_csv(results / "fresh_several.csv")
    assert sorted(new.seed.unique()) == [5, 6] and set(measure.METHODS) < set(new.method)
    unit = pd.read_csv(units / "dag_mixture_5.csv.gz")
    several = unit[(unit.part == "several") & (unit.method == "flow")]
    assert len(several) == 4 * 5
    row = new[(new.seed == 5) & (new.method == "flow")].iloc[0]
    assert row.spearman == pytest.approx(stats.spearmanr(several.predicted, several.change)[0])

    files = {f.name: f.read_bytes() for f in results.glob("*.csv")}
    run(NOTEBOOK, SMALL, save_figures=False)
    # with the seconds of the first run: nothing was trained anew
    assert {name: (results / name).read_bytes() for name in files} == files


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"networks": ["vgg"]}, "networks are dag"),
        ({"tasks": ["sentences"]}, "cannot learn"),
        ({"calibration": [16, 8]}, "increasing"),
        ({"epochs": [1, 2]}, "one of each"),
        ({"calibration": [5000]}, "examples for calibration"),
        ({"seeds": 6}, "seeds"),
    ],
)
def test_bad_values_end_in_one_clear_message_before_any_training(home, bad, says):
    assert says in refusal(NOTEBOOK, SMALL | bad)
    assert not list(paths.results_dir("t").rglob("*.csv"))


@pytest.mark.full
def test_units_do_not_depend_on_the_number_of_workers(home):
    case, settings = measure.cases(["dag"], ["mixture"], [1]), measure.Settings((8,), 40, 3)
    one, two = (measure.units(case, settings, 2, home / str(n), n) for n in (1, 2))
    pd.testing.assert_frame_equal(one[one.part != "cost"], two[two.part != "cost"])
