"""Misses beside libcachesim's, policy for policy where the definitions are the same: a zipf stream, one with scans, a recorded compiler.

No times: the table shows the misses at three sizes, ours and theirs, and whether they are equal. docs/libcachesim.md has where definitions differ.
"""

from __future__ import annotations

import numpy as np
import pytest

from mmlab._engine.requests import RequestMachine
from mmlab.testing.oracles.libcachesim import EQUAL, misses, write_oracle_general
from mmlab.workload.request_readers import read_requests
from mmlab.workload.traces import shipped
from mmlab_rivals.reclaimer import RECLAIMERS

pytest.importorskip("libcachesim")
pytestmark = pytest.mark.bench

OBJECTS, REQUESTS, SEED = 50_000, 1_000_000, 20240607


def zipf() -> np.ndarray:
    """Zipf(1) over scattered objects."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    weights = np.cumsum(1 / np.arange(1, OBJECTS + 1))
    return rng.permutation(OBJECTS)[np.searchsorted(weights, rng.random(REQUESTS) * weights[-1])]


def scan() -> np.ndarray:
    """The same, with a fifth of the requests replaced by a scan over other objects."""
    ids = zipf()
    scanned = np.arange(REQUESTS) % 10 >= 8
    ids[scanned] = OBJECTS + np.arange(int(scanned.sum())) % OBJECTS
    return ids


def gcc() -> np.ndarray:
    """The pages that a shipped recording of a compiler touches."""
    return read_requests(shipped()["gcc"]).ids


#: requests, and three sizes (libcachesim's LIRS takes 200 and more, see lirs.py)
STREAMS = {"zipf": (zipf, (500, 5000, 25_000)), "scan": (scan, (1000, 10_000, 50_000)), "gcc": (gcc, (200, 500, 2000))}


@pytest.fixture(scope="module", params=STREAMS)
def stream(request, tmp_path_factory):
    """(object of each request, the same as a file, sizes)."""
    make, sizes = STREAMS[request.param]
    ids = make()
    path = tmp_path_factory.mktemp("stream") / "trace.oracleGeneral"
    write_oracle_general(ids, path)
    yield ids, path, sizes
    path.unlink()


def called(name: str, params: dict[str, object]) -> str:
    return name + (f"({', '.join(f'{key}={value}' for key, value in params.items())})" if params else "")


@pytest.mark.parametrize(("name", "params", "their_name", "their_params"), EQUAL, ids=[called(name, params) for name, params, _, _ in EQUAL])
def test_misses(stream, name, params, their_name, their_params, record_property):
    ids, path, sizes = stream
    policy = next(policy for policy in RECLAIMERS if policy.name == name)
    ours, theirs = [], []
    for size in sizes:
        machine = RequestMachine(policy, policy.params(**params) if policy.params else None, ids, size)
        while not machine.done:
            machine.step()
        ours.append(machine.misses)
        theirs.append(misses(their_name, their_params, path, len(ids), size))
    for key, value in (("mmlab", ours), ("reference", theirs)):
        record_property(key, " ".join(f"{count:>7}" for count in value) + (f"  libcachesim {called(their_name, their_params)}" if key == "reference" else ""))
    record_property("goal", f"equal in {', '.join(map(str, sizes))}")
    record_property("met", ours == theirs)
    assert ours == theirs
