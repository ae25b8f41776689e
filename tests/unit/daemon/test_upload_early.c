/*
 * Uploads that are refused as soon as it is known, while the body is arriving; what hashing one
 * will cost.
 */
#include "tests/unit/daemon/test_upload_fixture.h"

#include <string.h>
#include <unistd.h>

#include "daemon/core/ledger.h"
#include "daemon/publish/upload.h"
#include "lib/store/engine.h"
#include "tests/unit/data_body.h"

/* The canonical body of `len` bytes without a zero. */
static struct cap_buf make_canonical(size_t len)
{
    uint8_t *content = make_content(len);
    struct cap_buf body = make_data_body((struct cap_bytes){content, len});
    free(content);
    return body;
}

static void send_put(struct fixture *fixture, int fd, uint32_t id, const struct proto_put_data *put)
{
    struct cap_buf payload = {0};
    assert_cap_ok(proto_put_data_encode(put, &payload));
    client_frame(fixture, fd, PROTO_PUT_DATA, id, 0, cap_buf_bytes(&payload));
    cap_buf_free(&payload);
}

static void little_memory(struct config *config)
{
    config->max_memory = config->max_peer_memory = 200000;
}

/* The memory for a canonical body follows the pages that it has, not those that it could have. */
static void test_memory_follows_the_pages(void **state)
{
    struct fixture fixture;
    static struct reply reply;
    struct cap_buf body = make_canonical(1 << 20);
    struct proto_put_data put = {.flags = PROTO_PUT_CANONICAL, .total_len = body.len};
    (void)state;
    fixture_start(&fixture, little_memory);
    int fd = client_open(&fixture);
    send_put(&fixture, fd, 1, &put);
    client_body(&fixture, fd, 1, cap_buf_bytes(&body), 60000);
    client_receive(&fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_PUT_DATA_REPLY);
    /* More pages than there could ever be memory for: said as soon as they are named. */
    put.total_len = 100000;
    cap_store32(body.data + 13, 16 + 12 * 5000);
    send_put(&fixture, fd, 2, &put);
    client_frame(&fixture, fd, PROTO_BODY, 2, 0, (struct cap_bytes){body.data, 17});
    client_expect_error(&fixture, fd, 2, CAP_E_MEMORY_LIMIT);
    client_frame(&fixture, fd, PROTO_BODY, 2, PROTO_FLAG_END, (struct cap_bytes){0});
    put = (struct proto_put_data){.total_len = UINT64_C(64) << 20};
    send_put(&fixture, fd, 3, &put);
    client_expect_error(&fixture, fd, 3, CAP_E_MEMORY_LIMIT);
    cap_buf_free(&body);
    close(fd);
    fixture_stop(&fixture);
}

/* What the message or a body's first bytes show to be wrong is refused at once. */
static void test_early_refusal_of_data(void **state)
{
    struct fixture *fixture = *state;
    struct cap_buf body = make_canonical(100000);
    struct proto_put_data put = {.size = UINT64_MAX - 4094, .total_len = 100000};
    int fd = client_open(fixture);
    send_put(fixture, fd, 1, &put);
    client_expect_error(fixture, fd, 1, CAP_E_INVALID_ARGUMENT);
    put = (struct proto_put_data){.flags = PROTO_PUT_CANONICAL, .total_len = 16};
    send_put(fixture, fd, 2, &put);
    client_expect_error(fixture, fd, 2, CAP_E_BODY_NOT_CANONICAL);
    put.total_len = body.len;
    body.data[0] = CAP_KIND_IMAGE;
    send_put(fixture, fd, 3, &put);
    client_frame(fixture, fd, PROTO_BODY, 3, 0, (struct cap_bytes){body.data, 10});
    client_frame(fixture, fd, PROTO_BODY, 3, 0, (struct cap_bytes){body.data + 10, 7});
    client_expect_error(fixture, fd, 3, CAP_E_BODY_NOT_CANONICAL);
    cap_buf_free(&body);
    close(fd);
}

static enum cap_error collect_in(struct cap_store *store, void *ctx)
{
    return cap_store_collect(store, 100, ctx);
}

static unsigned needed(struct fixture *fixture, const struct cap_hash *hash)
{
    struct cap_read *read;
    unsigned flags = 0;
    assert_cap_ok(cap_store_read_begin(fixture->server.context.store, &read));
    assert_cap_ok(cap_store_needed(read, hash, &flags));
    cap_store_read_end(read);
    return flags;
}

/* What an upload has found stays until it is admitted, and is let go of then. */
static void test_what_was_found_is_held(void **state)
{
    struct fixture *fixture = *state;
    struct cap_buf inner = make_image(1000, NULL);
    struct proto_put_image_reply put;
    struct cap_collected did = {0};
    int fd = client_open(fixture);
    const struct reply *reply = upload_image(fixture, fd, 0, &inner);
    assert_int_equal(reply->frame.type, PROTO_PUT_IMAGE_REPLY);
    assert_cap_ok(
        proto_put_image_reply_decode((struct cap_bytes){reply->payload, reply->frame.len}, &put));
    fixture_settle(fixture);
    struct cap_buf wire = make_image(200000, &put.cap_hash);
    client_put_image(fixture, fd, 7, 0, wire.len);
    client_frame(fixture, fd, PROTO_BODY, 7, 0, (struct cap_bytes){wire.data, 1000});
    for (int turns = 0; (needed(fixture, &put.cap_hash) & CAP_NEEDED_HOLD) == 0; turns++) {
        assert_true(turns < 1000);
        fixture_turn(fixture);
    }
    atomic_fetch_add(&fixture->server.context.store->clock_zero_us,
                     UINT64_C(366) * 86400 * 1000000); /* whatever lease it had is over */
    assert_cap_ok(writer_run(fixture->server.writer, collect_in, &did));
    assert_int_equal(needed(fixture, &put.cap_hash), CAP_NEEDED_HOLD);
    client_body(fixture, fd, 7, (struct cap_bytes){wire.data + 1000, wire.len - 1000}, 60000);
    struct reply answer;
    client_receive(fixture, fd, &answer);
    assert_int_equal(answer.frame.type, PROTO_PUT_IMAGE_REPLY);
    fixture_settle(fixture);
    assert_int_equal(needed(fixture, &put.cap_hash) & ~CAP_NEEDED_LEASE, CAP_NEEDED_REFERENCE);
    cap_buf_free(&wire);
    cap_buf_free(&inner);
    close(fd);
}

/* The refusal comes with the first bytes of a long upload, and the connection goes on. */
static void test_early_refusal(void **state)
{
    static const uint8_t junk[40] = {0xff, 0xff};
    struct fixture *fixture = *state;
    int fd = client_open(fixture);
    client_put_image(fixture, fd, 3, 0, UINT64_C(200) << 20);
    client_frame(fixture, fd, PROTO_BODY, 3, 0, (struct cap_bytes){junk, sizeof(junk)});
    client_expect_error(fixture, fd, 3, CAP_E_SSZ);
    struct ledger_figures figures;
    ledger_figures(fixture->server.context.ledger, &figures);
    assert_int_equal(figures.spool, 0); /* its room is free again already */
    client_frame(fixture, fd, PROTO_BODY, 3, 0, (struct cap_bytes){junk, sizeof(junk)});
    assert_false(client_is_there(fixture, fd, &absent));
    client_frame(fixture, fd, PROTO_BODY, 3, PROTO_FLAG_END, (struct cap_bytes){0});
    client_put_data(fixture, fd, 3, 1); /* the id is free */
    client_frame(fixture, fd, PROTO_CANCEL, 3, 0, (struct cap_bytes){0});
    client_expect_error(fixture, fd, 3, CAP_E_CANCELLED);
    close(fd);
}

/*
 * A pinned Image that is not published is known from the head when the data comes with the upload:
 * the refusal with its list does not wait for the arena.
 */
static void test_early_refusal_of_pinned_images(void **state)
{
    static const uint8_t flags[] = {0, PROTO_IMAGE_DRY_RUN};
    struct fixture *fixture = *state;
    static struct reply reply;
    struct cap_buf wire = make_image(200000, &absent);
    struct cap_ssz_list list;
    struct proto_unresolved slot;
    struct ledger_figures figures;
    int fd = client_open(fixture);
    for (size_t i = 0; i < 4; i++) {
        client_put_image(fixture, fd, 3, flags[i % 2], wire.len);
        client_frame(fixture, fd, PROTO_BODY, 3, 0, (struct cap_bytes){wire.data, 1000});
        client_expect_error(fixture, fd, 3, CAP_E_UNRESOLVED_SLOT);
        client_receive(fixture, fd, &reply);
        assert_int_equal(reply.frame.type, PROTO_BODY);
        assert_int_equal(reply.frame.flags, PROTO_FLAG_END);
        assert_cap_ok(
            proto_unresolved_decode((struct cap_bytes){reply.payload, reply.frame.len}, &list));
        assert_int_equal(list.count, 1);
        proto_unresolved_at(&list, 0, &slot);
        assert_hash_equal(&slot.cap_hash, &absent);
        assert_int_equal(slot.kind, CAP_KIND_IMAGE);
        ledger_figures(fixture->server.context.ledger, &figures);
        assert_int_equal(figures.spool, 0);
        client_frame(fixture, fd, PROTO_BODY, 3, 0, (struct cap_bytes){wire.data, 50000});
        assert_false(client_is_there(fixture, fd, &absent));
        if (i == 3) {
            client_frame(fixture, fd, PROTO_CANCEL, 3, 0, (struct cap_bytes){0});
        } else {
            client_frame(fixture, fd, PROTO_BODY, 3, PROTO_FLAG_END, (struct cap_bytes){0});
        }
    }
    /* Resolve only, with data slots: the whole list takes the arena. */
    const struct reply *answer = upload_image(fixture, fd, PROTO_IMAGE_RESOLVE_ONLY, &wire);
    assert_int_equal(answer->frame.type, PROTO_ERROR);
    client_receive(fixture, fd, &reply);
    assert_cap_ok(
        proto_unresolved_decode((struct cap_bytes){reply.payload, reply.frame.len}, &list));
    assert_int_equal(list.count, 4);
    cap_buf_free(&wire);
    close(fd);
}

/* The connection goes, or the upload is cancelled, while the head is looked up. */
static void test_early_look_interrupted(void **state)
{
    struct fixture *fixture = *state;
    static struct reply reply;
    struct cap_buf wire = make_image(200000, &absent);
    for (unsigned turns = 0; turns < 8; turns++) {
        int fd = client_open(fixture);
        client_put_image(fixture, fd, 3, 0, wire.len);
        client_frame(fixture, fd, PROTO_BODY, 3, 0, (struct cap_bytes){wire.data, 1000});
        for (unsigned i = 0; i < turns / 2; i++) {
            uv_run(&fixture->server.loops[0].shard.loop, UV_RUN_NOWAIT);
        }
        if (turns % 2 == 0) {
            client_frame(fixture, fd, PROTO_CANCEL, 3, 0, (struct cap_bytes){0});
            client_receive(fixture, fd, &reply);
            assert_int_equal(reply.frame.type, PROTO_ERROR);
        }
        close(fd);
        fixture_turn(fixture);
    }
    cap_buf_free(&wire);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_follows_the_pages),
        TEST(test_what_was_found_is_held),
        TEST(test_early_refusal_of_data),
        TEST(test_early_refusal),
        TEST(test_early_refusal_of_pinned_images),
        TEST(test_early_look_interrupted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
