"""A simulation that records what a script asked of it and answers what the test says."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

from mmlab.model import rows as r
from mmlab_linux.monitor.none import NONE

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "procfs"))
from procfs_fakes import FakeSimulation  # noqa: E402

MMAP_TOP = 0x7FFFF7FF9000


class RecordingSimulation(FakeSimulation):
    """`calls`: (method, arguments) in order; `answers[method]`: what to answer instead of success; the clock moves 1000 ns a call."""

    def __init__(self, **more):
        super().__init__(**more)
        self.calls, self.answers = [], {}
        self.policies = {"monitor": SimpleNamespace(policy=NONE), "reclaimer": SimpleNamespace(policy=SimpleNamespace(name="", files=None))}
        self.next_addr = MMAP_TOP
        self.now_ns = 0

    def _called(self, name, *args, default=0):
        self.calls.append((name, *args))
        self.now_ns += 1000
        answer = self.answers.get(name, default)
        return answer(*args) if callable(answer) else answer

    def spawn(self, name, cpu=0, oom_score_adj=0):
        self._called("spawn", name, cpu, oom_score_adj)
        return self.add_task(name)

    def fork(self, parent, child):
        error = self._called("fork", parent, child)
        if error:
            return error
        task = self.add_task(child)
        self.machine.task[task.index * r.TASK_STRIDE + r.T_PARENT] = self.tasks[parent].index
        return task

    def end(self, name, signal):
        row = self.tasks[name].index * r.TASK_STRIDE
        self.machine.task[row + r.T_ALIVE], self.machine.task[row + r.T_SIGNAL] = 0, signal

    def exit(self, name):
        self._called("exit", name)
        self.end(name, 0)
        return 0

    def kill(self, name, signal=9):
        self._called("kill", name)
        self.end(name, signal)
        return 0

    def mmap(self, name, length, prot="rw", flags=(), addr=0, file=None, offset=0):
        fixed = {"fixed", "fixed_noreplace"} & set(flags)
        if not fixed:
            self.next_addr -= length
        return self._called("mmap", name, length, prot, frozenset(flags), addr, file, offset, default=addr if fixed else self.next_addr)

    def munmap(self, name, addr, length):
        return self._called("munmap", name, addr, length)

    def mprotect(self, name, addr, length, prot):
        return self._called("mprotect", name, addr, length, prot)

    def mremap(self, name, addr, old, new, flags, new_addr=0):
        return self._called("mremap", name, addr, old, new, frozenset(flags), new_addr, default=addr)

    def madvise(self, name, addr, length, advice):
        return self._called("madvise", name, addr, length, advice)

    def brk(self, name, new_end):
        self._called("brk", name, new_end)
        if "brk" not in self.answers:
            self.machine.mm[self.tasks[name].mm * r.MM_STRIDE + r.MM_BRK] = new_end
        return new_end

    def touch(self, name, addr, nr_pages, access, stride_pages=1, reverse=False):
        return self._touched(name, nr_pages, self._called("touch", name, addr, nr_pages, access, stride_pages, reverse, default=None))

    def touch_pages(self, name, vpns, accesses):
        return self._touched(name, len(vpns), self._called("touch_pages", name, vpns.tolist(), accesses.tolist(), default=None))

    def _touched(self, name, count, outcome):
        self.machine.task[self.tasks[name].index * r.TASK_STRIDE + r.T_MIN_FLT] += count
        return outcome or SimpleNamespace(ret=0, signal=0, si_code=0, si_addr=0)

    def open(self, fname):
        self._called("open", fname)
        return SimpleNamespace(name=fname, number=len(self.calls))

    def close(self, file):
        self._called("close", file)

    def mkfile(self, fname, size):
        return self._called("mkfile", fname, size)

    def fread(self, name, fname, offset, length, advice=0):
        return SimpleNamespace(ret=self._called("fread", name, fname, offset, length, advice, default=length))

    def fwrite(self, name, fname, offset, length):
        return SimpleNamespace(ret=self._called("fwrite", name, fname, offset, length, default=length))

    def sleep(self, ms):
        self._called("sleep", ms)
        self.now_ns += int(ms * 1e6)
