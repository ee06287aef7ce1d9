/* Makes the n-th call fail that changes or syncs a file, for files whose path holds a word. Loaded before libc by the
   tests of the store (LD_PRELOAD); armed by them through fault(). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static char word[256];
static long calls, first, last;
static int failure, wal_unsynced;

/* From the at-th call on (1 is the next), as many calls as `times` fail with an errno; SIGKILL to the process where it is
   −1. `at` 0: none fails, the calls are counted. */
void fault(const char *part, long at, long times, int error) {
    snprintf(word, sizeof word, "%s", part);
    calls = 0, first = at, last = at + times - 1, failure = error;
}
long fault_calls(void) { return calls; }
/* Whether the write-ahead log was written to after its last sync that succeeded. */
int fault_unsynced(void) { return wal_unsynced; }

static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
    return word[0] && strstr(path, word) && !strstr(path, "-shm");
}
enum kind { SYNC, WRITE, CUT };
/* 0: go on; 1: fail, errno is set; 2: write a part, then fail. */
static int met(int fd, enum kind kind) {
    int writes = kind == WRITE;
    char path[PATH_MAX];
    if (!path_of(fd, path)) return 0;
    calls++;
    int wal = strstr(path, "-wal") != NULL;
    if (first && calls >= first && calls <= last) {
        if (writes && wal) wal_unsynced = 1;
        if (failure < 0) {
            if (!writes) kill(getpid(), SIGKILL);
            return 2;
        }
        errno = failure;
        return failure == ENOSPC && writes ? 2 : 1;
    }
    if (wal) wal_unsynced = kind != SYNC;
    return 0;
}
/* A full disk takes what there is room for; a dying process has written a part. */
#define TORN(real, fd, data, size, ...)                                   \
    do {                                                                  \
        ssize_t part = real(fd, data, (size) / 3, ##__VA_ARGS__);         \
        if (failure < 0) kill(getpid(), SIGKILL);                         \
        if (part > 0) return part;                                        \
        errno = failure;                                                  \
        return -1;                                                        \
    } while (0)
#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write);
    int how = met(fd, WRITE);
    if (how == 1) return -1;
    if (how == 2) TORN(real, fd, data, size);
    return real(fd, data, size);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    REAL(pwrite);
    int how = met(fd, WRITE);
    if (how == 1) return -1;
    if (how == 2) TORN(real, fd, data, size, at);
    return real(fd, data, size, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    REAL(pwrite64);
    int how = met(fd, WRITE);
    if (how == 1) return -1;
    if (how == 2) TORN(real, fd, data, size, at);
    return real(fd, data, size, at);
}
int ftruncate(int fd, off_t size) { REAL(ftruncate); return met(fd, CUT) ? -1 : real(fd, size); }
int ftruncate64(int fd, off64_t size) { REAL(ftruncate64); return met(fd, CUT) ? -1 : real(fd, size); }
int fsync(int fd) { REAL(fsync); return met(fd, SYNC) ? -1 : real(fd); }
int fdatasync(int fd) { REAL(fdatasync); return met(fd, SYNC) ? -1 : real(fd); }
