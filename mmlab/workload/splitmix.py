"""splitmix64, the generator of `rtouch`: state += 0x9E3779B97F4A7C15, then the mix of two multiplications."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_MASK = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15


def splitmix64(seed: int, count: int, skip: int = 0) -> np.ndarray:
    """Numbers `skip` … `skip + count - 1` of the sequence that starts from state = `seed`, as uint64[count].

    The state before the i-th output is seed + i * step, so any stretch of the sequence can be made at once.
    """
    start = (seed + (skip + 1) * _STEP) & _MASK
    with np.errstate(over="ignore"):
        z = np.uint64(start) + np.arange(count, dtype=np.uint64) * np.uint64(_STEP)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def rtouch_pages(seed: int, count: int, nr_pages: int, chunk: int = 1 << 20) -> Iterator[np.ndarray]:
    """The pages that `rtouch` touches, splitmix64() mod nr_pages, as int64 arrays of at most `chunk`."""
    for done in range(0, count, chunk):
        yield (splitmix64(seed, min(chunk, count - done), done) % np.uint64(nr_pages)).astype(np.int64)
