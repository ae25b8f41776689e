/* Slices of a served body in memory, with roots and nodes that are computed here. */
#include <stdlib.h>

#include "lib/cap/data_cap.h"
#include "lib/cap/image_cap.h"
#include "lib/cap/slice_encode.h"

static enum cap_error open_data(const struct cap_source *source, struct cap_slice_body *parts)
{
    struct cap_data data;
    enum cap_error error = cap_data_from_body(source, parts->body.len, &data);
    if (error != CAP_OK) {
        return error;
    }
    parts->hash = data.hash;
    parts->subject.size = data.size;
    parts->subject.page_count = data.page_count;
    parts->roots = data.page_roots;
    parts->nodes = data.nodes;
    data.page_roots = NULL;
    data.nodes = (struct cap_nodes){0};
    cap_data_free(&data);
    return CAP_OK;
}

static enum cap_error open_image(const struct cap_source *source, struct cap_slice_body *parts)
{
    struct cap_image_view view;
    struct cap_image image;
    enum cap_error error = cap_image_view_decode(parts->body, &view);
    if (error == CAP_OK) {
        error = cap_image_from_body(source, parts->body.len, &view, view.code.len, &image);
    }
    if (error != CAP_OK) {
        return error;
    }
    parts->hash = image.hash;
    parts->subject.size = view.code.len;
    parts->roots = image.code_roots;
    parts->nodes = image.nodes;
    image.code_roots = NULL;
    image.nodes = (struct cap_nodes){0};
    cap_image_free(&image);
    return CAP_OK;
}

enum cap_error cap_slice_body_open(struct cap_bytes body, struct cap_slice_body *ret_parts)
{
    struct cap_source source = cap_source_memory(&body);
    struct cap_slice_body parts = {.body = body};
    if (body.len == 0) {
        return CAP_E_BODY_NOT_CANONICAL;
    }
    bool is_data = body.data[0] == CAP_KIND_DATA;
    parts.subject.kind = is_data ? CAP_KIND_DATA : CAP_KIND_IMAGE;
    parts.subject.body_len = body.len;
    enum cap_error error = is_data ? open_data(&source, &parts) : open_image(&source, &parts);
    if (error == CAP_OK) {
        parts.subject.node_counts = parts.nodes.counts;
        *ret_parts = parts;
    }
    return error;
}

static enum cap_error read_body(void *ctx, uint64_t offset, size_t len, uint8_t *dst)
{
    const struct cap_slice_body *parts = ctx;
    memcpy(dst, parts->body.data + offset, len);
    return CAP_OK;
}

static enum cap_error read_roots(void *ctx, uint64_t first, size_t count, struct cap_hash *dst)
{
    const struct cap_slice_body *parts = ctx;
    memcpy(dst, parts->roots + first, count * sizeof(*dst));
    return CAP_OK;
}

static enum cap_error read_nodes(void *ctx, uint64_t first, size_t count, struct cap_node *dst)
{
    const struct cap_slice_body *parts = ctx;
    memcpy(dst, parts->nodes.all + first, count * sizeof(*dst));
    return CAP_OK;
}

struct cap_slice_source cap_slice_body_source(struct cap_slice_body *parts)
{
    return (struct cap_slice_source){read_body, read_roots, read_nodes, parts};
}

void cap_slice_body_free(struct cap_slice_body *parts)
{
    if (parts == NULL) {
        return;
    }
    free(parts->roots);
    free(parts->nodes.all);
    *parts = (struct cap_slice_body){0};
}

static enum cap_error encode_all(struct cap_slice_body *parts, struct cap_slice_encoder *encoder,
                                 struct cap_buf *out)
{
    struct cap_slice_source source = cap_slice_body_source(parts);
    enum cap_error error = CAP_OK;
    for (bool done = false; error == CAP_OK && !done;) {
        size_t len;
        error = cap_buf_reserve(out, CAP_SLICE_ROOM);
        if (error == CAP_OK) {
            error = cap_slice_encoder_next(encoder, &source, out->data + out->len, CAP_SLICE_ROOM,
                                           &len, &done);
        }
        if (error == CAP_OK) {
            out->len += len;
        }
    }
    return error;
}

enum cap_error cap_slice_of_body(struct cap_bytes body, const struct cap_range *ranges,
                                 size_t count, struct cap_buf *out)
{
    struct cap_slice_body parts;
    struct cap_slice_encoder *encoder;
    enum cap_error error = cap_slice_body_open(body, &parts);
    if (error != CAP_OK) {
        return error;
    }
    error = cap_slice_encoder_new(&parts.subject, ranges, count, &encoder);
    if (error == CAP_OK) {
        error = encode_all(&parts, encoder, out);
        cap_slice_encoder_free(encoder);
    }
    cap_slice_body_free(&parts);
    return error;
}
