"""A machine of 1 TiB fits into a small one: arrays take memory where they are touched."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

NODES, PAGES = 8, 1 << 26
GIB = 1 << 30

PROGRAM = f"""
import resource
from mmlab._engine import loop
from mmlab.simulation import Simulation

nodes = [{{"memory": "128G", "cpus": [i]}} for i in range({NODES})]
sim = Simulation.from_table({{"nodes": nodes, "cpus": {NODES}, "bare": True}}, policies={{"thp": {{"use": "never"}}}})
assert sim.machine.sizes.nr_present == 1 << 28
faults = 0
for i in range({NODES}):
    sim.spawn(f"T{{i}}", cpu=i)
    start = sim.mmap(f"T{{i}}", 128 << 30, flags=["noreserve"])
    faults += sim.machine.run(loop.touch_range, sim.task(f"T{{i}}").index, start >> 12, {PAGES // NODES}, 4, 1)
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
for array in (sim.machine.page, sim.machine.pagex):
    array[::1024] |= 0  # as if pages of every part of mem_map had been in use
print(faults, used, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10)
"""


def available_bytes() -> int:
    """MemAvailable of /proc/meminfo."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) << 10


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/meminfo").exists() or available_bytes() < 13 * GIB, reason="needs 13 GiB of free memory")
def test_a_tebibyte_in_twelve_gibibytes():
    """2^26 pages, every fourth of each node's address range, on eight nodes of 128 GiB."""
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_DISABLE_JIT"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    faults, used, worst = map(int, done.stdout.split())
    print(f"\n{used / GIB:.2f} GiB; with all of mem_map in use {worst / GIB:.2f} GiB")
    assert faults == PAGES
    assert used < worst < 12 * GIB
