"""The file memory.events of a cgroup that reaches its limit wakes a kernel thread: the task that is charged counts as switched in, so that aging
walks its page tables although it never waits for a device."""

import pytest
from mm_script import Ran

pytestmark = pytest.mark.nojit


def test_pages_of_a_task_that_does_not_sleep_are_scanned_once():
    """As on Linux 6.12: pgscan_anon is pgsteal_anon, for the walks have taken the accessed bits (2106 and 2106 for 16 MiB through 8 MiB)."""
    ran = Ran("""
cgroup g memory.max=8M
spawn B cgroup=g
mmap B b 16M anon
snapshot s0
touch B b 0 16M w
snapshot s1
""", zram="64M", cost_model={"use": "tcg_guest"})
    scanned, stolen = (ran.vmstat("s1", f"{name}_anon") - ran.vmstat("s0", f"{name}_anon") for name in ("pgscan", "pgsteal"))
    assert stolen >= 2048 and scanned == stolen
