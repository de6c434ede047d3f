"""The memory that tracing takes before a script's first line: one ring buffer a CPU, each page with its descriptor.

Models: kernel/trace/ring_buffer.c ring_buffer_resize(); a page holds 4080 bytes of events, its descriptor is a 64-byte object.
"""

from __future__ import annotations

from typing import Any

from mmlab.errors import MmlabError
from mmlab.mm.page_alloc import alloc_pages
from mmlab.model import rows as r
from mmlab.model.gfp import GFP_KERNEL

BUFFER_KB = 65536  # what the executor asks for unless the case says otherwise
PAGE_BYTES = 4080
OBJECTS_PER_PAGE = 64
UNCOUNTED_PAGES = 2000  # records of small machines, made without tracing, have 2260 to 2850


def buffer_pages(buffer_kb: int) -> int:
    """Pages of one CPU's buffer, descriptors included."""
    pages = -(-buffer_kb * 1024 // PAGE_BYTES)
    return pages + -(-pages // OBJECTS_PER_PAGE)


def in_record(boot: dict[str, Any], pages: int) -> bool:
    """Whether a boot record can have been made with so many pages in use for tracing: whether more are gone than it accounts for, beside
    those that every booted kernel has in use without a counter of their own."""
    gone = 0
    for zone in boot["zones"]:
        lists = sum(zone.get("lru", {}).values())
        gone += zone["managed"] - zone["free"] - sum(pcp["count"] for pcp in zone.get("pcp", [])) - lists
    lru = boot.get("lru", {})
    known = sum(lru.get(name, 0) for name in ("slab_reclaimable", "slab_unreclaimable", "page_table_pages")) + lru.get("kernel_stack", 0) // 4
    return gone - known > pages + UNCOUNTED_PAGES


def allocate(sim: Any, buffer_kb: int) -> None:
    """Take the buffers' pages, each CPU's from its node; counters stay as they were."""
    sc, vmstat = sim.machine.sc, sim.machine.vmstat.copy()
    for node, cpus in enumerate(sim.layout.node_cpus):
        for cpu in cpus:
            sc[r.SC_CPU], sc[r.SC_NODE] = cpu, node
            for _ in range(buffer_pages(buffer_kb)):
                if sim.machine.run(alloc_pages, GFP_KERNEL, 0, node) < 0:
                    raise MmlabError(f"no memory for trace buffers of {buffer_kb} kB a CPU")
    sc[r.SC_CPU] = sc[r.SC_NODE] = 0
    sim.machine.vmstat[:] = vmstat
