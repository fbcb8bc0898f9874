import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import tomllib
from collections import namedtuple
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

import bogp
from bogp import datasets, paths
from bogp.__main__ import main
from bogp.workflow import doctor, machine, readiness
from bogp.workflow.readiness import Finding

ROOT = Path(__file__).resolve().parents[2]
IMAGES = "train-images-idx3-ubyte"


@pytest.fixture
def no_network(monkeypatch):
    """Whoever tries to reach another machine fails the test."""
    import pooch

    def refuse(*_, **__):
        raise AssertionError("the doctor must not download")

    for owner, name in ((pooch, "retrieve"), (pooch.HTTPDownloader, "__call__"), (socket.socket, "connect"), (socket, "getaddrinfo")):
        monkeypatch.setattr(owner, name, refuse)


def run(prelude: str, *words: str, home: Path) -> subprocess.CompletedProcess:
    """``python -m bogp`` in a process of its own, after some lines that make it another machine."""
    code = f"import sys\n{prelude}\nfrom bogp.__main__ import main\nsys.exit(main({list(words)!r}))"
    environment = os.environ | {"BOGP_HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=environment, cwd=home)


def found(findings: list[Finding]) -> dict[str, Finding]:
    return {f.name: f for f in findings}


def test_here_all_is_well_and_looking_leaves_nothing_behind(home, no_network, capsys):
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "\nproblem" not in text
    assert "0 problems" in text and "make reproduce" in text
    for name in (
        "Python",
        "packages",
        "cores",
        "memory",
        "PyTorch",
        "precision",
        "GPU",
        "numba",
        "data set fashion-mnist",
        "data/",
        "figures/",
        "disk",
        "kernel",
    ):
        assert f" {name} " in text
    assert text.count("checksums right") >= 1  # mnist-5k needs no download
    assert list(home.iterdir()) == []


def test_full_mnist_that_is_not_here_is_no_problem_and_not_downloaded(home, no_network):
    result = readiness.data_set("mnist")
    assert (result.status, result.found) == ("warning", "not here: all")
    assert "BOGP_DATA_DIR" in result.todo


def test_without_torch_the_rest_is_checked_and_the_json_can_be_read(home):
    result = run("sys.modules['torch'] = None", "doctor", "--json", home=home)
    assert result.returncode == 1, result.stderr
    answer = json.loads(result.stdout)
    assert (answer["version"], answer["status"]) == (bogp.__version__, "problem")
    by_name = {check["name"]: check for check in answer["checks"]}
    for name in ("PyTorch", "precision", "GPU"):
        assert by_name[name]["status"] == "problem"
        assert "torch cannot be imported" in by_name[name]["found"]
        assert "-m pip install -r requirements.lock" in by_name[name]["todo"]
    assert {check["status"] for name, check in by_name.items() if name not in ("PyTorch", "precision", "GPU")} <= {"ok", "warning"}


def test_with_a_bare_python_every_check_still_answers(home):
    hide = """
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in sys.stdlib_module_names | {"bogp"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
from importlib import metadata
metadata.Distribution.from_name = classmethod(lambda cls, name: (_ for _ in ()).throw(metadata.PackageNotFoundError(name)))
"""
    (home / "data").mkdir()
    (home / "data" / "evaluations.sqlite").touch()
    result = run(hide, "doctor", home=home)
    assert result.returncode == 1 and not result.stderr, result.stderr
    lines = result.stdout.splitlines()
    for package, name in (
        ("torch", "PyTorch"),
        ("numba", "numba"),
        ("numpy", "data set mnist"),
        ("jupyter_client", "kernel"),
        ("pandas", "evaluations"),
    ):
        assert any(line.startswith("problem") and f" {name} " in line and f"{package} cannot be imported" in line for line in lines), name
    words = " ".join(result.stdout.split())  # wherever lines were broken
    assert "0 of 2" in words and "missing: " in words, words  # of 200 and some packages
    assert sum("pip install" in line for line in lines) == 1  # one cure, said once
    for name in ("Python", "cores", "memory", "data/", "disk", "notebooks"):
        assert any(line.startswith("ok") and f" {name} " in line for line in lines), name


def test_python_that_is_too_old_is_all_that_is_said(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 2, "final", 0))
    (only,) = doctor.examine()
    assert (only.name, only.status) == ("Python", "problem")
    assert "make setup PYTHON=python3.11" in only.todo
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert needed == f">={'.'.join(map(str, readiness.OLDEST_PYTHON))}"


@pytest.mark.parametrize(
    "lock, status, text",
    [
        ("numpy=={numpy}\n", "ok", "1 of 1 as in"),
        ("# a remark\nnumpy=={numpy}+cpu\n", "ok", "1 of 1 as in"),
        ("numpy==0.0.1\nscipy=={scipy}\n", "warning", "1 of 2 as in requirements.lock; other versions: numpy {numpy} (locked: 0.0.1)"),
        ("numpy=={numpy}\nno-such-package==1.2\n", "problem", "missing: no-such-package 1.2"),
        (
            "numpy==0.0.1\nno-such-package==1.2\n",
            "problem",
            "0 of 2 as in requirements.lock; missing: no-such-package 1.2; other versions: numpy",
        ),
    ],
)
def test_packages_are_held_against_the_lock(tmp_path, lock, status, text):
    from importlib import metadata

    versions = {name: metadata.version(name) for name in ("numpy", "scipy")}
    (tmp_path / "requirements.lock").write_text(lock.format(**versions))
    result = readiness.packages(tmp_path)
    assert result.status == status
    assert text.format(**versions) in result.found
    assert ("pip install -r requirements.lock" in result.todo) == (status != "ok")


def test_without_the_repository_that_is_said():
    for check in (readiness.code_version, readiness.packages, readiness.notebooks):
        result = check(None)
        assert result.status == "warning" and "lone" in result.todo


def test_the_commit_and_changes_are_told_and_no_git_is_a_warning(tmp_path, monkeypatch):
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@y", "-C", str(tmp_path)]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    assert readiness.code_version(tmp_path).found == f"bogp {bogp.__version__} at commit {commit[:10]}"
    (tmp_path / "new").touch()
    assert "1 file changed since" in readiness.code_version(tmp_path).found
    monkeypatch.setenv("PATH", "")
    without = readiness.code_version(tmp_path)
    assert without.status == "warning" and "git" in without.found


@pytest.mark.parametrize("quota, status", [(None, "ok"), (4.0, "ok"), (2.5, "warning"), (0.5, "warning")])
def test_a_containers_share_of_the_processor(monkeypatch, quota, status):
    monkeypatch.setattr(machine, "usable_cores", lambda: [4, 5, 6, 7])
    monkeypatch.setattr(machine, "processor_quota", lambda: quota)
    result = readiness.cores()
    assert result.status == status and "4 usable" in result.found
    assert result.todo == "" or f"taskset -c {'4,5' if quota == 2.5 else '4'} make" in result.todo


@pytest.mark.parametrize(
    "free, status, words", [(50_000, "ok", []), (1_500, "warning", ["paper profile wants 2.0 GiB"]), (500, "problem", ["smoke", "paper"])]
)
def test_too_little_memory_names_the_profiles_that_want_more(monkeypatch, free, status, words):
    monkeypatch.setattr(machine, "memory", lambda: (64_000, free))
    result = readiness.memory()
    assert result.status == status
    assert all(word in result.todo for word in words) and bool(result.todo) == bool(words)


def test_what_the_profiles_are_said_to_need_is_more_than_they_were_measured_to_take():
    tables = (ROOT / "data" / "results" / "paper").rglob("0*/**/*.csv")
    peaks = [json.loads(path.with_suffix(".json").read_text())["peak_memory_mib"] for path in tables]
    assert len(peaks) > 20
    assert max(peaks) < readiness.MEMORY_MIB["paper"]


@pytest.mark.parametrize("mib, status", [(100_000, "ok"), (700, "warning"), (20, "problem")])
def test_too_little_disk(home, monkeypatch, mib, status):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, mib * 2**20))
    result = readiness.disk(home / "not" / "yet")
    assert result.status == status and str(home) in result.found
    assert ("BOGP_HOME" in result.todo) == (status != "ok")


def test_a_gpu_is_named_and_one_that_torch_cannot_use_is_a_warning(tmp_path, monkeypatch):
    import torch

    driver = tmp_path / "driver"
    assert readiness.gpu(driver).status == "ok"
    driver.touch()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert readiness.gpu(driver).status == "warning" and "CUDA build of PyTorch" in readiness.gpu(driver).todo
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: "Imagined 3000")
    assert readiness.gpu(driver).status == "ok" and "2 x Imagined 3000" in readiness.gpu(driver).found


def test_precision_is_what_auto_resolves_to(monkeypatch):
    from bogp.training import engine

    for amx, resolved in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(engine, "has_amx", lambda amx=amx: amx)
        assert readiness.precision().found.startswith(f"auto is {resolved}")


def test_a_compiler_that_is_switched_off_is_a_warning(monkeypatch):
    import numba

    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert readiness.compiler().status == "warning" and "NUMBA_DISABLE_JIT" in readiness.compiler().todo


def test_every_data_set_is_looked_for():
    assert (*datasets.NAMES, "cifar10-12k", "wikitext-2") == doctor.DATA_SETS


def test_data_sets_of_structural_pruning_that_are_missing_or_damaged_are_named(home, monkeypatch):
    folder = home / "own" / "wikitext-2"
    folder.mkdir(parents=True)
    monkeypatch.setenv("BOGP_DATA_DIR", str(home / "own"))
    assert readiness.data_set("cifar10-12k").status == "warning" and "BOGP_DATA_DIR" in readiness.data_set("cifar10-12k").todo
    (folder / "valid.txt").write_text(" = Something else = \n")
    assert readiness.data_set("wikitext-2").status == "warning"
    (folder / "test.txt").write_text(" = Something else = \n")
    assert readiness.data_set("wikitext-2").status == "problem" and "valid.txt" in readiness.data_set("wikitext-2").todo


def test_a_damaged_data_file_is_named_with_what_to_do(home, monkeypatch, no_network):
    path = home / "own" / "mnist" / IMAGES
    path.parent.mkdir(parents=True)
    path.write_bytes(
        bytes([0, 0, 8, 3, 0, 0, 234, 96, 0, 0, 0, 28, 0, 0, 0, 28]) + bytes(1000)
    )  # the header of 60,000 images, and one and a bit
    monkeypatch.setenv("BOGP_DATA_DIR", str(home / "own"))
    result = readiness.data_set("mnist")
    assert result.status == "problem"
    assert str(path) in result.todo and "1,016 bytes where" in result.todo and "unset BOGP_DATA_DIR" in result.todo


def test_a_data_dir_that_is_no_folder_is_a_problem_of_the_report(home, monkeypatch):
    monkeypatch.setenv("BOGP_DATA_DIR", str(home / "nowhere"))
    findings = found(doctor.examine())
    assert findings["data set mnist"].status == "problem" and "nowhere" in findings["data set mnist"].todo
    assert findings["data set mnist-5k"].status == "ok"


def test_a_home_that_may_not_be_written_is_a_problem():
    home = Path(tempfile.mkdtemp())  # not under pytest's own folder, which others may not even enter
    home.chmod(stat.S_IRUSR | stat.S_IXUSR | stat.S_IROTH | stat.S_IXOTH)
    root = os.geteuid() == 0
    try:
        if root:  # who may write everywhere
            os.seteuid(65534)
        try:
            result = readiness.write_access(home / "figures")
        finally:
            if root:
                os.seteuid(0)
        assert result.status == "problem" and result.name == "figures/"
        assert "Permission denied" in result.found and str(home) in result.todo and "BOGP_HOME" in result.todo
    finally:
        home.rmdir()


def test_a_file_where_a_folder_should_be_is_a_problem(home):
    (home / "data").write_text("")
    assert readiness.write_access(home / "data").status == "problem"
    assert readiness.write_access(home / "data" / "below").status == "problem"
    assert "will be made" in readiness.write_access(home / "figures").found


def store_of(path, rows):
    from bogp.training.store import COLUMNS, Store

    kinds = {"TEXT": str, "INTEGER": int, "REAL": float}
    with Store(path) as store:
        store.add([{name: kinds[kind.split()[0]](i) for name, kind in COLUMNS.items()} for i in range(rows)])


def test_evaluations_are_counted_and_a_store_that_is_not_there_is_not_made(home):
    path = paths.store_path()
    assert readiness.evaluations(path).status == "ok" and not path.exists()
    store_of(path, 1200)
    assert "1,200 in" in readiness.evaluations(path).found


@pytest.mark.parametrize("damage", ["garbage", "a page", "cut"])
def test_a_damaged_store_is_named_with_what_to_do(home, damage):
    path = paths.store_path()
    store_of(path, 1200)
    content = path.read_bytes()
    spoilt = {"garbage": b"no database " * 1000, "a page": content[:40_960] + b"\xff" * 4096 + content[45_056:], "cut": content[:40_960]}
    path.write_bytes(spoilt[damage])
    result = readiness.evaluations(path)
    assert result.status == "problem" and str(path) in result.todo


def test_a_kernel_of_another_python_or_none_is_a_problem(home, monkeypatch):
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    assert readiness.kernel().status == "ok"
    spec = home / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": ["/elsewhere/python", "-m", "ipykernel_launcher"], "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(home))
    other = readiness.kernel()
    assert other.status == "problem" and "/elsewhere/python" in other.found and "ipykernel install" in other.todo

    def none(self, name):
        raise NoSuchKernel(name)

    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", none)
    assert readiness.kernel().status == "problem" and "ipykernel install" in readiness.kernel().todo


def test_notebooks_that_are_damaged_or_stopped_are_named(tmp_path):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    good, stopped = (
        new_notebook(cells=[new_code_cell("1", outputs=[o])]) for o in (new_output("stream", text="1"), new_output("error", ename="E"))
    )
    nbformat.write(good, folder / "01_good.ipynb")
    assert readiness.notebooks(tmp_path).status == "ok"
    nbformat.write(stopped, folder / "02_stopped.ipynb")
    result = readiness.notebooks(tmp_path)
    assert result.status == "warning" and "02_stopped.ipynb" in result.found and "01_good" not in result.found
    (folder / "03_cut.ipynb").write_bytes((folder / "01_good.ipynb").read_bytes()[:-20])
    result = readiness.notebooks(tmp_path)
    assert result.status == "problem" and "03_cut.ipynb" in result.found and "git checkout notebooks/03_cut.ipynb" in result.todo


def test_a_check_that_breaks_is_a_problem_and_the_others_are_still_made(home, monkeypatch, capsys):
    def broken():
        raise RuntimeError("something\nunheard of")

    monkeypatch.setattr(readiness, "cores", broken)
    assert doctor.main(as_json=True) == 1
    by_name = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert by_name["cores"]["found"] == "RuntimeError: something unheard of"
    assert by_name["memory"]["status"] == "ok"


def test_the_report_says_what_is_urgent_first_and_keeps_to_its_width():
    findings = [
        Finding("a", "ok", "fine"),
        Finding("b", "warning", "slow " * 30, "Wait."),
        Finding("cc", "problem", "no", "Mend."),
        Finding("d", "problem", "no", "Mend."),
    ]
    text = doctor.report(findings, width=60)
    assert max(map(len, text.splitlines())) <= 60
    assert text.index("- cc, d: Mend.") < text.index("- b: Wait.")
    assert text.endswith("2 problems and 1 warning; solve the problems first.")
    assert [line.split()[0] for line in text.splitlines()[:2]] == ["ok", "warning"]


def test_without_a_command_it_says_what_there_is(capsys):
    assert main([]) == 0
    assert "doctor" in capsys.readouterr().out
    with pytest.raises(SystemExit) as refused:
        main(["docter"])
    assert refused.value.code == 2 and "doctor" in capsys.readouterr().err


def test_the_first_minutes_name_only_commands_that_there_are():
    text = (ROOT / "docs" / "first_minutes.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.M))
    assert {"doctor", "reproduce", "lab", "help"} <= named <= targets
