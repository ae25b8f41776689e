/*
 * The pace at which a client sends the body of its upload, by the time in which it could have sent.
 * Pure.
 */
#ifndef DAEMON_PUBLISH_PACE_H
#define DAEMON_PUBLISH_PACE_H

#include "daemon/core/config.h"
#include "daemon/publish/caps.h"

struct pace {
    uint64_t ticked_us; /* monotonic; when it began, at first */
    uint64_t waited_us; /* for the client */
    bool ours;          /* at some moment since the last tick its bytes could not be taken */
};

/*
 * The time since the last tick is the client's unless its bytes could not be taken at some moment
 * of it: then all of it is ours. Returns whether it was the client's.
 */
bool pace_tick(struct pace *pace, uint64_t now_us);

/* Judges `received` bytes by config's min_upload_rate and its grace. CAP_E_UPLOAD_TOO_SLOW. */
enum cap_error pace_judge(const struct pace *pace, uint64_t received, const struct config *config,
                          struct judgement *ret_judgement);

#endif
