/* First-touch write faults in C over the simulator's own arrays, step by step what mmlab does with sorted_array, buddy and two_list:
 * VMA look-up by binary search, walk of four levels, a page from the per-CPU list (refilled from the buddy lists), memcg charge, rmap,
 * LRU batch, counters. Fast cases only: anything else ends the run, so that the caller sees it. */
#include "page_alloc.h"

static int64_t alloc_table(struct machine *m, int64_t zone, int64_t mm) {
    int64_t p = alloc_page(m, zone, ZONE_NORMAL, MIGRATE_UNMOVABLE), table = m->sc[SC_TABLE_FREE];
    if (p < 0) return -1;
    if (table) m->sc[SC_TABLE_FREE] = m->table[table * TABLE_STRIDE + TB_NEXT_FREE];
    else table = ++m->sc[SC_TABLE_TOP];
    m->table[table * TABLE_STRIDE + TB_PFN] = p;
    FLAGS(p) |= PG_TABLE;
    set_kind(m, p, KIND_TABLE);
    COUNTS(p) = REF_ONE;
    PRIVATE(p) = table;
    m->sc[SC_NOW_NS] += m->cost[COST_PAGE_TABLE];
    MM(mm)[MM_PGTABLES_BYTES] += 4096;
    m->vmstat[V_NR_PAGE_TABLE_PAGES]++;
    return table;
}

static int64_t pte_alloc(struct machine *m, int64_t zone, int64_t mm, int64_t vpn) {
    int64_t table = MM(mm)[MM_ROOT];
    for (int shift = 27; shift > 0; shift -= 9) {
        int64_t *slot = m->pt + table * 512 + (vpn >> shift & 511);
        if (!*slot) {
            int64_t below = alloc_table(m, zone, mm);
            if (below < 0) return -1;
            *slot = below << PTE_SHIFT | PTE_PRESENT;
        }
        table = *slot >> PTE_SHIFT;
    }
    return table * 512 + (vpn & 511);
}

static int64_t find_vma(struct machine *m, int64_t mm, int64_t address) {
    int64_t *index = MM(mm) + MM_INDEX; /* first entry, class, count, entries looked at, look-ups */
    int64_t low = index[0], left = index[2];
    index[4]++;
    while (left > 0) {
        int64_t half = left >> 1;
        int beyond = m->ends[low + half] <= address;
        low = beyond ? low + half + 1 : low;
        left = beyond ? left - half - 1 : half;
        index[3]++;
    }
    return low < index[0] + index[2] ? m->vmas[low] : -1;
}

static void lru_add_drain(struct machine *m, int64_t *batch) {
    for (int64_t i = 1; i <= batch[0]; i++) {
        int64_t p = batch[i], zone = FLAGS(p) >> ZONE_SHIFT;
        FLAGS(p) |= PG_LRU;
        list_add(m, lru_head(m, (KIND(p) >> 16) * m->sc[SC_NR_NODES] + ZONE(zone)[Z_NODE], LRU_INACTIVE_ANON), p);
        update_lru_size(m, p, LRU_INACTIVE_ANON, 1);
    }
    batch[0] = 0;
}

/* Each level of the task's memory cgroup counts the page, if none would exceed its limit. The root (0) is not charged. */
static int charge(struct machine *m, int64_t p, int64_t memcg) {
    if (!memcg) return 0;
    for (int64_t at = memcg; at > 0; at = m->memcg[at * MEMCG_STRIDE + MC_PARENT]) {
        int64_t *row = m->memcg + at * MEMCG_STRIDE;
        if (row[MC_USAGE] + 1 > row[MC_MAX]) return -1;
    }
    for (int64_t at = memcg; at > 0; at = m->memcg[at * MEMCG_STRIDE + MC_PARENT]) {
        int64_t *row = m->memcg + at * MEMCG_STRIDE;
        row[MC_PEAK] = most(row[MC_PEAK], ++row[MC_USAGE]);
    }
    KIND(p) = (KIND(p) & 0xffff) | memcg << 16;
    return 0;
}

/* Touch count pages from vpn for writing, each for the first time. Returns how many were. */
int64_t fault(struct machine *m, int64_t task, int64_t vpn, int64_t count) {
    int64_t mm = m->task[task * TASK_STRIDE + T_MM], zone = m->zonelist[0];
    int64_t memcg = m->sc[SC_NR_MEMCGS] > 1 ? m->task[task * TASK_STRIDE + T_MEMCG] : 0;
    int64_t *batch = m->batch + m->sc[SC_CPU] * 4 * 32;
    for (int64_t i = 0; i < count; i++, vpn++) {
        int64_t slot = walk_pte(m, mm, vpn);
        if (slot >= 0 && m->pt[slot]) return i;
        m->sc[SC_NOW_NS] += m->cost[COST_FAULT];
        m->vmstat[V_PGFAULT]++;
        int64_t vma = find_vma(m, mm, vpn << 12);
        int64_t flags = vma < 0 ? 0 : VMA(vma)[VMA_FLAGS], major = m->vmstat[V_PGMAJFAULT];
        if (!(flags & VM_WRITE) || VMA(vma)[VMA_START] > vpn << 12 || VMA(vma)[VMA_INODE] >= 0 || VMA(vma)[VMA_ANON_VMA] < 0 || flags & VM_LOCKED) return i;
        m->sc[SC_IN_LRU_FAULT] = !(flags & (VM_SEQ_READ | VM_RAND_READ));
        if ((slot = pte_alloc(m, zone, mm, vpn)) < 0) return i;
        int64_t p = alloc_page(m, zone, ZONE_MOVABLE, MIGRATE_MOVABLE), index = vpn - (VMA(vma)[VMA_START] >> 12) + VMA(vma)[VMA_PGOFF];
        if (p < 0 || charge(m, p, memcg) < 0) return i;
        FLAGS(p) |= PG_ANON | PG_SWAPBACKED | PG_UPTODATE | PG_ANON_EXCLUSIVE;
        COUNTS(p) = 1;
        MAPPING(p) = VMA(vma)[VMA_ANON_VMA];
        INDEX(p) = index;
        KIND(p) = (KIND(p) & ~0xffffu) | (index >> 32 & 255) | KIND_ANON << 12;
        if (!(m->page_class[p] & PAGE_USED)) m->sc[SC_NOW_NS] += m->cost[COST_HOST_FAULT];
        m->page_class[p] = CLASS_ZERO | PAGE_USED;
        m->sc[SC_NOW_NS] += m->cost[COST_ZERO_PAGE];
        MM(mm)[MM_RSS_ANON]++;
        m->vmstat[ZONE(FLAGS(p) >> ZONE_SHIFT)[Z_NODE] * VMSTAT_STRIDE + V_NR_ANON_PAGES]++;
        batch[++batch[0]] = p;
        if (batch[0] == PAGEVEC_SIZE) lru_add_drain(m, batch);
        m->pt[slot] = p << PTE_SHIFT | PTE_PRESENT | PTE_ACCESSED | PTE_DIRTY | PTE_WRITE;
        m->sc[SC_IN_LRU_FAULT] = 0;
        m->task[task * TASK_STRIDE + (m->vmstat[V_PGMAJFAULT] > major ? T_MAJ_FLT : T_MIN_FLT)]++;
        if (m->task[task * TASK_STRIDE + T_OVER_HIGH] > 0 || m->wb[WB_BALANCE] || m->sc[SC_OOM_VICTIM] >= 0 || m->sc[SC_PANIC]) return i + 1;
        if (m->sc[SC_NOW_NS] >= m->sc[SC_NEXT_EVENT_NS]) return i + 1;
    }
    return count;
}
