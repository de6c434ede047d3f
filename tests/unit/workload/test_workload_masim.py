"""masim's configuration files: what is read, what is made of it, and what is wrong with it."""

import numpy as np
import pytest

from mmlab._engine.cell import load_stream
from mmlab.errors import InputError
from mmlab.experiment.cells import Cell
from mmlab.workload.masim import read_masim
from mmlab.workload.stream import KIND_OPERATION, KIND_WRITE, STREAM_BASE, unpack

TEXT = """#regions
# name, length, data
a, 16384, none
b, 8192

# phase 1
first
3
a, 0, 4096, 3, ro
b, 1, 64, 1, rw

second
2
b, 0, 2048, 10
"""
BASE = STREAM_BASE >> 12


def test_text_is_the_ground_truth(tmp_path):
    (tmp_path / "x.cfg").write_text(TEXT)
    masim = read_masim(tmp_path / "x.cfg")
    assert [(r.name, r.pages, r.start) for r in masim.regions] == [("a", 4, 0), ("b", 2, 4)]
    assert [(p.name, p.ms, len(p.patterns)) for p in masim.phases] == [("first", 3, 2), ("second", 2, 1)]
    assert masim.shares(0) == masim.shares(2.9) == {"a": 0.75, "b": 0.25}
    assert masim.shares(3) == masim.shares(1e9) == {"a": 0, "b": 1}


def test_stream(tmp_path):
    (tmp_path / "x.cfg").write_text(TEXT)
    stream = read_masim(tmp_path / "x.cfg").stream(400, seed=1)
    kind, _, payload = unpack(stream.words)
    operations = [stream.ops[i].name for i in payload[kind == KIND_OPERATION]]
    assert operations == ["spawn", *["mmap"] * 4, *["sleep"] * 5]
    assert [stream.ops[i].args["ms"] for i in payload[kind == KIND_OPERATION][5:]] == [1, 2, 3, 4, 5]
    at = np.flatnonzero(kind == KIND_OPERATION)[5:]
    assert np.diff(at).tolist() == [401] * 4  # 400 accesses and a sleep
    page, what = payload[7 : at[2]] - BASE, kind[7 : at[2]]
    access = what != KIND_OPERATION
    page, what = page[access], what[access]
    in_a = page < 4
    assert 0.7 < in_a.mean() < 0.8  # 3 of 4
    assert set(what[in_a]) == {0}
    assert page[in_a][:6].tolist() == [1, 2, 3, 0, 1, 2]  # masim steps before it reads
    assert what[~in_a][:4].tolist() == [0, 1, 0, 1]  # rw: read, then write the same page
    assert (page[~in_a][0::2][:50] == page[~in_a][1::2][:50]).all() and set(page[~in_a]) == {4, 5}
    last = payload[at[2] + 1 : at[3]] - BASE
    assert last[:6].tolist() == [4, 5, 5, 4, 4, 5] and set(kind[at[2] + 1 : at[3]]) == {1}  # 2048, 4096, 6144, 0
    again = read_masim(tmp_path / "x.cfg").stream(400, seed=1)
    assert stream.digest() == again.digest() != read_masim(tmp_path / "x.cfg").stream(400, seed=2).digest()


def test_a_stride_that_does_not_divide_the_region(tmp_path):
    """12,000 bytes by 5,000: the places 5000, 10000 and 0, on pages 1, 2 and 0."""
    (tmp_path / "x.cfg").write_text("a, 12000\n\np\n1\na, 0, 5000, 1, ro\n")
    payload = unpack(read_masim(tmp_path / "x.cfg").stream(6, seed=1).words)[2]
    assert (payload[-7:-1] - BASE).tolist() == [1, 2, 0, 1, 2, 0]


def test_initial_data_is_written_once(tmp_path):
    (tmp_path / "x.cfg").write_text("a, 4096, none\nb, 8192, some/file\n\np\n1\na, 1, 64, 1, ro\n")
    kind, _, payload = unpack(read_masim(tmp_path / "x.cfg").stream(2, seed=1).words)
    written = payload[kind == KIND_WRITE] - BASE
    assert written.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a, 4096\n", "x.cfg: must have a paragraph of regions and one or more of phases, got 1 paragraphs"),
        ("a, 4k\n\np\n5\na, 1, 64, 1\n", "x.cfg:1: bytes of region 'a' must be a whole number of at least 1, got '4k'"),
        (", 4096\n\np\n5\na, 1, 64, 1\n", "x.cfg:1: a region is `name, bytes[, data file]`, got ', 4096'"),
        ("a, 4096\na, 4096\n\np\n5\na, 1, 64, 1\n", "x.cfg:2: there is a region named 'a' already"),
        ("abc, 4096\n\np\n5\nabd, 1, 64, 1\n", "x.cfg:5: no region named 'abd' (known: abc); did you mean 'abc'?"),
        ("a, 4096\n\np\n0\na, 0, 0, 1\n", "x.cfg:4: ms of phase 'p' must be a whole number of at least 1, got '0'"),
        ("a, 4096\n\np\n0\na, 0, 0, 1\n", "x.cfg:5: stride must be a whole number of at least 1, got '0'"),
        ("a, 4096\n\np\n5\na, 1, 64, 0\n", "x.cfg:3: some pattern of phase 'p' must have a probability above 0"),
        ("a, 4096\n\np\n5\na, 1, 64, 1, xo\n", "x.cfg:5: the mode must be one of ro, wo, rw, got 'xo'"),
        ("a, 4096\n\np\n5\n", "x.cfg:3: a phase is its name, its ms and a line or more of patterns, got 2 lines"),
    ],
)
def test_faults_have_their_line(text, message, tmp_path):
    (tmp_path / "x.cfg").write_text(text)
    with pytest.raises(InputError) as error:
        read_masim(tmp_path / "x.cfg")
    assert f"{tmp_path}/{message}" in error.value.messages


def test_more_than_memory_holds_is_said(tmp_path):
    """100 accesses in each of 10^14 ms: 80 PB."""
    (tmp_path / "x.cfg").write_text(f"a, 4096\n\np\n{10**14}\na, 1, 64, 1\n")
    cell = Cell("x", "k", {"workload": {"kind": "masim", "file": "x.cfg", "accesses_per_ms": 100}, "seed": 1}, tmp_path)
    with pytest.raises(InputError, match="workload: its events do not fit into this host's memory"):
        load_stream(cell)
