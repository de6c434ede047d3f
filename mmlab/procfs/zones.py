"""/proc/vmstat, zoneinfo, buddyinfo and pagetypeinfo.

Models: mm/vmstat.c zoneinfo_show_print(), frag_show_print(), pagetypeinfo_showfree_print(), pagetypeinfo_showblockcount_print().
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mmlab.machine.fragmentation import extfrag_index, format_index, unusable_index
from mmlab.machine.watermarks import ZONE_NAMES
from mmlab.model import rows as r
from mmlab.model.const import MIGRATE_CMA, MIGRATE_TYPES, MIGRATETYPE_NAMES, NR_PAGE_ORDERS, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES
from mmlab.procfs.counters import NUMA_ITEMS, ZONE_ITEMS, machine_counters, node_counters, node_zones, zone_counters

FREE_LIST_LIMIT = 100_000  # pagetypeinfo stops counting a list here


def vmstat(sim: Any) -> str:
    """/proc/vmstat."""
    counters = machine_counters(sim)
    if sim.cfg.bits == 32:  # HighMem counts in Movable's place
        counters = {name.replace("_movable", "_high"): value for name, value in counters.items() if not name.endswith("_dma32")}
    return "".join(f"{name} {value}\n" for name, value in counters.items())


def node_vmstat(sim: Any, node: int) -> str:
    """/sys/devices/system/node/nodeN/vmstat."""
    total = dict.fromkeys(ZONE_ITEMS + NUMA_ITEMS, 0)
    for number in node_zones(sim, node):
        for name, value in zone_counters(sim, number).items():
            total[name] += value
    return "".join(f"{name} {value}\n" for name, value in (total | node_counters(sim, node)).items())


def zone_names(sim: Any) -> list[tuple[int, str]]:
    """Index and name of the zones that the machine's kind has."""
    if sim.cfg.bits == 32:
        return [(0, "DMA"), (2, "Normal"), (3, "HighMem")]
    return list(enumerate(ZONE_NAMES))


def zoneinfo(sim: Any) -> str:
    """/proc/zoneinfo: every zone index of every node; zones without pages have no lists and no counters."""
    out = []
    for node in range(sim.layout.nr_nodes):
        by_index = {sim.layout.zones[i].index: i for i in node_zones(sim, node) if sim.layout.zones[i].present}
        first = True
        for index, name in zone_names(sim):
            out.append(f"Node {node}, zone {name:>8}\n")
            if index not in by_index:
                device = next((z for z in sim.layout.zones if z.unmanaged and (z.node, z.index) == (node, index)), None)
                out.append(_empty_zone(index, device.spanned if device else 0))
                continue
            if first:
                out.append("  per-node stats\n")
                out += [f"      {item:<12} {value}\n" for item, value in node_counters(sim, node).items()]
                first = False
            out += _zone(sim, by_index[index])
    return "".join(out)


def _numbers(free: int, boost: int, marks: list[int], spanned: int, present: int, managed: int, cma: int, protection: list[int]) -> str:
    labels = zip(
        ("boost", "min", "low", "high", "promo", "spanned", "present", "managed", "cma"), (boost, *marks, spanned, present, managed, cma)
    )
    body = "".join(f"\n        {label:<8} {value}" for label, value in labels)
    return f"  pages free     {free}{body}\n        protection: ({', '.join(map(str, protection))})\n"


def _empty_zone(index: int, spanned: int) -> str:
    mark = 32 if ZONE_NAMES[index] == "Movable" else 0  # its mark depends on nothing but its size, at least 32 pages
    return _numbers(0, 0, [mark] * 4, spanned, 0, 0, 0, [0] * len(ZONE_NAMES))


def _zone(sim: Any, number: int) -> list[str]:
    machine, zone = sim.machine, sim.layout.zones[number]
    row = machine.zone[number * r.ZONE_STRIDE : (number + 1) * r.ZONE_STRIDE].tolist()
    marks = row[r.Z_WMARK_MIN : r.Z_WMARK_PROMO + 1]
    boosted = [mark + row[r.Z_WATERMARK_BOOST] for mark in marks]
    protection = row[r.Z_LOWMEM_RESERVE : r.Z_LOWMEM_RESERVE + len(ZONE_NAMES)]
    sizes = (zone.spanned, row[r.Z_PRESENT], row[r.Z_MANAGED], row[r.Z_CMA_PAGES])
    out = [_numbers(row[r.Z_FREE], row[r.Z_WATERMARK_BOOST], boosted, *sizes, protection)]
    out += [f"      {name:<12} {value}\n" for name, value in zone_counters(sim, number).items()]
    out.append("  pagesets\n")
    for cpu in range(machine.sizes.nr_cpus):
        base = (cpu * machine.sizes.nr_zones + number) * r.PCP_STRIDE
        pcp = machine.pcp[base : base + r.PCP_STRIDE].tolist()
        fields = (
            ("count", r.PCP_COUNT),
            ("high", r.PCP_HIGH),
            ("batch", r.PCP_BATCH),
            ("high_min", r.PCP_HIGH_MIN),
            ("high_max", r.PCP_HIGH_MAX),
        )
        out.append(f"    cpu: {cpu}\n" + "".join(f"              {name + ':':<9} {pcp[field]}\n" for name, field in fields))
        out.append(f"  vm stats threshold: {row[r.Z_STAT_THRESHOLD]}\n")
    hopeless = int(machine.node[zone.node * r.NODE_STRIDE + r.N_KSWAPD_FAILURES] >= 16)
    out.append(f"  node_unreclaimable:  {hopeless}\n  start_pfn:           {zone.start_pfn}\n")
    return out


def populated(sim: Any) -> list[tuple[int, Any]]:
    """Row number and layout of the zones that have memory."""
    return [(number, zone) for number, zone in enumerate(sim.layout.zones) if zone.present]


def free_blocks(sim: Any, number: int) -> list[list[int]]:
    """[migratetype][order] free blocks of a zone."""
    op = sim.machine.op
    return [
        [op("page_allocator", "nr_free_blocks", number, order, kind) for order in range(NR_PAGE_ORDERS)] for kind in range(MIGRATE_TYPES)
    ]


def buddyinfo(sim: Any) -> str:
    """/proc/buddyinfo."""
    out = []
    for number, zone in populated(sim):
        totals = map(sum, zip(*free_blocks(sim, number)))
        out.append(f"Node {zone.node}, zone {zone.name:>8} " + "".join(f"{n:6} " for n in totals) + "\n")
    return "".join(out)


def pagetypeinfo(sim: Any) -> str:
    """/proc/pagetypeinfo. CMA has its place only where the machine has such areas, as if the kernel was built without otherwise."""
    names = MIGRATETYPE_NAMES if getattr(sim, "cma", []) else MIGRATETYPE_NAMES[:MIGRATE_CMA]
    out = [f"Page block order: {PAGEBLOCK_ORDER}\nPages per block:  {PAGEBLOCK_PAGES}\n\n"]
    out.append(f"{'Free pages count per migrate type at order':<43} " + "".join(f"{order:6} " for order in range(NR_PAGE_ORDERS)) + "\n")
    for number, zone in populated(sim):
        for kind, counts in enumerate(free_blocks(sim, number)[: len(names)]):
            shown = "".join(f">{FREE_LIST_LIMIT:6} " if n >= FREE_LIST_LIMIT else f"{n:6} " for n in counts)
            out.append(f"Node {zone.node:4}, zone {zone.name:>8}, type {names[kind]:>12} {shown}\n")
    out.append("\n" + f"{'Number of blocks type':<23}" + "".join(f"{name:>12} " for name in names) + "\n")
    for number, zone in populated(sim):
        counts = [0] * len(names)
        for block in block_types(sim, number):
            if block is not None:
                counts[block] += 1
        out.append(f"Node {zone.node}, zone {zone.name:>8} " + "".join(f"{n:12} " for n in counts) + "\n")
    return "".join(out)


def block_types(sim: Any, number: int) -> list[int | None]:
    """Migratetype of each pageblock of a zone from its first; None for one without a frame of the zone."""
    zone = sim.layout.zones[number]
    first, end = zone.start_pfn >> PAGEBLOCK_ORDER, -(-zone.end_pfn // PAGEBLOCK_PAGES)
    types: list[int | None] = sim.machine.pageblock[first:end].tolist()
    for i in range(end - first):
        pfn = max((first + i) << PAGEBLOCK_ORDER, zone.start_pfn)
        if not any(a <= pfn < b for a, b in zone.ranges):
            types[i] = None
    return types


def _index_file(sim: Any, index: Callable[[Sequence[int], int], int]) -> str:
    out = []
    for number, zone in populated(sim):
        blocks = [sum(counts) for counts in zip(*free_blocks(sim, number))]
        values = "".join(f"{format_index(index(blocks, order))} " for order in range(NR_PAGE_ORDERS))
        out.append(f"Node {zone.node}, zone {zone.name:>8} {values}\n")
    return "".join(out)


def extfrag_index_file(sim: Any) -> str:
    """/sys/kernel/debug/extfrag/extfrag_index."""
    return _index_file(sim, extfrag_index)


def unusable_index_file(sim: Any) -> str:
    """/sys/kernel/debug/extfrag/unusable_index."""
    return _index_file(sim, unusable_index)
