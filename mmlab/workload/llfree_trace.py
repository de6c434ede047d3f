"""Reads the allocation traces of LLFree's `replay` (luhsra/llfree-rs): page allocations and frees of a whole machine, by CPU.

A file is blocks of 4096 bytes. The first begins with u32 blocks, u32 CPUs, u32 highest frame. Each other one is a CPU's: u32 cpu, 12 bytes of
padding, 255 entries of 128 bits, from the lowest bit on 38 microseconds, 24 frame, 1 allocation (else free), 4 order, 29 GFP flags (bit 28:
for the page cache), 32 pid. What a CPU has not filled is zero. A CPU's entries are in order; all CPUs' are merged by their times.
Left out: pids, the page cache flag.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmlab.errors import InputError
from mmlab.model.const import MAX_ORDER
from mmlab.workload.allocations import ALLOC_PAGES, FREE_PAGES, MAX_CPU, Allocations
from mmlab.workload.readers import existing_file

BLOCK = 4096
ENTRIES = 255
HEAD = 16
GFP_BITS = (1 << 23) - 1  # those that mmlab knows


def read_llfree_trace(path: str | Path) -> Allocations:
    """The allocator stream of a trace. Raises InputError with file and place for one that is cut short or is something else."""
    path = existing_file(path)
    data = np.fromfile(path, np.uint8)
    if len(data) < 2 * BLOCK or len(data) % BLOCK:
        raise InputError(f"{path}: has {len(data)} bytes; a trace of LLFree is a multiple of {BLOCK}, and two at least: cut short, or not a trace of LLFree?")
    _, cpus, max_pfn = data[:12].view("<u4").tolist()
    if not 1 <= cpus <= MAX_CPU + 1:
        raise InputError(f"{path}: must be of 1 to {MAX_CPU + 1} CPUs, got {cpus}: not a trace of LLFree?")
    blocks = data[BLOCK:].reshape(-1, BLOCK)
    cpu = np.ascontiguousarray(blocks[:, :4]).view("<u4").ravel().astype(np.int64)
    if (bad := np.flatnonzero(cpu >= cpus)).size:
        raise InputError(f"{path}: block {bad[0] + 1} must be of a CPU below {cpus}, got {cpu[bad[0]]}: not a trace of LLFree?")
    words = np.ascontiguousarray(blocks[:, HEAD : HEAD + 16 * ENTRIES]).view("<u8").reshape(-1, 2)
    cpu = np.repeat(cpu, ENTRIES)
    used = words.any(axis=1)
    place = np.flatnonzero(used)
    low, high, cpu = words[used, 0], words[used, 1], cpu[used]
    pfn = (low >> np.uint64(38) & np.uint64((1 << 24) - 1)).astype(np.int64)
    order = (low >> np.uint64(63) | (high & np.uint64(7)) << np.uint64(1)).astype(np.int64)
    for name, values, most in (("order", order, MAX_ORDER), ("frame", pfn, max_pfn)):
        if (bad := np.flatnonzero(values > most)).size:
            block, entry = divmod(int(place[bad[0]]), ENTRIES)
            raise InputError(f"{path}: block {block + 1}, entry {entry}: {name} must be at most {most}, got {values[bad[0]]}: not a trace of LLFree?")
    if not len(pfn):
        raise InputError(f"{path}: has no entries")
    time_us = (low & np.uint64((1 << 38) - 1)).astype(np.int64)
    for one in np.unique(cpu):
        time_us[cpu == one] = np.maximum.accumulate(time_us[cpu == one])
    merged = np.argsort(time_us, kind="stable")
    op = np.where(low >> np.uint64(62) & np.uint64(1), ALLOC_PAGES, FREE_PAGES).astype(np.uint8)
    gfp = (high >> np.uint64(3) & np.uint64(GFP_BITS)).astype(np.int64)
    lowest = int(pfn.min()) & ~1023
    time_ns = (time_us[merged] - time_us[merged[0]]) * 1000
    meta = {"source": "LLFree trace", "file": path.name, "events": "pages", "cpus": cpus}
    node = np.full(len(op), -1, np.int64)
    return Allocations(op[merged], pfn[merged] - lowest, order[merged], gfp[merged], cpu[merged], node, time_ns, meta=meta)
