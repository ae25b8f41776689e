/* Payloads that a session sends of its own accord. Pure, but for reply_turn_away. */
#ifndef DAEMON_NET_REPLY_H
#define DAEMON_NET_REPLY_H

#include "daemon/core/context.h"
#include "proto/message.h"

/* The limits of a connection that opens now; they hold as long as it does. */
struct proto_limits reply_limits(const struct config *config);

/* Appends the payload of a HELLO_REPLY: our version, limits, and the features that are granted. */
enum cap_error reply_hello(const struct context *context, const struct proto_limits *limits,
                           const struct proto_hello *hello, uint64_t features,
                           struct cap_buf *ret_payload);

/* Appends the payload of an ERROR. `message` is cut to what the protocol allows. */
enum cap_error reply_error(enum cap_error error, const char *message, uint64_t detail_len,
                           struct cap_buf *ret_payload);

/* Sends an ERROR, id 0, as far as the socket takes it at once. */
void reply_turn_away(int fd, enum cap_error error);

#endif
