/* The kinds that large HAS requests leave behind. */
#include "tests/unit/daemon/test_server_fixture.h"

#include <string.h>
#include <unistd.h>

#include "daemon/serve/kinds.h"

#define MANY 100u /* hashes of a HAS that is not a small one */

static struct cap_hash make_hash(uint32_t number)
{
    struct cap_hash hash = {{0}};
    memcpy(hash.bytes, &number, sizeof(number));
    hash.bytes[31] = 0x5a;
    return hash;
}

static void test_what_was_added_is_found(void **state)
{
    struct fixture *fixture = *state;
    struct kinds kinds;
    assert_cap_ok(kinds_open(&kinds, &fixture->env, 100000));
    for (uint32_t i = 0; i < 20; i++) {
        struct cap_hash hash = make_hash(i);
        kinds_expect(&kinds, &hash);
        assert_int_equal(kinds_find(&kinds, &hash), 0);
        kinds_add(&kinds, &hash, (uint8_t)(1 + i % 2));
        kinds_add(&kinds, &hash, (uint8_t)(1 + i % 2));
    }
    for (uint32_t i = 0; i < 20; i++) {
        struct cap_hash hash = make_hash(i);
        assert_int_equal(kinds_find(&kinds, &hash), 1 + i % 2);
        hash.bytes[31] ^= 1; /* the tag is the same */
        assert_int_equal(kinds_find(&kinds, &hash), 0);
    }
    kinds_close(&kinds);
}

/* However many are added, the table has its size, and the newest is in it. */
static void test_a_full_set_forgets_its_oldest(void **state)
{
    struct fixture *fixture = *state;
    struct kinds kinds;
    uint32_t there = 0;
    assert_cap_ok(kinds_open(&kinds, &fixture->env, 1000));
    assert_in_range(kinds.count, 1, 4);
    for (uint32_t i = 0; i < 1000; i++) {
        struct cap_hash hash = make_hash(i);
        kinds_add(&kinds, &hash, CAP_KIND_DATA);
        assert_int_equal(kinds_find(&kinds, &hash), CAP_KIND_DATA);
    }
    for (uint32_t i = 0; i < 1000; i++) {
        struct cap_hash hash = make_hash(i);
        there += kinds_find(&kinds, &hash) != 0;
    }
    assert_in_range(there, 8, 32);
    kinds_close(&kinds);
}

static void test_a_table_of_no_bytes(void **state)
{
    struct fixture *fixture = *state;
    struct kinds kinds;
    struct cap_hash hash = make_hash(1);
    assert_cap_ok(kinds_open(&kinds, &fixture->env, 0));
    kinds_expect(&kinds, &hash);
    kinds_add(&kinds, &hash, CAP_KIND_DATA);
    assert_int_equal(kinds_find(&kinds, &hash), 0);
    kinds_close(&kinds);
}

/* Asks for MANY hashes, of which `there` is at `at`; says whether the answer has it there only. */
static void has_many(struct fixture *fixture, int fd, const struct cap_hash *there, size_t at,
                     bool is_there)
{
    static struct reply reply;
    struct cap_hash hashes[MANY];
    struct proto_has_reply m;
    for (uint32_t i = 0; i < MANY; i++) {
        hashes[i] = i == at ? *there : make_hash(i);
    }
    client_has(fixture, fd, 9, hashes, MANY);
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_HAS_REPLY);
    assert_cap_ok(proto_has_reply_decode((struct cap_bytes){reply.payload, reply.frame.len}, &m));
    assert_int_equal(m.kinds.len, MANY);
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(m.kinds.data[i], i == at && is_there ? CAP_KIND_DATA : 0);
    }
}

/* Presence is remembered, absence is not. */
static void test_many_hashes_are_remembered(void **state)
{
    struct fixture *fixture = *state;
    struct fixture other;
    fixture_start(&other, NULL);
    int there = client_open(&other);
    uint8_t content[1000];
    memset(content, 7, sizeof(content));
    const struct cap_bytes bytes = {content, sizeof(content)};
    struct cap_hash hash = client_publish(&other, there, 1, bytes); /* what the hash will be */
    close(there);
    fixture_stop(&other);

    int fd = client_open(fixture);
    const struct kinds *kinds = &fixture->server.loops[0].serve.kinds;
    has_many(fixture, fd, &hash, 3, false);
    assert_int_equal(kinds_find(kinds, &hash), 0);
    (void)client_publish(fixture, fd, 1, bytes);
    has_many(fixture, fd, &hash, 50, true);
    fixture_turn(fixture);
    assert_int_equal(kinds_find(kinds, &hash), CAP_KIND_DATA);
    has_many(fixture, fd, &hash, 99, true);
    close(fd);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_what_was_added_is_found),
        TEST(test_a_full_set_forgets_its_oldest),
        TEST(test_a_table_of_no_bytes),
        TEST(test_many_hashes_are_remembered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
