#include "tests/unit/support.h"

#include "proto/frame.h"

/* Helpers: a stream of frames, and a reader whose events are put together again. */

static void add_frame(struct cap_buf *stream, uint8_t type, uint8_t flags, uint32_t len)
{
    uint8_t header[PROTO_FRAME_HEADER_SIZE];
    struct proto_frame frame = {.len = len, .id = len + 3, .type = type, .flags = flags};
    proto_frame_encode(&frame, header);
    assert_cap_ok(cap_buf_append(stream, header, sizeof(header)));
    for (uint32_t i = 0; i < len; i++) {
        assert_cap_ok(cap_buf_append8(stream, (uint8_t)(i * 7 + len)));
    }
}

static struct cap_buf sample_stream(void)
{
    struct cap_buf stream = {0};
    add_frame(&stream, PROTO_HELLO, 0, 16);
    add_frame(&stream, PROTO_CANCEL, 0, 0);
    add_frame(&stream, PROTO_BODY, 0, 100);
    add_frame(&stream, PROTO_GET, 0, 48);
    add_frame(&stream, PROTO_BODY, 0, 0);
    add_frame(&stream, PROTO_BODY, PROTO_FLAG_END, 0);
    add_frame(&stream, PROTO_HAS, 0, 9000);
    add_frame(&stream, PROTO_STAT, 0, 1);
    add_frame(&stream, PROTO_BODY, PROTO_FLAG_END, 1);
    add_frame(&stream, PROTO_ERROR, 0, PROTO_MESSAGE_MAX);
    return stream;
}

/* Puts the stream together again from events, so that a lost or repeated byte shows. */
struct rebuilt {
    struct cap_buf stream;
    uint32_t left; /* of the BODY frame at hand */
    size_t frames;
};

static void rebuild(struct rebuilt *rebuilt, const struct proto_event *event)
{
    if (rebuilt->left == 0) {
        uint8_t header[PROTO_FRAME_HEADER_SIZE];
        proto_frame_encode(&event->frame, header);
        assert_cap_ok(cap_buf_append(&rebuilt->stream, header, sizeof(header)));
        rebuilt->left = event->frame.len;
        rebuilt->frames++;
    }
    assert_true(event->bytes.len <= rebuilt->left);
    if (event->frame.type != PROTO_BODY) {
        assert_int_equal(event->bytes.len, event->frame.len);
    }
    assert_cap_ok(cap_buf_append(&rebuilt->stream, event->bytes.data, event->bytes.len));
    rebuilt->left -= (uint32_t)event->bytes.len;
    assert_int_equal(event->end, rebuilt->left == 0 && event->frame.flags == PROTO_FLAG_END);
}

/* Feeds one piece, from memory of its own so that a reader holding on to it is caught. */
static void feed(struct proto_reader *reader, const uint8_t *data, size_t len,
                 struct rebuilt *rebuilt)
{
    uint8_t *copy = malloc(len + 1);
    assert_non_null(copy);
    memcpy(copy, data, len);
    struct cap_bytes input = {copy, len};
    struct proto_event event;
    bool have = true;
    while (have) {
        assert_cap_ok(proto_reader_next(reader, &input, &event, &have));
        if (have) {
            rebuild(rebuilt, &event);
        }
    }
    assert_int_equal(input.len, 0);
    free(copy);
}

static void assert_rebuilt(struct rebuilt *rebuilt, const struct cap_buf *stream, size_t frames)
{
    assert_int_equal(rebuilt->frames, frames);
    assert_int_equal(rebuilt->stream.len, stream->len);
    assert_memory_equal(rebuilt->stream.data, stream->data, stream->len);
    cap_buf_free(&rebuilt->stream);
}

/* proto_frame_encode, proto_frame_decode. */

static void test_header_is_as_documented(void **state)
{
    (void)state;
    static const uint8_t wanted[] = {0x04, 0x03, 0x02, 0x00, 0xdd, 0xcc, 0xbb, 0xaa, 0x10, 1, 0, 0};
    struct proto_frame frame = {.len = 0x020304, .id = 0xaabbccdd, .type = PROTO_BODY, .flags = 1};
    uint8_t header[PROTO_FRAME_HEADER_SIZE];
    proto_frame_encode(&frame, header);
    assert_memory_equal(header, wanted, sizeof(header));

    struct proto_frame again;
    assert_cap_ok(proto_frame_decode(header, PROTO_FRAME_MAX, &again));
    assert_int_equal(again.len, frame.len);
    assert_int_equal(again.id, frame.id);
    assert_int_equal(again.type, frame.type);
    assert_int_equal(again.flags, frame.flags);
}

static enum cap_error judge(uint32_t len, uint8_t type, uint8_t flags, uint16_t reserved)
{
    uint8_t header[PROTO_FRAME_HEADER_SIZE];
    struct proto_frame frame = {.len = len, .id = 77, .type = type, .flags = flags};
    proto_frame_encode(&frame, header);
    cap_store16(header + 10, reserved);
    struct proto_frame seen = {0};
    enum cap_error error = proto_frame_decode(header, PROTO_FRAME_MAX, &seen);
    assert_int_equal(seen.id, 77);
    assert_int_equal(seen.len, len);
    assert_int_equal(seen.type, type);
    return error;
}

static void test_reserved_bits_are_refused(void **state)
{
    (void)state;
    for (unsigned bit = 1; bit < 8; bit++) {
        assert_cap_error(judge(0, PROTO_BODY, (uint8_t)(1u << bit), 0), CAP_E_BAD_FRAME);
    }
    for (unsigned bit = 0; bit < 16; bit++) {
        assert_cap_error(judge(0, PROTO_BODY, 0, (uint16_t)(1u << bit)), CAP_E_BAD_FRAME);
    }
}

static bool is_type(unsigned value)
{
#define IS_TYPE(NAME, code, name) || value == (code)
    return false PROTO_TYPES(IS_TYPE);
#undef IS_TYPE
}

/*
 * All 256 values: those of the table are known and have a name; others pass as requests unless they
 * have the reply bit; only BODY takes END.
 */
static void test_types(void **state)
{
    (void)state;
    for (unsigned value = 0; value < 256; value++) {
        uint8_t type = (uint8_t)value;
        bool may_be_request = value < PROTO_REPLY_BIT;
        assert_cap_error(judge(0, type, 0, 0),
                         is_type(value) || may_be_request ? CAP_OK : CAP_E_BAD_FRAME);
        assert_int_equal(strcmp(proto_type_name(type), "unknown") != 0, is_type(value));
        assert_int_equal(proto_type_is_known(type), is_type(value));
        if (type != PROTO_BODY) {
            assert_cap_error(judge(0, type, PROTO_FLAG_END, 0), CAP_E_BAD_FRAME);
        }
    }
    assert_cap_ok(judge(0, PROTO_BODY, PROTO_FLAG_END, 0));
    assert_string_equal(proto_type_name(PROTO_PUT_IMAGE_REPLY), "put_image_reply");
}

static void test_lengths(void **state)
{
    (void)state;
    assert_cap_ok(judge(PROTO_FRAME_MAX, PROTO_BODY, 0, 0));
    assert_cap_error(judge(PROTO_FRAME_MAX + 1, PROTO_BODY, 0, 0), CAP_E_FRAME_TOO_LARGE);
    assert_cap_error(judge(UINT32_MAX, PROTO_BODY, 0, 0), CAP_E_FRAME_TOO_LARGE);
    assert_cap_ok(judge(PROTO_FRAME_MAX, PROTO_HAS, 0, 0));
    assert_cap_ok(judge(PROTO_FRAME_MAX, PROTO_HAS_REPLY, 0, 0));
    assert_cap_ok(judge(PROTO_FRAME_MAX, PROTO_GET_MANY, 0, 0));
    assert_cap_error(judge(PROTO_FRAME_MAX + 1, PROTO_HAS, 0, 0), CAP_E_FRAME_TOO_LARGE);
    assert_cap_ok(judge(PROTO_MESSAGE_MAX, PROTO_GET, 0, 0));
    assert_cap_error(judge(PROTO_MESSAGE_MAX + 1, PROTO_GET, 0, 0), CAP_E_MESSAGE_TOO_LARGE);
    assert_cap_error(judge(PROTO_FRAME_MAX + 1, PROTO_GET, 0, 0), CAP_E_FRAME_TOO_LARGE);
}

/* proto_reader_next. */

static void test_whole_stream_at_once(void **state)
{
    (void)state;
    struct cap_buf stream = sample_stream();
    struct proto_reader reader;
    struct rebuilt rebuilt = {0};
    proto_reader_init(&reader, PROTO_FRAME_MAX);
    feed(&reader, stream.data, stream.len, &rebuilt);
    assert_rebuilt(&rebuilt, &stream, 10);
    proto_reader_free(&reader);
    cap_buf_free(&stream);
}

static void test_byte_at_a_time(void **state)
{
    (void)state;
    struct cap_buf stream = sample_stream();
    struct proto_reader reader;
    struct rebuilt rebuilt = {0};
    proto_reader_init(&reader, PROTO_FRAME_MAX);
    for (size_t i = 0; i < stream.len; i++) {
        feed(&reader, stream.data + i, 1, &rebuilt);
    }
    assert_rebuilt(&rebuilt, &stream, 10);
    proto_reader_free(&reader);
    cap_buf_free(&stream);
}

/* A generator of our own, so that every run makes the same splits. */
static size_t next_piece(uint64_t *seed, size_t max)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (size_t)(*seed >> 33) % (max + 1);
}

static void test_random_splits(void **state)
{
    (void)state;
    struct cap_buf stream = sample_stream();
    for (uint64_t round = 0; round < 300; round++) {
        uint64_t seed = round;
        size_t most = (size_t)1 << (round % 13);
        struct proto_reader reader;
        struct rebuilt rebuilt = {0};
        proto_reader_init(&reader, PROTO_FRAME_MAX);
        for (size_t at = 0, len; at < stream.len; at += len) {
            len = next_piece(&seed, most);
            if (len > stream.len - at) {
                len = stream.len - at;
            }
            feed(&reader, stream.data + at, len, &rebuilt);
        }
        assert_rebuilt(&rebuilt, &stream, 10);
        proto_reader_free(&reader);
    }
    cap_buf_free(&stream);
}

/* A message is yielded only when it is whole, whatever the cut. */
static void test_cut_message_is_no_event(void **state)
{
    (void)state;
    struct cap_buf stream = {0};
    add_frame(&stream, PROTO_GET, 0, 48);
    for (size_t cut = 0; cut < stream.len; cut++) {
        struct proto_reader reader;
        struct rebuilt rebuilt = {0};
        proto_reader_init(&reader, PROTO_FRAME_MAX);
        feed(&reader, stream.data, cut, &rebuilt);
        assert_int_equal(rebuilt.frames, 0);
        proto_reader_free(&reader);
    }
    cap_buf_free(&stream);
}

/* Neither a message that is there whole nor a body's piece is copied. */
static void test_nothing_is_copied_that_need_not_be(void **state)
{
    (void)state;
    struct cap_buf stream = {0};
    add_frame(&stream, PROTO_GET, 0, 48);
    add_frame(&stream, PROTO_BODY, 0, 500);
    struct proto_reader reader;
    proto_reader_init(&reader, PROTO_FRAME_MAX);
    struct cap_bytes input = cap_buf_bytes(&stream);
    struct proto_event event;
    bool have;

    assert_cap_ok(proto_reader_next(&reader, &input, &event, &have));
    assert_true(have);
    assert_ptr_equal(event.bytes.data, stream.data + PROTO_FRAME_HEADER_SIZE);
    input.len -= 100; /* the body's end has not arrived */
    assert_cap_ok(proto_reader_next(&reader, &input, &event, &have));
    assert_true(have);
    assert_ptr_equal(event.bytes.data, stream.data + 2 * PROTO_FRAME_HEADER_SIZE + 48);
    assert_int_equal(event.bytes.len, 400);
    assert_int_equal(reader.message.capacity, 0);
    proto_reader_free(&reader);
    cap_buf_free(&stream);
}

/* A claimed length costs nothing; a long message's memory is given back at the next frame. */
static void test_memory_follows_bytes_that_are_there(void **state)
{
    (void)state;
    struct cap_buf stream = {0};
    add_frame(&stream, PROTO_HAS, 0, PROTO_FRAME_MAX);
    add_frame(&stream, PROTO_CANCEL, 0, 0);
    struct proto_reader reader;
    struct rebuilt rebuilt = {0};
    proto_reader_init(&reader, PROTO_FRAME_MAX);
    feed(&reader, stream.data, PROTO_FRAME_HEADER_SIZE, &rebuilt);
    assert_int_equal(reader.message.capacity, 0);
    feed(&reader, stream.data + PROTO_FRAME_HEADER_SIZE, 100, &rebuilt);
    assert_true(reader.message.capacity <= 4096);
    size_t fed = PROTO_FRAME_HEADER_SIZE + 100;
    feed(&reader, stream.data + fed, stream.len - fed, &rebuilt);
    assert_int_equal(reader.message.capacity, 0);
    assert_rebuilt(&rebuilt, &stream, 2);
    proto_reader_free(&reader);
    cap_buf_free(&stream);
}

/* A bad header is refused before its payload, after the good frames, and for good. */
static void test_error_is_final(void **state)
{
    (void)state;
    struct cap_buf stream = {0};
    add_frame(&stream, PROTO_STAT, 0, 32);
    size_t bad = stream.len;
    add_frame(&stream, PROTO_GET, PROTO_FLAG_END, 48);
    struct proto_reader reader;
    proto_reader_init(&reader, PROTO_FRAME_MAX);
    struct cap_bytes input = {stream.data, bad + PROTO_FRAME_HEADER_SIZE};
    struct proto_event event;
    bool have = false;
    assert_cap_ok(proto_reader_next(&reader, &input, &event, &have));
    assert_true(have);
    for (int i = 0; i < 3; i++) {
        assert_cap_error(proto_reader_next(&reader, &input, &event, &have), CAP_E_BAD_FRAME);
        assert_int_equal(reader.frame.id, 48 + 3);
        assert_int_equal(reader.frame.type, PROTO_GET);
        input = (struct cap_bytes){stream.data, bad};
    }
    proto_reader_free(&reader);
    cap_buf_free(&stream);
}

static void test_limit_is_the_readers(void **state)
{
    (void)state;
    for (uint32_t len = 99; len <= 101; len++) {
        struct cap_buf stream = {0};
        add_frame(&stream, PROTO_BODY, 0, len);
        struct proto_reader reader;
        proto_reader_init(&reader, 100);
        struct cap_bytes input = cap_buf_bytes(&stream);
        struct proto_event event;
        bool have;
        assert_cap_error(proto_reader_next(&reader, &input, &event, &have),
                         len > 100 ? CAP_E_FRAME_TOO_LARGE : CAP_OK);
        proto_reader_free(&reader);
        cap_buf_free(&stream);
    }
}

static void test_free_takes_anything(void **state)
{
    (void)state;
    struct proto_reader reader;
    struct rebuilt rebuilt = {0};
    struct cap_buf stream = {0};
    add_frame(&stream, PROTO_GET, 0, 48);
    proto_reader_free(NULL);
    proto_reader_init(&reader, PROTO_FRAME_MAX);
    feed(&reader, stream.data, 30, &rebuilt);
    proto_reader_free(&reader);
    proto_reader_free(&reader);
    cap_buf_free(&stream);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header_is_as_documented),
        cmocka_unit_test(test_reserved_bits_are_refused),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_whole_stream_at_once),
        cmocka_unit_test(test_byte_at_a_time),
        cmocka_unit_test(test_random_splits),
        cmocka_unit_test(test_cut_message_is_no_event),
        cmocka_unit_test(test_nothing_is_copied_that_need_not_be),
        cmocka_unit_test(test_memory_follows_bytes_that_are_there),
        cmocka_unit_test(test_error_is_final),
        cmocka_unit_test(test_limit_is_the_readers),
        cmocka_unit_test(test_free_takes_anything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
