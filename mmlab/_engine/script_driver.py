"""Names of /proc and /sys that the driving process of a script looks up: they and their inodes stay in memory like any others.

Only machines with a driver (those of scripts) have it; what it keeps of the files is in results_tmpfs.py. Left out: symbolic links of /sys but
those of block devices.
"""

from __future__ import annotations
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from mmlab.kernels.services import kmem_cache_alloc, kmem_cache_free
from mmlab.mm.dcache import KERNFS_OPEN_NODE, dentry_kill, name_use
from mmlab.mm.files import do_inode_put, file_close, file_open, inode_create
from mmlab.mm.lru_gen import DRIVER_POLL_NS
from mmlab.mm.slab_common import free_large_kmalloc, kmalloc_large
from mmlab.model.const import NEVER_NS, SLAB_STAT_NUM_SLABS, SLAB_STAT_OBJPERSLAB
from mmlab.model.gfp import GFP_KERNEL, GFP_KERNEL_ACCOUNT
from mmlab.procfs import mthp
from typing import Any

import re

from mmlab.model import rows as r

#: objects that the CPU's slabs have room for when the shell of a plain recorded machine makes its last settings: what boot and the shell left
FREE_OBJECTS = {
    r.CACHE_DENTRY: 28, r.CACHE_LSM_INODE: 40, r.CACHE_SHMEM_INODE: 20, r.CACHE_PROC_INODE: 19, r.CACHE_SYSFS_INODE: 3, KERNFS_OPEN_NODE: 9,
    r.CACHE_RADIX_TREE_NODE: 9,
}  # fmt: skip
#: what the shell and the driver keep in files
BOOT_RESULTS = ("boot.txt", "dmesg.boot", "ops.jsonl")
#: names of /proc that starting a recorded machine, and the driver, leave in memory
BOOT_NAMES = ("sys/kernel/printk", "cmdline", "version", "self/exe", "self/oom_score_adj")
#: directories that stay in memory as long as the machine runs: roots, and those below which other file systems are mounted
PINNED = ("/proc", "/sys", "/sys/kernel", "/sys/fs")
#: where the links of /sys/block lead
DISKS, VIRTUAL_DISKS = "/sys/devices/pci0000:00/0000:00:04.0/virtio1/block", "/sys/devices/virtual/block"


def has_driver(sim: Any) -> bool:
    """Whether the machine runs a script on the recorded image."""
    return getattr(sim, "_driver", -1) >= 0


def driver_waits(sim: Any, operation: str) -> None:
    """The driver has run, to say what is to be done, and waits for it; it sleeps itself where nothing is done meanwhile."""
    if not has_driver(sim):
        return
    sc, mm = sim.machine.sc, int(sim.machine.task[sim._driver * r.TASK_STRIDE + r.T_MM])
    sim.machine.mm[mm * r.MM_STRIDE + r.MM_LRU_GEN] |= r.MM_LRU_ALL_USED
    sc[r.SC_DRIVER] = sim._driver
    sc[r.SC_POLL_NS] = NEVER_NS if operation == "sleep" else sc[r.SC_NOW_NS] + DRIVER_POLL_NS


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


def driver_starts(sim: Any) -> None:
    """What the shell and the driver have looked up and made before the script's first line."""
    machine = sim.machine
    sim._looked_up = {}
    for cache, count in FREE_OBJECTS.items():
        leave_room(machine, cache, count)
    for name in BOOT_NAMES:
        _use_name(sim, f"/proc/{name}", r.IF_PROC)
    for _ in BOOT_RESULTS:
        machine.run(file_close, machine.run(file_open, machine.run(inode_create, 0, r.IF_SHMEM | r.IF_NORESERVE)))


def leave_room(machine: Any, cache: int, count: int) -> None:
    """Use a slab cache until its slabs on this CPU have room for so many objects, or boot left no memory for another slab."""
    def stat(what: int) -> int:
        return machine.op("slab_allocator", "stat", cache, what)

    slabs = stat(SLAB_STAT_NUM_SLABS)
    while stat(SLAB_STAT_NUM_SLABS) == slabs:
        if machine.run(kmem_cache_alloc, cache, GFP_KERNEL) < 0:
            return
    size = stat(SLAB_STAT_OBJPERSLAB)
    objects = [machine.run(kmem_cache_alloc, cache, GFP_KERNEL) for _ in range(size - 1 + count // size * size)]
    for obj in objects[len(objects) - count :]:
        machine.run(kmem_cache_free, obj)


def look_up(sim: Any, path: str, exists: bool = True) -> None:
    """A file of /proc or /sys is opened and closed: its name stays in memory, until reclaim takes it."""
    flags = _flags(path)
    if flags and has_driver(sim):
        with on_driver(sim):
            _use_name(sim, path, flags if exists else flags | r.IF_NEGATIVE)


def _use_name(sim: Any, path: str, flags: int) -> None:
    disk = re.match(r"/sys/block/(\w+)/(.*)", path)
    if disk:  # a symbolic link
        _use_name(sim, f"/sys/block/{disk[1]}", r.IF_SYSFS | r.IF_LINK)
        path = f"{VIRTUAL_DISKS if disk[1].startswith('zram') else DISKS}/{disk[1]}/{disk[2]}"
    inode = _name(sim, path, flags)
    if inode:
        sim.machine.run(name_use, inode)


def _name(sim: Any, path: str, flags: int) -> int:
    """The row of a name and those of the directories above; 0 for what is always in memory, or if there is no room for it."""
    if path in PINNED:
        return 0
    if path not in sim._looked_up:
        parent = _name(sim, path.rpartition("/")[0], flags & ~r.IF_NEGATIVE)
        inode = sim.machine.run(inode_create, 0, flags)
        if inode < 0:
            return 0
        sim.machine.inode[inode * r.INODE_STRIDE + r.I_PARENT] = parent
        sim._looked_up[path] = inode
    return sim._looked_up[path]


def proc_flush_pid(sim: Any, pid: int) -> None:
    """A task is gone, and so are the names of its files."""
    machine, names = sim.machine, getattr(sim, "_looked_up", {})
    for path in [path for path in names if path.startswith(f"/proc/{pid}/")]:
        inode = names.pop(path)
        if machine.inode[inode * r.INODE_STRIDE + r.I_DENTRY]:
            machine.run(dentry_kill, inode)
        machine.run(do_inode_put, inode)
    directory = names.pop(f"/proc/{pid}", 0)
    if directory:
        machine.run(do_inode_put, directory)


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
