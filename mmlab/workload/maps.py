"""The operations that open a stream of bare accesses: each task is spawned with one anonymous map at `STREAM_BASE`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmlab.workload.operation import PAGE_SIZE, Place
from mmlab.workload.ops import make_operation
from mmlab.workload.stream import KIND_OPERATION, STREAM_BASE, EventStream, pack

BASE_PAGE = STREAM_BASE // PAGE_SIZE


def mapped_stream(words: np.ndarray, tasks: Sequence[str], pages: Sequence[int], meta: dict[str, Any]) -> EventStream:
    """A stream of `words` behind the spawn and the map of each task.

    words  int64[n] accesses whose payload is BASE_PAGE + page
    tasks  names by number; pages: how many pages each task's map has (at least 1 is mapped)
    """
    ops = []
    for task, size in zip(tasks, pages):
        size = max(int(size), 1)
        ops.append(make_operation("spawn", task, f"spawn {task}"))
        ops.append(
            make_operation(
                "mmap", task, f"mmap {task} data {size} anon at={STREAM_BASE:#x}",
                region="data", size=size * PAGE_SIZE, file=None, at=Place(None, STREAM_BASE),
            )
        )  # fmt: skip
    start = pack(KIND_OPERATION, np.repeat(np.arange(len(tasks)), 2), np.arange(2 * len(tasks)))
    return EventStream(np.concatenate((start, words)), tuple(ops), tuple(tasks), meta)
