/*
 * A closure in one answer, whatever it takes.
 *
 * Happy path. One CLOSURE; its entries are verified as they arrive (entries.h) and given to the
 * caller, references before what refers to them. From the Images themselves it is known what is
 * whole: what they and all below them refer to has come.
 *
 * Failure modes.
 *   - The connection is lost, the daemon drains, the closure is larger than one answer, or a cap
 *     cannot be read while its body is under way: asked again, over a new connection if need be,
 *     for all but what is whole, of which only the caps are named that no whole one refers to. As
 *     often as something came, and a few times when nothing does. Where more would have to be named
 *     than a request takes, the rest is asked for cap by cap (closure.c).
 *   - A cap is not there: the others are given all the same, and then the call ends with that,
 *     unless the caller is told of it instead.
 *   - An entry comes twice, before what it refers to, or from elsewhere: CAP_E_BAD_REPLY.
 */
#include <stdlib.h>

#include "client/lib/closure.h"
#include "client/lib/entries.h"
#include "client/lib/link.h"

#define TRIES_MAX    6u   /* in a row, in which nothing comes: five pauses, 6 s in all */
#define PAUSE_MIN_MS 200u /* doubles */

bool client_closure_offered(const struct capstore *store)
{
    return (store->features & PROTO_FEATURE_CLOSURE) != 0;
}

/* ---- what is known ---- */

size_t client_known_find(const struct client_known *known, const struct cap_hash *hash)
{
    return cap_hash_set_find(&known->set, known->hashes, hash);
}

static enum cap_error grow(struct client_known *known)
{
    size_t capacity = known->capacity == 0 ? 64 : 2 * known->capacity;
    struct cap_hash *hashes = realloc(known->hashes, capacity * sizeof(*hashes));
    if (hashes == NULL) {
        return CAP_E_NO_MEMORY;
    }
    known->hashes = hashes;
    struct client_fact *facts = realloc(known->facts, capacity * sizeof(*facts));
    if (facts == NULL) {
        return CAP_E_NO_MEMORY;
    }
    known->facts = facts;
    known->capacity = capacity;
    return CAP_OK;
}

enum cap_error client_known_add(struct client_known *known, uint64_t max,
                                const struct cap_hash *hash, size_t *ret_at)
{
    *ret_at = client_known_find(known, hash);
    if (*ret_at != CAP_HASH_ABSENT) {
        return CAP_OK;
    }
    enum cap_error error = known->count >= max ? CAP_E_MEMORY_LIMIT : CAP_OK;
    if (error == CAP_OK && known->count == known->capacity) {
        error = grow(known);
    }
    if (error != CAP_OK) {
        return error;
    }
    *ret_at = known->count;
    known->hashes[known->count] = *hash;
    known->facts[known->count] = (struct client_fact){0};
    error = cap_hash_set_insert(&known->set, known->hashes, known->count);
    known->count += error == CAP_OK;
    return error;
}

void client_known_free(struct client_known *known)
{
    cap_hash_set_free(&known->set);
    free(known->hashes);
    free(known->facts);
    *known = (struct client_known){0};
}

/* ---- entries ---- */

struct whole {
    struct client_closure *call;
    uint32_t round; /* of asking, from 1 on */
    bool moved;     /* something new came in this round */
    bool walked;    /* cap by cap in the end, which judges what comes by itself */
};

/* Calls `visit` for each reference of an Image, until it returns false or one is not known. */
static bool each_ref(struct whole *whole, const struct capstore_cap *cap,
                     bool (*visit)(struct client_fact *fact))
{
    struct client_known *known = &whole->call->known;
    struct capstore_counts counts = capstore_image_counts(cap);
    bool good = true;
    for (int table = CAPSTORE_TABLE_PINNED; table <= CAPSTORE_TABLE_INITIAL; table++) {
        for (size_t i = 0; good && i < counts.slots[table]; i++) {
            struct capstore_slot slot = capstore_image_slot(cap, (enum capstore_table)table, i);
            struct cap_hash hash = client_cap_hash(&slot.cap_hash);
            size_t at = client_known_find(known, &hash);
            good = at != CAP_HASH_ABSENT && visit(&known->facts[at]);
        }
    }
    return good;
}

static bool has_come(struct client_fact *fact)
{
    fact->bits |= CLIENT_NEEDED;
    return (fact->bits & (CLIENT_GIVEN | CLIENT_HAD | CLIENT_ABSENT)) != 0;
}

static bool is_whole(struct client_fact *fact)
{
    return (fact->bits & (CLIENT_WHOLE | CLIENT_HAD)) != 0;
}

static bool cover(struct client_fact *fact)
{
    fact->bits |= CLIENT_COVERED;
    return true;
}

/* Notes what a cap says of itself and of others. CAP_E_BAD_REPLY: it came before what it refers to.
 */
static enum cap_error note(struct whole *whole, size_t at, const struct capstore_cap *cap)
{
    if (!each_ref(whole, cap, has_come)) {
        return CAP_E_BAD_REPLY;
    }
    if (each_ref(whole, cap, is_whole)) {
        (void)each_ref(whole, cap, cover);
        whole->moved |= (whole->call->known.facts[at].bits & CLIENT_WHOLE) == 0;
        whole->call->known.facts[at].bits |= CLIENT_WHOLE;
    }
    return CAP_OK;
}

/* The cap is not there. */
static enum cap_error note_absent(struct whole *whole, struct client_fact *fact,
                                  const struct capstore_closure_entry *entry)
{
    struct client_closure *call = whole->call;
    bool tell = (call->query->flags & CAPSTORE_CLOSURE_ABSENT) != 0 &&
                (fact->bits & (CLIENT_TOLD | CLIENT_GIVEN)) == 0;
    if ((fact->bits & CLIENT_GIVEN) == 0) {
        fact->bits |= CLIENT_ABSENT | (tell ? CLIENT_TOLD : 0);
    }
    return tell ? client_inner(call->came(call->ctx, entry, NULL)) : CAP_OK;
}

/* Takes an entry. */
static enum cap_error came(void *ctx, const struct capstore_closure_entry *entry,
                           struct capstore_cap *cap)
{
    struct whole *whole = (struct whole *)ctx;
    struct client_closure *call = whole->call;
    struct cap_hash hash = client_cap_hash(&entry->hash);
    size_t at;
    enum cap_error error = client_known_add(&call->known, call->store->max_caps, &hash, &at);
    if (error == CAP_OK && call->known.facts[at].round == whole->round) {
        error = CAP_E_BAD_REPLY; /* it came twice */
    }
    if (error == CAP_OK && cap != NULL) {
        error = note(whole, at, cap);
    }
    if (error != CAP_OK) {
        capstore_cap_free(cap);
        return error;
    }
    struct client_fact *fact = &call->known.facts[at];
    fact->round = whole->round;
    if (entry->kind == 0) {
        return note_absent(whole, fact, entry);
    }
    if ((fact->bits & (CLIENT_GIVEN | CLIENT_HAD)) != 0) {
        capstore_cap_free(cap); /* more is at hand than could be named */
        return CAP_OK;
    }
    fact->bits = (uint8_t)((fact->bits & ~CLIENT_ABSENT) | CLIENT_GIVEN);
    whole->moved = true;
    return client_inner(call->came(call->ctx, entry, cap));
}

/* ---- asking ---- */

/* Appends the hashes to be named as at hand. False: there are more than a request takes. */
static bool name_have(const struct whole *whole, size_t most, struct cap_buf *have,
                      enum cap_error *ret_error)
{
    const struct client_known *known = &whole->call->known;
    bool fits = true;
    *ret_error = CAP_OK;
    for (size_t i = 0; *ret_error == CAP_OK && i < known->count; i++) {
        unsigned bits = known->facts[i].bits;
        if ((bits & (CLIENT_WHOLE | CLIENT_HAD)) == 0 || (bits & CLIENT_COVERED) != 0) {
            continue;
        }
        if (have->len / CAP_HASH_SIZE == most) {
            fits = false;
            break;
        }
        *ret_error = cap_buf_append(have, known->hashes[i].bytes, CAP_HASH_SIZE);
    }
    return fits;
}

/* One request, from the roots on. *ret_fits false: not made, for too many are to be named. */
static enum cap_error ask(struct whole *whole, bool *ret_fits)
{
    struct client_closure *call = whole->call;
    struct capstore *store = call->store;
    const struct capstore_closure_query *query = call->query;
    struct cap_buf have = {0};
    struct cap_buf payload = {0};
    struct capstore_request *request = NULL;
    enum cap_error error;
    size_t most = client_most_hashes(store);
    if (query->root_count > most) {
        return client_say(store, CAP_E_TOO_MANY_HASHES, "more than %zu roots", most);
    }
    /* At first as many as it takes: what cannot be named comes, and is passed by. */
    *ret_fits = name_have(whole, most - query->root_count, &have, &error) || whole->round == 0;
    if (error != CAP_OK || !*ret_fits) {
        cap_buf_free(&have);
        return error;
    }
    struct client_entries entries = {
        .store = store,
        .list = (query->flags & CAPSTORE_CLOSURE_LIST) != 0,
        .came = came,
        .ctx = whole,
    };
    const struct proto_closure message = {
        .flags = entries.list ? PROTO_CLOSURE_LIST : 0,
        .roots = {query->root_count > 0 ? query->roots->bytes : NULL,
                  query->root_count * CAP_HASH_SIZE},
        .have = cap_buf_bytes(&have),
    };
    whole->round++;
    whole->moved = false;
    error = proto_closure_encode(&message, &payload);
    error = client_request_new(store, PROTO_CLOSURE, error, &payload, &request);
    cap_buf_free(&have);
    if (error == CAP_OK) {
        request->entries = &entries;
        request->report = true;
        error = client_run(request);
        client_request_free(request);
    }
    client_entries_free(&entries);
    return error;
}

/* Whether another round may help. */
static bool may_go_on(enum cap_error error)
{
    switch ((int)error) {
    case CAP_E_CLOSURE_TOO_LARGE:
    case CAP_E_CONNECTION_LOST:
    case CAP_E_CONNECT:
    case CAP_E_PROGRESS_TIMEOUT:
    case CAP_E_DRAINING:
    case CAP_E_NOT_FOUND: /* the last four: of a cap whose body had begun */
    case CAP_E_QUARANTINED:
    case CAP_E_FORBIDDEN_CAP:
    case CAP_E_CORRUPT:
        return true;
    default:
        return false;
    }
}

static enum cap_error walk(struct whole *whole)
{
    whole->walked = true;
    return client_closure_walk(whole->call);
}

/* Rounds, until all has come or nothing helps. */
static enum cap_error ask_all(struct whole *whole)
{
    struct client_closure *call = whole->call;
    struct capstore *store = call->store;
    bool list = (call->query->flags & CAPSTORE_CLOSURE_LIST) != 0;
    unsigned tries = 0;
    for (;;) {
        bool fits = true;
        enum cap_error error = CAP_OK;
        if (!capstore_connected(store)) {
            error = client_connect_again(store);
        }
        if (error == CAP_OK && !client_closure_offered(store)) {
            return walk(whole);
        }
        if (error == CAP_OK) {
            error = ask(whole, &fits);
        }
        tries = whole->moved ? 0 : tries + 1;
        whole->moved = false;
        if (!fits) {
            return walk(whole);
        }
        if (error == CAP_OK || !may_go_on(error) || tries == TRIES_MAX ||
            (error != CAP_E_CLOSURE_TOO_LARGE && store->address == NULL &&
             !capstore_connected(store)) ||
            (error == CAP_E_CLOSURE_TOO_LARGE && tries > 0)) {
            return error;
        }
        if (list && capstore_connected(store)) {
            return walk(whole); /* of what was listed nobody knows what it covers */
        }
        if (tries > 0) {
            client_sleep_ms(PAUSE_MIN_MS << (tries - 1));
        }
        client_forget(store);
    }
}

/* Whether what came is what was asked for. */
static enum cap_error judge(struct whole *whole)
{
    struct client_closure *call = whole->call;
    const struct client_known *known = &call->known;
    bool list = (call->query->flags & CAPSTORE_CLOSURE_LIST) != 0;
    for (size_t i = 0; i < known->count; i++) {
        unsigned bits = known->facts[i].bits;
        bool is_there = (bits & (CLIENT_GIVEN | CLIENT_HAD | CLIENT_ABSENT)) != 0;
        bool is_asked = (bits & (CLIENT_NEEDED | CLIENT_HAD)) != 0 || list;
        if (!is_there || !is_asked) {
            return client_say(call->store, CAP_E_BAD_REPLY,
                              "the daemon's entries are not those of the closure");
        }
        if ((bits & (CLIENT_ABSENT | CLIENT_TOLD)) == CLIENT_ABSENT) {
            char hex[CAP_HASH_HEX_SIZE];
            cap_hash_format(&known->hashes[i], hex);
            return client_say(call->store, CAP_E_NOT_FOUND, "%s: %s", hex,
                              cap_error_text(CAP_E_NOT_FOUND));
        }
    }
    return CAP_OK;
}

enum cap_error client_closure_whole(struct client_closure *call)
{
    struct whole whole = {.call = call};
    enum cap_error error = ask_all(&whole);
    return error == CAP_OK && !whole.walked ? judge(&whole) : error;
}
