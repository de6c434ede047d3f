"""``MachineLayout``: nodes, zones and the memory map, from a description or from a record of a real boot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from ..errors import InputError
from . import memmap
from .config import MachineConfig
from .overheads import INITRD_FEW_MODULES_PAGES, INITRD_PAGES, MemmapPages, managed_pages, setup_pages, vmemmap_pages
from .watermarks import NR_ZONES, ZONE_NAMES, memory_block_bytes


@attrs.frozen
class ZoneLayout:
    """A zone. Page counts; ``ranges``: present pages as (start_pfn, end_pfn exclusive); ``unmanaged``: ranges of a device's pages, which have
    struct pages and nothing else.

    ``index``: 0 DMA, 1 DMA32, 2 Normal, 3 Movable, 4 Device. ``managed_at_setup``: what managed was when the boot-time watermarks were
    computed, before __init memory and the initrd were freed.
    """

    node: int
    name: str
    index: int
    start_pfn: int
    spanned: int
    present: int
    managed: int
    managed_at_setup: int
    ranges: tuple[tuple[int, int], ...]
    hotplugged: bool = False
    unmanaged: tuple[tuple[int, int], ...] = ()

    @property
    def end_pfn(self) -> int:
        """First page behind the span."""
        return self.start_pfn + self.spanned


@attrs.frozen
class MachineLayout:
    """Zones by node and index, and the CPUs and distances of the nodes. ``e820`` rows: (first byte, last byte, kind).

    ``zonelists_rebuilt``: zones came or went after boot, so that zonelists were built again, with all CPUs online.
    """

    zones: tuple[ZoneLayout, ...]
    node_cpus: tuple[tuple[int, ...], ...]
    distances: tuple[tuple[int, ...], ...]
    e820: tuple[tuple[int, int, str], ...] = ()
    zonelists_rebuilt: bool = False

    @property
    def nr_nodes(self) -> int:
        """Number of nodes, those without memory included."""
        return len(self.node_cpus)

    @property
    def nr_cpus(self) -> int:
        """Online CPUs."""
        return sum(map(len, self.node_cpus))

    @property
    def max_pfn(self) -> int:
        """First page behind the last present one."""
        return max(z.ranges[-1][1] for z in self.zones if z.ranges)

    @property
    def totalram_pages(self) -> int:
        """Sum of managed pages: MemTotal / 4 kB."""
        return sum(z.managed for z in self.zones)

    @property
    def block_size_bytes(self) -> int:
        """Hot-plug block size (/sys/devices/system/memory/block_size_bytes prints it in hex)."""
        return memory_block_bytes(max((z.ranges[-1][1] for z in self.zones if z.ranges and not z.hotplugged), default=0))

    def zone(self, node: int, name: str) -> ZoneLayout:
        """The zone of this name; KeyError if the node has none."""
        for z in self.zones:
            if z.node == node and z.name == name:
                return z
        raise KeyError(f"node {node} has no zone {name}")

    def cpus_sharing(self, node: int) -> int:
        """CPUs that split the per-CPU limits of the node's zones: its own, or all if it has none."""
        return len(self.node_cpus[node]) or self.nr_cpus

    def node_managed(self, node: int, managed: Sequence[int] | None = None) -> list[int]:
        """managed of the node's five zone indices, 0 for absent zones; ``managed`` replaces the zones' own counts."""
        row = [0] * NR_ZONES
        for i, z in enumerate(self.zones):
            if z.node == node:
                row[z.index] = z.managed if managed is None else managed[i]
        return row


def _initrd_pages(cfg: MachineConfig) -> int:
    return INITRD_PAGES if cfg.modules is None else INITRD_FEW_MODULES_PAGES


def layout_from_config(cfg: MachineConfig, memmap_pages: MemmapPages = vmemmap_pages, *, memmap_over_holes: bool = False) -> MachineLayout:
    """The layout Linux would give this machine. See ``overheads.managed_pages`` for the two memmap arguments.

    Raises InputError if the memory does not hold the kernel.
    """
    if cfg.bare:
        return _bare_layout_32(cfg) if cfg.bits == 32 else _bare_layout(cfg)
    node_ranges = memmap.split_over_nodes(cfg, memmap.usable_ranges(cfg))
    if not any(start < memmap.MAX_DMA32_PFN for _, start, _ in node_ranges):
        raise InputError("machine.cmdline: leaves no memory below 4 GiB, where the kernel lies and DMA32 requests are served")
    spans = memmap.zone_spans(cfg, node_ranges)
    dimms = memmap.dimm_ranges(cfg)
    possible = max(b for _, _, b in node_ranges)
    if cfg.maxmem_bytes > cfg.memory_bytes:
        possible = max(possible, memmap.MAX_DMA32_PFN + 1)
    managed = managed_pages(spans, node_ranges, cfg.node_cpus(), possible, memmap_pages, memmap_over_holes)
    at_setup = setup_pages(spans, managed, _initrd_pages(cfg))
    if min(at_setup) <= 0:
        raise InputError(f"machine.{'nodes' if cfg.nodes else 'memory'}: too small for the kernel and its page structures, got {cfg.memory_bytes >> 20}M")
    zones = []
    for (node, index, start, end), m, s in zip(spans, managed, at_setup):
        ranges = tuple(memmap.clip(((a, b) for n, a, b in node_ranges if n == node), start, end))
        present = sum(b - a for a, b in ranges)
        zones.append(ZoneLayout(node, ZONE_NAMES[index], index, start, end - start, present, m, s, ranges))
    zones_at_boot = len(zones)
    if dimms:
        zones = _hotplug(zones, dimms, _hotplug_zone(cfg))
    rebuilt = len(zones) > zones_at_boot
    zones = _with_devices(zones, memmap.device_ranges(cfg), len(cfg.node_cpus()))
    return MachineLayout(tuple(zones), cfg.node_cpus(), cfg.distance_matrix(), memmap.e820_map(cfg), rebuilt)


def _bare_layout_32(cfg: MachineConfig) -> MachineLayout:
    """DMA, Normal and HighMem, whole from frame 1 on. Models: arch/x86/mm/init_32.c highmem_pfn_init(), init.c zone_sizes_init()."""
    end = 1 + cfg.memory_bytes // 4096
    limits = ((0, "DMA", 1, memmap.MAX_DMA_PFN), (2, "Normal", memmap.MAX_DMA_PFN, memmap.HIGHMEM_PFN), (3, "HighMem", memmap.HIGHMEM_PFN, end))
    zones = [
        ZoneLayout(0, name, index, low, min(high, end) - low, min(high, end) - low, min(high, end) - low, min(high, end) - low, ((low, min(high, end)),))
        for index, name, low, high in limits if low < min(high, end)
    ]  # fmt: skip
    return MachineLayout(tuple(zones), cfg.node_cpus(), cfg.distance_matrix())


def _bare_layout(cfg: MachineConfig) -> MachineLayout:
    """Nodes' memory one after the other from 16M on, in DMA32 below 4G and Normal above, all of it managed; no DMA zone."""
    zones = []
    start = memmap.MAX_DMA_PFN
    sizes = [n.memory_bytes for n in cfg.nodes] or [cfg.memory_bytes]
    for node, size in enumerate(sizes):
        end = start + size // 4096
        for index, low, high in ((1, 0, memmap.MAX_DMA32_PFN), (2, memmap.MAX_DMA32_PFN, end)):
            a, b = max(start, low), min(end, high)
            if a < b:
                zones.append(ZoneLayout(node, ZONE_NAMES[index], index, a, b - a, b - a, b - a, b - a, ((a, b),)))
        start = -(-end // 1024) * 1024
    return MachineLayout(tuple(zones), cfg.node_cpus(), cfg.distance_matrix())


def _with_devices(zones: list[ZoneLayout], devices: Sequence[tuple[int, int, int]], nodes: int) -> list[ZoneLayout]:
    """ZONE_DEVICE of each node that has persistent memory. Models: mm/memremap.c pagemap_range(), move_pfn_range_to_zone()."""
    index = ZONE_NAMES.index("Device")
    for node in range(nodes):
        ranges = tuple((a, b) for n, a, b in devices if n == node)
        if ranges:
            start, end = ranges[0][0], ranges[-1][1]
            zones = [*zones, ZoneLayout(node, "Device", index, start, end - start, 0, 0, 0, (), unmanaged=ranges)]
    return sorted(zones, key=lambda z: (z.node, z.index))


def _hotplug_zone(cfg: MachineConfig) -> str:
    return "Movable" if cfg.options.memhp_default_state == "online_movable" else "Normal"


def _hotplug(zones: list[ZoneLayout], dimms: Sequence[tuple[int, int]], name: str) -> list[ZoneLayout]:
    """Modules come online whole, in this zone of node 0. Models: mm/memory_hotplug.c zone_for_pfn_range(), contig-zones."""
    index = ZONE_NAMES.index(name)
    old = next((z for z in zones if z.node == 0 and z.index == index), None)
    added = sum(b - a for a, b in dimms)
    if old is None:
        start = dimms[0][0]
        new = ZoneLayout(0, name, index, start, dimms[-1][1] - start, added, added, added, tuple(dimms), hotplugged=True)
    else:
        new = attrs.evolve(
            old,
            spanned=dimms[-1][1] - old.start_pfn,
            present=old.present + added,
            managed=old.managed + added,
            managed_at_setup=old.managed_at_setup + added,
            ranges=tuple(memmap.merge(old.ranges + tuple(dimms))),
            hotplugged=True,
        )
    return sorted([z for z in zones if z is not old] + [new], key=lambda z: (z.node, z.index))


def layout_from_boot(boot: Mapping[str, Any], cfg: MachineConfig) -> MachineLayout:
    """The layout with the numbers of a boot record; CPUs and distances are the description's.

    Read from ``boot["zones"]``: node, zone, start_pfn, spanned, present, managed, managed_at_setup (a count, or the bounds [low, high] that
    a record leaves). Read if there: ``e820``, ``node_ranges`` (node, first byte, last byte). Nothing else is looked at.
    """
    rows = boot["zones"]
    spans = [(z["node"], ZONE_NAMES.index(z["zone"]), z["start_pfn"], z["start_pfn"] + z["spanned"]) for z in rows]
    managed = [z["managed"] for z in rows]
    hot = [i for i, s in enumerate(spans) if cfg.dimms_bytes and s[0] == 0 and ZONE_NAMES[s[1]] == _hotplug_zone(cfg)]
    if "node_ranges" in boot:
        node_ranges = [(n, -(-a // 4096), (b + 1) // 4096) for n, a, b in boot["node_ranges"]]
    else:
        node_ranges = list(memmap.split_over_nodes(cfg, memmap.usable_ranges(cfg)))
    node_ranges += [(0, a, b) for a, b in memmap.dimm_ranges(cfg)]
    zones = []
    for i, (z, s, setup) in enumerate(zip(rows, spans, setup_pages(spans, managed, _initrd_pages(cfg)))):
        given = z.get("managed_at_setup", setup)
        if not isinstance(given, int):
            given = max(given[0], min(given[1], setup))
        ranges = memmap.clip(((a, b) for n, a, b in node_ranges if n == s[0]), s[2], s[3])
        if sum(b - a for a, b in ranges) != z["present"]:
            ranges = _guess_ranges(s[2], z["spanned"], z["present"])
        zones.append(ZoneLayout(s[0], z["zone"], s[1], s[2], z["spanned"], z["present"], z["managed"], given, tuple(ranges), i in hot))
    e820 = tuple(tuple(r) for r in boot["e820"]) if "e820" in boot else memmap.e820_map(cfg)
    rebuilt = any(spans[i][2] == memmap.dimm_ranges(cfg)[0][0] for i in hot)
    zones.sort(key=lambda z: (z.node, z.index))
    return MachineLayout(tuple(zones), cfg.node_cpus(), cfg.distance_matrix(), e820, rebuilt)


def _guess_ranges(start: int, spanned: int, present: int) -> list[tuple[int, int]]:
    """Present ranges of a zone whose map is not known: the BIOS hole below 1M where it fits, any other hole at the end of the span."""
    bios = memmap.subtract([(start, start + spanned)], (0x9F, 0x100))
    if start < 0x9F and sum(b - a for a, b in bios) == present:
        return bios
    return [(start, start + present)]
