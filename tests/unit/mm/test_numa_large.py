"""Large folios change nodes whole: mbind() with MOVE, a cpuset's nodes, NUMA balancing, demotion and promotion, DAMON's migrate_cold."""

from __future__ import annotations

import re

import pytest
from mm_script import Ran

from mmlab.kernels.large_folio import folio_likely_mapped_shared
from mmlab.procfs.walk import entries, mapped_pages

pytestmark = pytest.mark.nojit
NODES = [{"memory": "320M", "cpus": [0]}, {"memory": "320M"}]  # with less than 512 MiB there are no huge pages
HUGE = {"memory": "640M", "nodes": NODES, "cmdline": "transparent_hugepage=always numa_balancing=disable"}
TIERS = {**HUGE, "hmat": [[0, 0, 10, 10], [0, 1, 20, 5]]}
ADDR = 0x10040000000
FILL = f"spawn A\nmmap A r 4M anon huge=yes at={ADDR:#x}\ntouch A r 0 4M w\nsnapshot a\n"


def nodes(ran: Ran, label: str, addr: int = ADDR) -> dict[int, int]:
    """Pages by node of the VMA at an address."""
    line = next(x for x in ran.files[f"{label}/A.numa_maps"].decode().splitlines() if x.startswith(f"{addr:x}"))
    return {int(node): int(count) for node, count in re.findall(r"\bN(\d+)=(\d+)", line)}


def test_mbind_moves_huge_pages_whole():
    ran = Ran(FILL + "mbind A r 0 4M bind nodes=1 move\nsnapshot b\n", **HUGE)
    assert nodes(ran, "a") == {0: 1024} and nodes(ran, "b") == {1: 1024}
    assert ran.vmstat("b", "thp_migration_success") == 2 and ran.vmstat("b", "pgmigrate_success") == 1024
    assert ran.smaps("b", "A", ADDR, "AnonHugePages") == 4096


def test_mbind_of_a_part_moves_the_huge_page_once():
    """The area is cut at 1 MiB, so its first huge page is mapped page by page: it is one folio still and moves as one."""
    ran = Ran(FILL + "mbind A r 1M 512K bind nodes=1 move\nsnapshot b\n", **HUGE)
    assert ran.vmstat("b", "thp_migration_success") == 1 and ran.vmstat("b", "pgmigrate_success") == 512
    assert [nodes(ran, "b", ADDR + at) for at in (0, 1 << 20, 3 << 19)] == [{1: 256}, {1: 128}, {0: 512, 1: 128}]


def test_huge_pages_are_interleaved_by_their_own_size():
    ran = Ran(FILL + "mbind A r 0 4M bind nodes=1 move\nmbind A r 0 4M interleave nodes=0 move\nsnapshot b\n", **HUGE)
    assert nodes(ran, "b") == {0: 1024} and ran.vmstat("b", "thp_migration_success") == 4


def test_a_huge_page_that_a_child_maps_stays():
    ran = Ran(FILL + "fork A B\nmbind A r 0 4M bind nodes=1 move\nsnapshot b\n", **HUGE)
    assert nodes(ran, "b") == {0: 1024} and ran.vmstat("b", "thp_migration_success") == 0
    machine = ran.sim.machine
    found = mapped_pages(machine, entries(machine, ran.sim.tasks["A"].mm, ADDR >> 12, (ADDR >> 12) + 1))
    assert machine.run(folio_likely_mapped_shared, int(found.pfn[0])) == 1


def test_a_cpuset_takes_huge_pages_along():
    script = "cgroup g cpuset.mems=0\n" + FILL.replace("spawn A", "spawn A cgroup=g") + "cgroup g cpuset.mems=1\nsleep 100\nsnapshot b\n"
    ran = Ran(script, **HUGE)
    assert nodes(ran, "a") == {0: 1024} and nodes(ran, "b") == {1: 1024}
    assert ran.vmstat("b", "thp_migration_success") == 2


def test_reclaim_demotes_huge_pages_whole():
    script = f"spawn A\nsysfs mm/numa/demotion_enabled 1\nset_mempolicy A bind nodes=0\nmmap A r 340M anon huge=yes at={ADDR:#x}\ntouch A r 0 340M w\nsnapshot b\n"
    ran = Ran(script, **TIERS)
    moved = ran.vmstat("b", "thp_migration_success")
    demoted = ran.vmstat("b", "pgdemote_kswapd") + ran.vmstat("b", "pgdemote_direct")
    assert moved > 5 and ran.vmstat("b", "pgmigrate_success") == demoted >= 512 * moved
    assert nodes(ran, "b")[1] == 512 * moved  # what else was demoted is other processes'


def test_damon_migrates_huge_pages():
    base = "sysfs mm/damon/admin/kdamonds/"
    ctx = f"{base}0/contexts/0/"
    scheme = f"{ctx}schemes/0/"
    lines = [
        f"{base}nr_kdamonds 1", f"{base}0/contexts/nr_contexts 1", f"{ctx}operations paddr", f"{ctx}targets/nr_targets 1",
        f"{ctx}targets/0/regions/nr_regions 1", f"{ctx}targets/0/regions/0/start 0", f"{ctx}targets/0/regions/0/end 335544320",
        f"{ctx}schemes/nr_schemes 1", f"{scheme}action migrate_cold", f"{scheme}target_nid 1", f"{scheme}access_pattern/sz/min 4096",
        f"{scheme}access_pattern/sz/max 9223372036854775808", f"{scheme}access_pattern/age/max 1000000", f"{base}0/state on", "sleep 250",
    ]  # fmt: skip
    ran = Ran(FILL + "\n".join(lines) + f"\n{base}0/state off\nsnapshot b\n", monitor={"use": "damon", "params": {"autostart": False}}, **HUGE)
    assert nodes(ran, "b") == {1: 1024} and ran.vmstat("b", "thp_migration_success") == 2


BALANCED = FILL.replace("touch", "set_mempolicy A bind nodes=1\ntouch").replace("snapshot a", "set_mempolicy A default\nsnapshot a")
COUNTERS = "numa_pte_updates numa_huge_pte_updates numa_hint_faults numa_hint_faults_local numa_pages_migrated thp_migration_success".split()


def deltas(ran: Ran, first: str, last: str, names: list[str] = COUNTERS) -> list[int]:
    """By how much vmstat's counters grew."""
    return [ran.vmstat(last, name) - ran.vmstat(first, name) for name in names]


@pytest.mark.parametrize("access, faults", [("r", 2), ("w", 4)])
def test_a_hinting_fault_moves_a_huge_page_and_a_write_faults_once_more(access, faults):
    ran = Ran(BALANCED + f"sysctl kernel.numa_balancing 1\nloop A r 0 4M 1500 {access}\nsnapshot b\n", **HUGE)
    assert nodes(ran, "a") == {1: 1024} and nodes(ran, "b") == {0: 1024}
    assert deltas(ran, "a", "b") == [1024, 2, 2, 0, 1024, 2]
    assert ran.minflt(8) == [faults] and ran.smaps("b", "A", ADDR, "AnonHugePages") == 4096


def test_huge_pages_are_marked_where_they_are_local_already():
    """A single page would be left alone: the scan knows which node the task runs on, but does not ask for huge entries."""
    ran = Ran(FILL + "sysctl kernel.numa_balancing 1\nloop A r 0 4M 1500 w\nsnapshot b\n", **HUGE)
    assert deltas(ran, "a", "b") == [1024, 2, 2, 2, 0, 0]
    assert ran.minflt(6) == [2]  # writable again at once


def test_a_large_folio_mapped_page_by_page_faults_once_and_moves_whole():
    cut = "mprotect A r 0 1 r\nmprotect A r 0 1 rw\nsysctl kernel.numa_balancing 1\nloop A r 100 412 1500 r\nsnapshot b\n"
    ran = Ran(BALANCED + cut, **HUGE)
    assert deltas(ran, "a", "b") == [1024, 1, 1, 0, 512, 1] and ran.vmstat("b", "thp_split_pmd") == 1
    assert nodes(ran, "b") == {0: 512, 1: 512} and ran.minflt(10) == [1]


def test_all_entries_of_a_large_folio_that_stays_are_open_after_one_fault():
    """Without memory tiering a page of slow memory that nobody was seen to use before stays where it is."""
    cut = "mprotect A r 0 1 r\nmprotect A r 0 1 rw\nsysctl kernel.numa_balancing 1\nloop A r 100 412 1500 r\nsnapshot b\n"
    ran = Ran(BALANCED + cut, **TIERS)
    assert deltas(ran, "a", "b") == [1024, 1, 1, 0, 0, 0] and ran.minflt(10) == [1]
    assert nodes(ran, "b") == {1: 1024}


def test_the_promotion_rate_limit_counts_the_pages_of_a_huge_page():
    setting = "sysctl kernel.numa_balancing_promote_rate_limit_MBps 1\nsysctl kernel.numa_balancing 2\n"
    ran = Ran(BALANCED + setting + "loop A r 0 4M 1500 r\nsnapshot b\n", **TIERS)
    assert deltas(ran, "a", "b", ["pgpromote_candidate", "pgpromote_success"]) == [1024, 512]
