"""Names of /proc and /sys that the driving process of a script looks up: they and their inodes stay in memory like any others.

Only machines with a driver (those of scripts) have it; what it keeps of the files is in results_tmpfs.py. Left out: directories, symbolic links
of /sys but those of block devices.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from mmlab.mm.dcache import name_use
from mmlab.mm.files import inode_create
from mmlab.mm.slab_common import free_large_kmalloc, kmalloc_large
from mmlab.model import rows as r
from mmlab.model.gfp import GFP_KERNEL_ACCOUNT
from mmlab.procfs import mthp

#: names of /proc that starting a recorded machine, and the driver, leave in memory
BOOT_NAMES = ("sys/kernel/printk", "cmdline", "version", "self", "self/oom_score_adj")


def has_driver(sim: Any) -> bool:
    """Whether the machine runs a script on the recorded image."""
    return getattr(sim, "_driver", -1) >= 0


@contextmanager
def on_driver(sim: Any) -> Iterator[None]:
    """What is done meanwhile is the driver's doing. A task that ends its operation wakes the driver before it sleeps: where both were on one
    CPU the driver moves to another."""
    machine, row = sim.machine, sim._driver * r.TASK_STRIDE
    current = int(machine.sc[r.SC_TASK]), int(machine.sc[r.SC_CPU]), int(machine.sc[r.SC_NODE])
    cpu = int(machine.task[row + r.T_CPU])
    if cpu == current[1]:
        cpu = (cpu + 1) % int(machine.sc[r.SC_NR_CPUS])
    machine.task[row + r.T_CPU], machine.task[row + r.T_NODE] = cpu, sim._node_of(cpu)
    sim._switch(sim._driver)
    try:
        yield
    finally:
        machine.sc[r.SC_TASK], machine.sc[r.SC_CPU], machine.sc[r.SC_NODE] = current


def look_up(sim: Any, path: str, exists: bool = True) -> None:
    """A file of /proc or /sys is opened and closed: its name stays in memory, until reclaim takes it."""
    flags = _flags(path)
    if flags and has_driver(sim):
        with on_driver(sim):
            _use_name(sim, path, flags if exists else flags | r.IF_NEGATIVE)


def _use_name(sim: Any, path: str, flags: int) -> None:
    if not hasattr(sim, "_looked_up"):
        sim._looked_up = {}
        for name in BOOT_NAMES:
            _use_name(sim, f"/proc/{name}", r.IF_PROC)
    if path not in sim._looked_up:
        inode = sim.machine.run(inode_create, 0, flags)
        if inode < 0:
            return
        sim._looked_up[path] = inode
        device = "/".join(path.split("/")[:4])
        if path.startswith("/sys/block/") and path != device:
            _use_name(sim, device, r.IF_SYSFS | r.IF_NEGATIVE)  # a symbolic link: no file to open
    sim.machine.run(name_use, sim._looked_up[path])


def open_numa_maps(sim: Any) -> None:
    """Who reads numa_maps holds a count for each of 1024 possible nodes meanwhile: more than the largest slab cache has."""
    if has_driver(sim):
        with on_driver(sim):
            pfn = sim.machine.run(kmalloc_large, GFP_KERNEL_ACCOUNT, 2)
            if pfn >= 0:
                sim.machine.run(free_large_kmalloc, pfn, 2)


def look_up_settings(sim: Any, sysctl: Iterable[str], sysfs: Iterable[str]) -> None:
    """What the machine was set to before the script."""
    for key in sysctl:
        look_up(sim, "/proc/sys/" + key.replace(".", "/"))
    for key in sysfs:
        look_up(sim, "/sys/" + key)


def look_up_sizes(sim: Any) -> None:
    """The counters of all sizes of transparent huge pages, of which some sizes lack some."""
    known = {line.split()[0] for line in mthp.lines(sim)}
    for kb in (8 << i for i in range(9)):
        for name in mthp.NAMES:
            look_up(sim, f"/sys/kernel/mm/transparent_hugepage/hugepages-{kb}kB/stats/{name}", f"{kb}kB.{name}" in known)


def _flags(path: str) -> int:
    if path.startswith("/sys/kernel/debug/") or path.startswith("/sys/fs/cgroup/"):
        return 0
    return r.IF_PROC if path.startswith("/proc/") else r.IF_SYSFS if path.startswith("/sys/") else 0
