/*
 * What the windows of an arena hold, so that a window named many times is read and hashed once:
 * otherwise 12 bytes of page reference buy 4 KiB of hashing, again and again.
 *
 * A memo is a cache, in proportion to the references: it may forget, but where windows are named
 * many times, few of them. It belongs to one arena, whose bytes do not change, and to one thread at
 * a time.
 */
#ifndef LIB_CAP_WINDOW_MEMO_H
#define LIB_CAP_WINDOW_MEMO_H

#include "lib/cap/bytes.h"

/* Opaque. */
struct cap_window_memo;

/* What is known of a window. */
struct cap_window {
    struct cap_hash root; /* of its zero-padded page, as cap_page_root has it */
    uint32_t used;        /* bytes up to the last one that is not zero */
};

/* Heap bytes of a memo for `refs` page references: about 48 each up to 3 MiB, then half of that. */
size_t cap_window_memo_size(uint64_t refs);

/* A memo for about `refs` page references (real ones: memory is taken for them). CAP_E_NO_MEMORY.
 * Release with cap_window_memo_free. */
enum cap_error cap_window_memo_new(uint64_t refs, struct cap_window_memo **ret_memo);

/* NULL is fine. */
void cap_window_memo_free(struct cap_window_memo *memo);

/* Whether the window arena[arena_off .. arena_off + len) is remembered; len is not 0. */
bool cap_window_memo_find(const struct cap_window_memo *memo, uint32_t arena_off, uint32_t len,
                          struct cap_window *ret_window);

/* Remembers a window that was not found; another one may be forgotten for it. */
void cap_window_memo_keep(struct cap_window_memo *memo, uint32_t arena_off, uint32_t len,
                          const struct cap_window *window);

#endif
