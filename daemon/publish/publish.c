/* The room of uploads. */
#include "daemon/publish/publish.h"

#include <inttypes.h>

#include "daemon/core/container.h"
#include "daemon/core/ledger.h"
#include "daemon/core/statedir.h"
#include "daemon/publish/park.h"

static void on_drained(void *ctx)
{
    hub_resume(ctx);
}

enum cap_error publish_open(struct publish *publish, struct hub *hub, struct writer *writer,
                            struct room *room)
{
    struct context *context = hub->shard->context;
    *publish = (struct publish){
        .hub = hub,
        .shard = hub->shard,
        .room = room,
        .spools =
            {
                .pool = &hub->shard->pool,
                .ledger = context->ledger,
                .dir = context->statedir->spool_dir,
                .disk = spool_disk_system(),
                .on_disk = &room->spooled,
                .drained = on_drained,
                .ctx = hub,
            },
    };
    keeping_init(&publish->keeping, &publish->outlet);
    hub->shard->keeper = &publish->keeping.keeper;
    return writer_outlet_open(&publish->outlet, writer, &hub->shard->loop, &hub->shard->stats);
}

void publish_close(struct publish *publish)
{
    keeping_close(&publish->keeping);
    writer_outlet_close(&publish->outlet);
}

/* What one upload, and those that may be in flight beside it, can ask room_check for at most. */
static uint64_t most_asked(const struct config *config)
{
    uint64_t uploads = config->max_upload + config->max_spool;
    bool wraps = uploads < config->max_spool || uploads > (UINT64_MAX - config->disk_reserve) / 2;
    return wraps ? UINT64_MAX : 2 * uploads + config->disk_reserve;
}

enum cap_error publish_look(const struct publish *publish)
{
    const struct context *context = publish->shard->context;
    return room_refresh(publish->room, context->env, context->statedir->spool_dir,
                        context->statedir->store_dir, context->store, most_asked(&context->config));
}

_Static_assert(LEDGER_WHY_SIZE <= CAP_REFUSAL_MESSAGE_SIZE, "the ledger writes into a message");

/* Whether the disk has room for an upload; *ret_drop: in place of what is parked. */
static enum cap_error check_room(const struct publish *publish, const struct publish_ask *ask,
                                 bool *ret_drop, struct judgement *ret_judgement)
{
    const struct context *context = publish->shard->context;
    struct ledger_figures figures;
    struct park_figures parked;
    ledger_figures(context->ledger, &figures);
    struct room_ask room = {
        .len = ask->len,
        .reserved = figures.spool,
        .own = ledger_spool(context->ledger, ask->account),
        .reserve = context->config.disk_reserve,
        .in_memory = ask->len <= SPOOL_SMALL,
    };
    *ret_drop = false;
    enum cap_error error = room_check(publish->room, &room, ret_judgement);
    if (error != CAP_E_DISK_FULL || ask->goes_on) {
        return error;
    }
    park_figures(context->park, &parked);
    room.parked = parked.bytes;
    error = room_check(publish->room, &room, ret_judgement);
    if (error == CAP_OK) {
        cap_buf_free(&ret_judgement->detail);
        (void)judgement_set(ret_judgement, CAP_OK);
        *ret_drop = true;
    }
    return error;
}

enum cap_error publish_reserve(const struct publish *publish, const struct publish_ask *ask,
                               bool *ret_drop, struct judgement *ret_judgement)
{
    if (ask->len > ask->max_upload) {
        return judgement_say(ret_judgement, CAP_E_UPLOAD_TOO_LARGE,
                             "the upload has %" PRIu64 " bytes; max-upload is %" PRIu64, ask->len,
                             ask->max_upload);
    }
    enum cap_error error = check_room(publish, ask, ret_drop, ret_judgement);
    return error == CAP_OK ? ledger_upload_begin(publish->shard->context->ledger, ask->account,
                                                 ask->len, ret_judgement->message)
                           : error;
}

static void run_refresh(struct pool_job *job)
{
    (void)publish_look(CONTAINER_OF(job, struct publish, refresh));
}

static void on_refreshed(struct pool_job *job)
{
    CONTAINER_OF(job, struct publish, refresh)->refreshing = false;
}

/* What is kept of uploads that were cut off, until the disk is short. */
static void clear_park(const struct publish *publish)
{
    const struct context *context = publish->shard->context;
    bool is_short = atomic_load(&publish->room->disk_free) < context->config.disk_reserve;
    park_clear(context->park, env_monotonic_us(context->env), is_short, &publish->shard->pool);
}

void publish_tick(struct publish *publish)
{
    clear_park(publish);
    if (!publish->refreshing) {
        publish->refreshing = true;
        publish->refresh = (struct pool_job){.run = run_refresh, .done = on_refreshed};
        pool_submit(&publish->shard->pool, &publish->refresh);
    }
}
