/* Structures of Image caps. */
#include "lib/cap/structure.h"

#include <inttypes.h>

#include "lib/cap/layout.h"
#include "lib/cap/refusal.h"

/* Reads the front, cuts the code out of it, then what follows the code. */
static enum cap_error read_parts(const struct cap_source *body, uint64_t body_len, uint64_t max_len,
                                 struct cap_structure *structure, struct cap_refusal *reterr)
{
    if (body_len < CAP_IMAGE_FRONT) {
        return cap_refuse(reterr, CAP_E_BODY_NOT_CANONICAL,
                          "%" PRIu64 " bytes; the body of an Image cap has at least %u", body_len,
                          CAP_IMAGE_FRONT);
    }
    enum cap_error error = cap_buf_append_zeros(&structure->bytes, CAP_IMAGE_FRONT);
    if (error == CAP_OK) {
        error = body->read(body->ctx, 0, structure->bytes.data, CAP_IMAGE_FRONT);
    }
    if (error != CAP_OK) {
        return error;
    }
    if (cap_image_cut_code(structure->bytes.data, body_len, &structure->code_len) != CAP_OK) {
        return cap_refuse(reterr, CAP_E_BODY_NOT_CANONICAL,
                          "the front is not that of an Image cap");
    }
    error = cap_image_judge_code(structure->code_len, reterr);
    if (error != CAP_OK) {
        return error;
    }
    uint64_t len = body_len - structure->code_len;
    if (len > max_len || len > SIZE_MAX) {
        return cap_refuse(reterr, CAP_E_STRUCTURE_TOO_LARGE,
                          "the structure takes %" PRIu64 " bytes; the limit is %" PRIu64, len,
                          max_len);
    }
    size_t rest = (size_t)len - CAP_IMAGE_FRONT;
    error = cap_buf_append_zeros(&structure->bytes, rest);
    if (error == CAP_OK && rest > 0) {
        error = body->read(body->ctx, CAP_IMAGE_FRONT + structure->code_len,
                           structure->bytes.data + CAP_IMAGE_FRONT, rest);
    }
    return error;
}

enum cap_error cap_structure_read(const struct cap_source *body, uint64_t body_len,
                                  uint64_t max_len, struct cap_structure *ret_structure,
                                  struct cap_refusal *reterr)
{
    struct cap_structure structure = {0};
    enum cap_error error = read_parts(body, body_len, max_len, &structure, reterr);
    if (error == CAP_OK) {
        error = cap_image_view_judge(cap_buf_bytes(&structure.bytes), &structure.view, reterr);
    }
    if (error != CAP_OK) {
        cap_structure_free(&structure);
        return error;
    }
    *ret_structure = structure;
    return CAP_OK;
}

void cap_structure_free(struct cap_structure *structure)
{
    if (structure != NULL) {
        cap_buf_free(&structure->bytes);
    }
}
