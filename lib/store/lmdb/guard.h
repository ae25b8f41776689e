/*
 * Loads from LMDB's map that may fail.
 *
 * The map is the file: where the device cannot give a page, or somebody has cut the file, a load
 * raises SIGBUS. Work that runs under a guard ends there with CAP_E_IO; a fault anywhere else is
 * left to the handler that was there before, by default the end of the process.
 *
 * Only reading is guarded. A reader's walk holds no lock of LMDB's and its transaction can be
 * ended after a jump out of it; a write transaction holds LMDB's lock and pages half changed.
 *
 * Why a handler: reading in first (MADV_POPULATE_READ) covers bodies, whose place is known, but
 * not the index pages that LMDB finds as it walks, nor a page that is evicted between the two; and
 * it costs a system call where the guard costs a few stores.
 */
#ifndef LIB_STORE_LMDB_GUARD_H
#define LIB_STORE_LMDB_GUARD_H

#include <setjmp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/cap/error.h"

struct lmdb_map {
    atomic_uintptr_t from; /* addresses; none: nothing is guarded */
    atomic_uintptr_t to;
    atomic_uintptr_t old_from; /* of the file before it was compacted, while it is still mapped */
    atomic_uintptr_t old_to;
    atomic_bool bad; /* a guarded load has failed: nothing is to be written next to it */
};

enum lmdb_guard_jump {
    LMDB_GUARD_FAULT = 1,
    LMDB_GUARD_ASSERTED,
};

/* Whether a map holds an address, be it of the file of old. Safe in a handler of signals. */
static inline bool lmdb_map_has(const struct lmdb_map *map, uintptr_t at)
{
    return (at >= atomic_load(&map->from) && at < atomic_load(&map->to)) ||
           (at >= atomic_load(&map->old_from) && at < atomic_load(&map->old_to));
}

struct lmdb_guard {
    sigjmp_buf jump;
    const struct lmdb_map *map;
};

/*
 * Puts the process's handler of SIGBUS in place, in front of the one that is there. At every
 * opening of a store, so that it is also in front of one that came in between.
 */
void lmdb_guard_install(void);

/* From here to lmdb_guard_end the calling thread's faults within `map` jump to guard->jump. Not
 * nested. */
void lmdb_guard_begin(struct lmdb_guard *guard, const struct lmdb_map *map);
void lmdb_guard_end(void);

/*
 * For LMDB's assertions (mdb_env_set_assert), which damaged pages can break: the calling thread's
 * guarded work ends with CAP_E_CORRUPT. Without a guard it returns, and LMDB aborts.
 */
void lmdb_guard_asserted(void);

/*
 * error = call, or, with the map bad, CAP_E_IO if a load from it failed there and CAP_E_CORRUPT if
 * an assertion of LMDB's did. `call` is one call of a function that loads nothing from the map
 * while it holds a lock or memory that only its own variables name. No signal mask is saved: the
 * handler puts back that of the load.
 */
#define LMDB_GUARDED(map, error, call)                                                             \
    do {                                                                                           \
        struct lmdb_guard guard_;                                                                  \
        lmdb_guard_begin(&guard_, (map));                                                          \
        switch (sigsetjmp(guard_.jump, 0)) {                                                       \
        case 0:                                                                                    \
            (error) = (call);                                                                      \
            lmdb_guard_end();                                                                      \
            break;                                                                                 \
        case LMDB_GUARD_ASSERTED:                                                                  \
            atomic_store(&(map)->bad, true);                                                       \
            (error) = CAP_E_CORRUPT;                                                               \
            break;                                                                                 \
        default:                                                                                   \
            atomic_store(&(map)->bad, true);                                                       \
            (error) = CAP_E_IO;                                                                    \
            break;                                                                                 \
        }                                                                                          \
    } while (false)

#endif
