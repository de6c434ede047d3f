/* First-touch faults of the kernel under this process: 16 MiB mapped, touched and unmapped over and over, so that its per-CPU lists are warm. */
#define _GNU_SOURCE
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>

static int64_t faults_so_far(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt;
}

/* Touch at least `pages` pages. Returns the faults that took. */
int64_t kernel_faults(int64_t pages) {
    const int64_t chunk = 4096;
    int64_t before = faults_so_far();
    for (int64_t done = 0; done < pages; done += chunk) {
        char *memory = mmap(0, chunk << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) return -1;
        madvise(memory, chunk << 12, MADV_NOHUGEPAGE);
        for (int64_t i = 0; i < chunk; i++) memory[i << 12] = 1;
        munmap(memory, chunk << 12);
    }
    return faults_so_far() - before;
}
