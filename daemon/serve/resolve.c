/* One cap looked up, and its body copied if that is small. */
#include "daemon/serve/resolve.h"

#include <stdlib.h>

#include "daemon/core/container.h"

/* Takes the body from its place, which is read in first. */
static enum cap_error take_body(struct resolve *resolve, struct cap_read *read)
{
    const struct env *env = resolve->serve->shard->context->env;
    const struct cap_place *place = &resolve->place;
    uint32_t len = cap_place_first(place); /* a rest lies where the search for it has been */
    resolve->was_cold = !env->resident(env->ctx, place->at, len);
    if (resolve->was_cold) {
        enum cap_error error = env->populate(env->ctx, place->at, len);
        if (error != CAP_OK) {
            return error;
        }
    }
    resolve->body = malloc(place->len);
    return resolve->body == NULL ? CAP_E_NO_MEMORY
                                 : cap_store_take(read, &resolve->hash, place, resolve->body);
}

static enum cap_error look_up(struct resolve *resolve, struct cap_read *read)
{
    struct cap_info info;
    enum cap_error error = resolve->wants_body
                               ? cap_store_locate(read, &resolve->hash, &info, &resolve->place)
                               : cap_store_find(read, &resolve->hash, &info);
    if (error == CAP_OK && places_take(&resolve->place)) {
        error = take_body(resolve, read);
    }
    if (error == CAP_OK) {
        resolve->record = record_new(&resolve->hash, &info);
        error = resolve->record == NULL ? CAP_E_NO_MEMORY : CAP_OK;
    }
    if (error != CAP_OK) {
        free(resolve->body);
        resolve->body = NULL;
    }
    return error;
}

/* In a reader. */
static bool on_run(struct read_job *job)
{
    struct resolve *resolve = CONTAINER_OF(job, struct resolve, job);
    struct cap_read *read = NULL;
    resolve->error = cap_store_read_begin(resolve->serve->shard->context->store, &read);
    if (resolve->error == CAP_OK) {
        resolve->error = look_up(resolve, read);
    }
    cap_store_read_end(read);
    return true;
}

void resolve_init(struct resolve *resolve, struct serve *serve, const void *account,
                  const struct cap_hash *hash, bool wants_body, void (*done)(struct read_job *job))
{
    *resolve = (struct resolve){.serve = serve, .hash = *hash, .wants_body = wants_body};
    resolve->epoch = serve_epoch(serve);
    resolve->job.account = account;
    resolve->job.run = on_run;
    resolve->job.done = done;
}
