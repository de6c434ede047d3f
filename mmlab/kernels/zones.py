"""Zones: free pages and list sizes counted with per-CPU differences, watermarks of order 0, the zone and node of a frame.

Models: mm/vmstat.c __mod_zone_page_state(), include/linux/mmzone.h wmark_pages(), mm/page_alloc.c __zone_watermark_ok().
"""

import numpy as np

from mmlab.kernels.jit import kernel, leaf
from mmlab.model.const import ALLOC_CMA, ALLOC_HIGHATOMIC, ALLOC_MIN_RESERVE, ALLOC_NON_BLOCK, ALLOC_OOM, NR_LRU_LISTS
from mmlab.model.gfp import GFP_HIGHMEM, GFP_MOVABLE, GFP_THISNODE, ZONE_HIGHMEM, gfp_zone
from mmlab.model.rows import (
    PCP_FREE_DIFF, PCP_LRU_DIFF, PCP_STRIDE, SC_CPU, SC_HIGHMEM, SC_NR_CPUS, SC_NR_NODES, SC_NR_ZONES, Z_FREE, Z_FREE_CMA, Z_FREE_HIGHATOMIC,
    Z_INDEX, Z_LOWMEM_RESERVE, Z_LRU, Z_NODE, Z_STAT_THRESHOLD, Z_WATERMARK_BOOST, Z_WMARK_HIGH, Z_WMARK_MIN, ZONELIST_STRIDE, ZONELIST_THISNODE,
    ZONE_STRIDE,
)


@leaf
def mod_zone_free(m, zone, delta):
    """NR_FREE_PAGES += delta through this CPU's difference, which is folded in whole once it exceeds the zone's threshold."""
    slot = (m.sc[SC_CPU] * m.sc[SC_NR_ZONES] + zone) * PCP_STRIDE + PCP_FREE_DIFF
    diff = m.pcp[slot] + delta
    threshold = m.zone[zone * ZONE_STRIDE + Z_STAT_THRESHOLD]
    if diff > threshold or diff < -threshold:
        m.zone[zone * ZONE_STRIDE + Z_FREE] += diff
        diff = 0
    m.pcp[slot] = diff


@leaf
def mod_zone_lru(m, zone, lru, pages):
    """Pages join a list of the reclaimer's (LRU_*). The zone's count is exact; what /proc shows lags behind it by this CPU's difference."""
    m.zone[zone * ZONE_STRIDE + Z_LRU + lru] += pages
    slot = (m.sc[SC_CPU] * m.sc[SC_NR_ZONES] + zone) * PCP_STRIDE + PCP_LRU_DIFF + lru
    diff = m.pcp[slot] + pages
    m.pcp[slot] = 0 if abs(diff) > m.zone[zone * ZONE_STRIDE + Z_STAT_THRESHOLD] else diff


@kernel
def fold_lru_diffs(m, cpu):
    """refresh_cpu_vm_stats(): what the CPU's differences have kept back is seen from now on."""
    for zone in range(m.sc[SC_NR_ZONES]):
        for lru in range(NR_LRU_LISTS):
            m.pcp[(cpu * m.sc[SC_NR_ZONES] + zone) * PCP_STRIDE + PCP_LRU_DIFF + lru] = 0
    for node in range(m.sc[SC_NR_NODES]):
        m.promote_diff[cpu * m.sc[SC_NR_NODES] + node] = 0
    return 0


@leaf
def in_reach(m, zone, node, highest):
    """1 if the zone is one of the node's up to an index."""
    base = zone * ZONE_STRIDE
    return 1 if m.zone[base + Z_NODE] == node and m.zone[base + Z_INDEX] <= highest else 0


@leaf
def take_zone_free(m, zone, nr_pages, times):
    """mod_zone_free(m, zone, -nr_pages), `times` times in a row."""
    slot = (m.sc[SC_CPU] * m.sc[SC_NR_ZONES] + zone) * PCP_STRIDE + PCP_FREE_DIFF
    threshold = m.zone[zone * ZONE_STRIDE + Z_STAT_THRESHOLD]
    diff = m.pcp[slot]
    while times > 0:
        until_folded = max(1, (diff + threshold) // nr_pages + 1)
        if times < until_folded:
            diff -= times * nr_pages
            break
        m.zone[zone * ZONE_STRIDE + Z_FREE] += diff - until_folded * nr_pages
        diff = 0
        times -= until_folded
    m.pcp[slot] = diff


@leaf
def request_zone(m, gfp):
    """gfp_zone() on this machine: with high memory, __GFP_HIGHMEM alone may use it."""
    if gfp & (GFP_HIGHMEM | GFP_MOVABLE) == GFP_HIGHMEM and m.sc[SC_HIGHMEM]:
        return ZONE_HIGHMEM
    return gfp_zone(gfp)


@leaf
def zone_of(m, pfn):
    """Row of the frame's zone in m.zone."""
    return (np.int64(m.page[pfn * 4 + 2]) >> 27) & 31


@leaf
def page_node(m, pfn):
    """The frame's NUMA node."""
    return m.zone[((np.int64(m.page[pfn * 4 + 2]) >> 27) & 31) * ZONE_STRIDE + Z_NODE]


@leaf
def zonelist_of(node, gfp):
    """Where the zonelist of a request from the node begins in m.zonelist."""
    return node * ZONELIST_STRIDE + (ZONELIST_THISNODE if gfp & GFP_THISNODE else 0)


@leaf
def wmark_pages(m, zone, which):
    """min, low, high or promo (0..3), with the boost."""
    return m.zone[zone * ZONE_STRIDE + Z_WMARK_MIN + which] + m.zone[zone * ZONE_STRIDE + Z_WATERMARK_BOOST]


@leaf
def zone_free_exact(m, zone):
    """NR_FREE_PAGES with every CPU's difference."""
    total = m.zone[zone * ZONE_STRIDE + Z_FREE]
    for cpu in range(m.sc[SC_NR_CPUS]):
        total += m.pcp[(cpu * m.sc[SC_NR_ZONES] + zone) * PCP_STRIDE + PCP_FREE_DIFF]
    return total


@leaf
def zone_watermark_order0(m, zone, order, mark, highest_zoneidx, alloc_flags):
    """The page-count part of __zone_watermark_ok() for a request of 2^order pages: 1 if what may be used stays above mark."""
    base = zone * ZONE_STRIDE
    free = m.zone[base + Z_FREE] - ((1 << order) - 1)
    if alloc_flags & (ALLOC_HIGHATOMIC | ALLOC_MIN_RESERVE | ALLOC_NON_BLOCK | ALLOC_OOM) == 0:
        free -= m.zone[base + Z_FREE_HIGHATOMIC]
    if alloc_flags & ALLOC_CMA == 0:
        free -= m.zone[base + Z_FREE_CMA]
    least = mark
    if alloc_flags & ALLOC_MIN_RESERVE:
        least -= least // 2
        if alloc_flags & ALLOC_NON_BLOCK:
            least -= least // 4
    if alloc_flags & ALLOC_OOM:
        least -= least // 2
    return 1 if free > least + m.zone[base + Z_LOWMEM_RESERVE + highest_zoneidx] else 0


@leaf
def nr_free_pages(m):
    """Free pages of the machine, as far as they are counted for all CPUs."""
    free = 0
    for zone in range(m.sc[SC_NR_ZONES]):
        free += m.zone[zone * ZONE_STRIDE + Z_FREE]
    return free


@leaf
def memory_is_short(m, spare):
    """1 while no zone has more free than its high watermark and `spare` pages: for policies that use memory to be generous with."""
    for zone in range(m.sc[SC_NR_ZONES]):
        if m.zone[zone * ZONE_STRIDE + Z_FREE] > m.zone[zone * ZONE_STRIDE + Z_WMARK_HIGH] + spare:
            return 0
    return 1
