/*
 * A closure, asked for cap by cap: breadth first, each cap once, without recursion.
 *
 * `found` is the queue and the record of what was seen; a set over it finds repeats. Ahead of the
 * cap that is visited next, up to WINDOW of those found are asked for: their STAT and, when the
 * bytes are needed and there is room for them, their GET, or one GET_MANY for all that are small.
 * They are visited in the order of discovery whatever the order of the answers.
 */
#include <stdio.h>
#include <stdlib.h>

#include "client/lib/closure.h"
#include "client/lib/link.h"

/* Longest body that is fetched with others: a daemon sends longer ones faster alone. */
#define SMALL_MAX (UINT64_C(64) << 10)

/* A few rounds of as many requests as daemons take at once, and a long GET_MANY. */
#define WINDOW 512u

/* A cap between `next` and `asked`. */
struct visit {
    struct closure *closure;
    enum { VISIT_IDLE, VISIT_STAT, VISIT_KNOWN, VISIT_GET, VISIT_READY } state;
    struct capstore_hash hash;
    enum capstore_kind kind;
    uint64_t body_len;
    uint64_t held; /* of closure.held */
    struct capstore_cap *cap;
    enum cap_error error;
    char message[CAPSTORE_MESSAGE_SIZE];
    struct capstore_request *request; /* its own that is in flight, or NULL */
};

struct closure {
    struct capstore *store;
    struct client_closure *call;
    unsigned flags;
    struct client_known found;  /* in order of discovery; of them no facts */
    size_t next;                /* to be visited */
    size_t asked;               /* how many of those found were asked for */
    uint64_t held;              /* bytes of bodies that are there or under way */
    struct client_link batches; /* in flight */
    struct visit window[WINDOW];
};

/* Small bodies that are asked for together. */
struct batch {
    struct client_link link;
    struct closure *closure;
    struct capstore_request *request;
    size_t count;
    struct visit *visits[WINDOW]; /* NULL once it was given: the place may be another cap's then */
    struct capstore_hash hashes[WINDOW];
};

/* What was known of a cap before; CLIENT_GIVEN and the like. */
static unsigned bits_of(const struct closure *closure, const struct cap_hash *hash)
{
    const struct client_known *known = &closure->call->known;
    size_t at = client_known_find(known, hash);
    return at == CAP_HASH_ABSENT ? 0 : known->facts[at].bits;
}

static enum cap_error add(struct closure *closure, const struct capstore_hash *hash)
{
    struct cap_hash added = client_cap_hash(hash);
    size_t at;
    if ((bits_of(closure, &added) & (CLIENT_HAD | CLIENT_WHOLE)) != 0) {
        return CAP_OK;
    }
    return client_known_add(&closure->found, closure->store->max_caps, &added, &at);
}

static enum cap_error add_references(struct closure *closure, const struct capstore_cap *cap)
{
    struct capstore_counts counts = capstore_image_counts(cap);
    for (int table = CAPSTORE_TABLE_PINNED; table <= CAPSTORE_TABLE_INITIAL; table++) {
        for (size_t i = 0; i < counts.slots[table]; i++) {
            struct capstore_slot slot = capstore_image_slot(cap, (enum capstore_table)table, i);
            enum cap_error error = add(closure, &slot.cap_hash);
            if (error != CAP_OK) {
                return error;
            }
        }
    }
    return CAP_OK;
}

/* Keeps how a request failed, with the hash in front of what is said of it unless it is in it. */
static void keep_failure(struct visit *visit, enum cap_error error, const char *said)
{
    char hex[CAPSTORE_HASH_HEX_SIZE];
    capstore_hash_format(&visit->hash, hex);
    if (strstr(said, hex) != NULL) {
        snprintf(visit->message, sizeof(visit->message), "%s", said);
    } else {
        snprintf(visit->message, sizeof(visit->message), "%s: %.*s", hex,
                 (int)(sizeof(visit->message) - sizeof(hex) - 2), said);
    }
    visit->error = error;
    visit->state = VISIT_READY;
}

/* Keeps a verified cap, which says of itself what STAT only claims. */
static void keep_cap(struct visit *visit, struct capstore_cap *cap)
{
    visit->cap = cap;
    visit->kind = capstore_cap_kind(cap);
    visit->body_len = capstore_cap_body(cap).len;
    visit->state = VISIT_READY;
}

static void on_got(void *ctx, const struct capstore_answer *answer)
{
    struct visit *visit = (struct visit *)ctx;
    visit->request = NULL;
    if (answer->error != CAPSTORE_OK) {
        keep_failure(visit, client_inner(answer->error), visit->closure->store->message);
    } else {
        keep_cap(visit, answer->cap);
    }
}

static void on_stat(void *ctx, const struct capstore_answer *answer)
{
    struct visit *visit = (struct visit *)ctx;
    bool bodies = (visit->closure->flags & CAPSTORE_CLOSURE_BODIES) != 0;
    visit->request = NULL;
    if (answer->error != CAPSTORE_OK) {
        keep_failure(visit, client_inner(answer->error), visit->closure->store->message);
        return;
    }
    visit->kind = answer->stat.kind;
    visit->body_len = answer->stat.body_len;
    visit->state = visit->kind == CAPSTORE_KIND_IMAGE || bodies ? VISIT_KNOWN : VISIT_READY;
}

/* Books room for a body of *ret_len bytes; there always is some for the one that is visited next.
 */
static bool book(struct visit *visit, bool is_next, uint64_t *ret_len)
{
    struct closure *closure = visit->closure;
    const struct capstore *store = closure->store;
    uint64_t len = visit->body_len < store->max_body ? visit->body_len : store->max_body;
    if (!is_next && (len > store->max_bodies || closure->held > store->max_bodies - len)) {
        return false;
    }
    visit->held = len;
    closure->held += len;
    visit->state = VISIT_GET;
    *ret_len = len;
    return true;
}

static enum capstore_error on_got_one(void *ctx, size_t index, enum capstore_error error,
                                      struct capstore_cap *cap)
{
    struct batch *batch = (struct batch *)ctx;
    struct visit *visit = batch->visits[index];
    batch->visits[index] = NULL;
    if (error != CAPSTORE_OK) {
        keep_failure(visit, client_inner(error), cap_error_text(client_inner(error)));
    } else {
        keep_cap(visit, cap);
    }
    return CAPSTORE_OK;
}

static void on_got_many(void *ctx, const struct capstore_answer *answer)
{
    struct batch *batch = (struct batch *)ctx;
    const char *said = batch->closure->store->message;
    for (size_t i = 0; i < batch->count; i++) {
        if (batch->visits[i] != NULL) {
            keep_failure(batch->visits[i], client_inner(answer->error), said);
        }
    }
    client_list_remove(&batch->link);
    free(batch);
}

/* Asks for the small bodies among those that are known, if they are several. */
static enum cap_error ask_small(struct closure *closure)
{
    struct capstore *store = closure->store;
    size_t count = 0;
    for (size_t i = closure->next; i < closure->asked; i++) {
        const struct visit *visit = &closure->window[i % WINDOW];
        count += visit->state == VISIT_KNOWN && visit->body_len <= SMALL_MAX;
    }
    if (count < 2 || !client_many_offered(store)) {
        return CAP_OK;
    }
    struct batch *batch = calloc(1, sizeof(*batch));
    if (batch == NULL) {
        return CAP_E_NO_MEMORY;
    }
    batch->closure = closure;
    size_t most = client_most_hashes(store);
    for (size_t i = closure->next; i < closure->asked && batch->count < most; i++) {
        struct visit *visit = &closure->window[i % WINDOW];
        uint64_t len;
        if (visit->state == VISIT_KNOWN && visit->body_len <= SMALL_MAX &&
            book(visit, i == closure->next, &len)) {
            batch->hashes[batch->count] = visit->hash;
            batch->visits[batch->count++] = visit;
        }
    }
    enum cap_error error = CAP_OK;
    if (batch->count > 0) {
        error = client_inner(capstore_async_get_many(store, batch->hashes, batch->count, on_got_one,
                                                     on_got_many, batch, &batch->request));
    }
    if (error != CAP_OK || batch->count == 0) { /* 0: there is no room yet */
        free(batch);
        return error;
    }
    client_list_add(&closure->batches, &batch->link);
    return CAP_OK;
}

/* Asks for the body, if there is room for it. */
static enum cap_error ask_body(struct visit *visit, bool is_next)
{
    struct capstore *store = visit->closure->store;
    uint64_t len;
    if (!book(visit, is_next, &len)) {
        return CAP_OK;
    }
    enum cap_error error =
        client_inner(capstore_async_get(store, &visit->hash, on_got, visit, &visit->request));
    if (error == CAP_OK) {
        visit->request->report = true;
        visit->request->most = len;
    }
    return error;
}

/* Asks for what was found and for the bodies that are known to be needed. */
static enum cap_error ask_ahead(struct closure *closure)
{
    enum cap_error error = CAP_OK;
    while (error == CAP_OK && closure->asked < closure->found.count &&
           closure->asked - closure->next < WINDOW) {
        struct visit *visit = &closure->window[closure->asked % WINDOW];
        *visit = (struct visit){.closure = closure, .state = VISIT_STAT};
        visit->hash = client_hash(&closure->found.hashes[closure->asked]); /* the queue may move */
        error = client_inner(
            capstore_async_stat(closure->store, &visit->hash, on_stat, visit, &visit->request));
        closure->asked += error == CAP_OK;
    }
    if (error == CAP_OK) {
        error = ask_small(closure);
    }
    for (size_t i = closure->next; error == CAP_OK && i < closure->asked; i++) {
        struct visit *visit = &closure->window[i % WINDOW];
        if (visit->state == VISIT_KNOWN) {
            error = ask_body(visit, i == closure->next);
        }
    }
    return error;
}

/* Whether an error says that a cap cannot be had, and the caller is to be told of those. */
static bool is_told(const struct closure *closure, enum cap_error error)
{
    bool absent = error == CAP_E_NOT_FOUND || error == CAP_E_QUARANTINED ||
                  error == CAP_E_FORBIDDEN_CAP || error == CAP_E_CORRUPT;
    return absent && (closure->flags & CAPSTORE_CLOSURE_ABSENT) != 0;
}

/* Gives the caller a cap, unless it has been given before. */
static enum cap_error give(struct closure *closure, struct visit *visit)
{
    const struct client_closure *call = closure->call;
    struct cap_hash hash = client_cap_hash(&visit->hash);
    const struct capstore_closure_entry entry = {visit->hash, visit->kind, visit->body_len,
                                                 visit->cap};
    struct capstore_cap *cap = visit->cap;
    visit->cap = NULL;
    if ((bits_of(closure, &hash) & (CLIENT_GIVEN | CLIENT_TOLD)) != 0) {
        capstore_cap_free(cap);
        return CAP_OK;
    }
    int64_t began_ns = client_clock_ns();
    enum cap_error error = client_inner(call->came(call->ctx, &entry, cap));
    closure->store->caller_ns += client_clock_ns() - began_ns;
    return error;
}

/* Visits the next cap, whose answers are there. */
static enum cap_error visit_next(struct closure *closure)
{
    struct capstore *store = closure->store;
    struct visit *visit = &closure->window[closure->next % WINDOW];
    enum cap_error error = visit->error;
    if (is_told(closure, error)) {
        visit->kind = (enum capstore_kind)0;
        visit->body_len = 0;
        error = CAP_OK;
    }
    if (error != CAP_OK) {
        client_forget(store);
        return client_say(store, error, "%s", visit->message);
    }
    if (visit->cap != NULL) {
        error = add_references(closure, visit->cap);
    }
    if (error == CAP_OK) {
        error = give(closure, visit);
    }
    capstore_cap_free(visit->cap);
    visit->cap = NULL;
    closure->held -= visit->held;
    closure->next++;
    return error;
}

static enum cap_error walk(struct closure *closure)
{
    enum cap_error error = CAP_OK;
    while (error == CAP_OK && closure->next < closure->found.count) {
        const struct visit *next = &closure->window[closure->next % WINDOW];
        if (closure->next < closure->asked && next->state == VISIT_READY) {
            error = visit_next(closure);
            continue;
        }
        error = ask_ahead(closure);
        if (error == CAP_OK) {
            (void)client_wait(closure->store); /* a failure ends the requests */
            client_deliver(closure->store);
        }
    }
    return error;
}

/* Gives up what is still in flight: also of a whole closure the END of a batch may be. */
static void drop(struct closure *closure)
{
    struct capstore *store = closure->store;
    char message[CAPSTORE_MESSAGE_SIZE];
    memcpy(message, store->message, sizeof(message));
    for (size_t i = closure->next; i < closure->asked; i++) {
        if (closure->window[i % WINDOW].request != NULL) {
            capstore_cancel(closure->window[i % WINDOW].request);
        }
    }
    const struct client_link *batches = &closure->batches;
    for (struct client_link *link = batches->next; link != batches; link = link->next) {
        void *batch = (char *)link - offsetof(struct batch, link);
        capstore_cancel(((struct batch *)batch)->request);
    }
    client_deliver(store);
    for (size_t i = closure->next; i < closure->asked; i++) {
        capstore_cap_free(closure->window[i % WINDOW].cap);
    }
    client_forget(store);
    memcpy(store->message, message, sizeof(message));
}

enum cap_error client_closure_walk(struct client_closure *call)
{
    struct closure *closure = calloc(1, sizeof(*closure));
    enum cap_error error = CAP_OK;
    if (closure == NULL) {
        return CAP_E_NO_MEMORY;
    }
    closure->store = call->store;
    closure->call = call;
    closure->flags = call->query->flags;
    client_list_init(&closure->batches);
    for (size_t i = 0; error == CAP_OK && i < call->query->root_count; i++) {
        error = add(closure, &call->query->roots[i]);
    }
    if (error == CAP_OK) {
        error = walk(closure);
    }
    drop(closure);
    client_known_free(&closure->found);
    free(closure);
    return error;
}

/* ---- the calls ---- */

/* Notes what is asked for, and what is at hand. */
static enum cap_error begin(struct client_closure *call)
{
    const struct capstore_closure_query *query = call->query;
    uint64_t max = call->store->max_caps;
    size_t at;
    for (size_t i = 0; i < query->have_count; i++) {
        struct cap_hash hash = client_cap_hash(&query->have[i]);
        enum cap_error error = client_known_add(&call->known, max, &hash, &at);
        if (error != CAP_OK) {
            return error;
        }
        call->known.facts[at].bits |= CLIENT_HAD;
    }
    for (size_t i = 0; i < query->root_count; i++) {
        struct cap_hash hash = client_cap_hash(&query->roots[i]);
        enum cap_error error = client_known_add(&call->known, max, &hash, &at);
        if (error != CAP_OK) {
            return error;
        }
        call->known.facts[at].bits |= CLIENT_NEEDED;
    }
    return CAP_OK;
}

enum capstore_error capstore_closure_many(struct capstore *store,
                                          const struct capstore_closure_query *query,
                                          capstore_came_cb *came, void *ctx)
{
    struct client_closure call = {.store = store, .query = query, .came = came, .ctx = ctx};
    const unsigned way = query->flags & (CAPSTORE_CLOSURE_BODIES | CAPSTORE_CLOSURE_LIST);
    enum cap_error error = client_begin(store);
    if (error == CAP_OK && (way == (CAPSTORE_CLOSURE_BODIES | CAPSTORE_CLOSURE_LIST))) {
        error = CAP_E_INVALID_ARGUMENT;
    }
    if (error == CAP_OK) {
        error = begin(&call);
    }
    if (error == CAP_OK) {
        /* The list alone would have to be believed, so Images come cap by cap. */
        error = way != 0 && client_closure_offered(store) ? client_closure_whole(&call)
                                                          : client_closure_walk(&call);
    }
    client_known_free(&call.known);
    return client_end(store, error);
}

/* A caller that borrows what comes. */
struct borrower {
    capstore_visit_cb *visit;
    void *ctx;
};

static enum capstore_error lend(void *ctx, const struct capstore_closure_entry *entry,
                                struct capstore_cap *cap)
{
    const struct borrower *borrower = (const struct borrower *)ctx;
    enum capstore_error error = borrower->visit(borrower->ctx, entry);
    capstore_cap_free(cap);
    return error;
}

enum capstore_error capstore_closure(struct capstore *store, const struct capstore_hash *root,
                                     unsigned flags, capstore_visit_cb *visit, void *ctx)
{
    const struct capstore_closure_query query = {.roots = root, .root_count = 1, .flags = flags};
    struct borrower borrower = {visit, ctx};
    return capstore_closure_many(store, &query, lend, &borrower);
}
