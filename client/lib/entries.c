/* Heads, and bodies behind them. */
#include "client/lib/entries.h"

#include <stdio.h>

#include "client/lib/conn.h"
#include "client/lib/link.h"

static void drop_body(struct client_entries *entries)
{
    client_verify_free(entries->verify); /* it may be reading the body */
    entries->verify = NULL;
    cap_buf_free(&entries->body);
    entries->store->held -= entries->held;
    entries->held = 0;
}

void client_entries_free(struct client_entries *entries)
{
    drop_body(entries);
    entries->inside = false;
    entries->filled = 0;
    entries->given_up = CAP_OK;
    entries->message[0] = '\0';
}

/* Gives up, with the hash of the cap at hand in front of what is said. */
static void give_up(struct client_entries *entries, enum cap_error error)
{
    char hex[CAP_HASH_HEX_SIZE];
    cap_hash_format(&entries->entry.hash, hex);
    snprintf(entries->message, sizeof(entries->message), "%s: %s", hex, cap_error_text(error));
    entries->given_up = error;
}

/* The entry at hand is complete. */
static void give(struct client_entries *entries, struct capstore_cap *cap)
{
    struct capstore *store = entries->store;
    const struct capstore_closure_entry entry = {
        .hash = client_hash(&entries->entry.hash),
        .kind = (enum capstore_kind)entries->entry.kind,
        .body_len = entries->entry.body_len,
        .cap = cap,
    };
    int64_t began_ns = client_clock_ns();
    entries->inside = false;
    entries->given_up = entries->came(entries->ctx, &entry, cap);
    store->caller_ns += client_clock_ns() - began_ns;
}

/* The body at hand is complete. */
static void end_body(struct client_entries *entries)
{
    struct capstore_cap *cap = NULL;
    enum cap_error error = client_cap_make(&entries->body, &entries->entry.hash,
                                           !entries->store->no_verify, entries->verify, &cap);
    uint8_t kind = entries->entry.kind;
    drop_body(entries);
    if (error == CAP_OK && (uint8_t)cap->kind != kind) {
        capstore_cap_free(cap);
        error = CAP_E_HASH_MISMATCH; /* it is not what its head says */
    }
    if (error != CAP_OK) {
        give_up(entries, error);
    } else {
        give(entries, cap);
    }
}

/* A head is complete. CAP_E_BAD_REPLY. */
static enum cap_error take_head(struct client_entries *entries)
{
    entries->filled = 0;
    if (proto_entry_decode(entries->head, &entries->entry) != CAP_OK) {
        return CAP_E_BAD_REPLY;
    }
    if (entries->list || entries->entry.kind == 0) {
        give(entries, NULL);
    } else if (entries->entry.body_len > entries->store->max_body) {
        give_up(entries, CAP_E_BODY_TOO_LARGE);
    } else {
        entries->inside = true;
    }
    return CAP_OK;
}

/* Hashes what has come of a body that does not come at once. */
static enum cap_error verify_some(struct client_entries *entries)
{
    const struct capstore *store = entries->store;
    uint64_t len = entries->entry.body_len;
    enum cap_error error = CAP_OK;
    if (store->no_verify || len <= CLIENT_IN_SIZE) {
        return CAP_OK;
    }
    if (entries->verify == NULL) {
        error = client_verify_new(len, store->hash_thread, &entries->verify);
    }
    return error == CAP_OK ? client_verify_take(entries->verify, cap_buf_bytes(&entries->body))
                           : error;
}

/* Keeps bytes of the body at hand. */
static enum cap_error keep(struct client_entries *entries, struct cap_bytes bytes)
{
    struct capstore *store = entries->store;
    if (bytes.len > store->max_bodies - store->held) {
        return CAP_E_MEMORY_LIMIT;
    }
    if (bytes.len > entries->body.capacity - entries->body.len) {
        client_verify_pause(entries->verify); /* the buffer will move */
    }
    enum cap_error error = cap_buf_append(&entries->body, bytes.data, bytes.len);
    if (error != CAP_OK) {
        return error;
    }
    store->held += bytes.len;
    entries->held += bytes.len;
    client_moved(store, bytes.len);
    return verify_some(entries);
}

/* Takes bytes from the front of the input: of a head, or behind it. CAP_E_BAD_REPLY. */
static enum cap_error take_some(struct client_entries *entries, struct cap_bytes *input)
{
    uint64_t want = entries->inside ? entries->entry.body_len - entries->body.len
                                    : sizeof(entries->head) - entries->filled;
    size_t len = want < input->len ? (size_t)want : input->len;
    const struct cap_bytes front = {input->data, len};
    input->data += len;
    input->len -= len;
    if (entries->inside) {
        enum cap_error error = keep(entries, front);
        if (error != CAP_OK) {
            give_up(entries, error);
        } else if (len == want) {
            end_body(entries);
        }
        return CAP_OK;
    }
    memcpy(entries->head + entries->filled, front.data, len);
    entries->filled += len;
    if (len < want) {
        return CAP_OK;
    }
    enum cap_error error = take_head(entries);
    if (error == CAP_OK && entries->inside && entries->entry.body_len == 0) {
        end_body(entries);
    }
    return error;
}

enum cap_error client_entries_take(struct client_entries *entries, struct cap_bytes bytes, bool end,
                                   enum cap_error *ret_given_up)
{
    enum cap_error error = CAP_OK;
    while (error == CAP_OK && entries->given_up == CAP_OK && bytes.len > 0) {
        error = take_some(entries, &bytes);
    }
    *ret_given_up = entries->given_up;
    bool whole = !entries->inside && entries->filled == 0;
    return end && entries->given_up == CAP_OK && !whole ? CAP_E_BAD_REPLY : error;
}
