"""mprotect() and the growth of stacks: errors, limits and what the VMA says afterwards."""

import re

import pytest
from mm_script import Ran

from mmlab.model import rows as r

pytestmark = pytest.mark.nojit
ENOMEM, EACCES = 12, 13


def space(ran, field, task="A"):
    return int(ran.sim.machine.mm[ran.sim.task(task).mm * r.MM_STRIDE + field])


def test_what_may_never_be_written_is_refused_after_what_lies_before():
    """r ends where the vvar area begins, which has no VM_MAYWRITE."""
    ran = Ran("""
spawn A
mmap A r 64 anon prot=r
mprotect A r 60 8 rw
touch A r 60 4 w
""")
    assert ran.ret(3, 4) == [-EACCES, 0]


def test_data_accesses_to_what_may_only_be_executed():
    """SEGV_PKUERR, whether or not a page is there; readable again afterwards."""
    ran = Ran("""
spawn A
mmap A r 8 anon
touch A r 0 4 w
mprotect A r 0 8 x
touch A r 0 1 r
touch A r 6 1 w
mprotect A r 0 8 rw
touch A r 0 4 w
""")
    assert [(ran.op[line]["signal"], ran.op[line]["si_code"]) for line in (5, 6)] == [(11, 4), (11, 4)]
    assert (ran.ret(8), ran.minflt(8)) == ([0], [0])


def test_memory_without_reserve_counts_as_data_when_it_becomes_writable():
    ran = Ran("""
spawn A
mmap A r 900 anon prot=r noreserve
rlimit A data 2M
mprotect A r 0 900 rw
mprotect A r 0 200 rw
""")
    assert ran.ret(4, 5) == [-ENOMEM, 0]


def test_a_locked_area_that_grows_down_locks_what_it_gains():
    ran = Ran("""
spawn A
mlockall A future
mmap A g 4 anon growsdown at=0x300000000000
touch A g -6 1 w
""")
    assert space(ran, r.MM_LOCKED_VM) == 4 + 6


def test_growth_of_a_stack_is_charged():
    ran = Ran("""
spawn A
region A s stack
sysctl vm.overcommit_memory 2
sysctl vm.overcommit_kbytes 8000
mmap A r 1M anon
touch A s -2000 1 w
touch A s -20 1 w
""", swap="0")
    room = 8000 // 4 - int(ran.sim.machine.sc[r.SC_COMMITTED_AS])
    assert 0 < room < 2000
    assert ran.op[6]["signal"] == 11
    assert ran.ret(7) == [0]


def test_a_stack_that_was_only_read_has_an_anon_vma():
    """So fork copies its page tables, and the child reads without a fault."""
    ran = Ran("""
spawn A
mmap A g 4 anon growsdown at=0x300000000000
touch A g -6 3 r
fork A B
touch B g -6 3 r
""")
    assert ran.minflt(3, 5) == [3, 0]


def test_shared_memory_is_never_mergeable():
    ran = Ran("""
spawn A
mmap A s 16 anon shared
mmap A r 16 anon
madvise A s 0 16 mergeable
madvise A r 0 16 mergeable
snapshot s0
""")
    assert ran.ret(4, 5) == [0, 0]
    smaps = ran.files["s0/A.smaps"].decode()
    assert len(re.findall(r"^VmFlags:.* mg", smaps, re.M)) == 1


def test_the_page_above_the_first_map_is_the_kernels_own():
    """[vvar]: one page that can be read and counts nowhere, then pages that are not there."""
    ran = Ran("""
spawn A
snapshot s0
mmap A r 16 anon
touch A r 16 1 r
touch A r 16 1 w
touch A r 17 1 r
""")
    assert (ran.ret(4), ran.minflt(4)) == ([0], [1])
    assert [(ran.op[line]["signal"], ran.op[line]["si_code"]) for line in (5, 6)] == [(11, 2), (7, 2)]
    before = int(re.search(r"^RssFile:\s+(\d+)", ran.files["s0/A.status"].decode(), re.M)[1])
    assert 4 * space(ran, r.MM_RSS_FILE) == before
