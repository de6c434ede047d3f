"""Data TLBs: every access looks its translation up in the TLB of its CPU, and pays for what is not there.

A level is set-associative; a set keeps its entries in the order of use, the oldest leaves. A tag is page number, size and address space
(PCIDs: nothing is flushed when tasks take turns). An entry whose frame is no longer the one in the page tables has been flushed by whoever
changed them, so it does not hit: unmapping needs no hook here. Only where the cost model has a TLB are accesses replayed through this (m.sc
[SC_WANTS_ACCESS] has WANTS_TLB); the loop for machines without one knows nothing of it.

Left out: instruction TLBs, paging-structure caches (they are part of what a walk costs), flushes of everything when many pages are unmapped
at once, that an accessed bit which was cleared without a flush stays clear while the TLB hits, loops of scripts.
"""

from __future__ import annotations

from typing import Any

from mmlab.kernels.jit import kernel, leaf
from mmlab.model.rows import (
    COST_TLB_L2_HIT, COST_TLB_MISS, COST_TLB_MISS_HUGE, PTE_HUGE, PTE_SHIFT, PTE_SPECIAL, SC_NOW_NS, SC_WANTS_ACCESS, SUBPAGE_ACCESSED,
    SUBPAGE_WRITTEN, T_CPU, TASK_STRIDE, TLB_ACCESSES, TLB_COUNTED, TLB_CPU_WORDS, TLB_L1_HUGE_SETS, TLB_L1_HUGE_WAYS, TLB_L1_MISSES, TLB_L1_SETS,
    TLB_L1_WAYS, TLB_L2_SETS, TLB_L2_WAYS, TLB_MISSES, TLB_MISSES_HUGE, TLB_NS, TLB_SETS_OF, WANTS_SUBPAGES, WANTS_TLB,
)  # fmt: skip

Geometry = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def geometry_of(policy: Any, params: Any) -> Geometry:
    """(entries, ways) of the three parts of a cost model's TLB; all 0 without one."""
    return policy.tlb(params) if policy.tlb is not None else ((0, 0), (0, 0), (0, 0))


def entries_of(geometry: Geometry) -> int:
    """Entries of a CPU, all levels."""
    return sum(entries for entries, _ in geometry) if geometry[0][0] else 0


def set_geometry(tlb: Any, geometry: Geometry) -> None:
    """Write the geometry to m.tlb, whose entries are all empty."""
    for at, (entries, ways) in zip((TLB_L1_SETS, TLB_L1_HUGE_SETS, TLB_L2_SETS), geometry):
        tlb[at], tlb[at + 1] = (entries // ways, ways) if entries else (0, 0)
    tlb[TLB_CPU_WORDS] = 2 * entries_of(geometry)


def counted(machine: Any) -> dict[str, int]:
    """What the TLBs of a machine counted, by name; nothing where there is none."""
    return {name: int(machine.tlb[at]) for name, at in TLB_COUNTED.items()} if machine.tlb[TLB_CPU_WORDS] else {}


@leaf
def _use(m, first, ways, tag, frame):
    """1 if the set that begins at m.tlb[first] translates the tag to this frame, else 0; it is its youngest entry afterwards."""
    way = 0
    while way < ways - 1 and m.tlb[first + 2 * way] != tag:
        way += 1
    at = first + 2 * way
    hit = 1 if m.tlb[at] == tag and m.tlb[at + 1] == frame else 0
    while at > first:
        m.tlb[at], m.tlb[at + 1] = m.tlb[at - 2], m.tlb[at - 1]
        at -= 2
    m.tlb[first], m.tlb[first + 1] = tag, frame
    return hit


@kernel
def tlb_access(m, task, mm, vpn, entry):
    """Look up page vpn of a task, which entry (a PTE or a huge PMD) maps: counts, fills, and lets the time pass that it took. Returns 0."""
    huge = 1 if entry & PTE_HUGE else 0
    page = vpn >> 9 if huge else vpn
    tag = ((page << 1 | huge) << 12) + mm + 1
    frame = entry >> PTE_SHIFT
    base = TLB_SETS_OF + m.task[task * TASK_STRIDE + T_CPU] * m.tlb[TLB_CPU_WORDS]
    m.tlb[TLB_ACCESSES] += 1
    small_words = 2 * m.tlb[TLB_L1_SETS] * m.tlb[TLB_L1_WAYS]
    huge_words = 2 * m.tlb[TLB_L1_HUGE_SETS] * m.tlb[TLB_L1_HUGE_WAYS]
    if huge and huge_words:
        first, sets, ways = base + small_words, m.tlb[TLB_L1_HUGE_SETS], m.tlb[TLB_L1_HUGE_WAYS]
    else:
        first, sets, ways = base, m.tlb[TLB_L1_SETS], m.tlb[TLB_L1_WAYS]
    if _use(m, first + 2 * ways * (page % sets), ways, tag, frame):
        return 0
    m.tlb[TLB_L1_MISSES] += 1
    sets, ways = m.tlb[TLB_L2_SETS], m.tlb[TLB_L2_WAYS]
    if sets and _use(m, base + small_words + huge_words + 2 * ways * (page % sets), ways, tag, frame):
        took = m.cost[COST_TLB_L2_HIT]
    else:
        m.tlb[TLB_MISSES] += 1
        m.tlb[TLB_MISSES_HUGE] += huge
        took = m.cost[COST_TLB_MISS_HUGE] if huge else m.cost[COST_TLB_MISS]
    m.tlb[TLB_NS] += took
    m.sc[SC_NOW_NS] += took
    return 0


@leaf
def watch_access(m, task, mm, vpn, write, entry):
    """What an access, which entry now allows, does beyond the page tables, where the machine wants that: the TLB, and marks of subpages."""
    wants = m.sc[SC_WANTS_ACCESS]
    if wants & WANTS_TLB:
        tlb_access(m, task, mm, vpn, entry)
    if wants & WANTS_SUBPAGES and entry & PTE_SPECIAL == 0:
        m.subpage[(entry >> PTE_SHIFT) + (vpn & 511 if entry & PTE_HUGE else 0)] |= SUBPAGE_ACCESSED | (SUBPAGE_WRITTEN if write else 0)
