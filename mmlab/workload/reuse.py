"""Stack distances: the misses of caches of every size from one pass over the requests, for LRU and for the optimum.

Both are stack algorithms (Mattson, Gecsei, Slutz and Traiger 1970): their caches of c objects hold the first c of one list, whatever c is, so a
request hits if the place of its object on the list, its distance, is at most c. LRU's list is by the last request, so a distance is how many
different objects were asked for since, the object itself included. The optimum's is Mattson's for Belady's choice: the object asked for
comes first, and what stood first moves down, taking at each place the one that is asked for later further down with it, to the place that
came free.
"""

from __future__ import annotations

import numpy as np

from mmlab.kernels.jit import routine

NEVER = 1 << 62  # next use of an object that is not asked for again


def reuse_histogram(ids: np.ndarray, objects: int) -> np.ndarray:
    """Requests by reuse distance, int64[objects + 1]; entry 0: first requests for an object. ids: whole numbers from 0 to objects - 1.

    One pass, O(log objects) a request.
    """
    places = 2 * max(1, objects)
    histogram, last = np.zeros(objects + 1, np.int64), np.zeros(max(1, objects), np.int64)
    _count(np.ascontiguousarray(ids, np.uint32), last, np.full(places + 1, -1, np.int64), np.zeros(places + 1, np.int64), histogram)
    return histogram


def opt_histogram(ids: np.ndarray, objects: int) -> np.ndarray:
    """Requests by their distance under the optimum, int64[objects + 1]; entry 0: first requests for an object. ids: as reuse_histogram()'s.

    One pass, O(log objects) for each object that moves on the list: some dozens a request on skewed streams.
    """
    leaves = 1 << max(1, objects - 1).bit_length()
    histogram = np.zeros(objects + 1, np.int64)
    ids = np.ascontiguousarray(ids, np.uint32)
    next_use = np.empty(len(ids), np.int64)
    _find_next_uses(ids, np.full(max(1, objects), NEVER, np.int64), next_use)
    _count_opt(ids, next_use, np.zeros(max(1, objects), np.int64), np.zeros(leaves, np.int64), np.full(2 * leaves, -1, np.int64), histogram)
    return histogram


def misses_at(histogram: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Misses of caches of these sizes, int64. histogram: requests by distance."""
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


@routine
def _find_next_uses(ids, last, next_use):
    """Fill next_use: the number of the next request for the same object. last: all NEVER."""
    i = len(ids)
    while i > 0:
        i -= 1
        x = np.int64(ids[i])
        next_use[i] = last[x]
        last[x] = i
    return 0


@routine
def _set(tree, place, value):
    """tree: the larger of two children above its second half, which holds next uses by place. Set one."""
    node = len(tree) // 2 + place
    tree[node] = value
    node >>= 1
    while node > 0:
        larger = max(tree[2 * node], tree[2 * node + 1])
        if tree[node] == larger:
            break
        tree[node] = larger
        node >>= 1


@routine
def _first_later(tree, place, value):
    """The first place behind this one whose object is asked for later than value; one behind all if there is none."""
    leaves = len(tree) // 2
    node = leaves + place
    while True:
        while node & 1:
            node >>= 1
        if node == 0:
            return leaves
        node += 1
        if tree[node] > value:
            break
    while node < leaves:
        node = 2 * node if tree[2 * node] > value else 2 * node + 1
    return node - leaves


@routine
def _count_opt(ids, next_use, distance, owner, tree, histogram):
    """Fill histogram. distance: an object's place on the list, from 1, 0 for none; owner: the object at a place, from 0."""
    leaves = len(tree) // 2
    known = 0
    for i in range(len(ids)):
        x = np.int64(ids[i])
        free = distance[x] - 1
        if free < 0:
            free = known
            known += 1
            histogram[0] += 1
        else:
            histogram[free + 1] += 1
        if free > 0:
            moving, use = owner[0], tree[leaves]
            place = _first_later(tree, 0, use)
            while place < free:
                further, later = owner[place], tree[leaves + place]
                owner[place] = moving
                distance[moving] = place + 1
                _set(tree, place, use)
                moving, use = further, later
                place = _first_later(tree, place, use)
            owner[free] = moving
            distance[moving] = free + 1
            _set(tree, free, use)
        owner[0] = x
        distance[x] = 1
        _set(tree, 0, next_use[i])
    return 0
