/* A library for LD_PRELOAD that lets the n-th call of one kind fail, for files below some folders.

   Kinds of calls are those of KINDS. A call counts if it concerns a path below one of the prefixes,
   by name or by descriptor. In counting mode (nth = 0) nothing fails.

   A process configures it by the environment before it starts:

     INJECTOR_PREFIXES  absolute paths, joined by ':'
     INJECTOR_KIND      the kind that fails
     INJECTOR_NTH       which call fails, from 1; 0: none
     INJECTOR_ERRNO     the error's number; 0: the call does half of its work (read and write)
     INJECTOR_STICKY    1: every later call fails, too
     INJECTOR_STATE     a file that keeps the counters, shared by all processes that inherit it

   or while it runs, by injector_arm(). Counters are shared with processes that are forked later. */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum kind { OPEN, READ, WRITE, FSYNC, RENAME, MMAP, FTRUNCATE, UNLINK, MKDIR, LIST, STAT, LOCK, KINDS };

static const char *const NAMES[KINDS] = {"open",      "read",   "write", "fsync", "rename", "mmap",
                                         "ftruncate", "unlink", "mkdir", "list",  "stat",   "lock"};

struct state {
    atomic_long calls[KINDS];
    atomic_long failed;
    long nth;
    int kind, error, sticky;
    char prefixes[4096];
    char failed_path[PATH_MAX];
};

static struct state *state;

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* --- configuration --- */

long injector_arm(const char *prefixes, const char *kind, long nth, int error, int sticky) {
    int found = -1;
    for (int i = 0; i < KINDS; i++) {
        state->calls[i] = 0;
        if (!strcmp(kind, NAMES[i])) found = i;
    }
    state->failed = 0;
    state->failed_path[0] = 0;
    snprintf(state->prefixes, sizeof state->prefixes, "%s", prefixes);
    state->nth = nth;
    state->error = error;
    state->sticky = sticky;
    state->kind = found;
    return found;
}

long injector_calls(const char *kind) {
    for (int i = 0; i < KINDS; i++)
        if (!strcmp(kind, NAMES[i])) return state->calls[i];
    return -1;
}

long injector_failed(void) { return state->failed; }

const char *injector_failed_path(void) { return state->failed_path; }

static const char *variable(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value ? value : otherwise;
}

__attribute__((constructor)) static void begin(void) {
    const char *shared = getenv("INJECTOR_STATE");
    int descriptor = -1, first = 1;
    if (shared) {
        descriptor = syscall(SYS_openat, AT_FDCWD, shared, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        struct stat facts;
        first = descriptor < 0 || syscall(SYS_fstat, descriptor, &facts) || !facts.st_size;
        if (descriptor >= 0) syscall(SYS_ftruncate, descriptor, sizeof(struct state));
    }
    int flags = descriptor < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED;
    state = (void *)syscall(SYS_mmap, NULL, sizeof *state, PROT_READ | PROT_WRITE, flags, descriptor, 0L);
    if (descriptor >= 0) syscall(SYS_close, descriptor);
    if (first)
        injector_arm(variable("INJECTOR_PREFIXES", ""), variable("INJECTOR_KIND", ""),
                     atol(variable("INJECTOR_NTH", "0")), atoi(variable("INJECTOR_ERRNO", "0")),
                     atoi(variable("INJECTOR_STICKY", "0")));
}

/* --- whether a call counts, and whether it fails --- */

static int below(const char *path) {
    const char *prefix = state->prefixes;
    while (*prefix) {
        size_t length = strcspn(prefix, ":");
        if (length && !strncmp(path, prefix, length) && (path[length] == '/' || !path[length])) return 1;
        prefix += length + (prefix[length] == ':');
    }
    return 0;
}

static int place_of(int descriptor, char *place) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, place, PATH_MAX - 1);
    if (length < 0) return 0;
    place[length] = 0;
    return place[0] == '/';
}

enum verdict { PASS, FAIL, HALF };

static enum verdict counted(enum kind kind, const char *path) {
    if (!below(path)) return PASS;
    long number = atomic_fetch_add(&state->calls[kind], 1) + 1;
    if ((int)kind != state->kind || !state->nth) return PASS;
    if (state->sticky ? number < state->nth : number != state->nth) return PASS;
    if (!atomic_fetch_add(&state->failed, 1)) snprintf(state->failed_path, PATH_MAX, "%s", path);
    if (!state->error) return HALF;
    errno = state->error;
    return FAIL;
}

static enum verdict counted_at(enum kind kind, int folder, const char *path) {
    char place[2 * PATH_MAX];
    if (!state || !state->prefixes[0] || !path) return PASS;
    if (path[0] == '/') return counted(kind, path);
    if (folder == AT_FDCWD ? !getcwd(place, PATH_MAX) : !place_of(folder, place)) return PASS;
    size_t length = strlen(place);
    snprintf(place + length, PATH_MAX, "/%s", path);
    return counted(kind, place);
}

static enum verdict counted_fd(enum kind kind, int descriptor) {
    char place[PATH_MAX];
    if (!state || !state->prefixes[0] || descriptor < 0 || !place_of(descriptor, place)) return PASS;
    return counted(kind, place);
}

#define FAILS_AT(kind, folder, path) (counted_at(kind, folder, path) == FAIL)
#define FAILS_FD(kind, descriptor) (counted_fd(kind, descriptor) == FAIL)

/* --- the calls --- */

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

#define OPENS(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        MODE(flags) \
        return FAILS_AT(OPEN, AT_FDCWD, path) ? -1 : real(path, flags, mode); \
    }
OPENS(open)
OPENS(open64)

#define OPENS_AT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        REAL(name); \
        MODE(flags) \
        return FAILS_AT(OPEN, folder, path) ? -1 : real(folder, path, flags, mode); \
    }
OPENS_AT(openat)
OPENS_AT(openat64)

#define OPENS_STREAM(name) \
    FILE *name(const char *path, const char *mode) { \
        REAL(name); \
        return FAILS_AT(OPEN, AT_FDCWD, path) ? NULL : real(path, mode); \
    }
OPENS_STREAM(fopen)
OPENS_STREAM(fopen64)

static size_t share(enum verdict verdict, size_t size) { return verdict == HALF && size > 1 ? size / 2 : size; }

#define MOVES(kind, type, name, buffer) \
    ssize_t name(int descriptor, buffer data, size_t size) { \
        REAL(name); \
        enum verdict verdict = counted_fd(kind, descriptor); \
        return verdict == FAIL ? -1 : real(descriptor, data, share(verdict, size)); \
    }
MOVES(READ, ssize_t, read, void *)
MOVES(WRITE, ssize_t, write, const void *)

#define MOVES_AT(kind, name, buffer, offset_type) \
    ssize_t name(int descriptor, buffer data, size_t size, offset_type offset) { \
        REAL(name); \
        enum verdict verdict = counted_fd(kind, descriptor); \
        return verdict == FAIL ? -1 : real(descriptor, data, share(verdict, size), offset); \
    }
MOVES_AT(READ, pread, void *, off_t)
MOVES_AT(READ, pread64, void *, off64_t)
MOVES_AT(WRITE, pwrite, const void *, off_t)
MOVES_AT(WRITE, pwrite64, const void *, off64_t)

#define COPIES(name, offset_type) \
    ssize_t name(int out, int in, offset_type *offset, size_t size) { \
        REAL(name); \
        enum verdict verdict = counted_fd(WRITE, out); \
        return verdict == FAIL ? -1 : real(out, in, offset, share(verdict, size)); \
    }
COPIES(sendfile, off_t)
COPIES(sendfile64, off64_t)

ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags) {
    REAL(copy_file_range);
    enum verdict verdict = counted_fd(WRITE, out);
    return verdict == FAIL ? -1 : real(in, from, out, to, share(verdict, size), flags);
}

int fsync(int descriptor) {
    REAL(fsync);
    return FAILS_FD(FSYNC, descriptor) ? -1 : real(descriptor);
}

int fdatasync(int descriptor) {
    REAL(fdatasync);
    return FAILS_FD(FSYNC, descriptor) ? -1 : real(descriptor);
}

int rename(const char *from, const char *to) {
    REAL(rename);
    return FAILS_AT(RENAME, AT_FDCWD, to) ? -1 : real(from, to);
}

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    REAL(renameat);
    return FAILS_AT(RENAME, to_folder, to) ? -1 : real(from_folder, from, to_folder, to);
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags) {
    REAL(renameat2);
    return FAILS_AT(RENAME, to_folder, to) ? -1 : real(from_folder, from, to_folder, to, flags);
}

#define MAPS(name, offset_type) \
    void *name(void *at, size_t size, int protection, int flags, int descriptor, offset_type offset) { \
        REAL(name); \
        if (!(flags & MAP_ANONYMOUS) && FAILS_FD(MMAP, descriptor)) return MAP_FAILED; \
        return real(at, size, protection, flags, descriptor, offset); \
    }
MAPS(mmap, off_t)
MAPS(mmap64, off64_t)

#define SIZES(name, offset_type) \
    int name(int descriptor, offset_type size) { \
        REAL(name); \
        return FAILS_FD(FTRUNCATE, descriptor) ? -1 : real(descriptor, size); \
    }
SIZES(ftruncate, off_t)
SIZES(ftruncate64, off64_t)

/* These two return the error's number. */
#define ALLOCATES(name, offset_type) \
    int name(int descriptor, offset_type offset, offset_type size) { \
        REAL(name); \
        return FAILS_FD(FTRUNCATE, descriptor) ? errno : real(descriptor, offset, size); \
    }
ALLOCATES(posix_fallocate, off_t)
ALLOCATES(posix_fallocate64, off64_t)

#define NAMED(kind, name) \
    int name(const char *path) { \
        REAL(name); \
        return FAILS_AT(kind, AT_FDCWD, path) ? -1 : real(path); \
    }
NAMED(UNLINK, unlink)
NAMED(UNLINK, rmdir)

int unlinkat(int folder, const char *path, int flags) {
    REAL(unlinkat);
    return FAILS_AT(UNLINK, folder, path) ? -1 : real(folder, path, flags);
}

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    return FAILS_AT(MKDIR, AT_FDCWD, path) ? -1 : real(path, mode);
}

int mkdirat(int folder, const char *path, mode_t mode) {
    REAL(mkdirat);
    return FAILS_AT(MKDIR, folder, path) ? -1 : real(folder, path, mode);
}

DIR *opendir(const char *path) {
    REAL(opendir);
    return FAILS_AT(LIST, AT_FDCWD, path) ? NULL : real(path);
}

DIR *fdopendir(int descriptor) {
    REAL(fdopendir);
    return FAILS_FD(LIST, descriptor) ? NULL : real(descriptor);
}

#define STATS(name, facts_type) \
    int name(const char *path, facts_type *facts) { \
        REAL(name); \
        return FAILS_AT(STAT, AT_FDCWD, path) ? -1 : real(path, facts); \
    }
STATS(stat, struct stat)
STATS(stat64, struct stat64)
STATS(lstat, struct stat)
STATS(lstat64, struct stat64)

#define STATS_FD(name, facts_type) \
    int name(int descriptor, facts_type *facts) { \
        REAL(name); \
        return FAILS_FD(STAT, descriptor) ? -1 : real(descriptor, facts); \
    }
STATS_FD(fstat, struct stat)
STATS_FD(fstat64, struct stat64)

#define STATS_AT(name, facts_type) \
    int name(int folder, const char *path, facts_type *facts, int flags) { \
        REAL(name); \
        return FAILS_AT(STAT, folder, path) ? -1 : real(folder, path, facts, flags); \
    }
STATS_AT(fstatat, struct stat)
STATS_AT(fstatat64, struct stat64)

int flock(int descriptor, int operation) {
    REAL(flock);
    return !(operation & LOCK_UN) && FAILS_FD(LOCK, descriptor) ? -1 : real(descriptor, operation);
}
