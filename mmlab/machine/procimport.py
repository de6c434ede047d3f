"""A machine from a real one's files: zoneinfo, buddyinfo, meminfo, vmstat, and pagetypeinfo where root could read it.

The folder may hold the files themselves or a ``proc`` folder with them. Read if there, below the folder:
``sys/devices/system/node/nodeN/{cpulist,distance}``, ``sys/kernel/mm/transparent_hugepage/enabled`` and, of the sysctls that shape zones,
``proc/sys/vm/*``. Without them CPUs are spread over the nodes in order, distances are 10 and 20, and settings are Linux's defaults.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from ..errors import InputError
from .boot import BootState, boot_from_json
from .config import MachineConfig, machine_from_table
from .layout import MachineLayout, layout_from_boot
from .memmap import merge
from .record import LRU_LISTS, MIGRATE_TYPES, NR_ORDERS, TOTALS
from .watermarks import ZONE_NAMES

ZONE_FIELDS = ("spanned", "present", "managed", "start_pfn")
SYSCTLS = ("min_free_kbytes", "watermark_scale_factor", "watermark_boost_factor", "lowmem_reserve_ratio", "percpu_pagelist_high_fraction")
PAGETYPEINFO_LIMIT = 100000  # where /proc/pagetypeinfo stops counting
_ZONE = re.compile(r"Node\s+(\d+), zone\s+(\w+)")


@attrs.frozen
class ImportedMachine:
    """``table`` is the ``[machine]`` table, ``boot`` record included, that describes the same machine without its folder."""

    config: MachineConfig
    layout: MachineLayout
    boot: BootState
    table: dict[str, Any]


class _File:
    """Lines of a file with their numbers, and errors that name them."""

    def __init__(self, folder: Path, name: str, errors: list[str]):
        self.errors = errors
        tries = (folder / name, folder / "proc" / name)
        self.path = next((p for p in tries if p.is_file()), tries[0])
        self.there = self.path.is_file()
        self.lines = self.path.read_text(errors="replace").splitlines() if self.there else []

    def required(self) -> _File:
        if not self.there:
            self.errors.append(f"{self.path}: no such file; it must be a copy of the real machine's /proc/{self.path.name}")
        return self

    def bad(self, number: int, message: str) -> None:
        self.errors.append(f"{self.path}:{number}: {message}")

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return iter(enumerate(self.lines, 1))

    def table(self, *needed: str) -> dict[str, int]:
        """``name value`` or ``name: value kB`` lines."""
        out: dict[str, int] = {}
        for number, line in self:
            name, *values = line.replace(":", " ").split() or [""]
            if name not in needed:
                continue
            out[name] = 0
            if values and values[0].isdigit():
                out[name] = int(values[0])
            else:
                self.bad(number, f"{name} must be followed by a number, got '{line.strip()}'")
        if self.there:
            self.errors += [f"{self.path}: no line for {n}" for n in needed if n not in out]
        return {n: out.get(n, 0) for n in needed}


def _zoneinfo(f: _File) -> list[dict[str, Any]]:
    zones: list[dict[str, Any]] = []
    z: dict[str, Any] = {}
    for number, line in f:
        if m := _ZONE.match(line):
            z = {"node": int(m[1]), "zone": m[2], "line": number, "pcp": {}, "lru": dict.fromkeys(LRU_LISTS, 0)}
            zones.append(z)
            if m[2] not in ZONE_NAMES:
                f.bad(number, f"zone {m[2]} is not modelled (known: {', '.join(ZONE_NAMES)})")
            continue
        words = line.replace(":", " ").split()
        if not z or len(words) < 2:
            continue
        name, value = words[-2], words[-1]
        if name == "cpu":
            cpu: dict[str, int] = {}
            z["pcp"][int(value)] = cpu
        elif name in ZONE_FIELDS or name in ("count", "high") and z["pcp"] or name.startswith("nr_zone_"):
            if not value.isdigit():
                f.bad(number, f"{name} must be followed by a number, got '{line.strip()}'")
            elif name in ZONE_FIELDS:
                z[name] = int(value)
            elif name.startswith("nr_zone_"):
                if name[8:] in LRU_LISTS:
                    z["lru"][name[8:]] = int(value)
            else:
                cpu[name] = int(value)
    for z in zones:
        if z.get("present") or "present" not in z:
            missing = [k for k in ZONE_FIELDS if k not in z]
            if missing:
                f.bad(z["line"], f"zone {z['zone']} of node {z['node']} has no {', '.join(missing)}")
            for cpu_nr, p in z["pcp"].items():
                if p.keys() != {"count", "high"}:
                    f.bad(z["line"], f"zone {z['zone']} of node {z['node']}: the pageset of cpu {cpu_nr} needs count and high")
    if f.there and not zones:
        f.errors.append(f"{f.path}: no 'Node N, zone NAME' line")
    return [z for z in zones if z.get("present")]


def _block_rows(f: _File, number: int, words: list[str]) -> tuple[int, ...] | None:
    values = [w.lstrip(">") for w in words]
    if len(values) != NR_ORDERS or not all(v.isdigit() for v in values):
        f.bad(number, f"must have {NR_ORDERS} counts of free blocks (orders 0 to 10), got '{' '.join(words)}'")
        return None
    return tuple(map(int, values))


def _buddyinfo(f: _File) -> dict[tuple[int, str], tuple[int, ...]]:
    out = {}
    for number, line in f:
        if m := _ZONE.match(line):
            if row := _block_rows(f, number, line[m.end() :].split()):
                out[int(m[1]), m[2]] = row
        elif line.strip():
            f.bad(number, f"must start with 'Node N, zone NAME', got '{line.strip()}'")
    return out


def _pagetypeinfo(f: _File) -> tuple[dict[tuple[int, str], dict[str, tuple[int, ...]]], dict[tuple[int, str], dict[str, int]]]:
    """Free lists and pageblocks by zone and type; CMA's count as Movable."""
    lists: dict[tuple[int, str], dict[str, tuple[int, ...]]] = {}
    blocks: dict[tuple[int, str], dict[str, int]] = {}
    types: list[str] = []
    for number, line in f:
        if line.startswith("Number of blocks type"):
            types = line.split()[4:]
        m = _ZONE.match(line)
        if not m:
            continue
        key, rest = (int(m[1]), m[2]), line[m.end() :].split()
        if rest[:2] and rest[0] == "," and rest[1] == "type":
            name = "Movable" if rest[2] == "CMA" else rest[2]
            if name not in MIGRATE_TYPES:
                f.bad(number, f"migratetype {name} is not modelled (known: {', '.join(MIGRATE_TYPES)})")
            elif row := _block_rows(f, number, rest[3:]):
                old = lists.setdefault(key, {}).get(name, (0,) * NR_ORDERS)
                lists[key][name] = tuple(a + b for a, b in zip(old, row))
        elif types:
            if len(rest) != len(types) or not all(w.isdigit() for w in rest):
                f.bad(number, f"must have {len(types)} counts of pageblocks, got '{' '.join(rest)}'")
                continue
            for name, n in zip(types, rest):
                name = "Movable" if name == "CMA" else name
                blocks.setdefault(key, {})[name] = blocks.get(key, {}).get(name, 0) + int(n)
    return lists, blocks


def pagetypeinfo_lists(path: Path) -> dict[tuple[int, str], dict[str, tuple[int, ...]]]:
    """Free blocks of (node, zone) by migratetype and order. Raises InputError for a file that is missing or no pagetypeinfo."""
    errors: list[str] = []
    lists, _ = _pagetypeinfo(_File(path.parent, path.name, errors).required())
    if not errors and not lists:
        errors.append(f"{path}: has no line 'Node N, zone NAME, type TYPE': is it a copy of /proc/pagetypeinfo?")
    if errors:
        raise InputError(errors)
    return lists


def with_free_blocks(boot: BootState, layout: MachineLayout, path: str | Path) -> BootState:
    """A starting state with the free blocks of a pagetypeinfo, zone by zone. Raises InputError for zones that the machine does not have, that
    the file does not have, or that are too small for so many free blocks."""
    lists = pagetypeinfo_lists(Path(path))
    errors = [f"{path}: the machine has no zone {name} of node {node}" for node, name in lists if not any((z.node, z.name) == (node, name) for z in layout.zones)]
    zones = []
    for zone, state in zip(layout.zones, boot.zones):
        counts = lists.get((zone.node, zone.name))
        if counts is None:
            errors.append(f"{path}: no line for zone {zone.name} of node {zone.node}, which the machine has")
            continue
        found = attrs.evolve(state, free_lists={name: counts.get(name, (0,) * NR_ORDERS) for name in MIGRATE_TYPES})
        if found.nr_free >= zone.managed:
            errors.append(f"{path}: zone {zone.name} of node {zone.node} has {found.nr_free} free pages, the machine's has only {zone.managed}")
        zones.append(found)
    if errors:
        raise InputError([f"machine.aged.pagetypeinfo: {message}" for message in errors])
    return attrs.evolve(boot, zones=tuple(zones))


def _cpulist(text: str) -> list[int]:
    out: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        out += range(int(first), int(last or first) + 1)
    return out


def _topology(folder: Path, nodes: int, cpus: int, errors: list[str]) -> tuple[list[list[int]], list[list[int]]]:
    """CPUs by node, numbered without gaps, and (from, to, distance) rows."""
    node_cpus = [list(range(cpus * n // nodes, cpus * (n + 1) // nodes)) for n in range(nodes)]
    rows = []
    for n in range(nodes):
        base = folder / f"sys/devices/system/node/node{n}"
        try:
            if (base / "cpulist").is_file():
                node_cpus[n] = _cpulist((base / "cpulist").read_text())
            if (base / "distance").is_file():
                rows += [[n, m, int(d)] for m, d in enumerate((base / "distance").read_text().split()) if m != n and m < nodes]
        except ValueError as e:
            errors.append(f"{base}: {e}")
    online = sorted(c for cs in node_cpus for c in cs)
    return [[online.index(c) for c in cs] for cs in node_cpus], rows


def _boot_record(folder: Path, errors: list[str]) -> tuple[dict[str, Any], dict[str, int]]:
    """The files as a boot record, and meminfo."""
    zones = _zoneinfo(_File(folder, "zoneinfo", errors).required())
    buddy_file = _File(folder, "buddyinfo", errors).required()
    buddy = _buddyinfo(buddy_file)
    lists, blocks = _pagetypeinfo(_File(folder, "pagetypeinfo", errors))
    vmstat = _File(folder, "vmstat", errors).required().table(*(f"nr_{k}" for k in LRU_LISTS + TOTALS))
    meminfo = _File(folder, "meminfo", errors).required().table("SwapTotal", "Committed_AS")
    complete = buddy_file.there and not any(e.startswith(f"{buddy_file.path}:") for e in errors)
    rows = []
    for z in zones:
        key = (z["node"], z["zone"])
        if complete and key not in buddy:
            errors.append(f"{buddy_file.path}: no line for zone {key[1]} of node {key[0]}, which zoneinfo has")
        free = {t: [0] * NR_ORDERS for t in MIGRATE_TYPES}
        free["Movable"] = list(buddy.get(key, free["Movable"]))
        if key in lists:
            free = {t: list(lists[key].get(t, (0,) * NR_ORDERS)) for t in MIGRATE_TYPES}
            for order, total in enumerate(buddy.get(key, ())):
                if free["Movable"][order] >= PAGETYPEINFO_LIMIT:
                    others = sum(free[t][order] for t in free if t != "Movable")
                    free["Movable"][order] = max(free["Movable"][order], total - others)
        pcp = [z["pcp"][c] for c in sorted(z["pcp"])]
        row = {"node": key[0], "zone": key[1], **{k: z.get(k, 0) for k in ZONE_FIELDS}, "pcp": pcp, "lru": z["lru"], "free_lists": free}
        rows.append(row | ({"pageblocks": blocks[key]} if key in blocks else {}))
    totals = {k: vmstat[f"nr_{k}"] for k in LRU_LISTS + TOTALS}
    return {"zones": rows, "lru": totals, "meminfo": {"Committed_AS": meminfo["Committed_AS"]}}, meminfo


def _settings(folder: Path, table: dict[str, Any]) -> dict[str, str]:
    thp = folder / "sys/kernel/mm/transparent_hugepage/enabled"
    if thp.is_file() and (m := re.search(r"\[(\w+)\]", thp.read_text())):
        table["cmdline"] = f"transparent_hugepage={m[1]}"
    out = {}
    for name in SYSCTLS:
        path = folder / "proc/sys/vm" / name
        if path.is_file():
            out[f"vm.{name}"] = " ".join(path.read_text().split())
    return out


def import_machine(folder: str | Path) -> ImportedMachine:
    """Read a folder of a real machine's files. InputError with every problem found, each with its file and line."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    errors: list[str] = []
    record, meminfo = _boot_record(folder, errors)
    if errors:
        raise InputError(errors)
    zones = record["zones"]
    nr_nodes = max(z["node"] for z in zones) + 1
    cpus = max(1, max(len(z["pcp"]) for z in zones))
    node_cpus, distances = _topology(folder, nr_nodes, cpus, errors)
    if errors:
        raise InputError(errors)
    present = [sum(z["present"] for z in zones if z["node"] == n) * 4 for n in range(nr_nodes)]
    table: dict[str, Any] = {"memory": f"{sum(present)}K", "cpus": cpus}
    if nr_nodes > 1:
        table["nodes"] = [{"memory": f"{kb}K", "cpus": c} for kb, c in zip(present, node_cpus)]
        table["distances"] = distances
    if meminfo["SwapTotal"]:
        table["swap"] = f"{meminfo['SwapTotal']}K"
    sysctl = _settings(folder, table)
    table["boot"] = record
    cfg = machine_from_table(table, str(folder), sysctl)
    layout = layout_from_boot(record, cfg)
    record["node_ranges"] = [[z.node, a << 12, (b << 12) - 1] for z in layout.zones for a, b in z.ranges]
    record["e820"] = [[a << 12, (b << 12) - 1, "usable"] for a, b in merge(r for z in layout.zones for r in z.ranges)]
    layout = layout_from_boot(record, cfg)
    return ImportedMachine(attrs.evolve(cfg, import_dir=str(folder)), layout, boot_from_json(record), table)


def _toml_value(v: Any) -> str:
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, int):
        return str(v)
    if isinstance(v, str):
        return '"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(v, Mapping):
        return "{" + ", ".join(f"{k} = {_toml_value(x)}" for k, x in v.items()) + "}"
    return "[" + ", ".join(map(_toml_value, v)) + "]"


def machine_toml(machine: ImportedMachine) -> str:
    """The machine as TOML text: a ``[machine]`` table that needs no folder, and ``[sysctl]`` if the import found settings."""
    table = dict(machine.table)
    boot = dict(table.pop("boot"))
    zones = boot.pop("zones")
    lines = ["[machine]", *(f"{k} = {_toml_value(v)}" for k, v in table.items()), "", "[machine.boot]"]
    lines += [f"{k} = {_toml_value(v)}" for k, v in boot.items()]
    for z in zones:
        lines += ["", "[[machine.boot.zones]]", *(f"{k} = {_toml_value(v)}" for k, v in z.items())]
    if machine.config.sysctl:
        lines += ["", "[sysctl]", *(f"{_toml_value(k)} = {_toml_value(v)}" for k, v in machine.config.sysctl.items())]
    return "\n".join(lines) + "\n"
