/* Methods of what is kept and what goes: roots, deletion, collection. */
#include <stdlib.h>
#include <string.h>

#include "daemon/admin/methods.h"
#include "daemon/admin/value.h"
#include "daemon/admin/why.h"
#include "daemon/publish/writer.h"
#include "daemon/upkeep/gc.h"
#include "lib/store/store.h"

#define PLAN_STEP  256u  /* caps due that one snapshot lists */
#define PLAN_STEPS 64u   /* snapshots of one gc.plan */
#define ROOTS_STEP 1000u /* the most of a page */

static json_t *fail(struct admin_call *call, enum cap_error error)
{
    admin_error_cap(&call->error, error);
    return NULL;
}

/* --- Roots ------------------------------------------------------------------------------------ */

static json_t *root_json(const struct cap_root *root)
{
    return json_pack("{s:s, s:o, s:o, s:o}", "name", root->name, "cap_hash",
                     admin_value_hash(&root->hash), "set", admin_value_time(root->set_us), "uid",
                     root->uid == UINT32_MAX ? json_null() : admin_value_u64(root->uid));
}

static json_t *roots_json(const struct cap_root *roots, size_t count, bool more)
{
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < count; i++) {
        if (!admin_append(list, root_json(&roots[i]))) {
            json_decref(list);
            list = NULL;
        }
    }
    return json_pack("{s:o, s:o}", "roots", list, "cursor",
                     more && count > 0 ? json_string(roots[count - 1].name) : json_null());
}

json_t *admin_roots_list(struct admin_call *call)
{
    const struct admin_arg *cursor = &call->args[ADMIN_ROOTS_CURSOR];
    size_t max = (size_t)call->args[ADMIN_ROOTS_LIMIT].integer;
    struct cap_root *roots = calloc(max, sizeof(*roots));
    struct cap_read *read = NULL;
    size_t count = 0;
    bool more = false;
    if (roots == NULL) {
        return NULL;
    }
    enum cap_error error = cap_store_read_begin(call->store, &read);
    if (error == CAP_OK) {
        error =
            cap_store_roots(read, cursor->given ? cursor->text : NULL, max, roots, &count, &more);
    }
    cap_store_read_end(read);
    json_t *result = error == CAP_OK ? roots_json(roots, count, more) : fail(call, error);
    free(roots);
    return result;
}

struct root_change {
    struct cap_root root;
    bool replaced;
};

/* On the writer's thread, as the next. */
static enum cap_error set_root(struct cap_store *store, void *ctx)
{
    struct root_change *change = ctx;
    return cap_store_root_set(store, &change->root, &change->replaced);
}

static enum cap_error remove_root(struct cap_store *store, void *ctx)
{
    const struct root_change *change = ctx;
    return cap_store_root_remove(store, change->root.name);
}

json_t *admin_roots_set(struct admin_call *call)
{
    struct context *context = call->rooms->context;
    struct root_change change = {.root = {.hash = call->args[ADMIN_ROOT_HASH].hash,
                                          .set_us = env_real_us(context->env),
                                          .uid = call->peer.uid}};
    strncpy(change.root.name, call->args[ADMIN_ROOT_NAME].text, CAP_ROOT_NAME_MAX);
    enum cap_error error = writer_run(call->rooms->writer, set_root, &change);
    if (error != CAP_OK) {
        return fail(call, error);
    }
    events_emit(&context->events, EVENT_ROOT_SET, &change.root.hash, "%s", change.root.name);
    return json_pack("{s:s, s:o, s:b}", "name", change.root.name, "cap_hash",
                     admin_value_hash(&change.root.hash), "replaced", change.replaced ? 1 : 0);
}

json_t *admin_roots_remove(struct admin_call *call)
{
    struct root_change change = {0};
    strncpy(change.root.name, call->args[ADMIN_ROOT_NAME].text, CAP_ROOT_NAME_MAX);
    enum cap_error error = writer_run(call->rooms->writer, remove_root, &change);
    if (error != CAP_OK) {
        return fail(call, error);
    }
    events_emit(&call->rooms->context->events, EVENT_ROOT_REMOVED, NULL, "%s", change.root.name);
    return json_pack("{s:s}", "name", change.root.name);
}

/* --- One cap ---------------------------------------------------------------------------------- */

struct deletion {
    struct cap_hash hash;
    uint32_t uid;
    bool force;
};

/* On the writer's thread. */
static enum cap_error delete_cap(struct cap_store *store, void *ctx)
{
    const struct deletion *deletion = ctx;
    return cap_store_delete(store, &deletion->hash, deletion->uid, deletion->force);
}

json_t *admin_cap_delete(struct admin_call *call)
{
    struct deletion deletion = {.hash = call->args[ADMIN_ARG_HASH].hash,
                                .uid = call->peer.uid,
                                .force = call->args[ADMIN_DELETE_FORCE].boolean};
    enum cap_error error = writer_run(call->rooms->writer, delete_cap, &deletion);
    if (error == CAP_E_STILL_NEEDED) {
        return admin_fail_needed(call, &deletion.hash);
    }
    if (error != CAP_OK) {
        return fail(call, error);
    }
    return json_pack("{s:o, s:o}", "cap_hash", admin_value_hash(&deletion.hash), "degraded",
                     admin_degraded_by(call->store, &deletion.hash));
}

/* --- Collection ------------------------------------------------------------------------------- */

json_t *admin_gc_run(struct admin_call *call)
{
    uint64_t id = 0;
    enum cap_error error = gc_start(call->rooms->gc, &id);
    return error == CAP_OK ? json_pack("{s:o}", "job", admin_value_u64(id)) : fail(call, error);
}

/* What a plan comes to. */
struct plan {
    struct cap_due_cursor cursor;
    uint64_t caps, bytes; /* that would go */
    uint64_t kept;        /* that are due and needed */
    json_t *list;         /* of the first ones that would go */
    size_t list_max;
    bool more;
};

static const char *kept_by(unsigned needed)
{
    return needed & CAP_NEEDED_ROOT        ? "root"
           : needed & CAP_NEEDED_REFERENCE ? "reference"
           : needed & CAP_NEEDED_LEASE     ? "lease"
                                           : "upload";
}

static bool plan_cap(struct plan *plan, const struct cap_due *due)
{
    json_t *why = due->needed != 0 ? json_string(kept_by(due->needed)) : json_null();
    if (due->needed == 0) {
        plan->caps++;
        plan->bytes += due->info.body_len;
    } else {
        plan->kept++;
    }
    if (json_array_size(plan->list) >= plan->list_max) {
        json_decref(why);
        return true;
    }
    return admin_append(
        plan->list,
        json_pack("{s:o, s:s, s:o, s:o, s:o}", "cap_hash", admin_value_hash(&due->hash), "kind",
                  admin_kind_name(due->info.kind), "body_len", admin_value_u64(due->info.body_len),
                  "published", admin_value_time(due->info.published_us), "kept_by", why));
}

/* A snapshot for each step, so that a long plan pins little space. */
static enum cap_error plan_step(struct cap_store *store, struct plan *plan)
{
    struct cap_due due[PLAN_STEP];
    struct cap_read *read = NULL;
    size_t count = 0;
    enum cap_error error = cap_store_read_begin(store, &read);
    if (error == CAP_OK) {
        error = cap_store_due(read, &plan->cursor, cap_store_clock(store), PLAN_STEP, due, &count,
                              &plan->more);
    }
    cap_store_read_end(read);
    for (size_t i = 0; error == CAP_OK && i < count; i++) {
        error = plan_cap(plan, &due[i]) ? CAP_OK : CAP_E_NO_MEMORY;
    }
    return error;
}

json_t *admin_gc_plan(struct admin_call *call)
{
    struct plan plan = {.list = json_array(),
                        .list_max = (size_t)call->args[ADMIN_PLAN_LIMIT].integer,
                        .more = true};
    enum cap_error error = plan.list == NULL ? CAP_E_NO_MEMORY : CAP_OK;
    for (unsigned step = 0; error == CAP_OK && plan.more && step < PLAN_STEPS; step++) {
        error = plan_step(call->store, &plan);
    }
    if (error != CAP_OK) {
        json_decref(plan.list);
        return fail(call, error);
    }
    return json_pack("{s:o, s:o, s:o, s:b, s:o}", "caps", admin_value_u64(plan.caps), "bytes",
                     admin_value_u64(plan.bytes), "kept", admin_value_u64(plan.kept), "more",
                     plan.more ? 1 : 0, "due", plan.list);
}
