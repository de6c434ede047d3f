"""Which path is which file: reads and writes of /proc and /sys on the simulated machine."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mmlab.errors import NotSupported
from mmlab.machine import memory_tiers
from mmlab.mm import compaction, fork
from mmlab.mm.psi import pressure
from mmlab.model import rows as r
from mmlab.model.const import EINVAL, ENOENT
from mmlab.procfs import cgroups, cma, compressed, files_io, lru_gen, maps, meminfo, memory_blocks, mthp, status, tracing, zones
from mmlab.procfs.clear_refs import clear_refs
from mmlab.procfs.mempolicy import node_ranges, read_weight, weight_node, write_weight
from mmlab.procfs.settings import NUMAB_FILES, read_numab, settings_of, to_bool, write_numab
from mmlab.procfs.tasks import living

THP_ROOT = "/sys/kernel/mm/transparent_hugepage/"
MACHINE_FILES: dict[str, Callable[[Any], str]] = {
    "/proc/vmstat": zones.vmstat, "/proc/buddyinfo": zones.buddyinfo, "/proc/pagetypeinfo": zones.pagetypeinfo,
    "/proc/zoneinfo": zones.zoneinfo, "/proc/meminfo": meminfo.meminfo, "/proc/slabinfo": meminfo.slabinfo, "/proc/swaps": meminfo.swaps,
    "/proc/pressure/memory": lambda sim: pressure(sim.machine, 0),
    "/sys/devices/system/memory/block_size_bytes": lambda sim: f"{sim.layout.block_size_bytes:x}\n",
    lru_gen.ENABLED: lru_gen.read_enabled,
    THP_ROOT + "hpage_pmd_size": lambda sim: "2097152\n",
    "/sys/kernel/debug/extfrag/extfrag_index": zones.extfrag_index_file,
    "/sys/kernel/debug/extfrag/unusable_index": zones.unusable_index_file,
    "/sys/devices/system/node/online": lambda sim: cpulist(range(sim.layout.nr_nodes)),
    "/sys/devices/system/node/possible": lambda sim: cpulist(range(sim.layout.nr_nodes)),
    "/sys/devices/system/node/has_cpu": lambda sim: cpulist(n for n, cpus in enumerate(sim.layout.node_cpus) if cpus),
    "/sys/devices/system/node/has_memory": lambda sim: cpulist(sorted({zone.node for zone in sim.layout.zones})),
}  # fmt: skip
NODE_FILES: dict[str, Callable[[Any, int], str]] = {
    "vmstat": zones.node_vmstat, "numastat": meminfo.numastat, "meminfo": meminfo.node_meminfo,
    "distance": lambda sim, node: " ".join(map(str, sim.layout.distances[node])) + "\n",
    "cpulist": lambda sim, node: cpulist(sim.layout.node_cpus[node]),
}  # fmt: skip
TASK_FILES: dict[str, Callable[[Any, Any], str]] = {**status.TASK_FILES, **maps.TASK_FILES}
NUMAB_ROOT = "/sys/kernel/debug/sched/numa_balancing/"
SYSRQ_TRIGGER = "/proc/sysrq-trigger"
DEMOTION_ENABLED = "/sys/kernel/mm/numa/demotion_enabled"
TIERS = "/sys/devices/virtual/memory_tiering/"
_TIER = re.compile(TIERS + r"memory_tier(\d+)/nodelist")
_NODE = re.compile(r"/sys/devices/system/node/node(\d+)/(\w+)")
_TASK = re.compile(r"/proc/(\d+)/(\w+)")
OOM_SCORE_ADJ_RANGE = range(-1000, 1001)


def tier_nodes(sim: Any) -> dict[int, list[int]]:
    """Nodes of each memory tier, by its number."""
    return memory_tiers(sim.cfg, sim.layout).nodelists()


def policy_folders(sim: Any) -> dict[str, Any]:
    """Files and folders of the chosen policies' own files; made at the first look and kept in the simulation's attribute ``policy_folders``."""
    if not hasattr(sim, "policy_folders"):
        sim.policy_folders = {}
        for slot, choice in getattr(sim, "policies", {}).items():
            if choice.policy.files is not None:
                sim.policy_folders.update(choice.policy.files(sim, sim.machine.states.get(slot)))
    return sim.policy_folders


def policy_owner(sim: Any, path: str) -> Any:
    """The object that has this file of a policy, or None."""
    return next((owner for place, owner in policy_folders(sim).items() if path == place or (place.endswith("/") and path.startswith(place))), None)


def read(sim: Any, path: str) -> str:
    """The file's text; NotSupported for a path that is not simulated, FileNotFoundError for a task or node that does not exist.

    sim: needs cfg, layout, tuning, boot, machine and tasks (name -> task with name, index, mm and pid).
    """
    if (owner := policy_owner(sim, path)) is not None:
        return owner.read(path)
    if path in MACHINE_FILES:
        return MACHINE_FILES[path](sim)
    settings = settings_of(sim)
    if path.startswith("/proc/sys/"):
        if settings.knows_sysctl(sysctl_name(path)):
            return settings.read_sysctl(sysctl_name(path))
    elif path.startswith(THP_ROOT) and f"thp.{path[len(THP_ROOT) :]}" in settings:
        return settings.read_thp(path[len(THP_ROOT) :])
    elif mthp.knows(path):
        return mthp.read(sim, path)
    elif files_io.knows(path):
        return files_io.read(sim, path)
    elif compressed.knows(path):
        return compressed.read(sim, path)
    elif tracing.knows(path):
        return tracing.read(sim, path)
    elif memory_blocks.knows(path):
        return memory_blocks.read(sim, path)
    elif cma.knows(sim, path):
        return cma.read(sim, path)
    elif (node := weight_node(path)) >= 0:
        return read_weight(sim, node)
    elif path.removeprefix(NUMAB_ROOT) in NUMAB_FILES and path.startswith(NUMAB_ROOT):
        return read_numab(sim, path.removeprefix(NUMAB_ROOT))
    elif path == DEMOTION_ENABLED:
        return "true\n" if sim.machine.sc[r.SC_DEMOTION_ENABLED] else "false\n"
    elif match := _TIER.fullmatch(path):
        if int(match[1]) not in tier_nodes(sim):
            raise FileNotFoundError(path)
        return cpulist(tier_nodes(sim)[int(match[1])])
    elif found := cgroups.find(sim, path):
        return cgroups.read(sim, *found)
    elif (match := _NODE.fullmatch(path)) and match[2] in NODE_FILES:
        if int(match[1]) >= sim.layout.nr_nodes:
            raise FileNotFoundError(path)
        return NODE_FILES[match[2]](sim, int(match[1]))
    elif (match := _TASK.fullmatch(path)) and match[2] in TASK_FILES:
        return TASK_FILES[match[2]](sim, _task(sim, int(match[1]), path))
    raise NotSupported(f"{path}: not supported yet")


def write(sim: Any, path: str, text: str) -> int:
    """Write a file: 0 or -errno; NotSupported for a path that cannot be written here."""
    if path == lru_gen.ENABLED:
        return lru_gen.write_enabled(sim, str(text))
    if (owner := policy_owner(sim, path)) is not None:
        return owner.write(path, str(text))
    settings = settings_of(sim)
    if path.startswith("/proc/sys/"):
        return settings.write_sysctl(sysctl_name(path), str(text))
    if path.startswith(THP_ROOT) and f"thp.{path[len(THP_ROOT) :]}" in settings:
        return settings.write_thp(path[len(THP_ROOT) :], str(text))
    if files_io.knows(path):
        return files_io.write(sim, path, str(text))
    if compressed.knows(path):
        return compressed.write(sim, path, str(text))
    if tracing.knows(path):
        return tracing.write(sim, path, str(text))
    if memory_blocks.knows(path):
        return memory_blocks.write(sim, path, str(text))
    if cma.knows(sim, path):
        return cma.write(sim, path, str(text))
    if (match := _NODE.fullmatch(path)) and match[2] == "compact":
        return sim.machine.run(compaction.compact_node, int(match[1])) if int(match[1]) < sim.layout.nr_nodes else -ENOENT
    if (node := weight_node(path)) >= 0:
        return write_weight(sim, node, str(text))
    if found := cgroups.find(sim, path):
        return cgroups.write(sim, *found, str(text))
    if path.startswith(NUMAB_ROOT) and path.removeprefix(NUMAB_ROOT) in NUMAB_FILES:
        return write_numab(sim, path.removeprefix(NUMAB_ROOT), str(text))
    if path == SYSRQ_TRIGGER:
        return _write_sysrq(sim, str(text))
    if path == DEMOTION_ENABLED:
        return _write_demotion_enabled(sim, to_bool(str(text)))
    if (match := _TASK.fullmatch(path)) and match[2] == "oom_score_adj":
        return _write_oom_score_adj(sim, int(match[1]), str(text))
    if match and match[2] == "clear_refs":
        return clear_refs(sim, _task(sim, int(match[1]), path), str(text))
    raise NotSupported(f"{path} = {str(text).strip()}: not supported yet")


def _write_sysrq(sim: Any, text: str) -> int:
    """SysRq by its letter; of a word the first counts. Models: drivers/tty/sysrq.c write_sysrq_trigger()."""
    letter = text.strip()[:1]
    if letter != "f":
        raise NotSupported(f"{SYSRQ_TRIGGER} = {letter}: not supported yet")
    sim.machine.run(fork.moom)
    sim._notice_kills()
    return 0


def known_files(sim: Any) -> Iterator[str]:
    """The path of every readable file, perhaps twice."""
    yield from MACHINE_FILES
    yield from (THP_ROOT + name.removeprefix("thp.") for name in settings_of(sim) if name.startswith("thp."))
    sysctls = (name for name in (*settings_of(sim), *sim.tuning.values) if not name.startswith("thp."))
    yield from (f"/proc/sys/{name.replace('.', '/', 1)}" for name in sysctls)
    yield from (f"/sys/devices/system/node/node{node}/{name}" for node in range(sim.layout.nr_nodes) for name in NODE_FILES)
    yield from (NUMAB_ROOT + name for name in NUMAB_FILES)
    yield DEMOTION_ENABLED
    yield from (f"{TIERS}memory_tier{tier}/nodelist" for tier in tier_nodes(sim))
    yield from (f"/proc/{task.pid}/{name}" for task in living(sim) for name in TASK_FILES)
    for owner in {id(o): o for o in policy_folders(sim).values()}.values():
        yield from owner.paths()
    yield from (*compressed.paths(), *tracing.paths(), *cma.paths(sim), *memory_blocks.paths(sim))


def files(sim: Any, folder: str) -> Iterator[tuple[str, str]]:
    """(path relative to the folder, text) of every readable file below it, sorted by the parts of the path."""
    base = folder.rstrip("/") + "/"
    found = [path[len(base) :] for path in known_files(sim) if path.startswith(base)]
    if not found:
        raise NotSupported(f"{folder}: not supported yet")
    for relative in sorted(dict.fromkeys(found), key=lambda path: path.split("/")):
        yield relative, read(sim, base + relative)


def _task(sim: Any, pid: int, path: str) -> Any:
    for task in living(sim):
        if task.pid == pid:
            return task
    raise FileNotFoundError(path)


def _write_oom_score_adj(sim: Any, pid: int, text: str) -> int:
    try:
        task, value = _task(sim, pid, ""), int(text, 0)
    except FileNotFoundError:
        return -ENOENT
    except ValueError:
        return -EINVAL
    if value not in OOM_SCORE_ADJ_RANGE:
        return -EINVAL
    sim.machine.task[task.index * r.TASK_STRIDE + r.T_OOM_SCORE_ADJ] = value
    return 0


def _write_demotion_enabled(sim: Any, on: int | None) -> int:
    if on is None:
        return -EINVAL
    sim.machine.sc[r.SC_DEMOTION_ENABLED] = on
    return 0


def sysctl_name(path: str) -> str:
    """``vm.swappiness`` of ``/proc/sys/vm/swappiness``."""
    return path.removeprefix("/proc/sys/").replace("/", ".")


def cpulist(numbers: Iterable[int]) -> str:
    """A line of ascending numbers as Linux lists CPUs and nodes."""
    return node_ranges(numbers) + "\n"
