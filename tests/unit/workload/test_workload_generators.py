"""Generators: what each makes, that the seed decides it, and messages for bad params."""

import hashlib

import numpy as np
import pytest

from mmlab.errors import InputError
from mmlab.workload.generators import GENERATORS, make_generator
from mmlab.workload.maps import BASE_PAGE
from mmlab.workload.operation import Place
from mmlab.workload.stream import KIND_WRITE, STREAM_BASE, unpack

EXAMPLES = {
    "uniform": {"pages": 100, "events": 500},
    "zipf": {"pages": 100, "events": 500},
    "scan": {"pages": 100, "events": 100},
    "loop": {"pages": 100, "events": 500},
    "drift": {"pages": 100, "events": 500, "working_set": 10, "events_per_page": 3},
    "phases": {"phases": [{"generator": "scan", "pages": 5, "events": 5}, {"generator": "uniform", "pages": 9, "events": 7}]},
    "together": {"parts": [{"generator": "scan", "pages": 5, "events": 5}, {"generator": "uniform", "pages": 9, "events": 7}]},
}


def pages(name, seed=0, **params):
    """(pages without the map's base, kinds, tasks) of the accesses."""
    stream = make_generator(name, params).stream(seed)
    kind, task, payload = unpack(stream.words[2 * len(stream.tasks) :])
    return (payload - BASE_PAGE).tolist(), kind, task


def test_examples_cover_all():
    assert set(EXAMPLES) == set(GENERATORS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_seed_decides(name):
    one, same, other = (make_generator(name, EXAMPLES[name]).stream(seed).digest() for seed in (1, 1, 2))
    assert one == same
    assert (one == other) == (name in ("scan", "loop"))
    assert make_generator(name, EXAMPLES[name] | {"seed": 1}).stream(2).digest() == one


def test_the_stream_begins_with_a_map_for_each_task():
    stream = make_generator("loop", {"pages": 3, "first_page": 2, "events": 4, "tasks": 2}).stream()
    assert [(op.name, op.task) for op in stream.ops] == [("spawn", "T0"), ("mmap", "T0"), ("spawn", "T1"), ("mmap", "T1")]
    assert stream.ops[1].args["at"] == Place(None, STREAM_BASE) and stream.ops[1].args["size"] == 5 * 4096
    kind, task, payload = unpack(stream.words[:4])
    assert kind.tolist() == [15] * 4 and task.tolist() == [0, 0, 1, 1] and payload.tolist() == [0, 1, 2, 3]


def test_scan_and_loop():
    assert pages("scan", pages=6, events=6, stride=2, touches=2)[0] == [0, 0, 2, 2, 4, 4]
    assert pages("loop", pages=5, events=7, stride=2, first_page=10)[0] == [10, 12, 14, 10, 12, 14, 10]


def test_drift_stays_in_its_window():
    page = np.array(pages("drift", pages=50, events=400, working_set=8, events_per_page=5)[0])
    start = np.arange(400) // 5
    assert (((page - start) % 50) < 8).all() and len(np.unique(page)) == 50


def test_zipf_frequencies():
    page = pages("zipf", pages=4, events=100_000, alpha=1.0, scatter=False)[0]
    share = np.bincount(page) / 100_000
    assert share == pytest.approx(np.array([12, 6, 4, 3]) / 25, abs=0.01)  # 1, 1/2, 1/3, 1/4 of 25/12


def test_zipf_is_the_one_of_the_libcachesim_comparison():
    # seed and first numbers of the trace on which libCacheSim's miss counts were taken
    generator = make_generator("zipf", {"pages": 1_000_000, "events": 8, "seed": 20240607})
    assert (unpack(generator.stream().words[2:])[2] - BASE_PAGE).tolist() == [157720, 70344, 248773, 850149, 114504, 70849, 597500, 598829]


def test_write_fraction():
    _, kind, _ = pages("uniform", pages=10, events=20_000, write_fraction=0.25)
    assert np.bincount(kind) / 20_000 == pytest.approx([0.75, 0.25], abs=0.02)
    assert pages("uniform", pages=10, events=50, write_fraction=1.0)[1].tolist() == [1] * 50


def test_tasks_take_turns():
    page, _, task = pages("loop", pages=10, events=5, tasks=2, quantum=2)
    assert task.tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 0, 1] and page == [0, 1, 0, 1, 2, 3, 2, 3, 4, 4]
    page, _, task = pages("uniform", pages=1000, events=50, tasks=2, quantum=50)
    assert page[:50] != page[50:]


def test_phases_one_after_the_other():
    params = {"phases": [{"generator": "scan", "pages": 3, "events": 3}, {"generator": "loop", "pages": 2, "first_page": 8, "events": 3}]}
    assert pages("phases", **params, repeat=2)[0] == [0, 1, 2, 8, 9, 8] * 2
    assert make_generator("phases", params).stream().ops[1].args["size"] == 10 * 4096


def test_bytes_do_not_change_between_versions():
    digest = hashlib.sha256()
    for name in sorted(set(EXAMPLES) - {"together"}):  # which came later
        digest.update(make_generator(name, EXAMPLES[name]).stream(7).words.tobytes())
    together = hashlib.sha256(make_generator("together", EXAMPLES["together"]).stream(7).words.tobytes())
    assert together.hexdigest() == "007e4fa355b4c4315a31538c9bb66dbbaad26e63ba6c0b872986c713b059bc37"
    assert digest.hexdigest() == "af6ae68eb7cb9307713ca75b37111220e2215307ca8f468ca7951e3c45b620fb"


@pytest.mark.parametrize(
    ("name", "params", "says"),
    [
        ("unifrom", {}, "w: no generator named 'unifrom'"),
        ("uniform", {"pages": 0, "events": 1}, "w.pages: must be 1 or more, got 0"),
        ("uniform", {"pages": 1}, "w.events: missing"),
        ("uniform", {"pages": 1, "evnts": 1, "events": 1}, "w.evnts: unknown key"),
        ("uniform", {"pages": 1, "events": 1, "write_fraction": 1.5}, "w.write_fraction: must be between 0 and 1, got 1.5"),
        ("scan", {"pages": 5, "events": 6}, "one pass makes at most 5 accesses, got 6"),
        ("drift", {"pages": 5, "events": 6, "working_set": 6, "events_per_page": 1}, "working_set: must be at most pages (5), got 6"),
        ("phases", {"phases": []}, "w.phases: must be a list of tables"),
        ("phases", {"phases": [{"generator": "phases"}]}, "w.phases[0].generator: must name a generator other than 'phases'"),
        ("phases", {"phases": [{"generator": "loop", "pages": 1, "events": 1, "tasks": 2}]}, "w.phases[0].tasks: belongs to the"),
        ("phases", {"phases": [{"generator": "loop", "pages": 1}]}, "w.phases[0].events: missing"),
    ],
)
def test_messages(name, params, says):
    with pytest.raises(InputError) as caught:
        make_generator(name, params, "w")
    assert any(says in message for message in caught.value.messages), caught.value.messages


def test_all_faults_at_once():
    with pytest.raises(InputError) as caught:
        make_generator("phases", {"phases": [{"generator": "loop", "pages": 0}, {"generator": "lop"}], "repeat": 0}, "w")
    assert len(caught.value.messages) == 4


TOGETHER = {"quantum": 10, "parts": [
    {"generator": "loop", "pages": 5, "events": 25},
    {"generator": "uniform", "pages": 3, "events": 10, "tasks": 2, "write_fraction": 1.0},
]}  # fmt: skip


def test_tasks_that_differ_take_turns():
    stream = make_generator("together", TOGETHER).stream(seed=3)
    kind, task, payload = unpack(stream.words[6:])
    assert stream.tasks == ("T0", "T1", "T2")
    assert [op.args["size"] >> 12 for op in stream.ops if op.name == "mmap"] == [5, 3, 3]
    assert task.tolist() == [0] * 10 + [1] * 10 + [2] * 10 + [0] * 15
    assert (payload[task == 0] - (STREAM_BASE >> 12)).tolist() == list(range(5)) * 5
    assert kind[task > 0].tolist() == [KIND_WRITE] * 20 and not np.array_equal(payload[task == 1], payload[task == 2])
    assert stream.digest() == make_generator("together", TOGETHER).stream(seed=3).digest()


def test_what_is_wrong_with_together():
    for params, message in [
        ({}, "params.parts: must be a list of tables"),
        ({"parts": [{"generator": "together", "parts": []}]}, "params.parts[0].generator: must name a generator other than 'phases' and 'together'"),
        ({"parts": [{"generator": "loop", "pages": 1, "events": 1, "quantum": 3}]}, "params.parts[0].quantum: belongs to the whole stream"),
        ({"parts": [{"generator": "loop", "pages": 1, "events": 1, "tasks": 4000}] * 2}, "parts: must make at most 4096 tasks, got 8000"),
        ({"parts": [{"generator": "loop", "pages": 1, "events": 1}], "tasks": 2}, "params.tasks: unknown key"),
    ]:
        with pytest.raises(InputError) as caught:
            make_generator("together", params)
        assert message in "; ".join(caught.value.messages)
