"""Objects that wait to be freed until nobody can see them any more, and the pages that their addresses are noted in.

A CPU keeps up to five such pages (m.kvfree_page: a row a CPU: KVP_NR cached ones at KVP_PAGE and on; KVP_USED: 1 + the one that notes what waits, 0: none). Boot
leaves all five. Models: kernel/rcu/tree.c kvfree_call_rcu(), kfree_rcu_monitor(), get_cached_bnode(), put_cached_bnode(),
drain_page_cache(), kfree_rcu_shrink_count(), kfree_rcu_shrink_scan(). Left out: a list a CPU (what waits is noted on the CPU that freed the first of
it); new pages for those that reclaim took.
"""

from mmlab.kernels.jit import kernel, leaf
from mmlab.kernels.services import free_pages, kmem_cache_free
from mmlab.model.rows import (
    KVFREE_BULK_MAX_ENTR, KVP_NR, KVP_PAGE, KVP_STRIDE, KVP_USED, SC_CPU, SC_NOW_NS, SC_NR_CPUS, SHR_FIRST, SHR_KFREE_RCU, SHR_LAST, SHR_NR, SHR_STRIDE,
)

KFREE_DRAIN_NS = 5_000_000_000
GRACE_PERIOD_NS = 8_000_000  # two ticks: as long as it takes an idle machine to know that nobody looks at an object any more


@leaf
def get_cached_bnode(m):
    """The running CPU takes a cached page to note objects in, if it has one."""
    row = m.sc[SC_CPU] * KVP_STRIDE
    nr = m.kvfree_page[row + KVP_NR]
    if nr and m.kvfree_page[row + KVP_USED] == 0:
        m.kvfree_page[row + KVP_USED] = 1 + m.kvfree_page[row + KVP_PAGE + nr - 1]
        m.kvfree_page[row + KVP_NR] = nr - 1


@leaf
def put_cached_bnode(m, cpu):
    """What was noted is freed: the page is cached again."""
    row = cpu * KVP_STRIDE
    if m.kvfree_page[row + KVP_USED]:
        m.kvfree_page[row + KVP_PAGE + m.kvfree_page[row + KVP_NR]] = m.kvfree_page[row + KVP_USED] - 1
        m.kvfree_page[row + KVP_NR] += 1
        m.kvfree_page[row + KVP_USED] = 0


@kernel
def drain_page_cache(m, cpu):
    """Free the pages that a CPU caches. Returns how many."""
    row = cpu * KVP_STRIDE
    nr = m.kvfree_page[row + KVP_NR]
    m.kvfree_page[row + KVP_NR] = 0
    for i in range(nr):
        free_pages(m, m.kvfree_page[row + KVP_PAGE + i], 0)
    return nr


@kernel
def kfree_rcu(m, obj):
    """One more object waits to be freed: five seconds, unless a block of pointers is full."""
    row = SHR_KFREE_RCU * SHR_STRIDE
    now = m.sc[SC_NOW_NS]
    settle(m)
    if m.shrinker[row + SHR_NR] >= KVFREE_BULK_MAX_ENTR:
        kfree_rcu_drain(m)
    if m.shrinker[row + SHR_NR] == 0:
        get_cached_bnode(m)
        m.shrinker[row + SHR_FIRST] = now + KFREE_DRAIN_NS
    m.shrinker[row + SHR_LAST] = now
    m.kfree_rcu[m.shrinker[row + SHR_NR]] = obj
    m.shrinker[row + SHR_NR] += 1
    return 0


@leaf
def kfree_rcu_drain(m):
    """Free all that wait; the page comes back once nobody can see them."""
    row = SHR_KFREE_RCU * SHR_STRIDE
    for i in range(m.shrinker[row + SHR_NR]):
        kmem_cache_free(m, m.kfree_rcu[i])
    m.shrinker[row + SHR_NR] = 0
    if m.sc[SC_NOW_NS] >= m.shrinker[row + SHR_LAST] + GRACE_PERIOD_NS:
        for cpu in range(m.sc[SC_NR_CPUS]):
            put_cached_bnode(m, cpu)


@leaf
def settle(m):
    """What waited for five seconds is freed, and a page that noted what was freed earlier is back."""
    row = SHR_KFREE_RCU * SHR_STRIDE
    if m.shrinker[row + SHR_NR] == 0 or m.sc[SC_NOW_NS] >= m.shrinker[row + SHR_FIRST]:
        kfree_rcu_drain(m)


@leaf
def kfree_rcu_waiting(m, cpu):
    """Objects that wait to be freed, noted on the CPU (the first one if it had no page)."""
    holder = 0
    for other in range(m.sc[SC_NR_CPUS]):
        if m.kvfree_page[other * KVP_STRIDE + KVP_USED]:
            holder = other
    return m.shrinker[SHR_KFREE_RCU * SHR_STRIDE + SHR_NR] if cpu == holder else 0


@kernel
def kfree_rcu_count(m):
    """Objects that wait to be freed, and pages that are cached."""
    settle(m)
    count = m.shrinker[SHR_KFREE_RCU * SHR_STRIDE + SHR_NR]
    for cpu in range(m.sc[SC_NR_CPUS]):
        count += m.kvfree_page[cpu * KVP_STRIDE + KVP_NR]
    return count


@kernel
def kfree_rcu_scan(m, nr_to_scan):
    """All that a CPU has is freed, one CPU after the other until there were nr_to_scan. Returns objects and pages, -1 for none."""
    freed = 0
    for cpu in range(m.sc[SC_NR_CPUS]):
        waiting = kfree_rcu_waiting(m, cpu)
        freed += waiting + drain_page_cache(m, cpu)
        if waiting:
            kfree_rcu_drain(m)
        if freed >= nr_to_scan:
            break
    return freed if freed else -1
