/* Many caps in one answer, from a scripted daemon: every cap once, whatever the pieces are. */
#include "tests/unit/client/bodies.h"
#include "tests/unit/client/fake.h"

#include <capstore/async.h>

#define assert_error(expression, name) assert_string_equal(capstore_error_name(expression), name)

#define HASHES 5u

/* What came of each hash. */
struct gotten {
    unsigned times[HASHES];
    enum capstore_error errors[HASHES];
    uint64_t lengths[HASHES];
    enum capstore_error answer; /* what `got` returns for the second call */
    unsigned calls;
};

static enum capstore_error on_got(void *ctx, size_t index, enum capstore_error error,
                                  struct capstore_cap *cap)
{
    struct gotten *gotten = (struct gotten *)ctx;
    assert_true(index < HASHES);
    assert_true((cap != NULL) == (error == CAPSTORE_OK));
    gotten->times[index]++;
    gotten->errors[index] = error;
    gotten->lengths[index] = cap == NULL ? 0 : capstore_cap_body(cap).len;
    capstore_cap_free(cap);
    return ++gotten->calls == 2 ? gotten->answer : CAPSTORE_OK;
}

/* ---- the daemon ---- */

static void add_piece(struct cap_buf *pieces, struct proto_piece piece, const uint8_t *bytes)
{
    uint8_t head[PROTO_PIECE_SIZE];
    proto_piece_encode(&piece, head);
    (void)cap_buf_append(pieces, head, sizeof(head));
    (void)cap_buf_append(pieces, bytes, piece.len);
}

static struct proto_piece whole(uint32_t index)
{
    return (struct proto_piece){.index = index,
                                .kind = CAP_KIND_DATA,
                                .body_len = sizeof(hello_body),
                                .len = sizeof(hello_body)};
}

static struct proto_piece part(uint32_t index, uint32_t len, bool more)
{
    struct proto_piece piece = whole(index);
    piece.len = len;
    piece.more = more;
    return piece;
}

static struct proto_piece failed(uint32_t index, enum cap_error error)
{
    return (struct proto_piece){.index = index, .code = (uint16_t)-error};
}

/* Takes a GET_MANY of `count` hashes and answers with these pieces in frames of `step` bytes. */
static void answer(struct fake *fake, size_t count, struct cap_bytes pieces, size_t step)
{
    struct proto_get_many asked;
    struct cap_buf payload = {0};
    const struct proto_get_many_reply reply = {(uint32_t)count};
    (void)fake_expect(fake, PROTO_GET_MANY);
    fake_check(fake, proto_get_many_decode(cap_buf_bytes(&fake->payload), &asked) == CAP_OK);
    fake_check(fake, asked.count == count);
    uint32_t id = fake->frame.id;
    fake_check(fake, proto_get_many_reply_encode(&reply, &payload) == CAP_OK);
    fake_send_buf(fake, PROTO_GET_MANY_REPLY, id, &payload);
    for (size_t at = 0; at == 0 || at < pieces.len; at += step) {
        size_t len = pieces.len - at < step ? pieces.len - at : step;
        fake_send(fake, PROTO_BODY, id, at + len == pieces.len ? PROTO_FLAG_END : 0,
                  cap_bytes_slice(pieces, at, len));
    }
}

/* Grants the feature. */
static void greet(struct fake *fake)
{
    fake->features = PROTO_FEATURE_GET_MANY;
    fake_hello(fake);
}

/* All that may come: any order, several pieces, errors alone and after pieces. */
static void send_all_kinds(struct fake *fake)
{
    struct cap_buf pieces = {0};
    add_piece(&pieces, whole(2), hello_body);
    add_piece(&pieces, failed(4, CAP_E_NOT_FOUND), NULL);
    add_piece(&pieces, part(0, 1, true), hello_body);
    add_piece(&pieces, part(0, 30, true), hello_body + 1);
    add_piece(&pieces, part(0, 3, false), hello_body + 31);
    add_piece(&pieces, part(3, 20, true), hello_body);
    add_piece(&pieces, failed(3, CAP_E_CORRUPT), NULL);
    add_piece(&pieces, part(1, 33, true), hello_body);
    add_piece(&pieces, part(1, 1, false), hello_body + 33);
    greet(fake);
    for (size_t step = 1; step < pieces.len + 20; step += 7) {
        answer(fake, HASHES, cap_buf_bytes(&pieces), step);
    }
    answer(fake, 0, (struct cap_bytes){0}, 1);
    fake_answer_has(fake);
    cap_buf_free(&pieces);
}

static void fill_hashes(struct capstore_hash hashes[HASHES])
{
    for (size_t i = 0; i < HASHES; i++) {
        hashes[i] = hash_of(HELLO_HASH);
    }
}

static void on_done(void *ctx, const struct capstore_answer *answer)
{
    struct gotten *gotten = (struct gotten *)ctx;
    gotten->calls += 1000;
    assert_error(answer->error, "ok");
}

static void test_all_kinds(void **state)
{
    struct fake fake;
    struct capstore_hash hashes[HASHES];
    static const uint8_t zero[sizeof(struct gotten)];
    (void)state;
    fill_hashes(hashes);
    fake_start(&fake, send_all_kinds, NULL);
    struct capstore *store = fake_connect(&fake, NULL);
    const size_t len = 9 * PROTO_PIECE_SIZE + 3 * sizeof(hello_body) + 20;
    for (size_t step = 1; step < len + 20; step += 7) {
        struct gotten gotten = {0};
        if (step % 2 == 0) {
            assert_error(
                capstore_async_get_many(store, hashes, HASHES, on_got, on_done, &gotten, NULL),
                "ok");
            while (capstore_pending(store) > 0) {
                assert_error(capstore_process(store, 1), "ok");
            }
            assert_int_equal(gotten.calls, 1000 + HASHES);
        } else {
            assert_error(capstore_get_many(store, hashes, HASHES, on_got, &gotten), "ok");
        }
        for (size_t i = 0; i < HASHES; i++) {
            assert_int_equal(gotten.times[i], 1);
            assert_int_equal(gotten.lengths[i], i < 3 ? sizeof(hello_body) : 0);
        }
        assert_error(gotten.errors[3], "corrupt");
        assert_error(gotten.errors[4], "not_found");
    }
    struct gotten none = {0};
    assert_error(capstore_async_get_many(store, hashes, 0, on_got, on_done, &none, NULL), "ok");
    assert_error(capstore_get_many(store, hashes, 0, on_got, &none), "ok");
    fake_assert_usable(store);
    assert_memory_equal(zero, none.times, sizeof(none.times));
    capstore_free(store);
    fake_join(&fake);
}

/* ---- pieces that cannot be ---- */

static void send_pieces(struct fake *fake)
{
    greet(fake);
    answer(fake, 2, *(const struct cap_bytes *)fake->ctx, 1000);
}

static void check_broken(const struct capstore_options *options, const struct proto_piece *list,
                         size_t count, size_t cut)
{
    struct fake fake;
    struct cap_buf pieces = {0};
    struct capstore_hash hashes[HASHES];
    struct gotten gotten = {0};
    fill_hashes(hashes);
    for (size_t i = 0; i < count; i++) {
        add_piece(&pieces, list[i], hello_body);
    }
    const struct cap_bytes bytes = {pieces.data, pieces.len - cut};
    fake_start(&fake, send_pieces, &bytes);
    struct capstore *store = fake_connect(&fake, options);
    assert_error(capstore_get_many(store, hashes, 2, on_got, &gotten), "bad_reply");
    assert_false(capstore_connected(store));
    assert_true(gotten.calls <= 2);
    capstore_free(store);
    fake_join(&fake);
    cap_buf_free(&pieces);
}

static void test_broken_pieces(void **state)
{
    /* Of caps that are too long for the caller the bytes are skipped, and counted all the same. */
    const struct capstore_options skip = {.struct_size = sizeof(skip), .max_body = 33};
    (void)state;
    struct proto_piece other = part(0, 4, false);
    other.body_len++;
    struct proto_piece image = part(0, 4, false);
    image.kind = CAP_KIND_IMAGE;
    struct proto_piece bad = whole(0);
    bad.kind = 7;
    const struct proto_piece cases[][3] = {
        {whole(0), whole(0)},                              /* twice */
        {whole(0), whole(2)},                              /* not asked for */
        {part(0, 30, true), whole(1)},                     /* another's in between */
        {part(0, 30, true), other},                        /* another length */
        {part(0, 30, true), image},                        /* another kind */
        {part(0, 30, true), part(0, 3, false), whole(1)},  /* too short */
        {part(0, 30, true), part(0, 5, false), whole(1)},  /* too long */
        {whole(1), bad},                                   /* no such kind */
        {failed(0, CAP_E_NOT_FOUND), failed(0, CAP_E_IO)}, /* twice */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        size_t count = cases[i][2].body_len > 0 ? 3 : 2;
        check_broken(NULL, cases[i], count, 0);
        check_broken(&skip, cases[i], count, 0);
    }
    const struct proto_piece both[] = {whole(0), whole(1)};
    check_broken(NULL, both, 1, 0);                      /* one is missing */
    check_broken(NULL, both, 2, 1);                      /* END within a body */
    check_broken(NULL, both, 2, sizeof(hello_body) + 1); /* within a head */
    check_broken(NULL, both, 2, sizeof(hello_body));     /* behind a head */
}

/* ---- one cap fails in the library, or the caller has enough ---- */

static void send_two(struct fake *fake)
{
    struct cap_buf pieces = {0};
    add_piece(&pieces, whole(0), hello_body);
    add_piece(&pieces, whole(1), hello_body);
    greet(fake);
    answer(fake, 2, cap_buf_bytes(&pieces), 60);
    cap_buf_free(&pieces);
    while (fake_take(fake) && fake->frame.type == PROTO_CANCEL) {
    }
    fake_check(fake, fake->frame.type == PROTO_HAS);
    struct cap_buf payload = {0};
    const uint8_t kind = 0;
    const struct proto_has_reply reply = {.kinds = {&kind, 1}};
    fake_check(fake, proto_has_reply_encode(&reply, &payload) == CAP_OK);
    fake_send_buf(fake, PROTO_HAS_REPLY, fake->frame.id, &payload);
}

static void get_two(const struct capstore_options *options, struct gotten *gotten,
                    const char *outcome, bool other_hash)
{
    struct fake fake;
    struct capstore_hash hashes[HASHES];
    uint8_t kind;
    fill_hashes(hashes);
    if (other_hash) {
        hashes[1].bytes[0] ^= 1;
    }
    fake_start(&fake, send_two, NULL);
    struct capstore *store = fake_connect(&fake, options);
    assert_error(capstore_get_many(store, hashes, 2, on_got, gotten), outcome);
    assert_error(capstore_has(store, hashes, 1, &kind), "ok");
    capstore_free(store);
    fake_join(&fake);
}

static void test_one_fails(void **state)
{
    struct gotten gotten = {0};
    (void)state;
    get_two(NULL, &gotten, "ok", true);
    assert_error(gotten.errors[0], "ok");
    assert_error(gotten.errors[1], "hash_mismatch");
    struct capstore_options options = {.struct_size = sizeof(options), .max_body = 33};
    gotten = (struct gotten){0};
    get_two(&options, &gotten, "ok", false);
    assert_error(gotten.errors[0], "body_too_large");
}

static void test_the_caller_ends_it(void **state)
{
    /* Also with an error that, from the library, would mean that the stream is unusable. */
    const enum capstore_error answers[] = {CAPSTORE_E_DISK_FULL, CAPSTORE_E_BAD_REPLY};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct gotten gotten = {.answer = answers[i]};
        get_two(NULL, &gotten, capstore_error_name(answers[i]), false);
        assert_int_equal(gotten.calls, 2);
    }
}

/* ---- daemons that do not know it, or refuse ---- */

static void answer_gets(struct fake *fake)
{
    fake_hello(fake);
    for (size_t i = 0; i < HASHES; i++) {
        (void)fake_expect(fake, PROTO_GET);
        if (i == 3) {
            fake_error(fake, fake->frame.id, CAP_E_NOT_FOUND, "no", 0);
        } else {
            fake_body(fake, (struct cap_bytes){hello_body, sizeof(hello_body)}, 10);
        }
    }
    (void)fake_expect(fake, PROTO_GET);
    fake_error(fake, fake->frame.id, CAP_E_DRAINING, "leaving", 0);
    fake_answer_has(fake);
}

static void test_without_the_feature(void **state)
{
    struct fake fake;
    struct capstore_hash hashes[HASHES];
    struct gotten gotten = {0};
    (void)state;
    fill_hashes(hashes);
    fake_start(&fake, answer_gets, NULL);
    struct capstore *store = fake_connect(&fake, NULL);
    assert_error(capstore_async_get_many(store, hashes, 1, on_got, on_done, &gotten, NULL),
                 "unsupported_request");
    assert_error(capstore_get_many(store, hashes, HASHES, on_got, &gotten), "ok");
    for (size_t i = 0; i < HASHES; i++) {
        assert_int_equal(gotten.times[i], 1);
        assert_error(gotten.errors[i], i == 3 ? "not_found" : "ok");
    }
    assert_error(capstore_get_many(store, hashes, 1, on_got, &gotten), "draining");
    assert_string_equal(capstore_message(store), "leaving");
    fake_assert_usable(store);
    capstore_free(store);
    fake_join(&fake);
}

static void refuse_many(struct fake *fake)
{
    greet(fake);
    (void)fake_expect(fake, PROTO_GET_MANY);
    fake_error(fake, fake->frame.id, CAP_E_MEMORY_LIMIT, "too much", 0);
    fake_answer_has(fake);
}

static void test_refused(void **state)
{
    struct fake fake;
    struct capstore_hash hashes[HASHES];
    struct gotten gotten = {0};
    (void)state;
    fill_hashes(hashes);
    fake_start(&fake, refuse_many, NULL);
    struct capstore *store = fake_connect(&fake, NULL);
    assert_error(capstore_get_many(store, hashes, HASHES, on_got, &gotten), "memory_limit");
    assert_int_equal(gotten.calls, 0);
    fake_assert_usable(store);
    capstore_free(store);
    fake_join(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_kinds),           cmocka_unit_test(test_broken_pieces),
        cmocka_unit_test(test_one_fails),           cmocka_unit_test(test_the_caller_ends_it),
        cmocka_unit_test(test_without_the_feature), cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
