/* Each warning comes with what it is about, goes with it, and says what to do. */
#include "tests/unit/daemon/test_admin_fixture.h"

#include <string.h>

#include "daemon/admin/health.h"

#define GIB (UINT64_C(1) << 30)

/* A daemon that has nothing to complain of. */
static struct admin_health well(struct fixture *fixture)
{
    fixture->context.config.max_connections = fixture->context.given.max_connections;
    return (struct admin_health){
        .context = &fixture->context,
        .space = {.file_bytes = GIB, .map_bytes = 64 * GIB, .disk_free = 64 * GIB},
        .loops = 2,
        .responding = 2,
    };
}

static void assert_only(const struct admin_health *health, const char *reason, const char *says)
{
    for (int i = 0; i < ADMIN_WARNING_COUNT; i++) {
        char sentence[ADMIN_WARNING_SIZE];
        const char *name = admin_warning_name((enum admin_warning)i);
        bool warns = admin_health_warns(health, (enum admin_warning)i, sentence);
        if (warns != (reason != NULL && strcmp(name, reason) == 0)) {
            fail_msg("%s: %s", name, sentence);
        }
        if (warns && strstr(sentence, says) == NULL) {
            fail_msg("%s does not say %s", sentence, says);
        }
    }
}

static void a_clock_that_jumps(void **state)
{
    struct fixture *fixture = *state;
    struct admin_health health = well(fixture);
    uint64_t base = cap_store_clock(fixture->context.store) * 1000000;
    fixture->passed_us = base + 55000000 - FIXTURE_NOW_US;
    assert_only(&health, NULL, "");
    fixture->passed_us = base + 90000000 - FIXTURE_NOW_US;
    assert_only(&health, "clock_differs", "ahead of the daemon's");
    fixture->passed_us = base - 90000000 - FIXTURE_NOW_US;
    assert_only(&health, "clock_differs", "behind the store's");
}

static void room_that_runs_short(void **state)
{
    struct fixture *fixture = *state;
    struct admin_health health = well(fixture);
    fixture->passed_us = cap_store_clock(fixture->context.store) * 1000000 - FIXTURE_NOW_US;
    fixture->context.config.disk_reserve = GIB;
    assert_only(&health, NULL, "");
    health.space.disk_free = GIB + (8u << 20);
    assert_only(&health, "disk_low", "publications can take 8 MiB more of the disk");
    health.space.disk_free = GIB;
    assert_only(&health, "disk_low", "the disk is full: 1024 MiB are free");

    health = well(fixture);
    health.space.map_bytes = GIB + GIB / 32;
    assert_only(&health, "map_low", "restart capstored with a larger map-size than 1056 MiB");
    health.space.free_bytes = GIB / 2; /* used again before the file grows */
    assert_only(&health, NULL, "");
}

static void readers_and_threads(void **state)
{
    struct fixture *fixture = *state;
    struct admin_health health = well(fixture);
    fixture->passed_us = cap_store_clock(fixture->context.store) * 1000000 - FIXTURE_NOW_US;
    health.space.oldest_reader_us = 121000000;
    assert_only(&health, "old_snapshot", "gone on for 121 s");
    health = well(fixture);
    health.space.foreign_pid = 4711;
    assert_only(&health, "foreign_reader", "process 4711");
    health = well(fixture);
    health.responding = 1;
    assert_only(&health, "threads_stuck", "1 of 2 threads");
    health = well(fixture);
    fixture->context.config.max_connections = 10;
    assert_only(&health, "too_few_file_descriptors", "10 clients are served instead of 1024");
}

static void slow_clients_of_late(void **state)
{
    struct fixture *fixture = *state;
    struct admin_health health = well(fixture);
    fixture->passed_us = cap_store_clock(fixture->context.store) * 1000000 - FIXTURE_NOW_US;
    uint64_t now = FIXTURE_NOW_US + fixture->passed_us;
    struct refusal refusal = {
        .time_us = now, .peer = "unix:uid=7,pid=8", .error = CAP_E_TOO_MANY_HASHES};
    refusals_add(&fixture->context.refusals, &refusal);
    assert_only(&health, NULL, "");
    refusal.error = CAP_E_PROGRESS_TIMEOUT;
    refusal.time_us = now - 601000000;
    refusals_add(&fixture->context.refusals, &refusal);
    assert_only(&health, NULL, "");
    refusal.time_us = now - 1;
    refusals_add(&fixture->context.refusals, &refusal);
    assert_only(&health, "slow_clients", "client did not keep up: 1, the last of unix:uid=7");
}

/* Each state has its own word, for what is to be done differs. */
static void the_daemon_above(void **state)
{
    char address[] = "unix:/above";
    struct fixture *fixture = *state;
    struct admin_health health = well(fixture);
    fixture->passed_us = cap_store_clock(fixture->context.store) * 1000000 - FIXTURE_NOW_US;
    fixture->context.config.upstream = fixture->context.given.upstream = address;
    assert_only(&health, NULL, "");
    health.upstream_away = true;
    assert_only(&health, "upstream_away", "cannot be fetched from unix:/above");
    health = well(fixture);
    health.upstream_broken = true;
    assert_only(&health, "upstream_broken", "what unix:/above answers is wrong");
    fixture->context.config.upstream = fixture->context.given.upstream = NULL;
}

static void the_configuration(void **state)
{
    struct fixture *fixture = *state;
    struct admin_health health = well(fixture);
    fixture->passed_us = cap_store_clock(fixture->context.store) * 1000000 - FIXTURE_NOW_US;
    snprintf(fixture->context.config_problem, CONFIG_REASON_SIZE, "line 3: wrong");
    assert_only(&health, "config_not_reloaded", "line 3: wrong; fix the file");
    fixture->context.config_problem[0] = '\0';
    fixture->context.given.workers = 5;
    fixture->context.given.readers = 5;
    assert_only(&health, "restart_needed", "restart capstored: workers, readers");
    fixture->context.given.max_slots = 5; /* live, and so in use already */
    fixture->context.config.max_slots = 5;
    fixture->context.given.workers = fixture->context.config.workers;
    fixture->context.given.readers = fixture->context.config.readers;
    assert_only(&health, NULL, "");
}

int main(void)
{
#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_FIXTURE(a_clock_that_jumps),  WITH_FIXTURE(room_that_runs_short),
        WITH_FIXTURE(readers_and_threads), WITH_FIXTURE(slow_clients_of_late),
        WITH_FIXTURE(the_daemon_above),    WITH_FIXTURE(the_configuration),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
