"""What this machine has, and what a container leaves of it: cores, memory, kind of processor. Linux says all of it, other systems a part."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

_PROC, _CGROUP = Path("/proc"), Path("/sys/fs/cgroup")


def usable_cores() -> list[int]:
    """The numbers of the cores that this process may run on."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def physical_cores(proc: Path = _PROC) -> int | None:
    """Cores without hyper-threads; None where the system does not say.

    Args:
        proc: the folder of the system's own files.
    """
    if platform.system() == "Darwin":
        return int(subprocess.run(["sysctl", "-n", "hw.physicalcpu"], capture_output=True, text=True, check=True, timeout=10).stdout)
    found, socket = set(), "0"
    for line in _lines(proc / "cpuinfo"):
        key, _, value = line.partition(":")
        if key.strip() == "physical id":
            socket = value.strip()
        elif key.strip() == "core id":
            found.add((socket, value.strip()))
    return len(found) or None


def processor_flags(proc: Path = _PROC) -> frozenset[str]:
    """Names of what the processor can do, as Linux spells them (``amx_bf16``); empty where the system does not say.

    Args:
        proc: the folder of the system's own files.
    """
    flags = next((line for line in _lines(proc / "cpuinfo") if line.startswith(("flags", "Features"))), "")
    return frozenset(flags.partition(":")[2].split())


def processor_quota(proc: Path = _PROC, cgroup: Path = _CGROUP) -> float | None:
    """How many cores' time a control group leaves this process; None without a limit.

    Args:
        proc: the folder of the system's own files.
        cgroup: the folder of control groups.
    """
    shares = []
    for folder in _groups("cpu", proc, cgroup):
        quota, *period = [*_words(folder / "cpu.max"), *_words(folder / "cpu.cfs_quota_us"), *_words(folder / "cpu.cfs_period_us")] or [
            "max"
        ]
        if quota.isdigit() and period and period[0].isdigit():  # no limit is "max", or -1
            shares.append(int(quota) / int(period[0]))
    return min(shares, default=None)


def memory(proc: Path = _PROC, cgroup: Path = _CGROUP) -> tuple[int, int]:
    """Memory that there is, and that is free for new use, MiB; limits of control groups included.

    Args:
        proc: the folder of the system's own files.
        cgroup: the folder of control groups.
    """
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    free = next((int(line.split()[1]) * 1024 for line in _lines(proc / "meminfo") if line.startswith("MemAvailable:")), total)
    for folder in _groups("memory", proc, cgroup):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            most, now = _words(folder / limit) or ["max"], _words(folder / used) or ["0"]
            if most[0].isdigit():
                # What is used counts files that the system keeps in memory and would drop, so this is on the safe side.
                total, free = min(total, int(most[0])), min(free, max(0, int(most[0]) - int(now[0])))
    return total // 2**20, free // 2**20


def _groups(controller: str, proc: Path, cgroup: Path) -> Iterator[Path]:
    """The folders of this process's control groups, innermost first: version 2 has one tree, version 1 one for each controller."""
    for line in _lines(proc / "self" / "cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = cgroup / controllers if controllers else cgroup
        inner = top / path.lstrip("/")
        yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(top))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:  # not Linux, or hidden by a container
        return []


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()
