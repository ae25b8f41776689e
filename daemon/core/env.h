/*
 * The outside world: clock, random bytes, disk space, pages of files in memory.
 *
 * The daemon asks for them only here, through a table that a test can replace to hold them still.
 * Any thread.
 */
#ifndef DAEMON_CORE_ENV_H
#define DAEMON_CORE_ENV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/cap/error.h"

struct env {
    /* Microseconds since some point in the past; never goes back. */
    uint64_t (*monotonic_us)(void *ctx);
    /* Microseconds since 1970, UTC. */
    uint64_t (*real_us)(void *ctx);
    /* Fills `dst` with random bytes. CAP_E_IO. */
    enum cap_error (*random)(void *ctx, void *dst, size_t len);
    /* Bytes that we may still write to the file system that holds `path`. CAP_E_IO. */
    enum cap_error (*disk_free)(void *ctx, const char *path, uint64_t *ret_bytes);
    /*
     * Whether reading these bytes, of a mapped file, would wait for no device. True where the
     * system does not tell. Never blocks.
     */
    bool (*resident)(void *ctx, const void *addr, size_t len);
    /*
     * Reads these bytes of a mapped file into memory; blocks. CAP_E_IO: the device cannot. Where
     * the system has no call for it (Linux before 5.14) nothing is read: the first load waits.
     */
    enum cap_error (*populate)(void *ctx, const void *addr, size_t len);
    void *ctx;
};

/* The real world. Static. */
const struct env *env_system(void);

static inline uint64_t env_monotonic_us(const struct env *env)
{
    return env->monotonic_us(env->ctx);
}

static inline uint64_t env_real_us(const struct env *env)
{
    return env->real_us(env->ctx);
}

#define ENV_TIME_SIZE 28

/* RFC 3339 in UTC with microseconds, "2026-01-31T12:00:00.123456Z", and a NUL. */
void env_format_time(uint64_t real_us, char ret_text[ENV_TIME_SIZE]);

#endif
