"""Writing /proc/PID/clear_refs.

Models: fs/proc/task_mmu.c clear_refs_write(), clear_refs_pte_range(). Left out: 4 (soft-dirty bits).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mmlab.errors import NotSupported
from mmlab.model import rows as r
from mmlab.model.const import EINVAL
from mmlab.model.page import PG_REFERENCED, PG_YOUNG
from mmlab.procfs.walk import entries, mapped_pages, vmas

ALL, ANON, MAPPED, SOFT_DIRTY, MM_HIWATER_RSS = 1, 2, 3, 4, 5


def clear_refs(sim: Any, task: Any, text: str) -> int:
    """1, 2, 3: clear the accessed bits of all, anonymous or file VMAs; 5: set the peak RSS to the present one. 0, or -EINVAL."""
    try:
        what = int(text, 0)
    except ValueError:
        return -EINVAL
    if not ALL <= what <= MM_HIWATER_RSS:
        return -EINVAL
    if what == SOFT_DIRTY:
        raise NotSupported("clear_refs = 4")
    if what == MM_HIWATER_RSS:
        row = task.mm * r.MM_STRIDE
        sim.machine.mm[row + r.MM_HIWATER_RSS] = sim.machine.mm[[row + r.MM_RSS_ANON, row + r.MM_RSS_FILE, row + r.MM_RSS_SHMEM]].sum()
        return 0
    for vma in vmas(sim.machine, task.mm):
        if vma.flags & r.VM_PFNMAP or (what == ANON and vma.inode >= 0) or (what == MAPPED and vma.inode < 0):
            continue
        found = entries(sim.machine, task.mm, vma.first_vpn, vma.end >> 12)
        sim.machine.pt[found.slot[found.entry & r.PTE_SWAP == 0]] &= ~r.PTE_ACCESSED
        sim.machine.pt[found.huge_slot] &= ~r.PTE_ACCESSED
        words = np.unique(mapped_pages(sim.machine, found).pfn) * 4 + 2
        sim.machine.page[words] &= np.uint32(0xFFFFFFFF & ~(PG_REFERENCED | PG_YOUNG))
    return 0
