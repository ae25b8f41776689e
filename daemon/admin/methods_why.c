/* `why`: what the daemon knows of a cap's being there or not. Runs in a thread, with a snapshot. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/admin/value.h"
#include "daemon/admin/why.h"
#include "lib/store/store.h"

#define SHOWN         16u   /* entries of each list */
#define PATH_MAX_CAPS 4096u /* caps that are looked at for a path to a root: some 20 ms */
#define PATH_REFS     64u   /* references of each of them */
#define FACTS_MAX     8u

/* Everything that is known of one cap. */
struct why {
    const struct cap_hash *hash;
    enum cap_error found; /* CAP_OK, or why it is not served */
    struct cap_info info; /* of one that is there, served or not */
    unsigned needed;      /* CAP_NEEDED_* */
    struct cap_root roots[SHOWN];
    size_t root_count;
    struct cap_ref referrers[SHOWN];
    size_t referrer_count;
    bool more_referrers;
    struct cap_hash broken[SHOWN]; /* what it names and cannot be served */
    size_t broken_count;
    struct cap_hash path[PATH_MAX_CAPS]; /* from the cap up to what a root names */
    size_t path_count;
    struct cap_root path_root;
    struct cap_removed removed;
    bool was_removed;
    struct cap_fact damaged;
    struct cap_forbidden forbidden; /* its time is 0: it is not */
    struct refusal refusal;
    bool refused;
};

/* --- A path to a root ------------------------------------------------------------------------- */

struct step {
    struct cap_hash hash;
    size_t below; /* where it was come from */
};

static bool is_seen(const struct step *steps, size_t count, const struct cap_hash *hash)
{
    for (size_t i = 0; i < count; i++) {
        if (cap_hash_equal(&steps[i].hash, hash)) {
            return true;
        }
    }
    return false;
}

/* Writes down the way from the cap to steps[at], which a root names. */
static void keep_path(struct why *why, const struct step *steps, size_t at)
{
    size_t count = 1;
    for (size_t i = at; i != 0; i = steps[i].below) {
        count++;
    }
    why->path_count = count;
    for (size_t i = at; count > 0; i = steps[i].below) {
        why->path[--count] = steps[i].hash;
    }
}

/* Breadth first, so the path is the shortest. */
static enum cap_error find_path(struct why *why, struct cap_read *read, struct step *steps)
{
    size_t count = 1;
    steps[0] = (struct step){*why->hash, 0};
    for (size_t at = 0; at < count; at++) {
        struct cap_ref refs[PATH_REFS];
        size_t found = 0;
        bool more = false;
        enum cap_error error =
            cap_store_roots_of(read, &steps[at].hash, 1, &why->path_root, &found);
        if (error == CAP_OK && found > 0) {
            keep_path(why, steps, at);
            return CAP_OK;
        }
        if (error == CAP_OK) {
            error = cap_store_refs(read, &steps[at].hash, CAP_REFS_IN, NULL, PATH_REFS, refs,
                                   &found, &more);
        }
        if (error != CAP_OK) {
            return error;
        }
        for (size_t i = 0; i < found && count < PATH_MAX_CAPS; i++) {
            if (!is_seen(steps, count, &refs[i].hash)) {
                steps[count++] = (struct step){refs[i].hash, at};
            }
        }
    }
    return CAP_OK;
}

/* --- What there is to know -------------------------------------------------------------------- */

/* The caps that an Image names and that cannot be served. */
static enum cap_error find_broken(struct why *why, struct cap_read *read)
{
    struct cap_ref refs[PATH_REFS];
    struct cap_hash after;
    bool more = why->info.ref_count > 0;
    bool began = false;
    while (more && why->broken_count < SHOWN) {
        size_t count = 0;
        enum cap_error error = cap_store_refs(read, why->hash, CAP_REFS_OUT, began ? &after : NULL,
                                              PATH_REFS, refs, &count, &more);
        if (error != CAP_OK) {
            return error;
        }
        for (size_t i = 0; i < count && why->broken_count < SHOWN; i++) {
            if (cap_store_is_unserved(cap_store_find(read, &refs[i].hash, NULL))) {
                why->broken[why->broken_count++] = refs[i].hash;
            }
        }
        if (count == 0) {
            break;
        }
        after = refs[count - 1].hash;
        began = true;
    }
    return CAP_OK;
}

static enum cap_error find_facts(struct why *why, struct cap_read *read)
{
    struct cap_fact facts[FACTS_MAX];
    size_t count = 0;
    enum cap_error error = cap_store_facts(read, why->hash, FACTS_MAX, facts, &count);
    for (size_t i = 0; error == CAP_OK && i < count; i++) {
        if (facts[i].kind == CAP_FACT_DAMAGED) {
            why->damaged = facts[i];
        }
    }
    return error;
}

/* The first Images that refer to a cap. */
static enum cap_error find_referrers(struct cap_read *read, const struct cap_hash *hash,
                                     struct cap_ref ret_referrers[SHOWN], size_t *ret_count,
                                     bool *ret_more)
{
    return cap_store_refs(read, hash, CAP_REFS_IN, NULL, SHOWN, ret_referrers, ret_count, ret_more);
}

static enum cap_error look(struct why *why, struct cap_read *read)
{
    why->found = cap_store_find(read, why->hash, &why->info);
    if (why->found != CAP_OK && !cap_store_is_unserved(why->found)) {
        return why->found;
    }
    enum cap_error error = cap_store_needed(read, why->hash, &why->needed);
    if (error == CAP_E_NOT_FOUND) {
        error = CAP_OK;
    }
    if (error == CAP_OK) {
        error = cap_store_roots_of(read, why->hash, SHOWN, why->roots, &why->root_count);
    }
    if (error == CAP_OK) {
        error = find_referrers(read, why->hash, why->referrers, &why->referrer_count,
                               &why->more_referrers);
    }
    if (error == CAP_OK) {
        error = find_facts(why, read);
    }
    if (error == CAP_OK) {
        error = cap_store_forbidden(read, why->hash, &why->forbidden);
        error = error == CAP_E_NOT_FOUND ? CAP_OK : error;
    }
    if (error == CAP_OK) {
        error = find_broken(why, read);
    }
    if (error == CAP_OK) {
        error = cap_store_removed(read, why->hash, &why->removed);
        why->was_removed = error == CAP_OK;
        error = error == CAP_E_NOT_FOUND ? CAP_OK : error;
    }
    return error;
}

static enum cap_error gather(struct why *why, struct cap_store *store)
{
    struct cap_read *read = NULL;
    struct step *steps = calloc(PATH_MAX_CAPS, sizeof(*steps));
    if (steps == NULL) {
        return CAP_E_NO_MEMORY;
    }
    enum cap_error error = cap_store_read_begin(store, &read);
    if (error == CAP_OK) {
        error = look(why, read);
    }
    if (error == CAP_OK) {
        error = find_path(why, read, steps);
    }
    cap_store_read_end(read);
    free(steps);
    return error;
}

/* --- How it is said --------------------------------------------------------------------------- */

static const char *state_of(const struct why *why)
{
    if (why->found == CAP_E_QUARANTINED) {
        return "quarantined";
    }
    if (why->found == CAP_E_FORBIDDEN_CAP) {
        return "forbidden";
    }
    if (why->found != CAP_OK) {
        return "absent";
    }
    return why->broken_count > 0 ? "degraded" : "published";
}

static const char *cause_name(enum cap_gone_cause cause)
{
    return cause == CAP_GONE_COLLECTED   ? "collected"
           : cause == CAP_GONE_FORBIDDEN ? "forbidden"
                                         : "deleted";
}

static const char *absence(const struct why *why)
{
    if (why->was_removed && why->removed.cause == CAP_GONE_COLLECTED) {
        return "it was collected, for nothing kept it any more; publish it again, under a root or "
               "with a longer lease";
    }
    if (why->was_removed) {
        return "an operator deleted it; publish it again if it is needed";
    }
    if (why->refused) {
        return "it is not here; a refusal names it, which says what to fix";
    }
    return "it was never published here, or it went too long ago; publish it";
}

static const char *summary(const struct why *why)
{
    if (why->found == CAP_E_QUARANTINED) {
        return "its bytes are damaged, so it is quarantined; publish it again, which heals it";
    }
    if (why->found == CAP_E_FORBIDDEN_CAP) {
        return "it is forbidden here; allow it (capctl allow) if it may be published again";
    }
    if (why->found != CAP_OK) {
        return absence(why);
    }
    if (why->broken_count > 0) {
        return "it is degraded: caps that it needs cannot be served; publish these again";
    }
    if (why->path_count > 0) {
        return "a root keeps it; remove the root if it is to go";
    }
    if ((why->needed & CAP_NEEDED_REFERENCE) != 0) {
        return "Images that no root keeps refer to it; it can go when they have gone";
    }
    if ((why->needed & CAP_NEEDED_LEASE) != 0) {
        return "a lease keeps it for a while; set a root to keep it longer";
    }
    if ((why->needed & CAP_NEEDED_HOLD) != 0) {
        return "an upload under way keeps it; set a root to keep it longer";
    }
    return "nothing keeps it: the next collection takes it; set a root to keep it";
}

static json_t *hashes_json(const struct cap_hash *hashes, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < count; i++) {
        if (!admin_append(list, admin_value_hash(&hashes[i]))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *referrers_json(const struct cap_ref *refs, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < count; i++) {
        if (!admin_append(list, admin_value_hash(&refs[i].hash))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *names_json(const struct cap_root *roots, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < count; i++) {
        if (!admin_append(list, json_string(roots[i].name))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *removed_json(const struct why *why)
{
    if (!why->was_removed) {
        return json_null();
    }
    bool by_itself = why->removed.uid == UINT32_MAX;
    return json_pack("{s:o, s:s, s:o}", "time", admin_value_time(why->removed.time_us), "cause",
                     cause_name(why->removed.cause), "uid",
                     by_itself ? json_null() : admin_value_u64(why->removed.uid));
}

static json_t *forbidden_json(const struct why *why)
{
    if (why->forbidden.time_us == 0) {
        return json_null();
    }
    bool by_itself = why->forbidden.uid == UINT32_MAX;
    return json_pack("{s:o, s:o, s:o}", "time", admin_value_time(why->forbidden.time_us), "reason",
                     admin_value_text(why->forbidden.reason), "uid",
                     by_itself ? json_null() : admin_value_u64(why->forbidden.uid));
}

static json_t *refusal_json(const struct why *why)
{
    const struct refusal *refusal = &why->refusal;
    if (!why->refused) {
        return json_null();
    }
    return json_pack("{s:o, s:o, s:o, s:s, s:s, s:o}", "seq", admin_value_u64(refusal->seq), "time",
                     admin_value_time(refusal->time_us), "peer", admin_value_text(refusal->peer),
                     "what", refusal->what, "reason", cap_error_name(refusal->error), "message",
                     admin_value_text(refusal->message));
}

static json_t *path_json(const struct why *why)
{
    if (why->path_count == 0) {
        return json_null();
    }
    return json_pack("{s:s, s:o}", "root", why->path_root.name, "caps",
                     hashes_json(why->path, why->path_count));
}

/* How much of its lease is left. */
static uint64_t lease_s(const struct why *why, uint64_t clock_s)
{
    return why->info.kept_until_s > clock_s ? why->info.kept_until_s - clock_s : 0;
}

static json_t *why_json(const struct why *why, uint64_t clock_s)
{
    bool there = why->info.kind != 0;
    return json_pack(
        "{s:o, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:b, s:o, s:b, s:o, s:o, s:o, s:o, s:o, s:o}",
        "cap_hash", admin_value_hash(why->hash), "state", state_of(why), "summary", summary(why),
        "kind", there ? json_string(admin_kind_name(why->info.kind)) : json_null(), "body_len",
        there ? admin_value_u64(why->info.body_len) : json_null(), "published",
        there ? admin_value_time(why->info.published_us) : json_null(), "roots",
        names_json(why->roots, why->root_count), "references",
        referrers_json(why->referrers, why->referrer_count), "more_references",
        why->more_referrers ? 1 : 0, "lease_s", admin_value_u64(lease_s(why, clock_s)), "held",
        (why->needed & CAP_NEEDED_HOLD) != 0 ? 1 : 0, "path", path_json(why), "broken",
        hashes_json(why->broken, why->broken_count), "quarantined",
        admin_value_time(why->damaged.time_us), "forbidden", forbidden_json(why), "removed",
        removed_json(why), "refusal", refusal_json(why));
}

json_t *admin_why(struct admin_call *call)
{
    struct why *why = calloc(1, sizeof(*why));
    json_t *result = NULL;
    if (why == NULL) {
        return NULL;
    }
    why->hash = &call->args[ADMIN_ARG_HASH].hash;
    enum cap_error error = gather(why, call->store);
    if (error != CAP_OK) {
        admin_error_cap(&call->error, error);
    } else {
        why->refused = refusals_naming(&call->rooms->context->refusals, why->hash, &why->refusal);
        result = why_json(why, cap_store_clock(call->store));
    }
    free(why);
    return result;
}

/* --- For other methods ------------------------------------------------------------------------ */

/* What keeps the cap, for programs; NULL without memory. */
static json_t *needed_by_json(const struct admin_call *call, const struct why *why)
{
    uint64_t left_us = lease_s(why, cap_store_clock(call->store)) * 1000000;
    uint64_t until_us = left_us > 0 ? env_real_us(call->rooms->context->env) + left_us : 0;
    return json_pack("{s:o, s:b, s:o, s:o}", "caps",
                     admin_value_refs(why->referrers, why->referrer_count), "more",
                     why->more_referrers ? 1 : 0, "roots", names_json(why->roots, why->root_count),
                     "kept_until", admin_value_time(until_us));
}

json_t *admin_fail_needed(struct admin_call *call, const struct cap_hash *hash)
{
    struct why *why = calloc(1, sizeof(*why));
    admin_error_cap(&call->error, CAP_E_STILL_NEEDED);
    if (why == NULL) {
        return NULL;
    }
    why->hash = hash;
    if (gather(why, call->store) == CAP_OK) {
        char hex[CAP_HASH_HEX_SIZE] = "";
        char *hint = call->error.hint;
        size_t size = sizeof(call->error.hint);
        if (why->root_count > 0) {
            snprintf(hint, size, "roots name it, such as %.100s: see why", why->roots[0].name);
        } else if (why->referrer_count > 0) {
            cap_hash_format(&why->referrers[0].hash, hex);
            bool one = why->referrer_count == 1 && !why->more_referrers;
            snprintf(hint, size, "%zu%s Image%s to it, such as %s: see why", why->referrer_count,
                     why->more_referrers ? " or more" : "", one ? " refers" : "s refer", hex);
        } else if ((why->needed & CAP_NEEDED_LEASE) != 0) {
            snprintf(hint, size, "a lease keeps it: see why; force deletes it all the same");
        } else {
            snprintf(hint, size, "an upload under way needs it: try again");
        }
        call->error.needed_by = needed_by_json(call, why);
    }
    free(why);
    return NULL;
}

json_t *admin_degraded_by(struct cap_store *store, const struct cap_hash *hash)
{
    struct cap_ref referrers[SHOWN];
    struct cap_read *read = NULL;
    size_t count = 0;
    bool more = false;
    enum cap_error error = cap_store_read_begin(store, &read);
    if (error == CAP_OK) {
        error = find_referrers(read, hash, referrers, &count, &more);
    }
    cap_store_read_end(read);
    return referrers_json(referrers, error == CAP_OK ? count : 0);
}
