/* Methods of the scrub, and what it and readers found broken. */
#include <string.h>

#include "daemon/admin/methods.h"
#include "daemon/admin/value.h"
#include "daemon/upkeep/scrub.h"

#define BROKEN_MAX   100u /* shown */
#define DEGRADED_MAX 100u

static json_t *fail(struct admin_call *call, enum cap_error error)
{
    admin_error_cap(&call->error, error);
    return NULL;
}

json_t *admin_scrub_start(struct admin_call *call)
{
    uint64_t id = 0;
    enum cap_error error =
        scrub_start(call->rooms->scrub, call->args[ADMIN_SCRUB_REPAIR].boolean, &id);
    return error == CAP_OK ? json_pack("{s:o}", "job", admin_value_u64(id)) : fail(call, error);
}

json_t *admin_scrub_pause(struct admin_call *call)
{
    uint64_t id = 0;
    enum cap_error error = scrub_pause(call->rooms->scrub, &id);
    return error == CAP_OK ? json_pack("{s:o}", "job", admin_value_u64(id)) : fail(call, error);
}

/* --- What is broken --------------------------------------------------------------------------- */

/* Appends the Images that refer to a broken cap. CAP_E_NO_MEMORY, or the store's error. */
static enum cap_error add_degraded(json_t *degraded, struct cap_read *read,
                                   const struct cap_hash *broken)
{
    struct cap_ref refs[DEGRADED_MAX];
    size_t count = 0;
    bool more = false;
    size_t room = DEGRADED_MAX - json_array_size(degraded);
    if (room == 0) {
        return CAP_OK;
    }
    enum cap_error error =
        cap_store_refs(read, broken, CAP_REFS_IN, NULL, room, refs, &count, &more);
    for (size_t i = 0; error == CAP_OK && i < count; i++) {
        json_t *item = json_pack("{s:o, s:o}", "cap_hash", admin_value_hash(&refs[i].hash), "needs",
                                 admin_value_hash(broken));
        error = admin_append(degraded, item) ? CAP_OK : CAP_E_NO_MEMORY;
    }
    return error == CAP_E_CORRUPT ? CAP_OK : error; /* which a scrub with repair mends */
}

static enum cap_error add_broken(json_t *broken, json_t *degraded, struct cap_read *read)
{
    struct cap_broken found[BROKEN_MAX];
    size_t count = 0;
    bool more = false;
    enum cap_error error = cap_store_broken(read, NULL, BROKEN_MAX, found, &count, &more);
    for (size_t i = 0; error == CAP_OK && i < count; i++) {
        json_t *item = json_pack("{s:o, s:s, s:o}", "cap_hash", admin_value_hash(&found[i].hash),
                                 "why", found[i].kind == CAP_FACT_LOST ? "lost" : "damaged",
                                 "since", admin_value_time(found[i].time_us));
        error = admin_append(broken, item) ? CAP_OK : CAP_E_NO_MEMORY;
        if (error == CAP_OK) {
            error = add_degraded(degraded, read, &found[i].hash);
        }
    }
    return error;
}

/* Members "broken" and "degraded". */
static json_t *broken_json(struct admin_call *call)
{
    struct cap_read *read = NULL;
    json_t *broken = json_array();
    json_t *degraded = json_array();
    enum cap_error error = CAP_E_NO_MEMORY;
    if (broken != NULL && degraded != NULL) {
        error = cap_store_read_begin(call->store, &read);
    }
    if (error == CAP_OK) {
        error = add_broken(broken, degraded, read);
        cap_store_read_end(read);
    }
    if (error != CAP_OK) {
        json_decref(broken);
        json_decref(degraded);
        return fail(call, error);
    }
    return json_pack("{s:o, s:o}", "broken", broken, "degraded", degraded);
}

/* --- The scrub -------------------------------------------------------------------------------- */

static const char *state_name(const struct scrub_figures *figures)
{
    if (figures->running) {
        return "running";
    }
    if (figures->state.began_us == 0) {
        return "idle";
    }
    return figures->state.paused ? "paused" : "interrupted";
}

static json_t *age_json(const struct admin_call *call, const struct scrub_figures *figures)
{
    uint64_t now_us = env_real_us(call->rooms->context->env);
    uint64_t ended_us = figures->state.ended_us;
    if (ended_us == 0) {
        return json_null();
    }
    return admin_value_u64(now_us > ended_us ? (now_us - ended_us) / 1000000 : 0);
}

json_t *admin_scrub_summary(struct admin_call *call)
{
    struct scrub_figures figures;
    scrub_figures(call->rooms->scrub, &figures);
    const struct cap_scrub_state *state = &figures.state;
    json_t *result = broken_json(call);
    json_t *scrub = json_pack("{s:s, s:o, s:o, s:o, s:o}", "state", state_name(&figures), "ended",
                              admin_value_time(state->ended_us), "age_s", age_json(call, &figures),
                              "findings", admin_value_u64(state->findings), "last_findings",
                              admin_value_u64(state->last_findings));
    if (result == NULL || json_object_set_new(result, "scrub", scrub) != 0) {
        json_decref(result);
        return NULL;
    }
    return result;
}

static json_t *done_of(uint64_t done, uint64_t total)
{
    return json_pack("{s:o, s:o}", "done", admin_value_u64(done), "total", admin_value_u64(total));
}

static json_t *recent_json(struct scrub *scrub)
{
    struct scrub_finding findings[SCRUB_FINDINGS];
    size_t count = scrub_findings(scrub, findings);
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < count; i++) {
        const struct scrub_finding *finding = &findings[i];
        json_t *item =
            json_pack("{s:o, s:o, s:o}", "time", admin_value_time(finding->time_us), "cap_hash",
                      finding->has_hash ? admin_value_hash(&finding->hash) : json_null(), "what",
                      admin_value_text(finding->what));
        if (!admin_append(list, item)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

json_t *admin_scrub_status(struct admin_call *call)
{
    const struct config *config = &call->rooms->context->config;
    struct scrub_figures figures;
    scrub_figures(call->rooms->scrub, &figures);
    const struct cap_scrub_state *state = &figures.state;
    const struct cap_check_progress *progress = &figures.progress;
    json_t *result = broken_json(call);
    json_t *scrub = json_pack(
        "{s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "state",
        state_name(&figures), "repair", figures.running && figures.repair ? 1 : 0, "index",
        figures.running && progress->index != NULL ? json_string(progress->index) : json_null(),
        "caps", done_of(progress->caps, progress->caps_total), "bytes",
        done_of(progress->bytes, progress->bytes_total), "began", admin_value_time(state->began_us),
        "findings", admin_value_u64(state->findings), "repaired", admin_value_u64(state->mended),
        "unrepaired", admin_value_u64(state->unmended), "ended", admin_value_time(state->ended_us),
        "age_s", age_json(call, &figures), "last_findings", admin_value_u64(state->last_findings),
        "last_unrepaired", admin_value_u64(state->last_unmended), "period_s",
        admin_value_u64(config->scrub_period), "rate", admin_value_u64(config->scrub_rate),
        "recent", recent_json(call->rooms->scrub));
    if (result == NULL || scrub == NULL || json_object_update(result, scrub) != 0) {
        json_decref(result);
        result = NULL;
    }
    json_decref(scrub);
    return result;
}
