/*
 * What of an Image's body is known while it still arrives, staged by the writer meanwhile.
 *
 * The wire Image's head tells how long the body will be and what precedes the code in it; the code
 * is a run of the arena. Only what follows the code waits for the end, when the slots are hashed.
 * So a long code is written and synced while it arrives and is hashed, and the admission finds most
 * of its body staged. A canonical body is known whole: all of it is staged while it arrives.
 *
 * It costs the writing of a body that turns out not to be stored: that is refused in the end, given
 * up, or there already. The last cannot be known before the whole arena is hashed; a publisher that
 * knows the hash can ask (HAS) before it sends. The stage is dropped and its room used again; what
 * a peer can occupy in this way is bounded by the disk that its uploads have reserved, spool and
 * store.
 *
 * Loop thread. What it refers to stays until the writer has handed back the job that took it.
 */
#ifndef DAEMON_PUBLISH_AHEAD_H
#define DAEMON_PUBLISH_AHEAD_H

#include "daemon/publish/job.h"
#include "daemon/publish/spool.h"
#include "daemon/publish/writer.h"

/* Code, or canonical body, from which on it is done: some steps of a stage. */
#define AHEAD_CODE_MIN (4u * CAP_STAGE_STEP)

/* Longer heads are left to the end: what comes of them is laid out on the loop here. */
#define AHEAD_HEAD_MAX (4u << 10)

/* Zeroed it is closed. */
struct ahead {
    struct writer_ahead stage;
    struct cap_body body; /* with zeros for what is not known */
    struct cap_source arena;
    uint64_t code_off;
    uint64_t code_len;
    bool open; /* the writer has it */
};

/*
 * Something of a judged Image, or of another body, has come to the spool: hands it to the writer if
 * it is worth it and there is memory.
 */
void ahead_arrived(struct ahead *ahead, const struct writer_outlet *outlet, const struct job *job,
                   struct spool *spool);

/*
 * For a job that is handed to the writer next: what has been staged, or NULL. Closes it; if the job
 * is cancelled, the stage is dropped.
 */
struct writer_ahead *ahead_take(struct ahead *ahead);

/* Frees what it owns, once it is closed and the writer done. */
void ahead_free(struct ahead *ahead);

#endif
