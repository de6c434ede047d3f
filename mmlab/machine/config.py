"""``MachineConfig``: the ``[machine]`` table of an experiment or case, checked; sizes in bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import attrs

from ..errors import InputError, did_you_mean
from .aged import Aged, aged_from
from .cmdline import Cmdline, parse_cmdline
from .presets import preset_table
from .record import boot_problems
from .sysfs_checks import sysfs_faults
from .swap_devices import COMPRESSED_BYTES, SwapDevice, compression, lab_devices, listed_devices

PAGE_BYTES = 4096
KERNELS = ("6.12", "6.1")
MAX_NUMNODES = 1024
LOCAL_DISTANCE, REMOTE_DISTANCE = 10, 20
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_SIZE = re.compile(r"(\d+)\s*([KMGT]?)(?:I?B)?")


@attrs.frozen
class NodeConfig:
    """A NUMA node: memory in bytes (0: CPUs only), its CPUs, and the node it is an HMAT target of."""

    memory_bytes: int
    cpus: tuple[int, ...] = ()
    initiator: int | None = None


@attrs.frozen
class MachineConfig:
    """A machine as described by the user.

    ``nodes`` is empty for a machine without NUMA. ``distances``: (from, to, distance) rows. ``hmat``: (initiator, target, latency ns,
    GiB/s) rows. ``modules`` and ``icount`` matter to the lab alone. ``boot``: a boot record (``record.py``), or None.
    ``bits``: 32 gives high memory above 896 MiB (``bare`` only). ``bare``: no firmware, no kernel: every page of ``memory`` is managed (small machines for policy studies).
    ``import_dir``: a folder with a real machine's /proc files. ``aged``: what memory has been through. ``sysctl`` and ``sysfs``: settings made before the workload starts.
    """

    preset: str | None = None
    memory_bytes: int = 1 << 30
    cpus: int = 1
    nodes: tuple[NodeConfig, ...] = ()
    distances: tuple[tuple[int, int, int], ...] = ()
    hmat: tuple[tuple[int, int, int, int], ...] = ()
    swap_bytes: int = 0
    zram_bytes: int = 0
    swap_ssd: bool = False
    swaps: tuple[SwapDevice, ...] = ()
    compression: Mapping[str, tuple[int, int]] = COMPRESSED_BYTES
    disk_bytes: int = 0
    pgtable_levels: int = 5
    cmdline: str = ""
    kernel: str = "6.12"
    dimms_bytes: tuple[int, ...] = ()
    maxmem_bytes: int = 0
    modules: tuple[str, ...] | None = None
    icount: str = ""
    import_dir: str | None = None
    boot: Mapping[str, Any] | None = None
    bare: bool = False
    bits: int = 64
    aged: Aged | None = None
    sysctl: Mapping[str, str] = attrs.field(factory=dict)
    sysfs: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def options(self) -> Cmdline:
        """The command line, read."""
        return parse_cmdline(self.cmdline)[0]

    @property
    def swap_devices(self) -> tuple[SwapDevice, ...]:
        """Swap devices, highest priority first."""
        return self.swaps or lab_devices(self.swap_bytes, self.swap_ssd, self.zram_bytes, bool(self.disk_bytes))

    @property
    def nr_nodes(self) -> int:
        """Number of nodes, 1 without NUMA."""
        return max(1, len(self.nodes))

    def node_cpus(self) -> tuple[tuple[int, ...], ...]:
        """CPUs of each node; where no node names any, all belong to node 0."""
        if not self.nodes:
            return (tuple(range(self.cpus)),)
        named = {c for n in self.nodes for c in n.cpus}
        rest = tuple(c for c in range(self.cpus) if c not in named)
        return tuple(tuple(sorted(n.cpus + (rest if i == 0 else ()))) for i, n in enumerate(self.nodes))

    def distance_matrix(self) -> tuple[tuple[int, ...], ...]:
        """node_distance(): 10 on the diagonal, 20 without distances; one direction stands for both unless both are given."""
        n = self.nr_nodes
        m = [[LOCAL_DISTANCE if a == b else REMOTE_DISTANCE for b in range(n)] for a in range(n)]
        given = {(a, b) for a, b, _ in self.distances}
        for a, b, d in self.distances:
            m[a][b] = d
            if (b, a) not in given:
                m[b][a] = d
        return tuple(map(tuple, m))


def parse_size(text: str | int) -> int:
    """Bytes of ``"512M"``, ``"1G"``, ``"64KiB"`` or a plain number of bytes; ValueError says what is wrong."""
    if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
        return text
    m = _SIZE.fullmatch(text.strip().upper()) if isinstance(text, str) else None
    if not m:
        raise ValueError(f'must be a size such as "512M", got {text!r}')
    return int(m[1]) << _UNITS[m[2]]


class _Reader:
    """Reads values of one table and collects every error with its key path."""

    def __init__(self, where: str, path: str, table: Mapping[str, Any], errors: list[str]):
        self.where, self.path, self.table, self.errors = where, path, table, errors

    def bad(self, key: str, message: str) -> None:
        prefix = f"{self.where}: " if self.where else ""
        self.errors.append(f"{prefix}{'.'.join(filter(None, (self.path, key)))}: {message}")

    def unknown(self, known: tuple[str, ...]) -> None:
        for key in self.table:
            if key not in known:
                self.bad(str(key), f"no such key (known: {', '.join(known)}){did_you_mean(str(key), known)}")

    def size(self, key: str, default: int, *, pages: bool = True) -> int:
        if key not in self.table:
            return default
        try:
            n = parse_size(self.table[key])
        except ValueError as e:
            self.bad(key, str(e))
            return default
        if pages and n % PAGE_BYTES:
            self.bad(key, f"must be a whole number of 4 KiB pages, got {self.table[key]!r}")
        return n

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        v = self.table.get(key, default)
        if not isinstance(v, int) or isinstance(v, bool) or not low <= v <= high:
            self.bad(key, f"must be a whole number between {low} and {high}, got {v!r}")
            return default
        return v

    def typed(self, key: str, kind: type, name: str, default: Any) -> Any:
        v = self.table.get(key, default)
        if key in self.table and not isinstance(v, kind):
            self.bad(key, f"must be {name}, got {v!r}")
            return default
        return v

    def rows(self, key: str, width: int, names: str) -> tuple[Any, ...]:
        out = []
        for i, row in enumerate(self.typed(key, list, "a list of rows", [])):
            if not isinstance(row, list) or len(row) != width or not all(isinstance(x, int) and not isinstance(x, bool) for x in row):
                self.bad(f"{key}[{i}]", f"must be [{names}], whole numbers, got {row!r}")
            else:
                out.append(tuple(row))
        return tuple(out)

    def aged(self) -> Aged | None:
        if "aged" not in self.table:
            return None
        try:
            return aged_from(self.table["aged"])
        except InputError as error:
            for message in error.messages:
                key, _, text = message.partition(": ")
                self.bad(key, text)
            return None

    def settings(self, key: str) -> dict[str, str]:
        out = {}
        for name, value in self.typed(key, dict, "a table", {}).items():
            if isinstance(value, (str, int)):
                out[name] = str(int(value)) if isinstance(value, bool) else str(value)
            else:
                self.bad(f'{key}."{name}"', f"must be a string or a number, got {value!r}")
        return out


KEYS = ("preset", "memory", "cpus", "nodes", "distances", "hmat", "swap", "zram", "swap_ssd", "swaps", "compression", "disk", "pgtable_levels",
        "cmdline", "kernel", "dimms", "maxmem", "modules", "icount", "import_dir", "boot", "bare", "bits", "aged")  # fmt: skip


def machine_from_table(
    table: Mapping[str, Any], where: str = "", sysctl: Mapping[str, Any] | None = None, sysfs: Mapping[str, Any] | None = None
) -> MachineConfig:
    """Check a ``[machine]`` table (and the ``[sysctl]`` and ``[sysfs]`` tables beside it).

    ``where`` is the file named in messages. A preset's values are the defaults of the keys that the table does not set; keys that
    contradict each other (memory and nodes) come together from the same one. Raises InputError with every error of the tables.
    """
    errors: list[str] = []
    r = _Reader(where, "machine", table, errors)
    r.unknown(KEYS)
    preset = r.typed("preset", str, "a preset's name", None)
    if preset is not None:
        try:
            base = preset_table(preset)
        except KeyError as e:
            r.bad("preset", str(e.args[0]))
        else:
            if "memory" in table or "nodes" in table or "import_dir" in table:
                base = {k: v for k, v in base.items() if k not in ("memory", "nodes", "distances", "hmat")}
            if "nodes" in table:
                base.pop("cpus", None)
            if "swaps" in table:
                base = {k: v for k, v in base.items() if k not in ("swap", "zram", "swap_ssd")}
            r.table = {**base, **table}
    cfg = _read(r, preset)
    top = {k: v for k, v in (("sysctl", sysctl), ("sysfs", sysfs)) if v is not None}
    s = _Reader(where, "", top, errors)
    cfg = attrs.evolve(cfg, sysctl=s.settings("sysctl"), sysfs=s.settings("sysfs"))
    for key, message in sysfs_faults(cfg.sysfs, cfg.nr_nodes):
        s.bad(f'sysfs."{key}"', message)
    if errors:
        raise InputError(errors)
    return cfg


def _read(r: _Reader, preset: str | None) -> MachineConfig:
    nodes = _nodes(r)
    memory = r.size("memory", sum(n.memory_bytes for n in nodes) or (1 << 30))
    named = [c for n in nodes for c in n.cpus]
    cpus = r.integer("cpus", max(named, default=0) + 1, 1, 8192)
    distances, hmat = r.rows("distances", 3, "from, to, distance"), r.rows("hmat", 4, "initiator, target, latency_ns, GiB/s")
    kernel = r.typed("kernel", str, "a string", "6.12")
    if kernel not in KERNELS:
        r.bad("kernel", f"must be one of {', '.join(KERNELS)}, got {kernel!r}")
    cmdline = r.typed("cmdline", str, "a string", "")
    for message in parse_cmdline(cmdline)[1]:
        r.bad("cmdline", message)
    dimms = tuple(
        _Reader(r.where, r.path, {f"dimms[{i}]": d}, r.errors).size(f"dimms[{i}]", 0)
        for i, d in enumerate(r.typed("dimms", list, "a list of sizes", []))
    )
    modules = r.typed("modules", list, "a list of names", None)
    cfg = MachineConfig(
        preset=preset, memory_bytes=memory, cpus=cpus, nodes=nodes, distances=distances, hmat=hmat,
        swaps=listed_devices(r, lambda table, path: _Reader(r.where, f"{r.path}.{path}", table, r.errors)), compression=compression(r),
        swap_bytes=r.size("swap", 0), zram_bytes=r.size("zram", 0), swap_ssd=r.typed("swap_ssd", bool, "true or false", False),
        disk_bytes=r.size("disk", 0), pgtable_levels=r.integer("pgtable_levels", 5, 4, 5), cmdline=cmdline, kernel=kernel,
        dimms_bytes=dimms, maxmem_bytes=r.size("maxmem", 0), modules=None if modules is None else tuple(map(str, modules)),
        icount=r.typed("icount", str, "a string", ""), import_dir=r.typed("import_dir", str, "a folder", None),
        boot=r.typed("boot", dict, "a table as in boot.json", None), bare=r.typed("bare", bool, "true or false", False),
        bits=r.integer("bits", 64, 32, 64), aged=r.aged(),
    )  # fmt: skip
    _check(r, cfg, named)
    return cfg


def _nodes(r: _Reader) -> tuple[NodeConfig, ...]:
    nodes = []
    for i, t in enumerate(r.typed("nodes", list, "a list of tables", [])):
        if not isinstance(t, Mapping):
            r.bad(f"nodes[{i}]", f'must be a table such as {{memory = "512M", cpus = [0]}}, got {t!r}')
            continue
        n = _Reader(r.where, f"{r.path}.nodes[{i}]", t, r.errors)
        n.unknown(("memory", "cpus", "initiator"))
        cpus = n.typed("cpus", list, "a list of CPU numbers", [])
        if not all(isinstance(c, int) and not isinstance(c, bool) and c >= 0 for c in cpus):
            n.bad("cpus", f"must be a list of CPU numbers, got {cpus!r}")
            cpus = []
        initiator = n.integer("initiator", 0, 0, MAX_NUMNODES - 1) if "initiator" in t else None
        nodes.append(NodeConfig(n.size("memory", 0), tuple(cpus), initiator))
    return tuple(nodes)


def _check_distances(r: _Reader, cfg: MachineConfig) -> None:
    """Linux takes distances that differ by direction, but each direction has one."""
    given: dict[tuple[int, int], int] = {}
    for i, (a, b, d) in enumerate(cfg.distances):
        if given.setdefault((a, b), d) != d:
            r.bad(f"distances[{i}]", f"must agree with the row before that says {given[a, b]} from node {a} to {b}, got {d}")


def _check_hmat(r: _Reader, cfg: MachineConfig) -> None:
    """Latencies and bandwidths are divided by; who measures them has CPUs."""
    with_cpus = [node for node, cpus in enumerate(cfg.node_cpus()) if cpus]
    for i, (initiator, target, latency, bandwidth) in enumerate(cfg.hmat):
        if latency < 1 or bandwidth < 1:
            r.bad(f"hmat[{i}]", f"latency and bandwidth must be at least 1, got {latency} ns and {bandwidth} GiB/s")
        if 0 <= initiator < cfg.nr_nodes and initiator not in with_cpus:
            r.bad(f"hmat[{i}]", f"the initiator must be a node with CPUs ({', '.join(map(str, with_cpus))}), got {initiator}")
        if (initiator, target) in [row[:2] for row in cfg.hmat[:i]]:
            r.bad(f"hmat[{i}]", f"node {initiator} to {target} is given twice")
    for i, node in enumerate(cfg.nodes):
        if node.initiator is not None and node.initiator not in with_cpus:
            r.bad(f"nodes[{i}].initiator", f"must be a node with CPUs ({', '.join(map(str, with_cpus))}), got {node.initiator}")


def _check(r: _Reader, cfg: MachineConfig, named: list[int]) -> None:
    """Rules that tie several keys together."""
    total = sum(n.memory_bytes for n in cfg.nodes)
    if cfg.nodes and not total and not cfg.boot:
        r.bad("nodes", 'at least one must have memory, such as {memory = "512M", cpus = [0]}')
    elif cfg.nodes and "memory" in r.table and total != cfg.memory_bytes:
        r.bad("memory", f"must equal the sum of machine.nodes' memory ({total >> 20}M), got {r.table['memory']!r}")
    if not cfg.boot and not cfg.bare and cfg.memory_bytes < 32 << 20:
        if "memory" in r.table or not cfg.nodes:
            r.bad("memory", f"must be at least 32M, got {r.table.get('memory')!r}")
        else:
            r.bad("nodes", f"memory must be at least 32M together, got {total >> 10}K")
    for c in sorted({c for c in named if c >= cfg.cpus}):
        r.bad("nodes", f"CPU {c} does not exist: machine.cpus is {cfg.cpus}")
    for c in sorted({c for c in named if named.count(c) > 1}):
        r.bad("nodes", f"CPU {c} is in more than one node")
    if named:
        for c in sorted(set(range(cfg.cpus)) - set(named)):
            r.bad("nodes", f"CPU {c} is in no node: machine.cpus is {cfg.cpus}, and where one node names its CPUs every CPU must be named")
    for key, rows in (("distances", cfg.distances), ("hmat", cfg.hmat)):
        for i, row in enumerate(rows):
            for node in row[:2]:
                if not 0 <= node < cfg.nr_nodes:
                    r.bad(f"{key}[{i}]", f"node {node} does not exist: the machine has {cfg.nr_nodes}")
    for i, (a, b, d) in enumerate(cfg.distances):
        if a == b and d != LOCAL_DISTANCE or a != b and not LOCAL_DISTANCE < d <= 254:
            r.bad(f"distances[{i}]", f"must be 10 from a node to itself and 11 to 254 between two, got {d}")
    if cfg.bits not in (32, 64):
        r.bad("bits", f"must be 32 or 64, got {cfg.bits}")
    elif cfg.bits == 32 and (not cfg.bare or cfg.nodes or cfg.dimms_bytes or cfg.import_dir):
        r.bad("bits", "a 32-bit machine needs bare = true, one node and no modules: what its kernel keeps for itself is not known")
    _check_distances(r, cfg)
    _check_hmat(r, cfg)
    _check_nodes(r, cfg)
    for i, d in enumerate(cfg.dimms_bytes):
        if d % (128 << 20):
            r.bad(f"dimms[{i}]", f"must be a multiple of 128M, got {d >> 20}M")
    if cfg.dimms_bytes and cfg.maxmem_bytes < cfg.memory_bytes + sum(cfg.dimms_bytes):
        r.bad("maxmem", "must be at least memory and dimms together")
    ranges = sorted(cfg.options.memmap, key=lambda m: m.start_bytes)
    for low, high in zip(ranges, ranges[1:]):
        if high.start_bytes < low.start_bytes + low.size_bytes:
            r.bad("cmdline", f"memmap= ranges overlap: {low.size_bytes:#x} bytes at {low.start_bytes:#x} and {high.size_bytes:#x} at {high.start_bytes:#x}")
    for path, message in boot_problems(cfg.boot) if cfg.boot is not None else ():
        r.bad(f"boot.{path}", message)
    for key in ("swap", "zram"):
        if cfg.swaps and key in r.table:
            r.bad(key, "machine.swaps names all devices; leave one of the two out")
        elif key in r.table and 0 < getattr(cfg, f"{key}_bytes") < 2 * PAGE_BYTES:
            r.bad(key, f"must be at least two pages (8K), header included, got {r.table[key]!r}")
    if cfg.import_dir is not None:
        for key in ("memory", "nodes", "dimms", "boot"):
            if key in r.table:
                r.bad(key, "comes from machine.import_dir; leave one of the two out")


def _check_nodes(r: _Reader, cfg: MachineConfig) -> None:
    """A node has memory or CPUs; where distances are given, every two nodes have one, and one each way if any two have different ones: the
    firmware's table is whole, and only a symmetric one may be given by its half."""
    for i, (node, cpus) in enumerate(zip(cfg.nodes, cfg.node_cpus())):
        if not node.memory_bytes and not cpus:
            r.bad(f"nodes[{i}]", "has neither memory nor CPUs, must have one of them")
    known = {frozenset(row[:2]) for row in cfg.distances}
    for a in range(len(cfg.nodes) if cfg.distances else 0):
        for b in range(a):
            if frozenset((a, b)) not in known:
                r.bad("distances", f"has no row for nodes {b} and {a}; where distances are given every two nodes need one")
    given = {row[:2]: row[2] for row in cfg.distances}
    uneven = [(a, b) for a, b in given if given.get((b, a), given[a, b]) != given[a, b]]
    missing = [(b, a) for a, b in given if (b, a) not in given and a != b]
    if uneven and missing:
        r.bad("distances", f"differ by direction between nodes {uneven[0][0]} and {uneven[0][1]}, so every two nodes need a row each way: there is none from {missing[0][0]} to {missing[0][1]}")
