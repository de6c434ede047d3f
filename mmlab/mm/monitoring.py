"""What a monitor that acts asks of the core: services about one address or one page.

Models: mm/vmscan.c reclaim_pages() of one page; mm/migrate.c migrate_pages() of one folio (MIGRATE_ASYNC).
"""

from mmlab.kernels.jit import kernel
from mmlab.kernels.ops import reclaimer_folio_removed
from mmlab.kernels.services import migrate_folio
from mmlab.mm.madvise import MADV_COLD, MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_PAGEOUT, MADV_WILLNEED, reclaim_pages, sys_madvise
from mmlab.mm.migrate import alloc_migration_target, isolate_folio, putback_movable
from mmlab.mm.page_io import blk_flush_plug
from mmlab.model.const import EINVAL
from mmlab.model.gfp import GFP_THISNODE
from mmlab.model.page import folio_nr_pages
from mmlab.model.vmstat import V_PGMIGRATE_FAIL


@kernel
def do_madvise(m, mm, start, length, advice):
    """Service madvise."""
    own = -1
    if advice == 3:
        own = MADV_WILLNEED
    elif advice == 14:
        own = MADV_HUGEPAGE
    elif advice == 15:
        own = MADV_NOHUGEPAGE
    elif advice == 20:
        own = MADV_COLD
    elif advice == 21:
        own = MADV_PAGEOUT
    return sys_madvise(m, mm, start, length, own) if own >= 0 else -EINVAL


@kernel
def pageout_folio(m, pfn):
    """Service pageout_folio: off its list, reclaimed without a look at references, put back if that failed."""
    reclaimer_folio_removed(m, pfn)
    m.isolated[0] = 1
    m.isolated[1] = pfn
    freed = 1 if reclaim_pages(m) else 0
    blk_flush_plug(m)
    return freed


@kernel
def migrate_folio_to(m, pfn, node):
    """Service migrate_folio_to: isolated, moved to a block of the node (or the next that has one): the pages that moved; or 0, put back."""
    nr = folio_nr_pages(m, pfn)
    if isolate_folio(m, pfn) == 0:
        return 0
    target = alloc_migration_target(m, pfn, GFP_THISNODE, node)
    if target < 0:
        target = alloc_migration_target(m, pfn, 0, node)
    if target < 0:
        putback_movable(m, pfn)
        m.vmstat[V_PGMIGRATE_FAIL] += nr
        return 0
    migrate_folio(m, pfn, target)
    return nr
