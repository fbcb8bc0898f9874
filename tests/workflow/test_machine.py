"""Readings of a machine, from folders that look like Linux's own on machines of other kinds."""

import os

import pytest

from bogp.workflow import machine

MIB = 2**20


def put(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def cpuinfo(*cores, flags="fpu amx_bf16"):
    return "\n\n".join(
        f"processor\t: {i}\nphysical id\t: {socket}\ncore id\t\t: {core}\nflags\t\t: {flags}" for i, (socket, core) in enumerate(cores)
    )


def test_hyper_threads_are_no_cores_and_sockets_count(tmp_path):
    proc = put(tmp_path, {"cpuinfo": cpuinfo((0, 0), (0, 1), (0, 0), (0, 1), (1, 0), (1, 0))})
    assert machine.physical_cores(proc) == 3
    assert machine.processor_flags(proc) == {"fpu", "amx_bf16"}


def test_a_system_that_says_nothing_is_no_error(tmp_path):
    assert machine.physical_cores(tmp_path) is None
    assert machine.processor_flags(tmp_path) == frozenset()
    assert machine.processor_quota(tmp_path, tmp_path) is None
    total, free = machine.memory(tmp_path, tmp_path)
    assert total == free == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MIB


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not bind processes to cores")
def test_cores_that_this_process_is_kept_from_do_not_count():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert machine.usable_cores() == [min(before)]
    finally:
        os.sched_setaffinity(0, before)


VERSION_1 = {
    "cpu,cpuacct/job/cpu.cfs_quota_us": "{quota}",
    "cpu,cpuacct/job/cpu.cfs_period_us": "100000",
    "memory/memory.limit_in_bytes": "9223372036854771712",
    "memory/job/memory.limit_in_bytes": "{limit}",
    "memory/job/memory.usage_in_bytes": "{used}",
}
VERSION_2 = {
    "job/cpu.max": "{quota} 100000",
    "job/7/cpu.max": "max 100000",
    "job/memory.max": "{limit}",
    "job/memory.current": "{used}",
    "job/7/memory.max": "max",
}
GROUPS = {"11:memory:/job/7\n4:cpu,cpuacct:/job\n": (VERSION_1, -1, 2**63 - 4096), "0::/job/7\n": (VERSION_2, "max", "max")}


def groups(folder, files, **values):
    return put(folder, {name: text.format(**values) + "\n" for name, text in files.items()})


@pytest.mark.parametrize("own", GROUPS, ids=["version 1", "version 2"])
def test_limits_of_control_groups_above_count_and_no_limit_is_none(tmp_path, own):
    files, no_quota, no_limit = GROUPS[own]
    proc = put(tmp_path / "proc", {"self/cgroup": own, "meminfo": f"MemTotal: 1\nMemAvailable:   {900 * 1024} kB\n"})
    limited = groups(tmp_path / "limited", files, quota=150_000, limit=600 * MIB, used=100 * MIB)
    assert machine.processor_quota(proc, limited) == 1.5
    assert machine.memory(proc, limited) == (600, 500)
    free = groups(tmp_path / "free", files, quota=no_quota, limit=no_limit, used=0)
    assert machine.processor_quota(proc, free) is None
    assert machine.memory(proc, free)[1] == 900
