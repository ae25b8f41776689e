/* Bodies that are hashed while they arrive, on the calling thread or on one of their own. */
#include <string.h>

#include "lib/cap/image_cap.h"
#include "tests/unit/client/bodies.h"
#include "tests/unit/client/fake.h"
#include "tests/unit/data_body.h"

#define LEN  ((size_t)5 << 20) /* several slices of the thread, several growths of the body */
#define STEP ((size_t)100000)

/* What the fake serves, and how. */
struct served {
    struct cap_buf body;
    struct capstore_hash hash;
    size_t cut; /* the stream ends after so many bytes of the body; 0: it does not */
};

static struct cap_buf make_data(void)
{
    uint8_t *content = malloc(LEN);
    assert_non_null(content);
    for (size_t i = 0; i < LEN; i++) {
        content[i] = (uint8_t)(1 + i * i / 4099 + i);
    }
    struct cap_buf body = make_data_body((struct cap_bytes){content, LEN});
    free(content);
    return body;
}

static struct cap_buf make_long_image(void)
{
    char *code = malloc(LEN);
    struct cap_buf body;
    struct capstore_hash hash;
    assert_non_null(code);
    memset(code, 'x', LEN - 1);
    code[LEN - 1] = '\0';
    make_image(code, NULL, 0, &body, &hash);
    free(code);
    return body;
}

#define CASES 4u

/* An Image or Data, hashed on the calling thread or on one of its own. */
static void make_case(unsigned number, struct served *served, struct capstore_options *options)
{
    enum cap_kind kind;
    struct cap_hash hash;
    *options = (struct capstore_options)CAPSTORE_OPTIONS_INIT;
    options->hash_thread = number >= 2;
    *served = (struct served){.body = number % 2 == 1 ? make_data() : make_long_image()};
    assert_cap_ok(cap_body_hash(cap_buf_bytes(&served->body), &kind, &hash));
    memcpy(served->hash.bytes, hash.bytes, sizeof(served->hash.bytes));
}

static void serve(struct fake *fake)
{
    const struct served *served = fake->ctx;
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_GET);
    if (served->cut > 0) {
        struct proto_get_reply reply = {
            .kind = served->body.data[0], .body_len = served->body.len, .len = served->body.len};
        struct cap_buf payload = {0};
        fake_check(fake, proto_get_reply_encode(&reply, &payload) == CAP_OK);
        fake_send_buf(fake, PROTO_GET_REPLY, fake->frame.id, &payload);
        for (size_t at = 0; at < served->cut; at += STEP) {
            fake_send(fake, PROTO_BODY, fake->frame.id, 0,
                      (struct cap_bytes){served->body.data + at, STEP});
        }
        return;
    }
    fake_body(fake, cap_buf_bytes(&served->body), STEP);
    /* A client that gives up says so, unless all of the body had come when it noticed. */
    if (fake_take(fake) && fake->frame.type == PROTO_CANCEL) {
        fake_answer_has(fake);
    } else {
        fake_check(fake, fake->frame.type == PROTO_HAS);
        fake_reply_has(fake);
    }
}

static enum capstore_error fetch(struct served *served, const struct capstore_options *options,
                                 bool usable)
{
    struct fake fake;
    struct capstore_cap *cap = NULL;
    fake_start(&fake, serve, served);
    struct capstore *store = fake_connect(&fake, options);
    enum capstore_error error = capstore_get(store, &served->hash, &cap);
    if (error == CAPSTORE_OK) {
        struct capstore_bytes body = capstore_cap_body(cap);
        assert_true(capstore_cap_verified(cap));
        assert_int_equal(body.len, served->body.len);
        assert_memory_equal(body.data, served->body.data, body.len);
        assert_true(capstore_hash_equal(capstore_cap_hash(cap), &served->hash));
        capstore_cap_free(cap);
    }
    if (usable) {
        fake_assert_usable(store);
    }
    capstore_free(store);
    fake_join(&fake);
    return error;
}

static void test_good_and_damaged(void **state)
{
    (void)state;
    for (unsigned i = 0; i < CASES; i++) {
        struct capstore_options options;
        struct served served;
        make_case(i, &served, &options);
        assert_int_equal(fetch(&served, &options, true), CAPSTORE_OK);
        uint8_t *last = served.body.data + served.body.len - 100;
        uint8_t *middle = served.body.data + served.body.len / 2;
        last[0] ^= 1;
        assert_int_equal(fetch(&served, &options, true), CAPSTORE_E_HASH_MISMATCH);
        last[0] ^= 1;
        middle[0] ^= 1;
        assert_int_equal(fetch(&served, &options, true), CAPSTORE_E_HASH_MISMATCH);
        middle[0] ^= 1;
        /* A reference, which is judged as soon as it is there, or an offset of an Image. */
        served.body.data[20] ^= 0xff;
        assert_int_equal(fetch(&served, &options, true), CAPSTORE_E_BODY_NOT_CANONICAL);
        cap_buf_free(&served.body);
    }
}

static void test_broken_off(void **state)
{
    (void)state;
    for (unsigned i = 0; i < CASES; i++) {
        struct capstore_options options;
        struct served served;
        make_case(i, &served, &options);
        served.cut = 30 * STEP;
        assert_int_equal(fetch(&served, &options, false), CAPSTORE_E_CONNECTION_LOST);
        cap_buf_free(&served.body);
    }
}

static bool stop_half_way(void *ctx, const struct capstore_progress *progress)
{
    (void)ctx;
    return progress->done < progress->total / 2;
}

static void test_cancelled(void **state)
{
    (void)state;
    for (unsigned i = 0; i < CASES; i++) {
        struct capstore_options options;
        struct served served;
        make_case(i, &served, &options);
        options.progress = stop_half_way;
        assert_int_equal(fetch(&served, &options, true), CAPSTORE_E_CANCELLED);
        cap_buf_free(&served.body);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_and_damaged),
        cmocka_unit_test(test_broken_off),
        cmocka_unit_test(test_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
