"""Replacement policies of a cache of equal objects in plain Python: what request replay must agree with, request by request.

Each is called with the requested objects and the cache's size, and returns two things: for each request whether it missed, and the objects
left in the cache.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

from mmlab.testing.oracles.replacement_adaptive import Outcome, arc, car, clock_pro, lirs, s3_fifo, two_q, w_tinylfu


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


def gclock(requests: Sequence[int], size: int, max_count: int = 3) -> Outcome:
    """CLOCK with a counter: a hit adds one, going round once more spends one."""
    queue: deque[int] = deque()
    count: dict[int, int] = {}
    missed = []
    for wanted in requests:
        missed.append(wanted not in count)
        if not missed[-1]:
            count[wanted] = min(count[wanted] + 1, max_count)
            continue
        while len(queue) == size:
            oldest = queue.popleft()
            if count[oldest]:
                count[oldest] -= 1
                queue.append(oldest)
            else:
                del count[oldest]
        queue.append(wanted)
        count[wanted] = 0
    return missed, set(count)


def wsclock(requests: Sequence[int], size: int, tau: int = 100_000) -> Outcome:
    """WSClock by request numbers: out goes the first object without a mark that was noted more than tau ago, among the first 32; else
    the one of these that was noted first."""
    queue: deque[int] = deque()
    noted: dict[int, int] = {}
    marked: set[int] = set()
    missed = []
    for now, wanted in enumerate(requests):
        missed.append(wanted not in noted)
        if not missed[-1]:
            marked.add(wanted)
            continue
        if len(queue) == size:
            passed: list[int] = []
            for _ in range(min(size, 32)):
                oldest = queue[0]
                if oldest in marked:
                    marked.remove(oldest)
                    noted[oldest] = now
                elif now - noted[oldest] > tau:
                    break
                passed.append(oldest)
                queue.rotate(-1)
            else:
                oldest = min(passed, key=noted.__getitem__)
            queue.remove(oldest)
            del noted[oldest]
        queue.append(wanted)
        noted[wanted] = now
    return missed, set(noted)


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


def sieve(requests: Sequence[int], size: int) -> Outcome:
    """FIFO order; a hand goes from old to new, spends marks, and takes the first object without one."""
    queue: list[int] = []  # oldest first
    marked: set[int] = set()
    hand = 0
    missed = []
    for wanted in requests:
        missed.append(wanted not in queue)
        if not missed[-1]:
            marked.add(wanted)
            continue
        if len(queue) == size:
            while queue[hand] in marked:
                marked.remove(queue[hand])
                hand = (hand + 1) % size
            del queue[hand]
            hand = hand if hand < len(queue) else 0
        queue.append(wanted)
    return missed, set(queue)


def lfu(requests: Sequence[int], size: int) -> Outcome:
    """The fewest requests since it came in; among equals the one that had so many first."""
    rank: dict[int, tuple[int, int]] = {}  # requests, number of the last one
    missed = []
    for now, wanted in enumerate(requests):
        missed.append(wanted not in rank)
        if missed[-1] and len(rank) == size:
            del rank[min(rank, key=rank.__getitem__)]
        rank[wanted] = (rank.get(wanted, (0, 0))[0] + 1, now)
    return missed, set(rank)


def lru_k(requests: Sequence[int], size: int, k: int = 2) -> Outcome:
    """The K-th last request longest ago; before all others, in the order in which they came in, those with fewer."""
    history: dict[int, list[int]] = {}
    missed = []
    for now, wanted in enumerate(requests):
        missed.append(wanted not in history)
        if missed[-1] and len(history) == size:
            few = [x for x in history if len(history[x]) < k]
            del history[few[0] if few else min(history, key=lambda x: history[x][-k])]
        history.setdefault(wanted, []).append(now)
    return missed, set(history)


ORACLES: dict[str, Callable[[Sequence[int], int], Outcome]] = {
    "fifo": fifo, "clock": clock, "gclock": gclock, "wsclock": wsclock, "lru": lru, "lru_k": lru_k, "lfu": lfu, "sieve": sieve, "opt": opt,
    "two_q": two_q, "s3_fifo": s3_fifo, "arc": arc, "car": car, "lirs": lirs, "clock_pro": clock_pro, "w_tinylfu": w_tinylfu,
}  # fmt: skip
