/* Looking one cap up in a reader: what the records do not know. */
#ifndef DAEMON_SERVE_RESOLVE_H
#define DAEMON_SERVE_RESOLVE_H

#include "daemon/serve/serve.h"

/* A job that a request embeds. */
struct resolve {
    struct read_job job;
    struct serve *serve;
    struct cap_hash hash;
    bool wants_body; /* with the body, if it is small */

    enum cap_error error;   /* CAP_E_NOT_FOUND, or as the store fails */
    struct record *record;  /* the job's owner's; NULL on an error */
    struct cap_place place; /* of the body in `record` */
    bool was_cold;          /* the body had to be read in */
};

/* Readies the job for readers_submit; `done` finds the results. On the loop. */
void resolve_init(struct resolve *resolve, struct serve *serve, const void *account,
                  const struct cap_hash *hash, bool wants_body, void (*done)(struct read_job *job));

#endif
