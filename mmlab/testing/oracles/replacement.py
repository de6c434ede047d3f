"""Replacement policies of a cache of equal objects in plain Python: what request replay must agree with, request by request.

Each is called with the requested objects and the cache's size, and returns two things: for each request whether it missed, and the objects
left in the cache.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

Outcome = tuple[list[bool], set[int]]


def fifo(requests: Sequence[int], size: int) -> Outcome:
    """First in, first out."""
    queue: deque[int] = deque()
    cached: set[int] = set()
    missed = []
    for wanted in requests:
        missed.append(wanted not in cached)
        if missed[-1]:
            if len(queue) == size:
                cached.remove(queue.popleft())
            queue.append(wanted)
            cached.add(wanted)
    return missed, cached


def clock(requests: Sequence[int], size: int) -> Outcome:
    """Second chance: one bit an object, clear when it comes in, set by a hit, spent to go round once more."""
    queue: deque[int] = deque()
    referenced: dict[int, bool] = {}
    missed = []
    for wanted in requests:
        missed.append(wanted not in referenced)
        if not missed[-1]:
            referenced[wanted] = True
            continue
        while len(queue) == size:
            oldest = queue.popleft()
            if referenced[oldest]:
                referenced[oldest] = False
                queue.append(oldest)
            else:
                del referenced[oldest]
        queue.append(wanted)
        referenced[wanted] = False
    return missed, set(referenced)


def lru(requests: Sequence[int], size: int) -> Outcome:
    """Least recently used."""
    order: OrderedDict[int, None] = OrderedDict()
    missed = []
    for wanted in requests:
        missed.append(wanted not in order)
        if missed[-1] and len(order) == size:
            order.popitem(last=False)
        order[wanted] = None
        order.move_to_end(wanted)
    return missed, set(order)


def opt(requests: Sequence[int], size: int) -> Outcome:
    """Belady: the object whose next request is farthest away goes. Objects never asked for again are all equally far, so which of them
    are left in the cache at the end is not determined."""
    cached: set[int] = set()
    missed = []
    for i, wanted in enumerate(requests):
        missed.append(wanted not in cached)
        if missed[-1] and len(cached) == size:
            rest = list(requests[i:])
            cached.remove(max(cached, key=lambda x: rest.index(x) if x in rest else len(rest)))
        cached.add(wanted)
    return missed, cached


ORACLES: dict[str, Callable[[Sequence[int], int], Outcome]] = {"fifo": fifo, "clock": clock, "lru": lru, "opt": opt}
