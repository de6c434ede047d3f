"""Names of /proc and /sys that the driving process of a script looks up: they and their inodes stay in memory like any others.

Only machines with a driver (those of scripts) have it; what it keeps of the files is in results_tmpfs.py. Left out: directories, symbolic links
of /sys but those of block devices.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mmlab.mm.dcache import name_use
from mmlab.mm.files import inode_create
from mmlab.model import rows as r
from mmlab.procfs import mthp

#: names of /proc that starting a recorded machine, and the driver, leave in memory
BOOT_NAMES = ("sys/kernel/printk", "cmdline", "version", "self", "self/oom_score_adj")


def has_driver(sim: Any) -> bool:
    """Whether the machine runs a script on the recorded image."""
    return getattr(sim, "_driver", -1) >= 0


def look_up(sim: Any, path: str, exists: bool = True) -> None:
    """A file of /proc or /sys is opened and closed: its name stays in memory, until reclaim takes it."""
    flags = _flags(path)
    if not flags or not has_driver(sim):
        return
    names = _names(sim)
    if path not in names:
        inode = sim.machine.run(inode_create, 0, flags | (0 if exists else r.IF_NEGATIVE))
        if inode < 0:
            return
        names[path] = inode
        device = "/".join(path.split("/")[:4])
        if path.startswith("/sys/block/") and path != device:
            look_up(sim, device, exists=False)  # a symbolic link: no file to open
    sim.machine.run(name_use, names[path])


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


def _names(sim: Any) -> dict[str, int]:
    if not hasattr(sim, "_looked_up"):
        sim._looked_up = {}
        for name in BOOT_NAMES:
            look_up(sim, f"/proc/{name}")
    return sim._looked_up
