/* Writes down what a process does to the files of one directory, so that a test can work out what a power cut leaves.
 *
 * Loaded with LD_PRELOAD. POWER_CUT_DIRECTORY names the directory (absolute, without links in it), POWER_CUT_TRACE the
 * file that takes the trace. Every call is passed on to the system; one that succeeded is appended to the trace as
 *
 *     operation (1) number (8) name length (4) data length (4) name data        integers in the machine's order
 *
 *     C name              created              W name number data   written at an offset
 *     T name number       cut or grown to      S name               synced (file, or "" for the directory itself)
 *     R name data         renamed to data      U name               removed
 *
 * Names are relative to the directory. Shared memory (-shm) is left out: SQLite rebuilds it. The process acknowledges
 * commits by writing to its standard output; such a write becomes A with the data.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST_FILES 1024

static char *names[MOST_FILES]; /* of open files in the directory, by descriptor */
static int trace = -1;
static const char *directory;
static size_t directory_length;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(type, name, ...)                                   \
    static type (*real)(__VA_ARGS__);                           \
    if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static void give_up(const char *what) {
    dprintf(2, "power_cut: %s\n", what);
    _exit(99);
}

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("POWER_CUT_TRACE");
    directory = getenv("POWER_CUT_DIRECTORY");
    if (!path || !directory) return;
    directory_length = strlen(directory);
    REAL(int, open64, const char *, int, ...);
    trace = real(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (trace < 0) give_up("no trace file");
}

/* The name relative to the directory, NULL for what lies elsewhere or is not recorded. Caller frees. */
static char *relative(const char *path) {
    if (trace < 0 || !path) return NULL;
    char absolute[PATH_MAX];
    if (path[0] != '/') {
        if (!getcwd(absolute, sizeof absolute)) return NULL;
        size_t used = strlen(absolute);
        if (snprintf(absolute + used, sizeof absolute - used, "/%s", path) >= (int)(sizeof absolute - used)) return NULL;
        path = absolute;
    }
    if (strncmp(path, directory, directory_length) != 0) return NULL;
    const char *rest = path + directory_length;
    if (*rest != '/' && *rest != 0) return NULL;
    while (*rest == '/') rest++;
    size_t length = strlen(rest);
    if (length >= 4 && strcmp(rest + length - 4, "-shm") == 0) return NULL;
    return strdup(rest);
}

static void record(char operation, const char *name, uint64_t number, const void *data, size_t length) {
    uint32_t name_length = (uint32_t)strlen(name), data_length = (uint32_t)length;
    struct iovec parts[] = {{&operation, 1},       {&number, 8},
                            {&name_length, 4},     {&data_length, 4},
                            {(void *)name, name_length}, {(void *)data, length}};
    ssize_t expected = (ssize_t)(17 + name_length + length);
    pthread_mutex_lock(&lock);
    ssize_t done = writev(trace, parts, 6);
    pthread_mutex_unlock(&lock);
    if (done != expected) give_up("the trace cannot be written");
}

static const char *name_of(int file) {
    return file >= 0 && file < MOST_FILES ? names[file] : NULL;
}

static int opened(int file, const char *path, int flags, int existed) {
    if (file < 0) return file;
    char *name = relative(path);
    if (!name) return file;
    if (file >= MOST_FILES) give_up("too many files");
    free(names[file]);
    names[file] = name;
    if (!existed && (flags & O_CREAT)) record('C', name, 0, "", 0);
    else if (flags & O_TRUNC) record('T', name, 0, "", 0);
    return file;
}

static int exists(const char *path) {
    struct stat status;
    return stat(path, &status) == 0;
}

#define OPEN(name)                                              \
    int name(const char *path, int flags, ...) {                \
        va_list rest;                                           \
        va_start(rest, flags);                                  \
        mode_t mode = va_arg(rest, mode_t);                     \
        va_end(rest);                                           \
        REAL(int, name, const char *, int, ...);                \
        int existed = exists(path);                             \
        return opened(real(path, flags, mode), path, flags, existed); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                            \
    int name(int place, const char *path, int flags, ...) {     \
        va_list rest;                                           \
        va_start(rest, flags);                                  \
        mode_t mode = va_arg(rest, mode_t);                     \
        va_end(rest);                                           \
        REAL(int, name, int, const char *, int, ...);           \
        int existed = exists(path);                             \
        int file = real(place, path, flags, mode);              \
        return place == AT_FDCWD || path[0] == '/' ? opened(file, path, flags, existed) : file; \
    }
OPENAT(openat)
OPENAT(openat64)

int close(int file) {
    REAL(int, close, int);
    if (file >= 0 && file < MOST_FILES && file != trace) {
        free(names[file]);
        names[file] = NULL;
    }
    return real(file);
}

ssize_t write(int file, const void *data, size_t length) {
    REAL(ssize_t, write, int, const void *, size_t);
    const char *name = name_of(file);
    if (!name) {
        ssize_t done = real(file, data, length);
        if (file == 1 && trace >= 0 && done > 0) record('A', "", 0, data, (size_t)done);
        return done;
    }
    ssize_t done = real(file, data, length);
    off_t end = lseek(file, 0, SEEK_CUR);
    if (done > 0) record('W', name, (uint64_t)(end - done), data, (size_t)done);
    return done;
}

#define PWRITE(name, offset_type)                               \
    ssize_t name(int file, const void *data, size_t length, offset_type offset) { \
        REAL(ssize_t, name, int, const void *, size_t, offset_type); \
        ssize_t done = real(file, data, length, offset);        \
        if (done > 0 && name_of(file)) record('W', name_of(file), (uint64_t)offset, data, (size_t)done); \
        return done;                                            \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

/* Not used by what is tested; recording them half would be worse than to stop. */
ssize_t writev(int file, const struct iovec *parts, int count) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    if (name_of(file)) give_up("writev is not recorded");
    return real(file, parts, count);
}

#define FTRUNCATE(name, offset_type)                            \
    int name(int file, offset_type length) {                    \
        REAL(int, name, int, offset_type);                      \
        int result = real(file, length);                        \
        if (result == 0 && name_of(file)) record('T', name_of(file), (uint64_t)length, "", 0); \
        return result;                                          \
    }
FTRUNCATE(ftruncate, off_t)
FTRUNCATE(ftruncate64, off64_t)

#define SYNC(name)                                              \
    int name(int file) {                                        \
        REAL(int, name, int);                                   \
        int result = real(file);                                \
        if (result == 0 && name_of(file)) record('S', name_of(file), 0, "", 0); \
        return result;                                          \
    }
SYNC(fsync)
SYNC(fdatasync)

int rename(const char *from, const char *to) {
    REAL(int, rename, const char *, const char *);
    int result = real(from, to);
    char *old = relative(from), *new = relative(to);
    if (result == 0 && old && new) {
        record('R', old, 0, new, strlen(new));
        for (int file = 0; file < MOST_FILES; file++)
            if (names[file] && strcmp(names[file], old) == 0) {
                free(names[file]);
                names[file] = strdup(new);
            }
    }
    free(old);
    free(new);
    return result;
}

int unlink(const char *path) {
    REAL(int, unlink, const char *);
    int result = real(path);
    char *name = relative(path);
    if (result == 0 && name) record('U', name, 0, "", 0);
    free(name);
    return result;
}
