"""Miss counts of the exact policies equal those of libcachesim, another implementation, on the same requests."""

import numpy as np
import pytest

from mmlab._engine.requests import replay
from mmlab_rivals.reclaimer.clock import CLOCK
from mmlab_rivals.reclaimer.fifo import FIFO
from mmlab_rivals.reclaimer.lru import LRU
from mmlab_rivals.reclaimer.opt import OPT

libcachesim = pytest.importorskip("libcachesim")

OBJECTS, REQUESTS = 5000, 100_000
THEIRS = {"fifo": "FIFO", "clock": "Clock", "lru": "LRU", "opt": "Belady"}
ORACLE_GENERAL = np.dtype([("time", "<u4"), ("id", "<u8"), ("size", "<u4"), ("next", "<i8")])


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


STREAMS = {"zipf": zipf_requests, "scan": scan_requests}


@pytest.fixture(scope="module", params=STREAMS)
def stream(request, tmp_path_factory):
    """(object of each request, the same as an oracleGeneral file)."""
    ids = STREAMS[request.param]()
    order = np.argsort(ids, kind="stable")
    records = np.zeros(REQUESTS, ORACLE_GENERAL)
    records["id"], records["size"], records["next"] = ids + 1, 1, -1
    again = ids[order[:-1]] == ids[order[1:]]
    records["next"][order[:-1][again]] = order[1:][again]
    path = tmp_path_factory.mktemp("stream") / "trace.oracleGeneral"
    records.tofile(path)
    return ids, path


@pytest.mark.parametrize("policy", [FIFO, CLOCK, LRU, OPT], ids=lambda policy: policy.name)
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_misses_equal(stream, policy, share):
    ids, path = stream
    size = int(OBJECTS * share)
    reader = libcachesim.TraceReader(str(path), libcachesim.TraceType.ORACLE_GENERAL_TRACE)
    theirs, _ = getattr(libcachesim, THEIRS[policy.name])(size).process_trace(reader)
    assert replay(policy, None, ids, size)["misses"] == round(theirs * REQUESTS)
