"""Files that set how file pages are read: read_ahead_kb of a disk and fault_around_bytes.

Models: block/blk-sysfs.c queue_ra_store(), mm/memory.c fault_around_bytes_set(). Left out: different settings for several disks.
"""

from __future__ import annotations

import re
from typing import Any

from mmlab.model import rows as r
from mmlab.model.const import EINVAL, PAGE_SHIFT, PAGE_SIZE, PTRS_PER_TABLE

READ_AHEAD_KB = re.compile(r"/sys/block/[a-z0-9]+/queue/read_ahead_kb")
RESULTS_DISK = "/sys/block/vda/"  # on which a script's results are kept: its setting changes nothing for the files of the script
FAULT_AROUND_BYTES = "/sys/kernel/debug/fault_around_bytes"


def knows(path: str) -> bool:
    """Whether the path is one of these files."""
    return path == FAULT_AROUND_BYTES or READ_AHEAD_KB.fullmatch(path) is not None


def read(sim: Any, path: str) -> str:
    """The setting's text."""
    if path == FAULT_AROUND_BYTES:
        return f"{int(sim.machine.sc[r.SC_FAULT_AROUND]) * PAGE_SIZE}\n"
    if path.startswith(RESULTS_DISK):
        return f"{getattr(sim, 'results_read_ahead_kb', 128)}\n"
    return f"{int(sim.machine.sc[r.SC_READAHEAD_PAGES]) * 4}\n"


def write(sim: Any, path: str, text: str) -> int:
    """Set it: 0, or -EINVAL. Fault-around is rounded down to a power of two pages, at least one and at most a page table's."""
    try:
        value = int(text, 0)
    except ValueError:
        return -EINVAL
    if value < 0:
        return -EINVAL
    if path.startswith(RESULTS_DISK):
        sim.results_read_ahead_kb = value >> 2 << 2
        return 0
    if path != FAULT_AROUND_BYTES:
        sim.machine.sc[r.SC_READAHEAD_PAGES] = value * 1024 >> PAGE_SHIFT
        return 0
    if value >> PAGE_SHIFT > PTRS_PER_TABLE:
        return -EINVAL
    sim.machine.sc[r.SC_FAULT_AROUND] = 1 << max(value >> PAGE_SHIFT, 1).bit_length() - 1
    return 0
