"""The in-memory event stream: one int64 word an event, the same for scripts, generated streams and traces.

A word is `kind | task << 4 | payload << 16`: kind in bits 0-3, the task's number in bits 4-15, the payload above. Accesses carry the
virtual page number, operations the index of their record in `EventStream.ops`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from attrs import asdict, field, frozen

from mmlab.kernels.jit import routine
from mmlab.model.rows import FUTURE_TASK_SHIFT
from mmlab.workload.operation import Operation

KIND_READ, KIND_WRITE, KIND_EXECUTE, KIND_OPERATION = 0, 1, 2, 15
KIND_BITS, TASK_SHIFT, PAYLOAD_SHIFT = 4, 4, 16
MAX_TASKS = 1 << (PAYLOAD_SHIFT - TASK_SHIFT)
MAX_PAYLOAD = 1 << 47
NEVER = 1 << 62  # next_use() of an access that has no successor

#: where generators and access-trace readers map the first page of a task
STREAM_BASE = 0x10000000000


def pack(kind, task, payload) -> np.ndarray:
    """Words from kinds, task numbers and payloads (integers or arrays that broadcast), int64."""
    return np.asarray(kind, np.int64) | np.asarray(task, np.int64) << TASK_SHIFT | np.asarray(payload, np.int64) << PAYLOAD_SHIFT


def unpack(words: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(kind, task, payload) of words, int64 each."""
    words = np.asarray(words, np.int64)
    return words & 15, words >> TASK_SHIFT & (MAX_TASKS - 1), words >> PAYLOAD_SHIFT


def _int64_words(words) -> np.ndarray:
    return np.ascontiguousarray(words, dtype=np.int64)


@frozen(eq=False)
class EventStream:
    """Events in order.

    words  int64[n], see the module
    ops    the operations that words of kind 15 point to
    tasks  names of the tasks by number
    meta   where the stream comes from: `source`, and what its reader or generator knows (plain JSON values)
    """

    words: np.ndarray = field(converter=_int64_words)
    ops: tuple[Operation, ...]
    tasks: tuple[str, ...]
    meta: dict[str, Any] = field(factory=dict)

    def __len__(self) -> int:
        return len(self.words)

    def digest(self) -> str:
        """sha256 over words, operations and task names (not `meta`), hexadecimal: equal streams, equal digests."""
        h = hashlib.sha256(self.words.astype("<i8", copy=False).tobytes())
        content = [list(self.tasks), [[op.name, op.task, op.args, op.background] for op in self.ops]]
        h.update(json.dumps(content, sort_keys=True, default=asdict).encode())
        return h.hexdigest()

    def next_use(self) -> np.ndarray:
        """`next_use(self.words)`."""
        return next_use(self.words)


def repeated(stream: EventStream, times: int) -> EventStream:
    """The stream's work `times` times.

    Where all operations stand in front (generators, access traces) the accesses are repeated in the same maps. Otherwise (a recorded
    program) the whole runs again and again, every time from `spawn` to `exit`; only what prepares the machine (`mkfile`, `sysctl`) is
    done once.
    """
    operations = np.flatnonzero(stream.words & 15 == KIND_OPERATION)
    in_front = len(operations) == 0 or int(operations[-1]) == len(operations) - 1
    front = len(operations) if in_front else next(i for i, op in enumerate(stream.ops) if op.task is not None)
    words = np.concatenate((stream.words[:front], np.tile(stream.words[front:], times)))
    return EventStream(words, stream.ops, stream.tasks, {**stream.meta, "repeat": times})


def touched_ranges(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The aligned ranges of 512 pages that a stream's accesses touch, and how many pages of each, int64[ranges] both.

    A range is task << FUTURE_TASK_SHIFT | page >> 9; they are in order.
    """
    kind, task, page = unpack(words)
    access = kind != KIND_OPERATION
    pages = np.unique(task[access] << FUTURE_TASK_SHIFT + 9 | page[access])
    return np.unique(pages >> 9, return_counts=True)


def work_of_tasks(words: np.ndarray, nr_tasks: int) -> np.ndarray:
    """What a stream does with each task from its beginning to its end: accesses, and different pages touched, int64[nr_tasks, 2]."""
    kind, task, page = unpack(words)
    access = kind != KIND_OPERATION
    pages = np.unique(task[access] << FUTURE_TASK_SHIFT + 9 | page[access])
    counts = [np.bincount(of, minlength=nr_tasks)[:nr_tasks] for of in (task[access], pages >> FUTURE_TASK_SHIFT + 9)]
    return np.stack(counts, axis=1).astype(np.int64)


def next_use(words: np.ndarray) -> np.ndarray:
    """For each event the index of the next access to the same page of the same task, int64[n]; 2**62 when there is none.

    Operations get 2**62. Two tasks' pages are different pages, even where they share memory. O(n) where the pages lie close together
    (within a few times n), else O(n log n).
    """
    words = np.asarray(words, np.int64)
    kind, task, page = unpack(words)
    access = kind != KIND_OPERATION
    key = np.where(access, page * (int(task.max(initial=0)) + 1) + task, -1)
    lowest = int(key[access].min(initial=NEVER))
    key[access] -= lowest
    span = int(key.max(initial=0)) + 1
    if span > 4 * len(words) + (1 << 20):
        distinct, key[access] = np.unique(key[access], return_inverse=True)
        span = len(distinct)
    result = np.empty(len(words), np.int64)
    _next_use(key, np.full(span, NEVER, np.int64), result)
    return result


@routine
def _next_use(key, later, result):
    """Backwards over key int64[n] (-1: no access); later int64[keys], all NEVER on entry, is where each key comes next."""
    for i in range(len(key) - 1, -1, -1):
        if key[i] < 0:
            result[i] = NEVER
        else:
            result[i] = later[key[i]]
            later[key[i]] = i
    return 0
