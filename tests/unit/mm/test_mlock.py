"""mlock() and its kin: what is populated, what VmLck and nr_mlock count."""

import pytest
from mm_script import Ran

from mmlab.model import rows as r

pytestmark = pytest.mark.nojit

DRIVER_LOCKED = 472  # pages of the process behind a script, which has locked itself in memory


def locked_kb(ran, task="A"):
    return int(ran.sim.machine.mm[ran.sim.task(task).mm * r.MM_STRIDE + r.MM_LOCKED_VM]) * 4


def test_mlock_replaces_zero_pages_and_counts_each_page_once():
    ran = Ran("""
spawn A
mmap A r 64 anon
touch A r 0 8 r
touch A r 8 8 w
mlock A r 0 32
snapshot s1
munlock A r 0 16
sysctl vm.stat_refresh 1
snapshot s2
munmap A r
sysctl vm.stat_refresh 1
snapshot s3
""")
    assert ran.minflt(5) == [24]  # 8 zero pages, 16 untouched; 8 were written before
    assert [ran.vmstat(label, "nr_mlock") - DRIVER_LOCKED for label in ("s1", "s2", "s3")] == [32, 16, 0]
    assert ran.vmstat("s2", "unevictable_pgs_munlocked") == 16
    assert ran.vmstat("s2", "nr_unevictable") - ran.vmstat("s3", "nr_unevictable") == 16


def test_errors_over_holes_and_protections_leave_the_flags_set():
    ran = Ran("""
spawn A
mmap A n 16 anon prot=n
mlock A n 0 16
mmap A g 16 anon prot=r
munmap A g 8 4
mlock A g 0 16
mlockall A
mlockall A onfault
""")
    assert ran.ret(3, 6) == [-12, -12]
    assert ran.ret(7, 8) == [-22, -22]
    assert locked_kb(ran) == 4 * (16 + 8)


def test_mlockall_future_populates_later_maps_and_onfault_does_not():
    ran = Ran("""
spawn A
mlockall A future
mmap A r 32 anon
mlockall A future onfault
mmap A s 32 anon
touch A s 0 5 w
snapshot s1
munlockall A
snapshot s2
""")
    assert ran.minflt(3, 5, 6) == [32, 0, 5]
    assert [ran.vmstat(label, "nr_mlock") - DRIVER_LOCKED for label in ("s1", "s2")] == [37, 0]
    assert locked_kb(ran) == 0


def test_a_page_stays_locked_while_another_vma_locks_it():
    ran = Ran("""
spawn A
mmap A r 8 anon shared
touch A r 0 8 w
fork A B
mlock A r 0 8
mlock B r 0 8
snapshot s1
munlock A r 0 8
snapshot s2
munlock B r 0 8
snapshot s3
""")
    assert [ran.vmstat(label, "nr_mlock") - DRIVER_LOCKED for label in ("s1", "s2", "s3")] == [8, 8, 0]


def test_growing_a_locked_map_populates_the_new_part():
    ran = Ran("""
spawn A
mmap A r 8 anon locked
mremap A r 20
""")
    assert ran.minflt(2, 3) == [8, 12]
    assert locked_kb(ran) == 80


def test_the_page_that_fills_the_batch_is_not_marked_as_accessed():
    """populate marks each page as accessed, but not one that is unevictable by then: every 31st. What fork copies has no young entries."""
    ran = Ran(
        """
spawn A
mlockall A future
mmap A v 128 anon
fork A B
snapshot s0
""",
    )
    assert ran.smaps("s0", "B", ran.op[3]["addr"], "Referenced") == (128 - 4) * 4


def test_locked_copies_of_a_file_hold_what_it_holds_until_they_are_written():
    """A script's files hold zeroes: of 16 copies that munlock() leaves, the 4 that were written go to the swap device."""
    ran = Ran(
        """
spawn A
mkfile f 64K
mmap A p 16 file:f
mlock A p 0 16
munlock A p 0 16
touch A p 0 4 w
madvise A p 0 16 pageout
snapshot s0
""",
        disk="64M", swap="64M",
    )  # fmt: skip
    assert ran.smaps("s0", "A", ran.op[3]["addr"], "Swap") == 64
    assert [ran.vmstat("s0", name) for name in ("pswpout", "swpout_zero")] == [4, 12]


def test_dropping_caches_leaves_the_vdso():
    ran = Ran(
        """
spawn A
sysctl vm.drop_caches 1
mlockall A current
snapshot s0
""",
    )
    assert ran.vmstat("s0", "pgmajfault") == 0
