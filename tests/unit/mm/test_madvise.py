"""madvise(): lazy freeing, punching holes, populating, reading ahead."""

import pytest
from mm_script import Ran

pytestmark = pytest.mark.nojit


def test_free_takes_effect_in_batches_of_31_and_a_write_takes_a_page_back():
    ran = Ran(
        """
spawn A
mmap A r 64 anon
touch A r 0 64 w
madvise A r 0 64 free
snapshot s1
touch A r 0 16 w
madvise A r 0 64 pageout
snapshot s2
touch A r 0 64 r
""",
        swap="8M",
    )
    addr = ran.op[2]["addr"]
    assert ran.smaps("s1", "A", addr, "LazyFree") == 62 * 4
    assert ran.smaps("s2", "A", addr, "Rss") == 16 * 4 and ran.smaps("s2", "A", addr, "Swap") == 0
    assert ran.vmstat("s2", "pglazyfreed") == 48 and ran.vmstat("s2", "pswpout") == 0
    assert ran.minflt(9) == [48]


def test_free_drops_swap_slots():
    ran = Ran(
        """
spawn A
mmap A r 16 anon
touch A r 0 16 w
madvise A r 0 16 pageout
madvise A r 0 16 free
snapshot s1
""",
        swap="8M",
    )
    assert ran.smaps("s1", "A", ran.op[2]["addr"], "Swap") == 0


def test_remove_punches_shared_memory_for_all_and_wants_a_shared_map():
    ran = Ran("""
spawn A
mmap A s 32 anon shared
touch A s 0 32 w
fork A B
touch B s 0 32 r
madvise B s 8 8 remove
snapshot s1
touch A s 0 32 r
mmap A p 8 anon
madvise A p 0 8 remove
""")
    assert ran.smaps("s1", "A", ran.op[2]["addr"], "Rss") == 24 * 4
    assert ran.minflt(8) == [8]
    assert ran.ret(10) == [-22]


def test_shared_memory_ends_with_its_last_map():
    ran = Ran("""
spawn A
snapshot first
snapshot s0
mmap A s 32 anon shared
touch A s 0 32 w
munmap A s
snapshot s1
""")
    assert ran.vmstat("s0", "nr_shmem") == ran.vmstat("s1", "nr_shmem")
    committed = [int(ran.files[f"{label}/meminfo"].decode().split("Committed_AS:")[1].split()[0]) for label in ("s0", "s1")]
    assert committed[0] == committed[1]


def test_populate_checks_the_protection_and_counts_minor_faults():
    ran = Ran(
        """
spawn A
mkfile f 256K
sysctl vm.drop_caches 1
mmap A p 32 anon
mprotect A p 0 8 r
madvise A p 0 32 populate_write
madvise A p 0 32 populate_read
mmap A f 64 file:f shared populate
munmap A p
madvise A f 0 80 populate_read
""",
        disk="8M",
    )
    assert ran.ret(6, 7) == [-22, 0]
    assert ran.minflt(7) == [32]
    assert ran.op[8]["majflt"] == 0 and ran.minflt(8)[0] > 0
    assert ran.ret(10) == [-12]


def test_truncation_takes_private_copies_beyond_the_end():
    ran = Ran(
        """
spawn A
mkfile f 4
mmap A p 4 file:f
touch A p 0 4 w
truncate A f 2
touch A p 0 2 r
touch A p 2 1 r
""",
        disk="8M",
    )
    assert ran.ret(6, 7) == [0, -14] and ran.op[7]["signal"] == 7


def test_special_maps_refuse_what_would_take_their_pages():
    """The first map ends where the pages of the vDSO begin, which madvise() reaches last."""
    ran = Ran(
        """
spawn A
mmap A r 16 anon
touch A r 0 16 w
madvise A r 0 20 pageout
madvise A r 0 20 cold
madvise A r 0 20 free
madvise A r 0 20 dontneed
madvise A r 0 20 dontneed_locked
""",
        swap="64M",
    )
    assert ran.ret(4, 5, 6, 7, 8) == [-22] * 5


def test_shared_memory_that_was_only_read_needs_no_swap():
    """Ten pages read, ten written: the first are dropped, for they hold zeroes."""
    ran = Ran(
        """
spawn A
mmap A s 20 anon shared
touch A s 0 10 r
touch A s 10 10 w
snapshot s0
madvise A s 0 20 pageout
snapshot s1
touch A s 0 10 r
snapshot s2
""",
        swap="64M",
    )
    addr = ran.op[2]["addr"]
    assert ran.smaps("s1", "A", addr, "Swap") == 40 and ran.vmstat("s1", "pswpout") == 10
    assert ran.vmstat("s0", "nr_shmem") - ran.vmstat("s1", "nr_shmem") == 20 and ran.op[8]["majflt"] == 0
    assert ran.smaps("s2", "A", addr, "Private_Clean") == 40


@pytest.mark.parametrize("drains", ["madvise A p 0 4 populate_read", "fork A B", "mlock A p 0 4"])
def test_what_faults_a_range_in_pushes_the_batch_of_freed_pages_out(drains):
    """As recorded: 31 of 40 pages are lazily free at once, the other 9 when something drains; the tasks of a fork map their code by MADV_POPULATE_READ."""
    ran = Ran(
        f"""
spawn A
mmap A r 40 anon
mmap A p 4 anon
touch A r 0 40 w
madvise A r 0 40 free
snapshot s1
{drains}
snapshot s2
"""
    )
    assert [ran.smaps(snap, "A", ran.op[2]["addr"], "LazyFree") for snap in ("s1", "s2")] == [31 * 4, 40 * 4]
