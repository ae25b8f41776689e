/*
 * The states of an upload, and its driver: what happens in which state.
 *
 *     HEAD ──> JUDGING ──> BODY ──> SETTLING ──> HASHING ──> WRITING ──> OVER
 *
 * Only a PUT_IMAGE begins in HEAD, others in BODY. From each state OVER may follow: refused,
 * cancelled, or the connection is gone; JUDGING may be followed by SETTLING, HASHING of a dry run
 * by OVER. An upload waits for its client in HEAD and BODY, for a worker in JUDGING and HASHING,
 * for its spool in SETTLING, for the writer in WRITING. From BODY to HASHING the writer may be
 * staging what has come of the body; it lets go of an upload that is over as a worker does.
 *
 * upload_step is the one place where it is decided; it is pure. upload.c tells it what happened and
 * does what it says.
 */
#ifndef DAEMON_PUBLISH_UPLOAD_STATE_H
#define DAEMON_PUBLISH_UPLOAD_STATE_H

#include <stdbool.h>

/* X(NAME, name): in this order. */
#define UPLOAD_STATES(X)                                                                           \
    X(HEAD, head)         /* gathers an Image's bytes before its arena */                          \
    X(JUDGING, judging)   /* rules 0 to 10 are decided, in a worker if that takes long */          \
    X(BODY, body)         /* its bytes go to the spool */                                          \
    X(SETTLING, settling) /* its body has ended; the last bytes go to the disk */                  \
    X(HASHING, hashing)   /* a worker makes its caps */                                            \
    X(WRITING, writing)   /* the writer has it */                                                  \
    X(OVER, over)         /* it is answered, or nobody waits for its answer */

/* X(NAME, name) */
#define UPLOAD_EVENTS(X)                                                                           \
    X(PIECE, piece)         /* a piece of the body has come */                                     \
    X(GATHERED, gathered)   /* the head is complete */                                             \
    X(END, end)             /* the body has ended, and is as long as declared */                   \
    X(SPOOLED, spooled)     /* the spool has written something */                                  \
    X(JUDGED, judged)       /* the judgement is there */                                           \
    X(HASHED, hashed)       /* the caps are made, or could not be */                               \
    X(WRITTEN, written)     /* the writer has decided */                                           \
    X(TICK, tick)           /* time has passed */                                                  \
    X(FAILED, failed)       /* it cannot go on, and it is known why */                             \
    X(CANCELLED, cancelled) /* the client gives it up */                                           \
    X(TAKEN, taken)         /* another connection goes on with it */                               \
    X(DETACHED, detached)   /* the connection is gone */

/* X(NAME, name) */
#define UPLOAD_ACTIONS(X)                                                                          \
    X(NOTHING, nothing)                                                                            \
    X(GATHER, gather)     /* take the piece into the head */                                       \
    X(SPOOL, spool)       /* take the piece into the spool */                                      \
    X(STAGE, stage)       /* let the writer stage what of the body it can */                       \
    X(MEASURE, measure)   /* see whether the client is too slow */                                 \
    X(JUDGE, judge)       /* judge the head */                                                     \
    X(SETTLE, settle)     /* write what the spool still holds */                                   \
    X(HASH, hash)         /* make the caps */                                                      \
    X(WRITE, write)       /* hand them to the writer */                                            \
    X(WITHDRAW, withdraw) /* ask the writer to leave it, if it still can */                        \
    X(ANSWER, answer)     /* send the reply; the upload ends */                                    \
    X(REFUSE, refuse)     /* send the error; the upload ends */                                    \
    X(CANCEL, cancel)     /* send that it was cancelled; the upload ends */                        \
    X(YIELD, yield)       /* send the same; the upload ends, and what has come of it is kept */    \
    X(ABANDON, abandon)   /* nobody waits for an answer; the upload ends */                        \
    X(RELEASE, release)   /* the thread that had the ended upload gives it back */

enum upload_state {
#define UPLOAD_STATE_ENUM(NAME, name) UPLOAD_##NAME,
    UPLOAD_STATES(UPLOAD_STATE_ENUM)
#undef UPLOAD_STATE_ENUM
        UPLOAD_STATE_COUNT
};

enum upload_event {
#define UPLOAD_EVENT_ENUM(NAME, name) UPLOAD_EVENT_##NAME,
    UPLOAD_EVENTS(UPLOAD_EVENT_ENUM)
#undef UPLOAD_EVENT_ENUM
        UPLOAD_EVENT_COUNT
};

enum upload_action {
#define UPLOAD_ACTION_ENUM(NAME, name) UPLOAD_DO_##NAME,
    UPLOAD_ACTIONS(UPLOAD_ACTION_ENUM)
#undef UPLOAD_ACTION_ENUM
        UPLOAD_ACTION_COUNT
};

/* What a step depends on besides state and event. */
struct upload_facts {
    bool failed;  /* JUDGED, HASHED, WRITTEN: with an error */
    bool ended;   /* END has come */
    bool settled; /* the spool holds nothing back */
    bool dry_run; /* nothing is to be stored */
    bool parting; /* it is over, and waits for its spool alone */
};

struct upload_step {
    enum upload_state next; /* UPLOAD_STATE_COUNT: the event cannot happen in this state */
    enum upload_action action;
};

/* The driver. Pure. */
struct upload_step upload_step(enum upload_state state, enum upload_event event,
                               struct upload_facts facts);

/* Whether `to` may follow `from`: the picture above as a table, against which the driver is
 * checked. Pure. */
bool upload_may_move(enum upload_state from, enum upload_state to);

/* Names. Static. */
const char *upload_state_name(enum upload_state state);
const char *upload_event_name(enum upload_event event);

#endif
