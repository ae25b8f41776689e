#include "daemon/admin/structure.h"

#include "daemon/admin/body_reader.h"
#include "lib/cap/refusal.h"

/* A stored body as a source. */
struct stored {
    struct cap_read *read;
    const struct cap_hash *hash;
};

static enum cap_error read_stored(void *ctx, uint64_t offset, void *dst, size_t len)
{
    const struct stored *stored = ctx;
    return admin_body_copy(stored->read, stored->hash, offset, dst, len);
}

enum cap_error admin_structure_read(struct cap_read *read, const struct cap_hash *hash,
                                    uint64_t body_len, struct cap_structure *ret_structure)
{
    struct stored stored = {read, hash};
    const struct cap_source body = {.read = read_stored, .ctx = &stored};
    struct cap_refusal refusal = {.error = CAP_OK};
    enum cap_error error =
        cap_structure_read(&body, body_len, ADMIN_EXPLAIN_MAX, ret_structure, &refusal);
    bool judged = refusal.error != CAP_OK && error != CAP_E_STRUCTURE_TOO_LARGE;
    return judged ? CAP_E_CORRUPT : error; /* what was admitted was a sound body */
}
