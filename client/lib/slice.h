/* Fetching slices: asked for, checked while they arrive, handed on as far as they are proven. */
#ifndef CLIENT_LIB_SLICE_H
#define CLIENT_LIB_SLICE_H

#include "client/lib/conn.h"
#include "lib/cap/slice_verify.h"

/* Whether slices can be asked for over this connection. */
bool client_slice_offered(const struct capstore *store);

/*
 * Asks for a slice with these ranges, which are canonical, as one blocking call that has begun.
 * What is proven goes to `sink`, and the bytes as they came to `write`, unless it is NULL; both are
 * called while the store is in use. The message says where a slice is wrong. As capstore_slice
 * fails.
 */
enum cap_error client_slice(struct capstore *store, const struct cap_hash *hash,
                            const struct cap_range *ranges, size_t count,
                            const struct cap_slice_sink *sink, capstore_write_cb *write, void *ctx);

/* The Image of a proven head, without its code. The caller owns *ret_cap. CAP_E_NO_MEMORY. */
enum cap_error client_slice_image(const struct cap_slice_head *head, const struct cap_hash *hash,
                                  struct capstore_cap **ret_cap);

#endif
