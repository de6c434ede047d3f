"""Request replay beside libcachesim, a cache simulator in C, on 20 M zipf requests: equal misses, and how many times its requests/s.

Interleaved in one run on one core; medians of the rounds after the first. `replay` goes over object numbers in memory, and includes the
search for next uses where the policy needs them; `end_to_end` begins with the oracleGeneral file. libcachesim always reads the file, from
the page cache.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import pytest

from mmlab._engine.requests import RequestMachine
from mmlab.workload.generators import make_generator
from mmlab.workload.requests import ORACLE_GENERAL, read_oracle_general
from mmlab.workload.stream import KIND_READ, NEVER, next_use, pack
from mmlab_rivals.reclaimer.arc import ARC
from mmlab_rivals.reclaimer.clock import CLOCK
from mmlab_rivals.reclaimer.fifo import FIFO
from mmlab_rivals.reclaimer.lirs import LIRS
from mmlab_rivals.reclaimer.lru import LRU
from mmlab_rivals.reclaimer.opt import OPT
from mmlab_rivals.reclaimer.s3_fifo import S3_FIFO
from mmlab_rivals.reclaimer.sieve import SIEVE
from mmlab_rivals.reclaimer.two_q import TWO_Q

libcachesim = pytest.importorskip("libcachesim")
pytestmark = pytest.mark.bench

OBJECTS, REQUESTS, SEED = 1_000_000, 20_000_000, 20240607
SHARES = (0.01, 0.1, 0.5)
GOAL_SHARE = 0.1  # a cache of 1 % is all misses, one of 50 % nearly none: the speeds that the goals go back to were measured between
ROUNDS = 6
#: ours, theirs, and the goal: how many times their requests/s
POLICIES = {
    "fifo": (FIFO, "FIFO", 15), "clock": (CLOCK, "Clock", 10), "lru": (LRU, "LRU", 4), "opt": (OPT, "Belady", 4),
    "sieve": (SIEVE, "Sieve", 6), "s3_fifo": (S3_FIFO, "S3FIFO", 4), "two_q": (TWO_Q, "TwoQ", 3), "arc": (ARC, "ARC", 2.5),
    "lirs": (LIRS, "LIRS", 4),
}  # fmt: skip
#: what a policy needs to be theirs
PARAMS = {"lirs": LIRS.params(demote_on_queue_hit=True)}
END_TO_END_GOAL = 2


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    """The requests as an oracleGeneral file."""
    params = {"pages": OBJECTS, "events": REQUESTS, "alpha": 1.0}
    ids = make_generator("zipf", params).page_numbers(np.random.Generator(np.random.PCG64(SEED)))
    later = next_use(pack(KIND_READ, 0, ids))
    records = np.zeros(REQUESTS, ORACLE_GENERAL)
    records["time"], records["id"], records["size"] = np.arange(REQUESTS) // 1000, ids + 1, 1
    records["next"] = np.where(later == NEVER, -1, later)
    path = tmp_path_factory.mktemp("trace") / "zipf.oracleGeneral"
    records.tofile(path)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def requests(trace):
    return read_oracle_general(trace)


def theirs(trace, name, size):
    """(misses, CPU seconds)"""
    begin = time.process_time()
    reader = libcachesim.TraceReader(str(trace), libcachesim.TraceType.ORACLE_GENERAL_TRACE)
    miss_ratio, _ = getattr(libcachesim, name)(size).process_trace(reader)
    return round(miss_ratio * REQUESTS), time.process_time() - begin


def replayed(policy, params, ids, size):
    """(misses, CPU seconds). A machine that looks for next uses does so while it is made, which counts."""
    begin = time.process_time()
    machine = RequestMachine(policy, params, ids, size)
    if not policy.needs_future:
        begin = time.process_time()
    while not machine.done:
        machine.step()
    return machine.misses, time.process_time() - begin


def report(what, ours, other, goal, record_property):
    """Print and record medians and their ratio."""
    ratio = statistics.median(b / a for a, b in zip(ours[1:], other[1:]))
    speed, their_speed = (REQUESTS / statistics.median(seconds[1:]) / 1e6 for seconds in (ours, other))
    print(f"\n{what}: {speed:.1f} M requests/s, libcachesim {their_speed:.1f}, ratio {ratio:.1f}" + (f" (goal {goal})" if goal else ""))
    record_property("m_requests_per_s", speed)
    record_property("ratio_to_libcachesim", ratio)
    if goal:
        record_property("goal", goal)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("name", POLICIES)
def test_replay(name, share, trace, requests, record_property):
    policy, their_name, goal = POLICIES[name]
    size = int(OBJECTS * share)
    ours, other = [], []
    for _ in range(ROUNDS):
        misses, seconds = replayed(policy, PARAMS.get(name), requests.ids, size)
        ours.append(seconds)
        their_misses, seconds = theirs(trace, their_name, size)
        other.append(seconds)
        assert misses == their_misses
    report(f"replay {name}, cache of {share:.0%}", ours, other, goal if share == GOAL_SHARE else None, record_property)


@pytest.mark.parametrize("name", POLICIES)
def test_end_to_end(name, trace, record_property):
    policy, their_name, _ = POLICIES[name]
    size = OBJECTS // 10
    ours, other = [], []
    for _ in range(ROUNDS):
        begin = time.process_time()
        machine = RequestMachine(policy, PARAMS.get(name), read_oracle_general(trace).ids, size)
        while not machine.done:
            machine.step()
        ours.append(time.process_time() - begin)
        their_misses, seconds = theirs(trace, their_name, size)
        other.append(seconds)
        assert machine.misses == their_misses
    report(f"end to end {name}, cache of 10%", ours, other, END_TO_END_GOAL, record_property)
