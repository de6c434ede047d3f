"""Watermarks: a scheme is on only while the share of free memory lies where its user wants it; with all schemes off kdamond sleeps.

Models: mm/damon/core.c damos_wmark_wait_us(), kdamond_wait_activation(), kdamond_usleep(). O(schemes).
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.model.rows import SC_NOW_NS, SC_NR_ZONES, SC_TOTALRAM, Z_FREE, ZONE_STRIDE
from mmlab_linux.monitor.damon.quota import scheme_row
from mmlab_linux.monitor.damon.state import (
    C_NR_SCHEMES, CTX_STRIDE, S_ACTIVATED, S_WM_HIGH, S_WM_INTERVAL_US, S_WM_LOW, S_WM_METRIC, S_WM_MID, TICK_NS, WM_NONE,
)

HRTIMER_US = 20_000  # longer sleeps count jiffies


@leaf
def free_mem_rate(m):
    """Free pages in 1/1000 of all RAM; per-CPU lists are not free."""
    free = 0
    for zone in range(m.sc[SC_NR_ZONES]):
        free += m.zone[zone * ZONE_STRIDE + Z_FREE]
    return free * 1000 // max(1, m.sc[SC_TOTALRAM])


@leaf
def wmark_wait_us(m, st, row):
    """damos_wmark_wait_us(): 0 if the scheme is on, else when to look again. Off above high and below low; on again only below mid."""
    if st.scheme[row + S_WM_METRIC] == WM_NONE:
        return 0
    rate = free_mem_rate(m)
    if rate > st.scheme[row + S_WM_HIGH] or rate < st.scheme[row + S_WM_LOW]:
        st.scheme[row + S_ACTIVATED] = 0
        return st.scheme[row + S_WM_INTERVAL_US]
    if rate >= st.scheme[row + S_WM_MID] and st.scheme[row + S_ACTIVATED] == 0:
        return st.scheme[row + S_WM_INTERVAL_US]
    st.scheme[row + S_ACTIVATED] = 1
    return 0


@kernel
def activation_wait_us(m, st, k):
    """The least wait of all schemes: 0 with no schemes or any that is on."""
    nr_schemes = st.ctx[k * CTX_STRIDE + C_NR_SCHEMES]
    least = 0
    for scheme in range(nr_schemes):
        wait = wmark_wait_us(m, st, scheme_row(k, scheme))
        least = wait if scheme == 0 else min(least, wait)
    return least


@leaf
def kdamond_usleep(m, us):
    """The moment at which a sleep that begins now ends: exact up to 20 ms, else at a tick."""
    now = m.sc[SC_NOW_NS]
    if us <= HRTIMER_US:
        return now + us * 1000
    return (now // TICK_NS + 1 + (us * 1000 + TICK_NS - 1) // TICK_NS) * TICK_NS
