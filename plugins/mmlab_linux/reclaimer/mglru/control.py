"""The controller: which kind, and up to which tier of it, is evicted, so that refaults of anonymous and file pages are in proportion.

Models: mm/vmscan.c read_ctrl_pos(), reset_ctrl_pos(), positive_ctrl_err(), get_tier_idx(), get_type_to_scan(). One history generation, as in
a kernel without CONFIG_LRU_GEN_STATS.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab_linux.reclaimer.lruvec import ANON, FILE
from mmlab_linux.reclaimer.mglru.lrugen import MAX_NR_TIERS, MIN_LRU_BATCH

MAX_SWAPPINESS = 200
# st.ctrl: five counts for each tier of each kind; CTRL_STRIDE words a lruvec
AVG_REFAULTED, AVG_TOTAL, REFAULTED, EVICTED, PROTECTED = 0, 1, 2, 3, 4
TIER_STRIDE = 8
CTRL_STRIDE = 2 * MAX_NR_TIERS * TIER_STRIDE


@leaf
def ctrl_cell(lruvec, kind, tier):
    """Where a tier's counts begin in st.ctrl."""
    return lruvec * CTRL_STRIDE + (kind * MAX_NR_TIERS + tier) * TIER_STRIDE


@leaf
def refaulted(st, lruvec, kind, tier):
    """Refaults of a tier: those into the oldest generation and the moving average of the ones before."""
    cell = ctrl_cell(lruvec, kind, tier)
    return st.ctrl[cell + AVG_REFAULTED] + st.ctrl[cell + REFAULTED]


@leaf
def total(st, lruvec, kind, tier):
    """Pages of a tier that were evicted or protected, likewise."""
    cell = ctrl_cell(lruvec, kind, tier)
    return st.ctrl[cell + AVG_TOTAL] + st.ctrl[cell + EVICTED] + st.ctrl[cell + PROTECTED]


@kernel
def reset_ctrl_pos(st, lruvec, kind):
    """The oldest generation of a kind is gone: what it counted goes into the moving averages, which are halved."""
    for tier in range(MAX_NR_TIERS):
        cell = ctrl_cell(lruvec, kind, tier)
        st.ctrl[cell + AVG_REFAULTED] = refaulted(st, lruvec, kind, tier) // 2
        st.ctrl[cell + AVG_TOTAL] = total(st, lruvec, kind, tier) // 2
        st.ctrl[cell + REFAULTED] = st.ctrl[cell + EVICTED] = st.ctrl[cell + PROTECTED] = 0


@leaf
def positive_ctrl_err(st, lruvec, sp_kind, sp_gain, pv_kind, pv_tier, pv_gain):
    """1 if tier pv_tier of pv_kind (the variable) refaults little, or less in proportion than tier 0 of sp_kind (the set point)."""
    pv = refaulted(st, lruvec, pv_kind, pv_tier)
    if pv < MIN_LRU_BATCH:
        return 1
    sp = refaulted(st, lruvec, sp_kind, 0)
    left = pv * (total(st, lruvec, sp_kind, 0) + MIN_LRU_BATCH) * sp_gain
    return 1 if left <= (sp + 1) * total(st, lruvec, pv_kind, pv_tier) * pv_gain else 0


@kernel
def highest_tier(st, lruvec, kind, sp_kind, sp_gain, pv_gain):
    """The last tier of a kind to evict from: all up to it are positive against tier 0 of sp_kind."""
    tier = 1
    while tier < MAX_NR_TIERS and positive_ctrl_err(st, lruvec, sp_kind, sp_gain, kind, tier, pv_gain):
        tier += 1
    return tier - 1


@kernel
def get_tier_idx(st, lruvec, kind):
    """Tier limit of a kind that was chosen for another reason: against its own tier 0, with a margin of two."""
    return highest_tier(st, lruvec, kind, kind, 1, 2)


@kernel
def get_type_to_scan(st, lruvec, swappiness):
    """ANON or FILE, by their refaults and swappiness."""
    return FILE if positive_ctrl_err(st, lruvec, ANON, swappiness, FILE, 0, MAX_SWAPPINESS - swappiness) else ANON


@kernel
def get_type_tier(st, lruvec, kind, swappiness):
    """Tier limit of the kind that get_type_to_scan() chose: against tier 0 of the other."""
    if kind == FILE:
        return highest_tier(st, lruvec, FILE, ANON, swappiness, MAX_SWAPPINESS - swappiness)
    return highest_tier(st, lruvec, ANON, FILE, MAX_SWAPPINESS - swappiness, swappiness)
