"""The four lists of packages say the same: pyproject.toml, requirements.lock, environment.yml, and
what is installed.
"""

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
CONDA_NAMES = {"pytorch": "torch", "python-igraph": "igraph"}


COMPATIBILITY = "compatibility"  # the extra that has an environment of its own
# extras of what is also looked at where somebody installed it: by benchmarks, and notebooks 09, 17
NOT_LOCKED = ("peers", "tables", "optuna")


def declared() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].items()
    lists = [
        project["dependencies"],
        *(each for name, each in extras if name not in (COMPATIBILITY, *NOT_LOCKED)),
    ]
    return {canonicalize_name(r.name): r for each in lists for r in map(Requirement, each)}


def locked(name: str = "requirements.lock") -> dict[str, Version]:
    lines = [
        line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")
    ]
    assert all("==" in line for line in lines), "the lock holds exact versions only"
    return {
        canonicalize_name(name): Version(version)
        for name, version in (line.split("==") for line in lines)
    }


def test_lock_satisfies_pyproject():
    lock = locked()
    for name, requirement in declared().items():
        assert name in lock, f"{name} is declared but not locked"
        assert requirement.specifier.contains(lock[name]), (
            f"{name} {lock[name]} is outside {requirement.specifier}"
        )


def test_the_compatibility_table_has_a_lock_of_its_own_with_the_same_torch():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock, ours = locked("requirements-compatibility.lock"), locked()
    for requirement in map(Requirement, project["optional-dependencies"][COMPATIBILITY]):
        assert requirement.specifier.contains(lock[canonicalize_name(requirement.name)])
    for name in ("torch", "numpy", "pandas", "networkx", "sympy", "hypothesis", "pytest"):
        assert lock[name] == ours[name], name


def test_lock_is_closed():
    """Every locked package's own requirements are locked too, so that nothing is resolved at
    install time.
    """
    lock = locked()
    for name in lock:
        for text in metadata.requires(name) or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                assert canonicalize_name(requirement.name) in lock, (
                    f"{name} needs {requirement.name}, which is not locked"
                )


def test_environment_yml_lists_the_same_packages_and_bounds_with_a_reason_each():
    text = (ROOT / "environment.yml").read_text()
    entries = [
        Requirement(e)
        for e in yaml.safe_load(text)["dependencies"]
        if not re.match(r"(python|pip)\b(?!-)", e)
    ]
    conda = {canonicalize_name(CONDA_NAMES.get(r.name, r.name)): r.specifier for r in entries}
    assert conda == {name: r.specifier for name, r in declared().items()}
    lines = [
        line
        for line in text.splitlines()
        if line.startswith("  - ") and not re.match(r"  - (conda-forge|python>)", line)
    ]
    assert all("#" in line for line in lines), "each package has its reason"


def test_installed_versions_are_the_locked_ones():
    for name, version in locked().items():
        assert Version(metadata.version(name)).public == version.public, name


@pytest.mark.parametrize("heavy", ["torch", "papermill", "skopt", "pandas", "matplotlib"])
def test_import_bogp_is_light(heavy):
    code = f"import bogp, sys; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_away_from_the_cpus_float32_training_needs_numpy_and_torch_only():
    # Stands for a bare machine with a GPU: what is not installed there cannot be imported here.
    code = """
import sys
absent = "pandas scipy numba threadpoolctl networkx skopt sklearn matplotlib pyarrow pooch"
for name in absent.split():
    sys.modules[name] = None  # importing it now fails
import numpy as np
from bogp.training import engine
from bogp.datasets import Dataset, Split
from bogp.training.protocols import Protocol
rng = np.random.default_rng(0)
images = rng.integers(0, 256, (40, 20), dtype=np.uint8)
part = Split(images, rng.integers(0, 10, 40, dtype=np.uint8))
protocol = Protocol("small", widths=(20, 8, 8, 10), batch_size=10, steps=3)
data = Dataset("noise", part, part, part)
result = engine.train([(None,) * 3], [0], protocol, data, precision="bfloat16")
assert result.loss.shape == (1, 3) and np.isfinite(result.loss).all()
"""
    result = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
