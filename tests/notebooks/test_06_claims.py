"""Notebook 06 run for real, small; its numbers against the stored evaluations, and its verdicts
against its rules.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bogp import paths
from bogp.graphs import database
from bogp.graphs.database import DatabaseSpec
from bogp.studies.claims import NOTEBOOK, verdicts
from bogp.training.store import Store
from tests.notebooks.in_process import refusal, run

PATH = Path(__file__).resolve().parents[2] / "notebooks" / "06_claims.ipynb"


def test_06_claims_says_what_was_measured(home, quick):
    run(PATH, {"run": "t"})
    results = paths.results_dir("t") / NOTEBOOK

    def table(name):
        return pd.read_csv(results / f"calibrated_{name}.csv")

    with Store(paths.store_path()) as store:
        stored = store.table().set_index("key")
    for name in ("audit", "crossed", "changed", "regions", "converged_trainings", "pools_fresh"):
        rows = table(name)
        assert (
            stored.loc[rows.key, "test_accuracy"].to_numpy() == rows.test_accuracy.to_numpy()
        ).all(), name
        assert stored.loc[rows.key, "seed"].tolist() == rows.seed.tolist()
    names = {"calibrated", "calibrated, all layers", "converged, all layers", "released", "paper"}
    assert set(stored.protocol_name) >= names

    crossed = table("crossed")
    y = (
        crossed[crossed.set == "bernoulli, s = 0.60"]
        .pivot(index="mask", columns="seed", values="test_accuracy")
        .to_numpy()
    )
    rest = y - y.mean(1, keepdims=True) - y.mean(0) + y.mean()
    parts = table("parts").set_index(["set", "part"]).loc["bernoulli, s = 0.60"]
    assert y.shape == (6, 2)
    assert parts.loc["residual", "value"] == pytest.approx(np.sqrt((rest**2).sum() / 5))
    assert parts.loc["masks", "p"] == pytest.approx(
        stats.f.sf(2 * y.mean(1).var(ddof=1) / ((rest**2).sum() / 5), 5, 5)
    )

    evidence = table("evidence")
    assert set(evidence.claim) == {1, 2, 3, 4, 5, 6, 10, 11, 12}, (
        "notebooks 03 and 05 have not run here"
    )
    for name in ("cursed", "compared", "margins", "best_of_all"):
        assert len(table(name)) == 0 and {"case", "estimate"} < set(table(name).columns), (
            "written, with nothing to say"
        )
    audit = table("audit")
    paper = audit[audit.protocol == "paper"].test_accuracy
    one = evidence[evidence.claim == 1].iloc[0]
    assert (one.estimate, one.n) == (pytest.approx(paper.mean()), 2)
    assert (
        verdicts.judge(evidence[list(verdicts.COLUMNS)]).verdict.tolist()
        == evidence.verdict.tolist()
    )
    assert evidence[evidence.claim == 4].verdict.tolist() == ["does not hold"]
    twins = table("twins")
    assert (twins.difference <= 1e-12).all() and (twins.same_start > 1e-3).all()

    gains = table("pools_advantages").query("arm == 'properties'")["advantage"]
    one = evidence[evidence.claim == 11].iloc[0]
    assert (one.estimate, one.n) == (pytest.approx(gains.mean()), 2)

    for source in evidence.source.unique():
        assert (paths.results_dir("t") / source).exists(), source
    assert len(list(paths.figures_dir("t").glob("06_calibrated_*.png"))) == 15


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"design": "huge"}, "no design 'huge'"),
        ({"database": "none"}, "no database 'none'"),
        ({"dataset": "imagenet"}, "no data set 'imagenet'"),
        ({"sparsities": [0.7]}, "no masks of sparsity 0.7"),
        ({"mixture": ["erdos_renyi", "lattice"]}, "no mask family 'lattice'"),
        ({"region_sparsities": [0.9, 0.995]}, "cannot reach sparsity 0.995"),
        ({"region_sparsities": [0.75]}, "0.9 is needed among them"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_bad_values_end_before_anything_is_trained(home, monkeypatch, parameters, message):
    monkeypatch.setitem(
        database.NAMED, "smoke", DatabaseSpec((0.6,), 8)
    )  # a small one is built in no time
    assert message in refusal(PATH, {"run": "t"} | parameters)
    assert not paths.store_path().exists() or Store(paths.store_path()).table().empty
