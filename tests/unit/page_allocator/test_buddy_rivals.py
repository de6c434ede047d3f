"""buddy without per-CPU lists, and without mobility types: what each no longer does."""

from __future__ import annotations

from mmlab.mm.page_alloc import alloc_pages, free_pages
from mmlab.model import rows as r
from mmlab.model.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from mmlab.simulation import Simulation


def a_machine(policy: str) -> Simulation:
    return Simulation.from_table({"memory": "128M", "cpus": 1}, policies={"page_allocator": {"use": policy}})


def test_without_per_cpu_lists_a_freed_page_merges_at_once():
    sim = a_machine("buddy_nopcp")
    m = sim.machine
    blocks = [m.op("page_allocator", "nr_free_blocks", 1, order, 1) for order in range(11)]
    pfn = m.run(alloc_pages, GFP_HIGHUSER_MOVABLE, 0, -1)
    assert m.pcp[r.PCP_STRIDE + r.PCP_COUNT] == 0
    m.run(free_pages, pfn, 0)
    assert [m.op("page_allocator", "nr_free_blocks", 1, order, 1) for order in range(11)] == blocks
    assert sim.check_state() == []


def test_with_per_cpu_lists_it_does_not():
    sim = a_machine("buddy")
    sim.machine.run(free_pages, sim.machine.run(alloc_pages, GFP_HIGHUSER_MOVABLE, 0, -1), 0)
    assert sim.machine.pcp[r.PCP_STRIDE + r.PCP_COUNT] > 0


def test_without_mobility_types_kernel_and_user_pages_are_neighbours():
    sim = a_machine("buddy_nomigratetype")
    m = sim.machine
    pfns = [m.run(alloc_pages, gfp, 0, -1) for gfp in (GFP_KERNEL, GFP_HIGHUSER_MOVABLE) * 100]
    assert {pfn >> 9 for pfn in pfns[::2]} & {pfn >> 9 for pfn in pfns[1::2]}
    assert {m.op("page_allocator", "block_type", pfn) for pfn in pfns} == {1}
    assert sim.check_state() == []


def test_with_mobility_types_they_are_in_blocks_of_their_own():
    m = a_machine("buddy").machine
    kernel = {m.run(alloc_pages, GFP_KERNEL, 0, -1) >> 9 for _ in range(100)}
    user = {m.run(alloc_pages, GFP_HIGHUSER_MOVABLE, 0, -1) >> 9 for _ in range(100)}
    assert not kernel & user
