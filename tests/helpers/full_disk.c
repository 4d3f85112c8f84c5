/* A disk that is full after a number of bytes: LD_PRELOAD=full_disk.so.

   Counts the bytes that this process writes to files below a folder. Beyond the number given to
   full_disk_after, write, writev, pwrite and posix_fallocate fail with ENOSPC; so do mkdir and
   the creation of files, by absolute paths. full_disk_written returns the count. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static long written, limit = -1;
static char folder[PATH_MAX];

void full_disk_after(long bytes, const char *below) {
    written = 0;
    limit = bytes;
    snprintf(folder, sizeof folder, "%s/", below);
}

long full_disk_written(void) { return written; }

static int is_below(const char *path) { return !strncmp(path, folder, strlen(folder)); }

static int creation_fails(const char *path) {
    if (!folder[0] || limit < 0 || written < limit || !is_below(path) || !access(path, F_OK))
        return 0;
    errno = ENOSPC;
    return 1;
}

static int is_full(int file, long bytes) {
    char link[64], path[PATH_MAX] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    if (!folder[0] || readlink(link, path, sizeof path - 1) < 0 || !is_below(path)) return 0;
    written += bytes;
    if (limit < 0 || written <= limit) return 0;
    errno = ENOSPC;
    return 1;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int file, const void *data, size_t size) {
    return is_full(file, size) ? -1 : NEXT(write)(file, data, size);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
    return is_full(file, size) ? -1 : NEXT(pwrite64)(file, data, size, at);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    long size = 0;
    for (int i = 0; i < count; i++) size += parts[i].iov_len;
    return is_full(file, size) ? -1 : NEXT(writev)(file, parts, count);
}

int posix_fallocate64(int file, off64_t at, off64_t size) {
    return is_full(file, size) ? ENOSPC : NEXT(posix_fallocate64)(file, at, size);
}

int mkdir(const char *path, mode_t mode) {
    return creation_fails(path) ? -1 : NEXT(mkdir)(path, mode);
}

int open64(const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = va_arg(arguments, mode_t);
    va_end(arguments);
    if ((flags & O_CREAT) && creation_fails(path)) return -1;
    return NEXT(open64)(path, flags, mode);
}
