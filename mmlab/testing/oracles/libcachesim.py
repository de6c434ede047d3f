"""libcachesim, a cache simulator in C (a Python package of its own), as an oracle: which policies are defined alike, and what it misses.

Where definitions differ, and from its source in what: docs/libcachesim.md and the policies' files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mmlab.workload.requests import ORACLE_GENERAL
from mmlab.workload.stream import KIND_READ, NEVER, next_use, pack

#: ours, our parameters, theirs, their parameters; the defaults are the same where there are none. Equal miss for miss.
EQUAL: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("fifo", {}, "FIFO", {}), ("clock", {}, "Clock", {}), ("gclock", {}, "Clock", {"n_bit_counter": 2}), ("lru", {}, "LRU", {}),
    ("gclock", {"max_count": 7, "init_count": 1}, "Clock", {"n_bit_counter": 3, "init_freq": 1}),
    ("lru_k", {}, "LRUK", {}), ("lru_k", {"k": 3}, "LRUK", {"k": 3}), ("lfu", {}, "LFU", {}), ("opt", {}, "Belady", {}),
    ("sieve", {}, "Sieve", {}), ("s3_fifo", {}, "S3FIFO", {}), ("two_q", {}, "TwoQ", {}), ("arc", {}, "ARC", {}),
    ("s3_fifo", {"small_size_ratio": 0.2, "ghost_size_ratio": 2.0, "move_to_main_threshold": 1}, "S3FIFO",
     {"small_size_ratio": 0.2, "ghost_size_ratio": 2.0, "move_to_main_threshold": 1}),
    ("two_q", {"a_in_size_ratio": 0.1, "a_out_size_ratio": 1.5}, "TwoQ", {"a_in_size_ratio": 0.1, "a_out_size_ratio": 1.5}),
    ("lirs", {"demote_on_queue_hit": True}, "LIRS", {}),
]  # fmt: skip


def write_oracle_general(ids: np.ndarray, path: Path) -> None:
    """Requests for objects (whole numbers from 0, one a request) as a file that libcachesim reads: unit sizes, next accesses."""
    records = np.zeros(len(ids), ORACLE_GENERAL)
    later = next_use(pack(KIND_READ, 0, ids))
    records["time"], records["id"], records["size"] = np.arange(len(ids)) // 1000, ids.astype(np.int64) + 1, 1
    records["next"] = np.where(later == NEVER, -1, later)
    records.tofile(path)


def misses(name: str, params: dict[str, Any], path: Path, requests: int, size: int) -> int:
    """What a policy of libcachesim misses on such a file of so many requests, with a cache of so many objects that begins empty."""
    import libcachesim

    reader = libcachesim.TraceReader(str(path), libcachesim.TraceType.ORACLE_GENERAL_TRACE)
    miss_ratio, _ = getattr(libcachesim, name)(size, **params).process_trace(reader)
    return round(miss_ratio * requests)
