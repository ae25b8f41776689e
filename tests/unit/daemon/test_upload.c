/*
 * Uploads over a real socket: Data and Images, what slots resolve to, limits, cancelling and resets
 * in every state.
 */
#include "tests/unit/daemon/test_upload_fixture.h"

#include <string.h>
#include <unistd.h>

#include "daemon/core/ledger.h"
#include "daemon/net/session.h"
#include "daemon/publish/image.h"
#include "daemon/publish/spool.h"
#include "daemon/publish/upload.h"
#include "lib/cap/data_cap.h"

static struct proto_put_image_reply accepted(const struct reply *reply)
{
    struct proto_put_image_reply m;
    assert_int_equal(reply->frame.type, PROTO_PUT_IMAGE_REPLY);
    assert_cap_ok(
        proto_put_image_reply_decode((struct cap_bytes){reply->payload, reply->frame.len}, &m));
    return m;
}

/* --- Data ----------------------------------------------------------------------------------- */

/* Lengths around what stays in memory, a block, and what is staged. */
static void test_data_of_many_lengths(void **state)
{
    static const size_t lens[] = {0,
                                  1,
                                  4096,
                                  SPOOL_SMALL - 1,
                                  SPOOL_SMALL,
                                  SPOOL_SMALL + 1,
                                  SPOOL_BLOCK,
                                  SPOOL_BLOCK + 1,
                                  (1 << 20) + 5,
                                  (3 << 20) + 5};
    struct fixture *fixture = *state;
    int fd = client_open(fixture);
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        uint8_t *content = make_content(lens[i] + 1);
        struct cap_bytes bytes = {content, lens[i]};
        struct cap_source source = cap_source_memory(&bytes);
        struct cap_data data;
        assert_cap_ok(cap_data_from_content(&source, lens[i], 0, UINT64_MAX, &data));
        struct cap_hash hash = client_publish(fixture, fd, 1, bytes);
        assert_hash_equal(&hash, &data.hash);
        assert_true(client_is_there(fixture, fd, &hash));
        cap_data_free(&data);
        free(content);
    }
    close(fd);
}

static void test_canonical_body(void **state)
{
    struct fixture *fixture = *state;
    static struct reply reply;
    uint8_t *content = make_content(100000);
    struct cap_bytes bytes = {content, 100000};
    struct cap_source source = cap_source_memory(&bytes);
    struct cap_data data;
    struct cap_buf body = {0};
    struct cap_buf payload = {0};
    int fd = client_open(fixture);
    assert_cap_ok(cap_data_from_content(&source, 100000, 0, UINT64_MAX, &data));
    assert_cap_ok(cap_buf_append_zeros(&body, data.body.len));
    assert_cap_ok(cap_body_read(&data.body, &source, 0, body.data, body.len));
    const struct proto_put_data put = {.flags = PROTO_PUT_CANONICAL, .total_len = body.len};
    assert_cap_ok(proto_put_data_encode(&put, &payload));
    client_frame(fixture, fd, PROTO_PUT_DATA, 1, 0, cap_buf_bytes(&payload));
    client_body(fixture, fd, 1, cap_buf_bytes(&body), 5000);
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_PUT_DATA_REPLY);
    assert_true(client_is_there(fixture, fd, &data.hash));
    /* One byte changed at its end: a page that ends with a zero is not cut as it must be. */
    body.data[body.len - 1] = 0;
    client_frame(fixture, fd, PROTO_PUT_DATA, 2, 0, cap_buf_bytes(&payload));
    client_body(fixture, fd, 2, cap_buf_bytes(&body), 5000);
    client_expect_error(fixture, fd, 2, CAP_E_BODY_NOT_CANONICAL);
    cap_data_free(&data);
    cap_buf_free(&body);
    cap_buf_free(&payload);
    free(content);
    close(fd);
}

static void test_wrong_lengths(void **state)
{
    struct fixture *fixture = *state;
    int fd = client_open(fixture);
    client_put_data(fixture, fd, 1, 10);
    client_body(fixture, fd, 1, key("123456789"), 100);
    client_expect_error(fixture, fd, 1, CAP_E_LENGTH_MISMATCH);
    client_put_data(fixture, fd, 1, 10); /* the id is free */
    client_frame(fixture, fd, PROTO_BODY, 1, 0, key("12345678901"));
    client_expect_error(fixture, fd, 1, CAP_E_LENGTH_MISMATCH);
    client_frame(fixture, fd, PROTO_BODY, 1, 0, key("more of it"));
    client_frame(fixture, fd, PROTO_BODY, 1, PROTO_FLAG_END, key(""));
    assert_false(client_is_there(fixture, fd, &absent));
    close(fd);
}

/* --- Images --------------------------------------------------------------------------------- */

static void test_image_with_data(void **state)
{
    struct fixture *fixture = *state;
    int fd = client_open(fixture);
    struct cap_buf wire = make_image(50000, NULL);
    struct proto_put_image_reply m =
        accepted(upload_image(fixture, fd, PROTO_IMAGE_DRY_RUN, &wire));
    assert_int_equal(m.is_new, 1);
    assert_int_equal(m.data_new, 2); /* two slots are equal */
    assert_false(client_is_there(fixture, fd, &m.cap_hash));
    struct proto_put_image_reply first = accepted(upload_image(fixture, fd, 0, &wire));
    assert_hash_equal(&first.cap_hash, &m.cap_hash);
    assert_int_equal(first.is_new, 1);
    assert_int_equal(first.data_new, 2);
    assert_int_equal(first.data_present, 0);
    assert_true(client_is_there(fixture, fd, &first.cap_hash));
    struct proto_put_image_reply again = accepted(upload_image(fixture, fd, 0, &wire));
    assert_int_equal(again.is_new, 0);
    assert_int_equal(again.data_new, 0);
    assert_int_equal(again.data_present, 2);
    /* Now that its data is there it passes the strict reading, and can be pinned. */
    accepted(upload_image(fixture, fd, PROTO_IMAGE_RESOLVE_ONLY, &wire));
    struct cap_buf outer = make_image(10, &first.cap_hash);
    m = accepted(upload_image(fixture, fd, PROTO_IMAGE_RESOLVE_ONLY, &outer));
    assert_int_equal(m.is_new, 1);
    cap_buf_free(&outer);
    cap_buf_free(&wire);
    close(fd);
}

/* The caps that an Image becomes, made in one piece. */
static void expect_caps_of(const struct cap_buf *wire, const struct proto_put_image_reply *reply)
{
    struct cap_wire_image view;
    struct caps caps;
    const struct caps_stamp stamp = {0};
    assert_cap_ok(cap_deblob(cap_buf_bytes(wire), wire->len, &view, NULL));
    struct cap_bytes arena = {wire->data + view.head.len, (size_t)view.arena_len};
    struct caps_source source = {cap_source_memory(&arena), cap_source_memory(&arena)};
    assert_cap_ok(image_make(&view, false, &source, &stamp, &caps));
    assert_hash_equal(&reply->cap_hash, &caps.image.hash);
    assert_hash_equal(&reply->content_hash, &caps.content_hash);
    caps_free(&caps);
}

/* Pages are hashed as they arrive: whatever they arrive in, and wherever the arena ends. */
static void test_image_in_pieces(void **state)
{
    static const size_t pieces[] = {4000, 4096, 70001, PROTO_FRAME_MAX};
    static const size_t lens[] = {SPOOL_SMALL, 3 * SPOOL_BLOCK + 4096 - 9000, 700000};
    struct fixture *fixture = *state;
    const struct stats *stats = &fixture->server.loops[0].shard.stats;
    int fd = client_open(fixture);
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        struct cap_buf wire = make_image(lens[i], NULL);
        for (size_t k = 0; k < sizeof(pieces) / sizeof(pieces[0]); k++) {
            struct reply reply;
            client_put_image(fixture, fd, 1, PROTO_IMAGE_DRY_RUN, wire.len);
            client_body(fixture, fd, 1, cap_buf_bytes(&wire), pieces[k]);
            client_receive(fixture, fd, &reply);
            struct proto_put_image_reply m = accepted(&reply);
            expect_caps_of(&wire, &m);
        }
        cap_buf_free(&wire);
    }
    /* All but the last byte: nearly all of it is hashed before the body has ended. */
    struct cap_buf wire = make_image(lens[2], NULL);
    uint64_t before = stats->hashed_bytes;
    client_put_image(fixture, fd, 1, 0, wire.len);
    for (size_t at = 0; at < wire.len - 1; at += 5000) {
        size_t len = wire.len - 1 - at < 5000 ? wire.len - 1 - at : 5000;
        client_frame(fixture, fd, PROTO_BODY, 1, 0, (struct cap_bytes){wire.data + at, len});
    }
    while (stats->hashed_bytes - before < lens[2]) {
        fixture_turn(fixture);
    }
    close(fd);
    cap_buf_free(&wire);
}

/* The upload `id`, but for its last `rest` bytes. */
static void send_most(struct fixture *fixture, int fd, uint32_t id, const struct cap_buf *wire,
                      size_t rest)
{
    size_t len = 0;
    client_put_image(fixture, fd, id, 0, wire->len);
    for (size_t at = 0; at < wire->len - rest; at += len) {
        len = wire->len - rest - at < 60000 ? wire->len - rest - at : 60000;
        client_frame(fixture, fd, PROTO_BODY, id, 0, (struct cap_bytes){wire->data + at, len});
    }
}

/*
 * A long Image is staged while it arrives. Given up it leaves nothing: the store, of 64 MiB, has
 * room for others. One that comes to its end is what it would have been.
 */
static void test_image_is_staged_as_it_arrives(void **state)
{
    enum { LEN = 12 << 20, STEPS = LEN / CAP_STAGE_STEP - 2 };
    struct fixture *fixture = *state;
    const struct stats *stats = &fixture->server.loops[0].shard.stats;
    struct cap_buf wire = make_image(LEN, NULL);
    struct reply reply;
    int fd = client_open(fixture);
    for (uint32_t id = 1; id <= 8; id++) {
        uint64_t steps = stats->stage_steps;
        send_most(fixture, fd, id, &wire, 1);
        while (stats->stage_steps - steps < STEPS) { /* which the writer's jobs tell */
            (void)client_is_there(fixture, fd, &absent);
            (void)client_publish(fixture, fd, 100, key("small"));
        }
        if (id == 8) {
            client_frame(fixture, fd, PROTO_BODY, id, PROTO_FLAG_END,
                         (struct cap_bytes){wire.data + wire.len - 1, 1});
        } else if (id % 3 == 0) {
            client_frame(fixture, fd, PROTO_BODY, id, PROTO_FLAG_END, (struct cap_bytes){0});
            client_expect_error(fixture, fd, id, CAP_E_LENGTH_MISMATCH);
        } else if (id % 3 == 1) {
            client_frame(fixture, fd, PROTO_CANCEL, id, 0, (struct cap_bytes){0});
            client_expect_error(fixture, fd, id, CAP_E_CANCELLED);
        } else {
            close(fd);
            fd = client_open(fixture);
        }
    }
    client_receive(fixture, fd, &reply);
    struct proto_put_image_reply m = accepted(&reply);
    assert_int_equal(m.is_new, 1);
    expect_caps_of(&wire, &m);
    assert_true(client_is_there(fixture, fd, &m.cap_hash));
    cap_buf_free(&wire);
    close(fd);
}

/* Reads the detail of unresolved_slot; the list borrows a static buffer. */
static struct cap_ssz_list read_unresolved(struct fixture *fixture, int fd,
                                           const struct reply *answer)
{
    static struct reply detail;
    struct proto_error m;
    struct cap_ssz_list list;
    assert_int_equal(answer->frame.type, PROTO_ERROR);
    assert_cap_ok(proto_error_decode((struct cap_bytes){answer->payload, answer->frame.len}, &m));
    assert_cap_error(cap_error_from_code(m.code), CAP_E_UNRESOLVED_SLOT);
    uint64_t detail_len = m.detail_len;
    client_receive(fixture, fd, &detail);
    assert_int_equal(detail.frame.type, PROTO_BODY);
    assert_int_equal(detail.frame.flags, PROTO_FLAG_END);
    assert_int_equal(detail.frame.len, detail_len);
    assert_cap_ok(
        proto_unresolved_decode((struct cap_bytes){detail.payload, detail.frame.len}, &list));
    return list;
}

static void test_every_unresolved_slot_is_named(void **state)
{
    struct fixture *fixture = *state;
    struct proto_unresolved slot;
    int fd = client_open(fixture);
    struct cap_buf wire = make_image(100, &absent);
    struct cap_ssz_list list =
        read_unresolved(fixture, fd, upload_image(fixture, fd, PROTO_IMAGE_RESOLVE_ONLY, &wire));
    assert_int_equal(list.count, 4);
    proto_unresolved_at(&list, 0, &slot); /* pinned before initial, in key order */
    assert_int_equal(slot.table, CAP_TABLE_PINNED);
    assert_memory_equal(slot.slot.data, "ro", 2);
    proto_unresolved_at(&list, 1, &slot);
    assert_int_equal(slot.kind, CAP_KIND_IMAGE);
    assert_hash_equal(&slot.cap_hash, &absent);
    proto_unresolved_at(&list, 3, &slot);
    assert_int_equal(slot.table, CAP_TABLE_INITIAL);
    assert_memory_equal(slot.slot.data, "zero", 4);
    /* With data only the Image is missing, and nothing of the refused upload is stored. */
    list = read_unresolved(fixture, fd, upload_image(fixture, fd, 0, &wire));
    assert_int_equal(list.count, 1);
    struct cap_read *read = NULL;
    struct cap_counts counts;
    assert_cap_ok(cap_store_read_begin(fixture->server.context.store, &read));
    assert_cap_ok(cap_store_counts(read, &counts));
    cap_store_read_end(read);
    assert_int_equal(counts.caps[CAP_KIND_DATA] + counts.caps[CAP_KIND_IMAGE], 0);
    cap_buf_free(&wire);
    close(fd);
}

static void test_wrong_kind_is_unresolved(void **state)
{
    struct fixture *fixture = *state;
    int fd = client_open(fixture);
    struct cap_hash data = client_publish(fixture, fd, 1, key("data, not an Image"));
    struct cap_buf wire = make_image(100, &data);
    struct cap_ssz_list list = read_unresolved(fixture, fd, upload_image(fixture, fd, 0, &wire));
    assert_int_equal(list.count, 1);
    cap_buf_free(&wire);
    close(fd);
}

/* A long head is judged by a worker, while its arena arrives. */
static void test_long_head(void **state)
{
    struct fixture *fixture = *state;
    struct cap_buf wire = make_long_head();
    int fd = client_open(fixture);
    accepted(upload_image(fixture, fd, 0, &wire));
    /* The same, broken in its last endpoint. */
    break_long_head(&wire);
    client_put_image(fixture, fd, 9, 0, wire.len);
    client_body(fixture, fd, 9, cap_buf_bytes(&wire), 200000);
    client_expect_error(fixture, fd, 9, CAP_E_SSZ);
    assert_false(client_is_there(fixture, fd, &absent));
    cap_buf_free(&wire);
    close(fd);
}

/* --- Refusals ------------------------------------------------------------------------------- */

static void small_limits(struct config *config)
{
    config->max_upload = 100000;
    config->max_uploads = config->max_peer_uploads = 2;
    config->max_spool = config->max_peer_spool = 150000;
    config->max_structure = 1024;
    config->max_slots = 2;
    config->max_data = 4096;
    config->max_memory = config->max_peer_memory = 70000;
}

static void test_limits(void **state)
{
    static const uint8_t fixed[CAP_WIRE_FIXED_SIZE] = {[8] = 40};
    struct fixture fixture;
    uint8_t front[CAP_WIRE_FIXED_SIZE];
    (void)state;
    fixture_start(&fixture, small_limits);
    int fd = client_open(&fixture);
    client_put_data(&fixture, fd, 1, 100001);
    client_expect_error(&fixture, fd, 1, CAP_E_UPLOAD_TOO_LARGE);
    client_put_data(&fixture, fd, 2, 90000);
    client_put_data(&fixture, fd, 3, 90000);
    client_expect_error(&fixture, fd, 3, CAP_E_SPOOL_FULL);
    client_put_data(&fixture, fd, 4, 10);
    client_put_data(&fixture, fd, 5, 10);
    client_expect_error(&fixture, fd, 5, CAP_E_SPOOL_FULL);
    client_frame(&fixture, fd, PROTO_CANCEL, 2, 0, (struct cap_bytes){0});
    client_expect_error(&fixture, fd, 2, CAP_E_CANCELLED);
    /* The fixed part says where the arena starts: past the limit. */
    memcpy(front, fixed, sizeof(front));
    for (size_t at = 8; at < 36; at += 4) {
        cap_store32(front + at, 40);
    }
    cap_store32(front + 36, 2000);
    client_put_image(&fixture, fd, 6, 0, 5000);
    client_frame(&fixture, fd, PROTO_BODY, 6, 0, (struct cap_bytes){front, sizeof(front)});
    client_expect_error(&fixture, fd, 6, CAP_E_STRUCTURE_TOO_LARGE);
    struct cap_buf wire = make_image(10, NULL);
    client_put_image(&fixture, fd, 7, 0, wire.len);
    client_body(&fixture, fd, 7, cap_buf_bytes(&wire), 10000);
    client_expect_error(&fixture, fd, 7, CAP_E_STRUCTURE_TOO_LARGE); /* three slots */
    fixture.server.context.config.max_slots = 3;
    client_put_image(&fixture, fd, 8, 0, wire.len);
    client_body(&fixture, fd, 8, cap_buf_bytes(&wire), 10000);
    client_expect_error(&fixture, fd, 8, CAP_E_DATA_TOO_LARGE);
    cap_buf_free(&wire);
    close(fd);
    fixture_stop(&fixture);
}

/* An ERROR with the figures of what lacks as its detail; returns them. */
static struct proto_shortage expect_lack(struct fixture *fixture, int fd, uint32_t id,
                                         enum cap_error error)
{
    static struct reply reply;
    struct proto_shortage shortage;
    client_expect_error(fixture, fd, id, error);
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_BODY);
    assert_int_equal(reply.frame.flags, PROTO_FLAG_END);
    assert_int_equal(reply.frame.id, id);
    assert_cap_ok(
        proto_shortage_decode((struct cap_bytes){reply.payload, reply.frame.len}, &shortage));
    return shortage;
}

static void test_full_disk(void **state)
{
    struct fixture *fixture = *state;
    int fd = client_open(fixture);
    fixture_set_disk(fixture, fixture->server.context.config.disk_reserve + 1000);
    client_put_data(fixture, fd, 1, 501);
    struct proto_shortage shortage = expect_lack(fixture, fd, 1, CAP_E_DISK_FULL);
    assert_int_equal(shortage.need, 1002);
    assert_int_equal(shortage.have, 1000);
    client_frame(fixture, fd, PROTO_CANCEL, 1, 0, (struct cap_bytes){0});
    struct cap_hash hash = client_publish(fixture, fd, 1, key("small enough"));
    assert_true(client_is_there(fixture, fd, &hash));
    close(fd);
}

static void test_full_map_leaves_the_store_usable(void **state)
{
    struct fixture *fixture = *state;
    size_t len = FIXTURE_STORE_MAX + 4096;
    uint8_t *content = make_content(len);
    /* No two pages are equal, or the body would be short. */
    for (size_t i = 0; i < len; i += 4096) {
        cap_store32(content + i, (uint32_t)(i / 4096 + 1));
    }
    int fd = client_open(fixture);
    client_put_data(fixture, fd, 1, len);
    client_body(fixture, fd, 1, (struct cap_bytes){content, len}, PROTO_FRAME_MAX);
    assert_true(expect_lack(fixture, fd, 1, CAP_E_MAP_FULL).need > len);
    struct cap_hash hash = client_publish(fixture, fd, 1, key("small enough"));
    assert_true(client_is_there(fixture, fd, &hash));
    free(content);
    close(fd);
}

static void test_stalled_upload_is_refused(void **state)
{
    struct fixture *fixture = *state;
    int fd = client_open(fixture);
    client_put_data(fixture, fd, 1, 100);
    client_frame(fixture, fd, PROTO_BODY, 1, 0, key("some"));
    fixture_turn(fixture);
    fixture_pass(fixture, fixture->server.context.config.progress_ms + 1);
    client_expect_error(fixture, fd, 1, CAP_E_PROGRESS_TIMEOUT);
    assert_false(client_is_there(fixture, fd, &absent)); /* the connection goes on */
    close(fd);
}

/* --- Cancelling and resets ------------------------------------------------------------------ */

/* Cancelled after a growing number of turns, so in each state: one answer, and the id is free. */
static void test_cancel_in_every_state(void **state)
{
    struct fixture *fixture = *state;
    static struct reply reply;
    struct cap_buf wire = make_image(200000, NULL);
    int fd = client_open(fixture);
    for (int turns = 0; turns < 12; turns++) {
        client_put_image(fixture, fd, 4, 0, wire.len);
        client_body(fixture, fd, 4, cap_buf_bytes(&wire), 100000);
        for (int i = 0; i < turns; i++) {
            uv_run(&fixture->server.loops[0].shard.loop, UV_RUN_NOWAIT);
        }
        client_frame(fixture, fd, PROTO_CANCEL, 4, 0, (struct cap_bytes){0});
        client_receive(fixture, fd, &reply);
        assert_true(reply.frame.type == PROTO_ERROR || reply.frame.type == PROTO_PUT_IMAGE_REPLY);
        assert_int_equal(reply.frame.id, 4);
        assert_false(client_is_there(fixture, fd, &absent));
    }
    cap_buf_free(&wire);
    close(fd);
}

/* The connection is reset after a growing number of bytes and turns; all that was taken comes back.
 */
static void test_reset_in_every_state(void **state)
{
    struct fixture *fixture = *state;
    struct cap_buf wire = make_image(200000, NULL);
    for (size_t step = 0; step < 24; step++) {
        int fd = client_open(fixture);
        size_t len = step < 12 ? wire.len * step / 12 : wire.len;
        client_put_image(fixture, fd, 4, 0, wire.len);
        client_frame(fixture, fd, PROTO_BODY, 4, len == wire.len ? PROTO_FLAG_END : 0,
                     (struct cap_bytes){wire.data, len});
        for (size_t i = 12; i < step; i++) {
            uv_run(&fixture->server.loops[0].shard.loop, UV_RUN_NOWAIT);
        }
        close(fd);
        fixture_turn(fixture);
    }
    fixture_settle(fixture);
    struct ledger_figures figures;
    ledger_figures(fixture->server.context.ledger, &figures);
    assert_int_equal(figures.uploads, 0);
    assert_int_equal(figures.spool, 0);
    cap_buf_free(&wire);
}

/* The daemon is stopped at once while uploads are everywhere. */
static void test_stop_with_uploads_in_flight(void **state)
{
    struct fixture *fixture = *state;
    struct cap_buf wire = make_image(300000, NULL);
    int fds[6];
    for (size_t i = 0; i < 6; i++) {
        fds[i] = client_open(fixture);
        client_put_image(fixture, fds[i], 4, 0, wire.len);
        client_body(fixture, fds[i], 4,
                    (struct cap_bytes){wire.data, i < 3 ? wire.len : wire.len * i / 6}, 60000);
    }
    server_close(&fixture->server);
    fixture->closed = true;
    for (size_t i = 0; i < 6; i++) {
        close(fds[i]);
    }
    cap_buf_free(&wire);
}

/* Many small publications from many connections share commits. */
static void test_concurrent_publishers(void **state)
{
    struct fixture *fixture = *state;
    static struct reply reply;
    int fds[16];
    for (size_t i = 0; i < 16; i++) {
        fds[i] = client_open(fixture);
    }
    for (uint8_t round = 0; round < 4; round++) {
        for (uint8_t i = 0; i < 16; i++) {
            const uint8_t content[2] = {(uint8_t)(i + 1), (uint8_t)(round + 1)};
            client_put_data(fixture, fds[i], round + 1u, 2);
            client_body(fixture, fds[i], round + 1u, (struct cap_bytes){content, 2}, 2);
        }
    }
    for (size_t i = 0; i < 16 * 4; i++) {
        client_receive(fixture, fds[i % 16], &reply);
        assert_int_equal(reply.frame.type, PROTO_PUT_DATA_REPLY);
    }
    assert_int_equal(fixture->server.loops[0].shard.stats.admissions, 64);
    for (size_t i = 0; i < 16; i++) {
        close(fds[i]);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_data_of_many_lengths),
        TEST(test_canonical_body),
        TEST(test_wrong_lengths),
        TEST(test_image_with_data),
        TEST(test_image_in_pieces),
        TEST(test_image_is_staged_as_it_arrives),
        TEST(test_every_unresolved_slot_is_named),
        TEST(test_wrong_kind_is_unresolved),
        TEST(test_long_head),
        cmocka_unit_test(test_limits),
        TEST(test_full_disk),
        TEST(test_full_map_leaves_the_store_usable),
        TEST(test_stalled_upload_is_refused),
        TEST(test_cancel_in_every_state),
        TEST(test_reset_in_every_state),
        TEST(test_stop_with_uploads_in_flight),
        TEST(test_concurrent_publishers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
