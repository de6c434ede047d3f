"""Miss counts of the policies equal those of libcachesim, another implementation, on the same requests.

Where the definitions differ, in what, and from its source: lirs.py (one parameter), w_tinylfu.py (a sketch's collisions), clock_pro.py and
car.py of the reclaimers.
"""

import subprocess
import sys

import numpy as np
import pytest

from mmlab._engine.requests import RequestMachine
from mmlab.workload.requests import ORACLE_GENERAL
from mmlab.workload.stream import KIND_READ, NEVER, next_use, pack, unpack
from mmlab.workload.trace_format import read_recorded
from mmlab.workload.traces import shipped
from mmlab_rivals.reclaimer import RECLAIMERS

libcachesim = pytest.importorskip("libcachesim")

OBJECTS, REQUESTS = 5000, 100_000
POLICIES = {policy.name: policy for policy in RECLAIMERS}
#: ours, our parameters, theirs, their parameters; the defaults are the same where there are none
EQUAL = [
    ("fifo", {}, "FIFO", {}), ("clock", {}, "Clock", {}), ("gclock", {}, "Clock", {"n_bit_counter": 2}), ("lru", {}, "LRU", {}),
    ("gclock", {"max_count": 7, "init_count": 1}, "Clock", {"n_bit_counter": 3, "init_freq": 1}),
    ("lru_k", {}, "LRUK", {}), ("lru_k", {"k": 3}, "LRUK", {"k": 3}), ("lfu", {}, "LFU", {}), ("opt", {}, "Belady", {}),
    ("sieve", {}, "Sieve", {}), ("s3_fifo", {}, "S3FIFO", {}), ("two_q", {}, "TwoQ", {}), ("arc", {}, "ARC", {}),
    ("s3_fifo", {"small_size_ratio": 0.2, "ghost_size_ratio": 2.0, "move_to_main_threshold": 1}, "S3FIFO",
     {"small_size_ratio": 0.2, "ghost_size_ratio": 2.0, "move_to_main_threshold": 1}),
    ("two_q", {"a_in_size_ratio": 0.1, "a_out_size_ratio": 1.5}, "TwoQ", {"a_in_size_ratio": 0.1, "a_out_size_ratio": 1.5}),
    ("lirs", {"demote_on_queue_hit": True}, "LIRS", {}),
]  # fmt: skip


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
STREAMS = {"zipf": (zipf_requests, (250, 500, 2500)), "scan": (scan_requests, (250, 500, 2500)), "recorded": (recorded_requests, (200, 400, 800))}


@pytest.fixture(scope="module", params=STREAMS)
def stream(request, tmp_path_factory):
    """(object of each request, the same as an oracleGeneral file, sizes)."""
    make, sizes = STREAMS[request.param]
    ids = make()
    records = np.zeros(len(ids), ORACLE_GENERAL)
    later = next_use(pack(KIND_READ, 0, ids))
    records["id"], records["size"], records["next"] = ids + 1, 1, np.where(later == NEVER, -1, later)
    path = tmp_path_factory.mktemp("stream") / "trace.oracleGeneral"
    records.tofile(path)
    return ids, path, sizes


def ours(name, params, ids, size, seed=0):
    policy = POLICIES[name]
    machine = RequestMachine(policy, policy.params(**params) if policy.params else None, ids, size, seed=seed)
    while not machine.done:
        machine.step()
    return machine.misses


def theirs(name, params, stream, size):
    reader = libcachesim.TraceReader(str(stream[1]), libcachesim.TraceType.ORACLE_GENERAL_TRACE)
    miss_ratio, _ = getattr(libcachesim, name)(size, **params).process_trace(reader)
    return round(miss_ratio * len(stream[0]))


@pytest.mark.parametrize("which", [0, 1, 2], ids=["small", "medium", "large"])
@pytest.mark.parametrize(("name", "params", "their_name", "their_params"), EQUAL, ids=lambda x: x if isinstance(x, str) else "-".join(x))
def test_misses_equal(stream, name, params, their_name, their_params, which):
    size = stream[2][which]
    assert ours(name, params, stream[0], size) == theirs(their_name, their_params, stream, size)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["small", "medium", "large"])
def test_w_tinylfu_differs_by_its_sketch_only(stream, which):
    """Exact numbers of accesses in place of a Bloom filter's: no more misses, and at most 4 % fewer."""
    size = stream[2][which]
    their_misses = theirs("WTinyLFU", {}, stream, size)
    assert 0.96 * their_misses <= ours("w_tinylfu", {}, stream[0], size) <= 1.001 * their_misses


RANDOM_RUNS = """
import sys, libcachesim
for _ in range(10):
    reader = libcachesim.TraceReader(sys.argv[1], libcachesim.TraceType.ORACLE_GENERAL_TRACE)
    print(libcachesim.Random(int(sys.argv[2])).process_trace(reader)[0])
"""


@pytest.mark.parametrize("which", [0, 1, 2], ids=["small", "medium", "large"])
def test_random_within_three_sigma_over_ten_seeds(stream, which):
    """Means of ten runs each. Theirs in a process of its own, where its generator begins at the same place always."""
    ids, path, sizes = stream
    size = sizes[which]
    done = subprocess.run([sys.executable, "-c", RANDOM_RUNS, str(path), str(size)], capture_output=True, text=True, check=True)
    their_misses = [float(line) * len(ids) for line in done.stdout.split()]
    our_misses = [ours("random", {}, ids, size, seed) for seed in range(10)]
    sigma = np.hypot(np.std(their_misses, ddof=1), np.std(our_misses, ddof=1)) / np.sqrt(10)
    assert abs(np.mean(our_misses) - np.mean(their_misses)) <= 3 * sigma


def test_clock_pro_of_libcachesim_leaves_much_of_its_cache_empty(stream):
    """Why there is nothing to compare: after 100 000 requests it holds far fewer objects than it may, and misses far more than ours."""
    size = stream[2][1]
    cache = libcachesim.ClockPro(size)
    reader = libcachesim.TraceReader(str(stream[1]), libcachesim.TraceType.ORACLE_GENERAL_TRACE)
    miss_ratio, _ = cache.process_trace(reader)
    assert cache.get_n_obj() < 0.75 * size
    assert ours("clock_pro", {}, stream[0], size) < 0.95 * miss_ratio * len(stream[0])
