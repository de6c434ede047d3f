/* The hit path in C over the simulator's own arrays: four loads through the page tables, accessed and dirty bits, a clock. */
#include <stdint.h>

int64_t hit(int64_t *pt, uint64_t root, const int64_t *words, uint64_t n, int64_t hit_ns, int64_t next_event) {
    int64_t now = 0;
    for (uint64_t i = 0; i < n; i++) {
        int64_t word = words[i], vpn = word >> 16, write = word & 1;
        int64_t need = 1 | write << 1;
        int64_t e = pt[root + ((vpn >> 27) & 511)];
        if (!e) return -1;
        e = pt[(uint64_t)((e >> 12) * 512 + ((vpn >> 18) & 511))];
        if (!e) return -1;
        uint64_t slot = (e >> 12) * 512 + ((vpn >> 9) & 511);
        e = pt[slot];
        if (e && !(e & 16)) {
            slot = (e >> 12) * 512 + (vpn & 511);
            e = pt[slot];
        }
        if ((e & need) != need) return -1;
        int64_t new = e | 4 | write << 3;
        if (new != e) pt[slot] = new;
        now += hit_ns;
        if (now >= next_event) return i;
    }
    return now;
}
