/* RESUME: where an upload that was cut off goes on. Loop thread. */
#ifndef DAEMON_PUBLISH_RESUME_H
#define DAEMON_PUBLISH_RESUME_H

#include "daemon/net/session.h"
#include "daemon/publish/publish.h"

/* Answers a RESUME, as struct route wants it: at once, or when the upload has ended whose
 * connection is not known to be lost. `publish` is a struct publish. */
const struct verdict *resume_begin(void *publish, struct session *session, uint32_t id,
                                   uint8_t type, struct cap_bytes payload);

#endif
