#include "client/lib/address.h"

#include <stddef.h>
#include <string.h>

static bool copy(char *dst, size_t room, const char *from, size_t len)
{
    if (len == 0 || len >= room) {
        return false;
    }
    memcpy(dst, from, len);
    dst[len] = '\0';
    return true;
}

/* Decimal digits only, without a leading zero, 1 to 65535. */
static bool port_valid(const char *text)
{
    unsigned value = 0;
    size_t len = strlen(text);
    if (len == 0 || len > 5 || text[0] == '0') {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        value = value * 10 + (unsigned)(text[i] - '0');
    }
    return value <= 65535;
}

static bool parse_tcp(const char *text, struct client_address *address)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL || !port_valid(colon + 1)) {
        return false;
    }
    size_t host_len = (size_t)(colon - text);
    memcpy(address->port, colon + 1, strlen(colon + 1) + 1);
    if (host_len > 2 && text[0] == '[' && text[host_len - 1] == ']') {
        return copy(address->host, sizeof(address->host), text + 1, host_len - 2);
    }
    /* A bare IPv6 address would be ambiguous. */
    if (memchr(text, ':', host_len) != NULL || memchr(text, '[', host_len) != NULL) {
        return false;
    }
    return copy(address->host, sizeof(address->host), text, host_len);
}

enum cap_error client_address_parse(const char *text, struct client_address *ret_address)
{
    struct client_address address = {0};
    bool valid = false;
    if (strncmp(text, "unix:", 5) == 0) {
        address.is_unix = true;
        valid = copy(address.path, sizeof(address.path), text + 5, strlen(text + 5));
    } else if (strncmp(text, "tcp:", 4) == 0) {
        valid = parse_tcp(text + 4, &address);
    }
    if (!valid) {
        return CAP_E_INVALID_ARGUMENT;
    }
    *ret_address = address;
    return CAP_OK;
}
