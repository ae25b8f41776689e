/* Addresses of daemons: "unix:PATH", "tcp:HOST:PORT", and those over HTTP. Pure. */
#ifndef CLIENT_LIB_ADDRESS_H
#define CLIENT_LIB_ADDRESS_H

#include <stdbool.h>

#include "lib/cap/error.h"

#define CLIENT_UNIX_PATH_MAX 107 /* what a sockaddr_un holds before its NUL */
#define CLIENT_HOST_MAX      255 /* of a DNS name */

struct client_address {
    bool is_unix;
    char path[CLIENT_UNIX_PATH_MAX + 1];
    char host[CLIENT_HOST_MAX + 1]; /* brackets of an IPv6 address taken off */
    char port[6];                   /* decimal, 1 to 65535 */
};

/*
 * Reads an address of a socket: "unix:PATH" or "tcp:HOST:PORT". CAP_E_INVALID_ARGUMENT for anything
 * else, and then *ret_address is untouched.
 */
enum cap_error client_address_parse(const char *text, struct client_address *ret_address);

#define CLIENT_BASE_MAX 1024 /* bytes of an address over HTTP, far above any in use */

/* Whether a text means to be an address over HTTP. */
bool client_address_means_http(const char *text);

/*
 * Whether it is one: "http://HOST[:PORT][/PATH]" or the same with https, in printable ASCII without
 * a user, a query or a fragment, of at most CLIENT_BASE_MAX bytes.
 */
bool client_address_is_http(const char *text);

#endif
