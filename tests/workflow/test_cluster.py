"""The workflow on a cluster of local processes, each with a store of its own, and what
docs/cluster.md says.
"""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from bogp import paths, search
from bogp.graphs import database as graphs_database
from bogp.training.protocols import CALIBRATED
from bogp.training.store import Store, main
from tests.workflow.test_batch import ROOT, SEARCH, TINY, batch, environment, tables

CLUSTER, PAGE = ROOT / "cluster", ROOT / "docs" / "cluster.md"
SPEED = pd.read_csv(ROOT / "data/results/paper/speed.csv").set_index("what")["ours"]
TIMELESS = ["seconds", "finished"]


def rows(path: Path) -> pd.DataFrame:
    with Store(path) as store:
        return store.table().drop(columns=TIMELESS)


def test_parts_on_separate_stores_unite_to_the_whole(home, monkeypatch):
    spec = graphs_database.DatabaseSpec((0.9,), 5, 64, shard_size=5)
    masks = graphs_database.build(spec, paths.database_dir("five"), workers=1)
    shared = home / "shared"
    shared.mkdir()
    own, train = (
        [sys.executable, str(CLUSTER / name)] for name in ("own_store.py", "train_masks.py")
    )
    for part in ("1", "2"):
        work = [
            *own,
            str(shared),
            *train,
            "five",
            "--dataset",
            "mnist-5k",
            "--part",
            part,
            "--of",
            "2",
        ]
        done = subprocess.run(
            work, env=environment(home), capture_output=True, text=True, check=True
        )
        assert (
            f"{3 if part == '1' else 2} evaluations, {3 if part == '1' else 2} of them trained now"
            in done.stdout
        )
    assert not paths.store_path().exists()  # each had its own
    parts = sorted(shared.glob("*.parquet"))
    assert sorted(len(pd.read_parquet(part)) for part in parts) == [2, 3]  # only what was new
    assert main(["merge", *map(str, parts)]) == 0

    from bogp.training.evaluation import Evaluator

    plain = Evaluator(home / "plain.sqlite", progress=False)
    plain.evaluate([search.mask_job(masks, row, 0, CALIBRATED, "mnist-5k") for row in range(5)])
    assert plain.trained == 5
    pd.testing.assert_frame_equal(rows(paths.store_path()), rows(home / "plain.sqlite"))


def test_a_job_that_fails_hands_its_rows_over_too(home):
    (home / "shared").mkdir()
    code = (
        "import os, sys, pandas as pd; from bogp.training.store import COLUMNS, Store; from "
        "pathlib import Path\n"
    )
    code += (
        "Store(Path(os.environ['BOGP_STORE'])).add([dict.fromkeys(COLUMNS, 1) | {'key': "
        "'ab'}]); "
        "sys.exit(3)"
    )
    done = subprocess.run(
        [
            sys.executable,
            str(CLUSTER / "own_store.py"),
            str(home / "shared"),
            sys.executable,
            "-c",
            code,
        ],
        env=environment(home),
        check=False,
    )
    assert done.returncode == 3
    (left,) = (home / "shared").glob("*.parquet")
    assert pd.read_parquet(left)["key"].tolist() == ["ab"]


def test_the_store_merges_and_exports_from_the_command_line(home, capsys):
    with Store(home / "a.sqlite") as store:
        store.add([dict.fromkeys(store.table().columns, 1) | {"key": key} for key in ("aa", "bb")])
        store.export(home / "a.parquet")
        store.export(home / "b.parquet", ["bb"])
    assert main(["merge", str(home / "b.parquet"), str(home / "a.parquet")]) == 0
    assert [line.split(": ")[1] for line in capsys.readouterr().out.splitlines()] == [
        "1 new evaluations"
    ] * 2
    assert main(["export", str(home / "all.parquet")]) == 0
    assert pd.read_parquet(home / "all.parquet").equals(pd.read_parquet(home / "a.parquet"))
    assert main(["merge", str(home / "none.parquet")]) == 1
    assert "cannot be read as an export" in capsys.readouterr().err


@pytest.mark.full
def test_the_workflow_on_separate_processes_and_stores_equals_a_plain_run(tmp_path):
    profile = TINY | {"fixed_sparsity": {"calibrated": {"sparsities": [0.6, 0.9]} | SEARCH}}
    plain, spread = tmp_path / "plain", tmp_path / "spread"
    assert batch(plain, "reproduce", profile).returncode == 0
    shared = spread / "data/stores"
    submit = f"{sys.executable} {CLUSTER / 'submit_local.py'} {shared}"
    executor = [
        "--executor",
        "cluster-generic",
        "--cluster-generic-submit-cmd",
        submit,
        "--jobs",
        "2",
        "--latency-wait",
        "30",
    ]
    done = batch(spread, "reproduce", profile, "--", *executor)
    assert done.returncode == 0, done.stderr
    assert tables(spread) == tables(plain)

    assert not (spread / "data/evaluations.sqlite").exists()
    parts = sorted(shared.glob("*.parquet"))
    assert len(parts) == 2  # of the two jobs that train
    with Store(spread / "data/evaluations.sqlite") as union:
        assert sum(union.merge(part) for part in parts) == len(union.table())
    pd.testing.assert_frame_equal(
        rows(spread / "data/evaluations.sqlite"), rows(plain / "data/evaluations.sqlite")
    )
    assert "Nothing to do" in batch(spread, "reproduce", profile).stdout


def test_the_costs_on_the_page_follow_from_the_measured_rates():
    page = " ".join(PAGE.read_text().split())
    masks, cores = 100_000, 2 * 50
    rates = {
        "calibrated": SPEED["8 masks, hidden layer at s = .60, against the plain loop"],
        "paper": SPEED["full batch, 2 masks, against the plain loop"],
    }
    for protocol, seconds in rates.items():
        hours = masks * seconds / 3600
        row = f"| `{protocol}` | {seconds:.3g} s | {hours:,.0f} | {60 * hours / cores:,.0f} min |"
        assert row in page, row
    # a task of the array on two cores, and its limit
    assert masks / 100 * rates["paper"] / 2 < 2 * 3600
    database = SPEED["database, 7 x 1,000 masks, whole process"] / 7000 * masks
    assert f"about {database:.0f} s" in page
    memory = max(SPEED[SPEED.index.str.startswith("peak memory")])
    assert f"{memory:.2f} GiB" in page
    assert "unmeasured" in page


def test_what_the_page_names_is_there():
    page = PAGE.read_text()
    for name in (
        "own_store.py",
        "submit_local.py",
        "train_masks.py",
        "slurm/config.yaml",
        "slurm/array.sh",
        "slurm/job.sh",
        "slurm/status.sh",
    ):
        assert (CLUSTER / name).is_file()
        assert name in page
    for script in (CLUSTER / "slurm").glob("*.sh"):
        assert os.access(script, os.X_OK)
        subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ("COMPLETED", "success"),
        ("RUNNING", "running"),
        ("PENDING", "running"),
        ("", "running"),
        ("TIMEOUT", "failed"),
        ("CANCELLED by 7", "failed"),
    ],
)
def test_what_slurm_says_becomes_one_of_snakemakes_three_words(home, state, word):
    sacct = home / "sacct"
    sacct.write_text(f"#!/bin/sh\necho '{state}'\n")
    sacct.chmod(0o755)
    status = subprocess.run(
        [CLUSTER / "slurm/status.sh", "1"],
        env={"PATH": f"{home}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert status.stdout.strip() == word
