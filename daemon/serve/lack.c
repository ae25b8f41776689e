#include "daemon/serve/lack.h"

bool lack_is_nothing(struct cap_read *read)
{
    struct cap_broken broken;
    size_t count = 0;
    bool more = false;
    return cap_store_broken(read, NULL, 1, &broken, &count, &more) == CAP_OK && count == 0;
}

bool lack_walk(struct walk *walk, struct cap_read *read, size_t budget, struct cap_hash *hashes,
               size_t room, size_t *count)
{
    enum walk_step step = WALK_CAP;
    struct walk_cap cap;
    while (step == WALK_CAP && *count < room) {
        if (walk_next(walk, read, &budget, &step, &cap) != CAP_OK) {
            return true;
        }
        if (step == WALK_CAP && lack_is_absent(cap.error)) {
            hashes[(*count)++] = cap.hash;
        }
    }
    return step != WALK_MORE;
}
