"""A 32-bit machine: DMA, Normal, and high memory for what the kernel need not address."""

from __future__ import annotations

import pytest

from mmlab.errors import InputError
from mmlab.mm.page_alloc import alloc_pages
from mmlab.model import rows as r
from mmlab.model.const import WRITE
from mmlab.model.gfp import GFP_ATOMIC, GFP_DMA, GFP_HIGHMEM, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_KSWAPD_RECLAIM, GFP_MOVABLE
from mmlab.procfs import read
from mmlab.simulation import Simulation

HIGH = 896 << 8


def a_machine(**more) -> Simulation:
    never = {"kernel/mm/transparent_hugepage/enabled": "never"}
    return Simulation.from_table({"preset": "i386-2g"} | more, sysfs=never)


def test_three_zones_and_their_reserves():
    sim = a_machine()
    assert [(z.name, z.start_pfn, z.managed) for z in sim.layout.zones] == [("DMA", 1, 4095), ("Normal", 4096, 225280), ("HighMem", HIGH, 294913)]
    normal, high = sim.tuning.wmark[1], sim.tuning.wmark[2]
    assert high.min == 128 and normal.min > 800  # high memory needs no reserve for the kernel: managed / 1024, at most 128
    assert sim.tuning.lowmem_reserve[1][3] == 294913 // 32 and sim.tuning.lowmem_reserve[0][3] == (225280 + 294913) // 256
    text = read(sim, "/proc/zoneinfo")
    assert "zone  HighMem\n" in text and "DMA32" not in text and "Movable" not in text
    assert "zone  HighMem " in read(sim, "/proc/buddyinfo")
    assert "pgalloc_high 0\n" in read(sim, "/proc/vmstat") and "pgalloc_dma32" not in read(sim, "/proc/vmstat")


def test_who_may_use_high_memory():
    sim = a_machine()
    run = sim.machine.run
    assert run(alloc_pages, GFP_HIGHUSER_MOVABLE, 0, 0) >= HIGH
    assert run(alloc_pages, GFP_KERNEL | GFP_HIGHMEM, 0, 0) >= HIGH
    for gfp in (GFP_KERNEL, GFP_KERNEL | GFP_MOVABLE, GFP_ATOMIC):
        assert 4096 <= run(alloc_pages, gfp, 0, 0) < HIGH
    assert run(alloc_pages, GFP_KERNEL | GFP_DMA, 0, 0) < 4096
    assert int(read(sim, "/proc/vmstat").split("pgalloc_high ")[1].split()[0]) == 2


def test_low_memory_runs_out_while_high_memory_is_free():
    sim = a_machine(memory="1G")
    gfp = GFP_KERNEL & ~0xC00 & ~GFP_KSWAPD_RECLAIM
    while sim.machine.run(alloc_pages, GFP_ATOMIC & ~GFP_KSWAPD_RECLAIM, 9, 0) >= 0:
        pass
    assert sim.machine.run(alloc_pages, gfp, 9, 0) < 0
    assert sim.machine.run(alloc_pages, GFP_HIGHUSER_MOVABLE, 9, 0) >= HIGH
    assert sim.machine.zone[2 * r.ZONE_STRIDE + r.Z_FREE] > 30_000
    assert sim.check_state() == []


def test_a_task_lies_in_high_memory_and_its_page_tables_do_not():
    sim = a_machine()
    sim.spawn("A")
    addr = sim.mmap("A", 5000 << 12)
    sim.touch("A", addr, 5000, WRITE)
    kinds = sim.machine.pagex[3::4] >> 12 & 15
    frames = sim.machine.sizes.nr_frames
    anon, tables = (kinds[:frames] == 2).nonzero()[0], (kinds[:frames] == 6).nonzero()[0]
    assert len(anon) == 5000 and anon.min() >= HIGH and len(tables) > 5 and tables.max() < HIGH
    assert sim.check_state() == []


@pytest.mark.parametrize(
    "table, message",
    [
        ({"memory": "2G", "bits": 32}, "machine.bits: a 32-bit machine needs bare = true"),
        ({"memory": "2G", "bits": 48}, "machine.bits: must be 32 or 64, got 48"),
        ({"memory": "2G", "bits": 8}, "machine.bits: must be a whole number between 32 and 64, got 8"),
    ],
)
def test_what_cannot_be(table, message):
    with pytest.raises(InputError, match=message):
        Simulation.from_table(table)
