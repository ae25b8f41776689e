#include "tests/conformance/made.h"

#include <stdlib.h>

#include "lib/cap/data_cap.h"
#include "lib/cap/deblob.h"
#include "lib/cap/image_cap.h"

struct taker {
    void (*take)(void *ctx, struct cap_bytes body, const struct cap_hash *hash);
    void *ctx;
};

static enum cap_error give(const struct taker *taker, const struct cap_body *body,
                           const struct cap_source *arena, const struct cap_hash *hash)
{
    struct cap_buf bytes = {0};
    enum cap_error error = cap_buf_append_zeros(&bytes, (size_t)body->len);
    if (error == CAP_OK) {
        error = cap_body_read(body, arena, 0, bytes.data, bytes.len);
    }
    if (error == CAP_OK) {
        taker->take(taker->ctx, cap_buf_bytes(&bytes), hash);
    }
    cap_buf_free(&bytes);
    return error;
}

static enum cap_error give_slots(const struct taker *taker, const struct cap_wire_image *wire,
                                 const struct cap_source *arena, struct cap_hash *hashes)
{
    enum cap_error error = CAP_OK;
    for (size_t i = 0; error == CAP_OK && i < cap_wire_slot_count(wire); i++) {
        struct cap_wire_slot slot;
        struct cap_data data;
        cap_wire_slot_at(wire, i, &slot);
        hashes[i] = slot.content_hash;
        if (slot.kind != CAP_KIND_DATA) {
            continue;
        }
        error = cap_data_from_desc(&slot.desc, arena, UINT64_MAX, NULL, &data);
        if (error == CAP_OK) {
            hashes[i] = data.hash;
            error = give(taker, &data.body, arena, &data.hash);
            cap_data_free(&data);
        }
    }
    return error;
}

enum cap_error
made_caps(struct cap_bytes upload,
          void (*take)(void *ctx, struct cap_bytes body, const struct cap_hash *hash), void *ctx)
{
    const struct taker taker = {take, ctx};
    struct cap_wire_image wire;
    enum cap_error error = cap_deblob(upload, upload.len, &wire, NULL);
    if (error != CAP_OK) {
        return error;
    }
    struct cap_bytes arena_bytes = cap_bytes_slice(upload, wire.head.len, (size_t)wire.arena_len);
    struct cap_source arena = cap_source_memory(&arena_bytes);
    struct cap_hash *hashes = calloc(cap_wire_slot_count(&wire) + 1, sizeof(*hashes));
    struct cap_image image;
    if (hashes == NULL) {
        return CAP_E_NO_MEMORY;
    }
    error = give_slots(&taker, &wire, &arena, hashes);
    if (error == CAP_OK) {
        error = cap_image_from_wire(&wire, hashes, &arena, &image);
    }
    if (error == CAP_OK) {
        error = give(&taker, &image.body, &arena, &image.hash);
        cap_image_free(&image);
    }
    free(hashes);
    return error;
}
