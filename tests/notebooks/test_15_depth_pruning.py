"""Notebook 15 run for real, small: its tables against what its units say, and networks cut by
hand.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from bogp import paths, zoo
from bogp.studies.depth_pruning.measure import METHODS
from bogp.studies.depth_pruning.subsets import PREDICTORS
from bogp.zoo import tasks
from tests.notebooks.in_process import refusal, run

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "15_depth_pruning.ipynb"
SMALL = {"run": "t", "texts": 8, "test_texts": 16, "steps": 2}


def test_15_depth_pruning_and_again_from_its_unit(home, capsys):
    run(NOTEBOOK, SMALL)
    results, units = (
        d("t") / "15_depth_pruning" for d in (paths.results_dir, paths.evaluations_dir)
    )
    found = {f.stem: pd.read_csv(f) for f in results.glob("*.csv")}
    assert set(found) == {
        *("measured", "means", "against_random", "closing", "costs", "verdicts"),
        *("chosen", "spread", "scoring"),
        *("sets", "ranked_sets", "set_verdicts", "forms"),
    }
    measured = found["measured"]
    unit = pd.read_csv(units / "char_transformer_0.csv.gz")
    pd.testing.assert_frame_equal(measured.drop(columns="latency"), unit)
    assert (measured.latency > 0).all()  # measured apart
    assert set(measured.method) == {"unpruned", *METHODS}

    # A transformer cut by hand, on the texts that the notebook reports on.
    test = tasks.load("sentences", 0).test
    rows = np.linspace(0, len(test) - 1, 16).astype(int)
    x, y = test.inputs[0][rows], test.targets[rows]
    kept = measured[(measured.weights == "kept") & (measured.method == "exact_greedy")]
    for one in kept.itertuples():
        model = zoo.trained("char_transformer", 0)
        for block in one.blocks.split():
            model.blocks[int(block.removeprefix("blocks."))] = nn.Identity()
        with torch.no_grad():
            loss = nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten()).item()
        assert one.loss == pytest.approx(loss, abs=1e-4)

    means = found["means"].set_index(["method", "count", "weights", "measure"])["mean"]
    two = measured[(measured["count"] == 2) & (measured.weights == "tuned")].set_index("method")
    assert means["fisher", 2, "tuned", "accuracy"] == pytest.approx(two.accuracy["fisher"])
    gaps = found["against_random"].set_index(["weights", "method"]).difference
    expected = two.loss["magnitude"] - two.loss["random"]
    assert gaps["tuned", "magnitude"] == pytest.approx(expected)
    costs = found["costs"].set_index("count")
    layer = sum(p.numel() for p in zoo.trained("char_transformer", 0).blocks[0].parameters())
    left = 1 - 3 * layer / costs.parameters[0]
    assert costs.parameters_left[3] == pytest.approx(left)
    first = two.blocks["fisher"].split()
    chosen = found["chosen"].set_index(["method", "block"]).share["fisher"]
    assert sorted(chosen[chosen == 1].index) == sorted(first) and chosen.sum() == 2
    assert found["verdicts"].empty and "too small for verdicts" in capsys.readouterr().out
    assert len(list(paths.figures_dir("t").glob("15_*.p[dn][fg]"))) == 8
    assert len(found["sets"]) == 8 + 28 and found["set_verdicts"].empty
    assert set(found["ranked_sets"].method) == set(PREDICTORS)
    both = (found[name].set_index(["method", "measure"]) for name in ("forms", "ranked_sets"))
    assert len({one["mean"]["flow", "given"] for one in both}) == 1, "the one form is that flow"

    written = {f.name: f.stat().st_mtime_ns for f in units.iterdir()}
    run(NOTEBOOK, SMALL, save_figures=False)
    assert {f.name: f.stat().st_mtime_ns for f in units.iterdir()} == written, "nothing made anew"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"networks": ["vit", "vit"]}, "each once"),
        ({"networks": ["lenet"]}, "lenet"),
        ({"steps": 200}, "150"),
        ({"draws": 0}, "draws"),
        ({"most": 8}, "most"),
        ({"seeds": 9}, "of seed"),
        ({"seeds": 10**9}, "seeds"),
    ],
)
def test_bad_values_end_in_one_clear_message_before_any_work(home, change, message):
    assert message in refusal(NOTEBOOK, SMALL | change)
    assert not list(paths.evaluations_dir("t").rglob("*.csv*"))
