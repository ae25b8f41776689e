/*
 * slices.json through the library: each entry is a test of its own, named after its vector. The
 * encoder makes exactly these bytes of the cap, and the verifier accepts them in any pieces.
 */
#include "tests/unit/support.h"

#include <stdio.h>

#include <jansson.h>
#include <sodium.h>

#include "lib/cap/slice_encode.h"
#include "lib/cap/slice_verify.h"
#include "tests/conformance/made.h"

#define RANGES_MAX 16u

static const char *text(const json_t *object, const char *name)
{
    const char *value = json_string_value(json_object_get(object, name));
    assert_non_null(value);
    return value;
}

static struct cap_buf load_vector(const char *name)
{
    char path[4096];
    struct cap_buf upload = {0};
    assert_true(snprintf(path, sizeof(path), "%s/%s.ssz", TEST_VECTORS, name) < (int)sizeof(path));
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    for (size_t len = 1; len > 0;) {
        assert_cap_ok(cap_buf_reserve(&upload, 65536));
        len = fread(upload.data + upload.len, 1, 65536, file);
        upload.len += len;
    }
    fclose(file);
    return upload;
}

/* The cap that the entry names, once it has come by. */
struct wanted {
    struct cap_hash hash;
    struct cap_buf body;
};

static void take_cap(void *ctx, struct cap_bytes body, const struct cap_hash *hash)
{
    struct wanted *wanted = ctx;
    if (cap_hash_equal(hash, &wanted->hash) && wanted->body.len == 0) {
        assert_cap_ok(cap_buf_append(&wanted->body, body.data, body.len));
    }
}

static size_t load_ranges(const json_t *list, struct cap_range *ranges)
{
    size_t count = json_array_size(list);
    assert_true(count <= RANGES_MAX);
    for (size_t i = 0; i < count; i++) {
        const json_t *range = json_array_get(list, i);
        ranges[i].first = (uint64_t)json_integer_value(json_array_get(range, 0));
        ranges[i].pages = (uint64_t)json_integer_value(json_array_get(range, 1));
    }
    return count;
}

static void check_bytes(const json_t *entry, const struct cap_buf *slice)
{
    uint8_t digest[crypto_hash_sha256_BYTES];
    char hex[2 * sizeof(digest) + 1];
    assert_int_equal(slice->len, json_integer_value(json_object_get(entry, "len")));
    crypto_hash_sha256(digest, slice->data, slice->len);
    cap_hex_format((struct cap_bytes){digest, sizeof(digest)}, hex);
    assert_string_equal(hex, text(entry, "sha256"));
    const char *bytes = json_string_value(json_object_get(entry, "slice"));
    if (bytes != NULL) {
        struct cap_buf wanted = {0};
        assert_cap_ok(cap_hex_parse(bytes, strlen(bytes), &wanted));
        assert_int_equal(slice->len, wanted.len);
        assert_memory_equal(slice->data, wanted.data, wanted.len);
        cap_buf_free(&wanted);
    }
}

static enum cap_error count_pages(void *ctx, uint64_t first, size_t count, const uint8_t *bytes)
{
    (void)first;
    (void)bytes;
    *(uint64_t *)ctx += count;
    return CAP_OK;
}

static enum cap_error count_zeros(void *ctx, uint64_t first, uint64_t count)
{
    (void)first;
    *(uint64_t *)ctx += count;
    return CAP_OK;
}

/* In a first piece of `front` bytes, then in pieces of `most`. Returns how many pages came. */
static uint64_t verify(const struct cap_hash *hash, const struct cap_range *ranges, size_t count,
                       const struct cap_buf *slice, size_t front, size_t most)
{
    uint64_t pages = 0;
    struct cap_slice_sink sink = {.pages = count_pages, .zeros = count_zeros, .ctx = &pages};
    struct cap_slice_verifier *verifier;
    assert_cap_ok(
        cap_slice_verifier_new(hash, ranges, count, CAP_SLICE_STRUCTURE, &sink, &verifier));
    for (size_t at = 0, len = front; at < slice->len; at += len, len = most) {
        len = len < slice->len - at ? len : slice->len - at;
        assert_cap_ok(cap_slice_verifier_take(verifier, (struct cap_bytes){slice->data + at, len}));
    }
    assert_cap_ok(cap_slice_verifier_finish(verifier));
    cap_slice_verifier_free(verifier);
    return pages;
}

static void check_entry(void **state)
{
    const json_t *entry = *state;
    struct cap_range ranges[RANGES_MAX];
    struct wanted wanted = {.body = {0}};
    struct cap_buf slice = {0};
    uint64_t pages = 0;
    size_t count = load_ranges(json_object_get(entry, "ranges"), ranges);
    for (size_t i = 0; i < count; i++) {
        pages += ranges[i].pages;
    }
    assert_cap_ok(cap_hash_parse(text(entry, "cap_hash"), &wanted.hash));
    struct cap_buf upload = load_vector(text(entry, "vector"));
    assert_cap_ok(made_caps(cap_buf_bytes(&upload), take_cap, &wanted));
    assert_true(wanted.body.len > 0);
    assert_int_equal(wanted.body.data[0],
                     strcmp(text(entry, "kind"), "data") == 0 ? CAP_KIND_DATA : CAP_KIND_IMAGE);
    assert_cap_ok(cap_slice_of_body(cap_buf_bytes(&wanted.body), ranges, count, &slice));
    check_bytes(entry, &slice);
    for (size_t most = 1; most < 100; most++) {
        assert_true(verify(&wanted.hash, ranges, count, &slice, most, most) == pages);
        assert_true(verify(&wanted.hash, NULL, 0, &slice, most, most) == pages);
    }
    for (size_t front = 1; front <= slice.len; front += 1 + slice.len / 512) {
        assert_true(verify(&wanted.hash, ranges, count, &slice, front, slice.len) == pages);
    }
    cap_buf_free(&upload);
    cap_buf_free(&wanted.body);
    cap_buf_free(&slice);
}

int main(void)
{
    json_error_t json_error;
    json_t *slices = json_load_file(TEST_VECTORS "/slices.json", 0, &json_error);
    size_t count = json_array_size(slices);
    struct CMUnitTest *tests = calloc(count + 1, sizeof(*tests));
    if (tests == NULL || count == 0) {
        fprintf(stderr, "slices.json: %s\n", json_error.text);
        return 1;
    }
    for (size_t i = 0; i < count; i++) {
        json_t *entry = json_array_get(slices, i);
        tests[i] = (struct CMUnitTest){json_string_value(json_object_get(entry, "vector")),
                                       check_entry, NULL, NULL, entry};
    }
    int failed = _cmocka_run_group_tests("slices", tests, count, NULL, NULL);
    free(tests);
    json_decref(slices);
    return failed;
}
