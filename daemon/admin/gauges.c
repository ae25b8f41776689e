/* Gauges and the limits beside them. */
#include "daemon/admin/gauges.h"

#include <sys/param.h>

#include "daemon/core/fetcher.h"
#include "daemon/core/ledger.h"
#include "daemon/publish/park.h"
#include "daemon/publish/writer.h"
#include "daemon/serve/copies.h"
#include "daemon/upkeep/backup.h"
#include "daemon/upkeep/scrub.h"

/* Of the daemon above. */
static void gauge_upstream(struct fetcher *fetcher, struct gauges *gauges)
{
    struct fetcher_figures figures;
    if (fetcher == NULL) {
        return;
    }
    fetcher->figures(fetcher, &figures);
    gauges->upstream_flights = figures.waiting + figures.under_way;
    gauges->upstream_away = figures.is_away ? 1 : 0;
    gauges->upstream_broken = figures.is_broken ? 1 : 0;
    for (size_t i = 0; i < figures.fetch_count; i++) {
        gauges->upstream_fetch_us = MAX(gauges->upstream_fetch_us, figures.fetches[i].took_us);
    }
}

void admin_gauges(const struct admin_rooms *rooms, struct gauges *ret_gauges)
{
    struct context *context = rooms->context;
    const struct config *config = &context->config;
    struct stats stats;
    context_stats(rooms->context, &stats);
    struct ledger_figures held = {0};
    size_t jobs = 0;
    size_t hash_peers = 0;
    pool_figures(&context->pool, &jobs, &hash_peers);
    ledger_figures(context->ledger, &held);
    struct park_figures parked;
    park_figures(context->park, &parked);
    struct copies_figures maps = {0};
    if (rooms->copies != NULL) {
        copies_figures(rooms->copies, &maps);
    }
    struct backups_figures backups;
    backups_figures(rooms->backups, &backups);
    uint64_t now_us = env_real_us(context->env);
    struct scrub_figures scrub;
    scrub_figures(rooms->scrub, &scrub);
    *ret_gauges = (struct gauges){
        .uptime_ms = (env_monotonic_us(context->env) - context->started_monotonic_us) / 1000,
        .connections = held.connections,
        .requests = stats.now.requests,
        .uploads = held.uploads,
        .spool_bytes = held.spool,
        .parked_uploads = parked.count,
        .parked_bytes = parked.bytes,
        .memory_bytes = held.memory,
        .buffer_bytes = held.buffers,
        .jobs = jobs,
        .hash_peers = hash_peers,
        .writer_queue = writer_queued(rooms->writer),
        .stall_max_us = stats.stall_max_us,
        .read_jobs = stats.now.read_jobs,
        .record_bytes = stats.now.record_bytes,
        .max_record_bytes = config->record_cache,
        .body_bytes = stats.now.body_bytes,
        .max_body_bytes = config->body_cache,
        .map_bytes = maps.bytes,
        .map_copies = maps.count,
        .max_map_bytes = config->map_cache,
        .writer_held_us = writer_held_us(rooms->writer),
        .backups = backups.count,
        .backup_age_us =
            backups.made_us == 0 || backups.made_us > now_us ? 0 : now_us - backups.made_us,
        .backup_failed = backups.failed ? 1 : 0,
        .gc_high = config->gc_high,
        .scrub_running = scrub.running ? 1 : 0,
        .scrub_ended_us = scrub.state.ended_us,
        .scrub_last_findings = scrub.state.last_findings,
        .scrub_caps = scrub.progress.caps,
        .scrub_caps_total = scrub.progress.caps_total,
        .draining = context->phase == PHASE_DRAINING ? 1 : 0,
        .max_connections = config->max_connections,
        .max_uploads = config->max_uploads,
        .max_spool = config->max_spool,
        .max_memory = config->max_memory,
        .peers = held.peers,
        .max_requests = config->max_all_requests,
        .max_buffers = config->max_buffers,
        .peer_connections = ledger_share(config, LEDGER_CONNECTIONS),
        .peer_requests = ledger_share(config, LEDGER_REQUESTS),
        .peer_uploads = ledger_share(config, LEDGER_UPLOADS),
        .peer_spool = ledger_share(config, LEDGER_SPOOL),
        .peer_memory = ledger_share(config, LEDGER_MEMORY),
        .peer_maps = ledger_share(config, LEDGER_MAPS),
        .peer_hashing = config->max_peer_hashing,
        .quota_bytes = config->quota_bytes,
        .quota_caps = config->quota_caps,
        .quota_hourly = config->quota_hourly,
        .quota_total = config->quota_total,
    };
    gauge_upstream(context->fetcher, ret_gauges);
}
