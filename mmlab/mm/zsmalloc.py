"""The allocator of compressed pages: objects of a size class packed into zspages, chains of up to eight single pages.

Models: mm/zsmalloc.c zs_create_pool() (with CONFIG_ZSMALLOC_CHAIN_SIZE 8), zs_malloc(), zs_free(), find_get_zspage(), fix_fullness_group().
A handle is the number of the object's zspage, a row of m.zspage; which object of it is not kept. Left out: compaction and its shrinker.
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.services import alloc_pages, free_pages
from mmlab.kernels.zones import zone_of
from mmlab.model.const import ENOMEM
from mmlab.model.gfp import GFP_HIGHUSER_MOVABLE
from mmlab.model.rows import (
    NR_ZS_CLASSES, NR_ZS_GROUPS, Z_NR_ZSPAGES, ZONE_STRIDE, ZP_CLASS, ZP_INUSE, ZP_NEXT, ZP_PFN, ZP_POOL, ZP_PREV, ZS_OBJS, ZS_PAGES, ZS_POOL_STRIDE, ZS_SIZE,
    ZS_STRIDE, ZSP_BYTES, ZSP_FREE, ZSP_MAX_PAGES, ZSP_OBJECTS, ZSP_PAGES, ZSP_TOP, ZSPAGE_STRIDE,
)

MIN_ALLOC_SIZE, CLASS_DELTA, HANDLE_SIZE, MAX_CHAIN = 32, 16, 8, 8
PAGE_BYTES = 4096


def chain_size(size: int) -> int:
    """Pages of a zspage for objects of this size: the chain that wastes least."""
    if size & (size - 1) == 0:
        return 1
    return min(range(1, MAX_CHAIN + 1), key=lambda pages: pages * PAGE_BYTES % size)


def size_classes() -> list[tuple[int, int, int]]:
    """(size in bytes, pages, objects of a zspage) of each class number; a class merges with the next larger one of the same layout."""
    classes: list[tuple[int, int, int]] = []
    for number in reversed(range(NR_ZS_CLASSES)):
        size = min(PAGE_BYTES, MIN_ALLOC_SIZE + number * CLASS_DELTA)
        layout = chain_size(size), chain_size(size) * PAGE_BYTES // size
        classes.insert(0, classes[0] if classes and classes[0][1:] == layout else (size, *layout))
    return classes


def huge_class_size() -> int:
    """Bytes from which on an object has a page of its own, so that compressing it is of no use."""
    return max(size for size, pages, objects in size_classes() if pages != 1 and objects != 1) - HANDLE_SIZE + 1


@leaf
def class_of(bytes_):
    """Class number of an object of so many bytes, its handle included."""
    return max(0, min(NR_ZS_CLASSES - 1, (bytes_ + HANDLE_SIZE - MIN_ALLOC_SIZE + CLASS_DELTA - 1) // CLASS_DELTA))


@leaf
def _merged_class(m, bytes_):
    """The class that serves objects of so many bytes: the largest of those with the same layout."""
    number = class_of(bytes_)
    return (m.zs_class[number * ZS_STRIDE + ZS_SIZE] - MIN_ALLOC_SIZE) // CLASS_DELTA


@leaf
def _group(m, pool, number, inuse):
    """Where in m.zs_group the list of a class's zspages begins that are as full as that."""
    objects = m.zs_class[number * ZS_STRIDE + ZS_OBJS]
    group = 0
    if inuse == objects:
        group = NR_ZS_GROUPS - 1
    elif inuse > 0:
        group = 100 * inuse // objects // 10 + 1
    return (pool * NR_ZS_CLASSES + number) * NR_ZS_GROUPS + group


@leaf
def _insert(m, zspage, group):
    """To the head of a list."""
    row = zspage * ZSPAGE_STRIDE
    first = np.int64(m.zs_group[group])
    m.zspage[row + ZP_NEXT] = first
    m.zspage[row + ZP_PREV] = 0
    if first:
        m.zspage[first * ZSPAGE_STRIDE + ZP_PREV] = zspage
    m.zs_group[group] = zspage


@leaf
def _remove(m, zspage, group):
    row = zspage * ZSPAGE_STRIDE
    before, after = m.zspage[row + ZP_PREV], m.zspage[row + ZP_NEXT]
    if before:
        m.zspage[before * ZSPAGE_STRIDE + ZP_NEXT] = after
    else:
        m.zs_group[group] = after
    if after:
        m.zspage[after * ZSPAGE_STRIDE + ZP_PREV] = before


@leaf
def _account(m, pool, pages, bytes_, objects):
    base = pool * ZS_POOL_STRIDE
    m.zs_pool[base + ZSP_PAGES] += pages
    m.zs_pool[base + ZSP_BYTES] += bytes_
    m.zs_pool[base + ZSP_OBJECTS] += objects
    m.zs_pool[base + ZSP_MAX_PAGES] = max(m.zs_pool[base + ZSP_MAX_PAGES], m.zs_pool[base + ZSP_PAGES])


@leaf
def _free_pages(m, row, nr):
    for i in range(nr):
        pfn = m.zspage[row + ZP_PFN + i]
        m.zone[zone_of(m, pfn) * ZONE_STRIDE + Z_NR_ZSPAGES] -= 1
        free_pages(m, pfn, 0)


@leaf
def _alloc_zspage(m, pool, number):
    """An empty zspage, on no list: its number, or -ENOMEM."""
    zspage = m.zs_pool[ZSP_FREE]
    if zspage == 0:
        m.zs_pool[ZSP_TOP] += 1
        zspage = m.zs_pool[ZSP_TOP]
    else:
        m.zs_pool[ZSP_FREE] = m.zspage[zspage * ZSPAGE_STRIDE + ZP_NEXT]
    row = zspage * ZSPAGE_STRIDE
    pages = m.zs_class[number * ZS_STRIDE + ZS_PAGES]
    got = 0
    while got < pages:
        pfn = alloc_pages(m, GFP_HIGHUSER_MOVABLE, 0, -1)
        if pfn < 0:
            break
        m.zspage[row + ZP_PFN + got] = pfn
        m.zone[zone_of(m, pfn) * ZONE_STRIDE + Z_NR_ZSPAGES] += 1
        got += 1
    if got < pages:
        _free_pages(m, row, got)
        m.zspage[row + ZP_NEXT] = m.zs_pool[ZSP_FREE]
        m.zs_pool[ZSP_FREE] = zspage
        return -ENOMEM
    m.zspage[row + ZP_POOL] = pool
    m.zspage[row + ZP_CLASS] = number
    m.zspage[row + ZP_INUSE] = 0
    _account(m, pool, pages, 0, 0)
    return zspage


@kernel
def zs_malloc(m, pool, bytes_):
    """An object of 1 to 4096 bytes from the fullest zspage that has room: its handle > 0, or -ENOMEM. O(pages of a zspage)."""
    number = _merged_class(m, bytes_)
    first = (pool * NR_ZS_CLASSES + number) * NR_ZS_GROUPS
    zspage = 0
    for step in range(1, NR_ZS_GROUPS):
        zspage = np.int64(m.zs_group[first + NR_ZS_GROUPS - 1 - step])
        if zspage:
            break
    if zspage == 0:
        zspage = _alloc_zspage(m, pool, number)
        if zspage < 0:
            return -ENOMEM
    else:
        _remove(m, zspage, _group(m, pool, number, m.zspage[zspage * ZSPAGE_STRIDE + ZP_INUSE]))
    m.zspage[zspage * ZSPAGE_STRIDE + ZP_INUSE] += 1
    _insert(m, zspage, _group(m, pool, number, m.zspage[zspage * ZSPAGE_STRIDE + ZP_INUSE]))
    _account(m, pool, 0, bytes_, 1)
    return zspage


@kernel
def zs_free(m, zspage, bytes_):
    """Free an object; the pages of a zspage go with its last one."""
    row = zspage * ZSPAGE_STRIDE
    pool, number, inuse = m.zspage[row + ZP_POOL], m.zspage[row + ZP_CLASS], m.zspage[row + ZP_INUSE]
    _remove(m, zspage, _group(m, pool, number, inuse))
    m.zspage[row + ZP_INUSE] = inuse - 1
    _account(m, pool, 0, -bytes_, -1)
    if inuse > 1:
        _insert(m, zspage, _group(m, pool, number, inuse - 1))
        return 0
    pages = m.zs_class[number * ZS_STRIDE + ZS_PAGES]
    _free_pages(m, row, pages)
    _account(m, pool, -pages, 0, 0)
    m.zspage[row + ZP_NEXT] = m.zs_pool[ZSP_FREE]
    m.zs_pool[ZSP_FREE] = zspage
    return 0
