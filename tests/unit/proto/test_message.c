#include "tests/unit/proto/recode.h"
#include "tests/unit/support.h"

/* Samples: one encoding of every message, all fields different from each other. */

#define TEXT(s) ((struct cap_bytes){(const uint8_t *)(s), sizeof(s) - 1})

static const struct cap_hash hash_a = {{0xa1, 0xa2, [31] = 0xaf}};
static const struct cap_hash hash_b = {{0xb1, 0xb2, [31] = 0xbf}};

static const uint8_t two_hashes[64] = {1, [32] = 2, [63] = 9};
static const uint8_t three_kinds[] = {0, 1, 2};

static const struct proto_hello hello = {1, 3, {(const uint8_t *)"me", 2}, false, 0};
static const struct proto_hello hello_features = {
    1, 3, {(const uint8_t *)"me", 2}, true, UINT64_C(0x0807060504030201)};
static const struct proto_hello_reply hello_reply = {
    .version = 1,
    .store_id = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
    .limits = {4096, 2, 3, UINT64_C(1) << 40, 5, 6, 7, 8},
    .agent = {(const uint8_t *)"you", 3},
};
static const struct proto_hello_reply hello_reply_features = {
    .version = 1,
    .limits = {.frame = 4096},
    .agent = {(const uint8_t *)"you", 3},
    .has_features = true,
    .features = UINT64_MAX - 1,
};
static const struct proto_has has = {{two_hashes, 64}, 2, 0};
static const struct proto_has has_keep = {{two_hashes, 64}, 2, 3600};
static const struct proto_has_reply has_reply = {{three_kinds, 3}, {NULL, 0}};
static const uint8_t three_times[] = {0, 0, 0, 0, 1, 2, 3, 4, 0xff, 0xff, 0xff, 0xff};
static const struct proto_has_reply has_reply_keep = {{three_kinds, 3}, {three_times, 12}};
static const uint8_t two_ranges[2 * PROTO_RANGE_SIZE] = {[0] = 1, [8] = 3, [16] = 9, [24] = 2};
static const struct proto_get_reply get_reply = {1, 1000, 400, 600};
static const struct proto_stat_reply stat_reply = {1, 2, 3, 4, 5, 6, {{7}}};
static const struct proto_put_data put_data = {.size = 4096, .total_len = 100};
static const struct proto_put_image put_image = {.flags = 3, .total_len = UINT64_C(1) << 33};
static const struct proto_error error_sample = {
    12, {(const uint8_t *)"unresolved_slot", 15}, {(const uint8_t *)"no", 2}, 77};

struct sample {
    uint8_t type;
    recode_form *form;
    size_t fixed_size;
    bool variable;
    struct cap_buf payload;
};

#define SAMPLES 38
#define FIXED   false
#define GROWS   true

static struct sample samples[SAMPLES];
static size_t sample_count;

static struct cap_buf *add_sample(uint8_t type, recode_form *form, size_t fixed_size, bool variable)
{
    assert_true(sample_count < SAMPLES);
    samples[sample_count] = (struct sample){type, form, fixed_size, variable, {0}};
    return &samples[sample_count++].payload;
}

#define ADD(NAME, name, size, variable, message)                                                   \
    assert_cap_ok(proto_##name##_encode(message, add_sample(PROTO_##NAME, recode, size, variable)))

#define ADD_KEEP(NAME, name, size, variable, message)                                              \
    assert_cap_ok(proto_##name##_keep_encode(                                                      \
        message, add_sample(PROTO_##NAME, recode_keep, size, variable)))

#define ADD_RESUME(NAME, name, size, message)                                                      \
    assert_cap_ok(proto_##name##_resume_encode(                                                    \
        message, add_sample(PROTO_##NAME, recode_resume, size, FIXED)))

static int make_samples(void **state)
{
    (void)state;
    struct proto_get get = {hash_a, 5, PROTO_TO_END};
    struct proto_stat stat = {hash_b};
    struct proto_map map = {hash_a};
    struct proto_map_reply map_reply = {CAP_KIND_IMAGE, 5200, 5000, 8392, 8192, 200};
    struct proto_get_many get_many = {has.hashes, has.count};
    struct proto_get_many_reply get_many_reply = {3};
    struct proto_put_data_reply put_data_reply = {hash_a, 4096, 17, 1, 8};
    struct proto_put_image_reply put_image_reply = {hash_a, hash_b, 3, 0, 5, 6, 7};
    struct proto_put_cap put_cap = {0, CAP_KIND_IMAGE, hash_a, 300, 9, {7}, 255};
    struct proto_slice slice = {hash_a, {two_ranges, sizeof(two_ranges)}, 2};
    struct proto_slice_reply slice_reply = {CAP_KIND_DATA, 34, 4096};
    struct proto_closure closure = {PROTO_CLOSURE_LIST, has.hashes, {two_hashes, 32}};
    struct proto_closure_reply closure_reply = {65536};
    struct proto_resume resume = {{1, 2, 3}};
    struct proto_resume_reply resume_reply = {700, 256};
    struct proto_put_cap_reply put_cap_reply = {1, 10};
    ADD(HELLO, hello, 16, GROWS, &hello);
    ADD(HELLO_REPLY, hello_reply, 66, GROWS, &hello_reply);
    ADD(HELLO, hello, 24, GROWS, &hello_features);
    ADD(HELLO_REPLY, hello_reply, 74, GROWS, &hello_reply_features);
    ADD(HAS, has, 4, GROWS, &has);
    ADD(HAS_REPLY, has_reply, 4, GROWS, &has_reply);
    ADD(GET, get, 48, FIXED, &get);
    ADD(GET_REPLY, get_reply, 25, FIXED, &get_reply);
    ADD(STAT, stat, 32, FIXED, &stat);
    ADD(STAT_REPLY, stat_reply, 73, FIXED, &stat_reply);
    ADD(MAP, map, 32, FIXED, &map);
    ADD(MAP_REPLY, map_reply, 41, FIXED, &map_reply);
    ADD(GET_MANY, get_many, 4, GROWS, &get_many);
    ADD(GET_MANY_REPLY, get_many_reply, 4, FIXED, &get_many_reply);
    ADD(PUT_DATA, put_data, 17, FIXED, &put_data);
    ADD(PUT_DATA_REPLY, put_data_reply, 49, FIXED, &put_data_reply);
    ADD(PUT_IMAGE, put_image, 9, FIXED, &put_image);
    ADD(PUT_IMAGE_REPLY, put_image_reply, 81, FIXED, &put_image_reply);
    ADD(PUT_CAP, put_cap, 42, FIXED, &put_cap);
    ADD(PUT_CAP_REPLY, put_cap_reply, 1, FIXED, &put_cap_reply);
    ADD(SLICE, slice, 36, GROWS, &slice);
    ADD(SLICE_REPLY, slice_reply, 17, FIXED, &slice_reply);
    ADD(CLOSURE, closure, 9, GROWS, &closure);
    ADD(CLOSURE_REPLY, closure_reply, 4, FIXED, &closure_reply);
    ADD(RESUME, resume, 16, FIXED, &resume);
    ADD(RESUME_REPLY, resume_reply, 16, FIXED, &resume_reply);
    ADD(ERROR, error, 18, GROWS, &error_sample);
    ADD_KEEP(HAS, has, 8, GROWS, &has_keep);
    ADD_KEEP(HAS_REPLY, has_reply, 8, GROWS, &has_reply_keep);
    ADD_KEEP(PUT_DATA, put_data, 21, FIXED, &put_data);
    ADD_KEEP(PUT_DATA_REPLY, put_data_reply, 53, FIXED, &put_data_reply);
    ADD_KEEP(PUT_IMAGE, put_image, 13, FIXED, &put_image);
    ADD_KEEP(PUT_IMAGE_REPLY, put_image_reply, 85, FIXED, &put_image_reply);
    ADD_KEEP(PUT_CAP, put_cap, 46, FIXED, &put_cap);
    ADD_KEEP(PUT_CAP_REPLY, put_cap_reply, 5, FIXED, &put_cap_reply);
    ADD_RESUME(PUT_DATA, put_data, 45, &put_data);
    ADD_RESUME(PUT_IMAGE, put_image, 37, &put_image);
    ADD_RESUME(PUT_CAP, put_cap, 70, &put_cap);
    return 0;
}

static int free_samples(void **state)
{
    (void)state;
    for (size_t i = 0; i < sample_count; i++) {
        cap_buf_free(&samples[i].payload);
    }
    return 0;
}

static const struct sample *sample_of(uint8_t type)
{
    for (size_t i = 0; i < sample_count; i++) {
        if (samples[i].type == type) {
            return &samples[i];
        }
    }
    fail_msg("no sample of type %u", type);
    return NULL;
}

/* A payload at the end of an allocation of its own, so that a read past it is caught. */
static enum cap_error try_form(uint8_t type, recode_form *form, const uint8_t *data, size_t len)
{
    uint8_t *copy = len > 0 ? malloc(len) : NULL;
    struct cap_buf again = {0};
    if (len > 0) {
        memcpy(copy, data, len);
    }
    struct cap_bytes in = {copy, len};
    enum cap_error error = form(type, in, &again);
    if (error == CAP_OK) {
        /* Accepted bytes are the one encoding of their value. */
        assert_int_equal(again.len, len);
        assert_memory_equal(again.data, copy, len);
    } else {
        assert_cap_error(error, CAP_E_BAD_MESSAGE);
        assert_int_equal(again.len, 0);
    }
    cap_buf_free(&again);
    free(copy);
    return error;
}

static enum cap_error try_sample(const struct sample *sample, size_t len)
{
    return try_form(sample->type, sample->form, sample->payload.data, len);
}

static enum cap_error try_bytes(uint8_t type, const uint8_t *data, size_t len)
{
    return try_form(type, recode, data, len);
}

/* Every message. */

static void test_samples_survive_a_round_trip(void **state)
{
    (void)state;
    assert_int_equal(sample_count, SAMPLES);
    for (size_t i = 0; i < sample_count; i++) {
        const struct sample *s = &samples[i];
        assert_true(s->variable ? s->payload.len > s->fixed_size : s->payload.len == s->fixed_size);
        assert_cap_ok(try_sample(s, s->payload.len));
    }
}

/* A cut in the fixed part is refused; behind it, it is another value or refused. */
static void test_every_truncation(void **state)
{
    (void)state;
    for (size_t i = 0; i < sample_count; i++) {
        const struct sample *s = &samples[i];
        for (size_t cut = 0; cut < s->payload.len; cut++) {
            enum cap_error error = try_sample(s, cut);
            if (cut < s->fixed_size) {
                assert_cap_error(error, CAP_E_BAD_MESSAGE);
            }
        }
    }
}

/* Any byte behind a message of fixed size is refused; behind another it is content or refused. */
static void test_every_trailing_byte(void **state)
{
    (void)state;
    for (size_t i = 0; i < sample_count; i++) {
        struct sample *s = &samples[i];
        for (unsigned value = 0; value < 256; value++) {
            assert_cap_ok(cap_buf_append8(&s->payload, (uint8_t)value));
            enum cap_error error = try_sample(s, s->payload.len);
            s->payload.len--;
            if (!s->variable) {
                assert_cap_error(error, CAP_E_BAD_MESSAGE);
            }
        }
    }
}

static void test_every_flipped_bit(void **state)
{
    (void)state;
    for (size_t i = 0; i < sample_count; i++) {
        struct cap_buf *payload = &samples[i].payload;
        for (size_t bit = 0; bit < 8 * payload->len; bit++) {
            payload->data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
            (void)try_sample(&samples[i], payload->len);
            payload->data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        }
    }
}

/* Offsets: everything but the one right value is refused. `at` is the position of the offset. */
static void check_offset(uint8_t type, size_t at)
{
    const struct sample *s = sample_of(type);
    uint32_t right = cap_load32(s->payload.data + at);
    const uint32_t wrong[] = {0,          1,          right - 4,
                              right - 1,  right + 1,  right + 4,
                              0x80000000, UINT32_MAX, (uint32_t)s->payload.len + 1};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        cap_store32(s->payload.data + at, wrong[i]);
        assert_cap_error(try_bytes(type, s->payload.data, s->payload.len), CAP_E_BAD_MESSAGE);
    }
    cap_store32(s->payload.data + at, right);
}

static void test_wrong_offsets(void **state)
{
    (void)state;
    check_offset(PROTO_HELLO, 12);
    check_offset(PROTO_HELLO_REPLY, 62);
    check_offset(PROTO_HAS, 0);
    check_offset(PROTO_HAS_REPLY, 0);
    check_offset(PROTO_GET_MANY, 0);
    check_offset(PROTO_SLICE, 32);
    check_offset(PROTO_CLOSURE, 1);
    check_offset(PROTO_ERROR, 2);
    /* The second of two may have any value between its neighbours, and none beyond. */
    const struct sample *s = sample_of(PROTO_ERROR);
    uint32_t right = cap_load32(s->payload.data + 6);
    cap_store32(s->payload.data + 6, 17);
    assert_cap_error(try_bytes(PROTO_ERROR, s->payload.data, s->payload.len), CAP_E_BAD_MESSAGE);
    cap_store32(s->payload.data + 6, (uint32_t)s->payload.len + 1);
    assert_cap_error(try_bytes(PROTO_ERROR, s->payload.data, s->payload.len), CAP_E_BAD_MESSAGE);
    cap_store32(s->payload.data + 6, right);
}

/* Values that decode and cannot be. */
static void test_impossible_values(void **state)
{
    (void)state;
    static const struct {
        uint8_t type;
        uint8_t at;
        uint8_t value;
    } cases[] = {
        {PROTO_HELLO, 0, 'C'},          /* magic */
        {PROTO_HELLO, 8, 0},            /* lowest version 0 */
        {PROTO_HELLO, 8, 4},            /* lowest above highest */
        {PROTO_HELLO, 16, '\n'},        /* agent */
        {PROTO_HELLO, 17, 0x7f},        /* agent */
        {PROTO_HELLO_REPLY, 0, 0},      /* version 0 */
        {PROTO_HELLO_REPLY, 19, 0x0f},  /* frames below 4096 */
        {PROTO_HELLO_REPLY, 66, 0x80},  /* agent */
        {PROTO_HAS_REPLY, 4, 3},        /* kind */
        {PROTO_GET_REPLY, 0, 0},        /* kind */
        {PROTO_GET_REPLY, 0, 3},        /* kind */
        {PROTO_GET_REPLY, 16, 1},       /* offset past the body */
        {PROTO_GET_REPLY, 24, 0x80},    /* length past the body */
        {PROTO_GET_REPLY, 17, 0x59},    /* length one past the body */
        {PROTO_STAT_REPLY, 0, 0},       /* kind */
        {PROTO_STAT_REPLY, 0, 2},       /* Data with an image_content_hash */
        {PROTO_MAP_REPLY, 0, 0},        /* kind */
        {PROTO_MAP_REPLY, 0, 2},        /* Data with a rest */
        {PROTO_MAP_REPLY, 12, 1},       /* more code than before the rest */
        {PROTO_MAP_REPLY, 32, 1},       /* the rest begins past the end */
        {PROTO_MAP_REPLY, 33, 0xc9},    /* the rest ends one past the end */
        {PROTO_MAP_REPLY, 40, 0x80},    /* the same, where the sum wraps */
        {PROTO_PUT_DATA, 0, 2},         /* flags */
        {PROTO_PUT_DATA, 0, 1},         /* canonical with a size */
        {PROTO_PUT_DATA_REPLY, 48, 2},  /* is_new */
        {PROTO_PUT_IMAGE, 0, 4},        /* flags */
        {PROTO_PUT_IMAGE_REPLY, 72, 2}, /* is_new */
        {PROTO_PUT_CAP, 0, 1},          /* flags */
        {PROTO_PUT_CAP, 1, 0},          /* kind */
        {PROTO_PUT_CAP, 1, 3},          /* kind */
        {PROTO_PUT_CAP_REPLY, 0, 2},    /* is_new */
        {PROTO_SLICE, 44, 0},           /* no page */
        {PROTO_SLICE, 52, 4},           /* no gap before the second range */
        {PROTO_SLICE_REPLY, 0, 3},      /* kind */
        {PROTO_CLOSURE, 0, 2},          /* flags */
        {PROTO_RESUME_REPLY, 9, 3},     /* offset past the end */
        {PROTO_ERROR, 0, 0},            /* code */
        {PROTO_ERROR, 18, 0},           /* name */
        {PROTO_ERROR, 33, '\t'},        /* message */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        const struct sample *s = sample_of(cases[i].type);
        uint8_t right = s->payload.data[cases[i].at];
        assert_int_not_equal(right, cases[i].value);
        s->payload.data[cases[i].at] = cases[i].value;
        if (try_sample(s, s->payload.len) != CAP_E_BAD_MESSAGE) {
            fail_msg("%s accepted %u at %u", proto_type_name(s->type), cases[i].value, cases[i].at);
        }
        s->payload.data[cases[i].at] = right;
    }
}

/* offset + len wraps around to a value within the body. */
static void test_range_that_wraps(void **state)
{
    (void)state;
    const struct sample *s = sample_of(PROTO_GET_REPLY);
    uint64_t right = cap_load64(s->payload.data + 17);
    cap_store64(s->payload.data + 17, UINT64_MAX - 399); /* the offset is 400 */
    assert_cap_error(try_sample(s, s->payload.len), CAP_E_BAD_MESSAGE);
    cap_store64(s->payload.data + 17, right);
}

/* A refused payload leaves the result as it was. */
#define CHECK_UNTOUCHED(NAME, name)                                                                \
    do {                                                                                           \
        struct proto_##name message, before;                                                       \
        memset(&message, 0xa5, sizeof(message));                                                   \
        memcpy(&before, &message, sizeof(message));                                                \
        struct cap_bytes cut = cap_buf_bytes(&sample_of(PROTO_##NAME)->payload);                   \
        cut.len = 3;                                                                               \
        assert_cap_error(proto_##name##_decode(cut, &message), CAP_E_BAD_MESSAGE);                 \
        assert_memory_equal(&message, &before, sizeof(message));                                   \
    } while (0)

static void test_results_untouched_on_failure(void **state)
{
    (void)state;
    CHECK_UNTOUCHED(HELLO, hello);
    CHECK_UNTOUCHED(HELLO_REPLY, hello_reply);
    CHECK_UNTOUCHED(HAS, has);
    CHECK_UNTOUCHED(HAS_REPLY, has_reply);
    CHECK_UNTOUCHED(GET, get);
    CHECK_UNTOUCHED(GET_REPLY, get_reply);
    CHECK_UNTOUCHED(STAT, stat);
    CHECK_UNTOUCHED(STAT_REPLY, stat_reply);
    CHECK_UNTOUCHED(MAP, map);
    CHECK_UNTOUCHED(MAP_REPLY, map_reply);
    CHECK_UNTOUCHED(GET_MANY, get_many);
    CHECK_UNTOUCHED(GET_MANY_REPLY, get_many_reply);
    CHECK_UNTOUCHED(PUT_DATA, put_data);
    CHECK_UNTOUCHED(PUT_DATA_REPLY, put_data_reply);
    CHECK_UNTOUCHED(PUT_IMAGE, put_image);
    CHECK_UNTOUCHED(PUT_IMAGE_REPLY, put_image_reply);
    CHECK_UNTOUCHED(PUT_CAP, put_cap);
    CHECK_UNTOUCHED(SLICE, slice);
    CHECK_UNTOUCHED(SLICE_REPLY, slice_reply);
    CHECK_UNTOUCHED(CLOSURE, closure);
    CHECK_UNTOUCHED(CLOSURE_REPLY, closure_reply);
    CHECK_UNTOUCHED(RESUME, resume);
    CHECK_UNTOUCHED(RESUME_REPLY, resume_reply);
    CHECK_UNTOUCHED(ERROR, error);
}

/* Single messages. */

static void test_hello_reply_fields(void **state)
{
    (void)state;
    struct proto_hello_reply got;
    assert_cap_ok(
        proto_hello_reply_decode(cap_buf_bytes(&sample_of(PROTO_HELLO_REPLY)->payload), &got));
    assert_memory_equal(got.store_id, hello_reply.store_id, PROTO_STORE_ID_SIZE);
    assert_int_equal(got.limits.frame, 4096);
    assert_int_equal(got.limits.requests, 2);
    assert_int_equal(got.limits.hashes, 3);
    assert_true(got.limits.upload == UINT64_C(1) << 40);
    assert_int_equal(got.limits.structure, 5);
    assert_int_equal(got.limits.data, 6);
    assert_int_equal(got.limits.idle_ms, 7);
    assert_int_equal(got.limits.progress_ms, 8);
    assert_int_equal(cap_bytes_compare(got.agent, TEXT("you")), 0);
}

static void test_has_counts(void **state)
{
    (void)state;
    struct proto_has got;
    assert_cap_ok(proto_has_decode(cap_buf_bytes(&sample_of(PROTO_HAS)->payload), &got));
    assert_int_equal(got.count, 2);
    assert_memory_equal(got.hashes.data, two_hashes, sizeof(two_hashes));

    static const uint8_t none[] = {4, 0, 0, 0};
    assert_cap_ok(proto_has_decode((struct cap_bytes){none, sizeof(none)}, &got));
    assert_int_equal(got.count, 0);
}

static void test_encode_appends(void **state)
{
    (void)state;
    struct cap_buf buf = {0};
    assert_cap_ok(cap_buf_append(&buf, "front", 5));
    assert_cap_ok(proto_hello_encode(&hello, &buf));
    const struct cap_buf *alone = &sample_of(PROTO_HELLO)->payload;
    assert_int_equal(buf.len, 5 + alone->len);
    assert_memory_equal(buf.data, "front", 5);
    assert_memory_equal(buf.data + 5, alone->data, alone->len);
    cap_buf_free(&buf);
}

/* The encoder refuses what the decoder would, and then appends nothing. */
static void test_encode_refuses_impossible_values(void **state)
{
    (void)state;
    struct cap_buf buf = {0};
    struct proto_hello bad_hello = {.version_min = 2, .version_max = 1};
    struct proto_has odd = {{two_hashes, 63}, 1, 0};
    struct proto_has miscounted = {{two_hashes, 64}, 1, 0};
    struct proto_put_data bad_put = {.flags = PROTO_PUT_CANONICAL, .size = 4096, .total_len = 1};
    struct proto_error no_code = {0, {NULL, 0}, {NULL, 0}, 0};
    struct proto_unresolved bad_slots[] = {{0, 1, {{0}}, {NULL, 0}}, {2, 1, {{0}}, {NULL, 0}}};
    struct proto_unresolved either_initial = {1, 0, {{0}}, {NULL, 0}};
    assert_cap_error(proto_hello_encode(&bad_hello, &buf), CAP_E_INVALID_ARGUMENT);
    assert_cap_error(proto_has_encode(&odd, &buf), CAP_E_INVALID_ARGUMENT);
    assert_cap_error(proto_has_encode(&miscounted, &buf), CAP_E_INVALID_ARGUMENT);
    assert_cap_error(proto_put_data_encode(&bad_put, &buf), CAP_E_INVALID_ARGUMENT);
    assert_cap_error(proto_error_encode(&no_code, &buf), CAP_E_INVALID_ARGUMENT);
    assert_cap_error(proto_unresolved_encode(bad_slots, 2, &buf), CAP_E_INVALID_ARGUMENT);
    assert_cap_error(proto_unresolved_encode(&either_initial, 1, &buf), CAP_E_INVALID_ARGUMENT);
    assert_int_equal(buf.len, 0);
    cap_buf_free(&buf);
}

/* Both forms of HELLO and its reply, told apart by where the agent begins. */
static void test_features(void **state)
{
    (void)state;
    struct cap_buf buf = {0};
    struct proto_hello got;
    assert_cap_ok(proto_hello_encode(&hello_features, &buf));
    assert_cap_ok(proto_hello_decode(cap_buf_bytes(&buf), &got));
    assert_true(got.has_features);
    assert_true(got.features == hello_features.features);
    buf.len = 0;
    assert_cap_ok(proto_hello_encode(&hello, &buf));
    assert_cap_ok(proto_hello_decode(cap_buf_bytes(&buf), &got));
    assert_false(got.has_features);
    assert_true(got.features == 0);

    struct proto_hello_reply reply;
    buf.len = 0;
    assert_cap_ok(proto_hello_reply_encode(&hello_reply_features, &buf));
    assert_cap_ok(proto_hello_reply_decode(cap_buf_bytes(&buf), &reply));
    assert_true(reply.has_features);
    assert_true(reply.features == UINT64_MAX - 1);
    buf.len = 0;
    assert_cap_ok(proto_hello_reply_encode(&hello_reply, &buf));
    assert_cap_ok(proto_hello_reply_decode(cap_buf_bytes(&buf), &reply));
    assert_false(reply.has_features);
    assert_true(reply.features == 0);
    cap_buf_free(&buf);
}

/* What leases add: the times of both lists, and what they cannot be. */
static void test_leases(void **state)
{
    (void)state;
    struct cap_buf buf = {0};
    struct proto_has asked;
    struct proto_has_reply got;
    assert_cap_ok(proto_has_keep_encode(&has_keep, &buf));
    assert_cap_ok(proto_has_keep_decode(cap_buf_bytes(&buf), &asked));
    assert_int_equal(asked.keep_s, 3600);
    assert_int_equal(asked.count, 2);
    assert_cap_error(proto_has_decode(cap_buf_bytes(&buf), &asked), CAP_E_BAD_MESSAGE);
    buf.len = 0;
    assert_cap_ok(proto_has_reply_keep_encode(&has_reply_keep, &buf));
    assert_cap_ok(proto_has_reply_keep_decode(cap_buf_bytes(&buf), &got));
    assert_int_equal(proto_kept_s(&got, 0), 0);
    assert_int_equal(proto_kept_s(&got, 1), 0x04030201);
    assert_true(proto_kept_s(&got, 2) == UINT32_MAX);
    buf.len = 0;
    static const uint8_t one_of_absent[] = {1, 0, 0, 0};
    const struct proto_has_reply absent = {{three_kinds, 1}, {one_of_absent, 4}};
    const struct proto_has_reply fewer = {{three_kinds, 3}, {three_times, 8}};
    assert_cap_error(proto_has_reply_keep_encode(&absent, &buf), CAP_E_INVALID_ARGUMENT);
    assert_cap_error(proto_has_reply_keep_encode(&fewer, &buf), CAP_E_INVALID_ARGUMENT);
    assert_int_equal(buf.len, 0);
    cap_buf_free(&buf);
}

static uint8_t flags_of_form(uint8_t type, uint8_t flags, size_t len, uint64_t features)
{
    uint8_t payload[70] = {flags};
    return proto_unknown_flags(type, (struct cap_bytes){payload, len}, features);
}

static uint8_t unknown_flags_of(uint8_t type, uint8_t flags, size_t len)
{
    return flags_of_form(type, flags, len, 0);
}

static void test_unknown_flags(void **state)
{
    (void)state;
    assert_int_equal(unknown_flags_of(PROTO_PUT_DATA, 0x41, 17), 0x40);
    assert_int_equal(unknown_flags_of(PROTO_PUT_DATA, 0xff, 17), 0xfe);
    assert_int_equal(unknown_flags_of(PROTO_PUT_DATA, 1, 17), 0);
    assert_int_equal(unknown_flags_of(PROTO_PUT_IMAGE, 0xff, 9), 0xfc);
    assert_int_equal(unknown_flags_of(PROTO_PUT_IMAGE, 3, 9), 0);
    /* Not of the length of the message, or another message. */
    assert_int_equal(unknown_flags_of(PROTO_PUT_CAP, 0x81, 42), 0x81);
    assert_int_equal(unknown_flags_of(PROTO_PUT_CAP, 0, 42), 0);
    assert_int_equal(unknown_flags_of(PROTO_PUT_DATA, 0xff, 16), 0);
    assert_int_equal(unknown_flags_of(PROTO_PUT_IMAGE, 0xff, 0), 0);
    assert_int_equal(unknown_flags_of(PROTO_GET_REPLY, 0xff, 9), 0);
    /* The form with leases is longer. */
    assert_int_equal(flags_of_form(PROTO_PUT_DATA, 0xff, 21, PROTO_FEATURE_KEEP), 0xfe);
    assert_int_equal(flags_of_form(PROTO_PUT_IMAGE, 0xff, 13, PROTO_FEATURE_KEEP), 0xfc);
    assert_int_equal(flags_of_form(PROTO_PUT_CAP, 0x81, 46, PROTO_FEATURE_KEEP), 0x81);
    assert_int_equal(flags_of_form(PROTO_PUT_DATA, 0xff, 17, PROTO_FEATURE_KEEP), 0);
    const uint64_t both = PROTO_FEATURE_KEEP | PROTO_FEATURE_RESUME;
    assert_int_equal(flags_of_form(PROTO_PUT_CAP, 0x81, 70, both), 0x81);
    assert_int_equal(flags_of_form(PROTO_PUT_IMAGE, 0xff, 37, both), 0xfc);
    assert_int_equal(flags_of_form(PROTO_PUT_IMAGE, 0xff, 13, both), 0);
    assert_int_equal(flags_of_form(PROTO_PUT_DATA, 0xff, 21, 0), 0);
}

/* A message is one frame: the most hashes that fit, and one more. */
static void test_message_fits_a_frame(void **state)
{
    (void)state;
    const size_t most = (PROTO_FRAME_MAX - 4) / CAP_HASH_SIZE;
    uint8_t *hashes = calloc(most + 1, CAP_HASH_SIZE);
    assert_non_null(hashes);
    struct cap_buf buf = {0};
    struct proto_has m = {{hashes, most * CAP_HASH_SIZE}, most, 0};
    assert_cap_ok(proto_has_encode(&m, &buf));
    buf.len = 0;
    m = (struct proto_has){{hashes, (most + 1) * CAP_HASH_SIZE}, most + 1, 0};
    assert_cap_error(proto_has_encode(&m, &buf), CAP_E_MESSAGE_TOO_LARGE);
    assert_int_equal(buf.len, 0);
    cap_buf_free(&buf);
    free(hashes);
}

/* An answer can always be encoded: texts are cut and made printable instead of refused. */
static void test_texts_are_made_fit(void **state)
{
    (void)state;
    uint8_t text[PROTO_TEXT_MAX + 10];
    memset(text, 'x', sizeof(text));
    text[0] = '\n';
    text[1] = 0xc3;
    text[2] = 0x7f;
    struct proto_error m = {1, {text, sizeof(text)}, {text, sizeof(text)}, 0};
    struct proto_error got;
    struct cap_buf buf = {0};
    assert_cap_ok(proto_error_encode(&m, &buf));
    assert_cap_ok(proto_error_decode(cap_buf_bytes(&buf), &got));
    assert_int_equal(got.name.len, PROTO_NAME_MAX);
    assert_int_equal(got.message.len, PROTO_TEXT_MAX);
    assert_memory_equal(got.message.data, "???xxx", 6);
    assert_true(buf.len <= PROTO_MESSAGE_MAX);
    cap_buf_free(&buf);
}

static void test_text_limits(void **state)
{
    (void)state;
    char payload[16 + PROTO_AGENT_MAX + 1] = "capstore\1\0\1\0\20\0\0";
    memset(payload + 16, ' ', PROTO_AGENT_MAX + 1);
    struct proto_hello got;
    struct cap_bytes in = {(const uint8_t *)payload, sizeof(payload) - 1};
    assert_cap_ok(proto_hello_decode(in, &got));
    assert_int_equal(got.agent.len, PROTO_AGENT_MAX);
    in.len++;
    assert_cap_error(proto_hello_decode(in, &got), CAP_E_BAD_MESSAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_samples_survive_a_round_trip),
        cmocka_unit_test(test_every_truncation),
        cmocka_unit_test(test_every_trailing_byte),
        cmocka_unit_test(test_every_flipped_bit),
        cmocka_unit_test(test_wrong_offsets),
        cmocka_unit_test(test_impossible_values),
        cmocka_unit_test(test_range_that_wraps),
        cmocka_unit_test(test_results_untouched_on_failure),
        cmocka_unit_test(test_hello_reply_fields),
        cmocka_unit_test(test_has_counts),
        cmocka_unit_test(test_encode_appends),
        cmocka_unit_test(test_encode_refuses_impossible_values),
        cmocka_unit_test(test_features),
        cmocka_unit_test(test_leases),
        cmocka_unit_test(test_unknown_flags),
        cmocka_unit_test(test_message_fits_a_frame),
        cmocka_unit_test(test_texts_are_made_fit),
        cmocka_unit_test(test_text_limits),
    };
    return cmocka_run_group_tests(tests, make_samples, free_samples);
}
