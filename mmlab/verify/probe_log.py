"""The log of an allocator program (operation ``probe FILE LABEL``), line by line:

    DUMP D ... END      state of all zones: Z zone, C per-CPU lists' counts, P their pages, F free lists, B pageblock types, M movable pages
    A PFN...            what an ``alloc`` line returned, -1 for a failure
    ZL NODE KIND ZONE...        a zonelist
    K NAME k=v..., NEW NAME K ROOT k=v...       a cache's geometry; S SIZE ALIGN K NAME k=v...  that of a ``sweep``
    O c=C PFN:INDEX...  the slab of each object that a ``calloc`` line returned
    D c=C PFN           a slab given back to the page allocator
    CACHE D c=C ... END a cache's CPU slab, CPU partial list and node partial list
    M SIZE ...          what ``kmalloc`` returned
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import attrs

_SLAB = re.compile(r"(cpuslab|cpupartial|partial) pfn=(\d+) node=\d+ inuse=(\d+) objects=(\d+) ")
_SLAB_LIST = {"cpuslab": "cpu", "cpupartial": "cpu_partial", "partial": "node_partial"}
_GEOMETRY = ("size", "align", "order", "objects", "min_order", "min_partial", "cpu_partial", "cpu_partial_slabs")
PAGEBLOCK_ORDER = 9


@attrs.define
class ProbeLog:
    """What one program run left.

    ``states``: zones of each dump by its name; ``pfns``: PFNs of each ``alloc`` line; ``zonelists`` by "NODE,KIND"; ``caches`` by name;
    ``sweeps`` by "SIZE,ALIGN" and as rows in ``table``; ``objs``: slab of each object per ``calloc`` line, a cache's slabs numbered
    from 0 as they first appear; ``slab_states`` by dump name; ``kmallocs``: [size asked, ksize, cache or "pages", order].
    """

    states: dict[str, list[dict[str, Any]]] = attrs.field(factory=dict)
    pfns: list[list[int]] = attrs.field(factory=list)
    zonelists: dict[str, list[str]] = attrs.field(factory=dict)
    caches: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    sweeps: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    table: list[list[int]] = attrs.field(factory=list)
    objs: list[list[int]] = attrs.field(factory=list)
    slab_states: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    kmallocs: list[list[Any]] = attrs.field(factory=list)

    @classmethod
    def from_json(cls, text: str) -> ProbeLog:
        """Of a document {"zonelists", "states", "pfns"}, the form in which a run's own start state is recorded beside its case."""
        doc = json.loads(text)
        return cls(states=doc["states"], pfns=doc["pfns"], zonelists=doc["zonelists"])

    @classmethod
    def from_text(cls, text: str) -> ProbeLog:
        """Of a ``LABEL.probe`` file."""
        log, slabs = cls(), _SlabNumbers()
        lines = iter(text.splitlines())
        for line in lines:
            words = line.split()
            if not words:
                continue
            kind = words[0]
            if kind == "DUMP":
                log.states[words[1]] = _zones(_block(lines))
            elif kind == "A":
                log.pfns.append([int(x) for x in words[1:]])
            elif kind == "ZL":
                log.zonelists[f"{words[1]},{words[2]}"] = words[3:]
            elif kind == "K":
                log.caches[words[1]] = _geometry(words[2:])
            elif kind == "NEW" and words[2] != "failed":
                log.caches[words[1]] = _geometry(words[4:]) | {"root": words[3]}
            elif kind == "S" and words[3] != "failed":
                geometry = _geometry(words[5:])
                log.sweeps[f"{words[1]},{words[2]}"] = geometry
                log.table.append([int(words[1]), int(words[2]), *(geometry[name] for name in _GEOMETRY), int(geometry["flags"], 16)])
            elif kind == "O":
                pfns = [int(x.partition(":")[0]) for x in words[2:]]
                log.objs.append([-1 if pfn < 0 else slabs.number(words[1], pfn) for pfn in pfns])
            elif kind == "D":
                slabs.given_back(words[1], int(words[2]))
            elif kind == "CACHE":
                log.slab_states[words[1]] = _slab_state(_block(lines), words[2], slabs)
            elif kind == "M":
                log.kmallocs.append(_kmalloc(line))
        return log


class _SlabNumbers:
    """Numbers a cache's slabs as they first appear: their PFNs differ from run to run."""

    def __init__(self) -> None:
        self._number: dict[tuple[str, int], int] = {}
        self._next: dict[str, int] = {}

    def number(self, cache: str, pfn: int) -> int:
        if (cache, pfn) not in self._number:
            self._number[cache, pfn] = self._next.get(cache, 0)
            self._next[cache] = self._number[cache, pfn] + 1
        return self._number[cache, pfn]

    def given_back(self, cache: str, pfn: int) -> None:
        """If the page comes again it is another slab."""
        self._number.pop((cache, pfn), None)


def _block(lines: Iterator[str]) -> list[str]:
    """The lines up to END."""
    block: list[str] = []
    for line in lines:
        if line == "END":
            return block
        block.append(line)
    raise ValueError("the log ends inside a dump")


def _number(text: str) -> Any:
    """An int, a list of ints for ``1,2,3``, else the text."""
    if "," in text:
        return [int(x) for x in text.split(",")]
    return int(text) if re.fullmatch(r"-?\d+", text) else text


def _pairs(words: list[str]) -> dict[str, str]:
    return dict(word.split("=") for word in words if "=" in word)


def _geometry(words: list[str]) -> dict[str, Any]:
    return {name: value if name in ("flags", "allocflags") else int(value) for name, value in _pairs(words).items()}


def _zones(lines: list[str]) -> list[dict[str, Any]]:
    zones: dict[tuple[int, str], dict[str, Any]] = {}
    for words in map(str.split, lines):
        key = (int(words[1]), words[2])
        if words[0] == "Z":
            pairs = _pairs(words[3:])
            values = {name: _number(value) for name, value in pairs.items()} | {"flags": int(pairs["flags"], 16)}
            zones[key] = {"node": key[0], "zone": key[1], **values, "pcp": [], "free_lists": {}, "pageblocks": [], "movable_pages": []}
            continue
        zone, rest = zones[key], words[3:]
        if words[0] == "C":
            zone["pcp"].append({name: int(value) for name, value in _pairs(rest).items()} | {"lists": {}})
        elif words[0] == "P":
            cpu, index = (value for value in _pairs(rest[:2]).values())
            next(p for p in zone["pcp"] if p["cpu"] == int(cpu))["lists"][index] = [int(x) for x in rest[2:]]
        elif words[0] == "F":
            order, migratetype = (value for value in _pairs(rest[:2]).values())
            zone["free_lists"].setdefault(order, {})[migratetype] = [int(x) for x in rest[2:]]
        elif words[0] == "B":
            zone["first_pageblock"] = int(_pairs(rest[:1])["first"]) >> PAGEBLOCK_ORDER
            zone["pageblocks"] = [None if x == "x" else int(x) for x in rest[1:]]
        elif words[0] == "M":
            zone["movable_pages"] = [int(x) for x in rest[1:]]
    return list(zones.values())


def _slab_state(lines: list[str], cache: str, slabs: _SlabNumbers) -> dict[str, Any]:
    """Lists of [slab, inuse, objects]; freelist: objects free on each CPU (its slab counts as all in use)."""
    state: dict[str, Any] = {"cpu": [], "cpu_partial": [], "node_partial": [], "freelist": []}
    for line in lines:
        if match := _SLAB.match(line):
            state[_SLAB_LIST[match[1]]].append([slabs.number(cache, int(match[2])), int(match[3]), int(match[4])])
        elif line.startswith("cpu ") and "[" in line:
            state["freelist"].append(0 if line.endswith("[]") else line.count(",") + 1)
        elif line.startswith("node "):
            state.setdefault("nodes", []).append({name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", line)})
    return state


def _kmalloc(line: str) -> list[Any]:
    words = line.split()
    match = re.search(r"ksize=(\d+) cache=(\S+)", line)
    if not match:
        return [int(words[1]), -1, "failed", -1]
    order = int(words[2].partition("/")[2]) if "/" in words[2] else -1
    return [int(words[1]), int(match[1]), "pages" if match[2] == "-" else match[2], order]
