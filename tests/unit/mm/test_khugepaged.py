"""Collapsing: what MADV_COLLAPSE and khugepaged take, what they leave, and at what pace."""

import pytest
from mm_script import Ran

pytestmark = pytest.mark.nojit
HUGE_MACHINE = {"memory": "1G", "cmdline": "transparent_hugepage=never"}
ASLEEP = {"kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs": "100000000"}


def test_madvise_collapse_ignores_enabled_but_wants_a_writable_entry():
    ran = Ran(
        """
spawn A
mmap A r 12M anon align=2M
touch A r 0 512 w
touch A r 2M 1 w
touch A r 4M 512 r
madvise A r 0 2M collapse
madvise A r 2M 2M collapse
madvise A r 4M 2M collapse
madvise A r 6M 2M collapse
madvise A r 0 4M collapse
madvise A r 1M 1M collapse
mmap A n 2M anon align=2M huge=no
touch A n 0 1 w
madvise A n 0 2M collapse
snapshot s1
""",
        **HUGE_MACHINE,
    )
    # written, one page written, zero pages, untouched, done already, no whole range, NOHUGEPAGE
    assert ran.ret(6, 7, 8, 9, 10, 11, 14) == [0, 0, -22, -22, 0, 0, -22]
    assert ran.vmstat("s1", "thp_collapse_alloc") == 2 and ran.vmstat("s1", "nr_anon_transparent_hugepages") == 2
    assert ran.smaps("s1", "A", ran.op[2]["addr"], "Rss") == 4096


def test_collapse_of_what_fork_shares_copies_it():
    ran = Ran(
        """
spawn A
mmap A r 2M anon align=2M
touch A r 0 512 w
fork A B
madvise A r 0 2M collapse
touch A r 0 1 w
madvise A r 0 2M collapse
snapshot s1
""",
        **HUGE_MACHINE,
    )
    assert ran.ret(5, 7) == [-22, 0]  # all write-protected; one page is writable again
    addr = ran.op[2]["addr"]
    assert ran.smaps("s1", "A", addr, "AnonHugePages") == 2048 and ran.smaps("s1", "B", addr, "AnonHugePages") == 0


def test_khugepaged_scans_pages_to_scan_a_pass_and_sleeps_in_between():
    ran = Ran(
        """
spawn A
mmap A r 24M anon align=2M
touch A r 0 24M w
sysfs mm/transparent_hugepage/enabled madvise
sysfs mm/transparent_hugepage/khugepaged/pages_to_scan 1024
madvise A r 0 24M hugepage
sysfs mm/transparent_hugepage/khugepaged/scan_sleep_millisecs 1000
sleep 2500
snapshot s1
sleep 60000
snapshot s2
cat /sys/kernel/mm/transparent_hugepage/khugepaged/pages_collapsed pc
""",
        sysfs=ASLEEP,
        **HUGE_MACHINE,
    )
    assert ran.vmstat("s1", "thp_collapse_alloc") == 3 * 2  # at 0, 1 and 2 s, two ranges each
    assert ran.vmstat("s2", "thp_collapse_alloc") == 12 and ran.files["pc"] == b"12\n"


@pytest.mark.parametrize("limit, collapsed", [(0, 1), (256, 2), (511, 3)])
def test_max_ptes_none(limit, collapsed):
    ran = Ran(
        f"""
spawn A
mmap A r 8M anon align=2M
touch A r 0 512 w
touch A r 2M 256 w
touch A r 4M 1 w
touch A r 6M 512 r
sysfs mm/transparent_hugepage/enabled madvise
sysfs mm/transparent_hugepage/khugepaged/max_ptes_none {limit}
madvise A r 0 8M hugepage
sysfs mm/transparent_hugepage/khugepaged/scan_sleep_millisecs 10
sleep 1000
snapshot s1
""",
        sysfs=ASLEEP,
        **HUGE_MACHINE,
    )
    assert ran.vmstat("s1", "thp_collapse_alloc") == collapsed


def test_khugepaged_waits_for_the_first_address_space_and_takes_the_cpu_from_it():
    """It begins when A has huge memory at last, in the middle of that fault; nothing wakes it a second time."""
    ran = Ran(
        """
spawn A
mmap A r 4M anon align=2M
touch A r 0 1 w
sysfs mm/transparent_hugepage/enabled always
sleep 500
snapshot s0
mmap A s 2M anon align=2M
touch A s 0 512 w
touch A r 1 1 w
snapshot s1
sleep 500
snapshot s2
mmap A t 4M anon align=2M huge=no
touch A t 0 1 w
madvise A t 0 4M hugepage
sleep 500
snapshot s3
cat /sys/kernel/mm/transparent_hugepage/khugepaged/full_scans scans
""",
        sysfs=ASLEEP, **HUGE_MACHINE,
    )  # fmt: skip
    assert [ran.vmstat(label, "thp_collapse_alloc") for label in ("s0", "s1", "s2", "s3")] == [0, 1, 1, 1]
    assert ran.files["scans"].strip() == b"1"


def test_while_a_task_wants_the_only_cpu_khugepaged_has_a_tick_in_270_ms():
    """A range takes 216 us to clear and 512 * 2258 ns to copy: two in a turn of 4 ms, then none for 4 ms * 1024 / 15, which is 273 ms."""
    ran = Ran(
        """
spawn A
mmap A r 40M anon align=2M
touch A r 0 40M w
mmap A x 1 anon
sysfs mm/transparent_hugepage/enabled madvise
sleep 20
madvise A r 0 40M hugepage
sysfs mm/transparent_hugepage/khugepaged/pages_to_scan 100000
sysfs mm/transparent_hugepage/khugepaged/scan_sleep_millisecs 100000000
loop A x 0 1 200 w
snapshot s0
loop A x 0 1 200 w
snapshot s1
sleep 100
snapshot s2
""",
        sysfs=ASLEEP, **HUGE_MACHINE,
    )  # fmt: skip
    assert [ran.vmstat(label, "thp_collapse_alloc") for label in ("s0", "s1", "s2")] == [2, 5, 20]


def test_a_task_that_sleeps_between_its_passes_leaves_the_cpu_to_khugepaged():
    ran = Ran(
        """
spawn A
mmap A r 40M anon align=2M
touch A r 0 40M w
mmap A x 1 anon
sysfs mm/transparent_hugepage/enabled madvise
sleep 20
madvise A r 0 40M hugepage
sysfs mm/transparent_hugepage/khugepaged/pages_to_scan 100000
sysfs mm/transparent_hugepage/khugepaged/scan_sleep_millisecs 100000000
loop A x 0 1 100 w period=2000
snapshot s0
""",
        sysfs=ASLEEP, **HUGE_MACHINE,
    )  # fmt: skip
    assert ran.vmstat("s0", "thp_collapse_alloc") == 20


def test_pages_that_another_process_maps_by_a_huge_entry_count_as_shared():
    """B wrote 100 pages of the huge page it shares with A; the other 412 are too many to copy (256)."""
    ran = Ran(
        """
spawn A
mmap A r 2M anon align=2M
touch A r 0 512 w
fork A B
touch B r 0 100 w
sysfs mm/transparent_hugepage/khugepaged/scan_sleep_millisecs 20
sleep 500
snapshot s0
""",
        memory="1G", cmdline="transparent_hugepage=always",
    )  # fmt: skip
    assert ran.smaps("s0", "B", ran.op[2]["addr"], "AnonHugePages") == 0
    assert ran.vmstat("s0", "thp_scan_exceed_share_pte") > 0


def test_shared_memory_with_nothing_there_exceeds_max_ptes_none():
    ran = Ran(
        """
spawn A
sysfs mm/transparent_hugepage/shmem_enabled always
sysfs mm/transparent_hugepage/enabled always
mmap A s 4M anon shared align=2M
touch A s 0 1 w
sysfs mm/transparent_hugepage/khugepaged/scan_sleep_millisecs 20
sleep 500
snapshot s0
""",
        sysfs=ASLEEP, **HUGE_MACHINE,
    )  # fmt: skip
    assert ran.vmstat("s0", "thp_scan_exceed_none_pte") > 0


def test_a_first_wake_up_by_madvise_is_in_vain():
    """khugepaged takes the CPU, finds the lock taken that madvise() holds, and sleeps. When it waits for work again, it lets madvise() end."""
    ran = Ran(
        """
spawn A
mmap A r 4M anon align=2M
touch A r 0 512 w
sysfs mm/transparent_hugepage/enabled madvise
sleep 20
madvise A r 0 4M hugepage
sleep 500
snapshot s0
cat /sys/kernel/mm/transparent_hugepage/khugepaged/full_scans scans
sysfs mm/transparent_hugepage/khugepaged/scan_sleep_millisecs 20
sleep 500
snapshot s1
exit A
sleep 500
sysfs mm/transparent_hugepage/khugepaged/scan_sleep_millisecs 100000000
spawn B
mmap B r 4M anon align=2M
touch B r 0 512 w
madvise B r 0 4M hugepage
sleep 500
snapshot s2
""",
        sysfs=ASLEEP, **HUGE_MACHINE,
    )  # fmt: skip
    assert [ran.vmstat(label, "thp_collapse_alloc") for label in ("s0", "s1", "s2")] == [0, 1, 2]
    assert ran.files["scans"].strip() == b"1"


def test_large_folios_are_unmapped_in_part_for_a_moment_when_they_are_collapsed():
    """Two folios of 1 MiB become a huge page: each counts as put off for a split once, and none waits."""
    ran = Ran(
        """
spawn A
sysfs mm/transparent_hugepage/hugepages-1024kB/enabled always
mmap A r 2M anon align=2M
touch A r 0 2M w
madvise A r 0 2M collapse
snapshot s0
""",
        **HUGE_MACHINE,
    )
    stats = dict(line.split() for line in ran.files["s0/mthp"].decode().splitlines())
    assert [stats[f"1024kB.{name}"] for name in ("anon_fault_alloc", "split_deferred", "nr_anon", "nr_anon_partially_mapped")] == ["2", "2", "0", "0"]
    assert ran.vmstat("s0", "thp_collapse_alloc") == 1
