/* Quotas: what is in the store, what is under way, the last hour, and who counts as a publisher. */
#include "tests/unit/support.h"

#include <string.h>

#include "daemon/publish/quota.h"
#include "tests/support/store_memory.h"

#define HOUR_US (UINT64_C(3600) * 1000000)

struct fixture {
    struct config config;
    struct env env;
    uint64_t now_us;
    struct cap_store *store;
    struct quotas *quotas;
    uint64_t caps; /* in the store */
    struct judgement judgement;
};

static uint64_t fake_monotonic(void *ctx)
{
    return ((struct fixture *)ctx)->now_us;
}

static int set_up(void **state)
{
    static const uint8_t id[CAP_STORE_ID_SIZE] = "quotas";
    static struct fixture fixture;
    fixture = (struct fixture){.now_us = 1000000};
    fixture.env = (struct env){.monotonic_us = fake_monotonic, .ctx = &fixture};
    config_init(&fixture.config);
    assert_cap_ok(cap_store_memory_new(id, UINT64_MAX, &fixture.store));
    assert_cap_ok(quotas_new(&fixture.config, &fixture.env, &fixture.quotas));
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    quotas_free(fixture->quotas);
    cap_buf_free(&fixture->judgement.detail);
    cap_store_close(fixture->store);
    config_free(&fixture->config);
    return 0;
}

static enum cap_error take(struct fixture *fixture, uint32_t uid, struct quota_hold *hold,
                           uint64_t caps, uint64_t bytes)
{
    const struct cap_usage wanted = {.caps = caps, .bytes = bytes};
    return quota_take(fixture->quotas, fixture->store, uid, hold, &wanted, &fixture->judgement);
}

static void decided(void *ctx, struct cap_admission *admission)
{
    (void)ctx;
    assert_cap_ok(admission->error);
}

/* Puts a cap of `bytes` bytes into the store. */
static void store_one(struct fixture *fixture, uint32_t uid, uint64_t bytes)
{
    static const uint8_t zeros[1000];
    struct cap_put put = {
        .info = {.kind = CAP_KIND_DATA, .body_len = bytes, .publisher = {uid, uid}},
        .body = {.memory = zeros},
    };
    assert_true(bytes <= sizeof(zeros));
    fixture->caps++;
    memcpy(put.hash.bytes, &fixture->caps, sizeof(fixture->caps));
    struct cap_admission admission = {.puts = &put, .put_count = 1};
    struct cap_admission *all[] = {&admission};
    const struct cap_admit_watch watch = {.decided = decided};
    cap_store_admit(fixture->store, all, 1, &watch);
}

static void test_without_quotas(void **state)
{
    struct fixture *fixture = *state;
    struct quota_hold hold = {0};
    assert_cap_ok(take(fixture, 1, &hold, 1000, UINT64_C(1) << 60));
    quota_give(fixture->quotas, &hold, 0);
    quota_give(fixture->quotas, &hold, 0); /* nothing is held */
}

static void assert_lacks(const struct fixture *fixture, uint64_t need, uint64_t have,
                         const char *limit)
{
    struct proto_shortage shortage;
    assert_cap_ok(proto_shortage_decode(cap_buf_bytes(&fixture->judgement.detail), &shortage));
    assert_int_equal(shortage.need, need);
    assert_int_equal(shortage.have, have);
    assert_int_equal(shortage.limit.len, strlen(limit));
    assert_memory_equal(shortage.limit.data, limit, strlen(limit));
}

/* What is stored and what is under way count together, of this publisher only. */
static void test_bytes(void **state)
{
    struct fixture *fixture = *state;
    struct quota_hold one = {0};
    struct quota_hold two = {0};
    struct quota_hold other = {0};
    fixture->config.quota_bytes = 1000;
    store_one(fixture, 7, 400);
    assert_cap_ok(take(fixture, 7, &one, 1, 500));
    assert_cap_error(take(fixture, 7, &two, 1, 101), CAP_E_QUOTA_EXCEEDED);
    assert_string_equal(fixture->judgement.message,
                        "over quota-bytes of uid 7: need 101 bytes, have 100 of 1000");
    assert_lacks(fixture, 101, 100, "quota-bytes");
    assert_cap_ok(take(fixture, 7, &two, 1, 100));
    assert_cap_ok(take(fixture, 8, &other, 1, 1000));
    /* It turns out to bring less; then more than there is, and is as it was. */
    assert_cap_ok(take(fixture, 7, &one, 1, 450));
    assert_cap_error(take(fixture, 7, &one, 1, 501), CAP_E_QUOTA_EXCEEDED);
    assert_string_equal(fixture->judgement.message,
                        "over quota-bytes of uid 7: need 51 bytes, have 50 of 1000");
    assert_int_equal(one.bytes, 450);
    assert_cap_ok(take(fixture, 7, &one, 1, 500));
    quota_give(fixture->quotas, &one, 0);
    assert_cap_ok(take(fixture, 7, &two, 1, 600));
    quota_give(fixture->quotas, &two, 0);
    quota_give(fixture->quotas, &other, 0);
    /* The option is lowered below what is there: what adds nothing is fine. */
    fixture->config.quota_bytes = 100;
    assert_cap_ok(take(fixture, 7, &one, 0, 0));
    assert_cap_error(take(fixture, 7, &one, 1, 1), CAP_E_QUOTA_EXCEEDED);
    assert_string_equal(fixture->judgement.message,
                        "over quota-bytes of uid 7: need 1 bytes, have 0 of 100");
    quota_give(fixture->quotas, &one, 0);
}

static void test_caps_and_total(void **state)
{
    struct fixture *fixture = *state;
    struct quota_hold one = {0};
    struct quota_hold two = {0};
    fixture->config.quota_caps = 3;
    store_one(fixture, QUOTA_ANONYMOUS, 10);
    store_one(fixture, QUOTA_ANONYMOUS, 10);
    assert_cap_error(take(fixture, QUOTA_ANONYMOUS, &one, 2, 1), CAP_E_QUOTA_EXCEEDED);
    assert_string_equal(fixture->judgement.message,
                        "over quota-caps of all TCP clients: need 2 caps, have 1 of 3");
    assert_lacks(fixture, 2, 1, "quota-caps");
    assert_cap_ok(take(fixture, QUOTA_ANONYMOUS, &one, 1, 1));
    fixture->config.quota_total = 100;
    assert_cap_error(take(fixture, 9, &two, 1, 80), CAP_E_QUOTA_EXCEEDED);
    assert_string_equal(fixture->judgement.message,
                        "over quota-total of all publishers: need 80 bytes, have 79 of 100");
    assert_cap_ok(take(fixture, 9, &two, 1, 79));
    quota_give(fixture->quotas, &one, 0);
    quota_give(fixture->quotas, &two, 0);
}

static void test_hourly(void **state)
{
    struct fixture *fixture = *state;
    struct quota_hold hold = {0};
    fixture->config.quota_hourly = 1000;
    assert_cap_ok(take(fixture, 7, &hold, 1, 900));
    quota_give(fixture->quotas, &hold, 600);
    fixture->now_us += HOUR_US / 2;
    assert_cap_ok(take(fixture, 7, &hold, 1, 300));
    quota_give(fixture->quotas, &hold, 300);
    assert_cap_error(take(fixture, 7, &hold, 1, 101), CAP_E_QUOTA_EXCEEDED);
    assert_string_equal(fixture->judgement.message,
                        "over quota-hourly of uid 7: need 101 bytes, have 100 of 1000");
    /* The first is forgotten after an hour and five minutes at most. */
    fixture->now_us += HOUR_US * 7 / 12;
    assert_cap_error(take(fixture, 7, &hold, 1, 701), CAP_E_QUOTA_EXCEEDED);
    assert_cap_ok(take(fixture, 7, &hold, 1, 700));
    quota_give(fixture->quotas, &hold, 0);
    fixture->now_us += 100 * HOUR_US;
    assert_cap_ok(take(fixture, 7, &hold, 1, 1000));
    quota_give(fixture->quotas, &hold, 0);
}

static void test_list(void **state)
{
    struct fixture *fixture = *state;
    struct quota_hold hold = {0};
    struct quota_row rows[100];
    size_t count;
    for (uint32_t uid = 0; uid < 90; uid++) {
        store_one(fixture, 2 * uid, 1 + uid);
    }
    store_one(fixture, QUOTA_ANONYMOUS, 5);
    assert_cap_ok(take(fixture, 3, &hold, 2, 77));
    assert_cap_ok(quota_list(fixture->quotas, fixture->store, 0, 3, rows, &count));
    assert_int_equal(count, 3);
    assert_cap_ok(quota_list(fixture->quotas, fixture->store, 3, 100, rows, &count));
    assert_int_equal(count, 90);
    assert_int_equal(rows[0].uid, 3);
    assert_int_equal(rows[0].used.caps, 0);
    assert_int_equal(rows[0].under_way.caps, 2);
    assert_int_equal(rows[0].under_way.bytes, 77);
    assert_int_equal(rows[1].uid, 4);
    assert_int_equal(rows[1].used.bytes, 3);
    assert_int_equal(rows[88].uid, 178);
    assert_int_equal(rows[89].uid, QUOTA_ANONYMOUS);
    assert_int_equal(rows[89].used.bytes, 5);
    quota_give(fixture->quotas, &hold, 70);
    assert_cap_ok(quota_list(fixture->quotas, fixture->store, 3, 1, rows, &count));
    assert_int_equal(rows[0].last_hour, 70);
    assert_int_equal(rows[0].under_way.bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_without_quotas, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_caps_and_total, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hourly, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_list, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
