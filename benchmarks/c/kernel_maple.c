/* The kernel's own maple tree in user space: lib/maple_tree.c as it is, over the headers that its own tests use, with a node cache, freeing
   after a grace period and no locks. */
#define CONFIG_64BIT 1
#define fallthrough
#define __init

/* what the headers expect of liburcu */
struct rcu_head {
    struct rcu_head *next;
    void (*func)(struct rcu_head *);
};
void call_rcu(struct rcu_head *head, void (*func)(struct rcu_head *));
#define rcu_dereference(p) (*(volatile __typeof__(p) *)&(p))
#define rcu_assign_pointer(p, v) __atomic_store_n(&(p), v, __ATOMIC_RELEASE)
#define rcu_read_lock() do {} while (0)
#define rcu_read_unlock() do {} while (0)
#define uatomic_inc(p) (++*(p))
#define uatomic_dec(p) (--*(p))
#define uatomic_read(p) (*(p))
#define uatomic_set(p, v) (*(p) = (v))

#include <linux/types.h>
#include <linux/bug.h>
#include <linux/kernel.h>
#include <linux/bitops.h>
#include <linux/gfp.h>
#include <linux/rcupdate.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "lib/maple_tree.c"

/* Nodes: one free list, refilled by huge pages, which is what the kernel's own memory is mapped by. */
#define HUGE_PAGE (2ul << 20)
struct kmem_cache {
    size_t size;
    void **free;
};

struct kmem_cache *kmem_cache_create(const char *name, unsigned int size, unsigned int align, unsigned int flags, void (*ctor)(void *)) {
    struct kmem_cache *cache = calloc(1, sizeof *cache);
    cache->size = size;
    return cache;
}

void *kmem_cache_alloc_lru(struct kmem_cache *cache, struct list_lru *lru, int gfp) {
    void **object = cache->free;
    if (!object) {
        char *memory = aligned_alloc(HUGE_PAGE, HUGE_PAGE);
        madvise(memory, HUGE_PAGE, MADV_HUGEPAGE);
        for (size_t at = 0; at + cache->size <= HUGE_PAGE; at += cache->size) {
            object = (void **)(memory + at);
            *object = cache->free;
            cache->free = object;
        }
    }
    cache->free = *object;
    if (gfp & __GFP_ZERO) memset(object, 0, cache->size);
    return object;
}

void kmem_cache_free(struct kmem_cache *cache, void *object) {
    *(void **)object = cache->free;
    cache->free = object;
}

int kmem_cache_alloc_bulk(struct kmem_cache *cache, gfp_t gfp, size_t count, void **objects) {
    for (size_t i = 0; i < count; i++) objects[i] = kmem_cache_alloc_lru(cache, NULL, gfp);
    return count;
}

void kmem_cache_free_bulk(struct kmem_cache *cache, size_t count, void **objects) {
    for (size_t i = 0; i < count; i++) kmem_cache_free(cache, objects[i]);
}

static struct rcu_head *waiting;
static int nr_waiting;

/* A grace period ends with every 256th node. */
void call_rcu(struct rcu_head *head, void (*func)(struct rcu_head *)) {
    head->next = waiting;
    head->func = func;
    waiting = head;
    if (++nr_waiting < 256) return;
    nr_waiting = 0;
    while (waiting) {
        struct rcu_head *next = waiting->next;
        waiting->func(waiting);
        waiting = next;
    }
}

int preempt_count, kmalloc_verbose, test_verbose;
int lockdep_is_held(const void *lock) { return 1; }

/* A VMA: as large as the kernel's. */
struct range {
    int64_t start, end;
    char rest[160];
};

static struct maple_tree tree;
static struct range *ranges;

/* Make the tree: [starts[i], ends[i]) for each i, one after the other. 0, or an error. */
int64_t tree_fill(const int64_t *starts, const int64_t *ends, int64_t count) {
    if (!maple_node_cache) maple_tree_init();
    mt_init_flags(&tree, MT_FLAGS_ALLOC_RANGE | MT_FLAGS_USE_RCU | MT_FLAGS_LOCK_EXTERN);
    ranges = calloc(count, sizeof *ranges);
    for (int64_t i = 0; i < count; i++) {
        MA_STATE(mas, &tree, starts[i], ends[i] - 1);
        ranges[i].start = starts[i];
        ranges[i].end = ends[i];
        if (mas_store_gfp(&mas, &ranges[i], GFP_KERNEL)) return -1;
    }
    return 0;
}

void tree_empty(void) {
    __mt_destroy(&tree);
    free(ranges);
}

/* Sum of the numbers of the ranges found at the addresses. */
int64_t tree_find_all(const int64_t *addresses, int64_t nr) {
    int64_t total = 0;
    for (int64_t i = 0; i < nr; i++) total += (struct range *)mtree_load(&tree, addresses[i]) - ranges;
    return total;
}

/* Erase and store again each of the ranges picked: how many there were. */
int64_t tree_replace_all(const int64_t *picks, int64_t nr) {
    for (int64_t i = 0; i < nr; i++) {
        struct range *range = &ranges[picks[i]];
        MA_STATE(mas, &tree, range->start, range->start);
        if (mas_erase(&mas) != range) return i;
        mas_set_range(&mas, range->start, range->end - 1);
        if (mas_store_gfp(&mas, range, GFP_KERNEL)) return i;
    }
    return nr;
}
