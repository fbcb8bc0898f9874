"""Each notebook run for real, small, by the ways that people run them; numbers are asserted
afterwards.
"""

import os
import subprocess
import sys
from base64 import b64decode
from io import BytesIO
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bogp import paths
from bogp.graphs import database, properties
from bogp.training.store import Store
from bogp.workflow.notebook import main, run_notebook
from tests.notebooks.in_process import refusal, run

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK_02, NOTEBOOK_03 = (
    ROOT / "notebooks" / f"{name}.ipynb" for name in ("02_mask_database", "03_fixed_sparsity_bo")
)
SMALL = {"run": "t", "database": "t"}
SEARCH = SMALL | {
    "sparsity": 0.9,
    "n_initial": 2,
    "n_iterations": 2,
    "searches": 2,
    "fresh_seeds": 1,
}


@pytest.fixture
def small(home):
    """A home with a database ``t`` of 24 masks."""
    spec = database.DatabaseSpec((0.6, 0.9), 12)
    database.build(spec, paths.database_dir("t"), workers=1)
    return home


def answer_of(executed: Path) -> str:
    """What a notebook answered, from the first of its cells that shows a figure."""
    cells = nbformat.read(executed, as_version=4).cells
    cells = [c for c in cells if "injected-parameters" not in c.metadata.get("tags", [])][:5]
    outputs = [o.get("data", {}) for cell in cells for o in cell.get("outputs", [])]
    shown = [b64decode(data["image/png"]) for data in outputs if "image/png" in data]
    assert shown, "a figure within the first five cells"
    assert {Image.open(BytesIO(png)).mode for png in shown} <= {"P", "RGB"}, "`plotting.small`"
    return next(data["text/markdown"] for data in outputs if "text/markdown" in data)


def test_02_mask_database(small):
    home = small
    run_notebook(NOTEBOOK_02, home / "02.ipynb", SMALL | {"queries": 50}, progress=False)
    table = pd.read_csv(paths.results_dir("t") / "02_mask_database" / "properties.csv")
    assert len(table) == 24
    assert table.groupby("target_sparsity").sparsity.mean().to_numpy() == pytest.approx(
        [0.6, 0.9], abs=0.01
    )
    masks = database.open_database(paths.database_dir("t"))
    np.testing.assert_allclose(
        table[list(properties.ALL)], properties.measure(masks.masks()), rtol=1e-12
    )
    spread = table[table.target_sparsity == 0.9].cycle_length
    assert f"to {spread.std() / spread.mean():.0%} (cycle_length)" in answer_of(home / "02.ipynb")
    pooled = pd.read_csv(
        paths.results_dir("t") / "02_mask_database" / "correlation_pooled.csv", index_col="property"
    )
    np.testing.assert_allclose(pooled, np.corrcoef(table[list(properties.NINE)].T), atol=1e-9)
    reach = pd.read_csv(paths.results_dir("t") / "02_mask_database" / "reach.csv")
    assert len(reach) == 2 * 3 * 3
    # Independent of the library's own look-up: Euclidean distance after z-scores, uniform queries
    # from the same seed.
    values = table[table.target_sparsity == 0.9][list(properties.PAPER_FIVE)].to_numpy()
    points = np.random.default_rng(0).uniform(values.min(0), values.max(0), (50, 5))
    nearest = np.argmin(np.linalg.norm((points[:, None] - values) / values.std(0), axis=2), axis=1)
    row = reach[
        (reach.metric == "l2") & (reach.scaling == "zscore") & (reach.target_sparsity == 0.9)
    ]
    assert row.reached.item() == len(set(nearest))
    assert len(list(paths.figures_dir("t").glob("02_*.p[dn][fg]"))) == 8


def test_03_fixed_sparsity_bo_and_again_without_training(small):
    home = small
    results = paths.results_dir("t") / "03_fixed_sparsity_bo"
    run_notebook(NOTEBOOK_03, home / "03.ipynb", SEARCH, progress=False)
    history = pd.read_csv(results / "calibrated_s0.90_history.csv")
    assert history.groupby(["method", "search_seed"]).size().tolist() == [4] * 4
    # 3,000 training images; chance is 0.10
    assert history.validation_accuracy.between(0.88, 0.97).all()
    summary = pd.read_csv(results / "calibrated_s0.90_summary.csv").set_index(
        ["method", "measure"]
    )["mean"]
    best = (
        history.groupby(["method", "search_seed"])
        .validation_accuracy.max()
        .groupby("method")
        .mean()
    )
    assert summary["bogp", "apparent"] == pytest.approx(best["bogp"])
    assert summary["bogp - random", "apparent"] == pytest.approx(best["bogp"] - best["random"])
    gap = summary["bogp - random", "fresh_test"]
    assert f"The difference, {gap:+.4f} [" in answer_of(home / "03.ipynb")
    assert len(list(paths.figures_dir("t").glob("03_calibrated_s0.90_*.p[dn][fg]"))) == 8

    # Again, from the exported evaluations alone: same numbers, nothing trained.
    files = {f.name: f.read_bytes() for f in results.glob("*.csv")}
    with Store(paths.store_path()) as store:
        before = store.table()
    paths.store_path().unlink()
    run(NOTEBOOK_03, SEARCH, save_figures=False)
    assert {f.name: f.read_bytes() for f in results.glob("*.csv")} == files
    with Store(paths.store_path()) as store:
        # with the times of the first run: nothing was trained anew
        pd.testing.assert_frame_equal(store.table(), before)


@pytest.mark.full
def test_plain_papermill_from_any_folder(home):
    small = "{n_initial: 1, n_iterations: 1, searches: 2, fresh_seeds: 1}"
    for notebook, more in (
        (NOTEBOOK_02, ["-p", "queries", "5"]),
        (NOTEBOOK_03, ["-y", small, "-p", "sparsity", "0.9"]),
    ):
        command = [
            sys.executable,
            "-m",
            "papermill",
            str(notebook),
            "out.ipynb",
            "--no-progress-bar",
            "-p",
            "run",
            "plain",
            *more,
        ]
        result = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr[-2000:]
    assert len(pd.read_csv(home / "data/results/plain/02_mask_database/properties.csv")) == 300
    assert (
        len(
            pd.read_csv(
                home / "data/results/plain/03_fixed_sparsity_bo/calibrated_s0.90_history.csv"
            )
        )
        == 8
    )


@pytest.mark.parametrize("pattern", ["02_*.ipynb", pytest.param("*.ipynb", marks=pytest.mark.full)])
def test_bare_nbval_passes_and_compares_what_is_marked(home, pattern):
    """As JupyterLab's Run All does, nbval runs each notebook with its defaults in the notebook's
    folder; ``make check-notebooks`` is the same.
    """
    notebooks = sorted(map(str, (ROOT / "notebooks").glob(pattern)))
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "-p", "no:cacheprovider", *notebooks]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=home)
    assert result.returncode == 0, result.stdout[-3000:]
    assert "NBVAL_CHECK_OUTPUT" in NOTEBOOK_02.read_text()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"sparsity": 1.5}, "strictly between 0 and 1"),
        ({"sparsity": 0.7}, "holds no masks of sparsity 0.7"),
        ({"dataset": "imagenet"}, "no data set 'imagenet'"),
        ({"database": "none"}, "no database 'none'"),
        ({"fresh_seeds": 0}, "seeds is 0"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_bad_values_end_in_one_clear_message_before_any_training(small, parameters, message):
    assert message in refusal(NOTEBOOK_03, SEARCH | parameters)
    assert not paths.store_path().exists() or Store(paths.store_path()).table().empty


def test_a_bad_value_ends_a_kernel_with_one_clear_message_and_a_status(small, capsys):
    import json

    given = json.dumps(SEARCH | {"sparsity": 1.5})
    assert main([str(NOTEBOOK_03), str(small / "out.ipynb"), "--no-progress", "-y", given]) == 1
    error = capsys.readouterr().err
    assert "strictly between 0 and 1" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("profile", ["smoke", "paper"])
def test_the_workflow_plans_one_job_per_cell(home, profile):
    import yaml

    config = ROOT / "notebooks" / "profiles" / f"{profile}.yaml"
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--profile",
        "none",
        "--configfile",
        str(config),
        "--cores",
        "2",
        "--dry-run",
        "--quiet",
        "rules",
    ]
    result = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"XDG_CACHE_HOME": str(home)},
    )
    assert result.returncode == 0, result.stderr[-2000:]
    lines = [line.split() for line in (result.stdout + result.stderr).splitlines()]
    planned = {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdigit()}
    settings = yaml.safe_load(config.read_text())

    def cells(section: str, grid: str) -> int:
        return sum(len(each[grid]) for each in settings[section].values())

    assert planned["fixed_sparsity_bo"] == cells("fixed_sparsity", "sparsities")
    assert planned["tradeoff_cell"] == cells("tradeoff", "alphas")
    assert planned["baselines_cell"] == cells("baselines", "sparsities")
    assert planned["motivation"] == len(settings["motivation"])
    assert planned["claims"] == len(settings["claims"])
    assert planned["your_own_network"] == 1
