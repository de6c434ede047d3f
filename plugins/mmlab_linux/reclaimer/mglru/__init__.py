"""Linux's multi-generational LRU, the default since 6.1 where it is built in.

Models: mm/vmscan.c (the lru_gen part), mm/swap.c folio_inc_refs(), folio_deactivate(), folio_rotate_reclaimable(); 6.12.
Parts: lrugen.py (generations), batch.py (per-CPU batches), aging.py (new generations), walk.py and bloom.py (page-table walks),
look_around.py, control.py (which kind, which tier), evict.py, refault.py, debugfs.py (lru_gen files), check.py.
Left out: the memcg LRU (cgroups are reclaimed in turn), write-back throttling.
"""

import numpy as np
from attrs import field, frozen
from attrs.validators import ge
from mmlab.kernels.jit import kernel
from mmlab.kernels.memcg import lruvec_node, page_lruvec
from mmlab.model.page import (
    PG_ACTIVE, PG_DIRTY, PG_LOCKED, PG_LRU, PG_REFERENCED, PG_UNEVICTABLE, PG_WORKINGSET, page_flags, set_page_flags,
)
from mmlab.model.rows import SC_IN_LRU_FAULT, SC_IN_RECLAIM, SC_SCAN_PRIORITY
from mmlab.policies import Reclaimer
from mmlab_linux.reclaimer.lru_batch import BATCH_ADD, BATCH_DEACTIVATE, BATCH_DEACTIVATE_FILE, BATCH_ROTATE, BATCH_STRIDE, NR_BATCHES, batch_remove
from mmlab_linux.reclaimer.lruvec import ALL_ZONES, SIZE_STRIDE, lruvec_lru_size
from mmlab_linux.reclaimer.mglru.aging import age_node, initial_priority
from mmlab_linux.reclaimer.mglru.batch import batch_add, lru_add_drain
from mmlab_linux.reclaimer.mglru.bloom import FILTER_BITS
from mmlab_linux.reclaimer.mglru.check import check
from mmlab_linux.reclaimer.mglru.control import CTRL_STRIDE
from mmlab_linux.reclaimer.mglru.debugfs import lru_gen_files
from mmlab_linux.reclaimer.mglru.evict import PASS_STRIDE, shrink_node
from mmlab_linux.reclaimer.mglru.explain import EXPLAINS, explain_page
from mmlab_linux.reclaimer.mglru.look_around import look_around
from mmlab_linux.reclaimer.mglru.lrugen import (
    GEN_STRIDE, MAX_REFS, MAX_SEQ, MIN_NR_GENS, NR_STRIDE, WALKED_SEQ, lruvec_del_folio, remove_isolated,
)
from mmlab_linux.reclaimer.mglru.refault import eviction_shadow, workingset_refault



@frozen
class Params:
    """min_ttl_ms: rather than evict pages younger than this, kswapd calls the OOM killer (lru_gen/min_ttl_ms); 0: never."""

    min_ttl_ms: int = field(default=0, validator=ge(0))


def new_state(params, machine):
    """gen: sequence numbers and births a lruvec; nr: pages by generation; ctrl: the controller; filter: Bloom filters; refs: uses of each
    page through file descriptors; size: pages by LRU_*, a zone of a cgroup; batch: per-CPU batches; waiting: entries in those that move pages; oldest, kind, reclaimed: of a pass;
    counted: scratch of check()."""
    sizes = machine.sizes
    lruvecs = sizes.nr_nodes * sizes.nr_memcgs
    gen = np.zeros((lruvecs, GEN_STRIDE), np.int64)
    gen[:, MAX_SEQ] = MIN_NR_GENS + 1
    gen[:, WALKED_SEQ] = -1
    return {
        "gen": gen.reshape(-1),
        "nr": np.zeros(NR_STRIDE * lruvecs, np.int64),
        "ctrl": np.zeros(CTRL_STRIDE * lruvecs, np.int64),
        "filter": np.zeros(2 * FILTER_BITS * lruvecs, np.int8),
        "filter_made": np.zeros(2 * lruvecs, np.int64),
        "refs": machine.page_column("int8"),
        "size": np.zeros(SIZE_STRIDE * sizes.nr_zones * sizes.nr_memcgs, np.int64),
        "batch": np.zeros(BATCH_STRIDE * NR_BATCHES * sizes.nr_cpus, np.int64),
        "waiting": np.zeros(1, np.int64),
        "oldest": np.zeros(2, np.int64),
        "kind": np.zeros(1, np.int64),
        "reclaimed": np.zeros(1, np.int64),
        "kswapd": np.zeros(PASS_STRIDE * sizes.nr_nodes, np.int64),
        "counted": np.zeros(NR_STRIDE + 1, np.int64),
    }


@kernel
def folio_added(m, st, pfn):
    """folio_add_lru(): a page that a fault brings in starts in the youngest generation."""
    flags = page_flags(m, pfn) & ~PG_ACTIVE
    if m.sc[SC_IN_LRU_FAULT] and m.sc[SC_IN_RECLAIM] == 0:
        flags |= PG_ACTIVE
    set_page_flags(m, pfn, flags)
    return batch_add(m, st, pfn, BATCH_ADD)


@kernel
def folio_removed(m, st, pfn):
    """Off its list, or out of the batch in which it waits."""
    flags = page_flags(m, pfn)
    st.refs[pfn] = 0
    if st.waiting[0]:
        batch_remove(st, pfn, 0)
    if flags & PG_LRU == 0:
        if batch_remove(st, pfn, 1) == 0:
            remove_isolated(m, page_lruvec(m, pfn), pfn)
        return 0
    lruvec_del_folio(m, st, pfn, flags)
    set_page_flags(m, pfn, page_flags(m, pfn) & ~PG_LRU)
    return 0


@kernel
def folio_accessed(m, st, pfn):
    """folio_inc_refs(): PG_REFERENCED, then PG_WORKINGSET, then a count. PG_IDLE stays: a monitor does not see such an access."""
    flags = page_flags(m, pfn)
    if flags & PG_UNEVICTABLE:
        return 0
    if flags & PG_REFERENCED == 0:
        flags |= PG_REFERENCED
    elif flags & PG_WORKINGSET == 0:
        flags |= PG_WORKINGSET
    elif st.refs[pfn] < MAX_REFS:
        st.refs[pfn] += 1
    set_page_flags(m, pfn, flags)
    return 0


@kernel
def folio_deactivate(m, st, pfn):
    """folio_deactivate(): to an older generation."""
    if page_flags(m, pfn) & PG_UNEVICTABLE:
        return 0
    return batch_add(m, st, pfn, BATCH_DEACTIVATE)


@kernel
def folio_deactivate_file(m, st, pfn):
    """deactivate_file_folio()."""
    if page_flags(m, pfn) & PG_UNEVICTABLE:
        return 0
    return batch_add(m, st, pfn, BATCH_DEACTIVATE_FILE)


@kernel
def folio_rotate(m, st, pfn):
    """folio_rotate_reclaimable(): to the tail of the oldest generation."""
    if page_flags(m, pfn) & (PG_LOCKED | PG_DIRTY | PG_UNEVICTABLE):
        return 0
    return batch_add(m, st, pfn, BATCH_ROTATE)


@kernel
def prepare_scan(m, st, lruvec, priority, nr_to_reclaim, scan_flags):
    """set_initial_priority() of global reclaim."""
    if lruvec == lruvec_node(m, lruvec):
        m.sc[SC_SCAN_PRIORITY] = initial_priority(m, st, lruvec, priority, nr_to_reclaim, scan_flags)
    return 0


@kernel
def drain(m, st, cpu):
    """lru_add_drain()."""
    return lru_add_drain(m, st, cpu)


@kernel
def nr_lru_pages(m, st, lruvec, lru):
    """Pages by LRU_*: the two youngest generations are active; those in batches are not counted yet."""
    return lruvec_lru_size(m, st, lruvec, lru, ALL_ZONES)


MGLRU = Reclaimer(
    name="mglru",
    summary="Linux's multi-generational LRU: aging by page-table walks, eviction by tiers and refaults",
    models="mm/vmscan.c, mm/swap.c, mm/workingset.c (6.12, lru_gen on)",
    left_out="the memcg LRU's random order, write-back throttling",
    level="L2",
    params=Params,
    per_memcg=True,
    files=lru_gen_files,
    new_state=new_state,
    folio_added=folio_added,
    folio_accessed=folio_accessed,
    folio_removed=folio_removed,
    folio_deactivate=folio_deactivate,
    folio_deactivate_file=folio_deactivate_file,
    folio_rotate=folio_rotate,
    prepare_scan=prepare_scan,
    shrink_node=shrink_node,
    age_node=age_node,
    look_around=look_around,
    eviction_shadow=eviction_shadow,
    workingset_refault=workingset_refault,
    drain=drain,
    nr_lru_pages=nr_lru_pages,
    check=check,
    explains=EXPLAINS,
    explain_page=explain_page,
)
