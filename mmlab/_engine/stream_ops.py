"""The operations inside event streams: a recorded program's (or a generator's) address-space changes, at absolute addresses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from mmlab._engine import loop
from mmlab._engine.compile import Entry
from mmlab.errors import NotSupported
from mmlab.mm import files, fork, madvise, mmap, mremap
from mmlab.model import rows as r
from mmlab.workload.operation import Operation

TASK_SIZE = 0x7FFFFFFFF000


class StreamTasks:
    """Runs a stream's operations on a simulation. Task number i of the stream is row i of m.task, so that words need no translation."""

    def __init__(self, sim: Any, names: tuple[str, ...]):
        self.sim, self.number = sim, {name: i for i, name in enumerate(names)}
        self.files: dict[str, Any] = {}
        self.nr_failed = 0
        self.dead: set[str] = set()

    def run(self, op: Operation) -> int:
        """Do one operation: 0 or more, or what it failed with. What a recorded program had granted may fail here for want of memory: it is
        counted, the stream goes on."""
        if op.name not in _OPERATIONS:
            raise NotSupported(f"operation '{op.name}' in a stream")
        if op.task is not None and op.name != "spawn" and (op.task in self.dead or not self.sim.alive(op.task)):
            return 0
        answer = _OPERATIONS[op.name](self, op)
        self.nr_failed += answer < 0
        return answer

    def _at_row(self, name: str, make: Callable[[], Any]) -> int:
        """Make a task in the row of its number."""
        sc = self.sim.machine.sc
        used = int(sc[r.SC_NR_TASKS])
        sc[r.SC_NR_TASKS] = self.number[name]
        made = make()
        sc[r.SC_NR_TASKS] = max(used, self.number[name] + 1)
        return made if isinstance(made, int) else 0

    def spawn(self, op: Operation) -> int:
        return self._at_row(op.task or "", lambda: self.sim.spawn(op.task, cpu=op.args.get("cpu") or 0))

    def fork(self, op: Operation) -> int:
        child = op.args["child"]
        answer = self._at_row(child, lambda: self.sim.fork(op.task, child))
        if answer < 0:
            self.dead.add(child)
        return answer

    def exit(self, op: Operation) -> int:
        return self.sim.exit(op.task)

    def mkfile(self, op: Operation) -> int:
        return self.sim.mkfile(op.args["file"], op.args["size"])

    def sleep(self, op: Operation) -> int:
        """Until so many ms after the start of the run, not for so long."""
        self.sim.sleep_until(int(op.args["ms"]) * 1_000_000)
        return 0

    def sysctl(self, op: Operation) -> int:
        from mmlab.procfs import write

        return write(self.sim, "/proc/sys/" + op.args["key"].replace(".", "/"), op.args["value"])

    def mmap(self, op: Operation) -> int:
        a = op.args
        flags = mmap.MAP_FIXED
        for name, bit in (("shared", mmap.MAP_SHARED), ("noreserve", mmap.MAP_NORESERVE), ("growsdown", mmap.MAP_GROWSDOWN)):
            flags |= bit if a.get(name) else 0
        file = -1
        if a.get("file"):
            if a["file"] not in self.files:
                self.files[a["file"]] = self.sim.open(a["file"])
            file = self.files[a["file"]].index
        elif a.get("shared"):
            file = self.sim._open_inode(self.sim._make_inode(a["size"], shmem=True))
        prot = a["prot"] if a.get("prot") is not None else r.VM_READ | r.VM_WRITE
        return self.sim._call(op.task, mmap.sys_mmap, a["at"].offset, a["size"], prot, flags, file, (a.get("off") or 0) >> 12)

    def munmap(self, op: Operation) -> int:
        start = op.args["region"] + (op.args["offset"] or 0)
        length = min(op.args["length"], TASK_SIZE - start)
        return self.sim._call(op.task, mmap.sys_munmap, start, length)

    def mprotect(self, op: Operation) -> int:
        return self.sim._call(op.task, mmap.sys_mprotect, op.args["region"] + op.args["offset"], op.args["length"], op.args["prot"])

    def madvise(self, op: Operation) -> int:
        if op.args["advice"] not in madvise.ADVICES:
            return 0
        advice = madvise.ADVICES.index(op.args["advice"])
        return self.sim._call(op.task, madvise.sys_madvise, op.args["region"] + op.args["offset"], op.args["length"], advice)

    def brk(self, op: Operation) -> int:
        mm = self.sim.task(op.task).mm * r.MM_STRIDE
        rows, address = self.sim.machine.mm, op.args["address"]
        if rows[mm + r.MM_START_BRK] == 0 or not rows[mm + r.MM_START_BRK] <= address <= rows[mm + r.MM_BRK]:
            rows[mm + r.MM_START_BRK] = rows[mm + r.MM_BRK] = address
        wanted = address + op.args["size"]
        return 0 if self.sim._call(op.task, mmap.sys_brk, wanted) == wanted else -1

    def mremap(self, op: Operation) -> int:
        a = op.args
        flags = mremap.MREMAP_MAYMOVE | (mremap.MREMAP_DONTUNMAP if a.get("dontunmap") else 0)
        if a["to"] != a["region"]:
            flags |= mremap.MREMAP_FIXED
        return self.sim._call(op.task, mremap.sys_mremap, a["region"], a["old_size"], a["size"], flags, a["to"])


_OPERATIONS: dict[str, Callable[[StreamTasks, Operation], int]] = {
    name: getattr(StreamTasks, name) for name in ("spawn", "fork", "exit", "mkfile", "sleep", "sysctl", "mmap", "munmap", "mprotect", "madvise", "brk", "mremap")
}

#: the core kernels behind each operation, so that they are compiled together with the rest
_KERNELS: dict[str, tuple[Callable, ...]] = {
    "spawn": (fork.task_alloc,), "fork": (fork.sys_fork,), "exit": (fork.do_exit,), "sysctl": (files.drop_caches,),
    "mkfile": (loop.file_io, files.file_close, files.file_fsync, files.inode_create, files.file_open),
    "mmap": (mmap.sys_mmap,), "munmap": (mmap.sys_munmap,), "mprotect": (mmap.sys_mprotect,), "madvise": (madvise.sys_madvise,),
    "sleep": (loop.sleep_until,), "brk": (mmap.sys_brk,), "mremap": (mremap.sys_mremap,),
}  # fmt: skip


def entries_of(operations: Iterable[Operation]) -> list[Entry]:
    """The kernels that these operations will run."""
    names = {op.name for op in operations}
    return [Entry(function) for name, functions in _KERNELS.items() if name in names for function in functions]
