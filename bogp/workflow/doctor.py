"""Is this machine ready for bogp, and if not, what is to be done? ``python -m bogp doctor``.

Each check is a function that looks at one thing and returns a ``Finding``; none downloads, installs
or trains. Packages are imported inside the checks, so that the others work where one is missing.
"""

from __future__ import (
    annotations,
)  # Python too old for the package can read this file, and is told so

import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

import bogp
from bogp.errors import BogpError, DatasetError

OLDEST_PYTHON = (3, 11)
DATA_SETS = ("mnist-5k", "mnist", "fashion-mnist", "cifar10-12k", "wikitext-2")
STATUSES = ("ok", "warning", "problem")
INSTALL = f"`{sys.executable} -m pip install -r requirements.lock` in the repository's folder."


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        status: ``ok``; ``warning``: bogp works, but not with everything; ``problem``: it will fail.
        found: what is there.
        todo: what to do about it; empty where all is well.
    """

    status: str
    found: str
    todo: str = ""


def examine() -> dict[str, Finding]:
    """Look at everything: about three seconds, most of it the import of PyTorch."""
    python = python_version()
    if python.status == "problem":  # the other modules cannot be read by it
        return {"Python": python}

    from bogp import paths

    checks: dict[str, Callable[[], Finding]] = {
        "packages": partial(packages, paths.checkout()),
        **{f"data set {name}": partial(data_set, name) for name in DATA_SETS},
        **{f"{name}/": partial(write_access, paths.home() / name) for name in ("data", "figures")},
        "kernel": kernel,
        "GPU": gpu,
    }
    return {"Python": python} | {name: _made(check) for name, check in checks.items()}


def _made(check: Callable[[], Finding]) -> Finding:
    """The finding of a check. One that breaks is a problem itself, and the others go on."""
    try:
        return check()
    except ImportError as error:
        return Finding("problem", f"{error.name or error} cannot be imported", INSTALL)
    except BogpError as error:
        return Finding("problem", "refused", str(error))
    except Exception as error:
        return Finding("problem", repr(error)[:200], "Not foreseen: please report it.")


def python_version() -> Finding:
    """Whether Python is new enough."""
    found = f"{'.'.join(map(str, sys.version_info[:3]))}, {sys.executable}"
    oldest = ".".join(map(str, OLDEST_PYTHON))
    todo = f"bogp needs {oldest} or newer; name one with `make setup PYTHON=python{oldest}`."
    new = sys.version_info[:2] >= OLDEST_PYTHON
    return Finding("ok", found) if new else Finding("problem", found, todo)


def packages(root: Path | None) -> Finding:
    """Which packages of ``requirements.lock`` in a folder are here, and in the locked version."""
    if root is None:
        return Finding(
            "warning",
            "no requirements.lock to compare with",
            "Clone the repository and run `make setup` there.",
        )
    lines = (root / "requirements.lock").read_text().split()
    locked = dict(line.lower().replace("_", "-").split("==") for line in lines if "==" in line)
    here = {d.name.lower().replace("_", "-"): d.version for d in metadata.distributions()}
    # What follows a plus, as in 2.9.1+cpu, says how a package was built.
    differ = [
        f"{name} {here.get(name, 'missing')} (locked: {version})"
        for name, version in locked.items()
        if here.get(name, "").split("+")[0] != version.split("+")[0]
    ]
    if not differ:
        return Finding("ok", f"all {len(locked)} as in requirements.lock")
    status = "warning" if locked.keys() <= here.keys() else "problem"
    return Finding(status, ", ".join(differ), INSTALL)


def data_set(name: str) -> Finding:
    """Whether a data set, one of ``DATA_SETS``, is here and undamaged, and where."""
    from bogp import datasets
    from bogp.zoo import cifar_wikitext

    own = name in datasets.NAMES
    try:
        files = datasets.check(name) if own else cifar_wikitext.check(name)
    except DatasetError as error:
        return Finding("problem", "damaged", str(error))
    folders = sorted({str(path.parent) for path in files.values() if path})
    if all(files.values()):
        return Finding("ok", f"checksums right, in {' and '.join(folders)}")
    todo = (
        "It is downloaded when first used, or taken from the folder that BOGP_DATA_DIR names."
        if own
        else "Put it into the folder that BOGP_DATA_DIR names; data/README.md says how."
    )
    missing = ", ".join(file for file, path in files.items() if path is None)
    return Finding("warning", f"not here: {missing}", f"The smoke profile does not need it. {todo}")


def write_access(folder: Path) -> Finding:
    """Whether results can be written to a folder; it need not exist yet, and is not made."""
    there = next(path for path in (folder, *folder.parents) if os.access(path, os.F_OK))
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".doctor-"):
            return Finding("ok", f"{folder} can be written")
    except OSError as error:
        return Finding(
            "problem",
            f"{folder} cannot be written ({error.strerror})",
            f"Get the right to write in {there}, or set BOGP_HOME to a folder of yours.",
        )


def kernel() -> Finding:
    """Whether Jupyter has the kernel that the notebooks name, and whether it runs this Python."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    todo = f"`{sys.executable} -m ipykernel install --sys-prefix --name python3` puts it right."
    try:
        runs = Path(KernelSpecManager().get_kernel_spec("python3").argv[0])
    except NoSuchKernel:
        return Finding("problem", "no kernel python3, which the notebooks name", todo)
    # A bare `python` is the one that runs Jupyter.
    if runs.is_absolute() and runs.parent != Path(sys.executable).parent:
        return Finding("problem", f"python3 runs {runs}, not this Python", todo)
    return Finding("ok", "python3 runs this Python")


def gpu() -> Finding:
    """Whether PyTorch can be imported and finds a CUDA device. None is needed."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none needed, none here"
    return Finding("ok", f"{device} (PyTorch {torch.__version__})")


def report(findings: Mapping[str, Finding]) -> str:
    """The findings for people: a line each, and below it what to do."""
    width = max(map(len, findings)) + 2
    return "\n".join(
        f"{one.status:9}{name:{width}}{one.found}"
        + (f"\n{'':{9 + width}}-> {one.todo}" if one.todo else "")
        for name, one in findings.items()
    )


def main(as_json: bool = False) -> int:
    """Print what was found, for people or as ``{"version", "status", "checks": [...]}`` in JSON.

    Returns:
        0, or 1 where something is a problem.
    """
    findings = examine()
    worst = max((one.status for one in findings.values()), key=STATUSES.index)
    checks = [{"name": name} | asdict(one) for name, one in findings.items()]
    whole = {"version": bogp.__version__, "status": worst, "checks": checks}
    todo = (
        "Solve the problems first."
        if worst == "problem"
        else "Ready: `make reproduce` runs the smoke profile."
    )
    print(json.dumps(whole, indent=2) if as_json else f"{report(findings)}\n\n{todo}")
    return int(worst == "problem")
