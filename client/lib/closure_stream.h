/*
 * The entries of several closures as those of one: what has come with an earlier root is left out.
 * Pure; every byte is hostile, and one of another meaning is for those who verify the entries.
 */
#ifndef CLIENT_LIB_CLOSURE_STREAM_H
#define CLIENT_LIB_CLOSURE_STREAM_H

#include "lib/cap/bytes.h"

struct client_closure_stream;

/* What takes the bytes that are passed on: heads, and bodies in pieces. */
typedef void client_entry_cb(void *ctx, struct cap_bytes bytes);

/* `list`: no bodies follow the heads. `several`: of more than one root. NULL without memory. */
struct client_closure_stream *client_closure_stream_new(bool list, bool several,
                                                        client_entry_cb *pass, void *ctx);

/* Takes bytes of the answer for one root. CAP_E_BAD_REPLY: they are not entries;
 * CAP_E_CLOSURE_TOO_LARGE: more caps than can be remembered; CAP_E_NO_MEMORY. */
enum cap_error client_closure_stream_take(struct client_closure_stream *stream,
                                          struct cap_bytes bytes);

/* Whether what came ends with an entry: what comes next is of another root. */
bool client_closure_stream_is_whole(const struct client_closure_stream *stream);

/* Makes the entry of a root that is not there. Errors as client_closure_stream_take. */
enum cap_error client_closure_stream_absent(struct client_closure_stream *stream,
                                            const struct cap_hash *hash);

/* NULL is fine. */
void client_closure_stream_free(struct client_closure_stream *stream);

#endif
