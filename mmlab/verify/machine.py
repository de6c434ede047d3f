"""Figures of the machine's own files in a snapshot.

    snap[S].FILE.NAME                       vmstat, meminfo, mthp, or any file of NAME VALUE lines
    snap[S].numastat[N].NAME, .nodememinfo[N].NAME, .nodevmstat[N].NAME
    snap[S].zoneinfo[N,ZONE].NAME           free, min, protection, ...; pcp: [high_min, high_max, batch] of each CPU
    snap[S].nodestat.NAME                   zoneinfo's per-node figures, summed over the nodes
    snap[S].buddyinfo[N,ZONE], .pagetypeinfo[N,ZONE].TYPE   free blocks by order
    snap[S].slabinfo[CACHE].NAME            active_objs, num_objs, objsize, objperslab, pagesperslab, active_slabs, num_slabs
    snap[S].lru_gen[MEMCG,N].NAME           min_seq, max_seq, gens; anon, file: pages of each generation, oldest first
    snap[S].swaps.used (kB), snap[S].pressure.some|full (total, us)
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mmlab.verify.ids import Forms, Unsupported, field, need

if TYPE_CHECKING:
    from mmlab.verify.folder import ResultFolder

_NAME_VALUE = re.compile(r"(?:Node \d+ )?([^\s:]+):?\s+(-?\d+)(?: kB)?\s*")
_PCP_FIELDS = ("count", "high", "batch", "high_min", "high_max")
_SLAB_COLUMN = {"active_objs": 1, "num_objs": 2, "objsize": 3, "objperslab": 4, "pagesperslab": 5, "active_slabs": 13, "num_slabs": 14}


def table(folder: ResultFolder, snap: str, file: str) -> dict[str, int]:
    """A file of NAME VALUE lines (``pgfault 12``, ``MemFree:  8 kB``, ``Node 0 MemFree:  8 kB``); other lines are skipped."""
    def read() -> dict[str, int]:
        matches = map(_NAME_VALUE.fullmatch, folder.text(snap, file).splitlines())
        return {m[1]: int(m[2]) for m in matches if m}

    return folder.cached((snap, file), read)


def parse_zoneinfo(text: str) -> tuple[dict[tuple[int, str], dict[str, Any]], dict[str, int]]:
    """zoneinfo as ``{(node, zone): {name: value, "protection": [...], "pcp": {cpu: {...}}}}``, and the per-node figures summed.

    Where a name comes twice within a zone the first counts.
    """
    zones: dict[tuple[int, str], dict[str, Any]] = {}
    nodes: dict[str, int] = {}
    zone: dict[str, Any] = {}
    pcp: dict[str, int] | None = None
    per_node = False
    for line in text.splitlines():
        if match := re.match(r"Node (\d+), zone\s+(\S+)", line):
            zone, pcp, per_node = zones.setdefault((int(match[1]), match[2]), {"pcp": {}}), None, False
        elif line.strip() == "per-node stats":
            per_node = True
        elif match := re.match(r"\s+pages free\s+(\d+)", line):
            zone["free"], per_node = int(match[1]), False
        elif match := re.match(r"\s+protection: \((.*)\)", line):
            zone["protection"] = [int(x) for x in match[1].split(",")]
        elif match := re.match(r"\s+cpu: (\d+)", line):
            pcp = zone["pcp"].setdefault(int(match[1]), {})
        elif match := re.fullmatch(r"\s+(\w+):?\s+(\d+)\s*", line):
            name, value = match[1], int(match[2])
            if pcp is not None and name in _PCP_FIELDS:
                pcp[name] = value
            elif per_node:
                nodes[name] = nodes.get(name, 0) + value
            else:
                zone.setdefault(name, value)
    return zones, nodes


def _zoneinfo(folder: ResultFolder, snap: str) -> tuple[dict[tuple[int, str], dict[str, Any]], dict[str, int]]:
    return folder.cached((snap, "zoneinfo", "parsed"), lambda: parse_zoneinfo(folder.text(snap, "zoneinfo")))


def _zone(folder: ResultFolder, snap: str, node: str, zone: str, name: str) -> Any:
    of_zone = field(_zoneinfo(folder, snap)[0], (int(node), zone), "zoneinfo")
    if name in ("pcp", "high_batch"):
        return [[p.get("high_min", p.get("high")), p.get("high_max"), p["batch"]] for p in of_zone["pcp"].values()]
    return field(of_zone, name, f"zoneinfo of {zone}")


def _nodestat(folder: ResultFolder, snap: str, name: str) -> int:
    return field(_zoneinfo(folder, snap)[1], name, "zoneinfo's per-node stats")


def _buddyinfo(folder: ResultFolder, snap: str, node: str, zone: str) -> list[int]:
    for line in folder.text(snap, "buddyinfo").splitlines():
        words = line.replace(",", " ").split()
        if words[1] == node and words[3] == zone:
            return [int(x) for x in words[4:]]
    raise Unsupported(f"buddyinfo has no node {node}, zone {zone}")


def _pagetypeinfo(folder: ResultFolder, snap: str, node: str, zone: str, migratetype: str) -> list[int]:
    row = re.compile(rf"Node\s+{node}, zone\s+{zone}, type\s+{migratetype}\s+(.*)")
    for line in folder.text(snap, "pagetypeinfo").splitlines():
        if match := row.match(line):
            return [int(x.lstrip(">")) for x in match[1].split()]
    raise Unsupported(f"pagetypeinfo has no node {node}, zone {zone}, type {migratetype}")


def _slabinfo(folder: ResultFolder, snap: str, cache: str, name: str) -> int:
    for line in folder.text(snap, "slabinfo").splitlines():
        words = line.split()
        if words and words[0] == cache:
            return int(words[field(_SLAB_COLUMN, name, "slabinfo")])
    raise Unsupported(f"slabinfo has no {cache}")


def _of_node(folder: ResultFolder, snap: str, file: str, node: str, name: str) -> int:
    file = f"node{node}.{file.removeprefix('node')}"
    return field(table(folder, snap, file), name, file)


def _lru_gen(folder: ResultFolder, snap: str, memcg: str, node: str, name: str) -> Any:
    memcg_now = node_now = ""
    rows = []
    for words in map(str.split, folder.text(snap, "lru_gen").splitlines()):
        if words[:1] == ["memcg"]:
            memcg_now = words[2] if len(words) > 2 else "/"
        elif words[:1] == ["node"]:
            node_now = words[1]
        elif memcg_now == memcg and node_now == node and len(words) == 4 and words[0].isdigit():
            rows.append([int(x.rstrip("x")) for x in words])  # sequence number, age in ms, anon, file
    if not rows:
        raise Unsupported(f"lru_gen has no memcg {memcg} on node {node}")
    return {"min_seq": rows[0][0], "max_seq": rows[-1][0], "gens": len(rows), "anon": [r[2] for r in rows], "file": [r[3] for r in rows]}[name]


def _swaps_used(folder: ResultFolder, snap: str) -> int:
    return sum(int(line.split()[3]) for line in folder.text(snap, "swaps").splitlines()[1:])


def _pressure(folder: ResultFolder, snap: str, kind: str) -> int:
    return int(need(re.search(rf"{kind}.*total=(\d+)", folder.text(snap, "memory")), f"{kind} in pressure/memory")[1])


def _by_name(folder: ResultFolder, snap: str, file: str, name: str) -> int:
    return field(table(folder, snap, file), name, file)


_SNAP = r"snap\[(\w+)\]\."
FORMS: Forms = [
    (_SNAP + r"zoneinfo\[(\d+),(\w+)\]\.(\w+)", _zone),
    (_SNAP + r"nodestat\.(\w+)", _nodestat),
    (_SNAP + r"buddyinfo\[(\d+),(\w+)\]", _buddyinfo),
    (_SNAP + r"pagetypeinfo\[(\d+),(\w+)\]\.(\w+)", _pagetypeinfo),
    (_SNAP + r"slabinfo\[([^\]]+)\]\.(\w+)", _slabinfo),
    (_SNAP + r"(numastat|nodememinfo|nodevmstat)\[(\d+)\]\.(\S+)", _of_node),
    (_SNAP + r"lru_gen\[([^,\]]+),(\d+)\]\.(min_seq|max_seq|gens|anon|file)", _lru_gen),
    (_SNAP + r"swaps\.used", _swaps_used),
    (_SNAP + r"pressure\.(some|full)", _pressure),
    (_SNAP + r"(\w+)\.(\S+)", _by_name),
]
