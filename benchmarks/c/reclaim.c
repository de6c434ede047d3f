/* Reclaim of old anonymous pages in C over the simulator's own arrays, step by step what mmlab does with two_list and buddy: isolate 32
 * from the inactive tail, look through the rmap whether the one PTE is young, a swap slot from the CPU's cache, unmap, note that it is all
 * zeroes, free to the per-CPU list and from there in bulk to the buddy lists. Fast cases only: anything else ends the run. */
#include "page_alloc.h"

/* The PTE that maps an anonymous page: slot in m->pt, or -1. A page of this benchmark has one VMA on its chain. */
static int64_t rmap_one(struct machine *m, int64_t p, int64_t *mm) {
    int64_t avc = m->anon_vma[MAPPING(p) * ANON_VMA_STRIDE + AV_AVC_FIRST];
    if (avc < 0) return -1;
    int64_t *vma = VMA(m->avc[avc * AVC_STRIDE + AVC_VMA]), index = INDEX(p) | (int64_t)(KIND(p) & 255) << 32;
    int64_t vpn = (vma[VMA_START] >> 12) + index - vma[VMA_PGOFF];
    if (vpn < vma[VMA_START] >> 12 || vpn >= vma[VMA_END] >> 12) return -1;
    *mm = vma[VMA_MM];
    int64_t slot = walk_pte(m, *mm, vpn);
    return slot >= 0 && m->pt[slot] & PTE_PRESENT && m->pt[slot] >> PTE_SHIFT == p ? slot : -1;
}

static inline int slot_in_use(struct machine *m, int64_t slot) {
    return m->swap_map[slot] > 0 || m->swap_cache[slot] & 1 || m->swap_cache[slot] == SLOT_HELD;
}

/* A free slot of a device (row of m->swap_info) that has one. They ascend; after 512 the search starts again at the bottom for 512 free
 * ones in a row. */
static int64_t scan_swap_map(struct machine *m, int64_t *device) {
    int64_t first = device[SI_FIRST], end = first + device[SI_PAGES], slot = device[SI_NEXT], left = device[SI_RUN_LEFT];
    if (!left) {
        left = 512;
        if (device[SI_PAGES] - device[SI_INUSE] >= 512) {
            int64_t lowest = -1, length = 0;
            for (slot = first; slot < end && length < 512; slot++) {
                int used = slot_in_use(m, slot);
                length = used ? 0 : length + 1;
                if (!used && lowest < 0) lowest = slot;
            }
            slot = length == 512 ? slot - 512 : lowest;
        }
    }
    if (slot < first || slot >= end) slot = first;
    while (slot_in_use(m, slot))
        if (++slot >= end) slot = first;
    device[SI_RUN_LEFT] = left - 1;
    device[SI_NEXT] = slot + 1;
    device[SI_INUSE]++;
    m->sc[SC_NR_SWAP_FREE]--;
    m->swap_cache[slot] = SLOT_HELD;
    return slot;
}

/* A slot from those that the CPU keeps: 64 at a time from the only device, while there are plenty of them. */
static int64_t swap_alloc(struct machine *m) {
    int64_t *cache = m->swap_slots + m->sc[SC_CPU] * SWAP_SLOTS_STRIDE, *device = m->swap_info, cpus = m->sc[SC_NR_CPUS];
    if (!m->swap_slots[SS_ACTIVE] && m->sc[SC_NR_SWAP_FREE] > 5 * SWAP_SLOTS_CACHE_SIZE * cpus) m->swap_slots[SS_ACTIVE] = 1;
    if (!m->swap_slots[SS_ACTIVE] || m->sc[SC_NR_SWAP_FREE] < 2 * SWAP_SLOTS_CACHE_SIZE * cpus) return -1;
    if (!cache[SS_NR]) {
        int64_t nr = least(SWAP_SLOTS_CACHE_SIZE, device[SI_PAGES] - device[SI_INUSE]);
        if (nr <= 0 || device[SWAP_INFO_STRIDE + SI_PAGES]) return -1;
        for (int64_t i = 0; i < nr; i++) cache[SS_SLOTS + i] = scan_swap_map(m, device);
        cache[SS_CUR] = 0;
        cache[SS_NR] = nr;
    }
    cache[SS_NR]--;
    int64_t slot = cache[SS_SLOTS + cache[SS_CUR]++];
    m->swap_cache[slot] = 0;
    return slot;
}

/* A page of zeroes is only noted. */
static int swap_writepage(struct machine *m, int64_t p, int64_t slot) {
    if ((m->page_class[p] & (PAGE_USED - 1)) != CLASS_ZERO || m->zswap_entry[slot] || m->zram[slot]) return -1;
    m->swap_class[slot] = CLASS_ZERO;
    m->vmstat[V_SWPOUT_ZERO]++;
    if (m->sc[SC_NR_MEMCGS] > 1) m->memcg_stat[V_SWPOUT_ZERO]++;
    return 0;
}

static int reclaim_page(struct machine *m, int64_t p) {
    int64_t mm, pte = rmap_one(m, p, &mm), *vec = m->vec, node = ZONE(FLAGS(p) >> ZONE_SHIFT)[Z_NODE];
    if (pte < 0 || m->pt[pte] & PTE_ACCESSED || FLAGS(p) & (PG_LOCKED | PG_MLOCKED | PG_WRITEBACK | PG_REFERENCED | PG_SWAPCACHE)) return -1;
    if (KIND(p) >> 16 || m->bio[BIO_HEAD] < m->bio[BIO_TAIL]) return -1; /* charged to a cgroup; a write may have ended */
    int64_t slot = swap_alloc(m);
    if (slot < 0) return -1;
    m->swap_memcg[slot] = 0;
    m->swap_cache[slot] = p << 1 | 1;
    PRIVATE(p) = slot;
    FLAGS(p) |= PG_SWAPCACHE | PG_DIRTY;
    COUNTS(p) += REF_ONE;
    m->vmstat[V_NR_SWAPCACHED]++, m->vmstat[V_NR_FILE_PAGES]++;

    pte = rmap_one(m, p, &mm); /* the unmapping walks by itself, as in the kernel */
    if (pte < 0) return -1;
    if (m->pt[pte] & PTE_DIRTY) m->page_class[p] = m->sc[SC_STORE_CLASS] | PAGE_USED;
    m->swap_map[slot]++;
    m->pt[pte] = slot << PTE_SHIFT | PTE_SWAP | (FLAGS(p) & PG_ANON_EXCLUSIVE ? PTE_SWAP_EXCLUSIVE : 0);
    int64_t *row = MM(mm), rss = row[MM_RSS_ANON] + row[MM_RSS_FILE] + row[MM_RSS_SHMEM];
    row[MM_SWAPENTS]++;
    row[MM_HIWATER_RSS] = most(row[MM_HIWATER_RSS], rss);
    row[MM_RSS_ANON]--;
    m->vmstat[V_NR_ANON_PAGES]--;

    FLAGS(p) = (FLAGS(p) & ~PG_DIRTY) | PG_RECLAIM;
    if (swap_writepage(m, p, slot) < 0) return -1;
    FLAGS(p) &= ~PG_RECLAIM;
    m->vmstat[V_NR_VMSCAN_WRITE]++;

    int64_t shadow = (vec[0]++ << 14 | node) << 1 | (FLAGS(p) & PG_WORKINGSET ? 1 : 0); /* vec[0]: the node's clock of evictions */
    m->swap_cache[slot] = (shadow + 1) << 1;
    PRIVATE(p) = 0;
    m->vmstat[V_NR_SWAPCACHED]--, m->vmstat[V_NR_FILE_PAGES]--;
    MAPPING(p) = NO_MAPPING;
    free_page(m, p);
    m->sc[SC_NR_VICTIMS]++, m->sc[SC_NR_FREED]++;
    return 0;
}

/* Reclaim at least nr pages of node 0, 32 at a time. Returns how many were reclaimed. */
int64_t reclaim(struct machine *m, int64_t nr) {
    int64_t inactive = lru_head(m, 0, LRU_INACTIVE_ANON), isolated = lru_head(m, 0, 5), done = 0;
    while (done < nr) {
        int64_t scanned = 0, p;
        for (; scanned < SWAP_CLUSTER_MAX && (p = PREV(inactive)) != inactive; scanned++) {
            list_del(m, p);
            FLAGS(p) &= ~PG_LRU;
            update_lru_size(m, p, LRU_INACTIVE_ANON, -1);
            list_add(m, isolated, p);
        }
        if (!scanned) break;
        m->sc[SC_NR_SCANNED] += scanned, m->memcg_stat[V_PGSCAN_DIRECT] += scanned;
        m->vmstat[V_PGSCAN_DIRECT] += scanned, m->vmstat[V_PGSCAN_ANON] += scanned;
        m->sc[SC_NOW_NS] += scanned * m->cost[COST_SCAN_PAGE];
        for (; (p = PREV(isolated)) != isolated; done++) {
            list_del(m, p);
            if (reclaim_page(m, p) < 0 || m->sc[SC_NOW_NS] >= m->sc[SC_PREEMPT_NS]) return done; /* nobody else wants the CPU */
        }
        m->memcg_stat[V_PGSTEAL_DIRECT] += scanned;
        m->vmstat[V_PGSTEAL_DIRECT] += scanned, m->vmstat[V_PGSTEAL_ANON] += scanned;
        m->sc[SC_NOW_NS] += scanned * m->cost[COST_RECLAIM_PAGE];
    }
    m->sc[SC_NR_RECLAIMED] += done;
    return done;
}
