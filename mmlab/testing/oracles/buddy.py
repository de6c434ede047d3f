"""Linux's buddy allocator for one zone and one CPU in plain Python: dicts of blocks, lists of PFNs, no marks in struct pages.

Rules: mm/page_alloc.c of 6.12, as `mmlab_linux.page_allocator.buddy` states them. Pages in use count as not movable.
"""

from __future__ import annotations

import attrs

from mmlab.model.const import ALLOC_HIGHATOMIC, ALLOC_NOFRAGMENT, ALLOC_NON_BLOCK, ALLOC_OOM

UNMOVABLE, MOVABLE, RECLAIMABLE, HIGHATOMIC = range(4)
FALLBACKS = {UNMOVABLE: (RECLAIMABLE, MOVABLE), MOVABLE: (RECLAIMABLE, UNMOVABLE), RECLAIMABLE: (UNMOVABLE, MOVABLE)}
PCP_ORDERS = (0, 1, 2, 3, 9)
#: the per-CPU lists in the order in which a bulk free goes through them
PCP_LISTS = [(order, kind) for order in (0, 1, 2, 3) for kind in (UNMOVABLE, MOVABLE, RECLAIMABLE)] + [(9, "other"), (9, MOVABLE)]


@attrs.define
class BuddyZone:
    """start, end: the zone's span; managed: pages; high_mark: its high watermark; batch, high_min, high_max: of the per-CPU lists; grouped: whether the
    machine is large enough to keep types apart."""

    start: int
    end: int
    managed: int
    high_mark: int
    batch: int
    high_min: int
    high_max: int
    high: int = 0
    grouped: bool = True
    boost_factor: int = 15000
    boost: int = 0
    below_high: bool = False
    reserved_highatomic: int = 0
    alloc_factor: int = 0
    free_count: int = 0
    prev_free_high: bool = False
    lists: dict[tuple[int, int], list[int]] = attrs.Factory(lambda: {(o, t): [] for o in range(11) for t in range(5)})
    order_of: dict[int, int] = attrs.Factory(dict)
    types: dict[int, int] = attrs.Factory(dict)
    pcp: dict[tuple, list[int]] = attrs.Factory(lambda: {key: [] for key in PCP_LISTS})

    def type_of(self, pfn: int) -> int:
        """Type of the frame's pageblock."""
        return self.types.get(pfn // 512, MOVABLE)

    def count(self) -> int:
        """Pages on the CPU's lists."""
        return sum(len(pfns) << order for (order, _), pfns in self.pcp.items())

    def free_pages(self) -> int:
        """NR_FREE_PAGES: pages on the free lists."""
        return sum(1 << order for order in self.order_of.values())

    # the free lists

    def insert(self, pfn: int, order: int, kind: int, tail: bool = False) -> None:
        """A block that merges with nothing."""
        self.order_of[pfn] = order
        self.lists[order, kind].insert(len(self.lists[order, kind]) if tail else 0, pfn)

    def remove(self, pfn: int) -> int:
        """Take a free block off its list: its order."""
        order = self.order_of.pop(pfn)
        next(pfns for (o, _), pfns in self.lists.items() if o == order and pfn in pfns).remove(pfn)
        return order

    def give_back(self, pfn: int, order: int, tail: bool = False) -> None:
        """__free_one_page()."""
        kind = self.type_of(pfn)
        while order < 10:
            buddy = pfn ^ (1 << order)
            if self.order_of.get(buddy) != order:
                parent = min(pfn, buddy)
                tail = tail or (order < 9 and self.order_of.get(parent ^ (2 << order)) == order + 1)
                break
            if order == 9 and self.type_of(buddy) != kind:
                if max(self.type_of(buddy), kind) >= HIGHATOMIC:
                    break
                self.remove(buddy)
                self.types[buddy // 512] = kind
            else:
                self.remove(buddy)
            pfn, order = min(pfn, buddy), order + 1
        self.insert(pfn, order, kind, tail)

    def add_range(self, pfn: int, nr_pages: int) -> None:
        """Free memory of boot."""
        end = pfn + nr_pages
        while pfn < end:
            order = next(o for o in range(10, -1, -1) if pfn % (1 << o) == 0 and pfn + (1 << o) <= end)
            self.give_back(pfn, order, tail=True)
            pfn += 1 << order

    def take(self, order: int, current: int, kind: int, rest: int) -> int:
        """The first block of (current, kind) cut to `order`; upper halves go to the lists of type `rest`."""
        pfn = self.lists[current, kind][0]
        self.remove(pfn)
        for half in range(current - 1, order - 1, -1):
            self.insert(pfn + (1 << half), half, rest)
        return pfn

    def smallest(self, order: int, kind: int) -> int | None:
        """__rmqueue_smallest()."""
        for current in range(order, 11):
            if self.lists[current, kind]:
                return self.take(order, current, kind, kind)
        return None

    def move_block(self, pfn: int, kind: int) -> None:
        """Turn a pageblock into one of another type; its free blocks go to the tails."""
        first = pfn // 512 * 512
        for at in sorted(p for p in self.order_of if first <= p < first + 512):
            order = self.remove(at)
            self.insert(at, order, kind, tail=True)
        self.types[first // 512] = kind

    def claim(self, order: int, kind: int, flags: int) -> int | None:
        """__rmqueue_claim()."""
        least = max(order, 9) if flags & ALLOC_NOFRAGMENT else order
        for current in range(10, least - 1, -1):
            if kind == MOVABLE and current < 4:
                return None
            other = next((t for t in FALLBACKS[kind] if self.lists[current, t]), None)
            if other is None:
                continue
            head = self.lists[current, other][0]
            if current >= 9:
                for block in range(head // 512, (head + (1 << current)) // 512):
                    self.types[block] = kind
                return self.take(order, current, other, kind)
            if self.boost_factor and self.managed >= 2048 and self.high_mark * self.boost_factor // 10000:
                self.boost = min(self.boost + 512, max(512, self.high_mark * self.boost_factor // 10000))
            first = head // 512 * 512
            if first < self.start or first + 512 > self.end:
                continue
            free = sum(1 << o for p, o in self.order_of.items() if first <= p < first + 512)
            alike = 512 - free if kind != MOVABLE and other == MOVABLE else 0
            if free + alike >= 256 or not self.grouped:
                self.move_block(head, kind)
                return self.smallest(order, kind)
        return None

    def steal(self, order: int, kind: int) -> int | None:
        """__rmqueue_steal()."""
        for current in range(order, 11):
            for other in FALLBACKS[kind]:
                if self.lists[current, other]:
                    return self.take(order, current, other, other)
        return None

    def rmqueue(self, order: int, kind: int, flags: int, stealing: bool) -> tuple[int | None, bool]:
        """__rmqueue(): the block, and whether it was stolen."""
        pfn = None
        if not stealing:
            pfn = self.smallest(order, kind)
            if pfn is None:
                pfn = self.claim(order, kind, flags)
        if pfn is not None or flags & ALLOC_NOFRAGMENT:
            return pfn, False
        return self.steal(order, kind), True

    # requests

    def alloc(self, order: int, kind: int, flags: int = 0) -> int | None:
        """rmqueue()."""
        pfn = None
        if order in PCP_ORDERS:
            self.free_count //= 2
            pages = self.pcp[self._list(order, kind)]
            if not pages:
                self._refill(pages, order, kind, flags)
            pfn = pages.pop(0) if pages else None
        if pfn is None and flags & ALLOC_HIGHATOMIC:
            pfn = self.smallest(order, HIGHATOMIC)
        if pfn is None:
            pfn, _ = self.rmqueue(order, kind, flags, False)
        if pfn is None and flags & (ALLOC_OOM | ALLOC_NON_BLOCK):
            pfn = self.smallest(order, HIGHATOMIC)
        if pfn is not None and flags & ALLOC_HIGHATOMIC:
            self._reserve(pfn, order)
        return pfn

    def _reserve(self, pfn: int, order: int) -> None:
        limit = -(-(self.managed // 100) // 512) * 512
        if self.managed // 100 < 512 or self.reserved_highatomic >= limit or self.type_of(pfn) >= HIGHATOMIC:
            return
        first = pfn // 512 * 512
        if order >= 9:
            for block in range(first // 512, (first + (1 << order)) // 512):
                self.types[block] = HIGHATOMIC
        elif self.start <= first and first + 512 <= self.end:
            self.move_block(pfn, HIGHATOMIC)
        else:
            return
        self.reserved_highatomic += max(512, 1 << order)

    def _list(self, order: int, kind: int) -> tuple:
        return (9, kind if kind == MOVABLE else "other") if order == 9 else (order, kind)

    def _clamp_high(self) -> int:
        self.high = min(max(self.high, self.high_min), self.high_max)
        return self.high

    def _refill(self, pages: list[int], order: int, kind: int, flags: int) -> None:
        stealing = False
        for _ in range(self._refill_size(order)):
            pfn, stealing = self.rmqueue(order, kind, flags, stealing)
            if pfn is None:
                return
            pages.append(pfn)

    def _refill_size(self, order: int) -> int:
        high = self._clamp_high()
        if high < self.batch:
            return 1
        wanted = self.batch if order else self.batch << self.alloc_factor
        if self.high_min != self.high_max and not self.below_high:
            high = self.high = min(high + wanted, self.high_max)
        if order == 0:
            most = max(high - self.count() - self.batch, self.batch)
            if wanted <= most and self.alloc_factor < 5:
                self.alloc_factor += 1
            wanted = min(wanted, most)
        return max(wanted >> order, 2) if wanted > 1 else 1

    def free(self, pfn: int, order: int) -> None:
        """free_unref_page_commit() or __free_pages_ok()."""
        if order not in PCP_ORDERS:
            for piece in range(pfn, pfn + (1 << order), 512 if order == 10 else 1 << order):
                self.give_back(piece, min(order, 9))
            return
        kind = self.type_of(pfn)
        key = self._list(order, kind if kind < HIGHATOMIC else MOVABLE)
        self.alloc_factor //= 2
        self.pcp[key].insert(0, pfn)
        free_high = False
        if 1 <= order <= 3:
            free_high = self.prev_free_high and self.free_count >= self.batch and self.count() >= self.batch
        self.prev_free_high = 1 <= order <= 3
        if self.free_count < 32 * self.batch:
            self.free_count += 1 << order
        high = self._high(free_high)
        if self.count() >= high:
            if free_high:
                nr = min(self.count(), 32 * self.batch)
            else:
                nr = 1 if high < self.batch else min(max(self.free_count, self.batch), high - self.batch)
            self._bulk(nr, PCP_LISTS.index(key))

    def _high(self, free_high: bool) -> int:
        high = self._clamp_high()
        if high == 0:
            return 0
        if free_high:
            self.high = max(high - 32 * self.batch, self.high_min)
            return 0
        if self.high_min == self.high_max:
            return high
        if self.below_high:
            self.high = max(high - max(self.free_count, self.batch), self.high_min)
            return max(self.count(), self.high_min)
        if self.count() >= high and high < self.free_count + self.batch:
            self.high = min(self.free_count + self.batch, self.high_max)
        return high

    def _bulk(self, nr: int, first: int) -> None:
        nr = min(nr, self.count())
        for key in PCP_LISTS[first:] + PCP_LISTS[:first]:
            while nr > 0 and self.pcp[key]:
                self.give_back(self.pcp[key].pop(), key[0])
                nr -= 1 << key[0]

    def drain(self) -> None:
        """drain_pages_zone()."""
        while self.count():
            self._bulk(32 * self.batch, 0)

    def decay(self) -> None:
        """decay_pcp_high()."""
        if self.high > self.high_min:
            self.high = max(self.count() - 32 * self.batch, self.high - self.high // 8, self.high_min)
        surplus = self.count() - self.high
        while surplus > 0:
            self._bulk(min(surplus, self.batch), 0)
            surplus -= self.batch
