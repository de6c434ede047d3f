"""`probe FILE L`: an allocator program. The commands that only look (`zones`, `zonelists`) are here, the others with the allocator's runner.

The text is what the kernel module of the real lab prints; mmlab/verify/probe_log.py reads both.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from mmlab.errors import NotSupported
from mmlab.machine import build_zonelists
from mmlab.model import rows as r

RUNNER = "mmlab.verify.probe_run"
NR_ZONES = 5


def run_probe(sim: Any, program: str) -> str:
    """Run a program and give its log; NotSupported for a command that changes or dumps the allocators while there is no runner for them."""
    commands = [words for line in program.splitlines() if (words := line.split("#", 1)[0].split())]
    if not all(words[0] in ("zones", "zonelists") for words in commands):
        if importlib.util.find_spec(RUNNER) is None:
            unknown = next(words[0] for words in commands if words[0] not in ("zones", "zonelists"))
            raise NotSupported(f"probe command '{unknown}'")
        from mmlab.verify.probe_run import run_program  # type: ignore[import-not-found]

        return run_program(sim, program)
    return "".join(zones(sim, words[1] if len(words) > 1 else "-") if words[0] == "zones" else zonelists(sim) for words in commands)


def zonelists(sim: Any) -> str:
    """``ZL 0 fallback 0:DMA32 0:DMA`` for each node and list."""
    lists = build_zonelists(sim.layout)
    lines = []
    for node in range(sim.layout.nr_nodes):
        for which in ("fallback", "thisnode"):
            lines.append(" ".join(["ZL", str(node), which, *lists.names(sim.layout, node, which)]) + "\n")
    return "".join(lines)


def zones(sim: Any, label: str) -> str:
    """Counters of every zone and of each CPU's lists, without the lists."""
    return f"DUMP {label}\n" + "".join(zone_lines(sim, number) for number in range(len(sim.layout.zones))) + "END\n"


def zone_lines(sim: Any, number: int) -> str:
    """The Z line of a zone and its C lines, one a CPU."""
    machine, zone = sim.machine, sim.layout.zones[number]
    row = machine.zone[number * r.ZONE_STRIDE : (number + 1) * r.ZONE_STRIDE].tolist()
    fields = {
        "start": zone.start_pfn, "spanned": zone.spanned, "present": row[r.Z_PRESENT], "managed": row[r.Z_MANAGED], "free": row[r.Z_FREE],
        "min": row[r.Z_WMARK_MIN], "low": row[r.Z_WMARK_LOW], "high": row[r.Z_WMARK_HIGH], "promo": row[r.Z_WMARK_PROMO],
        "boost": row[r.Z_WATERMARK_BOOST], "highatomic": row[r.Z_NR_RESERVED_HIGHATOMIC], "batch": row[r.Z_BATCH],
        "high_min": row[r.Z_HIGH_MIN], "high_max": row[r.Z_HIGH_MAX], "threshold": row[r.Z_STAT_THRESHOLD], "flags": f"{row[r.Z_FLAGS]:x}",
        "free_highatomic": row[r.Z_FREE_HIGHATOMIC], "protection": _csv(row[r.Z_LOWMEM_RESERVE : r.Z_LOWMEM_RESERVE + NR_ZONES]),
        "numa": _csv(row[r.Z_NUMA_HIT : r.Z_NUMA_OTHER + 1]),
    }  # fmt: skip
    lines = [_line("Z", zone, fields)]
    for cpu in range(machine.sizes.nr_cpus):
        base = (cpu * machine.sizes.nr_zones + number) * r.PCP_STRIDE
        pcp = machine.pcp[base : base + r.PCP_STRIDE].tolist()
        names = {
            "count": r.PCP_COUNT, "high": r.PCP_HIGH, "high_min": r.PCP_HIGH_MIN, "high_max": r.PCP_HIGH_MAX, "batch": r.PCP_BATCH,
            "flags": r.PCP_FLAGS, "alloc_factor": r.PCP_ALLOC_FACTOR, "free_count": r.PCP_FREE_COUNT, "expire": r.PCP_EXPIRE,
            "free_diff": r.PCP_FREE_DIFF,
        }  # fmt: skip
        lines.append(_line("C", zone, {"cpu": cpu, **{name: pcp[field] for name, field in names.items()}}))
    return "".join(lines)


def _csv(values: list[int]) -> str:
    return ",".join(map(str, values))


def _line(kind: str, zone: Any, fields: dict[str, Any]) -> str:
    return " ".join([kind, str(zone.node), zone.name, *(f"{name}={value}" for name, value in fields.items())]) + "\n"
