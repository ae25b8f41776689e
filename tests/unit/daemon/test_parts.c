/* Small parts of the daemon: ledger, ring of refusals, histograms, times, peers. */
#include "tests/unit/support.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/core/env.h"
#include "daemon/core/ledger.h"
#include "daemon/core/refusals.h"
#include "daemon/core/sd.h"
#include "daemon/core/stats.h"
#include "daemon/net/bind.h"

/* --- The ledger ----------------------------------------------------------------------------------
 */

static struct config limits(void)
{
    struct config config;
    config_init(&config);
    config.max_connections = 3;
    config.max_peer_connections = 2;
    config.max_uploads = 3;
    config.max_spool = 100;
    config.max_peer_spool = 60;
    config.max_memory = 1000;
    return config;
}

static void test_connections_per_peer_and_in_all(void **state)
{
    struct config config = limits();
    struct ledger *ledger = NULL;
    struct ledger_peer *peers[4];
    (void)state;
    assert_cap_ok(ledger_new(&config, &ledger));
    assert_cap_ok(ledger_connect(ledger, "a", &peers[0]));
    assert_cap_ok(ledger_connect(ledger, "a", &peers[1]));
    assert_ptr_equal(peers[0], peers[1]);
    assert_cap_error(ledger_connect(ledger, "a", &peers[2]), CAP_E_TOO_MANY_CONNECTIONS);
    assert_cap_ok(ledger_connect(ledger, "b", &peers[2]));
    assert_cap_error(ledger_connect(ledger, "c", &peers[3]), CAP_E_TOO_MANY_CONNECTIONS);
    ledger_disconnect(ledger, peers[0]);
    assert_cap_ok(ledger_connect(ledger, "c", &peers[3]));
    ledger_disconnect(ledger, peers[1]);
    ledger_disconnect(ledger, peers[2]);
    ledger_disconnect(ledger, peers[3]);
    struct ledger_figures figures;
    ledger_figures(ledger, &figures);
    assert_int_equal(figures.connections, 0);
    ledger_free(ledger);
}

static void test_spool_per_peer_and_in_all(void **state)
{
    struct config config = limits();
    struct ledger *ledger = NULL;
    struct ledger_peer *a;
    struct ledger_peer *b;
    (void)state;
    assert_cap_ok(ledger_new(&config, &ledger));
    assert_cap_ok(ledger_connect(ledger, "a", &a));
    assert_cap_ok(ledger_connect(ledger, "b", &b));
    assert_cap_ok(ledger_upload_begin(ledger, a, 60));
    assert_cap_error(ledger_upload_begin(ledger, a, 1), CAP_E_SPOOL_FULL);
    assert_cap_error(ledger_upload_begin(ledger, b, 41), CAP_E_SPOOL_FULL);
    assert_cap_error(ledger_upload_begin(ledger, b, UINT64_MAX), CAP_E_SPOOL_FULL);
    assert_cap_ok(ledger_upload_begin(ledger, b, 40));
    assert_cap_ok(ledger_upload_begin(ledger, b, 0));
    assert_cap_error(ledger_upload_begin(ledger, b, 0), CAP_E_SPOOL_FULL); /* uploads in all */
    /* An account outlives its connections while uploads hold it. */
    ledger_disconnect(ledger, a);
    ledger_upload_end(ledger, a, 60);
    assert_cap_ok(ledger_upload_begin(ledger, b, 20));
    ledger_upload_end(ledger, b, 20);
    ledger_upload_end(ledger, b, 40);
    ledger_upload_end(ledger, b, 0);
    ledger_disconnect(ledger, b);
    struct ledger_figures figures;
    ledger_figures(ledger, &figures);
    assert_int_equal(figures.spool, 0);
    assert_int_equal(figures.uploads, 0);
    ledger_free(ledger);
}

static void test_memory_is_held_and_given_back(void **state)
{
    struct config config = limits();
    struct ledger *ledger = NULL;
    uint64_t held = 0;
    uint64_t other = 0;
    (void)state;
    assert_cap_ok(ledger_new(&config, &ledger));
    assert_true(ledger_memory_hold(ledger, &held, 900));
    assert_false(ledger_memory_hold(ledger, &other, 101));
    assert_int_equal(other, 0);
    assert_true(ledger_memory_hold(ledger, &other, 100));
    assert_false(ledger_memory_hold(ledger, &held, 901));
    assert_int_equal(held, 900);
    assert_false(ledger_memory_take(ledger, UINT64_MAX));
    assert_true(ledger_memory_hold(ledger, &held, 10));
    assert_true(ledger_memory_hold(ledger, &other, 990));
    assert_true(ledger_memory_hold(ledger, &held, 0));
    assert_true(ledger_memory_hold(ledger, &other, 0));
    struct ledger_figures figures;
    ledger_figures(ledger, &figures);
    assert_int_equal(figures.memory, 0);
    ledger_free(ledger);
}

/* --- Refusals ------------------------------------------------------------------------------------
 */

static void test_ring_keeps_the_newest(void **state)
{
    struct refusals ring;
    struct refusal refusal = {.error = CAP_E_SSZ};
    (void)state;
    assert_cap_ok(refusals_init(&ring, 3));
    assert_false(refusals_before(&ring, UINT64_MAX, &refusal));
    assert_false(refusals_before(&ring, 0, &refusal));
    for (uint64_t i = 1; i <= 5; i++) {
        refusal.time_us = i * 10;
        refusals_add(&ring, &refusal);
    }
    uint64_t before = UINT64_MAX;
    for (uint64_t seq = 5; seq >= 3; seq--) {
        assert_true(refusals_before(&ring, before, &refusal));
        assert_int_equal(refusal.seq, seq);
        assert_int_equal(refusal.time_us, seq * 10);
        before = seq;
    }
    assert_false(refusals_before(&ring, before, &refusal));
    assert_false(refusals_before(&ring, 1, &refusal));
    assert_int_equal(refusals_total(&ring), 5);
    refusals_free(&ring);
}

/* --- Figures and times ---------------------------------------------------------------------------
 */

static void test_histogram(void **state)
{
    struct histogram histogram = {0};
    (void)state;
    histogram_add(&histogram, 0);
    histogram_add(&histogram, 4);
    histogram_add(&histogram, 5);
    histogram_add(&histogram, UINT64_MAX - 9);
    assert_int_equal(histogram.buckets[0], 2);
    assert_int_equal(histogram.buckets[1], 1);
    assert_int_equal(histogram.buckets[STATS_BUCKETS - 1], 1);
    assert_int_equal(histogram.count, 4);
    for (unsigned i = 1; i < STATS_BUCKETS; i++) {
        assert_true(histogram_bound(i) > histogram_bound(i - 1));
    }
    assert_true(histogram_bound(STATS_BUCKETS - 1) == UINT64_MAX);
}

static void test_stats_are_summed(void **state)
{
    static struct stats a;
    static struct stats b;
    size_t count = 0;
    const struct stats_row *rows = stats_counter_rows(&count);
    (void)state;
    for (size_t i = 0; i < count; i++) {
        memcpy((char *)&a + rows[i].offset, &(uint64_t){i + 1}, sizeof(uint64_t));
        memcpy((char *)&b + rows[i].offset, &(uint64_t){1000}, sizeof(uint64_t));
    }
    histogram_add(&a.commit_us, 4);
    histogram_add(&b.commit_us, 5);
    a.errors[3] = 7;
    b.errors[3] = 8;
    b.requests[STATS_TYPES - 1] = 9;
    stats_add(&a, &b);
    for (size_t i = 0; i < count; i++) {
        uint64_t value;
        memcpy(&value, (char *)&a + rows[i].offset, sizeof(value));
        assert_int_equal(value, 1001 + i);
    }
    assert_int_equal(a.commit_us.count, 2);
    assert_int_equal(a.commit_us.sum, 9);
    assert_int_equal(a.commit_us.buckets[1], 1);
    assert_int_equal(a.errors[3], 15);
    assert_int_equal(a.requests[STATS_TYPES - 1], 9);
}

static void test_time_format(void **state)
{
    char text[ENV_TIME_SIZE];
    (void)state;
    env_format_time(0, text);
    assert_string_equal(text, "1970-01-01T00:00:00.000000Z");
    env_format_time(UINT64_C(1767225600123456), text);
    assert_string_equal(text, "2026-01-01T00:00:00.123456Z");
    env_format_time(UINT64_MAX, text); /* must only stay inside of the buffer */
    assert_int_equal(strlen(text), ENV_TIME_SIZE - 1);
}

/* --- Peers ---------------------------------------------------------------------------------------
 */

/* The group and the permissions that a socket gets by itself. */
static const struct bind_access anyhow = {CONFIG_MODE_UMASK, BIND_OWN_GROUP};

static void test_local_peer_is_attested(void **state)
{
    int fds[2];
    struct peer peer;
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_cap_ok(peer_of(fds[0], &peer));
    assert_true(peer.local);
    assert_int_equal(peer.uid, getuid());
    assert_int_equal(peer.gid, getgid());
    assert_int_equal(peer.pid, getpid());
    close(fds[0]);
    close(fds[1]);
    assert_cap_error(peer_of(fds[0], &peer), CAP_E_IO);
}

static void test_tcp_peer_is_nobody(void **state)
{
    struct bound bound;
    struct sockaddr_in address = {0};
    socklen_t len = sizeof(address);
    struct peer peer;
    char reason[CONFIG_REASON_SIZE];
    (void)state;
    assert_cap_ok(bind_address("tcp:127.0.0.1:0", &anyhow, &bound, reason));
    assert_int_equal(getsockname(bound.fd, (struct sockaddr *)&address, &len), 0);
    int client = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_cap_ok(peer_of(client, &peer));
    assert_false(peer.local);
    assert_true(peer.uid == UINT32_MAX && peer.gid == UINT32_MAX);
    assert_string_equal(peer.key, "127.0.0.1");
    assert_int_equal(strncmp(peer.text, "tcp:127.0.0.1:", 14), 0);
    close(client);
    bound_release(&bound, false);
}

/* --- systemd -------------------------------------------------------------------------------------
 */

static void test_inherited_sockets_need_our_pid(void **state)
{
    char pid[24];
    char name[SD_NAME_SIZE];
    (void)state;
    setenv("LISTEN_FDS", "2", 1);
    setenv("LISTEN_FDNAMES", "capstore:admin", 1);
    setenv("LISTEN_PID", "1", 1);
    assert_int_equal(sd_listen_count(), 0);
    snprintf(pid, sizeof(pid), "%ld", (long)getpid());
    setenv("LISTEN_PID", pid, 1);
    assert_int_equal(sd_listen_count(), 2);
    sd_listen_name(0, name);
    assert_string_equal(name, "capstore");
    sd_listen_name(1, name);
    assert_string_equal(name, "admin");
    sd_listen_name(2, name);
    assert_string_equal(name, "");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    unsetenv("LISTEN_PID");
    assert_int_equal(sd_listen_count(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_connections_per_peer_and_in_all),
        cmocka_unit_test(test_spool_per_peer_and_in_all),
        cmocka_unit_test(test_memory_is_held_and_given_back),
        cmocka_unit_test(test_ring_keeps_the_newest),
        cmocka_unit_test(test_histogram),
        cmocka_unit_test(test_stats_are_summed),
        cmocka_unit_test(test_time_format),
        cmocka_unit_test(test_local_peer_is_attested),
        cmocka_unit_test(test_tcp_peer_is_nobody),
        cmocka_unit_test(test_inherited_sockets_need_our_pid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
