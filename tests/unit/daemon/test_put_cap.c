/*
 * Caps by their hash and served body: what conversion made goes in, nothing else does, and no
 * slot is left without its cap.
 */
#include "tests/unit/daemon/test_upload_fixture.h"

#include <string.h>
#include <unistd.h>

#include "daemon/publish/image.h"
#include "lib/cap/layout.h"

#define ID 9u

/* A cap as it is served. */
struct served {
    enum cap_kind kind;
    struct cap_hash hash;
    struct cap_buf body;
};

static void free_served(struct served *served)
{
    cap_buf_free(&served->body);
}

#define SERVED_MAX 4u

/* The caps that a wire Image becomes, the Image last. Returns their number. */
static size_t served_of(const struct cap_buf *wire, struct served ret_served[SERVED_MAX])
{
    struct cap_wire_image view;
    struct caps caps;
    const struct caps_stamp stamp = {0};
    assert_cap_ok(cap_deblob(cap_buf_bytes(wire), wire->len, &view, NULL));
    struct cap_bytes arena = {wire->data + view.head.len, (size_t)view.arena_len};
    struct caps_source source = {cap_source_memory(&arena), cap_source_memory(&arena)};
    assert_cap_ok(image_make(&view, false, &source, &stamp, &caps));
    size_t count = caps.admission.put_count;
    assert_true(count <= SERVED_MAX);
    for (size_t i = 0; i < count; i++) {
        const struct cap_put *put = &caps.admission.puts[i];
        struct cap_buf body = {0};
        assert_cap_ok(cap_buf_append_zeros(&body, (size_t)put->info.body_len));
        assert_cap_ok(put->body.read(put->body.ctx, 0, body.data, body.len));
        ret_served[i] = (struct served){put->info.kind, put->hash, body};
    }
    caps_free(&caps);
    return count;
}

static void send_cap(struct fixture *fixture, int fd, const struct served *cap, size_t piece)
{
    struct cap_buf payload = {0};
    const struct proto_put_cap m = {
        .kind = (uint8_t)cap->kind, .hash = cap->hash, .total_len = cap->body.len};
    assert_cap_ok(proto_put_cap_encode(&m, &payload));
    client_frame(fixture, fd, PROTO_PUT_CAP, ID, 0, cap_buf_bytes(&payload));
    cap_buf_free(&payload);
    client_body(fixture, fd, ID, cap_buf_bytes(&cap->body), piece);
}

/* Publishes it; whether it is new. */
static bool put_cap(struct fixture *fixture, int fd, const struct served *cap)
{
    static struct reply reply;
    struct proto_put_cap_reply m;
    send_cap(fixture, fd, cap, 30000);
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_PUT_CAP_REPLY);
    assert_cap_ok(
        proto_put_cap_reply_decode((struct cap_bytes){reply.payload, reply.frame.len}, &m));
    assert_true(client_is_there(fixture, fd, &cap->hash));
    return m.is_new == 1;
}

static void expect_body(struct fixture *fixture, int fd, const struct served *cap)
{
    static struct reply reply;
    size_t seen = 0;
    client_get(fixture, fd, ID, &cap->hash, 0, PROTO_TO_END);
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_GET_REPLY);
    do {
        client_receive(fixture, fd, &reply);
        assert_int_equal(reply.frame.type, PROTO_BODY);
        assert_true(reply.frame.len <= cap->body.len - seen);
        assert_memory_equal(reply.payload, cap->body.data + seen, reply.frame.len);
        seen += reply.frame.len;
    } while ((reply.frame.flags & PROTO_FLAG_END) == 0);
    assert_int_equal(seen, cap->body.len);
}

/* By their bodies, then as a wire Image, of which nothing is new. */
static void check_caps(struct fixture *fixture, int fd, size_t code_len,
                       const struct cap_hash *pinned)
{
    struct served caps[SERVED_MAX];
    struct proto_put_image_reply m;
    struct cap_buf wire = make_image(code_len, pinned);
    size_t count = served_of(&wire, caps);
    for (size_t i = 0; i < count; i++) {
        bool known = client_is_there(fixture, fd, &caps[i].hash);
        assert_int_equal(put_cap(fixture, fd, &caps[i]), !known);
        assert_false(put_cap(fixture, fd, &caps[i]));
        expect_body(fixture, fd, &caps[i]);
    }
    const struct reply *reply = upload_image(fixture, fd, 0, &wire);
    assert_cap_ok(
        proto_put_image_reply_decode((struct cap_bytes){reply->payload, reply->frame.len}, &m));
    assert_hash_equal(&m.cap_hash, &caps[count - 1].hash);
    assert_int_equal(m.is_new, 0);
    assert_int_equal(m.data_new, 0);
    for (size_t i = 0; i < count; i++) {
        free_served(&caps[i]);
    }
    cap_buf_free(&wire);
}

static void test_caps_of_many_lengths(void **state)
{
    static const size_t lens[] = {0, 1, 4096, 60000, 300000, 3u << 20, 12u << 20};
    struct fixture *fixture = *state;
    int fd = client_open_with(fixture, PROTO_FEATURE_PUT_CAP);
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        check_caps(fixture, fd, lens[i], NULL);
    }
    close(fd);
}

/* A pinned slot takes either kind. */
static void test_pinned_image(void **state)
{
    struct fixture *fixture = *state;
    struct served caps[SERVED_MAX];
    struct cap_buf inner = make_image(100, NULL);
    int fd = client_open_with(fixture, PROTO_FEATURE_PUT_CAP);
    size_t count = served_of(&inner, caps);
    for (size_t i = 0; i < count; i++) {
        assert_true(put_cap(fixture, fd, &caps[i]));
    }
    check_caps(fixture, fd, 200, &caps[count - 1].hash);
    for (size_t i = 0; i < count; i++) {
        free_served(&caps[i]);
    }
    cap_buf_free(&inner);
    close(fd);
}

static void test_missing_caps_are_listed(void **state)
{
    static struct reply reply;
    struct fixture *fixture = *state;
    struct served caps[SERVED_MAX];
    struct proto_error error;
    struct cap_ssz_list list;
    struct proto_unresolved slot;
    struct cap_buf wire = make_image(100, &absent);
    int fd = client_open_with(fixture, PROTO_FEATURE_PUT_CAP);
    size_t count = served_of(&wire, caps);
    assert_int_equal(count, 3);
    assert_true(put_cap(fixture, fd, &caps[1])); /* the zeros */
    send_cap(fixture, fd, &caps[2], 30000);
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_ERROR);
    assert_cap_ok(proto_error_decode((struct cap_bytes){reply.payload, reply.frame.len}, &error));
    assert_int_equal(error.code, 12);
    client_receive(fixture, fd, &reply);
    assert_cap_ok(
        proto_unresolved_decode((struct cap_bytes){reply.payload, reply.frame.len}, &list));
    assert_int_equal(list.count, 3);
    proto_unresolved_at(&list, 0, &slot);
    assert_int_equal(slot.table, CAP_TABLE_PINNED);
    assert_int_equal(slot.kind, 0);
    assert_memory_equal(slot.slot.data, "ro", 2);
    assert_hash_equal(&slot.cap_hash, &caps[0].hash);
    proto_unresolved_at(&list, 1, &slot);
    assert_int_equal(slot.kind, 0);
    assert_memory_equal(slot.slot.data, "sub", 3);
    assert_hash_equal(&slot.cap_hash, &absent);
    proto_unresolved_at(&list, 2, &slot);
    assert_int_equal(slot.table, CAP_TABLE_INITIAL);
    assert_int_equal(slot.kind, CAP_KIND_DATA);
    assert_memory_equal(slot.slot.data, "rw", 2);
    assert_false(client_is_there(fixture, fd, &caps[2].hash));
    for (size_t i = 0; i < count; i++) {
        free_served(&caps[i]);
    }
    cap_buf_free(&wire);
    close(fd);
}

/* The same Image, but that its slot `initial` names an Image. */
static void test_initial_slot_takes_data_only(void **state)
{
    struct fixture *fixture = *state;
    struct served caps[SERVED_MAX];
    enum cap_kind kind;
    struct cap_buf wire = make_image(100, NULL);
    int fd = client_open_with(fixture, PROTO_FEATURE_PUT_CAP);
    size_t count = served_of(&wire, caps);
    for (size_t i = 0; i < count; i++) {
        assert_true(put_cap(fixture, fd, &caps[i]));
    }
    struct served *image = &caps[count - 1];
    uint8_t *slot = NULL; /* the last one that names the zeros */
    for (size_t at = 0; at + CAP_HASH_SIZE <= image->body.len; at++) {
        if (memcmp(image->body.data + at, caps[1].hash.bytes, CAP_HASH_SIZE) == 0) {
            slot = image->body.data + at;
        }
    }
    assert_non_null(slot);
    memcpy(slot, image->hash.bytes, CAP_HASH_SIZE);
    assert_cap_ok(cap_body_hash(cap_buf_bytes(&image->body), &kind, &image->hash));
    send_cap(fixture, fd, image, 30000);
    static struct reply reply;
    client_receive(fixture, fd, &reply);
    assert_int_equal(reply.frame.type, PROTO_ERROR);
    assert_int_equal(cap_load16(reply.payload), 12);
    client_receive(fixture, fd, &reply);
    assert_false(client_is_there(fixture, fd, &image->hash));
    for (size_t i = 0; i < count; i++) {
        free_served(&caps[i]);
    }
    cap_buf_free(&wire);
    close(fd);
}

/* Sends it changed in one byte, which is put back; the connection stays usable. */
static void expect_refused(struct fixture *fixture, int fd, const struct served *cap, size_t at,
                           uint8_t flip, enum cap_error error)
{
    cap->body.data[at] ^= flip;
    send_cap(fixture, fd, cap, 1000);
    client_expect_error(fixture, fd, ID, error);
    cap->body.data[at] ^= flip;
    assert_false(client_is_there(fixture, fd, &cap->hash));
}

static void test_damage_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct served caps[SERVED_MAX];
    struct cap_buf wire = make_image(5000, NULL);
    int fd = client_open_with(fixture, PROTO_FEATURE_PUT_CAP);
    size_t count = served_of(&wire, caps);
    struct served *data = &caps[0];
    struct served *image = &caps[count - 1];
    expect_refused(fixture, fd, data, data->body.len - 1, 1, CAP_E_HASH_MISMATCH);
    expect_refused(fixture, fd, data, 0, 3, CAP_E_BODY_NOT_CANONICAL);
    expect_refused(fixture, fd, data, 9, 1, CAP_E_BODY_NOT_CANONICAL);
    expect_refused(fixture, fd, image, CAP_IMAGE_FRONT, 1, CAP_E_HASH_MISMATCH);
    expect_refused(fixture, fd, image, 0, 3, CAP_E_BODY_NOT_CANONICAL);
    expect_refused(fixture, fd, image, 1, 1, CAP_E_BODY_NOT_CANONICAL);
    expect_refused(fixture, fd, image, 29, 1, CAP_E_BODY_NOT_CANONICAL);
    /* In another's name, and as the other kind. */
    data->hash.bytes[0] ^= 1;
    expect_refused(fixture, fd, data, 0, 0, CAP_E_HASH_MISMATCH);
    data->hash.bytes[0] ^= 1;
    data->kind = CAP_KIND_IMAGE;
    expect_refused(fixture, fd, data, 0, 0, CAP_E_BODY_NOT_CANONICAL);
    for (size_t i = 0; i < count; i++) {
        free_served(&caps[i]);
    }
    cap_buf_free(&wire);
    close(fd);
}

/* What the front shows is refused while the body is under way. */
static void test_front_is_judged_early(void **state)
{
    static const struct {
        uint64_t total_len;
        uint32_t after_code;
        enum cap_error error;
    } cases[] = {
        {300u << 20, 32 + (uint32_t)CAP_MAX_CODE_SIZE + 1, CAP_E_CODE_TOO_LARGE},
        {300u << 20, 32, CAP_E_STRUCTURE_TOO_LARGE},
        {100, 100, CAP_E_BODY_NOT_CANONICAL},
    };
    struct fixture *fixture = *state;
    int fd = client_open_with(fixture, PROTO_FEATURE_PUT_CAP);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cap_buf payload = {0};
        uint8_t front[CAP_IMAGE_FRONT] = {CAP_KIND_IMAGE, 32};
        const struct proto_put_cap m = {
            .kind = CAP_KIND_IMAGE, .hash = absent, .total_len = cases[i].total_len};
        for (size_t at = 5; at < sizeof(front); at += 4) {
            cap_store32(front + at, cases[i].after_code);
        }
        assert_cap_ok(proto_put_cap_encode(&m, &payload));
        client_frame(fixture, fd, PROTO_PUT_CAP, ID, 0, cap_buf_bytes(&payload));
        cap_buf_free(&payload);
        client_frame(fixture, fd, PROTO_BODY, ID, 0, (struct cap_bytes){front, 20});
        client_frame(fixture, fd, PROTO_BODY, ID, 0, (struct cap_bytes){front + 20, 13});
        client_expect_error(fixture, fd, ID, cases[i].error);
        client_frame(fixture, fd, PROTO_BODY, ID, PROTO_FLAG_END, (struct cap_bytes){0});
        assert_false(client_is_there(fixture, fd, &absent));
    }
    close(fd);
}

/* Without the feature it is a request that nobody knows: no body may follow. */
static void test_needs_the_feature(void **state)
{
    struct fixture *fixture = *state;
    int fd = client_open(fixture);
    struct cap_buf payload = {0};
    const struct proto_put_cap m = {.kind = CAP_KIND_DATA, .hash = absent, .total_len = 5};
    assert_cap_ok(proto_put_cap_encode(&m, &payload));
    client_frame(fixture, fd, PROTO_PUT_CAP, ID, 0, cap_buf_bytes(&payload));
    cap_buf_free(&payload);
    client_expect_error(fixture, fd, ID, CAP_E_UNSUPPORTED_REQUEST);
    assert_false(client_is_there(fixture, fd, &absent));
    client_frame(fixture, fd, PROTO_BODY, ID, PROTO_FLAG_END, key("hello"));
    client_expect_error(fixture, fd, ID, CAP_E_BAD_FRAME);
    close(fd);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_caps_of_many_lengths),    TEST(test_pinned_image),
        TEST(test_missing_caps_are_listed), TEST(test_initial_slot_takes_data_only),
        TEST(test_damage_is_refused),       TEST(test_front_is_judged_early),
        TEST(test_needs_the_feature),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
