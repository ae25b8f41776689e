/*
 * The protocol, answered from HTTP: messages of the handle in, frames for it out.
 *
 *   HELLO    HEAD /healthz, whatever it says: that something there speaks HTTP is enough, and its
 *            header Capstore-Store names the store
 *   GET      GET /caps/HASH, with a Range unless all is asked for
 *   STAT     the first bytes of the body, by Range: they say the kind and the sizes
 *   HAS      the first byte of each body
 *   SLICE    GET /caps/HASH/slice
 *   CLOSURE  GET /closures/HASH for each root, one after the other
 *   CANCEL   gives up what is under way
 *
 * Everything else is refused by name: HTTP only reads.
 *
 * One thread, the translator's.
 */
#ifndef CLIENT_LIB_TRANSLATE_H
#define CLIENT_LIB_TRANSLATE_H

#include "client/lib/task.h"

/* Takes no ownership but of a copy of `base`. CAP_E_NO_MEMORY; release in any case. */
enum cap_error client_translator_init(struct client_translator *translator, CURLM *multi,
                                      const char *base, const char *agent, uint32_t timeout_ms,
                                      struct cap_buf *out);

/* Takes a frame of the handle's, which is ours and makes no mistakes: any is CAP_E_BAD_FRAME and
 * ends the stream. CAP_E_NO_MEMORY does, too. */
enum cap_error client_translate(struct client_translator *translator,
                                const struct proto_event *event);

/* Gives everything up. */
void client_translator_free(struct client_translator *translator);

#endif
