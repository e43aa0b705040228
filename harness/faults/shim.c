/* Faults on demand, preloaded into a program (LD_PRELOAD): what it writes below a folder is counted, call by call, and
 * at a chosen call it is killed in the midst of the bytes, gets a signal, is stopped, or is told that the disk is full.
 *
 * Armed by `fault_arm`, or by the environment variable FAULT_ARM, "KIND AT VALUE LOG FOLDER", when the program starts.
 * The log gets a line for each call that counts, "WHAT BYTES PATH". Only the process that was armed counts. A kill with
 * a value counts lines on standard error instead.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { NONE, KILL, SIGNAL, FULL, ERROR, READONLY, STOP, CLOCK, MEMORY, FILESIZE };

static int kind, log_file = -1;
static long at, value, count, told; /* calls on files, and lines on standard error */
static pid_t armed;
static char under[PATH_MAX];

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void limit(int resource, rlim_t bytes)
{
    struct rlimit limits;
    getrlimit(resource, &limits);
    limits.rlim_cur = bytes;
    setrlimit(resource, &limits);
}

static rlim_t address_space(void)
{
    char text[64] = "";
    int file = syscall(SYS_openat, AT_FDCWD, "/proc/self/statm", O_RDONLY);
    syscall(SYS_read, file, text, sizeof text - 1);
    syscall(SYS_close, file);
    return strtoul(text, NULL, 10) * (rlim_t)sysconf(_SC_PAGESIZE);
}

void fault_arm(int what, long when, long argument, const char *log, const char *folder)
{
    kind = what, at = when, value = argument, count = told = 0, armed = getpid();
    snprintf(under, sizeof under, "%s", folder);
    int file = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    log_file = fcntl(file, F_DUPFD_CLOEXEC, 200); /* out of the way of numbers that a program counts on */
    syscall(SYS_close, file);
    if (kind == FILESIZE) limit(RLIMIT_FSIZE, value);
}

__attribute__((constructor)) static void arm_from_environment(void)
{
    const char *given = getenv("FAULT_ARM");
    int what, used = 0;
    long when, argument;
    char log[PATH_MAX];
    if (given && sscanf(given, "%d %ld %ld %4095s %n", &what, &when, &argument, log, &used) == 4)
        fault_arm(what, when, argument, log, given + used);
    unsetenv("FAULT_ARM");
}

static int ours(const char *path)
{
    char absolute[2 * PATH_MAX];
    if (armed == 0 || armed != getpid() || path == NULL) return 0;
    if (path[0] != '/') {
        if (!getcwd(absolute, PATH_MAX)) return 0;
        strncat(absolute, "/", sizeof absolute - strlen(absolute) - 1);
        strncat(absolute, path, sizeof absolute - strlen(absolute) - 1);
        path = absolute;
    }
    return strncmp(path, under, strlen(under)) == 0;
}

/* The path of an open file below the folder, NULL for any other; standard error counts as "!". */
static const char *path_of(int file, char *buffer)
{
    char link[64];
    if (armed == 0 || armed != getpid()) return NULL;
    if (file == 2) return "!";
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, buffer, PATH_MAX - 1);
    if (length < 0) return NULL;
    buffer[length] = 0;
    return strncmp(buffer, under, strlen(under)) == 0 ? buffer : NULL;
}

static void die(void) { syscall(SYS_kill, getpid(), SIGKILL); }

/* Counts a call. Returns 0 to let it pass, an errno that it fails with, or -1: do half of it and call `die`. */
static int point(char what, const char *path, size_t bytes)
{
    char line[PATH_MAX + 64];
    long now = what == 't' ? ++told : ++count;
    int length = snprintf(line, sizeof line, "%c %zu %s\n", what, bytes, path);
    syscall(SYS_write, log_file, line, length);
    int here = now == at, since = at > 0 && now >= at, makes = what == 'w' || what == 'c' || what == 'm';
    if (kind == KILL && here && (what == 't') == (value != 0)) return -1;
    if (what == 't') return 0;
    if (kind == SIGNAL && here) syscall(SYS_kill, getpid(), value);
    if (kind == MEMORY && here) limit(RLIMIT_AS, address_space() + value);
    if (kind == STOP && here) syscall(SYS_kill, getpid(), SIGSTOP);
    if (kind == FULL && since && makes) return ENOSPC;
    if (kind == ERROR && here && what != 'u') return value;
    if (kind == READONLY && since && what != 's') return EROFS;
    return 0;
}

static int fails(char what, const char *path)
{
    int saved = errno, verdict = ours(path) ? point(what, path, 0) : 0;
    if (verdict < 0) die();
    errno = verdict ? verdict : saved;
    return verdict;
}

/* ---- bytes. A disk that fills up takes half of what it is given, and then nothing more. */

static int half_of(int verdict, size_t bytes) { return bytes > 1 && (verdict < 0 || (verdict == ENOSPC && count == at)); }

ssize_t write(int file, const void *data, size_t bytes)
{
    char buffer[PATH_MAX];
    const char *path = path_of(file, buffer);
    int verdict = path ? point(file == 2 ? 't' : 'w', path, bytes) : 0;
    if (verdict == 0) return REAL(write)(file, data, bytes);
    ssize_t done = -1;
    if (file == 2) REAL(write)(file, data, bytes);
    else if (half_of(verdict, bytes)) done = REAL(write)(file, data, bytes / 2);
    if (verdict < 0) die();
    errno = verdict;
    return done;
}

static ssize_t placed(int file, const void *data, size_t bytes, off64_t place)
{
    char buffer[PATH_MAX];
    const char *path = path_of(file, buffer);
    int verdict = path ? point('w', path, bytes) : 0;
    if (verdict == 0) return REAL(pwrite64)(file, data, bytes, place);
    ssize_t done = half_of(verdict, bytes) ? REAL(pwrite64)(file, data, bytes / 2, place) : -1;
    if (verdict < 0) die();
    errno = verdict;
    return done;
}

ssize_t pwrite(int file, const void *data, size_t bytes, off_t place) { return placed(file, data, bytes, place); }
ssize_t pwrite64(int file, const void *data, size_t bytes, off64_t place) { return placed(file, data, bytes, place); }

ssize_t writev(int file, const struct iovec *parts, int number)
{
    char buffer[PATH_MAX];
    if (number < 1 || !path_of(file, buffer)) return REAL(writev)(file, parts, number);
    return write(file, parts[0].iov_base, parts[0].iov_len); /* fewer bytes than asked for, as is allowed */
}

static ssize_t copied(int to, int from, off64_t *place, size_t bytes)
{
    char buffer[PATH_MAX];
    const char *path = path_of(to, buffer);
    int verdict = path && to != 2 ? point('w', path, bytes) : 0;
    if (verdict == 0) return REAL(sendfile64)(to, from, place, bytes);
    struct stat status;
    ssize_t done = -1;
    if (half_of(verdict, bytes) && fstat(from, &status) == 0)
        done = REAL(sendfile64)(to, from, place, status.st_size / 2 + 1);
    if (verdict < 0) die();
    errno = verdict;
    return done;
}

ssize_t sendfile(int to, int from, off_t *place, size_t bytes) { return copied(to, from, place, bytes); }
ssize_t sendfile64(int to, int from, off64_t *place, size_t bytes) { return copied(to, from, place, bytes); }

static int refused(char what, int file)
{
    char buffer[PATH_MAX];
    const char *path = path_of(file, buffer);
    int verdict = path && file != 2 ? point(what, path, 0) : 0;
    if (verdict < 0) die();
    if (verdict) errno = verdict;
    return verdict;
}

int ftruncate(int file, off_t length) { return refused('w', file) ? -1 : REAL(ftruncate)(file, length); }
int ftruncate64(int file, off64_t length) { return refused('w', file) ? -1 : REAL(ftruncate64)(file, length); }
int fsync(int file) { return refused('s', file) ? -1 : REAL(fsync)(file); }
int fdatasync(int file) { return refused('s', file) ? -1 : REAL(fdatasync)(file); }

/* ---- names */

#define OPENS(flags) (((flags) & O_CREAT) || ((flags) & O_ACCMODE) != O_RDONLY)
#define MODE(flags)                             \
    mode_t mode = 0;                            \
    if ((flags) & O_CREAT) {                    \
        va_list given;                          \
        va_start(given, flags);                 \
        mode = va_arg(given, mode_t);           \
        va_end(given);                          \
    }

int open(const char *path, int flags, ...)
{
    MODE(flags)
    return OPENS(flags) && fails('c', path) ? -1 : REAL(open)(path, flags, mode);
}
int open64(const char *path, int flags, ...)
{
    MODE(flags)
    return OPENS(flags) && fails('c', path) ? -1 : REAL(open64)(path, flags, mode);
}
int openat(int folder, const char *path, int flags, ...)
{
    MODE(flags)
    return OPENS(flags) && fails('c', path) ? -1 : REAL(openat)(folder, path, flags, mode);
}
int openat64(int folder, const char *path, int flags, ...)
{
    MODE(flags)
    return OPENS(flags) && fails('c', path) ? -1 : REAL(openat64)(folder, path, flags, mode);
}

int rename(const char *from, const char *to) { return fails('r', to) ? -1 : REAL(rename)(from, to); }
int renameat(int a, const char *from, int b, const char *to)
{
    return fails('r', to) ? -1 : REAL(renameat)(a, from, b, to);
}
int renameat2(int a, const char *from, int b, const char *to, unsigned int flags)
{
    return fails('r', to) ? -1 : REAL(renameat2)(a, from, b, to, flags);
}
int mkdir(const char *path, mode_t mode) { return fails('m', path) ? -1 : REAL(mkdir)(path, mode); }
int mkdirat(int folder, const char *path, mode_t mode)
{
    return fails('m', path) ? -1 : REAL(mkdirat)(folder, path, mode);
}
int unlink(const char *path) { return fails('u', path) ? -1 : REAL(unlink)(path); }
int unlinkat(int folder, const char *path, int flags)
{
    return fails('u', path) ? -1 : REAL(unlinkat)(folder, path, flags);
}
int rmdir(const char *path) { return fails('u', path) ? -1 : REAL(rmdir)(path); }

/* ---- the clock on the wall: from the chosen call on it is put back, and on again at the next call */

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (kind == CLOCK && clock == CLOCK_REALTIME && armed == getpid() && at > 0 && count >= at)
        now->tv_sec += (count - at) % 2 ? value : -value;
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec precise;
    (void)zone;
    int result = clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec, now->tv_usec = precise.tv_nsec / 1000;
    return result;
}

time_t time(time_t *now)
{
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (now) *now = precise.tv_sec;
    return precise.tv_sec;
}
