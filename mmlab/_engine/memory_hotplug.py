"""Memory that comes and goes while the machine runs, in blocks of block_size_bytes: online, offline, removed and added again.

Models: mm/memory_hotplug.c online_pages(), offline_pages(), add_memory(), try_remove_memory(); drivers/base/memory.c. A block joins the zone
that its frames belonged to when the machine started. Left out: online_movable of a single block, blocks that lie in two zones, memmap_on_memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from mmlab._engine.boot import apply_tuning, build_all_zonelists
from mmlab.errors import NotSupported
from mmlab.machine import memmap
from mmlab.mm.memblock import add_range, init_range, mark_free, mark_range, remove_range
from mmlab.mm.page_isolation import isolate_range, take_range
from mmlab.model import rows as r
from mmlab.model.const import EBUSY, EEXIST, EINVAL, MIGRATE_MOVABLE, PAGEBLOCK_ORDER
from mmlab.model.page import KIND_RESERVED

ONLINE, OFFLINE, ABSENT = "online", "offline", "absent"


class MemoryBlocks:
    """The machine's memory blocks: ``state`` by number, for blocks whose frames all exist at boot and lie in one zone."""

    def __init__(self, sim: Any):
        self.sim = sim
        self.pages = sim.layout.block_size_bytes >> 12
        self.state: dict[int, str] = {}
        self.zone: dict[int, int] = {}
        for number, zone in enumerate(sim.layout.zones):
            for start, end in zone.ranges:
                for block in range(-(-start // self.pages), end // self.pages):
                    self.state[block], self.zone[block] = ONLINE, number
        self.dimms = [range(a // self.pages, b // self.pages) for a, b in memmap.dimm_ranges(sim.cfg)]

    def _span(self, block: int) -> tuple[int, int]:
        return block * self.pages, (block + 1) * self.pages

    def _supported(self) -> None:
        model = self.sim.machine.chosen["memory_model"].policy
        if model.remove_range is None:
            raise NotSupported(f"memory model {model.name!r} has one array of struct pages for all memory: no memory can come or go "
                               "(sparsemem and sparsemem_vmemmap have sections)")  # fmt: skip
        allocator = self.sim.machine.chosen["page_allocator"].policy
        if allocator.set_block_type is None:
            raise NotSupported(f"page allocator {allocator.name!r} cannot isolate pageblocks: no memory can come or go")

    def online(self, block: int) -> int:
        """Hand the block's memory to the page allocator: 0, or -EINVAL if it is online or absent."""
        self._supported()
        if self.state[block] != OFFLINE:
            return -EINVAL
        start, end = self._span(block)
        machine, number = self.sim.machine, self.zone[block]
        self._resize(number, [*self.sim.layout.zones[number].ranges, (start, end)])
        machine.pageblock[start >> PAGEBLOCK_ORDER : end >> PAGEBLOCK_ORDER] = MIGRATE_MOVABLE
        machine.run(mark_free, start, end, number)
        machine.run(init_range, number, start, end - start)
        self.state[block] = ONLINE
        self._recompute()
        return 0

    def offline(self, block: int) -> int:
        """Move everything away and take the memory from the page allocator: 0, -EINVAL if it is not online, -EBUSY with nothing changed."""
        self._supported()
        if self.state[block] != ONLINE:
            return -EINVAL
        start, end = self._span(block)
        machine, number = self.sim.machine, self.zone[block]
        if machine.run(isolate_range, start, end, MIGRATE_MOVABLE) < 0:
            return -EBUSY
        machine.run(take_range, start, end)
        machine.pageblock[start >> PAGEBLOCK_ORDER : end >> PAGEBLOCK_ORDER] = MIGRATE_MOVABLE
        machine.run(mark_range, start, end, number, KIND_RESERVED)
        self._resize(number, [piece for span in self.sim.layout.zones[number].ranges for piece in memmap.subtract([span], (start, end))])
        self.state[block] = OFFLINE
        self._recompute()
        return 0

    def eject(self, dimm: int) -> int:
        """Take a module out: its blocks go offline and their sections go. 0, or -EBUSY with the blocks online that were."""
        self._supported()
        blocks = [block for block in self.dimms[dimm] if self.state[block] != ABSENT]
        if not blocks:
            return -EINVAL
        done: list[int] = []
        for block in blocks:
            if self.state[block] == ONLINE:
                if self.offline(block) < 0:
                    for other in done:
                        self.online(other)
                    return -EBUSY
                done.append(block)
        for block in blocks:
            self.sim.machine.run(remove_range, *self._span(block))
            self.state[block] = ABSENT
        return 0

    def probe(self, address: int) -> int:
        """Add the block at an address, and make it online: 0, -EINVAL where no memory can be, -EEXIST where there is some."""
        self._supported()
        block = address // (self.pages << 12)
        if address % (self.pages << 12) or block not in self.state:
            return -EINVAL
        if self.state[block] != ABSENT:
            return -EEXIST
        machine = self.sim.machine
        start, end = self._span(block)
        machine.run(add_range, self.sim.layout.zones[self.zone[block]].node, start, end)
        machine.run(mark_range, start, end, self.zone[block], KIND_RESERVED)
        self.state[block] = OFFLINE
        return 0 if self.sim.cfg.options.memhp_default_state == "offline" else self.online(block)

    def _resize(self, number: int, ranges: Sequence[tuple[int, int]]) -> None:
        """The zone has these present ranges from now on; its managed pages change by as many."""
        sim = self.sim
        zone = sim.layout.zones[number]
        merged = tuple(memmap.merge(ranges))
        present = sum(b - a for a, b in merged)
        change = present - zone.present
        start = merged[0][0] if merged else zone.start_pfn
        end = merged[-1][1] if merged else start
        new = attrs.evolve(zone, start_pfn=start, spanned=end - start, present=present, managed=zone.managed + change, ranges=merged)
        rebuilt = sim.layout.zonelists_rebuilt or 0 in (zone.present, present)
        sim.layout = attrs.evolve(sim.layout, zones=tuple(new if i == number else z for i, z in enumerate(sim.layout.zones)), zonelists_rebuilt=rebuilt)
        row = sim.machine.zone[number * r.ZONE_STRIDE : (number + 1) * r.ZONE_STRIDE]
        row[r.Z_START_PFN], row[r.Z_END_PFN], row[r.Z_PRESENT] = start, end, present
        row[r.Z_MANAGED] += change
        row[r.Z_FIRST_PAGEBLOCK], row[r.Z_NR_PAGEBLOCKS] = start >> PAGEBLOCK_ORDER, -(-end >> PAGEBLOCK_ORDER) - (start >> PAGEBLOCK_ORDER)
        node = sim.machine.node[zone.node * r.NODE_STRIDE : (zone.node + 1) * r.NODE_STRIDE]
        node[r.N_PRESENT] += change
        node[r.N_MANAGED] += change
        sim.machine.compact[number * r.CZ_STRIDE + r.CZ_CACHED_FREE] = 0  # compaction's scanners begin at the new ends
        sim.machine.sc[r.SC_TOTALRAM] += change

    def _recompute(self) -> None:
        """What follows from the amount of memory. Models: mm/page_alloc.c init_per_zone_wmark_min(), build_all_zonelists()."""
        sim = self.sim
        zones = len(sim.layout.zones)
        sim.tuning.layout, sim.tuning.zones = sim.layout, sim.layout.zones
        sim.tuning.managed = [zone.managed for zone in sim.layout.zones]
        sim.tuning.boost = sim.machine.zone[: zones * r.ZONE_STRIDE].reshape(zones, r.ZONE_STRIDE)[:, r.Z_WATERMARK_BOOST].tolist()
        sim.tuning.hotplug()
        apply_tuning(sim.machine, sim.layout, sim.tuning)
        build_all_zonelists(sim.machine, sim.layout)
