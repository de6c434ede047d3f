"""Brings a booted machine into its aged state: a generator's allocations, before the clock starts."""

from __future__ import annotations

from typing import Any

import attrs

from mmlab._engine.alloc_run import AllocationRun
from mmlab.model import rows as r
from mmlab.model.gfp import GFP_RECLAIM
from mmlab.workload.allocation_generators import GeneratedAllocations


def age(sim: Any) -> None:
    """Run what the machine has been through. Nothing is reclaimed for it: where memory is short its allocations fail. No time passes, and
    nothing of it is counted; every page that waits on a per-CPU list goes back to the shared ones."""
    machine, generator = sim.machine, sim.cfg.aged.generator
    pages = sum(zone.present for zone in sim.layout.zones)
    stream = GeneratedAllocations(generator, pages, sim.seed)
    run = AllocationRun(sim, stream, None)
    run.ns_per_event = 0
    for part in stream.parts():
        run.run_part(attrs.evolve(part, gfp=part.gfp & ~GFP_RECLAIM))
    for zone in range(machine.sizes.nr_zones):
        for cpu in range(machine.sizes.nr_cpus):
            machine.op("page_allocator", "drain", zone, cpu)
    machine.sc[r.SC_CPU] = machine.sc[r.SC_NODE] = 0
    machine.vmstat[:] = 0
    machine.nr_calls[:] = 0
    rows = machine.zone.reshape(-1, r.ZONE_STRIDE)
    rows[:, [r.Z_ALLOCATED, r.Z_NUMA_HIT, r.Z_NUMA_MISS, r.Z_NUMA_FOREIGN, r.Z_NUMA_LOCAL, r.Z_NUMA_OTHER]] = 0
