/*
 * An errand.
 *
 * Happy path. In rounds: what is missing is asked for together (GET_MANY), and each cap is
 * published as it arrives, many at a time, so that they share commits. A body that is too long to
 * be held in memory is written to an unlinked file of the spool and published from there. A cap
 * that the door refuses because of others waits, while these are brought; when nothing is missing
 * any more those that wait are published, the one that was found last first.
 *
 * Failure modes.
 *   - A cap is not above, or is not what its hash says: it has failed, and so have those that need
 *     it.
 *   - The daemon above goes away: once more, if the connection was an old one; else the errand ends
 *     with what is here.
 *   - The door has no room (disk, quota, spool): the error is that of the caps that it concerns.
 *   - Cut: the errand ends. What is published is whole, and the next errand need not bring it.
 */
#include "daemon/upstream/errand.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/core/oserror.h"
#include "daemon/core/statedir.h"
#include "lib/cap/hash_set.h"

#define ROUND_CAPS 256u /* that are asked for together */
#define SENT_CAPS  16u  /* publications under way: of all threads what a peer may have by default */
#define SENT_BYTES (UINT64_C(8) << 20)
#define KEPT_BYTES (UINT64_C(8) << 20) /* of bodies that wait in memory for what they refer to */
#define TRIES_MAX  64u /* of one cap: as often as something that it needs was found missing */
#define KEPT_FILES 8u  /* the same in files */
#define FILE_PARTS 2u  /* a body in a file is written twice more: to the spool, to the store */

struct errand;

enum node_state { NODE_MISSING, NODE_SENT, NODE_WAITS, NODE_HERE, NODE_FAILED };

/* A cap of the errand. It stays where it is. */
struct node {
    struct errand *errand;
    size_t index;
    enum node_state state;
    enum cap_error error;
    unsigned tries;
    bool is_known; /* what it is, and how long: the daemon above says so */
    bool is_long;
    enum capstore_kind kind;
    struct capstore_cap *cap; /* its body in memory, or NULL */
    struct capstore_bytes body;
    int fd; /* its body in a file, or -1 */
    uint64_t len;
};

struct errand {
    struct errands *errands;
    struct porter *porter;
    struct above *above;
    struct front *front;
    char *reason;
    struct cap_hash *hashes;
    struct node **nodes;
    size_t count;
    size_t capacity;
    struct cap_hash_set seen;
    size_t missing;
    size_t waiting;
    size_t sent;
    uint64_t sent_bytes;
    uint64_t kept_bytes;
    size_t kept_files;
    enum cap_error fatal;     /* ends the errand */
    bool again;               /* the daemon above was dialled once more */
    size_t asked[ROUND_CAPS]; /* of the round: indexes of nodes */
};

/* --- Nodes ------------------------------------------------------------------------------------ */

/* Of a node that does not wait. */
static void forget_body(struct node *node)
{
    if (node->fd >= 0) {
        close(node->fd);
        node->fd = -1;
        atomic_fetch_sub(&node->errand->errands->files, node->len);
    }
    capstore_cap_free(node->cap);
    node->cap = NULL;
}

/* Moves a node to another state. */
static void move(struct node *node, enum node_state state)
{
    struct errand *errand = node->errand;
    uint64_t kept = node->cap != NULL ? node->body.len : 0;
    size_t file = node->fd >= 0 ? 1 : 0;
    if (node->state == NODE_WAITS) {
        errand->waiting--;
        errand->kept_bytes -= kept;
        errand->kept_files -= file;
    }
    errand->missing -= node->state == NODE_MISSING ? 1 : 0;
    node->state = state;
    errand->missing += state == NODE_MISSING ? 1 : 0;
    if (state == NODE_WAITS) {
        errand->waiting++;
        errand->kept_bytes += kept;
        errand->kept_files += file;
    }
}

static void fail(struct node *node, enum cap_error error)
{
    char hex[CAP_HASH_HEX_SIZE];
    struct errand *errand = node->errand;
    move(node, NODE_FAILED);
    forget_body(node);
    node->error = error;
    if (error != CAP_E_NOT_FOUND) {
        cap_hash_format(&errand->hashes[node->index], hex);
        snprintf(errand->reason, ENDS_REASON_SIZE, "%s: %s", hex, cap_error_text(error));
    }
}

static enum cap_error grow(struct errand *errand)
{
    size_t capacity = errand->capacity == 0 ? 64 : 2 * errand->capacity;
    struct cap_hash *hashes = realloc(errand->hashes, capacity * sizeof(*hashes));
    if (hashes == NULL) {
        return CAP_E_NO_MEMORY;
    }
    errand->hashes = hashes;
    struct node **nodes = realloc(errand->nodes, capacity * sizeof(struct node *));
    if (nodes == NULL) {
        return CAP_E_NO_MEMORY;
    }
    errand->nodes = nodes;
    errand->capacity = capacity;
    return CAP_OK;
}

/* The node of a cap; NULL: the errand does not know it. */
static struct node *find_node(const struct errand *errand, const struct cap_hash *hash)
{
    size_t at = cap_hash_set_find(&errand->seen, errand->hashes, hash);
    return at < errand->count ? errand->nodes[at] : NULL;
}

/* Adds a cap that is missing. */
static enum cap_error add_node(struct errand *errand, const struct cap_hash *hash)
{
    if (errand->count >= ERRAND_CAPS_MAX) {
        return CAP_E_CLOSURE_TOO_LARGE;
    }
    enum cap_error error = errand->count == errand->capacity ? grow(errand) : CAP_OK;
    if (error != CAP_OK) {
        return error;
    }
    struct node *node = calloc(1, sizeof(*node));
    if (node == NULL) {
        return CAP_E_NO_MEMORY;
    }
    errand->hashes[errand->count] = *hash;
    error = cap_hash_set_insert(&errand->seen, errand->hashes, errand->count);
    if (error != CAP_OK) {
        free(node);
        return error;
    }
    *node = (struct node){.errand = errand, .index = errand->count, .fd = -1};
    errand->nodes[errand->count++] = node;
    errand->missing++;
    return CAP_OK;
}

static struct capstore_hash public_hash(const struct cap_hash *hash)
{
    struct capstore_hash copy;
    memcpy(copy.bytes, hash->bytes, sizeof(copy.bytes));
    return copy;
}

/* --- Publishing ------------------------------------------------------------------------------- */

/* One of what a cap refers to is not here. */
static void want_reference(struct node *node, const struct capstore_hash *hash)
{
    struct cap_hash inner;
    memcpy(inner.bytes, hash->bytes, sizeof(inner.bytes));
    struct node *needed = find_node(node->errand, &inner);
    if (needed == NULL) {
        node->errand->fatal = add_node(node->errand, &inner);
    } else if (needed->state == NODE_FAILED && node->state != NODE_FAILED) {
        fail(node, needed->error);
    } else if (needed->state == NODE_HERE && node->state != NODE_FAILED) {
        move(needed, NODE_MISSING); /* it has been collected since */
    }
}

/* The door refused a cap because of others. */
static void wait_for_references(struct node *node)
{
    struct errand *errand = node->errand;
    size_t count = capstore_unresolved_count(errand->front->store);
    if (count == 0 || ++node->tries > TRIES_MAX) {
        fail(node, CAP_E_UPSTREAM_BROKEN);
        return;
    }
    if ((node->cap != NULL && errand->kept_bytes + node->body.len > KEPT_BYTES) ||
        (node->fd >= 0 && errand->kept_files >= KEPT_FILES)) {
        forget_body(node); /* brought again */
    }
    move(node, NODE_WAITS);
    for (size_t i = 0; i < count && errand->fatal == CAP_OK; i++) {
        struct capstore_unresolved_slot slot = capstore_unresolved(errand->front->store, i);
        want_reference(node, &slot.cap_hash);
    }
}

/*
 * What a refusal of the door says: that the body is not what its hash says, for which the daemon
 * above is to blame (the rules of caps have the first numbers), or what it says itself.
 */
static enum cap_error front_judge(struct errand *errand, enum capstore_error error)
{
    if (error == CAPSTORE_E_CONNECTION_LOST || error == CAPSTORE_E_CANCELLED) {
        return tether_is_cut(&errand->front->tether) ? CAP_E_DRAINING : CAP_E_TIMED_OUT;
    }
    return error > CAPSTORE_E_NO_MEMORY && error != CAPSTORE_E_BODY_TOO_LARGE
               ? CAP_E_UPSTREAM_BROKEN
               : (enum cap_error)(int)error;
}

static void on_put(void *ctx, const struct capstore_answer *answer)
{
    struct node *node = ctx;
    struct errand *errand = node->errand;
    uint64_t len = node->cap != NULL ? node->body.len : node->len;
    errand->sent--;
    errand->sent_bytes -= len;
    if (answer->error == CAPSTORE_OK) {
        atomic_fetch_add(&errand->errands->caps, 1);
        atomic_fetch_add(&errand->errands->bytes, len);
        atomic_fetch_add(&errand->porter->caps, 1);
        move(node, NODE_HERE);
        forget_body(node);
    } else if (answer->error == CAPSTORE_E_UNRESOLVED_SLOT) {
        wait_for_references(node);
    } else if (answer->error == CAPSTORE_E_SPOOL_FULL && errand->sent > 0) {
        move(node, NODE_WAITS); /* for the others */
    } else {
        fail(node, front_judge(errand, answer->error));
    }
}

/* Waits for the door to take what was sent, until so much is left. */
static void settle(struct errand *errand, size_t caps, uint64_t bytes)
{
    struct capstore *store = errand->front->store;
    while (errand->sent > caps || errand->sent_bytes > bytes) {
        struct pollfd entry = {capstore_fd(store), (short)capstore_events(store), 0};
        int n = poll(&entry, 1, capstore_timeout_ms(store));
        (void)capstore_process(store, n > 0 ? entry.revents : 0); /* the callbacks tell */
    }
}

/* Publishes the body that a node has. */
static void send_node(struct node *node)
{
    struct errand *errand = node->errand;
    struct capstore_hash hash = public_hash(&errand->hashes[node->index]);
    uint64_t len = node->cap != NULL ? node->body.len : node->len;
    enum cap_error error = front_open(errand->front, errand->reason);
    if (error != CAP_OK) {
        errand->fatal = front_judge(errand, (enum capstore_error)(int)error);
        return;
    }
    settle(errand, SENT_CAPS - 1, len < SENT_BYTES ? SENT_BYTES - len : 0);
    struct capstore_source body = node->cap != NULL ? capstore_source_memory(&node->body)
                                                    : capstore_source_fd(&node->fd, node->len);
    enum capstore_error sent =
        capstore_async_put_cap(errand->front->store, &hash, node->kind, &body, on_put, node, NULL);
    if (sent != CAPSTORE_OK) {
        errand->fatal = front_judge(errand, sent);
        return;
    }
    move(node, NODE_SENT);
    errand->sent++;
    errand->sent_bytes += len;
    (void)capstore_process(errand->front->store, 0);
}

/* --- Bringing --------------------------------------------------------------------------------- */

/* The daemon above fails as a whole. True: it was dialled anew, and the same may be asked again. */
static bool dial_again(struct errand *errand, enum capstore_error error)
{
    snprintf(errand->reason, ENDS_REASON_SIZE, "%s: %.180s", capstore_error_name(error),
             capstore_message(errand->above->store));
    bool old = !capstore_connected(errand->above->store) && !errand->above->fresh;
    if (old && error != CAPSTORE_E_TIMED_OUT && !errand->again) {
        errand->again = true;
        errand->fatal = above_open(errand->above, errand->reason);
        return errand->fatal == CAP_OK;
    }
    errand->fatal = above_judge(error);
    return false;
}

/* An outcome from the daemon above, which may say that it is there. */
static void hear(struct errand *errand, enum capstore_error error)
{
    if (error == CAPSTORE_E_BODY_TOO_LARGE || above_judge(error) == CAP_OK ||
        above_judge(error) == CAP_E_NOT_FOUND) {
        errand->errands->heard(errand->errands);
    }
}

/* The outcome for one cap, whose body is in memory. */
static void take(struct node *node, enum capstore_error error, struct capstore_cap *cap)
{
    hear(node->errand, error);
    if (error == CAPSTORE_OK) {
        node->cap = cap;
        node->body = capstore_cap_body(cap);
        node->kind = capstore_cap_kind(cap);
        atomic_fetch_add(&node->errand->porter->bytes, node->body.len);
        send_node(node);
    } else if (error == CAPSTORE_E_BODY_TOO_LARGE) {
        node->is_long = true;
    } else if (error != CAPSTORE_E_MEMORY_LIMIT) { /* asked again when there is room */
        fail(node, above_judge(error));
    }
}

static enum capstore_error on_got(void *ctx, size_t index, enum capstore_error error,
                                  struct capstore_cap *cap)
{
    struct errand *errand = ctx;
    take(errand->nodes[errand->asked[index]], error, cap);
    return errand->fatal == CAP_OK ? CAPSTORE_OK : CAPSTORE_E_CANCELLED;
}

/* Of one cap, which may turn out to be long, at the cost of no more than its head. */
static void bring_one(struct node *node)
{
    struct errand *errand = node->errand;
    struct capstore_hash hash = public_hash(&errand->hashes[node->index]);
    struct capstore_cap *cap = NULL;
    enum capstore_error error = capstore_get(errand->above->store, &hash, &cap);
    if (error != CAPSTORE_OK && !capstore_connected(errand->above->store)) {
        (void)dial_again(errand, error);
    } else {
        take(node, error, cap);
    }
}

static void on_length(void *ctx, const struct capstore_answer *answer)
{
    struct node *node = ctx;
    hear(node->errand, answer->error);
    if (answer->error == CAPSTORE_OK) {
        node->kind = answer->stat.kind;
        node->len = answer->stat.body_len;
        node->is_long = node->len > ENDS_SMALL_MAX;
        node->is_known = true;
    } else if (capstore_connected(node->errand->above->store)) {
        fail(node, above_judge(answer->error));
    }
}

/* Asks for the lengths of the caps of a round, all at once. */
static enum capstore_error ask_lengths(struct errand *errand, const struct capstore_hash *hashes,
                                       size_t count)
{
    struct capstore *store = errand->above->store;
    enum capstore_error error = CAPSTORE_OK;
    for (size_t i = 0; i < count && error == CAPSTORE_OK; i++) {
        error = capstore_async_stat(store, &hashes[i], on_length, errand->nodes[errand->asked[i]],
                                    NULL);
    }
    while (capstore_pending(store) > 0) {
        struct pollfd entry = {capstore_fd(store), (short)capstore_events(store), 0};
        int n = poll(&entry, 1, capstore_timeout_ms(store));
        error = capstore_process(store, n > 0 ? entry.revents : 0);
    }
    return error;
}

/* What is missing and not known to be long, or of which that is known if `known`. Returns how many.
 */
static size_t gather(struct errand *errand, bool known, struct capstore_hash *hashes)
{
    size_t count = 0;
    for (size_t i = 0; i < errand->count && count < ROUND_CAPS; i++) {
        const struct node *node = errand->nodes[i];
        if (node->state == NODE_MISSING && !node->is_long && (!known || node->is_known)) {
            hashes[count] = public_hash(&errand->hashes[i]);
            errand->asked[count++] = i;
        }
    }
    return count;
}

/* Several: first how long they are, then all that are short in one answer. */
static void bring_several(struct errand *errand, struct capstore_hash *hashes, size_t count)
{
    size_t left = 0;
    enum capstore_error error = ask_lengths(errand, hashes, count);
    if (error == CAPSTORE_OK) {
        count = gather(errand, true, hashes);
        error = count == 0 ? CAPSTORE_OK
                           : capstore_get_many(errand->above->store, hashes, count, on_got, errand);
    }
    if (errand->fatal == CAP_OK && error != CAPSTORE_OK) {
        (void)dial_again(errand, error);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const struct node *node = errand->nodes[errand->asked[i]];
        left += node->state == NODE_MISSING && !node->is_long ? 1 : 0;
    }
    if (errand->fatal == CAP_OK && count > 0 && left == count) {
        errand->fatal = CAP_E_UPSTREAM_BROKEN; /* no room for one of them, each at most that */
    }
}

static void bring_small(struct errand *errand)
{
    struct capstore_hash hashes[ROUND_CAPS];
    size_t count = gather(errand, false, hashes);
    if (count > 1) {
        bring_several(errand, hashes, count);
        return;
    }
    for (size_t i = 0; i < count && errand->fatal == CAP_OK; i++) {
        bring_one(errand->nodes[errand->asked[i]]);
    }
}

static enum capstore_error on_piece(void *ctx, struct capstore_bytes piece)
{
    struct node *node = ctx;
    hear(node->errand, CAPSTORE_OK);
    off_t at = lseek(node->fd, 0, SEEK_CUR);
    size_t done = 0;
    if (at < 0 || (uint64_t)at + piece.len > node->len) {
        return CAPSTORE_E_BAD_REPLY;
    }
    while (done < piece.len) {
        ssize_t n = write(node->fd, piece.data + done, piece.len - done);
        if (n <= 0 && errno != EINTR) {
            return errno == ENOSPC || errno == EDQUOT || errno == EFBIG ? CAPSTORE_E_DISK_FULL
                                                                        : CAPSTORE_E_IO;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    atomic_fetch_add(&node->errand->porter->bytes, piece.len);
    return CAPSTORE_OK;
}

/* Whether there is room for a long body; node->len is counted then. */
static enum cap_error take_room(struct node *node)
{
    struct errands *errands = node->errand->errands;
    const struct context *context = errands->context;
    const struct config *config = &context->config;
    uint64_t disk = 0;
    if (node->len > config->max_upload) {
        return CAP_E_UPLOAD_TOO_LARGE;
    }
    if (atomic_fetch_add(&errands->files, node->len) + node->len > config->max_spool) {
        atomic_fetch_sub(&errands->files, node->len);
        return CAP_E_SPOOL_FULL;
    }
    enum cap_error error =
        context->env->disk_free(context->env->ctx, context->statedir->spool_dir, &disk);
    if (error == CAP_OK && disk < config->disk_reserve + (1 + FILE_PARTS) * node->len) {
        error = CAP_E_DISK_FULL;
    }
    if (error != CAP_OK) {
        atomic_fetch_sub(&errands->files, node->len);
    }
    return error;
}

static int open_file(const char *dir)
{
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    char path[CONFIG_TEXT_SIZE];
    if (fd >= 0 || snprintf(path, sizeof(path), "%s/above-XXXXXX", dir) >= (int)sizeof(path)) {
        return fd;
    }
    fd = mkostemp(path, O_CLOEXEC); /* a file system without such files */
    if (fd >= 0) {
        (void)unlink(path);
    }
    return fd;
}

/* Fills a node's file from above. */
static enum cap_error fill_file(struct node *node, const struct capstore_hash *hash)
{
    struct errand *errand = node->errand;
    struct capstore *store = errand->above->store;
    enum cap_error error = take_room(node);
    if (error != CAP_OK) {
        return error;
    }
    node->fd = open_file(errand->errands->context->statedir->spool_dir);
    if (node->fd < 0) {
        atomic_fetch_sub(&errand->errands->files, node->len);
        return errno == ENOSPC || errno == EDQUOT ? CAP_E_DISK_FULL : CAP_E_IO;
    }
    enum capstore_error got = capstore_get_range(store, hash, 0, UINT64_MAX, on_piece, node);
    if (got == CAPSTORE_E_IO) {
        return CAP_E_IO; /* our disk */
    }
    if (got == CAPSTORE_OK && (uint64_t)lseek(node->fd, 0, SEEK_CUR) != node->len) {
        return CAP_E_UPSTREAM_BROKEN;
    }
    return above_judge(got);
}

static void bring_long(struct node *node)
{
    struct errand *errand = node->errand;
    struct capstore_hash hash = public_hash(&errand->hashes[node->index]);
    struct capstore_stat_result stat = {.kind = node->kind, .body_len = node->len};
    enum capstore_error asked = CAPSTORE_OK;
    if (!node->is_known) {
        asked = capstore_stat(errand->above->store, &hash, &stat);
        hear(errand, asked);
    }
    enum cap_error error = above_judge(asked);
    if (error == CAP_OK) {
        node->kind = stat.kind;
        node->len = stat.body_len;
        error = fill_file(node, &hash);
    }
    if (error != CAP_OK) {
        fail(node, error);
    } else {
        send_node(node);
    }
    if (!capstore_connected(errand->above->store) && errand->fatal == CAP_OK) {
        errand->fatal = CAP_E_UPSTREAM_AWAY;
    }
}

static void bring(struct errand *errand)
{
    bring_small(errand);
    for (size_t i = 0; i < errand->count && errand->fatal == CAP_OK; i++) {
        if (errand->nodes[i]->state == NODE_MISSING && errand->nodes[i]->is_long) {
            bring_long(errand->nodes[i]);
        }
    }
    if (errand->front->store != NULL) {
        settle(errand, 0, 0);
    }
}

/* Publishes what waited. Nothing is missing now; what comes of it may be. */
static void try_again(struct errand *errand)
{
    size_t before = errand->waiting;
    for (size_t i = errand->count; i > 0 && errand->fatal == CAP_OK; i--) {
        struct node *node = errand->nodes[i - 1];
        if (node->state != NODE_WAITS) {
            continue;
        }
        if (node->cap == NULL && node->fd < 0) {
            move(node, NODE_MISSING);
            continue;
        }
        send_node(node);
        settle(errand, 0, 0);
    }
    if (errand->fatal == CAP_OK && errand->missing == 0 && errand->waiting == before) {
        errand->fatal = CAP_E_UPSTREAM_BROKEN; /* caps that need each other do not exist */
    }
}

/* --- The errand ------------------------------------------------------------------------------- */

static void run(struct errand *errand, const struct errand_root *roots, size_t count)
{
    errand->fatal = above_open(errand->above, errand->reason);
    for (size_t i = 0; i < count && errand->fatal == CAP_OK; i++) {
        if (find_node(errand, roots[i].hash) == NULL) {
            errand->fatal = add_node(errand, roots[i].hash);
        }
    }
    while (errand->fatal == CAP_OK && errand->missing + errand->waiting > 0) {
        if (errand->missing > 0) {
            bring(errand);
        } else {
            try_again(errand);
        }
        if (tether_is_cut(&errand->above->tether)) {
            errand->fatal = CAP_E_DRAINING;
        }
    }
    /* What is under way refers to nodes: it ends, or the connection does, before they go. */
    front_close(errand->front);
}

static enum cap_error outcome(const struct errand *errand, const struct cap_hash *hash)
{
    const struct node *node = find_node(errand, hash);
    if (node != NULL && node->state == NODE_HERE) {
        return CAP_OK;
    }
    if (node != NULL && node->state == NODE_FAILED) {
        return node->error;
    }
    return errand->fatal != CAP_OK ? errand->fatal : CAP_E_INTERNAL;
}

void errand_run(struct errands *errands, struct porter *porter, struct errand_root *roots,
                size_t count, char ret_reason[ENDS_REASON_SIZE])
{
    struct errand *errand = calloc(1, sizeof(*errand));
    ret_reason[0] = '\0';
    if (errand != NULL) {
        errand->errands = errands;
        errand->porter = porter;
        errand->above = &porter->above;
        errand->front = &porter->front;
        errand->reason = ret_reason;
        run(errand, roots, count);
    }
    for (size_t i = 0; i < count; i++) {
        roots[i].error = errand == NULL ? CAP_E_NO_MEMORY : outcome(errand, roots[i].hash);
    }
    for (size_t i = 0; errand != NULL && i < errand->count; i++) {
        forget_body(errand->nodes[i]);
        free(errand->nodes[i]);
    }
    if (errand != NULL) {
        cap_hash_set_free(&errand->seen);
        free(errand->hashes);
        free(errand->nodes);
    }
    free(errand);
}
