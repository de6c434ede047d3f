"""Reading and writing swapped pages: nothing for a page of zeroes, zswap, a zram device, or a disk that takes time.

Writes to a disk gather in a plug, one of the running task and one of each kswapd, and go off as requests of neighbouring slots when the plug
is full or its owner is done (blk_finish_plug()); the disk works on one request after the other and completes each as a whole. Where nothing
is left to wait for, time has to come to a completion before it is noticed (swap_io_poll()). A write needs a bio, which is memory (bio_alloc()).
Models: mm/page_io.c swap_writepage(), __swap_writepage(), end_swap_bio_write(), swap_read_folio(), swap_zeromap_folio_set(); block/blk-mq.c
blk_add_rq_to_plug(); block/bio.c bio_alloc_bioset(); mm/mempool.c mempool_alloc(); drivers/block/zram zram_write_page(), zram_read_page().
Left out: a queue for each disk, waiting for a free request, others' turns while one waits for a bio, zram's own write-back.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.memcg import count_folio_events
from mmlab.kernels.page_class import new_page_class, page_class
from mmlab.kernels.pte import lru_gen_use_mm
from mmlab.kernels.services import kmem_cache_alloc, kmem_cache_free
from mmlab.mm.page_writeback import folio_end_writeback, folio_start_writeback
from mmlab.mm.swap_slots import swap_device
from mmlab.mm.zsmalloc import zs_free, zs_malloc
from mmlab.mm.zswap import zswap_folio_swapin, zswap_invalidate, zswap_load, zswap_store
from mmlab.model.const import HPAGE_PMD_ORDER, NEVER_NS
from mmlab.model.gfp import GFP_KSWAPD_RECLAIM, GFP_NOMEMALLOC, GFP_NORETRY, GFP_NOWARN
from mmlab.model.page import PG_HEAD, PG_WRITEBACK, page_order, page_private, page_test
from mmlab.model.rows import (
    BIO_DISK_NS, BIO_DONE_NS, BIO_ENTRIES, BIO_HEAD, BIO_PLUG, BIO_POOL, BIO_POOL_SIZE, BIO_READS, BIO_RING, BIO_TAIL, BIO_WAITS,
    BIO_WORDS, CACHE_BIO, CLASS_ZERO, COST_COMPRESS_PAGE, COST_DECOMPRESS_PAGE, COST_DEVICE_READ, COST_DEVICE_READ_PAGE, COST_DEVICE_WRITE,
    COST_DEVICE_WRITE_PAGE, COST_SUBMIT_PAGE, COST_SUBMIT_REQUEST, MTHP_STRIDE, MTHP_SWPOUT, PLUG_COUNT, PLUG_FIRST, PLUG_LAST_PAGES,
    PLUG_LAST_SLOT, PLUG_REQUESTS, PLUG_STRIDE, SC_NEXT_EVENT_NS, SC_NOW_NS, SC_NR_NODES, SI_FLAGS, SWAP_INFO_STRIDE, SWAP_SYNCHRONOUS,
)
from mmlab.model.vmstat import V_PGPGIN, V_PGPGOUT, V_PSWPIN, V_PSWPOUT, V_SWPIN_ZERO, V_SWPOUT_ZERO, V_THP_SWPOUT

BLK_MAX_REQUEST_COUNT, BLK_PLUG_FLUSH_PAGES = 32, 32
BIO_GFP = GFP_KSWAPD_RECLAIM | GFP_NOMEMALLOC | GFP_NORETRY | GFP_NOWARN  # mempool_alloc(GFP_NOIO): what is left of it in reclaim
MAX_SEGMENTS = 254  # pages of a request to a virtio disk


@leaf
def _ring(at):
    """Where an entry of the ring begins in m.bio."""
    return BIO_RING + (at & (BIO_ENTRIES - 1)) * BIO_WORDS


@leaf
def _next_completion(m):
    """Set when the oldest request that is on its way ends."""
    head = m.bio[BIO_HEAD]
    m.bio[BIO_DONE_NS] = m.bio[_ring(head) + 1] if head < m.bio[BIO_TAIL] else NEVER_NS


@leaf
def bio_put(m, bio):
    """A write is done with its bio (-1: it had none): it goes back to those that are kept, if one is missing there, or to its cache."""
    if bio >= 0:
        at = 0
        while at < BIO_POOL_SIZE and m.bio[BIO_POOL + at]:
            at += 1
        if at < BIO_POOL_SIZE:
            m.bio[BIO_POOL + at] = bio + 1
        else:
            kmem_cache_free(m, bio)


@kernel
def swap_io_complete(m):
    """end_swap_bio_write() of all pages whose time has come: how many."""
    ended = 0
    head = m.bio[BIO_HEAD]
    while head < m.bio[BIO_TAIL] and m.bio[_ring(head) + 1] <= m.sc[SC_NOW_NS]:
        pfn, bio = m.bio[_ring(head)], m.bio[_ring(head) + 2]
        head += 1
        m.bio[BIO_HEAD] = head
        folio_end_writeback(m, pfn)
        bio_put(m, bio)
        ended += 1
    _next_completion(m)
    return ended


@leaf
def swap_io_poll(m):
    """Notice writes that have ended by now."""
    if m.bio[BIO_HEAD] < m.bio[BIO_TAIL] and m.sc[SC_NOW_NS] >= m.bio[BIO_DONE_NS]:
        swap_io_complete(m)


@leaf
def swap_io_next_ns(m):
    """When the next write ends; NEVER_NS if none is on its way."""
    return m.bio[BIO_DONE_NS] if m.bio[BIO_HEAD] < m.bio[BIO_TAIL] else NEVER_NS


@kernel
def blk_finish_plug(m, plug):
    """All requests that a thread's plug has gathered go to the disk."""
    row = plug * PLUG_STRIDE
    at, count = 0, m.plug[row + PLUG_COUNT]
    while m.bio[BIO_TAIL] + count - m.bio[BIO_HEAD] > BIO_ENTRIES:  # the ring is full: time goes on to the next completion
        m.sc[SC_NOW_NS] = max(m.sc[SC_NOW_NS], m.bio[BIO_DONE_NS])
        swap_io_complete(m)
    m.plug[row + PLUG_COUNT] = m.plug[row + PLUG_REQUESTS] = m.plug[row + PLUG_LAST_PAGES] = 0
    while at < count:
        first = at
        pages = 0
        more = 1
        while more:
            pages += m.plug[row + PLUG_FIRST + BIO_WORDS * at + 1] >> 1
            more = m.plug[row + PLUG_FIRST + BIO_WORDS * at + 1] & 1
            at += 1
        m.sc[SC_NOW_NS] += m.cost[COST_SUBMIT_REQUEST]
        m.bio[BIO_DISK_NS] = max(m.bio[BIO_DISK_NS], m.sc[SC_NOW_NS]) + pages * m.cost[COST_DEVICE_WRITE_PAGE]
        for entry in range(first, at):
            tail = m.bio[BIO_TAIL]
            m.bio[_ring(tail)] = m.plug[row + PLUG_FIRST + BIO_WORDS * entry]
            m.bio[_ring(tail) + 1] = m.bio[BIO_DISK_NS] + m.cost[COST_DEVICE_WRITE]
            m.bio[_ring(tail) + 2] = m.plug[row + PLUG_FIRST + BIO_WORDS * entry + 2]
            m.bio[BIO_TAIL] = tail + 1
    _next_completion(m)
    m.sc[SC_NEXT_EVENT_NS] = min(m.sc[SC_NEXT_EVENT_NS], swap_io_next_ns(m))
    return 0


@leaf
def blk_flush_plug(m):
    """blk_finish_plug() of the running thread where there is something in it."""
    if m.plug[m.bio[BIO_PLUG] * PLUG_STRIDE + PLUG_COUNT]:
        blk_finish_plug(m, m.bio[BIO_PLUG])


@kernel
def _send_all(m):
    """Who waits for a write waits for its owner as well, who goes on meanwhile: every plug is emptied."""
    for plug in range(1 + m.sc[SC_NR_NODES]):
        if m.plug[plug * PLUG_STRIDE + PLUG_COUNT]:
            blk_finish_plug(m, plug)
    return 0


@kernel
def bio_alloc(m):
    """A bio (an object of its cache), -1: none. Reclaim's writes must not dip into the reserves of memory; where there is no more, two bios are
    kept, and when these are on their way as well the thread sleeps until a write ends, its plug sent off before."""
    bio = kmem_cache_alloc(m, CACHE_BIO, BIO_GFP)
    while bio < 0:
        for at in range(BIO_POOL_SIZE):
            if bio < 0 and m.bio[BIO_POOL + at]:
                bio = m.bio[BIO_POOL + at] - 1
                m.bio[BIO_POOL + at] = 0
        if bio < 0:
            blk_flush_plug(m)
            if m.bio[BIO_HEAD] == m.bio[BIO_TAIL]:
                _send_all(m)
            if m.bio[BIO_HEAD] == m.bio[BIO_TAIL]:
                return -1
            m.sc[SC_NOW_NS] = max(m.sc[SC_NOW_NS], m.bio[BIO_DONE_NS])
            swap_io_complete(m)
    return bio


@kernel
def submit_bio(m, pfn, slot, nr):
    """A write of nr pages from a slot on joins the request before it, if it continues that, or begins one."""
    bio = bio_alloc(m)
    plug = m.bio[BIO_PLUG]
    row = plug * PLUG_STRIDE
    last = m.plug[row + PLUG_LAST_PAGES]
    if last > 0 and m.plug[row + PLUG_LAST_SLOT] + 1 == slot and last + nr <= MAX_SEGMENTS:
        m.plug[row + PLUG_FIRST + BIO_WORDS * (m.plug[row + PLUG_COUNT] - 1) + 1] |= 1
        m.plug[row + PLUG_LAST_PAGES] += nr
    else:
        if m.plug[row + PLUG_REQUESTS] >= BLK_MAX_REQUEST_COUNT or last >= BLK_PLUG_FLUSH_PAGES:
            blk_finish_plug(m, plug)
        m.plug[row + PLUG_REQUESTS] += 1
        m.plug[row + PLUG_LAST_PAGES] = nr
    at = row + PLUG_FIRST + BIO_WORDS * m.plug[row + PLUG_COUNT]
    m.plug[at], m.plug[at + 1], m.plug[at + 2] = pfn, nr << 1, bio
    m.plug[row + PLUG_COUNT] += 1
    m.plug[row + PLUG_LAST_SLOT] = slot + nr - 1
    return 0


@kernel
def swap_io_wait(m):
    """Let time pass until everything is written."""
    _send_all(m)
    while m.bio[BIO_HEAD] < m.bio[BIO_TAIL]:
        m.sc[SC_NOW_NS] = max(m.sc[SC_NOW_NS], m.bio[BIO_DONE_NS])
        swap_io_complete(m)
    return 0


@kernel
def folio_wait_writeback(m, pfn):
    """Wait until the folio is written; other work does not go on meanwhile."""
    if page_test(m, pfn, PG_WRITEBACK):
        _send_all(m)
        while page_test(m, pfn, PG_WRITEBACK):
            m.sc[SC_NOW_NS] = max(m.sc[SC_NOW_NS], m.bio[BIO_DONE_NS])
            swap_io_complete(m)
        lru_gen_use_mm(m)
    return 0


@leaf
def _zram_free(m, slot):
    """Whatever a zram device holds of the slot goes."""
    if m.zram[slot]:
        zs_free(m, np.int64(m.zram[slot]), m.compress[np.int64(m.swap_class[slot])])
        m.zram[slot] = 0


@leaf
def _zram_write(m, device, slot, content):
    """A slot's data, compressed, replaces what the device has of it. There is always memory for it: reclaim may use the reserves."""
    _zram_free(m, slot)
    handle = zs_malloc(m, 1 + device, m.compress[content])
    if handle > 0:
        m.zram[slot] = handle
    m.sc[SC_NOW_NS] += m.cost[COST_COMPRESS_PAGE]


@leaf
def _count_swpout(m, pfn, nr):
    m.vmstat[V_PSWPOUT] += nr
    m.vmstat[V_PGPGOUT] += nr * 4
    if nr > 1:
        order = page_order(m, pfn)
        m.mthp[order * MTHP_STRIDE + MTHP_SWPOUT] += 1
        if order == HPAGE_PMD_ORDER:
            m.vmstat[V_THP_SWPOUT] += 1


@kernel
def __swap_writepage(m, pfn, slot, nr, content):
    """Write a folio of the swap cache to its device: a zram device is done at once, a disk leaves it under writeback."""
    device = swap_device(m, slot)
    _count_swpout(m, pfn, nr)
    folio_start_writeback(m, pfn)
    m.sc[SC_NOW_NS] += m.cost[COST_SUBMIT_PAGE] * nr
    if m.swap_info[device * SWAP_INFO_STRIDE + SI_FLAGS] & SWAP_SYNCHRONOUS:
        for i in range(slot, slot + nr):
            _zram_write(m, device, i, content)
            m.swap_class[i] = content
        folio_end_writeback(m, pfn)
        return 0
    for i in range(slot, slot + nr):
        m.swap_class[i] = content
    submit_bio(m, pfn, slot, nr)
    return 0


@kernel
def swap_writepage(m, pfn):
    """Write a folio of the swap cache; a page of zeroes is only noted, one that zswap takes stays in memory."""
    slot = page_private(m, pfn)
    nr = 1 << page_order(m, pfn) if page_test(m, pfn, PG_HEAD) else 1
    content = page_class(m, pfn)
    if content == CLASS_ZERO:
        for i in range(slot, slot + nr):
            zswap_invalidate(m, i)
            _zram_free(m, i)
            m.swap_class[i] = CLASS_ZERO
        count_folio_events(m, pfn, V_SWPOUT_ZERO, nr)
        return 0
    if zswap_store(m, pfn, slot, content):
        return 0
    return __swap_writepage(m, pfn, slot, nr, content)


@kernel
def swap_read_folio(m, pfn, slot):
    """Fill a page from its slot. What a disk has to read is counted in m.bio[BIO_READS]; swap_read_unplug() waits for it."""
    new_page_class(m, pfn, m.swap_class[slot])
    if m.swap_class[slot] == CLASS_ZERO:
        count_folio_events(m, pfn, V_SWPIN_ZERO, 1)
        return 0
    if zswap_load(m, pfn, slot):
        return 0
    zswap_folio_swapin(m, pfn)
    m.vmstat[V_PSWPIN] += 1
    m.vmstat[V_PGPGIN] += 4
    if m.swap_info[swap_device(m, slot) * SWAP_INFO_STRIDE + SI_FLAGS] & SWAP_SYNCHRONOUS:
        m.sc[SC_NOW_NS] += m.cost[COST_DECOMPRESS_PAGE]
    else:
        m.bio[BIO_READS] += 1
    return 0


@leaf
def swap_read_unplug(m):
    """Wait for all pages that a read has asked the disk for."""
    nr_pages = m.bio[BIO_READS]
    m.bio[BIO_READS] = 0
    if nr_pages > 0:
        m.bio[BIO_WAITS] += 1
        m.sc[SC_NOW_NS] += m.cost[COST_DEVICE_READ] + nr_pages * m.cost[COST_DEVICE_READ_PAGE]
        lru_gen_use_mm(m)
