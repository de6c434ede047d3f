"""Brings a machine up: zones, zonelists, per-CPU limits and list heads from its layout, and the memory it starts with.

What is in use at boot is KIND_BOOT: it belongs to no task. Where a record gives only counts of free blocks, blocks are laid out by rule:
order-10 blocks at the top of the zone, smaller ones below in pageblocks of their type, each beside memory in use so that none merge.
"""

from __future__ import annotations
from itertools import chain, islice
from mmlab._engine.machine import Machine
from mmlab.errors import InputError, NotSupported
from mmlab.kernels.services import alloc_pages
from mmlab.machine import BootState, build_zonelists, MachineLayout, ZoneTuning
from mmlab.machine.boot import ZoneBoot
from mmlab.machine.layout import ZoneLayout
from mmlab.machine.overheads import INITRD_PAGES, KERNEL_LOAD_PFN, KERNEL_PAGES
from mmlab.machine.record import LRU_LISTS
from mmlab.mm.memblock import add_range, boot_free_to_pcp, init_heads, init_range, mark_free, mark_range
from mmlab.mm.page_writeback import init_writeback
from mmlab.mm.psi import PSI_PERIOD_NS
from mmlab.model.const import (
    MAX_ORDER, MIGRATETYPE_NAMES, MIGRATE_TYPES, MIGRATE_UNMOVABLE, NR_POLICY_LISTS, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES, PAGE_SHIFT,
)
from mmlab.model.gfp import GFP_DIRECT_RECLAIM, GFP_KERNEL
from mmlab.model.layout import FREE_HEADS_PER_ZONE, PCP_HEADS, count_heads, Sizes
from mmlab.model.page import KIND_BOOT, KIND_RESERVED, PG_SWAPBACKED


import numpy as np

from mmlab.model import rows as r

BLOCK = 1 << MAX_ORDER
PCP_HUGE_COUNT = 700  # pages on a CPU's lists from which on 512 of them are one block: so in seven of ten recorded zones
CHUNK_PAGES = 1 << 16  # of a zone looked at in one go
PCP_UNMOVABLE_PERCENT = 38  # of the single pages there, the median of the same zones; few of them are reclaimable


def sizes_of(layout: MachineLayout, nr_tasks: int = 256, nr_swap_slots: int = 0, next_use: bool = False, nr_memcgs: int = 1,
             tlb_entries: int = 0, subpages: bool = False, future_ranges: int = 0, future_tasks: bool = False, explain: int = 0) -> Sizes:
    """Array sizes for a layout. nr_swap_slots: swap pages, slot 0 (the header) included; the rest: see Sizes."""
    top = max(z.end_pfn for z in layout.zones)
    frames = -(-top // BLOCK) * BLOCK
    present = sum(z.present for z in layout.zones)
    heads = count_heads(layout.nr_cpus, layout.nr_nodes, len(layout.zones), nr_memcgs)
    return Sizes(frames, present, heads, layout.nr_cpus, layout.nr_nodes, len(layout.zones), nr_tasks, nr_swap_slots, next_use,
                 nr_memcgs=nr_memcgs, tlb_entries=tlb_entries, subpages=subpages, future_ranges=future_ranges, future_tasks=future_tasks, explain=explain)

NR_MIGRATETYPES = MIGRATE_TYPES - 1  # of a kernel without CMA
STRUCT_PAGE_BYTES = 64


def boot_machine(machine: Machine, layout: MachineLayout, tuning: ZoneTuning, boot: BootState) -> None:
    """Fill the machine's zones, lists and free memory; policies were bound before."""
    _scalars(machine, layout)
    machine.run(init_heads, machine.sizes.nr_frames, machine.sizes.nr_frames + machine.sizes.nr_heads)
    for number, zone in enumerate(layout.zones):
        _zone_row(machine, number, zone)
        lists = boot.zones[number].lru
        first = number * r.ZONE_STRIDE + r.Z_BOOT_LRU
        machine.zone[first : first + len(LRU_LISTS)] = [lists.get(name, 0) for name in LRU_LISTS]
    build_all_zonelists(machine, layout)
    apply_tuning(machine, layout, tuning)
    for slot in machine.states:
        machine.op(slot, "init")
    for number, zone in enumerate(layout.zones):
        for start, end in zone.ranges:
            machine.run(add_range, zone.node, start, end)
        _free_memory(machine, number, zone, boot.zones[number], layout)
        _movable_pages(machine, zone, sum(boot.zones[number].lru.values()))
        for start, end in zone.unmanaged:
            machine.run(add_range, zone.node, start, end)
            machine.run(mark_range, start, end, number, KIND_RESERVED)
    _pcp_pages(machine, layout, boot)
    _kvfree_pages(machine, layout)
    machine.vmstat[:] = 0
    machine.nr_calls[:] = 0


def device_memmap(machine: Machine, layout: MachineLayout) -> None:
    """Struct pages of devices' memory lie in ordinary memory. Models: mm/memremap.c memremap_pages(), mm/sparse-vmemmap.c."""
    for zone in layout.zones:
        for start, end in zone.unmanaged:
            for _ in range(-(-machine.op("memory_model", "memmap_pages", start, end) // PAGEBLOCK_PAGES)):
                if machine.run(alloc_pages, GFP_KERNEL & ~GFP_DIRECT_RECLAIM, PAGEBLOCK_ORDER, zone.node) < 0:
                    raise InputError(f"machine.cmdline: memmap: no memory for the struct pages of {(end - start) >> 8} MiB of a device")


def _scalars(machine: Machine, layout: MachineLayout) -> None:
    sizes, sc = machine.sizes, machine.sc
    sc[r.SC_NR_NODES], sc[r.SC_NR_ZONES], sc[r.SC_NR_CPUS] = layout.nr_nodes, len(layout.zones), layout.nr_cpus
    sc[r.SC_MAX_PFN], sc[r.SC_NR_HEADS], sc[r.SC_TASK] = sizes.nr_frames, sizes.nr_heads, -1
    heads = sizes.nr_frames + sizes.nr_zones * FREE_HEADS_PER_ZONE + sizes.nr_cpus * sizes.nr_zones * PCP_HEADS
    sc[r.SC_POLICY_LISTS] = heads
    sc[r.SC_SLAB_HEADS] = heads + sizes.nr_nodes * sizes.nr_memcgs * NR_POLICY_LISTS
    sc[r.SC_NR_MEMCGS] = 1
    sc[r.SC_HIGHMEM] = int(any(zone.name == "HighMem" for zone in layout.zones))
    machine.memcg[r.MC_PARENT] = -1
    init_writeback(machine)
    machine.psi[r.PSI_NEXT_NS] = PSI_PERIOD_NS
    machine.memcg[[r.MC_HIGH, r.MC_MAX, r.MC_SWAP_MAX]] = r.MEMCG_MAX
    sc[r.SC_TOTALRAM] = sum(z.managed for z in layout.zones)
    for node, cpus in enumerate(layout.node_cpus):
        base = node * r.NODE_STRIDE
        machine.node[base + r.N_FIRST_CPU] = cpus[0] if cpus else -1
        machine.node[base + r.N_NR_CPUS] = len(cpus)
        machine.cpu_node[list(cpus)] = node
    machine.distance[:] = np.array(layout.distances).ravel()


def _zone_row(machine: Machine, number: int, zone: ZoneLayout) -> None:
    base = number * r.ZONE_STRIDE
    row = machine.zone
    row[base + r.Z_NODE], row[base + r.Z_INDEX] = zone.node, zone.index
    row[base + r.Z_START_PFN], row[base + r.Z_END_PFN] = zone.start_pfn, zone.end_pfn
    row[base + r.Z_PRESENT], row[base + r.Z_MANAGED] = zone.present, zone.managed
    row[base + r.Z_FIRST_PAGEBLOCK] = zone.start_pfn >> PAGEBLOCK_ORDER
    row[base + r.Z_NR_PAGEBLOCKS] = -(-zone.end_pfn // 512) - (zone.start_pfn >> PAGEBLOCK_ORDER)
    row[base + r.Z_FREE_HEADS] = machine.sizes.nr_frames + number * FREE_HEADS_PER_ZONE
    for cpu in range(machine.sizes.nr_cpus):
        pcp = (cpu * machine.sizes.nr_zones + number) * r.PCP_STRIDE
        lists = machine.sizes.nr_frames + machine.sizes.nr_zones * FREE_HEADS_PER_ZONE
        machine.pcp[pcp + r.PCP_HEADS] = lists + (cpu * machine.sizes.nr_zones + number) * PCP_HEADS
    machine.node[zone.node * r.NODE_STRIDE + r.N_PRESENT] += zone.present
    machine.node[zone.node * r.NODE_STRIDE + r.N_MANAGED] += zone.managed
    machine.pageblock[zone.start_pfn >> 9 : -(-zone.end_pfn // 512)] = 1


def build_all_zonelists(machine: Machine, layout: MachineLayout) -> None:
    """Every node's lists, and those of the sets of nodes that policies have named so far. Models: mm/page_alloc.c build_all_zonelists()."""
    lists = build_zonelists(layout)
    machine.zonelist[:] = -1
    for node in range(layout.nr_nodes):
        for offset, which in ((0, lists.fallback[node]), (r.ZONELIST_THISNODE, lists.thisnode[node])):
            at = node * r.ZONELIST_STRIDE + offset
            machine.zonelist[at : at + len(which)] = which
    for slot in range(len(machine.nodemasks)):
        _nodemask_zonelists(machine, layout, slot)
    machine.sc[r.SC_MOBILITY_DISABLED] = int(nr_free_pagecache_pages(machine, layout) < PAGEBLOCK_PAGES * NR_MIGRATETYPES)


def nr_free_pagecache_pages(machine: Machine, layout: MachineLayout) -> int:
    """Memory above the high watermarks. At boot, when the kernel asks first, there are no watermarks, and what it will keep is unknown to it
    but for struct pages."""
    rows = machine.zone[: len(layout.zones) * r.ZONE_STRIDE].reshape(-1, r.ZONE_STRIDE)
    if rows[:, r.Z_WMARK_HIGH].any():
        return int(np.maximum(0, rows[:, r.Z_MANAGED] - rows[:, r.Z_WMARK_HIGH]).sum())
    return sum(zone.present - (zone.present * STRUCT_PAGE_BYTES >> PAGE_SHIFT) for zone in layout.zones)


def nodemask_slot(machine: Machine, layout: MachineLayout, mask: int, then: int) -> int:
    """Number of the zonelists that hold only the zones of a set of nodes, made at their first use; `then` (0: none) names the set from which a
    request is served that this one cannot serve. Raises NotSupported beyond NR_NODEMASKS sets."""
    key = (mask, then)
    if key not in machine.nodemasks:
        everything = sum(1 << node for node in {zone.node for zone in layout.zones})
        behind = 0 if then == 0 else 1 if then == everything else 2 + nodemask_slot(machine, layout, then, 0)
        if len(machine.nodemasks) == r.NR_NODEMASKS:
            raise NotSupported(f"policies with more than {r.NR_NODEMASKS} sets of nodes")
        machine.nodemasks.append(key)
        slot = len(machine.nodemasks) - 1
        machine.nodemask[slot] = mask if mask != everything else 0
        machine.nodemask_next[slot] = behind
        _nodemask_zonelists(machine, layout, slot)
    return machine.nodemasks.index(key)


def _nodemask_zonelists(machine: Machine, layout: MachineLayout, slot: int) -> None:
    mask = machine.nodemasks[slot][0]
    lists = build_zonelists(layout)
    for node in range(layout.nr_nodes):
        zones = [zone for zone in lists.fallback[node] if mask >> layout.zones[zone].node & 1]
        at = (layout.nr_nodes * slot + layout.nr_nodes + node) * r.ZONELIST_STRIDE
        own = [zone for zone in zones if layout.zones[zone].node == node]
        for offset, which in ((0, zones), (r.ZONELIST_THISNODE, own)):
            machine.zonelist[at + offset : at + offset + len(which)] = which


def apply_tuning(machine: Machine, layout: MachineLayout, tuning: ZoneTuning) -> None:
    """Copy what Linux's formulas give (watermarks, reserves, per-CPU limits) into the zones' rows; after every sysctl write too."""
    for number in range(len(layout.zones)):
        base = number * r.ZONE_STRIDE
        mark, pcp = tuning.wmark[number], tuning.pcp[number]
        machine.zone[base + r.Z_WMARK_MIN : base + r.Z_WMARK_PROMO + 1] = (mark.min, mark.low, mark.high, mark.promo)
        machine.zone[base + r.Z_WATERMARK_BOOST] = tuning.boost[number]
        reserve = tuning.lowmem_reserve[number]
        machine.zone[base + r.Z_LOWMEM_RESERVE : base + r.Z_LOWMEM_RESERVE + len(reserve)] = reserve
        machine.zone[base + r.Z_BATCH], machine.zone[base + r.Z_HIGH_MIN], machine.zone[base + r.Z_HIGH_MAX] = pcp.batch, pcp.high_min, pcp.high_max
        machine.zone[base + r.Z_STAT_THRESHOLD] = tuning.stat_threshold[number]
        machine.zone[base + r.Z_DRIFT_MARK] = tuning.percpu_drift_mark[number]
        for cpu in range(machine.sizes.nr_cpus):
            row = (cpu * machine.sizes.nr_zones + number) * r.PCP_STRIDE
            machine.pcp[row + r.PCP_BATCH], machine.pcp[row + r.PCP_HIGH_MIN], machine.pcp[row + r.PCP_HIGH_MAX] = pcp.batch, pcp.high_min, pcp.high_max
            if machine.pcp[row + r.PCP_HIGH] < pcp.high_min or pcp.high_min == pcp.high_max:
                machine.pcp[row + r.PCP_HIGH] = pcp.high_min
    machine.sc[r.SC_TOTALRESERVE] = tuning.totalreserve_pages


def _free_memory(machine: Machine, number: int, zone: ZoneLayout, boot: ZoneBoot, layout: MachineLayout) -> None:
    """Free blocks from the top of the zone's last ranges downwards, then handed over lowest first, as memblock does."""
    if boot.nr_free == zone.managed:
        _fresh_memory(machine, number, zone)
        return
    blocks = place_free_blocks(zone, boot)
    at = zone.start_pfn
    cursor = sorted(blocks)
    for start, end in zone.ranges:
        at = start
        for pfn, order, _ in cursor:
            if not start <= pfn < end:
                continue
            if pfn > at:
                machine.run(mark_range, at, pfn, number, KIND_BOOT)
            at = pfn + (1 << order)
        if at < end:
            machine.run(mark_range, at, end, number, KIND_BOOT)
    for pfn, order, migratetype in cursor:
        machine.pageblock[pfn >> 9 : max((pfn >> 9) + 1, (pfn + (1 << order)) >> 9)] = migratetype
    for pfn, order, _ in cursor:
        machine.run(mark_free, pfn, pfn + (1 << order), number)
        machine.run(init_range, number, pfn, 1 << order)


def _fresh_memory(machine: Machine, number: int, zone: ZoneLayout) -> None:
    """Nothing is in use but what the kernel keeps, the zone's lowest pages; all the rest is handed over run by run."""
    kept = zone.present - zone.managed
    for start, end in zone.ranges:
        skip = min(kept, end - start)
        kept -= skip
        machine.run(mark_range, start, start + skip, number, KIND_BOOT)
        machine.run(mark_free, start + skip, end, number)
        if start + skip < end:
            machine.run(init_range, number, start + skip, end - start - skip)


def place_free_blocks(zone: ZoneLayout, boot: ZoneBoot) -> list[tuple[int, int, int]]:
    """(pfn, order, migratetype) for each free block that the counts name, from the top of the zone's memory downwards.

    A block of order < 10 takes an aligned place of twice its size, so that its buddy is in use; small blocks share pageblocks of their type.
    In a zone that is full otherwise, smaller ones lie there too.
    """
    wanted = [(order, kind, boot.free_lists.get(name, (0,) * (MAX_ORDER + 1))[order]) for order in range(MAX_ORDER, -1, -1) for kind, name in enumerate(MIGRATETYPE_NAMES)]
    free: list[tuple[int, int, int]] = []
    ranges = _with_top_kept(zone)
    partial: dict[int, list[list[int]]] = {}  # migratetype -> [next pfn, end] of pageblocks being filled
    buddies: dict[int, list[list[int]]] = {}  # the same of places that were left in use beside a larger block

    def take(size: int) -> int:
        for span in reversed(ranges):
            pfn = (span[1] - size) // size * size
            if pfn >= span[0]:
                span[1] = pfn
                return pfn
        return -1

    for order, kind, count in wanted:
        for _ in range(count):
            if order >= PAGEBLOCK_ORDER:
                pfn = take(BLOCK)
                if pfn < 0 and order < MAX_ORDER:
                    pfn = take(1 << order)  # the zone's lowest: what is left beside it is no whole block
            else:
                pfn = _within_pageblock(partial.setdefault(kind, []), 2 << order, ranges)
                if pfn < 0:  # the zone is full: beside a free block of another order
                    pfn = _within_pageblock(partial[kind], 1 << order, ranges)
                    pfn = -1 if (pfn ^ 1 << order, order, kind) in free else pfn
                    if pfn < 0:
                        pfn = _within_pageblock(buddies.get(kind, []), 2 << order, [])
                else:
                    buddies.setdefault(kind, []).append([pfn + (1 << order), pfn + (2 << order)])
            if pfn >= 0:
                free.append((pfn, order, kind))
    return free


def _with_top_kept(zone: ZoneLayout) -> list[list[int]]:
    """The zone's ranges in the order of their use, last first. Early boot takes memory from the top downwards (memmap, per-CPU areas, tables),
    all but the kernel's image and what lies below 16 MiB, and the initrd was loaded there, whose pages were used again soon; so the top is
    used only when the rest is full."""
    ranges = [list(span) for span in zone.ranges]
    image = KERNEL_PAGES if zone.start_pfn <= KERNEL_LOAD_PFN < zone.end_pfn else 0
    kept = zone.present - zone.managed - image + INITRD_PAGES if zone.present - zone.managed > image and zone.end_pfn > KERNEL_LOAD_PFN else 0
    if 0 < kept < ranges[-1][1] - ranges[-1][0]:
        top = ranges[-1][1] - kept
        ranges[-1][1], ranges = top, [[top, ranges[-1][1]], *ranges]
    return ranges


def _within_pageblock(filling: list[list[int]], size: int, ranges: list[list[int]]) -> int:
    """An aligned place of `size` pages in a pageblock of the type, or in one not used so far (the lowest of a zone may be a part of one)."""
    for span in filling:
        pfn = -(-span[0] // size) * size
        if pfn + size <= span[1]:
            span[0] = pfn + size
            return pfn
    for unused in reversed(ranges):
        start = max(unused[0], (unused[1] - 1) // PAGEBLOCK_PAGES * PAGEBLOCK_PAGES)
        pfn = -(-start // size) * size
        if unused[0] < unused[1] and pfn + size <= unused[1]:
            filling.append([pfn + size, unused[1]])
            unused[1] = start
            return pfn
    return -1


def _pcp_pages(machine: Machine, layout: MachineLayout, boot: BootState) -> None:
    """Blocks that boot left on per-CPU lists, from memory in use. Where there are many pages one is an unmovable block of a huge page's size, as
    on most recorded machines; of the single pages most are movable, from the top of the zone, the rest unmovable."""
    for number, (zone, state) in enumerate(zip(layout.zones, boot.zones)):
        movable, unmovable = _boot_pages(machine, zone), _unmovable_boot_pages(machine, zone)
        for cpu, pcp in enumerate(state.pcp):
            row = (cpu * machine.sizes.nr_zones + number) * r.PCP_STRIDE
            machine.sc[r.SC_CPU] = cpu
            machine.pcp[row + r.PCP_HIGH] = max(pcp.high, machine.pcp[row + r.PCP_HIGH_MIN])
            count = min(pcp.count, machine.pcp[row + r.PCP_HIGH] - 1)
            block = next(_boot_pageblocks(machine, zone), -1) if count >= PCP_HUGE_COUNT else -1
            if block >= 0:
                machine.pageblock[block >> PAGEBLOCK_ORDER] = MIGRATE_UNMOVABLE
                machine.run(boot_free_to_pcp, block, PAGEBLOCK_ORDER)
                count -= PAGEBLOCK_PAGES
            others = count * PCP_UNMOVABLE_PERCENT // 100
            for pfn in chain(islice(unmovable, others), islice(movable, count - others)):
                machine.run(boot_free_to_pcp, pfn, 0)
            machine.pcp[row + r.PCP_FREE_COUNT] = 0
    machine.sc[r.SC_CPU] = 0


def _kvfree_pages(machine: Machine, layout: MachineLayout) -> None:
    """What every CPU has for objects that wait to be freed: pages of its node, of those in use at boot."""
    pages = {zone.node: _unmovable_boot_pages(machine, zone) for zone in layout.zones}  # of the node's last zone
    for node, cpus in enumerate(layout.node_cpus):
        for cpu in cpus:
            cached = list(islice(pages[node], r.RCU_MIN_CACHED_OBJS)) if node in pages else []
            row = cpu * r.KVP_STRIDE
            machine.kvfree_page[row + r.KVP_NR] = len(cached)
            machine.kvfree_page[row + r.KVP_PAGE : row + r.KVP_PAGE + len(cached)] = cached


def _boot_pageblocks(machine: Machine, zone: ZoneLayout):
    """First pages of the pageblocks that are all in use at boot, and not by pages on LRU lists, from the lowest on."""
    kinds, flags = machine.pagex[3::4], machine.page[2::4]
    for start, end in zone.ranges:
        for first in range(-(-start // PAGEBLOCK_PAGES) * PAGEBLOCK_PAGES, end - PAGEBLOCK_PAGES + 1, PAGEBLOCK_PAGES):
            block = slice(first, first + PAGEBLOCK_PAGES)
            if np.all((kinds[block] >> 12) & 15 == KIND_BOOT) and not np.any(flags[block] & PG_SWAPBACKED):
                yield first


def _unmovable_boot_pages(machine: Machine, zone: ZoneLayout):
    """Pages of such pageblocks, which become unmovable."""
    for first in _boot_pageblocks(machine, zone):
        machine.pageblock[first >> PAGEBLOCK_ORDER] = MIGRATE_UNMOVABLE
        for pfn in range(first, first + PAGEBLOCK_PAGES):
            if (int(machine.pagex[4 * pfn + 3]) >> 12) & 15 == KIND_BOOT:
                yield pfn


def _movable_pages(machine: Machine, zone: ZoneLayout, count: int) -> None:
    """Pages in use at boot that are on LRU lists (the initial file system, the first tasks): where the initrd was, at the top, then the
    lowest ones above the kernel's image."""
    at_top = list(islice(_boot_pages(machine, zone), min(count, INITRD_PAGES)))
    low = _lowest_boot_pages(machine, zone, KERNEL_LOAD_PFN + KERNEL_PAGES)
    for pfn in chain(at_top, islice(low, count - len(at_top))):
        machine.page[4 * pfn + 2] |= np.uint32(PG_SWAPBACKED)


def above_low_pages(machine: Machine, zone: ZoneLayout, count: int, most: int) -> int:
    """The frame below which lie `count` pages that boot left in use, the kernel's image not among them; `most` if there are not so many."""
    first = max(zone.start_pfn, KERNEL_LOAD_PFN + KERNEL_PAGES)
    low = np.flatnonzero(machine.pagex[4 * first + 3 : 4 * most : 4] >> 12 & 15 == KIND_BOOT)
    return first + int(low[count - 1]) + 1 if count <= len(low) else most


def _in_use(machine: Machine, start: int, end: int) -> np.ndarray:
    """Frames of [start, end) that boot left in use."""
    return start + np.flatnonzero((machine.pagex[4 * start + 3 : 4 * end : 4] >> 12) & 15 == KIND_BOOT)


def _boot_pages(machine: Machine, zone: ZoneLayout):
    """Frames of the zone that are in use at boot and still so when they are asked for, from the top on."""
    for start, end in reversed(zone.ranges):
        for last in range(end, start, -CHUNK_PAGES):
            for pfn in reversed(_in_use(machine, max(start, last - CHUNK_PAGES), last)):
                if (int(machine.pagex[4 * pfn + 3]) >> 12) & 15 == KIND_BOOT:
                    yield int(pfn)


def _lowest_boot_pages(machine: Machine, zone: ZoneLayout, first: int):
    """The same from the frame `first` on upwards."""
    for start, end in zone.ranges:
        for at in range(max(start, first), end, CHUNK_PAGES):
            for pfn in _in_use(machine, at, min(end, at + CHUNK_PAGES)):
                yield int(pfn)
