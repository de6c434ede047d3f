"""Reuse distances: how many different objects were asked for since the last request for the same one. LRU of any size follows from them.

A cache of c objects under LRU holds the c objects asked for last (Mattson et al. 1970), so a request hits if its distance, the object itself
included, is at most c.
"""

from __future__ import annotations

import numpy as np

from mmlab.kernels.jit import routine


def reuse_histogram(ids: np.ndarray, objects: int) -> np.ndarray:
    """Requests by reuse distance, int64[objects + 1]; entry 0: first requests for an object. ids: whole numbers from 0 to objects - 1.

    One pass, O(log objects) a request.
    """
    places = 2 * max(1, objects)
    histogram, last = np.zeros(objects + 1, np.int64), np.zeros(max(1, objects), np.int64)
    _count(np.ascontiguousarray(ids, np.uint32), last, np.full(places + 1, -1, np.int64), np.zeros(places + 1, np.int64), histogram)
    return histogram


def lru_misses(histogram: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Misses of LRU caches of these sizes, int64."""
    hits = np.concatenate(([0], np.cumsum(histogram[1:])))
    return histogram.sum() - hits[np.minimum(sizes, len(hits) - 1)]


@routine
def _add(tree, place, by):
    """tree: Fenwick's, of how many objects have their last request at a place."""
    while place < len(tree):
        tree[place] += by
        place += place & -place


@routine
def _up_to(tree, place):
    total = 0
    while place > 0:
        total += tree[place]
        place &= place - 1
    return total


@routine
def _squeeze(last, owner, tree):
    """Give the last requests the first places, in their order; returns how many there are."""
    used = 0
    for place in range(1, len(owner)):
        x = owner[place]
        owner[place] = -1
        if x >= 0:
            used += 1
            owner[used] = x
            last[x] = used
    for place in range(1, len(tree)):
        tree[place] = max(0, min(used, place) - (place - (place & -place)))
    return used


@routine
def _count(ids, last, owner, tree, histogram):
    """Fill histogram. last: an object's place, 0 for none; owner: the object at a place, -1 for none; place 0 is not used."""
    place = 0
    known = 0
    for i in range(len(ids)):
        if place == len(owner) - 1:
            place = _squeeze(last, owner, tree)
        x = np.int64(ids[i])
        before = last[x]
        if before == 0:
            histogram[0] += 1
            known += 1
        else:
            histogram[known - _up_to(tree, before) + 1] += 1
            owner[before] = -1
            _add(tree, before, -1)
        place += 1
        owner[place] = x
        last[x] = place
        _add(tree, place, 1)
    return 0
