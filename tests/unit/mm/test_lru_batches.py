"""A page that waits in a CPU's batch to be moved stays on its list: reclaim on another CPU finds and unmaps it there, but cannot free it while
the batch holds it. Its next use is a minor fault; pages beside it that waited for nothing are read again."""

import pytest

from mm_script import Ran

pytestmark = pytest.mark.nojit
START = """
write /sys/kernel/debug/fault_around_bytes 4096
cgroup g memory.max=2M memory.swap.max=0
spawn A cpu=0 cgroup=g
spawn B cpu=1 cgroup=g
mkfile f 31
mkfile big 1200
write /proc/sys/vm/drop_caches 3
mmap A m 31 file:f shared
madvise A m 0 31 random
touch A m 0 31 r
{wait}
fread B big 0 1200
touch A m 0 31 r
"""
WAITING = 20  # fewer than a batch


def faults(wait, **machine):
    ran = Ran(START.format(wait=wait), cpus=2, disk="64M", **machine)
    last = ran.op[max(ran.op)]
    return last["minflt"], last["majflt"]


def test_pages_that_wait_for_activation():
    """Read for the second time."""
    reads = f"fread A f 0 {WAITING}\n" * 2
    assert faults(reads.strip(), sysfs={"kernel/mm/lru_gen/enabled": "0"}) == (WAITING, 31 - WAITING)


def test_pages_that_wait_for_deactivation():
    """Two generations on, so that they are the oldest."""
    ages = "write /sys/kernel/debug/lru_gen + 2 0 3 1\nwrite /sys/kernel/debug/lru_gen + 2 0 4 1\n"
    assert faults(f"{ages}madvise A m 0 {WAITING} cold") == (WAITING, 31 - WAITING)
