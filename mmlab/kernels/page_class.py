"""What a page holds, as far as it matters: how well it compresses, and whether its frame has been used since boot.

m.page_class, a byte a frame: CLASS_* | PAGE_USED. Cost: O(1).
"""

import numpy as np

from mmlab.kernels.jit import leaf
from mmlab.model.rows import COST_HOST_FAULT, PAGE_USED, SC_NOW_NS


@leaf
def new_page_class(m, pfn, content):
    """A page that was just allocated holds `content` (CLASS_*). Where the machine is a guest, the host maps a frame at its first use."""
    if m.page_class[pfn] & PAGE_USED == 0:
        m.sc[SC_NOW_NS] += m.cost[COST_HOST_FAULT]
    m.page_class[pfn] = content | PAGE_USED


@leaf
def set_page_class(m, pfn, content):
    """A page in use holds something else now."""
    m.page_class[pfn] = content | PAGE_USED


@leaf
def page_class(m, pfn):
    """CLASS_* of what a page holds."""
    return np.int64(m.page_class[pfn]) & (PAGE_USED - 1)
