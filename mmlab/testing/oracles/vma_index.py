"""The VMA index in plain Python: one sorted list of (vm_start, vm_end, vma, grows_down) per address space.

Models: mm/mmap.c find_vma(), find_vma_prev(), unmapped_area_topdown().
Left out: nothing that the contract of the vma_index slot decides; all answers are found by looking at every range.
"""

from __future__ import annotations

from bisect import insort

from mmlab.model.const import ENOMEM, PAGE_SIZE


class VmaIndexOracle:
    """What an index must answer for one address space. stack_guard_gap: pages kept free below a VM_GROWSDOWN VMA."""

    def __init__(self, stack_guard_gap: int = 256):
        self.guard = stack_guard_gap * PAGE_SIZE
        self.ranges: list[tuple[int, int, int, bool]] = []

    def insert(self, vma: int, vm_start: int, vm_end: int, grows_down: bool = False) -> None:
        """Add a VMA that overlaps none."""
        assert vm_start < vm_end and not any(start < vm_end and vm_start < end for start, end, _, _ in self.ranges)
        insort(self.ranges, (vm_start, vm_end, vma, grows_down))

    def erase(self, vma: int) -> None:
        """Take a VMA out."""
        self.ranges.remove(self._range(vma))

    def resize(self, vma: int, vm_start: int, vm_end: int) -> None:
        """Give a VMA other bounds."""
        grows_down = self._range(vma)[3]
        self.erase(vma)
        self.insert(vma, vm_start, vm_end, grows_down)

    def find(self, addr: int) -> int:
        """The lowest VMA with vm_end > addr, or -1."""
        return next((vma for _, end, vma, _ in self.ranges if end > addr), -1)

    def find_prev(self, addr: int) -> int:
        """The highest VMA with vm_start < addr, or -1."""
        return next((vma for start, _, vma, _ in reversed(self.ranges) if start < addr), -1)

    def gaps(self) -> list[tuple[int, int, int]]:
        """(start, end, address to end below for the guard's sake) of every free range, lowest first."""
        found = []
        below = 0
        for start, end, _, grows_down in self.ranges:
            if below < start:
                found.append((below, start, max(0, start - self.guard) if grows_down else start))
            below = end
        return [*found, (below, 1 << 63, 1 << 63)]

    def find_gap(self, length: int, low: int, high: int) -> int:
        """Where `length` free bytes in [low, high) begin, as high as can be, or -ENOMEM.

        A guard that reaches into the gap found lowers `high` for good, so it counts against gaps below the next VMA down too, as in Linux.
        """
        while True:
            fitting = [(min(end, high), guard) for start, end, guard in self.gaps() if min(end, high) - max(start, low) >= length]
            if not fitting:
                return -ENOMEM
            top, guard = fitting[-1]
            if guard >= top:
                return top - length
            high = guard

    def _range(self, vma: int) -> tuple[int, int, int, bool]:
        return next(r for r in self.ranges if r[2] == vma)
