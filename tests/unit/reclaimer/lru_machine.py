"""A bare zone of frames under one reclaimer, whose ops are called one by one; its services free what they are given."""

import numpy as np

from mmlab._engine.requests import RequestMachine
from mmlab.mm.requests import ACCESSED
from mmlab.model import rows as r
from mmlab.model.const import SCAN_MAY_SWAP, SCAN_MAY_UNMAP, SCAN_MAY_WRITEPAGE, SCAN_RECLAIM_IDX_SHIFT
from mmlab.model.page import PG_SWAPBACKED, PG_UPTODATE
from mmlab.model.vmstat import VMSTAT_NAMES

FILE_PAGE, ANON_PAGE = PG_UPTODATE, PG_UPTODATE | PG_SWAPBACKED
DIRECT = SCAN_MAY_SWAP | SCAN_MAY_UNMAP | SCAN_MAY_WRITEPAGE | 3 << SCAN_RECLAIM_IDX_SHIFT


class LruMachine:
    """frames: how many page frames; swap: free swap slots."""

    def __init__(self, policy, params=None, frames=8192, swap=0):
        self.machine = RequestMachine(policy, params, np.zeros(1, np.int64), frames).machine
        self.machine.sc[r.SC_NR_SWAP_SLOTS] = self.machine.sc[r.SC_NR_SWAP_FREE] = swap
        self.machine.sc[r.SC_SWAPPINESS] = 60
        self.machine.rq_object[:] = 0  # every frame can be reclaimed
        self.machine.rq_free[0] = 0
        self.flags = self.machine.page[2::4]
        self.flags[:frames] = 0

    def op(self, name, *args):
        return self.machine.op("reclaimer", name, *args)

    def add(self, pfns, flags=FILE_PAGE):
        for pfn in pfns:
            self.flags[pfn] |= flags
            self.machine.rq_object[pfn] = 0  # a frame that was reclaimed is an object's again
            self.op("folio_added", pfn)

    def each(self, name, pfns):
        for pfn in pfns:
            self.op(name, pfn)

    def shrink(self, priority, nr_to_reclaim=1 << 30, flags=DIRECT):
        self.op("prepare_scan", 0, priority, nr_to_reclaim, flags)
        return self.op("shrink_node", 0, priority, nr_to_reclaim, flags)

    def size(self, lru):
        return self.op("nr_lru_pages", 0, lru)

    def vmstat(self, name):
        return int(self.machine.vmstat[VMSTAT_NAMES.index(name)])

    def access(self, pfns):
        """Set the accessed bit."""
        for pfn in pfns:
            self.machine.rq_object[pfn] |= ACCESSED

    def freed(self):
        """Frames freed since the last call, in order."""
        count = int(self.machine.rq_free[0])
        self.machine.rq_free[0] = 0
        frames = self.machine.rq_free[1 : count + 1].tolist()
        self.machine.rq_object[frames] = 0
        self.flags[frames] = 0
        return frames
