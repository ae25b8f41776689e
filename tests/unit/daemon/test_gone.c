/*
 * What is gone is not answered with any more, whatever was remembered of it, from the moment that
 * the writer says so.
 */
#include "tests/unit/daemon/test_server_fixture.h"

#include <unistd.h>

#include "daemon/serve/gone.h"

#define LARGE 3000000u /* bytes: more than a piece */

static struct cap_hash publish(struct fixture *fixture, int fd, size_t len, uint8_t byte)
{
    uint8_t *content = malloc(len);
    assert_non_null(content);
    memset(content, byte, len);
    for (size_t at = 0; at + sizeof(at) <= len; at += 4096) {
        memcpy(content + at, &at, sizeof(at)); /* no page is like another */
    }
    struct cap_hash hash = client_publish(fixture, fd, 1, (struct cap_bytes){content, len});
    free(content);
    return hash;
}

static enum cap_error delete_in(struct cap_store *store, void *ctx)
{
    return cap_store_delete(store, ctx, 0, true);
}

/* Deletes a cap, as a method would; the loop does not turn meanwhile. */
static void delete (struct fixture *fixture, struct cap_hash hash)
{
    assert_cap_ok(writer_run(fixture->server.writer, delete_in, &hash));
}

/* Reads a body to its end; or the error that comes instead. */
static enum cap_error get(struct fixture *fixture, int fd, const struct cap_hash *hash)
{
    struct reply reply;
    client_get(fixture, fd, 7, hash, 0, PROTO_TO_END);
    do {
        client_receive(fixture, fd, &reply);
        if (reply.frame.type == PROTO_ERROR) {
            struct proto_error error;
            assert_cap_ok(
                proto_error_decode((struct cap_bytes){reply.payload, reply.frame.len}, &error));
            return cap_error_from_code(error.code);
        }
    } while ((reply.frame.flags & PROTO_FLAG_END) == 0);
    return CAP_OK;
}

/* What a HAS of many says of the first of its hashes. */
static bool is_among_many(struct fixture *fixture, int fd, const struct cap_hash *hash)
{
    struct cap_hash hashes[50] = {*hash};
    struct proto_has_reply has;
    struct reply reply;
    client_has(fixture, fd, 8, hashes, 50);
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_HAS_REPLY);
    assert_cap_ok(proto_has_reply_decode((struct cap_bytes){reply.payload, reply.frame.len}, &has));
    return has.kinds.data[0] != 0;
}

/* Asks in all ways until everything about the cap is remembered. */
static void warm(struct fixture *fixture, int fd, const struct cap_hash *hash)
{
    for (int i = 0; i < 5; i++) {
        assert_cap_ok(get(fixture, fd, hash));
        assert_true(client_is_there(fixture, fd, hash));
        assert_true(is_among_many(fixture, fd, hash));
        fixture_settle(fixture);
    }
}

static void expect_gone(struct fixture *fixture, int fd, const struct cap_hash *hash)
{
    assert_false(client_is_there(fixture, fd, hash));
    assert_false(is_among_many(fixture, fd, hash));
    assert_cap_error(get(fixture, fd, hash), CAP_E_NOT_FOUND);
}

static void test_caches_forget(void **state)
{
    struct fixture *fixture = *state;
    const size_t lens[] = {100, 4096, 100000, LARGE};
    struct cap_hash hashes[4];
    int fd = client_open(fixture);
    struct cap_hash stays = publish(fixture, fd, LARGE, 9);
    warm(fixture, fd, &stays);
    for (size_t i = 0; i < 4; i++) {
        hashes[i] = publish(fixture, fd, lens[i], 5);
        warm(fixture, fd, &hashes[i]);
    }
    assert_true(fixture->server.loops[0].shard.stats.body_bytes_kept > 0); /* of pieces */
    for (size_t i = 0; i < 4; i++) {
        delete (fixture, hashes[i]);
        expect_gone(fixture, fd, &hashes[i]);
        fixture_settle(fixture);
        expect_gone(fixture, fd, &hashes[i]);
    }
    assert_cap_ok(get(fixture, fd, &stays));
    struct cap_hash again = publish(fixture, fd, LARGE, 5);
    assert_hash_equal(&again, &hashes[3]);
    warm(fixture, fd, &again);
    close(fd);
}

/* A reader that has found a cap before it went is answered from; but it is not remembered. */
static void test_found_before(void **state)
{
    struct fixture *fixture = *state;
    struct reply reply;
    int fd = client_open(fixture);
    int other = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd, 3000, 5);
    fixture_settle(fixture);
    fixture->cold = true;
    atomic_store(&fixture->hold, true);
    client_get(fixture, fd, 5, &hash, 0, PROTO_TO_END);
    for (int turns = 0; atomic_load(&fixture->held) == 0; turns++) {
        assert_true(turns < 1000);
        fixture_turn(fixture);
    }
    delete (fixture, hash);
    atomic_store(&fixture->hold, false);
    client_receive(fixture, fd, &reply); /* of a snapshot that began before the deletion */
    assert_int_equal(reply.frame.type, PROTO_GET_REPLY);
    while ((reply.frame.flags & PROTO_FLAG_END) == 0) {
        client_receive(fixture, fd, &reply);
    }
    fixture->cold = false;
    fixture_settle(fixture);
    expect_gone(fixture, other, &hash);
    expect_gone(fixture, fd, &hash);
    close(fd);
    close(other);
}

/* A stream that is under way ends with an error rather than with bytes of a cap that is gone. */
static void test_while_it_is_sent(void **state)
{
    struct fixture *fixture = *state;
    struct reply reply;
    enum cap_error error = CAP_OK;
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd, 20 << 20, 5);
    client_get(fixture, fd, 5, &hash, 0, PROTO_TO_END);
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_GET_REPLY);
    delete (fixture, hash);
    do {
        client_receive(fixture, fd, &reply);
        if (reply.frame.type == PROTO_ERROR) {
            struct proto_error message;
            assert_cap_ok(
                proto_error_decode((struct cap_bytes){reply.payload, reply.frame.len}, &message));
            error = cap_error_from_code(message.code);
        }
    } while (error == CAP_OK && (reply.frame.flags & PROTO_FLAG_END) == 0);
    assert_cap_error(error, CAP_E_NOT_FOUND);
    expect_gone(fixture, fd, &hash);
    close(fd);
}

/* The log has an end: who has missed some of it is told so. */
static void test_log(void **state)
{
    struct gone gone;
    struct cap_hash hashes[100];
    uint64_t at = 0;
    size_t count;
    (void)state;
    assert_cap_ok(gone_open(&gone));
    for (uint64_t i = 0; i < 150; i++) {
        struct cap_hash hash = {{0}};
        cap_store64(hash.bytes, i);
        gone_tell(&gone, &hash);
    }
    assert_true(gone_take(&gone, &at, hashes, 100, &count));
    assert_int_equal(count, 100);
    assert_true(gone_take(&gone, &at, hashes, 100, &count));
    assert_int_equal(count, 50);
    assert_int_equal(cap_load64(hashes[49].bytes), 149);
    assert_true(gone_take(&gone, &at, hashes, 100, &count));
    assert_int_equal(count, 0);
    for (uint64_t i = 0; i < GONE_MAX; i++) {
        gone_tell(&gone, &hashes[0]);
    }
    uint64_t behind = at;
    assert_true(gone_take(&gone, &at, hashes, 100, &count));
    gone_tell(&gone, &hashes[0]);
    assert_false(gone_take(&gone, &behind, hashes, 100, &count));
    assert_int_equal(count, 0);
    assert_true(gone_take(&gone, &behind, hashes, 100, &count));
    assert_int_equal(count, 0);
    gone_close(&gone);
}

/* A loop that has fallen behind forgets everything, and so what is gone. */
static void test_fallen_behind(void **state)
{
    struct fixture *fixture = *state;
    struct cap_hash none = {{0}};
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd, 3000, 5);
    struct cap_hash large = publish(fixture, fd, LARGE, 6);
    warm(fixture, fd, &hash);
    warm(fixture, fd, &large);
    for (uint64_t i = 0; i < GONE_MAX; i++) {
        gone_tell(&fixture->server.serves.gone, &none);
    }
    delete (fixture, hash);
    delete (fixture, large);
    expect_gone(fixture, fd, &hash);
    expect_gone(fixture, fd, &large);
    close(fd);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_caches_forget),   TEST(test_found_before),  TEST(test_while_it_is_sent),
        cmocka_unit_test(test_log), TEST(test_fallen_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
