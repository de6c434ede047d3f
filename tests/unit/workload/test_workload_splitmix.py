"""splitmix64 against its definition in plain integers, and its published first numbers."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlab.workload.splitmix import rtouch_pages, splitmix64

MASK = (1 << 64) - 1


def plain(seed, count):
    state, out = seed, []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        out.append(z ^ (z >> 31))
    return out


def test_published_numbers():
    assert [int(x) for x in splitmix64(0, 3)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


@settings(deadline=None)
@given(st.integers(0, MASK), st.integers(0, 50), st.integers(0, 50))
def test_any_stretch(seed, count, skip):
    assert [int(x) for x in splitmix64(seed, count, skip)] == plain(seed, skip + count)[skip:]


def test_pages_in_chunks():
    pages = np.concatenate(list(rtouch_pages(7, 10, 100, chunk=3)))
    assert pages.tolist() == [x % 100 for x in plain(7, 10)]
