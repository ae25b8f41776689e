/*
 * Of an Image the code is nearly all: its blocks are hashed as they come, and the few bytes around
 * it at the end. A Data cap is rebuilt page by page once its references are there.
 */
#include "lib/cap/verify.h"

#include <stdlib.h>

#include "lib/cap/data_cap.h"
#include "lib/cap/layout.h"
#include "lib/cap/must.h"

/* Blocks of code that are hashed in one run: fewer keep the kernel short of pairs. */
#define RUN_LEN (CAP_BLOCKS_TOGETHER * CAP_BLOCK_SIZE)

struct cap_verifier {
    uint64_t body_len;
    size_t taken; /* bytes of the body that were there */
    enum cap_kind kind;
    bool begun; /* what precedes the code or the arena is there */

    struct cap_byte_tree code; /* Image */
    uint64_t code_len;

    struct cap_source source; /* Data: of the bytes of the last call */
    struct cap_bytes bytes;
    struct cap_data_rebuild *rebuild;
};

enum cap_error cap_verifier_new(uint64_t body_len, struct cap_verifier **ret_verifier)
{
    struct cap_verifier *verifier = calloc(1, sizeof(*verifier));
    if (verifier == NULL) {
        return CAP_E_NO_MEMORY;
    }
    verifier->body_len = body_len;
    cap_byte_tree_init(&verifier->code);
    *ret_verifier = verifier;
    return CAP_OK;
}

void cap_verifier_free(struct cap_verifier *verifier)
{
    if (verifier == NULL) {
        return;
    }
    cap_data_rebuild_free(verifier->rebuild);
    free(verifier);
}

/* ---- Image ---- */

static enum cap_error begin_image(struct cap_verifier *verifier, struct cap_bytes front)
{
    uint8_t cut[CAP_IMAGE_FRONT];
    if (front.len < sizeof(cut)) {
        return CAP_OK;
    }
    memcpy(cut, front.data, sizeof(cut));
    verifier->begun = true;
    return cap_image_cut_code(cut, verifier->body_len, &verifier->code_len);
}

/* Hashes the code that is there, in whole runs as long as more will come. */
static void take_code(struct cap_verifier *verifier, struct cap_bytes front)
{
    uint64_t there = front.len - CAP_IMAGE_FRONT;
    if (there > verifier->code_len) {
        there = verifier->code_len;
    }
    uint64_t done = verifier->code.len;
    uint64_t len = there - done;
    if (there < verifier->code_len) {
        len -= len % RUN_LEN;
    }
    if (len > 0) {
        cap_byte_tree_update(&verifier->code, front.data + CAP_IMAGE_FRONT + done, (size_t)len);
    }
}

static enum cap_error finish_image(struct cap_verifier *verifier, struct cap_bytes body,
                                   struct cap_hash *ret_hash)
{
    struct cap_image_view view;
    struct cap_hash code_root;
    enum cap_error error = cap_image_view_decode(body, &view);
    if (error != CAP_OK) {
        return error;
    }
    must(view.code.len == verifier->code.len);
    cap_byte_tree_list_root(&verifier->code, &code_root);
    cap_image_parts_hash(&view, &code_root, ret_hash);
    return CAP_OK;
}

/* ---- Data ---- */

static enum cap_error begin_data(struct cap_verifier *verifier, struct cap_bytes front)
{
    uint64_t head_len;
    if (front.len < CAP_DATA_BODY_FIXED) {
        return CAP_OK;
    }
    enum cap_error error = cap_data_body_head_len(front, verifier->body_len, &head_len);
    if (error != CAP_OK || front.len < head_len) {
        return error;
    }
    verifier->begun = true;
    verifier->source = cap_source_memory(&verifier->bytes);
    return cap_data_rebuild_new(&verifier->source, verifier->body_len, &verifier->rebuild);
}

static enum cap_error finish_data(struct cap_verifier *verifier, struct cap_hash *ret_hash)
{
    struct cap_data data;
    enum cap_error error = cap_data_rebuild_finish(verifier->rebuild, &data);
    if (error == CAP_OK) {
        *ret_hash = data.hash;
        cap_data_free(&data);
    }
    return error;
}

/* ---- both ---- */

static enum cap_error begin(struct cap_verifier *verifier, struct cap_bytes front)
{
    if (front.len == 0) {
        return CAP_OK;
    }
    if (front.data[0] == CAP_KIND_DATA) {
        verifier->kind = CAP_KIND_DATA;
        return begin_data(verifier, front);
    }
    if (front.data[0] == CAP_KIND_IMAGE) {
        verifier->kind = CAP_KIND_IMAGE;
        return begin_image(verifier, front);
    }
    return CAP_E_BODY_NOT_CANONICAL;
}

enum cap_error cap_verifier_take(struct cap_verifier *verifier, struct cap_bytes front)
{
    must(front.len >= verifier->taken && front.len <= verifier->body_len);
    verifier->taken = front.len;
    verifier->bytes = front;
    enum cap_error error = verifier->begun ? CAP_OK : begin(verifier, front);
    if (error != CAP_OK || !verifier->begun) {
        return error;
    }
    if (verifier->kind == CAP_KIND_IMAGE) {
        take_code(verifier, front);
        return CAP_OK;
    }
    verifier->source.memory = front.data;
    return cap_data_rebuild_some(verifier->rebuild, front.len);
}

enum cap_error cap_verifier_finish(struct cap_verifier *verifier, struct cap_bytes body,
                                   enum cap_kind *ret_kind, struct cap_hash *ret_hash)
{
    if (body.len != verifier->body_len) {
        return CAP_E_BODY_NOT_CANONICAL;
    }
    enum cap_error error = cap_verifier_take(verifier, body);
    if (error == CAP_OK && !verifier->begun) {
        error = CAP_E_BODY_NOT_CANONICAL;
    }
    if (error == CAP_OK && verifier->kind == CAP_KIND_IMAGE) {
        error = finish_image(verifier, body, ret_hash);
    } else if (error == CAP_OK) {
        error = finish_data(verifier, ret_hash);
    }
    if (error == CAP_OK) {
        *ret_kind = verifier->kind;
    }
    return error;
}
