"""The recorded-trace file: what is written comes back, what a trace becomes as a stream, and messages for bad files."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmlab.errors import InputError
from mmlab.workload import trace_format as tf
from mmlab.workload.operation import Place
from mmlab.workload.stream import pack, unpack
from mmlab.workload.trace_format import Change, Trace, read_recorded, read_trace, task_names, trace_stream, write_trace

ACCESSES = pack([2, 0, 1, 0], [0, 0, 1, 0], [0x400, 0x7000, 0x7001, 0x1FFEFFF])
CHANGES = (
    Change(tf.MMAP, 0, 0x400, 2, 5, 2, 0, 3),
    Change(tf.MMAP, 0, 0x7000, 8, 3, 0x22),
    Change(tf.FORK, 0, arg=1),
    Change(tf.MPROTECT, 0, 0x7000, 4, 1),
    Change(tf.BRK, 0, 0x500, -3),
    Change(tf.MREMAP, 0, 0x7000, 8, flags=1, arg=0x9000, offset=16),
    Change(tf.MADVISE, 0, 0x9000, 2, arg=4),
    Change(tf.MUNMAP, 1, 0x7000, 8),
    Change(tf.EXEC, 1),
    Change(tf.EXIT, 0),
)
POSITIONS = np.array([0, 0, 2, 2, 3, 3, 3, 4, 4, 4])
META = {"command": ["sh"], "filter": 64, "references": 9, "exit_code": 0, "tasks": ["sh", "sh"], "files": [["libc.so", 5]]}


@pytest.fixture
def path(tmp_path):
    write_trace(Trace(ACCESSES, CHANGES, POSITIONS, META), tmp_path / "t.mmtrace")
    return tmp_path / "t.mmtrace"


def test_round_trip(path):
    trace = read_trace(path)
    assert trace.accesses.tolist() == ACCESSES.tolist() and trace.positions.tolist() == POSITIONS.tolist()
    assert trace.changes == CHANGES and trace.meta == META


def test_the_same_trace_gives_the_same_bytes(path, tmp_path):
    write_trace(read_trace(path), tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "t.mmtrace"]


def test_a_trace_without_accesses_or_changes(tmp_path):
    empty = Trace(np.empty(0, np.int64), (), np.empty(0, np.int64), META)
    write_trace(empty, tmp_path / "t")
    assert len(read_trace(tmp_path / "t").accesses) == 0


def test_as_a_stream(path):
    stream = read_recorded(path)
    assert stream.tasks == ("sh", "sh.1") and stream.meta["source"] == "recorded" and stream.meta["references"] == 9
    assert [(op.name, op.task) for op in stream.ops] == [
        ("mkfile", None), ("sysctl", None), ("spawn", "sh"), ("mmap", "sh"), ("mmap", "sh"), ("fork", "sh"), ("mprotect", "sh"),
        ("brk", "sh"), ("mremap", "sh"), ("madvise", "sh"), ("munmap", "sh.1"), ("munmap", "sh.1"), ("exit", "sh"), ("exit", "sh.1"),
    ]  # fmt: skip
    args = [op.args for op in stream.ops]
    assert args[0] == {"file": "libc.so", "size": 5 * 4096}
    text = args[3]
    assert (text["file"], text["off"], text["prot"], text["at"], text["size"]) == ("libc.so", 3 * 4096, 5, Place(None, 0x400000), 8192)
    assert text["over"] and text["keep"] and not text["shared"] and args[4]["file"] is None
    assert args[5] == {"child": "sh.1"}
    assert args[6] == {"region": 0x7000000, "offset": 0, "length": 4 * 4096, "prot": 1}
    assert args[7] == {"size": -3 * 4096, "address": 0x500000}
    assert (args[8]["region"], args[8]["old_size"], args[8]["to"], args[8]["size"]) == (0x7000000, 8 * 4096, 0x9000000, 16 * 4096)
    assert args[9] == {"region": 0x9000000, "offset": 0, "length": 8192, "advice": "dontneed"}
    assert args[11] == {"region": 0, "offset": 0, "length": 1 << 47}
    kind, task, payload = unpack(stream.words)
    assert payload[kind == 15].tolist() == list(range(14)) and stream.words[kind != 15].tolist() == ACCESSES.tolist()
    # mkfile, sysctl, spawn and two mmaps, two accesses, fork and mprotect, one access, …
    assert (kind == 15).tolist() == [True] * 5 + [False] * 2 + [True] * 2 + [False] + [True] * 3 + [False] + [True] * 4
    assert task[kind == 15][-1] == 1


def test_shared_file_names_get_numbers():
    changes = (Change(tf.MMAP, 0, 1, 1, 1, 1, 1, 0),)
    meta = META | {"files": [["a b", 1], ["a b", 2]]}
    stream = trace_stream(Trace(np.empty(0, np.int64), changes, np.zeros(1, np.int64), meta))
    assert stream.ops[0].args["file"] == "a_b.0" and stream.ops[4].args["file"] == "a_b.1" and stream.ops[4].args["shared"]


def test_task_names():
    assert task_names(["sh", "ls", "sh", "", "x" * 40]) == ["sh", "ls", "sh.2", "task", "x" * 16]


def rewritten(path, change):
    """The file with its table changed."""
    table = pq.read_table(path)
    pq.write_table(change(table), path)
    return path


def with_meta(table, meta):
    return table.replace_schema_metadata({"mmlab": json.dumps(meta)})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.replace_schema_metadata({}), "is not a recorded trace"),
        (lambda t: t.drop_columns(["prot"]), "is not a recorded trace"),
        (lambda t: with_meta(t, META | {"version": 99}), "is of another version"),
        (lambda t: with_meta(t, META | {"version": 1, "tasks": ["sh"]}), "task: must be below 1"),
        (lambda t: t.set_column(0, "kind", pa.array([7] * len(t), pa.uint8())), "row 0: unknown kind 7 (14 such)"),
        (lambda t: t.set_column(3, "npages", pa.nulls(len(t), pa.int64())), "row 0: kind 16 needs npages"),
        (lambda t: t.set_column(6, "arg", pa.array([9] * len(t), pa.int64())), "row 0: file 9 is not one of the 1 in the metadata"),
    ],
)
def test_files_that_are_not_right(path, change, says):
    with pytest.raises(InputError) as caught:
        read_trace(rewritten(path, change))
    assert any(message.startswith(f"{path}: {says}") for message in caught.value.messages), caught.value.messages


def test_missing_and_cut_files(path):
    with pytest.raises(InputError, match="no such file"):
        read_trace(path.with_name("none"))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="cannot be read as Parquet, is it whole"):
        read_trace(path)
