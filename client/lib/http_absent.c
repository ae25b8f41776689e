/* A build without HTTP (CAPSTORE_CURL=OFF), and the static library. */
#include "client/lib/http.h"

enum cap_error client_http_start(const char *base, const char *agent, uint32_t timeout_ms,
                                 struct client_http **ret_http, int *ret_fd)
{
    (void)base;
    (void)agent;
    (void)timeout_ms;
    (void)ret_http;
    (void)ret_fd;
    return CAP_E_NOT_SUPPORTED;
}

void client_http_stop(struct client_http *http, int fd)
{
    (void)http;
    (void)fd;
}
