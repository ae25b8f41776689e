/*
 * The head of a PUT_IMAGE: an Image's bytes before its arena, gathered in memory that grows as they
 * arrive and never from a length that was only claimed. One thread at a time.
 */
#ifndef DAEMON_PUBLISH_HEAD_H
#define DAEMON_PUBLISH_HEAD_H

#include "daemon/publish/caps.h"

/* Zero-initialised it is empty; release with head_free. */
struct head {
    uint8_t *data;
    size_t filled;
    size_t capacity;
    size_t len; /* of the whole head; 0: not known yet */
};

/*
 * Memory that head_take will hold for at most `more` further bytes: the caller reserves it first.
 */
size_t head_wants(const struct head *head, uint64_t total_len, size_t more);

/*
 * Takes bytes from the front of *piece: up to the end of the fixed part, from which it learns how
 * long the head of an upload of `total_len` bytes is, at most `max_len`; then up to its end. Call
 * it until the piece is used up or the head complete, at least once for the last piece of an
 * upload. The judgement says CAP_E_SSZ, CAP_E_STRUCTURE_TOO_LARGE or CAP_E_NO_MEMORY.
 */
enum cap_error head_take(struct head *head, struct cap_bytes *piece, uint64_t total_len,
                         uint64_t max_len, struct judgement *ret_judgement);

/* Whether all of it is there. */
bool head_is_complete(const struct head *head);

/* Frees the bytes and leaves an empty head. */
void head_free(struct head *head);

#endif
