/* Looking one cap up in a reader. */
#ifndef DAEMON_SERVE_RESOLVE_H
#define DAEMON_SERVE_RESOLVE_H

#include "daemon/serve/serve.h"

/* A job that a request embeds. */
struct resolve {
    struct read_job job;
    uint64_t epoch; /* before the job was submitted; see serve_may_remember */
    struct serve *serve;
    struct cap_hash hash;
    bool wants_body; /* with the body, if that is small */

    enum cap_error error;   /* CAP_E_NOT_FOUND, or as the store fails */
    struct record *record;  /* NULL on an error */
    uint8_t *body;          /* record->info.body_len bytes; NULL: not asked for, or not small */
    struct cap_place place; /* of `body` */
    bool was_cold;          /* the body had to be read in */
};

/*
 * Readies the job for readers_submit; `done` finds the results, and takes over `record` and `body`
 * (free). On the loop.
 */
void resolve_init(struct resolve *resolve, struct serve *serve, const void *account,
                  const struct cap_hash *hash, bool wants_body, void (*done)(struct read_job *job));

#endif
