"""Aging by look-around: when reclaim finds a page's own entry young, the entries beside it are looked at as well.

Models: mm/vmscan.c lru_gen_look_around(); called from mm/rmap.c folio_referenced_one().
"""

from mmlab.kernels.jit import kernel
from mmlab.kernels.memcg import page_lruvec
from mmlab.model.const import PTRS_PER_TABLE
from mmlab.model.page import PG_REFERENCED, page_flags, page_index, set_page_flags
from mmlab.model.rows import SC_MM_WALK, VM_SPECIAL, VMA_END, VMA_FLAGS, VMA_PGOFF, VMA_START, VMA_STRIDE
from mmlab_linux.reclaimer.lru_batch import BATCH_ACTIVATE
from mmlab_linux.reclaimer.lruvec import ANON
from mmlab_linux.reclaimer.mglru.batch import batch_add
from mmlab_linux.reclaimer.mglru.bloom import update_bloom_filter
from mmlab_linux.reclaimer.mglru.lrugen import MAX_NR_GENS, MIN_LRU_BATCH, flags_gen, folio_kind, folio_update_gen, max_seq
from mmlab_linux.reclaimer.mglru.walk import clear_young, suitable_to_scan, young_folio


@kernel
def look_around(m, st, vma, pmd, slot, pfn):
    """The entry m.pt[slot] of the VMA was young (it is cleared): promote the pages of up to 64 young entries around it. Returns young entries.

    With a walk's state at hand (kswapd, memory.reclaim) as by a walk; else through the batch for activation.
    """
    row = vma * VMA_STRIDE
    if m.vma[row + VMA_FLAGS] & VM_SPECIAL:
        return 1
    vpn = (m.vma[row + VMA_START] >> 12) + page_index(m, pfn) - m.vma[row + VMA_PGOFF]
    start = max(vpn & ~(PTRS_PER_TABLE - 1), m.vma[row + VMA_START] >> 12)
    end = min((vpn | (PTRS_PER_TABLE - 1)) + 1, m.vma[row + VMA_END] >> 12)
    if end - start == 1:
        return 1
    if end - start > MIN_LRU_BATCH:
        if vpn - start < MIN_LRU_BATCH // 2:
            end = start + MIN_LRU_BATCH
        elif end - vpn < MIN_LRU_BATCH // 2:
            start = end - MIN_LRU_BATCH
        else:
            start = vpn - MIN_LRU_BATCH // 2
            end = vpn + MIN_LRU_BATCH // 2
    lruvec = page_lruvec(m, pfn)
    seq = max_seq(st, lruvec)
    gen = seq % MAX_NR_GENS
    can_swap = 1 if folio_kind(page_flags(m, pfn)) == ANON else 0
    young = 1
    for at in range(slot - (vpn - start), slot + (end - vpn)):
        other = young_folio(m, at, lruvec, can_swap)
        if other < 0:
            continue
        clear_young(m, at, other)
        young += 1
        flags = page_flags(m, other)
        old = flags_gen(flags)
        if m.sc[SC_MM_WALK]:
            folio_update_gen(m, st, other, gen)
        elif old < 0:
            set_page_flags(m, other, flags | PG_REFERENCED)
        elif old != gen:
            batch_add(m, st, other, BATCH_ACTIVATE)
    if suitable_to_scan(end - start, young):
        update_bloom_filter(st, lruvec, seq, pmd)
    return young
