/* In place of the room, for a build without libmicrohttpd. */
#include "daemon/http/http.h"

bool http_is_built(void)
{
    return false;
}

enum cap_error http_start(const struct admin_rooms *rooms, const struct bound *bounds, size_t count,
                          struct http **ret_http)
{
    (void)rooms;
    (void)bounds;
    (void)count;
    (void)ret_http;
    return CAP_E_NOT_SUPPORTED;
}

void http_tick(struct http *http, const struct admin_figures *admin)
{
    (void)http;
    (void)admin;
}

void http_drain(struct http *http)
{
    (void)http;
}

void http_stop(struct http *http)
{
    (void)http;
}

void http_free(struct http *http)
{
    (void)http;
}
