"""Swap: slots, the swap cache, and the windows that a miss reads (figures measured on Linux 6.12, case swap-in)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmlab_linux.page_allocator.buddy import BUDDY

from mmlab._engine.swap_devices import set_compression
from mmlab.kernels.jit import kernel
from mmlab.machine.swap_devices import COMPRESSED_BYTES
from mmlab.mm import page_alloc, pgtable, swap_slots, swap_state, zsmalloc
from mmlab.model import page as sp
from mmlab.model import rows as r
from mmlab.model import vmstat as v
from mmlab.model.const import ENOMEM
from mmlab.model.gfp import GFP_HIGHUSER_MOVABLE
from mmlab.model.page import (
    KIND_ANON,
    PG_ACTIVE,
    PG_DIRTY,
    PG_LOCKED,
    PG_READAHEAD,
    PG_SWAPBACKED,
    PG_SWAPCACHE,
    PG_UPTODATE,
    PG_WORKINGSET,
)
from mmlab.policies import Reclaimer, python_function
from mmlab.testing.harness import small_machine

# looked at from Python, in every build
page_counts, page_flags, page_kind, page_private, page_refs = (
    python_function(f) for f in (sp.page_counts, sp.page_flags, sp.page_kind, sp.page_private, sp.page_refs)
)
VMA = 1
BASE_VPN = 1 << 18  # a PMD's first page


def machine_with(slots, flags=0, page_cluster=3, **more):
    m = small_machine(page_allocator=BUDDY, swap_pages=slots, **more)
    m.run(swap_slots.swapon, slots + 1, flags, -2)
    m.sc[r.SC_PAGE_CLUSTER] = page_cluster
    m.swap_class[:] = r.CLASS_DATA  # slots that nobody wrote hold zeroes
    set_compression(m, COMPRESSED_BYTES)
    return m


def new_page(m):
    return m.run(page_alloc.alloc_pages, GFP_HIGHUSER_MOVABLE, 0, -1)


def alloc(m):
    """A slot with one reference."""
    slot = m.run(swap_slots.swap_alloc)
    if slot >= 0:
        m.run(swap_slots.swap_dup, slot)
    return slot


# slots ------------------------------------------------------------------------------------------------------------------------------------
def test_slots_ascend_and_come_back_in_runs_of_512():
    m = machine_with(2048)
    assert [alloc(m) for _ in range(512)] == list(range(1, 513))
    for slot in range(1, 513):
        m.run(swap_slots.swap_free, slot)
    assert m.sc[r.SC_NR_SWAP_FREE] == 2048 - 64  # the CPU keeps the last 64
    assert alloc(m) == 513  # 448 free slots at the bottom are no run
    assert m.sc[r.SC_NR_SWAP_FREE] == 2048 - 64 - 64  # 64 are taken at a time
    assert [alloc(m) for _ in range(511)] == list(range(514, 1025))
    m.run(swap_slots.swap_free, 513)  # one more than it keeps: the 64 go back
    assert alloc(m) == 1  # a new run begins at the lowest 512 free slots
    assert m.run(swap_slots.check_swap) == 0


def test_few_free_slots_are_not_cached():
    m = machine_with(450)
    got = [alloc(m) for _ in range(321)]
    assert m.sc[r.SC_NR_SWAP_FREE] == 450 - 384  # 66 left, fewer than 128: from the next slot on what is kept goes back
    assert alloc(m) == 385 and m.sc[r.SC_NR_SWAP_FREE] == 450 - 322
    m.run(swap_slots.swap_free, got[0])
    assert m.sc[r.SC_NR_SWAP_FREE] == 450 - 321
    assert m.run(swap_slots.check_swap) == 0


def test_devices_by_priority():
    m = small_machine(page_allocator=BUDDY, swap_pages=40)
    for pages, priority in ((10, 5), (12, -2), (12, -2)):
        m.run(swap_slots.swapon, pages + 1, 0, priority)
    assert [alloc(m) for _ in range(10)] == list(range(1, 11))  # the highest priority until it is full
    assert [alloc(m) for _ in range(4)] == [11, 23, 12, 24]  # equals take turns
    assert [int(m.swap_info[i * r.SWAP_INFO_STRIDE + r.SI_INUSE]) for i in range(3)] == [10, 2, 2]
    m.run(swap_slots.swap_free, 3)
    assert alloc(m) == 3 and [int(m.run(swap_slots.swap_device, s)) for s in (1, 10, 11, 22, 23, 34)] == [0, 0, 1, 1, 2, 2]
    assert m.run(swap_slots.check_swap) == 0


def test_a_full_device():
    m = machine_with(6)
    assert [alloc(m) for _ in range(7)] == [1, 2, 3, 4, 5, 6, -1]
    for slot in (5, 2):
        assert m.run(swap_slots.swap_free, slot) == 0
    assert [alloc(m), alloc(m), alloc(m)] == [2, 5, -1]
    m.run(swap_slots.swap_dup, 3)
    assert m.run(swap_slots.swap_free, 3) == 1 and m.sc[r.SC_NR_SWAP_FREE] == 0


def test_no_swap_device():
    m = small_machine(page_allocator=BUDDY)
    assert m.run(swap_slots.swap_alloc) == -1 and m.run(swap_state.add_to_swap, new_page(m)) == -1


# the swap cache ---------------------------------------------------------------------------------------------------------------------------
def test_the_cache_keeps_a_slot_in_use():
    m = machine_with(8)
    pfn = new_page(m)
    slot = m.run(swap_state.add_to_swap, pfn)
    assert (slot, page_private(m, pfn), page_refs(m, pfn)) == (1, 1, 1)
    assert page_flags(m, pfn) & (PG_SWAPCACHE | PG_DIRTY) == PG_SWAPCACHE | PG_DIRTY
    assert m.vmstat[v.V_NR_SWAPCACHED] == m.vmstat[v.V_NR_FILE_PAGES] == 1
    m.run(swap_slots.swap_dup, slot)
    m.run(swap_slots.swap_free, slot)
    assert m.sc[r.SC_NR_SWAP_FREE] == 7 and m.run(swap_state.swap_cache_get, slot) == pfn
    assert m.run(swap_state.delete_from_swap_cache, pfn, 9) == 0
    assert m.sc[r.SC_NR_SWAP_FREE] == 8 and m.swap_cache[slot] == 0  # nobody refers to the slot: its shadow is gone as well
    assert m.vmstat[v.V_NR_SWAPCACHED] == m.vmstat[v.V_NR_FILE_PAGES] == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["add", "dup", "free", "delete"]), st.integers(0, 7)), max_size=60))
def test_slots_are_counted(steps):
    m = _shared_machine()
    m.sc[[r.SC_NR_SWAP_SLOTS, r.SC_NR_SWAP_FREE]] = 0
    m.swap_info[:] = 0
    m.run(swap_slots.swapon, 9, 0, -2)
    m.swap_map[:] = 0
    m.swap_cache[:] = 0
    pages, refs = {}, {}
    for what, pick in steps:
        used = sorted(set(pages) | {s for s, n in refs.items() if n})
        slot = used[pick % len(used)] if used else 0
        if what == "add":
            pfn = 100 + pick
            if pfn not in pages.values():
                got = m.run(swap_state.add_to_swap, pfn)
                assert (got == -1) == (len(used) == 8)
                if got > 0:
                    assert got not in used
                    pages[got] = pfn
        elif what == "dup" and used:
            refs[slot] = refs.get(slot, 0) + 1
            assert m.run(swap_slots.swap_dup, slot) == refs[slot]
        elif what == "free" and refs.get(slot):
            refs[slot] -= 1
            assert m.run(swap_slots.swap_free, slot) == refs[slot]
        elif what == "delete" and slot in pages:
            m.run(swap_state.delete_from_swap_cache, pages.pop(slot), pick)
        assert m.run(swap_slots.check_swap) == 0
        assert m.sc[r.SC_NR_SWAP_FREE] == 8 - len(set(pages) | {s for s, n in refs.items() if n})
        assert all(m.run(swap_state.swap_cache_get, s) == pages.get(s, -1) for s in range(1, 9))
    for pfn in pages.values():
        m.run(swap_state.delete_from_swap_cache, pfn, -1)


_machines = []


def _shared_machine():
    if not _machines:
        _machines.append(machine_with(8))
    return _machines[0]


# read-ahead by slots: case swap-in --------------------------------------------------------------------------------------------------------
COUNTERS = (v.V_PSWPIN, v.V_SWAP_RA, v.V_SWAP_RA_HIT)


def swapped_out(m, pages):
    for _ in range(pages):
        alloc(m)


def touch(m, pages, write=False):
    """Swap faults of pages that lie in slots page + 1: how many were major. A write takes the page out of the swap cache."""
    majors = 0
    for page in pages:
        slot = page + 1
        majors += m.run(swap_state.swap_cache_get, slot) < 0
        pfn = m.run(swap_state.swapin_readahead, slot, 0, VMA, BASE_VPN + page)
        assert pfn >= 0 and page_flags(m, pfn) & PG_LOCKED == 0
        m.run(swap_slots.swap_free, slot)
        if write:
            m.run(swap_state.delete_from_swap_cache, pfn, -1)
    assert m.run(swap_slots.check_swap) == 0
    return majors


def test_cluster_read_ahead_as_measured():
    m = machine_with(16384)
    swapped_out(m, 1024)
    before = np.zeros(3, np.int64)

    def phase(pages, write=False):
        """Major faults, pswpin, swap_ra, swap_ra_hit of these touches."""
        majors = touch(m, pages, write)
        now = m.vmstat[list(COUNTERS)]
        change = (now - before).tolist()
        before[:] = now
        return majors, *change

    assert phase([512]) == (1, 8, 7, 0)
    assert phase(range(513, 528)) == (2, 16, 14, 13)
    assert phase(range(631, 599, -1)) == (7, 36, 29, 25)
    assert phase([900, 700, 800]) == (3, 14, 11, 0)
    m.sc[r.SC_PAGE_CLUSTER] = 0
    assert phase(range(64)) == (64, 64, 0, 0)
    assert phase(range(64, 128), write=True) == (64, 64, 0, 0)
    m.sc[r.SC_PAGE_CLUSTER] = 5
    assert phase(range(128, 256)) == (9, 159, 150, 119)
    m.sc[r.SC_PAGE_CLUSTER] = 3
    assert phase(range(256, 384, 4), write=True) == (20, 46, 26, 12)


def test_pages_of_a_window():
    m = machine_with(64)
    m.cost[r.COST_DEVICE_READ], m.cost[r.COST_DEVICE_READ_PAGE] = 1000, 10
    swapped_out(m, 64)
    m.run(swap_slots.swap_free, 3)
    pfn = m.run(swap_state.swapin_readahead, 2, 0, VMA, BASE_VPN)
    assert m.sc[r.SC_NOW_NS] == 1000 + 6 * 10  # slots 0..7 without the header and the free one
    assert page_kind(m, pfn) == KIND_ANON and page_private(m, pfn) == 2 and page_refs(m, pfn) == 1
    assert page_flags(m, pfn) & 0xFFFFFF == PG_SWAPBACKED | PG_UPTODATE | PG_SWAPCACHE
    other = m.run(swap_state.swap_cache_get, 7)
    assert page_flags(m, other) & PG_READAHEAD
    assert m.run(swap_state.swapin_readahead, 7, 0, VMA, BASE_VPN) == other and page_flags(m, other) & PG_READAHEAD == 0
    assert m.run(swap_state.swap_cache_get, 3) == -1 and m.vmstat[v.V_NR_SWAPCACHED] == 6


@pytest.mark.parametrize("prev, offset, hits, last, pages", [
    (0, 500, 4, 0, 8), (0, 500, 1, 0, 4), (0, 500, 2, 0, 4), (0, 500, 3, 0, 8), (0, 500, 40, 0, 8), (499, 500, 0, 0, 2),
    (501, 500, 0, 0, 2), (0, 500, 0, 0, 1), (0, 500, 0, 8, 4), (0, 500, 1, 16, 8),
])
def test_window_sizes(prev, offset, hits, last, pages):
    m = machine_with(512)
    m.sc[r.SC_SWAPIN_PREV], m.sc[r.SC_SWAPIN_HITS], m.sc[r.SC_SWAPIN_LAST] = prev, hits, last
    swapped_out(m, 512)
    m.run(swap_state.swapin_readahead, offset, 0, VMA, BASE_VPN)
    assert m.vmstat[v.V_PSWPIN] == m.sc[r.SC_SWAPIN_LAST] == pages
    assert m.sc[r.SC_SWAPIN_HITS] == 0 and m.sc[r.SC_SWAPIN_PREV] == (prev if hits else offset)


# read-ahead by addresses, and devices that need none --------------------------------------------------------------------------------------
def mapped(m, pages):
    """Swap entries for slots 1.. from BASE_VPN on, in a VMA of exactly these pages."""
    m.run(pgtable.pgd_alloc, 0)
    swapped_out(m, pages)
    row = VMA * r.VMA_STRIDE
    m.vma[row + r.VMA_START], m.vma[row + r.VMA_END] = BASE_VPN << 12, (BASE_VPN + pages) << 12
    for page in range(pages):
        m.pt[m.run(pgtable.pte_alloc, 0, BASE_VPN + page)] = (page + 1) << r.PTE_SHIFT | r.PTE_SWAP


def cached(m, pages):
    return [page for page in range(pages) if m.run(swap_state.swap_cache_get, page + 1) >= 0]


def test_vma_read_ahead():
    m = machine_with(2048, r.SWAP_SSD)
    mapped(m, 1024)
    assert touch(m, [100]) == 1
    assert cached(m, 1024) == list(range(97, 105))  # no history: four hits, a window of eight around the fault
    assert touch(m, range(101, 105)) == 0 and m.vmstat[v.V_SWAP_RA_HIT] == 4
    assert touch(m, [105]) == 1
    assert cached(m, 1024) == list(range(97, 113))  # ascending: [105, 113)
    assert touch(m, [105 - 9]) == 1
    assert cached(m, 1024) == list(range(95, 113))  # no hits, not the next page: half of the last window, around the fault
    assert touch(m, [513]) == 1
    assert cached(m, 1024)[-2:] == [513, 514]  # the window shrinks by halves: 2
    assert m.vmstat[v.V_PSWPIN] == 20


@pytest.mark.parametrize("page, expected", [(0, range(0, 5)), (511, range(508, 512)), (512, range(512, 517)), (1023, range(1020, 1024))])
def test_vma_read_ahead_is_clipped_to_vma_and_table(page, expected):
    m = machine_with(2048, r.SWAP_SSD)
    mapped(m, 1024)
    touch(m, [page])
    assert cached(m, 1024) == list(expected)


@pytest.mark.parametrize("flags, expected", [(0, range(100, 112)), (r.SWAP_SYNCHRONOUS, range(100, 109))])
def test_a_fault_that_waited_for_its_read_comes_again(flags, expected):
    m = machine_with(2048, r.SWAP_SSD | flags, page_cluster=0)
    mapped(m, 1024)
    for slot in range(101, 106):
        m.run(swap_slots.swap_dup, slot)  # two references: also a synchronous device's pages go through the swap cache
    assert touch(m, range(100, 104)) == 4  # a page a fault, and no window; but where the page was not there at once, it is looked up again
    m.sc[r.SC_PAGE_CLUSTER] = 3
    touch(m, [104])
    assert cached(m, 1024) == list(expected)  # so 104 is the next page: [104, 112); else eight around it, of which four are there


def test_descending_faults():
    m = machine_with(2048, r.SWAP_SSD)
    mapped(m, 512)
    touch(m, [300, 299, 298, 297, 296])
    assert cached(m, 512) == list(range(289, 305))  # 297..304 around 300, three hits, then (288, 296]


def test_a_synchronous_device_leaves_nothing_behind():
    m = machine_with(64, r.SWAP_SSD | r.SWAP_SYNCHRONOUS)
    mapped(m, 32)
    pfn = m.run(swap_state.swapin_readahead, 5, 0, VMA, BASE_VPN + 4)
    assert page_counts(m, pfn) == 0 and page_flags(m, pfn) & PG_SWAPCACHE == 0
    assert [m.vmstat[i] for i in COUNTERS] == [1, 0, 0] and cached(m, 32) == []
    m.run(swap_slots.swap_free, 5)
    assert m.sc[r.SC_NR_SWAP_FREE] == 64 - 31
    m.run(swap_slots.swap_dup, 9)  # two tasks share the slot: by the swap cache
    assert m.run(swap_state.swapin_readahead, 9, 0, VMA, BASE_VPN + 8) == m.run(swap_state.swap_cache_get, 9) >= 0


# refaults, no memory ----------------------------------------------------------------------------------------------------------------------
@kernel
def note_refault(m, st, pfn, shadow):
    st.seen[0] = shadow
    return 3


@kernel
def nothing_1(m, st, a):
    return 0


@kernel
def nothing_4(m, st, a, b, c, d):
    return 0


WATCHER = Reclaimer(
    name="watcher", summary="everything is working set", folio_added=nothing_1, folio_removed=nothing_1, shrink_node=nothing_4,
    new_state=lambda params, machine: {"seen": np.array([-1])}, workingset_refault=note_refault,
)


@pytest.mark.parametrize("shadow, seen, refaults", [(0, 0, 1), (41, 41, 1), (-1, -1, 0)])
@pytest.mark.parametrize("flags", [0, r.SWAP_SYNCHRONOUS])
def test_a_swap_in_over_a_shadow_is_a_refault(shadow, seen, refaults, flags):
    m = machine_with(64, flags, page_cluster=0, reclaimer=WATCHER)
    slot = m.run(swap_state.add_to_swap, new_page(m))
    m.run(swap_slots.swap_dup, slot)
    m.run(swap_state.delete_from_swap_cache, m.run(swap_state.swap_cache_get, slot), shadow)
    pfn = m.run(swap_state.swapin_readahead, slot, 0, VMA, BASE_VPN)
    assert m.states["reclaimer"].seen[0] == seen
    for counter in (v.V_WORKINGSET_REFAULT_ANON, v.V_WORKINGSET_ACTIVATE_ANON, v.V_WORKINGSET_RESTORE_ANON):
        assert m.vmstat[counter] == refaults
    assert page_flags(m, pfn) & (PG_ACTIVE | PG_WORKINGSET) == (PG_ACTIVE | PG_WORKINGSET if refaults else 0)


def test_what_is_not_there_cannot_be_read():
    m = machine_with(64)
    swapped_out(m, 2)
    m.run(swap_slots.swap_free, 2)
    pages = m.vmstat[v.V_PGALLOC_DMA : v.V_PGALLOC_DEVICE + 1].sum() - m.vmstat[v.V_PGFREE]
    assert m.run(swap_state.swapin_readahead, 2, 0, -1, 0) == -ENOMEM  # the slot went away: the neighbour alone was read
    assert m.vmstat[v.V_PSWPIN] == 1
    assert m.vmstat[v.V_PGALLOC_DMA : v.V_PGALLOC_DEVICE + 1].sum() - m.vmstat[v.V_PGFREE] == pages + 1


# zsmalloc: figures of /sys/block/zram0/mm_stat and nr_zspages ---------------------------------------------------------------------------
def test_size_classes_as_measured():
    classes = zsmalloc.size_classes()
    of = {bytes_: classes[python_function(zsmalloc.class_of)(bytes_)] for bytes_ in (27, 44, 63, 4088, 4096)}
    assert of == {27: (48, 3, 256), 44: (64, 1, 64), 63: (80, 5, 256), 4088: (4096, 1, 1), 4096: (4096, 1, 1)}
    assert len(classes) == 255 and all(size * objects <= pages * 4096 for size, pages, objects in classes)


def test_zspages_fill_up_from_the_fullest():
    m = machine_with(64)
    handles = [m.run(zsmalloc.zs_malloc, 0, 44) for _ in range(130)]  # 64 to a page
    assert [handles.count(h) for h in dict.fromkeys(handles)] == [64, 64, 2]
    assert m.zs_pool[r.ZSP_PAGES] == 3 and m.zs_pool[r.ZSP_BYTES] == 130 * 44
    for _ in range(10):
        m.run(zsmalloc.zs_free, handles[0], 44)
    assert m.run(zsmalloc.zs_malloc, 0, 44) == handles[0]  # the one that is nearly full
    for _ in range(2):
        m.run(zsmalloc.zs_free, handles[-1], 44)
    assert m.zs_pool[r.ZSP_PAGES] == 2 and m.zs_pool[r.ZSP_MAX_PAGES] == 3
    assert m.zone[r.Z_NR_ZSPAGES :: r.ZONE_STRIDE].sum() == 2
