"""mincore(2): how many pages of a range are in memory.

Models: mm/mincore.c do_mincore(). Left out: shared memory's swapped pages that no table entry names.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mmlab._engine.core import SERVICES
from mmlab.model import rows as r
from mmlab.model.const import ENOMEM, HPAGE_PMD_NR
from mmlab.procfs.walk import Vma, entries, vmas


def mincore(sim: Any, mm: int, address: int, nr_pages: int) -> int:
    """Pages present, in the swap cache or (for a file map) in the page cache; -ENOMEM if part of the range is not mapped."""
    first, end = address >> 12, (address >> 12) + nr_pages
    covered, count = 0, 0
    for vma in vmas(sim.machine, mm):
        low, high = max(first, vma.first_vpn), min(end, vma.end >> 12)
        if low < high:
            covered += high - low
            count += _resident(sim, mm, vma, low, high)
    return count if covered == nr_pages else -ENOMEM


def _resident(sim: Any, mm: int, vma: Vma, low: int, high: int) -> int:
    found = entries(sim.machine, mm, low, high)
    swapped = (found.entry & r.PTE_SWAP != 0) & (found.entry & r.PTE_PRESENT == 0)
    cached = sim.machine.swap_cache[found.entry[swapped] >> r.PTE_SHIFT] & 1
    count = int(np.count_nonzero(~swapped)) + int(cached.sum()) + HPAGE_PMD_NR * len(found.huge_vpn)
    if vma.inode >= 0:
        absent = np.setdiff1d(np.arange(low, high), found.vpn)
        offset = vma.pgoff - vma.first_vpn
        count += sum(sim.machine.run(SERVICES["filemap_get_page"], vma.inode, vpn + offset) >= 0 for vpn in absent.tolist())
    return count
