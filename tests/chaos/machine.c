/* A wall clock that the chaos suite can step and a disk that it can fill, preloaded into processes.
 *
 * CHAOS_MACHINE names a file of two numbers of 8 bytes in the machine's order. The first is an offset
 * of the wall clock in seconds: the monotonic clock, sleeps and time limits of the kernel stay real,
 * as they do when somebody sets a machine's clock. While the second is not 0, nothing can be written
 * to files, but for the process's own standard streams.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static volatile struct { int64_t offset, full; } *machine;

__attribute__((constructor)) static void map_machine(void) {
    const char *path = getenv("CHAOS_MACHINE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *page = mmap(NULL, sizeof *machine, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (page != MAP_FAILED) machine = page;
}

/* Whether writing to `file` fails for want of room; says so in errno. */
static int no_room(int file) {
    struct stat what;
    if (!machine || !machine->full || file <= STDERR_FILENO) return 0;
    if (fstat(file, &what) || !S_ISREG(what.st_mode)) return 0;
    errno = ENOSPC;
    return 1;
}

ssize_t write(int file, const void *bytes, size_t count) {
    return no_room(file) ? -1 : syscall(SYS_write, file, bytes, count);
}

ssize_t writev(int file, const struct iovec *pieces, int count) {
    return no_room(file) ? -1 : syscall(SYS_writev, file, pieces, count);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && machine && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += machine->offset;
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec exact;
    if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (now) *now = exact.tv_sec;
    return exact.tv_sec;
}
