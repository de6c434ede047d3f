"""Who is who: a task's row, its address space, names of VMAs and files as /proc prints them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmlab.model import rows as r
from mmlab.procfs.walk import Vma

SPECIAL_NAMES = {r.NAME_HEAP: "[heap]", r.NAME_STACK: "[stack]", r.NAME_VVAR: "[vvar]", r.NAME_VDSO: "[vdso]"}

#: a script's program, in the initial file system of the recorded machines, and the devices that may be mounted at /mnt there
PROGRAM, PROGRAM_INO, TMPFS_DEVICE, DISK_DEVICE = "/bin/mmload", 26, "00:19", "fe:10"


def task_row(machine: Any, task: int) -> list[int]:
    """A row of m.task (T_*)."""
    return machine.task[task * r.TASK_STRIDE : (task + 1) * r.TASK_STRIDE].tolist()


def mm_row(machine: Any, mm: int) -> list[int]:
    """A row of m.mm (MM_*)."""
    return machine.mm[mm * r.MM_STRIDE : (mm + 1) * r.MM_STRIDE].tolist()


def alive(sim: Any, task: Any) -> bool:
    """Whether the task still runs."""
    return bool(sim.machine.task[task.index * r.TASK_STRIDE + r.T_ALIVE])


def living(sim: Any) -> Iterator[Any]:
    """The script's tasks that still run, in the order in which they were made."""
    return (task for task in sim.tasks.values() if alive(sim, task))


def vma_name(machine: Any, mm: int, vma: Vma) -> str:
    """[heap], [stack], [vvar], [vdso], or empty. What brk made is the heap, whichever VMA it lies in."""
    if vma.name in SPECIAL_NAMES:
        return SPECIAL_NAMES[vma.name]
    space = mm_row(machine, mm)
    if vma.inode < 0 and vma.start < space[r.MM_BRK] and vma.end > space[r.MM_START_BRK]:
        return SPECIAL_NAMES[r.NAME_HEAP]
    return ""


def backing(sim: Any, vma: Vma) -> tuple[str, int, str]:
    """Device (``00:02``), inode number and path of what a file VMA maps; ("00:00", 0, "") for anonymous memory."""
    if vma.inode < 0 or vma.name in (r.NAME_VVAR, r.NAME_VDSO):
        return "00:00", 0, ""
    row = vma.inode * r.INODE_STRIDE
    name = getattr(sim, "file_name", lambda inode: None)(vma.inode)
    if name is None or sim.machine.inode[row + r.I_FLAGS] & r.IF_ANON_SHMEM:
        return "00:01", int(sim.machine.inode[row + r.I_SHMEM_INO]), "/dev/zero (deleted)"
    if getattr(sim, "_driver", -1) < 0:
        return "00:00", vma.inode + 1, name
    if name == PROGRAM:
        return "00:02", PROGRAM_INO, name
    if sim.machine.inode[row + r.I_FLAGS] & r.IF_SHMEM:
        return TMPFS_DEVICE, int(sim.machine.inode[row + r.I_SHMEM_INO]), f"/mnt/{name}"
    return DISK_DEVICE, int(sim.machine.inode[row + r.I_INO]) or vma.inode + 1, f"/mnt/{name}"
