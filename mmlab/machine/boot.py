"""``BootState``: what is free and what is in use on a machine before the workload starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from .layout import MachineLayout
from .record import LRU_LISTS, MIGRATE_TYPES, NR_ORDERS, TOTALS


@attrs.frozen
class PcpState:
    """A CPU's list of a zone: pages on it and its tuned high, both in pages."""

    count: int
    high: int


@attrs.frozen
class ZoneBoot:
    """A zone's free blocks: ``free_lists[type][order]`` counts; ``pcp`` by CPU; ``lru`` pages by list.

    ``pageblocks``: pageblocks by type where the record has them (an import with pagetypeinfo), else empty.
    """

    node: int
    name: str
    free_lists: dict[str, tuple[int, ...]]
    pcp: tuple[PcpState, ...]
    lru: dict[str, int]
    pageblocks: dict[str, int] = attrs.field(factory=dict)

    @property
    def nr_free(self) -> int:
        """Free pages: the sum over all lists (pages on per-CPU lists are not free pages)."""
        return sum(n << order for counts in self.free_lists.values() for order, n in enumerate(counts))


@attrs.frozen
class BootState:
    """Zones in the order of ``layout.zones``; ``lru`` and ``totals`` in pages over the machine (kernel_stack in kB, as in zoneinfo)."""

    zones: tuple[ZoneBoot, ...]
    lru: dict[str, int]
    totals: dict[str, int]
    committed_as_kb: int


def boot_from_json(boot: Mapping[str, Any]) -> BootState:
    """The state of a boot record. Marks, limits and everything else that Linux computes are not read from it.

    Read: by zone node, zone, free_lists, the pcp's count and high, lru; the totals of lru; meminfo's Committed_AS.
    """
    zones = tuple(
        ZoneBoot(
            z["node"],
            z["zone"],
            {t: tuple(z["free_lists"][t]) for t in MIGRATE_TYPES},
            tuple(PcpState(p["count"], p["high"]) for p in z["pcp"]),
            {k: z["lru"][k] for k in LRU_LISTS},
            dict(z.get("pageblocks", {})),
        )
        for z in boot["zones"]
    )
    return BootState(zones, {k: boot["lru"][k] for k in LRU_LISTS}, {k: boot["lru"][k] for k in TOTALS}, boot["meminfo"]["Committed_AS"])


def fresh_boot(layout: MachineLayout) -> BootState:
    """A machine without a record, as if nothing had run yet: each zone's managed pages free and Movable, in the largest aligned blocks.

    What the kernel keeps is taken to be the zone's lowest pages.
    Models: mm/memblock.c memblock_free_all(). Left out: what early boot allocates.
    """
    zones = []
    for z in layout.zones:
        counts = [0] * NR_ORDERS
        kept = z.present - z.managed
        for start, end in z.ranges:
            skip = min(kept, end - start)
            kept -= skip
            for order in aligned_orders(start + skip, end):
                counts[order] += 1
        lists = {t: (0,) * NR_ORDERS for t in MIGRATE_TYPES} | {"Movable": tuple(counts)}
        zones.append(ZoneBoot(z.node, z.name, lists, (PcpState(0, 0),) * layout.nr_cpus, dict.fromkeys(LRU_LISTS, 0)))
    return BootState(tuple(zones), dict.fromkeys(LRU_LISTS, 0), dict.fromkeys(TOTALS, 0), 0)


def aligned_orders(start_pfn: int, end_pfn: int) -> list[int]:
    """Orders of the largest naturally aligned blocks (at most order 10) that cover [start_pfn, end_pfn), in address order."""
    orders = []
    while start_pfn < end_pfn:
        order = min(NR_ORDERS - 1, (end_pfn - start_pfn).bit_length() - 1)
        if start_pfn:
            order = min(order, (start_pfn & -start_pfn).bit_length() - 1)
        orders.append(order)
        start_pfn += 1 << order
    return orders
