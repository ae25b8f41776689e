/*
 * Feeds arbitrary bytes to the decoders of lib/cap: as a wire Image, and as a served body.
 *
 * What must hold: nothing is read past the input (the head is handed over in an allocation of
 * its own); what decodes, encodes to the same bytes again; an accepted Image converts, and its
 * bodies verify under the hashes that the conversion gave; a body that is accepted is the only
 * encoding of its cap, and there is a wire Image that becomes it.
 */
#include <stdlib.h>

#include "lib/cap/data_cap.h"
#include "lib/cap/deblob.h"
#include "lib/cap/image_cap.h"
#include "lib/cap/lint.h"
#include "lib/cap/refusal.h"
#include "lib/cap/structure.h"
#include "tests/conformance/encode.h"

#define MAX_SLOTS 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

/* The bytes of a body, which the caller frees. */
static struct cap_bytes materialize(const struct cap_body *body, const struct cap_source *source)
{
    uint8_t *bytes = malloc((size_t)body->len);
    require(bytes != NULL);
    require(cap_body_read(body, source, 0, bytes, (size_t)body->len) == CAP_OK);
    return (struct cap_bytes){bytes, (size_t)body->len};
}

static void verify(const struct cap_body *body, const struct cap_source *source,
                   const struct cap_hash *wanted)
{
    struct cap_bytes bytes = materialize(body, source);
    enum cap_kind kind;
    struct cap_hash hash;
    require(cap_body_hash(bytes, &kind, &hash) == CAP_OK);
    require(cap_hash_equal(&hash, wanted));
    free((void *)(uintptr_t)bytes.data);
}

/* What was decoded is what was encoded, and frees the encoding. */
static void require_same(struct cap_writer *again, struct cap_bytes bytes)
{
    require(again->error == CAP_OK);
    require(again->buf.len == bytes.len && memcmp(again->buf.data, bytes.data, bytes.len) == 0);
    cap_buf_free(&again->buf);
}

static void count_warning(void *ctx, const struct cap_warning *warning)
{
    require(cap_warning_name(warning->reason) != NULL);
    ++*(size_t *)ctx;
}

static void convert(const struct cap_wire_image *wire, struct cap_bytes arena_bytes)
{
    struct cap_source arena = cap_source_memory(&arena_bytes);
    size_t count = cap_wire_slot_count(wire);
    if (count > MAX_SLOTS) {
        return;
    }
    struct cap_hash hashes[MAX_SLOTS];
    for (size_t i = 0; i < count; i++) {
        struct cap_wire_slot slot;
        cap_wire_slot_at(wire, i, &slot);
        hashes[i] = slot.content_hash;
        if (slot.kind != CAP_KIND_DATA) {
            continue;
        }
        struct cap_data cap;
        require(cap_data_from_desc(&slot.desc, &arena, UINT64_MAX, NULL, &cap) == CAP_OK);
        verify(&cap.body, &arena, &cap.hash);
        hashes[i] = cap.hash;
        cap_data_free(&cap);
    }
    struct cap_image image;
    require(cap_image_from_wire(wire, hashes, &arena, &image) == CAP_OK);
    verify(&image.body, &arena, &image.hash);
    cap_image_free(&image);
}

static void try_wire_image(struct cap_bytes upload)
{
    size_t head_len;
    if (upload.len < CAP_WIRE_FIXED_SIZE ||
        cap_wire_image_head_len(upload, upload.len, &head_len) != CAP_OK) {
        struct cap_wire_image none;
        require(cap_wire_image_decode(upload, upload.len, &none) == CAP_E_SSZ);
        return;
    }
    require(head_len <= upload.len);
    uint8_t *head = malloc(head_len);
    require(head != NULL);
    memcpy(head, upload.data, head_len);
    struct cap_wire_image wire;
    if (cap_wire_image_decode((struct cap_bytes){head, head_len}, upload.len, &wire) == CAP_OK) {
        struct cap_bytes arena = cap_bytes_slice(upload, head_len, (size_t)wire.arena_len);
        struct cap_writer again = {0};
        encode_wire_image(&again, &wire, arena);
        require_same(&again, upload);
    }
    if (cap_deblob((struct cap_bytes){head, head_len}, upload.len, &wire, NULL) == CAP_OK) {
        size_t warnings = 0;
        require(cap_lint(&wire, count_warning, &warnings) == CAP_OK);
        convert(&wire, cap_bytes_slice(upload, head_len, (size_t)wire.arena_len));
    }
    free(head);
}

static void try_image_body(struct cap_bytes body, const struct cap_hash *hash)
{
    struct cap_image_view view;
    struct cap_writer again = {0};
    struct cap_image image;
    struct cap_structure structure;
    struct cap_source source = cap_source_memory(&body);
    require(cap_image_view_decode(body, &view) == CAP_OK);
    encode_image_body(&again, &view);
    require_same(&again, body);
    require(encode_is_reached(body, &view));
    require(cap_structure_read(&source, body.len, body.len, &structure, NULL) == CAP_OK);
    require(cap_image_from_body(&source, body.len, &structure.view, structure.code_len, &image) ==
            CAP_OK);
    require(cap_hash_equal(&image.hash, hash));
    cap_image_free(&image);
    cap_structure_free(&structure);
}

/* A body that is refused whole is refused in parts, and the refusal says why. */
static void try_refused(struct cap_bytes body)
{
    struct cap_structure structure;
    struct cap_refusal refusal = {.error = CAP_OK};
    struct cap_source source = cap_source_memory(&body);
    if (body.len > 0 && body.data[0] == CAP_KIND_IMAGE) {
        enum cap_error error =
            cap_structure_read(&source, body.len, body.len, &structure, &refusal);
        require(error != CAP_OK && refusal.error == error && refusal.message[0] != '\0');
    }
}

static void try_data_body(struct cap_bytes body, const struct cap_hash *hash)
{
    struct cap_source source = cap_source_memory(&body);
    struct cap_data cap;
    require(cap_data_from_body(&source, body.len, &cap) == CAP_OK);
    require(cap_hash_equal(&cap.hash, hash));
    struct cap_bytes again = materialize(&cap.body, &source);
    require(again.len == body.len && memcmp(again.data, body.data, body.len) == 0);
    free((void *)(uintptr_t)again.data);
    cap_data_free(&cap);
}

static void try_body(struct cap_bytes body)
{
    enum cap_kind kind;
    struct cap_hash hash;
    if (cap_body_hash(body, &kind, &hash) != CAP_OK) {
        try_refused(body);
        return;
    }
    if (kind == CAP_KIND_DATA) {
        try_data_body(body, &hash);
    } else {
        try_image_body(body, &hash);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cap_bytes input = {data, size};
    try_wire_image(input);
    try_body(input);
    return 0;
}
