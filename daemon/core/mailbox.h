/*
 * How one thread has another's loop do something: letters, run on the loop's thread in the order in
 * which they were posted.
 */
#ifndef DAEMON_CORE_MAILBOX_H
#define DAEMON_CORE_MAILBOX_H

#include <stdbool.h>
#include <sys/queue.h>
#include <uv.h>

#include "lib/cap/error.h"

/* What is to be done. It stays where it is until `run`, which may free it or post it again. */
struct letter {
    void (*run)(struct letter *letter);
    STAILQ_ENTRY(letter) link;
};

STAILQ_HEAD(letters, letter);

struct mailbox {
    uv_async_t async;
    bool made; /* `lock` and `async` are */

    uv_mutex_t lock; /* of what follows */
    struct letters letters;
    bool open;
};

/* A mailbox of `loop`, which outlives it. CAP_E_NO_MEMORY. */
enum cap_error mailbox_open(struct mailbox *mailbox, uv_loop_t *loop);

/* False: it is closed, and the letter will not be run. Any thread. */
bool mailbox_post(struct mailbox *mailbox, struct letter *letter);

/*
 * Runs the letters that are there and takes no others; the loop must let go of a handle. On the
 * thread that runs the loop. A zeroed one is fine.
 */
void mailbox_close(struct mailbox *mailbox);

/* After the loop has let go, when nobody can post any more. A zeroed one is fine. */
void mailbox_free(struct mailbox *mailbox);

#endif
