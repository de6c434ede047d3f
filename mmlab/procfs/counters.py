"""The machine's counters as /proc shows them: what the simulation counted, plus what boot left in use.

Zones keep their own free pages and NUMA counters, the reclaimer knows its lists, the rest is in m.vmstat (zero at boot).
Models: mm/vmstat.c vmstat_start(), mm/page-writeback.c global_dirty_limits(). Left out: the node of what boot left other than LRU
pages; it is shown on node 0.
"""

from __future__ import annotations

from typing import Any

from mmlab.machine.record import LRU_LISTS, TOTALS
from mmlab.model import rows as r
from mmlab.model import vmstat as v
from mmlab.procfs.settings import settings_of

ZONE_ITEMS = v.VMSTAT_NAMES[v.V_NR_FREE_PAGES : v.V_NUMA_HIT]
NUMA_ITEMS = v.VMSTAT_NAMES[v.V_NUMA_HIT : v.V_NR_INACTIVE_ANON]
NODE_ITEMS = v.VMSTAT_NAMES[v.V_NR_INACTIVE_ANON : v.V_NR_MEMMAP]


def zone_counters(sim: Any, number: int) -> dict[str, int]:
    """ZONE_ITEMS and NUMA_ITEMS of one zone (its row number), in the kernel's order."""
    row = sim.machine.zone[number * r.ZONE_STRIDE : (number + 1) * r.ZONE_STRIDE].tolist()
    out = dict.fromkeys(ZONE_ITEMS + NUMA_ITEMS, 0)
    out["nr_free_pages"] = row[r.Z_FREE]
    boot = sim.boot.zones[number].lru
    for i, name in enumerate(LRU_LISTS):
        out[f"nr_zone_{name}"] = max(0, boot.get(name, 0) + row[r.Z_LRU + i] - _kept_back(sim, number, i))
    out["nr_zone_write_pending"] = row[r.Z_WRITE_PENDING]
    out["nr_mlock"] = row[r.Z_NR_MLOCK]
    out["nr_zspages"] = row[r.Z_NR_ZSPAGES]
    out["nr_free_cma"] = row[r.Z_FREE_CMA]
    for i, name in enumerate(NUMA_ITEMS):
        out[name] = row[r.Z_NUMA_HIT + i]
    return out


def _kept_back(sim: Any, zone: int, lru: int) -> int:
    """Pages of a list that CPUs have counted and not told yet."""
    return int(sim.machine.pcp.reshape(-1, sim.machine.sizes.nr_zones, r.PCP_STRIDE)[:, zone, r.PCP_LRU_DIFF + lru].sum())


def node_zones(sim: Any, node: int) -> list[int]:
    """Row numbers of the node's zones."""
    return [i for i, zone in enumerate(sim.layout.zones) if zone.node == node]


def node_counters(sim: Any, node: int) -> dict[str, int]:
    """NODE_ITEMS of one node, in the kernel's order."""
    base = node * v.VMSTAT_STRIDE
    values = sim.machine.vmstat[base : base + len(v.VMSTAT_NAMES)].tolist()
    out = {name: values[v.V_NR_INACTIVE_ANON + i] for i, name in enumerate(NODE_ITEMS)}
    for lru, name in enumerate(LRU_LISTS):
        left = sum(sim.boot.zones[z].lru.get(name, 0) for z in node_zones(sim, node))
        memcgs = range(max(1, int(sim.machine.sc[r.SC_NR_MEMCGS])))
        pages = sum(sim.machine.op("reclaimer", "nr_lru_pages", memcg * sim.layout.nr_nodes + node, lru) for memcg in memcgs)
        out[f"nr_{name}"] += max(0, left + pages - sum(_kept_back(sim, z, lru) for z in node_zones(sim, node)))
    if node == 0:
        for name in TOTALS:
            out[f"nr_{name}"] += sim.boot.totals[name]
    return out


def machine_counters(sim: Any) -> dict[str, int]:
    """Everything that /proc/vmstat prints, in its order."""
    nodes = sim.layout.nr_nodes
    per_node = sim.machine.vmstat[: nodes * v.VMSTAT_STRIDE].reshape(nodes, v.VMSTAT_STRIDE).sum(axis=0)
    out = {name: int(per_node[i]) for i, name in enumerate(v.VMSTAT_NAMES)}
    for name in ZONE_ITEMS + NUMA_ITEMS:
        out[name] = 0
    for number in range(len(sim.layout.zones)):
        for name, value in zone_counters(sim, number).items():
            out[name] += value
    out.update(dict.fromkeys(NODE_ITEMS, 0))
    for node in range(nodes):
        for name, value in node_counters(sim, node).items():
            out[name] += value
    out["nr_dirty_threshold"], out["nr_dirty_background_threshold"] = dirty_limits(sim, out)
    return out


def dirty_limits(sim: Any, counters: dict[str, int]) -> tuple[int, int]:
    """(dirty_threshold, background_threshold) in pages, from the memory that may be dirty and vm.dirty_*."""
    free = counters["nr_free_pages"]
    available = free - min(free, int(sim.machine.sc[r.SC_TOTALRESERVE])) + counters["nr_inactive_file"] + counters["nr_active_file"] + 1

    settings = settings_of(sim)

    def limit(kind: str) -> int:
        size = int(settings[f"vm.{kind}_bytes"])
        if size:
            return -(-size // 4096)
        return int(settings[f"vm.{kind}_ratio"]) * 4096 // 100 * available // 4096

    dirty, background = limit("dirty"), limit("dirty_background")
    return dirty, background if background < dirty else dirty // 2
