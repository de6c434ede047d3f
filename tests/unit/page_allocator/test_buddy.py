"""The buddy allocator rule by rule, on a zone of 64 MiB that begins at frame 4096: 16 free blocks of order 10, all Movable."""

from __future__ import annotations

import pytest
from zone_machine import ZoneMachine

from mmlab.kernels import ops
from mmlab.kernels.jit import kernel
from mmlab.kernels.zones import mod_zone_free, take_zone_free
from mmlab.mm.page_alloc import alloc_pages
from mmlab.model import rows as r
from mmlab.model.const import ALLOC_HIGHATOMIC, ALLOC_KSWAPD, ALLOC_MIN_RESERVE, ALLOC_NOFRAGMENT, ALLOC_NON_BLOCK, ENOMEM
from mmlab.model.gfp import GFP_ATOMIC, GFP_KERNEL, GFP_RETRY_MAYFAIL
from mmlab.model.page import PG_BUDDY, PG_LRU
from mmlab.simulation import Simulation
from mmlab_linux.page_allocator.buddy import BUDDY

UNMOVABLE, MOVABLE, RECLAIMABLE, HIGHATOMIC = range(4)
BATCH, HIGH_MIN, HIGH_MAX = 3, 320, 2048


@pytest.fixture(scope="module")
def booted():
    return ZoneMachine(BUDDY, "64M", cpus=2)


@pytest.fixture
def z(booted):
    booted.reset()
    booted.m.sc[r.SC_CPU] = 0
    for cpu in range(2):
        booted.pcp_row(cpu)[[r.PCP_BATCH, r.PCP_HIGH_MIN, r.PCP_HIGH_MAX, r.PCP_HIGH]] = BATCH, HIGH_MIN, HIGH_MAX, HIGH_MIN
    return booted


@pytest.fixture(scope="module")
def big():
    """A zone of 512 MiB: large enough to keep pageblocks for atomic requests."""
    return ZoneMachine(BUDDY, "512M")


def use_up_movable(z: ZoneMachine) -> list[int]:
    """All memory as order-10 blocks in use."""
    return [z.alloc(10) for _ in range(16)]


def give_pages(z: ZoneMachine, pfns) -> None:
    """Free single pages straight to the free lists."""
    for pfn in pfns:
        z.free(pfn)
    z.drain()


def test_boot_hands_memory_over_lowest_address_first(z):
    assert z.free_list(10) == [4096 + 1024 * i for i in range(16)]
    assert z.nr_free() == 16384
    assert z.check() == 0


def test_a_block_is_split_from_the_lowest_address_and_the_halves_lie_on_their_lists(z):
    assert z.alloc(4) == 4096
    assert [z.free_list(order) for order in range(4, 10)] == [[4112], [4128], [4160], [4224], [4352], [4608]]
    assert z.nr_free() == 16384 - 16
    z.free(4096, 4)
    assert z.free_list(10) == [4096] + [4096 + 1024 * i for i in range(1, 16)]


def test_the_last_freed_block_comes_first(z):
    blocks = [z.alloc(5) for _ in range(8)]
    z.free(blocks[1], 5)
    z.free(blocks[4], 5)
    assert z.free_list(5) == [blocks[4], blocks[1]]
    assert z.alloc(5) == blocks[4]


def test_a_block_that_may_soon_merge_further_goes_to_the_tail(z):
    blocks = [z.alloc(5) for _ in range(8)]  # pairs of buddies: (0, 1), (2, 3), (4, 5), (6, 7)
    z.free(blocks[0], 5)
    assert z.free_list(5) == [blocks[0]]
    z.free(blocks[2], 5)
    z.free(blocks[3], 5)  # (2, 3) is one block of order 6 now, beside the pair (0, 1)
    z.free(blocks[4], 5)
    assert z.free_list(5) == [blocks[4], blocks[0]]
    assert [z.alloc(5), z.alloc(5)] == [blocks[4], blocks[0]]
    z.free(blocks[4], 5)
    z.free(blocks[0], 5)  # the buddy of (0, 1) is free with order 6: to the tail, behind 4
    assert z.free_list(5) == [blocks[4], blocks[0]]


def test_order_0_comes_in_growing_refills(z):
    counts = []
    for _ in range(1 + 3 + 6):
        z.alloc()
        counts.append(int(z.pcp_row(0)[r.PCP_COUNT]))
    assert counts == [2, 1, 0, 5, 4, 3, 2, 1, 0, 11]  # refills of 3, 6 and 12 pages


def test_pages_come_in_ascending_order_and_come_back_last_in_first_out(z):
    pages = [z.alloc() for _ in range(20)]
    assert pages == list(range(4096, 4116))
    for pfn in (4096, 4100, 4098):
        z.free(pfn)
    assert [z.alloc() for _ in range(3)] == [4098, 4100, 4096]


def test_a_full_list_gives_back_its_oldest_pages(z):
    pages = [z.alloc() for _ in range(400)]
    z.drain()
    pcp = z.pcp_row(0)
    pcp[r.PCP_HIGH] = pcp[r.PCP_HIGH_MAX] = HIGH_MIN  # no tuning
    before = z.nr_free()
    for pfn in pages[:HIGH_MIN]:
        z.free(pfn)
    given_back = 32 * BATCH  # what the CPU freed lately, which counts up to 32 batches
    assert z.nr_free() == before + given_back
    assert z.dump()["pcp"][0]["lists"]["1"] == pages[given_back:HIGH_MIN][::-1]
    assert z.drain() == HIGH_MIN - given_back
    assert z.check() == 0


def test_two_cpus_have_lists_of_their_own(z):
    assert z.alloc() == 4096
    z.m.sc[r.SC_CPU] = 1
    assert z.alloc() == 4099
    assert (z.drain(0), z.drain(1)) == (2, 2)
    assert (z.drain(0), z.drain(1)) == (0, 0)


def test_orders_through_the_cpu_lists(z):
    for order in range(11):
        z.free(z.alloc(order, UNMOVABLE), order)
    kept = {index: len(pfns) for index, pfns in z.dump()["pcp"][0]["lists"].items()}
    assert sorted(kept, key=int) == ["0", "3", "6", "9", "12"]
    assert z.check() == 0


def test_a_large_block_of_another_type_is_claimed_whole(z):
    assert z.alloc(4, UNMOVABLE) == 4096
    assert z.dump()["pageblocks"][:3] == [UNMOVABLE, UNMOVABLE, MOVABLE]
    assert z.blocks(9, UNMOVABLE) == 1
    assert z.row[r.Z_WATERMARK_BOOST] == 0


def test_a_mostly_free_pageblock_is_claimed_and_the_watermarks_are_boosted(z):
    use_up_movable(z)
    give_pages(z, range(8192, 8192 + 256))
    z.row[r.Z_WMARK_HIGH] = 400
    assert z.alloc(4, UNMOVABLE, ALLOC_KSWAPD) == 8192
    assert z.dump()["pageblocks"][8] == UNMOVABLE
    assert z.row[r.Z_WATERMARK_BOOST] == 512
    assert z.row[r.Z_FLAGS] & r.ZONE_BOOSTED_WATERMARK
    assert z.check() == 0


def test_pages_on_an_lru_list_keep_a_pageblock_movable(z):
    use_up_movable(z)
    give_pages(z, range(8192, 8192 + 200))
    z.m.page[2::4][8192 + 200 : 8192 + 457] |= PG_LRU  # 200 free, 257 movable: 255 of 512 are alike
    assert z.alloc(4, UNMOVABLE) == 8192 + 128  # stolen: the smaller of two blocks, of orders 7 and 6
    assert z.dump()["pageblocks"][8] == MOVABLE
    z.m.page[2::4][8192 + 456] ^= PG_LRU  # 256 movable: half of the pageblock is enough
    assert z.alloc(4, UNMOVABLE) == 8192 + 144
    assert z.dump()["pageblocks"][8] == UNMOVABLE


def test_without_mixing_a_request_takes_whole_pageblocks_or_nothing(z):
    use_up_movable(z)
    give_pages(z, range(8192, 8192 + 256))
    assert z.alloc(4, UNMOVABLE, ALLOC_NOFRAGMENT) == -ENOMEM
    give_pages(z, range(8192 + 256, 8192 + 512))
    assert z.alloc(4, UNMOVABLE, ALLOC_NOFRAGMENT) == 8192


def test_no_boost_where_the_factor_is_0(z):
    use_up_movable(z)
    give_pages(z, range(8192, 8192 + 256))
    z.m.sc[r.SC_BOOST_FACTOR] = 0
    try:
        z.alloc(4, UNMOVABLE)
    finally:
        z.m.sc[r.SC_BOOST_FACTOR] = 15000
    assert z.row[r.Z_WATERMARK_BOOST] == 0


def test_can_alloc_and_failure(z):
    assert z.can_alloc(10) == 1
    blocks = use_up_movable(z)
    assert z.can_alloc(1) == 0
    assert (z.alloc(10), z.alloc(0)) == (-ENOMEM, -ENOMEM)
    z.free(blocks[3], 10)
    assert z.alloc(10) == blocks[3]


def test_what_is_free_where(z):
    z.alloc(4)
    assert [z.is_free(pfn) for pfn in (4096, 4112, 4113, 4608, 5120, 5121, -1, 1 << 40)] == [0, 5, 0, 10, 11, 0, 0, 0]
    assert [z.blocks(order) for order in range(11)] == [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 15]


def test_high_sinks_while_it_is_not_needed(z):
    pages = [z.alloc() for _ in range(900)]
    for pfn in pages:
        z.free(pfn)
    pcp = z.pcp_row(0)
    high, count = int(pcp[r.PCP_HIGH]), int(pcp[r.PCP_COUNT])
    z.tick()
    assert pcp[r.PCP_HIGH] == max(count - 32 * BATCH, high - high // 8, HIGH_MIN)
    assert pcp[r.PCP_COUNT] <= pcp[r.PCP_HIGH]
    assert pcp[r.PCP_FREE_DIFF] == 0 and z.row[r.Z_FREE] == z.nr_free()
    for _ in range(40):
        z.tick()
    assert pcp[r.PCP_HIGH] == HIGH_MIN


def test_a_remote_zone_that_is_not_used_loses_a_batch_every_fourth_period(z):
    z.m.node[r.N_FIRST_CPU] = 1  # CPU 0 belongs to no node now
    try:
        for pfn in [z.alloc() for _ in range(60)]:
            z.free(pfn)
        pcp = z.pcp_row(0)
        pcp[r.PCP_FREE_DIFF], pcp[r.PCP_EXPIRE] = 0, 3
        counts = []
        for _ in range(3):
            z.tick()
            counts.append(int(pcp[r.PCP_COUNT]))
        assert counts[1] == counts[0]
        assert counts[2] == counts[0] - BATCH
    finally:
        z.m.node[r.N_FIRST_CPU] = 0


def test_check_finds_damage(z):
    z.alloc(4)
    z.m.page[4 * 4112 + 2] ^= PG_BUDDY  # no longer marked as a free block
    assert z.check() > 0
    z.reset()
    z.row[r.Z_FREE] += 1
    assert z.check() > 0
    z.reset()
    z.alloc()
    z.pcp_row(0)[r.PCP_COUNT] += 1
    assert z.check() > 0
    z.reset()
    z.m.pageblock[4096 >> 9] = RECLAIMABLE
    assert z.check() > 0


@kernel
def take_pages(m, zone, nr_pages, times, one_by_one):
    """Both ways of counting."""
    if one_by_one:
        for _ in range(times):
            mod_zone_free(m, zone, -nr_pages)
    else:
        take_zone_free(m, zone, nr_pages, times)
    return 0


@pytest.mark.parametrize("diff", [0, 4, -5])
@pytest.mark.parametrize("nr_pages", [1, 4])
def test_pages_taken_in_one_go_are_counted_as_if_one_by_one(z, diff, nr_pages):
    """The CPU's difference joins the zone's count whenever it falls below -threshold (here 5), as often as that happens."""
    for times in range(20):
        seen = []
        for one_by_one in (1, 0):
            z.row[[r.Z_STAT_THRESHOLD, r.Z_FREE]], z.pcp_row(0)[r.PCP_FREE_DIFF] = (5, 1000), diff
            z.m.run(take_pages, z.zone, nr_pages, times, one_by_one)
            seen.append((int(z.row[r.Z_FREE]), int(z.pcp_row(0)[r.PCP_FREE_DIFF])))
        assert seen[0] == seen[1] and sum(seen[0]) == 1000 + diff - times * nr_pages


def reserved(z: ZoneMachine) -> int:
    return int(z.row[r.Z_NR_RESERVED_HIGHATOMIC])


def test_the_highatomic_reserve_is_given_back_block_by_block(big):
    """Each call gives one pageblock that has free pages to the request's type; without force the last one stays."""
    z = big
    flags = ALLOC_HIGHATOMIC | ALLOC_MIN_RESERVE | ALLOC_NON_BLOCK
    first = z.alloc(1, 0, flags)
    assert reserved(z) == 512 and z.m.pageblock[first >> 9] == HIGHATOMIC
    while reserved(z) < 1024:  # a second one, when a request finds the first empty
        z.alloc(9, 0, flags)
    op = ops.page_allocator_unreserve_highatomic
    kept = int(z.row[r.Z_FREE_HIGHATOMIC])
    assert z.m.run(op, z.zone, 2, 0) == 512 and reserved(z) == 512
    assert z.m.run(op, z.zone, 2, 0) == 0 and reserved(z) == 512
    assert z.check() == 0
    z.m.run(op, z.zone, 2, 1)
    assert z.check() == 0 and z.row[r.Z_FREE_HIGHATOMIC] < kept and 2 in z.m.pageblock[z.start >> 9 : z.end >> 9]


def test_a_request_that_would_end_in_oom_gets_the_reserve_first():
    sim = Simulation.from_table({"memory": "384M", "cpus": 1}, sysfs={"kernel/mm/transparent_hugepage/enabled": "never"})
    m = sim.machine
    rows = m.zone.reshape(-1, r.ZONE_STRIDE)
    held = 0
    while rows[:, r.Z_NR_RESERVED_HIGHATOMIC].sum() == 0:  # atomic requests of order 1 below the low watermark reserve a pageblock
        assert m.run(alloc_pages, GFP_ATOMIC, 1, 0) >= 0
        held += 1
    m.run(alloc_pages, GFP_KERNEL | GFP_RETRY_MAYFAIL, 0, 0)
    while m.run(alloc_pages, GFP_KERNEL | GFP_RETRY_MAYFAIL, 0, 0) >= 0:
        held += 1
    assert rows[:, r.Z_NR_RESERVED_HIGHATOMIC].sum() == 0 or rows[:, r.Z_FREE_HIGHATOMIC].sum() == 0
    assert sim.check_state() == []
