"""Reading and writing swapped pages: nothing for a page of zeroes, zswap, a zram device, or a disk that takes time.

Writes to a disk gather in a plug and go off as requests of neighbouring slots when the plug is full or its owner is done
(blk_finish_plug()); the disk works on one request after the other and completes each as a whole. Where nothing is left to wait for, time has
to come to a completion before it is noticed (swap_io_poll()).
Models: mm/page_io.c swap_writepage(), __swap_writepage(), end_swap_bio_write(), swap_read_folio(), swap_zeromap_folio_set(); block/blk-mq.c
blk_add_rq_to_plug(); drivers/block/zram zram_write_page(), zram_read_page(). Left out: a queue for each disk, waiting for a free request,
zram's own write-back.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.memcg import count_folio_events
from mmlab.kernels.page_class import new_page_class, page_class
from mmlab.kernels.pte import lru_gen_use_mm
from mmlab.mm.page_writeback import folio_end_writeback, folio_start_writeback
from mmlab.mm.swap_slots import swap_device
from mmlab.mm.zsmalloc import zs_free, zs_malloc
from mmlab.mm.zswap import zswap_folio_swapin, zswap_invalidate, zswap_load, zswap_store
from mmlab.model.const import HPAGE_PMD_ORDER, NEVER_NS
from mmlab.model.page import PG_HEAD, PG_WRITEBACK, page_order, page_private, page_test
from mmlab.model.rows import (
    BIO_DISK_NS, BIO_DONE_NS, BIO_ENTRIES, BIO_HEAD, BIO_LAST_PAGES, BIO_LAST_SLOT, BIO_READS, BIO_REQUESTS, BIO_RING, BIO_SENT, BIO_TAIL,
    BIO_WAITS, CLASS_ZERO, COST_COMPRESS_PAGE, COST_DECOMPRESS_PAGE, COST_DEVICE_READ, COST_DEVICE_READ_PAGE, COST_DEVICE_WRITE,
    COST_DEVICE_WRITE_PAGE, COST_SUBMIT_PAGE, COST_SUBMIT_REQUEST, MTHP_STRIDE, MTHP_SWPOUT, SC_NEXT_EVENT_NS, SC_NOW_NS, SI_FLAGS,
    SWAP_INFO_STRIDE, SWAP_SYNCHRONOUS,
)
from mmlab.model.vmstat import V_PGPGIN, V_PGPGOUT, V_PSWPIN, V_PSWPOUT, V_SWPIN_ZERO, V_SWPOUT_ZERO, V_THP_SWPOUT

BLK_MAX_REQUEST_COUNT, BLK_PLUG_FLUSH_PAGES = 32, 32
MAX_SEGMENTS = 254  # pages of a request to a virtio disk


@leaf
def _ring(at):
    """Where an entry of the ring begins in m.bio."""
    return BIO_RING + (at & (BIO_ENTRIES - 1)) * 2


@leaf
def _next_completion(m):
    """Set when the oldest request that is on its way ends."""
    head = m.bio[BIO_HEAD]
    m.bio[BIO_DONE_NS] = m.bio[_ring(head) + 1] if head < m.bio[BIO_SENT] else NEVER_NS


@kernel
def swap_io_complete(m):
    """end_swap_bio_write() of all pages whose time has come: how many."""
    ended = 0
    head = m.bio[BIO_HEAD]
    while head < m.bio[BIO_SENT] and m.bio[_ring(head) + 1] <= m.sc[SC_NOW_NS]:
        pfn = m.bio[_ring(head)]
        head += 1
        m.bio[BIO_HEAD] = head
        folio_end_writeback(m, pfn)
        ended += 1
    _next_completion(m)
    return ended


@leaf
def swap_io_poll(m):
    """Notice writes that have ended by now."""
    if m.bio[BIO_HEAD] < m.bio[BIO_SENT] and m.sc[SC_NOW_NS] >= m.bio[BIO_DONE_NS]:
        swap_io_complete(m)


@leaf
def swap_io_next_ns(m):
    """When the next write ends; NEVER_NS if none is on its way."""
    return m.bio[BIO_DONE_NS] if m.bio[BIO_HEAD] < m.bio[BIO_SENT] else NEVER_NS


@kernel
def blk_finish_plug(m):
    """All requests that have gathered go to the disk."""
    m.bio[BIO_REQUESTS] = 0
    m.bio[BIO_LAST_PAGES] = 0
    while m.bio[BIO_SENT] < m.bio[BIO_TAIL]:
        first = m.bio[BIO_SENT]
        end = first
        pages = 0
        more = 1
        while more:
            pages += m.bio[_ring(end) + 1] >> 1
            more = m.bio[_ring(end) + 1] & 1
            end += 1
        m.sc[SC_NOW_NS] += m.cost[COST_SUBMIT_REQUEST]
        m.bio[BIO_DISK_NS] = max(m.bio[BIO_DISK_NS], m.sc[SC_NOW_NS]) + pages * m.cost[COST_DEVICE_WRITE_PAGE]
        for at in range(first, end):
            m.bio[_ring(at) + 1] = m.bio[BIO_DISK_NS] + m.cost[COST_DEVICE_WRITE]
        m.bio[BIO_SENT] = end
    _next_completion(m)
    m.sc[SC_NEXT_EVENT_NS] = min(m.sc[SC_NEXT_EVENT_NS], swap_io_next_ns(m))
    return 0


@leaf
def blk_flush_plug(m):
    """blk_finish_plug() where there is something in the plug."""
    if m.bio[BIO_SENT] < m.bio[BIO_TAIL]:
        blk_finish_plug(m)


@leaf
def _wait_for_room(m):
    """The ring is full: everything goes off, and time goes on to the next completion."""
    blk_finish_plug(m)
    m.sc[SC_NOW_NS] = max(m.sc[SC_NOW_NS], m.bio[BIO_DONE_NS])
    swap_io_complete(m)


@kernel
def submit_bio(m, pfn, slot, nr):
    """A write of nr pages from a slot on joins the request before it, if it continues that, or begins one."""
    if m.bio[BIO_TAIL] - m.bio[BIO_HEAD] == BIO_ENTRIES:
        _wait_for_room(m)
    tail = m.bio[BIO_TAIL]
    if m.bio[BIO_LAST_PAGES] > 0 and m.bio[BIO_LAST_SLOT] + 1 == slot and m.bio[BIO_LAST_PAGES] + nr <= MAX_SEGMENTS:
        m.bio[_ring(tail - 1) + 1] |= 1
        m.bio[BIO_LAST_PAGES] += nr
    else:
        if m.bio[BIO_REQUESTS] >= BLK_MAX_REQUEST_COUNT or m.bio[BIO_LAST_PAGES] >= BLK_PLUG_FLUSH_PAGES:
            blk_finish_plug(m)
        m.bio[BIO_REQUESTS] += 1
        m.bio[BIO_LAST_PAGES] = nr
    m.bio[_ring(tail)] = pfn
    m.bio[_ring(tail) + 1] = nr << 1  # until it is sent: pages, and whether the request goes on
    m.bio[BIO_TAIL] = tail + 1
    m.bio[BIO_LAST_SLOT] = slot + nr - 1
    return 0


@kernel
def swap_io_wait(m):
    """Let time pass until everything is written."""
    blk_flush_plug(m)
    while m.bio[BIO_HEAD] < m.bio[BIO_SENT]:
        m.sc[SC_NOW_NS] = max(m.sc[SC_NOW_NS], m.bio[BIO_DONE_NS])
        swap_io_complete(m)
    return 0


@kernel
def folio_wait_writeback(m, pfn):
    """Wait until the folio is written; other work does not go on meanwhile."""
    if page_test(m, pfn, PG_WRITEBACK):
        blk_finish_plug(m)
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
