#include "daemon/admin/structure.h"

#include "daemon/admin/body_reader.h"

/* Appends what follows the code. */
static enum cap_error read_rest(struct cap_read *read, const struct cap_hash *hash,
                                uint64_t body_len, struct admin_structure *structure)
{
    uint64_t from = CAP_IMAGE_FRONT + structure->code_len;
    if (body_len - from > ADMIN_EXPLAIN_MAX) {
        return CAP_E_STRUCTURE_TOO_LARGE;
    }
    size_t len = (size_t)(body_len - from);
    enum cap_error error = cap_buf_append_zeros(&structure->body, len);
    if (error != CAP_OK) {
        return error;
    }
    return admin_body_copy(read, hash, from, structure->body.data + CAP_IMAGE_FRONT, len);
}

enum cap_error admin_structure_read(struct cap_read *read, const struct cap_hash *hash,
                                    uint64_t body_len, struct admin_structure *ret_structure)
{
    struct admin_structure structure = {.code_len = 0};
    if (body_len < CAP_IMAGE_FRONT) {
        return CAP_E_CORRUPT;
    }
    enum cap_error error = cap_buf_append_zeros(&structure.body, CAP_IMAGE_FRONT);
    if (error == CAP_OK) {
        error = admin_body_copy(read, hash, 0, structure.body.data, CAP_IMAGE_FRONT);
    }
    if (error == CAP_OK) {
        error = cap_image_cut_code(structure.body.data, body_len, &structure.code_len);
        error = error == CAP_E_BODY_NOT_CANONICAL ? CAP_E_CORRUPT : error;
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
