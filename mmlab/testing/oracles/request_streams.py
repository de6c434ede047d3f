"""Streams of requests that mmlab and libcachesim both run, in tests and benchmarks, and what a reclaimer of mmlab misses on them."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmlab._engine.requests import RequestMachine
from mmlab.policies import Policy
from mmlab.workload.request_readers import read_requests
from mmlab.workload.traces import shipped

SEED = 20240607


def zipf(objects: int, requests: int) -> np.ndarray:
    """Zipf(1) over scattered objects: the object of each request, from 0."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    weights = np.cumsum(1 / np.arange(1, objects + 1))
    return rng.permutation(objects)[np.searchsorted(weights, rng.random(requests) * weights[-1])]


def zipf_with_scan(objects: int, requests: int) -> np.ndarray:
    """The same, with a fifth of the requests replaced by a scan over as many other objects."""
    ids = zipf(objects, requests)
    scanned = np.arange(requests) % 10 >= 8
    ids[scanned] = objects + np.arange(int(scanned.sum())) % objects
    return ids


def recorded() -> np.ndarray:
    """The pages that a shipped recording of a compiler touches."""
    return read_requests(shipped()["gcc"]).ids


def policy_misses(policy: Policy, params: dict[str, Any], ids: np.ndarray, size: int, seed: int = 0) -> int:
    """What the policy misses with a cache of `size` objects that begins empty."""
    machine = RequestMachine(policy, policy.params(**params) if policy.params else None, ids, size, seed=seed)
    while not machine.done:
        machine.step()
    return machine.misses
