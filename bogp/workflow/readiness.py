"""One check for each thing that bogp needs of a machine; ``bogp.workflow.doctor`` makes them all and reports.

A check is a small function that looks at one thing and returns a ``Finding``; none downloads, installs or trains. Packages are imported
inside the checks, so that the others work where one is missing or broken.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import bogp
from bogp.errors import DatasetError, StoreError
from bogp.workflow import machine

OLDEST_PYTHON = (3, 11)
MEMORY_MIB = {"smoke": 1024, "paper": 2048}  # a notebook's kernel (its peak is in the provenance of every table), and what runs it
DISK_MIB = {"smoke": 200, "paper": 1024}  # all that a run writes takes under 100 MiB; the rest is room for data sets and failed runs

Status = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        name: of what was looked at.
        status: ``ok``; ``warning``: bogp works, but slower, or not with everything; ``problem``: something will fail.
        found: what is there.
        todo: what to do about it; empty where all is well.
    """

    name: str
    status: Status
    found: str
    todo: str = ""


def python_version(version: Sequence[int]) -> Finding:
    """Whether Python is new enough.

    Args:
        version: (major, minor, micro).
    """
    found = f"{'.'.join(map(str, version))}, {sys.executable}"
    if tuple(version[:2]) < OLDEST_PYTHON:
        needed = ".".join(map(str, OLDEST_PYTHON))
        todo = f"bogp needs Python {needed} or newer; name one with `make setup PYTHON=python{needed}`."
        return Finding("Python", "problem", found, todo)
    return Finding("Python", "ok", f"{found}, {platform.system()} {platform.machine()}")


def code_version(root: Path | None) -> Finding:
    """The package's version and git commit, which every table of results records.

    Args:
        root: the folder of the clone, or None.
    """
    name = f"bogp {bogp.__version__}"
    if root is None:
        todo = "Notebooks, profiles and the lock file come with the repository: clone it and run `make setup` there."
        return Finding("version", "warning", f"{name}, installed without its repository", todo)
    try:
        commit, changed = (
            subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True, timeout=20).stdout
            for words in (["rev-parse", "--short=10", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.SubprocessError) as error:
        reason = one_line(getattr(error, "stderr", "") or error)
        todo = "Results will not say which code made them: use a git clone."
        return Finding("version", "warning", f"{name}, commit unknown ({reason})", todo)
    n = len(changed.splitlines())
    return Finding("version", "ok", f"{name} at commit {commit.strip()}" + (f", {n} file{'s'[: n != 1]} changed since" if n else ""))


def packages(root: Path | None) -> Finding:
    """Which packages of requirements.lock are installed, and in the locked version.

    Args:
        root: the folder with ``requirements.lock``, or None.
    """
    if root is None:
        return Finding("packages", "warning", "no requirements.lock to compare with", "Clone the repository and run `make setup` there.")
    locked = dict(line.split("==") for line in (root / "requirements.lock").read_text().split() if "==" in line)
    missing, other = [], []
    for name, version in locked.items():
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(f"{name} {version}")
            continue
        if installed.split("+")[0] != version.split("+")[0]:  # a local part, as in 2.9.1+cpu, says how it was built
            other.append(f"{name} {installed} (locked: {version})")
    parts = [f"{len(locked) - len(missing) - len(other)} of {len(locked)} as in requirements.lock"]
    parts += [f"missing: {', '.join(missing)}"] if missing else []
    parts += [f"other versions: {', '.join(other)}"] if other else []
    status: Status = "problem" if missing else "warning" if other else "ok"
    return Finding("packages", status, "; ".join(parts), "" if status == "ok" else install())


def cores() -> Finding:
    """How many processor cores there are, how many this process may use, and for how much of the time."""
    usable, physical, quota = machine.usable_cores(), machine.physical_cores(), machine.processor_quota()
    found = f"{len(usable)} usable of {os.cpu_count()}" + (f" ({physical} physical)" if physical else "")
    if quota is None or quota >= len(usable):
        return Finding("cores", "ok", found)
    some = ",".join(map(str, usable[: max(1, int(quota))]))
    todo = f"bogp starts a thread a core, and here they would wait for each other: start it with `taskset -c {some} make reproduce`."
    return Finding("cores", "warning", f"{found}, but a container's limit leaves the time of {quota:g}", todo)


def memory() -> Finding:
    """Memory in all and available, beside what the profiles need."""
    total, free = machine.memory()
    status, todo = _enough(free, MEMORY_MIB, "Close other programs, or run on a machine with more.")
    return Finding("memory", status, f"{_gib(free)} available of {_gib(total)}", todo)


def pytorch() -> Finding:
    """Whether PyTorch can be imported, and how many threads it uses."""
    import torch

    return Finding("PyTorch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads")


def precision() -> Finding:
    """What the precision ``auto`` stands for on this processor."""
    from bogp.training import engine

    flags = machine.processor_flags()
    has = [f"{label} {'yes' if flag in flags else 'no'}" for label, flag in (("AMX", "amx_bf16"), ("AVX512-BF16", "avx512_bf16"))]
    return Finding("precision", "ok", f"auto is {engine.resolve_precision('auto')}" + (f" ({', '.join(has)})" if flags else ""))


def gpu(driver: Path = Path("/proc/driver/nvidia/version")) -> Finding:
    """Whether PyTorch finds a CUDA device. None is needed.

    Args:
        driver: the file by which an NVIDIA driver shows.
    """
    import torch

    if torch.cuda.is_available():
        names = sorted({torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())})
        return Finding("GPU", "ok", f"{torch.cuda.device_count()} x {', '.join(names)} (CUDA {torch.version.cuda})")
    if driver.exists():
        todo = f"To train on it, install a CUDA build of PyTorch {torch.__version__.split('+')[0]}; the CPU will do."
        return Finding("GPU", "warning", f"an NVIDIA driver, but PyTorch {torch.__version__} finds no CUDA device", todo)
    return Finding("GPU", "ok", "none; everything runs on the CPU")


def compiler() -> Finding:
    """Whether numba compiles loops here."""
    import numba

    if numba.config.DISABLE_JIT:
        return Finding("numba", "warning", "switched off", "Unset NUMBA_DISABLE_JIT: uncompiled, training takes hours.")
    return Finding("numba", "ok", f"{numba.__version__}, {numba.config.NUMBA_NUM_THREADS} threads")


def data_set(name: str) -> Finding:
    """Whether a data set is there, where, and undamaged.

    Args:
        name: one of ``bogp.datasets.NAMES``, or ``cifar10-12k`` or ``wikitext-2``.
    """
    from bogp import datasets
    from bogp.zoo import cifar_wikitext

    title = f"data set {name}"
    try:
        found = datasets.check(name) if name in datasets.NAMES else cifar_wikitext.check(name)
    except DatasetError as error:
        return Finding(title, "problem", "damaged", str(error))
    folders = sorted({str(path.parent) for path in found.values() if path})
    missing = [file for file, path in found.items() if path is None]
    if not missing:
        return Finding(title, "ok", f"checksums right, in {' and '.join(folders)}")
    if name in datasets.NAMES:
        todo = "The smoke profile does not need it. It is downloaded when first used, or taken from a folder of yours that BOGP_DATA_DIR names."
    else:
        todo = "Only notebooks 11 to 13 in the paper profile need it. Put it into a folder that BOGP_DATA_DIR names; data/README.md says what it is."
    return Finding(title, "warning", f"not here: {'all' if len(missing) == len(found) else ', '.join(missing)}", todo)


def write_access(folder: Path) -> Finding:
    """Whether results can be written.

    Args:
        folder: where to; it need not exist yet, and is not made.
    """
    there = _existing(folder)
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".doctor-") as file:
            file.write(b"may I?")
            file.flush()
    except OSError as error:
        todo = f"Give yourself the right to write in {there}, or set BOGP_HOME to a folder of yours."
        return Finding(f"{folder.name}/", "problem", f"{folder} cannot be written ({error.strerror})", todo)
    return Finding(f"{folder.name}/", "ok", f"{folder} can be written" + ("" if there == folder else ", and will be made"))


def disk(home: Path) -> Finding:
    """Free space where data and figures are written.

    Args:
        home: the folder that holds them; it need not exist yet.
    """
    there = _existing(home)
    free = shutil.disk_usage(there).free // 2**20
    status, todo = _enough(free, DISK_MIB, "Free some, or set BOGP_HOME to a folder on a larger disk.")
    return Finding("disk", status, f"{_gib(free)} free at {there}", todo)


def kernel() -> Finding:
    """Whether Jupyter has the kernel that the notebooks name, and which Python it runs."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    install = f"`{sys.executable} -m ipykernel install --sys-prefix --name python3` puts it right."
    try:
        runs = Path(KernelSpecManager().get_kernel_spec("python3").argv[0])
    except NoSuchKernel:
        return Finding("kernel", "problem", "Jupyter has no kernel python3, which the notebooks name", install)
    if runs.is_absolute() and runs.parent != Path(sys.executable).parent:  # a bare `python` is the one that runs Jupyter
        return Finding("kernel", "problem", f"python3 runs {runs}, not the Python that was checked here", install)
    return Finding("kernel", "ok", "python3 runs this Python")


def notebooks(root: Path | None) -> Finding:
    """Whether the notebooks can be read, and hold no error from an earlier run.

    Args:
        root: the folder with ``notebooks/``, or None.
    """
    found = sorted((root / "notebooks").glob("*.ipynb")) if root else []
    if not found:
        return Finding("notebooks", "warning", "none here", "Clone the repository to have them.")
    broken, failed = [], []
    for path in found:
        try:
            cells = json.loads(path.read_text())["cells"]
            if any(output["output_type"] == "error" for cell in cells for output in cell.get("outputs", [])):
                failed.append(path.name)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            broken.append(path.name)
    again = f"`git checkout notebooks/{(broken + failed or [''])[0]}` brings back the committed one; what you wrote in it is lost then."
    if broken:
        return Finding("notebooks", "problem", f"damaged: {', '.join(broken)}", again)
    if failed:
        return Finding("notebooks", "warning", f"an error when last run: {', '.join(failed)}", f"Look at it there, or {again}")
    return Finding("notebooks", "ok", f"{len(found)} in {found[0].parent}")


def evaluations(path: Path) -> Finding:
    """Whether the store of evaluations opens and each row can be read.

    Args:
        path: of the store; it need not exist yet, and is not made.
    """
    from bogp.training.store import Store

    if not path.exists():
        return Finding("evaluations", "ok", "no network trained here yet")
    try:
        with Store(path) as store:
            rows = len(store.table())
    except StoreError as error:
        return Finding("evaluations", "problem", "damaged or unreadable", str(error))
    return Finding("evaluations", "ok", f"{rows:,} in {path}")


def _existing(folder: Path) -> Path:
    """The folder, or the one nearest above it that exists."""
    return next(path for path in (folder, *folder.parents) if os.access(path, os.F_OK))


def _enough(mib: int, needed: Mapping[str, int], cure: str) -> tuple[Status, str]:
    short = [f"the {profile} profile wants {_gib(needed[profile])}" for profile in ("smoke", "paper") if mib < needed[profile]]
    status: Status = ("ok", "warning", "problem")[len(short)]
    return status, f"{' and '.join(short)}. {cure}" if short else ""


def install() -> str:
    """How to get the packages that this Python lacks."""
    return f"`{sys.executable} -m pip install -r requirements.lock` in the repository's folder (make's own Python is .venv/bin/python)."


def _gib(mib: int) -> str:
    return f"{mib / 1024:.1f} GiB"


def one_line(text: object) -> str:
    """A text, or that of an error, on one line of at most 200 characters."""
    return " ".join(str(text).split())[:200]
