"""The compiled core: which function is behind each service. Everything else in mmlab.mm is an entry point, compiled when it is first called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mmlab import abi
from mmlab._engine import background
from mmlab.kernels.jit import JIT_OFF
from mmlab.mm import (
    compaction, filemap, files, fork, fs_writeback, huge_memory, kcompactd, khugepaged, kswapd, memcontrol, memory, mempolicy, migrate,
    mlock, mmap, monitoring, node_reclaim, numa_balancing, page_alloc, page_cache, page_writeback, pgtable, reclaim_folio, rmap, shmem,
    shmem_huge, shrinker, swap_state, xarray, zswap_writeback,
)

SERVICES: dict[str, Callable] = {
    "alloc_pages": page_alloc.alloc_pages,
    "alloc_pages_slowpath": page_alloc.do_alloc_pages_slowpath,
    "free_pages": page_alloc.free_pages,
    "folio_put": memory.do_folio_put,
    "folio_referenced": rmap.folio_referenced,
    "reclaim_folio": reclaim_folio.do_reclaim_folio,
    "rmap_walk": rmap.do_rmap_walk,
    "vma_alloc_zeroed_movable_folio": memory.vma_alloc_zeroed_movable_folio,
    "alloc_anon_folio": memory.alloc_anon_folio,
    "swap_in": memory.do_swap_page,
    "filemap_fault": filemap.filemap_fault,
    "filemap_get_page": page_cache.filemap_get_page,
    "pte_alloc": pgtable.pte_alloc,
    "anon_vma_prepare": rmap.anon_vma_prepare,
    "zap_pte": memory.do_zap_pte,
    "do_huge_pmd_anonymous_page": huge_memory.do_huge_pmd_anonymous_page,
    "do_anonymous_folio": huge_memory.do_anonymous_folio,
    "do_huge_pmd_shmem_fault": shmem_huge.do_huge_pmd_shmem_fault,
    "do_huge_pmd_wp_page": huge_memory.do_huge_pmd_wp_page,
    "copy_huge_pmd": huge_memory.copy_huge_pmd,
    "khugepaged_scan_mm_slot": khugepaged.khugepaged_scan_mm_slot,
    "collapse_range": khugepaged.collapse_range,
    "collapse_in_place": khugepaged.do_collapse_in_place,
    "split_folio": huge_memory.do_split_folio,
    "lru_add_drain_all": khugepaged.drain_all,
    "folio_free_swap": swap_state.folio_free_swap,
    "munlock_folio": mlock.munlock_folio,
    "split_huge_pmd": huge_memory.do_split_huge_pmd,
    "wake_kswapd": kswapd.wakeup_kswapd,
    "cond_resched": kswapd.cond_resched,
    "wakeup_kcompactd": kcompactd.do_wakeup_kcompactd,
    "kcompactd_run": kcompactd.do_kcompactd_run,
    "madvise": monitoring.do_madvise,
    "pageout_folio": monitoring.pageout_folio,
    "task_tick_numa": numa_balancing.task_tick_numa,
    "do_numa_page": numa_balancing.do_numa_page,
    "node_reclaim": node_reclaim.node_reclaim,
    "try_charge": memcontrol.try_charge,
    "try_to_compact_pages": compaction.do_try_to_compact_pages,
    "migrate_folio_to": monitoring.migrate_folio_to,
    "balance_dirty_pages": page_writeback.balance_dirty_pages,
    "wb_step": fs_writeback.wb_step,
    "writeback_timers": fs_writeback.writeback_timers,
    "shrink_slab": shrinker.do_shrink_all, "zswap_shrinker_scan": zswap_writeback.do_zswap_shrinker_scan,
    "shrink_slab_memcg": shrinker.shrink_slab_memcg,
    "wakeup_flusher_threads": fs_writeback.wakeup_flusher_threads,
    "out_of_memory": fork.do_out_of_memory,
    "oom_kill": fork.do_oom_kill,
    "shrink_memcg": zswap_writeback.shrink_memcg,
    "xa_store": xarray.xa_store,
    "shmem_get_page": shmem.shmem_get_page,
    "inode_put": files.do_inode_put,
    "zap_range": memory.zap_range,
    "background": background.do_background,
    "run_due_work": background.do_run_due_work,
    "handle_over_high": memcontrol.do_handle_over_high,
    "expand_stack": mmap.expand_downwards,
    "mlock_faulted": mlock.mlock_faulted,
    "task_zonelist": mempolicy.task_zonelist,
    "vma_zonelist": mempolicy.vma_zonelist,
    "migrate_folio": migrate.migrate_folio,
    "shrink_worker": zswap_writeback.do_shrink_worker,
}


@contextmanager
def memblock_services(machine: Any, services: dict[str, Callable]) -> Iterator[None]:
    """While the machine boots, services that take pages are served by memblock: by memory that is in use already, where the machine has any."""
    if machine.run(services["alloc_pages"], 0, 0, -1) < 0:
        yield
        return
    first = 0 if JIT_OFF else 2 * abi.NR_OPS
    table = machine._services if JIT_OFF else machine._table
    before = {}
    for name, kernel in services.items():
        at = first + abi.SERVICE_INDEX[name]
        before[at], table[at] = table[at], kernel if JIT_OFF else machine.core_unit(kernel).address()
    try:
        yield
    finally:
        for at, service in before.items():
            table[at] = service
