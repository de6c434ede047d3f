"""CMA: an area that movable pages may use until a contiguous block is wanted."""

from __future__ import annotations

import pytest
from test_compaction import events, frames

from mmlab.errors import InputError
from mmlab.mm.page_alloc import alloc_pages
from mmlab.model import rows as r
from mmlab.model.const import MIGRATE_CMA, WRITE
from mmlab.model.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_KSWAPD_RECLAIM, GFP_NOWAIT
from mmlab.procfs import read, write
from mmlab.simulation import Simulation

DEBUG, SYSFS = "/sys/kernel/debug/cma/reserved/", "/sys/kernel/mm/cma/reserved/"


def a_machine(size: str = "32M", memory: str = "128M", policies=None) -> Simulation:
    never = {"kernel/mm/transparent_hugepage/enabled": "never"}
    return Simulation.from_table({"memory": memory, "cpus": 1, "bare": True, "cmdline": f"cma={size}"}, sysfs=never, policies=policies)


def area(sim: Simulation) -> range:
    base, count = int(read(sim, DEBUG + "base_pfn")), int(read(sim, DEBUG + "count"))
    return range(base, base + count)


def zone_field(sim: Simulation, field: int) -> int:
    return int(sim.machine.zone[field :: r.ZONE_STRIDE].sum())


def test_boot_sets_the_top_of_memory_aside():
    sim = a_machine()
    assert area(sim) == range(4096 + 32768 - 8192, 4096 + 32768)
    assert zone_field(sim, r.Z_FREE_CMA) == 8192 and set(sim.machine.pageblock[area(sim).start >> 9 : area(sim).stop >> 9]) == {MIGRATE_CMA}
    assert "CmaTotal:          32768 kB\nCmaFree:           32768 kB\n" in read(sim, "/proc/meminfo")
    assert "nr_free_cma 8192\n" in read(sim, "/proc/vmstat") and "        cma      8192\n" in read(sim, "/proc/zoneinfo")
    assert "CMA" in read(sim, "/proc/pagetypeinfo")
    assert sim.check_state() == []
    none = Simulation.from_table({"memory": "128M", "bare": True})
    assert none.cma == [] and "CMA" not in read(none, "/proc/pagetypeinfo") and "Cma" not in read(none, "/proc/meminfo")


def test_an_address_is_taken_as_it_is_and_above_4g_the_lowest_place():
    assert area(a_machine("4M@32M")) == range(8192, 8192 + 1024)
    assert area(a_machine("16M", memory="5G")).start == 1 << 20


def test_only_movable_requests_get_its_pages_and_others_do_not_count_them():
    sim = a_machine("96M")
    run = sim.machine.run
    inside = area(sim)
    others = []
    while (pfn := run(alloc_pages, GFP_NOWAIT & ~GFP_KSWAPD_RECLAIM, 0, 0)) >= 0:
        others.append(pfn)
    assert others and not any(pfn in inside for pfn in others)
    assert zone_field(sim, r.Z_FREE_CMA) == len(inside) and len(others) < 8192  # its own quarter, less the watermark
    assert run(alloc_pages, GFP_HIGHUSER_MOVABLE, 0, 0) in inside


def test_movable_requests_go_there_first_while_most_free_memory_is_there():
    sim = a_machine("96M")  # three quarters
    inside = area(sim)
    assert all(sim.machine.run(alloc_pages, GFP_HIGHUSER_MOVABLE, 4, 0) in inside for _ in range(200))
    small = a_machine("32M")  # a quarter
    assert not any(small.machine.run(alloc_pages, GFP_HIGHUSER_MOVABLE, 4, 0) in area(small) for _ in range(200))
    assert small.machine.run(alloc_pages, GFP_KERNEL, 4, 0) not in area(small)


def unused(sim: Simulation) -> int:
    """Free pages and those on per-CPU lists."""
    pcp = sim.machine.pcp
    return zone_field(sim, r.Z_FREE) + int(pcp[r.PCP_FREE_DIFF :: r.PCP_STRIDE].sum() + pcp[r.PCP_COUNT :: r.PCP_STRIDE].sum())


def filled(sim: Simulation) -> tuple[int, int, int]:
    """A task whose pages fill the area and more: its mm, first virtual page, pages."""
    sim.spawn("A")
    pages = 20_000
    addr = sim.mmap("A", pages << 12)
    sim.touch("A", addr, pages, WRITE)
    return int(sim.machine.task[sim.tasks["A"].index * r.TASK_STRIDE + r.T_MM]), addr >> 12, pages


def test_a_block_is_had_by_moving_away_what_lies_there():
    sim = a_machine("96M")
    mm, vpn, pages = filled(sim)
    before, inside = frames(sim, mm, vpn, pages), area(sim)
    free = unused(sim)
    wanted = range(inside.start, inside.start + 700)
    there = sum(pfn in wanted for pfn in before.values())
    assert there > 600
    assert write(sim, DEBUG + "alloc", "700") == 0
    after = frames(sim, mm, vpn, pages)
    assert list(after) == list(before) and not any(pfn in wanted for pfn in after.values())
    assert {page for page in before if before[page] != after[page]} == {page for page in before if before[page] in wanted}
    assert events(sim, "pgmigrate_")["pgmigrate_success"] == there
    assert read(sim, DEBUG + "used") == "700\n" and read(sim, SYSFS + "alloc_pages_success") == "700\n"
    assert unused(sim) == free - 700
    assert set(sim.machine.pageblock[inside.start >> 9 : inside.stop >> 9]) == {MIGRATE_CMA}
    assert sim.check_state() == []
    assert write(sim, DEBUG + "alloc", "300") == 0
    assert write(sim, DEBUG + "free", "400") == 0  # the last 300, and 100 of those before
    assert read(sim, DEBUG + "used") == "600\n" and read(sim, SYSFS + "release_pages_success") == "400\n"
    assert sim.check_state() == []


def test_pages_that_cannot_move_make_it_try_the_next_place():
    sim = a_machine("96M")
    inside = area(sim)
    held = sim.machine.run(alloc_pages, GFP_HIGHUSER_MOVABLE, 0, 0)  # on no list: nobody can move it
    assert held in inside
    assert write(sim, DEBUG + "alloc", str(held - inside.start + 1)) == 0
    assert sim.cma[0].blocks[0][0] > held
    assert write(sim, DEBUG + "alloc", str(len(inside))) == -12
    assert read(sim, SYSFS + "alloc_pages_fail") == f"{len(inside)}\n"
    assert sim.check_state() == []


def test_large_folios_move_too():
    sim = a_machine("96M")
    write(sim, "/sys/kernel/mm/transparent_hugepage/enabled", "always")
    sim.spawn("A")
    addr = sim.mmap("A", 16 << 21, flags={"fixed"}, addr=1 << 32)
    sim.touch("A", addr, 16 * 512, WRITE)
    inside = area(sim)
    huge = events(sim, "thp_fault_alloc")["thp_fault_alloc"]
    assert huge == 16 and write(sim, DEBUG + "alloc", "2048") == 0
    counts = events(sim, "thp_migration") | events(sim, "pgmigrate_")
    assert counts["thp_migration_success"] == counts["pgmigrate_success"] // 512 > 0
    assert events(sim, "nr_anon_transparent_hugepages")["nr_anon_transparent_hugepages"] == 16
    assert sim.cma[0].blocks == [(inside.start, 2048)]
    assert sim.check_state() == []
    sim.exit("A")
    assert sim.check_state() == []


@pytest.mark.parametrize(
    "cmdline, policies, message",
    [
        ("cma=nonsense", None, r"machine.cmdline: cma: must be a size"),
        ("cma=1G", None, r"machine.cmdline: cma: no 1024 MiB of free memory in whole pageblocks"),
        ("cma=4M@1M", None, r"machine.cmdline: cma: no 4 MiB of free memory at 0x100000"),
        ("cma=4M", {"page_allocator": {"use": "llfree"}}, r"page allocator 'llfree' has no CMA areas"),
    ],
)
def test_impossible_areas_are_refused(cmdline, policies, message):
    with pytest.raises(InputError, match=message):
        Simulation.from_table({"memory": "128M", "bare": True, "cmdline": cmdline}, policies=policies)
