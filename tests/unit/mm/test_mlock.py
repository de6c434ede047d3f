"""mlock() and its kin: what is populated, what VmLck and nr_mlock count."""

import pytest
from mm_script import Ran

from mmlab.model import rows as r

pytestmark = pytest.mark.nojit


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
snapshot s2
munmap A r
snapshot s3
""")
    assert ran.minflt(5) == [24]  # 8 zero pages, 16 untouched; 8 were written before
    assert [ran.vmstat(label, "nr_mlock") for label in ("s1", "s2", "s3")] == [32, 16, 0]
    assert ran.vmstat("s2", "unevictable_pgs_munlocked") == 16
    assert ran.vmstat("s2", "nr_unevictable") == 16


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
    assert ran.vmstat("s1", "nr_mlock") == 37 and ran.vmstat("s2", "nr_mlock") == 0
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
    assert [ran.vmstat(label, "nr_mlock") for label in ("s1", "s2", "s3")] == [8, 8, 0]


def test_growing_a_locked_map_populates_the_new_part():
    ran = Ran("""
spawn A
mmap A r 8 anon locked
mremap A r 20
""")
    assert ran.minflt(2, 3) == [8, 12]
    assert locked_kb(ran) == 80
