/*
 * The differential test's side of lib/cap: reads uploads from standard input (u32 length, bytes),
 * answers each with one JSON line: the verdict and, when accepted, every hash and body. A pinned
 * Image counts as published.
 */
#include <inttypes.h>
#include <sodium/crypto_hash_sha256.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/cap/data_cap.h"
#include "lib/cap/deblob.h"
#include "lib/cap/image_cap.h"

#define MAX_UPLOAD (64u << 20)
#define MAX_SLOTS  256u

static void fail(const char *what, enum cap_error error)
{
    fprintf(stderr, "driver: %s: %s\n", what, cap_error_name(error));
    exit(1);
}

static void check(const char *what, enum cap_error error)
{
    if (error != CAP_OK) {
        fail(what, error);
    }
}

static void print_hash(const char *name, const struct cap_hash *hash)
{
    char hex[CAP_HASH_HEX_SIZE];
    cap_hash_format(hash, hex);
    printf("\"%s\":\"%s\"", name, hex);
}

/* Prints SHA-256 and length of a body; also reads it back as a receiver would. */
static void print_body(const struct cap_body *body, const struct cap_source *source,
                       const struct cap_hash *wanted)
{
    size_t len = (size_t)body->len; /* no longer than the upload and some records */
    uint8_t *bytes = malloc(len + 1);
    if (bytes == NULL) {
        fail("body", CAP_E_NO_MEMORY);
    }
    check("body", cap_body_read(body, source, 0, bytes, len));
    enum cap_kind kind;
    struct cap_hash hash;
    check("verify", cap_body_hash((struct cap_bytes){bytes, len}, &kind, &hash));
    if (!cap_hash_equal(&hash, wanted)) {
        fail("verify", CAP_E_HASH_MISMATCH);
    }
    crypto_hash_sha256(hash.bytes, bytes, len);
    free(bytes);
    print_hash("body", &hash);
    printf(",\"body_len\":%" PRIu64, body->len);
}

/* Converts every slot; Data caps go to `data`, whose entries of pinned Images stay empty. */
static void resolve(const struct cap_wire_image *image, const struct cap_source *arena,
                    struct cap_hash *hashes, struct cap_data *data)
{
    size_t count = cap_wire_slot_count(image);
    if (count > MAX_SLOTS) {
        fail("slots", CAP_E_INVALID_ARGUMENT);
    }
    for (size_t i = 0; i < count; i++) {
        struct cap_wire_slot slot;
        cap_wire_slot_at(image, i, &slot);
        if (slot.kind == CAP_KIND_IMAGE) {
            hashes[i] = slot.content_hash;
            continue;
        }
        check("data", cap_data_from_desc(&slot.desc, arena, UINT64_MAX, NULL, &data[i]));
        hashes[i] = data[i].hash;
    }
}

static void print_accepted(const struct cap_wire_image *wire, struct cap_bytes upload)
{
    struct cap_bytes arena_bytes = {upload.data + wire->head.len, (size_t)wire->arena_len};
    struct cap_source arena = cap_source_memory(&arena_bytes);
    struct cap_hash hashes[MAX_SLOTS];
    struct cap_data data[MAX_SLOTS] = {0};
    resolve(wire, &arena, hashes, data);

    struct cap_hash root;
    struct cap_hash content;
    cap_byte_list_root(arena_bytes, &root);
    check("content", cap_wire_image_content_hash(wire, &root, NULL, &content));
    struct cap_image image;
    check("image", cap_image_from_wire(wire, hashes, &arena, &image));

    printf("{\"verdict\":\"ok\",");
    print_hash("image_content_hash", &content);
    printf(",");
    print_hash("cap_hash", &image.hash);
    printf(",");
    print_body(&image.body, &arena, &image.hash);
    printf(",\"data\":[");
    const char *comma = "";
    for (size_t i = 0; i < cap_wire_slot_count(wire); i++) {
        if (data[i].size == 0) {
            continue;
        }
        printf("%s{", comma);
        print_hash("cap_hash", &data[i].hash);
        printf(",\"size\":\"%" PRIu64 "\",", data[i].size);
        print_body(&data[i].body, &arena, &data[i].hash);
        printf("}");
        comma = ",";
        cap_data_free(&data[i]);
    }
    printf("]}\n");
    cap_image_free(&image);
}

static void judge(struct cap_bytes upload)
{
    /* Only the head may be looked at: hand over a copy of exactly that, so that a sanitizer sees
     * more. */
    size_t head_len = upload.len;
    if (cap_wire_image_head_len(upload, upload.len, &head_len) != CAP_OK) {
        head_len = upload.len;
    }
    uint8_t *head = malloc(head_len + 1);
    if (head == NULL) {
        fail("head", CAP_E_NO_MEMORY);
    }
    memcpy(head, upload.data, head_len);
    struct cap_wire_image image;
    enum cap_error error = cap_deblob((struct cap_bytes){head, head_len}, upload.len, &image, NULL);
    if (error == CAP_OK) {
        print_accepted(&image, upload);
    } else {
        printf("{\"verdict\":\"%s\"}\n", cap_error_name(error));
    }
    free(head);
}

int main(void)
{
    uint8_t prefix[4];
    while (fread(prefix, sizeof(prefix), 1, stdin) == 1) {
        size_t len = cap_load32(prefix);
        if (len > MAX_UPLOAD) {
            fail("upload", CAP_E_UPLOAD_TOO_LARGE);
        }
        uint8_t *bytes = malloc(len + 1);
        if (bytes == NULL || fread(bytes, 1, len, stdin) != len) {
            fail("upload", CAP_E_IO);
        }
        judge((struct cap_bytes){bytes, len});
        fflush(stdout);
        free(bytes);
    }
    return 0;
}
