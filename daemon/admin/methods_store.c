/* Methods that read the store. All of them run in a thread, with a snapshot of their own. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/admin/explain.h"
#include "daemon/admin/methods.h"
#include "daemon/admin/value.h"
#include "lib/store/store.h"

#define SCAN_MAX   4096u /* entries of the store looked at under one snapshot: milliseconds */
#define SCAN_STEPS 16u   /* snapshots of one cap.list */
#define FACTS_MAX  8u    /* of a cap; there are fewer kinds */

/* The store's error. What it cannot read is a fault, as it is for clients; `hash`: of what, or
 * NULL.
 */
static json_t *fail_at(struct admin_call *call, const struct cap_hash *hash, enum cap_error error)
{
    char message[CAP_HASH_HEX_SIZE + 120];
    char hex[CAP_HASH_HEX_SIZE];
    admin_error_cap(&call->error, error);
    if (error == CAP_E_IO || error == CAP_E_CORRUPT) {
        if (hash != NULL) {
            cap_hash_format(hash, hex);
        }
        snprintf(message, sizeof(message), "%s: %s", hash != NULL ? hex : call->method->name,
                 cap_error_text(error));
        context_store_fault(call->rooms->context, error, message);
    }
    return NULL;
}

static json_t *fail(struct admin_call *call, enum cap_error error)
{
    return fail_at(call, NULL, error);
}

/* --- cap.stat, cap.find, cap.list ----------------------------------------------------------- */

static json_t *publisher_json(const struct cap_publisher *publisher)
{
    if (publisher->uid == UINT32_MAX) {
        return json_null();
    }
    return json_pack("{s:o, s:o}", "uid", admin_value_u64(publisher->uid), "gid",
                     admin_value_u64(publisher->gid));
}

static json_t *info_json(const struct cap_hash *hash, const struct cap_info *info)
{
    return json_pack(
        "{s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "cap_hash", admin_value_hash(hash), "kind",
        admin_kind_name(info->kind), "body_len", admin_value_u64(info->body_len), "size",
        admin_value_u64(info->size), "page_count", admin_value_u64(info->page_count), "ref_count",
        admin_value_u64(info->ref_count), "published", admin_value_time(info->published_us),
        "publisher", publisher_json(&info->publisher), "image_content_hash",
        info->has_content_hash ? admin_value_hash(&info->content_hash) : json_null());
}

/*
 * An absent cap. If recent refusals name the hash, such as that of an Image that needed it, the
 * hint has the last one: it may explain why the cap is absent.
 */
static json_t *fail_absent(struct admin_call *call, const struct cap_hash *hash)
{
    struct refusal refusal;
    admin_error_cap(&call->error, CAP_E_NOT_FOUND);
    if (refusals_naming(&call->rooms->context->refusals, hash, &refusal)) {
        snprintf(call->error.hint, sizeof(call->error.hint),
                 "refusal %" PRIu64 " names it: %s of %.60s, %s; see refusals.list", refusal.seq,
                 refusal.what, refusal.peer, cap_error_name(refusal.error));
    }
    return NULL;
}

static json_t *stat_json(const struct cap_hash *hash, const struct cap_info *info,
                         const struct cap_fact *damaged)
{
    json_t *result = info_json(hash, info);
    json_t *when = damaged != NULL ? admin_value_time(damaged->time_us) : json_null();
    if (json_object_set_new(result, "damaged", when) != 0) {
        json_decref(result);
        return NULL;
    }
    return result;
}

static json_t *stat_cap(struct admin_call *call, struct cap_read *read, const struct cap_hash *hash)
{
    struct cap_info info;
    struct cap_fact facts[FACTS_MAX];
    const struct cap_fact *damaged = NULL;
    size_t count = 0;
    enum cap_error error = cap_store_find(read, hash, &info);
    if (error == CAP_E_NOT_FOUND) {
        return fail_absent(call, hash);
    }
    if (error == CAP_OK || (error == CAP_E_QUARANTINED && info.kind != 0)) {
        error = cap_store_facts(read, hash, FACTS_MAX, facts, &count);
    }
    for (size_t i = 0; i < count; i++) {
        damaged = facts[i].kind == CAP_FACT_DAMAGED ? &facts[i] : damaged;
    }
    return error == CAP_OK ? stat_json(hash, &info, damaged) : fail_at(call, hash, error);
}

json_t *admin_cap_stat(struct admin_call *call)
{
    struct cap_read *read = NULL;
    enum cap_error error = cap_store_read_begin(call->store, &read);
    if (error != CAP_OK) {
        return fail(call, error);
    }
    json_t *result = stat_cap(call, read, &call->args[ADMIN_ARG_HASH].hash);
    cap_store_read_end(read);
    return result;
}

/* The hash that is looked for, or NULL with call->error. */
static const struct cap_hash *find_hash(struct admin_call *call, struct cap_read *read,
                                        struct cap_hash *hash)
{
    const struct admin_arg *prefix = &call->args[ADMIN_FIND_PREFIX];
    size_t count = 0;
    if (!prefix->given) {
        enum cap_error error =
            cap_store_find_content(read, &call->args[ADMIN_FIND_CONTENT].hash, hash);
        if (error != CAP_OK) {
            (void)fail(call, error);
            return NULL;
        }
        return hash;
    }
    enum cap_error error = cap_store_find_prefix(read, &prefix->hash, prefix->bits, hash, &count);
    if (error != CAP_OK || count == 0) {
        (void)fail(call, error != CAP_OK ? error : CAP_E_NOT_FOUND);
        return NULL;
    }
    if (count > 1) {
        admin_error_set(&call->error, ADMIN_AMBIGUOUS);
        return NULL;
    }
    return hash;
}

json_t *admin_cap_find(struct admin_call *call)
{
    bool prefix = call->args[ADMIN_FIND_PREFIX].given;
    struct cap_read *read = NULL;
    struct cap_hash hash;
    if (prefix == call->args[ADMIN_FIND_CONTENT].given) {
        admin_error_param(&call->error, prefix ? ADMIN_UNKNOWN_PARAM : ADMIN_MISSING_PARAM,
                          "prefix", "exactly one of prefix and image_content_hash is required");
        return NULL;
    }
    enum cap_error error = cap_store_read_begin(call->store, &read);
    if (error != CAP_OK) {
        return fail(call, error);
    }
    json_t *result = find_hash(call, read, &hash) != NULL ? stat_cap(call, read, &hash) : NULL;
    cap_store_read_end(read);
    return result;
}

/* One page of a listing as it grows over several snapshots. */
struct listing {
    struct cap_list_query query;
    struct cap_listed *items;
    size_t count;
    struct cap_hash last;
    bool more;
};

static void query_from(const struct admin_call *call, struct cap_list_query *query)
{
    const struct admin_arg *args = call->args;
    *query = (struct cap_list_query){
        .prefix = args[ADMIN_LIST_PREFIX].hash,
        .prefix_bits = args[ADMIN_LIST_PREFIX].bits,
        .after = args[ADMIN_LIST_CURSOR].given ? &args[ADMIN_LIST_CURSOR].hash : NULL,
        .max = (size_t)args[ADMIN_LIST_LIMIT].integer,
        .scan_max = SCAN_MAX,
    };
    if (args[ADMIN_LIST_KIND].given) {
        query->kind = args[ADMIN_LIST_KIND].choice == 0 ? CAP_KIND_IMAGE : CAP_KIND_DATA;
    }
}

/* Looks at up to SCAN_MAX entries; a snapshot is short, so that it pins little space. */
static enum cap_error list_step(struct cap_store *store, struct listing *listing)
{
    struct cap_read *read = NULL;
    struct cap_list_query query = listing->query;
    query.max -= listing->count;
    size_t count = 0;
    struct cap_hash last;
    enum cap_error error = cap_store_read_begin(store, &read);
    if (error == CAP_OK) {
        error = cap_store_list(read, &query, listing->items + listing->count, &count, &last,
                               &listing->more);
    }
    cap_store_read_end(read);
    if (error != CAP_OK) {
        return error;
    }
    listing->count += count;
    if (listing->more) {
        listing->last = last;
        listing->query.after = &listing->last;
    }
    return CAP_OK;
}

static json_t *listing_json(const struct listing *listing)
{
    json_t *caps = json_array();
    for (size_t i = 0; caps != NULL && i < listing->count; i++) {
        if (!admin_append(caps, info_json(&listing->items[i].hash, &listing->items[i].info))) {
            json_decref(caps);
            caps = NULL;
        }
    }
    return json_pack("{s:o, s:o}", "caps", caps, "cursor",
                     listing->more ? admin_value_hash(&listing->last) : json_null());
}

json_t *admin_cap_list(struct admin_call *call)
{
    struct listing listing = {.more = true};
    query_from(call, &listing.query);
    listing.items = calloc(listing.query.max, sizeof(*listing.items));
    if (listing.items == NULL) {
        return NULL;
    }
    enum cap_error error = CAP_OK;
    for (unsigned step = 0;
         error == CAP_OK && listing.more && step < SCAN_STEPS && listing.count < listing.query.max;
         step++) {
        error = list_step(call->store, &listing);
    }
    json_t *result = error == CAP_OK ? listing_json(&listing) : fail(call, error);
    free(listing.items);
    return result;
}

/* --- cap.explain and refs.list ---------------------------------------------------------------- */

json_t *admin_cap_explain(struct admin_call *call)
{
    struct admin_page page = {.offset = (uint64_t)call->args[ADMIN_EXPLAIN_OFFSET].integer,
                              .limit = (uint64_t)call->args[ADMIN_EXPLAIN_LIMIT].integer};
    struct cap_read *read = NULL;
    json_t *object = NULL;
    enum cap_error error = cap_store_read_begin(call->store, &read);
    if (error == CAP_OK) {
        error = admin_explain(read, &call->args[ADMIN_ARG_HASH].hash, &page, &object);
    }
    cap_store_read_end(read);
    return error == CAP_OK ? object : fail_at(call, &call->args[ADMIN_ARG_HASH].hash, error);
}

static json_t *refs_json(const struct cap_ref *refs, size_t count, bool more)
{
    bool go_on = more && count > 0;
    return json_pack("{s:o, s:o}", "refs", admin_value_refs(refs, count), "cursor",
                     go_on ? admin_value_hash(&refs[count - 1].hash) : json_null());
}

/* An absent cap is not_found, not an empty list. */
static enum cap_error list_refs(const struct admin_call *call, struct cap_ref *refs, size_t max,
                                size_t *ret_count, bool *ret_more)
{
    const struct admin_arg *args = call->args;
    const struct cap_hash *hash = &args[ADMIN_ARG_HASH].hash;
    const struct cap_hash *after =
        args[ADMIN_REFS_CURSOR].given ? &args[ADMIN_REFS_CURSOR].hash : NULL;
    enum cap_ref_direction direction =
        args[ADMIN_REFS_DIRECTION].choice == 0 ? CAP_REFS_OUT : CAP_REFS_IN;
    struct cap_read *read = NULL;
    enum cap_error error = cap_store_read_begin(call->store, &read);
    if (error == CAP_OK) {
        error = cap_store_find(read, hash, NULL);
    }
    if (error == CAP_OK) {
        error = cap_store_refs(read, hash, direction, after, max, refs, ret_count, ret_more);
    }
    cap_store_read_end(read);
    return error;
}

json_t *admin_refs_list(struct admin_call *call)
{
    size_t max = (size_t)call->args[ADMIN_REFS_LIMIT].integer;
    struct cap_ref *refs = calloc(max, sizeof(*refs));
    if (refs == NULL) {
        return NULL;
    }
    size_t count = 0;
    bool more = false;
    enum cap_error error = list_refs(call, refs, max, &count, &more);
    json_t *result = NULL;
    if (error == CAP_E_NOT_FOUND) {
        result = fail_absent(call, &call->args[ADMIN_ARG_HASH].hash);
    } else {
        result = error == CAP_OK ? refs_json(refs, count, more)
                                 : fail_at(call, &call->args[ADMIN_ARG_HASH].hash, error);
    }
    free(refs);
    return result;
}
