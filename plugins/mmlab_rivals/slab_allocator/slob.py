"""slob: the simple list of blocks: objects of all caches share pages, first fit in units of 8 bytes, three lists of pages by object size.

Small objects (below 256 bytes), medium ones (below 1024) and larger ones have pages of their own. A page has a list of its free runs in order
of address; the first page of the list with a run that fits serves, and comes to the front. What fills a page or more goes to the page
allocator. A page whose units are all free goes back.
Models: mm/slob.c (Linux 6.1): slob_alloc(), slob_page_alloc(), slob_free(). Left out: one list for all nodes (each has its own here), the
header with the size in front of kmalloc's objects, 2-byte units.
Cost: O(pages with room + runs of a page). Memory: 2 KiB a slab page.
"""

from __future__ import annotations

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.lists import list_add, list_del
from mmlab.kernels.services import alloc_pages, free_pages
from mmlab.kernels.zones import page_node
from mmlab.model.const import (
    EBUSY, EINVAL, ENOMEM, PAGE_SHIFT, PAGE_SIZE, SLAB_STAT_ACTIVE_OBJS, SLAB_STAT_NUM_OBJS, SLAB_STAT_NUM_SLABS, SLAB_STAT_OBJPERSLAB,
    SLAB_STAT_OBJSIZE, SLAB_STAT_PAGESPERSLAB,
)
from mmlab.model.gfp import GFP_COMP, GFP_RECLAIMABLE
from mmlab.model.layout import reserve
from mmlab.model.page import (
    KIND_FREE, KIND_SLAB, NO_MAPPING, PG_HEAD, PG_SLAB, PG_TAIL, PG_WORKINGSET, page_clear, page_folio, page_mapping, page_next, page_order,
    page_private, page_set, page_test, set_page_index, set_page_kind, set_page_mapping, set_page_private,
)
from mmlab.model.rows import NR_CACHES, SC_MAX_PFN, SC_NODE, SC_NR_NODES, SC_SLAB_HEADS
from mmlab.model.slabinfo import KMALLOC_MAX_SIZE, SLAB_FLAGS_ALL, SLAB_RECLAIM_ACCOUNT, SLAB_STAT_LIVE_OBJS, SLAB_STAT_OBJECT_SIZE
from mmlab.model.vmstat import V_NR_SLAB_UNRECLAIMABLE, mod_node_state
from mmlab.policies import SlabAllocator
from mmlab_linux.slab_allocator.geometry import align_up, calculate_alignment, get_order

UNIT_SHIFT = 3
UNITS_SHIFT = PAGE_SHIFT - UNIT_SHIFT
UNITS = 1 << UNITS_SHIFT  # a page
BREAK1, BREAK2 = 256, 1024
WHOLE = NR_CACHES  # page_mapping: cache number for a page-sized object, WHOLE for a page that objects share
C_STRIDE, C_SIZE, C_ALIGN, C_FLAGS, C_LIVE, C_OBJECT_SIZE = 8, 0, 1, 2, 3, 4
NO_RUN = UNITS + 1  # the end of a page's free runs; no unit behind an object
BAD_RUNS, BAD_LIST, BAD_LIVE = 1, 2, 3


def new_state(params, machine):
    """cache: C_* by cache. By unit of a page (512 a frame): run, the length of the free run that begins here, else 0; next_run, the unit of the
    next one; owner, cache + 1 at the first unit of an object. first_run: by frame, the unit of the first free run."""
    frames = machine.sizes.nr_frames
    return {
        "cache": np.zeros(NR_CACHES * C_STRIDE, np.int64), "run": reserve(frames << UNITS_SHIFT, "uint16"),
        "next_run": reserve(frames << UNITS_SHIFT, "uint16"), "owner": reserve(frames << UNITS_SHIFT, "uint8"), "first_run": reserve(frames, "uint16"),
    }  # fmt: skip


@leaf
def exists(st, cache):
    """1 if there is such a cache."""
    return 1 if cache >= 0 and cache < NR_CACHES and st.cache[cache * C_STRIDE + C_SIZE] != 0 else 0


@leaf
def list_of(m, node, size):
    """Head of a node's list of pages with room, for objects of this size."""
    return m.sc[SC_SLAB_HEADS] + node * NR_CACHES + (0 if size < BREAK1 else 1 if size < BREAK2 else 2)


@leaf
def units_of(st, cache):
    """Units that an object takes."""
    return (st.cache[cache * C_STRIDE + C_SIZE] + (1 << UNIT_SHIFT) - 1) >> UNIT_SHIFT


@leaf
def run_at(st, pfn, unit):
    """Length of the free run that begins at a unit of the page."""
    return np.int64(st.run[(pfn << UNITS_SHIFT) + unit])


@leaf
def run_after(st, pfn, before):
    """The free run behind the one at unit `before`, or the page's first (before -1); NO_RUN at the end."""
    return np.int64(st.first_run[pfn]) if before < 0 else np.int64(st.next_run[(pfn << UNITS_SHIFT) + before])


@leaf
def set_run_after(st, pfn, before, unit):
    """Set it."""
    if before < 0:
        st.first_run[pfn] = unit
    else:
        st.next_run[(pfn << UNITS_SHIFT) + before] = unit


@leaf
def set_run(st, pfn, unit, length, after):
    """A free run."""
    st.run[(pfn << UNITS_SHIFT) + unit] = length
    st.next_run[(pfn << UNITS_SHIFT) + unit] = after


@kernel
def create(m, st, cache, size, align, flags):
    """A cache of objects of `size` bytes, aligned to a power of two (0: a word)."""
    if cache < 0 or cache >= NR_CACHES or st.cache[cache * C_STRIDE + C_SIZE] != 0:
        return -EINVAL
    if size <= 0 or size > KMALLOC_MAX_SIZE or flags & ~SLAB_FLAGS_ALL or align < 0 or align & (align - 1):
        return -EINVAL
    if align > PAGE_SIZE << get_order(max(size, 1)):
        return -EINVAL
    row = cache * C_STRIDE
    st.cache[row + C_OBJECT_SIZE] = size
    st.cache[row + C_ALIGN] = calculate_alignment(flags, align, size)
    st.cache[row + C_FLAGS] = flags
    st.cache[row + C_LIVE] = 0
    st.cache[row + C_SIZE] = align_up(size, 1 << UNIT_SHIFT)
    return 0


@kernel
def new_pages(m, st, cache, gfp, order, mapping):
    """Pages from the page allocator, marked: the first frame, or -ENOMEM."""
    flags = gfp | GFP_COMP | (GFP_RECLAIMABLE if st.cache[cache * C_STRIDE + C_FLAGS] & SLAB_RECLAIM_ACCOUNT else 0)
    pfn = alloc_pages(m, flags, order, -1)
    if pfn < 0:
        return -ENOMEM
    page_set(m, pfn, PG_SLAB | (PG_HEAD if order else 0))
    set_page_kind(m, pfn, KIND_SLAB)
    set_page_mapping(m, pfn, mapping)
    for tail in range(pfn + 1, pfn + (1 << order)):
        page_set(m, tail, PG_TAIL)
        set_page_private(m, tail, tail - pfn)
        set_page_kind(m, tail, KIND_SLAB)
    mod_node_state(m, page_node(m, pfn), V_NR_SLAB_UNRECLAIMABLE, 1 << order)
    return pfn


@kernel
def give_pages(m, st, pfn):
    """Give them back."""
    order = page_order(m, pfn)
    mod_node_state(m, page_node(m, pfn), V_NR_SLAB_UNRECLAIMABLE, -(1 << order))
    set_page_mapping(m, pfn, NO_MAPPING)
    set_page_private(m, pfn, 0)
    set_page_index(m, pfn, 0)
    for tail in range(pfn + 1, pfn + (1 << order)):
        page_clear(m, tail, PG_TAIL)
        set_page_private(m, tail, 0)
        set_page_kind(m, tail, KIND_FREE)
    free_pages(m, pfn, order)
    return 0


@kernel
def slob_page_alloc(m, st, cache, pfn):
    """The first free run of a page that holds an aligned object of the cache gives it: its unit, or -1."""
    units = units_of(st, cache)
    align = st.cache[cache * C_STRIDE + C_ALIGN] >> UNIT_SHIFT
    before = -1
    unit = run_after(st, pfn, -1)
    while unit != NO_RUN:
        length, after = run_at(st, pfn, unit), run_after(st, pfn, unit)
        place = (unit + align - 1) // align * align
        if place + units <= unit + length:
            st.run[(pfn << UNITS_SHIFT) + unit] = 0
            if place + units < unit + length:
                set_run(st, pfn, place + units, unit + length - place - units, after)
                after = place + units
            if place > unit:
                set_run(st, pfn, unit, place - unit, after)
                after = unit
            set_run_after(st, pfn, before, after)
            return place
        before = unit
        unit = after
    return -1


@leaf
def hand_out(m, st, cache, pfn, unit):
    """The object of the cache that begins at a unit of a page: its address."""
    st.owner[(pfn << UNITS_SHIFT) + unit] = cache + 1
    st.cache[cache * C_STRIDE + C_LIVE] += 1
    set_page_private(m, pfn, page_private(m, pfn) - units_of(st, cache))
    return (pfn << PAGE_SHIFT) + (unit << UNIT_SHIFT)


@kernel
def alloc(m, st, cache, gfp):
    """slob_alloc(): first fit over the list of pages with room, else a new page; whole pages for what does not fit one."""
    if exists(st, cache) == 0:
        return -EINVAL
    size = st.cache[cache * C_STRIDE + C_SIZE]
    if size >= PAGE_SIZE:
        pfn = new_pages(m, st, cache, gfp, get_order(size), cache)
        if pfn < 0:
            return pfn
        st.cache[cache * C_STRIDE + C_LIVE] += 1
        return pfn << PAGE_SHIFT
    head = list_of(m, m.sc[SC_NODE], size)
    pfn = page_next(m, head)
    unit = -1
    while pfn != head:
        if page_private(m, pfn) >= units_of(st, cache):
            unit = slob_page_alloc(m, st, cache, pfn)
            if unit >= 0:
                break
        pfn = page_next(m, pfn)
    if unit < 0:
        pfn = new_pages(m, st, cache, gfp, 0, WHOLE)
        if pfn < 0:
            return pfn
        set_page_private(m, pfn, UNITS)
        st.first_run[pfn] = 0
        set_run(st, pfn, 0, UNITS, NO_RUN)
        page_set(m, pfn, PG_WORKINGSET)
        list_add(m, head, pfn)
        unit = slob_page_alloc(m, st, cache, pfn)
    obj = hand_out(m, st, cache, pfn, unit)
    list_del(m, pfn)
    if page_private(m, pfn) == 0:
        page_clear(m, pfn, PG_WORKINGSET)
    else:
        list_add(m, head, pfn)  # the next search begins where this one ended
    return obj


@kernel
def slob_free(m, st, cache, pfn, unit):
    """An object's units join the free runs of its page; a page that is free as a whole goes back."""
    units = units_of(st, cache)
    free = page_private(m, pfn) + units
    if free == UNITS:
        if page_test(m, pfn, PG_WORKINGSET):
            list_del(m, pfn)
            page_clear(m, pfn, PG_WORKINGSET)
        at = run_after(st, pfn, -1)
        while at != NO_RUN:
            after = run_after(st, pfn, at)
            st.run[(pfn << UNITS_SHIFT) + at] = 0
            at = after
        return give_pages(m, st, pfn)
    set_page_private(m, pfn, free)
    if page_test(m, pfn, PG_WORKINGSET) == 0:
        page_set(m, pfn, PG_WORKINGSET)
        list_add(m, list_of(m, page_node(m, pfn), st.cache[cache * C_STRIDE + C_SIZE]), pfn)
    before = -1
    after = run_after(st, pfn, -1)
    while after < unit:
        before = after
        after = run_after(st, pfn, after)
    if after == unit + units:  # joins the run behind
        units += run_at(st, pfn, after)
        st.run[(pfn << UNITS_SHIFT) + after] = 0
        after = run_after(st, pfn, after)
    if before >= 0 and before + run_at(st, pfn, before) == unit:  # and the one in front
        set_run(st, pfn, before, run_at(st, pfn, before) + units, after)
    else:
        set_run(st, pfn, unit, units, after)
        set_run_after(st, pfn, before, unit)
    return 0


@kernel
def free(m, st, obj):
    """Give an object back; -EINVAL, and nothing changes, if obj is not the address of an allocated one."""
    pfn = obj >> PAGE_SHIFT if obj >= 0 else -1
    if pfn < 0 or pfn >= m.sc[SC_MAX_PFN] or page_test(m, pfn, PG_SLAB) == 0 or page_folio(m, pfn) != pfn:
        return -EINVAL
    if page_mapping(m, pfn) != WHOLE:
        if obj & (PAGE_SIZE - 1):
            return -EINVAL
        st.cache[page_mapping(m, pfn) * C_STRIDE + C_LIVE] -= 1
        return give_pages(m, st, pfn)
    at = obj >> UNIT_SHIFT
    if obj & ((1 << UNIT_SHIFT) - 1) or st.owner[at] == 0:
        return -EINVAL
    cache = np.int64(st.owner[at]) - 1
    st.owner[at] = 0
    st.cache[cache * C_STRIDE + C_LIVE] -= 1
    return slob_free(m, st, cache, pfn, at & (UNITS - 1))


@kernel
def stat(m, st, cache, what):
    """A column of slabinfo or another value (SLAB_STAT_*); pages belong to nobody: no slabs. -EINVAL for what SLOB does not have."""
    if exists(st, cache) == 0:
        return -EINVAL
    row = cache * C_STRIDE
    if what == SLAB_STAT_ACTIVE_OBJS or what == SLAB_STAT_NUM_OBJS or what == SLAB_STAT_LIVE_OBJS:
        return st.cache[row + C_LIVE]
    if what == SLAB_STAT_OBJSIZE:
        return st.cache[row + C_SIZE]
    if what == SLAB_STAT_OBJECT_SIZE:
        return st.cache[row + C_OBJECT_SIZE]
    if what == SLAB_STAT_OBJPERSLAB or what == SLAB_STAT_NUM_SLABS:
        return 0
    return 0 if what == SLAB_STAT_PAGESPERSLAB else -EINVAL


@kernel
def destroy(m, st, cache):
    """Forget the cache; -EBUSY, and nothing changes, while objects are in use."""
    if exists(st, cache) == 0:
        return -EINVAL
    if st.cache[cache * C_STRIDE + C_LIVE]:
        return -EBUSY
    st.cache[cache * C_STRIDE + C_SIZE] = 0
    return 0


@kernel
def check_page(m, st, pfn):
    """Runs lie in order, apart from one another, and with the objects make up the page. Objects found, or -1."""
    objects = 0
    units = 0
    expected = run_after(st, pfn, -1)
    unit = 0
    merged = 1
    while unit < UNITS:
        owner = np.int64(st.owner[(pfn << UNITS_SHIFT) + unit])
        if owner:
            objects += 1
            unit += units_of(st, owner - 1)
            merged = 1
        elif unit == expected and merged:
            units += run_at(st, pfn, unit)
            expected = run_after(st, pfn, unit)
            unit += run_at(st, pfn, unit)
            merged = 0
        else:
            return -1
    return objects if unit == UNITS and expected == NO_RUN and units == page_private(m, pfn) else -1


@kernel
def check(m, st):
    """BAD_*, or 0: every page's runs and objects, the lists of pages with room, and how many objects are live."""
    live = 0
    for cache in range(NR_CACHES):
        if exists(st, cache):
            live += st.cache[cache * C_STRIDE + C_LIVE]
    listed = 0
    for pfn in range(m.sc[SC_MAX_PFN]):
        if page_test(m, pfn, PG_SLAB) == 0:
            continue
        if page_mapping(m, pfn) != WHOLE:
            live -= 1
            continue
        objects = check_page(m, st, pfn)
        if objects < 0:
            return BAD_RUNS
        live -= objects
        listed += 1 if page_test(m, pfn, PG_WORKINGSET) else 0
        if (1 if page_test(m, pfn, PG_WORKINGSET) else 0) != (1 if page_private(m, pfn) else 0):
            return BAD_LIST
    for node in range(m.sc[SC_NR_NODES]):
        for number in range(3):
            head = m.sc[SC_SLAB_HEADS] + node * NR_CACHES + number
            pfn = page_next(m, head)
            while pfn != head:
                listed -= 1
                pfn = page_next(m, pfn)
    if listed:
        return BAD_LIST
    return BAD_LIVE if live else 0


SLOB = SlabAllocator(
    name="slob", summary="SLOB: first fit in pages that all caches share", models="mm/slob.c of Linux 6.1",
    left_out="kmalloc's size header, 2-byte units, one list for all nodes", new_state=new_state, create=create, alloc=alloc, free=free,
    destroy=destroy, stat=stat, check=check,
)  # fmt: skip
