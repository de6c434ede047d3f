"""`record`: run a real program under valgrind's lackey and keep its page-level trace.

All processes of the program write to one Unix socket; the kernel tells with each piece who wrote it, and keeps their order. What a
trace does not hold: accesses made by the kernel for the program (the buffers of read and write), file reads and writes, and the
addresses of a run without valgrind (valgrind places maps by its own rules; threads run one at a time).
"""

from __future__ import annotations

import fcntl
import os
import re
import resource
import shutil
import socket
import struct
import subprocess
import termios
import time
from array import array
from collections.abc import Callable
from pathlib import Path

import numpy as np
from attrs import frozen

from mmlab.errors import InputError, MmlabError
from mmlab.workload.image_maps import Vma, initial_maps, parse_maps
from mmlab.workload.lackey import LackeyReader
from mmlab.workload.operation import PAGE_SIZE
from mmlab.workload.stack_filter import StackFilter
from mmlab.workload.trace_format import EXIT, MMAP, Change, Trace, write_trace

_OPTIONS = ("--tool=lackey", "--trace-mem=yes", "--trace-children=yes", "--trace-syscalls=yes", "--basic-counts=no")
_PROGRESS_REFERENCES = 1 << 20
_FILE_LIMIT, _LOG_ABOVE = 1024, 500


@frozen
class Recording:
    """What `record` did: the program's exit code (128 + signal where one ended it), the accesses it made, the events that were kept."""

    path: Path
    exit_code: int
    references: int
    events: int
    tasks: int

    def __str__(self) -> str:
        processes = f"{self.tasks} process{'es' if self.tasks > 1 else ''}"
        return f"{self.path}: {self.references:,} accesses of {processes}, {self.events:,} events kept; exit code {self.exit_code}"


def record(command: list[str], out: Path | None, filter_pages: int = 64, progress: Callable[[int], None] | None = None) -> Recording:
    """Run a program and write its trace to `out`.

    command       the program and its arguments; it has this process' terminal and directory
    out           the file; None for the program's name with .mmtrace, in the current directory
    filter_pages  pages of the filter's window (stack_filter.py): the misses of any LRU memory of at least this size stay exact;
                  0 keeps every change of page
    progress      called with the number of accesses read so far, now and then

    Raises `InputError` where valgrind or the command is not there or `out` cannot be written, `MmlabError` where the program did not start.
    Interrupted, it ends the program and leaves no file.
    """
    out = Path(out) if out is not None else Path(f"{Path(command[0]).name if command else 'program'}.mmtrace")
    _check(command, out, filter_pages)
    reader = LackeyReader(StackFilter(max(filter_pages, 1)), _vmas_of, _parent_of)
    exit_code = _run(command, reader, progress)
    if not reader.window.references:
        raise MmlabError(f"{command[0]}: the program did not start, valgrind ended with exit code {exit_code} (its message is above)")
    trace = build_trace(reader, command, filter_pages, exit_code)
    write_trace(trace, out)
    return Recording(out, exit_code, reader.window.references, len(trace.accesses) + len(trace.changes), len(reader.programs))


def _check(command: list[str], out: Path, filter_pages: int) -> None:
    errors = []
    if shutil.which("valgrind") is None:
        errors.append("valgrind: is not installed, and recording needs it (apt-get install valgrind)")
    if not command:
        errors.append("command: must name a program")
    elif shutil.which(command[0]) is None:
        there = os.path.exists(command[0])
        errors.append(f"command: '{command[0]}' {'is not an executable file' if there else 'was not found'}")
    if filter_pages < 0:
        errors.append(f"filter: must be 0 or more pages, got {filter_pages}")
    if not out.parent.is_dir():
        errors.append(f"{out}: its folder does not exist")
    elif out.is_dir():
        errors.append(f"{out}: is a folder, must be a file's name")
    if errors:
        raise InputError(errors)


def _run(command: list[str], reader: LackeyReader, progress: Callable[[int], None] | None) -> int:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        with theirs:
            program = _start(command, theirs)
        try:
            _receive(ours, reader, progress)
            code = program.wait()
        except BaseException:
            for pid in {program.pid, *(pid for pid, process in reader.processes.items() if process.alive)}:
                _kill(pid)
            program.wait()
            raise
    return code if code >= 0 else 128 - code


def _receive(source: socket.socket, reader: LackeyReader, progress: Callable[[int], None] | None) -> None:
    """Read until every process has ended. One recvmsg gives bytes of one process only, as it asks for credentials."""
    buffer, waiting = memoryview(bytearray(1 << 20)), array("i", [0])
    reported = 0
    while True:
        size, ancillary, _, _ = source.recvmsg_into([buffer], socket.CMSG_SPACE(12))
        if not size:
            return
        pid = struct.unpack("3i", ancillary[0][2])[0]
        reader.feed(pid, bytes(buffer[:size]))
        if progress is not None and reader.window.references - reported >= _PROGRESS_REFERENCES:
            reported = reader.window.references
            progress(reported)
        fcntl.ioctl(source, termios.FIONREAD, waiting)
        if waiting[0] < 1 << 15:
            time.sleep(0.001)  # a wake-up per line would cost both sides more than the line


def _start(command: list[str], log: socket.socket) -> subprocess.Popen:
    """Start valgrind with a log that the program cannot close.

    Valgrind lets no program close a descriptor above the limit of open files, so the log lies there and the limit is lowered for the
    program: it survives programs that close all they do not know before they start others.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = hard if hard != resource.RLIM_INFINITY else _FILE_LIMIT + _LOG_ABOVE + 1
    limit = min(_FILE_LIMIT, most - _LOG_ABOVE - 1)
    if limit < 64:
        raise MmlabError(f"the limit of open files (ulimit -Hn) must be at least {64 + _LOG_ABOVE + 1} to record, got {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit + _LOG_ABOVE + 1), hard))
    try:
        log_fd = fcntl.fcntl(log, fcntl.F_DUPFD, limit + _LOG_ABOVE)
        try:
            start = ["sh", "-c", 'ulimit -Sn "$0" && exec valgrind "$@"', str(limit), *_OPTIONS, f"--log-fd={log_fd}", "--", *command]
            return subprocess.Popen(start, pass_fds=[log_fd])
        finally:
            os.close(log_fd)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _kill(pid: int) -> None:
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        pass


def _vmas_of(pid: int) -> list[Vma]:
    try:
        return parse_maps(Path(f"/proc/{pid}/maps").read_text())
    except OSError:
        return []


def _parent_of(pid: int) -> int | None:
    try:
        found = re.search(r"^PPid:\s*(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None


def build_trace(reader: LackeyReader, command: list[str], filter_pages: int, exit_code: int) -> Trace:
    """What was read, as a trace: the maps each program started with put in front of its accesses, an exit behind each task."""
    times, words = reader.window.events()
    timed: list[tuple[int, Change]] = []
    begin = 0
    for image in reader.images:
        timed += reader.changes[begin : image.index]
        timed += [(image.time, change) for change in initial_maps(image, times, words, reader.file_number)]
        begin = image.index
    timed += reader.changes[begin:]
    alive = sorted(process.task for process in reader.processes.values() if process.alive)
    timed += [(reader.window.references, Change(EXIT, task)) for task in alive]
    positions = np.searchsorted(times, [time for time, _ in timed], side="right")
    changes = [change for _, change in timed]
    meta = {
        "command": list(command), "filter": filter_pages, "references": reader.window.references, "exit_code": exit_code,
        "tasks": reader.programs, "files": _files(reader.files, changes),
    }  # fmt: skip
    return Trace(words, tuple(changes), positions, meta)


def _files(paths: list[str], changes: list[Change]) -> list[list]:
    """[base name, pages]: the file's size now, and at least what was mapped of it."""
    table = []
    for number, path in enumerate(paths):
        size = os.path.getsize(path) if os.path.isfile(path) else 0
        mapped = [(change.offset or 0) + (change.npages or 0) for change in changes if change.kind == MMAP and change.arg == number]
        table.append([Path(path).name, max(-(-size // PAGE_SIZE), *mapped, 1)])
    return table
