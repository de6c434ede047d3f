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


def two_q(requests: Sequence[int], size: int, a_in: float = 0.25, a_out: float = 0.5) -> Outcome:
    """2Q: A1in a FIFO, A1out its ghosts, Am an LRU list of what came back from A1out."""
    a1in: deque[int] = deque()
    a1out: deque[int] = deque()
    am: OrderedDict[int, None] = OrderedDict()
    missed = []
    for wanted in requests:
        missed.append(wanted not in a1in and wanted not in am)
        if not missed[-1]:
            if wanted in am:
                am.move_to_end(wanted)
            continue
        known = wanted in a1out
        if known:
            a1out.remove(wanted)
        if len(a1in) + len(am) == size:
            if am and len(a1in) <= int(size * a_in):
                am.popitem(last=False)
            else:
                _remember(a1out, a1in.popleft(), int(size * a_out))
        if known:
            am[wanted] = None
        else:
            a1in.append(wanted)
    return missed, {*a1in, *am}


def _remember(ghosts: deque[int], evicted: int, most: int) -> None:
    ghosts.append(evicted)
    while len(ghosts) > most:
        ghosts.popleft()


def s3_fifo(requests: Sequence[int], size: int, small_share: float = 0.1, ghost_share: float = 0.9, threshold: int = 2) -> Outcome:
    """S3-FIFO as libCacheSim has it: see the reclaimer."""
    small: deque[int] = deque()
    main: deque[int] = deque()
    ghosts: deque[int] = deque()
    freq: dict[int, int] = {}
    small_size = int(size * small_share)
    full_once = False
    missed = []

    def evict_small() -> bool:
        while small:
            oldest = small.popleft()
            if freq[oldest] < threshold:
                del freq[oldest]
                _remember(ghosts, oldest, int(size * ghost_share))
                return True
            freq[oldest] = 0
            main.append(oldest)
        return False

    def evict_main() -> bool:
        while freq[main[0]]:
            freq[main[0]] = min(freq[main[0]], 3) - 1
            main.rotate(-1)
        del freq[main.popleft()]
        return True

    for wanted in requests:
        missed.append(wanted not in freq)
        if not missed[-1]:
            freq[wanted] += 1
            continue
        known = wanted in ghosts
        if known:
            ghosts.remove(wanted)
        while len(freq) == size:
            full_once = True
            evict_main() if len(main) > size - small_size or not small else evict_small()
        freq[wanted] = 0
        (main if known or (not full_once and len(small) >= small_size) else small).append(wanted)
    return missed, set(freq)


def arc(requests: Sequence[int], size: int) -> Outcome:
    """ARC: the algorithm of figure 4 of the paper; p and its steps are fractions."""
    t1, t2, b1, b2 = (OrderedDict[int, None]() for _ in range(4))
    p = 0.0
    missed = []

    def replace() -> None:
        source, ghosts = (t1, b1) if (t1 and (len(t1) > p or (len(t1) == p and from_b2))) or not t2 else (t2, b2)
        ghosts[source.popitem(last=False)[0]] = None

    for wanted in requests:
        missed.append(wanted not in t1 and wanted not in t2)
        if not missed[-1]:
            (t1 if wanted in t1 else t2).pop(wanted)
            t2[wanted] = None
            continue
        from_b1, from_b2 = wanted in b1, wanted in b2
        if from_b1:
            p = min(p + max(len(b2) / len(b1), 1), size)
            del b1[wanted]
        elif from_b2:
            p = max(p - max(len(b1) / len(b2), 1), 0)
            del b2[wanted]
        if len(t1) + len(t2) == size:
            if from_b1 or from_b2:
                replace()
            elif len(t1) + len(b1) == size:
                if b1:
                    b1.popitem(last=False)
                    replace()
                else:
                    t1.popitem(last=False)
            else:
                if len(t1) + len(t2) + len(b1) + len(b2) >= 2 * size and b2:
                    b2.popitem(last=False)
                replace()
        (t2 if from_b1 or from_b2 else t1)[wanted] = None
    return missed, {*t1, *t2}


def lirs(requests: Sequence[int], size: int, hir_share: float = 0.01, demote_on_queue_hit: bool = False) -> Outcome:
    """LIRS: the stack holds LIR, resident HIR and ghosts, the queue resident HIR; see the reclaimer for demote_on_queue_hit."""
    stack: OrderedDict[int, str] = OrderedDict()  # oldest first: "LIR", "HIR" or "ghost"
    queue: OrderedDict[int, None] = OrderedDict()
    ghosts: OrderedDict[int, None] = OrderedDict()  # those of the stack, in the order in which they were evicted
    hir_size = max(1, int(hir_share * size))
    missed = []

    def lir() -> int:
        return sum(kind == "LIR" for kind in stack.values())

    def prune() -> None:
        while len(stack) > 1 and next(iter(stack.values())) != "LIR":
            ghosts.pop(stack.popitem(last=False)[0], None)

    def oldest_lir_to_queue() -> None:
        while next(iter(stack.values())) != "LIR":
            ghosts.pop(stack.popitem(last=False)[0], None)
        queue[stack.popitem(last=False)[0]] = None
        prune()

    def demote() -> None:
        if 0 < lir() >= size - hir_size:
            oldest_lir_to_queue()

    def evict() -> None:
        if not queue:
            oldest_lir_to_queue()
        victim = queue.popitem(last=False)[0]
        if victim in stack:
            stack[victim] = "ghost"
            ghosts[victim] = None

    def push(wanted: int, kind: str) -> None:
        stack[wanted] = kind
        stack.move_to_end(wanted)

    for wanted in requests:
        missed.append(wanted not in queue and stack.get(wanted) != "LIR")
        if not missed[-1]:
            if stack.get(wanted) == "LIR":
                push(wanted, "LIR")
                prune()
            elif wanted in stack:
                push(wanted, "HIR")
                demote()
                del queue[wanted]
                push(wanted, "LIR")
            else:
                queue.move_to_end(wanted)
                if demote_on_queue_hit:
                    demote()
                    if len(queue) > hir_size and next(iter(queue)) != wanted:
                        evict()
                push(wanted, "HIR")
        else:
            known = stack.pop(wanted, None) is not None
            if known:
                del ghosts[wanted]
                demote()
            if lir() + len(queue) == size:
                evict()
            if known or lir() < size - hir_size:
                push(wanted, "LIR")
            else:
                push(wanted, "HIR")
                queue[wanted] = None
        while len(stack) > 2 * size and ghosts:
            del stack[ghosts.popitem(last=False)[0]]
    return missed, {*queue, *(x for x in stack if stack[x] == "LIR")}


ORACLES: dict[str, Callable[[Sequence[int], int], Outcome]] = {
    "fifo": fifo, "clock": clock, "lru": lru, "opt": opt, "sieve": sieve, "two_q": two_q, "s3_fifo": s3_fifo, "arc": arc, "lirs": lirs,
}  # fmt: skip
