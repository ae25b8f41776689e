/*
 * A served body is hashed while it arrives: each piece as soon as it is there, when its bytes are
 * still in the cache, so that little is left to do when the last one has come.
 *
 * Everything is pure. A verifier belongs to one thread at a time.
 */
#ifndef LIB_CAP_VERIFY_H
#define LIB_CAP_VERIFY_H

#include "lib/cap/bytes.h"
#include "lib/cap/constants.h"

/* Opaque. */
struct cap_verifier;

/* A verifier of a body of `body_len` bytes, which need not be true: memory is taken for what
 * arrives. CAP_E_NO_MEMORY. Release with cap_verifier_free. */
enum cap_error cap_verifier_new(uint64_t body_len, struct cap_verifier **ret_verifier);

/*
 * Hashes what is complete of the body, whose first bytes are `front`: those of the last call and
 * more, at any address, at most body_len. Borrowed for the call. CAP_E_BODY_NOT_CANONICAL as soon
 * as the body cannot become canonical, CAP_E_NO_MEMORY; after a failure the verifier can only be
 * freed.
 */
enum cap_error cap_verifier_take(struct cap_verifier *verifier, struct cap_bytes front);

/*
 * Judges the whole body as cap_body_hash does and computes its CapHash. The verifier can only be
 * freed afterwards. CAP_E_BODY_NOT_CANONICAL, CAP_E_NO_MEMORY.
 */
enum cap_error cap_verifier_finish(struct cap_verifier *verifier, struct cap_bytes body,
                                   enum cap_kind *ret_kind, struct cap_hash *ret_hash);

/* NULL is fine. */
void cap_verifier_free(struct cap_verifier *verifier);

#endif
