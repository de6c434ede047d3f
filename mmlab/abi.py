"""The contract between the core and the policies: one table of ops per slot, one of core services.

Stubs (`mmlab/kernels/ops.py`, `mmlab/kernels/services.py`), the checks of policy records, ``mmlab hooks`` and the conformance kit all come
from these tables; after a change run ``python -m mmlab.abi``. Every op takes (machine, the policy's state, int64...) and returns int64;
every service takes (machine, int64...) and returns int64. Failure is a negative errno.
"""

from __future__ import annotations

import textwrap

import attrs


@attrs.frozen
class Op:
    """One function of a contract.

    args: names of the int64 arguments after the machine (and the state); returns: what the int64 means; doc: when it is called and what it
    must keep; optional: a policy may leave it out, and then it returns 0; bound: how much work one call may do; forwards: for a service that
    is nothing but an op of a slot, (slot, op); rare: a service that many machines never need is compiled when it is called for the first time.
    """

    name: str
    args: tuple[str, ...]
    returns: str
    doc: str
    optional: bool = False
    bound: str = "O(1)"
    forwards: tuple[str, str] | None = None
    rare: bool = False


@attrs.frozen
class SlotContract:
    """All ops of a slot, and what the slot decides. version: raised when an op's meaning changes; records carry the version they were written for."""

    slot: str
    version: int
    doc: str
    ops: tuple[Op, ...]


def _op(name: str, args: str, returns: str, doc: str, **more) -> Op:
    return Op(name, tuple(args.split()), returns, doc, **more)


INIT = _op("init", "", "0", "Once, after the state's arrays were made and before anything else.", optional=True, bound="O(machine)")
CHECK = _op("check", "", "0, or a code > 0 that says which invariant is broken", "After events, on request; must change nothing.", optional=True, bound="O(machine)")

SLOTS: dict[str, SlotContract] = {c.slot: c for c in (
    SlotContract("memory_model", 1, "How a page frame number finds its struct page, which frames exist, and what their struct pages cost.", (
        INIT,
        _op("add_range", "node start_pfn end_pfn", "0", "A range of present frames, at boot, lowest first.", bound="O(sections)"),
        _op("remove_range", "start_pfn end_pfn", "0", "Whole sections go; a model without this op has no hot-plug.", optional=True, bound="O(sections)"),
        _op("pfn_valid", "pfn", "1 if the frame has a struct page, else 0", "Whenever a frame number comes from outside (imports, ranges, scans)."),
        _op("pfn_to_page", "pfn", "index of the struct page in mem_map", "pfn is valid."),
        _op("page_to_pfn", "page", "frame number", "page is an index that pfn_to_page returned."),
        _op("memmap_pages", "start_pfn end_pfn", "pages spent on struct pages of the range", "At boot, to find managed pages.", bound="O(sections)"),
        CHECK,
    )),
    SlotContract("page_allocator", 1, "Serves one zone: which free block an allocation gets. Zonelists, watermarks and GFP rules stay in the core.", (
        INIT,
        _op("init_range", "zone pfn nr_pages", "0", "Boot hands over free memory, lowest address first (memblock_free_all).", bound="O(nr_pages)"),
        _op("alloc", "zone order migratetype alloc_flags", "pfn, or -ENOMEM",
            "The zone passed its watermark. Keep NR_FREE by mod_zone_free(). CPU: m.sc[SC_CPU].", bound="O(pcp batch)"),
        _op("free", "pfn order", "0", "A block of 2^order pages that nobody uses any more.", bound="O(pcp batch)"),
        _op("can_alloc", "zone order alloc_flags", "1 if a block of at least this order is free for such a request, else 0",
            "Last step of the watermark test for order > 0."),
        _op("drain", "zone cpu", "pages given back", "Empty the CPU's lists of the zone into the shared ones.", optional=True, bound="O(pages drained)"),
        _op("tick", "cpu", "0", "Once a second of simulated time (vm.stat_interval) and CPU.", optional=True, bound="O(pages freed)"),
        _op("is_free", "pfn", "order + 1 of the free block that begins at pfn, else 0", "Checks and /proc; per-CPU pages are not free."),
        _op("nr_free_blocks", "zone order migratetype", "free blocks", "buddyinfo and pagetypeinfo; sum over migratetypes is what is free."),
        _op("block_type", "pfn", "migratetype of the pageblock", "pagetypeinfo.", optional=True),
        _op("isolate_free", "pfn", "order + 1 of the free block that begins at pfn and is taken off the lists now, else 0", "Compaction needs a place.", optional=True),
        _op("free_list", "zone order migratetype", "record of the list's head + 1; 0: its lists are not in mem_map",
            "Compaction looks for near blocks, and for places; it may turn the list (list_make_first()).", optional=True),
        _op("unreserve_highatomic", "zone migratetype force", "pages of the pageblock given back, 0: none",
            "Reclaim did not help: give a type a pageblock that is kept for atomic requests, the last one only with force.", optional=True),
        _op("set_block_type", "pfn migratetype", "0", "Isolation, CMA areas: the pageblock changes its type, its free blocks their lists.", optional=True),
        _op("check", "zone", "0, or a code > 0 that says which invariant is broken", "On request; must change nothing.", bound="O(zone)"),
    )),
    SlotContract("slab_allocator", 1, "Packs kernel objects (VMAs, tree nodes, inodes ...) into pages of the page allocator.", (
        INIT,
        _op("create", "cache size align flags", "0, or -EINVAL", "A cache of objects of `size` bytes; cache is its number, 0 .. NR_CACHES-1."),
        _op("alloc", "cache gfp", "the object's address in bytes (pfn << 12 | offset), or -ENOMEM", "kmem_cache_alloc().", bound="O(objects per slab)"),
        _op("free", "obj", "0, or -EINVAL for what is not an allocated object", "kmem_cache_free(); finds the cache from the page.", bound="O(objects per slab)"),
        _op("shrink", "cache", "pages freed", "kmem_cache_shrink().", optional=True, bound="O(slabs)"),
        _op("destroy", "cache", "0, or -EBUSY while objects are in use", "kmem_cache_destroy().", optional=True, bound="O(slabs)"),
        _op("stat", "cache what", "the value", "what: SLAB_STAT_* (slabinfo's columns)."),
        _op("slab_after", "cache kind owner slab", "first frame of the slab behind this one (-1: of the first), or -1 at the end",
            "Dumps: kind SLAB_LIST_*, of CPU or node `owner`.", optional=True),
        _op("slab_stat", "slab what", "the value", "Dumps: what: SLAB_OF_*.", optional=True, bound="O(objects per slab)"),
        CHECK,
    )),
    SlotContract("vma_index", 1, "Finds the VMA at an address, and free address ranges. VMAs are rows of m.vma; the index stores row numbers.", (
        INIT,
        _op("init_mm", "mm", "0, or -ENOMEM", "An empty address space."),
        _op("destroy_mm", "mm", "0", "Frees the index's memory; the VMAs were erased or are dropped with it.", bound="O(vmas)"),
        _op("find", "mm addr", "the lowest VMA with vm_end > addr, or -1", "find_vma(): each fault, each address-space call.", bound="O(log vmas)"),
        _op("find_prev", "mm addr", "the highest VMA with vm_start < addr, or -1", "Neighbours, expansion, iteration downwards.", bound="O(log vmas)"),
        _op("insert", "mm vma", "0, or -ENOMEM", "vm_start and vm_end of the row are set and overlap nothing.", bound="O(vmas)"),
        _op("erase", "mm vma", "0", "The row still holds the bounds under which it is stored.", bound="O(vmas)"),
        _op("resize", "mm vma vm_start vm_end", "0, or -ENOMEM", "Change a VMA's bounds to these, which overlap no other; writes the row.", bound="O(vmas)"),
        _op("find_gap", "mm length low high", "highest address of a free range of `length` bytes in [low, high), or -ENOMEM",
            "vm_unmapped_area() top-down: the top end of the highest gap that fits; a VM_GROWSDOWN VMA above the gap keeps stack_guard_gap free below it.",
            bound="O(log vmas) to O(vmas)"),
        _op("stat", "mm what", "the value", "what: VMA_STAT_* (nodes, height, bytes; so far: nodes touched, locks taken by look-ups, by changes)."),
        _op("check", "mm", "0, or a code > 0", "On request: order, overlap, gaps, counts.", bound="O(vmas)"),
    )),
    SlotContract("fault_handler", 1, "What a page fault does once its VMA is known and allows the access.", (
        INIT,
        _op("handle_mm_fault", "mm vma vpn access", "VM_FAULT_* bits (0: minor, done), or VM_FAULT_OOM, _SIGBUS, _RETRY",
            "access: 0 read, 1 write, 2 execute. Maps the page (or a larger folio) at virtual page vpn.", bound="O(fault-around)"),
        _op("copy_page_range", "dst_mm src_mm dst_vma src_vma", "0, or -ENOMEM", "fork: what the child's VMA starts with.", bound="O(vma pages)"),
        _op("unshare", "mm first end gone", "0",
            "While m.sc[SC_SHARED_TABLES] is not 0: entries of the virtual pages [first, end) are about to change other than by a fault (gone: to be "
            "unmapped), so what fork has put off for them has to be done.", optional=True, bound="O(pages)"),
        CHECK,
    )),
    SlotContract("reclaimer", 1, "Which pages leave memory when it is short. The core unmaps, swaps out and frees; the policy keeps the order.", (
        INIT,
        _op("folio_added", "pfn", "0", "A page became reclaimable (anonymous fault, page cache). PG_* flags and the node are in mem_map; put it on a list."),
        _op("folio_accessed", "pfn", "0", "mark_page_accessed(): read()/write() of a cached page; with wants_accesses, every access of the stream as well.", optional=True),
        _op("folio_removed", "pfn", "0", "The page is being freed for another reason (munmap, truncation, exit); unlink it."),
        _op("folio_deactivate", "pfn", "0", "MADV_COLD and MADV_FREE: make it a near candidate.", optional=True),
        _op("folio_deactivate_file", "pfn", "0",
            "drop_caches or fadvise() met a page of a file that cannot go yet: a near candidate; PG_RECLAIM asks for folio_rotate.", optional=True),
        _op("folio_rotate", "pfn", "0", "Write-back of a page that reclaim wanted has ended: next victim.", optional=True),
        _op("prepare_scan", "lruvec priority nr_to_reclaim scan_flags", "0",
            "Before a pass over a node and its cgroups: the lruvec of the cgroup that is reclaimed from (the root: the node's number). "
            "May change m.sc[SC_SCAN_PRIORITY].", optional=True, bound="O(cgroups)"),
        _op("shrink_node", "lruvec priority nr_to_reclaim scan_flags", "pages reclaimed",
            "One pass over a lruvec (without cgroups: over a node) at this priority (12 gentle .. 0 desperate) by kswapd or direct reclaim; "
            "calls reclaim_folio() for each victim. Counts what it looked at by count_scan(). scan_flags: SCAN_*. kswapd's pass may stop from m.sc[SC_YIELD_NS] on: it sets m.sc[SC_YIELDED] "
            "and is called again, with SCAN_RESUME, to go on.", bound="O(pages >> priority)"),
        _op("end_reclaim", "lruvec", "0", "A run of passes has ended: the lruvec of prepare_scan().", optional=True),
        _op("age_node", "node", "0", "kswapd, before each pass: keep the lists in balance.", optional=True, bound="O(32)"),
        _op("look_around", "vma pmd slot pfn", "young entries found", "folio_referenced() found the page's entry m.pt[slot], below m.pt[pmd], "
            "young and has cleared it: its neighbours may be looked at as well.", optional=True, bound="O(64)"),
        _op("eviction_shadow", "pfn", "what to remember of the page, >= 0", "Just before a page leaves; comes back in workingset_refault().", optional=True),
        _op("workingset_refault", "pfn shadow", "bits: 1 the page belongs to the working set (active, counted activate), 2 it was active before (counted restore), 4 counted activate only",
            "A page that was reclaimed comes back, before folio_added().", optional=True),
        _op("drain", "cpu", "0", "lru_add_drain(): batches to lists.", optional=True, bound="O(batch)"),
        _op("nr_lru_pages", "lruvec lru", "pages", "vmstat's nr_inactive_anon ... (LRU_*); 0 for a list the policy does not have.", optional=True),
        _op("explain_page", "pfn what", "the value, -1: it has none",
            "On request ([run] explain): entry `what` of the record's `explains` for a page that was reclaimed, looked at or kept. Must change nothing.",
            optional=True, bound="O(pages)"),
        _op("flush_stats", "", "0", "memory.stat is read: statistics that lag behind come up to date.", optional=True, bound="O(cgroups)"),
        CHECK,
    )),
    SlotContract("oom_policy", 1, "Who dies when reclaim has failed.", (
        INIT,
        _op("select_victim", "task order", "a task, or -1: nobody can be killed (the machine panics)",
            "task: who asked for memory. One that is alive, not dying, not exempt (oom_score_adj -1000) and in m.sc[SC_OOM_MEMCG] or below it.", bound="O(tasks)"),
        _op("oom_score", "task", "0 .. 2000", "/proc/PID/oom_score."),
        _op("candidate_score", "task asker", "the figure by which it is compared with others (the highest dies), or OOM_NO_CANDIDATE",
            "Just before a kill, for the results' table of candidates; without it they have their oom_score. asker: OOM_USER_SPACE for oom_kill().", optional=True, bound="O(tasks)"),
        _op("step", "now_ns", "ns until the next step, 0: never",
            "A killer in user space looks at memory, and ends tasks by oom_kill(). The time it takes, on m.sc[SC_NOW_NS], counts.", optional=True, bound="O(tasks)"),
        CHECK,
    )),
    SlotContract("thp", 1, "Which faults get huge pages.", (
        INIT,
        _op("fault_orders", "mm vma vpn access", "bit set of orders to try, largest first (bit 9: a PMD)",
            "An anonymous fault; the core checks that the folio fits the VMA and an empty table.", bound="O(1)"),
        _op("fault_gfp", "mm vma order", "GFP flags of the allocation", "defrag: how hard to try. vma and mm -1: a write() to tmpfs."),
        _op("use_zero_page", "mm vma", "1 to map the huge zero page on a read", "A read fault of a whole empty PMD.", optional=True),
        _op("step", "now_ns", "ns until the next step, 0: never", "Background work (khugepaged).", optional=True, bound="one pass"),
        _op("place", "mm vma vpn", "a frame for a single anonymous page at vpn, or -1: any will do",
            "A page is about to be allocated. The frame is one that the policy has from alloc_pages() and gives away.", optional=True),
        CHECK,
    )),
    SlotContract("tiering", 1, "Which memory a page belongs in, on machines with several nodes or kinds of it. The core scans, faults, moves and counts.", (
        INIT,
        _op("demotion_node", "pfn node scan_flags", "the node to move it to, or -1: free it",
            "Reclaim would free a page of a node, and /sys/kernel/mm/numa/demotion_enabled is on. Where that node is full, others of lower tiers take it."),
        _op("should_migrate", "task pfn source node", "1 to move the page, else 0", "A hinting fault of a task on another node than the page's."),
        _op("page_accessed", "task pfn access", "0", "Every access of a stream to a present page, if the record says wants_accesses.", optional=True),
        _op("step", "now_ns", "ns until the next step, 0: never", "Background work: it may move pages by migrate_folio_to(). Its time, on m.sc[SC_NOW_NS], counts.",
            optional=True, bound="O(pages)"),
        CHECK,
    )),
    SlotContract("monitor", 1, "Estimates which memory is accessed. It may act on what it found through the core's services (DAMOS).", (
        INIT,
        _op("on_access", "task vpn access", "0", "Every access of a stream, if the record says wants_accesses.", optional=True),
        _op("hint_fault", "task vpn pfn", "0", "A fault on an entry that a scan of the monitor or of NUMA balancing had made PROT_NONE.", optional=True),
        _op("sample", "now_ns", "ns until the next sample, 0: never", "Periodic work; reads and clears accessed bits. Its time, on m.sc[SC_NOW_NS], counts.", optional=True, bound="O(mapped pages)"),
        CHECK,
    )),
)}

ALL_SERVICES: tuple[Op, ...] = (
    _op("alloc_pages", "gfp order node", "pfn, or -ENOMEM", "__alloc_pages(): zonelist, watermarks, slow path with reclaim and OOM. node -1: the CPU's."),
    _op("alloc_pages_slowpath", "gfp order node", "pfn, or -ENOMEM", "What alloc_pages() does where no zone of the list passes its watermark."),
    _op("free_pages", "pfn order", "0", "__free_pages(): resets the struct page and hands the block back."),
    _op("folio_put", "pfn", "1 if that was the last reference and the page was freed, else 0", "Drop one reference that is not a mapping."),
    _op("folio_referenced", "pfn", "young PTEs | VM_EXEC << 16 | VM_LOCKED << 17", "Counts and clears the accessed bits of all PTEs that map the page."),
    _op("reclaim_folio", "pfn scan_flags", "RECLAIM_FREED, RECLAIM_KEEP or RECLAIM_ACTIVATE",
        "Unmap, give a swap slot, write if dirty, leave a shadow, free. The caller has taken the page off its list and puts it back if it was not freed."),
    _op("rmap_walk", "pfn what", "sum over the PTEs that map the page",
        "what: RMAP_COUNT, RMAP_YOUNG, RMAP_CLEAR_YOUNG, RMAP_UNMAP, RMAP_DIRTY, RMAP_MKCLEAN, RMAP_LOCKED (VM_LOCKED VMAs), RMAP_MIGRATE."),
    _op("vma_alloc_zeroed_movable_folio", "mm vma vpn", "pfn, or -ENOMEM", "A zeroed anonymous page with its counters, not yet mapped."),
    _op("alloc_anon_folio", "mm vma vpn order gfp pfn", "pfn, or -ENOMEM", "The same with 2^order pages (order > 0), at pfn unless that is -1.", rare=True),
    _op("swap_in", "mm vma vpn entry access", "VM_FAULT_* bits", "do_swap_page(): swap cache, read-ahead, map."),
    _op("filemap_fault", "mm vma vpn access", "pfn of the page-cache page | VM_FAULT_MAJOR << 40, or -VM_FAULT_*", "Find or read the page behind a file mapping."),
    _op("filemap_get_page", "inode index", "pfn, or -1 when the cache has no page there", "Look-up only."),
    _op("kmem_cache_alloc", "cache gfp", "object address, or -ENOMEM", "An object from the slab slot.", forwards=("slab_allocator", "alloc")),
    _op("kmem_cache_free", "obj", "0", "Give it back.", forwards=("slab_allocator", "free")),
    _op("pte_alloc", "mm vpn", "index of the PTE in m.pt, or -ENOMEM", "Walk, making the tables that are missing."),
    _op("anon_vma_prepare", "vma", "0, or -ENOMEM", "Make sure that the VMA has an anon_vma."),
    _op("zap_pte", "mm vma slot", "0", "Unmap what the entry in m.pt[slot] maps: page, zero page or swap slot."),
    _op("folio_add_lru", "pfn", "0", "A mapped or cached page is complete: hand it to the reclaimer.", forwards=("reclaimer", "folio_added")),
    _op("do_huge_pmd_anonymous_page", "mm vma vpn access", "VM_FAULT_* bits, or -1: not possible, take small pages",
        "A fault in an empty PMD of an anonymous VMA: asks the thp slot, then maps a huge page or the huge zero page."),
    _op("do_anonymous_folio", "mm vma vpn", "VM_FAULT_* bits, or -1: not possible, take a single page",
        "A write fault where no PTE is: map a block of 4 to 256 pages if the thp slot wants one of a size that is on (m.sc[SC_MTHP_ORDERS]).", rare=True),
    _op("do_huge_pmd_shmem_fault", "mm vma vpn access", "VM_FAULT_* bits, or -1: not possible, take small pages",
        "A fault in an empty PMD of a file map: if the file is swap-backed and a huge page is there or wanted, it is mapped."),
    _op("do_huge_pmd_wp_page", "mm pmd", "0 done, or -1: split, go on with the PTE", "A write to a huge entry m.pt[pmd] that is not writable.", rare=True),
    _op("copy_huge_pmd", "dst_mm src_mm vpn", "0, or -ENOMEM", "fork: both address spaces share the huge entry at vpn, write-protected.", rare=True),
    _op("khugepaged_scan_mm_slot", "pages max_ptes_none max_ptes_swap max_ptes_shared gfp", "progress in pages | SCAN_* of the last range << 32",
        "khugepaged goes on where it stopped (m.sc[SC_KHUGEPAGED_MM]) until it has found or collapsed a range or made so much progress.", bound="O(pages)", rare=True),
    _op("collapse_range", "mm vpn max_ptes_none gfp", "SCAN_SUCCEED, or SCAN_*: why not",
        "The pages of the aligned 2 MiB at vpn of an anonymous VMA are copied to one huge page, if no more than max_ptes_none are missing.", rare=True),
    _op("collapse_in_place", "mm vpn", "1, or 0: they are not that",
        "The 512 pages at vpn, which lie in order in one huge frame and are nobody else's, become one huge page without being copied.", rare=True),
    _op("split_folio", "pfn", "1, or 0 if something holds it", "A large folio becomes single pages; those that nobody maps are freed.", rare=True),
    _op("lru_add_drain_all", "", "0", "All per-CPU batches of pages on their way to the reclaimer's lists take effect.", rare=True),
    _op("folio_free_swap", "pfn", "1 if it is out of the swap cache now, else 0", "A folio in the swap cache whose slots nobody refers to leaves it."),
    _op("munlock_folio", "pfn", "1 if the page was unmarked, else 0", "A VM_LOCKED VMA maps the page no more (it has got a copy): unless another one locks it.", rare=True),
    _op("split_huge_pmd", "mm pmd", "0", "Replace the huge entry m.pt[pmd] by a table of 512; its folio stays.", rare=True),
    _op("wake_kswapd", "node order highest", "0, or 1 if reclaim would not help", "wakeup_kswapd()."),
    _op("wakeup_kcompactd", "node order highest", "0", "A block of the order was missed in zones up to an index: the node's kcompactd may look.", rare=True),
    _op("kcompactd_run", "node until_ns", "1 if it has not come to the end, else 0",
        "A node's kcompactd works: for the largest block asked for (until_ns 0), or proactively, up to until_ns.", bound="O(pages)", rare=True),
    _op("cond_resched", "", "0", "A task that reclaims gives way within a batch (need_resched()): kswapd has its turn, with lists of its own.", rare=True),
    _op("find_vma", "mm addr", "the lowest VMA with vm_end > addr, or -1", "The VMA index's find, for policies.", forwards=("vma_index", "find")),
    _op("madvise", "mm start length advice", "0, or -errno", "madvise(2) on an address space, with the system call's numbers: 3 willneed, 14 hugepage, 15 nohugepage, 20 cold, 21 pageout.", rare=True),
    _op("folio_mark_accessed", "pfn", "0", "Tell the reclaimer that the page was used; on a list it may move up.", forwards=("reclaimer", "folio_accessed")),
    _op("folio_deactivate", "pfn", "0", "Tell the reclaimer that the page is a near candidate.", forwards=("reclaimer", "folio_deactivate")),
    _op("pageout_folio", "pfn", "1 if the page was freed, else 0", "reclaim_pages() of one page on a list, accessed or not: reclaimed, or put back.", rare=True),
    _op("task_tick_numa", "task", "ns until the next tick that matters", "NUMA balancing: the tick of a running task; may scan its address space.",
        bound="O(scan_size)", rare=True),
    _op("do_numa_page", "mm vma vpn slot access", "0",
        "A hinting fault: the entry m.pt[slot], which a scan made PROT_NONE, is present afterwards; its page may have moved to the task's node.", rare=True),
    _op("node_reclaim", "preferred zone gfp order", "1 if it tried, else 0",
        "zone_reclaim_mode: a zone within reach is below its watermark. Frees clean cache of its node before the request goes elsewhere.", rare=True),
    _op("try_charge", "memcg gfp nr_pages", "0, or -ENOMEM", "try_charge_memcg(): pages for a cgroup, within its limits and its parents'.", rare=True),
    _op("try_to_compact_pages", "gfp order alloc_flags node prio", "COMPACT_*", "Direct compaction of the zonelist's zones for an allocation.", rare=True),
    _op("migrate_folio_to", "pfn node", "the pages that moved, 0 if it could not", "migrate_pages() of one folio on a list to a node, without reclaim: moved, or put back.", rare=True),
    _op("balance_dirty_pages", "", "ns that the running task has to sleep", "The task has dirtied its share of pages (m.wb[WB_BALANCE]).", rare=True),
    _op("wb_step", "", "1 while the flusher is awake, else 0", "A part of the flusher's work.", bound="O(32)"),
    _op("writeback_timers", "", "0", "m.wb[WB_NEXT_NS] has come: writes that are done end, and the flusher looks for old data.", bound="O(writes done)"),
    _op("shrink_slab", "priority", "objects freed", "All shrinkers of kernel objects once.", bound="O(objects >> priority)"),
    _op("shrink_slab_memcg", "memcg priority", "objects freed", "The shrinkers that keep one count for each cgroup (shadows, folios to split, zswap), once at this one.",
        bound="O(objects >> priority)", rare=True),
    _op("wakeup_flusher_threads", "", "0", "A batch of reclaim met nothing but dirty pages of files: all that is dirty is to be written."),
    _op("out_of_memory", "task order", "1 if a victim was killed, else 0", "out_of_memory(): asks the OOM policy, kills, counts.", rare=True),
    _op("oom_kill", "task", "1 if it was killed, else 0", "A killer in user space ends a task by SIGKILL: its memory goes at once.", rare=True),
    _op("shrink_memcg", "memcg", "0 if it was written back, -EAGAIN if not, -ENOENT if there is none", "Look at the oldest entry of a cgroup in zswap.", rare=True),
)

#: What several parts of the core call through the table as well, so that it is compiled once. Not for policies.
SHARED: tuple[Op, ...] = (
    _op("xa_store", "inode index entry", "0, or -ENOMEM", "The page cache's tree: put an entry (0: nothing) at an index of a file."),
    _op("shmem_get_page", "inode index", "pfn | VM_FAULT_MAJOR << 40 if it was read, or -ENOMEM", "The page of a swap-backed file at an index, made if need be."),
    _op("inode_put", "inode", "references left", "Drop a reference; with the last one the file and its pages go.", bound="O(pages)"),
    _op("zap_range", "mm vma start_vpn end_vpn", "0", "Unmap everything of the VMA in [start, end); tables stay.", bound="O(pages)"),
    _op("background", "", "0", "What is due by m.sc[SC_NOW_NS] happens: completed writes, kswapd, ticks, the monitor, khugepaged. Sets m.sc[SC_NEXT_EVENT_NS].",
        bound="one step of each"),
    _op("run_due_work", "", "0", "Background work that has become due, and the sleep of a task that has dirtied more pages than the disk writes."),
    _op("handle_over_high", "task", "0", "What memory.high asks of a task on its way back to user space.", rare=True),
    _op("expand_stack", "mm vma address", "0, or -ENOMEM", "Grow a VM_GROWSDOWN VMA down to the page of address.", rare=True),
    _op("mlock_faulted", "mm vma vpn", "0", "After a fault in a VM_LOCKED VMA: mark what it mapped.", rare=True),
    _op("task_zonelist", "", "a node, or the zonelist of a set of nodes", "Where an allocation of the running task begins, by its memory policy.", rare=True),
    _op("vma_zonelist", "vma vpn order", "a node, or the zonelist of a set of nodes", "The same for a page of a VMA.", rare=True),
    _op("migrate_folio", "src dst", "0", "Everything that is at src, an isolated page, moves to dst, a free page; src is freed.", rare=True),
    _op("zswap_shrinker_scan", "memcg nr_to_scan", "entries written back, -1: none", "Look at so many of a cgroup's oldest entries in zswap.", rare=True),
    _op("shrink_worker", "", "0", "zswap's worker: write back from all cgroups in turn until the pool is small enough.", bound="O(pool)", rare=True),
)

#: services with a function of the core behind them, in the order of the machine's table
SERVICES: tuple[Op, ...] = (*(service for service in ALL_SERVICES if service.forwards is None), *SHARED)
OPS: tuple[tuple[str, Op], ...] = tuple((slot, op) for slot, contract in SLOTS.items() for op in contract.ops)
OP_INDEX: dict[tuple[str, str], int] = {(slot, op.name): i for i, (slot, op) in enumerate(OPS)}
SERVICE_INDEX: dict[str, int] = {service.name: j for j, service in enumerate(SERVICES)}
NR_OPS = len(OPS)
NR_SERVICES = len(SERVICES)
HEAD_WORDS = 2 * NR_OPS + NR_SERVICES


def _signature(op: Op) -> str:
    return ", ".join(("m", *op.args))


def _doc(op: Op) -> str:
    text = f"{op.doc} Returns {op.returns}."
    if len(text) < 120:
        return f'    """{text}"""'
    return '    """' + textwrap.fill(text, 130, subsequent_indent="    ").strip() + '\n    """'


def ops_source() -> str:
    """The text of mmlab/kernels/ops.py."""
    lines = ['"""Calls from the core into the chosen policies, one stub an op. Generated by `python -m mmlab.abi`; do not edit."""', "",
             "from mmlab.kernels.calls import op_stub", "from mmlab.kernels.jit import leaf", ""]
    lines += [f"_{slot}_{op.name} = op_stub({i})" for i, (slot, op) in enumerate(OPS)]
    for i, (slot, op) in enumerate(OPS):
        arguments = ", ".join(("m", *op.args))
        lines += ["", "", "@leaf", f"def {slot}_{op.name}({_signature(op)}):", _doc(op), f"    m.nr_calls[{i}] += 1", f"    return _{slot}_{op.name}({arguments})"]
    return "\n".join(lines) + "\n"


def services_source() -> str:
    """The text of mmlab/kernels/services.py."""
    lines = ['"""The core\'s services, one stub a service. Generated by `python -m mmlab.abi`; do not edit."""', "",
             "from mmlab.kernels.calls import service_stub", "from mmlab.kernels.jit import leaf"]
    every = (*ALL_SERVICES, *SHARED)
    called = {s.name: "_".join(s.forwards) if s.forwards else f"_{s.name}" for s in every}
    lines += [f"from mmlab.kernels.ops import {called[s.name]}" for s in ALL_SERVICES if s.forwards]
    lines += ["", *(f"_{s.name} = service_stub({2 * NR_OPS + j}, {j})" for j, s in enumerate(SERVICES))]
    for s in every:
        lines += ["", "", "@leaf", f"def {s.name}({_signature(s)}):", _doc(s), f"    return {called[s.name]}({_signature(s)})"]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the generated stubs beside the other kernels."""
    from pathlib import Path

    here = Path(__file__).parent / "kernels"
    (here / "ops.py").write_text(ops_source())
    (here / "services.py").write_text(services_source())


if __name__ == "__main__":
    main()
