/* What is read of an answer's header, and of the JSON in a refusal. Pure; every byte is hostile. */
#ifndef CLIENT_LIB_HTTP_HEAD_H
#define CLIENT_LIB_HTTP_HEAD_H

#include "lib/cap/bytes.h"
#include "proto/message.h"

/* Of the last answer, when there are several: what a redirect says is forgotten. */
struct client_http_head {
    bool has_range; /* Content-Range: bytes first-last/total */
    uint64_t first;
    uint64_t last; /* not below first, and below total */
    bool has_total;
    uint64_t total;
    bool has_store; /* Capstore-Store */
    uint8_t store_id[PROTO_STORE_ID_SIZE];
};

/* Takes a line of a header, with its line end or without. A line of an answer's beginning clears
 * what was known; others that make no sense are passed by. */
void client_http_head_take(struct client_http_head *head, struct cap_bytes line);

#define CLIENT_REFUSAL_TEXT 256

/* {"error":"name","message":"..."} as capstored writes it. */
struct client_http_refusal {
    enum cap_error error;           /* CAP_OK: it is nothing of the kind */
    char text[CLIENT_REFUSAL_TEXT]; /* printable ASCII, cut if need be */
};

/*
 * Reads the body of a refusal, or the beginning of one. Names of errors that end a whole connection
 * of the protocol, or that only a client makes, are taken for nothing of the kind.
 */
struct client_http_refusal client_http_refusal_read(struct cap_bytes body);

#endif
