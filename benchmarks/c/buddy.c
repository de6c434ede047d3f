/* Pairs of allocation and free of single pages: from the free lists, and from the per-CPU lists with everything that is counted. */
#include "page_alloc.h"

/* Each time the block of 2^10 pages is cut ten times and merges ten times. */
int64_t pairs(struct machine *m, int64_t zone, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        int64_t p = rmqueue_smallest(m, zone, MIGRATE_MOVABLE);
        if (p < 0) return i;
        free_one_page(m, zone, p, m->pageblock[p >> PAGEBLOCK_ORDER]);
    }
    return count;
}

/* Free page held[p] and allocate another, for each p of picks. */
int64_t replace(struct machine *m, int64_t zone, int64_t held_at, int64_t picks_at, int64_t count) {
    int64_t *held = (int64_t *)held_at, *picks = (int64_t *)picks_at;
    for (int64_t i = 0; i < count; i++) {
        int64_t at = picks[i];
        free_one_page(m, zone, held[at], m->pageblock[held[at] >> PAGEBLOCK_ORDER]);
        if ((held[at] = rmqueue_smallest(m, zone, MIGRATE_MOVABLE)) < 0) return i;
    }
    return count;
}

/* alloc_pages() and free_pages() of a movable page that the CPU's list has. */
int64_t pcp_pairs(struct machine *m, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        int64_t p = alloc_page(m, m->zonelist[0], ZONE_MOVABLE, MIGRATE_MOVABLE);
        if (p < 0) return i;
        free_page(m, p);
    }
    return count;
}
