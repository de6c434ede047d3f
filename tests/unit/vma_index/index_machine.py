"""A machine with one VMA index, driven by kernels: one call an operation, whole loops for many. Also a slab allocator that can run dry."""

from __future__ import annotations

import numpy as np

from mmlab.kernels.jit import kernel
from mmlab.kernels.ops import (
    vma_index_check, vma_index_destroy_mm, vma_index_erase, vma_index_find, vma_index_find_gap, vma_index_find_prev, vma_index_init_mm,
    vma_index_insert, vma_index_resize, vma_index_stat,
)
from mmlab.model.const import ENOMEM
from mmlab.model.rows import SC_STACK_GUARD_GAP, VM_GROWSDOWN, VMA_END, VMA_FLAGS, VMA_MM, VMA_START, VMA_STRIDE
from mmlab.policies import SlabAllocator, VmaIndex
from mmlab.testing.harness import small_machine

PAGE = 4096
OPS = ("init_mm", "destroy_mm", "find", "find_prev", "insert", "erase", "resize", "find_gap", "stat", "check")


@kernel
def one_op(m, op, mm, a, b, c):
    """Operation number `op` of OPS."""
    if op == 0:
        return vma_index_init_mm(m, mm)
    if op == 1:
        return vma_index_destroy_mm(m, mm)
    if op == 2:
        return vma_index_find(m, mm, a)
    if op == 3:
        return vma_index_find_prev(m, mm, a)
    if op == 4:
        return vma_index_insert(m, mm, a)
    if op == 5:
        return vma_index_erase(m, mm, a)
    if op == 6:
        return vma_index_resize(m, mm, a, b, c)
    if op == 7:
        return vma_index_find_gap(m, mm, a, b, c)
    if op == 8:
        return vma_index_stat(m, mm, a)
    return vma_index_check(m, mm)


@kernel
def set_row(m, vma, vm_start, vm_end):
    """Bounds of a VMA that does not grow down."""
    m.vma[vma * VMA_STRIDE + VMA_START] = vm_start
    m.vma[vma * VMA_STRIDE + VMA_END] = vm_end
    m.vma[vma * VMA_STRIDE + VMA_FLAGS] = 0
    return 0


@kernel
def store_many(m, count, step, length):
    """VMAs 0 .. count-1 into mm 0, in the order 0, step, 2 step ... modulo count; VMA v has `length` pages from page 16 (v + 1) on."""
    for i in range(count):
        vma = i * step % count
        set_row(m, vma, (vma + 1) * 16 * 4096, ((vma + 1) * 16 + length) * 4096)
        if vma_index_insert(m, 0, vma) < 0:
            return -1
    return 0


@kernel
def erase_many(m, count, step):
    """Erase them again, in an order made likewise."""
    for i in range(count):
        vma_index_erase(m, 0, i * step % count)
    return 0


@kernel
def duel(m, other, seed, steps, cells, check_every):
    """Random operations on two machines' indexes, where VMA v stays within its own 16 pages; every second half fills, every other empties.

    0, or 1 + the step at which answers differ, or -(code of check() + 1000 * step).
    """
    x = seed
    for step in range(steps):
        fill = 1 if step * 4 // steps % 2 == 0 else 0
        x = (x * 1103515245 + 12345) & 0x7FFFFFFF
        vma = (x >> 8) % cells
        x = (x * 1103515245 + 12345) & 0x7FFFFFFF
        low = (x >> 8) % 12
        low = low - 8 if low >= 8 else 0
        high = 16 - (x >> 16) % 12
        high = high if high > 4 else 16
        start, end = (vma * 16 + low) * 4096, (vma * 16 + high) * 4096
        row = vma * VMA_STRIDE
        if m.vma[row + VMA_MM] == 0:
            if fill or (x >> 20) % 4 == 0:
                set_row(m, vma, start, end)
                set_row(other, vma, start, end)
                if vma_index_insert(m, 0, vma) != 0 or vma_index_insert(other, 0, vma) != 0:
                    return step + 1
                m.vma[row + VMA_MM] = 1
        elif fill == 0 or (x >> 20) % 4 == 0:
            vma_index_erase(m, 0, vma)
            vma_index_erase(other, 0, vma)
            m.vma[row + VMA_MM] = 0
        elif vma_index_resize(m, 0, vma, start, end) != 0 or vma_index_resize(other, 0, vma, start, end) != 0:
            return step + 1
        x = (x * 1103515245 + 12345) & 0x7FFFFFFF
        addr = (x >> 4) % (cells * 16 * 4096)
        length = (1 + (x >> 9) % 20) * 4096
        if vma_index_find(m, 0, addr) != vma_index_find(other, 0, addr):
            return step + 1
        if vma_index_find_prev(m, 0, addr) != vma_index_find_prev(other, 0, addr):
            return step + 1
        if vma_index_find_gap(m, 0, length, 0, addr) != vma_index_find_gap(other, 0, length, 0, addr):
            return step + 1
        if step % check_every == 0:
            code = vma_index_check(m, 0) + 100 * vma_index_check(other, 0)
            if code != 0:
                return -(code + 1000 * step)
    return 0


def slab_state(params, machine) -> dict[str, np.ndarray]:
    """left: objects still to be had; used: objects in use."""
    return {"left": np.full(1, 1 << 40, "int64"), "used": np.zeros(1, "int64")}


@kernel
def slab_alloc(m, st, cache, gfp):
    """An object at address 0, or -ENOMEM when none is left."""
    if st.left[0] <= 0:
        return -ENOMEM
    st.left[0] -= 1
    st.used[0] += 1
    return 0


@kernel
def slab_free(m, st, obj):
    """Count it."""
    st.used[0] -= 1
    return 0


@kernel
def nothing(m, st, cache, size, align, flags):
    """No caches."""
    return 0


@kernel
def no_stat(m, st, cache, what):
    """No slabinfo."""
    return 0


COUNTING_SLAB = SlabAllocator(
    name="counting", summary="counts objects and can run dry", new_state=slab_state,
    create=nothing, alloc=slab_alloc, free=slab_free, stat=no_stat,
)


class Index:
    """The index of address space `mm`; VMAs' rows are written as the core does."""

    def __init__(self, policy: VmaIndex, stack_guard_gap: int = 256, mm: int = 0, memory: str = "64M"):
        self.machine = small_machine(memory=memory, vma_index=policy, slab_allocator=COUNTING_SLAB)
        self.machine.sc[SC_STACK_GUARD_GAP] = stack_guard_gap
        self.slab = self.machine.states["slab_allocator"]
        self.mm = mm
        self.op("init_mm")

    def op(self, name: str, a: int = 0, b: int = 0, c: int = 0) -> int:
        """One operation of the contract."""
        return self.machine.run(one_op, OPS.index(name), self.mm, a, b, c)

    def store(self, vma: int, vm_start: int, vm_end: int, grows_down: bool = False) -> int:
        """Write a VMA's row and insert it."""
        row = self.machine.vma[vma * VMA_STRIDE : (vma + 1) * VMA_STRIDE]
        row[VMA_START], row[VMA_END], row[VMA_FLAGS] = vm_start, vm_end, VM_GROWSDOWN if grows_down else 0
        return self.op("insert", vma)

    def bounds(self, vma: int) -> tuple[int, int]:
        """vm_start and vm_end."""
        return int(self.machine.vma[vma * VMA_STRIDE + VMA_START]), int(self.machine.vma[vma * VMA_STRIDE + VMA_END])
