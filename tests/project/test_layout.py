"""The house: which room imports from which, how many modules lie in one, and what an import
costs.
"""

import ast
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "bogp").rglob("*.py"))
# What each room may import beside its own modules and the ground. Arrows go down; nothing but
# notebooks, docs, tests and benchmarks imports studies.
ALLOWED = {
    "ground": set(),
    "graphs": set(),
    "training": {"graphs"},
    "search": {"graphs", "training"},
    "benchmark": {"graphs"},
    "structural": set(),
    "zoo": {"structural"},
    "workflow": {"training", "zoo"},
    "studies": {"graphs", "training", "search", "benchmark", "structural", "zoo"},
}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


NAMES = {name_of(path) for path in MODULES}


def room(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ALLOWED else "ground"


def imported(path: Path) -> set[str]:
    """The package's modules that a file imports, those inside functions included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {
                name if (name := f"{node.module}.{alias.name}") in NAMES else node.module
                for alias in node.names
            }
    return {name for name in found if name.split(".")[0] == "bogp"}


def test_arrows_go_down() -> None:
    for path in MODULES:
        if path.name in ("__main__.py", "run.py") and path.parent.name == "bogp":
            continue  # the commands stand above all rooms
        own = room(name_of(path))
        for name in imported(path):
            assert room(name) in ALLOWED[own] | {own, "ground"}, f"{name_of(path)} imports {name}"


def test_no_circles() -> None:
    arrows = {name_of(path): imported(path) - {name_of(path)} for path in MODULES}
    TopologicalSorter(arrows).prepare()  # raises CycleError


def test_no_room_is_full() -> None:
    full = {
        folder: count
        for folder, count in Counter(path.parent for path in MODULES).items()
        if count > 15
    }
    assert not full


def test_names_say_where() -> None:
    """A file name stands twice only where it is the same part of two studies, or of Python's
    making.
    """
    names = Counter(path.name for path in MODULES)
    twice = {name for name, count in names.items() if count > 1}
    assert twice <= {"__init__.py", "designs.py", "measure.py", "tables.py", "plots.py"}


@pytest.mark.parametrize("heavy", ["numpy", "pandas", "torch", "matplotlib", "networkx"])
def test_import_is_light(heavy: str) -> None:
    code = f"import sys, bogp; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_doors() -> None:
    """What README and CONTRIBUTING import in one line."""
    from bogp import structural

    assert all(
        callable(getattr(structural, name))
        for name in ("capture", "remove", "importances", "removal_order")
    )
