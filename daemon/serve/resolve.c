/* One cap looked up, and its body copied if that is small. */
#include "daemon/serve/resolve.h"

#include "daemon/core/container.h"
#include "daemon/serve/window.h"

/* Makes a cap's record with all of its body. */
static enum cap_error read_body(struct resolve *resolve, struct cap_read *read,
                                const struct cap_info *info)
{
    struct window window = {.serve = resolve->serve};
    enum cap_error error = window_fill(&window, read, &resolve->hash, 0, info->body_len, 1);
    if (error == CAP_OK && window.len != info->body_len) {
        error = CAP_E_CORRUPT;
    }
    if (error != CAP_OK) {
        return error;
    }
    resolve->was_cold = !window.was_in_memory;
    struct record *record = record_new(&resolve->hash, info, window.len);
    if (record == NULL) {
        return CAP_E_NO_MEMORY;
    }
    error = cap_store_copy(read, window.iov, window.count, record->body);
    if (error != CAP_OK) {
        record_free(record);
        return error;
    }
    record->has_body = true;
    resolve->record = record;
    return CAP_OK;
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
    error = cap_store_find(read, &resolve->hash, &info);
    if (error == CAP_OK && resolve->wants_body && info.body_len <= RECORD_BODY_MAX &&
        info.body_len > 0) {
        error = read_body(resolve, read, &info);
    } else if (error == CAP_OK) {
        resolve->record = record_new(&resolve->hash, &info, 0);
        error = resolve->record == NULL ? CAP_E_NO_MEMORY : CAP_OK;
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
