/*
 * Lanes: the ids in use, each at its remainder modulo the table's size.
 *
 * Ids are taken in ascending order, leaving out those whose place is taken, so that they stay apart
 * when the table grows.
 */
#include <stdlib.h>

#include "client/lib/conn.h"

#define FIRST_LANES 64u        /* twice what the daemon allows by default */
#define MOST_LANES  (1u << 20) /* of 48 bytes: beyond, requests wait */

struct client_lane *client_lane_find(const struct capstore *store, uint32_t id)
{
    if (id == 0 || store->lane_count == 0) {
        return NULL;
    }
    struct client_lane *lane = &store->lanes[id & (store->lane_count - 1)];
    return lane->id == id ? lane : NULL;
}

static enum cap_error grow(struct capstore *store)
{
    uint32_t count = store->lane_count == 0 ? FIRST_LANES : 2 * store->lane_count;
    struct client_lane *lanes = calloc(count, sizeof(*lanes));
    if (lanes == NULL || count > MOST_LANES) {
        free(lanes);
        return CAP_E_NO_MEMORY;
    }
    for (uint32_t i = 0; i < store->lane_count; i++) {
        if (store->lanes[i].id != 0) {
            lanes[store->lanes[i].id & (count - 1)] = store->lanes[i];
        }
    }
    free(store->lanes);
    store->lanes = lanes;
    store->lane_count = count;
    return CAP_OK;
}

enum cap_error client_lane_open(struct capstore *store, struct capstore_request *request,
                                uint32_t *ret_id)
{
    if (2 * store->lanes_used >= store->lane_count) {
        enum cap_error error = grow(store);
        if (error != CAP_OK) {
            return error;
        }
    }
    do {
        store->id++; /* id 0 is the connection's own */
    } while (store->id == 0 || store->lanes[store->id & (store->lane_count - 1)].id != 0);
    store->lanes[store->id & (store->lane_count - 1)] = (struct client_lane){
        .id = store->id,
        .type = request->type,
        .request = request,
        .began_ns = client_now_ns(store),
        .moved = store->moved,
    };
    store->lanes_used++;
    *ret_id = store->id;
    return CAP_OK;
}

void client_lane_close(struct capstore *store, struct client_lane *lane)
{
    *lane = (struct client_lane){0};
    store->lanes_used--;
}
