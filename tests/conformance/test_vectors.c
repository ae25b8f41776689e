/*
 * The vectors through the library. Each one is a test of its own, named after it. Heads are handed
 * over in buffers of their exact length, so that a sanitizer sees a read past them; arenas are read
 * once from memory and once through a source that is no memory.
 */
#include "tests/unit/support.h"

#include <stdio.h>

#include <jansson.h>
#include <sodium.h>

#include "lib/cap/data_cap.h"
#include "lib/cap/deblob.h"
#include "lib/cap/image_cap.h"
#include "tests/conformance/encode.h"

struct vector {
    const json_t *json;
    struct cap_bytes upload; /* owned */
};

static struct cap_bytes load_file(const char *name)
{
    char path[4096];
    assert_true(snprintf(path, sizeof path, "%s/%s", TEST_VECTORS, name) < (int)sizeof path);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    long len = ftell(file);
    assert_true(len >= 0);
    rewind(file);
    uint8_t *data = malloc(len ? (size_t)len : 1);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, (size_t)len, file), len);
    fclose(file);
    return (struct cap_bytes){data, (size_t)len};
}

static const char *text(const json_t *object, const char *name)
{
    const char *value = json_string_value(json_object_get(object, name));
    assert_non_null(value);
    return value;
}

/* Integers are read as reals: every one of them is exact, and 2^64 - 4096 fits no json_int_t. */
static uint64_t number(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    assert_true(json_is_real(value));
    return (uint64_t)json_real_value(value);
}

static int setup(void **state)
{
    struct vector *vector = calloc(1, sizeof *vector);
    assert_non_null(vector);
    vector->json = *state;
    vector->upload = load_file(text(vector->json, "file"));
    *state = vector;
    return 0;
}

static int teardown(void **state)
{
    struct vector *vector = *state;
    void *data;
    memcpy(&data, &vector->upload.data, sizeof data);
    free(data);
    free(vector);
    return 0;
}

static enum cap_error read_bytes(void *ctx, uint64_t offset, void *dst, size_t len)
{
    const struct cap_bytes *bytes = ctx;
    assert_true(offset <= bytes->len && len <= bytes->len - offset);
    memcpy(dst, bytes->data + offset, len);
    return CAP_OK;
}

/* Judges an upload by its head alone, which stands in a buffer of its own that *ret_head owns. */
static enum cap_error judge(struct cap_bytes upload, uint8_t **ret_head,
                            struct cap_wire_image *ret_image)
{
    size_t head_len = upload.len;
    struct cap_bytes front = upload;
    struct cap_refusal refusal = {CAP_OK, ""};
    if (front.len > CAP_WIRE_FIXED_SIZE)
        front.len = CAP_WIRE_FIXED_SIZE;
    bool known = cap_wire_image_head_len(front, upload.len, &head_len) == CAP_OK;
    *ret_head = malloc(head_len ? head_len : 1);
    assert_non_null(*ret_head);
    if (head_len)
        memcpy(*ret_head, upload.data, head_len);
    enum cap_error error =
        cap_deblob((struct cap_bytes){*ret_head, head_len}, upload.len, ret_image, &refusal);
    assert_true(known || error == CAP_E_SSZ);
    if (error) {
        assert_cap_error(refusal.error, error);
        assert_true(strlen(refusal.message) > 0);
    }
    return error;
}

/* The whole body, in memory the caller frees; read in pieces of an odd length. */
static struct cap_buf read_body(const struct cap_body *body, const struct cap_source *source)
{
    struct cap_buf buf = {0};
    assert_cap_ok(cap_buf_append_zeros(&buf, (size_t)body->len));
    for (size_t at = 0; at < buf.len; at += 777) {
        size_t len = buf.len - at < 777 ? buf.len - at : 777;
        assert_cap_ok(cap_body_read(body, source, at, buf.data + at, len));
    }
    return buf;
}

static void check_sha256(struct cap_bytes bytes, const char *hex)
{
    struct cap_hash digest;
    crypto_hash_sha256(digest.bytes, bytes.data, bytes.len);
    assert_hash_hex(&digest, hex);
}

/* What every served body must do: length, digest, and naming itself. */
static void check_body(struct cap_bytes body, const json_t *wanted, enum cap_kind kind)
{
    assert_int_equal(body.len, number(wanted, "body_len"));
    check_sha256(body, text(wanted, "body_sha256"));
    enum cap_kind found;
    struct cap_hash hash;
    assert_cap_ok(cap_body_hash(body, &found, &hash));
    assert_int_equal(found, kind);
    assert_hash_hex(&hash, text(wanted, "cap_hash"));
}

static void check_key(struct cap_bytes key, const char *hex)
{
    struct cap_buf buf = {0};
    assert_cap_ok(cap_hex_parse(hex, strlen(hex), &buf));
    assert_int_equal(cap_bytes_compare(key, cap_buf_bytes(&buf)), 0);
    cap_buf_free(&buf);
}

/* A Data body rebuilt from what was served is the same body. */
static void check_rebuilt(struct cap_bytes body, const struct cap_data *data)
{
    struct cap_source source = {read_bytes, &body, NULL};
    struct cap_data again;
    assert_cap_ok(cap_data_from_body(&source, body.len, &again));
    assert_hash_equal(&again.hash, &data->hash);
    assert_int_equal(again.page_count, data->page_count);
    if (data->page_count)
        assert_memory_equal(again.page_roots, data->page_roots, data->page_count * CAP_HASH_SIZE);
    struct cap_buf copy = read_body(&again.body, &source);
    assert_int_equal(copy.len, body.len);
    assert_memory_equal(copy.data, body.data, body.len);
    struct cap_data_view view;
    assert_cap_ok(cap_data_view_decode(body, body.len, &view));
    assert_int_equal(view.size, data->size);
    assert_int_equal(view.page_count, data->page_count);
    cap_buf_free(&copy);
    cap_data_free(&again);
}

static struct cap_hash check_data_slot(const struct cap_wire_slot *slot,
                                       const struct cap_source *arena, const json_t *wanted)
{
    assert_string_equal(cap_table_name(slot->table), text(wanted, "table"));
    check_key(slot->key, text(wanted, "slot"));
    struct cap_data data;
    assert_cap_ok(cap_data_from_desc(&slot->desc, arena, UINT64_MAX, &data));
    assert_true(data.size == number(wanted, "size"));
    assert_hash_hex(&data.hash, text(wanted, "cap_hash"));
    struct cap_buf body = read_body(&data.body, arena);
    check_body(cap_buf_bytes(&body), wanted, CAP_KIND_DATA);
    check_rebuilt(cap_buf_bytes(&body), &data);
    struct cap_hash hash = data.hash;
    cap_buf_free(&body);
    cap_data_free(&data);
    return hash;
}

/* All slots against the vector's two lists; returns their hashes, which the caller frees. */
static struct cap_hash *check_slots(const struct cap_wire_image *image,
                                    const struct cap_source *arena, const json_t *wanted)
{
    const json_t *data = json_object_get(wanted, "data");
    const json_t *images = json_object_get(wanted, "images");
    size_t count = cap_wire_slot_count(image);
    struct cap_hash *hashes = calloc(count + 1, sizeof *hashes);
    assert_non_null(hashes);
    size_t data_seen = 0;
    size_t images_seen = 0;
    for (size_t i = 0; i < count; i++) {
        struct cap_wire_slot slot;
        cap_wire_slot_at(image, i, &slot);
        if (slot.kind == CAP_KIND_DATA) {
            hashes[i] = check_data_slot(&slot, arena, json_array_get(data, data_seen++));
            continue;
        }
        const json_t *pinned = json_array_get(images, images_seen++);
        check_key(slot.key, text(pinned, "slot"));
        assert_hash_hex(&slot.content_hash, text(pinned, "cap_hash"));
        hashes[i] = slot.content_hash;
    }
    assert_int_equal(data_seen, json_array_size(data));
    assert_int_equal(images_seen, json_array_size(images));
    return hashes;
}

static void check_image_cap(const struct cap_wire_image *image, const struct cap_hash *slot_hashes,
                            const struct cap_source *arena, const json_t *wanted)
{
    struct cap_image cap;
    assert_cap_ok(cap_image_from_wire(image, slot_hashes, arena, &cap));
    assert_hash_hex(&cap.hash, text(wanted, "cap_hash"));
    struct cap_buf body = read_body(&cap.body, arena);
    check_body(cap_buf_bytes(&body), wanted, CAP_KIND_IMAGE);
    struct cap_image_view view;
    struct cap_writer again = {0};
    assert_cap_ok(cap_image_view_decode(cap_buf_bytes(&body), &view));
    encode_image_body(&again, &view);
    assert_cap_ok(again.error);
    assert_int_equal(again.buf.len, body.len);
    assert_memory_equal(again.buf.data, body.data, body.len);
    cap_buf_free(&again.buf);
    cap_buf_free(&body);
    cap_image_free(&cap);
}

static void check_with_arena(const struct cap_wire_image *image, const struct cap_source *arena,
                             const json_t *wanted)
{
    struct cap_hash *hashes = check_slots(image, arena, wanted);
    check_image_cap(image, hashes, arena, wanted);
    free(hashes);
}

static void check_encoding(const struct vector *vector, const struct cap_wire_image *image,
                           struct cap_bytes arena)
{
    struct cap_writer again = {0};
    encode_wire_image(&again, image, arena);
    assert_cap_ok(again.error);
    assert_int_equal(again.buf.len, vector->upload.len);
    assert_memory_equal(again.buf.data, vector->upload.data, vector->upload.len);
    cap_buf_free(&again.buf);
}

static void accepts(void **state)
{
    const struct vector *vector = *state;
    struct cap_wire_image image;
    uint8_t *head;
    assert_cap_ok(judge(vector->upload, &head, &image));
    struct cap_bytes arena =
        cap_bytes_slice(vector->upload, image.head.len, (size_t)image.arena_len);
    struct cap_hash arena_root;
    struct cap_hash content_hash;
    cap_byte_list_root(arena, &arena_root);
    cap_wire_image_content_hash(&image, &arena_root, &content_hash);
    assert_hash_hex(&content_hash, text(vector->json, "image_content_hash"));
    check_encoding(vector, &image, arena);

    struct cap_source memory = cap_source_memory(&arena);
    struct cap_source stream = {read_bytes, &arena, NULL};
    check_with_arena(&image, &memory, vector->json);
    check_with_arena(&image, &stream, vector->json);
    free(head);
}

static void refuses(void **state)
{
    const struct vector *vector = *state;
    struct cap_wire_image image;
    uint8_t *head;
    enum cap_error error = judge(vector->upload, &head, &image);
    assert_string_equal(cap_error_name(error), text(vector->json, "error"));
    free(head);
}

/* One test for each entry of a list. */
static size_t add_tests(const json_t *list, CMUnitTestFunction test, struct CMUnitTest *tests)
{
    size_t count = json_array_size(list);
    for (size_t i = 0; i < count; i++) {
        json_t *entry = json_array_get(list, i);
        tests[i] = (struct CMUnitTest){json_string_value(json_object_get(entry, "name")), test,
                                       setup, teardown, entry};
    }
    return count;
}

int main(void)
{
    json_error_t json_error;
    json_t *index =
        json_load_file(TEST_VECTORS "/index.json", JSON_DECODE_INT_AS_REAL, &json_error);
    if (!index) {
        fprintf(stderr, "index.json: %s\n", json_error.text);
        return 1;
    }
    const json_t *valid = json_object_get(index, "valid");
    const json_t *invalid = json_object_get(index, "invalid");
    size_t capacity = json_array_size(valid) + json_array_size(invalid);
    struct CMUnitTest *tests = calloc(capacity + 1, sizeof *tests);
    if (!tests || !json_array_size(valid) || !json_array_size(invalid))
        return 1;
    size_t count = add_tests(valid, accepts, tests);
    count += add_tests(invalid, refuses, tests + count);
    int failed = _cmocka_run_group_tests("vectors", tests, count, NULL, NULL);
    free(tests);
    json_decref(index);
    return failed;
}
