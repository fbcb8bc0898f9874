"""Batch regeneration with Snakemake itself, on a profile of three small jobs: what is fresh, what
failed, and what a kill costs.

The test that kills ten times is marked ``full``; with ``BOGP_REPORT`` set it writes its counts to
``data/results/reliability/workflow.csv``.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pandas as pd
import psutil
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook

from bogp.errors import InvalidInput
from bogp.training.store import Store
from bogp.workflow import snakemake_record
from bogp.workflow.batch import Output, main, render, select, targets
from bogp.workflow.notebook import code_digest
from tests.reliability.report import Count, record

ROOT = Path(__file__).resolve().parents[2]
SEARCH = {"dataset": "mnist-5k", "n_initial": 2, "n_iterations": 2, "searches": 2, "fresh_seeds": 1}
TINY = {
    "run": "tiny",
    "executed": "build/executed/tiny",
    "motivation": {},
    "database": {"database": "smoke", "queries": 20},
    "fixed_sparsity": {"calibrated": {"sparsities": [0.9]} | SEARCH},
    "tradeoff": {},
    "baselines": {},
    "claims": {},
    "your_own_network": {},
    "edge_importance": {},
}


def batch(home: Path, what: str, profile: dict, *more: str) -> subprocess.CompletedProcess[str]:
    """``python -m bogp.workflow.batch`` in a home of its own."""
    done = subprocess.run(
        command(home, what, profile, *more),
        env=environment(home),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done


def command(home: Path, what: str, profile: dict, *more: str) -> list[str]:
    home.mkdir(exist_ok=True)
    (home / "profile.yaml").write_text(yaml.safe_dump(profile))
    return [
        sys.executable,
        "-m",
        "bogp.workflow.batch",
        what,
        str(home / "profile.yaml"),
        "--cores",
        "2",
        *more,
    ]


def environment(home: Path) -> dict[str, str]:
    first = os.pathsep.join([str(home / "site"), os.environ.get("PYTHONPATH", "")])
    return os.environ | {
        "BOGP_HOME": str(home),
        "TQDM_DISABLE": "1",
        "PYTHONPATH": first,
        "OFFERED": str(home / "offered"),
    }


def tables(home: Path) -> dict[str, str]:
    """Each CSV, to the last digit; the seconds that a training took are a measurement, and left
    out.
    """

    def content(path: Path) -> str:
        return (
            pd.read_csv(path, dtype=str)
            .drop(columns="seconds", errors="ignore")
            .to_csv(index=False)
        )

    return {
        str(path.relative_to(home)): content(path)
        for path in sorted((home / "data/results").rglob("*.csv"))
    }


def states(home: Path, profile: dict) -> dict[str, list[str]]:
    """Names of files by state, as ``make status`` lists them."""
    done = batch(home, "status", profile)
    assert done.returncode == 0, done.stderr
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines() if line.startswith("  ")]
    return {
        state: [name for s, name in lines if s == state] for state in ("fresh", "stale", "missing")
    }


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """The home of an uninterrupted run, with the seconds that it took in a file."""
    home, started = tmp_path_factory.mktemp("plain"), time.monotonic()
    done = batch(home, "reproduce", TINY)
    assert done.returncode == 0, done.stderr
    assert "03_calibrated_s0.90.ipynb" in done.stdout
    (home / "seconds").write_text(str(time.monotonic() - started))
    return home


def test_a_second_call_does_nothing_and_says_so(plain):
    before = {
        path: path.stat().st_mtime_ns for path in (plain / "data").rglob("*") if path.is_file()
    }
    done = batch(plain, "reproduce", TINY)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert line.startswith("Nothing to do: all 37 files of tiny are fresh")
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_checkout_is_judged_by_what_its_files_are_not_by_their_times(plain, tmp_path):
    """As git leaves it: no memory of Snakemake's, no database, every file with one time; then a
    table edited, a figure deleted, a parameter changed.
    """
    home = tmp_path / "checkout"
    for folder in ("data/results", "figures", "build/executed"):
        shutil.copytree(plain / folder, home / folder)  # with times of now
    found = states(home, TINY)
    assert found["missing"] == [
        "data/databases/smoke/manifest.json  (made when something needs it)"
    ]
    assert (len(found["fresh"]), found["stale"]) == (19, [])

    shutil.rmtree(home / ".snakemake")
    edited, deleted = (
        home / "data/results/tiny/02_mask_database/reach.csv",
        home / "figures/tiny/02_reach.png",
    )
    edited.write_text(edited.read_text() + "\n")
    deleted.unlink()
    # newer, and the same
    (home / "data/results/tiny/03_fixed_sparsity_bo/calibrated_s0.90_summary.csv").touch()
    found = states(
        home,
        TINY
        | {
            "fixed_sparsity": {
                "calibrated": TINY["fixed_sparsity"]["calibrated"] | {"n_initial": 3}
            }
        },
    )
    assert "figures/tiny/02_reach.pdf|png" in found["missing"]
    assert any("reach.csv" in name and snakemake_record.UNKNOWN in name for name in found["stale"])
    changed = [
        name
        for name in found["stale"]
        if "a parameter, the notebook's code or the engine version changed" in name
    ]
    assert len(changed) == 8  # of notebook 03: its copy, three tables, four figures
    assert any(
        "fixed_sparsity.csv" in name and "has to be made again" in name for name in found["stale"]
    )


NOTED = """
import os, sys
if "ipykernel_launcher" in sys.orig_argv:  # where notebooks train
    from bogp.training.store import Store
    add = Store.add
    def noted(self, rows):
        add(self, rows)
        with open(os.environ["OFFERED"], "a") as file:
            file.writelines(f"{row['key']},{row['seconds']!r}\\n" for row in rows)
    Store.add = noted
"""


def count_trainings(home: Path) -> None:
    """Have every row that is offered to the store noted beside it: one that was trained twice has
    two times.
    """
    (home / "site").mkdir(parents=True, exist_ok=True)
    (home / "site" / "sitecustomize.py").write_text(NOTED)
    (home / "offered").touch()


def offered(home: Path) -> pd.DataFrame:
    """Each training that came to the store, in order; those of one group share their seconds."""
    return pd.read_csv(home / "offered", names=["key", "seconds"]).drop_duplicates(
        ignore_index=True
    )


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@dataclass(frozen=True)
class Kill:
    """What one kill cost: rows kept, trainings that were lost with it (at most), and done twice;
    processes that lived on; tables that differ.
    """

    after: float
    kept: int
    lost: int
    duplicated: int
    orphans: int
    differing: int


def kill(
    home: Path, profile: dict, after: float, from_first_row: bool = False
) -> tuple[pd.DataFrame, int]:
    """Kill a run of make reproduce with all of its process group.

    Args:
        home: of the run.
        profile: of the run.
        after: when, s from its start.
        from_first_row: or from when the first training was kept.

    Returns:
        What came to the store until every process was gone, and how many processes were still alive
        after a minute.
    """
    count_trainings(home)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    run = subprocess.Popen(
        command(home, "reproduce", profile), env=environment(home), start_new_session=True, **quiet
    )
    while from_first_row and offered(home).empty and run.poll() is None:
        time.sleep(0.05)
    time.sleep(after)
    family, before = [], set(offered(home)["key"])
    if run.poll() is None:
        family = psutil.Process(run.pid).children(recursive=True)
        os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    deadline = time.monotonic() + 60
    while (
        alive := [one for one in family if lives(one)]
    ) and time.monotonic() < deadline:  # a kernel notices that nobody is there any more
        time.sleep(0.1)
    with Store(home / "data/evaluations.sqlite") as store:
        assert before <= set(store.table()["key"])  # what was committed stays
    return offered(home), len(alive)


def cost(home: Path, plain: Path, kept: pd.DataFrame, orphans: int, after: float) -> Kill:
    """What a kill cost, when the run has been started again and is done."""
    every = offered(home)
    new = every.iloc[len(kept) :]
    # the group that was, or could have been, in flight
    lost = int((new["seconds"] == new["seconds"].iloc[0]).sum()) if len(new) else 0
    expected, found = tables(plain), tables(home)
    assert set(found) >= set(expected)
    differing = sum(found[name] != content for name, content in expected.items())
    return Kill(after, len(kept), lost, int(every["key"].duplicated().sum()), orphans, differing)


def timeless(home: Path) -> pd.DataFrame:
    with Store(home / "data/evaluations.sqlite") as store:
        return store.table().drop(columns=["seconds", "finished"])


def test_a_killed_run_goes_on_to_the_same_numbers_and_a_job_that_fails_does_not_stop_it(
    plain, tmp_path
):
    home = tmp_path / "killed"
    shutil.copytree(
        plain,
        home,
        copy_function=shutil.copy2,
        ignore=shutil.ignore_patterns("evaluations*", "*03_*", "fixed_sparsity*"),
    )
    after = random.Random(6).uniform(0, 1)
    kept, orphans = kill(home, TINY, after, from_first_row=True)
    assert 0 < len(kept) < len(timeless(plain))  # in the midst of it

    bad = {"literal": {"sparsities": [0.9], "dataset": "mnist-5k", "n_iterations": -1}}
    done = batch(home, "reproduce", TINY | {"fixed_sparsity": TINY["fixed_sparsity"] | bad})
    assert "03_calibrated_s0.90.ipynb" in done.stdout
    assert "02_mask_database.ipynb" not in done.stdout  # fresh, and left alone
    plain_but_gathered = {
        name: text for name, text in tables(plain).items() if "fixed_sparsity.csv" not in name
    }
    assert {
        name: text for name, text in tables(home).items() if "literal" not in name
    } == plain_but_gathered
    every = offered(home)
    assert not every["key"].duplicated().any()
    assert orphans == 0
    pd.testing.assert_frame_equal(timeless(home), timeless(plain))

    assert done.returncode == 1
    message = done.stderr.splitlines()
    assert len(message) < 8
    copy = home / "build/failed/tiny/03_literal_s0.90.ipynb"
    assert message[0].startswith("1 failed")
    assert "03_literal_s0.90" in message[1]
    assert "InvalidInput" in message[1]
    assert str(copy) in message[2]
    errors = [
        out
        for cell in nbformat.read(copy, 4).cells
        if cell.cell_type == "code"
        for out in cell.outputs
        if out.output_type == "error"
    ]
    assert errors[0].ename == "InvalidInput"


@pytest.mark.full
def test_ten_kills_cost_at_most_the_group_in_flight(plain, tmp_path):
    started, moments, kills = time.monotonic(), random.Random(10), []
    for i in range(10):
        home, after = (
            tmp_path / f"killed{i}",
            moments.uniform(0.1, 1.0) * float((plain / "seconds").read_text()),
        )
        kept, orphans = kill(home, TINY, after)
        done = batch(home, "reproduce", TINY)
        assert done.returncode == 0, done.stderr
        kills.append(cost(home, plain, kept, orphans, after))
        pd.testing.assert_frame_equal(timeless(home), timeless(plain))
        shutil.rmtree(home)
    assert [(k.duplicated, k.orphans, k.differing) for k in kills] == [(0, 0, 0)] * 10
    with Store(plain / "data/evaluations.sqlite") as store:
        largest = store.table()["seconds"].value_counts().max()  # a group shares its seconds
    assert max(k.lost for k in kills) <= largest
    count = Count(
        "make reproduce killed (SIGKILL, the process group) and started again",
        len(kills),
        failed=0,
        lost=max(k.lost for k in kills),
        seconds=time.monotonic() - started,
        note=f"{sum(k.kept > 0 for k in kills)} of them after the first training; the largest "
        f"group holds {largest} trainings",
    )
    record("workflow", [count], seed=10)


def test_two_runs_in_one_home_do_not_meet(home, capsys):
    import fcntl

    (home / "build").mkdir()
    with (home / "build/reproduce.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(["reproduce", "smoke"]) == 1
    assert "Another make reproduce is at work" in capsys.readouterr().err


OUTPUTS = [
    Output(Path("data/results/t/02_mask_database/reach.csv"), "mask_database", "02", "fresh"),
    Output(
        Path("data/results/t/05_baselines/calibrated_table1.csv"),
        "baselines",
        "05",
        "stale",
        "an input changed",
    ),
    Output(Path("data/results/t/05_baselines/calibrated_table1.json"), "baselines", "05", "fresh"),
    Output(Path("figures/t/05_calibrated_table1.pdf"), "baselines", "05", "missing"),
    Output(Path("docs/executed/05_calibrated.ipynb"), "baselines", "05", "fresh"),
]


@pytest.mark.parametrize(
    ("only", "chosen"),
    [
        ("", [0, 1, 2, 3, 4]),
        ("table1", [1, 2, 3]),
        ("02", [0]),
        ("database", [0]),
        ("baselines", [1, 2, 3, 4]),
        ("reach.csv", [0]),
        ("05_calibrated.ipynb", [4]),
        ("data/results/t/05_baselines/calibrated_table1.csv", [1]),
    ],
)
def test_only_names_a_notebook_a_rule_a_table_or_a_figure(only, chosen):
    assert select(OUTPUTS, only) == [OUTPUTS[i] for i in chosen]


@pytest.mark.parametrize("only", ["table9", "1", "able1", "7", "notebook"])
def test_an_unknown_name_ends_in_one_line_with_those_that_there_are(only):
    with pytest.raises(InvalidInput) as error:
        select(OUTPUTS, only)
    assert "\n" not in str(error.value)
    assert repr(only) in str(error.value)
    assert "02, 05" in str(error.value)
    assert "baselines, mask_database" in str(error.value)


CELL = Output(Path("figures/t/05_calibrated_s0.60_table1.pdf"), "baselines_cell", "05", "missing")


@pytest.mark.parametrize(
    ("wanted", "asked"),
    [
        ([CELL, *OUTPUTS], OUTPUTS),
        ([CELL, OUTPUTS[0]], [CELL, OUTPUTS[0]]),  # of another notebook
        ([CELL], [CELL]),
    ],
)
def test_files_of_a_cell_are_asked_for_by_name_only_without_the_whole_table(wanted, asked):
    assert targets(wanted) == asked


def test_the_status_has_a_paragraph_a_notebook_and_a_line_a_table():
    assert render(OUTPUTS).splitlines() == [
        "notebook 02",
        "  fresh   data/results/t/02_mask_database/reach.csv",
        "",
        "notebook 05",
        "  stale   data/results/t/05_baselines/calibrated_table1.csv|json  (an input changed)",
        "  missing figures/t/05_calibrated_table1.pdf",
        "  fresh   docs/executed/05_calibrated.ipynb",
        "",
        "3 files fresh, 1 files stale, 1 files missing.",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["status", "smokey"], "no profile 'smokey'; there are paper, smoke"),
        (["reproduce", __file__], "no YAML file with a line 'run: NAME'"),
    ],
)
def test_a_wrong_profile_ends_in_one_line(home, capsys, arguments, message):
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_damaged_record_is_refused(home):
    for text in ("{", "[1]", '[{"outputs": {"a": "b"}}]', '[{"outputs": []}]'):
        (home / "a").write_text("x")
        (home / "workflow.json").write_text(
            text.replace(
                '"b"', '"2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"'
            )
        )
        with pytest.raises(Exception, match="is damaged") as error:
            snakemake_record.adopt(home / "workflow.json")
        assert type(error.value).__name__ == "BogpError"


def test_what_a_notebook_computes_changes_its_digest_and_nothing_else_does(home):
    def digest(*sources: str, **more) -> str:
        nbformat.write(
            new_notebook(cells=[new_code_cell(source, **more) for source in sources]),
            home / "n.ipynb",
        )
        return code_digest(home / "n.ipynb")

    first = digest("x = f(1,\n      2)  # why")
    assert digest("# another\nx = f(1, 2)", execution_count=3) == first
    assert digest("x = f(1, 3)") != first
    assert digest("x = f(1, 2)", "y = 1") != first
    assert digest("if a:\n    b()\n    c()") != digest("if a:\n    b()\nc()")


def test_the_committed_results_are_recorded_as_their_executed_copies_say():
    """What ``workflow.json`` says of each notebook's parameters and code stands in its committed
    executed copy.
    """
    checked = 0
    for job in json.loads((ROOT / "data/results/paper/workflow.json").read_text()):
        for name in job["outputs"]:
            if name.endswith(".ipynb"):
                cells = nbformat.read(ROOT / name, 4).cells
                (injected,) = [
                    cell.source
                    for cell in cells
                    if "injected-parameters" in cell.metadata.get("tags", [])
                ]
                given: dict = {}
                exec(injected, given)
                (recorded,) = [
                    json.loads(text[1:-1]) for text in job["params"] if text.startswith("'{")
                ]
                assert {key: given[key] for key in recorded} == recorded
                assert repr(code_digest(ROOT / name)) in job["params"]
                checked += 1
    assert checked == len(list((ROOT / "docs/executed").glob("*.ipynb")))
