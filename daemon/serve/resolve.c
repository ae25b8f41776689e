/* One cap looked up, and its body copied if that is small. */
#include "daemon/serve/resolve.h"

#include "daemon/core/container.h"

/* Whether the body, all of it, goes with the record. */
static bool is_small(const struct cap_place *place)
{
    return place->at != NULL && place->len <= RECORD_BODY_MAX;
}

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
    resolve->record->has_body = true;
    return cap_store_take(read, &resolve->hash, place, resolve->record->body);
}

/* In a reader. */
static enum cap_error look_up(struct resolve *resolve)
{
    struct cap_info info;
    struct cap_read *read = NULL;
    enum cap_error error = cap_store_read_begin(resolve->serve->shard->context->store, &read);
    if (error != CAP_OK) {
        return error;
    }
    error = resolve->wants_body ? cap_store_locate(read, &resolve->hash, &info, &resolve->place)
                                : cap_store_find(read, &resolve->hash, &info);
    bool with_body = error == CAP_OK && is_small(&resolve->place);
    if (error == CAP_OK) {
        resolve->record = record_new(&resolve->hash, &info, with_body ? resolve->place.len : 0);
        error = resolve->record == NULL ? CAP_E_NO_MEMORY : CAP_OK;
    }
    if (error == CAP_OK && with_body) {
        error = take_body(resolve, read);
    }
    if (error != CAP_OK) {
        record_free(resolve->record);
        resolve->record = NULL;
    }
    cap_store_read_end(read);
    return error;
}

static bool on_run(struct read_job *job)
{
    struct resolve *resolve = CONTAINER_OF(job, struct resolve, job);
    resolve->error = look_up(resolve);
    return true;
}

void resolve_init(struct resolve *resolve, struct serve *serve, const void *account,
                  const struct cap_hash *hash, bool wants_body, void (*done)(struct read_job *job))
{
    *resolve = (struct resolve){.serve = serve, .hash = *hash, .wants_body = wants_body};
    resolve->job.account = account;
    resolve->job.run = on_run;
    resolve->job.done = done;
}
