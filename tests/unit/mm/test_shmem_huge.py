"""Huge pages of shared memory: who gets them, how they are mapped, cut and collapsed."""

import pytest
from mm_script import Ran

pytestmark = pytest.mark.nojit
MACHINE = {"memory": "1G", "cmdline": "transparent_hugepage=never"}


def test_advise_wants_madvise_and_a_fork_maps_the_same_page_by_its_pmd():
    ran = Ran(
        """
spawn A
sysfs mm/transparent_hugepage/shmem_enabled advise
mmap A a 4M anon shared align=2M
touch A a 0 2M w
mmap A b 4M anon shared align=2M huge=yes
touch A b 0 1 r
touch A b 0 512 w
fork A B
touch B b 100 1 r
snapshot s1
""",
        **MACHINE,
    )
    assert ran.minflt(4, 6, 7, 9) == [512, 1, 0, 1]
    assert [ran.vmstat("s1", name) for name in ("thp_file_alloc", "thp_file_mapped", "nr_shmem_hugepages")] == [1, 2, 1]
    addr = ran.op[5]["addr"]
    assert [ran.smaps("s1", task, addr, "ShmemPmdMapped") for task in "AB"] == [2048, 2048] and ran.smaps("s1", "A", addr, "Pss") == 1024


def test_a_cut_drops_the_mapping_and_a_hole_splits_the_page():
    ran = Ran(
        """
spawn A
sysfs mm/transparent_hugepage/shmem_enabled always
mmap A c 4M anon shared align=2M
touch A c 0 4M w
madvise A c 0 64 dontneed
snapshot s1
touch A c 0 1 r
madvise A c 2M 64 remove
snapshot s2
madvise A c 0 4M remove
snapshot s3
""",
        **MACHINE,
    )
    addr = ran.op[3]["addr"]
    assert ran.smaps("s1", "A", addr, "Rss") == 2048 and ran.vmstat("s1", "thp_split_pmd") == 1 and ran.vmstat("s1", "nr_shmem_hugepages") == 2
    assert ran.minflt(7) == [1]  # the page is there still, and the PMD is empty
    assert ran.vmstat("s2", "thp_split_page") == 1 and ran.vmstat("s2", "nr_shmem_hugepages") == 1
    assert ran.vmstat("s1", "nr_shmem") - ran.vmstat("s2", "nr_shmem") == 64
    assert ran.vmstat("s3", "nr_shmem_hugepages") == 0 and ran.vmstat("s2", "nr_shmem") - ran.vmstat("s3", "nr_shmem") == 1024 - 64


def test_within_size_needs_the_whole_of_it_in_the_file():
    ran = Ran(
        """
spawn A
sysfs mm/transparent_hugepage/shmem_enabled within_size
mmap A w 3M anon shared align=2M
touch A w 0 1 w
touch A w 2M 1 w
snapshot s1
""",
        **MACHINE,
    )
    assert ran.vmstat("s1", "thp_file_alloc") == 1 and ran.smaps("s1", "A", ran.op[3]["addr"], "Rss") == 2052


def test_collapse_of_shared_memory_with_holes():
    ran = Ran(
        """
spawn A
mmap A s 6M anon shared align=2M
touch A s 0 512 w
touch A s 600 1 w
snapshot s0
madvise A s 0 4M collapse
snapshot s1
touch A s 0 4M w
madvise A s 4M 2M collapse
""",
        **MACHINE,
    )
    assert ran.ret(6, 9) == [0, -22]  # nothing at all in the last one
    assert ran.minflt(8) == [0]
    assert ran.vmstat("s1", "nr_shmem") - ran.vmstat("s0", "nr_shmem") == 511 and ran.vmstat("s1", "nr_shmem_hugepages") == 2


def test_maps_are_placed_where_address_and_offset_agree():
    ran = Ran(
        """
spawn A
mmap A x 3M anon shared
sysfs mm/transparent_hugepage/shmem_enabled always
mmap A y 3M anon shared
mkfile f 8M
mmap A g 5M file:f off=1M
""",
        disk="64M",
        **MACHINE,
    )
    assert [ran.op[line]["addr"] % (2 << 20) == offset for line, offset in ((2, 0), (4, 0), (6, 1 << 20))] == [False, True, True]
