"""Walks of an address space in Python, for /proc: VMAs in address order and, for each, the page-table entries that are not empty."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from mmlab.model import rows as r
from mmlab.model.const import HPAGE_PMD_NR, PTRS_PER_TABLE
from mmlab.model.page import MAPCOUNT_MASK, PG_HEAD, PG_TAIL, ZONE_SHIFT

_SHIFTS = (27, 18, 9)  # vpn bits of the tables above the PTEs


class Vma(NamedTuple):
    """A row of m.vma: addresses in bytes, offset in pages, flags VM_*; file and inode numbers or -1, name NAME_*."""

    row: int
    start: int
    end: int
    flags: int
    pgoff: int
    file: int
    inode: int
    name: int
    anon_vma: int

    @property
    def first_vpn(self) -> int:
        return self.start >> 12

    @property
    def nr_pages(self) -> int:
        return (self.end - self.start) >> 12


class Entries(NamedTuple):
    """Entries in use in a range: virtual page numbers, PTE_* words, places in m.pt; huge ones apart, one a PMD (vpn of its first page)."""

    vpn: np.ndarray
    entry: np.ndarray
    huge_vpn: np.ndarray
    huge_entry: np.ndarray
    slot: np.ndarray
    huge_slot: np.ndarray


def vmas(machine: Any, mm: int) -> Iterator[Vma]:
    """The VMAs of an address space, lowest first."""
    address = 0
    while (row := machine.op("vma_index", "find", mm, address)) >= 0:
        yield read_vma(machine, row)
        address = int(machine.vma[row * r.VMA_STRIDE + r.VMA_END])


def read_vma(machine: Any, row: int) -> Vma:
    """One row of m.vma."""
    w = machine.vma[row * r.VMA_STRIDE : (row + 1) * r.VMA_STRIDE].tolist()
    return Vma(
        row, w[r.VMA_START], w[r.VMA_END], w[r.VMA_FLAGS], w[r.VMA_PGOFF], w[r.VMA_FILE], w[r.VMA_INODE], w[r.VMA_NAME], w[r.VMA_ANON_VMA]
    )


def entries(machine: Any, mm: int, first_vpn: int, end_vpn: int) -> Entries:
    """What is mapped or swapped in [first_vpn, end_vpn). A huge entry counts where its first page lies in the range."""
    vpns, words, slots = [], [], []
    huge: list[tuple[int, int, int]] = []
    root = int(machine.mm[mm * r.MM_STRIDE + r.MM_ROOT])
    for pmd_vpn, pmd, slot in _pmds(machine, root, 0, first_vpn, end_vpn):
        if pmd & r.PTE_HUGE:
            if pmd_vpn >= first_vpn:
                huge.append((pmd_vpn, pmd, slot))
            continue
        low, high = max(first_vpn - pmd_vpn, 0), min(end_vpn - pmd_vpn, PTRS_PER_TABLE)
        base = (pmd >> r.PTE_SHIFT) * PTRS_PER_TABLE
        table = machine.pt[base + low : base + high]
        used = np.flatnonzero(table)
        vpns.append(used + (pmd_vpn + low))
        words.append(table[used])
        slots.append(used + (base + low))
    huge_vpn, huge_entry, huge_slot = np.array(huge, np.int64).reshape(-1, 3).T
    vpn, entry, slot_of = (np.concatenate(parts or [np.zeros(0, np.int64)]) for parts in (vpns, words, slots))
    return Entries(vpn, entry, huge_vpn, huge_entry, slot_of, huge_slot)


def _pmds(machine: Any, table: int, level: int, first_vpn: int, end_vpn: int, base_vpn: int = 0) -> Iterator[tuple[int, int, int]]:
    """(vpn of the first page, entry, its place in m.pt) of each PMD entry in the range."""
    if not table:
        return
    shift = _SHIFTS[level]
    low, high = max((first_vpn - base_vpn) >> shift, 0), min(((end_vpn - 1 - base_vpn) >> shift) + 1, PTRS_PER_TABLE)
    slots = machine.pt[table * PTRS_PER_TABLE + low : table * PTRS_PER_TABLE + high]
    for i in np.flatnonzero(slots).tolist():
        vpn, entry = base_vpn + ((low + i) << shift), int(slots[i])
        if level == 2:
            yield vpn, entry, table * PTRS_PER_TABLE + low + i
        else:
            yield from _pmds(machine, entry >> r.PTE_SHIFT, level + 1, first_vpn, end_vpn, vpn)


class Pages(NamedTuple):
    """The mapped pages of a range, one row a page (512 rows for a huge entry), the zero page left out."""

    vpn: np.ndarray
    pfn: np.ndarray
    entry: np.ndarray
    mapcount: np.ndarray
    flags: np.ndarray  # PG_* of the page's folio
    huge: np.ndarray


def mapped_pages(machine: Any, found: Entries) -> Pages:
    """What smaps and pagemap want to know of each mapped page."""
    here = (found.entry & (r.PTE_PRESENT | r.PTE_PROTNONE) != 0) & (found.entry & (r.PTE_SPECIAL | r.PTE_SWAP) == 0)
    big = found.huge_entry & r.PTE_SPECIAL == 0
    within = np.arange(HPAGE_PMD_NR)
    heads = found.huge_entry[big] >> r.PTE_SHIFT
    small = found.entry[here] >> r.PTE_SHIFT
    pfn = np.concatenate([small, (heads[:, None] + within).ravel()])
    vpn = np.concatenate([found.vpn[here], (found.huge_vpn[big][:, None] + within).ravel()])
    entry = np.concatenate([found.entry[here], np.repeat(found.huge_entry[big], HPAGE_PMD_NR)])
    folio = np.concatenate([small, np.repeat(heads, HPAGE_PMD_NR)])
    tail = machine.page[pfn * 4 + 2].astype(np.int64) & PG_TAIL != 0
    folio = np.where(tail, pfn - machine.pagex[pfn * 4 + 2].astype(np.int64), folio)
    flags = machine.page[folio * 4 + 2].astype(np.int64)
    huge = np.arange(len(pfn)) >= len(small)
    mapcount = machine.page[pfn * 4 + 3].astype(np.int64) & MAPCOUNT_MASK
    large = tail | (flags & PG_HEAD != 0)
    if large.any():  # a page's PTEs and the PMDs over all of its folio; see mmlab.kernels.large_folio
        own = np.where(tail, mapcount, machine.pagex[(folio + 1) * 4].astype(np.int64))
        mapcount = np.where(large, own + machine.pagex[np.where(large, folio + 2, 0) * 4].astype(np.int64), mapcount)
    return Pages(vpn, pfn, entry, mapcount, flags, huge)


def zone_nodes(machine: Any, pfn: np.ndarray) -> np.ndarray:
    """NUMA node of each frame."""
    rows = machine.page[pfn * 4 + 2].astype(np.int64) >> ZONE_SHIFT & 31
    return machine.zone[rows * r.ZONE_STRIDE + r.Z_NODE]
