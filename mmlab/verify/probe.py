"""Figures of an allocator program (``probe FILE LABEL``).

    probe[L].pfns[K], .free_lists[D], .pcp_lists[D], .pageblocks[D], .counters[D]     digests, see :func:`digest` and :func:`parts`
    probe[L].count[K]           how many of the K-th ``alloc`` line's allocations succeeded
    probe[L].slabs, .table, .slab_state[D], .kmalloc[K], .zonelist[NODE,fallback|thisnode]
    probe[L].cache[NAME].FIELD, probe[L].sweep[SIZE,ALIGN].FIELD        geometry
    probe[L].zone[D][NODE,ZONE].FIELD       of a dump; pcp_FIELD a list, one value a CPU
    probe[L].numa[D1,D2][NODE,ZONE]         numa counters of D2 less those of D1

The log is ``L.probe``. L may be ``LABEL@R``: the program run from run R's own start state; then a simulator leaves ``LABEL@R.probe``,
or ``LABEL.runR.json.gz`` with {"zonelists", "states", "pfns"}.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from typing import TYPE_CHECKING, Any

from mmlab.verify.ids import Forms, Unsupported, field
from mmlab.verify.probe_log import ProbeLog

if TYPE_CHECKING:
    from mmlab.verify.folder import ResultFolder

Zone = dict[str, Any]


def digest(value: Any) -> str:
    """The first 16 hex digits of the SHA-256 of the value as JSON without spaces, keys sorted."""
    return hashlib.sha256(json.dumps(value, separators=(",", ":"), sort_keys=True).encode()).hexdigest()[:16]


def parts(zones: list[Zone]) -> dict[str, Any]:
    """What is compared of a dump: the counters (free includes the CPUs' differences), and the lists if the dump has them."""
    kept = ("cpu", "count", "high", "alloc_factor", "free_count")
    compared: dict[str, Any] = {"counters": [
        {"zone": [z["node"], z["zone"]], "free": z["free"] + sum(p["free_diff"] for p in z["pcp"]), "boost": z["boost"],
         "highatomic": z["highatomic"], "free_highatomic": z["free_highatomic"], "pcp": [{k: p[k] for k in kept} for p in z["pcp"]]}
        for z in zones]}
    if any(z["free_lists"] for z in zones):
        compared["free_lists"] = [[z["node"], z["zone"], z["free_lists"]] for z in zones]
        compared["pcp_lists"] = [[z["node"], z["zone"], p["cpu"], p["lists"]] for z in zones for p in z["pcp"]]
        compared["pageblocks"] = [[z["node"], z["zone"], z["pageblocks"]] for z in zones]
    return compared


def _read(folder: ResultFolder, label: str) -> ProbeLog:
    name, at, run = label.partition("@")
    if at and not folder.path.joinpath(f"{label}.probe").exists():
        return ProbeLog.from_json(gzip.decompress(folder.bytes(f"{name}.run{run}.json.gz")).decode())
    return ProbeLog.from_text(folder.text(f"{label}.probe"))


def _log(folder: ResultFolder, label: str) -> ProbeLog:
    return folder.cached(("probe", label), lambda: _read(folder, label))


def _allocated(folder: ResultFolder, label: str, index: str) -> list[int]:
    pfns = _log(folder, label).pfns
    if int(index) >= len(pfns):
        raise Unsupported(f"{label} has {len(pfns)} alloc lines, no {index}")
    return pfns[int(index)]


def _pfns(folder: ResultFolder, label: str, index: str) -> str:
    return digest(_allocated(folder, label, index))


def _count(folder: ResultFolder, label: str, index: str) -> int:
    return sum(pfn >= 0 for pfn in _allocated(folder, label, index))


def _part(folder: ResultFolder, label: str, part: str, dump: str) -> str:
    return digest(field(parts(field(_log(folder, label).states, dump, label)), part, f"dump {dump}"))


def _whole(folder: ResultFolder, label: str, what: str) -> Any:
    log = _log(folder, label)
    return log.objs if what == "slabs" else log.table


def _indexed(folder: ResultFolder, label: str, what: str, index: str) -> Any:
    log = _log(folder, label)
    if what == "kmalloc":
        return log.kmallocs[int(index)]
    return field(log.slab_states if what == "slab_state" else log.zonelists, index, label)


def _cache(folder: ResultFolder, label: str, what: str, index: str, name: str) -> Any:
    log = _log(folder, label)
    return field(field(log.caches if what == "cache" else log.sweeps, index, label), name, index)


def _dumped_zone(folder: ResultFolder, label: str, dump: str, node: str, zone: str) -> Zone:
    for z in field(_log(folder, label).states, dump, label):
        if z["node"] == int(node) and z["zone"] == zone:
            return z
    raise Unsupported(f"dump {dump} has no zone {node},{zone}")


def _zone(folder: ResultFolder, label: str, dump: str, node: str, zone: str, name: str) -> Any:
    z = _dumped_zone(folder, label, dump, node, zone)
    if name.startswith("pcp_"):
        return [field(p, name.removeprefix("pcp_"), "pcp") for p in z["pcp"]]
    return field(z, name, f"zone {zone}")


def _numa(folder: ResultFolder, label: str, before: str, after: str, node: str, zone: str) -> list[int]:
    old, new = (_dumped_zone(folder, label, dump, node, zone)["numa"] for dump in (before, after))
    return [y - x for x, y in zip(old, new)]


_PROBE = r"probe\[(\w+(?:@\d+)?)\]\."
FORMS: Forms = [
    (_PROBE + r"pfns\[(\d+)\]", _pfns),
    (_PROBE + r"count\[(\d+)\]", _count),
    (_PROBE + r"(free_lists|pcp_lists|pageblocks|counters)\[(\w+)\]", _part),
    (_PROBE + r"(slabs|table)", _whole),
    (_PROBE + r"(slab_state|kmalloc|zonelist)\[([^\]]+)\]", _indexed),
    (_PROBE + r"(cache|sweep)\[([^\]]+)\]\.(\w+)", _cache),
    (_PROBE + r"zone\[(\w+)\]\[(\d+),(\w+)\]\.(\w+)", _zone),
    (_PROBE + r"numa\[(\w+),(\w+)\]\[(\d+),(\w+)\]", _numa),
]
