"""What the kernel keeps of present memory at boot: managed = present - overheads.

The constants are net page counts of a 6.12 distribution kernel, found from recorded machines of 128M to 6G, 1 to 4 CPUs and 1 to 4 nodes;
with them managed comes out within a few pages on all of these. A machine with a boot record does not need them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .memmap import MAX_DMA32_PFN, NodeRange, clip, merge
from .watermarks import ZONE_MOVABLE

LOW_MEMORY_PFN = 256  # the first MiB, all of it reserved
SECTION_PAGES = 32768
SECTION_MEMMAP_PAGES = 512
KERNEL_LOAD_PFN = 4096
KERNEL_PAGES = 9610  # image, page tables and early data, without what is freed after boot
INIT_PAGES = 1663  # __init text and data, the gaps of the image: freed after boot
INITRD_PAGES = 581  # the recorded machines' initrd: freed after boot
INITRD_FEW_MODULES_PAGES = 388  # the same with `modules` given, which leaves the larger ones out
NODE_PAGES = 43
CPU_PAGES = 66
TOP_PAGES = 518  # the kfence pool and a few pages that memblock takes from the top
SWIOTLB_PAGES = 16384
SWIOTLB_SLOT_PAGES = 192
HASH_SCALES = (13, 14)  # dentry and inode hash: one 8-byte bucket per 2^scale bytes
HASH_ADAPT_PAGES = 16 << 20

MemmapPages = Callable[[int, int], int]


def vmemmap_pages(start_pfn: int, end_pfn: int) -> int:
    """Pages of struct page for present memory [start_pfn, end_pfn): whole 128 MiB sections, 2 MiB each.

    Models: mm/sparse.c sparse_init()
    """
    return (-(-end_pfn // SECTION_PAGES) - start_pfn // SECTION_PAGES) * SECTION_MEMMAP_PAGES


def hash_pages(free_pages: int) -> int:
    """Pages of the dentry and inode hash tables, which a one-node machine takes from memblock.

    Models: mm/mm_init.c alloc_large_system_hash()
    """
    entries = -(-free_pages // 256) * 256
    total = 0
    for scale in HASH_SCALES:
        adapt = HASH_ADAPT_PAGES
        while adapt < entries:
            scale, adapt = scale + 1, adapt << 2
        buckets = 1 << (max(1, entries >> scale - 12) - 1).bit_length()
        total += -(-8 * buckets // 4096)
    return total


class _Reserver:
    """Takes pages from the zones of a node, the highest first, as memblock does."""

    def __init__(self, spans: Sequence[tuple[int, int, int, int]], present: Sequence[int]):
        self.spans, self.managed = spans, list(present)

    def take(self, pages: int, node: int | None = None, below: int = 1 << 52) -> None:
        order = sorted(range(len(self.spans)), key=lambda i: -self.spans[i][2])
        for i in order:
            if (node is None or self.spans[i][0] == node) and self.spans[i][2] < below:
                got = min(pages, self.managed[i])
                self.managed[i] -= got
                pages -= got

    def top_node(self) -> int:
        return max(self.spans, key=lambda s: s[2])[0]


def managed_pages(
    spans: Sequence[tuple[int, int, int, int]],
    node_ranges: Sequence[NodeRange],
    node_cpus: Sequence[Sequence[int]],
    max_possible_pfn: int,
    memmap_pages: MemmapPages = vmemmap_pages,
    memmap_over_holes: bool = False,
) -> list[int]:
    """managed of each span (node, index, start_pfn, end_pfn) of ``memmap.zone_spans``.

    ``memmap_pages(start_pfn, end_pfn)`` gives the pages of struct page for a range; it is called for each run of present memory of a node,
    holes within a section filled, or once for the node's whole extent with ``memmap_over_holes`` (a flat memory map).
    ``max_possible_pfn`` above 4G (memory, or room for modules) brings the bounce buffers.
    """
    mem = [[(a, b) for n, a, b in node_ranges if n == s[0]] for s in spans]
    present = [sum(b - a for a, b in clip(m, s[2], s[3])) for s, m in zip(spans, mem)]
    r = _Reserver(spans, present)
    for i, (s, m) in enumerate(zip(spans, mem)):
        r.managed[i] -= sum(b - a for a, b in clip(clip(m, s[2], s[3]), 0, LOW_MEMORY_PFN))
        if s[2] <= KERNEL_LOAD_PFN < s[3]:
            r.managed[i] -= min(KERNEL_PAGES, r.managed[i])
    nodes = sorted({s[0] for s in spans})
    for node in nodes:
        for a, b in _memmap_runs([(a, b) for n, a, b in node_ranges if n == node], memmap_over_holes):
            r.take(memmap_pages(a, b), node)
        r.take(NODE_PAGES, node)
    for node, cpus in enumerate(node_cpus):
        r.take(CPU_PAGES * len(cpus), node if node in nodes else nodes[0])
    r.take(TOP_PAGES, r.top_node())
    if max_possible_pfn > MAX_DMA32_PFN:
        r.take(SWIOTLB_PAGES, below=MAX_DMA32_PFN)
        r.take(SWIOTLB_SLOT_PAGES, r.top_node())
    if len(nodes) == 1:
        r.take(hash_pages(sum(r.managed)), r.top_node())
    return r.managed


def _memmap_runs(ranges: Sequence[tuple[int, int]], whole: bool) -> list[tuple[int, int]]:
    if whole:
        return [(min(a for a, _ in ranges), max(b for _, b in ranges))]
    filled = merge((a // SECTION_PAGES * SECTION_PAGES, -(-b // SECTION_PAGES) * SECTION_PAGES) for a, b in ranges)
    first, last = min(a for a, _ in ranges), max(b for _, b in ranges)
    return clip(filled, first, last)


def setup_pages(spans: Sequence[tuple[int, int, int, int]], managed: Sequence[int], initrd_pages: int) -> list[int]:
    """managed when the boot-time watermarks were computed.

    That is before __init memory (at the kernel) and the initrd (at the top of RAM below 4G) were freed.
    """
    out = list(managed)
    low = [i for i, s in enumerate(spans) if s[2] <= KERNEL_LOAD_PFN < s[3]]
    for i in low:
        out[i] -= min(INIT_PAGES, out[i])
    below = [i for i, s in enumerate(spans) if s[2] < MAX_DMA32_PFN and (s[1] != ZONE_MOVABLE or s[3] <= MAX_DMA32_PFN)]
    if below:
        top = max(below, key=lambda i: spans[i][2])
        out[top] -= min(initrd_pages, out[top])
    return out
