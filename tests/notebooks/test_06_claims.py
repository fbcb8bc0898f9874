"""Notebook 06 run for real, small; its numbers against the stored evaluations, and its verdicts against its rules."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bogp import paths
from bogp.studies.claims import NOTEBOOK, verdicts
from bogp.training.store import Store
from tests.notebooks.in_process import refusal, run

PATH = Path(__file__).resolve().parents[2] / "notebooks" / "06_claims.ipynb"
SMALL = {
    "run": "t", "database": "t", "database_sparsities": [0.6], "sparsities": [0.6], "masks_per_sparsity": 70, "bernoulli_design": [8, 2],
    "family_design": [4, 2], "released_design": [2, 2], "mixture": ["erdos_renyi", "ws_flex"], "changed": [2, 2, 2], "region_design": [3, 2],
    "converged_design": [2, 2], "budgets": [2, 4, 4], "repeats": [2, 2, 2],
}  # fmt: skip


def test_06_claims_says_what_was_measured(home):
    run(PATH, SMALL)
    results = paths.results_dir("t") / NOTEBOOK

    def table(name):
        return pd.read_csv(results / f"calibrated_{name}.csv")

    with Store(paths.store_path()) as store:
        stored = store.table().set_index("key")
    for name in ("audit", "crossed", "changed", "regions"):
        rows = table(name)
        assert (stored.loc[rows.key, "test_accuracy"].to_numpy() == rows.test_accuracy.to_numpy()).all(), name
        assert stored.loc[rows.key, "seed"].tolist() == rows.seed.tolist()
    assert set(stored.protocol_name) >= {"calibrated", "calibrated, all layers", "converged, all layers", "released", "paper", "literal"}

    crossed = table("crossed")
    y = crossed[crossed.set == "bernoulli, s = 0.60"].pivot(index="mask", columns="seed", values="test_accuracy").to_numpy()
    rest = y - y.mean(1, keepdims=True) - y.mean(0) + y.mean()
    parts = table("parts").set_index(["set", "part"]).loc["bernoulli, s = 0.60"]
    assert parts.loc["residual", "value"] == pytest.approx(np.sqrt((rest**2).sum() / 7))
    assert parts.loc["masks", "p"] == pytest.approx(stats.f.sf(2 * y.mean(1).var(ddof=1) / ((rest**2).sum() / 7), 7, 7))

    evidence = table("evidence")
    assert set(evidence.claim) == {1, 2, 3, 4, 5, 6, 10, 11, 12}, "notebooks 03 and 05 have not run here"
    audit = table("audit")
    paper = audit[audit.protocol == "paper"].test_accuracy
    one = evidence[evidence.claim == 1].iloc[0]
    assert (one.estimate, one.n) == (pytest.approx(paper.mean()), 2)
    assert verdicts.judge(evidence[list(verdicts.COLUMNS)]).verdict.tolist() == evidence.verdict.tolist()
    assert evidence[evidence.claim == 4].verdict.tolist() == ["does not hold"]
    twins = table("twins")
    assert (twins.difference <= 1e-12).all() and (twins.same_start > 1e-3).all()

    for source in evidence.source.unique():
        assert (paths.results_dir("t") / source).exists(), source


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"bernoulli_design": [80, 2]}, "from 2 to 70"),
        ({"mixture": ["erdos_renyi", "lattice"]}, "no mask family 'lattice'"),
        ({"region_sparsities": [0.9, 0.995]}, "cannot reach sparsity 0.995"),
        ({"dataset": "imagenet"}, "no data set 'imagenet'"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_bad_values_end_before_anything_is_trained(home, parameters, message):
    assert message in refusal(PATH, SMALL | parameters)
    assert not paths.store_path().exists() or Store(paths.store_path()).table().empty
