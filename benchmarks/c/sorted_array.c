/* A sorted array of address ranges: find by binary search; erase and insert move what lies above. */
#include <stdint.h>
#include <string.h>

static int64_t position(const int64_t *ends, int64_t count, int64_t address) {
    int64_t low = 0, left = count;
    while (left > 0) {
        int64_t half = left >> 1;
        int beyond = ends[low + half] <= address;
        low = beyond ? low + half + 1 : low;
        left = beyond ? left - half - 1 : half;
    }
    return low;
}

int64_t find_all(const int64_t *ends, const int64_t *ids, int64_t count, const int64_t *addresses, int64_t nr) {
    int64_t total = 0;
    for (int64_t i = 0; i < nr; i++) {
        int64_t at = position(ends, count, addresses[i]);
        total += at < count ? ids[at] : -1;
    }
    return total;
}

/* starts, ends and ids have room for count ranges; each range of `addresses` (its start) is erased and inserted again. */
int64_t replace_all(int64_t *starts, int64_t *ends, int64_t *ids, int64_t count, const int64_t *addresses, int64_t nr) {
    int64_t *arrays[3] = {starts, ends, ids}, kept[3];
    for (int64_t i = 0; i < nr; i++) {
        int64_t at = position(ends, count, addresses[i]);
        for (int k = 0; k < 3; k++) {
            kept[k] = arrays[k][at];
            memmove(arrays[k] + at, arrays[k] + at + 1, (count - 1 - at) * sizeof(int64_t));
        }
        at = position(ends, count - 1, kept[0]);
        for (int k = 0; k < 3; k++) {
            memmove(arrays[k] + at + 1, arrays[k] + at, (count - 1 - at) * sizeof(int64_t));
            arrays[k][at] = kept[k];
        }
    }
    return nr;
}
