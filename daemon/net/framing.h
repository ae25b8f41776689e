/* The frames of our protocol (PROTOCOL.md section 2) on an output. Loop thread only. */
#ifndef DAEMON_NET_FRAMING_H
#define DAEMON_NET_FRAMING_H

#include "daemon/net/output.h"

/* Bodies in BODY frames. */
extern const struct framing framing_proto;

/* Appends a message frame. CAP_E_NO_MEMORY. */
enum cap_error framing_message(struct output *output, uint8_t type, uint32_t id,
                               struct cap_bytes payload);

/*
 * The same with a descriptor, which comes with the frame's first byte; the socket is a Unix one. It
 * is taken over on success. CAP_E_NO_MEMORY.
 */
enum cap_error framing_message_fd(struct output *output, uint8_t type, uint32_t id,
                                  struct cap_bytes payload, int fd);

/* Appends a whole body as one frame, a copy; at most PROTO_FRAME_MAX bytes. CAP_E_NO_MEMORY. */
enum cap_error framing_body(struct output *output, uint32_t id, struct cap_bytes body);

#endif
