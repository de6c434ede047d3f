"""Request replay against plain-Python oracles, request by request."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlab._engine.requests import RequestMachine, replay
from mmlab.errors import InputError, PluginError
from mmlab.kernels.jit import kernel
from mmlab.mm.requests import OBJECT
from mmlab.model.page import NO_MAPPING
from mmlab.policies import Reclaimer
from mmlab.testing.oracles.replacement import ORACLES
from mmlab_linux.reclaimer.mglru import MGLRU
from mmlab_linux.reclaimer.two_list import TWO_LIST
from mmlab_rivals.reclaimer import RECLAIMERS
from mmlab_rivals.reclaimer.clock import CLOCK
from mmlab_rivals.reclaimer.clock_pro import CLOCK_PRO
from mmlab_rivals.reclaimer.fifo import FIFO
from mmlab_rivals.reclaimer.gclock import GCLOCK
from mmlab_rivals.reclaimer.lru import LRU
from mmlab_rivals.reclaimer.opt import OPT
from mmlab_rivals.reclaimer.lirs import LIRS
from mmlab_rivals.reclaimer.lru_k import LRU_K
from mmlab_rivals.reclaimer.random_page import RANDOM
from mmlab_rivals.reclaimer.s3_fifo import S3_FIFO
from mmlab_rivals.reclaimer.two_q import TWO_Q
from mmlab_rivals.reclaimer.w_tinylfu import W_TINYLFU
from mmlab_rivals.reclaimer.wsclock import WSCLOCK

EXACT = [policy for policy in RECLAIMERS if policy is not RANDOM]
ALL = [*RECLAIMERS, TWO_LIST, MGLRU]


def names(policy):
    return policy.name


def cached(machine):
    return {int(x) & OBJECT for x in machine.machine.rq_object if x != NO_MAPPING}


def zipf(requests, objects, seed=7):
    rng = np.random.Generator(np.random.PCG64(seed))
    weights = 1 / np.arange(1, objects + 1)
    return rng.permutation(objects)[rng.choice(objects, requests, p=weights / weights.sum())]


@pytest.mark.parametrize("policy", EXACT, ids=names)
@settings(max_examples=12, deadline=None)
@given(requests=st.lists(st.integers(0, 12), max_size=150), size=st.integers(1, 9))
def test_every_request_hits_or_misses_as_in_the_oracle(policy, requests, size):
    machine = RequestMachine(policy, None, np.array(requests, np.int64), size)
    missed = [machine.step(1) == 1 for _ in requests]
    expected, left = ORACLES[policy.name](requests, size)
    assert missed == expected
    assert machine.machine.op("reclaimer", "check") == 0
    assert len(cached(machine)) == len(left)
    if policy is not OPT:
        assert cached(machine) == left


@pytest.mark.parametrize("policy", EXACT, ids=names)
@pytest.mark.parametrize("size", [1, 60, 600])
def test_longer_stream(policy, size):
    ids = zipf(4000, 600)
    machine = RequestMachine(policy, None, ids, size)
    while not machine.done:
        machine.step(1500)
    assert machine.misses == sum(ORACLES[policy.name](ids.tolist(), size)[0])
    assert machine.machine.op("reclaimer", "check") == 0


VARIANTS = [
    (GCLOCK, {"max_count": 7}), (WSCLOCK, {"tau": 5}), (WSCLOCK, {"tau": 100}), (LRU_K, {"k": 1}), (LRU_K, {"k": 4}),
    (TWO_Q, {"a_in": 0.5, "a_out": 2.0}), (TWO_Q, {"a_out": 0.0}), (S3_FIFO, {"small_share": 0.4, "ghost_share": 3.0, "threshold": 1}),
    (S3_FIFO, {"ghost_share": 0.0}), (LIRS, {"hir_share": 0.3}), (LIRS, {"demote_on_queue_hit": True, "hir_share": 0.1}),
    (CLOCK_PRO, {"cold_share": 0.6}), (W_TINYLFU, {"window_share": 0.3, "protected_share": 0.5, "factor": 2}),
]  # fmt: skip
#: the oracles' names for parameters, where they are shorter
PARAMS = {
    "tau": "tau_us", "a_in": "a_in_size_ratio", "a_out": "a_out_size_ratio", "small_share": "small_size_ratio", "hir_share": "hir_size_ratio",
    "ghost_share": "ghost_size_ratio", "threshold": "move_to_main_threshold", "cold_share": "cold_size_ratio", "window_share": "window_size",
    "protected_share": "protected_size", "factor": "sample_factor",
}  # fmt: skip


@pytest.mark.parametrize(("policy", "changed"), VARIANTS, ids=lambda x: x.name if hasattr(x, "name") else "-".join(map(str, x)))
def test_parameters(policy, changed):
    ids = zipf(3000, 400)
    params = policy.params(**{PARAMS.get(name, name): value for name, value in changed.items()})
    machine = RequestMachine(policy, params, ids, 50)
    missed = [machine.step(1) == 1 for _ in ids]
    expected, left = ORACLES[policy.name](ids.tolist(), 50, **changed)
    assert missed == expected
    assert cached(machine) == left
    assert machine.machine.op("reclaimer", "check") == 0
    default = RequestMachine(policy, None, ids, 50)
    default.step()
    assert default.misses != machine.misses  # so the parameters matter


def test_random_is_the_seed_s():
    ids = zipf(3000, 400)
    runs = []
    for seed in (1, 2, 1):
        machine = RequestMachine(RANDOM, None, ids, 50, seed=seed)
        machine.step()
        runs.append((machine.misses, cached(machine)))
    assert runs[0] == runs[2] and runs[0][1] != runs[1][1]
    assert machine.machine.op("reclaimer", "check") == 0


def test_random_takes_each_with_the_same_chance():
    """A new object 100 times, each into a cache of 20 that holds 0 to 19: after 20 draws without what came in since, 2000 in all, each old
    object has left with chance 1 - (19/20)**20 = 0.64."""
    left = np.zeros(20)
    for seed in range(100):
        machine = RequestMachine(RANDOM, None, np.arange(40), 20, seed=seed)
        machine.step()
        left[[x for x in range(20) if x not in cached(machine)]] += 1
    expected = 1 - (19 / 20) ** 20
    assert abs(left.mean() / 100 - expected) < 0.05
    assert left.min() > 100 * expected - 4 * 5 and left.max() < 100 * expected + 4 * 5


@pytest.mark.parametrize("size", [40, 200, 1000])
def test_two_list_lies_between_opt_and_fifo(size):
    ids = zipf(40_000, 2000)
    misses = {policy.name: replay(policy, None, ids, size)["misses"] for policy in (OPT, TWO_LIST, FIFO)}
    assert misses["opt"] < misses["two_list"] < misses["fifo"]


@pytest.mark.parametrize("policy", ALL, ids=names)
@pytest.mark.parametrize("size", [1, 2, 5, 31])
def test_a_small_cache(policy, size):
    """Smaller than the batches in which pages of two_list join their lists: a miss at least for each object, none for a request that repeats the
    one before, and never more objects than frames."""
    ids = np.repeat(np.arange(60) % 40, 3)
    machine = RequestMachine(policy, None, ids, size)
    while not machine.done:
        machine.step()
        assert len(cached(machine)) <= size
    assert 40 <= machine.misses <= 60
    assert machine.machine.op("reclaimer", "check") == 0


@pytest.mark.parametrize("policy", [FIFO, CLOCK, LRU, TWO_LIST], ids=names)
def test_a_loop_one_longer_than_the_cache_misses_always(policy):
    ids = np.tile(np.arange(101), 6)
    assert replay(policy, None, ids, 100)["misses"] == 606


def test_opt_keeps_most_of_a_loop():
    # 101 objects over 100 frames: after the first round one miss every 100 requests
    ids = np.tile(np.arange(101), 6)
    assert replay(OPT, None, ids, 100)["misses"] == 101 + 5


def test_two_list_s_statistics_do_not_lag_in_a_replay():
    """It has no time of its own: the parameter changes nothing, and the misses are not many times LRU's."""
    ids = zipf(20_000, 1000)
    lagging = replay(TWO_LIST, TWO_LIST.params(stats_period_ms=2016), ids, 100)["misses"]
    assert lagging == replay(TWO_LIST, TWO_LIST.params(stats_period_ms=0), ids, 100)["misses"] < replay(FIFO, None, ids, 100)["misses"]


@pytest.mark.parametrize("policy", ALL, ids=names)
def test_a_cache_that_holds_everything_misses_each_object_once(policy):
    counters = replay(policy, None, zipf(3000, 300), 300)
    assert counters["misses"] == len(set(zipf(3000, 300).tolist()))
    assert "pgscan_file" not in counters  # nothing was ever scanned


@pytest.mark.parametrize("policy", ALL, ids=names)
def test_counters(policy):
    counters = replay(policy, None, zipf(5000, 500), 50)
    assert counters["requests"] == 5000
    assert counters["pgscan_file"] == counters["pgscan_direct"] >= counters["pgsteal_direct"] == counters["pgsteal_file"]
    # each miss takes a frame: what was freed is that, less the 50 first ones, plus what was freed ahead of need
    assert counters["misses"] - 50 <= counters["pgsteal_file"] < counters["misses"] - 50 + 64


@pytest.mark.parametrize("dtype", [np.uint32, np.int64, np.uint16])
def test_integer_types_of_ids_are_alike(dtype):
    assert replay(LRU, None, zipf(2000, 300).astype(dtype), 30)["misses"] == replay(LRU, None, zipf(2000, 300), 30)["misses"]


def test_progress_after_each_chunk(monkeypatch):
    monkeypatch.setattr("mmlab._engine.requests.CHUNK", 1000)
    seen = []
    machine = RequestMachine(FIFO, None, zipf(2500, 300), 30)
    while not machine.done:
        machine.step(1000)
        seen.append(machine.position)
    assert seen == [1000, 2000, 2500]
    replay(FIFO, None, zipf(2500, 300), 30, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (2500, 2500)


@pytest.mark.parametrize(
    ("ids", "frames", "message"),
    [
        (np.array([1.5]), 4, "whole numbers, got float64"),
        (np.array([[1]]), 4, "one-dimensional"),
        (np.array([3, -1]), 4, "from 0 to 2147483646, got -1 to 3"),
        (np.array([(1 << 31) - 1]), 4, "from 0 to 2147483646, got 2147483647"),
        (np.array([1]), 0, "from 1 to 2147483647 objects, got 0"),
    ],
)
def test_bad_input_is_named(ids, frames, message):
    with pytest.raises(InputError, match=message):
        RequestMachine(FIFO, None, ids, frames)


def test_no_requests():
    assert replay(FIFO, None, np.zeros(0, np.int64), 5)["misses"] == 0


@kernel
def nothing(m, st, pfn):
    return 0


@kernel
def frees_nothing(m, st, node, priority, nr_to_reclaim, scan_flags):
    return 0


def test_a_reclaimer_that_frees_nothing_is_an_error():
    stuck = Reclaimer(name="stuck", summary="never frees", folio_added=nothing, folio_removed=nothing, shrink_node=frees_nothing)
    with pytest.raises(PluginError, match="reclaimer 'stuck': freed nothing in 16 rounds"):
        replay(stuck, None, np.arange(4), 3)
