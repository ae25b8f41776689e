/* Uploads against a scripted daemon: the whole way, refusals on the way, cancellation. */
#include <semaphore.h>

#include "tests/unit/client/bodies.h"
#include "tests/unit/client/fake.h"

#define BIG ((size_t)8 << 20) /* far more than a socket holds */

#define assert_error(expression, name) assert_string_equal(capstore_error_name(expression), name)

/* A source of so many bytes that costs no memory, and may fail. */
struct pattern {
    uint64_t fail_at;
};

static enum capstore_error pattern_read(void *ctx, uint64_t offset, void *dst, size_t len)
{
    const struct pattern *pattern = (const struct pattern *)ctx;
    if (offset + len > pattern->fail_at) {
        return CAPSTORE_E_IO;
    }
    for (size_t i = 0; i < len; i++) {
        ((uint8_t *)dst)[i] = (uint8_t)((offset + i) * 31);
    }
    return CAPSTORE_OK;
}

static struct capstore_source pattern_source(struct pattern *pattern, uint64_t len)
{
    return (struct capstore_source){pattern_read, pattern, len, NULL};
}

/* ---- the whole way ---- */

static void reply_put(struct fake *fake, uint32_t id)
{
    struct proto_put_data_reply reply = {{{1, 2, 3}}, 8192, 77, 1, 0};
    struct cap_buf payload = {0};
    fake_check(fake, proto_put_data_reply_encode(&reply, &payload) == CAP_OK);
    fake_send_buf(fake, PROTO_PUT_DATA_REPLY, id, &payload);
}

static void take_put(struct fake *fake)
{
    struct proto_put_data put;
    fake->limits.frame = 4096;
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_PUT_DATA);
    fake_check(fake, proto_put_data_decode(cap_buf_bytes(&fake->payload), &put) == CAP_OK);
    fake_check(fake, put.flags == 0 && put.size == 8000 && put.total_len == 5000);
    uint32_t id = fake->frame.id;
    fake_check(fake, fake_expect(fake, PROTO_BODY) && fake->frame.len == 4096 &&
                         fake->frame.flags == 0 && fake->frame.id == id);
    fake_check(fake, fake->payload.data[100] == (uint8_t)(100 * 31));
    fake_check(fake, fake_expect(fake, PROTO_BODY) && fake->frame.len == 5000 - 4096 &&
                         fake->frame.flags == PROTO_FLAG_END);
    reply_put(fake, id);
    fake_answer_has(fake);
}

/* A cap by its hash: one that is new, one that is there, one that is refused. */
static void take_caps(struct fake *fake)
{
    struct proto_put_cap put;
    fake->features = PROTO_FEATURE_PUT_CAP;
    fake_hello(fake);
    for (uint8_t i = 0; i < 3; i++) {
        struct cap_buf payload = {0};
        (void)fake_expect(fake, PROTO_PUT_CAP);
        fake_check(fake, proto_put_cap_decode(cap_buf_bytes(&fake->payload), &put) == CAP_OK);
        fake_check(fake, put.flags == 0 && put.kind == CAP_KIND_IMAGE && put.total_len == 5000);
        fake_check(fake, put.hash.bytes[31] == 9);
        uint32_t id = fake->frame.id;
        fake_check(fake, fake_expect(fake, PROTO_BODY) && fake->frame.len == 5000 &&
                             fake->frame.flags == PROTO_FLAG_END);
        if (i == 2) {
            fake_error(fake, id, CAP_E_HASH_MISMATCH, "the body is that of another cap", 0);
            continue;
        }
        const struct proto_put_cap_reply reply = {i == 0, 0};
        fake_check(fake, proto_put_cap_reply_encode(&reply, &payload) == CAP_OK);
        fake_send_buf(fake, PROTO_PUT_CAP_REPLY, id, &payload);
    }
    fake_answer_has(fake);
}

static void test_put_cap(void **state)
{
    struct fake fake;
    struct pattern pattern = {UINT64_MAX};
    struct capstore_source source = pattern_source(&pattern, 5000);
    const struct capstore_hash hash = {.bytes = {[31] = 9}};
    (void)state;
    fake_start(&fake, take_caps, NULL);
    struct capstore *store = fake_connect(&fake, NULL);
    for (int i = 0; i < 2; i++) {
        struct capstore_put_result result;
        assert_error(capstore_put_cap(store, &hash, CAPSTORE_KIND_IMAGE, &source, &result), "ok");
        assert_int_equal(result.cap_hash.bytes[31], 9);
        assert_int_equal(result.body_len, 5000);
        assert_int_equal(result.is_new, i == 0);
    }
    struct capstore_put_result result;
    assert_error(capstore_put_cap(store, &hash, CAPSTORE_KIND_IMAGE, &source, &result),
                 "hash_mismatch");
    assert_string_equal(capstore_message(store), "the body is that of another cap");
    fake_assert_usable(store);
    capstore_free(store);
    fake_join(&fake);
}

static void take_nothing(struct fake *fake)
{
    fake_hello(fake);
    fake_answer_has(fake);
}

/* An older daemon is not sent a body that it would not expect. */
static void test_put_cap_needs_the_feature(void **state)
{
    struct fake fake;
    struct pattern pattern = {UINT64_MAX};
    struct capstore_source source = pattern_source(&pattern, 10);
    const struct capstore_hash hash = {.bytes = {1}};
    struct capstore_put_result result;
    (void)state;
    fake_start(&fake, take_nothing, NULL);
    struct capstore *store = fake_connect(&fake, NULL);
    assert_error(capstore_put_cap(store, &hash, CAPSTORE_KIND_DATA, &source, &result),
                 "unsupported_request");
    fake_assert_usable(store);
    capstore_free(store);
    fake_join(&fake);
}

static void test_put(void **state)
{
    struct fake fake;
    struct pattern pattern = {UINT64_MAX};
    struct capstore_source source = pattern_source(&pattern, 5000);
    struct capstore_put_result result;
    (void)state;
    fake_start(&fake, take_put, NULL);
    struct capstore *store = fake_connect(&fake, NULL);
    assert_error(capstore_put_data(store, &source, 8000, 0, &result), "ok");
    assert_int_equal(result.cap_hash.bytes[2], 3);
    assert_int_equal(result.size, 8192);
    assert_int_equal(result.body_len, 77);
    assert_true(result.is_new);
    fake_assert_usable(store);
    capstore_free(store);
    fake_join(&fake);
}

/* ---- holes ---- */

#define HOLE_SIZE (UINT64_C(1) << 40)

/* Nothing but "hello" at the start. */
static enum capstore_error hollow_read(void *ctx, uint64_t offset, void *dst, size_t len)
{
    uint64_t *most = (uint64_t *)ctx;
    if (offset + len > *most) {
        return CAPSTORE_E_IO;
    }
    memset(dst, 0, len);
    for (size_t i = 0; i < len && offset + i < 5; i++) {
        ((uint8_t *)dst)[i] = (uint8_t) "hello"[offset + i];
    }
    return CAPSTORE_OK;
}

static uint64_t hollow_next(void *ctx, uint64_t offset)
{
    (void)ctx;
    return offset < 4096 ? offset : UINT64_MAX;
}

static void take_hollow(struct fake *fake)
{
    struct proto_put_data put;
    struct cap_bytes wanted = {hello_body, sizeof(hello_body)};
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_PUT_DATA);
    fake_check(fake, proto_put_data_decode(cap_buf_bytes(&fake->payload), &put) == CAP_OK);
    fake_check(fake, put.flags == PROTO_PUT_CANONICAL && put.size == 0);
    fake_check(fake, put.total_len == wanted.len);
    uint32_t id = fake->frame.id;
    fake_check(fake, fake_expect(fake, PROTO_BODY) && fake->frame.len == wanted.len);
    /* The body of the one-page cap, but for the size. */
    fake_check(fake, memcmp(fake->payload.data + 9, wanted.data + 9, wanted.len - 9) == 0);
    fake_check(fake, cap_load64(fake->payload.data + 1) == HOLE_SIZE);
    reply_put(fake, id);
}

/* A TiB of holes goes as a served body; the holes are neither read nor sent. */
static void test_put_holes(void **state)
{
    struct fake fake;
    uint64_t most = UINT64_C(1) << 20;
    struct capstore_source source = {hollow_read, &most, HOLE_SIZE, hollow_next};
    struct capstore_put_result result;
    struct capstore_data_id id;
    (void)state;
    fake_start(&fake, take_hollow, NULL);
    struct capstore *store = fake_connect(&fake, NULL);
    assert_error(capstore_put_data(store, &source, 0, 0, &result), "ok");
    capstore_free(store);
    fake_join(&fake);
    assert_error(capstore_data_hash(&source, 0, &id), "ok");
    assert_int_equal(id.size, HOLE_SIZE);
    assert_int_equal(id.body_len, sizeof(hello_body));
    most = 100; /* an error of the source is the call's */
    assert_error(capstore_data_hash(&source, 0, &id), "io");
}

static void take_hello_only(struct fake *fake)
{
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_PUT_DATA);
    uint32_t id = fake->frame.id;
    fake_check(fake, fake_expect(fake, PROTO_BODY) && fake->frame.len == 0 &&
                         fake->frame.flags == PROTO_FLAG_END);
    reply_put(fake, id);
}

/* An upload of no bytes is one empty frame with END. */
static void test_put_nothing(void **state)
{
    struct fake fake;
    struct pattern pattern = {UINT64_MAX};
    struct capstore_source source = pattern_source(&pattern, 0);
    struct capstore_put_result result;
    (void)state;
    fake_start(&fake, take_hello_only, NULL);
    struct capstore *store = fake_connect(&fake, NULL);
    assert_error(capstore_put_data(store, &source, 0, 0, &result), "ok");
    capstore_free(store);
    fake_join(&fake);
}

static void take_image(struct fake *fake)
{
    struct proto_put_image put;
    struct proto_put_image_reply reply = {{{1}}, {{2}}, 99, 0, 3, 4, 0};
    struct cap_buf payload = {0};
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_PUT_IMAGE);
    uint32_t id = fake->frame.id;
    fake_check(fake, proto_put_image_decode(cap_buf_bytes(&fake->payload), &put) == CAP_OK);
    fake_check(fake, put.flags == (PROTO_IMAGE_RESOLVE_ONLY | PROTO_IMAGE_DRY_RUN));
    fake_check(fake, fake_drain_body(fake) == BIG);
    fake_check(fake, proto_put_image_reply_encode(&reply, &payload) == CAP_OK);
    fake_send_buf(fake, PROTO_PUT_IMAGE_REPLY, id, &payload);
}

static void test_publish(void **state)
{
    struct fake fake;
    struct pattern pattern = {UINT64_MAX};
    struct capstore_source source = pattern_source(&pattern, BIG);
    struct capstore_publish_result result;
    (void)state;
    fake_start(&fake, take_image, NULL);
    struct capstore *store = fake_connect(&fake, NULL);
    assert_error(
        capstore_publish(store, &source, CAPSTORE_RESOLVE_ONLY | CAPSTORE_DRY_RUN, &result), "ok");
    assert_int_equal(result.cap_hash.bytes[0], 1);
    assert_int_equal(result.content_hash.bytes[0], 2);
    assert_false(result.is_new);
    assert_int_equal(result.data_new, 3);
    assert_int_equal(result.data_present, 4);
    capstore_free(store);
    fake_join(&fake);
}

/* ---- refusals ---- */

/* Refuses after the first frame, reads on, and wants the body ended early. */
static void refuse_early(struct fake *fake)
{
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_PUT_IMAGE);
    uint32_t id = fake->frame.id;
    (void)fake_expect(fake, PROTO_BODY);
    fake_error(fake, id, CAP_E_CODE_TOO_LARGE, "one byte too much", 0);
    fake_check(fake, fake_drain_body(fake) < BIG);
    fake_check(fake, fake->frame.id == id);
    fake_answer_has(fake);
}

static void test_refused_while_sending(void **state)
{
    struct fake fake;
    struct pattern pattern = {UINT64_MAX};
    struct capstore_source source = pattern_source(&pattern, BIG);
    struct capstore_publish_result result;
    (void)state;
    fake_start(&fake, refuse_early, NULL);
    struct capstore *store = fake_connect(&fake, NULL);
    assert_error(capstore_publish(store, &source, 0, &result), "code_too_large");
    assert_string_equal(capstore_message(store), "one byte too much");
    assert_int_equal(capstore_unresolved_count(store), 0);
    fake_assert_usable(store);
    capstore_free(store);
    fake_join(&fake);
}

static void refuse_with_a_list(struct fake *fake)
{
    static const uint8_t key = 0x0b;
    struct proto_unresolved slots[2] = {{0, 1, {{5}}, {&key, 1}}, {1, 2, {{6}}, {NULL, 0}}};
    struct cap_buf detail = {0};
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_PUT_IMAGE);
    uint32_t id = fake->frame.id;
    fake_check(fake, fake_drain_body(fake) == 1000);
    fake_check(fake, proto_unresolved_encode(slots, 2, &detail) == CAP_OK);
    fake_error(fake, id, CAP_E_UNRESOLVED_SLOT, "2 slots", detail.len);
    fake_send(fake, PROTO_BODY, id, 0, (struct cap_bytes){detail.data, 7});
    fake_send(fake, PROTO_BODY, id, PROTO_FLAG_END,
              (struct cap_bytes){detail.data + 7, detail.len - 7});
    cap_buf_free(&detail);
    fake_answer_has(fake);
}

static void test_unresolved(void **state)
{
    struct fake fake;
    struct pattern pattern = {UINT64_MAX};
    struct capstore_source source = pattern_source(&pattern, 1000);
    struct capstore_publish_result result;
    (void)state;
    fake_start(&fake, refuse_with_a_list, NULL);
    struct capstore *store = fake_connect(&fake, NULL);
    assert_error(capstore_publish(store, &source, 0, &result), "unresolved_slot");
    assert_int_equal(capstore_unresolved_count(store), 2);
    struct capstore_unresolved_slot slot = capstore_unresolved(store, 0);
    assert_int_equal(slot.table, CAPSTORE_TABLE_PINNED);
    assert_int_equal(slot.kind, CAPSTORE_KIND_IMAGE);
    assert_int_equal(slot.cap_hash.bytes[0], 5);
    assert_int_equal(slot.slot.len, 1);
    slot = capstore_unresolved(store, 1);
    assert_int_equal(slot.table, CAPSTORE_TABLE_INITIAL);
    assert_int_equal(slot.kind, CAPSTORE_KIND_DATA);
    assert_int_equal(slot.slot.len, 0);
    fake_assert_usable(store);
    assert_int_equal(capstore_unresolved_count(store), 0);
    capstore_free(store);
    fake_join(&fake);
}

static void refuse_with_rubbish(struct fake *fake)
{
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_PUT_IMAGE);
    uint32_t id = fake->frame.id;
    (void)fake_drain_body(fake);
    fake_error(fake, id, CAP_E_UNRESOLVED_SLOT, "see below", 3);
    fake_send(fake, PROTO_BODY, id, PROTO_FLAG_END, (struct cap_bytes){(const uint8_t *)"abc", 3});
}

static void test_unresolved_rubbish(void **state)
{
    struct fake fake;
    struct pattern pattern = {UINT64_MAX};
    struct capstore_source source = pattern_source(&pattern, 1000);
    struct capstore_publish_result result;
    (void)state;
    fake_start(&fake, refuse_with_rubbish, NULL);
    struct capstore *store = fake_connect(&fake, NULL);
    assert_error(capstore_publish(store, &source, 0, &result), "bad_reply");
    assert_int_equal(capstore_unresolved_count(store), 0);
    capstore_free(store);
    fake_join(&fake);
}

/* A detail of whatever error in `ctx`; one that belongs to no error is skipped. */
struct detailed {
    enum cap_error error;
    uint8_t have;
};

static void refuse_with_figures(struct fake *fake)
{
    const struct detailed *detailed = fake->ctx;
    struct cap_buf detail = {0};
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_PUT_IMAGE);
    uint32_t id = fake->frame.id;
    (void)fake_drain_body(fake);
    const struct proto_shortage shortage = {7, 6, {(const uint8_t *)"quota-caps", 10}};
    fake_check(fake, proto_shortage_encode(&shortage, &detail) == CAP_OK);
    detail.data[8] = detailed->have;
    fake_error(fake, id, detailed->error, "too much", detail.len);
    fake_send(fake, PROTO_BODY, id, PROTO_FLAG_END, cap_buf_bytes(&detail));
    cap_buf_free(&detail);
    if (detailed->have < 7) {
        fake_answer_has(fake);
    }
}

static void test_figures(void **state)
{
    const struct {
        struct detailed detailed;
        const char *error;
        bool figures;
    } rows[] = {{{CAP_E_QUOTA_EXCEEDED, 6}, "quota_exceeded", true},
                {{CAP_E_DISK_FULL, 0}, "disk_full", true},
                {{CAP_E_SPOOL_FULL, 6}, "spool_full", false},
                {{CAP_E_MAP_FULL, 7}, "bad_reply", false}};
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct fake fake;
        struct pattern pattern = {UINT64_MAX};
        struct capstore_source source = pattern_source(&pattern, 1000);
        struct capstore_publish_result result;
        struct capstore_shortage_figures figures;
        struct detailed detailed = rows[i].detailed;
        fake_start(&fake, refuse_with_figures, &detailed);
        struct capstore *store = fake_connect(&fake, NULL);
        assert_error(capstore_publish(store, &source, 0, &result), rows[i].error);
        assert_int_equal(capstore_shortage(store, &figures), rows[i].figures);
        if (rows[i].figures) {
            assert_int_equal(figures.need, 7);
            assert_int_equal(figures.have, detailed.have);
            assert_int_equal(figures.limit.len, 10);
            assert_memory_equal(figures.limit.data, "quota-caps", 10);
        }
        if (detailed.have < 7) {
            fake_assert_usable(store);
            assert_false(capstore_shortage(store, &figures));
        }
        capstore_free(store);
        fake_join(&fake);
    }
}

/* The daemon gives its reason and closes while the client is still writing. */
static void refuse_and_close(struct fake *fake)
{
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_PUT_IMAGE);
    fake_error(fake, 0, CAP_E_DRAINING, "going down", 0);
}

static void test_reason_survives_a_close(void **state)
{
    struct fake fake;
    struct pattern pattern = {UINT64_MAX};
    struct capstore_source source = pattern_source(&pattern, BIG);
    struct capstore_publish_result result;
    (void)state;
    fake_start(&fake, refuse_and_close, NULL);
    struct capstore *store = fake_connect(&fake, NULL);
    enum capstore_error error = capstore_publish(store, &source, 0, &result);
    /* A socket that is closed with bytes unread may drop what it sent: both are right. */
    assert_true(error == CAPSTORE_E_DRAINING || error == CAPSTORE_E_CONNECTION_LOST);
    assert_false(capstore_connected(store));
    capstore_free(store);
    fake_join(&fake);
}

static void answer_at_once(struct fake *fake)
{
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_PUT_DATA);
    reply_put(fake, fake->frame.id);
    while (fake_take(fake)) {
        ;
    }
}

/* Success before the upload is complete cannot be. */
static void test_premature_reply(void **state)
{
    struct fake fake;
    struct pattern pattern = {UINT64_MAX};
    struct capstore_source source = pattern_source(&pattern, BIG);
    struct capstore_put_result result;
    (void)state;
    fake_start(&fake, answer_at_once, NULL);
    struct capstore *store = fake_connect(&fake, NULL);
    assert_error(capstore_put_data(store, &source, 0, 0, &result), "bad_reply");
    capstore_free(store);
    fake_join(&fake);
}

/* Reads nothing until the test says that the client has given up. */
static void never_read(struct fake *fake)
{
    sem_t *done = (sem_t *)(uintptr_t)fake->ctx;
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_PUT_DATA);
    sem_wait(done);
}

static void test_stalled_upload(void **state)
{
    struct fake fake;
    sem_t done;
    struct pattern pattern = {UINT64_MAX};
    struct capstore_source source = pattern_source(&pattern, BIG);
    struct capstore_put_result result;
    struct capstore_options options = CAPSTORE_OPTIONS_INIT;
    (void)state;
    assert_int_equal(sem_init(&done, 0, 0), 0);
    options.timeout_ms = 200;
    fake_start(&fake, never_read, &done);
    struct capstore *store = fake_connect(&fake, &options);
    assert_error(capstore_put_data(store, &source, 0, 0, &result), "timed_out");
    assert_false(capstore_connected(store));
    sem_post(&done);
    capstore_free(store);
    fake_join(&fake);
    sem_destroy(&done);
}

/* ---- giving up ---- */

static void expect_cancel(struct fake *fake)
{
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_PUT_DATA);
    uint32_t id = fake->frame.id;
    while (fake_take(fake) && fake->frame.type == PROTO_BODY) {
        fake_check(fake, (fake->frame.flags & PROTO_FLAG_END) == 0);
    }
    fake_check(fake, fake->frame.type == PROTO_CANCEL && fake->frame.id == id);
    fake_error(fake, id, CAP_E_CANCELLED, "cancelled", 0);
    fake_answer_has(fake);
}

static void test_failing_source(void **state)
{
    struct fake fake;
    struct pattern pattern = {BIG / 2};
    struct capstore_source source = pattern_source(&pattern, BIG);
    struct capstore_put_result result;
    (void)state;
    fake_start(&fake, expect_cancel, NULL);
    struct capstore *store = fake_connect(&fake, NULL);
    assert_error(capstore_put_data(store, &source, 0, 0, &result), "io");
    fake_assert_usable(store);
    capstore_free(store);
    fake_join(&fake);
}

static bool stop_half_way(void *ctx, const struct capstore_progress *progress)
{
    uint64_t *last = (uint64_t *)ctx;
    assert_true(progress->upload);
    assert_int_equal(progress->total, BIG);
    assert_true(progress->done >= *last);
    *last = progress->done;
    return progress->done < BIG / 2;
}

static void test_cancelled_by_the_caller(void **state)
{
    struct fake fake;
    struct pattern pattern = {UINT64_MAX};
    struct capstore_source source = pattern_source(&pattern, BIG);
    struct capstore_put_result result;
    struct capstore_options options = CAPSTORE_OPTIONS_INIT;
    uint64_t last = 0;
    (void)state;
    options.progress = stop_half_way;
    options.progress_ctx = &last;
    fake_start(&fake, expect_cancel, NULL);
    struct capstore *store = fake_connect(&fake, &options);
    assert_error(capstore_put_data(store, &source, 0, 0, &result), "cancelled");
    assert_true(last >= BIG / 2 && last < BIG);
    fake_assert_usable(store);
    capstore_free(store);
    fake_join(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put),
        cmocka_unit_test(test_put_cap),
        cmocka_unit_test(test_put_cap_needs_the_feature),
        cmocka_unit_test(test_put_holes),
        cmocka_unit_test(test_put_nothing),
        cmocka_unit_test(test_publish),
        cmocka_unit_test(test_refused_while_sending),
        cmocka_unit_test(test_unresolved),
        cmocka_unit_test(test_unresolved_rubbish),
        cmocka_unit_test(test_figures),
        cmocka_unit_test(test_reason_survives_a_close),
        cmocka_unit_test(test_premature_reply),
        cmocka_unit_test(test_stalled_upload),
        cmocka_unit_test(test_failing_source),
        cmocka_unit_test(test_cancelled_by_the_caller),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
