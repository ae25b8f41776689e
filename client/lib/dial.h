/* A connection that is being made, without blocking: to each address that the name has, in turn. */
#ifndef CLIENT_LIB_DIAL_H
#define CLIENT_LIB_DIAL_H

#include <netdb.h>
#include <stdint.h>
#include <sys/un.h>

#include "client/lib/address.h"

#define CLIENT_DETAIL_SIZE 192

/* Must not be copied. */
struct client_dial {
    struct addrinfo *list;
    const struct addrinfo *at; /* of the list; NULL: all have failed */
    struct addrinfo local;     /* the list of a Unix socket */
    struct sockaddr_un path;
    int fd;             /* the socket, not connected yet; -1: none */
    bool full;          /* a Unix listener has no room, and no event tells when it has */
    int code;           /* errno of the last failure */
    const char *reason; /* of a failure that has no errno, or NULL */
};

/*
 * Begins. Resolving a host name blocks. Release with client_dial_end, also after a failure, which
 * client_dial_detail explains: CAP_E_CONNECT.
 */
enum cap_error client_dial_begin(struct client_dial *dial, const struct client_address *address);

/*
 * Goes on as far as possible without waiting: to be called when dial->fd can be written, or after
 * client_dial_pause_ms. *ret_fd is the connected socket, which the caller owns, or -1: not yet.
 * dial->fd may be another then, with another number. CAP_E_CONNECT when no address is left.
 */
enum cap_error client_dial_step(struct client_dial *dial, int *ret_fd);

/* Milliseconds after which to try again although nothing happened; -1: never. */
int client_dial_pause_ms(const struct client_dial *dial);

/* Steps until connected, at most for timeout_ms: CAP_E_CONNECT, CAP_E_TIMED_OUT. */
enum cap_error client_dial_wait(struct client_dial *dial, uint32_t timeout_ms, int *ret_fd);

/* Why it failed, for a person; `error` is what was returned. */
void client_dial_detail(const struct client_dial *dial, enum cap_error error,
                        char ret_detail[CLIENT_DETAIL_SIZE]);

/* Closes the socket and releases the addresses. */
void client_dial_end(struct client_dial *dial);

#endif
