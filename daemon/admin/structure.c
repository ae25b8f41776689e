/*
 * Reads an Image without its code.
 *
 * The code is the first variable field of the body, so what precedes it is the fixed part and what
 * follows is the rest. Cutting it out and moving the other offsets back by its length leaves the
 * canonical body of the same Image without code, which lib/cap decodes as it decodes any.
 */
#include "daemon/admin/explain_image.h"

#include "daemon/admin/body_reader.h"

#define IMAGE_FIELDS 8u
#define IMAGE_FIXED  (IMAGE_FIELDS * CAP_SSZ_OFFSET_SIZE) /* the container's fixed part */
#define IMAGE_FRONT  (1u + IMAGE_FIXED)                   /* with the selector before it */

/* Finds the code's length and moves the offsets of the other fields; CAP_E_CORRUPT. */
static enum cap_error cut_code(uint8_t *front, uint64_t body_len, uint64_t *ret_code_len)
{
    uint32_t after_code = cap_load32(front + 1 + CAP_SSZ_OFFSET_SIZE);
    if (after_code < IMAGE_FIXED || after_code > body_len - 1) {
        return CAP_E_CORRUPT;
    }
    uint32_t code_len = after_code - IMAGE_FIXED;
    for (unsigned i = 1; i < IMAGE_FIELDS; i++) {
        uint8_t *at = front + 1 + i * CAP_SSZ_OFFSET_SIZE;
        if (cap_load32(at) < after_code) {
            return CAP_E_CORRUPT;
        }
        cap_store32(at, cap_load32(at) - code_len);
    }
    *ret_code_len = code_len;
    return CAP_OK;
}

/* Appends what follows the code. */
static enum cap_error read_rest(struct cap_read *read, const struct cap_hash *hash,
                                uint64_t body_len, struct admin_structure *structure)
{
    uint64_t from = IMAGE_FRONT + structure->code_len;
    if (body_len - from > ADMIN_EXPLAIN_MAX) {
        return CAP_E_STRUCTURE_TOO_LARGE;
    }
    size_t len = (size_t)(body_len - from);
    enum cap_error error = cap_buf_append_zeros(&structure->body, len);
    if (error != CAP_OK) {
        return error;
    }
    return admin_body_copy(read, hash, from, structure->body.data + IMAGE_FRONT, len);
}

enum cap_error admin_structure_read(struct cap_read *read, const struct cap_hash *hash,
                                    uint64_t body_len, struct admin_structure *ret_structure)
{
    struct admin_structure structure = {.code_len = 0};
    if (body_len < IMAGE_FRONT) {
        return CAP_E_CORRUPT;
    }
    enum cap_error error = cap_buf_append_zeros(&structure.body, IMAGE_FRONT);
    if (error == CAP_OK) {
        error = admin_body_copy(read, hash, 0, structure.body.data, IMAGE_FRONT);
    }
    if (error == CAP_OK) {
        error = cut_code(structure.body.data, body_len, &structure.code_len);
    }
    if (error == CAP_OK) {
        error = read_rest(read, hash, body_len, &structure);
    }
    if (error == CAP_OK &&
        cap_image_view_decode(cap_buf_bytes(&structure.body), &structure.view) != CAP_OK) {
        error = CAP_E_CORRUPT;
    }
    if (error != CAP_OK) {
        admin_structure_free(&structure);
        return error;
    }
    *ret_structure = structure;
    return CAP_OK;
}

void admin_structure_free(struct admin_structure *structure)
{
    cap_buf_free(&structure->body);
}
