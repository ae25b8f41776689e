/* What the loop remembers of caps: records, and where small bodies lie. */
#include "tests/unit/daemon/test_server_fixture.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/serve/serve.h"
#include "lib/store/engine.h"

/* --- Records ---------------------------------------------------------------------------------- */

static struct record *make_record(uint64_t number)
{
    const struct cap_info info = {.kind = CAP_KIND_DATA, .body_len = 1000};
    struct cap_hash hash = {{0}};
    memcpy(hash.bytes, &number, sizeof(number));
    struct record *record = record_new(&hash, &info);
    assert_non_null(record);
    return record;
}

static bool is_known(struct records *records, uint64_t number)
{
    struct cap_hash hash = {{0}};
    memcpy(hash.bytes, &number, sizeof(number));
    return records_find(records, &hash) != NULL;
}

/* It keeps within its bound, and what is asked for stays when others come once. */
static void test_records_are_bounded(void **state)
{
    struct fixture *fixture = *state;
    struct records records;
    assert_cap_ok(records_open(&records, &fixture->env, 20000));
    for (uint64_t i = 0; i < 10000; i++) {
        records_add(&records, make_record(i));
        assert_true(records_bytes(&records) <= 20000);
        if (i > 0) {
            assert_true(is_known(&records, 0));
        }
    }
    assert_in_range(records.count, 70, 120); /* of 160 to 280 bytes */
    assert_false(is_known(&records, 5000));
    assert_true(is_known(&records, 9999));
    records_close(&records);
}

/* What one loop knows another may have, whole, also when the first has dropped it. */
static void test_records_of_another_loop(void **state)
{
    struct fixture *fixture = *state;
    struct records records;
    assert_cap_ok(records_open(&records, &fixture->env, 100000));
    struct record *record = make_record(7);
    struct cap_hash hash = record->hash;
    assert_null(records_copy(&records, &hash));
    records_add(&records, record);
    records_note(&records, record, true);
    record = records_copy(&records, &hash);
    records_close(&records);
    assert_non_null(record);
    assert_true(record->in_memory);
    assert_int_equal(record->info.body_len, 1000);
    free(record);
}

/* --- Places ----------------------------------------------------------------------------------- */

#define BODY_LEN 1000u

static struct places *places_of(struct fixture *fixture)
{
    return &fixture->server.loops[0].serve.places;
}

/* A Data cap whose content is BODY_LEN bytes of `fill`; its body is a little longer. */
static struct cap_hash publish(struct fixture *fixture, int fd, uint32_t id, uint8_t fill)
{
    uint8_t content[BODY_LEN];
    memset(content, fill, sizeof(content));
    return client_publish(fixture, fd, id, (struct cap_bytes){content, sizeof(content)});
}

/* Fetches it; its body ends with `fill`. */
static void fetch(struct fixture *fixture, int fd, const struct cap_hash *hash, uint8_t fill)
{
    static struct reply reply;
    client_get(fixture, fd, 9, hash, 0, PROTO_TO_END);
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_GET_REPLY);
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_BODY);
    assert_true(reply.frame.len > BODY_LEN);
    for (size_t i = 1; i <= BODY_LEN; i++) {
        assert_int_equal(reply.payload[reply.frame.len - i], fill);
    }
}

static uint64_t missed(const struct fixture *fixture)
{
    return fixture->server.loops[0].shard.stats.records_missed;
}

/* The loop finds a body that was fetched once, asks no reader, and keeps nothing beside its place.
 */
static void test_place_is_used(void **state)
{
    struct fixture *fixture = *state;
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd, 1, 7);
    fetch(fixture, fd, &hash, 7);
    assert_non_null(places_find(places_of(fixture), &hash));
    assert_int_equal(fixture->server.loops[0].serve.records.count, 0);
    uint64_t before = missed(fixture);
    for (int i = 0; i < 5; i++) {
        fetch(fixture, fd, &hash, 7);
    }
    assert_int_equal(missed(fixture), before);
    close(fd);
}

/* A HAS of many hashes is answered from their places, too, and so is one of a few. */
static void test_place_tells_the_kind(void **state)
{
    struct fixture *fixture = *state;
    static struct reply reply;
    struct cap_hash hashes[100];
    struct proto_has_reply m;
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd, 1, 7);
    for (size_t i = 0; i < 100; i++) {
        hashes[i] = hash;
    }
    fetch(fixture, fd, &hash, 7);
    uint64_t before = missed(fixture);
    for (size_t count = 1; count <= 100; count += 99) {
        client_has(fixture, fd, 3, hashes, count);
        client_receive(fixture, fd, &reply);
        assert_int_equal(reply.frame.type, PROTO_HAS_REPLY);
        assert_cap_ok(
            proto_has_reply_decode((struct cap_bytes){reply.payload, reply.frame.len}, &m));
        assert_int_equal(m.kinds.len, count);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(m.kinds.data[i], CAP_KIND_DATA);
        }
    }
    assert_int_equal(missed(fixture), before);
    close(fd);
}

/*
 * The store has given the place to another cap since, of the same length: nothing of that goes out,
 * and the right body is found anew.
 */
static void test_place_that_is_stale(void **state)
{
    struct fixture *fixture = *state;
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd, 1, 7);
    struct cap_hash other = publish(fixture, fd, 2, 8);
    fetch(fixture, fd, &hash, 7);
    fetch(fixture, fd, &other, 8);
    struct place *place = places_find(places_of(fixture), &hash);
    const struct place *wrong = places_find(places_of(fixture), &other);
    assert_true(place != NULL && wrong != NULL && place->len == wrong->len);
    place->at = wrong->at;
    uint64_t before = missed(fixture);
    fetch(fixture, fd, &hash, 7);
    assert_int_equal(missed(fixture), before + 1);
    fetch(fixture, fd, &hash, 7);
    assert_int_equal(missed(fixture), before + 1);
    close(fd);
}

static void one_set(struct config *config)
{
    config->record_cache = PLACES_SET * sizeof(struct place) * 3 / 2;
}

/* A hash of the same tag finds the place of another cap: it answers neither a HAS nor a GET. */
static void test_place_of_another_cap(void **state)
{
    struct fixture fixture;
    (void)state;
    fixture_start(&fixture, one_set);
    assert_int_equal(places_of(&fixture)->sets, 1);
    int fd = client_open(&fixture);
    struct cap_hash hash = publish(&fixture, fd, 1, 7);
    struct cap_hash other = hash;
    other.bytes[CAP_HASH_SIZE - 1] ^= 1;
    for (int i = 0; i < 2; i++) {
        fetch(&fixture, fd, &hash, 7);
        assert_non_null(places_find(places_of(&fixture), &other));
        if (i == 0) {
            assert_false(client_is_there(&fixture, fd, &other));
        } else {
            client_get(&fixture, fd, 3, &other, 0, PROTO_TO_END);
            client_expect_error(&fixture, fd, 3, CAP_E_NOT_FOUND);
        }
        assert_true(client_is_there(&fixture, fd, &hash));
    }
    close(fd);
    fixture_stop(&fixture);
}

static enum cap_error failing_load(struct cap_store *store, const struct cap_place *place,
                                   void *dst)
{
    (void)store;
    (void)place;
    (void)dst;
    return CAP_E_IO;
}

/* The device cannot give the page: the place is forgotten, and a reader says what is wrong. */
static void test_place_that_cannot_be_read(void **state)
{
    struct fixture *fixture = *state;
    static struct cap_store_ops ops;
    struct cap_store *store = fixture->server.context.store;
    const struct cap_store_ops *sound = store->ops;
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd, 1, 7);
    fetch(fixture, fd, &hash, 7);
    ops = *sound;
    ops.load = failing_load;
    store->ops = &ops;
    fetch(fixture, fd, &hash, 7);
    store->ops = sound;
    close(fd);
}

/* After a while pages are looked at again, and what is not in memory is left to a reader. */
static void test_place_that_went_cold(void **state)
{
    struct fixture *fixture = *state;
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd, 1, 7);
    fetch(fixture, fd, &hash, 7);
    uint64_t before = missed(fixture);
    fixture->cold = true;
    fixture->now_us += PLACES_TRUST_MS * 1000 - 2000;
    fetch(fixture, fd, &hash, 7);
    assert_int_equal(missed(fixture), before);
    fixture->now_us += PLACES_TRUST_MS * 1000;
    uint64_t populated = atomic_load(&fixture->populated);
    fetch(fixture, fd, &hash, 7);
    assert_int_equal(missed(fixture), before + 1);
    assert_true(atomic_load(&fixture->populated) > populated);
    close(fd);
}

/* An env in which pages are in memory or not. */
struct pages {
    bool resident;
    unsigned looked_at;
};

static bool pages_resident(void *ctx, const void *at, size_t len)
{
    struct pages *pages = ctx;
    (void)at;
    (void)len;
    pages->looked_at++;
    return pages->resident;
}

/* Pages that stay are looked at less and less; when one went, all are looked at again. */
static void test_trust_in_places(void **state)
{
    struct places places;
    static const uint8_t body[BODY_LEN];
    const struct cap_place where = {.at = body, .len = sizeof(body)};
    const struct cap_hash hash = {{1}};
    struct pages pages = {.resident = true};
    struct env env = *env_system();
    uint64_t now_us = 0;
    (void)state;
    assert_cap_ok(places_open(&places, &env, 64000, NULL));
    env.ctx = &pages;
    env.resident = pages_resident;
    places_add(&places, &hash, CAP_KIND_DATA, &where, body, now_us);
    struct place *place = places_find(&places, &hash);
    for (unsigned trust_ms = PLACES_TRUST_MS; trust_ms < PLACES_TRUST_MAX_MS; trust_ms *= 2) {
        pages.looked_at = 0;
        for (unsigned i = 0; i < PLACES_TRUST_GROWS; i++) {
            now_us += trust_ms * UINT64_C(1000);
            assert_true(place_is_warm(&places, place, &env, now_us));
        }
        assert_int_equal(pages.looked_at, PLACES_TRUST_GROWS);
        pages.looked_at = 0;
        for (unsigned i = 0; i < 10 * PLACES_TRUST_SAMPLE; i++) {
            now_us += trust_ms * UINT64_C(1500);
            assert_true(place_is_warm(&places, place, &env, now_us));
        }
        assert_int_equal(pages.looked_at, 10);
    }
    now_us += PLACES_TRUST_MAX_MS * UINT64_C(1000);
    pages.resident = false;
    assert_false(place_is_warm(&places, place, &env, now_us));
    pages.resident = true;
    assert_true(place_is_warm(&places, place, &env, now_us));
    pages.looked_at = 0;
    for (unsigned i = 0; i < 10; i++) {
        now_us += PLACES_TRUST_MS * UINT64_C(1500);
        assert_true(place_is_warm(&places, place, &env, now_us));
    }
    assert_int_equal(pages.looked_at, 10);
    places_close(&places);
}

/* It keeps within its bound, and what is asked for stays when others come once. */
static void test_places_are_bounded(void **state)
{
    struct places places;
    static const uint8_t body[BODY_LEN];
    const struct cap_place where = {.at = body, .len = sizeof(body)};
    struct cap_hash first = {{0}};
    (void)state;
    first.bytes[CAP_HASH_SIZE - 1] = 1;
    assert_cap_ok(places_open(&places, env_system(), 64000, NULL));
    for (uint64_t i = 0; i < 10000; i++) {
        struct cap_hash hash = first;
        memcpy(hash.bytes, &i, sizeof(i));
        places_add(&places, &hash, CAP_KIND_DATA, &where, body, 0);
        assert_non_null(places_find(&places, &first));
        assert_true(i < 9999 || places_find(&places, &hash) != NULL);
    }
    size_t count = 0;
    for (size_t i = 0; i < places.sets * PLACES_SET; i++) {
        count += places.entries[i].at != 0;
    }
    assert_in_range(count, 1900, 2000);
    assert_int_equal(places_bytes(&places), count * sizeof(struct place));
    places_close(&places);
}

/* What one loop knows another takes over, and finds the body with it. */
static void test_places_of_another_loop(void **state)
{
    struct fixture *fixture = *state;
    struct cap_store *store = fixture->server.context.store;
    static const uint8_t body[BODY_LEN] = {1, 2, 3};
    const struct cap_place where = {.at = body, .len = sizeof(body)};
    const struct cap_hash hash = {{1}};
    struct places one, two;
    uint8_t copy[BODY_LEN];
    assert_cap_ok(places_open(&one, env_system(), 64000, NULL));
    assert_cap_ok(places_open(&two, env_system(), 64000, &one));
    assert_null(places_learn(&two, &one, &hash));
    places_add(&one, &hash, CAP_KIND_DATA, &where, body, 0);
    assert_null(places_find(&two, &hash));
    struct place *place = places_learn(&two, &one, &hash);
    assert_non_null(place);
    assert_ptr_equal(places_find(&two, &hash), place);
    assert_int_equal(place->kind, CAP_KIND_DATA);
    assert_true(place_load(&two, place, &hash, store, copy));
    assert_memory_equal(copy, body, sizeof(body));
    places_close(&one);
    places_close(&two);
}

#define TOGETHER (2 * ROUTE_AHEAD + 3)

/* Appends a GET to what will be sent. */
static void add_get(struct cap_buf *out, uint32_t id, const struct cap_hash *hash)
{
    struct cap_buf payload = {0};
    uint8_t header[PROTO_FRAME_HEADER_SIZE];
    const struct proto_get get = {*hash, 0, PROTO_TO_END};
    assert_cap_ok(proto_get_encode(&get, &payload));
    const struct proto_frame frame = {.len = (uint32_t)payload.len, .id = id, .type = PROTO_GET};
    proto_frame_encode(&frame, header);
    assert_cap_ok(cap_buf_append(out, header, sizeof(header)));
    assert_cap_ok(cap_buf_append(out, payload.data, payload.len));
    cap_buf_free(&payload);
}

/* Receives a whole reply to GET `id` and returns the last byte of the body. */
static uint8_t receive_get(struct fixture *fixture, int fd, uint32_t id)
{
    static struct reply reply;
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_GET_REPLY);
    assert_int_equal(reply.frame.id, id);
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_BODY);
    return reply.payload[reply.frame.len - 1];
}

/*
 * More requests than a room is told of at once come in one piece, the last one cut; one of them is
 * of another type and one too short for a hash. Each has its answer, in order.
 */
static void test_requests_that_come_together(void **state)
{
    struct fixture *fixture = *state;
    struct cap_buf out = {0};
    const uint8_t type = 0x7e; /* nobody knows it */
    int fd = client_open(fixture);
    struct cap_hash hash = publish(fixture, fd, 1, 7);
    fetch(fixture, fd, &hash, 7);
    for (uint32_t i = 0; i < TOGETHER; i++) {
        size_t at = out.len;
        add_get(&out, 10 + i, &hash);
        if (i == 5) {
            out.data[at + 8] = type;
        } else if (i == 9) {
            out.data[at] = 3;
            out.len = at + PROTO_FRAME_HEADER_SIZE + 3;
        }
    }
    assert_int_equal(send(fd, out.data, out.len - 1, MSG_NOSIGNAL), out.len - 1);
    for (uint32_t i = 0; i < TOGETHER; i++) {
        if (i == 5 || i == 9) {
            client_expect_error(fixture, fd, 10 + i,
                                i == 5 ? CAP_E_UNSUPPORTED_REQUEST : CAP_E_BAD_MESSAGE);
            continue;
        }
        if (i == TOGETHER - 1) {
            assert_int_equal(send(fd, out.data + out.len - 1, 1, MSG_NOSIGNAL), 1);
        }
        assert_int_equal(receive_get(fixture, fd, 10 + i), 7);
    }
    cap_buf_free(&out);
    close(fd);
}

/*
 * More connections than a room is told of at once have sent when the loop looks: each has its own
 * answer. One of them has closed, one has sent nonsense behind its request, one half of a request,
 * one a request of another type.
 */
static void test_connections_that_come_together(void **state)
{
    struct fixture *fixture = *state;
    enum { CLOSED = 3, NONSENSE = 5, HALF = 7, OTHER = 9 };
    struct cap_hash hashes[2];
    int fds[ROUTE_AHEAD + 11];
    const size_t count = sizeof(fds) / sizeof(fds[0]);
    for (size_t i = 0; i < count; i++) {
        fds[i] = client_open(fixture);
    }
    for (uint8_t i = 0; i < 2; i++) {
        hashes[i] = publish(fixture, fds[0], 1, (uint8_t)(7 + i));
        fetch(fixture, fds[0], &hashes[i], (uint8_t)(7 + i));
    }
    for (uint32_t i = 0; i < count; i++) {
        struct cap_buf out = {0};
        add_get(&out, 10 + i, &hashes[i % 2]);
        if (i == NONSENSE) {
            assert_cap_ok(cap_buf_append_zeros(&out, PROTO_FRAME_HEADER_SIZE));
        } else if (i == OTHER) {
            out.data[8] = 0x7e; /* a type that nobody knows */
        }
        size_t len = i == HALF ? out.len / 2 : out.len;
        assert_int_equal(send(fds[i], out.data, len, MSG_NOSIGNAL), len);
        if (i == CLOSED) {
            close(fds[i]);
        }
        cap_buf_free(&out);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (i == HALF) {
            struct cap_buf out = {0};
            add_get(&out, 10 + i, &hashes[i % 2]);
            size_t sent = out.len / 2;
            assert_int_equal(send(fds[i], out.data + sent, out.len - sent, MSG_NOSIGNAL),
                             out.len - sent);
            cap_buf_free(&out);
        }
        if (i == CLOSED) {
            continue;
        }
        if (i == OTHER) {
            client_expect_error(fixture, fds[i], 10 + i, CAP_E_UNSUPPORTED_REQUEST);
        } else {
            assert_int_equal(receive_get(fixture, fds[i], 10 + i), 7 + i % 2);
        }
        if (i == NONSENSE) {
            client_expect_error(fixture, fds[i], 0, CAP_E_BAD_FRAME);
            client_expect_end(fixture, fds[i]);
        }
        close(fds[i]);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_records_are_bounded),
        TEST(test_records_of_another_loop),
        TEST(test_place_is_used),
        TEST(test_place_tells_the_kind),
        TEST(test_place_that_is_stale),
        TEST(test_place_that_cannot_be_read),
        TEST(test_place_that_went_cold),
        TEST(test_trust_in_places),
        TEST(test_places_are_bounded),
        cmocka_unit_test(test_place_of_another_cap),
        TEST(test_places_of_another_loop),
        TEST(test_requests_that_come_together),
        TEST(test_connections_that_come_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
