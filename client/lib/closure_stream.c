#include "client/lib/closure_stream.h"

#include <stdlib.h>

#include "lib/cap/hash_set.h"
#include "proto/message.h"

#define CAPS_MOST ((size_t)1 << 20) /* options.max_caps by default: 48 MiB are remembered then */

struct client_closure_stream {
    bool list;
    bool several;
    client_entry_cb *pass;
    void *ctx;
    uint8_t head[PROTO_ENTRY_SIZE];
    size_t filled; /* bytes of the head at hand */
    uint64_t left; /* bytes of the body behind it */
    bool known;    /* the entry at hand came with an earlier root */

    struct cap_buf hashes; /* of several roots: what has come */
    struct cap_hash_set set;
};

struct client_closure_stream *client_closure_stream_new(bool list, bool several,
                                                        client_entry_cb *pass, void *ctx)
{
    struct client_closure_stream *stream = calloc(1, sizeof(*stream));
    if (stream != NULL) {
        stream->list = list;
        stream->several = several;
        stream->pass = pass;
        stream->ctx = ctx;
    }
    return stream;
}

void client_closure_stream_free(struct client_closure_stream *stream)
{
    if (stream != NULL) {
        cap_hash_set_free(&stream->set);
        cap_buf_free(&stream->hashes);
        free(stream);
    }
}

/* Notes a cap; *ret_known whether it was noted before. */
static enum cap_error note(struct client_closure_stream *stream, const struct cap_hash *hash,
                           bool *ret_known)
{
    *ret_known = false;
    if (!stream->several) {
        return CAP_OK;
    }
    /* An array of hashes: they are bytes, without any alignment. */
    const struct cap_hash *hashes = (const struct cap_hash *)(const void *)stream->hashes.data;
    *ret_known = cap_hash_set_find(&stream->set, hashes, hash) != CAP_HASH_ABSENT;
    if (*ret_known) {
        return CAP_OK;
    }
    size_t count = stream->hashes.len / CAP_HASH_SIZE;
    if (count == CAPS_MOST) {
        return CAP_E_CLOSURE_TOO_LARGE;
    }
    enum cap_error error = cap_buf_append(&stream->hashes, hash->bytes, sizeof(hash->bytes));
    if (error == CAP_OK) {
        hashes = (const struct cap_hash *)(const void *)stream->hashes.data;
        error = cap_hash_set_insert(&stream->set, hashes, count);
    }
    return error;
}

/* Takes the head at hand, which is complete. */
static enum cap_error take_head(struct client_closure_stream *stream)
{
    struct proto_entry entry;
    stream->filled = 0;
    if (proto_entry_decode(stream->head, &entry) != CAP_OK) {
        return CAP_E_BAD_REPLY;
    }
    enum cap_error error = note(stream, &entry.hash, &stream->known);
    if (error == CAP_OK) {
        stream->left = stream->list ? 0 : entry.body_len;
    }
    if (error == CAP_OK && !stream->known) {
        stream->pass(stream->ctx, (struct cap_bytes){stream->head, sizeof(stream->head)});
    }
    return error;
}

enum cap_error client_closure_stream_take(struct client_closure_stream *stream,
                                          struct cap_bytes bytes)
{
    enum cap_error error = CAP_OK;
    while (error == CAP_OK && bytes.len > 0) {
        bool body = stream->left > 0;
        uint64_t wanted = body ? stream->left : sizeof(stream->head) - stream->filled;
        size_t some = bytes.len < wanted ? bytes.len : (size_t)wanted;
        const struct cap_bytes piece = {bytes.data, some};
        bytes = (struct cap_bytes){bytes.data + some, bytes.len - some};
        if (body) {
            stream->left -= some;
            if (!stream->known) {
                stream->pass(stream->ctx, piece);
            }
            continue;
        }
        memcpy(stream->head + stream->filled, piece.data, piece.len);
        stream->filled += piece.len;
        if (stream->filled == sizeof(stream->head)) {
            error = take_head(stream);
        }
    }
    return error;
}

bool client_closure_stream_is_whole(const struct client_closure_stream *stream)
{
    return stream->filled == 0 && stream->left == 0;
}

enum cap_error client_closure_stream_absent(struct client_closure_stream *stream,
                                            const struct cap_hash *hash)
{
    const struct proto_entry entry = {.hash = *hash};
    uint8_t head[PROTO_ENTRY_SIZE];
    bool known;
    enum cap_error error = note(stream, hash, &known);
    if (error == CAP_OK && !known) {
        proto_entry_encode(&entry, head);
        stream->pass(stream->ctx, (struct cap_bytes){head, sizeof(head)});
    }
    return error;
}
