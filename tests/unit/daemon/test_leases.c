/*
 * Promises of a whole daemon: what a HAS or a publication was told is kept is not collected, what
 * nothing keeps is; requests that are given up, and a disk that is full.
 */
#include "tests/unit/daemon/test_server_fixture.h"

#include <string.h>
#include <unistd.h>

#include "daemon/publish/writer.h"
#include "tests/support/store_memory.h"

#define DAY_S 86400u

static void without_leases(struct config *config)
{
    config->lease = 0;
}

static void ask(struct fixture *fixture, int fd, uint32_t id, const struct cap_hash *hashes,
                size_t count, uint32_t keep_s)
{
    struct cap_buf payload = {0};
    const struct proto_has has = {{(const uint8_t *)hashes, count * CAP_HASH_SIZE}, count, keep_s};
    assert_cap_ok(proto_has_keep_encode(&has, &payload));
    client_frame(fixture, fd, PROTO_HAS, id, 0, cap_buf_bytes(&payload));
    cap_buf_free(&payload);
}

/* The seconds that a HAS with leases promises for one hash; UINT32_MAX: it is absent. */
static uint32_t keep(struct fixture *fixture, int fd, const struct cap_hash *hash, uint32_t keep_s)
{
    static struct reply reply;
    struct proto_has_reply m;
    ask(fixture, fd, 77, hash, 1, keep_s);
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_HAS_REPLY);
    assert_int_equal(reply.frame.id, 77);
    assert_cap_ok(
        proto_has_reply_keep_decode((struct cap_bytes){reply.payload, reply.frame.len}, &m));
    assert_int_equal(m.kinds.len, 1);
    return m.kinds.data[0] == 0 ? UINT32_MAX : proto_kept_s(&m, 0);
}

/* --- Collection ----------------------------------------------------------------------------- */

struct collection {
    struct fixture *fixture;
    struct cap_collected result;
    enum cap_error error;
    atomic_bool over;
};

static enum cap_error collect(struct cap_store *store, void *ctx)
{
    struct collection *collection = ctx;
    return cap_store_collect(store, 1000, &collection->result);
}

static void run_collection(void *arg)
{
    struct collection *collection = arg;
    collection->error = writer_run(collection->fixture->server.writer, collect, collection);
    atomic_store(&collection->over, true);
}

/* Collects once; returns how many caps went. */
static uint64_t collect_all(struct fixture *fixture)
{
    struct collection collection = {.fixture = fixture};
    uv_thread_t thread;
    assert_int_equal(uv_thread_create(&thread, run_collection, &collection), 0);
    while (!atomic_load(&collection.over)) {
        fixture_turn(fixture); /* who remembers a cap hears that it is gone */
    }
    uv_thread_join(&thread);
    assert_cap_ok(collection.error);
    fixture_turn(fixture);
    return collection.result.caps;
}

static void test_what_is_promised_is_not_collected(void **state)
{
    struct fixture fixture;
    (void)state;
    fixture_start(&fixture, without_leases);
    int plain = client_open(&fixture);
    int fd = client_open_with(&fixture, PROTO_FEATURE_KEEP);
    const struct cap_hash kept =
        client_publish(&fixture, plain, 1, (struct cap_bytes){(const uint8_t *)"kept", 4});
    const struct cap_hash other =
        client_publish(&fixture, plain, 2, (struct cap_bytes){(const uint8_t *)"other", 5});
    assert_int_equal(keep(&fixture, fd, &kept, 0), 0);
    assert_in_range(keep(&fixture, fd, &kept, DAY_S), DAY_S - 100, DAY_S);
    assert_int_equal(collect_all(&fixture), 1);
    assert_in_range(keep(&fixture, fd, &kept, 0), DAY_S - 100, DAY_S);
    assert_int_equal(keep(&fixture, fd, &other, DAY_S), UINT32_MAX);
    assert_true(client_is_there(&fixture, plain, &kept));
    close(fd);
    close(plain);
    fixture_stop(&fixture);
}

/* --- Trouble -------------------------------------------------------------------------------- */

static void test_a_full_disk(void **state)
{
    struct fixture *fixture = *state;
    int fd = client_open_with(fixture, PROTO_FEATURE_KEEP);
    int plain = client_open(fixture);
    const struct cap_hash hash =
        client_publish(fixture, plain, 1, (struct cap_bytes){(const uint8_t *)"there", 5});
    cap_store_memory_fail_commit(fixture->server.context.store, CAP_E_DISK_FULL);
    ask(fixture, fd, 5, &hash, 1, 20 * DAY_S);
    client_expect_error(fixture, fd, 5, CAP_E_DISK_FULL);
    assert_true(client_is_there(fixture, plain, &hash));
    assert_in_range(keep(fixture, fd, &hash, 20 * DAY_S), 20 * DAY_S - 100, 20 * DAY_S);
    close(plain);
    close(fd);
}

/* Requests that are given up, in every part of their way, and connections that go. */
static void test_given_up(void **state)
{
    struct fixture *fixture = *state;
    enum { COUNT = 600, ROUNDS = 20 };
    int plain = client_open(fixture);
    const struct cap_hash hash =
        client_publish(fixture, plain, 1, (struct cap_bytes){(const uint8_t *)"there", 5});
    struct cap_hash *hashes = calloc(COUNT, sizeof(*hashes));
    for (size_t i = 0; i < COUNT; i++) {
        hashes[i] = hash;
    }
    for (uint32_t round = 0; round < ROUNDS; round++) {
        static struct reply reply;
        int fd = client_open_with(fixture, PROTO_FEATURE_KEEP);
        for (uint32_t id = 1; id <= 4; id++) {
            ask(fixture, fd, id, hashes, COUNT, (1 + id + round) * DAY_S);
        }
        for (uint32_t turn = 0; turn < round; turn++) {
            fixture_turn(fixture);
        }
        client_frame(fixture, fd, PROTO_CANCEL, 2, 0, (struct cap_bytes){NULL, 0});
        for (uint32_t id = 1; id <= (round % 2 == 0 ? 4 : 0); id++) {
            client_receive(fixture, fd, &reply);
            assert_true(reply.frame.type == PROTO_HAS_REPLY ||
                        (reply.frame.type == PROTO_ERROR && reply.frame.id == 2));
        }
        close(fd);
    }
    fixture_settle(fixture);
    assert_true(client_is_there(fixture, plain, &hash));
    close(plain);
    free(hashes);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_promised_is_not_collected),
        TEST(test_a_full_disk),
        TEST(test_given_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
