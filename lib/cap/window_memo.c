/*
 * A set-associative cache: a window goes to one of the WAYS places of its set. Which set that is
 * depends on the memo's own address, so that an attacker cannot choose windows that evict each
 * other.
 */
#include "lib/cap/window_memo.h"

#include <stdlib.h>

#include "lib/cap/must.h"

#define WAYS      4u
#define FULL_SETS 16384u     /* up to 65,536 windows, all pages of 256 MiB, none is forgotten */
#define MAX_SETS  (1u << 21) /* past what the largest structure allowed can name twice */

struct place {
    uint32_t arena_off;
    uint32_t len; /* 0: free */
    struct cap_window window;
};

struct cap_window_memo {
    size_t sets; /* a power of two */
    unsigned victim;
    struct place places[];
};

_Static_assert(sizeof(struct place) == 44, "cap_window_memo_size says about 48 bytes each");

/*
 * A place for every reference, as far as that takes little memory, then for every other one: where
 * these do not do, a window is named less than twice on the average.
 */
static size_t sets_for(uint64_t refs)
{
    size_t sets = 1;
    while (sets < MAX_SETS && (sets < FULL_SETS ? 2 : 4) * sets * WAYS <= refs) {
        sets *= 2;
    }
    return sets;
}

size_t cap_window_memo_size(uint64_t refs)
{
    return sizeof(struct cap_window_memo) + sets_for(refs) * WAYS * sizeof(struct place);
}

enum cap_error cap_window_memo_new(uint64_t refs, struct cap_window_memo **ret_memo)
{
    struct cap_window_memo *memo = calloc(1, cap_window_memo_size(refs));
    if (memo == NULL) {
        return CAP_E_NO_MEMORY;
    }
    memo->sets = sets_for(refs);
    *ret_memo = memo;
    return CAP_OK;
}

void cap_window_memo_free(struct cap_window_memo *memo)
{
    free(memo);
}

/* The first place of a window's set. */
static size_t set_of(const struct cap_window_memo *memo, uint32_t arena_off, uint32_t len)
{
    uint64_t mixed = ((uint64_t)arena_off << 32 | len) ^ (uint64_t)(uintptr_t)memo;
    mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94d049bb133111eb);
    return ((size_t)(mixed >> 32) & (memo->sets - 1)) * WAYS;
}

bool cap_window_memo_find(const struct cap_window_memo *memo, uint32_t arena_off, uint32_t len,
                          struct cap_window *ret_window)
{
    const struct place *set = &memo->places[set_of(memo, arena_off, len)];
    for (size_t i = 0; i < WAYS; i++) {
        if (set[i].arena_off == arena_off && set[i].len == len) {
            *ret_window = set[i].window;
            return true;
        }
    }
    return false;
}

void cap_window_memo_keep(struct cap_window_memo *memo, uint32_t arena_off, uint32_t len,
                          const struct cap_window *window)
{
    struct place *set = &memo->places[set_of(memo, arena_off, len)];
    size_t at = 0;
    must(len > 0);
    while (at < WAYS && set[at].len != 0) {
        at++;
    }
    if (at == WAYS) {
        at = memo->victim++ % WAYS;
    }
    set[at] = (struct place){arena_off, len, *window};
}
