"""The layout table: every array of the machine's state, its dtype, length, unit and the kernel structure it mirrors.

Arrays are one-dimensional. Pools are reserved once at the largest size the machine could need, as memory that costs nothing until it is
touched (`reserve`), so nothing ever grows during a run.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable

import attrs
import numpy as np

from mmlab import abi
from mmlab.model import rows, vmstat
from mmlab.model.const import NR_POLICY_LISTS, PTRS_PER_TABLE


@attrs.frozen
class Sizes:
    """What array lengths depend on. nr_frames: max_pfn rounded up to a pageblock; nr_heads: list sentinels behind the last frame;
    nr_request_ids: objects of a request replay (0: the machine is not one); request_shadows: its reclaimer remembers what it evicted;
    nr_memcgs: cgroups that may exist, the root included; tlb_entries: of a CPU's TLB (0: none is simulated); subpages: what each page of a
    large folio has met is noted; future_ranges: 2 MiB ranges that a stream touches, future_tasks: what it does with each task, for policies that want to
    know; explain: decisions of reclaim that are to be explained, 0: none."""

    nr_frames: int
    nr_present: int
    nr_heads: int
    nr_cpus: int
    nr_nodes: int
    nr_zones: int
    nr_tasks: int
    nr_swap_slots: int
    next_use: bool
    nr_request_ids: int = 0
    request_shadows: bool = False
    nr_memcgs: int = 1
    tlb_entries: int = 0
    subpages: bool = False
    future_ranges: int = 0
    future_tasks: bool = False
    explain: int = 0


@attrs.frozen
class Array:
    """One array: length is a function of Sizes; mirrors names the kernel's structure."""

    name: str
    dtype: str
    length: Callable[[Sizes], int]
    unit: str
    mirrors: str
    bytes_per_page: float = 0.0


def _objects(size_bytes: int) -> Callable[[Sizes], int]:
    """As many objects of this size as fit into all of memory: a pool of that many can never run out."""
    return lambda s: s.nr_present * 4096 // size_bytes + 64


def _rows(stride: int, count: Callable[[Sizes], int]) -> Callable[[Sizes], int]:
    return lambda s: stride * count(s)


#: words of one entry of m.kill, the OOM killer's log
KILL_STRIDE = 16

ARRAYS: tuple[Array, ...] = (
    Array("sc", "int64", lambda s: rows.NR_SCALARS, "SC_*", "global variables"),
    Array("nr_calls", "int64", lambda s: abi.NR_OPS, "calls of each op", "-"),
    Array("cost", "int64", lambda s: rows.NR_COSTS, "ns, COST_*", "-"),
    Array("tlb", "int64", lambda s: rows.TLB_SETS_OF + 2 * s.tlb_entries * s.nr_cpus, "TLB_*", "-"),
    Array("vmstat", "int64", _rows(vmstat.VMSTAT_STRIDE, lambda s: s.nr_nodes), "V_* a node", "vm_stat, vm_event_states"),
    Array("zone", "int64", _rows(rows.ZONE_STRIDE, lambda s: s.nr_zones), "Z_* a zone", "struct zone"),
    Array("pcp", "int64", _rows(rows.PCP_STRIDE, lambda s: s.nr_cpus * s.nr_zones), "PCP_* a CPU and zone", "struct per_cpu_pages"),
    Array("zonelist", "int64", _rows(rows.ZONELIST_STRIDE, lambda s: s.nr_nodes * (1 + rows.NR_NODEMASKS)), "rows of zone", "node_zonelists"),
    Array("distance", "int64", lambda s: s.nr_nodes * s.nr_nodes, "node_distance(), from * nr_nodes + to", "numa_distance"),
    Array("node_extra", "int64", lambda s: s.nr_nodes * s.nr_nodes, "ns that an access takes more than to the fastest memory, from * nr_nodes + to", "-"),
    Array("nodemask", "int64", lambda s: rows.NR_NODEMASKS, "a bit a node, 0 for all, of each set of zonelists", "nodemask_t"),
    Array("nodemask_next", "int64", lambda s: rows.NR_NODEMASKS, "1 + T_MEMS of the zonelists that are tried after those of a set, 0: none", "-"),
    Array("promote_diff", "int64", lambda s: s.nr_cpus * s.nr_nodes, "of pgpromote_candidate, by CPU and node", "per_cpu_nodestat.vm_node_stat_diff"),
    Array("node", "int64", _rows(rows.NODE_STRIDE, lambda s: s.nr_nodes), "N_* a node", "pg_data_t"),
    Array("page", "uint32", lambda s: 4 * (s.nr_frames + s.nr_heads), "next, prev, flags, counts", "struct page", 16),
    Array("pagex", "uint32", lambda s: 4 * s.nr_frames, "mapping, index, private, order/kind/memcg", "struct page", 16),
    Array("subpage", "uint8", lambda s: s.nr_frames if s.subpages else 1, "SUBPAGE_*", "-"),
    Array("pageblock", "uint8", lambda s: s.nr_frames // 512 + 1, "migratetype", "pageblock_flags", 1 / 512),
    Array("block_skip", "uint8", lambda s: s.nr_frames // 512 + 1, "1: compaction passes it by", "PB_migrate_skip", 1 / 512),
    Array("compact", "int64", _rows(rows.CZ_STRIDE, lambda s: s.nr_zones), "CZ_* a zone", "zone.compact_*"),
    Array("cc", "int64", _rows(rows.NR_CC, lambda s: 1 + s.nr_nodes), "CC_*", "struct compact_control"),
    Array("kill", "int64", lambda s: 64 * KILL_STRIDE, "task, total_vm, rss anon/file/shmem, pgtables_bytes, adj, order, cgroup, node set, asker's T_MEMS a kill", "-"),
    Array("next_use", "int64", lambda s: s.nr_frames if s.next_use else 1, "event number of the page's next access", "-"),
    Array("oom_candidate", "int64", _rows(rows.OC_STRIDE, lambda s: 16 * s.nr_tasks), "OC_* a candidate of a kill", "-"),
    Array(
        "explain", "int64", lambda s: rows.EXPLAIN_KINDS * (rows.EXPLAIN_HEAD + 2 * s.explain * rows.EXPLAIN_ROWS * rows.EX_STRIDE),
        "EX_* a page of a decision of reclaim", "-",
    ),
    Array("trace", "int64", lambda s: rows.TRACE_HEAD + rows.TRACE_STRIDE * rows.TRACE_ROWS, "TRACE_*, then TR_* an event", "ring_buffer"),
    Array("future_range", "int64", lambda s: s.future_ranges, "task << 40 | vpn >> 9, in order: 2 MiB ranges that the stream touches", "-"),
    Array("future_pages", "int64", lambda s: s.future_ranges, "pages of the range that the stream touches", "-"),
    Array("future_task", "int64", _rows(rows.FT_STRIDE, lambda s: s.nr_tasks if s.future_tasks else 0), "FT_* a task of the stream", "-"),
    Array("task", "int64", _rows(rows.TASK_STRIDE, lambda s: s.nr_tasks), "T_* a task", "struct task_struct"),
    Array("numa_task", "int64", _rows(rows.NT_STRIDE, lambda s: s.nr_tasks), "NT_* a task", "struct task_struct.numa_*"),
    Array("numa_faults", "int64", lambda s: 4 * s.nr_tasks * s.nr_nodes, "faults by kind, a task and node", "task_struct.numa_faults"),
    Array("numab", "int64", lambda s: 8, "NB_*", "sysctl_numa_balancing_*"),
    Array("cpupid", "int32", lambda s: s.nr_frames if s.nr_nodes > 1 else 1, "1 + cpu << 8 | pid & 255, or 1 + ms; 0: none", "page._last_cpupid"),
    Array("cpu_node", "int64", lambda s: s.nr_cpus, "node of a CPU", "cpu_to_node()"),
    Array("loop", "int64", _rows(rows.LOOP_STRIDE, lambda s: s.nr_tasks), "LOOP_* a task that loops", "-"),
    Array("loop_page", "int64", lambda s: 16, "virtual pages of its own that a looping task touches, 0 ends them", "-"),
    Array("mm", "int64", _rows(rows.MM_STRIDE, lambda s: s.nr_tasks), "MM_* an address space", "struct mm_struct"),
    Array("vma", "int64", _rows(rows.VMA_STRIDE, _objects(176)), "VMA_* a VMA", "struct vm_area_struct"),
    Array("anon_vma", "int64", _rows(rows.ANON_VMA_STRIDE, _objects(104)), "AV_*", "struct anon_vma"),
    Array("avc", "int64", _rows(rows.AVC_STRIDE, _objects(64)), "AVC_*", "struct anon_vma_chain"),
    Array("pt", "int64", lambda s: PTRS_PER_TABLE * (s.nr_present + 64), "PTE_* | number << 12", "page tables"),
    Array("table", "int64", _rows(rows.TABLE_STRIDE, lambda s: s.nr_present + 64), "TB_* a table", "struct ptdesc"),
    Array("file", "int64", _rows(rows.FILE_STRIDE, _objects(256)), "F_* an open file", "struct file"),
    Array("inode", "int64", _rows(rows.INODE_STRIDE, _objects(600)), "I_* an inode", "struct inode, address_space"),
    Array("shared_policy", "int64", lambda s: rows.SP_STRIDE * 1024, "SP_* a range of an inode", "struct shared_policy"),
    Array("xa", "int64", _rows(rows.XA_STRIDE, _objects(576)), "pfn << 2 | 1, shadow << 2 | 2, node << 2 | 3", "struct xa_node.slots"),
    Array("xa_node", "int64", _rows(rows.XN_STRIDE, _objects(576)), "XN_* a node", "struct xa_node"),
    Array("bh_lru", "int64", lambda s: rows.BH_LRU_SIZE * s.nr_cpus, "pages with blocks of the disk that a CPU looked up last, + 1", "struct bh_lru"),
    Array("kfree_rcu", "int64", lambda s: rows.KVFREE_BULK_MAX_ENTR, "objects that wait to be freed", "struct kvfree_rcu_bulk_data"),
    Array("kvfree_page", "int64", lambda s: rows.KVP_STRIDE * s.nr_cpus, "KVP_* a CPU", "struct kfree_rcu_cpu.bkvcache"),
    Array("psi", "int64", _rows(rows.PSI_STRIDE, lambda s: s.nr_memcgs), "PSI_* a cgroup", "struct psi_group"),
    Array("shrinker", "int64", lambda s: rows.SHR_STRIDE * rows.NR_SHRINKERS, "SHR_* a shrinker", "struct shrinker, list_lru"),
    Array("wb", "int64", lambda s: rows.NR_WB, "WB_*", "struct bdi_writeback, vm_dirty_*"),
    Array("blk", "int64", lambda s: rows.BLK_STRIDE * rows.NR_DISKS, "BLK_* a disk", "struct request_queue"),
    Array("blk_ring", "int64", lambda s: 2 * rows.BLK_RING * rows.NR_DISKS, "pfn, done in ns a write; a ring a disk", "struct bio"),
    Array("swap_map", "int32", lambda s: max(1, s.nr_swap_slots), "references a slot", "swap_info_struct.swap_map"),
    Array("swap_cache", "int64", lambda s: max(1, s.nr_swap_slots), "pfn << 1 | 1, (shadow + 1) << 1, 0", "swapper_spaces"),
    Array("swap_info", "int64", lambda s: rows.SWAP_INFO_STRIDE * rows.MAX_SWAPFILES, "SI_* a device", "struct swap_info_struct"),
    Array("swap_slots", "int64", _rows(rows.SWAP_SLOTS_STRIDE, lambda s: s.nr_cpus), "SS_* a CPU", "struct swap_slots_cache"),
    Array("swap_class", "uint8", lambda s: max(1, s.nr_swap_slots), "CLASS_* of what a slot holds (CLASS_ZERO: nothing was written)", "zeromap"),
    Array("page_class", "uint8", lambda s: s.nr_frames, "CLASS_* of what a page holds, but for stores since PTE_DIRTY was set", "-", 1),
    Array("compress", "int64", lambda s: 2 * rows.NR_CLASSES, "bytes of a compressed page by CLASS_*: zram's, zswap's", "-"),
    Array("bio", "int64", lambda s: rows.BIO_RING + rows.BIO_WORDS * rows.BIO_ENTRIES, "BIO_*", "struct request_queue"),
    Array("plug", "int64", lambda s: rows.PLUG_STRIDE * (1 + s.nr_nodes), "PLUG_* a thread", "struct blk_plug"),
    Array("zram", "int32", lambda s: max(1, s.nr_swap_slots), "zspage that holds a slot's data on a zram device", "zram.table"),
    Array("zswap_entry", "int32", lambda s: max(1, s.nr_swap_slots), "zspage that holds a slot's data in zswap", "zswap_trees"),
    Array("zswap_next", "int32", lambda s: max(1, s.nr_swap_slots), "slot of the next younger entry of zswap", "zswap_list_lru"),
    Array("zswap_prev", "int32", lambda s: max(1, s.nr_swap_slots), "slot of the next older entry of zswap", "zswap_list_lru"),
    Array("zswap_referenced", "uint8", lambda s: max(1, s.nr_swap_slots), "1: a second chance is left", "zswap_entry.referenced"),
    Array("zswap", "int64", lambda s: rows.NR_ZSWAP, "ZSW_*", "zswap_*"),
    Array("zs_class", "int64", lambda s: rows.ZS_STRIDE * rows.NR_ZS_CLASSES, "ZS_* a size class", "struct size_class"),
    Array("zs_pool", "int64", lambda s: rows.ZS_POOL_STRIDE * (1 + rows.MAX_SWAPFILES), "ZSP_* a pool", "struct zs_pool"),
    Array(
        "zs_group", "int32", lambda s: (1 + rows.MAX_SWAPFILES) * rows.NR_ZS_CLASSES * rows.NR_ZS_GROUPS, "first zspage, by pool, class and fullness",
        "size_class.fullness_list",
    ),
    Array("zspage", "int64", _rows(rows.ZSPAGE_STRIDE, lambda s: s.nr_present + 1), "ZP_* a zspage", "struct zspage"),
    Array("mthp", "int64", lambda s: rows.MTHP_STRIDE * 16, "MTHP_* an order", "mthp_stats"),
    Array("isolated", "int64", lambda s: 1 + PTRS_PER_TABLE, "count, then folios that MADV_PAGEOUT has isolated", "folio_list"),
    Array("lazyfree", "int64", lambda s: 32 * s.nr_cpus, "count, then 31 pages of MADV_FREE a CPU", "cpu_fbatches.lru_lazyfree"),
    Array("shmem_ino", "int64", lambda s: s.nr_cpus, "number of the next nameless object that a CPU makes", "shmem_sb_info.ino_batch"),
    Array("swap_memcg", "uint16", lambda s: max(1, s.nr_swap_slots), "cgroup charged for a slot", "swap_cgroup"),
    Array("memcg", "int64", _rows(rows.MEMCG_STRIDE, lambda s: s.nr_memcgs), "MC_* a cgroup", "struct mem_cgroup"),
    Array("reclaim_iter", "int64", lambda s: s.nr_memcgs * s.nr_nodes, "of each cgroup by node: where the next pass over its descendants begins", "mem_cgroup_reclaim_iter"),
    Array("memcg_stat", "int64", _rows(vmstat.VMSTAT_STRIDE, lambda s: s.nr_memcgs), "V_* a cgroup: events", "memcg_vmstats"),
    Array("memcg_stock", "int64", _rows(rows.STOCK_STRIDE, lambda s: s.nr_cpus), "cgroup, pages a CPU", "struct memcg_stock_pcp"),
    Array("rq_table", "uint32", lambda s: max(1, s.nr_request_ids), "frame of a requested object, if rq_object agrees", "-"),
    Array("rq_object", "uint32", lambda s: s.nr_frames if s.nr_request_ids else 1, "object in a frame | accessed << 31, NO_MAPPING", "-"),
    Array("rq_shadow", "int64", lambda s: s.nr_request_ids if s.request_shadows else 1, "shadow + 1 of an evicted object, 0", "-"),
    Array("rq_free", "uint32", lambda s: s.nr_frames + 1 if s.nr_request_ids else 1, "free frames: how many, then a stack", "-"),
)

#: list heads a zone needs (free lists) and a CPU and zone needs (per-CPU lists); nodes offer NR_POLICY_LISTS to the reclaimer
FREE_HEADS_PER_ZONE = 72
PCP_HEADS = 16
SLAB_HEADS_PER_NODE = rows.NR_CACHES
HUGE_PAGE = 1 << 21


def count_heads(nr_cpus: int, nr_nodes: int, nr_zones: int, nr_memcgs: int = 1) -> int:
    """List sentinels of a machine."""
    policy = nr_nodes * nr_memcgs * NR_POLICY_LISTS
    return nr_zones * FREE_HEADS_PER_ZONE + nr_cpus * nr_zones * PCP_HEADS + policy + nr_nodes * SLAB_HEADS_PER_NODE + rows.COMPACT_HEADS


def reserve(length: int, dtype: str, huge: bool = False) -> np.ndarray:
    """A zeroed array of address space that takes memory only where it is touched. huge: ask for huge pages (dense arrays)."""
    size = max(1, length) * np.dtype(dtype).itemsize
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    if huge and hasattr(mmap, "MADV_HUGEPAGE"):
        block = mmap.mmap(-1, size + HUGE_PAGE, flags=flags, prot=protection)
        block.madvise(mmap.MADV_HUGEPAGE)
        unaligned = np.frombuffer(block, np.uint8)
        first = -unaligned.ctypes.data % HUGE_PAGE  # only aligned memory gets huge pages
        return unaligned[first : first + size].view(dtype)
    block = mmap.mmap(-1, size, flags=flags, prot=protection)
    if size >= HUGE_PAGE and hasattr(mmap, "MADV_NOHUGEPAGE"):
        block.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(block, dtype=dtype, count=max(1, length))


def make_arrays(sizes: Sizes) -> dict[str, np.ndarray]:
    """All arrays of a machine, zeroed."""
    dense = sizes.nr_frames < 1 << 27  # less than 512 GiB the per-page arrays are worth huge pages; a larger machine is used sparsely
    return {a.name: reserve(a.length(sizes), a.dtype, huge=dense and a.name in ("page", "pagex", "pt", "next_use", "rq_table", "rq_object")) for a in ARRAYS}
