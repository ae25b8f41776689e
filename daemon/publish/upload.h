/* An upload: PUT_DATA, PUT_IMAGE or PUT_CAP with its body, from the message to the answer. Loop
 * thread. */
#ifndef DAEMON_PUBLISH_UPLOAD_H
#define DAEMON_PUBLISH_UPLOAD_H

#include "daemon/net/session.h"
#include "daemon/publish/publish.h"

#define UPLOAD_JUDGE_INLINE (64u << 10) /* heads up to this are judged on the loop: some 100 us */

/* Begins an upload, as struct route wants it; `publish` is a struct publish. */
const struct verdict *upload_begin(void *publish, struct session *session, uint32_t id,
                                   uint8_t type, struct cap_bytes payload);

#endif
