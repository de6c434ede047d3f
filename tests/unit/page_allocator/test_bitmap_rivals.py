"""next_fit, llfree, tlsf and reservation: which frames they hand out, in zones that begin at frame 4096."""

from __future__ import annotations

import pytest
from zone_machine import ZoneMachine

from mmlab.model import rows as r
from mmlab.model.const import ENOMEM
from mmlab_rivals.page_allocator.llfree import LLFREE, TREE
from mmlab_rivals.page_allocator.next_fit import NEXT_FIT
from mmlab_rivals.page_allocator.reservation import RESERVATION
from mmlab_rivals.page_allocator.tlsf import TLSF

POLICIES = {p.name: p for p in (NEXT_FIT, LLFREE, TLSF, RESERVATION)}
machines: dict[tuple, ZoneMachine] = {}


def machine(name, memory="64M", cpus=1):
    key = (name, memory, cpus)
    if key not in machines:
        machines[key] = ZoneMachine(POLICIES[name], memory, cpus)
    machines[key].reset()
    return machines[key]


@pytest.mark.parametrize("name", POLICIES)
def test_every_order_to_the_end_of_memory_and_back(name):
    z = machine(name, "8M")
    for order in range(11):
        got = [z.alloc(order) for _ in range((2048 >> order) + 1)]
        assert sorted(got) == [-ENOMEM, *range(4096, 6144, 1 << order)]
        assert z.nr_free() == 0 and z.check() == 0 and not z.can_alloc(0)
        for pfn in got[:-1]:
            z.free(pfn, order)
        assert z.blocks(10) == 2 and z.nr_free() == 2048 and z.check() == 0


@pytest.mark.parametrize("name", POLICIES)
def test_isolated_runs_are_in_use(name):
    z = machine(name, "8M")
    z.alloc(9)
    start = next(pfn for pfn in range(4096, 6144, 512) if z.is_free(pfn))
    found = z.m.op("page_allocator", "isolate_free", start)
    assert found == z.is_free(start) + found >= 10 and z.check() == 0
    assert z.nr_free() == 2048 - 512 - (1 << found - 1)
    z.free(start, found - 1)
    assert z.nr_free() == 2048 - 512 and z.check() == 0


@pytest.mark.parametrize("name", POLICIES)
def test_check_finds_a_wrong_count(name):
    z = machine(name, "8M")
    z.row[r.Z_FREE] += 1
    assert z.check() > 0


def test_next_fit_goes_on_where_it_was():
    z = machine("next_fit")
    assert [z.alloc(order) for order in (0, 3, 0, 0, 5)] == [4096, 4104, 4112, 4113, 4128]
    z.free(4096)
    assert z.alloc() == 4160
    while z.alloc(5) >= 0:
        pass
    assert z.alloc() == 4096  # round again


def test_llfree_keeps_to_its_tree_and_leaves_others_to_empty():
    z = machine("llfree", "192M")  # three trees and a part
    st = z.m.states["page_allocator"]
    pages = [z.alloc() for _ in range(2 * TREE)]
    assert st.nr_trees[z.zone] == 4 and (z.start >> 14, z.end >> 14) == (0, 3)
    assert {pfn >> 14 for pfn in pages} == {1, 2} or len({pfn >> 14 for pfn in pages}) == 3
    first, last = min(pages) >> 14, max(pages) >> 14
    for pfn in pages:
        if pfn % 2 == 0:
            z.free(pfn)
    z.drain()
    got = {z.alloc() >> 14 for _ in range(TREE // 4)}
    assert len(got) == 1 and got < set(range(first, last + 1))  # one half-free tree is filled up, none that is free is opened
    assert z.check() == 0


def test_llfree_fills_the_same_trees_again():
    """What two trees lose comes back to the one nearer to the beginning of the counters' line; the other one empties."""
    z = machine("llfree", "192M")
    st = z.m.states["page_allocator"]
    base = int(st.first_tree[z.zone])
    near = [pfn for pfn in range(1 * TREE, 2 * TREE)]
    far = [pfn for pfn in range(2 * TREE, 3 * TREE)]
    everything = {z.alloc() for _ in range(z.end - z.start)}
    assert everything >= {*near, *far}
    for pfn in near[:2048] + far[:2048]:
        z.free(pfn)
    z.drain()
    assert [int(n) for n in st.tree_free[base + 1 : base + 3]] == [2048, 2048]
    assert {z.alloc() >> 14 for _ in range(1000)} == {1}


def test_llfree_cpus_work_in_trees_of_their_own():
    z = machine("llfree", "192M", 2)
    seen = []
    for cpu in (0, 1, 0, 1):
        z.m.sc[r.SC_CPU] = cpu
        seen.append(z.alloc() >> 14)
    z.m.sc[r.SC_CPU] = 0
    assert seen[0] == seen[2] != seen[1] == seen[3]


def test_llfree_frees_into_one_tree_reserve_it():
    z = machine("llfree", "192M")
    st = z.m.states["page_allocator"]
    pages = [z.alloc() for _ in range(z.end - z.start)]
    here = int(st.local_tree[z.zone])
    other = next(t for t in {1, 2} if int(st.first_tree[z.zone]) + t != here)
    for pfn in sorted(pfn for pfn in pages if pfn >> 14 == other)[:1100]:
        z.free(pfn)
    assert int(st.local_tree[z.zone]) == int(st.first_tree[z.zone]) + other
    assert z.check() == 0


def test_tlsf_cuts_the_smallest_block_that_has_a_place():
    z = machine("tlsf", "8M")
    a = [z.alloc(3) for _ in range(128)]
    assert sorted(a) == list(range(min(a), min(a) + 1024, 8))
    low = min(a)
    z.free(low + 16, 3)  # 8 frames free by themselves
    for pfn in (low + 64, low + 72, low + 80):
        z.free(pfn, 3)  # 24 frames in one block, although no order fits
    st = z.m.states["page_allocator"]
    assert [int(st.head_size[low + at]) for at in (16, 64, 72, 80)] == [8, 24, 0, 0]
    assert z.alloc(3) == low + 16
    assert z.alloc(4) == low + 64  # 16 of the 24, which begin aligned
    assert int(st.head_size[low + 80]) == 8 and z.check() == 0
    assert z.alloc(0) == low + 80


def test_reservations_keep_owners_apart():
    z = machine("reservation")
    movable, other = [z.alloc(0, 1) for _ in range(3)], [z.alloc(0, 0) for _ in range(3)]
    assert movable == [4096, 4097, 4098] and other == [4608, 4609, 4610]
    z.m.sc[r.SC_TASK] = 3
    assert z.alloc(2) == 5120
    z.m.sc[r.SC_TASK] = -1
    assert z.alloc(9) == 5632 and z.alloc(10) == 6144
    st = z.m.states["page_allocator"]
    assert [bool(st.chunk_owner[pfn >> 9]) for pfn in (4096, 4608, 5120, 5632)] == [True, True, True, False]
    for pfn in other:
        z.free(pfn)
    assert not st.chunk_owner[4608 >> 9] and z.check() == 0


def test_a_reservation_breaks_when_nothing_else_is_left():
    z = machine("reservation", "4M")  # two huge frames
    first = z.alloc(0, 1)
    second = z.alloc(0, 0)
    assert {first, second} == {4096, 4608}
    z.m.sc[r.SC_TASK] = 5
    got = z.alloc(0, 1)  # the movable pages' reservation was used longest ago
    assert got == 4097
    z.m.sc[r.SC_TASK] = -1
    assert [z.alloc(8, 1), z.alloc(8, 1)] == [4352, 4864]
    assert z.check() == 0
