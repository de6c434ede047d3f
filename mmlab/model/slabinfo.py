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
