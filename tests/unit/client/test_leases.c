/* Leases against a scripted daemon: what is asked, what is told, and daemons that know none. */
#include <poll.h>

#include <capstore/async.h>

#include "tests/unit/client/fake.h"

#define assert_error(expression, name) assert_string_equal(capstore_error_name(expression), name)

/* Options of a handle that speaks of leases. */
static struct capstore_options leases(uint32_t keep_s)
{
    struct capstore_options options = CAPSTORE_OPTIONS_INIT;
    options.leases = true;
    options.keep_s = keep_s;
    return options;
}

/* Answers HAS requests: of a hash that begins with an odd byte, kept for that many seconds. */
static void answer_keeps(struct fake *fake)
{
    const uint32_t *keep_s = fake->ctx;
    fake->features = PROTO_FEATURE_KEEP;
    fake->limits.hashes = 2;
    fake_hello(fake);
    while (fake_take(fake)) {
        struct proto_has has = {{NULL, 0}, 0, 0};
        uint8_t kinds[2];
        uint8_t kept[8] = {0};
        struct cap_buf payload = {0};
        fake_check(fake, fake->frame.type == PROTO_HAS);
        fake_check(fake, proto_has_keep_decode(cap_buf_bytes(&fake->payload), &has) == CAP_OK);
        fake_check(fake, has.keep_s == *keep_s && has.count <= 2);
        for (size_t i = 0; i < has.count && i < 2; i++) {
            uint8_t first = has.hashes.data[CAP_HASH_SIZE * i];
            kinds[i] = first % 2 != 0 ? CAP_KIND_DATA : 0;
            kept[4 * i] = first % 2 != 0 ? first : 0;
        }
        struct proto_has_reply reply = {{kinds, has.count}, {kept, 4 * has.count}};
        fake_check(fake, proto_has_reply_keep_encode(&reply, &payload) == CAP_OK);
        fake_send_buf(fake, PROTO_HAS_REPLY, fake->frame.id, &payload);
    }
}

/* The question is split, and what it has to do with leases is in each part. */
static void test_keep(void **state)
{
    static const uint32_t keep_s = 7000;
    struct fake fake;
    const struct capstore_options options = leases(0);
    const struct capstore_hash hashes[5] = {{{1}}, {{2}}, {{3}}, {{4}}, {{5}}};
    struct capstore_kept kept[5] = {{9, 9}};
    (void)state;
    fake_start(&fake, answer_keeps, &keep_s);
    struct capstore *store = fake_connect(&fake, &options);
    assert_error(capstore_keep(store, hashes, 0, keep_s, kept), "ok");
    assert_int_equal(kept[0].kind, 9);
    assert_error(capstore_keep(store, hashes, 5, keep_s, kept), "ok");
    for (uint32_t i = 0; i < 5; i++) {
        bool there = i % 2 == 0;
        assert_int_equal(kept[i].kind, there ? CAPSTORE_KIND_DATA : 0);
        assert_int_equal(kept[i].kept_s, there ? i + 1 : 0);
    }
    capstore_free(store);
    fake_join(&fake);
}

/* A plain question, on such a connection, asks for nothing. */
static void test_has_keeps_nothing(void **state)
{
    static const uint32_t keep_s = 0;
    struct fake fake;
    const struct capstore_options options = leases(7000);
    const struct capstore_hash hashes[3] = {{{1}}, {{2}}, {{3}}};
    uint8_t kinds[3];
    (void)state;
    fake_start(&fake, answer_keeps, &keep_s);
    struct capstore *store = fake_connect(&fake, &options);
    assert_error(capstore_has(store, hashes, 3, kinds), "ok");
    assert_memory_equal(kinds, "\2\0\2", 3);
    capstore_free(store);
    fake_join(&fake);
}

static void on_kept(void *ctx, const struct capstore_answer *answer)
{
    unsigned *times = ctx;
    assert_error(answer->error, "ok");
    assert_int_equal(answer->kept_count, 2);
    assert_int_equal(answer->kept[0].kind, CAPSTORE_KIND_DATA);
    assert_int_equal(answer->kept[0].kept_s, 3);
    assert_int_equal(answer->kept[1].kind, 0);
    assert_null(answer->kinds);
    (*times)++;
}

static void test_async(void **state)
{
    static const uint32_t keep_s = UINT32_MAX;
    struct fake fake;
    const struct capstore_options options = leases(0);
    const struct capstore_hash hashes[3] = {{{3}}, {{4}}, {{5}}};
    unsigned times = 0;
    (void)state;
    fake_start(&fake, answer_keeps, &keep_s);
    struct capstore *store = fake_connect(&fake, &options);
    assert_error(capstore_async_keep(store, hashes, 3, keep_s, on_kept, &times, NULL),
                 "too_many_hashes");
    assert_error(capstore_async_keep(store, hashes, 2, keep_s, NULL, &times, NULL),
                 "invalid_argument");
    assert_error(capstore_async_keep(store, hashes, 2, keep_s, on_kept, &times, NULL), "ok");
    while (capstore_pending(store) > 0) {
        struct pollfd entry = {capstore_fd(store), (short)capstore_events(store), 0};
        assert_true(poll(&entry, 1, capstore_timeout_ms(store)) >= 0);
        assert_error(capstore_process(store, entry.revents), "ok");
    }
    assert_int_equal(times, 1);
    capstore_free(store);
    fake_join(&fake);
}

/* --- Publications --------------------------------------------------------------------------- */

/* Takes two PUT_DATA that ask for what the test says, and a PUT_IMAGE. */
static void take_uploads(struct fake *fake)
{
    fake->features = PROTO_FEATURE_KEEP;
    fake_hello(fake);
    for (uint32_t i = 0; i < 2; i++) {
        struct proto_put_data put;
        struct cap_buf payload = {0};
        (void)fake_expect(fake, PROTO_PUT_DATA);
        fake_check(fake, proto_put_data_keep_decode(cap_buf_bytes(&fake->payload), &put) == CAP_OK);
        fake_check(fake, put.keep_s == (i == 0 ? 100 : 200));
        uint32_t id = fake->frame.id;
        (void)fake_drain_body(fake);
        const struct proto_put_data_reply reply = {{{1}}, 4096, 34, 1, 90 + i};
        fake_check(fake, proto_put_data_reply_keep_encode(&reply, &payload) == CAP_OK);
        fake_send_buf(fake, PROTO_PUT_DATA_REPLY, id, &payload);
    }
    struct proto_put_image put;
    struct cap_buf payload = {0};
    (void)fake_expect(fake, PROTO_PUT_IMAGE);
    fake_check(fake, proto_put_image_keep_decode(cap_buf_bytes(&fake->payload), &put) == CAP_OK);
    fake_check(fake, put.keep_s == 0);
    uint32_t id = fake->frame.id;
    (void)fake_drain_body(fake);
    const struct proto_put_image_reply reply = {{{1}}, {{2}}, 99, 1, 0, 0, 86400};
    fake_check(fake, proto_put_image_reply_keep_encode(&reply, &payload) == CAP_OK);
    fake_send_buf(fake, PROTO_PUT_IMAGE_REPLY, id, &payload);
}

static void test_publications(void **state)
{
    struct fake fake;
    const struct capstore_options options = leases(100);
    const struct capstore_bytes content = {(const uint8_t *)"hello", 5};
    const struct capstore_source source = capstore_source_memory(&content);
    struct capstore_put_result put;
    struct capstore_publish_result published;
    (void)state;
    fake_start(&fake, take_uploads, NULL);
    struct capstore *store = fake_connect(&fake, &options);
    assert_error(capstore_put_data(store, &source, 0, 0, &put), "ok");
    assert_int_equal(put.kept_s, 90);
    capstore_set_keep(store, 200);
    assert_error(capstore_put_data(store, &source, 0, 0, &put), "ok");
    assert_int_equal(put.kept_s, 91);
    capstore_set_keep(store, 0);
    assert_error(capstore_publish(store, &source, 0, &published), "ok");
    assert_int_equal(published.kept_s, 86400);
    capstore_free(store);
    fake_join(&fake);
}

/* --- Daemons and handles that know none ----------------------------------------------------- */

static void answer_as_before(struct fake *fake)
{
    fake_hello(fake);
    fake_answer_has(fake);
}

/* What cannot be promised fails before anything is sent; all else goes on. */
static void test_without_leases(void **state)
{
    const struct capstore_hash hash = {{1}};
    const struct capstore_bytes content = {(const uint8_t *)"hello", 5};
    const struct capstore_source source = capstore_source_memory(&content);
    (void)state;
    for (int leasing = 0; leasing < 2; leasing++) {
        struct fake fake;
        struct capstore_options options = leases(0);
        struct capstore_kept kept = {9, 9};
        struct capstore_put_result put = {.body_len = 9};
        options.leases = leasing != 0;
        fake_start(&fake, answer_as_before, NULL);
        struct capstore *store = fake_connect(&fake, &options);
        assert_error(capstore_keep(store, &hash, 1, 5, &kept), "unsupported_request");
        assert_non_null(strstr(capstore_message(store), leasing != 0 ? "older" : "options.leases"));
        assert_int_equal(kept.kind, 9);
        capstore_set_keep(store, 5);
        assert_error(capstore_put_data(store, &source, 0, 0, &put), "unsupported_request");
        assert_int_equal(put.body_len, 9);
        capstore_set_keep(store, 0);
        fake_assert_usable(store);
        capstore_free(store);
        fake_join(&fake);
    }
}

static void answer_in_the_other_form(struct fake *fake)
{
    fake->features = PROTO_FEATURE_KEEP;
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_HAS);
    fake_reply_has(fake);
}

static void test_a_reply_in_the_other_form(void **state)
{
    struct fake fake;
    const struct capstore_options options = leases(0);
    const struct capstore_hash hash = {{1}};
    struct capstore_kept kept = {9, 9};
    (void)state;
    fake_start(&fake, answer_in_the_other_form, NULL);
    struct capstore *store = fake_connect(&fake, &options);
    assert_error(capstore_keep(store, &hash, 1, 5, &kept), "bad_reply");
    assert_int_equal(kept.kind, 9);
    assert_false(capstore_connected(store));
    capstore_free(store);
    fake_join(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keep),           cmocka_unit_test(test_has_keeps_nothing),
        cmocka_unit_test(test_async),          cmocka_unit_test(test_publications),
        cmocka_unit_test(test_without_leases), cmocka_unit_test(test_a_reply_in_the_other_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
