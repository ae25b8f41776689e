/*
 * Verifies a long body while it arrives: on the calling thread, or on one of its own, so that one
 * core hashes while the other receives.
 */
#ifndef CLIENT_LIB_VERIFY_H
#define CLIENT_LIB_VERIFY_H

#include "lib/cap/verify.h"

/* Opaque. Belongs to the thread of its handle, whatever thread hashes. */
struct client_verify;

/* For a body of `body_len` bytes; with `may_thread` on a thread of its own, if it is worth one and
 * one can be started. CAP_E_NO_MEMORY. Release with client_verify_free. */
enum cap_error client_verify_new(uint64_t body_len, bool may_thread,
                                 struct client_verify **ret_verify);

/*
 * Hashes what has come, as cap_verifier_take. With a thread it only tells it, and may return a
 * failure that an earlier piece caused; `front` stays where it is until client_verify_pause.
 */
enum cap_error client_verify_take(struct client_verify *verify, struct cap_bytes front);

/* Waits until no byte of the body is being read: it may be moved then. NULL is fine. */
void client_verify_pause(struct client_verify *verify);

/* Hashes the rest and judges the whole body, as cap_verifier_finish; it may be moved afterwards. */
enum cap_error client_verify_finish(struct client_verify *verify, struct cap_bytes body,
                                    enum cap_kind *ret_kind, struct cap_hash *ret_hash);

/* Ends the thread. The body may be moved or released afterwards. NULL is fine. */
void client_verify_free(struct client_verify *verify);

#endif
