/* Small parts of the daemon: ring of refusals, histograms, times, peers. */
#include "tests/unit/support.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/core/env.h"
#include "daemon/core/peer.h"
#include "daemon/core/refusals.h"
#include "daemon/core/sd.h"
#include "daemon/core/stats.h"
#include "daemon/net/bind.h"

/* --- Refusals ------------------------------------------------------------------------------- */

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

/* --- Figures and times ---------------------------------------------------------------------- */

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
    env_format_time(UINT64_MAX, text); /* must only stay within the buffer */
    assert_int_equal(strlen(text), ENV_TIME_SIZE - 1);
}

/* --- Peers ---------------------------------------------------------------------------------- */

/* The group and the permissions that a socket gets by itself. */
static const struct bind_access anyhow = {CONFIG_MODE_UMASK, BIND_OWN_GROUP};

static void test_local_peer_is_attested(void **state)
{
    int fds[2];
    struct peer peer;
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_cap_ok(peer_of(fds[0], 64, &peer));
    assert_true(peer.local);
    assert_true(peer_is_own(&peer));
    struct peer other = peer;
    other.uid = geteuid() + 1;
    assert_false(peer_is_own(&other));
    assert_int_equal(peer.uid, getuid());
    assert_int_equal(peer.gid, getgid());
    assert_int_equal(peer.pid, getpid());
    close(fds[0]);
    close(fds[1]);
    assert_cap_error(peer_of(fds[0], 64, &peer), CAP_E_IO);
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
    assert_cap_ok(peer_of(client, 64, &peer));
    assert_false(peer.local);
    assert_false(peer_is_own(&peer));
    assert_true(peer.uid == UINT32_MAX && peer.gid == UINT32_MAX);
    assert_string_equal(peer.key, "127.0.0.1");
    assert_int_equal(strncmp(peer.text, "tcp:127.0.0.1:", 14), 0);
    close(client);
    bound_release(&bound);
}

/* --- systemd -------------------------------------------------------------------------------- */

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
