/*
 * PROTOCOL.md against the code: its tables of types and errors, and its examples byte for byte.
 *
 * An example is a block that begins with "```hex CAPTION"; '#' begins a comment. A caption of one
 * word is a message of section 8.1, whose bytes the encoder must produce from the values below;
 * three words ("client HELLO 0") are a frame of a conversation of section 8.2.
 */
#include "tests/unit/proto/recode.h"
#include "tests/unit/support.h"

#include <ctype.h>
#include <stdio.h>

#define MAX_BLOCKS 80

struct block {
    char caption[64];
    struct cap_buf bytes;
    bool used;
};

static struct {
    char *text; /* the whole document */
    struct block blocks[MAX_BLOCKS];
    size_t count;
} document;

/* Reading the document. */

static void read_text(void)
{
    FILE *file = fopen(PROTOCOL_MD, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    long size = ftell(file);
    assert_true(size > 0);
    rewind(file);
    document.text = calloc(1, (size_t)size + 1);
    assert_non_null(document.text);
    assert_int_equal(fread(document.text, 1, (size_t)size, file), (size_t)size);
    fclose(file);
}

/* The digits of one line, up to its comment. */
static void add_line(struct block *block, const char *line, size_t len)
{
    char digits[256];
    size_t count = 0;
    for (size_t i = 0; i < len && line[i] != '#'; i++) {
        if (line[i] == ' ') {
            continue;
        }
        assert_true(count < sizeof(digits));
        digits[count++] = line[i];
    }
    assert_cap_ok(cap_hex_parse(digits, count, &block->bytes));
}

static const char *read_block(const char *line)
{
    assert_true(document.count < MAX_BLOCKS);
    struct block *block = &document.blocks[document.count++];
    size_t len = strcspn(line, "\n");
    assert_true(len < sizeof(block->caption));
    memcpy(block->caption, line, len);
    for (line += len + 1; strncmp(line, "```", 3) != 0; line += len + 1) {
        len = strcspn(line, "\n");
        assert_true(line[len] == '\n');
        add_line(block, line, len);
    }
    return line;
}

static int read_document(void **state)
{
    (void)state;
    static const char opening[] = "\n```hex ";
    read_text();
    const char *at = document.text;
    while ((at = strstr(at, opening)) != NULL) {
        at = read_block(at + sizeof(opening) - 1);
    }
    return 0;
}

static int free_document(void **state)
{
    (void)state;
    for (size_t i = 0; i < document.count; i++) {
        cap_buf_free(&document.blocks[i].bytes);
    }
    free(document.text);
    return 0;
}

static struct block *block_of(const char *caption)
{
    for (size_t i = 0; i < document.count; i++) {
        if (strcmp(document.blocks[i].caption, caption) == 0) {
            return &document.blocks[i];
        }
    }
    fail_msg("PROTOCOL.md has no example %s", caption);
    return NULL;
}

/* The examples of section 8.1: the values that they show. */

#define TEXT(s) ((struct cap_bytes){(const uint8_t *)(s), sizeof(s) - 1})

static struct cap_hash hash_of(const char *hex)
{
    struct cap_hash hash = {{0}};
    assert_cap_ok(cap_hash_parse(hex, &hash));
    return hash;
}

static struct cap_hash hello_hash(void)
{
    return hash_of("ef702648114023b1184b449027cb07fada47158889362b611db19b0b2c0c7688");
}

static const struct cap_hash absent_1 = {{[31] = 1}};
static const struct cap_hash absent_2 = {{[31] = 2}};

/* Compares a block with the frame around `payload`, and decodes what the block has. */
static void check_frame_in(const char *caption, recode_form *form, struct proto_frame frame,
                           const struct cap_buf *payload)
{
    struct block *block = block_of(caption);
    uint8_t header[PROTO_FRAME_HEADER_SIZE];
    frame.len = (uint32_t)payload->len;
    proto_frame_encode(&frame, header);
    assert_int_equal(block->bytes.len, sizeof(header) + payload->len);
    assert_memory_equal(block->bytes.data, header, sizeof(header));
    if (payload->len > 0) {
        assert_memory_equal(block->bytes.data + sizeof(header), payload->data, payload->len);
    }
    block->used = true;

    struct proto_frame again;
    assert_cap_ok(proto_frame_decode(block->bytes.data, PROTO_FRAME_MAX, &again));
    struct cap_buf recoded = {0};
    if (frame.type != PROTO_BODY) {
        struct cap_bytes bytes = cap_buf_bytes(payload);
        assert_cap_ok(form(again.type, bytes, &recoded));
    }
    cap_buf_free(&recoded);
}

static void check_frame(const char *caption, struct proto_frame frame,
                        const struct cap_buf *payload)
{
    check_frame_in(caption, recode, frame, payload);
}

/* The braces of the values hold commas, so they come last. */
#define CHECK(NAME, name, number, ...) CHECK_AS(#NAME, NAME, name, number, __VA_ARGS__)
#define CHECK_AS(caption, NAME, name, number, ...)                                                 \
    do {                                                                                           \
        const struct proto_##name values = __VA_ARGS__;                                            \
        struct cap_buf payload = {0};                                                              \
        assert_cap_ok(proto_##name##_encode(&values, &payload));                                   \
        check_frame(caption, (struct proto_frame){.id = (number), .type = PROTO_##NAME},           \
                    &payload);                                                                     \
        cap_buf_free(&payload);                                                                    \
    } while (0)

/* The forms of connections with features. */
#define CHECK_FORM(NAME, name, FORM, form, number, ...)                                            \
    do {                                                                                           \
        const struct proto_##name values = __VA_ARGS__;                                            \
        struct cap_buf payload = {0};                                                              \
        assert_cap_ok(proto_##name##_##form##_encode(&values, &payload));                          \
        check_frame_in(#NAME "_" #FORM, recode_##form,                                             \
                       (struct proto_frame){.id = (number), .type = PROTO_##NAME}, &payload);      \
        cap_buf_free(&payload);                                                                    \
    } while (0)
#define CHECK_KEEP(NAME, name, number, ...) CHECK_FORM(NAME, name, KEEP, keep, number, __VA_ARGS__)
#define CHECK_RESUME(NAME, name, number, ...)                                                      \
    CHECK_FORM(NAME, name, RESUME, resume, number, __VA_ARGS__)

static void test_hello(void **state)
{
    (void)state;
    CHECK(HELLO, hello, 0, {1, 1, TEXT("example"), false, 0});
    CHECK_AS("HELLO_FEATURES", HELLO, hello, 0, {1, 1, TEXT("example"), true, 0});
    struct proto_hello_reply reply = {
        .version = 1,
        .store_id = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
        .limits = {.frame = PROTO_FRAME_MAX,
                   .requests = 64,
                   .hashes = 4096,
                   .upload = 1u << 30,
                   .structure = 16u << 20,
                   .data = 1u << 30,
                   .idle_ms = 300000,
                   .progress_ms = 30000},
        .agent = TEXT("capstored 0.1.0"),
    };
    CHECK(HELLO_REPLY, hello_reply, 0, reply);
    reply.has_features = true;
    CHECK_AS("HELLO_REPLY_FEATURES", HELLO_REPLY, hello_reply, 0, reply);
}

static void test_reading(void **state)
{
    (void)state;
    static const uint8_t kinds[] = {CAP_KIND_DATA, 0};
    struct cap_hash hashes[] = {hello_hash(), absent_1};
    CHECK(HAS, has, 1, {{hashes[0].bytes, sizeof(hashes)}, 2, 0});
    CHECK(HAS_REPLY, has_reply, 1, {.kinds = {kinds, sizeof(kinds)}});
    CHECK(GET, get, 2, {hello_hash(), 0, PROTO_TO_END});
    CHECK(GET_REPLY, get_reply, 2, {CAP_KIND_DATA, 34, 0, 34});
    CHECK(STAT, stat, 3, {hello_hash()});
    CHECK(STAT_REPLY, stat_reply, 3,
          {CAP_KIND_DATA, 34, 4096, 1, 0, UINT64_C(1750000000000000), {{0}}});
    CHECK(MAP, map, 8, {hello_hash()});
    CHECK(MAP_REPLY, map_reply, 8, {CAP_KIND_DATA, 34, 4096, 4096, 0, 0});
    CHECK(GET_MANY, get_many, 9, {{hashes[0].bytes, sizeof(hashes)}, 2});
    CHECK(GET_MANY_REPLY, get_many_reply, 9, {2});
}

static void test_pieces(void **state)
{
    (void)state;
    static const uint8_t body[] = {2, 0,    0x10, 0, 0, 0,   0,   0,   0,   0x10, 0, 0,
                                   0, 0x1c, 0,    0, 0, 0,   0,   0,   0,   0,    0, 0,
                                   0, 5,    0,    0, 0, 'h', 'e', 'l', 'l', 'o'};
    const struct proto_piece found = {0, 0, CAP_KIND_DATA, 0, sizeof(body), sizeof(body)};
    const struct proto_piece absent = {.index = 1, .code = -CAP_E_NOT_FOUND};
    uint8_t head[PROTO_PIECE_SIZE];
    struct cap_buf pieces = {0};
    proto_piece_encode(&found, head);
    assert_cap_ok(cap_buf_append(&pieces, head, sizeof(head)));
    assert_cap_ok(cap_buf_append(&pieces, body, sizeof(body)));
    proto_piece_encode(&absent, head);
    assert_cap_ok(cap_buf_append(&pieces, head, sizeof(head)));
    check_frame("PIECES",
                (struct proto_frame){.id = 9, .type = PROTO_BODY, .flags = PROTO_FLAG_END},
                &pieces);
    cap_buf_free(&pieces);
}

static void test_publishing(void **state)
{
    (void)state;
    CHECK(PUT_DATA, put_data, 4, {.total_len = 5});
    CHECK(PUT_DATA_REPLY, put_data_reply, 4, {hello_hash(), 4096, 34, 1, 0});
    CHECK(PUT_IMAGE, put_image, 5, {.total_len = 41});
    CHECK(PUT_IMAGE_REPLY, put_image_reply, 5,
          {hash_of("6b50a4b895293c9763b69bde074d53ba01b3095ae1f70abf605ce63e422d7591"),
           hash_of("c00d0d19295f469e9dbed009b8dc8411f6579229e30e295de3f90774f3c71296"), 34, 1, 0, 0,
           0});
    CHECK(PUT_CAP, put_cap, 10, {.kind = CAP_KIND_DATA, .hash = hello_hash(), .total_len = 34});
    CHECK(PUT_CAP_REPLY, put_cap_reply, 10, {1, 0});
}

static void test_leases(void **state)
{
    (void)state;
    static const uint8_t kinds[] = {CAP_KIND_DATA, 0};
    static const uint8_t times[] = {0x10, 0x0e, 0, 0, 0, 0, 0, 0};
    struct cap_hash hashes[] = {hello_hash(), absent_1};
    CHECK_KEEP(HAS, has, 1, {{hashes[0].bytes, sizeof(hashes)}, 2, 3600});
    CHECK_KEEP(HAS_REPLY, has_reply, 1, {{kinds, sizeof(kinds)}, {times, sizeof(times)}});
    CHECK_KEEP(PUT_DATA, put_data, 4, {.total_len = 5, .keep_s = 3600});
    CHECK_KEEP(PUT_DATA_REPLY, put_data_reply, 4, {hello_hash(), 4096, 34, 1, 3600});
    CHECK_KEEP(PUT_IMAGE, put_image, 5, {.total_len = 41, .keep_s = 3600});
    CHECK_KEEP(PUT_IMAGE_REPLY, put_image_reply, 5,
               {hash_of("6b50a4b895293c9763b69bde074d53ba01b3095ae1f70abf605ce63e422d7591"),
                hash_of("c00d0d19295f469e9dbed009b8dc8411f6579229e30e295de3f90774f3c71296"), 34, 1,
                0, 0, 3600});
    CHECK_KEEP(PUT_CAP, put_cap, 10,
               {.kind = CAP_KIND_DATA, .hash = hello_hash(), .total_len = 34, .keep_s = 3600});
    CHECK_KEEP(PUT_CAP_REPLY, put_cap_reply, 10, {1, 3600});
}

#define TOKEN                                                                                      \
    {                                                                                              \
        0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae,  \
            0xaf                                                                                   \
    }

static void test_going_on(void **state)
{
    (void)state;
    CHECK(RESUME, resume, 11, {TOKEN});
    CHECK(RESUME_REPLY, resume_reply, 11, {41, 32});
    CHECK_RESUME(PUT_DATA, put_data, 4, {0, 0, 5, 3600, TOKEN, 0});
    CHECK_RESUME(PUT_IMAGE, put_image, 5, {0, 41, 3600, TOKEN, 32});
    CHECK_RESUME(PUT_CAP, put_cap, 10, {0, CAP_KIND_DATA, hello_hash(), 34, 3600, {0}, 0});
}

static void test_slices_and_closures(void **state)
{
    (void)state;
    static const uint8_t first_page[PROTO_RANGE_SIZE] = {[8] = 1};
    struct cap_hash roots[] = {hello_hash()}, have[] = {absent_1, absent_2};
    CHECK(SLICE, slice, 12, {hello_hash(), {first_page, sizeof(first_page)}, 1});
    CHECK(SLICE_REPLY, slice_reply, 12, {CAP_KIND_DATA, 34, 4096});
    CHECK(CLOSURE, closure, 13,
          {PROTO_CLOSURE_LIST, {roots[0].bytes, sizeof(roots)}, {have[0].bytes, sizeof(have)}});
    CHECK(CLOSURE_REPLY, closure_reply, 13, {65536});
    const struct proto_entry entry = {hello_hash(), CAP_KIND_DATA, 34};
    uint8_t head[PROTO_ENTRY_SIZE];
    proto_entry_encode(&entry, head);
    struct cap_buf entries = {0};
    assert_cap_ok(cap_buf_append(&entries, head, sizeof(head)));
    check_frame("ENTRIES",
                (struct proto_frame){.id = 13, .type = PROTO_BODY, .flags = PROTO_FLAG_END},
                &entries);
    cap_buf_free(&entries);
    struct proto_entry again;
    assert_cap_ok(proto_entry_decode(head, &again));
    assert_memory_equal(&again.hash, &entry.hash, sizeof(again.hash));
    assert_int_equal(again.body_len, 34);
    head[32] = 0;
    assert_cap_error(proto_entry_decode(head, &again), CAP_E_BAD_MESSAGE);
    head[32] = 3;
    assert_cap_error(proto_entry_decode(head, &again), CAP_E_BAD_MESSAGE);
}

static void test_body_and_cancel(void **state)
{
    (void)state;
    struct cap_buf payload = {0};
    check_frame("CANCEL", (struct proto_frame){.id = 6, .type = PROTO_CANCEL}, &payload);
    assert_cap_ok(cap_buf_append(&payload, "hello", 5));
    check_frame("BODY", (struct proto_frame){.id = 4, .type = PROTO_BODY, .flags = PROTO_FLAG_END},
                &payload);
    cap_buf_free(&payload);
}

static void test_error(void **state)
{
    (void)state;
    const struct proto_unresolved slots[] = {
        {0, CAP_KIND_IMAGE, absent_1, TEXT("\5")},
        {1, CAP_KIND_DATA, absent_2, TEXT("")},
    };
    struct cap_buf detail = {0};
    assert_cap_ok(proto_unresolved_encode(slots, 2, &detail));
    check_frame("UNRESOLVED",
                (struct proto_frame){.id = 7, .type = PROTO_BODY, .flags = PROTO_FLAG_END},
                &detail);
    CHECK(
        ERROR, error, 7,
        {-CAP_E_UNRESOLVED_SLOT, TEXT("unresolved_slot"), TEXT("2 slots are missing"), detail.len});

    struct cap_buf shortage = {0};
    assert_cap_ok(proto_shortage_encode(&(struct proto_shortage){50000, 40000, TEXT("quota-bytes")},
                                        &shortage));
    check_frame("SHORTAGE",
                (struct proto_frame){.id = 7, .type = PROTO_BODY, .flags = PROTO_FLAG_END},
                &shortage);
    cap_buf_free(&shortage);

    struct cap_buf again = {0};
    assert_cap_ok(recode_unresolved(cap_buf_bytes(&detail), &again));
    cap_buf_free(&again);
    cap_buf_free(&detail);
}

/* Runs last: every type has an example, and every example of one word was compared above. */
static void test_examples_are_complete(void **state)
{
    (void)state;
#define CHECK_EXAMPLE(NAME, value, name) assert_true(block_of(#NAME)->used);
    PROTO_TYPES(CHECK_EXAMPLE)
#undef CHECK_EXAMPLE
    for (size_t i = 0; i < document.count; i++) {
        if (strchr(document.blocks[i].caption, ' ') == NULL && !document.blocks[i].used) {
            fail_msg("the example %s is not compared", document.blocks[i].caption);
        }
    }
}

/* The conversations of section 8.2. */

static bool is_upper_of(const char *upper, const char *lower)
{
    while (*upper != '\0' && *upper == (char)toupper((unsigned char)*lower)) {
        upper++;
        lower++;
    }
    return *upper == '\0' && *lower == '\0';
}

/* One frame, read as a stream: it is what its caption says, and its message is canonical. */
static void check_talk(const struct block *block, const char *name, unsigned id)
{
    struct cap_bytes input = cap_buf_bytes(&block->bytes);
    struct cap_buf again = {0};
    struct proto_reader reader;
    struct proto_event event;
    bool have = false;
    proto_reader_init(&reader, PROTO_FRAME_MAX);
    enum cap_error error = proto_reader_next(&reader, &input, &event, &have);
    bool is_known = proto_type_is_known(reader.frame.type);
    if (is_known) {
        assert_true(is_upper_of(name, proto_type_name(reader.frame.type)));
    } else {
        assert_int_equal(strtoul(name, NULL, 16), reader.frame.type);
    }
    assert_int_equal(reader.frame.id, id);
    if (reader.frame.type == PROTO_HAS && reader.frame.flags != 0) {
        /* The one frame that is wrong on purpose. */
        assert_cap_error(error, CAP_E_BAD_FRAME);
        proto_reader_free(&reader);
        return;
    }
    assert_cap_ok(error);
    assert_true(have);
    assert_int_equal(input.len, 0);
    if (is_known && event.frame.type != PROTO_BODY) {
        assert_cap_ok(recode(event.frame.type, event.bytes, &again));
        assert_int_equal(again.len, event.bytes.len);
        assert_memory_equal(again.data, event.bytes.data, again.len);
    }
    cap_buf_free(&again);
    proto_reader_free(&reader);
}

static void test_conversations(void **state)
{
    (void)state;
    size_t frames = 0;
    for (size_t i = 0; i < document.count; i++) {
        char who[8], name[24];
        unsigned id;
        if (strchr(document.blocks[i].caption, ' ') == NULL) {
            continue;
        }
        assert_int_equal(sscanf(document.blocks[i].caption, "%7s %23s %u", who, name, &id), 3);
        assert_true(strcmp(who, "client") == 0 || strcmp(who, "daemon") == 0);
        check_talk(&document.blocks[i], name, id);
        frames++;
    }
    assert_true(frames >= 16);
}

/* Tables. */

static size_t rows_between(const char *from, const char *to, const char *row_start)
{
    const char *at = strstr(document.text, from);
    assert_non_null(at);
    const char *end = strstr(at, to);
    assert_non_null(end);
    size_t rows = 0;
    while ((at = strstr(at, row_start)) != NULL && at < end) {
        rows++;
        at++;
    }
    return rows;
}

static void assert_row(const char *row)
{
    if (strstr(document.text, row) == NULL) {
        fail_msg("PROTOCOL.md has no row \"%s\"", row + 1);
    }
}

/* Section 5 has a row for every error of lib/cap/error.h, and no other. */
static void test_error_table(void **state)
{
    (void)state;
    char row[128];
    size_t count = 0;
#define CHECK_ERROR(NAME, code, name, text)                                                        \
    snprintf(row, sizeof(row), "\n| %d | `%s` | ", code, #name);                                   \
    assert_row(row);                                                                               \
    count++;
    CAP_ERRORS(CHECK_ERROR)
#undef CHECK_ERROR
    /* The head and the rule under it are rows too. */
    assert_int_equal(rows_between("\n## 5. ", "\n## 6. ", "\n|"), count + 2);
}

/* Section 2.3 has a row for every type, and no other. */
static void test_type_table(void **state)
{
    (void)state;
    char row[128];
    size_t count = 0;
#define CHECK_TYPE(NAME, value, name)                                                              \
    snprintf(row, sizeof(row), "\n| %s | 0x%02x | ", #NAME, value);                                \
    assert_row(row);                                                                               \
    count++;
    PROTO_TYPES(CHECK_TYPE)
#undef CHECK_TYPE
    assert_int_equal(rows_between("\n### 2.3 ", "\n## 3. ", "\n|"), count + 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hello),
        cmocka_unit_test(test_reading),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_publishing),
        cmocka_unit_test(test_leases),
        cmocka_unit_test(test_going_on),
        cmocka_unit_test(test_slices_and_closures),
        cmocka_unit_test(test_body_and_cancel),
        cmocka_unit_test(test_error),
        cmocka_unit_test(test_conversations),
        cmocka_unit_test(test_error_table),
        cmocka_unit_test(test_type_table),
        cmocka_unit_test(test_examples_are_complete),
    };
    return cmocka_run_group_tests(tests, read_document, free_document);
}
