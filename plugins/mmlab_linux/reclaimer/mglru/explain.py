"""What MGLRU knows of a page, for those who ask why it left or stayed."""

from mmlab.kernels.jit import kernel
from mmlab.kernels.lists import list_position
from mmlab.kernels.memcg import page_lruvec
from mmlab.model.page import PG_LRU, PG_REFERENCED, page_flags
from mmlab.policies import Explained
from mmlab_linux.reclaimer.mglru.lrugen import MAX_NR_GENS, flags_gen, folio_kind, folio_lru_refs, lru_tier_from_refs, max_seq, min_seq

EXPLAINS = (
    Explained("generation", "sequence number of its generation; off the lists (isolated): of the one it was taken from, the oldest"),
    Explained("age", "generations younger than its own"),
    Explained("older", "generations of its kind older than its own: at 0 it is next"),
    Explained("tier", "by its uses through file descriptors; tiers above the controller's limit are protected"),
    Explained("referenced", "PG_REFERENCED: found young after it was isolated, or used through a file descriptor"),
    Explained("position", "pages nearer to the end of its list that reclaim scans; -1: it is off the list"),
)


@kernel
def explain_page(m, st, pfn, what):
    """By number in EXPLAINS."""
    flags = page_flags(m, pfn)
    lruvec = page_lruvec(m, pfn)
    oldest, youngest = min_seq(st, lruvec, folio_kind(flags)), max_seq(st, lruvec)
    seq = oldest
    if flags_gen(flags) >= 0:
        while seq < youngest and seq % MAX_NR_GENS != flags_gen(flags):
            seq += 1
    if what == 0:
        return seq
    if what == 1:
        return youngest - seq
    if what == 2:
        return seq - oldest
    if what == 3:
        return lru_tier_from_refs(folio_lru_refs(st, pfn, flags))
    if what == 4:
        return 1 if flags & PG_REFERENCED else 0
    return list_position(m, pfn) if flags & PG_LRU and flags_gen(flags) >= 0 else -1
