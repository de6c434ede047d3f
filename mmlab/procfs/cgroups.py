"""Files of the cgroup v2 memory controller below /sys/fs/cgroup: limits, usage, memory.stat, memory.events, memory.pressure,
memory.reclaim.

Models: mm/memcontrol.c memory_files[], memory_stat_format(), memory_events_show(), page_counter_memparse(). Left out: memory.numa_stat,
memory.swap.high; controllers but memory and cpuset. What memory.stat says of pages is counted in mem_map when it is read.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from mmlab.errors import NotSupported
from mmlab.mm import memcontrol
from mmlab.mm.fork import STACK_ORDER
from mmlab.mm.psi import pressure
from mmlab.model import rows as r
from mmlab.model import vmstat as v
from mmlab.model.const import EINVAL, LRU_UNEVICTABLE, PAGE_SIZE
from mmlab.model.page import (
    KIND_FILE, KIND_SHMEM, KIND_TABLE, MAPCOUNT_MASK, NO_MAPPING, PG_ANON, PG_DIRTY, PG_HEAD, PG_SWAPCACHE, PG_WRITEBACK,
)
from mmlab.machine.record import LRU_LISTS
from mmlab.procfs import cpusets

ROOT = "/sys/fs/cgroup"
LIMITS = {
    "memory.min": r.MC_MIN, "memory.low": r.MC_LOW, "memory.high": r.MC_HIGH, "memory.max": r.MC_MAX, "memory.swap.max": r.MC_SWAP_MAX,
}  # fmt: skip
USAGE = {
    "memory.current": r.MC_USAGE, "memory.peak": r.MC_PEAK, "memory.swap.current": r.MC_SWAP_USAGE, "memory.swap.peak": r.MC_SWAP_PEAK,
}  # fmt: skip
EVENTS = ("low", "high", "max", "oom", "oom_kill", "oom_group_kill")
SWAP_EVENTS = {"high": None, "max": r.MC_EVENT_SWAP_MAX, "fail": r.MC_EVENT_SWAP_FAIL}
STAT_EVENTS = (
    "workingset_refault_anon", "workingset_refault_file", "workingset_activate_anon", "workingset_activate_file", "workingset_restore_anon",
    "workingset_restore_file", "workingset_nodereclaim",
)  # fmt: skip
PAGE_EVENTS = (
    "pgscan_kswapd", "pgscan_direct", "pgscan_khugepaged", "pgsteal_kswapd", "pgsteal_direct", "pgsteal_khugepaged", "pgfault", "pgmajfault",
    "pgrefill", "pgactivate", "pgdeactivate", "pglazyfree", "pglazyfreed", "swpin_zero", "swpout_zero", "zswpin", "zswpout", "zswpwb",
)  # fmt: skip
NR_MEMCGS = 64  # cgroups that a script may make, the root included
_SIZE = re.compile(r"(0x[0-9a-fA-F]+|\d+)([kKmMgG]?)")
_SHIFT = {"": 0, "k": 10, "m": 20, "g": 30}


def make(sim: Any, path: str) -> int:
    """The row of a cgroup, made with its parents if need be. NotSupported where the reclaimer keeps no lists of cgroups, or too many are made."""
    if path in sim.cgroups:
        return sim.cgroups[path]
    parent = make(sim, path.rpartition("/")[0])
    machine, row = sim.machine, int(sim.machine.sc[r.SC_NR_MEMCGS])
    if machine.sizes.nr_memcgs == 1:
        raise NotSupported(f"cgroup {path}: reclaimer {machine.chosen['reclaimer'].policy.name!r} keeps no lists of cgroups")
    if row == machine.sizes.nr_memcgs:
        raise NotSupported(f"cgroup {path}: more than {machine.sizes.nr_memcgs - 1} cgroups")
    base = row * r.MEMCG_STRIDE
    machine.memcg[base + r.MC_PARENT] = parent
    machine.memcg[[base + r.MC_HIGH, base + r.MC_MAX, base + r.MC_SWAP_MAX, base + r.MC_ZSWAP_MAX_BYTES]] = r.MEMCG_MAX
    machine.sc[r.SC_NR_MEMCGS] = row + 1
    sim.cgroups[path] = row
    return row


def find(sim: Any, path: str) -> tuple[int, str] | None:
    """(row, file name) of a path below the root whose cgroup exists; None for other paths."""
    if not path.startswith(ROOT + "/"):
        return None
    folder, _, name = path[len(ROOT) + 1 :].rpartition("/")
    return (sim.cgroups[folder], name) if folder in sim.cgroups else None


def subtree(sim: Any, row: int) -> list[int]:
    """The cgroup and its descendants."""
    rows, parents = [row], sim.machine.memcg[r.MC_PARENT :: r.MEMCG_STRIDE]
    for other in range(row + 1, int(sim.machine.sc[r.SC_NR_MEMCGS])):
        if int(parents[other]) in rows:
            rows.append(other)
    return rows


def read(sim: Any, row: int, name: str) -> str:
    """Text of a cgroup's file; NotSupported if it is not simulated."""
    base = row * r.MEMCG_STRIDE
    memcg = sim.machine.memcg
    if name in LIMITS:
        pages = int(memcg[base + LIMITS[name]])
        return "max\n" if pages >= r.MEMCG_MAX else f"{pages * PAGE_SIZE}\n"
    if name in USAGE:
        return f"{int(memcg[base + USAGE[name]]) * PAGE_SIZE}\n"
    if name == "memory.zswap.current":
        return f"{int(memcg[base + r.MC_ZSWAP_BYTES])}\n"
    if name == "memory.zswap.max":
        limit = int(memcg[base + r.MC_ZSWAP_MAX_BYTES])
        return "max\n" if limit >= r.MEMCG_MAX else f"{limit}\n"
    if name == "memory.zswap.writeback":
        return f"{1 - int(memcg[base + r.MC_ZSWAP_NO_WRITEBACK])}\n"
    if name == "memory.oom.group":
        return f"{int(memcg[base + r.MC_OOM_GROUP])}\n"
    if name in ("memory.events", "memory.events.local"):
        first = base + (r.MC_EVENT_LOW if name == "memory.events" else r.MC_LOCAL)
        return "".join(f"{event} {int(memcg[first + i])}\n" for i, event in enumerate(EVENTS))
    if name == "memory.swap.events":
        return "".join(f"{event} {int(memcg[base + field]) if field else 0}\n" for event, field in SWAP_EVENTS.items())
    if name == "memory.pressure":
        return pressure(sim.machine, row)
    if name == "memory.stat":
        return memory_stat(sim, row)
    if name in cpusets.FILES:
        return cpusets.read(sim, row, name)
    if name == "cgroup.procs":
        tasks = sim.machine.task
        of = {task: int(tasks[task.index * r.TASK_STRIDE + r.T_MEMCG]) for task in sim.tasks.values() if tasks[task.index * r.TASK_STRIDE + r.T_ALIVE]}
        return "".join(f"{task.pid}\n" for task, owner in of.items() if owner == row)
    raise NotSupported(f"{ROOT}/.../{name}: not supported yet")


def write(sim: Any, row: int, name: str, text: str) -> int:
    """Write a cgroup's file: 0, or -errno with nothing changed."""
    value = text.strip()
    base = row * r.MEMCG_STRIDE
    memcg = sim.machine.memcg
    if name == "cgroup.subtree_control":
        return 0
    if name in LIMITS:
        pages = parse_limit(value)
        if pages is None:
            return -EINVAL
        if name == "memory.max":
            return _run(sim, memcontrol.memory_max_write, row, pages)
        if name == "memory.high":
            return _run(sim, memcontrol.memory_high_write, row, pages)
        memcg[base + LIMITS[name]] = pages
        return 0
    if name == "memory.zswap.max":
        pages = parse_limit(value)
        if pages is None:
            return -EINVAL
        memcg[base + r.MC_ZSWAP_MAX_BYTES] = pages if pages >= r.MEMCG_MAX else pages * PAGE_SIZE
        return 0
    if name == "memory.zswap.writeback":
        if value not in ("0", "1"):
            return -EINVAL
        memcg[base + r.MC_ZSWAP_NO_WRITEBACK] = 1 - int(value)
        return 0
    if name == "memory.oom.group":
        if value not in ("0", "1"):
            return -EINVAL
        memcg[base + r.MC_OOM_GROUP] = int(value)
        return 0
    if name == "memory.reclaim":
        return _reclaim(sim, row, value)
    if name in cpusets.FILES:
        return cpusets.write(sim, row, name, text)
    if name == "cgroup.procs":
        for task in sim.tasks.values():
            if str(task.pid) == value:
                cpusets.attach(sim, task, row)
                return 0
        return -3
    raise NotSupported(f"{ROOT}/.../{name} = {value}: not supported yet")


def parse_limit(text: str) -> int | None:
    """Pages of a limit: "max", or bytes with K, M, G, rounded down; None if it is neither."""
    if text == "max":
        return r.MEMCG_MAX
    match = _SIZE.fullmatch(text)
    return min(int(match[1], 0) << _SHIFT[match[2].lower()] >> 12, r.MEMCG_MAX) if match else None


def _run(sim: Any, function: Any, *args: int) -> int:
    """A file's work, done by whoever writes it: nobody that the script knows."""
    sim.machine.sc[r.SC_TASK] = -1
    answer = sim.machine.run(function, *args)
    sim._notice_kills()
    return answer


def _reclaim(sim: Any, row: int, text: str) -> int:
    words = text.split()
    pages = parse_limit(words[0]) if words else None
    if pages is None or pages >= r.MEMCG_MAX:
        return -EINVAL
    sc = sim.machine.sc
    before = int(sc[r.SC_SWAPPINESS])
    for word in words[1:]:
        match = re.fullmatch(r"swappiness=(\d+)", word)
        if not match or int(match[1]) > 200:
            return -EINVAL
        sc[r.SC_SWAPPINESS] = int(match[1])
    answer = _run(sim, memcontrol.memory_reclaim, row, pages)
    sc[r.SC_SWAPPINESS] = before
    return answer


def memory_stat(sim: Any, row: int) -> str:
    """memory.stat of a cgroup and its descendants. Reading it brings lagging statistics up to date."""
    machine = sim.machine
    machine.op("reclaimer", "flush_stats")
    machine.wb[r.WB_STATS_NS] = 0
    rows = subtree(sim, row)
    pages = _page_counts(machine, rows)
    nodes = machine.sizes.nr_nodes
    for lru, name in enumerate(LRU_LISTS[: LRU_UNEVICTABLE + 1]):
        pages[name] = sum(machine.op("reclaimer", "nr_lru_pages", memcg * nodes + node, lru) for memcg in rows for node in range(nodes))
    base = row * r.MEMCG_STRIDE
    text = "".join(f"{name} {count * PAGE_SIZE}\n" for name, count in pages.items())
    text += f"zswap {int(machine.memcg[base + r.MC_ZSWAP_BYTES])}\nzswapped {int(machine.memcg[base + r.MC_ZSWAPPED]) * PAGE_SIZE}\n"
    counted = machine.memcg_stat.reshape(-1, v.VMSTAT_STRIDE)[rows].sum(axis=0)
    events = {name: int(counted[v.VMSTAT_NAMES.index(name)]) for name in STAT_EVENTS + PAGE_EVENTS}
    text += "".join(f"{name} {events[name]}\n" for name in STAT_EVENTS)
    for name in ("pgscan", "pgsteal"):
        text += f"{name} {sum(events[f'{name}_{who}'] for who in ('kswapd', 'direct', 'khugepaged'))}\n"
    return text + "".join(f"{name} {events[name]}\n" for name in PAGE_EVENTS)


def _page_counts(machine: Any, rows: list[int]) -> dict[str, int]:
    """Pages charged to any of the cgroups, by what they are."""
    frames = machine.sizes.nr_frames
    cold = machine.pagex.reshape(-1, 4)[:frames]
    mine = np.flatnonzero(np.isin(cold[:, 3] >> 16, rows))
    flags, counts = machine.page.reshape(-1, 4)[mine, 2], machine.page.reshape(-1, 4)[mine, 3] & MAPCOUNT_MASK
    kind, mapped = (cold[mine, 3] >> 12) & 15, counts > 0
    weight = np.where(flags & PG_HEAD, 1 << ((cold[mine, 3] >> 8) & 15), 1)
    in_file = ((kind == KIND_FILE) | (kind == KIND_SHMEM)) & (cold[mine, 0] != NO_MAPPING)
    cached = flags & PG_SWAPCACHE > 0
    anon = flags & PG_ANON > 0

    def total(which: np.ndarray) -> int:
        return int(weight[which].sum())

    kmem = sum(int(machine.memcg[row * r.MEMCG_STRIDE + r.MC_KMEM_PAGES]) for row in rows)
    tables = total(kind == KIND_TABLE)
    tasks = machine.task.reshape(-1, r.TASK_STRIDE)[: int(machine.sc[r.SC_NR_TASKS])]
    stacks = np.isin(cold[tasks[tasks[:, r.T_ALIVE] == 1, r.T_STACK_PFN], 3] >> 16, rows).sum() << STACK_ORDER
    return {
        "anon": total(anon & mapped), "file": total(in_file), "kernel": tables + int(stacks) + kmem, "kernel_stack": int(stacks), "pagetables": tables,
        "shmem": total(in_file & (kind == KIND_SHMEM)), "file_mapped": total(in_file & mapped),
        "file_dirty": total(in_file & (kind == KIND_FILE) & (flags & PG_DIRTY > 0)), "file_writeback": total(flags & PG_WRITEBACK > 0),
        "swapcached": total(cached), "slab": kmem,
    }  # fmt: skip
