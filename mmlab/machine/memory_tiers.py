"""Memory tiers: how fast each node's memory is, and where a node's pages go when they are demoted.

Models: mm/memory-tiers.c mt_perf_to_adistance(), find_create_memory_tier(), establish_demotion_targets(); drivers/acpi/numa/hmat.c.
Left out: devices that bring a distance of their own (CXL, dax), tiers that change while the machine runs.
"""

from __future__ import annotations

import attrs

from .config import MachineConfig
from .layout import MachineLayout

MEMTIER_CHUNK_BITS = 7
MEMTIER_ADISTANCE_DRAM = 576  # four and a half chunks


@attrs.frozen
class MemoryTiers:
    """By node: its tier's number (memory_tierN, -1 without memory), whether that is a top tier, the nodes (a bit each) to which its pages are
    demoted, and all nodes of lower tiers, which take what those do not."""

    tier: tuple[int, ...]
    toptier: tuple[bool, ...]
    targets: tuple[int, ...]
    lower: tuple[int, ...]

    def nodelists(self) -> dict[int, list[int]]:
        """Nodes of each tier, by its number."""
        return {tier: [n for n, own in enumerate(self.tier) if own == tier] for tier in sorted(set(self.tier) - {-1})}


def abstract_distances(cfg: MachineConfig, layout: MachineLayout) -> list[int]:
    """Of each node: 576 for memory as fast as the first node's with CPUs, more for slower. Without ``hmat`` all memory counts as DRAM."""
    performance: dict[int, tuple[int, int]] = {}
    for initiator, target, latency, bandwidth in cfg.hmat:
        if layout.node_cpus[initiator]:
            best = performance.get(target, (latency, bandwidth))
            performance[target] = (min(best[0], latency), max(best[1], bandwidth))
    default = next((performance[node] for node in sorted(performance) if layout.node_cpus[node]), None)
    distances = []
    for node in range(layout.nr_nodes):
        if default is None or node not in performance:
            distances.append(MEMTIER_ADISTANCE_DRAM)
            continue
        latency, bandwidth = performance[node]
        distances.append(MEMTIER_ADISTANCE_DRAM * 2 * latency // (2 * default[0]) * 2 * default[1] // (2 * bandwidth))
    return distances


def memory_tiers(cfg: MachineConfig, layout: MachineLayout) -> MemoryTiers:
    """The tiers of a machine. The top tiers are the slowest one that has CPUs and all that are faster."""
    with_memory = {zone.node for zone in layout.zones}
    tier = tuple(d >> MEMTIER_CHUNK_BITS if n in with_memory else -1 for n, d in enumerate(abstract_distances(cfg, layout)))
    slowest_with_cpus = max((tier[n] for n in with_memory if layout.node_cpus[n]), default=-1)
    targets, lower = [], []
    for node, own in enumerate(tier):
        below = sorted({t for t in tier if t > own}) if own >= 0 else []
        nearest: list[int] = []
        if below:
            candidates = [n for n, t in enumerate(tier) if t == below[0]]
            least = min(layout.distances[node][n] for n in candidates)
            nearest = [n for n in candidates if layout.distances[node][n] == least]
        targets.append(sum(1 << n for n in nearest))
        lower.append(sum(1 << n for n, t in enumerate(tier) if t in below))
    return MemoryTiers(tier, tuple(0 <= own <= slowest_with_cpus for own in tier), tuple(targets), tuple(lower))
