/* GET_MANY from the inside: who walks the store, errors between pieces, and who gives up. */
#include "tests/unit/daemon/test_server_fixture.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "daemon/net/session.h"
#include "lib/store/engine.h"

#define LARGE (300u << 10)
#define ID    5u

static struct cap_store_ops watched;
static const struct cap_store_ops *sound;
static pthread_t loop_thread;
static atomic_uint on_the_loop; /* calls that may wait for the device, made by the loop's thread */
static atomic_uint finds;
static atomic_bool hold_finds;
static atomic_uint held_finds;
static enum cap_error find_error;
static enum cap_error window_error;
static uint64_t failing_from; /* offset from which windows fail */

static enum cap_error watched_locate(struct cap_read *read, const struct cap_hash *hash,
                                     struct cap_info *ret_info, struct cap_place *ret_place)
{
    atomic_fetch_add(&on_the_loop, pthread_equal(pthread_self(), loop_thread) ? 1 : 0);
    atomic_fetch_add(&finds, 1);
    atomic_fetch_add(&held_finds, 1);
    while (atomic_load(&hold_finds)) {
        usleep(100);
    }
    atomic_fetch_sub(&held_finds, 1);
    return find_error != CAP_OK ? find_error : sound->locate(read, hash, ret_info, ret_place);
}

static enum cap_error watched_window(struct cap_read *read, const struct cap_hash *hash,
                                     uint64_t offset, uint64_t len, struct iovec *ret_iov,
                                     int *ret_count, size_t *ret_len)
{
    atomic_fetch_add(&on_the_loop, pthread_equal(pthread_self(), loop_thread) ? 1 : 0);
    if (window_error != CAP_OK && offset >= failing_from) {
        return window_error;
    }
    return sound->window(read, hash, offset, len, ret_iov, ret_count, ret_len);
}

static void watch_store(struct fixture *fixture)
{
    sound = fixture->server.context.store->ops;
    watched = *sound;
    watched.locate = watched_locate;
    watched.window = watched_window;
    fixture->server.context.store->ops = &watched;
    loop_thread = pthread_self();
    find_error = window_error = CAP_OK;
    failing_from = 0;
    atomic_store(&on_the_loop, 0);
    atomic_store(&finds, 0);
}

static struct cap_hash publish(struct fixture *fixture, int fd, uint8_t seed, size_t len)
{
    uint8_t *content = malloc(len);
    assert_non_null(content);
    for (size_t i = 0; i < len; i++) {
        content[i] = (uint8_t)(1 + (seed + i * 31 + i / 4096) % 255);
    }
    struct cap_hash hash = client_publish(fixture, fd, 1, (struct cap_bytes){content, len});
    free(content);
    return hash;
}

static void ask(struct fixture *fixture, int fd, const struct cap_hash *hashes, size_t count)
{
    struct cap_buf payload = {0};
    const struct proto_get_many m = {{(const uint8_t *)hashes, count * CAP_HASH_SIZE}, count};
    assert_cap_ok(proto_get_many_encode(&m, &payload));
    client_frame(fixture, fd, PROTO_GET_MANY, ID, 0, cap_buf_bytes(&payload));
    cap_buf_free(&payload);
}

/* What came of one hash. */
struct answer {
    uint64_t len;
    uint16_t code;
    unsigned pieces;
    bool complete;
};

static void take_pieces(struct cap_bytes body, struct answer *answers, size_t count)
{
    struct proto_piece piece;
    while (body.len > 0) {
        assert_true(body.len >= PROTO_PIECE_SIZE);
        assert_cap_ok(proto_piece_decode(body.data, &piece));
        assert_true(piece.index < count && piece.len <= body.len - PROTO_PIECE_SIZE);
        struct answer *answer = &answers[piece.index];
        assert_false(answer->complete);
        answer->pieces++;
        answer->len += piece.len;
        answer->code = piece.code;
        answer->complete = piece.more == 0;
        assert_true(piece.more != 0 || piece.code != 0 || answer->len == piece.body_len);
        body = cap_bytes_slice(body, PROTO_PIECE_SIZE + piece.len,
                               body.len - PROTO_PIECE_SIZE - piece.len);
    }
}

/* Reads the answer to its end: END, or an ERROR, whose code is returned. */
static enum cap_error read_answers(struct fixture *fixture, int fd, struct answer *answers,
                                   size_t count)
{
    static struct reply reply;
    struct proto_get_many_reply m;
    struct proto_error refusal;
    struct cap_buf body = {0};
    memset(answers, 0, count * sizeof(*answers));
    do {
        client_receive(fixture, fd, &reply);
        const struct cap_bytes payload = {reply.payload, reply.frame.len};
        assert_int_equal(reply.frame.id, ID);
        if (reply.frame.type == PROTO_ERROR) {
            assert_cap_ok(proto_error_decode(payload, &refusal));
            cap_buf_free(&body);
            return cap_error_from_code(refusal.code);
        }
        if (reply.frame.type == PROTO_GET_MANY_REPLY) {
            assert_cap_ok(proto_get_many_reply_decode(payload, &m));
            assert_int_equal(m.count, count);
            continue;
        }
        assert_int_equal(reply.frame.type, PROTO_BODY);
        assert_cap_ok(cap_buf_append(&body, payload.data, payload.len));
    } while (reply.frame.type != PROTO_BODY || (reply.frame.flags & PROTO_FLAG_END) == 0);
    take_pieces(cap_buf_bytes(&body), answers, count);
    cap_buf_free(&body);
    for (size_t i = 0; i < count; i++) {
        assert_true(answers[i].complete);
    }
    return CAP_OK;
}

/* Readers walk the store; what they found small is answered without it the next time. */
static void test_the_loop_never_walks_the_store(void **state)
{
    struct fixture *fixture = *state;
    struct answer answers[40];
    struct cap_hash hashes[40] = {{{0}}};
    int fd = client_open_with(fixture, PROTO_FEATURE_GET_MANY);
    for (uint8_t i = 0; i < 38; i++) {
        hashes[i] = publish(fixture, fd, i, 1000);
    }
    hashes[38] = publish(fixture, fd, 1, LARGE);
    hashes[39].bytes[0] = 0xee;
    watch_store(fixture);
    for (int i = 0; i < 3; i++) {
        ask(fixture, fd, hashes, 40);
        assert_cap_ok(read_answers(fixture, fd, answers, 40));
        assert_true(answers[0].len > 1000 && answers[37].len > 1000);
        assert_true(answers[38].len > LARGE && answers[38].pieces == 3);
        assert_int_equal(answers[39].code, -CAP_E_NOT_FOUND);
    }
    /* The large one did not fit behind the others, and was looked up again for a chunk of its own.
     */
    assert_int_equal(atomic_load(&finds), 41 + 2 + 2);
    ask(fixture, fd, hashes, 30); /* few: the places of other loops are asked, too */
    assert_cap_ok(read_answers(fixture, fd, answers, 30));
    assert_int_equal(atomic_load(&finds), 45);
    assert_int_equal(atomic_load(&on_the_loop), 0);
    close(fd);
}

static void test_one_cap_fails(void **state)
{
    struct fixture *fixture = *state;
    struct answer answers[3];
    int fd = client_open_with(fixture, PROTO_FEATURE_GET_MANY);
    const struct cap_hash hashes[] = {publish(fixture, fd, 1, 1000), publish(fixture, fd, 2, LARGE),
                                      publish(fixture, fd, 3, 1000)};
    watch_store(fixture);
    window_error = CAP_E_CORRUPT;
    failing_from = 1; /* the large one's second piece */
    ask(fixture, fd, hashes, 3);
    assert_cap_ok(read_answers(fixture, fd, answers, 3));
    assert_int_equal(answers[0].code | answers[2].code, 0);
    assert_int_equal(answers[1].code, -CAP_E_CORRUPT);
    assert_int_equal(answers[1].pieces, 2);
    assert_cap_error(fixture->server.context.last_fault.error, CAP_E_CORRUPT);
    window_error = CAP_E_NOT_FOUND; /* it was deleted meanwhile, if that could be */
    ask(fixture, fd, hashes, 3);
    assert_cap_ok(read_answers(fixture, fd, answers, 3));
    assert_int_equal(answers[1].code, -CAP_E_NOT_FOUND);
    close(fd);
}

static void test_the_store_fails(void **state)
{
    struct fixture *fixture = *state;
    struct answer answers[2];
    int fd = client_open_with(fixture, PROTO_FEATURE_GET_MANY);
    const struct cap_hash hashes[] = {publish(fixture, fd, 1, 1000),
                                      publish(fixture, fd, 2, LARGE)};
    ask(fixture, fd, hashes, 1);
    assert_cap_ok(read_answers(fixture, fd, answers, 1));
    watch_store(fixture);
    find_error = CAP_E_READERS_FULL;
    ask(fixture, fd, hashes, 2); /* after the first cap's piece is out */
    assert_cap_error(read_answers(fixture, fd, answers, 2), CAP_E_READERS_FULL);
    ask(fixture, fd, hashes + 1, 1); /* before anything is */
    assert_cap_error(read_answers(fixture, fd, answers, 1), CAP_E_READERS_FULL);
    find_error = CAP_OK;
    window_error = CAP_E_RANGE_OUT_OF_BODY; /* no answer to what was asked: ends it, too */
    ask(fixture, fd, hashes + 1, 1);
    assert_cap_error(read_answers(fixture, fd, answers, 1), CAP_E_RANGE_OUT_OF_BODY);
    window_error = CAP_OK;
    ask(fixture, fd, hashes, 2);
    assert_cap_ok(read_answers(fixture, fd, answers, 2));
    close(fd);
}

static void hold(struct fixture *fixture)
{
    atomic_store(&hold_finds, true);
    for (int turns = 0; turns == 0 || atomic_load(&held_finds) == 0; turns++) {
        assert_true(turns < 1000);
        fixture_turn(fixture);
    }
}

static void test_given_up_in_a_reader(void **state)
{
    struct fixture *fixture = *state;
    struct answer answers[2];
    int fd = client_open_with(fixture, PROTO_FEATURE_GET_MANY);
    const struct cap_hash hashes[] = {publish(fixture, fd, 1, 1000), publish(fixture, fd, 2, 1001)};
    watch_store(fixture);
    atomic_store(&hold_finds, true);
    ask(fixture, fd, hashes, 2);
    hold(fixture);
    client_frame(fixture, fd, PROTO_CANCEL, ID, 0, (struct cap_bytes){0});
    client_expect_error(fixture, fd, ID, CAP_E_CANCELLED);
    int other = client_open_with(fixture, PROTO_FEATURE_GET_MANY); /* leaves */
    ask(fixture, other, hashes, 2);
    fixture_turn(fixture);
    close(other);
    fixture_turn(fixture);
    atomic_store(&hold_finds, false);
    fixture_settle(fixture);
    ask(fixture, fd, hashes, 2);
    assert_cap_ok(read_answers(fixture, fd, answers, 2));
    ask(fixture, fd, hashes, 0);
    assert_cap_ok(read_answers(fixture, fd, answers, 0));
    close(fd);
    fixture_settle(fixture);
}

static void no_records(struct config *config)
{
    config->record_cache = 0;
}

static void test_without_a_cache(void **state)
{
    struct fixture fixture;
    struct answer answers[2];
    (void)state;
    fixture_start(&fixture, no_records);
    int fd = client_open_with(&fixture, PROTO_FEATURE_GET_MANY);
    const struct cap_hash hashes[] = {publish(&fixture, fd, 1, 1000),
                                      publish(&fixture, fd, 2, LARGE)};
    for (int i = 0; i < 3; i++) {
        ask(&fixture, fd, hashes, 2);
        assert_cap_ok(read_answers(&fixture, fd, answers, 2));
        assert_int_equal(answers[0].code | answers[1].code, 0);
    }
    close(fd);
    fixture_stop(&fixture);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_the_loop_never_walks_the_store),
        TEST(test_one_cap_fails),
        TEST(test_the_store_fails),
        TEST(test_given_up_in_a_reader),
        cmocka_unit_test(test_without_a_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
