"""/sys/kernel/mm/lru_gen/enabled: which of Linux's two reclaimers the machine has, and switching between them while it runs."""

from __future__ import annotations
from mmlab.errors import NotSupported
from mmlab.mm.kswapd import finish_batches
from mmlab.mm.lru_gen import join_lists, leave_lists
from mmlab.model.const import EINVAL, NR_POLICY_LISTS
from mmlab.model.page import PG_MLOCKED, PG_UNEVICTABLE
from typing import Any


import numpy as np

from mmlab.model import rows as r

ENABLED = "/sys/kernel/mm/lru_gen/enabled"
#: bits: the generations themselves, clearing accessed bits of leaves in walks, those of upper tables; the latter two are always on here
ALL = 7
CLASSIC, GENERATIONS = "two_list", "mglru"


def read_enabled(sim: Any) -> str:
    """The file's text."""
    return f"0x{ALL if _running(sim) == GENERATIONS else 0:04x}\n"


def write_enabled(sim: Any, text: str) -> int:
    """y, n or bits, of which the first counts: 0, or -EINVAL. NotSupported where the reclaimer is none of Linux's."""
    value = {"y": ALL, "n": 0}.get(text.strip().lower())
    try:
        value = int(text, 0) if value is None else value
    except ValueError:
        return -EINVAL
    wanted, running = GENERATIONS if value & 1 else CLASSIC, _running(sim)
    if wanted == running or (wanted == CLASSIC and running != GENERATIONS):
        return 0  # a rival has no generations
    if running != CLASSIC and running != GENERATIONS:
        raise NotSupported(f"{ENABLED} = {text.strip()} with reclaimer {running!r}: not supported yet")
    switch(sim, wanted)
    return 0


def switch(sim: Any, name: str) -> None:
    """Another reclaimer takes over every page, in its order, and whether it was active; counters of events do not move."""
    machine = sim.machine
    kept = sim.__dict__.setdefault("idle_reclaimers", {})
    machine.run(finish_batches)
    for cpu in range(machine.sizes.nr_cpus):
        machine.op("reclaimer", "drain", cpu)
    pfns, counted = _pages(machine), (machine.vmstat.copy(), machine.memcg_stat.copy())
    flags = machine.page[2::4]
    # mlocked, but among the pages that reclaim scans: it would find that out, the switch does not look
    not_culled = pfns[flags[pfns] & (PG_MLOCKED | PG_UNEVICTABLE) == PG_MLOCKED]
    machine.run(leave_lists, pfns)
    old = sim.policies["reclaimer"]
    kept[old.policy.name] = (old, machine.states["reclaimer"])
    choice, state = kept.get(name) or (sim.choose("reclaimer", name), None)
    machine.replace_policy("reclaimer", choice, state)
    sim.policies["reclaimer"] = choice
    flags[not_culled] &= np.uint32(~PG_MLOCKED & 0xFFFFFFFF)
    machine.run(join_lists, pfns)
    flags[not_culled] |= np.uint32(PG_MLOCKED)
    machine.vmstat[:], machine.memcg_stat[:] = counted
    sim.__dict__.pop("policy_folders", None)  # it has other files


def _running(sim: Any) -> str:
    return sim.policies["reclaimer"].policy.name if hasattr(sim, "policies") else ""


def _pages(machine: Any) -> np.ndarray:
    """Every page on a list of the reclaimer, int64: list by list, from the end at which reclaim scans."""
    first, lruvecs = int(machine.sc[r.SC_POLICY_LISTS]), machine.sizes.nr_nodes * max(1, int(machine.sc[r.SC_NR_MEMCGS]))
    before, found = machine.page[1::4], []
    for head in range(first, first + lruvecs * NR_POLICY_LISTS):
        pfn = int(before[head])
        while pfn != head:
            found.append(pfn)
            pfn = int(before[pfn])
    return np.array(found, np.int64)
