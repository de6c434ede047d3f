"""Lackey's text to accesses and changes: lines, system calls, several processes, and the maps a program starts with."""

import numpy as np
import pytest
from workload_replay import segfaults

from mmlab.errors import MmlabError
from mmlab.workload.image_maps import Vma, parse_maps
from mmlab.workload.lackey import LackeyReader
from mmlab.workload.record import build_trace
from mmlab.workload.stack_filter import StackFilter
from mmlab.workload.stream import pack
from mmlab.workload.trace_format import BRK, EXEC, EXIT, FORK, MADVISE, MMAP, MPROTECT, MREMAP, MUNMAP, Change, trace_stream

BANNER = b"==7== Lackey, an example Valgrind tool\n==7== Command: /bin/prog -x\n==7== \n"


def read(*pieces, k=1, vmas=(), parents=None):
    """A reader that took pieces, bytes of process 7 or (pid, bytes)."""
    reader = LackeyReader(StackFilter(k), lambda pid: list(vmas), (parents or {}).get)
    for piece in pieces:
        reader.feed(*(piece if isinstance(piece, tuple) else (7, piece)))
    return reader


def changes(reader):
    return [change for _, change in reader.changes]


def kept(reader):
    return reader.window.events()[1].tolist()


def test_the_four_kinds_of_access():
    reader = read(BANNER + b"I  04025ec0,3\n L 1ffefff7c8,8\n S 00001000,4\n M 00002fff,1\n")
    assert kept(reader) == pack([2, 0, 1, 1], 0, [0x4025, 0x1FFEFFF, 1, 2]).tolist()
    assert reader.programs == ["prog"] and reader.window.references == 4


def test_an_access_across_pages_counts_for_both():
    assert kept(read(b" S 00001ffc,8\n L 00003ff8,8\n")) == pack([1, 1, 0], 0, [1, 2, 3]).tolist()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 11, 64])
def test_pieces_of_any_size(size):
    call = b"SYSCALL[7,1](11) sys_munmap ( 0x5000, 40919 )[sync] --> Success(0x0) \n"
    text = BANNER + b"I  00001000,3\n" + call + b" L 00002000,8\nI  00001003,1\n"
    reader = read(*(text[i : i + size] for i in range(0, len(text), size)))
    assert kept(reader) == pack([2, 0, 2], 0, [1, 2, 1]).tolist()
    assert reader.changes == [(1, Change(MUNMAP, 0, 5, 10))]


def test_more_accesses_than_the_buffer_holds():
    reader = LackeyReader(StackFilter(1, out_events=8), lambda pid: [], {}.get)
    reader.feed(7, b"".join(b" L %08x,8\n" % (page << 12) for page in range(1000)))
    assert kept(reader) == pack(0, 0, np.arange(1000)).tolist()


@pytest.mark.parametrize(
    ("line", "change"),
    [
        (b"(9) sys_mmap ( 0x0, 16400, 3, 34, 4294967295, 0 ) --> [pre-success] Success(0x4837000) ", Change(MMAP, 0, 0x4837, 5, 3, 34)),
        (b"(9) sys_mmap ( 0x0, 16400, 3, 34, 4294967295, 0 ) --> [pre-fail] Failure(0xc) ", None),
        (b"(10) sys_mprotect ( 0x4a15000, 16384, 1 )[sync] --> Success(0x0) ", Change(MPROTECT, 0, 0x4A15, 4, 1)),
        (b"(10) sys_mprotect ( 0x4a15000, 16384, 1 )[sync] --> Failure(0xc) ", None),
        (b"(25) sys_mremap ( 0x483c000, 32768, 4194304, 0x1 ) --> [pre-success] Success(0x4a2b000) ",
         Change(MREMAP, 0, 0x483C, 8, flags=1, arg=0x4A2B, offset=1024)),
        (b"(28) sys_madvise ( 0x4a2b000, 4096, 4 ) --> [async] ... \nSYSCALL[7,1](28) ... [async] --> Success(0x0) ",
         Change(MADVISE, 0, 0x4A2B, 1, arg=4)),
        (b"(28) sys_madvise ( 0x4a2b000, 4096, 4 ) --> [async] ... \nSYSCALL[7,1](28) ... [async] --> Failure(0x16) ", None),
        (b"(28) sys_madvise ( 0x4a2b000, 4096, 100 )[sync] --> Success(0x0) ", None),
        (b"(231) exit_group( 0 ) --> [pre-success] Success(0x0) ", Change(EXIT, 0)),
        (b"(0) sys_read ( 5, 0x1ffeffedf8, 832 )[sync] --> Success(0x340) ", None),
    ],
)  # fmt: skip
def test_system_calls(line, change):
    assert changes(read(BANNER + b"SYSCALL[7,1]" + line + b"\n")) == ([change] if change else [])


def test_brk_grows_and_shrinks():
    calls = [(0, 0x4035000), (0x4056000, 0x4056000), (0x4056010, 0x4056010), (0x4056800, 0x4056800), (0x4050000, 0x4050000)]
    reader = read(*(b"SYSCALL[7,1](12) sys_brk ( 0x%x ) --> [pre-success] Success(0x%x) \n" % call for call in calls))
    assert changes(reader) == [Change(BRK, 0, 0x4035, 33), Change(BRK, 0, 0x4056, 1), Change(BRK, 0, 0x4057, -7)]


def test_file_maps_know_their_file():
    call = b"SYSCALL[7,1](%d) "
    reader = read(
        call % 257 + b"sys_openat ( 4294967196, 0x40290b1(/etc/ld.so.cache), 524288 ) --> [async] ... \n",
        call % 257 + b"... [async] --> Success(0x5) \n",
        call % 33 + b"sys_dup2 ( 5, 20 )[sync] --> Success(0x14) \n",
        call % 9 + b"sys_mmap ( 0x0, 36887, 1, 2, 5, 8192 ) --> [pre-success] Success(0x483c000) \n",
        call % 9 + b"sys_mmap ( 0x0, 4096, 1, 1, 20, 0 ) --> [pre-success] Success(0x493c000) \n",
        call % 9 + b"sys_mmap ( 0x0, 4096, 1, 1, 6, 0 ) --> [pre-success] Success(0x593c000) \n",
    )
    assert changes(reader) == [
        Change(MMAP, 0, 0x483C, 10, 1, 2, 0, 2), Change(MMAP, 0, 0x493C, 1, 1, 1, 0, 0), Change(MMAP, 0, 0x593C, 1, 1, 1, 1, 0),
    ]  # fmt: skip
    assert reader.files == ["/etc/ld.so.cache", "file"]


FORK_LINE = b"SYSCALL[7,1](56) sys_clone ( 1200011, 0x0, 0x0, 0x4a28a10, 0x0 )   clone(fork): process 7 created child 9\n"


@pytest.mark.parametrize(
    "pieces",
    [
        [FORK_LINE, (9, b" --> [pre-success] Success(0x0)\n L 00002000,8\n")],
        [FORK_LINE[:70], (9, b" --> [pre-success] Success(0x0)\n L 00002000,8\n"), FORK_LINE[70:]],  # the child was faster
    ],
)
def test_fork(pieces):
    reader = read(BANNER + b" S 00001000,8\n", *pieces, b" L 00001000,8\n S 00001000,8\n", k=8)
    assert changes(reader) == [Change(FORK, 0, arg=1)] and reader.programs == ["prog", "prog"]
    # the parent's first write after the fork is kept: it may copy the page
    assert kept(reader) == pack([1, 0, 1], [0, 1, 0], [1, 2, 1]).tolist()


def test_a_child_that_was_faster_than_two_parents():
    other = FORK_LINE.replace(b"child 9", b"child 8")
    reader = read(BANNER, other, (8, FORK_LINE[:70]), FORK_LINE[:70], (9, b" L 00002000,8\n"), parents={9: 8})
    assert changes(reader) == [Change(FORK, 0, arg=1), Change(FORK, 1, arg=2)]


def test_a_process_from_nowhere():
    with pytest.raises(MmlabError, match="process 9 writes to the log"):
        read(BANNER, (9, b" L 00002000,8\n"))


def test_threads_are_not_processes():
    line = b"SYSCALL[7,1](56) sys_clone ( 3d0f00, 0x562af70, 0x562b990, 0x562b990, 0x562b6c0 ) --> [pre-success] Success(0x9) \n"
    assert changes(read(BANNER + line + b"SYSCALL[7,2](60) exit( 0 ) --> [pre-success] Success(0x0) \n")) == []


def test_exec_and_exit():
    exec_line = b"SYSCALL[7,1](59) sys_execve ( 0x10a015(/bin/true), 0x1fff0005e0, 0x1fff000798 )"
    reader = read(BANNER + b" L 00001000,8\n", exec_line + BANNER.replace(b"prog", b"true"), b" L 00001000,8\n", k=8)
    assert changes(reader) == [Change(EXEC, 0)] and reader.programs == ["true"]
    assert kept(reader) == pack(0, 0, [1, 1]).tolist()
    reader.feed(7, b"SYSCALL[7,1](231) exit_group( 0 ) --> [pre-success] Success(0x0) \n==7== Exit code: 0\n")
    assert changes(reader)[1:] == [Change(EXIT, 0)]


def test_a_killed_child_ends_when_its_parent_waits():
    reader = read(BANNER, FORK_LINE, (9, b" L 00002000,8\n"), b"SYSCALL[7,1](61) ... [async] --> Success(0x9) \n")
    assert changes(reader)[-1] == Change(EXIT, 1)


MAPS = """\
00400000-00402000 r-xp 00001000 fe:00 260958                             /usr/bin/a program
00403000-00404000 rw-p 00003000 fe:00 260958                             /usr/bin/a program
1ffefff000-1fff001000 rw-p 00000000 00:00 0
7fff1733f000-7fff17360000 rw-p 00000000 00:00 0                          [stack]
"""


def test_proc_maps():
    assert parse_maps(MAPS) == [
        Vma(0x400, 0x402, 5, 1, "/usr/bin/a program"), Vma(0x403, 0x404, 3, 3, "/usr/bin/a program"),
        Vma(0x1FFEFFF, 0x1FFF001, 3, 0, ""), Vma(0x7FFF1733F, 0x7FFF17360, 3, 0, ""),
    ]  # fmt: skip


def test_first_maps():
    text = BANNER + b"I  00400010,3\n S 1fff000000,8\n S 1ffef00000,8\n S 00404000,8\n"
    text += b"SYSCALL[7,1](9) sys_mmap ( 0x0, 8192, 3, 34, 4294967295, 0 ) --> [pre-success] Success(0x4835000) \n S 04836000,8\n"
    trace = build_trace(read(text, k=8, vmas=parse_maps(MAPS)), ["a program"], 8, 0)
    assert trace.changes[:-2] == (
        Change(MMAP, 0, 0x400, 2, 5, 2, 0, 1),  # a file's whole map; its data was never touched
        Change(MMAP, 0, 0x404, 1, 3, 0x22),
        Change(MMAP, 0, 0x1FFEF00, 0x101, 3, 0x22),  # the stack as far down as it went
    )
    assert trace.positions.tolist() == [0, 0, 0, 4, 5] and trace.meta["files"] == [["a program", 3]]
    assert segfaults(trace_stream(trace)) == []


def test_first_maps_of_a_process_that_was_gone_and_of_its_child():
    text = BANNER + b"I  00400010,3\n"
    child = (9, b"I  00405000,3\n==9== Command: /bin/other\nI  00600000,1\n")
    trace = build_trace(read(text, FORK_LINE, child, b" S 00400020,8\n", k=8), ["prog"], 8, 0)
    assert [c for c in trace.changes if c.kind == MMAP] == [Change(MMAP, 0, 0x400, 6, 7, 0x22), Change(MMAP, 1, 0x600, 1, 7, 0x22)]
    assert [c.kind for c in trace.changes] == [MMAP, FORK, EXEC, MMAP, EXIT, EXIT]
    assert segfaults(trace_stream(trace)) == []
