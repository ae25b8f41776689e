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

enum cap_error publish_reserve(const struct publish *publish, struct ledger_peer *account,
                               uint64_t len, uint64_t max_upload, struct judgement *ret_judgement)
{
    const struct context *context = publish->shard->context;
    const struct config *config = &context->config;
    struct ledger_figures figures;
    if (len > max_upload) {
        return judgement_say(ret_judgement, CAP_E_UPLOAD_TOO_LARGE,
                             "the upload has %" PRIu64 " bytes; max-upload is %" PRIu64, len,
                             max_upload);
    }
    ledger_figures(context->ledger, &figures);
    const struct room_ask ask = {len, figures.spool, ledger_spool(context->ledger, account),
                                 config->disk_reserve, len <= SPOOL_SMALL};
    enum cap_error error = room_check(publish->room, &ask, ret_judgement);
    if (error == CAP_OK) {
        error = ledger_upload_begin(context->ledger, account, len, ret_judgement->message);
    }
    return error;
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
