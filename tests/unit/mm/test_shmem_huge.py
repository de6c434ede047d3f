"""Huge pages of shared memory: who gets them, how they are mapped, cut and collapsed."""

import pytest
from mm_script import Ran

from mmlab.errors import NotSupported

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


def test_a_tmpfs_mounted_huge_always_writes_and_maps_huge_pages():
    """6 MiB written are three huge pages, and 4 KiB behind them a fourth; the maps take one fault each."""
    ran = Ran(
        """
spawn A
sh mount -o remount,huge=always /mnt
mkfile f 6M
snapshot s0
mmap A f 8M file:f shared
touch A f 0 6M r
fwrite A f 6M 1
touch A f 6M 1 r
snapshot s1
truncate A f 3M
snapshot s2
""",
        **MACHINE,
    )
    assert ran.op[5]["addr"] % (2 << 20) == 0  # placed for huge pages
    assert ran.minflt(6, 8) == [3, 1]
    assert [ran.vmstat(label, "thp_file_alloc") for label in ("s0", "s1")] == [3, 4]
    assert ran.vmstat("s1", "thp_file_mapped") == 4
    assert ran.vmstat("s2", "nr_shmem_hugepages") == 1 and ran.vmstat("s1", "nr_shmem") - ran.vmstat("s2", "nr_shmem") == 2048 - 768


def test_within_size_asks_where_a_write_ends():
    """The file grows by 64 KiB a write: none ends behind the 2 MiB that it begins in. What truncate() made larger may be huge at once."""
    ran = Ran(
        """
spawn A
sh mount -o remount,huge=within_size /mnt
mkfile f 2M
snapshot s0
truncate A f 5M
fwrite A f 2M 1
mmap A f 5M file:f shared align=2M
touch A f 4M 1 w
snapshot s1
""",
        **MACHINE,
    )
    assert [ran.vmstat(label, "thp_file_alloc") for label in ("s0", "s1")] == [0, 1]  # 2..4 MiB; 4..5 MiB is no whole one


def test_advise_on_a_tmpfs_asks_the_map():
    ran = Ran(
        """
spawn A
sh mount -o remount,huge=advise /mnt
mkfile f 4K
truncate A f 8M
mmap A f 8M file:f shared align=2M
mmap A g 8M file:f shared align=2M huge=yes
fwrite A f 2M 1
touch A f 4M 1 w
touch A g 6M 1 w
snapshot s1
""",
        **MACHINE,
    )
    assert ran.vmstat("s1", "thp_file_alloc") == 1
    assert [ran.smaps("s1", "A", ran.op[line]["addr"], "THPeligible") for line in (5, 6)] == [0, 1]


@pytest.mark.parametrize("mode, huge", [("force", 1), ("deny", 0)])
def test_force_and_deny_go_before_the_mount_option(mode, huge):
    ran = Ran(
        f"""
spawn A
sh mount -o remount,huge={"never" if huge else "always"} /mnt
sysfs mm/transparent_hugepage/shmem_enabled {mode}
mkfile f 2M
sysfs mm/transparent_hugepage/shmem_enabled never
snapshot s1
""",
        **MACHINE,
    )
    assert ran.vmstat("s1", "thp_file_alloc") == huge


@pytest.mark.parametrize("command", ["mount -o remount,huge=sometimes /mnt", "mount -o remount,huge=always /tmp", "mount -o remount,ro /mnt"])
def test_other_mounts_are_not_supported(command):
    with pytest.raises(NotSupported, match="line 1"):
        Ran(f"sh {command}", **MACHINE)


def test_huge_is_no_option_of_a_disk():
    with pytest.raises(NotSupported, match="line 1"):
        Ran("sh mount -o remount,huge=always /mnt", disk="64M", **MACHINE)
