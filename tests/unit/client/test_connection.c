/* A handle against a scripted daemon: hello, questions, fetches, and everything that goes wrong. */
#include "tests/unit/client/bodies.h"
#include "tests/unit/client/fake.h"

#define assert_error(expression, name) assert_string_equal(capstore_error_name(expression), name)

/* ---- hello ---- */

static void greet(struct fake *fake)
{
    fake_hello(fake);
    (void)fake_take(fake);
}

static void test_hello(void **state)
{
    struct fake fake;
    struct capstore_daemon_info info;
    (void)state;
    fake_start(&fake, greet, NULL);
    struct capstore *store = fake_connect(&fake, NULL);
    assert_true(capstore_connected(store));
    assert_error(capstore_info(store, &info), "ok");
    assert_int_equal(info.protocol_version, 1);
    assert_int_equal(info.store_id[15], 7);
    assert_string_equal(info.agent, "fake");
    assert_int_equal(info.max_hashes, 4096);
    assert_int_equal(info.max_upload, 1 << 30);
    capstore_close(store);
    assert_false(capstore_connected(store));
    assert_error(capstore_info(store, &info), "connection_lost");
    capstore_free(store);
    capstore_free(NULL);
    fake_join(&fake);
}

static void refuse_hello(struct fake *fake)
{
    fake_error(fake, 0, CAP_E_TOO_MANY_CONNECTIONS, "64 are open", 0);
}

static void garbage_hello(struct fake *fake)
{
    fake_raw(fake, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
    (void)fake_take(fake);
}

static void wrong_first_frame(struct fake *fake)
{
    (void)fake_expect(fake, PROTO_HELLO);
    fake_send(fake, PROTO_HAS_REPLY, 0, 0, (struct cap_bytes){NULL, 0});
}

static void tiny_limits(struct fake *fake)
{
    fake->limits.hashes = 0;
    fake_hello(fake);
}

static void hang_up(struct fake *fake)
{
    (void)fake_expect(fake, PROTO_HELLO);
}

static void stay_silent(struct fake *fake)
{
    while (fake_take(fake)) {
        ;
    }
}

/* What the admin socket answers to bytes that are not JSON. */
static void speak_json(struct fake *fake)
{
    static const char line[] = "{\"jsonrpc\": \"2.0\", \"error\": {}, \"id\": null}\n";
    (void)fake_expect(fake, PROTO_HELLO);
    fake_raw(fake, line, strlen(line));
}

static void test_hello_refused(void **state)
{
    static const struct {
        void (*script)(struct fake *fake);
        const char *error;
        const char *message; /* a part of it */
    } cases[] = {
        {refuse_hello, "too_many_connections", ""},
        {garbage_hello, "bad_reply", ""},
        {wrong_first_frame, "bad_reply", ""},
        {tiny_limits, "bad_reply", ""},
        {speak_json, "bad_reply", "admin socket"},
        {hang_up, "connection_lost", "is this capstored's client socket?"},
        {stay_silent, "timed_out", "is this capstored's client socket"},
    };
    struct capstore_options options = CAPSTORE_OPTIONS_INIT;
    (void)state;
    options.timeout_ms = 200;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fake fake;
        struct capstore *store;
        fake_start(&fake, cases[i].script, NULL);
        assert_error(capstore_new(&options, &store), "ok");
        assert_error(capstore_connect_fd(store, fake.client_fd), cases[i].error);
        assert_true(strlen(capstore_message(store)) > 0);
        assert_non_null(strstr(capstore_message(store), cases[i].message));
        assert_false(capstore_connected(store));
        capstore_free(store);
        fake_join(&fake);
    }
}

static void test_connect_errors(void **state)
{
    struct capstore *store;
    struct capstore_options options = CAPSTORE_OPTIONS_INIT;
    (void)state;
    assert_error(capstore_new(NULL, &store), "ok");
    assert_error(capstore_connect(store, "nonsense"), "invalid_argument");
    assert_error(capstore_connect(store, "unix:/nowhere/at/all"), "connect");
    assert_non_null(strstr(capstore_message(store), "/nowhere/at/all"));
    assert_non_null(strstr(capstore_message(store), "is the daemon running"));
    /* What no daemon can mend does not point at it. */
    assert_error(capstore_connect(store, "unix:/dev/null/sock"), "connect");
    assert_null(strstr(capstore_message(store), "is the daemon running"));
    assert_error(capstore_connect(store, "tcp:127.0.0.1:1"), "connect");
    capstore_free(store);
    options.agent = "line\nbreak";
    assert_error(capstore_new(&options, &store), "invalid_argument");
    options.agent = NULL;
    options.struct_size = 3;
    assert_error(capstore_new(&options, &store), "invalid_argument");
}

/* ---- has, stat ---- */

/* Answers every HAS with kind 2 for hashes that begin with an odd byte. */
static void answer_odd(struct fake *fake)
{
    fake->limits.hashes = 2;
    fake_hello(fake);
    for (int round = 0; round < 3 && fake_expect(fake, PROTO_HAS); round++) {
        struct proto_has has;
        uint8_t kinds[2];
        struct cap_buf payload = {0};
        fake_check(fake, proto_has_decode(cap_buf_bytes(&fake->payload), &has) == CAP_OK);
        fake_check(fake, has.count == (round < 2 ? 2u : 1u));
        for (size_t i = 0; i < has.count; i++) {
            kinds[i] = has.hashes.data[32 * i] % 2 != 0 ? 2 : 0;
        }
        struct proto_has_reply reply = {.kinds = {kinds, has.count}};
        fake_check(fake, proto_has_reply_encode(&reply, &payload) == CAP_OK);
        fake_send_buf(fake, PROTO_HAS_REPLY, fake->frame.id, &payload);
    }
}

static void test_has_splits(void **state)
{
    struct fake fake;
    struct capstore_hash hashes[5] = {{{1}}, {{2}}, {{3}}, {{4}}, {{5}}};
    uint8_t kinds[5] = {9, 9, 9, 9, 9};
    (void)state;
    fake_start(&fake, answer_odd, NULL);
    struct capstore *store = fake_connect(&fake, NULL);
    assert_error(capstore_has(store, hashes, 0, kinds), "ok");
    assert_error(capstore_has(store, hashes, 5, kinds), "ok");
    assert_memory_equal(kinds, "\2\0\2\0\2", 5);
    capstore_free(store);
    fake_join(&fake);
}

static void answer_too_many(struct fake *fake)
{
    static const uint8_t kinds[2] = {1, 1};
    struct proto_has_reply reply = {.kinds = {kinds, 2}};
    struct cap_buf payload = {0};
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_HAS);
    fake_check(fake, proto_has_reply_encode(&reply, &payload) == CAP_OK);
    fake_send_buf(fake, PROTO_HAS_REPLY, fake->frame.id, &payload);
}

static void answer_the_future(struct fake *fake)
{
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_HAS);
    fake_error(fake, fake->frame.id + 1, CAP_E_NOT_FOUND, "who asked?", 0);
}

static void test_bad_replies_close(void **state)
{
    static void (*const scripts[])(struct fake *) = {answer_too_many, answer_the_future};
    struct capstore_hash hash = {{1}};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct fake fake;
        uint8_t kind = 9;
        fake_start(&fake, scripts[i], NULL);
        struct capstore *store = fake_connect(&fake, NULL);
        assert_error(capstore_has(store, &hash, 1, &kind), "bad_reply");
        assert_int_equal(kind, 9);
        assert_false(capstore_connected(store));
        assert_error(capstore_has(store, &hash, 1, &kind), "connection_lost");
        capstore_free(store);
        fake_join(&fake);
    }
}

static void absent_then_there(struct fake *fake)
{
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_STAT);
    fake_error(fake, fake->frame.id, CAP_E_NOT_FOUND, "not here", 0);
    fake_answer_has(fake);
    (void)fake_expect(fake, PROTO_STAT);
    struct proto_stat_reply reply = {.kind = 2, .body_len = 34, .size = 4096, .page_count = 1};
    struct cap_buf payload = {0};
    fake_check(fake, proto_stat_reply_encode(&reply, &payload) == CAP_OK);
    fake_send_buf(fake, PROTO_STAT_REPLY, fake->frame.id, &payload);
}

static void test_stat(void **state)
{
    struct fake fake;
    struct capstore_stat_result stat;
    struct capstore_hash hash = {{1}};
    (void)state;
    fake_start(&fake, absent_then_there, NULL);
    struct capstore *store = fake_connect(&fake, NULL);
    assert_error(capstore_stat(store, &hash, &stat), "not_found");
    assert_string_equal(capstore_message(store), "not here");
    fake_assert_usable(store);
    assert_error(capstore_stat(store, &hash, &stat), "ok");
    assert_string_equal(capstore_message(store), "");
    assert_int_equal(stat.kind, CAPSTORE_KIND_DATA);
    assert_int_equal(stat.size, 4096);
    capstore_free(store);
    fake_join(&fake);
}

static void last_words(struct fake *fake)
{
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_STAT);
    fake_error(fake, 0, CAP_E_DRAINING, "bye", 0);
}

static void test_connection_error_ends_it(void **state)
{
    struct fake fake;
    struct capstore_stat_result stat;
    struct capstore_hash hash = {{1}};
    (void)state;
    fake_start(&fake, last_words, NULL);
    struct capstore *store = fake_connect(&fake, NULL);
    assert_error(capstore_stat(store, &hash, &stat), "draining");
    assert_string_equal(capstore_message(store), "bye");
    assert_false(capstore_connected(store));
    capstore_free(store);
    fake_join(&fake);
}

/* ---- get ---- */

/* Serves the bytes in ctx for every GET, byte by byte, then answers a HAS. */
static void serve(struct fake *fake)
{
    const struct cap_bytes *body = (const struct cap_bytes *)fake->ctx;
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_GET);
    fake_body(fake, *body, 1);
    fake_answer_has(fake);
}

static void test_get(void **state)
{
    struct fake fake;
    struct cap_bytes body = {hello_body, sizeof(hello_body)};
    struct capstore_hash hash = hash_of(HELLO_HASH);
    struct capstore_cap *cap;
    (void)state;
    fake_start(&fake, serve, &body);
    struct capstore *store = fake_connect(&fake, NULL);
    assert_error(capstore_get(store, &hash, &cap), "ok");
    assert_true(capstore_cap_verified(cap));
    assert_true(capstore_hash_equal(capstore_cap_hash(cap), &hash));
    assert_int_equal(capstore_cap_body(cap).len, body.len);
    assert_memory_equal(capstore_cap_body(cap).data, body.data, body.len);
    fake_assert_usable(store);
    capstore_free(store);
    capstore_cap_free(cap);
    fake_join(&fake);
}

/* A body that is sound but another one, and bytes that are not a body. */
static void test_get_what_does_not_verify(void **state)
{
    uint8_t other[sizeof(hello_body)];
    struct cap_bytes bodies[2] = {{other, sizeof(other)}, {(const uint8_t *)"\2rubbish", 8}};
    static const char *const errors[2] = {"hash_mismatch", "body_not_canonical"};
    struct capstore_hash hash = hash_of(HELLO_HASH);
    (void)state;
    memcpy(other, hello_body, sizeof(other));
    other[sizeof(other) - 1] = '!';
    for (size_t i = 0; i < 2; i++) {
        struct fake fake;
        struct capstore_cap *cap = NULL;
        fake_start(&fake, serve, &bodies[i]);
        struct capstore *store = fake_connect(&fake, NULL);
        assert_error(capstore_get(store, &hash, &cap), errors[i]);
        assert_null(cap);
        fake_assert_usable(store);
        capstore_free(store);
        fake_join(&fake);
    }
}

static void test_get_unverified(void **state)
{
    struct fake fake;
    struct capstore_options options = CAPSTORE_OPTIONS_INIT;
    struct cap_bytes body = {hello_body, sizeof(hello_body)};
    struct capstore_hash hash = {{42}};
    struct capstore_cap *cap;
    (void)state;
    options.no_verify = true;
    fake_start(&fake, serve, &body);
    struct capstore *store = fake_connect(&fake, &options);
    assert_error(capstore_get(store, &hash, &cap), "ok");
    assert_false(capstore_cap_verified(cap));
    assert_true(capstore_hash_equal(capstore_cap_hash(cap), &hash));
    fake_assert_usable(store);
    capstore_free(store);
    capstore_cap_free(cap);
    fake_join(&fake);
}

static void send_get_reply(struct fake *fake, uint64_t len)
{
    struct proto_get_reply reply = {2, len, 0, len};
    struct cap_buf payload = {0};
    fake_check(fake, proto_get_reply_encode(&reply, &payload) == CAP_OK);
    fake_send_buf(fake, PROTO_GET_REPLY, fake->frame.id, &payload);
}

static void hang_up_in_the_middle(struct fake *fake)
{
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_GET);
    send_get_reply(fake, 34);
    fake_send(fake, PROTO_BODY, fake->frame.id, 0, (struct cap_bytes){hello_body, 20});
}

static void end_too_early(struct fake *fake)
{
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_GET);
    send_get_reply(fake, 34);
    fake_send(fake, PROTO_BODY, fake->frame.id, PROTO_FLAG_END, (struct cap_bytes){hello_body, 20});
}

static void send_too_much(struct fake *fake)
{
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_GET);
    send_get_reply(fake, 20);
    fake_send(fake, PROTO_BODY, fake->frame.id, PROTO_FLAG_END, (struct cap_bytes){hello_body, 34});
}

static void stop_in_the_middle(struct fake *fake)
{
    hang_up_in_the_middle(fake);
    while (fake_take(fake)) {
        ;
    }
}

static void test_get_broken_off(void **state)
{
    static const struct {
        void (*script)(struct fake *fake);
        const char *error;
    } cases[] = {
        {hang_up_in_the_middle, "connection_lost"},
        {end_too_early, "length_mismatch"},
        {send_too_much, "length_mismatch"},
        {stop_in_the_middle, "timed_out"},
    };
    struct capstore_options options = CAPSTORE_OPTIONS_INIT;
    struct capstore_hash hash = hash_of(HELLO_HASH);
    (void)state;
    options.timeout_ms = 200;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fake fake;
        struct capstore_cap *cap = NULL;
        fake_start(&fake, cases[i].script, NULL);
        struct capstore *store = fake_connect(&fake, &options);
        assert_error(capstore_get(store, &hash, &cap), cases[i].error);
        assert_null(cap);
        assert_false(capstore_connected(store));
        capstore_free(store);
        fake_join(&fake);
    }
}

static void corrupt_in_the_middle(struct fake *fake)
{
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_GET);
    send_get_reply(fake, 34);
    fake_send(fake, PROTO_BODY, fake->frame.id, 0, (struct cap_bytes){hello_body, 20});
    fake_error(fake, fake->frame.id, CAP_E_CORRUPT, "chunk 3 is damaged", 0);
    fake_answer_has(fake);
}

static void test_get_corrupt(void **state)
{
    struct fake fake;
    struct capstore_hash hash = hash_of(HELLO_HASH);
    struct capstore_cap *cap = NULL;
    (void)state;
    fake_start(&fake, corrupt_in_the_middle, NULL);
    struct capstore *store = fake_connect(&fake, NULL);
    assert_error(capstore_get(store, &hash, &cap), "corrupt");
    assert_string_equal(capstore_message(store), "chunk 3 is damaged");
    fake_assert_usable(store);
    capstore_free(store);
    fake_join(&fake);
}

/* A claim is not believed: the body is declined, what arrives of it is skipped. */
static void claim_too_much(struct fake *fake)
{
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_GET);
    uint32_t id = fake->frame.id;
    send_get_reply(fake, UINT64_C(1) << 40);
    fake_send(fake, PROTO_BODY, id, 0, (struct cap_bytes){hello_body, 20});
    fake_check(fake, fake_expect(fake, PROTO_CANCEL) && fake->frame.id == id);
    fake_send(fake, PROTO_BODY, id, 0, (struct cap_bytes){hello_body, 20});
    fake_error(fake, id, CAP_E_CANCELLED, "as you wish", 0);
    fake_answer_has(fake);
}

static void test_get_too_large(void **state)
{
    struct fake fake;
    struct capstore_hash hash = hash_of(HELLO_HASH);
    struct capstore_cap *cap = NULL;
    (void)state;
    fake_start(&fake, claim_too_much, NULL);
    struct capstore *store = fake_connect(&fake, NULL);
    assert_error(capstore_get(store, &hash, &cap), "body_too_large");
    fake_assert_usable(store);
    capstore_free(store);
    fake_join(&fake);
}

/* ---- ranges ---- */

static void serve_range(struct fake *fake)
{
    struct proto_get get;
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_GET);
    fake_check(fake, proto_get_decode(cap_buf_bytes(&fake->payload), &get) == CAP_OK);
    fake_check(fake, get.offset == 29 && get.len == PROTO_TO_END);
    struct proto_get_reply reply = {2, 34, 29, 5};
    struct cap_buf payload = {0};
    fake_check(fake, proto_get_reply_encode(&reply, &payload) == CAP_OK);
    fake_send_buf(fake, PROTO_GET_REPLY, fake->frame.id, &payload);
    fake_send(fake, PROTO_BODY, fake->frame.id, 0, (struct cap_bytes){hello_body + 29, 2});
    fake_send(fake, PROTO_BODY, fake->frame.id, PROTO_FLAG_END,
              (struct cap_bytes){hello_body + 31, 3});
    fake_answer_has(fake);
}

static enum capstore_error collect(void *ctx, struct capstore_bytes piece)
{
    struct cap_buf *buf = (struct cap_buf *)ctx;
    return cap_buf_append(buf, piece.data, piece.len) == CAP_OK ? CAPSTORE_OK
                                                                : CAPSTORE_E_NO_MEMORY;
}

static void test_get_range(void **state)
{
    struct fake fake;
    struct capstore_hash hash = hash_of(HELLO_HASH);
    struct cap_buf got = {0};
    (void)state;
    fake_start(&fake, serve_range, NULL);
    struct capstore *store = fake_connect(&fake, NULL);
    assert_error(capstore_get_range(store, &hash, 29, UINT64_MAX, collect, &got), "ok");
    assert_int_equal(got.len, 5);
    assert_memory_equal(got.data, "hello", 5);
    fake_assert_usable(store);
    capstore_free(store);
    cap_buf_free(&got);
    fake_join(&fake);
}

/* ---- closure ---- */

/* What a daemon of few caps holds. */
struct shelf {
    size_t count;
    struct capstore_hash hashes[4];
    struct cap_bytes bodies[4];
};

/* Answers STAT and GET from the shelf until the client goes. */
static void keep_shelf(struct fake *fake)
{
    const struct shelf *shelf = (const struct shelf *)fake->ctx;
    fake_hello(fake);
    while (fake_take(fake)) {
        size_t i = 0;
        while (i < shelf->count && (fake->payload.len < 32 ||
                                    memcmp(fake->payload.data, shelf->hashes[i].bytes, 32) != 0)) {
            i++;
        }
        if (i == shelf->count) {
            fake_error(fake, fake->frame.id, CAP_E_NOT_FOUND, "no", 0);
        } else if (fake->frame.type == PROTO_GET) {
            fake_body(fake, shelf->bodies[i], 4096);
        } else {
            struct proto_stat_reply reply = {.kind = shelf->bodies[i].data[0],
                                             .body_len = shelf->bodies[i].len};
            struct cap_buf payload = {0};
            fake_check(fake, proto_stat_reply_encode(&reply, &payload) == CAP_OK);
            fake_send_buf(fake, PROTO_STAT_REPLY, fake->frame.id, &payload);
        }
    }
}

struct seen {
    size_t count;
    size_t bodies;
    struct capstore_hash hashes[8];
};

static enum capstore_error see(void *ctx, const struct capstore_closure_entry *entry)
{
    struct seen *seen = (struct seen *)ctx;
    assert_true(seen->count < 8);
    seen->hashes[seen->count++] = entry->hash;
    seen->bodies += entry->cap != NULL;
    return CAPSTORE_OK;
}

/* An Image that needs an Image and a Data cap; the inner one needs the same Data cap. */
static void test_closure(void **state)
{
    struct fake fake;
    struct cap_buf inner;
    struct cap_buf outer;
    struct shelf shelf = {.count = 3};
    struct seen seen = {0};
    (void)state;
    shelf.hashes[0] = hash_of(HELLO_HASH);
    make_image("inner", &shelf.hashes[0], 1, &inner, &shelf.hashes[1]);
    make_image("outer", shelf.hashes, 2, &outer, &shelf.hashes[2]);
    shelf.bodies[0] = (struct cap_bytes){hello_body, sizeof(hello_body)};
    shelf.bodies[1] = cap_buf_bytes(&inner);
    shelf.bodies[2] = cap_buf_bytes(&outer);
    fake_start(&fake, keep_shelf, &shelf);
    struct capstore *store = fake_connect(&fake, NULL);
    assert_error(capstore_closure(store, &shelf.hashes[2], 0, see, &seen), "ok");
    assert_int_equal(seen.count, 3);
    assert_int_equal(seen.bodies, 2);
    assert_true(capstore_hash_equal(&seen.hashes[0], &shelf.hashes[2]));
    seen = (struct seen){0};
    assert_error(capstore_closure(store, &shelf.hashes[2], CAPSTORE_CLOSURE_BODIES, see, &seen),
                 "ok");
    assert_int_equal(seen.bodies, 3);

    struct capstore_hash absent = {{0xab}};
    assert_error(capstore_closure(store, &absent, 0, see, &seen), "not_found");
    assert_memory_equal(capstore_message(store), "ab0000", 6);
    capstore_free(store);
    fake_join(&fake);
    cap_buf_free(&inner);
    cap_buf_free(&outer);
}

/* With verification off a store can claim a circle; the walk ends nevertheless. */
static void test_closure_of_a_circle(void **state)
{
    struct fake fake;
    struct cap_buf one;
    struct cap_buf other;
    struct capstore_hash unused;
    struct shelf shelf = {.count = 2, .hashes = {{{1}}, {{2}}}};
    struct seen seen = {0};
    struct capstore_options options = CAPSTORE_OPTIONS_INIT;
    (void)state;
    options.no_verify = true;
    make_image("one", &shelf.hashes[1], 1, &one, &unused);
    make_image("other", &shelf.hashes[0], 1, &other, &unused);
    shelf.bodies[0] = cap_buf_bytes(&one);
    shelf.bodies[1] = cap_buf_bytes(&other);
    fake_start(&fake, keep_shelf, &shelf);
    struct capstore *store = fake_connect(&fake, &options);
    assert_error(capstore_closure(store, &shelf.hashes[0], 0, see, &seen), "ok");
    assert_int_equal(seen.count, 2);
    capstore_free(store);
    fake_join(&fake);
    cap_buf_free(&one);
    cap_buf_free(&other);
}

static void test_closure_bound(void **state)
{
    struct fake fake;
    struct cap_buf body;
    struct shelf shelf = {.count = 1};
    struct capstore_hash many[5] = {{{1}}, {{2}}, {{3}}, {{4}}, {{5}}};
    struct seen seen = {0};
    struct capstore_options options = CAPSTORE_OPTIONS_INIT;
    (void)state;
    options.max_caps = 5;
    make_image("code", many, 5, &body, &shelf.hashes[0]);
    shelf.bodies[0] = cap_buf_bytes(&body);
    fake_start(&fake, keep_shelf, &shelf);
    struct capstore *store = fake_connect(&fake, &options);
    assert_error(capstore_closure(store, &shelf.hashes[0], 0, see, &seen), "memory_limit");
    capstore_free(store);
    fake_join(&fake);
    cap_buf_free(&body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hello),
        cmocka_unit_test(test_hello_refused),
        cmocka_unit_test(test_connect_errors),
        cmocka_unit_test(test_has_splits),
        cmocka_unit_test(test_bad_replies_close),
        cmocka_unit_test(test_stat),
        cmocka_unit_test(test_connection_error_ends_it),
        cmocka_unit_test(test_get),
        cmocka_unit_test(test_get_what_does_not_verify),
        cmocka_unit_test(test_get_unverified),
        cmocka_unit_test(test_get_broken_off),
        cmocka_unit_test(test_get_corrupt),
        cmocka_unit_test(test_get_too_large),
        cmocka_unit_test(test_get_range),
        cmocka_unit_test(test_closure),
        cmocka_unit_test(test_closure_of_a_circle),
        cmocka_unit_test(test_closure_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
