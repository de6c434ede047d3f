"""Replacement policies with several queues, most of which remember what they evicted, in plain Python: as replacement.py."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Any

Outcome = tuple[list[bool], set[int]]


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
                prune()
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
                prune()
            else:
                push(wanted, "HIR")
                queue[wanted] = None
        while len(stack) > 2 * size and ghosts:
            del stack[ghosts.popitem(last=False)[0]]
    return missed, {*queue, *(x for x in stack if stack[x] == "LIR")}


def car(requests: Sequence[int], size: int) -> Outcome:
    """CAR: figure 2 of the paper; p and its steps are fractions."""
    t1: deque[int] = deque()
    t2: deque[int] = deque()
    b1: OrderedDict[int, None] = OrderedDict()
    b2: OrderedDict[int, None] = OrderedDict()
    marked: set[int] = set()
    p = 0.0
    missed = []

    def replace() -> None:
        while True:
            source, ghosts = (t1, b1) if len(t1) >= max(1, p) or not t2 else (t2, b2)
            oldest = source.popleft()
            if oldest not in marked:
                ghosts[oldest] = None
                return
            marked.remove(oldest)
            t2.append(oldest)

    for wanted in requests:
        missed.append(wanted not in t1 and wanted not in t2)
        if not missed[-1]:
            marked.add(wanted)
            continue
        if len(t1) + len(t2) == size:
            replace()
            if wanted not in b1 and wanted not in b2:
                if len(t1) + len(b1) == size:
                    if b1:
                        b1.popitem(last=False)
                elif len(t1) + len(t2) + len(b1) + len(b2) == 2 * size and b2:
                    b2.popitem(last=False)
        if wanted in b1:
            p = min(p + max(1, len(b2) / len(b1)), size)
            del b1[wanted]
            t2.append(wanted)
        elif wanted in b2:
            p = max(p - max(1, len(b1) / len(b2)), 0)
            del b2[wanted]
            t2.append(wanted)
        else:
            t1.append(wanted)
    return missed, {*t1, *t2}


def clock_pro(requests: Sequence[int], size: int, cold_share: float = 0.1) -> Outcome:
    """CLOCK-Pro: see the reclaimer. The clock is a list from old to new that begins at HAND_hot; the other hands point at an object, or at
    None where they are at HAND_hot."""
    clock: list[int] = []
    kind: dict[int, str] = {}  # "hot", "cold" or "ghost"
    in_test: set[int] = set()
    marked: set[int] = set()
    hands: dict[str, int | None] = {"cold": None, "test": None}
    target = max(1, int(size * cold_share))
    missed = []

    def count(what: str) -> int:
        return sum(x == what for x in kind.values())

    def after(x: int) -> int | None:
        i = clock.index(x) + 1
        return clock[i] if i < len(clock) else None

    def step_off(x: int) -> None:
        for hand in hands:
            if hands[hand] == x:
                hands[hand] = after(x)

    def leave(x: int) -> None:
        step_off(x)
        clock.remove(x)

    def end_test(x: int) -> bool:
        nonlocal target
        if kind[x] != "ghost" and x not in in_test:
            return False
        in_test.discard(x)
        target = max(1, target - 1)
        if kind[x] == "ghost":
            leave(x)
            del kind[x]
            return True
        return False

    def turn_hot() -> None:
        hot = count("hot")
        while hot and count("hot") == hot:
            x = clock[0]
            if end_test(x):
                continue
            if kind[x] == "hot":
                if x not in marked:
                    kind[x] = "cold"
                marked.discard(x)
            leave(x)
            clock.append(x)

    def keep_hot() -> None:
        while count("hot") > size - target:
            turn_hot()

    def next_at(hand: str) -> int:
        x = hands[hand]
        x = clock[0] if x is None else x
        hands[hand] = after(x)
        return x

    def evict() -> None:
        while True:
            if not count("cold"):
                turn_hot()
            x = next_at("cold")
            if kind[x] != "cold":
                continue
            if x not in marked:
                break
            marked.remove(x)
            leave(x)
            clock.append(x)
            if x in in_test:
                in_test.remove(x)
                kind[x] = "hot"
                keep_hot()
            else:
                in_test.add(x)
        if x in in_test:
            in_test.remove(x)
            kind[x] = "ghost"
        else:
            leave(x)
            del kind[x]
        while count("ghost") > size:
            end_test(next_at("test"))

    for wanted in requests:
        missed.append(kind.get(wanted, "ghost") == "ghost")
        if not missed[-1]:
            marked.add(wanted)
            continue
        known = wanted in kind
        if known:
            leave(wanted)
            del kind[wanted]
            target = max(1, min(target + 1, size - 1))
        if count("hot") + count("cold") == size:
            evict()
        kind[wanted] = "hot" if known else "cold"
        if not known:
            in_test.add(wanted)
        clock.append(wanted)
        keep_hot()
    return missed, {x for x in kind if kind[x] != "ghost"}


class ExactCounts:
    """How often objects were asked for; what a sketch estimates."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()

    def add(self, x: int) -> None:
        """Once more."""
        self.counts[x] += 1

    def estimate(self, x: int) -> int:
        """So often."""
        return self.counts[x]

    def halve(self) -> None:
        """All counts."""
        for x in self.counts:
            self.counts[x] >>= 1


def w_tinylfu(
    requests: Sequence[int], size: int, window_share: float = 0.01, protected_share: float = 0.8, factor: int = 32,
    make_counts: Callable[[int], Any] = lambda main: ExactCounts(),
) -> Outcome:  # fmt: skip
    """W-TinyLFU; make_counts: for a main part of this size what has the methods of ExactCounts."""
    window: deque[int] = deque()
    probation: deque[int] = deque()
    protected: deque[int] = deque()
    main = size - max(1, int(size * window_share))
    most = int(main * protected_share)
    counts = make_counts(main)
    since = 0
    missed = []

    def admit() -> None:
        admitted = window.popleft()
        counts.add(admitted)
        (protected if len(probation) >= main - most and len(protected) < most else probation).append(admitted)

    def evict() -> None:
        while len(window) + len(probation) + len(protected) == size:
            rivals = probation or protected
            if len(probation) + len(protected) < main:
                admit()
            elif rivals and counts.estimate(window[0]) > counts.estimate(rivals[0]):
                rivals.popleft()
                admit()
            else:
                counts.add(window.popleft())

    for wanted in requests:
        cache = window if wanted in window else probation if wanted in probation else protected
        missed.append(wanted not in cache)
        if missed[-1]:
            evict()
            window.append(wanted)
            counts.add(wanted)
            continue
        cache.remove(wanted)
        if cache is window:
            window.append(wanted)
            continue
        protected.append(wanted)
        if len(protected) > most:
            probation.append(protected.popleft())
        counts.add(wanted)
        since += 1
        if since >= factor * main:
            since = 0
            counts.halve()
    return missed, {*window, *probation, *protected}
