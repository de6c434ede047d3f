"""Writes on their way to a disk: one at a time in the order of their submission, each done at a time of the simulated clock.

A write takes the disk's transfer time a page, and its latency before that unless it goes on where the last one ended. Its page is under
write-back (PG_WRITEBACK) until then. Models: block/blk-mq.c blk_mq_submit_bio(), blk_mq_end_request(), mm/filemap.c
folio_wait_writeback(). Left out: merging, elevators, reads (who reads waits at once, beside the queue). Cost: O(1) a write.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.pte import lru_gen_use_mm
from mmlab.mm.page_writeback import NEVER_NS, folio_end_writeback
from mmlab.model.page import PG_WRITEBACK, page_test
from mmlab.model.rows import (
    BLK_RING, BLK_BUSY_NS, BLK_HEAD, BLK_LAST_SECTOR, BLK_STRIDE, BLK_TAIL, COST_DEVICE_READ_PAGE, COST_DEVICE_WRITE, NR_DISKS,
    SC_NEXT_EVENT_NS, SC_NOW_NS, WB_IO_NEXT_NS, WB_NEXT_NS, WB_TIMER_NS,
)
from mmlab.model.vmstat import V_PGPGOUT

INTERRUPT_PAGES = 32  # a disk tells of its writes so many pages at a time, or when it has nothing more to do


@leaf
def _set_next(m):
    """When the next writes that are on their way will be told to be done, by any disk."""
    first = NEVER_NS
    for disk in range(NR_DISKS):
        head = m.blk[disk * BLK_STRIDE + BLK_HEAD]
        tail = m.blk[disk * BLK_STRIDE + BLK_TAIL]
        if head < tail:
            last = min(head + INTERRUPT_PAGES, tail) - 1
            first = min(first, m.blk_ring[2 * (disk * BLK_RING + last % BLK_RING) + 1])
    m.wb[WB_IO_NEXT_NS] = first
    m.wb[WB_NEXT_NS] = min(first, m.wb[WB_TIMER_NS])
    m.sc[SC_NEXT_EVENT_NS] = min(m.sc[SC_NEXT_EVENT_NS], first)


@kernel
def blk_complete(m):
    """Every write that is done by now ends. Returns how many did."""
    done = 0
    while m.wb[WB_IO_NEXT_NS] <= m.sc[SC_NOW_NS]:
        for disk in range(NR_DISKS):
            row = disk * BLK_STRIDE
            while m.blk[row + BLK_HEAD] < m.blk[row + BLK_TAIL]:
                at = 2 * (disk * BLK_RING + m.blk[row + BLK_HEAD] % BLK_RING)
                if m.blk_ring[at + 1] > m.sc[SC_NOW_NS]:
                    break
                m.blk[row + BLK_HEAD] += 1
                folio_end_writeback(m, m.blk_ring[at])
                done += 1
        _set_next(m)
    return done


@leaf
def wait_for_disk(m):
    """Time passes until the next write is done."""
    m.sc[SC_NOW_NS] = max(m.sc[SC_NOW_NS], m.wb[WB_IO_NEXT_NS])
    blk_complete(m)
    lru_gen_use_mm(m)


@kernel
def submit_write(m, disk, pfn, sector):
    """Send a page, which is under write-back, to a disk (DISK_*). sector: its place there in pages. Waits while the disk's queue is full."""
    row = disk * BLK_STRIDE
    while m.blk[row + BLK_TAIL] - m.blk[row + BLK_HEAD] >= BLK_RING:
        wait_for_disk(m)
    latency = 0 if sector == m.blk[row + BLK_LAST_SECTOR] + 1 else m.cost[COST_DEVICE_WRITE]
    done = max(m.sc[SC_NOW_NS], m.blk[row + BLK_BUSY_NS]) + latency + m.cost[COST_DEVICE_READ_PAGE]
    at = 2 * (disk * BLK_RING + m.blk[row + BLK_TAIL] % BLK_RING)
    m.blk_ring[at] = pfn
    m.blk_ring[at + 1] = done
    m.blk[row + BLK_TAIL] += 1
    m.blk[row + BLK_BUSY_NS] = done
    m.blk[row + BLK_LAST_SECTOR] = sector
    m.vmstat[V_PGPGOUT] += 4
    if done < m.wb[WB_IO_NEXT_NS]:
        _set_next(m)
    return 0


@kernel
def folio_wait_writeback(m, pfn):
    """Time passes until the page is not under write-back. Returns how often the disk had to be waited for."""
    waits = 0
    while page_test(m, pfn, PG_WRITEBACK):
        wait_for_disk(m)
        waits += 1
    return waits
