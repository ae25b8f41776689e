/* Bodies that are staged while they arrive. */
#include "daemon/publish/ahead.h"

#include <stdlib.h>
#include <sys/param.h>

#include "lib/cap/must.h"

static enum cap_error read_body(void *ctx, uint64_t offset, void *dst, size_t len)
{
    const struct ahead *ahead = ctx;
    return cap_body_read(&ahead->body, &ahead->arena, offset, dst, len);
}

/* Begins it, if there is memory. */
static void begin(struct ahead *ahead, const struct writer_outlet *outlet,
                  const struct cap_wire_image *wire)
{
    struct cap_hash *unknown = calloc(cap_wire_slot_count(wire) + 1, sizeof(*unknown));
    if (unknown != NULL && cap_image_body_from_wire(wire, unknown, &ahead->body) == CAP_OK) {
        ahead->code_off = wire->code_off;
        ahead->code_len = wire->code_len;
        ahead->stage = (struct writer_ahead){
            .body = {.read = read_body, .ctx = ahead},
            .body_len = ahead->body.len,
        };
        ahead->open = true;
        writer_ahead_begin(outlet, &ahead->stage);
    }
    free(unknown);
}

/* A canonical body is what will be stored, byte by byte, unless it turns out to be none. */
static void body_arrived(struct ahead *ahead, const struct writer_outlet *outlet,
                         uint64_t total_len, struct spool *spool)
{
    if (!ahead->open) {
        ahead->arena = spool_source(spool);
        ahead->stage = (struct writer_ahead){.body = ahead->arena, .body_len = total_len};
        ahead->open = true;
        writer_ahead_begin(outlet, &ahead->stage);
    }
    writer_ahead_ready(&ahead->stage, spool_written(spool));
}

void ahead_arrived(struct ahead *ahead, const struct writer_outlet *outlet, const struct job *job,
                   struct spool *spool)
{
    const struct cap_wire_image *wire = &job->wire;
    if (job_is_canonical(job) && job->total_len >= AHEAD_CODE_MIN) {
        body_arrived(ahead, outlet, job->total_len, spool);
        return;
    }
    if (job->form != JOB_WIRE || job->dry_run || wire->code_len < AHEAD_CODE_MIN ||
        wire->head.len > AHEAD_HEAD_MAX) {
        return;
    }
    if (!ahead->open) {
        ahead->arena = spool_source(spool);
        begin(ahead, outlet, wire);
    }
    uint64_t arrived = spool_written(spool);
    if (ahead->open && arrived > ahead->code_off) {
        uint64_t code = MIN(arrived - ahead->code_off, ahead->code_len);
        writer_ahead_ready(&ahead->stage, CAP_IMAGE_CODE_AT + code);
    }
}

struct writer_ahead *ahead_take(struct ahead *ahead)
{
    bool open = ahead->open;
    ahead->open = false;
    return open ? &ahead->stage : NULL;
}

void ahead_free(struct ahead *ahead)
{
    must(!ahead->open);
    cap_body_free(&ahead->body);
}
