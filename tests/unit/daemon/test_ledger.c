/* The ledger: totals, shares of peers, floors of fairness between them; and who is one peer. */
#include "tests/unit/support.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "daemon/core/ledger.h"
#include "daemon/core/peer.h"

static struct config limits(void)
{
    struct config config;
    config_init(&config);
    config.max_connections = 3;
    config.max_peer_connections = 2;
    config.max_uploads = 4;
    config.max_peer_uploads = 3;
    config.max_spool = 100;
    config.max_peer_spool = 60;
    config.max_memory = 1000;
    config.max_peer_memory = 600;
    config.max_all_requests = 3;
    config.max_peer_requests = 2;
    return config;
}

static void expect_nothing_held(struct ledger *ledger)
{
    static const struct ledger_figures none;
    struct ledger_figures figures;
    ledger_figures(ledger, &figures);
    assert_memory_equal(&figures, &none, sizeof(figures));
    ledger_free(ledger);
}

static void test_shares_are_a_quarter_unless_configured(void **state)
{
    struct config config;
    (void)state;
    config_init(&config);
    for (enum ledger_kind kind = 0; kind < LEDGER_KINDS; kind++) {
        assert_int_equal(ledger_share(&config, kind), ledger_limit(&config, kind) / 4);
    }
    config.max_uploads = 3;
    assert_int_equal(ledger_share(&config, LEDGER_UPLOADS), 1);
    config.max_peer_uploads = 2;
    assert_int_equal(ledger_share(&config, LEDGER_UPLOADS), 2);
}

static void test_connections(void **state)
{
    struct config config = limits();
    struct ledger *ledger = NULL;
    struct ledger_peer *peers[4];
    (void)state;
    assert_cap_ok(ledger_new(&config, env_system(), &ledger));
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
    expect_nothing_held(ledger);
}

/* Many accounts: each is found again, and none is left when its connection is gone. */
static void test_many_peers(void **state)
{
    enum { PEERS = 10000 };
    static struct ledger_peer *peers[PEERS];
    struct config config = limits();
    struct ledger *ledger = NULL;
    struct ledger_peer *again = NULL;
    char key[32];
    (void)state;
    config.max_connections = PEERS + 1;
    assert_cap_ok(ledger_new(&config, env_system(), &ledger));
    for (int i = 0; i < PEERS; i++) {
        snprintf(key, sizeof(key), "10.0.%d.%d", i / 256, i % 256);
        assert_cap_ok(ledger_connect(ledger, key, &peers[i]));
    }
    for (int i = 0; i < PEERS; i++) {
        snprintf(key, sizeof(key), "10.0.%d.%d", i / 256, i % 256);
        assert_cap_ok(ledger_connect(ledger, key, &again));
        assert_ptr_equal(again, peers[i]);
        ledger_disconnect(ledger, again);
    }
    for (int i = 0; i < PEERS; i++) {
        ledger_disconnect(ledger, peers[i]);
    }
    expect_nothing_held(ledger);
}

static void test_requests(void **state)
{
    struct config config = limits();
    struct ledger *ledger = NULL;
    struct ledger_peer *a;
    struct ledger_peer *b;
    (void)state;
    assert_cap_ok(ledger_new(&config, env_system(), &ledger));
    assert_cap_ok(ledger_connect(ledger, "a", &a));
    assert_cap_ok(ledger_connect(ledger, "b", &b));
    ledger_request_begin(ledger, a);
    assert_true(ledger_may_request(ledger, a));
    ledger_request_begin(ledger, a);
    assert_false(ledger_may_request(ledger, a));
    assert_true(ledger_may_request(ledger, b));
    ledger_request_begin(ledger, b);
    assert_false(ledger_may_request(ledger, b));
    ledger_request_end(ledger, a);
    assert_true(ledger_may_request(ledger, b));
    ledger_request_end(ledger, a);
    ledger_request_end(ledger, b);
    ledger_disconnect(ledger, a);
    ledger_disconnect(ledger, b);
    expect_nothing_held(ledger);
}

static void test_uploads_and_spool(void **state)
{
    struct config config = limits();
    struct ledger *ledger = NULL;
    struct ledger_peer *a;
    struct ledger_peer *b;
    char why[LEDGER_WHY_SIZE];
    (void)state;
    assert_cap_ok(ledger_new(&config, env_system(), &ledger));
    assert_cap_ok(ledger_connect(ledger, "a", &a));
    assert_cap_ok(ledger_connect(ledger, "b", &b));
    assert_cap_ok(ledger_upload_begin(ledger, a, 60, why));
    assert_cap_error(ledger_upload_begin(ledger, a, 1, why), CAP_E_SPOOL_FULL);
    assert_string_equal(
        why, "limit of 60 bytes of uploads in flight of one peer reached (max-peer-spool)");
    assert_cap_error(ledger_upload_begin(ledger, b, 41, why), CAP_E_SPOOL_FULL);
    assert_string_equal(
        why, "limit of 100 bytes of uploads in flight reached, by all clients (max-spool)");
    assert_cap_error(ledger_upload_begin(ledger, b, UINT64_MAX, why), CAP_E_SPOOL_FULL);
    assert_cap_ok(ledger_upload_begin(ledger, b, 40, why));
    assert_cap_ok(ledger_upload_begin(ledger, b, 0, why));
    assert_cap_ok(ledger_upload_begin(ledger, b, 0, why));
    assert_cap_error(ledger_upload_begin(ledger, b, 0, why), CAP_E_SPOOL_FULL);
    assert_string_equal(why, "limit of 3 uploads in flight of one peer reached (max-peer-uploads)");
    assert_cap_error(ledger_upload_begin(ledger, a, 0, why), CAP_E_SPOOL_FULL);
    assert_string_equal(why, "limit of 4 uploads in flight reached, by all clients (max-uploads)");
    config.max_peer_uploads = 1; /* the ledger has its limits from there */
    ledger_why(ledger, b, LEDGER_UPLOADS, 1, why);
    assert_string_equal(why, "limit of 1 upload in flight of one peer reached (max-peer-uploads)");
    config.max_peer_uploads = 3;
    /* An account outlives its connections while uploads hold it. */
    ledger_disconnect(ledger, a);
    ledger_upload_end(ledger, a, 60);
    ledger_upload_end(ledger, b, 0);
    assert_cap_ok(ledger_upload_begin(ledger, b, 20, why));
    ledger_upload_end(ledger, b, 20);
    ledger_upload_end(ledger, b, 40);
    ledger_upload_end(ledger, b, 0);
    ledger_disconnect(ledger, b);
    expect_nothing_held(ledger);
}

static void test_memory(void **state)
{
    struct config config = limits();
    struct ledger *ledger = NULL;
    struct ledger_peer *a;
    struct ledger_peer *b;
    uint64_t of_a = 0;
    uint64_t of_b = 0;
    uint64_t own = 0;
    char why[LEDGER_WHY_SIZE];
    (void)state;
    assert_cap_ok(ledger_new(&config, env_system(), &ledger));
    assert_cap_ok(ledger_connect(ledger, "a", &a));
    assert_cap_ok(ledger_connect(ledger, "b", &b));
    assert_false(ledger_memory_hold(ledger, a, &of_a, 601));
    ledger_why(ledger, a, LEDGER_MEMORY, 601, why);
    assert_string_equal(
        why, "limit of 600 bytes of memory for requests of one peer reached (max-peer-memory)");
    assert_int_equal(of_a, 0);
    assert_true(ledger_memory_hold(ledger, a, &of_a, 600));
    assert_false(ledger_memory_hold(ledger, b, &of_b, 401));
    assert_true(ledger_memory_hold(ledger, b, &of_b, 300));
    /* The daemon itself has no share, only what is left of the total. */
    assert_false(ledger_memory_hold(ledger, NULL, &own, 101));
    assert_false(ledger_memory_hold(ledger, NULL, &own, UINT64_MAX));
    assert_true(ledger_memory_hold(ledger, NULL, &own, 100));
    /* What is there already is counted past every limit, and then there is no room for more. */
    ledger_memory_count(ledger, a, &of_a, 5000);
    assert_false(ledger_memory_hold(ledger, b, &of_b, 301));
    assert_true(ledger_memory_hold(ledger, b, &of_b, 10));
    assert_true(ledger_memory_hold(ledger, a, &of_a, 0));
    assert_true(ledger_memory_hold(ledger, b, &of_b, 600));
    /* An account outlives its connections while it holds memory. */
    ledger_disconnect(ledger, b);
    assert_true(ledger_memory_hold(ledger, b, &of_b, 0));
    assert_true(ledger_memory_hold(ledger, NULL, &own, 0));
    ledger_disconnect(ledger, a);
    expect_nothing_held(ledger);
}

static void test_buffers(void **state)
{
    struct config config = limits();
    struct ledger *ledger = NULL;
    struct ledger_peer *a;
    struct ledger_peer *b;
    (void)state;
    config.max_buffers = 100;
    assert_cap_ok(ledger_new(&config, env_system(), &ledger));
    assert_cap_ok(ledger_connect(ledger, "a", &a));
    assert_cap_ok(ledger_connect(ledger, "b", &b));
    assert_true(ledger_buffer_room(ledger, a, 80)); /* its first */
    ledger_buffer_take(ledger, a, 20);
    assert_true(ledger_buffer_room(ledger, a, 5));
    assert_false(ledger_buffer_room(ledger, a, 6));
    assert_true(ledger_buffer_room(ledger, b, 80));
    assert_false(ledger_buffer_room(ledger, b, 81));
    ledger_disconnect(ledger, a);
    ledger_disconnect(ledger, b);
    ledger_buffer_give(ledger, a, 20);
    expect_nothing_held(ledger);
}

/* --- Peers ------------------------------------------------------------------------------------ */

static void expect_peer(const char *host, unsigned prefix, const char *key, const char *text)
{
    struct sockaddr_storage address = {0};
    struct peer peer;
    if (strchr(host, ':') != NULL) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&address;
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(4711);
        assert_int_equal(inet_pton(AF_INET6, host, &in6->sin6_addr), 1);
    } else {
        struct sockaddr_in *in4 = (struct sockaddr_in *)&address;
        in4->sin_family = AF_INET;
        in4->sin_port = htons(4711);
        assert_int_equal(inet_pton(AF_INET, host, &in4->sin_addr), 1);
    }
    peer_from_address(&address, prefix, &peer);
    assert_false(peer.local);
    assert_int_equal(peer.uid, UINT32_MAX);
    assert_string_equal(peer.key, key);
    assert_string_equal(peer.text, text);
}

static void test_who_is_one_peer(void **state)
{
    (void)state;
    expect_peer("192.0.2.7", 64, "192.0.2.7", "tcp:192.0.2.7:4711");
    expect_peer("::ffff:192.0.2.7", 64, "192.0.2.7", "tcp:192.0.2.7:4711");
    expect_peer("2001:db8:1:2:3:4:5:6", 64, "2001:db8:1:2::/64", "tcp:[2001:db8:1:2:3:4:5:6]:4711");
    expect_peer("2001:db8:1:2:ffff::1", 64, "2001:db8:1:2::/64", "tcp:[2001:db8:1:2:ffff::1]:4711");
    expect_peer("2001:db8:1:2ff::1", 60, "2001:db8:1:2f0::/60", "tcp:[2001:db8:1:2ff::1]:4711");
    expect_peer("::1", 128, "::1/128", "tcp:[::1]:4711");
    expect_peer("ffff::1", 1, "8000::/1", "tcp:[ffff::1]:4711");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares_are_a_quarter_unless_configured),
        cmocka_unit_test(test_connections),
        cmocka_unit_test(test_many_peers),
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_uploads_and_spool),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_buffers),
        cmocka_unit_test(test_who_is_one_peer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
