/* The real clock, random bytes, disk and page cache: only this file asks the system for them. */
#include "daemon/core/env.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "daemon/core/oserror.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

#define RESIDENT_PAGES 128u /* asked for at once: a window of the store's takes half of it */

static uint64_t clock_us(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static uint64_t system_monotonic_us(void *ctx)
{
    (void)ctx;
    return clock_us(CLOCK_MONOTONIC);
}

static uint64_t system_real_us(void *ctx)
{
    (void)ctx;
    return clock_us(CLOCK_REALTIME);
}

static enum cap_error system_random(void *ctx, void *dst, size_t len)
{
    (void)ctx;
    uint8_t *at = dst;
    while (len > 0) {
        ssize_t n = getrandom(at, len, 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return error_of_errno(errno);
        }
        at += n;
        len -= (size_t)n;
    }
    return CAP_OK;
}

static enum cap_error system_disk_free(void *ctx, const char *path, uint64_t *ret_bytes)
{
    (void)ctx;
    struct statvfs fs;
    if (statvfs(path, &fs) != 0) {
        return error_of_errno(errno);
    }
    *ret_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    return CAP_OK;
}

static uintptr_t page_size(void)
{
    return (uintptr_t)sysconf(_SC_PAGESIZE);
}

static bool system_resident(void *ctx, const void *addr, size_t len)
{
    (void)ctx;
    unsigned char pages[RESIDENT_PAGES];
    uintptr_t page = page_size();
    uintptr_t at = (uintptr_t)addr & ~(page - 1);
    uintptr_t end = (uintptr_t)addr + len;
    while (at < end) {
        size_t count = (end - at + page - 1) / page;
        count = count < RESIDENT_PAGES ? count : RESIDENT_PAGES;
        if (mincore((void *)at, count * page, pages) != 0) {
            return true;
        }
        for (size_t i = 0; i < count; i++) {
            if ((pages[i] & 1) == 0) {
                return false;
            }
        }
        at += count * page;
    }
    return true;
}

static enum cap_error system_populate(void *ctx, const void *addr, size_t len)
{
    (void)ctx;
    uintptr_t page = page_size();
    uintptr_t start = (uintptr_t)addr & ~(page - 1);
    if (len == 0 ||
        madvise((void *)start, (uintptr_t)addr + len - start, MADV_POPULATE_READ) == 0) {
        return CAP_OK;
    }
    return errno == EINVAL ? CAP_OK : CAP_E_IO; /* a kernel before 5.14: see env.h */
}

const struct env *env_system(void)
{
    static const struct env env = {
        .monotonic_us = system_monotonic_us,
        .real_us = system_real_us,
        .random = system_random,
        .disk_free = system_disk_free,
        .resident = system_resident,
        .populate = system_populate,
    };
    return &env;
}

void env_format_time(uint64_t real_us, char ret_text[ENV_TIME_SIZE])
{
    time_t seconds = (time_t)(real_us / 1000000u);
    struct tm tm;
    char text[64];
    if (gmtime_r(&seconds, &tm) == NULL || tm.tm_year > 8099) {
        memset(&tm, 0, sizeof(tm));
    }
    size_t n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text + n, sizeof(text) - n, ".%06uZ", (unsigned)(real_us % 1000000u));
    memcpy(ret_text, text, ENV_TIME_SIZE);
    ret_text[ENV_TIME_SIZE - 1] = '\0';
}
