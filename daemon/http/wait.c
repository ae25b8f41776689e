#include "daemon/http/wait.h"

#include <microhttpd.h>

#include "daemon/core/container.h"

/* On any thread. */
static void on_brought(struct fetch_order *order)
{
    MHD_resume_connection(CONTAINER_OF(order, struct http_wait, order)->connection);
}

void http_wait_begin(struct http_wait *wait, struct fetcher *fetcher,
                     struct MHD_Connection *connection, uint64_t peer)
{
    wait->fetcher = fetcher;
    wait->connection = connection;
    wait->order = (struct fetch_order){
        .peer = peer, .hashes = wait->hashes, .count = wait->count, .done = on_brought};
    MHD_suspend_connection(connection);
    enum cap_error error = fetcher->want(fetcher, &wait->order);
    if (error != CAP_OK) {
        wait->order.error = error;
        MHD_resume_connection(connection);
    }
}

void http_wait_end(struct http_wait *wait, enum cap_error error)
{
    struct fetcher *fetcher = wait->fetcher;
    bool ended = error == CAP_E_UPSTREAM_AWAY ? fetcher->give_up(fetcher, &wait->order)
                                              : fetcher->withdraw(fetcher, &wait->order);
    if (ended) {
        wait->order.error = error;
        MHD_resume_connection(wait->connection);
    }
}
