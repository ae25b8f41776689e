/* Many requests in flight against a scripted daemon: each callback once, whatever happens. */
#include <poll.h>
#include <stdio.h>

#include "tests/unit/client/bodies.h"
#include "tests/unit/client/fake.h"

#include <capstore/async.h>

#define assert_error(expression, name) assert_string_equal(capstore_error_name(expression), name)

#define MANY 200u

/* How one request ended. */
struct ended {
    unsigned times;
    enum capstore_error error;
    uint64_t body_len;
    uint8_t kind;
    struct capstore *store;
    char message[CAPSTORE_MESSAGE_SIZE];
};

static void on_done(void *ctx, const struct capstore_answer *answer)
{
    struct ended *ended = (struct ended *)ctx;
    ended->times++;
    ended->error = answer->error;
    ended->kind = answer->kind_count > 0 ? answer->kinds[0] : 0;
    if (answer->cap != NULL) {
        ended->body_len = capstore_cap_body(answer->cap).len;
        capstore_cap_free(answer->cap);
    }
    if (ended->store != NULL) {
        snprintf(ended->message, sizeof(ended->message), "%s", capstore_message(ended->store));
    }
}

/* As a caller's loop; returns what ended the connection. */
static enum capstore_error turn_until_idle(struct capstore *store)
{
    enum capstore_error error = CAPSTORE_OK;
    while (error == CAPSTORE_OK && capstore_pending(store) > 0) {
        struct pollfd entry = {capstore_fd(store), (short)capstore_events(store), 0};
        assert_true(poll(&entry, 1, capstore_timeout_ms(store)) >= 0);
        error = capstore_process(store, entry.revents);
    }
    return error;
}

static void submit_gets(struct capstore *store, struct ended *ended, size_t count)
{
    struct capstore_hash hash = hash_of(HELLO_HASH);
    for (size_t i = 0; i < count; i++) {
        assert_error(capstore_async_get(store, &hash, on_done, &ended[i], NULL), "ok");
        assert_int_equal(ended[i].times, 0);
    }
}

/* ---- order ---- */

static void send_reply(struct fake *fake, uint32_t id)
{
    struct proto_get_reply reply = {2, sizeof(hello_body), 0, sizeof(hello_body)};
    struct cap_buf payload = {0};
    fake_check(fake, proto_get_reply_encode(&reply, &payload) == CAP_OK);
    fake_send_buf(fake, PROTO_GET_REPLY, id, &payload);
}

static void send_part(struct fake *fake, uint32_t id, size_t from, size_t len)
{
    bool end = from + len == sizeof(hello_body);
    fake_send(fake, PROTO_BODY, id, end ? PROTO_FLAG_END : 0,
              (struct cap_bytes){hello_body + from, len});
}

/* Takes eight at a time, the limit, and answers them backwards, their bodies interleaved. */
static void interleave(struct fake *fake)
{
    fake->limits.requests = 8;
    fake_hello(fake);
    for (unsigned round = 0; round < MANY / 8; round++) {
        uint32_t ids[8];
        for (size_t i = 0; i < 8; i++) {
            (void)fake_expect(fake, PROTO_GET);
            ids[i] = fake->frame.id;
        }
        for (size_t i = 8; i-- > 0;) {
            send_reply(fake, ids[i]);
        }
        for (size_t at = 0; at < sizeof(hello_body); at += 17) {
            for (size_t i = 0; i < 8; i++) {
                send_part(fake, ids[(i + at) % 8], at, 17);
            }
        }
    }
    fake_answer_has(fake);
}

static void test_any_order(void **state)
{
    struct fake fake;
    struct ended ended[MANY] = {0};
    (void)state;
    fake_start(&fake, interleave, NULL);
    struct capstore *store = fake_connect(&fake, NULL);
    submit_gets(store, ended, MANY);
    assert_int_equal(capstore_pending(store), MANY);
    assert_error(turn_until_idle(store), "ok");
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(ended[i].times, 1);
        assert_error(ended[i].error, "ok");
        assert_int_equal(ended[i].body_len, sizeof(hello_body));
    }
    assert_int_equal(capstore_timeout_ms(store), -1);
    assert_int_equal(capstore_events(store), POLLIN);
    fake_assert_usable(store);
    capstore_free(store);
    fake_join(&fake);
}

/* ---- a daemon that misbehaves ---- */

/* Answers the first of four, twice; then an id that nobody used. */
static void answer_twice(struct fake *fake)
{
    uint32_t ids[4];
    fake_hello(fake);
    for (size_t i = 0; i < 4; i++) {
        (void)fake_expect(fake, PROTO_GET);
        ids[i] = fake->frame.id;
    }
    for (int i = 0; i < 2; i++) {
        send_reply(fake, ids[0]);
        send_part(fake, ids[0], 0, sizeof(hello_body));
    }
    fake_error(fake, ids[3] + 1, CAP_E_NOT_FOUND, "who asked?", 0);
    (void)fake_take(fake);
}

/* Sends a body without a reply. */
static void body_first(struct fake *fake)
{
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_GET);
    send_part(fake, fake->frame.id, 0, 10);
    while (fake_take(fake)) {
        ;
    }
}

static void hang_up(struct fake *fake)
{
    fake_hello(fake);
    for (size_t i = 0; i < 4; i++) {
        (void)fake_expect(fake, PROTO_GET);
    }
    send_reply(fake, fake->frame.id);
    send_part(fake, fake->frame.id, 0, 10);
}

static void drain(struct fake *fake)
{
    fake_hello(fake);
    for (size_t i = 0; i < 4; i++) {
        (void)fake_expect(fake, PROTO_GET);
    }
    fake_error(fake, 0, CAP_E_DRAINING, "going down", 0);
}

static void say_nothing(struct fake *fake)
{
    fake_hello(fake);
    while (fake_take(fake)) {
        ;
    }
}

static void test_a_lost_stream_ends_all(void **state)
{
    static const struct {
        void (*script)(struct fake *fake);
        const char *error;
        size_t fetched;
    } cases[] = {
        {answer_twice, "bad_reply", 1},  {body_first, "bad_reply", 0},
        {hang_up, "connection_lost", 0}, {drain, "draining", 0},
        {say_nothing, "timed_out", 0},
    };
    struct capstore_options options = CAPSTORE_OPTIONS_INIT;
    (void)state;
    options.timeout_ms = 500;
    options.struct_size = offsetof(struct capstore_options, max_bodies); /* of the first version */
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct fake fake;
        struct ended ended[4] = {0};
        struct capstore_hash hash = hash_of(HELLO_HASH);
        fake_start(&fake, cases[c].script, NULL);
        struct capstore *store = fake_connect(&fake, &options);
        ended[3].store = store;
        submit_gets(store, ended, 4);
        assert_error(turn_until_idle(store), cases[c].error);
        assert_string_not_equal(capstore_message(store), "");
        for (size_t i = 0; i < 4; i++) {
            assert_int_equal(ended[i].times, 1);
            assert_error(ended[i].error, i < cases[c].fetched ? "ok" : cases[c].error);
        }
        assert_string_equal(ended[3].message, capstore_message(store));
        assert_false(capstore_connected(store));
        assert_int_equal(capstore_fd(store), -1);
        assert_error(capstore_async_get(store, &hash, on_done, &ended[0], NULL), "connection_lost");
        capstore_free(store);
        assert_int_equal(ended[0].times, 1);
        fake_join(&fake);
    }
}

/* Together they are longer than the handle may hold: one that had no room fails alone. */
static void claim_and_send(struct fake *fake)
{
    uint32_t ids[2];
    fake_hello(fake);
    for (size_t i = 0; i < 2; i++) {
        (void)fake_expect(fake, PROTO_GET);
        ids[i] = fake->frame.id;
        send_reply(fake, ids[i]);
    }
    send_part(fake, ids[0], 0, 30);
    send_part(fake, ids[1], 0, 30);
    fake_check(fake, fake_expect(fake, PROTO_CANCEL) && fake->frame.id == ids[1]);
    fake_error(fake, ids[1], CAP_E_CANCELLED, "cancelled", 0);
    send_part(fake, ids[0], 30, 4);
    fake_answer_has(fake);
}

static void test_bodies_are_bounded_together(void **state)
{
    struct fake fake;
    struct ended ended[2] = {0};
    struct capstore_options options = CAPSTORE_OPTIONS_INIT;
    (void)state;
    options.max_body = 40;
    options.max_bodies = 50;
    fake_start(&fake, claim_and_send, NULL);
    struct capstore *store = fake_connect(&fake, &options);
    submit_gets(store, ended, 2);
    assert_error(turn_until_idle(store), "ok");
    assert_error(ended[0].error, "ok");
    assert_error(ended[1].error, "memory_limit");
    fake_assert_usable(store);
    capstore_free(store);
    fake_join(&fake);
}

/* ---- giving up ---- */

/* Of two requests the first is cancelled; its answer crosses the CANCEL. */
static void cross(struct fake *fake)
{
    fake->limits.requests = 2;
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_GET);
    uint32_t first = fake->frame.id;
    (void)fake_expect(fake, PROTO_GET);
    uint32_t second = fake->frame.id;
    (void)fake_expect(fake, PROTO_CANCEL);
    fake_check(fake, fake->frame.id == first);
    send_reply(fake, first);
    send_part(fake, first, 0, 17);
    send_reply(fake, second);
    send_part(fake, first, 17, 17);
    send_part(fake, second, 0, 34);
    fake_answer_has(fake);
}

static void test_cancel(void **state)
{
    struct fake fake;
    struct ended ended[3] = {0};
    struct capstore_request *requests[3];
    struct capstore_hash hash = hash_of(HELLO_HASH);
    (void)state;
    fake_start(&fake, cross, NULL);
    struct capstore *store = fake_connect(&fake, NULL);
    for (size_t i = 0; i < 3; i++) {
        assert_error(capstore_async_get(store, &hash, on_done, &ended[i], &requests[i]), "ok");
    }
    assert_error(capstore_process(store, 0), "ok"); /* two are sent */
    capstore_cancel(requests[0]);
    capstore_cancel(requests[0]);
    capstore_cancel(requests[2]);
    assert_int_equal(ended[0].times, 0);
    assert_int_equal(capstore_timeout_ms(store), 0);
    assert_error(turn_until_idle(store), "ok");
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(ended[i].times, 1);
        assert_error(ended[i].error, i == 1 ? "ok" : "cancelled");
    }
    fake_assert_usable(store);
    capstore_free(store);
    fake_join(&fake);
}

static void test_free_ends_all(void **state)
{
    struct fake fake;
    struct ended ended[4] = {0};
    (void)state;
    fake_start(&fake, say_nothing, NULL);
    struct capstore *store = fake_connect(&fake, NULL);
    submit_gets(store, ended, 2);
    assert_error(capstore_process(store, 0), "ok");
    submit_gets(store, ended + 2, 2);
    capstore_free(store);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(ended[i].times, 1);
        assert_error(ended[i].error, "cancelled");
    }
    fake_join(&fake);
}

/* ---- inside callbacks ---- */

struct chain {
    struct capstore *store;
    unsigned left;
    unsigned times;
    bool close;
};

static void submit_next(void *ctx, const struct capstore_answer *answer)
{
    struct chain *chain = (struct chain *)ctx;
    struct capstore_hash hash = hash_of(HELLO_HASH);
    uint8_t kind;
    chain->times++;
    capstore_cap_free(answer->cap);
    assert_error(capstore_has(chain->store, &hash, 1, &kind), "invalid_argument");
    assert_error(capstore_process(chain->store, 0), "invalid_argument");
    if (chain->left > 0 && answer->error == CAPSTORE_OK) {
        chain->left--;
        assert_error(capstore_async_get(chain->store, &hash, submit_next, chain, NULL), "ok");
    } else if (chain->close) {
        capstore_close(chain->store);
    }
}

static void answer_gets(struct fake *fake)
{
    fake_hello(fake);
    while (fake_take(fake)) {
        fake_body(fake, (struct cap_bytes){hello_body, sizeof(hello_body)}, 34);
    }
}

static void test_callbacks_submit_and_close(void **state)
{
    struct fake fake;
    struct capstore_hash hash = hash_of(HELLO_HASH);
    (void)state;
    fake_start(&fake, answer_gets, NULL);
    struct capstore *store = fake_connect(&fake, NULL);
    struct chain chains[2] = {{store, 10, 0, false}, {store, 20, 0, true}};
    for (size_t i = 0; i < 2; i++) {
        assert_error(capstore_async_get(store, &hash, submit_next, &chains[i], NULL), "ok");
    }
    (void)turn_until_idle(store);
    assert_int_equal(chains[0].times, 11);
    assert_int_equal(chains[1].times, 21);
    assert_false(capstore_connected(store));
    capstore_free(store);
    fake_join(&fake);
}

/* ---- together with uploads and blocking calls ---- */

/* Two uploads whose frames come in turn, a HAS that overtakes them; the second is refused. */
static void take_two_uploads(struct fake *fake)
{
    uint32_t ids[2] = {0, 0};
    size_t open = 0;
    size_t ended = 0;
    bool has = false;
    fake_hello(fake);
    while (ended < 2 || !has) {
        if (!fake_take(fake)) {
            fake_check(fake, false);
            return;
        }
        if (fake->frame.type == PROTO_PUT_DATA && open < 2) {
            ids[open++] = fake->frame.id;
            if (open == 2) {
                fake_error(fake, ids[1], CAP_E_SPOOL_FULL, "no room", 0);
            }
        } else if (fake->frame.type == PROTO_HAS) {
            static const uint8_t kind = CAP_KIND_DATA;
            struct proto_has_reply reply = {.kinds = {&kind, 1}};
            struct cap_buf payload = {0};
            has = true;
            fake_check(fake, proto_has_reply_encode(&reply, &payload) == CAP_OK);
            fake_send_buf(fake, PROTO_HAS_REPLY, fake->frame.id, &payload);
        } else if (fake->frame.type == PROTO_BODY && (fake->frame.flags & PROTO_FLAG_END) != 0) {
            ended++;
        }
    }
    struct proto_put_data_reply reply = {{{1}}, 4096, 34, 1, 0};
    struct cap_buf payload = {0};
    fake_check(fake, proto_put_data_reply_encode(&reply, &payload) == CAP_OK);
    fake_send_buf(fake, PROTO_PUT_DATA_REPLY, ids[0], &payload);
    (void)fake_take(fake);
}

static void test_uploads_and_a_blocking_call(void **state)
{
    static uint8_t bytes[3u << 20];
    const struct capstore_bytes content = {bytes, sizeof(bytes)};
    const struct capstore_source source = capstore_source_memory(&content);
    struct fake fake;
    struct ended ended[3] = {0};
    (void)state;
    memset(bytes, 5, sizeof(bytes));
    fake_start(&fake, take_two_uploads, NULL);
    struct capstore *store = fake_connect(&fake, NULL);
    for (size_t i = 0; i < 2; i++) {
        ended[i].store = store;
        assert_error(capstore_async_put_data(store, &source, 0, 0, on_done, &ended[i], NULL), "ok");
    }
    fake_assert_usable(store);
    struct capstore_hash hash = {{1}};
    assert_error(turn_until_idle(store), "ok");
    assert_error(ended[0].error, "ok");
    assert_error(ended[1].error, "spool_full");
    assert_string_equal(ended[1].message, "no room");
    assert_int_equal(ended[0].times + ended[1].times, 2);
    assert_error(capstore_async_has(store, &hash, 5000, on_done, &ended[2], NULL),
                 "too_many_hashes");
    assert_error(capstore_async_get(store, &hash, NULL, NULL, NULL), "invalid_argument");
    capstore_free(store);
    fake_join(&fake);
}

/* ---- closure ---- */

#define CHILDREN 10u

struct family {
    struct cap_bytes root;
    struct capstore_hash hashes[CHILDREN];
};

static void reply_stat(struct fake *fake, uint32_t id, uint8_t kind, uint64_t body_len)
{
    struct proto_stat_reply reply = {.kind = kind, .body_len = body_len};
    struct cap_buf payload = {0};
    fake_check(fake, proto_stat_reply_encode(&reply, &payload) == CAP_OK);
    fake_send_buf(fake, PROTO_STAT_REPLY, id, &payload);
}

/* Answers nothing about the caps of a level before it was asked for all of them; then backwards. */
static void answer_by_levels(struct fake *fake)
{
    const struct family *family = (const struct family *)fake->ctx;
    uint32_t ids[CHILDREN];
    fake_hello(fake);
    (void)fake_expect(fake, PROTO_STAT);
    reply_stat(fake, fake->frame.id, CAP_KIND_IMAGE, family->root.len);
    (void)fake_expect(fake, PROTO_GET);
    fake_body(fake, family->root, 4096);
    for (size_t i = 0; i < CHILDREN; i++) {
        (void)fake_expect(fake, PROTO_STAT);
        ids[i] = fake->frame.id;
    }
    for (size_t i = CHILDREN; i-- > 0;) {
        reply_stat(fake, ids[i], CAP_KIND_DATA, 100 + i);
    }
    fake_answer_has(fake);
}

struct visited {
    size_t count;
    uint64_t lengths[CHILDREN + 1];
};

static enum capstore_error note_visit(void *ctx, const struct capstore_closure_entry *entry)
{
    struct visited *visited = (struct visited *)ctx;
    assert_true(visited->count <= CHILDREN);
    visited->lengths[visited->count++] = entry->body_len;
    return CAPSTORE_OK;
}

static void test_closure_asks_ahead(void **state)
{
    struct fake fake;
    struct cap_buf root;
    struct capstore_hash hash;
    struct family family;
    struct visited visited = {0};
    (void)state;
    memset(&family, 0, sizeof(family));
    for (size_t i = 0; i < CHILDREN; i++) {
        family.hashes[i].bytes[0] = (uint8_t)(i + 1);
    }
    make_image("root", family.hashes, CHILDREN, &root, &hash);
    family.root = cap_buf_bytes(&root);
    fake_start(&fake, answer_by_levels, &family);
    struct capstore *store = fake_connect(&fake, NULL);
    assert_error(capstore_closure(store, &hash, 0, note_visit, &visited), "ok");
    assert_int_equal(visited.count, CHILDREN + 1);
    for (size_t i = 0; i < CHILDREN; i++) {
        assert_int_equal(visited.lengths[i + 1], 100 + i);
    }
    fake_assert_usable(store);
    capstore_free(store);
    fake_join(&fake);
    cap_buf_free(&root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_order),
        cmocka_unit_test(test_a_lost_stream_ends_all),
        cmocka_unit_test(test_bodies_are_bounded_together),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_free_ends_all),
        cmocka_unit_test(test_callbacks_submit_and_close),
        cmocka_unit_test(test_uploads_and_a_blocking_call),
        cmocka_unit_test(test_closure_asks_ahead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
