/*
 * The states of an upload, and which may follow which.
 *
 *     HEAD ──> JUDGING ──> BODY ──> SETTLING ──> HASHING ──> WRITING ──> OVER
 *      └────────────────────^
 *
 * From each of them OVER may follow: refused, cancelled, or the connection is gone. An upload waits
 * for its client in HEAD and BODY, for a worker in JUDGING, SETTLING and HASHING, for the writer in
 * WRITING.
 */
#ifndef DAEMON_PUBLISH_UPLOAD_STATE_H
#define DAEMON_PUBLISH_UPLOAD_STATE_H

#include <stdbool.h>

/* X(NAME, name): in this order. */
#define UPLOAD_STATES(X)                                                                           \
    X(HEAD, head)         /* gathers an Image's bytes before its arena */                          \
    X(JUDGING, judging)   /* a worker decides rules 0 to 10 of a long head */                      \
    X(BODY, body)         /* its bytes go to the spool */                                          \
    X(SETTLING, settling) /* its body has ended; the last bytes go to the disk */                  \
    X(HASHING, hashing)   /* a worker hashes it */                                                 \
    X(WRITING, writing)   /* the writer has it */                                                  \
    X(OVER, over)         /* it is answered, or nobody waits for its answer */

enum upload_state {
#define UPLOAD_STATE_ENUM(NAME, name) UPLOAD_##NAME,
    UPLOAD_STATES(UPLOAD_STATE_ENUM)
#undef UPLOAD_STATE_ENUM
        UPLOAD_STATE_COUNT
};

/* Whether `to` may follow `from`. Pure. */
bool upload_may_move(enum upload_state from, enum upload_state to);

/* The state's name. Static. */
const char *upload_state_name(enum upload_state state);

#endif
