/* What the kernel under this process does with its memory. Every function returns the CPU nanoseconds that its measured part took, or -1. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096l

static int64_t cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec * 1000000000l + now.tv_nsec;
}

static int64_t faults_so_far(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt;
}

static volatile char *small_pages(int64_t pages) {
    char *memory = mmap(0, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return 0;
    madvise(memory, pages * PAGE, MADV_NOHUGEPAGE);
    return memory;
}

static int64_t touch(volatile char *memory, int64_t pages, int write) {
    int64_t begin = cpu_ns(), before = faults_so_far();
    for (int64_t i = 0; i < pages; i++) {
        if (write) memory[i * PAGE] = 1;
        else (void)memory[i * PAGE];
    }
    return faults_so_far() - before >= pages ? cpu_ns() - begin : -1;
}

/* First touches, by writing or reading. */
int64_t first_touch(int64_t pages, int64_t write) {
    volatile char *memory = small_pages(pages);
    if (!memory) return -1;
    int64_t ns = touch(memory, pages, write);
    munmap((void *)memory, pages * PAGE);
    return ns;
}

/* Writes to pages that a child shares. */
int64_t cow(int64_t pages) {
    volatile char *memory = small_pages(pages);
    if (!memory) return -1;
    touch(memory, pages, 1);
    pid_t child = fork();
    if (child < 0) return -1;
    if (child == 0) {
        pause();
        _exit(0);
    }
    int64_t ns = touch(memory, pages, 1);
    kill(child, SIGKILL);
    waitpid(child, 0, 0);
    munmap((void *)memory, pages * PAGE);
    return ns;
}

/* One-page mappings, two pages apart, at the slots 0 to vmas - 1; then the slots picked are unmapped and mapped again. */
int64_t map_pairs(int64_t vmas, const int64_t *picks, int64_t count) {
    char *base = mmap(0, 2 * vmas * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    int64_t ns = -1;
    if (base == MAP_FAILED) return -1;
    munmap(base, 2 * vmas * PAGE);
    for (int64_t i = 0; i < vmas; i++) {
        if (mmap(base + 2 * i * PAGE, PAGE, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED) goto out;
    }
    int64_t begin = cpu_ns();
    for (int64_t i = 0; i < count; i++) {
        char *address = base + 2 * picks[i] * PAGE;
        if (munmap(address, PAGE) || mmap(address, PAGE, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED) goto out;
    }
    ns = cpu_ns() - begin;
out:
    munmap(base, 2 * vmas * PAGE);
    return ns;
}
