/* SLICE from the inside: what is read for it, by whom and when, errors under way, who gives up. */
#include "tests/unit/daemon/test_server_fixture.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "daemon/net/session.h"
#include "lib/cap/data_cap.h"
#include "lib/cap/slice_encode.h"
#include "lib/store/engine.h"

#define ID    5u
#define PAGES 600u
/* A body of pages that are all full. */
#define REFS_AT  CAP_DATA_BODY_FIXED
#define ARENA_AT (REFS_AT + (uint64_t)PAGES * CAP_PAGE_REF_SIZE)

/* What the store was asked for, by readers. */
static struct cap_store_ops watched;
static const struct cap_store_ops *sound;
static pthread_t loop_thread;
static atomic_uint on_the_loop; /* calls that may wait for the device, made by the loop's thread */
static atomic_uint_fast64_t hashes;    /* page roots and nodes */
static atomic_bool read_page[PAGES];   /* of which a byte was read */
static atomic_uint_fast64_t hold_from; /* readers of windows from there on wait */
static atomic_uint_fast64_t fail_from; /* those of these fail */
static atomic_bool held;               /* one waits */
static atomic_int fail_with, find_error;

static void note_caller(void)
{
    atomic_fetch_add(&on_the_loop, pthread_equal(pthread_self(), loop_thread) ? 1 : 0);
}

static void note_pages(uint64_t offset, uint64_t len)
{
    for (uint64_t page = 0; page < PAGES; page++) {
        uint64_t at = ARENA_AT + page * CAP_PAGE_SIZE;
        if (offset < at + CAP_PAGE_SIZE && at < offset + len) {
            atomic_store(&read_page[page], true);
        }
    }
}

static enum cap_error watched_window(struct cap_read *read, const struct cap_hash *hash,
                                     uint64_t offset, uint64_t len, struct iovec *ret_iov,
                                     int *ret_count, size_t *ret_len)
{
    note_caller();
    while (offset >= atomic_load(&hold_from)) {
        atomic_store(&held, true);
        usleep(100);
    }
    atomic_store(&held, false);
    if (offset >= atomic_load(&fail_from)) {
        return (enum cap_error)atomic_load(&fail_with);
    }
    note_pages(offset, len);
    return sound->window(read, hash, offset, len, ret_iov, ret_count, ret_len);
}

static enum cap_error watched_find(struct cap_read *read, const struct cap_hash *hash,
                                   struct cap_info *ret_info)
{
    note_caller();
    enum cap_error error = (enum cap_error)atomic_load(&find_error);
    return error != CAP_OK ? error : sound->find(read, hash, ret_info);
}

static enum cap_error watched_roots(struct cap_read *read, const struct cap_hash *hash,
                                    uint64_t first, size_t count, struct cap_hash *ret_roots)
{
    note_caller();
    atomic_fetch_add(&hashes, count);
    return sound->page_roots(read, hash, first, count, ret_roots);
}

static enum cap_error watched_nodes(struct cap_read *read, const struct cap_hash *hash,
                                    uint64_t first, size_t count, struct cap_node *ret_nodes)
{
    note_caller();
    atomic_fetch_add(&hashes, count);
    return sound->nodes(read, hash, first, count, ret_nodes);
}

static void watch_store(struct fixture *fixture)
{
    sound = fixture->server.context.store->ops;
    watched = *sound;
    watched.window = watched_window;
    watched.find = watched_find;
    watched.page_roots = watched_roots;
    watched.nodes = watched_nodes;
    fixture->server.context.store->ops = &watched;
    loop_thread = pthread_self();
    atomic_store(&on_the_loop, 0);
    atomic_store(&hashes, 0);
    atomic_store(&hold_from, UINT64_MAX);
    atomic_store(&fail_from, UINT64_MAX);
    atomic_store(&held, false);
    atomic_store(&find_error, CAP_OK);
    for (size_t i = 0; i < PAGES; i++) {
        atomic_store(&read_page[i], false);
    }
}

/* A cap of PAGES full pages, and its body. */
static struct cap_hash publish(struct fixture *fixture, int fd, struct cap_buf *ret_body)
{
    size_t len = (size_t)PAGES * CAP_PAGE_SIZE;
    uint8_t *content = malloc(len);
    assert_non_null(content);
    for (size_t i = 0; i < len; i++) {
        content[i] = (uint8_t)(1 + i * 31 % 255);
    }
    for (uint32_t page = 0; page < PAGES; page++) { /* no two are the same */
        cap_store32(content + (size_t)page * CAP_PAGE_SIZE, page);
    }
    struct cap_hash hash = client_publish(fixture, fd, 1, (struct cap_bytes){content, len});
    uint8_t head[REFS_AT];
    head[0] = CAP_KIND_DATA;
    cap_store64(head + 1, len);
    cap_store32(head + 9, REFS_AT - 1);
    cap_store32(head + 13, (uint32_t)ARENA_AT - 1);
    assert_cap_ok(cap_buf_append(ret_body, head, sizeof(head)));
    for (uint32_t page = 0; page < PAGES; page++) {
        uint8_t ref[CAP_PAGE_REF_SIZE];
        cap_store32(ref, page);
        cap_store32(ref + 4, page * CAP_PAGE_SIZE);
        cap_store32(ref + 8, CAP_PAGE_SIZE);
        assert_cap_ok(cap_buf_append(ret_body, ref, sizeof(ref)));
    }
    assert_cap_ok(cap_buf_append(ret_body, content, len));
    free(content);
    return hash;
}

static void ask(struct fixture *fixture, int fd, const struct cap_hash *hash,
                const struct cap_range *ranges, size_t count)
{
    uint8_t bytes[8 * PROTO_RANGE_SIZE];
    struct cap_buf payload = {0};
    const struct proto_slice m = {*hash, {bytes, count * PROTO_RANGE_SIZE}, count};
    for (size_t i = 0; i < count; i++) {
        cap_store64(bytes + i * PROTO_RANGE_SIZE, ranges[i].first);
        cap_store64(bytes + i * PROTO_RANGE_SIZE + 8, ranges[i].pages);
    }
    assert_cap_ok(proto_slice_encode(&m, &payload));
    client_frame(fixture, fd, PROTO_SLICE, ID, 0, cap_buf_bytes(&payload));
    cap_buf_free(&payload);
}

/* Reads on until `enough` bytes of the slice are there, END or an ERROR, whose code is returned. */
static enum cap_error read_slice(struct fixture *fixture, int fd, size_t enough,
                                 struct cap_buf *slice)
{
    static struct reply reply;
    struct proto_slice_reply m;
    struct proto_error refusal;
    do {
        client_receive(fixture, fd, &reply);
        const struct cap_bytes payload = {reply.payload, reply.frame.len};
        assert_int_equal(reply.frame.id, ID);
        if (reply.frame.type == PROTO_ERROR) {
            assert_cap_ok(proto_error_decode(payload, &refusal));
            return cap_error_from_code(refusal.code);
        }
        if (reply.frame.type == PROTO_SLICE_REPLY) {
            assert_cap_ok(proto_slice_reply_decode(payload, &m));
            assert_int_equal(m.kind, CAP_KIND_DATA);
            assert_int_equal(m.size, (uint64_t)PAGES * CAP_PAGE_SIZE);
            assert_int_equal(m.body_len, ARENA_AT + (uint64_t)PAGES * CAP_PAGE_SIZE);
            continue;
        }
        assert_int_equal(reply.frame.type, PROTO_BODY);
        assert_cap_ok(cap_buf_append(slice, payload.data, payload.len));
    } while (slice->len < enough &&
             (reply.frame.type != PROTO_BODY || (reply.frame.flags & PROTO_FLAG_END) == 0));
    return CAP_OK;
}

static void compare(const struct cap_buf *slice, const struct cap_buf *body,
                    const struct cap_range *ranges, size_t count, bool is_whole)
{
    struct cap_buf wanted = {0};
    assert_cap_ok(cap_slice_of_body(cap_buf_bytes(body), ranges, count, &wanted));
    assert_true(is_whole ? slice->len == wanted.len : slice->len < wanted.len);
    assert_memory_equal(slice->data, wanted.data, slice->len);
    cap_buf_free(&wanted);
}

/* No page but those asked for, few hashes, and nothing of it on the loop. */
static void test_what_is_read(void **state)
{
    struct fixture *fixture = *state;
    struct cap_buf body = {0};
    int fd = client_open_with(fixture, PROTO_FEATURE_SLICE);
    struct cap_hash hash = publish(fixture, fd, &body);
    const struct cap_range ranges[] = {{0, 1}, {77, 1}, {200, 40}, {PAGES - 1, 1}};
    for (size_t count = 0; count <= 4; count++) {
        struct cap_buf slice = {0};
        watch_store(fixture);
        ask(fixture, fd, &hash, ranges, count);
        assert_cap_ok(read_slice(fixture, fd, SIZE_MAX, &slice));
        compare(&slice, &body, ranges, count, true);
        for (uint64_t page = 0; page < PAGES; page++) {
            bool asked = false;
            for (size_t i = 0; i < count; i++) {
                asked = asked || page - ranges[i].first < ranges[i].pages;
            }
            assert_int_equal(atomic_load(&read_page[page]), asked);
        }
        assert_true(atomic_load(&hashes) <= 16 + 64 * count);
        assert_int_equal(atomic_load(&on_the_loop), 0);
        fixture->server.context.store->ops = sound;
        cap_buf_free(&slice);
    }
    cap_buf_free(&body);
    close(fd);
}

/* The first bytes are here while the last pages cannot be read. */
static void test_first_before_last(void **state)
{
    struct fixture *fixture = *state;
    struct cap_buf body = {0}, slice = {0};
    const struct cap_range all = {0, PAGES};
    int fd = client_open_with(fixture, PROTO_FEATURE_SLICE);
    struct cap_hash hash = publish(fixture, fd, &body);
    watch_store(fixture);
    atomic_store(&hold_from, ARENA_AT + UINT64_C(60) * CAP_PAGE_SIZE);
    ask(fixture, fd, &hash, &all, 1);
    assert_cap_ok(read_slice(fixture, fd, 40 * CAP_PAGE_SIZE, &slice));
    assert_false(atomic_load(&read_page[64]));
    assert_true(slice.len >= 40 * CAP_PAGE_SIZE);
    atomic_store(&hold_from, UINT64_MAX);
    assert_cap_ok(read_slice(fixture, fd, SIZE_MAX, &slice));
    compare(&slice, &body, &all, 1, true);
    cap_buf_free(&slice);
    cap_buf_free(&body);
    close(fd);
}

static void expect_cut(struct fixture *fixture, int fd, const struct cap_hash *hash,
                       const struct cap_buf *body, enum cap_error error)
{
    const struct cap_range all = {0, PAGES};
    struct cap_buf slice = {0};
    ask(fixture, fd, hash, &all, 1);
    assert_cap_error(read_slice(fixture, fd, SIZE_MAX, &slice), error);
    compare(&slice, body, &all, 1, false);
    cap_buf_free(&slice);
}

/* The cap is damaged, or goes, or the store fails: before anything is out, and after. */
static void test_fails(void **state)
{
    struct fixture *fixture = *state;
    struct cap_buf body = {0};
    int fd = client_open_with(fixture, PROTO_FEATURE_SLICE);
    struct cap_hash hash = publish(fixture, fd, &body);
    static const enum cap_error errors[] = {CAP_E_QUARANTINED, CAP_E_NOT_FOUND, CAP_E_IO,
                                            CAP_E_READERS_FULL, CAP_E_CORRUPT};
    watch_store(fixture);
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        atomic_store(&fail_with, errors[i]);
        atomic_store(&fail_from, ARENA_AT + UINT64_C(100) * CAP_PAGE_SIZE);
        expect_cut(fixture, fd, &hash, &body, errors[i]);
        assert_false(atomic_load(&read_page[112]));
        atomic_store(&fail_from, 0);
        expect_cut(fixture, fd, &hash, &body, errors[i]);
        atomic_store(&fail_from, UINT64_MAX);
        atomic_store(&find_error, errors[i]);
        expect_cut(fixture, fd, &hash, &body, errors[i]);
        atomic_store(&find_error, CAP_OK);
    }
    assert_cap_error(fixture->server.context.last_fault.error, CAP_E_CORRUPT);
    cap_buf_free(&body);
    close(fd);
}

static void hold(struct fixture *fixture)
{
    for (int turns = 0; !atomic_load(&held); turns++) {
        assert_true(turns < 1000);
        fixture_turn(fixture);
    }
}

/* Cancelled, and left by its client, while a reader works: at the beginning and under way. */
static void test_given_up_in_a_reader(void **state)
{
    struct fixture *fixture = *state;
    struct cap_buf body = {0};
    const struct cap_range all = {0, PAGES};
    int fd = client_open_with(fixture, PROTO_FEATURE_SLICE);
    struct cap_hash hash = publish(fixture, fd, &body);
    static const uint64_t from[] = {0, ARENA_AT + UINT64_C(32) * CAP_PAGE_SIZE};
    watch_store(fixture);
    for (size_t i = 0; i < 2; i++) {
        struct cap_buf slice = {0};
        atomic_store(&hold_from, from[i]);
        ask(fixture, fd, &hash, &all, 1);
        hold(fixture);
        client_frame(fixture, fd, PROTO_CANCEL, ID, 0, (struct cap_bytes){0});
        assert_cap_error(read_slice(fixture, fd, SIZE_MAX, &slice), CAP_E_CANCELLED);
        atomic_store(&hold_from, UINT64_MAX);
        fixture_settle(fixture);
        atomic_store(&hold_from, from[i]);
        int other = client_open_with(fixture, PROTO_FEATURE_SLICE); /* leaves */
        ask(fixture, other, &hash, &all, 1);
        hold(fixture);
        close(other);
        fixture_turn(fixture);
        atomic_store(&hold_from, UINT64_MAX);
        fixture_settle(fixture);
        slice.len = 0;
        ask(fixture, fd, &hash, &all, 1);
        assert_cap_ok(read_slice(fixture, fd, SIZE_MAX, &slice));
        compare(&slice, &body, &all, 1, true);
        cap_buf_free(&slice);
    }
    cap_buf_free(&body);
    close(fd);
}

/* Nothing is in memory: readers read it in, by no more than what is asked for. */
static void test_cold(void **state)
{
    struct fixture *fixture = *state;
    struct cap_buf body = {0}, slice = {0};
    const struct cap_range range = {70, 100};
    int fd = client_open_with(fixture, PROTO_FEATURE_SLICE);
    struct cap_hash hash = publish(fixture, fd, &body);
    fixture->cold = true;
    uint64_t before = atomic_load(&fixture->populated);
    ask(fixture, fd, &hash, &range, 1);
    assert_cap_ok(read_slice(fixture, fd, SIZE_MAX, &slice));
    compare(&slice, &body, &range, 1, true);
    uint64_t populated = atomic_load(&fixture->populated) - before;
    assert_true(populated >= 100 * CAP_PAGE_SIZE && populated < 102 * CAP_PAGE_SIZE);
    fixture->populate_error = CAP_E_IO;
    ask(fixture, fd, &hash, &range, 1);
    assert_cap_error(read_slice(fixture, fd, SIZE_MAX, &slice), CAP_E_IO);
    cap_buf_free(&slice);
    cap_buf_free(&body);
    close(fd);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_what_is_read), TEST(test_first_before_last),
        TEST(test_fails),        TEST(test_given_up_in_a_reader),
        TEST(test_cold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
