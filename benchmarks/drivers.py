"""Loops over one policy's ops, compiled like the core's own."""

from mmlab.kernels.jit import kernel
from mmlab.kernels.ops import (
    page_allocator_alloc, page_allocator_free, slab_allocator_alloc, slab_allocator_free, vma_index_erase, vma_index_find,
    vma_index_insert,
)
from mmlab.kernels.prefetch import LOOK_AHEAD, prefetch, prefetch_page
from mmlab.kernels.services import alloc_pages, free_pages
from mmlab.mm.mmap import MAP_FIXED_NOREPLACE, sys_mmap, sys_munmap
from mmlab.mm.vma import vm_area_alloc
from mmlab.model.const import PAGE_SHIFT
from mmlab.model.rows import VM_READ, VM_WRITE, VMA_END, VMA_START, VMA_STRIDE


@kernel
def fill_blocks(m, held, orders, zone, migratetype):
    """Allocate a block of order orders[i] into each held[i] (int64): how many there were."""
    for i in range(len(held)):
        held[i] = page_allocator_alloc(m, zone, orders[i], migratetype, 0)
        if held[i] < 0:
            return i
    return len(held)


@kernel
def replace_blocks(m, held, orders, picks, zone, migratetype):
    """Free block held[p] and allocate another of its order, for each p of picks (int64): how many were. Looks ahead, as loops over streams do."""
    for i in range(len(picks)):
        if i + 2 * LOOK_AHEAD < len(picks):
            prefetch(held, picks[i + 2 * LOOK_AHEAD])
            prefetch(orders, picks[i + 2 * LOOK_AHEAD])
            prefetch_page(m, held[picks[i + LOOK_AHEAD]])
        p = picks[i]
        page_allocator_free(m, held[p], orders[p])
        held[p] = page_allocator_alloc(m, zone, orders[p], migratetype, 0)
        if held[p] < 0:
            return i
    return len(picks)


@kernel
def block_pairs(m, zone, migratetype, count):
    """Allocate a page and free it, `count` times: how many times it was had."""
    for i in range(count):
        pfn = page_allocator_alloc(m, zone, 0, migratetype, 0)
        if pfn < 0:
            return i
        page_allocator_free(m, pfn, 0)
    return count


@kernel
def page_pairs(m, gfp, count):
    """The same through alloc_pages() and free_pages()."""
    for i in range(count):
        pfn = alloc_pages(m, gfp, 0, -1)
        if pfn < 0:
            return i
        free_pages(m, pfn, 0)
    return count


@kernel
def fill_objects(m, held, cache, gfp):
    """Allocate an object of a cache into each held[i]: how many there were."""
    for i in range(len(held)):
        held[i] = slab_allocator_alloc(m, cache, gfp)
        if held[i] < 0:
            return i
    return len(held)


@kernel
def replace_objects(m, held, picks, cache, gfp):
    """Free object held[p] and allocate another, for each p of picks: how many were. Looks ahead, as loops over streams do."""
    for i in range(len(picks)):
        if i + 2 * LOOK_AHEAD < len(picks):
            prefetch(held, picks[i + 2 * LOOK_AHEAD])
            prefetch_page(m, held[picks[i + LOOK_AHEAD]] >> PAGE_SHIFT)
        p = picks[i]
        slab_allocator_free(m, held[p])
        held[p] = slab_allocator_alloc(m, cache, gfp)
        if held[p] < 0:
            return i
    return len(picks)


@kernel
def fill_vmas(m, mm, starts, ends, vmas):
    """Store a VMA with bounds [starts[i], ends[i]) and leave its number in vmas[i], for each i: how many there were."""
    for i in range(len(starts)):
        vmas[i] = vm_area_alloc(m, mm)
        if vmas[i] < 0:
            return i
        m.vma[vmas[i] * VMA_STRIDE + VMA_START] = starts[i]
        m.vma[vmas[i] * VMA_STRIDE + VMA_END] = ends[i]
        if vma_index_insert(m, mm, vmas[i]) < 0:
            return i
    return len(starts)


@kernel
def find_vmas(m, mm, addresses):
    """Sum of the VMAs found at the addresses (int64, bytes)."""
    total = 0
    for i in range(len(addresses)):
        total += vma_index_find(m, mm, addresses[i])
    return total


@kernel
def replace_vmas(m, mm, vmas):
    """Erase and insert again each of the VMAs (int64): how many there were."""
    for i in range(len(vmas)):
        vma_index_erase(m, mm, vmas[i])
        if vma_index_insert(m, mm, vmas[i]) < 0:
            return i
    return len(vmas)


@kernel
def map_pairs(m, mm, base, picks):
    """munmap() and mmap() of the page at base + 2 * picks[i] pages, for each i: how many there were."""
    for i in range(len(picks)):
        addr = base + picks[i] * 8192
        if sys_munmap(m, mm, addr, 4096) < 0 or sys_mmap(m, mm, addr, 4096, VM_READ | VM_WRITE, MAP_FIXED_NOREPLACE, -1, 0) < 0:
            return i
    return len(picks)
