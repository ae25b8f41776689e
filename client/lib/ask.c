/* Questions and fetches: has, stat, get. */
#include <stdlib.h>

#include "client/lib/conn.h"

/* ---- making requests ---- */

static enum cap_error make_has(struct capstore *store, const struct capstore_hash *hashes,
                               size_t count, uint32_t keep_s, struct capstore_request **ret_request)
{
    _Static_assert(sizeof(*hashes) == CAP_HASH_SIZE, "hashes lie without gaps");
    struct proto_has message = {
        {count > 0 ? hashes->bytes : NULL, count * CAP_HASH_SIZE}, count, keep_s};
    struct cap_buf payload = {0};
    enum cap_error encoded = client_leases(store) ? proto_has_keep_encode(&message, &payload)
                                                  : proto_has_encode(&message, &payload);
    enum cap_error error = client_request_new(store, PROTO_HAS, encoded, &payload, ret_request);
    if (error == CAP_OK) {
        (*ret_request)->count = count;
    }
    return error;
}

static enum cap_error make_keep(struct capstore *store, const struct capstore_hash *hashes,
                                size_t count, uint32_t keep_s,
                                struct capstore_request **ret_request)
{
    enum cap_error error = client_check_leases(store);
    if (error == CAP_OK) {
        error = make_has(store, hashes, count, keep_s, ret_request);
    }
    if (error == CAP_OK) {
        (*ret_request)->keeps = true;
    }
    return error;
}

static enum cap_error make_stat(struct capstore *store, const struct capstore_hash *hash,
                                struct capstore_request **ret_request)
{
    struct proto_stat message = {client_cap_hash(hash)};
    struct cap_buf payload = {0};
    enum cap_error encoded = proto_stat_encode(&message, &payload);
    return client_request_new(store, PROTO_STAT, encoded, &payload, ret_request);
}

static enum cap_error make_get(struct capstore *store, const struct capstore_hash *hash,
                               uint64_t offset, uint64_t len, struct capstore_request **ret_request)
{
    struct proto_get message = {client_cap_hash(hash), offset, len};
    struct cap_buf payload = {0};
    enum cap_error encoded = proto_get_encode(&message, &payload);
    enum cap_error error = client_request_new(store, PROTO_GET, encoded, &payload, ret_request);
    if (error == CAP_OK) {
        (*ret_request)->hash = *hash;
        (*ret_request)->offset = offset;
        (*ret_request)->len = len;
    }
    return error;
}

size_t client_most_hashes(const struct capstore *store)
{
    size_t in_frame = (store->limits.frame - 64u) / CAP_HASH_SIZE;
    return store->limits.hashes < in_frame ? store->limits.hashes : in_frame;
}

/* ---- without blocking ---- */

enum capstore_error capstore_async_get(struct capstore *store, const struct capstore_hash *hash,
                                       capstore_done_cb *done, void *ctx,
                                       struct capstore_request **ret_request)
{
    struct capstore_request *request = NULL;
    if (done == NULL) {
        return CAPSTORE_E_INVALID_ARGUMENT;
    }
    enum cap_error error = make_get(store, hash, 0, PROTO_TO_END, &request);
    return client_public(client_submit_made(error, request, done, ctx, ret_request));
}

enum capstore_error capstore_async_get_range(struct capstore *store,
                                             const struct capstore_hash *hash, uint64_t offset,
                                             uint64_t len, capstore_write_cb *write,
                                             capstore_done_cb *done, void *ctx,
                                             struct capstore_request **ret_request)
{
    struct capstore_request *request = NULL;
    if (done == NULL || write == NULL) {
        return CAPSTORE_E_INVALID_ARGUMENT;
    }
    enum cap_error error = make_get(store, hash, offset, len, &request);
    if (error == CAP_OK) {
        request->write = write;
        request->write_ctx = ctx;
    }
    return client_public(client_submit_made(error, request, done, ctx, ret_request));
}

enum capstore_error capstore_async_has(struct capstore *store, const struct capstore_hash *hashes,
                                       size_t count, capstore_done_cb *done, void *ctx,
                                       struct capstore_request **ret_request)
{
    struct capstore_request *request = NULL;
    if (!capstore_connected(store) || done == NULL) {
        return done == NULL ? CAPSTORE_E_INVALID_ARGUMENT : CAPSTORE_E_CONNECTION_LOST;
    }
    if (count > client_most_hashes(store)) {
        return CAPSTORE_E_TOO_MANY_HASHES;
    }
    enum cap_error error = make_has(store, hashes, count, 0, &request);
    return client_public(client_submit_made(error, request, done, ctx, ret_request));
}

enum capstore_error capstore_async_keep(struct capstore *store, const struct capstore_hash *hashes,
                                        size_t count, uint32_t keep_s, capstore_done_cb *done,
                                        void *ctx, struct capstore_request **ret_request)
{
    struct capstore_request *request = NULL;
    if (!capstore_connected(store) || done == NULL) {
        return done == NULL ? CAPSTORE_E_INVALID_ARGUMENT : CAPSTORE_E_CONNECTION_LOST;
    }
    if (count > client_most_hashes(store)) {
        return CAPSTORE_E_TOO_MANY_HASHES;
    }
    enum cap_error error = make_keep(store, hashes, count, keep_s, &request);
    return client_public(client_submit_made(error, request, done, ctx, ret_request));
}

enum capstore_error capstore_async_stat(struct capstore *store, const struct capstore_hash *hash,
                                        capstore_done_cb *done, void *ctx,
                                        struct capstore_request **ret_request)
{
    struct capstore_request *request = NULL;
    if (done == NULL) {
        return CAPSTORE_E_INVALID_ARGUMENT;
    }
    enum cap_error error = make_stat(store, hash, &request);
    return client_public(client_submit_made(error, request, done, ctx, ret_request));
}

/* ---- blocking ---- */

/* One question of at most the daemon's limit. */
static enum cap_error has_some(struct capstore *store, const struct capstore_hash *hashes,
                               size_t count, uint8_t *ret_kinds)
{
    struct capstore_request *request = NULL;
    enum cap_error error = make_has(store, hashes, count, 0, &request);
    if (error != CAP_OK) {
        return error;
    }
    error = client_run(request);
    if (error == CAP_OK && count > 0) {
        memcpy(ret_kinds, request->answer.kinds, count);
    }
    client_request_free(request);
    return error;
}

enum capstore_error capstore_has(struct capstore *store, const struct capstore_hash *hashes,
                                 size_t count, uint8_t *ret_kinds)
{
    enum cap_error error = client_begin(store);
    uint8_t *kinds = calloc(count + 1, 1);
    if (error == CAP_OK && kinds == NULL) {
        error = CAP_E_NO_MEMORY;
    }
    for (size_t done = 0; error == CAP_OK && done < count;) {
        size_t most = client_most_hashes(store);
        size_t some = count - done < most ? count - done : most;
        error = has_some(store, hashes + done, some, kinds + done);
        if (error == CAP_OK && done + some < count) {
            error = client_begin(store); /* a callback may have closed the handle */
        }
        done += some;
    }
    if (error == CAP_OK && count > 0) {
        memcpy(ret_kinds, kinds, count);
    }
    free(kinds);
    return client_end(store, error);
}

enum cap_error client_keep(struct capstore *store, const struct capstore_hash *hashes, size_t count,
                           uint32_t keep_s, struct capstore_kept *ret_kept)
{
    struct capstore_request *request = NULL;
    enum cap_error error = make_keep(store, hashes, count, keep_s, &request);
    if (error != CAP_OK) {
        return error;
    }
    error = client_run(request);
    if (error == CAP_OK && count > 0) {
        memcpy(ret_kept, request->answer.kept, count * sizeof(*ret_kept));
    }
    client_request_free(request);
    return error;
}

enum capstore_error capstore_keep(struct capstore *store, const struct capstore_hash *hashes,
                                  size_t count, uint32_t keep_s, struct capstore_kept *ret_kept)
{
    enum cap_error error = client_begin(store);
    struct capstore_kept *kept = calloc(count + 1, sizeof(*kept));
    if (error == CAP_OK) {
        error = kept == NULL ? CAP_E_NO_MEMORY : client_check_leases(store);
    }
    for (size_t done = 0; error == CAP_OK && done < count;) {
        size_t most = client_most_hashes(store);
        size_t some = count - done < most ? count - done : most;
        error = client_keep(store, hashes + done, some, keep_s, kept + done);
        if (error == CAP_OK && done + some < count) {
            error = client_begin(store); /* a callback may have closed the handle */
        }
        done += some;
    }
    if (error == CAP_OK && count > 0) {
        memcpy(ret_kept, kept, count * sizeof(*kept));
    }
    free(kept);
    return client_end(store, error);
}

enum capstore_error capstore_stat(struct capstore *store, const struct capstore_hash *hash,
                                  struct capstore_stat_result *ret_stat)
{
    struct capstore_request *request = NULL;
    struct capstore_answer answer;
    enum cap_error error = client_begin(store);
    if (error == CAP_OK) {
        error = make_stat(store, hash, &request);
        error = client_call(error, request, &answer);
    }
    if (error == CAP_OK) {
        *ret_stat = answer.stat;
    }
    return client_end(store, error);
}

enum capstore_error capstore_get(struct capstore *store, const struct capstore_hash *hash,
                                 struct capstore_cap **ret_cap)
{
    struct capstore_request *request = NULL;
    struct capstore_answer answer;
    enum cap_error error = client_begin(store);
    if (error == CAP_OK) {
        error = make_get(store, hash, 0, PROTO_TO_END, &request);
        error = client_call(error, request, &answer);
    }
    if (error == CAP_OK) {
        *ret_cap = answer.cap;
    }
    return client_end(store, error);
}

enum capstore_error capstore_get_range(struct capstore *store, const struct capstore_hash *hash,
                                       uint64_t offset, uint64_t len, capstore_write_cb *write,
                                       void *ctx)
{
    struct capstore_request *request = NULL;
    struct capstore_answer answer;
    enum cap_error error = client_begin(store);
    if (error == CAP_OK) {
        error = make_get(store, hash, offset, len, &request);
        if (error == CAP_OK) {
            request->write = write;
            request->write_ctx = ctx;
        }
        error = client_call(error, request, &answer);
    }
    return client_end(store, error);
}
