/* What lazy maps use of a reader besides the public calls. */
#ifndef CLIENT_LIB_READER_H
#define CLIENT_LIB_READER_H

#include "client/lib/groups.h"
#include "client/lib/internal.h"

/* The store of a reader. */
struct capstore *client_reader_store(const struct capstore_reader *reader);

/*
 * Copies a group to `dst`, zeros past the content's end, as capstore_read; *ret_zeros: all of it is
 * zero, and `dst` was not written. On failure the message of the store at that moment is in
 * `ret_message`.
 */
enum cap_error client_reader_group(struct capstore_reader *reader, uint64_t group,
                                   uint8_t dst[CLIENT_GROUP_SIZE], bool *ret_zeros,
                                   char ret_message[CAPSTORE_MESSAGE_SIZE]);

#endif
