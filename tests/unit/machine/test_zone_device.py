"""ZONE_DEVICE: persistent memory has struct pages, which lie in ordinary memory, and no allocator."""

from __future__ import annotations

import pytest

from mmlab.errors import InputError
from mmlab.mm.page_alloc import alloc_pages
from mmlab.model import rows as r
from mmlab.model.gfp import GFP_HIGHUSER_MOVABLE
from mmlab.procfs import read
from mmlab.simulation import Simulation


def a_machine(cmdline: str = "memmap=256M!512M", **more) -> Simulation:
    never = {"kernel/mm/transparent_hugepage/enabled": "never"}
    return Simulation.from_table({"memory": "1G", "cpus": 1, "cmdline": cmdline} | more, sysfs=never)


def unused(sim: Simulation) -> int:
    """Free pages and those on per-CPU lists."""
    pcp = sim.machine.pcp
    free = sim.machine.zone[r.Z_FREE :: r.ZONE_STRIDE].sum() + pcp[r.PCP_FREE_DIFF :: r.PCP_STRIDE].sum()
    return int(free + pcp[r.PCP_COUNT :: r.PCP_STRIDE].sum())


def test_a_range_of_ram_becomes_a_zone_of_its_own():
    sim, plain = a_machine(), a_machine("memmap=256M$512M")
    zone = sim.layout.zone(0, "Device")
    assert (zone.start_pfn, zone.spanned, zone.present, zone.managed) == (1 << 17, 65536, 0, 0)
    assert sim.layout.zone(0, "DMA32") == plain.layout.zone(0, "DMA32")  # it is not there any more
    assert "zone   Device\n  pages free     0\n" in read(sim, "/proc/zoneinfo") and "spanned  65536\n        present  0\n" in read(sim, "/proc/zoneinfo")
    assert "Device" not in read(sim, "/proc/buddyinfo")
    assert sim.machine.op("memory_model", "pfn_valid", zone.start_pfn + 5) == 1
    assert plain.machine.op("memory_model", "pfn_valid", zone.start_pfn + 5) == 0
    assert unused(plain) - unused(sim) == 2 * 512  # struct pages of two sections
    assert read(sim, "/proc/meminfo").splitlines()[0] == read(plain, "/proc/meminfo").splitlines()[0]
    assert sim.check_state() == []


def test_nothing_is_ever_allocated_there():
    sim = a_machine("memmap=128M!128M", memory="384M")
    zone = sim.layout.zone(0, "Device")
    pfns = []
    while (pfn := sim.machine.run(alloc_pages, GFP_HIGHUSER_MOVABLE & ~0xC00, 4, 0)) >= 0:
        pfns.append(pfn)
    assert len(pfns) > 1000 and not any(zone.start_pfn <= pfn < zone.end_pfn for pfn in pfns)
    assert sim.check_state() == []


@pytest.mark.parametrize("cmdline", ["memmap=64M!2G", "memmap=64M!1000M", "memmap=1M!8M"])
def test_where_there_is_no_memory_there_is_no_device(cmdline):
    with pytest.raises(InputError, match="machine.cmdline: memmap: .*: must be memory above 16M that the machine has"):
        a_machine(cmdline)
