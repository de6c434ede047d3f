"""A fixed mix of SLUB operations; prints a digest of every array, for comparing builds. Run as a program or call digest()."""

from __future__ import annotations

import hashlib

from slab_machine import SlabMachine

from mmlab.model.slabinfo import SLAB_CTOR, SLAB_HWCACHE_ALIGN, SLAB_RECLAIM_ACCOUNT
from mmlab_linux.slab_allocator.slub import Params

CACHES = ((1, 104, 0), (2, 700, SLAB_RECLAIM_ACCOUNT | SLAB_CTOR), (3, 2080, SLAB_HWCACHE_ALIGN))


def digest() -> str:
    """SHA-256 over results and state after about 1500 operations on two CPUs, with random freelists."""
    machine = SlabMachine(cpus=2, params=Params(freelist_random=True))
    results = [machine.op("create", cache, size, 0, flags) for cache, size, flags in CACHES]
    live: list[int] = []
    number = 1
    for i in range(1500):
        number = number * 48271 % 2147483647
        if live and number % 7 >= (4 if i < 900 else 2):  # grows, then shrinks
            results.append(machine.free(live.pop(number % len(live)), cpu=number % 2))
        else:
            live.append(machine.alloc(1 + number % 3, cpu=number % 2))
            results.append(live[-1])
    results += [machine.op("stat", cache, what) for cache in (1, 2, 3) for what in range(12)]
    results += [machine.op("shrink", 2), machine.op("check")]
    hashed = hashlib.sha256(repr(results).encode())
    for name, array in [*machine.m.arrays().items(), *machine.st.arrays().items()]:
        if name in ("page", "pagex", "zone", "pcp", "node", "vmstat", "cache", "cpu", "nr_shuffled") and array.nbytes < 1 << 24:
            hashed.update(array.tobytes())
    return hashed.hexdigest()


if __name__ == "__main__":
    print(digest())
