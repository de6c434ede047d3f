"""Flags of slab caches, and the further values that the slab slot's `stat` gives beside slabinfo's columns.

Models: include/linux/slab.h SLAB_*. Bit positions are mmlab's own. SLAB_CTOR and SLAB_FREEPTR_INSIDE stand for the constructor and the
free-pointer offset, which Linux passes as arguments of kmem_cache_create().
"""

SLAB_HWCACHE_ALIGN, SLAB_RECLAIM_ACCOUNT, SLAB_ACCOUNT, SLAB_TYPESAFE_BY_RCU, SLAB_CACHE_DMA, SLAB_CACHE_DMA32 = 1, 2, 4, 8, 16, 32
SLAB_PANIC, SLAB_NO_MERGE, SLAB_POISON, SLAB_RED_ZONE, SLAB_STORE_USER, SLAB_CTOR = 64, 128, 256, 512, 1024, 2048
SLAB_FREEPTR_INSIDE = 4096  # SLAB_TYPESAFE_BY_RCU with a free pointer in an unused word of the object
SLAB_DEBUG_FLAGS = SLAB_POISON | SLAB_RED_ZONE | SLAB_STORE_USER
SLAB_FLAGS_ALL = 8191

KMALLOC_MAX_SIZE = 4 << 20
KMALLOC_MAX_CACHE_SIZE = 8192

# what of stat(cache, what), after SLAB_STAT_ACTIVE_OBJS .. SLAB_STAT_NUM_SLABS of mmlab.model.const
SLAB_STAT_LIVE_OBJS, SLAB_STAT_NR_PARTIAL, SLAB_STAT_MIN_PARTIAL = 6, 7, 8
SLAB_STAT_CPU_PARTIAL_SLABS, SLAB_STAT_OBJECT_SIZE, SLAB_STAT_ALIGN = 9, 10, 11
SLAB_STAT_INUSE, SLAB_STAT_OFFSET, SLAB_STAT_ORDER, SLAB_STAT_MIN_ORDER, SLAB_STAT_MIN_OBJECTS, SLAB_STAT_CPU_PARTIAL = 12, 13, 14, 15, 16, 17

# lists of slabs that slab_after() walks: a CPU's slab at work, its partial list, a node's partial list
SLAB_LIST_CPU, SLAB_LIST_CPU_PARTIAL, SLAB_LIST_NODE_PARTIAL = 0, 1, 2
# what of slab_stat(): objects that are not on the slab's own freelist, objects, free objects that a CPU holds for itself
SLAB_OF_INUSE, SLAB_OF_OBJECTS, SLAB_OF_CPU_FREE = 0, 1, 2
