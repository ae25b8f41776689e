/* What is in bodies rather than messages: the heads of pieces, and the list of unresolved slots. */
#include "tests/unit/proto/recode.h"
#include "tests/unit/support.h"

#define TEXT(s) ((struct cap_bytes){(const uint8_t *)(s), sizeof(s) - 1})

static const struct cap_hash hash_a = {{0xa1, 0xa2, [31] = 0xaf}};
static const struct cap_hash hash_b = {{0xb1, 0xb2, [31] = 0xbf}};
static const uint8_t two_hashes[64] = {1, [32] = 2, [63] = 9};

/* Heads of pieces, in a body rather than a message. */

static enum cap_error try_piece(const struct proto_piece *piece)
{
    uint8_t head[PROTO_PIECE_SIZE];
    struct proto_piece got = {.index = 77};
    proto_piece_encode(piece, head);
    enum cap_error error = proto_piece_decode(head, &got);
    if (error == CAP_OK) {
        assert_memory_equal(&got, piece, offsetof(struct proto_piece, len) + sizeof(got.len));
    } else {
        assert_int_equal(got.index, 77);
    }
    return error;
}

static void test_pieces(void **state)
{
    (void)state;
    static const struct proto_piece possible[] = {
        {7, 0, CAP_KIND_DATA, 0, 34, 34},
        {UINT32_MAX, 0, CAP_KIND_IMAGE, 1, UINT64_MAX, UINT32_MAX},
        {0, 0, CAP_KIND_IMAGE, 0, 100, 1}, /* the last of several */
        {0, 60, 0, 0, 0, 0},
        {1, UINT16_MAX, 0, 0, 0, 0}, /* a code of a later daemon */
    };
    static const struct proto_piece impossible[] = {
        {7, 0, 0, 0, 34, 34},             /* no kind */
        {7, 0, 3, 0, 34, 34},             /* another kind */
        {7, 0, CAP_KIND_DATA, 2, 34, 33}, /* neither more nor the last */
        {7, 0, CAP_KIND_DATA, 0, 34, 35}, /* more than there is */
        {7, 0, CAP_KIND_DATA, 1, 34, 34}, /* nothing is left for the next */
        {7, 0, CAP_KIND_DATA, 1, 34, 0},  /* no bytes, and another comes */
        {7, 60, CAP_KIND_DATA, 0, 0, 0},  /* an error with a kind */
        {7, 60, 0, 1, 0, 0},              /* that another piece follows */
        {7, 60, 0, 0, 34, 0},             /* with a length */
        {7, 60, 0, 0, 0, 34},             /* with bytes */
    };
    for (size_t i = 0; i < sizeof(possible) / sizeof(*possible); i++) {
        assert_cap_ok(try_piece(&possible[i]));
    }
    for (size_t i = 0; i < sizeof(impossible) / sizeof(*impossible); i++) {
        assert_cap_error(try_piece(&impossible[i]), CAP_E_BAD_MESSAGE);
    }
}

/* The list of unresolved slots. */

static enum cap_error try_unresolved(const uint8_t *data, size_t len)
{
    uint8_t *copy = len > 0 ? malloc(len) : NULL;
    struct cap_buf again = {0};
    if (len > 0) {
        memcpy(copy, data, len);
    }
    enum cap_error error = recode_unresolved((struct cap_bytes){copy, len}, &again);
    if (error == CAP_OK) {
        assert_int_equal(again.len, len);
        if (len > 0) {
            assert_memory_equal(again.data, copy, len);
        }
    } else {
        assert_cap_error(error, CAP_E_BAD_MESSAGE);
    }
    cap_buf_free(&again);
    free(copy);
    return error;
}

static void test_unresolved_list(void **state)
{
    (void)state;
    struct proto_unresolved slots[3] = {
        {0, CAP_KIND_IMAGE, hash_a, {NULL, 0}},
        {0, 0, hash_b, TEXT("key")}, /* of either kind */
        {1, CAP_KIND_DATA, hash_a, {two_hashes, sizeof(two_hashes)}},
    };
    struct cap_buf buf = {0};
    struct cap_ssz_list list;
    struct proto_unresolved got;
    assert_cap_ok(proto_unresolved_encode(slots, 3, &buf));
    assert_int_equal(buf.len, 3 * 4 + 3 * 38 + 3 + 64);
    assert_cap_ok(proto_unresolved_decode(cap_buf_bytes(&buf), &list));
    assert_int_equal(list.count, 3);
    for (size_t i = 0; i < 3; i++) {
        proto_unresolved_at(&list, i, &got);
        assert_int_equal(got.table, slots[i].table);
        assert_int_equal(got.kind, slots[i].kind);
        assert_hash_equal(&got.cap_hash, &slots[i].cap_hash);
        assert_int_equal(cap_bytes_compare(got.slot, slots[i].slot), 0);
    }
    cap_buf_free(&buf);
}

static void test_unresolved_empty(void **state)
{
    (void)state;
    struct cap_buf buf = {0};
    assert_cap_ok(proto_unresolved_encode(NULL, 0, &buf));
    assert_int_equal(buf.len, 0);
    assert_cap_ok(try_unresolved(NULL, 0));
    cap_buf_free(&buf);
}

/* Cuts, flipped bits and a claimed count without the bytes for it. */
static void test_unresolved_damage(void **state)
{
    (void)state;
    struct proto_unresolved slots[2] = {
        {0, CAP_KIND_IMAGE, hash_a, TEXT("k")},
        {1, CAP_KIND_DATA, hash_b, TEXT("")},
    };
    struct cap_buf buf = {0};
    assert_cap_ok(proto_unresolved_encode(slots, 2, &buf));
    for (size_t cut = 1; cut < buf.len; cut++) {
        assert_cap_error(try_unresolved(buf.data, cut), CAP_E_BAD_MESSAGE);
    }
    for (size_t bit = 0; bit < 8 * buf.len; bit++) {
        buf.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        (void)try_unresolved(buf.data, buf.len);
        buf.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    cap_store32(buf.data, 0xfffffffc);
    assert_cap_error(try_unresolved(buf.data, buf.len), CAP_E_BAD_MESSAGE);
    cap_buf_free(&buf);
}

/* A detail is not a message: it may be longer than a frame. */
static void test_unresolved_longer_than_a_frame(void **state)
{
    (void)state;
    const size_t count = 8000;
    struct proto_unresolved *slots = calloc(count, sizeof(*slots));
    assert_non_null(slots);
    for (size_t i = 0; i < count; i++) {
        slots[i] = (struct proto_unresolved){0, CAP_KIND_DATA, hash_a, TEXT("0123456789")};
    }
    struct cap_buf buf = {0};
    assert_cap_ok(proto_unresolved_encode(slots, count, &buf));
    assert_true(buf.len > PROTO_FRAME_MAX);
    assert_cap_ok(try_unresolved(buf.data, buf.len));
    cap_buf_free(&buf);
    free(slots);
}

/* What lacks: need, have and a limit. */

static void test_shortage(void **state)
{
    (void)state;
    const struct proto_shortage possible[] = {
        {2, 1, TEXT("quota-caps")}, {1, 0, TEXT("")}, {UINT64_MAX, UINT64_MAX - 1, TEXT("x")}};
    struct cap_buf buf = {0};
    struct proto_shortage got;
    for (size_t i = 0; i < sizeof(possible) / sizeof(*possible); i++) {
        buf.len = 0;
        assert_cap_ok(proto_shortage_encode(&possible[i], &buf));
        assert_int_equal(buf.len, 20 + possible[i].limit.len);
        assert_cap_ok(proto_shortage_decode(cap_buf_bytes(&buf), &got));
        assert_int_equal(got.need, possible[i].need);
        assert_int_equal(got.have, possible[i].have);
        assert_int_equal(got.limit.len, possible[i].limit.len);
        assert_memory_equal(got.limit.data, possible[i].limit.data, got.limit.len);
        for (size_t cut = 0; cut < 20; cut++) {
            assert_cap_error(proto_shortage_decode((struct cap_bytes){buf.data, cut}, &got),
                             CAP_E_BAD_MESSAGE);
        }
    }
    buf.len = 0;
    assert_cap_error(proto_shortage_encode(&(struct proto_shortage){1, 1, TEXT("")}, &buf),
                     CAP_E_INVALID_ARGUMENT);
    assert_cap_ok(proto_shortage_encode(&possible[1], &buf));
    buf.data[8] = 1;
    assert_cap_error(proto_shortage_decode(cap_buf_bytes(&buf), &got), CAP_E_BAD_MESSAGE);
    cap_buf_free(&buf);
    assert_true(proto_is_shortage(CAP_E_QUOTA_EXCEEDED));
    assert_false(proto_is_shortage(CAP_E_UNRESOLVED_SLOT));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_unresolved_list),
        cmocka_unit_test(test_unresolved_empty),
        cmocka_unit_test(test_unresolved_damage),
        cmocka_unit_test(test_unresolved_longer_than_a_frame),
        cmocka_unit_test(test_shortage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
