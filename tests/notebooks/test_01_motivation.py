"""Notebook 01 run for real, small; its numbers are computed again from the trainings, by other
means.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bogp import paths
from bogp.graphs.relational import layer_masks
from bogp.studies.motivation import measure
from bogp.training.protocols import named
from bogp.training.store import Store
from tests.notebooks.in_process import refusal, run

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "01_motivation.ipynb"
SMALL = {"run": "t", "nodes": 5, "seeds": 2, "width": 12}


def test_01_motivation_and_again_without_training(home, quick):
    results = paths.results_dir("t") / "01_motivation"
    run(NOTEBOOK, SMALL)
    graphs, trainings, correlations, judged = (
        pd.read_csv(results / f"calibrated_{name}.csv")
        for name in ("graphs", "trainings", "correlations", "monotone")
    )
    assert len(graphs) == 21
    assert trainings.groupby(["variant", "graph"]).size().tolist() == [2] * 42
    # narrow layers, 3,000 training images; chance is 0.10
    assert trainings.test_accuracy.between(0.75, 0.97).all()
    study = measure.Study(named("calibrated"), width=12, seeds=2)
    for mask, row in zip(measure.graph_set(), graphs.itertuples(), strict=True):
        network = study.network(row.width_matched)
        layers = layer_masks(mask, network.widths, network.masked_layers)
        assert (
            row.kept_matched
            == sum(int(m.sum()) for m in layers if m is not None) + 10 * row.width_matched
        )

    accuracy = trainings.pivot_table(
        index=["variant", "seed"], columns="graph", values="test_accuracy"
    )
    for row in correlations[correlations.kind == "raw"].dropna().itertuples():
        rho = [
            stats.spearmanr(graphs[row.property], accuracy.loc[row.variant, seed]).statistic
            for seed in (0, 1)
        ]
        assert row.mean == pytest.approx(np.mean(rho), abs=1e-12)
        low, high = stats.t.interval(0.95, 1, np.mean(rho), stats.sem(rho))
        assert (row.low, row.high) == pytest.approx((max(low, -1), min(high, 1)), abs=1e-9)
        assert row.of_means == pytest.approx(
            stats.spearmanr(graphs[row.property], accuracy.loc[row.variant].mean()).statistic,
            abs=1e-12,
        )
    undefined = set(
        correlations[correlations["mean"].isna() & (correlations.kind == "partial")].property
    )
    assert undefined == {"density", "degree_centrality", "cycle_rank", "cycle_length"}
    assert (judged.pairs + judged.tied_pairs == 210).all()
    assert len(list(paths.figures_dir("t").glob("01_calibrated_*.p[dn][fg]"))) == 10

    # Again, from the exported evaluations alone: same numbers, nothing trained.
    files = {f.name: f.read_bytes() for f in results.glob("*.csv")}
    with Store(paths.store_path()) as store:
        before = store.table()
    # the complete graph's network is the same in both variants
    assert len(before) == trainings.key.nunique() == 2 * 41
    paths.store_path().unlink()
    run(NOTEBOOK, SMALL, save_figures=False)
    assert {f.name: f.read_bytes() for f in results.glob("*.csv")} == files
    with Store(paths.store_path()) as store:
        # with the times of the first run: nothing was trained anew
        pd.testing.assert_frame_equal(store.table(), before)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"seeds": 1}, "needs at least 2"),
        ({"nodes": 8}, "4 to 7"),
        ({"width": 4}, "each of the 5 nodes"),
        ({"dataset": "imagenet"}, "no data set 'imagenet'"),
        ({"protocol": "best"}, "no protocol 'best'"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_bad_values_end_in_one_clear_message_before_any_training(home, parameters, message):
    assert message in refusal(NOTEBOOK, SMALL | parameters)
    assert not paths.store_path().exists() or Store(paths.store_path()).table().empty, (
        "nothing was trained"
    )
