"""Who is who: a task's row, its address space, names of VMAs and files as /proc prints them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmlab.model import rows as r
from mmlab.procfs.walk import Vma

SPECIAL_NAMES = {r.NAME_HEAP: "[heap]", r.NAME_STACK: "[stack]", r.NAME_VVAR: "[vvar]", r.NAME_VDSO: "[vdso]"}


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
    name = getattr(sim, "file_name", lambda inode: None)(vma.inode)
    if name is None:
        return "00:01", vma.inode + 1, "/dev/zero (deleted)"
    device = int(sim.machine.inode[vma.inode * r.INODE_STRIDE + r.I_DEVICE])
    return f"{device >> 20 & 0xFFF:02x}:{device & 0xFFFFF:02x}", vma.inode + 1, name
