"""The doctor on machines where something is missing, damaged or forbidden."""

import json
import os
import re
import socket
import stat
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest

import bogp
from bogp import datasets
from bogp.__main__ import main
from bogp.workflow import doctor
from bogp.workflow.doctor import Finding

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def no_network(monkeypatch):
    """Whoever tries to reach another machine fails the test."""
    import pooch

    def refuse(*_, **__):
        raise AssertionError("the doctor must not download")

    for owner, name in (
        (pooch, "retrieve"),
        (pooch.HTTPDownloader, "__call__"),
        (socket.socket, "connect"),
        (socket, "getaddrinfo"),
    ):
        monkeypatch.setattr(owner, name, refuse)


def test_here_all_is_well_and_looking_leaves_nothing_behind(home, no_network, capsys):
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "\nproblem" not in text
    assert "Ready: `make reproduce`" in text
    for name in ("Python", "packages", "data set mnist-5k", "data/", "figures/", "kernel", "GPU"):
        assert f" {name} " in text
    assert re.search("^warning  data set mnist .*not here: train-images", text, re.M)
    assert list(home.iterdir()) == []


def test_with_a_bare_python_every_check_still_answers_in_json(home):
    code = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in sys.stdlib_module_names | {"bogp"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
from importlib import metadata
metadata.distributions = lambda: []
from bogp.__main__ import main
sys.exit(main(["doctor", "--json"]))
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"BOGP_HOME": str(home), "PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 1 and not result.stderr, result.stderr
    answer = json.loads(result.stdout)
    assert (answer["version"], answer["status"]) == (bogp.__version__, "problem")
    checks = {check["name"]: check for check in answer["checks"]}
    for package, name in (
        ("torch", "GPU"),
        ("numpy", "data set mnist"),
        ("jupyter_client", "kernel"),
    ):
        assert checks[name]["found"] == f"{package} cannot be imported"
        assert "-m pip install -r requirements.lock" in checks[name]["todo"]
    assert "numpy missing (locked: " in checks["packages"]["found"]
    assert {checks[name]["status"] for name in ("Python", "data/", "figures/")} == {"ok"}


def test_python_that_is_too_old_is_all_that_is_said(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 2, "final", 0))
    findings = doctor.examine()
    assert list(findings) == ["Python"]
    assert findings["Python"].status == "problem"
    assert "make setup PYTHON=python3.11" in findings["Python"].todo
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert needed == f">={'.'.join(map(str, doctor.OLDEST_PYTHON))}"


@pytest.mark.parametrize(
    ("lock", "status", "text"),
    [
        ("numpy=={numpy}\n", "ok", "all 1 as in"),
        ("# a remark\nNumPy=={numpy}+cpu\n", "ok", "all 1 as in"),
        ("numpy==0.0.1\nscipy=={scipy}\n", "warning", "numpy {numpy} (locked: 0.0.1)"),
        ("numpy=={numpy}\nno-such==1.2\n", "problem", "no-such missing (locked: 1.2)"),
    ],
)
def test_packages_are_held_against_the_lock(tmp_path, lock, status, text):
    from importlib import metadata

    versions = {name: metadata.version(name) for name in ("numpy", "scipy")}
    (tmp_path / "requirements.lock").write_text(lock.format(**versions))
    result = doctor.packages(tmp_path)
    assert result.status == status
    assert text.format(**versions) in result.found
    assert ("pip install -r requirements.lock" in result.todo) == (status != "ok")


def test_without_the_repository_that_is_said():
    assert doctor.packages(None).status == "warning" and "Clone" in doctor.packages(None).todo


def test_every_data_set_is_looked_for():
    assert (*datasets.NAMES, "cifar10-12k", "wikitext-2") == doctor.DATA_SETS


def test_a_damaged_data_file_is_named_with_what_to_do(home, monkeypatch, no_network):
    monkeypatch.setenv("BOGP_DATA_DIR", str(home / "own"))
    path = home / "own" / "mnist" / "train-images-idx3-ubyte"
    path.parent.mkdir(parents=True)
    header = bytes([0, 0, 8, 3, 0, 0, 234, 96, 0, 0, 0, 28, 0, 0, 0, 28])  # of 60,000 images
    path.write_bytes(header + bytes(1000))
    result = doctor.data_set("mnist")
    assert result.status == "problem"
    assert str(path) in result.todo and "1,016 bytes where" in result.todo

    assert "BOGP_DATA_DIR" in doctor.data_set("cifar10-12k").todo
    for name in ("valid", "test"):
        assert doctor.data_set("wikitext-2").status == "warning"
        path = home / "own" / "wikitext-2" / f"{name}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(" = Something else = \n")
    assert doctor.data_set("wikitext-2").status == "problem"


def test_what_breaks_a_check_is_a_problem_and_the_others_are_still_made(home, monkeypatch, capsys):
    def broken():
        raise RuntimeError("something\nunheard of")

    monkeypatch.setenv("BOGP_DATA_DIR", str(home / "nowhere"))
    monkeypatch.setattr(doctor, "kernel", broken)
    assert doctor.main(as_json=True) == 1
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["kernel"]["found"] == r"RuntimeError('something\nunheard of')"
    assert checks["data set mnist"]["status"] == "problem"
    assert "nowhere" in checks["data set mnist"]["todo"]
    assert checks["data set mnist-5k"]["status"] == checks["GPU"]["status"] == "ok"


def test_a_home_that_may_not_be_written_is_a_problem():
    home = Path(
        tempfile.mkdtemp()
    )  # not under pytest's own folder, which others may not even enter
    home.chmod(stat.S_IRUSR | stat.S_IXUSR | stat.S_IROTH | stat.S_IXOTH)
    root = os.geteuid() == 0
    try:
        if root:  # who may write everywhere
            os.seteuid(65534)
        try:
            result = doctor.write_access(home / "figures")
        finally:
            if root:
                os.seteuid(0)
        assert result.status == "problem"
        assert "Permission denied" in result.found
        assert str(home) in result.todo and "BOGP_HOME" in result.todo
    finally:
        home.rmdir()


def test_a_file_where_a_folder_should_be_is_a_problem(home):
    (home / "data").write_text("")
    assert doctor.write_access(home / "data").status == "problem"
    assert doctor.write_access(home / "figures" / "below").status == "ok"


def test_a_kernel_of_another_python_or_none_is_a_problem(home, monkeypatch):
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    assert doctor.kernel().status == "ok"
    spec = {"argv": ["/elsewhere/python", "-m", "ipykernel_launcher"], "display_name": "x"}
    path = home / "kernels" / "python3" / "kernel.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(spec | {"language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(home))
    other = doctor.kernel()
    assert other.status == "problem"
    assert "/elsewhere/python" in other.found and "ipykernel install" in other.todo

    def none(self, name):
        raise NoSuchKernel(name)

    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", none)
    assert doctor.kernel().status == "problem" and "ipykernel install" in doctor.kernel().todo


def test_a_gpu_is_named(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Imagined 3000")
    assert doctor.gpu().found.startswith("Imagined 3000")


def test_the_report_has_each_cure_below_what_it_cures():
    findings = {"a": Finding("ok", "fine"), "bb": Finding("problem", "no", "Mend.")}
    lines = ["ok       a   fine", "problem  bb  no", "             -> Mend."]
    assert doctor.report(findings).splitlines() == lines


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
