"""/proc/meminfo, swaps, slabinfo, and a node's meminfo and numastat.

Models: fs/proc/meminfo.c, mm/show_mem.c si_mem_available(), drivers/base/node.c node_read_meminfo(), mm/swapfile.c swap_show(),
mm/slab_common.c cache_show(). Left out: buffers of block devices, per-CPU and vmalloc memory, hugetlb (all shown as 0).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mmlab.model import rows as r
from mmlab.model.const import HPAGE_PMD_NR
from mmlab.procfs.counters import machine_counters, node_counters, node_zones, zone_counters
from mmlab.procfs.settings import settings_of

VMALLOC_TOTAL_KB = (1 << 45) // 1024 - 1
HUGE = HPAGE_PMD_NR


def total_swap_pages(sim: Any) -> int:
    """Pages of swap: all slots but the first, which is the header."""
    return max(0, int(sim.machine.sc[r.SC_NR_SWAP_SLOTS]) - 1)


def mem_available(sim: Any, counters: dict[str, int]) -> int:
    """Pages that could be had without swapping."""
    zones = len(sim.layout.zones)
    rows = sim.machine.zone[: zones * r.ZONE_STRIDE].reshape(zones, r.ZONE_STRIDE)
    low = int(rows[:, r.Z_WMARK_LOW].sum() + rows[:, r.Z_WATERMARK_BOOST].sum())
    cache = counters["nr_active_file"] + counters["nr_inactive_file"]
    slab = counters["nr_slab_reclaimable"] + counters["nr_kernel_misc_reclaimable"]
    available = counters["nr_free_pages"] - int(sim.machine.sc[r.SC_TOTALRESERVE])
    return max(0, available + cache - min(cache // 2, low) + slab - min(slab // 2, low))


def _lru_lines(c: dict[str, int]) -> list[tuple[str, int]]:
    return [
        ("Active", c["nr_active_anon"] + c["nr_active_file"]), ("Inactive", c["nr_inactive_anon"] + c["nr_inactive_file"]),
        ("Active(anon)", c["nr_active_anon"]), ("Inactive(anon)", c["nr_inactive_anon"]), ("Active(file)", c["nr_active_file"]),
        ("Inactive(file)", c["nr_inactive_file"]), ("Unevictable", c["nr_unevictable"]), ("Mlocked", c["nr_mlock"]),
    ]  # fmt: skip


def _huge_lines(c: dict[str, int]) -> list[tuple[str, int]]:
    return [
        ("AnonHugePages", c["nr_anon_transparent_hugepages"] * HUGE), ("ShmemHugePages", c["nr_shmem_hugepages"] * HUGE),
        ("ShmemPmdMapped", c["nr_shmem_pmdmapped"] * HUGE), ("FileHugePages", c["nr_file_hugepages"] * HUGE),
        ("FilePmdMapped", c["nr_file_pmdmapped"] * HUGE),
    ]  # fmt: skip


def _kb_lines(pages: Iterable[tuple[str, int]], prefix: str = "") -> str:
    return "".join(f"{prefix}{name + ':':<16}{value * 4:8} kB\n" for name, value in pages)


def meminfo(sim: Any) -> str:
    """/proc/meminfo."""
    c, sc = machine_counters(sim), sim.machine.sc
    reclaimable = c["nr_slab_reclaimable"] + c["nr_kernel_misc_reclaimable"]
    buffers = int(sim.machine.inode[int(sc[r.SC_BDEV]) * r.INODE_STRIDE + r.I_NRPAGES])
    first = [
        ("MemTotal", int(sc[r.SC_TOTALRAM])), ("MemFree", c["nr_free_pages"]), ("MemAvailable", mem_available(sim, c)), ("Buffers", buffers),
        ("Cached", max(0, c["nr_file_pages"] - c["nr_swapcached"] - buffers)), ("SwapCached", c["nr_swapcached"]), *_lru_lines(c),
        ("SwapTotal", total_swap_pages(sim)), ("SwapFree", int(sc[r.SC_NR_SWAP_FREE])), ("Zswap", int(sim.machine.zs_pool[r.ZSP_PAGES])),
        ("Zswapped", int(sim.machine.zswap[r.ZSW_STORED])),
        ("Dirty", c["nr_dirty"]), ("Writeback", c["nr_writeback"]), ("AnonPages", c["nr_anon_pages"]), ("Mapped", c["nr_mapped"]),
        ("Shmem", c["nr_shmem"]), ("KReclaimable", reclaimable), ("Slab", c["nr_slab_reclaimable"] + c["nr_slab_unreclaimable"]),
        ("SReclaimable", c["nr_slab_reclaimable"]), ("SUnreclaim", c["nr_slab_unreclaimable"]),
    ]  # fmt: skip
    second = [
        ("PageTables", c["nr_page_table_pages"]), ("SecPageTables", 0), ("NFS_Unstable", 0), ("Bounce", 0), ("WritebackTmp", 0),
        ("CommitLimit", settings_of(sim).commit_limit()), ("Committed_AS", int(sc[r.SC_COMMITTED_AS])),
    ]  # fmt: skip
    text = _kb_lines(first) + f"KernelStack:    {c['nr_kernel_stack']:8} kB\n" + _kb_lines(second)
    text += f"VmallocTotal:   {VMALLOC_TOTAL_KB:8} kB\n" + _kb_lines([("VmallocUsed", 0), ("VmallocChunk", 0), ("Percpu", 0)])
    text += "HardwareCorrupted:     0 kB\n" + _kb_lines(_huge_lines(c))
    if getattr(sim, "cma", []):
        text += _kb_lines([("CmaTotal", sum(area.count for area in sim.cma)), ("CmaFree", c["nr_free_cma"])])
    text += "".join(f"{'HugePages_' + name + ':':<16}       0\n" for name in ("Total", "Free", "Rsvd", "Surp"))
    return text + "Hugepagesize:       2048 kB\nHugetlb:               0 kB\n"


def node_meminfo(sim: Any, node: int) -> str:
    """/sys/devices/system/node/nodeN/meminfo."""
    zones = node_zones(sim, node)
    c = node_counters(sim, node)
    of_zones = [zone_counters(sim, number) for number in zones]
    c["nr_mlock"] = sum(z["nr_mlock"] for z in of_zones)
    total, free = sum(int(sim.machine.zone[i * r.ZONE_STRIDE + r.Z_MANAGED]) for i in zones), sum(z["nr_free_pages"] for z in of_zones)
    reclaimable = c["nr_slab_reclaimable"] + c["nr_kernel_misc_reclaimable"]
    first = [("MemTotal", total), ("MemFree", free), ("MemUsed", total - free), ("SwapCached", c["nr_swapcached"]), *_lru_lines(c),
             ("Dirty", c["nr_dirty"]), ("Writeback", c["nr_writeback"]), ("FilePages", c["nr_file_pages"]), ("Mapped", c["nr_mapped"]),
             ("AnonPages", c["nr_anon_pages"]), ("Shmem", c["nr_shmem"])]  # fmt: skip
    second = [("PageTables", c["nr_page_table_pages"]), ("SecPageTables", 0), ("NFS_Unstable", 0), ("Bounce", 0), ("WritebackTmp", 0),
              ("KReclaimable", reclaimable), ("Slab", c["nr_slab_reclaimable"] + c["nr_slab_unreclaimable"]),
              ("SReclaimable", c["nr_slab_reclaimable"]), ("SUnreclaim", c["nr_slab_unreclaimable"]), *_huge_lines(c)]  # fmt: skip
    prefix = f"Node {node} "
    text = _kb_lines(first, prefix) + f"{prefix}KernelStack:    {c['nr_kernel_stack']:8} kB\n" + _kb_lines(second, prefix)
    return text + "".join(f"{prefix}HugePages_{name + ':':<6}     0\n" for name in ("Total", "Free", "Surp"))


def numastat(sim: Any, node: int) -> str:
    """/sys/devices/system/node/nodeN/numastat."""
    total = dict.fromkeys(("numa_hit", "numa_miss", "numa_foreign", "numa_interleave", "numa_local", "numa_other"), 0)
    for number in node_zones(sim, node):
        counters = zone_counters(sim, number)
        total = {name: value + counters[name] for name, value in total.items()}
    names = {"numa_interleave": "interleave_hit", "numa_local": "local_node", "numa_other": "other_node"}
    return "".join(f"{names.get(name, name)} {value}\n" for name, value in total.items())


def swaps(sim: Any) -> str:
    """/proc/swaps."""
    text = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
    for number, device in enumerate(sim.cfg.swap_devices):
        row = number * r.SWAP_INFO_STRIDE
        name, priority = f"/dev/{device.name}", device.priority
        size, used = device.pages * 4, int(sim.machine.swap_info[row + r.SI_INUSE]) * 4
        tabs = ["\t\t" if n < 10_000_000 else "\t" for n in (size, used)]
        text += f"{name:<40}partition\t{size}{tabs[0]}{used}{tabs[1]}{priority}\n"
    return text


def slabinfo(sim: Any) -> str:
    """/proc/slabinfo, from the caches that the simulation uses."""
    from mmlab.mm.slab import slabinfo_rows

    text = "slabinfo - version: 2.1\n# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>"
    text += " : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>\n"
    for row in slabinfo_rows(sim.machine):
        name, active, total, size, per_slab, pages, active_slabs, slabs = row
        text += f"{name:<17} {active:6} {total:6} {size:6} {per_slab:4} {pages:4} : tunables    0    0    0"
        text += f" : slabdata {active_slabs:6} {slabs:6}      0\n"
    return text
