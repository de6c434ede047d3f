"""CMA: an area that boot sets aside for contiguous blocks. Movable pages may lie there meanwhile; a block is had by moving them away.

Models: kernel/dma/contiguous.c dma_contiguous_reserve() (the area ``reserved`` of ``cma=``), mm/cma.c cma_declare_contiguous_nid(),
cma_alloc(), cma_release(). Left out: areas of device trees and hugetlb, waiting for one that is busy.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from mmlab.errors import InputError
from mmlab.mm.page_isolation import alloc_contig_range, free_contig_range
from mmlab.model import rows as r
from mmlab.model.const import MIGRATE_CMA, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES

SZ_4G_PFN = 1 << 20


@attrs.define
class CmaArea:
    """An area: which of its frames are handed out, and what was counted."""

    name: str
    base_pfn: int
    count: int
    bitmap: np.ndarray = attrs.field(init=False)
    alloc_success: int = 0
    alloc_fail: int = 0
    release_success: int = 0
    blocks: list[tuple[int, int]] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.bitmap = np.zeros(self.count, bool)

    def alloc(self, machine: Any, count: int, align_order: int = 0) -> int:
        """`count` frames in a row: the first one's pfn, or -1. Places are tried from the lowest on."""
        step = 1 << align_order
        at = -self.base_pfn % step
        while at + count <= self.count:
            if self.bitmap[at : at + count].any():
                at += step
                continue
            pfn = self.base_pfn + at
            if machine.run(alloc_contig_range, pfn, pfn + count, MIGRATE_CMA) == 0:
                self.bitmap[at : at + count] = True
                self.alloc_success += count
                return pfn
            at += step
        self.alloc_fail += count
        return -1

    def release(self, machine: Any, pfn: int, count: int) -> bool:
        """Give frames back; False with nothing done if they are not all handed out."""
        at = pfn - self.base_pfn
        if at < 0 or at + count > self.count or not self.bitmap[at : at + count].all():
            return False
        self.bitmap[at : at + count] = False
        machine.run(free_contig_range, pfn, count)
        self.release_success += count
        return True


def reserve(machine: Any, layout: Any, option: Any) -> list[CmaArea]:
    """The areas of a command line, their pageblocks of type CMA; InputError where there is no room.

    Without an address, the area lies at the bottom of what is above 4G if it fits there, else as high as it can.
    """
    if option is None or option.size_bytes == 0:
        return []
    allocator = machine.chosen["page_allocator"].policy
    if allocator.set_block_type is None:
        raise InputError(f"machine.cmdline: cma: page allocator {allocator.name!r} has no CMA areas (those derived from 'buddy' have)")
    count = -(-option.size_bytes // (PAGEBLOCK_PAGES << 12)) * PAGEBLOCK_PAGES
    base = _place(machine, layout, count, option.start_bytes)
    if base < 0:
        where = "" if option.start_bytes is None else f" at {option.start_bytes:#x}"
        raise InputError(f"machine.cmdline: cma: no {count >> 8} MiB of free memory{where} in whole pageblocks of one zone")
    for pfn in range(base, base + count, PAGEBLOCK_PAGES):
        machine.op("page_allocator", "set_block_type", pfn, MIGRATE_CMA)
    zone = next(i for i, z in enumerate(layout.zones) if z.start_pfn <= base < z.end_pfn)
    machine.zone[zone * r.ZONE_STRIDE + r.Z_CMA_PAGES] += count
    return [CmaArea("reserved", base, count)]


def _place(machine: Any, layout: Any, count: int, start_bytes: int | None) -> int:
    if start_bytes is not None:
        pfn = start_bytes >> 12
        return pfn if pfn % PAGEBLOCK_PAGES == 0 and any(_free(machine, zone, pfn, count) for zone in layout.zones) else -1
    blocks = [
        pfn for zone in layout.zones
        for pfn in range(-(-zone.start_pfn // PAGEBLOCK_PAGES) * PAGEBLOCK_PAGES, zone.end_pfn, PAGEBLOCK_PAGES) if _free(machine, zone, pfn, count)
    ]  # fmt: skip
    above = [pfn for pfn in blocks if pfn >= SZ_4G_PFN]
    return min(above) if above else max(blocks, default=-1)


def _free(machine: Any, zone: Any, pfn: int, count: int) -> bool:
    """Whether every pageblock of the range is free and of the zone."""
    if pfn < zone.start_pfn or pfn + count > zone.end_pfn:
        return False
    return all(_block_free(machine, block) for block in range(pfn, pfn + count, PAGEBLOCK_PAGES))


def _block_free(machine: Any, block: int) -> bool:
    order = machine.op("page_allocator", "is_free", block) - 1
    return order >= PAGEBLOCK_ORDER or machine.op("page_allocator", "is_free", block - PAGEBLOCK_PAGES) - 1 > PAGEBLOCK_ORDER
