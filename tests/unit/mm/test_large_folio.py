"""Large folios: sharing over fork, splitting, partial unmapping, blocks below 2 MiB, swapping whole."""

import pytest
from mm_script import Ran

from mmlab.model.vmstat import V_PSWPOUT
from mmlab.simulation import Simulation

pytestmark = pytest.mark.nojit
ALWAYS = {"memory": "1G", "cmdline": "transparent_hugepage=always"}
NEVER = {"memory": "1G", "cmdline": "transparent_hugepage=never"}


def mthp(ran, label, name):
    lines = dict(line.split() for line in ran.files[f"{label}/mthp"].decode().splitlines())
    return int(lines[name])


def test_fork_shares_the_pmd_and_the_first_writer_copies_small_pages():
    ran = Ran(
        """
spawn A
mmap A r 2M anon align=2M
touch A r 0 512 w
fork A B
touch B r 0 512 r
touch B r 0 1 w
snapshot s1
touch B r 1 511 w
touch A r 0 512 w
snapshot s2
""",
        **ALWAYS,
    )
    assert ran.minflt(3, 5, 6, 8, 9) == [1, 0, 1, 511, 1]  # at the end A is alone and has its huge page back
    addr = ran.op[2]["addr"]
    assert [ran.smaps("s1", task, addr, "AnonHugePages") for task in "AB"] == [2048, 0]
    assert ran.vmstat("s2", "thp_split_pmd") == 1 and ran.vmstat("s2", "thp_deferred_split_page") == 0


def test_partial_unmap_defers_the_split_and_munmap_of_the_rest_frees_all():
    ran = Ran(
        """
spawn A
mmap A r 4M anon align=2M
touch A r 0 4M w
munmap A r 10 1
snapshot s1
madvise A r 2M 8 free
snapshot s2
munmap A r
snapshot s3
""",
        **ALWAYS,
    )
    assert [ran.vmstat("s1", f"thp_{name}") for name in ("split_pmd", "split_page", "deferred_split_page")] == [1, 0, 1]
    assert mthp(ran, "s1", "2048kB.nr_anon_partially_mapped") == 1 and mthp(ran, "s1", "2048kB.nr_anon") == 2
    assert [ran.vmstat("s2", f"thp_{name}") for name in ("split_pmd", "split_page")] == [2, 1]
    assert mthp(ran, "s3", "2048kB.nr_anon") == mthp(ran, "s3", "2048kB.nr_anon_partially_mapped") == 0


def test_blocks_of_64_kb_where_they_fit_and_nothing_is_mapped():
    ran = Ran(
        """
spawn A
sysfs mm/transparent_hugepage/hugepages-64kB/enabled always
mmap A r 1M anon align=2M
touch A r 5 1 w
touch A r 0 16 w
touch A r 20 1 r
touch A r 21 1 w
mmap A u 40 anon at=r-40
touch A r -40 40 w
snapshot s1
fork A B
touch B r 0 16 w
touch A r 0 16 w
""",
        **NEVER,
    )
    # one block; all of it there; a zero page keeps the next block small; 8 pages before a boundary and two blocks
    assert ran.minflt(4, 5, 6, 7, 9) == [1, 0, 1, 1, 10]
    assert mthp(ran, "s1", "64kB.anon_fault_alloc") == 3
    assert ran.minflt(12, 13) == [16, 16]  # a page of a large folio is never reused after a fork


def test_a_huge_page_goes_to_swap_and_comes_back_from_the_swap_cache_in_one_piece():
    ran = Ran(
        """
spawn A
mmap A r 4M anon align=2M
touch A r 0 4M w
madvise A r 0 2M pageout
snapshot s1
touch A r 100 1 r
snapshot s2
madvise A r 2M 256 pageout
snapshot s3
""",
        swap="64M",
        swap_ssd=True,
        **ALWAYS,
    )
    addr = ran.op[2]["addr"]
    assert ran.vmstat("s1", "thp_swpout") == 1 and ran.vmstat("s1", "pswpout") == 512 and ran.smaps("s1", "A", addr, "Swap") == 2048
    assert ran.minflt(6) == [1] and ran.smaps("s2", "A", addr, "Rss") == 4096
    assert ran.vmstat("s3", "thp_split_page") == 1 and ran.smaps("s3", "A", addr, "Swap") == 1024


def test_moving_a_huge_page_to_an_aligned_place_does_not_split_it():
    ran = Ran(
        """
spawn A
mmap A v 4M anon align=2M
touch A v 0 4M w
mmap A w 4M anon prot=n align=2M
mremap A v 4M to=w
snapshot s1
""",
        **ALWAYS,
    )
    assert ran.vmstat("s1", "thp_split_pmd") == 0 and ran.vmstat("s1", "nr_anon_transparent_hugepages") == 2


def test_reclaim_of_huge_pages_without_clusters_splits_them():
    ran = Ran(
        """
spawn A
mmap A r 4M anon align=2M
touch A r 0 4M w
madvise A r 0 4M pageout
snapshot s1
touch A r 0 4M r
""",
        swap="64M",
        **ALWAYS,
    )
    assert ran.vmstat("s1", "thp_swpout_fallback") == 2 and ran.vmstat("s1", "thp_split_page") == 2
    assert ran.smaps("s1", "A", ran.op[2]["addr"], "Swap") == 4096
    assert ran.minflt(6) == [1024]


def test_a_split_gives_back_the_pages_that_were_never_written():
    """40 of 512 pages are written, one is read; pageout of the first 16 splits. The zero page is in the place of the others."""
    ran = Ran(
        """
spawn A
mmap A r 2M anon align=2M
touch A r 0 40 w
touch A r 100 1 r
madvise A r 0 16 cold
snapshot s0
touch A r 0 512 r
touch A r 200 1 w
snapshot s1
""",
        **ALWAYS,
    )
    addr = ran.op[2]["addr"]
    assert ran.vmstat("s0", "thp_split_page") == 1
    assert [ran.smaps(label, "A", addr, "Rss") for label in ("s0", "s1")] == [160, 164]
    assert ran.minflt(7, 8) == [0, 1]


def test_a_split_leaves_pages_with_contents_that_nobody_wrote_here():
    """What came from swap holds something; a locked area keeps its pages."""
    ran = Ran(
        """
spawn A
mmap A r 2M anon align=2M
touch A r 0 512 w
madvise A r 0 2M pageout
cgroup g memory.high=max
touch A r 0 512 r
madvise A r 0 2M collapse
madvise A r 0 16 cold
snapshot s0
mmap A l 2M anon align=2M locked
mprotect A l 0 4 r
snapshot s1
""",
        swap="64M", **ALWAYS,
    )  # fmt: skip
    assert ran.smaps("s0", "A", ran.op[2]["addr"], "Rss") == 2048
    assert ran.smaps("s1", "A", ran.op[10]["addr"] + 4 * 4096, "Rss") == 2048 - 16


@pytest.mark.parametrize("advice", ["pageout", "free"])
def test_a_huge_page_of_which_one_page_was_written_is_split_to_that_page(advice):
    """Its first page was never written, so the split gives that page back, and nobody must look at it afterwards."""
    sim = Simulation.from_table(
        {"memory": "32M", "bare": True, "swap": "32M"}, policies={"thp": {"use": "always"}, "cost_model": {"use": "skylake"}},
    )  # fmt: skip
    sim.spawn("A")
    addr = sim.mmap("A", 4 << 20, addr=1 << 32, flags={"fixed"})
    assert sim.touch("A", addr + (5 << 12), 1, 1).minflt == 1 and sim.rss_pages() == 512
    if advice == "free":  # of a part: the huge page is split first
        assert sim.madvise("A", addr, 4 << 12, "free") == 0 and sim.rss_pages() == 1
    else:
        assert sim.madvise("A", addr, 2 << 20, "pageout") == 0 and sim.rss_pages() == 0
        assert int(sim.machine.vmstat[V_PSWPOUT]) == 1
    assert sim.check_state() == []


def test_splitting_what_is_mapped_by_entries_counts_as_put_off_once():
    """mlock() of a half splits the PMD; pageout of the other half splits the page, whose entries go one by one."""
    ran = Ran(
        """
spawn A
mmap A r 2M anon align=2M
touch A r 0 2M w
mlock A r 1M 1M
snapshot s0
madvise A r 0 1M pageout
snapshot s1
""",
        memory="1G", swap="64M", cmdline="transparent_hugepage=always",
    )  # fmt: skip
    assert [ran.vmstat(label, "thp_split_page") for label in ("s0", "s1")] == [0, 1]
    assert [ran.vmstat(label, "thp_deferred_split_page") for label in ("s0", "s1")] == [0, 1]
    assert b"2048kB.nr_anon_partially_mapped 0" in ran.files["s1/mthp"]
