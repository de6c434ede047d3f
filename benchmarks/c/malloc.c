/* glibc's malloc() and free() in the pattern of benchmarks/drivers.py. */
#include <stdint.h>
#include <stdlib.h>

int64_t fill(void **held, const int64_t *sizes, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (!(held[i] = malloc(sizes[i]))) return i;
    return count;
}

int64_t replace(void **held, const int64_t *sizes, const int64_t *picks, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        int64_t p = picks[i];
        free(held[p]);
        if (!(held[p] = malloc(sizes[p]))) return i;
    }
    return count;
}

void release(void **held, int64_t count) {
    for (int64_t i = 0; i < count; i++) free(held[i]);
}
