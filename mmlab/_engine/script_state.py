"""What a running script knows beyond the machine: each task's regions and open files, and how its processes are related to the driver."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

from attrs import Factory, define

from mmlab.model import rows as r
from mmlab.model.const import ENOENT

TaskName: TypeAlias = str | None  # as operations have it; never None on an operation of a task
ABSOLUTE_LENGTH = (1 << 63) - 1


class ScriptError(Exception):
    """An operation that ends with -errno before it reaches the machine."""

    def __init__(self, errno: int):
        self.errno = errno
        super().__init__(errno)


@define
class Region:
    """A named range of a task's address space, in bytes. It keeps its last place when it is unmapped."""

    addr: int
    length: int


@define
class TaskState:
    """One task of the script.

    alive: as far as the driver has noticed; parent: the task that forked it, None if the driver did; busy: what it does in the background.
    """

    task: Any
    parent: TaskName = None
    alive: bool = True
    regions: dict[str, Region] = Factory(dict)
    kept_files: dict[str, Any] = Factory(dict)
    busy: Any = None


@define
class ScriptState:
    """The script's run: simulation, folders, tasks by name, files made so far."""

    sim: Any
    out: Path
    files: Path
    tasks: dict[TaskName, TaskState] = Factory(dict)
    made_files: set[str] = Factory(set)

    def row(self, name: TaskName) -> int:
        """Index of the task's first word in m.task."""
        return self.tasks[name].task.index * r.TASK_STRIDE

    def runs(self, name: TaskName) -> bool:
        """Whether the process still runs in the machine."""
        return bool(self.sim.machine.task[self.row(name) + r.T_ALIVE])

    def faults(self, name: TaskName) -> tuple[int, int]:
        """(min_flt, maj_flt) of the task so far."""
        row = self.row(name)
        return int(self.sim.machine.task[row + r.T_MIN_FLT]), int(self.sim.machine.task[row + r.T_MAJ_FLT])

    def mm(self, name: TaskName) -> int:
        """Index of the first word of the task's address space in m.mm."""
        return self.tasks[name].task.mm * r.MM_STRIDE

    def ended_by(self, name: TaskName) -> int:
        """The signal that the driver learns of when it waits for a process that has ended.

        The driver cannot wait for another task's child; it gets it when that task dies (the driver is a subreaper).
        """
        state = self.tasks[name]
        own = state.parent is None or not self.runs(state.parent)
        return int(self.sim.machine.task[self.row(name) + r.T_SIGNAL]) if own else 0

    def region(self, name: TaskName, region: str | int) -> Region:
        """A region by name or absolute address; ScriptError(ENOENT) if the task has none of that name.

        Addresses of the upper half are negative, as int64 has them.
        """
        if isinstance(region, int):
            return Region(region - (1 << 64) if region >> 63 else region, ABSOLUTE_LENGTH)
        if region not in self.tasks[name].regions:
            raise ScriptError(ENOENT)
        return self.tasks[name].regions[region]

    def existing(self, file: str) -> str:
        """The file's name; ScriptError(ENOENT) if the script has made no such file."""
        if file not in self.made_files:
            raise ScriptError(ENOENT)
        return file
