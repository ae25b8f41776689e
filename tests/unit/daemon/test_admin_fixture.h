/*
 * A daemon without its insides, for tests of the admin socket: a loop, a memory store with a few
 * caps in it, a clock that moves when a test moves it, figures that a test sets.
 *
 * The fixture defines admin_gauges and hub_clients itself, so that the rooms behind them stay out.
 */
#ifndef TESTS_UNIT_DAEMON_TEST_ADMIN_FIXTURE_H
#define TESTS_UNIT_DAEMON_TEST_ADMIN_FIXTURE_H

#include <stdatomic.h>

#include "tests/unit/support.h"

#include "daemon/admin/methods.h"
#include "daemon/admin/metrics.h"
#include "daemon/upkeep/jobs.h"
#include "daemon/upkeep/scrub.h"
#include "lib/cap/pack.h"

#define FIXTURE_CODE_LEN 10000u
#define FIXTURE_NOW_US   UINT64_C(1767225600123456) /* 2026-01-01T00:00:00.123456Z */

struct fixture {
    struct context context;
    struct shard shard;
    struct hub hub;
    struct hub_set hubs;
    struct admin_rooms rooms;
    struct admin *admin;
    struct env env;
    atomic_uint_fast64_t passed_us; /* since FIXTURE_NOW_US; workers ask, too */
    struct gauges gauges;           /* what admin_gauges answers */
    struct client *clients;         /* what hub_clients answers from; borrowed */
    size_t client_count;
    uv_sem_t job_gate; /* fixture_start_job's waits for it */
    bool job_waits;
    unsigned drains;
    unsigned stops;
    unsigned reloads;
    enum cap_error reload_error; /* what a reload answers */
    int log_fds[2];              /* what is logged can be read from [0] */
    struct cap_hash data;        /* three pages present of eight: 0, 1 and 5 */
    struct cap_hash zero;        /* a Data cap of 2^63 + 4096 zero bytes */
    struct cap_hash inner;       /* a codeless Image without anything */
    struct cap_hash image;       /* names the three above */
};

/* cmocka's setup and teardown: *state is the struct fixture. */
int fixture_setup(void **state);
int fixture_teardown(void **state);

/*
 * Calls a method as a peer of that level, without a socket. `params` is JSON text, NULL for none.
 * A new result, or NULL with *ret_error.
 */
json_t *fixture_call(struct fixture *fixture, enum admin_level level, const char *method,
                     const char *params, struct admin_error *ret_error);

/* As fixture_call as admin; the test fails when the call does. */
json_t *fixture_result(struct fixture *fixture, const char *method, const char *params);

/* Stores what a pack yields, with its data; returns the Image's CapHash. Frees the pack. */
struct cap_hash fixture_publish(struct fixture *fixture, struct cap_pack *pack,
                                struct cap_bytes content);

/* Formats {"hash":"HEX"…rest} into a static buffer. */
const char *fixture_hash_params(const struct cap_hash *hash, const char *rest);

/* What has been logged since the last call, NUL-terminated, in a static buffer. */
const char *fixture_log(struct fixture *fixture);

/*
 * Starts a job, the first of the fixture, which is at 30 of 40 bytes and does not end, though it
 * be cancelled, before fixture_end_job. Again, it does nothing.
 */
void fixture_start_job(struct fixture *fixture);
void fixture_end_job(struct fixture *fixture);

/* Sets a root to the image. */
void fixture_set_root(struct fixture *fixture, const char *name);

/* Runs the loop until nothing is left to do, within a bound. */
void fixture_run_out(struct fixture *fixture);

#endif
