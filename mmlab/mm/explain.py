"""On request: why reclaim took a page or spared it. Services that note a sample of what the reclaimer decides, in place of the plain ones.

Two samples: pages that the reclaimer hands to reclaim_folio(), and pages that folio_referenced() found accessed. With each go a few pages of
the same node that stay, drawn at random, and what the policy's explain_page() tells of all of them. A sample begins with every decision; when
its room is full, every second one is dropped and half as many are noted from then on: it is spread evenly over the run, however long that is.
A machine without it has the plain services, so it costs nothing. It changes nothing that the policy or the machine can see.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.ops import reclaimer_explain_page
from mmlab.kernels.random import random_below
from mmlab.kernels.services import rmap_walk
from mmlab.kernels.zones import page_node
from mmlab.mm.reclaim_folio import do_reclaim_folio
from mmlab.mm.requests import ACCESSED_SHIFT, OBJECT, reclaim_folio as drop_object, reclaim_folio_with_shadow as drop_object_with_shadow
from mmlab.mm.requests import folio_referenced as object_referenced
from mmlab.mm.rmap import folio_referenced
from mmlab.model.const import RMAP_YOUNG
from mmlab.model.page import PG_ANON, PG_LRU, PG_MLOCKED, PG_SWAPCACHE, PG_UNEVICTABLE, page_flags, page_index, page_mapping, page_private
from mmlab.model.rows import (
    ANON_VMA_STRIDE, AV_AVC_FIRST, AVC_NEXT_IN_ANON, AVC_STRIDE, AVC_VMA, EX_ACCESSED, EX_FATE, EX_FLAGS, EX_INDEX, EX_NOW_NS, EX_ORDER, EX_OWNER,
    EX_OWNER_KIND, EX_PFN, EX_STRIDE, EX_VALUES, EXH_EVERY, EXH_NR, EXH_SEEN, EXPLAIN_ANON, EXPLAIN_FILE, EXPLAIN_HEAD, EXPLAIN_KINDS, EXPLAIN_OBJECT,
    EXPLAIN_OTHERS, EXPLAIN_ROWS, EXPLAIN_SWAP, FATE_ACCESSED, FATE_OTHER, SC_MAX_PFN, SC_NOW_NS, SC_SEED, VMA_END, VMA_MM, VMA_PGOFF, VMA_START, VMA_STRIDE,
)

TAKEN, SPARED = 0, 1  # the two samples
STREAM = 0x4558  # apart from other users of the seed
TRIES = 64  # for the pages that stay
YOUNG_PTES = 0xFFFF  # of folio_referenced()
NR_VALUES = 6
GROUP = EXPLAIN_ROWS * EX_STRIDE


@leaf
def explain_size(m):
    """Groups that a sample has room for."""
    return (len(m.explain) // EXPLAIN_KINDS - EXPLAIN_HEAD) // GROUP


@leaf
def is_request_replay(m):
    """1 for a machine whose frames hold objects of a request stream."""
    return 1 if len(m.rq_object) > 1 else 0


@kernel
def thin_out(m, head):
    """Drop every second group of a sample, and note half as many from now on."""
    kept = (m.explain[head + EXH_NR] + 1) // 2
    for group in range(1, kept):
        to = head + EXPLAIN_HEAD + group * GROUP
        for word in range(GROUP):
            m.explain[to + word] = m.explain[to + group * GROUP + word]
    m.explain[head + EXH_NR] = kept
    m.explain[head + EXH_EVERY] *= 2


@kernel
def note_owner(m, row, pfn):
    """Whose page it is: an object, an address space and a virtual page (-1: nobody maps it where it belongs), a file and an
    offset in it, or a slot of swap."""
    if is_request_replay(m):
        m.explain[row + EX_OWNER_KIND] = EXPLAIN_OBJECT
        m.explain[row + EX_INDEX] = m.rq_object[pfn] & OBJECT
        return
    index = page_index(m, pfn)
    flags = page_flags(m, pfn)
    if flags & (PG_ANON | PG_SWAPCACHE) == PG_SWAPCACHE:
        m.explain[row + EX_OWNER_KIND] = EXPLAIN_SWAP
        m.explain[row + EX_INDEX] = page_private(m, pfn)
        return
    if flags & PG_ANON == 0:
        m.explain[row + EX_OWNER_KIND] = EXPLAIN_FILE
        m.explain[row + EX_OWNER] = page_mapping(m, pfn)
        m.explain[row + EX_INDEX] = index
        return
    m.explain[row + EX_OWNER_KIND] = EXPLAIN_ANON
    m.explain[row + EX_OWNER] = -1
    m.explain[row + EX_INDEX] = index
    avc = m.anon_vma[page_mapping(m, pfn) * ANON_VMA_STRIDE + AV_AVC_FIRST]
    while avc >= 0:
        vma = m.avc[avc * AVC_STRIDE + AVC_VMA] * VMA_STRIDE
        vpn = (m.vma[vma + VMA_START] >> 12) + index - m.vma[vma + VMA_PGOFF]
        if m.vma[vma + VMA_START] >> 12 <= vpn < m.vma[vma + VMA_END] >> 12:
            m.explain[row + EX_OWNER] = m.vma[vma + VMA_MM]
            m.explain[row + EX_INDEX] = vpn
            return
        avc = m.avc[avc * AVC_STRIDE + AVC_NEXT_IN_ANON]


@kernel
def note_page(m, row, pfn, fate):
    """One row: the page and what the policy tells of it."""
    m.explain[row + EX_PFN] = pfn
    m.explain[row + EX_NOW_NS] = m.sc[SC_NOW_NS]
    m.explain[row + EX_FATE] = fate
    m.explain[row + EX_ACCESSED] = rmap_walk(m, pfn, RMAP_YOUNG)
    m.explain[row + EX_FLAGS] = page_flags(m, pfn)
    part = len(m.explain) // EXPLAIN_KINDS
    m.explain[row + EX_ORDER] = m.explain[EXH_SEEN] + m.explain[part + EXH_SEEN]
    note_owner(m, row, pfn)
    for what in range(NR_VALUES):
        m.explain[row + EX_VALUES + what] = reclaimer_explain_page(m, pfn, what)


@kernel
def note_others(m, row, pfn, seed):
    """Pages of the node that stay, drawn at random; a row without one has pfn -1."""
    draws = 0
    for _ in range(EXPLAIN_OTHERS):
        row += EX_STRIDE
        m.explain[row + EX_PFN] = -1
        while draws < TRIES and m.explain[row + EX_PFN] < 0:
            other = random_below(m.sc[SC_SEED], STREAM, seed * TRIES + draws, m.sc[SC_MAX_PFN])
            draws += 1
            if other != pfn and page_flags(m, other) & (PG_LRU | PG_MLOCKED | PG_UNEVICTABLE) == PG_LRU and page_node(m, other) == page_node(m, pfn):
                note_page(m, row, other, FATE_OTHER)


@kernel
def explain_begin(m, kind, pfn, fate):
    """A decision of a kind of sample: the row of its page if it is to be noted, else -1."""
    head = kind * (len(m.explain) // EXPLAIN_KINDS)
    seen = m.explain[head + EXH_SEEN]
    m.explain[head + EXH_SEEN] = seen + 1
    if seen % max(1, m.explain[head + EXH_EVERY]):
        return -1
    if m.explain[head + EXH_NR] == explain_size(m):
        m.explain[head + EXH_EVERY] = max(1, m.explain[head + EXH_EVERY])
        thin_out(m, head)
        if seen % m.explain[head + EXH_EVERY]:
            return -1
    row = head + EXPLAIN_HEAD + m.explain[head + EXH_NR] * GROUP
    m.explain[head + EXH_NR] += 1
    note_page(m, row, pfn, fate)
    note_others(m, row, pfn, seen * EXPLAIN_KINDS + kind)
    return row


@kernel
def reclaim_folio_explained(m, pfn, scan_flags):
    """Service reclaim_folio: do_reclaim_folio(), noted."""
    row = explain_begin(m, TAKEN, pfn, 0)
    fate = do_reclaim_folio(m, pfn, scan_flags)
    if row >= 0:
        m.explain[row + EX_FATE] = fate
    return fate


@kernel
def folio_referenced_explained(m, pfn):
    """Service folio_referenced, noted where the page was accessed."""
    young = folio_referenced(m, pfn)
    if young & YOUNG_PTES:
        row = explain_begin(m, SPARED, pfn, FATE_ACCESSED)
        if row >= 0:
            m.explain[row + EX_ACCESSED] = young & YOUNG_PTES
    return young


@kernel
def drop_object_explained(m, pfn, scan_flags):
    """Service reclaim_folio of a request replay, noted."""
    row = explain_begin(m, TAKEN, pfn, 0)
    fate = drop_object(m, pfn, scan_flags)
    if row >= 0:
        m.explain[row + EX_FATE] = fate
    return fate


@kernel
def drop_object_with_shadow_explained(m, pfn, scan_flags):
    """The same for a reclaimer that remembers what it evicted."""
    row = explain_begin(m, TAKEN, pfn, 0)
    fate = drop_object_with_shadow(m, pfn, scan_flags)
    if row >= 0:
        m.explain[row + EX_FATE] = fate
    return fate


@kernel
def object_referenced_explained(m, pfn):
    """Service folio_referenced of a request replay, noted where the object was asked for."""
    young = object_referenced(m, pfn)
    if young:
        row = explain_begin(m, SPARED, pfn, FATE_ACCESSED)
        if row >= 0:
            m.explain[row + EX_ACCESSED] = young
    return young


@leaf
def object_young(m, pfn, what):
    """Service rmap_walk of a request replay: 1 if the object was asked for since it was looked at."""
    return np.int64(m.rq_object[pfn]) >> ACCESSED_SHIFT
