/*
 * The deblob, offline: a daemon's verdict on a wire Image and the hashes it would yield.
 *
 * Only the structure before the arena is held in memory; the arena is read from the source, once
 * for the content hash and once more by the slots that name it. The roots of its blocks, 32 bytes
 * for 4 KiB, are kept in between: what code and slots share with them is hashed once.
 */
#include <capstore/publish.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/lib/internal.h"
#include "lib/cap/deblob.h"
#include "lib/cap/lint.h"

#define STEP ((size_t)1 << 20) /* read at a time: few calls, little memory */

_Static_assert(CAPSTORE_MESSAGE_SIZE >= CAP_REFUSAL_MESSAGE_SIZE, "a refusal's message fits");

/* The public part comes first, so that capstore_check_free finds the rest. */
struct check {
    struct capstore_check_result public;
    struct cap_buf head;
    struct capstore_check_data *data;
    struct capstore_check_image *images;
    struct capstore_warning *warnings;
    struct cap_hash *block_roots; /* of the arena */
    size_t warning_capacity;
    enum cap_error lint_error;
};

static void refuse(struct check *check, enum cap_error error, const char *message)
{
    check->public.error = client_public(error);
    snprintf(check->public.message, sizeof(check->public.message), "%s",
             message != NULL && message[0] != '\0' ? message : cap_error_text(error));
}

/* Rules 0 to 10. CAP_OK with public.error telling; another error when the bytes cannot be read. */
static enum cap_error judge(struct check *check, const struct capstore_source *wire,
                            struct cap_wire_image *ret_image)
{
    enum cap_error error = client_read_head(wire, &check->head);
    if (error != CAP_OK && error != CAP_E_SSZ) {
        return error;
    }
    struct cap_refusal refusal = {.error = CAP_OK, .message = ""};
    error = cap_deblob(cap_buf_bytes(&check->head), wire->len, ret_image, &refusal);
    if (error != CAP_OK) {
        refuse(check, error, refusal.message);
    }
    return CAP_OK;
}

static enum cap_error content_hash(struct check *check, const struct capstore_source *wire,
                                   const struct cap_wire_image *image)
{
    struct cap_byte_tree *tree = malloc(sizeof(*tree));
    uint8_t *step = malloc(STEP);
    check->block_roots = malloc((cap_block_count(image->arena_len) + 1) * sizeof(struct cap_hash));
    bool memory = tree != NULL && step != NULL && check->block_roots != NULL;
    enum cap_error error = memory ? CAP_OK : CAP_E_NO_MEMORY;
    if (error == CAP_OK) {
        cap_byte_tree_init(tree);
        tree->ret_block_roots = check->block_roots;
    }
    for (uint64_t at = image->head.len; error == CAP_OK && at < wire->len;) {
        size_t len = wire->len - at < STEP ? (size_t)(wire->len - at) : STEP;
        error = client_inner(wire->read(wire->ctx, at, step, len));
        if (error == CAP_OK) {
            cap_byte_tree_update(tree, step, len);
        }
        at += len;
    }
    if (error == CAP_OK) {
        struct cap_hash root;
        struct cap_hash hash;
        cap_byte_tree_list_root(tree, &root);
        error = cap_wire_image_content_hash(image, &root, NULL, &hash);
        if (error == CAP_OK) {
            check->public.content_hash = client_hash(&hash);
        }
    }
    free(step);
    free(tree);
    return error;
}

/* Names one slot's cap and lists it. */
static enum cap_error add_slot(struct check *check, const struct cap_wire_slot *slot,
                               const struct cap_source *arena, struct cap_window_memo *memo,
                               struct cap_hash *ret_hash)
{
    if (slot->kind == CAP_KIND_IMAGE) {
        check->images[check->public.image_count++] = (struct capstore_check_image){
            client_bytes(slot->key), client_hash(&slot->content_hash)};
        *ret_hash = slot->content_hash;
        return CAP_OK;
    }
    struct cap_data data;
    enum cap_error error = cap_data_from_desc(&slot->desc, arena, UINT64_MAX, memo, &data);
    if (error != CAP_OK) {
        return error;
    }
    check->data[check->public.data_count++] = (struct capstore_check_data){
        .table = client_table(slot->table),
        .slot = client_bytes(slot->key),
        .size = data.size,
        .cap_hash = client_hash(&data.hash),
        .body_len = data.body.len,
    };
    *ret_hash = data.hash;
    cap_data_free(&data);
    return CAP_OK;
}

static enum cap_error convert(struct check *check, const struct cap_wire_image *image,
                              const struct cap_source *arena)
{
    size_t count = cap_wire_slot_count(image);
    check->data = calloc(count + 1, sizeof(*check->data));
    check->images = calloc(count + 1, sizeof(*check->images));
    struct cap_hash *hashes = calloc(count + 1, sizeof(*hashes));
    struct cap_window_memo *memo = NULL;
    enum cap_error error = CAP_E_NO_MEMORY;
    if (check->data != NULL && check->images != NULL && hashes != NULL) {
        error = cap_window_memo_new(image->head.len / CAP_PAGE_REF_SIZE, &memo);
    }
    for (size_t i = 0; error == CAP_OK && i < count; i++) {
        struct cap_wire_slot slot;
        cap_wire_slot_at(image, i, &slot);
        error = add_slot(check, &slot, arena, memo, &hashes[i]);
    }
    if (error == CAP_OK) {
        struct cap_image converted;
        error = cap_image_from_wire(image, hashes, arena, &converted);
        if (error == CAP_OK) {
            check->public.cap_hash = client_hash(&converted.hash);
            check->public.body_len = converted.body.len;
            cap_image_free(&converted);
        }
    }
    cap_window_memo_free(memo);
    free(hashes);
    return error;
}

static bool warning_has_value(enum cap_warning_reason reason)
{
    switch (reason) {
    case CAP_WARN_MAPPING_OUT_OF_RANGE:
    case CAP_WARN_MAPPINGS_OVERLAP:
    case CAP_WARN_SOURCE_NOT_A_SLOT:
    case CAP_WARN_MAPPING_LARGER_THAN_DATA:
    case CAP_WARN_ENTRY_OUTSIDE_CODE:
    case CAP_WARN_ARENA_UNUSED:
        return true;
    case CAP_WARN_SLOT_IN_BOTH_TABLES:
        return false;
    }
    return false;
}

static void add_warning(void *ctx, const struct cap_warning *warning)
{
    struct check *check = ctx;
    if (check->public.warning_count == check->warning_capacity) {
        size_t capacity = check->warning_capacity == 0 ? 8 : 2 * check->warning_capacity;
        struct capstore_warning *grown =
            realloc(check->warnings, capacity * sizeof(*check->warnings));
        if (grown == NULL) {
            check->lint_error = CAP_E_NO_MEMORY;
            return;
        }
        check->warnings = grown;
        check->warning_capacity = capacity;
    }
    check->warnings[check->public.warning_count++] = (struct capstore_warning){
        .reason = cap_warning_name(warning->reason),
        .text = cap_warning_text(warning->reason),
        .has_key = warning->has_key,
        .key = client_bytes(warning->key),
        .has_index = warning->has_index,
        .index = warning->index,
        .has_other_index = warning->reason == CAP_WARN_MAPPINGS_OVERLAP,
        .other_index = warning->other_index,
        .has_value = warning_has_value(warning->reason),
        .value = warning->value,
    };
}

static enum cap_error run(struct check *check, const struct capstore_source *wire)
{
    struct cap_wire_image image;
    enum cap_error error = judge(check, wire, &image);
    if (error != CAP_OK || check->public.error != CAPSTORE_OK) {
        return error;
    }
    struct client_window window = {*wire, image.head.len};
    struct cap_source arena = client_window_source(&window);
    check->public.code_len = image.code_len;
    error = content_hash(check, wire, &image);
    if (error == CAP_OK) {
        arena.block_roots = check->block_roots;
        arena.block_count = (size_t)(image.arena_len / CAP_BLOCK_SIZE);
        error = convert(check, &image, &arena);
    }
    free(check->block_roots);
    check->block_roots = NULL;
    if (error == CAP_OK) {
        error = cap_lint(&image, add_warning, check);
    }
    return error == CAP_OK ? check->lint_error : error;
}

enum capstore_error capstore_check(const struct capstore_source *wire,
                                   struct capstore_check_result **ret_check)
{
    struct check *check = calloc(1, sizeof(*check));
    if (check == NULL) {
        return CAPSTORE_E_NO_MEMORY;
    }
    enum cap_error error = run(check, wire);
    check->public.data = check->data;
    check->public.images = check->images;
    check->public.warnings = check->warnings;
    if (error != CAP_OK) {
        capstore_check_free(&check->public);
        return client_public(error);
    }
    *ret_check = &check->public;
    return CAPSTORE_OK;
}

void capstore_check_free(struct capstore_check_result *check)
{
    if (check == NULL) {
        return;
    }
    struct check *whole = (struct check *)check;
    cap_buf_free(&whole->head);
    free(whole->data);
    free(whole->images);
    free(whole->warnings);
    free(whole);
}
