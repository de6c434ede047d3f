"""alloc_pages_bulk(): many single pages with one look at the watermark, all from one zone."""

from __future__ import annotations

import pytest

from mmlab.errors import MmlabError
from mmlab.model import rows as r
from mmlab.model.vmstat import VMSTAT_NAMES
from mmlab.simulation import Simulation

DMA32 = r.ZONE_STRIDE  # of a 128M machine


def a_machine(**more) -> Simulation:
    return Simulation.from_table({"memory": "128M", "cpus": 1} | more, sysfs={"kernel/mm/transparent_hugepage/enabled": "never"})


def pgalloc(sim: Simulation) -> int:
    return int(sum(sim.machine.vmstat[VMSTAT_NAMES.index(f"pgalloc_{zone}")] for zone in ("dma", "dma32", "normal")))


def test_all_pages_come_from_one_zone_and_count_each():
    sim = a_machine()
    hits, allocated = int(sim.machine.zone[DMA32 + r.Z_NUMA_HIT]), pgalloc(sim)
    pages = sim.alloc_pages_bulk(300)
    assert len(set(pages)) == 300 and min(pages) >= 4096
    assert sim.machine.zone[DMA32 + r.Z_NUMA_HIT] - hits == pgalloc(sim) - allocated == 300
    assert sim.check_state() == []
    for pfn in pages:
        sim.free_pages(pfn)
    assert sim.alloc_pages_bulk(0) == []


def test_the_watermark_is_asked_for_all_of_them_together():
    """A zone with fewer free pages above low than are wanted is passed over; where none has, a single page comes."""
    sim = a_machine()
    row = sim.machine.zone[DMA32 : DMA32 + r.ZONE_STRIDE]
    room = int(row[r.Z_FREE] - row[r.Z_WMARK_LOW])
    dma = int(sim.machine.zone[r.Z_FREE] - sim.machine.zone[r.Z_WMARK_LOW] - sim.machine.zone[r.Z_LOWMEM_RESERVE + 2])
    assert len(sim.alloc_pages_bulk(max(room, dma) + 1)) == 1
    first = sim.alloc_pages_bulk(dma - 10, "GFP_DMA")
    assert len(first) == dma - 10 and max(first) < 4096
    assert len(sim.alloc_pages_bulk(1000)) == 1000


def test_other_nodes_are_not_drawn_on():
    sim = a_machine(memory="512M", nodes=[{"memory": "256M", "cpus": [0]}, {"memory": "256M"}])
    pages = sim.alloc_pages_bulk(200, node=1)
    zone = sim.layout.zone(1, "DMA32")
    assert len(pages) == 200 and all(zone.start_pfn <= pfn < zone.end_pfn for pfn in pages)
    assert len(sim.alloc_pages_bulk(70_000, node=1)) == 1  # more than the node has: one page by the ordinary way


def test_requests_that_cannot_be():
    sim = a_machine()
    with pytest.raises(MmlabError, match="alloc_pages_bulk: count must not be negative, got -1"):
        sim.alloc_pages_bulk(-1)
    with pytest.raises(MmlabError, match="alloc_pages_bulk: no CPU 3 or no node -1"):
        sim.alloc_pages_bulk(2, cpu=3)
