"""The memory map of a QEMU ``pc`` machine and how it is cut into zones (facts of x86-64, kernel 6.12).

Byte ranges are (start, end inclusive, kind) as in the e820 table; page ranges are (start_pfn, end_pfn exclusive).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import InputError
from .config import MachineConfig
from .watermarks import ZONE_DMA, ZONE_DMA32, ZONE_MOVABLE, ZONE_NORMAL

MAX_DMA_PFN = 4096
MAX_DMA32_PFN = 1 << 20
HIGHMEM_PFN = 896 << 8  # a 32-bit kernel addresses memory below it at any time
MAX_ORDER_NR_PAGES = 1024
ACPI_PAGES = 35
ACPI_PAGES_PER_DISK = 3
LOW_4G_LIMIT = 0xE0000000
LOW_4G_SPLIT = 0xC0000000
DIMM_ALIGN = 1 << 30

E820 = tuple[int, int, str]
NodeRange = tuple[int, int, int]


def e820_map(cfg: MachineConfig) -> tuple[E820, ...]:
    """The firmware's map: RAM up to 3.5G in one piece, otherwise 3G below and the rest from 4G on; ACPI tables at
    the end of the low piece, which grow with every disk."""
    low = cfg.memory_bytes if cfg.memory_bytes < LOW_4G_LIMIT else LOW_4G_SPLIT
    acpi = low - (ACPI_PAGES + ACPI_PAGES_PER_DISK * (bool(cfg.disk_bytes) + bool(cfg.swap_bytes))) * 4096
    rows: list[E820] = [
        (0, 0x9FBFF, "usable"), (0x9FC00, 0x9FFFF, "reserved"), (0xF0000, 0xFFFFF, "reserved"),
        (0x100000, acpi - 1, "usable"), (acpi, low - 1, "reserved"), (0xFFFC0000, 0xFFFFFFFF, "reserved"),
    ]  # fmt: skip
    if cfg.memory_bytes > low:
        rows.append((1 << 32, (1 << 32) + cfg.memory_bytes - low - 1, "usable"))
    rows.append((0xFD00000000, 0xFFFFFFFFFF, "reserved"))
    return tuple(rows)


def subtract(ranges: Iterable[tuple[int, int]], hole: tuple[int, int]) -> list[tuple[int, int]]:
    """Half-open ranges without the hole."""
    out = []
    for start, end in ranges:
        out += [(a, b) for a, b in ((start, min(end, hole[0])), (max(start, hole[1]), end)) if a < b]
    return out


def clip(ranges: Iterable[tuple[int, int]], low: int, high: int) -> list[tuple[int, int]]:
    """The parts of half-open ranges that lie in [low, high)."""
    return [(max(a, low), min(b, high)) for a, b in ranges if max(a, low) < min(b, high)]


def merge(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Half-open ranges in ascending order, touching and overlapping ones joined."""
    out: list[tuple[int, int]] = []
    for a, b in sorted(ranges):
        if out and a <= out[-1][1]:
            out[-1] = (out[-1][0], max(b, out[-1][1]))
        else:
            out.append((a, b))
    return out


def usable_ranges(cfg: MachineConfig) -> list[tuple[int, int]]:
    """Page ranges the kernel keeps: usable e820 ranges rounded inwards, page 0 dropped, ``memmap=`` and ``mem=`` applied."""
    usable = [(a, b + 1) for a, b, kind in e820_map(cfg) if kind == "usable"]
    for r in cfg.options.memmap:
        if r.kind != "usable":
            usable = subtract(usable, (r.start_bytes, r.start_bytes + r.size_bytes))
    if cfg.options.mem_bytes is not None:
        usable = clip(usable, 0, cfg.options.mem_bytes)
    return clip(((-(-a // 4096), b // 4096) for a, b in usable), 1, 1 << 52)


def split_over_nodes(cfg: MachineConfig, usable: Sequence[tuple[int, int]]) -> tuple[NodeRange, ...]:
    """(node, start_pfn, end_pfn) of usable memory: nodes lie one after the other in RAM, which skips the hole below 4G."""
    sizes = [n.memory_bytes for n in cfg.nodes] or [cfg.memory_bytes]
    low = cfg.memory_bytes if cfg.memory_bytes < LOW_4G_LIMIT else LOW_4G_SPLIT
    out: list[NodeRange] = []
    offset = 0
    for node, size in enumerate(sizes):
        pieces = clip([(offset, offset + size)], 0, low)
        pieces += [(a - low + (1 << 32), b - low + (1 << 32)) for a, b in clip([(offset, offset + size)], low, 1 << 52)]
        offset += size
        for a, b in pieces:
            out += [(node, x, y) for x, y in clip(usable, a >> 12, b >> 12)]
    return tuple(out)


def dimm_ranges(cfg: MachineConfig) -> tuple[tuple[int, int], ...]:
    """Page ranges of hot-plugged modules, from the next GiB above 4G and RAM on; all belong to node 0."""
    above = max(0, cfg.memory_bytes - LOW_4G_SPLIT) if cfg.memory_bytes >= LOW_4G_LIMIT else 0
    base = -(-((1 << 32) + above) // DIMM_ALIGN) * DIMM_ALIGN
    out = []
    for size in cfg.dimms_bytes:
        out.append((base >> 12, (base + size) >> 12))
        base += size
    return tuple(out)


def device_ranges(cfg: MachineConfig) -> list[NodeRange]:
    """(node, start_pfn, end_pfn) of RAM that ``memmap=SIZE!START`` makes persistent, in whole pages; InputError where there is no RAM."""
    wanted = [(-(-r.start_bytes // 4096), (r.start_bytes + r.size_bytes) // 4096) for r in cfg.options.memmap if r.kind == "persistent"]
    ram = clip(((-(-a // 4096), (b + 1) // 4096) for a, b, kind in e820_map(cfg) if kind == "usable"), 1, 1 << 52)
    out: list[NodeRange] = []
    for start, end in merge(wanted):
        if not any(a <= start and end <= b for a, b in ram) or start < MAX_DMA_PFN:
            raise InputError(f"machine.cmdline: memmap: {(end - start) >> 8}M!{start >> 8}M: must be memory above 16M that the machine has")
        out += split_over_nodes(cfg, [(start, end)])
    return sorted(out)


def zone_limits(max_pfn: int) -> dict[int, tuple[int, int]]:
    """Lowest and highest possible page of each zone but Movable. Models: arch/x86/mm/init.c zone_sizes_init()."""
    return {
        ZONE_DMA: (0, min(MAX_DMA_PFN, max_pfn)),
        ZONE_DMA32: (MAX_DMA_PFN, min(MAX_DMA32_PFN, max_pfn)),
        ZONE_NORMAL: (MAX_DMA32_PFN, max_pfn),
    }


def movable_starts(cfg: MachineConfig, node_ranges: Sequence[NodeRange]) -> dict[int, int]:
    """First page of ZONE_MOVABLE by node, for the nodes that get one.

    Kernel memory is spread evenly over the nodes that have memory; what a node cannot hold goes to the others in further rounds.
    Models: mm/mm_init.c find_zone_movable_pfns_for_nodes(). Left out: movable_node, kernelcore=mirror.
    """
    total = sum(b - a for _, a, b in node_ranges)
    core = cfg.options.kernelcore.pages(total) if cfg.options.kernelcore else 0
    if cfg.options.movablecore:
        movable = min(total, -(-cfg.options.movablecore.pages(total) // MAX_ORDER_NR_PAGES) * MAX_ORDER_NR_PAGES)
        core = max(core, total - movable)
    if not 0 < core < total:
        return {}
    parent = max(i for i, (low, high) in zone_limits(max(b for _, _, b in node_ranges)).items() if low < high)
    lowest = {ZONE_DMA: 0, ZONE_DMA32: MAX_DMA_PFN, ZONE_NORMAL: MAX_DMA32_PFN}[parent]
    nodes = sorted({n for n, _, _ in node_ranges})
    starts = dict.fromkeys(nodes, 0)
    for sharing in range(len(nodes), 0, -1):
        if sharing < len(nodes) and core <= sharing:
            break
        share = core // sharing
        for node in nodes:
            if core < share:
                share = core // sharing
            starts[node], used = _place_kernelcore([(a, b) for n, a, b in node_ranges if n == node], starts[node], share, lowest)
            core -= min(core, used)
    for node in nodes:
        starts[node] = -(-starts[node] // MAX_ORDER_NR_PAGES) * MAX_ORDER_NR_PAGES
    ends = {n: max(b for m, _, b in node_ranges if m == n) for n in nodes}
    return {n: s for n, s in starts.items() if 0 < s < ends[n]}


def _place_kernelcore(ranges: Sequence[tuple[int, int]], start: int, share: int, lowest: int) -> tuple[int, int]:
    """Walk a node's ranges upwards from ``start``; returns where its share is used up and the pages it counted.

    Pages below ``lowest`` can never be movable: they count even beyond the share.
    """
    used, left = 0, share
    for a, b in ranges:
        a = max(a, start)
        if a >= b:
            continue
        below = max(0, min(b, lowest) - a)
        used += below
        left -= min(below, left)
        if b <= lowest:
            start = b
            continue
        a += below
        take = min(b - a, left)
        start, used, left = a + take, used + take, left - take
        if not left:
            break
    return start, used


def zone_spans(cfg: MachineConfig, node_ranges: Sequence[NodeRange]) -> list[tuple[int, int, int, int]]:
    """(node, zone index, start_pfn, end_pfn) of every zone with present pages, by node and index.

    Models: mm/mm_init.c zone_spanned_pages_in_node(), adjust_zone_range_for_zone_movable()
    """
    movable = movable_starts(cfg, node_ranges)
    limits = zone_limits(max(b for _, _, b in node_ranges))
    out = []
    for node in sorted({n for n, _, _ in node_ranges}):
        first = min(a for n, a, _ in node_ranges if n == node)
        last = max(b for n, _, b in node_ranges if n == node)
        cut = movable.get(node, last)
        spans = {i: (max(low, first), min(high, last, cut)) for i, (low, high) in limits.items()}
        spans[ZONE_MOVABLE] = (cut, last)
        for index, (a, b) in spans.items():
            if clip(((x, y) for n, x, y in node_ranges if n == node), a, b):
                out.append((node, index, a, b))
    return out
