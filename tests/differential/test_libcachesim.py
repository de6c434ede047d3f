"""Miss counts of the policies equal those of libcachesim, another implementation, on the same requests.

Which are defined alike: EQUAL. Where the definitions differ, in what, and from its source: docs/libcachesim.md.
"""

import functools
import math
import subprocess
import sys

import numpy as np
import pytest

from mmlab._engine.requests import RequestMachine
from mmlab.testing.oracles.libcachesim import EQUAL, misses, write_oracle_general
from mmlab.testing.oracles.replacement_adaptive import w_tinylfu
from mmlab.workload.stream import unpack
from mmlab.workload.trace_format import read_recorded
from mmlab.workload.traces import shipped
from mmlab_rivals.reclaimer import RECLAIMERS

libcachesim = pytest.importorskip("libcachesim")

OBJECTS, REQUESTS = 5000, 100_000
POLICIES = {policy.name: policy for policy in RECLAIMERS}


def zipf_requests():
    """Zipf(1) over scattered objects."""
    rng = np.random.Generator(np.random.PCG64(20240607))
    weights = np.cumsum(1 / np.arange(1, OBJECTS + 1))
    ranks = np.searchsorted(weights, rng.random(REQUESTS) * weights[-1])
    return rng.permutation(OBJECTS)[ranks]


def scan_requests():
    """The same, with a fifth of the requests replaced by a scan over other objects."""
    ids = zipf_requests()
    scan = np.arange(REQUESTS) % 10 >= 8
    ids[scan] = OBJECTS + np.arange(int(scan.sum())) % OBJECTS
    return ids


def recorded_requests():
    """The pages that a shipped recording of a compiler touches."""
    kinds, _, pages = unpack(read_recorded(shipped()["gcc"]).words)
    return np.unique(pages[kinds <= 2], return_inverse=True)[1][:REQUESTS]


#: requests, and three sizes (libcachesim's LIRS takes 200 and more, see lirs.py)
STREAMS = {"zipf": (zipf_requests, (250, 500, 2500)), "scan": (scan_requests, (250, 500, 2500)), "recorded": (recorded_requests, (200, 500, 1000))}


@pytest.fixture(scope="module", params=STREAMS)
def stream(request, tmp_path_factory):
    """(object of each request, the same as an oracleGeneral file, sizes)."""
    make, sizes = STREAMS[request.param]
    ids = make()
    path = tmp_path_factory.mktemp("stream") / "trace.oracleGeneral"
    write_oracle_general(ids, path)
    return ids, path, sizes


def ours(name, params, ids, size, seed=0):
    policy = POLICIES[name]
    machine = RequestMachine(policy, policy.params(**params) if policy.params else None, ids, size, seed=seed)
    while not machine.done:
        machine.step()
    return machine.misses


def theirs(name, params, stream, size):
    return misses(name, params, stream[1], len(stream[0]), size)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["small", "medium", "large"])
@pytest.mark.parametrize(("name", "params", "their_name", "their_params"), EQUAL, ids=lambda x: x if isinstance(x, str) else "-".join(x))
def test_misses_equal(stream, name, params, their_name, their_params, which):
    size = stream[2][which]
    assert ours(name, params, stream[0], size) == theirs(their_name, their_params, stream, size)


class CountingBloomFilter:
    """libcachesim's estimate of how often an object was asked for (minimalIncrementCBF.c, which in fact increments all of an object's
    counters): 0.001 false positives at as many objects as the main part holds, places from two XXH64 of the object's number."""

    def __init__(self, entries):
        words = -math.log(0.001) / math.log(2) ** 2
        self.hashes = math.ceil(math.log(2) * words)
        self.counters = [0] * math.ceil(words * entries)
        self.places = functools.cache(self._places)

    def _places(self, x):
        a, b = (xxh64_of_number(int(x) + 1, seed) & 0xFFFFFFFF for seed in (0x12345678, 0x12344321))
        return [(a + i * b & 0xFFFFFFFF) % len(self.counters) for i in range(self.hashes)]

    def add(self, x):
        for place in self.places(x):
            self.counters[place] += 1

    def estimate(self, x):
        return min(self.counters[place] for place in self.places(x))

    def halve(self):
        self.counters = [count >> 1 for count in self.counters]


def xxh64_of_number(number, seed):
    """XXH64 of 8 bytes, from its specification."""
    p1, p2, p3, p4, p5 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
    mask = (1 << 64) - 1

    def rotated(x, by):
        return (x << by | x >> 64 - by) & mask

    h = seed + p5 + 8 ^ rotated(number * p2 & mask, 31) * p1 & mask
    h = rotated(h & mask, 27) * p1 + p4 & mask
    h = (h ^ h >> 33) * p2 & mask
    h = (h ^ h >> 29) * p3 & mask
    return h ^ h >> 32


@pytest.mark.parametrize("which", [0, 1, 2], ids=["small", "medium", "large"])
def test_w_tinylfu_differs_by_its_sketch_only(stream, which):
    """The reference model has our misses with exact numbers of requests, and theirs with their Bloom filter. Sizes whose main part does not
    divide by five are left out: see w_tinylfu.py."""
    ids, _, sizes = stream
    size = sizes[which]
    requests = ids[:20_000]
    assert ours("w_tinylfu", {}, requests, size) == sum(w_tinylfu(requests.tolist(), size)[0])
    if (size - size // 100) % 5 == 0:
        assert theirs("WTinyLFU", {}, stream, size) == sum(w_tinylfu(ids.tolist(), size, make_counts=CountingBloomFilter)[0])


RANDOM_RUNS = """
import sys, libcachesim
for _ in range(10):
    reader = libcachesim.TraceReader(sys.argv[1], libcachesim.TraceType.ORACLE_GENERAL_TRACE)
    print(libcachesim.Random(int(sys.argv[2])).process_trace(reader)[0])
"""


@pytest.mark.parametrize("which", [0, 1, 2], ids=["small", "medium", "large"])
def test_random_within_three_sigma_over_ten_seeds(stream, which):
    """Means of ten runs each, by the spread of one run. Theirs in a process of its own, where its generator begins at the same place always.
    The means differ by more than chance: theirs draws a place of its hash table and then an object of that place
    (chainedHashTableV2.c, chained_hashtable_rand_obj_v2()), so objects that share a place are taken less often."""
    ids, path, sizes = stream
    size = sizes[which]
    done = subprocess.run([sys.executable, "-c", RANDOM_RUNS, str(path), str(size)], capture_output=True, text=True, check=True)
    their_misses = [float(line) * len(ids) for line in done.stdout.split()]
    our_misses = [ours("random", {}, ids, size, seed) for seed in range(10)]
    sigma = np.hypot(np.std(their_misses, ddof=1), np.std(our_misses, ddof=1))
    assert abs(np.mean(our_misses) - np.mean(their_misses)) <= 3 * sigma


def test_random_misses_as_fifo_does_where_requests_are_independent():
    """Of both the miss ratio is the same under the independent reference model (Gelenbe 1973)."""
    ids = zipf_requests()
    misses = [ours("random", {}, ids, 500, seed) for seed in range(10)]
    assert abs(np.mean(misses) - ours("fifo", {}, ids, 500)) <= 3 * np.std(misses, ddof=1)


def test_clock_pro_of_libcachesim_leaves_much_of_its_cache_empty(stream):
    """Why there is nothing to compare: after 100 000 requests it holds far fewer objects than it may, and misses far more than ours."""
    size = stream[2][1]
    cache = libcachesim.ClockPro(size)
    reader = libcachesim.TraceReader(str(stream[1]), libcachesim.TraceType.ORACLE_GENERAL_TRACE)
    miss_ratio, _ = cache.process_trace(reader)
    assert cache.get_n_obj() < 0.75 * size
    assert ours("clock_pro", {}, stream[0], size) < 0.95 * miss_ratio * len(stream[0])
