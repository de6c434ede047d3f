"""/proc/PID/pagemap: one 64-bit entry a page.

Models: fs/proc/task_mmu.c pagemap_pte_hole(), pte_to_pagemap_entry(), pagemap_pmd_range().
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mmlab.model import rows as r
from mmlab.model.const import HPAGE_PMD_NR
from mmlab.model.page import PG_ANON
from mmlab.procfs.walk import entries, mapped_pages, vmas

PM_SOFT_DIRTY, PM_MMAP_EXCLUSIVE, PM_FILE, PM_SWAP = 1 << 55, 1 << 56, 1 << 61, 1 << 62
PM_PRESENT = -(1 << 63)  # bit 63 of an int64
SWAP_OFFSET_SHIFT = 5


def pagemap(sim: Any, mm: int, address: int, nr_pages: int) -> np.ndarray:
    """Entries of ``nr_pages`` pages from ``address`` on, as uint64."""
    first, end = address >> 12, (address >> 12) + nr_pages
    out = np.zeros(nr_pages, np.int64)
    found = entries(sim.machine, mm, first, end)
    present = found.entry & (r.PTE_PRESENT | r.PTE_PROTNONE) != 0
    at = found.vpn - first
    pfn = found.entry >> r.PTE_SHIFT
    out[at[present]] = pfn[present] | PM_PRESENT
    out[at[~present]] = pfn[~present] << SWAP_OFFSET_SHIFT | PM_SWAP
    for vpn, entry in zip(found.huge_vpn.tolist(), found.huge_entry.tolist()):
        span = slice(vpn - first, min(vpn - first + HPAGE_PMD_NR, nr_pages))
        out[span] = ((entry >> r.PTE_SHIFT) + np.arange(span.stop - span.start)) | PM_PRESENT
    pages = mapped_pages(sim.machine, found)
    inside = pages.vpn < end
    at = pages.vpn[inside] - first
    out[at] |= np.where(pages.flags[inside] & PG_ANON == 0, PM_FILE, 0)
    out[at] |= np.where(pages.mapcount[inside] == 1, PM_MMAP_EXCLUSIVE, 0)
    for vma in vmas(sim.machine, mm):
        if vma.flags & r.VM_SOFTDIRTY and vma.first_vpn < end and vma.end >> 12 > first:
            out[max(vma.first_vpn - first, 0) : (vma.end >> 12) - first] |= PM_SOFT_DIRTY
    return out.view(np.uint64)
