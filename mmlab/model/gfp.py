"""GFP flags and what follows from them.

Models: include/linux/gfp_types.h, gfp_zone(), gfp_migratetype() of include/linux/gfp.h. Bit positions are mmlab's own.
"""

from mmlab.kernels.jit import leaf
from mmlab.model.rows import SC_MOBILITY_DISABLED

GFP_DMA, GFP_HIGHMEM, GFP_DMA32, GFP_MOVABLE, GFP_RECLAIMABLE = 1, 2, 4, 8, 16
GFP_HIGH, GFP_IO, GFP_FS, GFP_ZERO, GFP_ATOMIC_ = 32, 64, 128, 256, 512
GFP_DIRECT_RECLAIM, GFP_KSWAPD_RECLAIM, GFP_WRITE, GFP_NOWARN, GFP_RETRY_MAYFAIL = 1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14
GFP_NOFAIL, GFP_NORETRY, GFP_MEMALLOC, GFP_COMP, GFP_NOMEMALLOC = 1 << 15, 1 << 16, 1 << 17, 1 << 18, 1 << 19
GFP_HARDWALL, GFP_THISNODE, GFP_ACCOUNT = 1 << 20, 1 << 21, 1 << 22

GFP_RECLAIM = GFP_DIRECT_RECLAIM | GFP_KSWAPD_RECLAIM
GFP_ATOMIC = GFP_HIGH | GFP_KSWAPD_RECLAIM
GFP_KERNEL = GFP_RECLAIM | GFP_IO | GFP_FS
GFP_KERNEL_ACCOUNT = GFP_KERNEL | GFP_ACCOUNT
GFP_NOWAIT = GFP_KSWAPD_RECLAIM | GFP_NOWARN
GFP_NOIO = GFP_RECLAIM
GFP_NOFS = GFP_RECLAIM | GFP_IO
GFP_USER = GFP_KERNEL | GFP_HARDWALL
GFP_HIGHUSER = GFP_USER | GFP_HIGHMEM
GFP_HIGHUSER_MOVABLE = GFP_HIGHUSER | GFP_MOVABLE
GFP_TRANSHUGE_LIGHT = (GFP_HIGHUSER_MOVABLE | GFP_COMP | GFP_NOMEMALLOC | GFP_NOWARN) & ~GFP_RECLAIM
GFP_TRANSHUGE = GFP_TRANSHUGE_LIGHT | GFP_DIRECT_RECLAIM

ZONE_DMA, ZONE_DMA32, ZONE_NORMAL, ZONE_MOVABLE, ZONE_DEVICE = 0, 1, 2, 3, 4
ZONE_HIGHMEM = ZONE_MOVABLE  # a 32-bit machine has it in Movable's place: the highest zone, for what the kernel need not address
MAX_NR_ZONES = 6


@leaf
def gfp_zone(gfp):
    """The highest zone index that a request may use."""
    if gfp & GFP_DMA:
        return ZONE_DMA
    if gfp & GFP_DMA32:
        return ZONE_DMA32
    if (gfp & GFP_HIGHMEM) != 0 and (gfp & GFP_MOVABLE) != 0:
        return ZONE_MOVABLE
    return ZONE_NORMAL


@leaf
def gfp_migratetype(m, gfp):
    """MIGRATE_* of a request: Movable, Reclaimable or Unmovable; all are Unmovable in a machine too small to keep them apart."""
    if m.sc[SC_MOBILITY_DISABLED]:
        return 0
    if gfp & GFP_MOVABLE:
        return 1
    if gfp & GFP_RECLAIMABLE:
        return 2
    return 0
