"""Reservations: the first page of a 2 MiB range takes a whole free block aside, later pages get their places in it, and when all are there the
block is mapped as one huge page, without a copy.

A reservation is broken, and what it still holds freed, when memory is short (the oldest first), or when its range or address space is gone.
Models: Navarro et al., "Practical, transparent operating system support for superpages", OSDI 2002; FreeBSD's sys/vm/vm_reserv.c
vm_reserv_alloc_page(), vm_reserv_populate(), vm_reserv_reclaim_inactive(), pmap_promote_pde(). Left out: sizes between 4 KiB and 2 MiB,
reservations of files, that a page which was freed goes back to its reservation (it goes to the allocator, and the range stays small),
demotion on a first write. O(1) a fault, O(512) where no reservation is; O(reservations) a step.
"""

from typing import Any

import attrs
import numpy as np
from attrs.validators import ge

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.pte import walk_pmd
from mmlab.kernels.services import alloc_pages, collapse_in_place, find_vma, free_pages
from mmlab.kernels.zones import memory_is_short
from mmlab.model.const import HPAGE_PMD_NR, HPAGE_PMD_ORDER
from mmlab.model.gfp import GFP_TRANSHUGE_LIGHT
from mmlab.model.layout import reserve
from mmlab.model.page import set_page_order
from mmlab.model.rows import PTE_HUGE, SC_NEXT_EVENT_NS, SC_NOW_NS, SC_THP_TIMER_NS
from mmlab.policies import Thp
from mmlab_rivals.thp.ranges import NS_PER_MS, holds_range, lives, may_be_huge, utilization

# a reservation's row is its block's number; rows that are in use are linked, the oldest first
RESERV_STRIDE = 8
RV_MM, RV_VPN, RV_POPCNT, RV_NEXT, RV_PREV, RV_USED = range(6)
NR_RESERV, OLDEST, YOUNGEST, PROMOTED = range(4)  # entries of st.queue


@attrs.frozen
class Params:
    """step_ms: between two looks for reservations whose range is gone, or that memory is too short for."""

    step_ms: int = attrs.field(default=10, validator=ge(1))


def new_state(params: Params, machine: Any) -> dict[str, np.ndarray]:
    """reserv: RV_* a 2 MiB block of memory; reserved: row + 1 by PMD slot; taken: 1 for a frame that a reservation gave away; queue: NR_RESERV ..."""
    queue = np.zeros(4, np.int64)
    queue[[OLDEST, YOUNGEST]] = -1
    return {
        "reserv": np.zeros(RESERV_STRIDE * (machine.sizes.nr_frames // HPAGE_PMD_NR + 1), np.int64),
        "reserved": reserve(len(machine.pt), "int32"),
        "taken": machine.page_column("uint8"),
        "queue": queue,
    }  # fmt: skip


@leaf
def unlink(st, row):
    """Take a reservation off the list of those in use."""
    before, after = st.reserv[row + RV_PREV], st.reserv[row + RV_NEXT]
    if before >= 0:
        st.reserv[before + RV_NEXT] = after
    else:
        st.queue[OLDEST] = after
    if after >= 0:
        st.reserv[after + RV_PREV] = before
    else:
        st.queue[YOUNGEST] = before
    st.reserv[row + RV_USED] = 0
    st.queue[NR_RESERV] -= 1


@kernel
def break_reservation(m, st, row):
    """vm_reserv_break(): free what was not given away, forget the rest."""
    head = row // RESERV_STRIDE * HPAGE_PMD_NR
    unlink(st, row)
    for pfn in range(head, head + HPAGE_PMD_NR):
        if np.int64(st.taken[pfn]):
            st.taken[pfn] = 0
        else:
            free_pages(m, pfn, 0)
    return 0


@leaf
def reservation_of(m, st, mm, first, pmd):
    """The row of a range's reservation, or -1."""
    row = (np.int64(st.reserved[pmd]) - 1) * RESERV_STRIDE
    if row >= 0 and st.reserv[row + RV_USED] and st.reserv[row + RV_MM] == mm and st.reserv[row + RV_VPN] == first:
        return row
    return -1


@kernel
def reserve_range(m, st, mm, first, pmd):
    """Take a block aside for a range of which nothing is there: its row, or -1."""
    if memory_is_short(m, HPAGE_PMD_NR) or utilization(m, pmd):
        return -1
    head = alloc_pages(m, GFP_TRANSHUGE_LIGHT, HPAGE_PMD_ORDER, -1)
    if head < 0:
        return -1
    set_page_order(m, head, 0)
    row = head // HPAGE_PMD_NR * RESERV_STRIDE
    st.reserv[row + RV_MM], st.reserv[row + RV_VPN] = mm, first
    st.reserv[row + RV_POPCNT], st.reserv[row + RV_USED] = 0, 1
    st.reserv[row + RV_PREV], st.reserv[row + RV_NEXT] = st.queue[YOUNGEST], -1
    if st.queue[YOUNGEST] >= 0:
        st.reserv[st.queue[YOUNGEST] + RV_NEXT] = row
    else:
        st.queue[OLDEST] = row
    st.queue[YOUNGEST] = row
    st.queue[NR_RESERV] += 1
    st.reserved[pmd] = row // RESERV_STRIDE + 1
    return row


@kernel
def place(m, st, mm, vma, vpn):
    """vm_reserv_alloc_page(): the page's place in its range's reservation."""
    if may_be_huge(m, vma) == 0 or holds_range(m, vma, vpn) == 0:
        return -1
    if st.queue[OLDEST] >= 0 and memory_is_short(m, HPAGE_PMD_NR):
        break_reservation(m, st, st.queue[OLDEST])
    pmd = walk_pmd(m, mm, vpn)
    if pmd < 0 or m.pt[pmd] == 0 or m.pt[pmd] & PTE_HUGE:
        return -1
    first = vpn >> HPAGE_PMD_ORDER << HPAGE_PMD_ORDER
    row = reservation_of(m, st, mm, first, pmd)
    if row < 0:
        row = reserve_range(m, st, mm, first, pmd)
        if row < 0:
            return -1
    pfn = row // RESERV_STRIDE * HPAGE_PMD_NR + (vpn & (HPAGE_PMD_NR - 1))
    if np.int64(st.taken[pfn]):
        return -1
    st.taken[pfn] = 1
    st.reserv[row + RV_POPCNT] += 1
    if st.reserv[row + RV_POPCNT] == HPAGE_PMD_NR:
        m.sc[SC_THP_TIMER_NS] = m.sc[SC_NEXT_EVENT_NS] = m.sc[SC_NOW_NS]  # step() promotes it when the fault is over
    return pfn


@kernel
def fault_orders(m, st, mm, vma, vpn, access):
    """Faults map small pages."""
    return 0


@kernel
def fault_gfp(m, st, mm, vma, order):
    """Nobody tries hard for a reservation."""
    return GFP_TRANSHUGE_LIGHT


@leaf
def range_is_gone(m, mm, first):
    """1 if nobody can fault in the range any more as it was reserved for."""
    if lives(m, mm) == 0:
        return 1
    vma = find_vma(m, mm, first << 12)
    return 1 if vma < 0 or holds_range(m, vma, first) == 0 or walk_pmd(m, mm, first) < 0 else 0


@kernel
def step(m, st, now_ns):
    """Promote what is full; break what is of no use, and the oldest while memory is short."""
    row = st.queue[OLDEST]
    while row >= 0:
        following = st.reserv[row + RV_NEXT]
        full = st.reserv[row + RV_POPCNT] == HPAGE_PMD_NR
        if full:
            st.queue[PROMOTED] += collapse_in_place(m, st.reserv[row + RV_MM], st.reserv[row + RV_VPN])
        if full or range_is_gone(m, st.reserv[row + RV_MM], st.reserv[row + RV_VPN]):
            break_reservation(m, st, row)
        row = following
    while st.queue[OLDEST] >= 0 and memory_is_short(m, HPAGE_PMD_NR):
        break_reservation(m, st, st.queue[OLDEST])
    return st.step_ms[0] * NS_PER_MS


@kernel
def check(m, st):
    """1: a reservation's count of pages is wrong; 2: the list is; 3: a frame counts as taken outside of all reservations."""
    taken = rows = 0
    before = -1
    row = st.queue[OLDEST]
    while row >= 0 and rows <= st.queue[NR_RESERV]:
        head = row // RESERV_STRIDE * HPAGE_PMD_NR
        count = 0
        for pfn in range(head, head + HPAGE_PMD_NR):
            count += 1 if np.int64(st.taken[pfn]) else 0
        if count != st.reserv[row + RV_POPCNT]:
            return 1
        if st.reserv[row + RV_PREV] != before or st.reserv[row + RV_USED] == 0:
            return 2
        taken += count
        rows += 1
        before, row = row, st.reserv[row + RV_NEXT]
    if rows != st.queue[NR_RESERV] or st.queue[YOUNGEST] != before:
        return 2
    for pfn in range(len(st.taken)):
        taken -= 1 if np.int64(st.taken[pfn]) else 0
    return 3 if taken else 0


RESERVATION_THP = Thp(
    name="reservation",
    summary="blocks set aside at the first fault, mapped as huge pages when all their pages are there",
    models="Navarro et al., OSDI 2002; FreeBSD sys/vm/vm_reserv.c",
    left_out="sizes in between, files, pages that come back to their reservation, demotion on a write",
    level="L1",
    params=Params,
    new_state=new_state,
    fault_orders=fault_orders,
    fault_gfp=fault_gfp,
    place=place,
    step=step,
    check=check,
)
