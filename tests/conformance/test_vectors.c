/*
 * The vectors through the library. Each one is a test of its own, named after it. Heads are handed
 * over in buffers of their exact length, so that a sanitizer sees a read past them; arenas are read
 * once from memory and once through a source that is not memory.
 */
#include "tests/unit/support.h"

#include <stdio.h>

#include <jansson.h>
#include <sodium.h>

#include "lib/cap/data_cap.h"
#include "lib/cap/deblob.h"
#include "lib/cap/image_cap.h"
#include "lib/cap/pack.h"
#include "tests/conformance/encode.h"

struct vector {
    const json_t *json;
    struct cap_bytes upload; /* owned */
};

static json_t *slices; /* slices.json, while the tests run */

static struct cap_bytes load_file(const char *name)
{
    char path[4096];
    assert_true(snprintf(path, sizeof(path), "%s/%s", TEST_VECTORS, name) < (int)sizeof(path));
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
    struct vector *vector = calloc(1, sizeof(*vector));
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
    memcpy(&data, &vector->upload.data, sizeof(data));
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

/* Judges an upload by its head alone, in a buffer of its own that *ret_head owns. */
static enum cap_error judge(struct cap_bytes upload, uint8_t **ret_head,
                            struct cap_wire_image *ret_image)
{
    size_t head_len = upload.len;
    struct cap_bytes front = upload;
    struct cap_refusal refusal = {CAP_OK, ""};
    if (front.len > CAP_WIRE_FIXED_SIZE) {
        front.len = CAP_WIRE_FIXED_SIZE;
    }
    bool known = cap_wire_image_head_len(front, upload.len, &head_len) == CAP_OK;
    *ret_head = malloc(head_len ? head_len : 1);
    assert_non_null(*ret_head);
    if (head_len) {
        memcpy(*ret_head, upload.data, head_len);
    }
    enum cap_error error =
        cap_deblob((struct cap_bytes){*ret_head, head_len}, upload.len, ret_image, &refusal);
    assert_true(known || error == CAP_E_SSZ);
    if (error != CAP_OK) {
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
    struct cap_source source = {.read = read_bytes, .ctx = &body};
    struct cap_data again;
    assert_cap_ok(cap_data_from_body(&source, body.len, &again));
    assert_hash_equal(&again.hash, &data->hash);
    assert_int_equal(again.page_count, data->page_count);
    if (data->page_count) {
        assert_memory_equal(again.page_roots, data->page_roots, data->page_count * CAP_HASH_SIZE);
    }
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
    assert_cap_ok(cap_data_from_desc(&slot->desc, arena, UINT64_MAX, NULL, &data));
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
    struct cap_hash *hashes = calloc(count + 1, sizeof(*hashes));
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

/* The answers that the source gives. */
static void check_pinned_mappings(const struct cap_image_view *view, const json_t *wanted)
{
    size_t i;
    json_t *pair;
    json_array_foreach(json_object_get(wanted, "mapping_is_pinned"), i, pair)
    {
        bool read_only = false;
        uint64_t address = strtoull(json_string_value(json_array_get(pair, 0)), NULL, 16);
        enum cap_error error = cap_image_mapping_read_only(view, address, &read_only);
        assert_true(error == CAP_OK || (error == CAP_E_NOT_FOUND && !read_only));
        assert_int_equal(read_only, json_is_true(json_array_get(pair, 1)));
    }
}

/* The root of the code's tree of pages, which every slice of this Image cap states. */
static void check_code_roots(const struct cap_image *cap, const char *cap_hash)
{
    struct cap_tree tree;
    struct cap_hash root;
    cap_tree_init(&tree, CAP_BLOCK_DEPTH);
    for (size_t i = 0; i < cap->code_page_count; i++) {
        cap_tree_add(&tree, i, &cap->code_roots[i]);
    }
    cap_tree_root(&tree, CAP_BYTE_LIST_DEPTH - CAP_BLOCK_DEPTH, &root);
    size_t at;
    json_t *slice;
    json_array_foreach(slices, at, slice)
    {
        const char *bytes = json_string_value(json_object_get(slice, "slice"));
        if (bytes == NULL || strcmp(text(slice, "cap_hash"), cap_hash) != 0) {
            continue;
        }
        char hex[CAP_HASH_HEX_SIZE];
        cap_hash_format(&root, hex);
        assert_memory_equal(bytes + 2 * (1 + 8), hex, CAP_HASH_HEX_SIZE - 1);
    }
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
    assert_true(encode_is_reached(cap_buf_bytes(&body), &view));
    check_pinned_mappings(&view, wanted);
    check_code_roots(&cap, text(wanted, "cap_hash"));
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
    assert_cap_ok(cap_wire_image_content_hash(&image, &arena_root, NULL, &content_hash));
    assert_hash_hex(&content_hash, text(vector->json, "image_content_hash"));
    check_encoding(vector, &image, arena);

    struct cap_source memory = cap_source_memory(&arena);
    struct cap_source stream = {.read = read_bytes, .ctx = &arena};
    check_with_arena(&image, &memory, vector->json);
    check_with_arena(&image, &stream, vector->json);
    free(head);
}

/* --- Packing again ---------------------------------------------------------------------------- */

static void pack_endpoints(struct cap_pack *pack, const struct cap_wire_image *image)
{
    for (size_t i = image->endpoints.count; i-- > 0;) {
        struct cap_wire_endpoint endpoint;
        struct cap_register registers[CAP_NUM_REGS];
        cap_wire_endpoint_at(image, i, &endpoint);
        for (size_t k = 0; k < endpoint.register_count; k++) {
            registers[k] = cap_wire_register(&endpoint, endpoint.register_count - 1 - k);
        }
        assert_cap_ok(cap_pack_endpoint(pack, endpoint.key, endpoint.entry_pc,
                                        endpoint.arg_registers, endpoint.arg_cnode_size, registers,
                                        endpoint.register_count));
    }
}

static void pack_mappings(struct cap_pack *pack, const struct cap_wire_image *image)
{
    for (size_t i = 0; i < image->mappings.count; i++) {
        struct cap_mapping mapping;
        struct cap_bytes path[CAP_MAX_SOURCE_DEPTH];
        cap_mapping_at(&image->mappings, i, &mapping);
        for (size_t k = 0; k < mapping.source.count; k++) {
            path[k] = cap_ssz_list_at(&mapping.source, k);
        }
        assert_cap_ok(
            cap_pack_mapping(pack, mapping.start, mapping.size, path, mapping.source.count));
    }
}

static void pack_slots(struct cap_pack *pack, const struct cap_wire_image *image)
{
    for (size_t i = cap_wire_slot_count(image); i-- > 0;) {
        struct cap_wire_slot slot;
        cap_wire_slot_at(image, i, &slot);
        if (slot.kind == CAP_KIND_IMAGE) {
            assert_cap_ok(cap_pack_image(pack, slot.key, &slot.content_hash));
            continue;
        }
        assert_cap_ok(cap_pack_data(pack, slot.table, slot.key, slot.desc.size));
        for (size_t k = 0; k < slot.desc.page_count; k++) {
            struct cap_page_ref ref = cap_page_ref_at(slot.desc.pages, k);
            uint64_t at = (uint64_t)ref.page_index * CAP_PAGE_SIZE;
            assert_cap_ok(cap_pack_content(pack, at, ref.arena_off, ref.len));
        }
    }
}

/* Packs what an accepted Image says, its tables handed in backwards; the caller frees. */
static struct cap_buf pack_again(const struct cap_wire_image *image, const struct cap_source *arena)
{
    struct cap_pack *pack;
    struct cap_body wire;
    assert_cap_ok(cap_pack_new(&pack));
    cap_pack_code(pack, image->code_off, image->code_len);
    pack_endpoints(pack, image);
    pack_mappings(pack, image);
    pack_slots(pack, image);
    if (image->has_yield_receiver) {
        assert_cap_ok(cap_pack_yield_receiver(pack, image->yield_receiver_slot));
    }
    for (size_t i = 0; i < image->gas_slots.count; i++) {
        assert_cap_ok(cap_pack_gas_slot(pack, cap_ssz_list_at(&image->gas_slots, i)));
    }
    for (size_t i = 0; i < image->quota_slots.count; i++) {
        assert_cap_ok(cap_pack_quota_slot(pack, cap_ssz_list_at(&image->quota_slots, i)));
    }
    assert_cap_ok(cap_pack_finish(pack, arena, &wire));
    cap_pack_free(pack);
    struct cap_buf packed = read_body(&wire, arena);
    cap_body_free(&wire);
    return packed;
}

static struct cap_wire_image open_upload(struct cap_bytes upload, struct cap_bytes *ret_arena)
{
    struct cap_wire_image image;
    assert_cap_ok(cap_deblob(upload, upload.len, &image, NULL));
    *ret_arena = cap_bytes_slice(upload, image.head.len, (size_t)image.arena_len);
    return image;
}

/* Whether a packer made this vector; the others show what else is accepted. */
static bool is_packed(const char *name)
{
    static const char *const others[] = {
        "size_zero",          "shared_windows", "named_zero_page", "untrimmed_window",
        "code_overlaps_data", "unused_arena",   "code_at_end",     "source_sparse_data_slot_dense",
    };
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (strcmp(name, others[i]) == 0) {
            return false;
        }
    }
    return true;
}

/*
 * Packing again keeps what the Image means, and so every hash of its caps; packing what was packed
 * changes nothing.
 */
static void packs(void **state)
{
    const struct vector *vector = *state;
    struct cap_bytes arena;
    struct cap_wire_image image = open_upload(vector->upload, &arena);
    struct cap_source stream = {.read = read_bytes, .ctx = &arena};
    struct cap_buf packed = pack_again(&image, &stream);
    bool same = packed.len == vector->upload.len &&
                memcmp(packed.data, vector->upload.data, packed.len) == 0;
    assert_int_equal(same, is_packed(text(vector->json, "name")));
    image = open_upload(cap_buf_bytes(&packed), &arena);
    struct cap_source memory = cap_source_memory(&arena);
    check_with_arena(&image, &memory, vector->json);
    struct cap_buf again = pack_again(&image, &memory);
    assert_int_equal(again.len, packed.len);
    assert_memory_equal(again.data, packed.data, packed.len);
    cap_buf_free(&again);
    cap_buf_free(&packed);
}

/* --- Flipped bits ----------------------------------------------------------------------------- */

#define FLIP_LIMIT 700u /* longer vectors would take long, and show nothing new */

/* An upload that decodes is the encoding of what it decodes to, whatever happened to it. */
static void flip_upload(struct cap_bytes upload)
{
    struct cap_wire_image image;
    if (cap_wire_image_decode(upload, upload.len, &image) != CAP_OK) {
        return;
    }
    struct cap_writer again = {0};
    encode_wire_image(&again, &image,
                      cap_bytes_slice(upload, image.head.len, (size_t)image.arena_len));
    assert_cap_ok(again.error);
    assert_int_equal(again.buf.len, upload.len);
    assert_memory_equal(again.buf.data, upload.data, upload.len);
    cap_buf_free(&again.buf);
}

/* The same for a served body. */
static void flip_body(struct cap_bytes body)
{
    struct cap_image_view view;
    if (cap_image_view_decode(body, &view) != CAP_OK) {
        return;
    }
    struct cap_writer again = {0};
    encode_image_body(&again, &view);
    assert_cap_ok(again.error);
    assert_int_equal(again.buf.len, body.len);
    assert_memory_equal(again.buf.data, body.data, body.len);
    assert_true(encode_is_reached(body, &view));
    cap_buf_free(&again.buf);
}

static void flip_each_bit(struct cap_bytes bytes, void (*check)(struct cap_bytes flipped))
{
    uint8_t *copy = malloc(bytes.len ? bytes.len : 1);
    assert_non_null(copy);
    memcpy(copy, bytes.data, bytes.len);
    for (size_t bit = 0; bit < 8 * bytes.len; bit++) {
        copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
        check((struct cap_bytes){copy, bytes.len});
        copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    free(copy);
}

static void flips(void **state)
{
    const struct vector *vector = *state;
    if (vector->upload.len > FLIP_LIMIT) {
        return;
    }
    flip_each_bit(vector->upload, flip_upload);
    struct cap_bytes arena;
    struct cap_wire_image image = open_upload(vector->upload, &arena);
    struct cap_source memory = cap_source_memory(&arena);
    struct cap_hash *hashes = calloc(cap_wire_slot_count(&image) + 1, sizeof(*hashes));
    struct cap_image cap;
    assert_non_null(hashes);
    assert_cap_ok(cap_image_from_wire(&image, hashes, &memory, &cap));
    struct cap_buf body = read_body(&cap.body, &memory);
    flip_each_bit(cap_buf_bytes(&body), flip_body);
    cap_buf_free(&body);
    cap_image_free(&cap);
    free(hashes);
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
    if (index == NULL) {
        fprintf(stderr, "index.json: %s\n", json_error.text);
        return 1;
    }
    slices = json_load_file(TEST_VECTORS "/slices.json", JSON_DECODE_INT_AS_REAL, &json_error);
    if (json_array_size(slices) == 0) {
        fprintf(stderr, "slices.json: %s\n", json_error.text);
        return 1;
    }
    const json_t *valid = json_object_get(index, "valid");
    const json_t *invalid = json_object_get(index, "invalid");
    size_t capacity = 3 * json_array_size(valid) + json_array_size(invalid);
    struct CMUnitTest *tests = calloc(capacity + 1, sizeof(*tests));
    if (tests == NULL || json_array_size(valid) == 0 || json_array_size(invalid) == 0) {
        return 1;
    }
    size_t count = add_tests(valid, accepts, tests);
    count += add_tests(valid, packs, tests + count);
    count += add_tests(valid, flips, tests + count);
    count += add_tests(invalid, refuses, tests + count);
    int failed = _cmocka_run_group_tests("vectors", tests, count, NULL, NULL);
    free(tests);
    json_decref(index);
    json_decref(slices);
    return failed;
}
