"""Runs an allocator program (``probe FILE LABEL``) from a dumped state of the real free lists.

:func:`load_state` builds a machine whose zones, free lists, per-CPU lists and pageblocks are those of a dump; :class:`ProbeRun` applies
a program's commands to it and collects a :class:`ProbeLog`, as the real run left one.
Nothing else runs meanwhile (``irqoff``): kswapd sleeps. The slab allocator's commands: probe_slab.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mmlab._engine.machine import Chosen, Machine
from mmlab.errors import MmlabError
from mmlab.kernels.jit import kernel
from mmlab.kernels.ops import page_allocator_drain
from mmlab.kernels.services import alloc_pages, free_pages
from mmlab.mm.memblock import init_heads
from mmlab.model import gfp as g
from mmlab.model import rows as r
from mmlab.model.const import MIGRATE_TYPES, NR_PAGE_ORDERS
from mmlab.machine.watermarks import ZONE_NAMES
from mmlab.model.layout import FREE_HEADS_PER_ZONE, PCP_HEADS, Sizes, count_heads
from mmlab.model.page import PG_BUDDY, ZONE_SHIFT
from mmlab.verify.ids import Unsupported
from mmlab.verify.probe_log import ProbeLog
from mmlab.verify.probe_slab import SlabProbe, run_slab_command

Zone = dict[str, Any]

NR_SLOTS = 65536  # numbers of allocations; larger ones begin again at 0
HOLE = 255  # type of a pageblock that has no struct pages

_ZONE_FIELDS = {
    "start": r.Z_START_PFN, "present": r.Z_PRESENT, "managed": r.Z_MANAGED, "free": r.Z_FREE, "free_highatomic": r.Z_FREE_HIGHATOMIC,
    "min": r.Z_WMARK_MIN, "low": r.Z_WMARK_LOW, "high": r.Z_WMARK_HIGH, "promo": r.Z_WMARK_PROMO, "boost": r.Z_WATERMARK_BOOST,
    "flags": r.Z_FLAGS, "batch": r.Z_BATCH, "high_min": r.Z_HIGH_MIN, "high_max": r.Z_HIGH_MAX, "threshold": r.Z_STAT_THRESHOLD,
    "highatomic": r.Z_NR_RESERVED_HIGHATOMIC,
}
_NUMA_FIELDS = (r.Z_NUMA_HIT, r.Z_NUMA_MISS, r.Z_NUMA_FOREIGN, r.Z_NUMA_INTERLEAVE, r.Z_NUMA_LOCAL, r.Z_NUMA_OTHER)
_PCP_FIELDS = {
    "count": r.PCP_COUNT, "high": r.PCP_HIGH, "high_min": r.PCP_HIGH_MIN, "high_max": r.PCP_HIGH_MAX, "batch": r.PCP_BATCH,
    "flags": r.PCP_FLAGS, "alloc_factor": r.PCP_ALLOC_FACTOR, "free_count": r.PCP_FREE_COUNT, "expire": r.PCP_EXPIRE,
    "free_diff": r.PCP_FREE_DIFF,
}
GFP_NAMES = {
    "KERNEL": g.GFP_KERNEL, "ATOMIC": g.GFP_ATOMIC, "NOWAIT": g.GFP_NOWAIT, "USER": g.GFP_USER, "HIGHUSER_MOVABLE": g.GFP_HIGHUSER_MOVABLE,
    "HIGHUSER": g.GFP_HIGHUSER, "TRANSHUGE": g.GFP_TRANSHUGE, "TRANSHUGE_LIGHT": g.GFP_TRANSHUGE_LIGHT, "RETRY_MAYFAIL": g.GFP_RETRY_MAYFAIL,
    "NOFS": g.GFP_NOFS, "NOIO": g.GFP_NOIO, "DMA": g.GFP_DMA, "DMA32": g.GFP_DMA32, "MOVABLE": g.GFP_MOVABLE, "HIGHMEM": g.GFP_HIGHMEM,
    "RECLAIMABLE": g.GFP_RECLAIMABLE, "THISNODE": g.GFP_THISNODE, "HIGH": g.GFP_HIGH, "NORETRY": g.GFP_NORETRY, "NOFAIL": g.GFP_NOFAIL,
    "MEMALLOC": g.GFP_MEMALLOC, "NOMEMALLOC": g.GFP_NOMEMALLOC, "COMP": g.GFP_COMP, "ZERO": g.GFP_ZERO, "NOWARN": g.GFP_NOWARN,
    "ACCOUNT": g.GFP_ACCOUNT, "DIRECT": g.GFP_DIRECT_RECLAIM, "KSWAPD": g.GFP_KSWAPD_RECLAIM, "IO": g.GFP_IO, "FS": g.GFP_FS,
    "HARDWALL": g.GFP_HARDWALL, "WRITE": g.GFP_WRITE, "NONE": 0,
}


@kernel
def alloc_each(m, gfp, order, node, pfns):
    """alloc_pages() for every element of pfns (int64)."""
    for i in range(len(pfns)):
        pfns[i] = alloc_pages(m, gfp, order, node)
    return 0


@kernel
def free_each(m, pfns, orders):
    """free_pages() of every element."""
    for i in range(len(pfns)):
        free_pages(m, pfns[i], orders[i])
    return 0


def program_cpu(states: Mapping[str, list[Zone]]) -> int:
    """The CPU that a recorded program ran on, which no line of its log names: the one whose lists changed between its dumps; 0 if none did."""
    dumps = list(states.values())
    for before, after in zip(dumps, dumps[1:]):
        for old, new in zip(before, after):
            for was, became in zip(old["pcp"], new["pcp"]):
                if was != became:
                    return int(was["cpu"])
    return 0


def load_state(
    zones: list[Zone], zonelists: Mapping[str, list[str]], chosen: Mapping[str, Chosen], boost_factor: int = 15000, cpu: int = 0
) -> Machine:
    """A machine in a dumped state. zones: of one dump with lists; zonelists: "NODE,fallback" and "NODE,thisnode" -> ["NODE:ZONE", ...];
    chosen: a policy for each slot, the page allocator with the arrays of ``buddy``. ``cpu`` runs, on node 0.
    Raises :class:`Unsupported` for a dump without lists."""
    if not any(z["free_lists"] for z in zones):
        raise Unsupported("a dump without lists cannot be a start state")
    nr_cpus = max(len(z["pcp"]) for z in zones)
    nr_nodes = max([z["node"] for z in zones] + [int(key.partition(",")[0]) for key in zonelists]) + 1
    frames = -(-max(z["start"] + z["spanned"] for z in zones) // 1024) * 1024
    heads = count_heads(nr_cpus, nr_nodes, len(zones))
    machine = Machine(Sizes(frames, sum(z["present"] for z in zones), heads, nr_cpus, nr_nodes, len(zones), 16, 0, False), chosen)
    machine.bind()
    machine.run(init_heads, frames, frames + heads)
    _scalars(machine, boost_factor)
    machine.sc[r.SC_CPU] = cpu
    for number, zone in enumerate(zones):
        _load_zone(machine, number, zone)
    machine.zonelist[:] = -1
    rows = {f"{z['node']}:{z['zone']}": number for number, z in enumerate(zones)}
    for key, names in zonelists.items():
        node, _, kind = key.partition(",")
        at = int(node) * r.ZONELIST_STRIDE + (r.ZONELIST_THISNODE if kind == "thisnode" else 0)
        machine.zonelist[at : at + len(names)] = [rows[name] for name in names]
    return machine


def _scalars(machine: Machine, boost_factor: int) -> None:
    sizes, sc = machine.sizes, machine.sc
    sc[r.SC_NR_NODES], sc[r.SC_NR_ZONES], sc[r.SC_NR_CPUS] = sizes.nr_nodes, sizes.nr_zones, sizes.nr_cpus
    sc[r.SC_MAX_PFN], sc[r.SC_NR_HEADS], sc[r.SC_TASK], sc[r.SC_BOOST_FACTOR] = sizes.nr_frames, sizes.nr_heads, -1, boost_factor
    for node in range(sizes.nr_nodes):
        machine.node[node * r.NODE_STRIDE + r.N_KSWAPD_AWAKE] = 1  # already woken, and it never gets the CPU


def _load_zone(machine: Machine, number: int, zone: Zone) -> None:
    base, row = number * r.ZONE_STRIDE, machine.zone
    for name, field in _ZONE_FIELDS.items():
        row[base + field] = zone[name]
    row[base + r.Z_NODE], row[base + r.Z_INDEX] = zone["node"], ZONE_NAMES.index(zone["zone"])
    row[base + r.Z_END_PFN] = zone["start"] + zone["spanned"]
    row[base + r.Z_LOWMEM_RESERVE : base + r.Z_LOWMEM_RESERVE + len(zone["protection"])] = zone["protection"]
    for field, value in zip(_NUMA_FIELDS, zone["numa"]):
        row[base + field] = value
    row[base + r.Z_FREE_HEADS] = machine.sizes.nr_frames + number * FREE_HEADS_PER_ZONE
    machine.page[2::4][zone["start"] : zone["start"] + zone["spanned"]] = number << ZONE_SHIFT
    first, blocks = zone["first_pageblock"], zone["pageblocks"]
    row[base + r.Z_FIRST_PAGEBLOCK], row[base + r.Z_NR_PAGEBLOCKS] = first, len(blocks)
    machine.pageblock[first : first + len(blocks)] = [HOLE if block is None else block for block in blocks]
    state = machine.states["page_allocator"]
    state.movable_pages[first : first + len(blocks)] = np.array(zone["movable_pages"]) + 1
    for order in range(NR_PAGE_ORDERS):
        for kind in range(MIGRATE_TYPES):
            pfns = zone["free_lists"].get(str(order), {}).get(str(kind), [])
            _link(machine, row[base + r.Z_FREE_HEADS] + order * MIGRATE_TYPES + kind, pfns)
            machine.page[2::4][pfns] |= np.uint32(PG_BUDDY)
            machine.pagex[3::4][pfns] = order << 8
            state.nr_free[(number * MIGRATE_TYPES + kind) * NR_PAGE_ORDERS + order] = len(pfns)
    for pcp in zone["pcp"]:
        _load_pcp(machine, number, pcp)


def _load_pcp(machine: Machine, number: int, pcp: dict[str, Any]) -> None:
    cpu_zone = pcp["cpu"] * machine.sizes.nr_zones + number
    base = cpu_zone * r.PCP_STRIDE
    for name, field in _PCP_FIELDS.items():
        machine.pcp[base + field] = pcp[name]
    machine.pcp[base + r.PCP_HEADS] = machine.sizes.nr_frames + machine.sizes.nr_zones * FREE_HEADS_PER_ZONE + cpu_zone * PCP_HEADS
    for index, pfns in pcp["lists"].items():
        _link(machine, machine.pcp[base + r.PCP_HEADS] + int(index), pfns)


def _link(machine: Machine, head: int, pfns: list[int]) -> None:
    ring = np.array([head, *pfns], np.int64)
    machine.page[0::4][ring] = np.roll(ring, -1)
    machine.page[1::4][ring] = np.roll(ring, 1)


def dump_state(machine: Machine, lists: bool = True) -> list[Zone]:
    """The machine's zones in the form of a dump; lists: with free lists, per-CPU lists and pageblocks, else counters only."""
    return [_dump_zone(machine, number, lists) for number in range(machine.sizes.nr_zones)]


def _dump_zone(machine: Machine, number: int, lists: bool) -> Zone:
    row = machine.zone[number * r.ZONE_STRIDE : (number + 1) * r.ZONE_STRIDE].tolist()
    zone: Zone = {"node": row[r.Z_NODE], "zone": ZONE_NAMES[row[r.Z_INDEX]], "spanned": row[r.Z_END_PFN] - row[r.Z_START_PFN]}
    zone |= {name: row[field] for name, field in _ZONE_FIELDS.items()}
    zone |= {"numa": [row[field] for field in _NUMA_FIELDS], "protection": row[r.Z_LOWMEM_RESERVE : r.Z_LOWMEM_RESERVE + 5]}
    zone |= {"pcp": [], "free_lists": {}, "pageblocks": []}
    for cpu in range(machine.sizes.nr_cpus):
        base = (cpu * machine.sizes.nr_zones + number) * r.PCP_STRIDE
        pcp: dict[str, Any] = {"cpu": cpu} | {name: int(machine.pcp[base + field]) for name, field in _PCP_FIELDS.items()} | {"lists": {}}
        heads = int(machine.pcp[base + r.PCP_HEADS])
        if lists:
            pcp["lists"] = {str(i): pfns for i in range(r.NR_PCP_LISTS) if (pfns := _listed(machine, heads + i))}
        zone["pcp"].append(pcp)
    if lists:
        for order in range(NR_PAGE_ORDERS):
            heads = row[r.Z_FREE_HEADS] + order * MIGRATE_TYPES
            if types := {str(kind): pfns for kind in range(MIGRATE_TYPES) if (pfns := _listed(machine, heads + kind))}:
                zone["free_lists"][str(order)] = types
        zone["first_pageblock"] = row[r.Z_FIRST_PAGEBLOCK]
        types = machine.pageblock[zone["first_pageblock"] :][: row[r.Z_NR_PAGEBLOCKS]].tolist()
        zone["pageblocks"] = [None if kind == HOLE else kind for kind in types]
    return zone


def _listed(machine: Machine, head: int) -> list[int]:
    pfns, at = [], int(machine.page[4 * head])
    while at != head:
        pfns.append(at)
        at = int(machine.page[4 * at])
    return pfns


def gfp_of(names: str) -> int:
    """Flags of names joined by ``|``. Raises MmlabError for an unknown name."""
    gfp = 0
    for name in names.split("|"):
        if name not in GFP_NAMES:
            raise MmlabError(f"probe: gfp {names!r}: no flag {name!r} (known: {', '.join(GFP_NAMES)})")
        gfp |= GFP_NAMES[name]
    return gfp


class ProbeRun:
    """Applies a program to a machine; ``log`` grows as the real run's did, ``slab.lines`` are the slab allocator's part of its text.
    slots: what is allocated, SLOT -> (pfn, order). nomerge: the boot parameter slab_nomerge."""

    def __init__(self, machine: Machine, nomerge: bool = False):
        self.machine = machine
        self.log = ProbeLog()
        self.slots: dict[int, tuple[int, int]] = {}
        self.slab = SlabProbe(machine, nomerge)

    def run(self, lines: Iterable[str]) -> ProbeLog:
        """All commands of a program. Raises :class:`Unsupported`."""
        for words in _commands(lines):
            self._command(words)
        return self.log

    def run_from_dump(self, lines: Iterable[str]) -> ProbeLog:
        """All commands from the first dump on: what came before it is in the start state. Raises :class:`Unsupported`."""
        commands = _commands(lines)
        start = next((i for i, words in enumerate(commands) if words[0] == "dump"), 0)
        for words in commands[start:]:
            self._command(words)
        return self.log

    def _command(self, words: list[str]) -> None:
        name, args = words[0], [word for word in words[1:] if "=" not in word]
        options = {key: int(value) for key, value in (word.split("=") for word in words[1:] if "=" in word)}
        n, step = options.get("n", 1), options.get("step", 1)
        if name in ("irqoff", "irqon", "echo"):
            return
        if name in ("dump", "zones"):
            self.log.states[args[0]] = dump_state(self.machine, lists=name == "dump")
        elif name == "drain":
            for zone in range(self.machine.sizes.nr_zones):
                self.machine.run(page_allocator_drain, zone, int(self.machine.sc[r.SC_CPU]))
        elif name == "alloc":
            self._alloc(int(args[0]), int(args[1]), gfp_of(args[2]), n, options.get("node", 0))
        elif name == "free":
            slots = [(int(args[0]) + i * step) % NR_SLOTS for i in range(n)]
            self._free(slots[::-1] if "rev" in args else slots)
        elif name == "split":
            pfn, order = self.slots.pop(int(args[0]), (-1, -1))
            for i in range(1 << order if order >= 0 else 0):
                self.slots[(int(args[0]) + i) % NR_SLOTS] = (pfn + i, 0)
        else:
            run_slab_command(self.slab, name, args, options, gfp_of)

    def _alloc(self, slot: int, order: int, gfp: int, n: int, node: int) -> None:
        pfns = np.empty(n, np.int64)
        self.machine.run(alloc_each, gfp, order, node, pfns)
        self.log.pfns.append(np.maximum(pfns, -1).tolist())
        for i, pfn in enumerate(pfns.tolist()):
            self.slots.pop((slot + i) % NR_SLOTS, None)  # what it named before is named no more, even if nothing takes its place
            if pfn >= 0:
                self.slots[(slot + i) % NR_SLOTS] = (pfn, order)

    def _free(self, slots: list[int]) -> None:
        held = [self.slots.pop(slot) for slot in slots if slot in self.slots]
        pfns, orders = np.array(held, np.int64).reshape(-1, 2).T.copy()
        self.machine.run(free_each, pfns, orders)


def _commands(lines: Iterable[str]) -> list[list[str]]:
    """The words of each command: one a line, or several with ``;`` between them; a comment, from ``#`` on, ends there too."""
    return [words for line in lines for command in line.split(";") if (words := command.partition("#")[0].split())]
