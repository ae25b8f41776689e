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

/* ---- over HTTP ---- */

/* What follows the scheme, or NULL. */
static const char *behind_scheme(const char *text)
{
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        size_t len = strlen(schemes[i]);
        if (strncmp(text, schemes[i], len) == 0) {
            return text + len;
        }
    }
    return NULL;
}

bool client_address_means_http(const char *text)
{
    return behind_scheme(text) != NULL;
}

bool client_address_is_http(const char *text)
{
    const char *host = behind_scheme(text);
    if (host == NULL || strlen(text) > CLIENT_BASE_MAX) {
        return false;
    }
    size_t len = strcspn(host, "/");
    for (const char *at = host; *at != '\0'; at++) {
        if (*at <= ' ' || *at > '~' || strchr("@?#\\\"<>^`{|}", *at) != NULL) {
            return false;
        }
    }
    /* The port is behind the last colon that is not within the brackets of an IPv6 host. */
    const char *bracket = host[0] == '[' ? memchr(host, ']', len) : NULL;
    const char *name_end = bracket != NULL ? bracket + 1 : memchr(host, ':', len);
    if (name_end == NULL) {
        name_end = host + len;
    }
    char port[6] = "";
    size_t port_len = len - (size_t)(name_end - host);
    if (name_end == host || (host[0] == '[' && (bracket == NULL || bracket < host + 3))) {
        return false;
    }
    return port_len == 0 ||
           (*name_end == ':' && copy(port, sizeof(port), name_end + 1, port_len - 1) &&
            port_valid(port));
}
