"""Miss-ratio curves: how often a reclaimer misses at every size of its cache. Exact by replay (stack algorithms: all sizes in one pass), or sampled.

Sampled is SHARDS (Waldspurger et al., FAST 2015; as a miniature of any policy: Waldspurger et al., ATC 2017): of the objects a share R is
chosen by a hash of their number, and their requests alone run over a cache of R times the size. Misses are counted per expected request, N R,
which takes the request counts of a few very popular objects out of the estimate (SHARDS-adj). Several samples with different hashes give the
mean and its standard error.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from attrs import frozen

from mmlab._engine.compile import Progress
from mmlab._engine.requests import RequestMachine
from mmlab.errors import InputError
from mmlab.policies import Policy
from mmlab.workload.requests import Requests
from mmlab.workload.reuse import misses_at, opt_histogram, reuse_histogram
from mmlab.workload.splitmix import splitmix64

#: a sampled cache has this many objects at least: smaller ones say nothing
LEAST = 8
#: how the distances of stack algorithms are found, and from how many sizes on that is quicker than a replay a size; none of the others is one
#: (as they are defined here: what they counted ends with eviction)
STACK = {"lru": (reuse_histogram, 1), "opt": (opt_histogram, 100)}
ONE_PASS, REPLAY, SAMPLED = "one pass", "replay", "sampled"


@frozen
class Point:
    """A policy at one size: the miss ratio, and its standard error (0: exact; NaN: of one sample nothing is known)."""

    policy: str
    size: int
    miss_ratio: float
    error: float
    method: str


def default_sizes(objects: int, points: int) -> list[int]:
    """Sizes from a thousandth of the objects to all of them, each the same number of times the one before."""
    return sorted({max(1, round(objects * 1000 ** (i / max(1, points - 1) - 1))) for i in range(points)})


def exact_curve(
    policy: Policy, params: Any, requests: Requests, sizes: list[int], seed: int = 0, progress: Progress | None = None
) -> list[Point]:
    """A point a size. Stack algorithms from distances, every other policy by a replay a size."""
    distances, least = STACK.get(policy.name, (None, 0))
    if distances is not None and len(sizes) >= least:
        misses, method = misses_at(distances(requests.ids, requests.objects), np.array(sizes, np.int64)), ONE_PASS
    else:
        misses, method = np.array([_misses(policy, params, requests.ids, size, seed, progress) for size in sizes]), REPLAY
    return [Point(policy.name, size, int(missed) / len(requests), 0.0, method) for size, missed in zip(sizes, misses, strict=True)]


def sampled_curve(
    policy: Policy, params: Any, requests: Requests, sizes: list[int], rate: float, samples: int, seed: int = 0, progress: Progress | None = None
) -> list[Point]:
    """A point a size for which the sampled cache has LEAST objects. rate: above 0, up to 1. InputError if no size is left."""
    kept = [size for size in sizes if round(size * rate) >= LEAST]
    if not kept:
        raise InputError(f"sample: at a rate of {rate} every size would be sampled by less than {LEAST} objects; take a larger rate or sizes from {round(LEAST / rate)}")
    ratios = np.empty((samples, len(kept)))
    for number in range(samples):
        ids = sample(requests, rate, int(splitmix64(seed, 1, number)[0]))
        for i, size in enumerate(kept):
            ratios[number, i] = _misses(policy, params, ids, round(size * rate), seed, progress) / (len(requests) * rate)
    error = np.std(ratios, axis=0, ddof=1) / np.sqrt(samples) if samples > 1 else np.full(len(kept), np.nan)
    return [Point(policy.name, size, float(ratios[:, i].mean()), float(error[i]), SAMPLED) for i, size in enumerate(kept)]


def sample(requests: Requests, rate: float, seed: int) -> np.ndarray:
    """The requests for objects whose hash is among the lowest `rate`, uint32, numbered anew from 0."""
    chosen = splitmix64(seed, requests.objects) < np.uint64(min(rate * 2.0**64, 2.0**64 - 2048))
    number = np.cumsum(chosen) - 1
    return number[requests.ids[chosen[requests.ids]]].astype(np.uint32)


def _misses(policy: Policy, params: Any, ids: np.ndarray, size: int, seed: int, progress: Progress | None) -> int:
    machine = RequestMachine(policy, params, ids, size, progress, seed)
    while not machine.done:
        machine.step()
    return machine.misses
