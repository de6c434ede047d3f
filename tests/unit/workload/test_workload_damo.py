"""Records of damo as access streams: what is drawn from what DAMON found, and what is said of files that are no records."""

import json
import zlib

import numpy as np
import pytest

from mmlab._engine.sampler import Sampler
from mmlab._engine.stream_run import StreamRun
from mmlab.errors import InputError
from mmlab.kernels.jit import JIT_OFF
from mmlab.simulation import Simulation
from mmlab.workload.damo_record import PAGES_OF_DAMON, read_damo
from mmlab.workload.maps import BASE_PAGE
from mmlab.workload.request_readers import read_requests
from mmlab.workload.stream import KIND_OPERATION, KIND_READ, KIND_WRITE, unpack


def region(start, end, samples):
    """As damo 3 writes it, numbers as text with commas."""
    return {"start": f"{start << 12:,}", "end": f"{end << 12:,}", "nr_accesses": {"samples": samples, "percent": None}, "age": {"usec": None, "aggr_intervals": "0"}}


def snapshot(begin_ms, end_ms, *regions):
    return {"start_time": str(begin_ms * 10**6), "end_time": str(end_ms * 10**6), "regions": list(regions), "total_bytes": None}


RECORD = {
    "kdamond_idx": 0, "context_idx": 0, "intervals": {"sample_us": "5000", "aggr_us": "100000"}, "scheme_idx": None, "target_id": 0,
    "snapshots": [
        snapshot(1000, 1100, region(100, 110, 0), region(110, 120, 15), region(500, 530, 5)),
        snapshot(1100, 1200, region(100, 120, 0), region(500, 530, 0)),
        snapshot(1200, 1300, region(100, 102, 4), region(102, 120, 0)),
    ],
}  # fmt: skip


def file(tmp_path, content):
    path = tmp_path / "damon.data"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


@pytest.mark.parametrize("pack", [bytes, zlib.compress], ids=["json", "json_compressed"])
def test_accesses_fall_where_damon_found_some(tmp_path, pack):
    stream = read_damo(file(tmp_path, pack(json.dumps([RECORD]).encode()))).stream(100, 1.0, seed=3)
    kind, _, payload = unpack(stream.words)
    assert stream.meta["unit"] == PAGES_OF_DAMON
    assert [op.name for op in stream.ops] == ["spawn", "mmap", "sleep", "sleep", "sleep"]
    assert stream.ops[1].args["size"] == 50 << 12  # pages 100 to 119, then 500 to 529
    sleeps = [stream.ops[i].args["ms"] for i in payload[kind == KIND_OPERATION][2:]]
    assert sleeps == [100, 200, 300]
    ends = np.flatnonzero(kind == KIND_OPERATION)[2:]
    first, second, third = np.split(payload, ends + 1)[:3]
    first, third = first[2:-1] - BASE_PAGE, third[:-1] - BASE_PAGE
    assert len(first) == 100 * 100 and len(second) == 1 and len(third) == 100 * 100
    # 10 pages at 15 samples and 30 at 5 weigh the same
    assert set(first.tolist()) == set(range(10, 50))
    assert abs(np.count_nonzero(first < 20) - 5000) < 4 * 50
    assert set(third.tolist()) == {0, 1}
    assert set(kind[kind != KIND_OPERATION].tolist()) == {KIND_WRITE}


def test_write_fraction_seed_and_targets(tmp_path):
    record = read_damo(file(tmp_path, {"damo_record_ver": 1, "damo_records": {"damon_records": {"kdamonds": [], "record_list": [RECORD, {**RECORD, "target_id": 1}]}}}))
    stream = record.stream(10, 0.0, seed=1)
    assert stream.tasks == ("target0", "target1")
    kind, task, _ = unpack(stream.words)
    assert set(kind[kind != KIND_OPERATION].tolist()) == {KIND_READ} and np.bincount(task[kind == KIND_READ]).tolist() == [2000, 2000]
    assert stream.digest() == record.stream(10, 0.0, seed=1).digest() != record.stream(10, 0.0, seed=2).digest()


def test_places_high_in_an_address_space(tmp_path):
    """Where programs have their stack and libraries, up to the end of 47 bits."""
    high = (1 << 35) - 4
    record = {**RECORD, "snapshots": [snapshot(0, 10, region(100, 104, 0), region(high, high + 3, 5))]}
    stream = read_damo(file(tmp_path, [record])).stream(10, 1.0, seed=1)
    assert stream.ops[1].args["size"] == 7 << 12
    kind, _, payload = unpack(stream.words)
    assert set((payload[kind == KIND_WRITE] - BASE_PAGE).tolist()) == {4, 5, 6}


@pytest.mark.skipif(not JIT_OFF, reason="a run of the whole machine: python build")
def test_samples_fall_into_long_sleeps(tmp_path):
    """Three intervals of 100 ms, in which the target sleeps most of the time: each of the 30 samples is taken when it is due."""
    record = {**RECORD, "snapshots": [snapshot(100 * i, 100 * i + 100, region(100, 110, 5)) for i in range(3)]}
    stream = read_damo(file(tmp_path, [record])).stream(1, 1.0, seed=1)
    sim = Simulation.from_table({"memory": "16M", "bare": True, "cpus": 2})
    sampler = Sampler(sim, 10_000_000)
    StreamRun(sim, stream, sampler).run(lambda done, total, text: None)
    assert sim.now_ns == 300_000_000
    passed = np.diff(sampler.series()["time_ns"])
    assert len(passed) == 30 and abs(passed - 10_000_000).max() < 10_000  # one that falls between two accesses waits for the second


def test_as_requests(tmp_path):
    found = read_requests(file(tmp_path, [RECORD]), "damo")
    assert (len(found), found.objects, found.meta["unit"]) == (20_000, 42, PAGES_OF_DAMON)  # 40 pages and two others


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x78\x9c" + b"x" * 30, "cannot be read as JSON, plain or compressed, is it cut short?"),
        (zlib.compress(json.dumps([RECORD]).encode())[:-20], "is it cut short?"),
        (json.dumps([RECORD]).encode()[:200], "is it cut short?"),
        (b"PERFILE2" + b"\0" * 50, "`damo convert_record_format json_compressed` makes such"),
        ({"a": 1}, "has none of damo_records, damon_records and record_list: not a record of damo?"),
        (3, "must hold a list of records, got int"),
        ([{"x": 1}], "record 0 has no snapshots: not a record of damo?"),
        ([], "has no regions"),
        ([{**RECORD, "snapshots": [snapshot(0, 1, region(1, 2, 0)), {"start_time": 1}]}], "record 0, snapshot 1: has no 'end_time'; wanted are"),
        ([{**RECORD, "snapshots": [snapshot(0, 1, region(9, 2, 1))]}], "record 0, snapshot 0: a region must end behind its start"),
        ([{**RECORD, "snapshots": [snapshot(5, 1, region(1, 2, 1))]}], "end_time must not be before start_time"),
        ([{**RECORD, "snapshots": [snapshot(0, 1, {**region(1, 2, 1), "start": "4 KiB"})]}], "'4 KiB' is no whole number (damo writes such with --raw)"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path, content, message):
    path = file(tmp_path, content)
    with pytest.raises(InputError) as caught:
        read_damo(path)
    assert message in caught.value.messages[0] and caught.value.messages[0].startswith(str(path))
