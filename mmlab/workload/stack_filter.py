"""The filter of recorded traces: far fewer events, and the misses of every LRU memory of at least k pages stay exactly what they were.

A *window* holds the k most recently used pages of the program (a page is a (task, page) pair). An access to a page in the window is a hit
in any LRU memory of k pages or more, so it can go, as long as pages still leave the window in the same order: an LRU memory above k pages
sees nothing else. So an access is kept when its page enters the window; and when a page leaves, each page used since whose last kept
access is older than that of the leaving one keeps its last access too (at its own place in the order). This is an online form of Kaplan,
Smaragdakis and Wilson's OLR ("Trace reduction for virtual memory simulations", SIGMETRICS 1999). Dropping the hits alone (Smith's stack
deletion) would not be exact: a page in constant use would look old when it leaves the window.

Beyond that, the first write to a page while it stays in the window is kept, so that memory knows which pages are dirty; a page cleaned
while it is in the window stays clean. FIFO and CLOCK see fewer accesses than the program made; for memories well above k pages the
difference is small (tests/unit/workload/test_stack_filter.py measures it).
"""

from __future__ import annotations

import numpy as np

from mmlab.kernels.jit import routine
from mmlab.workload.stream import KIND_OPERATION, KIND_WRITE

# Rows of the window, int64[6, k]: slots from the most recently used to the least (unused ones behind); and per slot its key (a word
# without its kind), the last access (kind, time), the time of the last kept access, whether a write was kept.
ORDER, KEY, KIND, TIME, KEPT, WRITTEN = range(6)
# Counters, int64[3]: slots in use, events in `out`, references seen (the time).
NR_USED, NR_OUT, NR_REFS = range(3)


class StackFilter:
    """The window, and the accesses kept so far.

    pages  k, at least 1; with 1 every change of page is kept
    """

    def __init__(self, pages: int, out_events: int = 1 << 20):
        self.window = np.zeros((6, pages), np.int64)
        self.window[ORDER] = np.arange(pages)
        self.counters = np.zeros(3, np.int64)
        self.out = np.empty((2, max(out_events, 4 * pages)), np.int64)  # rows: time, word
        self._done: list[np.ndarray] = []

    @property
    def references(self) -> int:
        """Accesses seen so far: the time of the last one."""
        return int(self.counters[NR_REFS])

    def flush(self) -> None:
        """Make room in `out`."""
        self._done.append(self.out[:, : self.counters[NR_OUT]].copy())
        self.counters[NR_OUT] = 0

    def events(self) -> tuple[np.ndarray, np.ndarray]:
        """All kept accesses in order: (time int64[n], word int64[n])."""
        self.flush()
        time, word = np.concatenate(self._done, axis=1)
        order = np.argsort(time, kind="stable")
        return time[order], word[order]

    def access(self, words: np.ndarray) -> None:
        """Take accesses (words of kind 0-2)."""
        words, position = np.ascontiguousarray(words, np.int64), 0
        while position < len(words):
            position = _access_all(self.window, self.counters, self.out, words, position)
            self.flush()

    def change(self, task: int, first_page: int, end_page: int, unmap: bool) -> None:
        """Tell of a change to pages first_page … end_page - 1 of a task.

        unmap: the pages leave memory. Otherwise their next write is kept again (a copy-on-write or write-protect fault may wait there).
        """
        used = self.window[ORDER, : self.counters[NR_USED]]
        key = self.window[KEY, used] >> 4
        hit = used[(key & 0xFFF == task) & (key >= first_page << 12) & (key < end_page << 12)]
        self.window[WRITTEN, hit] = 0
        if unmap and len(hit):
            gone = np.isin(self.window[ORDER], hit)
            self.window[ORDER] = np.concatenate((self.window[ORDER][~gone], self.window[ORDER][gone]))
            self.counters[NR_USED] -= len(hit)


def stack_filter(words: np.ndarray, pages: int) -> np.ndarray:
    """Filter accesses (words int64[n], no operations among them) with a window of `pages` pages."""
    if (words & 15 == KIND_OPERATION).any():
        raise ValueError("words: must be accesses only")
    window = StackFilter(pages)
    window.access(words)
    return window.events()[1]


@routine
def _keep(window, counters, out, slot):
    """The slot's last access is an event."""
    out[0, counters[NR_OUT]] = window[TIME, slot]
    out[1, counters[NR_OUT]] = window[KEY, slot] | window[KIND, slot]
    counters[NR_OUT] += 1
    window[KEPT, slot] = window[TIME, slot]


@routine
def access_one(window, counters, out, key, kind):
    """One access; `out` must have room for k + 1 events. key: a word without its kind. O(k) at worst, O(1) for the page used last."""
    counters[NR_REFS] += 1
    used = counters[NR_USED]
    depth = 0
    while depth < used and window[KEY, window[ORDER, depth]] != key:
        depth += 1
    enters = depth == used
    if enters:
        if used == window.shape[1]:
            depth = used - 1
            _leave(window, counters, out, window[ORDER, depth])
        else:
            counters[NR_USED] += 1
    slot = window[ORDER, depth]
    for i in range(depth, 0, -1):
        window[ORDER, i] = window[ORDER, i - 1]
    window[ORDER, 0] = slot
    window[KEY, slot] = key
    window[KIND, slot] = kind
    window[TIME, slot] = counters[NR_REFS]
    if enters:
        window[WRITTEN, slot] = 0
    if enters or (kind == KIND_WRITE and not window[WRITTEN, slot]):
        _keep(window, counters, out, slot)
        if kind == KIND_WRITE:
            window[WRITTEN, slot] = 1


@routine
def _leave(window, counters, out, leaving):
    """Keep what puts every other page after the leaving one."""
    kept = window[KEPT, leaving]
    for slot in range(window.shape[1]):
        if window[KEPT, slot] < kept:
            _keep(window, counters, out, slot)


@routine
def _access_all(window, counters, out, words, position):
    """Accesses from words[position] on; returns where it stopped: at the end, or where `out` may not hold what the next one keeps."""
    room = out.shape[1] - window.shape[1] - 1
    while position < len(words) and counters[NR_OUT] <= room:
        access_one(window, counters, out, words[position] & ~15, words[position] & 15)
        position += 1
    return position
