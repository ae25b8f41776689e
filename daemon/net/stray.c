#include "daemon/net/stray.h"

#include <ctype.h>
#include <sys/socket.h>

bool stray_is_json(struct cap_bytes first)
{
    size_t at = 0;
    while (at < first.len && isspace(first.data[at])) {
        at++;
    }
    return at + 1 < first.len && (first.data[at] == '{' || first.data[at] == '[') &&
           first.data[at + 1] != 0;
}

void stray_refuse(int fd)
{
    static const char line[] = "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32600,"
                               "\"message\":\"" STRAY_MESSAGE "\","
                               "\"data\":{\"reason\":\"invalid_request\",\"retry\":false}}}\n";
    (void)!send(fd, line, sizeof(line) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)shutdown(fd, SHUT_WR);
}
