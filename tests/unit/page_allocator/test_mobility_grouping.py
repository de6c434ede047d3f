"""Machines too small to keep pages apart by mobility: less than 512 pages for each of five types, struct pages (1 in 64) not counted."""

import pytest

from mmlab.kernels import ops
from mmlab.mm.page_alloc import alloc_pages
from mmlab.model import rows as r
from mmlab.model.const import MIGRATE_HIGHATOMIC, MIGRATE_ISOLATE, MIGRATE_MOVABLE, MIGRATE_UNMOVABLE
from mmlab.model.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_RECLAIMABLE
from mmlab.simulation import Simulation


def machine(memory):
    return Simulation.from_table({"memory": memory, "bare": True, "cpus": 1})


def taken_types(sim):
    """Types of the pageblocks from which one request of each kind is served."""
    m = sim.machine
    pfns = [m.run(alloc_pages, gfp, 0, -1) for gfp in (GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_KERNEL | GFP_RECLAIMABLE)]
    return [m.op("page_allocator", "block_type", pfn) for pfn in pfns], len({pfn >> 9 for pfn in pfns})


@pytest.mark.parametrize(("memory", "off"), [("4M", 1), ("10M", 1), ("11M", 0), ("64M", 0)])
def test_memory_decides(memory, off):
    """10M are 2560 pages, of which 40 hold struct pages."""
    assert machine(memory).machine.sc[r.SC_MOBILITY_DISABLED] == off


def test_all_requests_share_one_pageblock():
    sim = machine("8M")
    assert taken_types(sim) == ([MIGRATE_UNMOVABLE] * 3, 1) and sim.check_state() == []
    types, blocks = taken_types(machine("64M"))
    assert types == [1, 0, 2] and blocks == 3


def test_blocks_become_unmovable_as_they_are_claimed():
    """They are Movable before: the kernel sets them up before it knows how much memory there is."""
    m = machine("8M").machine
    last = int(m.zone[r.Z_END_PFN]) - 1
    assert m.op("page_allocator", "block_type", last) == MIGRATE_MOVABLE
    while m.run(alloc_pages, GFP_HIGHUSER_MOVABLE, 0, -1) < last - 1023:  # the last block of order 10
        pass
    assert m.op("page_allocator", "block_type", last) == MIGRATE_UNMOVABLE


def test_what_was_isolated_comes_back_unmovable():
    sim = machine("8M")
    m = sim.machine
    for migratetype, then in ((MIGRATE_ISOLATE, MIGRATE_ISOLATE), (MIGRATE_MOVABLE, MIGRATE_UNMOVABLE), (MIGRATE_HIGHATOMIC, MIGRATE_HIGHATOMIC)):
        m.run(ops.page_allocator_set_block_type, 2 << 9, migratetype)
        assert m.op("page_allocator", "block_type", 2 << 9) == then
    assert sim.check_state() == []
