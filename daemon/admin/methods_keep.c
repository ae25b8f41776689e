/* Methods of what is kept and what goes: roots, deletion, collection. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/admin/methods.h"
#include "daemon/admin/value.h"
#include "daemon/admin/why.h"
#include "daemon/publish/writer.h"
#include "daemon/upkeep/gc.h"
#include "lib/cap/hash_set.h"
#include "lib/store/store.h"

#define PLAN_STEP 256u   /* caps due, or references, that are listed at a time */
#define PLAN_MAX  10000u /* caps that a plan can say would go; and as many that stay */

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

struct ban {
    struct cap_hash hash;
    uint32_t uid;
    const char *reason;
};

/* On the writer's thread, as the next. */
static enum cap_error forbid(struct cap_store *store, void *ctx)
{
    const struct ban *ban = ctx;
    return cap_store_forbid(store, &ban->hash, ban->uid, ban->reason);
}

static enum cap_error allow(struct cap_store *store, void *ctx)
{
    const struct ban *ban = ctx;
    return cap_store_allow(store, &ban->hash);
}

json_t *admin_cap_forbid(struct admin_call *call)
{
    struct ban ban = {.hash = call->args[ADMIN_ARG_HASH].hash,
                      .uid = call->peer.uid,
                      .reason = call->args[ADMIN_FORBID_REASON].text};
    enum cap_error error = writer_run(call->rooms->writer, forbid, &ban);
    if (error == CAP_E_STILL_NEEDED) {
        return admin_fail_needed(call, &ban.hash);
    }
    if (error != CAP_OK) {
        return fail(call, error);
    }
    return json_pack("{s:o, s:o}", "cap_hash", admin_value_hash(&ban.hash), "degraded",
                     admin_degraded_by(call->store, &ban.hash));
}

json_t *admin_cap_allow(struct admin_call *call)
{
    struct ban ban = {.hash = call->args[ADMIN_ARG_HASH].hash};
    enum cap_error error = writer_run(call->rooms->writer, allow, &ban);
    if (error == CAP_E_NOT_FOUND) {
        admin_error_cap(&call->error, error);
        snprintf(call->error.message, sizeof(call->error.message), "that cap is not forbidden");
        return NULL;
    }
    if (error != CAP_OK) {
        return fail(call, error);
    }
    events_emit(&call->rooms->context->events, EVENT_ALLOWED, &ban.hash, "%s", "");
    return json_pack("{s:o}", "cap_hash", admin_value_hash(&ban.hash));
}

/* --- Collection ------------------------------------------------------------------------------- */

json_t *admin_gc_run(struct admin_call *call)
{
    uint64_t id = 0;
    enum cap_error error = gc_start(call->rooms->gc, &id);
    return error == CAP_OK ? json_pack("{s:o}", "job", admin_value_u64(id)) : fail(call, error);
}

/* A cap that a collection would look at. */
struct planned {
    struct cap_info info;
    unsigned needed; /* CAP_NEEDED_*; 0: it would go */
    size_t with;     /* the ordinal of the Image that it goes with; its own: it goes by itself */
};

/*
 * What a plan comes to: what would go, in the order in which that is found, first what is due, then
 * what only these refer to, for a collection follows them in the same way; and what is due and
 * needed, by caps that do not go.
 */
struct plan {
    struct cap_store *store;
    struct cap_hash gone[PLAN_MAX];
    struct planned gone_as[PLAN_MAX];
    size_t gone_count;
    struct cap_hash_set set; /* of `gone` */
    struct cap_hash kept[PLAN_MAX];
    struct planned kept_as[PLAN_MAX];
    size_t kept_count;
    bool more;
};

static const char *kept_by(unsigned needed)
{
    return needed & CAP_NEEDED_ROOT        ? "root"
           : needed & CAP_NEEDED_REFERENCE ? "reference"
           : needed & CAP_NEEDED_LEASE     ? "lease"
                                           : "upload";
}

static bool would_go(const struct plan *plan, const struct cap_hash *hash)
{
    return cap_hash_set_find(&plan->set, plan->gone, hash) != CAP_HASH_ABSENT;
}

/* `with`: the ordinal of the Image that it goes with, or plan->gone_count. */
static enum cap_error add_gone(struct plan *plan, const struct cap_hash *hash,
                               const struct cap_info *info, size_t with)
{
    if (would_go(plan, hash)) {
        return CAP_OK;
    }
    if (plan->gone_count == PLAN_MAX) {
        plan->more = true;
        return CAP_OK;
    }
    plan->gone[plan->gone_count] = *hash;
    plan->gone_as[plan->gone_count] = (struct planned){.info = *info, .with = with};
    enum cap_error error = cap_hash_set_insert(&plan->set, plan->gone, plan->gone_count);
    plan->gone_count += error == CAP_OK ? 1 : 0;
    return error;
}

static enum cap_error add_due(struct plan *plan, const struct cap_due *due)
{
    if (due->needed == 0) {
        return add_gone(plan, &due->hash, &due->info, plan->gone_count);
    }
    if (plan->kept_count == PLAN_MAX) {
        plan->more = true;
        return CAP_OK;
    }
    plan->kept[plan->kept_count] = due->hash;
    plan->kept_as[plan->kept_count++] = (struct planned){.info = due->info, .needed = due->needed};
    return CAP_OK;
}

/* What is due. A snapshot for each step, so that a long plan pins little space. */
static enum cap_error plan_due(struct plan *plan)
{
    struct cap_due due[PLAN_STEP];
    struct cap_due_cursor cursor = {0};
    enum cap_error error = CAP_OK;
    bool more = true;
    while (error == CAP_OK && more && !plan->more) {
        struct cap_read *read = NULL;
        size_t count = 0;
        error = cap_store_read_begin(plan->store, &read);
        if (error == CAP_OK) {
            error = cap_store_due(read, &cursor, cap_store_clock(plan->store), PLAN_STEP, due,
                                  &count, &more);
        }
        cap_store_read_end(read);
        for (size_t i = 0; error == CAP_OK && i < count; i++) {
            error = add_due(plan, &due[i]);
        }
    }
    return error;
}

/* Whether only caps that would go refer to a cap, and nothing else keeps it. */
static enum cap_error goes_too(const struct plan *plan, struct cap_read *read,
                               const struct cap_hash *hash, bool *ret_goes)
{
    struct cap_ref refs[PLAN_STEP];
    struct cap_hash after;
    unsigned needed = 0;
    bool more = true;
    enum cap_error error = cap_store_needed(read, hash, &needed);
    *ret_goes = error == CAP_OK && (needed & ~CAP_NEEDED_REFERENCE) == 0;
    for (bool first = true; error == CAP_OK && *ret_goes && more; first = false) {
        size_t count = 0;
        error = cap_store_refs(read, hash, CAP_REFS_IN, first ? NULL : &after, PLAN_STEP, refs,
                               &count, &more);
        for (size_t i = 0; error == CAP_OK && *ret_goes && i < count; i++) {
            *ret_goes = would_go(plan, &refs[i].hash);
            after = refs[i].hash;
        }
        more = more && count > 0;
    }
    return error == CAP_E_NOT_FOUND ? CAP_OK : error;
}

/* Adds the targets of an Image that go with it. */
static enum cap_error follow(struct plan *plan, struct cap_read *read, size_t image)
{
    struct cap_ref refs[PLAN_STEP];
    struct cap_hash after;
    struct cap_info info;
    bool more = true;
    enum cap_error error = CAP_OK;
    for (bool first = true; error == CAP_OK && more && !plan->more; first = false) {
        size_t count = 0;
        error = cap_store_refs(read, &plan->gone[image], CAP_REFS_OUT, first ? NULL : &after,
                               PLAN_STEP, refs, &count, &more);
        for (size_t i = 0; error == CAP_OK && i < count; i++) {
            bool goes = false;
            after = refs[i].hash;
            error = goes_too(plan, read, &refs[i].hash, &goes);
            if (error == CAP_OK && goes && cap_store_find(read, &refs[i].hash, &info) == CAP_OK) {
                error = add_gone(plan, &refs[i].hash, &info, image);
            }
        }
        more = more && count > 0;
    }
    return error;
}

static enum cap_error make_plan(struct plan *plan)
{
    enum cap_error error = plan_due(plan);
    for (size_t at = 0; error == CAP_OK && at < plan->gone_count; at++) {
        struct cap_read *read = NULL;
        error = cap_store_read_begin(plan->store, &read);
        if (error == CAP_OK) {
            error = follow(plan, read, at);
        }
        cap_store_read_end(read);
    }
    return error;
}

static json_t *planned_json(const struct cap_hash *hash, const struct planned *cap,
                            const struct cap_hash *with)
{
    return json_pack("{s:o, s:s, s:o, s:o, s:o, s:o}", "cap_hash", admin_value_hash(hash), "kind",
                     admin_kind_name(cap->info.kind), "body_len",
                     admin_value_u64(cap->info.body_len), "published",
                     admin_value_time(cap->info.published_us), "kept_by",
                     cap->needed != 0 ? json_string(kept_by(cap->needed)) : json_null(), "with",
                     with != NULL ? admin_value_hash(with) : json_null());
}

/* The first of them: what would go, then what stays. */
static json_t *plan_json(const struct plan *plan, size_t max)
{
    json_t *list = json_array();
    uint64_t bytes = 0;
    uint64_t kept = 0;
    bool good = list != NULL;
    for (size_t i = 0; good && i < plan->gone_count; i++) {
        const struct planned *cap = &plan->gone_as[i];
        bytes += cap->info.body_len;
        good = json_array_size(list) >= max ||
               admin_append(list, planned_json(&plan->gone[i], cap,
                                               cap->with != i ? &plan->gone[cap->with] : NULL));
    }
    for (size_t i = 0; good && i < plan->kept_count; i++) {
        if (would_go(plan, &plan->kept[i])) {
            continue;
        }
        kept++;
        good = json_array_size(list) >= max ||
               admin_append(list, planned_json(&plan->kept[i], &plan->kept_as[i], NULL));
    }
    if (!good) {
        json_decref(list);
        return NULL;
    }
    return json_pack("{s:o, s:o, s:o, s:b, s:o}", "caps", admin_value_u64(plan->gone_count),
                     "bytes", admin_value_u64(bytes), "kept", admin_value_u64(kept), "more",
                     plan->more ? 1 : 0, "due", list);
}

json_t *admin_gc_plan(struct admin_call *call)
{
    struct plan *plan = calloc(1, sizeof(*plan));
    if (plan == NULL) {
        return NULL;
    }
    plan->store = call->store;
    enum cap_error error = make_plan(plan);
    json_t *result = error == CAP_OK ? plan_json(plan, (size_t)call->args[ADMIN_PLAN_LIMIT].integer)
                                     : fail(call, error);
    cap_hash_set_free(&plan->set);
    free(plan);
    return result;
}
