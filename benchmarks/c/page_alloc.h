/* The page allocator in C over the simulator's own arrays: free lists with splitting and merging, and the per-CPU lists before them. */
#include "mm.h"

/* Free pages are counted in the CPU's difference, one by one: it joins the zone's count whenever it exceeds the threshold. */
static inline void take_zone_free(struct machine *m, int64_t zone, int64_t times) {
    int64_t *z = ZONE(zone), threshold = z[Z_STAT_THRESHOLD], diff = PCP(zone)[PCP_FREE_DIFF];
    while (times > 0) {
        int64_t until_folded = most(1, diff + threshold + 1);
        if (times < until_folded) {
            diff -= times;
            break;
        }
        z[Z_FREE] += diff - until_folded;
        diff = 0;
        times -= until_folded;
    }
    PCP(zone)[PCP_FREE_DIFF] = diff;
}

/* Up to `wanted` single pages from the smallest block there is, lowest first, to the tail of a list; what is left of it are the buddies above. */
static inline int64_t rmqueue_smallest_run(struct machine *m, int64_t zone, int64_t type, int64_t wanted, int64_t head) {
    for (int64_t current = 0; current < NR_PAGE_ORDERS; current++) {
        if (!*nr_free(m, zone, current, type)) continue;
        int64_t p = NEXT(free_head(m, zone, current, type)), count = least(wanted, 1 << current), end = p + count, last = PREV(head);
        del_from_free_list(m, zone, p, current, type);
        for (int64_t page = p; page < end; last = page++) FLAGS(page) = zone << ZONE_SHIFT, NEXT(last) = page, PREV(page) = last;
        NEXT(last) = head, PREV(head) = last;
        for (int64_t piece = 0; end < p + (1 << current); end += 1 << piece) {
            while (!((end - p) >> piece & 1)) piece++;
            add_to_free_list(m, zone, end, piece, type, 0);
        }
        take_zone_free(m, zone, count);
        return count;
    }
    return 0;
}

static inline int64_t rmqueue_smallest(struct machine *m, int64_t zone, int64_t type) {
    for (int64_t order = 0; order < NR_PAGE_ORDERS; order++) {
        if (!*nr_free(m, zone, order, type)) continue;
        int64_t p = NEXT(free_head(m, zone, order, type));
        del_from_free_list(m, zone, p, order, type);
        while (order-- > 0) add_to_free_list(m, zone, p + (1 << order), order, type, 0);
        mod_zone_free(m, zone, -1);
        return p;
    }
    return -1;
}

/* Refills double from one to the next, and the list's limit grows with them. */
static inline int64_t nr_pcp_alloc(int64_t *pcp) {
    int64_t batch = pcp[PCP_BATCH], nr = batch << pcp[PCP_ALLOC_FACTOR];
    int64_t high = clamp(pcp[PCP_HIGH], pcp[PCP_HIGH_MIN], pcp[PCP_HIGH_MAX]);
    if (high < batch) return 1;
    if (pcp[PCP_HIGH_MIN] != pcp[PCP_HIGH_MAX]) high = least(high + nr, pcp[PCP_HIGH_MAX]);
    pcp[PCP_HIGH] = high;
    int64_t limit = most(high - pcp[PCP_COUNT] - batch, batch);
    if (nr <= limit && pcp[PCP_ALLOC_FACTOR] < 5) pcp[PCP_ALLOC_FACTOR]++;
    return least(nr, limit);
}

static inline int64_t alloc_page(struct machine *m, int64_t zone, int64_t highest, int64_t type) {
    int64_t *z = ZONE(zone), *pcp = PCP(zone);
    if (z[Z_INDEX] > highest || z[Z_FLAGS] & ZONE_BELOW_HIGH || z[Z_FREE] - z[Z_FREE_HIGHATOMIC] <= z[Z_WMARK_HIGH] + z[Z_WATERMARK_BOOST] + z[Z_LOWMEM_RESERVE + highest]) return -1;
    int64_t head = pcp[PCP_HEADS] + type, p = NEXT(head);
    pcp[PCP_FREE_COUNT] >>= 1;
    if (p == head) {
        for (int64_t left = nr_pcp_alloc(pcp), run; left > 0 && (run = rmqueue_smallest_run(m, zone, type, left, head)); left -= run) pcp[PCP_COUNT] += run;
        if ((p = NEXT(head)) == head) return -1;
    }
    int64_t second = NEXT(p);
    NEXT(head) = second, PREV(second) = head;
    pcp[PCP_COUNT]--;
    if (z[Z_FLAGS] & ZONE_BOOSTED_WATERMARK) return -1;
    z[Z_NUMA_HIT]++, z[Z_NODE] == m->sc[SC_NODE] ? z[Z_NUMA_LOCAL]++ : z[Z_NUMA_OTHER]++, z[Z_ALLOCATED]++;
    m->vmstat[V_PGALLOC_DMA + z[Z_INDEX]]++;
    FLAGS(p) = zone << ZONE_SHIFT;
    COUNTS(p) = 0;
    KIND(p) = KIND_KERNEL << 12;
    return m->sc[SC_NEEDS_FUTURE] || m->sc[SC_INTERLEAVE_NODE] > 0 ? -1 : p;
}

static inline int is_free_block(struct machine *m, int64_t zone, int64_t p, int64_t order) {
    return (FLAGS(p) & (PG_BUDDY | ZONE_MASK)) == (PG_BUDDY | zone << ZONE_SHIFT) && (KIND(p) >> 8 & 15) == order;
}

static inline void free_one_page(struct machine *m, int64_t zone, int64_t p, int64_t type) {
    int to_tail = 0;
    int64_t order = 0;
    mod_zone_free(m, zone, 1);
    for (; order < MAX_ORDER; order++) {
        int64_t buddy = p ^ 1 << order;
        if (!is_free_block(m, zone, buddy, order)) {
            to_tail = order < MAX_ORDER - 1 && is_free_block(m, zone, (p & buddy) ^ 2 << order, order + 1);
            break;
        }
        int64_t buddy_type = type;
        if (order >= PAGEBLOCK_ORDER && (buddy_type = m->pageblock[buddy >> PAGEBLOCK_ORDER]) != type) {
            if (most(buddy_type, type) >= MIGRATE_PCPTYPES) break;
            for (int64_t block = 0; block < 1 << (order - PAGEBLOCK_ORDER); block++) m->pageblock[(buddy >> PAGEBLOCK_ORDER) + block] = type;
        }
        del_from_free_list(m, zone, buddy, order, buddy_type);
        p &= buddy;
    }
    add_to_free_list(m, zone, p, order, type, to_tail);
}

static inline void free_pcppages_bulk(struct machine *m, int64_t zone, int64_t *pcp, int64_t nr, int64_t list) {
    int64_t left = least(nr, pcp[PCP_COUNT]), given = 0;
    for (; given < left; list = (list + 1) % 3) {
        int64_t head = pcp[PCP_HEADS] + list, p;
        for (; given < left && (p = PREV(head)) != head; given++) {
            list_del(m, p);
            free_one_page(m, zone, p, m->pageblock[p >> PAGEBLOCK_ORDER]);
        }
    }
    pcp[PCP_COUNT] -= given;
}

static inline void free_page(struct machine *m, int64_t p) {
    int64_t zone = FLAGS(p) >> ZONE_SHIFT, type = m->pageblock[p >> PAGEBLOCK_ORDER], *pcp = PCP(zone);
    FLAGS(p) = zone << ZONE_SHIFT;
    COUNTS(p) = 0;
    set_kind(m, p, KIND_FREE);
    m->vmstat[V_PGFREE]++;
    list_add(m, pcp[PCP_HEADS] + type, p);
    int64_t batch = pcp[PCP_BATCH], count = ++pcp[PCP_COUNT];
    pcp[PCP_ALLOC_FACTOR] >>= 1;
    if (pcp[PCP_FREE_COUNT] < batch << 5) pcp[PCP_FREE_COUNT]++;
    int64_t freed = pcp[PCP_FREE_COUNT], high = clamp(pcp[PCP_HIGH], pcp[PCP_HIGH_MIN], pcp[PCP_HIGH_MAX]), limit = high;
    if (pcp[PCP_HIGH_MIN] != pcp[PCP_HIGH_MAX] && count >= high && high < freed + batch) high = clamp(freed + batch, pcp[PCP_HIGH_MIN], pcp[PCP_HIGH_MAX]);
    pcp[PCP_HIGH] = high;
    if (count >= limit) free_pcppages_bulk(m, zone, pcp, limit < batch ? 1 : clamp(freed, batch, limit - batch), type);
}
