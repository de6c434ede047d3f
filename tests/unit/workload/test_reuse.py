"""Distances give the misses of LRU and of the optimum at every size."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmlab.testing.oracles.replacement import lru, opt
from mmlab.workload.reuse import misses_at, opt_histogram, reuse_histogram


def test_distances_by_hand():
    # a b c b a a: c b a are new; b after c, b: 2; a after b, c, a: 3; a at once: 1
    assert reuse_histogram(np.array([0, 1, 2, 1, 0, 0]), 3).tolist() == [3, 1, 1, 1]


def test_distances_under_the_optimum_by_hand():
    # a b c are new: the list is c a b, since a is asked for before b. a is second, b third (c, never asked for again, has gone to the end)
    assert opt_histogram(np.array([0, 1, 2, 0, 1]), 3).tolist() == [3, 0, 1, 1]


def test_no_requests():
    assert misses_at(opt_histogram(np.zeros(0, np.int64), 0), np.array([1, 5])).tolist() == [0, 0]
    assert misses_at(reuse_histogram(np.zeros(0, np.int64), 0), np.array([1, 5])).tolist() == [0, 0]


@given(st.lists(st.integers(0, 7), max_size=120))
def test_misses_as_the_oracle_s(requests):
    """More requests than twice the objects, so places are used anew."""
    ids = np.unique(requests, return_inverse=True)[1]
    objects = len(set(requests))
    sizes = np.arange(1, 10)
    found = misses_at(reuse_histogram(ids, objects), sizes)
    assert found.tolist() == [sum(lru(requests, int(size))[0]) for size in sizes]


@given(st.lists(st.integers(0, 9), max_size=80))
def test_optimal_misses_as_the_oracle_s(requests):
    ids = np.unique(requests, return_inverse=True)[1]
    sizes = np.arange(1, 12)
    found = misses_at(opt_histogram(ids, len(set(requests))), sizes)
    assert found.tolist() == [sum(opt(requests, int(size))[0]) for size in sizes]
