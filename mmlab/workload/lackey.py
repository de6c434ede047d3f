"""Reader of valgrind's lackey: memory accesses and system calls as text, from several processes in turn, into kept accesses and changes.

Lackey prints a line an access (`I  04025ec0,3`, ` L 1ffefff7c8,8`, ` S `, ` M `), valgrind a line or two a system call. Access lines are
read by a jitted loop straight into the filter and never kept; everything else, a few thousand lines, is read here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePath

import numpy as np
from attrs import Factory, define

from mmlab.errors import MmlabError
from mmlab.kernels.jit import routine
from mmlab.workload.image_maps import Image, Vma
from mmlab.workload.operation import ADVICE, PAGE_SIZE
from mmlab.workload.stack_filter import NR_OUT, StackFilter, access_one
from mmlab.workload.stream import KIND_EXECUTE, KIND_READ, KIND_WRITE, MAX_TASKS, TASK_SHIFT
from mmlab.workload.trace_format import BRK, EXEC, EXIT, FORK, MADVISE, MMAP, MPROTECT, MREMAP, MUNMAP, Change

_CALL = re.compile(rb"SYSCALL\[\d+,(\d+)\]\((\d+)\) (.*)")
_SUCCESS = re.compile(rb"--> (?:\[pre-success\] )?Success\(0x([0-9a-f]+)\)")
_CREATED = re.compile(rb"process \d+ created child (\d+)")
_COMMAND = re.compile(rb"==\d+== Command: (\S+)")
_ACCESS = re.compile(rb"(I | L| S| M) [0-9a-f]+,\d+")
_FORKING = re.compile(rb"SYSCALL\[\d+,\d+\]\((?:56|57|58)\) ")
_MAP_ANONYMOUS = 0x20
_DROPPED = {ADVICE["dontneed"], ADVICE["free"], ADVICE["remove"]}  # advice after which the pages have left memory
_ALL_PAGES = 1 << 36


@define
class Process:
    """One process as its output shows it. rest: the start of a line whose end has not come; waiting: a thread's call without its result."""

    task: int
    image: int
    rest: bytes = b""
    waiting: dict[bytes, bytes] = Factory(dict)
    files: dict[int, str] = Factory(dict)
    brk: int | None = None
    alive: bool = True


class LackeyReader:
    """Takes the output of all processes and gathers what a trace is made of.

    window    the filter, which holds the accesses
    vmas_of   pid -> the process' maps at this moment (an empty list when it is gone)
    parent_of pid -> its parent's pid, or None
    """

    def __init__(self, window: StackFilter, vmas_of: Callable[[int], list[Vma]], parent_of: Callable[[int], int | None]):
        self.window = window
        self.processes: dict[int, Process] = {}
        self.programs: list[str] = []  # by task number
        self.changes: list[tuple[int, Change]] = []  # with the time of the access before it
        self.images: list[Image] = []
        self.files: list[str] = []  # paths, by file number
        self._vmas_of, self._parent_of = vmas_of, parent_of

    def feed(self, pid: int, data: bytes) -> None:
        """Take what process `pid` wrote next."""
        process = self.processes.get(pid) or self._adopt(pid, data)
        text = process.rest + data
        buffer, position, window = np.frombuffer(text, np.uint8), 0, self.window
        while True:
            position = _parse(buffer, position, process.task << TASK_SHIFT, window.window, window.counters, window.out)
            if window.counters[NR_OUT] > window.out.shape[1] // 2:
                window.flush()
            end = text.find(b"\n", position)
            if end < 0:
                break
            line = text[position:end]
            if not _ACCESS.fullmatch(line):  # otherwise it stopped for want of room
                self._line(pid, process, line)
                position = end + 1
        process.rest = text[position:]

    def _adopt(self, pid: int, data: bytes) -> Process:
        """A process that wrote before its parent told of it (or the first)."""
        if not self.processes:
            self.images.append(Image(0, 0, 0))
            self.processes[pid] = Process(0, 0)
            self.programs.append("")
            return self.processes[pid]
        forking = [other for other, process in self.processes.items() if process.alive and _FORKING.match(process.rest)]
        parent = forking[0] if len(forking) == 1 else self._parent_of(pid)
        if parent not in self.processes:
            raise MmlabError(f"process {pid} writes to the log, but nothing tells which recorded process started it")
        return self._fork(parent, pid)

    def _fork(self, parent: int, child: int) -> Process:
        old = self.processes.get(child)
        if old is not None and old.alive:
            return old
        if len(self.programs) == MAX_TASKS:
            raise MmlabError(f"the program started more than {MAX_TASKS - 1} processes, a trace cannot hold more")
        of, number = self.processes[parent], len(self.programs)
        self._change(Change(FORK, of.task, arg=number))
        self.window.change(of.task, 0, _ALL_PAGES, unmap=False)
        self.images[of.image].segments.append([number, self.window.references, None])
        self.programs.append(self.programs[of.task])
        self.processes[child] = Process(number, of.image, files=dict(of.files), brk=of.brk)
        return self.processes[child]

    def _exec(self, pid: int, process: Process, program: str) -> None:
        """A new program begins in this process: its banner was read."""
        now = self.window.references
        if self.programs[process.task] or process.task:
            self._change(Change(EXEC, process.task))
            self.window.change(process.task, 0, _ALL_PAGES, unmap=True)
            for segment in self.images[process.image].segments:
                if segment[0] == process.task and segment[2] is None:
                    segment[2] = now
            process.image = len(self.images)
            self.images.append(Image(process.task, now, len(self.changes)))
            process.brk = None
        self.images[process.image].vmas = self._vmas_of(pid)
        self.programs[process.task] = PurePath(program).name

    def _exit(self, process: Process) -> None:
        if process.alive:
            process.alive = False
            self._change(Change(EXIT, process.task))
            self.window.change(process.task, 0, _ALL_PAGES, unmap=True)

    def _change(self, change: Change) -> None:
        self.changes.append((self.window.references, change))

    def _line(self, pid: int, process: Process, line: bytes) -> None:
        if command := _COMMAND.search(line):
            self._exec(pid, process, command[1].decode(errors="replace"))
        call = _CALL.match(line)
        if not call:
            return
        thread, number, text = call[1], int(call[2]), call[3]
        if number == 231:
            self._exit(process)
        elif created := _CREATED.search(text):
            self._fork(pid, int(created[1]))
        elif text.endswith(b"[async] ... "):
            process.waiting[thread] = text
        elif (success := _SUCCESS.search(text)) and number in _HANDLERS:
            arguments = process.waiting.pop(thread, text) if text.startswith(b"...") else text
            _HANDLERS[number](self, process, _Arguments(arguments), int(success[1], 16))

    # The system calls that matter, each with its arguments and its result.

    def _mmap(self, process: Process, args: _Arguments, start: int) -> None:
        page, npages, flags = start // PAGE_SIZE, _pages(args[1]), args[3]
        number = offset = None
        if not flags & _MAP_ANONYMOUS:
            number, offset = self.file_number(process.files.get(args[4] & 0xFFFFFFFF, "file")), args[5] // PAGE_SIZE
        self.window.change(process.task, page, page + npages, unmap=True)
        self._change(Change(MMAP, process.task, page, npages, args[2] & 7, flags, number, offset))
        self._covers(process, page, npages)

    def _munmap(self, process: Process, args: _Arguments, _: int) -> None:
        page, npages = args[0] // PAGE_SIZE, _pages(args[1])
        self.window.change(process.task, page, page + npages, unmap=True)
        self._change(Change(MUNMAP, process.task, page, npages))

    def _mprotect(self, process: Process, args: _Arguments, _: int) -> None:
        page, npages = args[0] // PAGE_SIZE, _pages(args[1])
        if npages:
            self.window.change(process.task, page, page + npages, unmap=False)
            self._change(Change(MPROTECT, process.task, page, npages, args[2] & 7))

    def _brk(self, process: Process, _: _Arguments, end: int) -> None:
        before, process.brk = process.brk, end
        if before is None or _pages(before) == _pages(end):
            return
        page, growth = _pages(before), _pages(end) - _pages(before)
        if growth < 0:
            self.window.change(process.task, page + growth, page, unmap=True)
        self._change(Change(BRK, process.task, page, growth))
        self._covers(process, page, max(growth, 0))

    def _mremap(self, process: Process, args: _Arguments, start: int) -> None:
        page, npages, new_page, new_npages = args[0] // PAGE_SIZE, _pages(args[1]), start // PAGE_SIZE, _pages(args[2])
        self.window.change(process.task, page, page + npages, unmap=True)
        self._change(Change(MREMAP, process.task, page, npages, flags=args[3], arg=new_page, offset=new_npages))
        self._covers(process, new_page, new_npages)

    def _madvise(self, process: Process, args: _Arguments, _: int) -> None:
        page, npages, advice = args[0] // PAGE_SIZE, _pages(args[1]), args[2]
        if npages and advice in ADVICE.values():
            self.window.change(process.task, page, page + npages, unmap=advice in _DROPPED)
            self._change(Change(MADVISE, process.task, page, npages, arg=advice))

    def _open(self, process: Process, args: _Arguments, fd: int) -> None:
        process.files[fd] = args.path

    def _duplicate(self, process: Process, args: _Arguments, fd: int) -> None:
        process.files[fd] = process.files.get(args[0], "file")

    def _wait(self, _: Process, __: _Arguments, child: int) -> None:
        if child in self.processes:
            self._exit(self.processes[child])

    def _covers(self, process: Process, page: int, npages: int) -> None:
        self.images[process.image].covers.append((self.window.references, page, page + npages))

    def file_number(self, path: str) -> int:
        """The number of a mapped file, new or known."""
        if path not in self.files:
            self.files.append(path)
        return self.files.index(path)


_HANDLERS = {
    9: LackeyReader._mmap, 10: LackeyReader._mprotect, 11: LackeyReader._munmap, 12: LackeyReader._brk, 25: LackeyReader._mremap,
    28: LackeyReader._madvise, 2: LackeyReader._open, 257: LackeyReader._open, 32: LackeyReader._duplicate, 33: LackeyReader._duplicate,
    292: LackeyReader._duplicate, 61: LackeyReader._wait,
}  # fmt: skip


class _Arguments:
    """`sys_mmap ( 0x0, 8192, 3, 34, 4294967295, 0 )`: the numbers by index; `path` is the text that follows a pointer to one."""

    def __init__(self, text: bytes):
        self._text = text
        self._inner = text[text.find(b"( ") + 2 : text.rfind(b" )")]

    def __getitem__(self, index: int) -> int:
        return int(self._inner.split(b", ")[index], 0)

    @property
    def path(self) -> str:
        found = re.search(rb"0x[0-9a-f]+\((.*)\)", self._inner)
        return found[1].decode(errors="replace") if found else "file"


def _pages(length: int) -> int:
    return -(-length // PAGE_SIZE)


@routine
def _parse(text, position, task_bits, window, counters, out):
    """Read whole access lines of text uint8[n] from `position` on; returns the start of the first line that is not whole, no access, or for
    which `out` may lack room. An access that straddles pages is one access to each."""
    end, room = len(text), out.shape[1] - 2 * (window.shape[1] + 1)
    while end - position > 5 and counters[NR_OUT] <= room:
        first, second = text[position], text[position + 1]
        if text[position + 2] != 32:
            return position
        if first == 73 and second == 32:  # "I "
            kind = KIND_EXECUTE
        elif first == 32 and second == 76:  # " L"
            kind = KIND_READ
        elif first == 32 and (second == 83 or second == 77):  # " S", " M"
            kind = KIND_WRITE
        else:
            return position
        at, address, size = position + 3, 0, 0
        while at < end and text[at] != 44:
            digit = np.int64(text[at]) | 32  # capitals too: valgrind's manual shows such
            if 48 <= digit <= 57:
                address = address * 16 + (digit - 48)
            elif 97 <= digit <= 102:
                address = address * 16 + (digit - 87)
            else:
                return position
            at += 1
        at += 1
        while at < end and text[at] != 10:
            if not 48 <= text[at] <= 57:
                return position
            size = size * 10 + (np.int64(text[at]) - 48)
            at += 1
        if at >= end:
            return position
        page, last = address >> 12, (address + size - 1) >> 12
        access_one(window, counters, out, page << 16 | task_bits, kind)
        if last > page:
            access_one(window, counters, out, last << 16 | task_bits, kind)
        position = at + 1
    return position
