"""Rows of the machine's tables: zones, per-CPU lists, nodes, tasks, address spaces, VMAs, anon_vmas, files.

A table is a flat int64 array with a power-of-two stride; field F of row R is `array[R * STRIDE + F]`. Names are those of the kernel's
structures. Byte addresses are called vm_*, page numbers vpn or pfn. -1 means none.
"""

# m.sc: scalars of the machine -------------------------------------------------------------------------------------------------------------
(
    SC_NOW_NS, SC_CPU, SC_TASK, SC_NR_NODES, SC_NR_ZONES, SC_POLICY_LISTS, SC_MAX_PFN, SC_NR_CPUS, SC_NEXT_EVENT_NS, SC_WANTS_ACCESS,
    SC_NR_TASKS, SC_VMA_FREE, SC_VMA_TOP, SC_TABLE_FREE, SC_TABLE_TOP, SC_ANON_VMA_FREE, SC_ANON_VMA_TOP, SC_AVC_FREE, SC_AVC_TOP,
    SC_ZERO_PFN, SC_HUGE_ZERO_PFN, SC_NR_SWAP_SLOTS, SC_NR_SWAP_FREE, SC_SWAP_FLAGS, SC_TOTALRAM, SC_TOTALRESERVE,
    SC_COMMITTED_AS, SC_OVERCOMMIT, SC_COMMIT_LIMIT, SC_STACK_GUARD_GAP, SC_MAX_MAP_COUNT, SC_MMAP_MIN_ADDR, SC_PAGE_CLUSTER,
    SC_SWAPPINESS, SC_BOOST_FACTOR, SC_STAT_INTERVAL_NS, SC_NEXT_TICK_NS, SC_FILE_FREE, SC_FILE_TOP, SC_XA_FREE, SC_XA_TOP,
    SC_FAULT_AROUND, SC_SWAPIN_HITS, SC_SWAPIN_PREV, SC_SWAPIN_LAST, SC_IN_RECLAIM, SC_NEEDS_FUTURE, SC_PGTABLE_LEVELS, SC_OOM_VICTIM,
    SC_PANIC, SC_EVENT, SC_NEXT_SAMPLE_NS, SC_SEED, SC_READAHEAD_PAGES, SC_INODE_FREE, SC_INODE_TOP, SC_KSWAPD_SLICE_NS, SC_NODE,
    SC_PID_NEXT, SC_NR_HEADS, SC_SLAB_HEADS, SC_KSWAPD_AWAKE, SC_MEMBLOCK_PFN, SC_MEMBLOCK_ZONE, SC_MONITOR_TIMER_NS, SC_THP_TIMER_NS,
    SC_NR_KILLS, SC_MTHP_ORDERS,
    SC_ZAP_BATCH, SC_KHUGEPAGED_MM, SC_KHUGEPAGED_ADDRESS, SC_KHUGEPAGED_COLLAPSED, SC_KHUGEPAGED_FULL_SCANS, SC_KHUGEPAGED_SEQUENCE,
    SC_SHMEM_HUGE, SC_SHMEM_MOUNT_HUGE, SC_TMPFS_HUGE, SC_NR_LOOPS, SC_IDLE_NS, SC_KHUGEPAGED_WAKE, SC_KHUGEPAGED_READY,
    SC_NR_MEMCGS, SC_RECLAIM_MEMCG, SC_SHRINK_MEMCG, SC_PROTECTION, SC_SCAN_PRIORITY, SC_NR_SCANNED, SC_NR_RECLAIMED,
    SC_RECLAIM_NOTES, SC_OOM_MEMCG, SC_IN_LRU_FAULT, SC_MM_WALK, SC_PROACTIVE,
    SC_MIGRATE_DELTA, SC_EXTFRAG_THRESHOLD, SC_PROACTIVENESS, SC_COMPACT_RESULT, SC_INTERLEAVE_NODE,
    SC_NODE_RECLAIM_MODE, SC_MIN_UNMAPPED_RATIO, SC_SHARED_POLICIES, SC_OOM_NODEMASK, SC_DEMOTION_ENABLED, SC_NUMA_BALANCING, SC_RUN_SINCE_NS,
    SC_VFS_CACHE_PRESSURE, SC_STORE_CLASS, SC_YIELD_NS, SC_YIELDED, SC_KCOMPACTD_NS, SC_HIGHMEM, SC_MONITOR_NS, SC_MONITOR_CHECKS,
    SC_TIERING_TIMER_NS, SC_TIERING_NS, SC_SHARED_TABLES, SC_OOM_TIMER_NS, SC_PANIC_ON_OOM, SC_OOM_KILL_ALLOCATING, SC_OOM_FAULT, SC_OOM_CHOSEN, SC_NR_CANDIDATES,
    SC_BDEV, SC_BUDDY, SC_EXT4_BLOCKS, SC_EXT4_INO, SC_MOBILITY_DISABLED, SC_WRITE_CLASS, SC_MLOCK_BATCH, SC_UNPREEMPTED_NS,
    SC_PREEMPT_NS, SC_RECLAIM_FAULT, SC_RECLAIM_FAULT_PFN, SC_NR_VICTIMS, SC_NR_FREED, SC_WANTS_PASSES,
    SC_DRIVER, SC_POLL_NS, SC_KSWAPD_TIMER_NS, SC_POLICY_FAULT, SC_MEMBLOCK_FIRST,
    SC_SHMEM_INO_BATCHES, SC_TMPFS_INOS,
) = range(143)  # SC_DRIVER: task that waits for the one that runs, and looks after it at SC_POLL_NS (NEVER_NS: there is none)
NR_SCALARS = 192
# m.sc[SC_KHUGEPAGED_WAKE]: the thread has not been woken since it was started; its first waker lost the CPU to it at once; that one held the mmap
# lock; it has run
KHUGEPAGED_NEW, KHUGEPAGED_PREEMPTS, KHUGEPAGED_LOCKED_OUT, KHUGEPAGED_RAN = range(4)
# m.sc[SC_WANTS_ACCESS]: who is told of every access; any of them, and accesses are replayed by the loop that tells
WANTS_RECLAIMER, WANTS_MONITOR, WANTS_TIERING, WANTS_NODES, WANTS_TLB, WANTS_SUBPAGES = 1, 2, 4, 8, 16, 32
# m.subpage, a byte a frame while WANTS_SUBPAGES: what an anonymous page has met since it, or the large folio that it is in, was made
SUBPAGE_ACCESSED, SUBPAGE_WRITTEN = 1, 2
FUTURE_TASK_SHIFT = 40  # in m.future_range: a key is task << FUTURE_TASK_SHIFT | virtual page >> 9

# m.zone: one row a populated zone, in the order of nodes, then zone index ------------------------------------------------------------------
ZONE_STRIDE = 64
(
    Z_NODE, Z_INDEX, Z_START_PFN, Z_END_PFN, Z_PRESENT, Z_MANAGED, Z_FREE, Z_FREE_HIGHATOMIC,
    Z_WMARK_MIN, Z_WMARK_LOW, Z_WMARK_HIGH, Z_WMARK_PROMO, Z_WATERMARK_BOOST, Z_FLAGS, Z_BATCH, Z_HIGH_MIN,
    Z_HIGH_MAX, Z_STAT_THRESHOLD, Z_DRIFT_MARK, Z_NR_RESERVED_HIGHATOMIC, Z_NUMA_HIT, Z_NUMA_MISS, Z_NUMA_FOREIGN, Z_NUMA_INTERLEAVE,
    Z_NUMA_LOCAL, Z_NUMA_OTHER, Z_FIRST_PAGEBLOCK, Z_NR_PAGEBLOCKS, Z_FREE_HEADS, Z_ALLOCATED, Z_NR_MLOCK, Z_WRITE_PENDING,
) = range(32)
Z_LOWMEM_RESERVE = 32  # six entries, by highest zone index
Z_LRU = 40  # five entries: nr_zone_inactive_anon ...
Z_BOOT_LRU = 48  # five entries: pages that boot left on the lists, which nobody reclaims here
Z_NR_ZSPAGES = 53
Z_FREE_CMA, Z_CMA_PAGES = 54, 55  # free pages of CMA pageblocks (part of Z_FREE), all pages of CMA areas
Z_KSWAPD_BOOST = 56  # Z_WATERMARK_BOOST as kswapd found it when its run began
# zone flags
ZONE_BOOSTED_WATERMARK, ZONE_RECLAIM_ACTIVE, ZONE_BELOW_HIGH = 1, 2, 4

# m.pcp: one row a CPU and zone, at (cpu * NR_ZONES + zone); lists' heads are records of mem_map ---------------------------------------------
PCP_STRIDE = 16
(
    PCP_COUNT, PCP_HIGH, PCP_BATCH, PCP_FLAGS, PCP_ALLOC_FACTOR, PCP_FREE_COUNT, PCP_EXPIRE, PCP_FREE_DIFF, PCP_HEADS, PCP_HIGH_MIN, PCP_HIGH_MAX,
) = range(11)
PCP_LRU_DIFF = 11  # five words: what this CPU has not told yet of nr_zone_inactive_anon ...
NR_PCP_LISTS = 14

# m.compact: what compaction remembers of a zone (CZ_CACHED_MIGRATE: asynchronous, then synchronous runs); m.cc: the run that is going on -------
CZ_STRIDE = 16
(
    CZ_CACHED_FREE, CZ_CACHED_MIGRATE, CZ_CACHED_MIGRATE_SYNC, CZ_CONSIDERED, CZ_DEFER_SHIFT, CZ_ORDER_FAILED, CZ_BLOCKSKIP_FLUSH,
    CZ_INIT_FREE, CZ_INIT_MIGRATE,
) = range(9)
(
    CC_ZONE, CC_ORDER, CC_MODE, CC_MIGRATETYPE, CC_WHOLE_ZONE, CC_IGNORE_SKIP, CC_BLOCK_SUITABLE, CC_DIRECT, CC_PROACTIVE, CC_MIGRATE_PFN,
    CC_FREE_PFN, CC_LAST_MIGRATED, CC_FINISH_PAGEBLOCK, CC_NR_MIGRATEPAGES, CC_NR_FREEPAGES, CC_MIGRATE_SCANNED, CC_FREE_SCANNED,
    CC_SEARCH_ORDER, CC_FAST_START_PFN, CC_FAST_SEARCH_FAIL, CC_CAPTURE, CC_CAPTURED, CC_UNTIL_NS, CC_PLACES_OF,
) = range(24)
NR_CC = 32  # the run that goes on, then for each node what its kcompactd put off; CC_PLACES_OF: 1 + the node whose isolated free blocks the lists hold
COMPACT_HEADS = 16  # the last list heads: isolated free blocks by order, then isolated pages

# m.zonelist: row a node: the zones a request from it tries (row numbers of m.zone), fallback list then the node's own, each ended by -1 ------
ZONELIST_STRIDE = 128
ZONELIST_THISNODE = 64
NR_NODEMASKS = 64  # behind the nodes' own rows: for each set of nodes that a policy names, a row a node, with that set's zones alone

# m.node ----------------------------------------------------------------------------------------------------------------------------------
NODE_STRIDE = 64
(
    N_FIRST_CPU, N_NR_CPUS, N_KSWAPD_AWAKE, N_KSWAPD_PRIORITY, N_KSWAPD_FAILURES, N_KSWAPD_IDX, N_KSWAPD_CLOCK_NS, N_KSWAPD_WAKE_NS,
    N_KSWAPD_CPU, N_PRESENT, N_MANAGED, N_KSWAPD_BOOST, N_KSWAPD_RECLAIMED, N_KSWAPD_FLAGS, N_WEIGHT, N_TOPTIER, N_DEMOTION_TARGETS, N_LOWER_TIERS,
    N_NBP_THRESHOLD, N_NBP_RL_START, N_NBP_RL_NR_CAND, N_NBP_TH_START, N_NBP_TH_NR_CAND,
    N_PASS_MEMCG, N_PASS_SCANNED, N_PASS_RECLAIMED, N_PASS_NOTES, N_KSWAPD_LIGHT_SLEEP_NS, N_KSWAPD_ORDER, N_KSWAPD_ALLOC_ORDER,
    N_KCOMPACTD_ORDER, N_KCOMPACTD_IDX, N_KCOMPACTD_NEXT_NS, N_KCOMPACTD_AWAKE, N_ACCESSES, N_COLLAPSE_LOAD,
    N_KSWAPD_ASKED_ORDER, N_KSWAPD_ASKED_IDX, N_KCOMPACTD_ZONE, N_KCOMPACTD_SCORE, N_PASS_MET,
) = range(41)
# N_PASS_*: of a pass of kswapd that was preempted; N_PASS_MEMCG: cgroup + 1, 0: there is none; N_PASS_MET: four words, as m.wb[WB_SC_TAKEN] and
# on; N_KCOMPACTD_ZONE, N_KCOMPACTD_SCORE: of a proactive run that goes on: 1 + the zone, the node's score as it began (0: there is none)
# N_ACCESSES: of a stream; N_KSWAPD_ASKED_*: what kswapd was woken for and has not begun (kswapd_order, kswapd_highest_zoneidx; -1: nothing)

# m.task ----------------------------------------------------------------------------------------------------------------------------------
TASK_STRIDE = 32
(
    T_PID, T_MM, T_CPU, T_ALIVE, T_OOM_SCORE_ADJ, T_MIN_FLT, T_MAJ_FLT, T_PARENT, T_SIGNAL, T_SI_CODE, T_SI_ADDR, T_FLAGS, T_OBJ, T_STACK_PFN,
    T_CMIN_FLT, T_CMAJ_FLT, T_NODE, T_START_NS, T_MEMCG, T_OVER_HIGH,
    T_MEMPOLICY, T_IL_PREV, T_IL_WEIGHT, T_MEMS, T_NR_DIRTIED, T_NR_DIRTIED_PAUSE, T_DIRTY_PAUSED_NS,
) = range(27)
# T_MEMS: 0: the task's cpuset allows all nodes, else 1 + number of the zonelists of those it allows
# m.numa_task: what NUMA balancing keeps of a task; m.numa_faults: four counts a task and node: shared and private faults, and those of this sequence
NT_STRIDE = 16
(
    NT_RUNTIME, NT_NODE_STAMP, NT_SCAN_PERIOD, NT_SCAN_PERIOD_MAX, NT_SCAN_SEQ, NT_PREFERRED, NT_LOCALITY,
) = range(7)  # ns, ns, ms, ms, -, 1 + node, faults: remote, local, pages that could not move
# m.numab: settings of NUMA balancing, as in debugfs: ms, ms, ms, MB, ms, MB/s
NB_SCAN_DELAY, NB_SCAN_PERIOD_MIN, NB_SCAN_PERIOD_MAX, NB_SCAN_SIZE, NB_HOT_THRESHOLD, NB_RATE_LIMIT = range(6)
TF_MEMALLOC, TF_OOM_VICTIM, TF_KILLED = 1, 2, 4
# m.explain: why pages were reclaimed or spared. EXPLAIN_KINDS parts of a head and 2 * wanted groups of EXPLAIN_ROWS rows: the page, and others that stay
EXPLAIN_KINDS = 2  # pages that reclaim took up; pages that it found accessed
EXPLAIN_OTHERS = 4
EXPLAIN_ROWS = 1 + EXPLAIN_OTHERS
EXPLAIN_HEAD = 8
EXH_EVERY, EXH_SEEN, EXH_NR = range(3)  # one in so many is noted; how many there were; groups in use
EX_STRIDE = 16
# EX_ORDER: decisions of both kinds before it; EX_VALUES: what the policy tells, six words
EX_PFN, EX_NOW_NS, EX_FATE, EX_OWNER_KIND, EX_OWNER, EX_INDEX, EX_ACCESSED, EX_FLAGS, EX_ORDER, EX_VALUES = range(10)
# EX_OWNER_KIND: of a request replay; EX_OWNER is an address space; an inode; read ahead from swap
EXPLAIN_OBJECT, EXPLAIN_ANON, EXPLAIN_FILE, EXPLAIN_SWAP = range(4)
FATE_KEPT, FATE_FREED, FATE_ACTIVATED, FATE_ACCESSED, FATE_OTHER = range(5)  # the first three as RECLAIM_*
# m.kill[at + 7]: not the order of an allocation, but who else asked
KILL_BY_USER_SPACE, KILL_BY_SYSRQ = -1, -2
PANIC_DEADLOCKED, PANIC_ON_OOM, PANIC_FAULT = 1, 2, 3  # m.sc[SC_PANIC]: nobody can be killed; vm.panic_on_oom; the policy's fault
# m.oom_candidate: who could have been chosen for a kill (number OC_KILL of m.kill), pages; m.sc[SC_OOM_FAULT]: what is wrong with m.sc[SC_OOM_CHOSEN]
OC_STRIDE = 8
OC_KILL, OC_TASK, OC_SCORE, OC_OOM_SCORE, OC_RSS, OC_SWAP, OC_ADJ = range(7)
OOM_NO_CANDIDATE = -(1 << 62)
OOM_USER_SPACE = -2  # who asks for a kill by oom_kill()
OOM_FINE, OOM_NO_TASK, OOM_DEAD, OOM_DYING, OOM_PROTECTED, OOM_ELSEWHERE = range(6)
# m.sc[SC_WANTS_PASSES]: of a request replay: the reclaimer is told of the begin and end of passes
# m.sc[SC_NR_VICTIMS], m.sc[SC_NR_FREED]: calls of reclaim_folio(), and how many of them freed
# m.sc[SC_POLICY_FAULT]: a periodic step turned the clock back or asked to be called in the past; demotion_node() or migrate_folio_to() was wrong
POLICY_FINE, POLICY_MONITOR_STEP, POLICY_TIERING_STEP, POLICY_THP_STEP, POLICY_OOM_STEP, POLICY_DEMOTION_NODE, POLICY_MIGRATION = range(7)
# m.sc[SC_RECLAIM_FAULT]: what is wrong with the page m.sc[SC_RECLAIM_FAULT_PFN] that the reclaimer hands to reclaim_folio(), or with its answer
RECLAIM_FINE, RECLAIM_NO_PAGE, RECLAIM_NOT_USER, RECLAIM_ON_LIST, RECLAIM_NOTHING = range(5)
# m.future_task, a row a task: what a stream will do with it
FT_STRIDE = 2
FT_ACCESSES, FT_PAGES = 0, 1  # accesses and pages touched, from its beginning to its end

# m.trace: tracepoints of reclaim, a head and one row an event ------------------------------------------------------------------------------
TRACE_HEAD, TRACE_STRIDE, TRACE_ROWS = 8, 10, 1 << 20
# events switched on, a bit each; those that ever were; rows in use; events without room; 1 + node whose kswapd runs now, 0: a task; order that reclaim works for
TRACE_EVENTS, TRACE_EVER, TRACE_NR, TRACE_LOST, TRACE_KSWAPD, TRACE_ORDER = range(6)
TR_NS, TR_EVENT, TR_CPU, TR_WHO, TR_ARGS = range(5)  # TR_WHO: task, or -(1 + node) for kswapd; TR_ARGS: five values and the order
(
    EVENT_KSWAPD_SLEEP, EVENT_KSWAPD_WAKE, EVENT_WAKEUP_KSWAPD, EVENT_DIRECT_RECLAIM_BEGIN, EVENT_DIRECT_RECLAIM_END, EVENT_MEMCG_RECLAIM_BEGIN,
    EVENT_MEMCG_RECLAIM_END, EVENT_LRU_ISOLATE, EVENT_WRITE_FOLIO, EVENT_LRU_SHRINK_INACTIVE, EVENT_LRU_SHRINK_ACTIVE,
) = range(11)

# m.loop: tasks that touch a range again and again beside what the script does (`loop`, `bg`) --------------------------------------------------
LOOP_STRIDE = 16
(
    LOOP_TASK, LOOP_VPN, LOOP_COUNT, LOOP_STEP, LOOP_ACCESS, LOOP_END_NS, LOOP_PERIOD_NS, LOOP_NEXT_NS, LOOP_AT, LOOP_PASSES, LOOP_STATE,
    LOOP_BEGAN_NS, LOOP_ENDED_NS, LOOP_NOFLUSH,
) = range(14)
LOOP_FREE, LOOP_RUNS, LOOP_DONE, LOOP_FAILED = 0, 1, 2, 3
# m.memcg: one row a cgroup, the root first, parents before their children; sizes in pages. Row 0 is charged for nothing ---------------------
MEMCG_STRIDE = 64
(
    MC_PARENT, MC_USAGE, MC_PEAK, MC_MIN, MC_LOW, MC_HIGH, MC_MAX, MC_SWAP_USAGE, MC_SWAP_MAX, MC_EMIN, MC_ELOW, MC_OOM_GROUP, MC_KMEM_BYTES,
    MC_KMEM_PAGES, MC_EVENT_LOW, MC_EVENT_HIGH, MC_EVENT_MAX, MC_EVENT_OOM, MC_EVENT_OOM_KILL, MC_EVENT_OOM_GROUP_KILL,
    MC_SWAP_PEAK, MC_EVENT_SWAP_MAX, MC_EVENT_SWAP_FAIL,
) = range(23)
(
    MC_ZSWAP_BYTES, MC_ZSWAPPED, MC_ZSWAP_MAX_BYTES, MC_ZSWAP_NO_WRITEBACK, MC_ZSWAP_FIRST, MC_ZSWAP_LAST, MC_ZSWAP_ENTRIES,
    MC_ZSWAP_DISK_SWAPINS, MC_ZSWAP_DEFERRED, MC_NR_DIRTY, MC_NR_WRITEBACK, MC_WB_DIRTY,
    MC_SEEN_FILE, MC_SEEN_DIRTY, MC_SEEN_WRITEBACK, MC_SEEN_PAGES,
) = range(40, 56)  # entries of zswap: their bytes and how many, the cgroup's limit; slots of its own entries, oldest first, and how many;
# for the shrinker: pages read from the device that were not in zswap, what it has left for its next run; pages that are dirty, and under write-back,
# with those of cgroups below; pages that are either in files that it writes back; MC_SEEN_*: what
# its statistics say that it has, which lag behind (WB_STATS_NS)
MC_SPLIT_QUEUE = 56  # SHR_*: folios that wait to be split (heads + 1), oldest first
MC_SHADOW_NODES = 60  # SHR_*: nodes of the page cache's index, charged to the cgroup, that hold nothing but shadows, oldest first
MC_NOTIFY_NS = 33  # when the next change of memory.events may be told
MC_LOCAL = 24  # from MC_EVENT_LOW on: the same events, of the cgroup itself only, at MC_EVENT_* - MC_EVENT_LOW + MC_LOCAL
MEMCG_MAX = 1 << 50  # the limit "max"
STOCK_STRIDE = 2  # m.memcg_stock, a CPU: the cgroup that has pages charged in advance, and how many

# m.mm ------------------------------------------------------------------------------------------------------------------------------------
MM_STRIDE = 64
(
    MM_ROOT, MM_USERS, MM_MAP_COUNT, MM_TOTAL_VM, MM_DATA_VM, MM_STACK_VM, MM_EXEC_VM, MM_LOCKED_VM, MM_RSS_FILE, MM_RSS_ANON,
    MM_RSS_SHMEM, MM_SWAPENTS, MM_PGTABLES_BYTES, MM_HIWATER_RSS, MM_HIWATER_VM, MM_START_BRK, MM_BRK, MM_MMAP_BASE, MM_RLIMIT_STACK,
    MM_RLIMIT_AS, MM_RLIMIT_DATA, MM_RLIMIT_MEMLOCK, MM_DEF_FLAGS, MM_OWNER, MM_OBJ, MM_ROOT_PFN, MM_START_CODE, MM_END_CODE,
    MM_KHUGEPAGED, MM_LRU_GEN,
) = range(30)
# m.mm[.. + MM_LRU_GEN]: page-table walks of aging know the mm; from MM_LRU_USED on a bit a node: a task of it was switched in since the last walk
MM_LRU_KNOWN, MM_LRU_USED = 1, 2
MM_LRU_ALL_USED = ((1 << 48) - 1) & ~MM_LRU_KNOWN
MM_INDEX = 32  # 16 words of the VMA index's own
MM_NUMA_SCAN_SEQ, MM_NUMA_SCAN_OFFSET, MM_NUMA_NEXT_SCAN_NS = 48, 49, 50
RLIM_INFINITY = 1 << 62

# m.vma -----------------------------------------------------------------------------------------------------------------------------------
VMA_STRIDE = 32
(
    VMA_MM, VMA_START, VMA_END, VMA_FLAGS, VMA_PGOFF, VMA_FILE, VMA_ANON_VMA, VMA_AVC_FIRST, VMA_INODE, VMA_OBJ, VMA_LOCK_OBJ, VMA_NAME,
    VMA_MAP_NEXT, VMA_MAP_PREV, VMA_RA_ADDR, VMA_RA_WIN, VMA_RA_HITS, VMA_POLICY, VMA_NEXT_FREE,
) = range(19)
VMA_INDEX = 24  # 4 words of the VMA index's own
# vma_numab_state, unset while VMA_NUMAB_NEXT_SCAN is 0
VMA_NUMAB_NEXT_SCAN, VMA_NUMAB_PIDS_RESET, VMA_NUMAB_START_SEQ, VMA_NUMAB_PREV_SEQ, VMA_NUMAB_PIDS, VMA_NUMAB_PIDS_OLD = 19, 20, 21, 22, 28, 29
# names of special VMAs
NAME_NONE, NAME_HEAP, NAME_STACK, NAME_VVAR, NAME_VDSO = 0, 1, 2, 3, 4

VM_READ, VM_WRITE, VM_EXEC, VM_SHARED = 1, 2, 4, 8
VM_MAYREAD, VM_MAYWRITE, VM_MAYEXEC, VM_MAYSHARE = 16, 32, 64, 128
VM_GROWSDOWN, VM_PFNMAP, VM_LOCKED, VM_IO, VM_SEQ_READ, VM_RAND_READ = 256, 1024, 1 << 13, 1 << 14, 1 << 15, 1 << 16
VM_DONTCOPY, VM_DONTEXPAND, VM_LOCKONFAULT, VM_ACCOUNT, VM_NORESERVE = 1 << 17, 1 << 18, 1 << 19, 1 << 20, 1 << 21
VM_WIPEONFORK, VM_DONTDUMP, VM_MIXEDMAP, VM_HUGEPAGE, VM_NOHUGEPAGE, VM_MERGEABLE = 1 << 25, 1 << 26, 1 << 28, 1 << 29, 1 << 30, 1 << 31
VM_SOFTDIRTY = 1 << 27
VM_SPECIAL = VM_IO | VM_DONTEXPAND | VM_PFNMAP | VM_MIXEDMAP

# m.anon_vma, m.avc (anon_vma_chain) -------------------------------------------------------------------------------------------------------
ANON_VMA_STRIDE = 8
AV_ROOT, AV_PARENT, AV_REFS, AV_NUM_CHILDREN, AV_NUM_ACTIVE_VMAS, AV_AVC_FIRST, AV_OBJ, AV_NEXT_FREE = range(8)
AVC_STRIDE = 8
AVC_VMA, AVC_ANON_VMA, AVC_NEXT_IN_VMA, AVC_NEXT_IN_ANON, AVC_PREV_IN_ANON, AVC_OBJ, AVC_NEXT_FREE = range(7)

# m.file (open file), m.inode --------------------------------------------------------------------------------------------------------------
FILE_STRIDE = 16
F_INODE, F_RA_START, F_RA_SIZE, F_RA_ASYNC_SIZE, F_RA_PAGES, F_MMAP_MISS, F_PREV_POS, F_USERS, F_FLAGS, F_OBJ, F_NEXT_FREE = range(11)
FF_RANDOM, FF_SEQUENTIAL = 1, 2
INODE_STRIDE = 32
(
    I_SIZE_BYTES, I_NRPAGES, I_NRSHADOWS, I_ROOT, I_HEIGHT, I_MAP_FIRST, I_FLAGS, I_DEVICE, I_NLINK, I_OBJ, I_NEXT_FREE,
    I_COMMITTED,
    I_NR_DIRTY, I_DIRTY_FIRST, I_DIRTY_END, I_DIRTIED_NS, I_WRITEBACK_INDEX, I_IO_LIST, I_IO_NEXT, I_IO_PREV,
    I_NR_WRITEBACK, I_DENTRY, I_OPENS, I_LRU, I_LRU_NEXT, I_LRU_PREV, I_REFERENCED, I_EXTENTS, I_EXTENT_OBJ,
) = range(29)
# an inode of a disk's file is in memory (I_OBJ) while its name is cached (I_DENTRY, the dentry's object), it is open or has pages, or until reclaim
# takes it; I_LRU: which list of a shrinker it is on (0, SHR_DENTRIES for its dentry, SHR_INODES); I_REFERENCED: bits I_REF_*;
# I_EXTENTS: cached entries of its map of blocks, of which I_EXTENT_OBJ and the word behind it are the objects
I_EXTENT_OBJ_2 = 29
I_LSM = I_NEXT_FREE  # of an inode in memory its security blob; of a row that is not in use the next such
I_INO, I_BLOCKS = 30, 31  # its number on the disk (0: not modelled), and pages from the start that have blocks there: mm/ext4_meta.py
I_PARENT = I_BLOCKS  # of a name of /proc or /sys, which has none: its directory's row
I_SHMEM_INO = I_BLOCKS  # of shared memory, which has none either: its number
I_REF_DENTRY, I_REF_INODE, I_REF_EXTENTS = 1, 2, 4
# m.psi: a row a cgroup (the root: the machine): ns of some and full stalls, as far as the averages know of them, the averages over 10, 60 and 300 s
# of each (fixed point); the root's row also: when averages are due, when they were made, and the stall that is going on
PSI_STRIDE = 16
PSI_SOME_NS, PSI_FULL_NS, PSI_SEEN, PSI_AVG, PSI_NEXT_NS, PSI_LAST_NS, PSI_DEPTH, PSI_BEGAN_NS = 0, 1, 2, 4, 10, 11, 12, 13
# m.shrinker: a row a shrinker: objects that it left for the next run, and a list: how many, the first and the last
SHR_STRIDE = 4
BH_LRU_SIZE = 16  # blocks that a CPU holds in m.bh_lru
KVFREE_BULK_MAX_ENTR = 510  # objects of m.kfree_rcu: pointers in a page
# m.kvfree_page: a row a CPU: pages cached to note such objects in, those pages, and 1 + the page in use, 0: none
KVP_STRIDE = 8
RCU_MIN_CACHED_OBJS = 5
KVP_NR, KVP_USED, KVP_PAGE = range(3)
SHR_DEFERRED, SHR_NR, SHR_FIRST, SHR_LAST = range(4)
# super_cache_scan of the disk (its lists are the last two), ext4_es_scan, workingset (its lists: at MC_SHADOW_NODES), deferred_split_scan (at MC_SPLIT_QUEUE),
# super_cache_scan of /proc and of /sys, kfree_rcu_shrink_scan (SHR_FIRST: when, in ns, what waits is freed anyway; SHR_LAST: when something began to wait last); zswap_shrinker (what it
# left is in m.memcg)
SHR_SUPER, SHR_EXTENTS, SHR_SHADOWS, SHR_SPLIT, SHR_PROC, SHR_SYSFS, SHR_KFREE_RCU, SHR_DENTRIES, SHR_INODES, SHR_ZSWAP = range(10)
NR_SHRINKERS = 12
IF_SHMEM = 1  # swap-backed: tmpfs or shared anonymous memory
IF_ANON_SHMEM = 4  # a shared anonymous map's
IF_MNT = 128  # of the tmpfs that is mounted at /mnt
IF_PROC, IF_SYSFS, IF_NEGATIVE, IF_LINK = 8, 16, 32, 64  # a name of /proc or /sys; one that does not exist; a symbolic link
IF_NORESERVE = 2  # commit charge is taken a page at a time (tmpfs files, MAP_NORESERVE); I_COMMITTED: what the inode holds of it
IF_WB_SHIFT = 16  # I_FLAGS above: 1 + the cgroup that writes the file back, 0: it was never dirty
SP_STRIDE = 4  # m.shared_policy: a range of pages of a shared memory object that has a NUMA policy
SP_INODE, SP_START, SP_END, SP_POLICY = range(4)
# m.wb: write-back of dirty pages. The settings vm.dirty_*, then the flusher of the machine's disk (struct bdi_writeback and its work), file pages
# that a pass of reclaim has met (taken, dirty or under write-back, dirty and not on their way, met before while under write-back), then the
# lists of dirty inodes (linked by I_IO_NEXT and I_IO_PREV; I_IO_LIST is one of these, IO_NONE, or IO_SYNC: the flusher has it)
(
    WB_DIRTY_RATIO, WB_DIRTY_BYTES, WB_BACKGROUND_RATIO, WB_BACKGROUND_BYTES, WB_INTERVAL_NS, WB_EXPIRE_NS, WB_NEXT_NS, WB_TIMER_NS,
    WB_IO_NEXT_NS, WB_BALANCE, WB_AWAKE, WB_CLOCK_NS, WB_START_ALL, WB_LAST_OLD_FLUSH_NS, WB_WORK, WB_NR_PAGES,
    WB_ROUND_NS, WB_INODE, WB_INDEX, WB_END, WB_CYCLED, WB_CHUNK, WB_RATELIMIT, WB_BANDWIDTH, WB_BW_NS, WB_BW_WRITTEN,
    WB_BW_DIRTIED, WB_DIRTY_LIMIT, WB_AVG_BANDWIDTH, WB_BALANCED_RATELIMIT,
    WB_SC_TAKEN, WB_SC_DIRTY, WB_SC_UNQUEUED_DIRTY, WB_SC_CONGESTED,
    WB_MEMCG, WB_STATS_NS, WB_PROGRESS,
) = range(37)  # WB_MEMCG: the cgroup whose files the flusher writes, 0: all; WB_STATS_NS: until when statistics of cgroups stand still;
# WB_PROGRESS: 1 once its round over inodes wrote something or found one clean
WB_LISTS = 40  # first and last inode of each list, by IO_*
IO_NONE, IO_DIRTY, IO_QUEUED, IO_MORE, IO_SYNC = 0, 1, 2, 3, 4  # b_dirty, b_io, b_more_io, I_SYNC
NR_WB = 64
# m.blk: a row a disk; m.blk_ring: its writes that are on their way, a ring of (pfn, when it will be done in ns)
BLK_STRIDE = 8
BLK_HEAD, BLK_TAIL, BLK_BUSY_NS, BLK_LAST_SECTOR = range(4)
NR_DISKS = 4
DISK_FILES, DISK_SWAP = 0, 1  # the file systems' disk; the first swap device
BLK_RING = 1 << 16
XA_STRIDE = 64  # slots of a page-cache tree node in m.xa; m.xa_node holds XN_* per node
XN_STRIDE = 16
XN_SHIFT, XN_COUNT, XN_NR_VALUES, XN_PARENT, XN_SLOT, XN_OBJ, XN_NEXT_FREE, XN_INODE, XN_LRU_NEXT, XN_LRU_PREV = range(10)

# m.swap_map: int32 a slot: how many PTEs refer to it (0 free); m.swap_cache: int64 a slot: pfn of the cached page << 1 | 1, (shadow + 1) << 1, 0,
# or SLOT_HELD while a CPU's slot cache has it
SLOT_HELD = -2
# m.swap_info: one row a swap device, the one of the highest priority first; its slots follow one another in all arrays of slots
SWAP_INFO_STRIDE = 8
MAX_SWAPFILES = 8
SI_FIRST, SI_PAGES, SI_INUSE, SI_NEXT, SI_RUN_LEFT, SI_FLAGS, SI_PRIO = range(7)
SWAP_SSD, SWAP_SYNCHRONOUS = 1, 2  # SI_FLAGS, and of any device in m.sc[SC_SWAP_FLAGS]: non-rotational; no waiting (zram)
SWAP_ROTATIONAL = 4  # in m.sc[SC_SWAP_FLAGS]: some device is rotational
# m.swap_slots: what a CPU keeps of slots
SWAP_SLOTS_CACHE_SIZE = 64
SWAP_SLOTS_STRIDE = 192
SS_ACTIVE, SS_NR, SS_CUR, SS_NR_RET, SS_DIRECT, SS_SLOTS, SS_RET = 0, 1, 2, 3, 4, 8, 72  # SS_ACTIVE, SS_DIRECT: in CPU 0's row, for all
# m.bio: writes to swap devices that take time: a header, then a ring of BIO_ENTRIES folios (pfn, time of completion, bio), oldest first.
# BIO_PLUG: whose plug is in use; BIO_POOL: bios kept for times without memory, each + 1, 0: it is in use
BIO_HEAD, BIO_TAIL, BIO_DONE_NS, BIO_DISK_NS, BIO_READS, BIO_WAITS, BIO_PLUG, BIO_POOL, BIO_RING = 0, 1, 2, 3, 4, 5, 6, 8, 16
BIO_POOL_SIZE = 2
BIO_ENTRIES = 1 << 14
BIO_WORDS = 3  # of an entry in the ring, or in a plug
# m.plug: writes that have not been sent: a header, then folios (pfn, pages << 1 | the request goes on, bio). Plug 0 is the running task's,
# 1 + node that node's kswapd's
PLUG_STRIDE = 4096
PLUG_COUNT, PLUG_REQUESTS, PLUG_LAST_PAGES, PLUG_LAST_SLOT, PLUG_FIRST = 0, 1, 2, 3, 4
# what a page of memory holds (m.page_class, m.swap_class): how well it compresses. m.compress: bytes by class for zram, then for zswap;
# m.sc[SC_STORE_CLASS]: what a task's stores make of a page; SC_WRITE_CLASS: what write() does, and what files hold (a script's write zeroes)
CLASS_ZERO, CLASS_TOUCHED, CLASS_DATA = 0, 1, 2
NR_CLASSES = 8
PAGE_USED = 8  # beside the class in m.page_class: the frame has held something since boot
CLASS_NAMES = ("zero", "touched", "data")
# m.zs_class, m.zspage: zsmalloc's size classes (rows a class), and its zspages (rows from 1 on)
ZS_STRIDE = 4
ZS_SIZE, ZS_PAGES, ZS_OBJS = range(3)
NR_ZS_CLASSES = 255
NR_ZS_GROUPS = 12  # of zspages by how full they are
ZSPAGE_STRIDE = 16
ZP_POOL, ZP_CLASS, ZP_INUSE, ZP_NEXT, ZP_PREV, ZP_PFN = 0, 1, 2, 3, 4, 8
# m.zs_pool: one row a pool (0 zswap's, then one a swap device): pages, bytes stored, objects, most pages so far; FREE and TOP (of pool 0): rows of m.zspage
ZS_POOL_STRIDE = 8
ZSP_PAGES, ZSP_BYTES, ZSP_OBJECTS, ZSP_MAX_PAGES, ZSP_FREE, ZSP_TOP = range(6)
# m.zswap
(
    ZSW_ENABLED, ZSW_MAX_POOL_PERCENT, ZSW_ACCEPT_PERCENT, ZSW_FULL, ZSW_STORED, ZSW_POOL_LIMIT_HIT, ZSW_WRITTEN_BACK, ZSW_REJECT_COMPRESS_POOR,
    ZSW_REJECT_ALLOC_FAIL, ZSW_REJECT_RECLAIM_FAIL, ZSW_SHRINK_PENDING, ZSW_NEXT_SHRINK, ZSW_FIRST_NS, ZSW_WORKER_NS,
    ZSW_SHRINKER,
) = range(15)
NR_ZSWAP = 16

# page-table entries (int64) ----------------------------------------------------------------------------------------------------------------
PTE_PRESENT, PTE_WRITE, PTE_ACCESSED, PTE_DIRTY, PTE_HUGE, PTE_SPECIAL, PTE_SWAP, PTE_SWAP_EXCLUSIVE, PTE_PROTNONE, PTE_SOFTDIRTY = (
    1, 2, 4, 8, 16, 32, 64, 128, 256, 512,
)
PTE_SEEN = 1024  # beside PTE_ACCESSED: set since before the accessed bit of the PMD entry above was last cleared
PTE_SHIFT = 12  # above: pfn, table number, or swap slot
# a table's own record, m.table: pfn of its page, entries in use, level (0 PTE, 1 PMD, 2 PUD, 3 root), deposited table
TABLE_STRIDE = 4
TB_PFN, TB_NR, TB_NEXT_FREE, TB_DEPOSIT = range(4)

# slab caches the core itself uses (m.cache is the slab slot's business; these are cache numbers)
NR_CACHES = 192
(
    CACHE_VM_AREA_STRUCT, CACHE_VMA_LOCK, CACHE_MM_STRUCT, CACHE_ANON_VMA, CACHE_ANON_VMA_CHAIN, CACHE_MAPLE_NODE, CACHE_TASK_STRUCT,
    CACHE_RADIX_TREE_NODE, CACHE_INODE, CACHE_SHMEM_INODE, CACHE_FILP, CACHE_DENTRY, CACHE_PID, CACHE_SIGHAND, CACHE_FILES,
    CACHE_EXTENT_STATUS, CACHE_PROC_INODE, CACHE_SYSFS_INODE, CACHE_BUFFER_HEAD, CACHE_LSM_INODE, CACHE_BIO,
) = range(21)
CACHE_USER = 32  # first number free for allocator streams and scripts; all of them: mm/slab.py USER_CACHES

# m.mthp: one row an order: what hugepages-NkB/stats count --------------------------------------------------------------------------------------
MTHP_STRIDE = 16
MTHP_PLACES = 1  # in m.sc[SC_MTHP_ORDERS]: the thp policy has the op place
(
    MTHP_ANON_FAULT_ALLOC, MTHP_ANON_FAULT_FALLBACK, MTHP_ANON_FAULT_FALLBACK_CHARGE, MTHP_SWPOUT, MTHP_SWPOUT_FALLBACK, MTHP_SHMEM_ALLOC,
    MTHP_SHMEM_FALLBACK, MTHP_SHMEM_FALLBACK_CHARGE, MTHP_SPLIT, MTHP_SPLIT_FAILED, MTHP_SPLIT_DEFERRED, MTHP_NR_ANON,
    MTHP_NR_ANON_PARTIALLY_MAPPED,
) = range(13)
MTHP_NAMES = (
    "anon_fault_alloc", "anon_fault_fallback", "anon_fault_fallback_charge", "swpout", "swpout_fallback", "shmem_alloc", "shmem_fallback",
    "shmem_fallback_charge", "split", "split_failed", "split_deferred", "nr_anon", "nr_anon_partially_mapped",
)

# cost table m.cost: nanoseconds, filled by the cost model
(
    COST_HIT, COST_FAULT, COST_ZERO_PAGE, COST_COPY_PAGE, COST_DEVICE_READ, COST_DEVICE_WRITE, COST_SCAN_PAGE, COST_RECLAIM_PAGE, COST_ALLOC_BULK,
    COST_SYSCALL, COST_FORK_PTE, COST_ZAP_PTE, COST_TLB_MISS, COST_IPI, COST_CONTEXT_SWITCH, COST_HUGE_ZERO, COST_SWAP_CACHE_HIT, COST_PAGE_TABLE,
    COST_DEVICE_READ_PAGE, COST_LOCK_WAIT, COST_SPLIT_THP, COST_OOM_KILL,
    COST_DAMOS_PAGE, COST_DAMON_CHECK, COST_LRU_MOVE, COST_PROT_NUMA, COST_WRITEPAGE,
    COST_DEVICE_WRITE_PAGE, COST_SUBMIT_PAGE, COST_COMPRESS_PAGE, COST_DECOMPRESS_PAGE, COST_TLB_MISS_HUGE, COST_TLB_L2_HIT,
    COST_SUBMIT_REQUEST, COST_HOST_FAULT, COST_WALK_PTE, COST_MIGRATE_FOLIO, COST_MIGRATE_PAGE, COST_NUMA_SCAN,
    COST_WALK_YOUNG, COST_NODE_IS_TOPTIER,
) = range(41)
NR_COSTS = 64
COST_NAMES = (
    "hit", "fault", "zero_page", "copy_page", "device_read", "device_write", "scan_page", "reclaim_page", "alloc_bulk", "syscall", "fork_pte",
    "zap_pte", "tlb_miss", "ipi", "context_switch", "huge_zero", "swap_cache_hit", "page_table", "device_read_page", "lock_wait", "split_thp", "oom_kill",
    "damos_page", "damon_check", "lru_move", "prot_numa", "writepage", "device_write_page", "submit_page", "compress_page", "decompress_page",
    "tlb_miss_huge", "tlb_l2_hit", "submit_request", "host_fault", "walk_pte", "migrate_folio", "migrate_page", "numa_scan",
    "walk_young", "node_is_toptier",
)

# m.tlb: the data TLBs of all CPUs: their geometry (sets and ways of a level: small pages, huge pages, both), words a CPU, what they counted,
# then from TLB_SETS_OF on, a CPU after the other, each set's entries (two words: tag, frame), the one used last first
(
    TLB_L1_SETS, TLB_L1_WAYS, TLB_L1_HUGE_SETS, TLB_L1_HUGE_WAYS, TLB_L2_SETS, TLB_L2_WAYS, TLB_CPU_WORDS,
    TLB_ACCESSES, TLB_L1_MISSES, TLB_MISSES, TLB_MISSES_HUGE, TLB_NS,
) = range(12)
TLB_COUNTED = {"tlb_accesses": TLB_ACCESSES, "tlb_l1_misses": TLB_L1_MISSES, "tlb_misses": TLB_MISSES, "tlb_misses_huge": TLB_MISSES_HUGE, "tlb_ns": TLB_NS}
TLB_SETS_OF = 16
