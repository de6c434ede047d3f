"""`probe FILE L`: an allocator program on the simulated machine, and its log as the real lab's kernel module prints it."""

from __future__ import annotations

from typing import Any

from mmlab.errors import NotSupported
from mmlab.machine import build_zonelists
from mmlab.verify.ids import Unsupported
from mmlab.verify.probe_log import ProbeLog
from mmlab.verify.probe_run import ProbeRun

_Z_FIELDS = (
    "start",
    "spanned",
    "present",
    "managed",
    "free",
    "min",
    "low",
    "high",
    "promo",
    "boost",
    "highatomic",
    "batch",
    "high_min",
    "high_max",
    "threshold",
    "flags",
    "free_highatomic",
    "protection",
    "numa",
)


def run_probe(sim: Any, program: str) -> str:
    """Run a program and give its log's text. Raises NotSupported for what the machine cannot show."""
    lines = program.splitlines()
    text = zonelists(sim) if any(line.split() == ["zonelists"] for line in lines) else ""
    run = ProbeRun(sim.machine, sim.cfg.options.slab_nomerge)
    try:
        log = run.run(line for line in lines if line.split() != ["zonelists"])
    except Unsupported as error:
        raise NotSupported(str(error)) from None
    return text + log_text(log) + "".join(f"{line}\n" for line in run.slab.lines)


def zonelists(sim: Any) -> str:
    """``ZL 0 fallback 0:DMA32 0:DMA`` for each node and list."""
    lists = build_zonelists(sim.layout)
    lines = []
    for node in range(sim.layout.nr_nodes):
        for which in ("fallback", "thisnode"):
            lines.append(" ".join(["ZL", str(node), which, *lists.names(sim.layout, node, which)]) + "\n")
    return "".join(lines)


def log_text(log: ProbeLog) -> str:
    """A line for each `alloc`, then each dump."""
    out = [f"A {' '.join(map(str, pfns))}\n" for pfns in log.pfns]
    for label, zones in log.states.items():
        out += [f"DUMP {label}\n", *map(_zone_text, zones), "END\n"]
    return "".join(out)


def _zone_text(zone: dict[str, Any]) -> str:
    where = f"{zone['node']} {zone['zone']}"
    shown = {name: zone[name] for name in _Z_FIELDS} | {"flags": f"{zone['flags']:x}"}
    shown |= {name: ",".join(map(str, zone[name])) for name in ("protection", "numa")}
    out = [f"Z {where} {_pairs(shown)}"]
    for pcp in zone["pcp"]:
        out.append(f"C {where} {_pairs({name: value for name, value in pcp.items() if name != 'lists'})}")
        out += [f"P {where} cpu={pcp['cpu']} list={index} {' '.join(map(str, pfns))}" for index, pfns in pcp["lists"].items()]
    for order, types in zone["free_lists"].items():
        out += [f"F {where} order={order} mt={kind} {' '.join(map(str, pfns))}" for kind, pfns in types.items()]
    if zone["pageblocks"]:
        blocks = " ".join("x" if kind is None else str(kind) for kind in zone["pageblocks"])
        out.append(f"B {where} first={zone['first_pageblock'] << 9} {blocks}")
    return "\n".join(out) + "\n"


def _pairs(values: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in values.items())
