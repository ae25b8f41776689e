/*
 * Spooling.
 *
 * Happy path. Bytes are gathered in a block that grows as they arrive; at the end of a loop turn,
 * or when it is full, a worker writes it while the next block is gathered. So at most SPOOL_WRITES
 * blocks of an upload and the next one are in memory, and gathered bytes are always on their way to
 * the disk: a block is never held for bytes that a peer still owes. The worker hashes the block
 * first, if that is asked for, while its bytes are in the cache; then blocks are cut at pages, and
 * less than a page is held apart, in memory that the upload has for its roots.
 *
 * Failure modes.
 *   - The file cannot be made or written (disk full, I/O): the error is kept, what follows is
 *     dropped, `moved` tells the owner, who refuses the upload.
 *   - The owner goes away during a write: the spool frees itself when the write ends.
 *   - No memory for a short upload in the ledger: it takes the way of a long one.
 */
#include "daemon/publish/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/param.h>
#include <unistd.h>

#include "daemon/core/container.h"
#include "daemon/core/ledger.h"
#include "daemon/core/oserror.h"
#include "lib/cap/must.h"

/* Bytes gathered for one write, or being written. */
struct block {
    uint8_t *data;
    size_t len;
    size_t capacity;
};

/* A block on its way to the disk: the worker's. */
struct write {
    struct pool_job job;
    struct spool *spool;
    bool busy;
    struct block block;
    uint64_t at;
    uint64_t from; /* what goes to the disk lies between these */
    uint64_t until;
    enum cap_error error;
};

struct spool {
    struct spools *spools;
    struct spool_order order;
    uint64_t held;     /* memory taken from the ledger, when in memory */
    uint64_t appended; /* all that has come */
    enum cap_error error;
    bool in_memory;
    bool freed; /* by the owner, while a write is under way */
    bool made;  /* the file, by the first write, beside which there is no other */
    int fd;
    struct block filling;
    uint64_t filling_at;    /* where it begins */
    struct cap_hash *roots; /* NULL, or those of all blocks that are written */
    uint8_t *rest;          /* of a page, when nothing is being filled; behind the roots */
    size_t rest_len;
    uint64_t from; /* what is needed of it lies between these */
    uint64_t until;

    struct write writes[SPOOL_WRITES];
    size_t writing;   /* of these are busy */
    uint64_t written; /* bytes in the file */
    struct pool_job end;
};

enum cap_error spool_new(struct spools *spools, const struct spool_order *order,
                         struct spool **ret_spool)
{
    struct spool *spool = calloc(1, sizeof(*spool));
    if (spool == NULL) {
        return CAP_E_NO_MEMORY;
    }
    spool->spools = spools;
    spool->order = *order;
    spool->fd = -1;
    spool->until = UINT64_MAX;
    spool->in_memory = order->len <= SPOOL_SMALL &&
                       ledger_memory_hold(spools->ledger, order->account, &spool->held, order->len);
    spools->count++;
    *ret_spool = spool;
    return CAP_OK;
}

uint64_t spool_hash_memory(uint64_t len)
{
    return cap_block_count(len) * sizeof(struct cap_hash) + CAP_BLOCK_SIZE;
}

enum cap_error spool_hash(struct spool *spool)
{
    must(!spool->in_memory && spool->appended == 0);
    /* Zeroed, so that pages of it are there only once they are written. */
    spool->roots = calloc(1, (size_t)spool_hash_memory(spool->order.len));
    if (spool->roots == NULL) {
        return CAP_E_NO_MEMORY;
    }
    spool->rest = (uint8_t *)(spool->roots + cap_block_count(spool->order.len));
    return CAP_OK;
}

void spool_narrow(struct spool *spool, uint64_t from, uint64_t until)
{
    if (spool->roots != NULL) {
        spool->from = from;
        spool->until = until;
    }
}

const struct cap_hash *spool_roots(const struct spool *spool)
{
    return spool->roots;
}

size_t spool_room(const struct spool *spool)
{
    if (spool->in_memory || spool->error != CAP_OK) {
        return SIZE_MAX;
    }
    return SPOOL_BLOCK - spool->filling.len - spool->rest_len;
}

/* Grows a block for `more` bytes: in small steps first, since most uploads are small. */
static enum cap_error block_grow(struct spool *spool, size_t more)
{
    struct spools *spools = spool->spools;
    struct block *block = &spool->filling;
    size_t wanted = block->len + more;
    if (wanted <= block->capacity) {
        return CAP_OK;
    }
    size_t capacity = wanted <= SPOOL_SMALL ? SPOOL_SMALL : SPOOL_BLOCK;
    uint8_t *data;
    if (spool->in_memory) {
        capacity = (size_t)spool->order.len;
        data = realloc(block->data, capacity);
    } else if (spools->idle_count > 0) {
        capacity = SPOOL_BLOCK;
        data = spools->idle[--spools->idle_count];
        if (block->len > 0) {
            memcpy(data, block->data, block->len);
        }
        free(block->data);
    } else {
        data = realloc(block->data, capacity);
    }
    if (data == NULL) {
        return CAP_E_NO_MEMORY;
    }
    if (!spool->in_memory) {
        ledger_buffer_take(spools->ledger, spool->order.account, capacity - block->capacity);
    }
    block->data = data;
    block->capacity = capacity;
    return CAP_OK;
}

static void block_free(struct spool *spool, struct block *block)
{
    struct spools *spools = spool->spools;
    if (!spool->in_memory) {
        ledger_buffer_give(spools->ledger, spool->order.account, block->capacity);
    }
    if (block->capacity == SPOOL_BLOCK && spools->idle_count < SPOOL_IDLE) {
        spools->idle[spools->idle_count++] = block->data;
    } else {
        free(block->data);
    }
    *block = (struct block){0};
}

static void write_full(struct spool *spool);

enum cap_error spool_append(struct spool *spool, struct cap_bytes bytes)
{
    spool->appended += bytes.len;
    must(spool->appended <= spool->order.len); /* or a block in memory overflows */
    if (spool->error != CAP_OK || bytes.len == 0) {
        return CAP_OK;
    }
    enum cap_error error = block_grow(spool, spool->rest_len + bytes.len);
    if (error != CAP_OK) {
        return error;
    }
    if (spool->rest_len > 0) {
        memcpy(spool->filling.data, spool->rest, spool->rest_len);
        spool->filling.len = spool->rest_len;
        spool->rest_len = 0;
    }
    memcpy(spool->filling.data + spool->filling.len, bytes.data, bytes.len);
    spool->filling.len += bytes.len;
    if (!spool->in_memory && spool->filling.len == SPOOL_BLOCK) {
        write_full(spool);
    }
    return CAP_OK;
}

/* --- The disk --------------------------------------------------------------------------------- */

/* Without O_TMPFILE in this file system, under a name that goes at once. */
static int open_unlinked(const char *dir)
{
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) {
        return fd;
    }
    char *path = NULL;
    if (asprintf(&path, "%s/upload-XXXXXX", dir) < 0) {
        errno = ENOMEM;
        return -1;
    }
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0) {
        (void)unlink(path);
    }
    free(path);
    return fd;
}

const struct spool_disk *spool_disk_system(void)
{
    static const struct spool_disk disk = {open_unlinked, pwrite, pread};
    return &disk;
}

static enum cap_error write_all(const struct spool *spool, const struct write *write)
{
    const uint8_t *data = write->block.data + (write->from - write->at);
    size_t len = (size_t)(write->until - write->from);
    uint64_t at = write->from;
    while (len > 0) {
        ssize_t n = spool->spools->disk->write(spool->fd, data, len, (off_t)at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n == 0 ? CAP_E_IO : error_of_errno(errno);
        }
        data += n;
        len -= (size_t)n;
        at += (uint64_t)n;
    }
    return CAP_OK;
}

/* In a worker. */
static void run_write(struct pool_job *job)
{
    struct write *write = CONTAINER_OF(job, struct write, job);
    struct spool *spool = write->spool;
    if (spool->roots != NULL) {
        cap_block_roots(write->block.data, write->block.len,
                        &spool->roots[write->at / CAP_BLOCK_SIZE]);
        pool_hashed(job, write->block.len);
    }
    if (spool->fd < 0) {
        spool->fd = spool->spools->disk->open(spool->spools->dir);
        if (spool->fd < 0) {
            write->error = error_of_errno(errno);
            return;
        }
    }
    write->error = write_all(spool, write);
}

static void on_written(struct pool_job *job);

/* What of the gathered bytes can be written: whole pages when they are hashed, but for the end. */
static size_t ready_len(const struct spool *spool)
{
    bool at_end = spool->appended == spool->order.len;
    size_t rest = spool->roots == NULL || at_end ? 0 : spool->filling.len % CAP_BLOCK_SIZE;
    return spool->filling.len - rest;
}

/* Holds the gathered bytes after the first `len`, less than a page, apart. */
static void keep_rest(struct spool *spool, size_t len)
{
    struct block *block = &spool->filling;
    spool->rest_len = block->len - len;
    if (spool->rest_len > 0) {
        memcpy(spool->rest, block->data + len, spool->rest_len);
        block->len = len;
    }
}

/* Starts a write of what is ready. */
static void start_write(struct spool *spool)
{
    struct write *write = spool->writes;
    size_t len = ready_len(spool);
    if (spool->filling.len == 0) {
        return;
    }
    keep_rest(spool, len);
    if (len == 0) {
        block_free(spool, &spool->filling); /* or slow uploads would hold all buffers there are */
        return;
    }
    struct block block = spool->filling;
    spool->filling = (struct block){0};
    while (write->busy) {
        write++;
    }
    uint64_t from = MIN(MAX(spool->filling_at, spool->from), spool->filling_at + len);
    uint64_t until = MAX(from, MIN(spool->filling_at + len, spool->until));
    *write = (struct write){
        .job = {.run = run_write, .done = on_written},
        .spool = spool,
        .busy = true,
        .block = block,
        .at = spool->filling_at,
        .from = from,
        .until = until,
    };
    if (spool->roots != NULL) {
        write->job.peer_id = ledger_peer_id(spool->order.account);
        write->job.cost = len;
        write->job.background = true;
    }
    spool->filling_at += len;
    spool->writing++;
    pool_submit(spool->spools->pool, &write->job);
}

/* The first write makes the file: others wait for its end. */
static void write_full(struct spool *spool)
{
    if (spool->writing == 0 || (spool->made && spool->writing < SPOOL_WRITES)) {
        start_write(spool);
    }
}

void spool_flush(struct spool *spool)
{
    if (!spool->in_memory && spool->writing == 0 && spool->error == CAP_OK) {
        start_write(spool);
    }
}

static void on_written(struct pool_job *job)
{
    struct write *write = CONTAINER_OF(job, struct write, job);
    struct spool *spool = write->spool;
    const struct spools *spools = spool->spools;
    write->busy = false;
    spool->writing--;
    if (write->error == CAP_OK) {
        uint64_t len = write->until - write->from;
        spool->made = true;
        spool->written += len;
        atomic_fetch_add(spools->on_disk, len);
    } else if (spool->error == CAP_OK) {
        spool->error = write->error;
    }
    block_free(spool, &write->block);
    if (spool->freed) {
        spool_free(spool);
    } else {
        if (spool->error != CAP_OK) {
            block_free(spool, &spool->filling);
        } else if (spool->filling.len == SPOOL_BLOCK) {
            write_full(spool);
        }
        spool_flush(spool);
        spool->order.moved(spool->order.owner);
    }
    spools->drained(spools->ctx);
}

bool spool_in_memory(const struct spool *spool)
{
    return spool->in_memory;
}

uint64_t spool_written(const struct spool *spool)
{
    uint64_t until = spool->filling_at;
    for (size_t i = 0; i < SPOOL_WRITES; i++) {
        if (spool->writes[i].busy && spool->writes[i].at < until) {
            until = spool->writes[i].at;
        }
    }
    return until;
}

bool spool_settled(const struct spool *spool)
{
    return spool->in_memory ||
           (spool->writing == 0 && spool->filling.len == 0 && spool->rest_len == 0);
}

bool spool_quiet(const struct spool *spool)
{
    return spool->in_memory || (spool->writing == 0 && spool->filling.len == 0);
}

void spool_leave(struct spool *spool, struct spool_rest *ret_rest)
{
    must(!spool->in_memory && spool->error == CAP_OK && spool_quiet(spool));
    *ret_rest = (struct spool_rest){
        .fd = spool->fd,
        .appended = spool->appended,
        .at = spool->filling_at,
        .written = spool->written,
        .roots = spool->roots,
        .rest_len = spool->rest_len,
    };
    atomic_fetch_sub(spool->spools->on_disk, spool->written);
    spool->fd = -1;
    spool->roots = NULL;
}

enum cap_error spool_take_up(struct spools *spools, const struct spool_order *order,
                             const struct spool_rest *rest, struct spool **ret_spool)
{
    struct spool *spool = calloc(1, sizeof(*spool));
    if (spool == NULL) {
        return CAP_E_NO_MEMORY;
    }
    *spool = (struct spool){
        .spools = spools,
        .order = *order,
        .appended = rest->appended,
        .fd = rest->fd,
        .made = rest->fd >= 0,
        .filling_at = rest->at,
        .roots = rest->roots,
        .rest_len = rest->rest_len,
        .until = UINT64_MAX,
        .written = rest->written,
    };
    if (rest->roots != NULL) {
        spool->rest = (uint8_t *)(rest->roots + cap_block_count(order->len));
    }
    atomic_fetch_add(spools->on_disk, rest->written);
    spools->count++;
    *ret_spool = spool;
    return CAP_OK;
}

void spool_rest_free(struct spool_rest *rest)
{
    if (rest->fd >= 0) {
        close(rest->fd);
    }
    free(rest->roots);
    *rest = (struct spool_rest){.fd = -1};
}

enum cap_error spool_error(const struct spool *spool)
{
    return spool->error;
}

static enum cap_error source_read(void *ctx, uint64_t offset, void *dst, size_t len)
{
    struct spool *spool = ctx;
    uint8_t *to = dst;
    if (atomic_load(spool->order.cancelled)) {
        return CAP_E_CANCELLED;
    }
    if (spool->in_memory) {
        memcpy(to, spool->filling.data + offset, len);
        return CAP_OK;
    }
    while (len > 0) {
        ssize_t n = spool->spools->disk->read(spool->fd, to, len, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return CAP_E_IO;
        }
        to += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return CAP_OK;
}

struct cap_source spool_source(struct spool *spool)
{
    return (struct cap_source){
        /* Never as plain memory: only a read notices that the upload was cancelled. */
        .read = source_read,
        .ctx = spool,
    };
}

static void run_close(struct pool_job *job)
{
    const struct spool *spool = CONTAINER_OF(job, struct spool, end);
    close(spool->fd);
}

static void on_closed(struct pool_job *job)
{
    struct spool *spool = CONTAINER_OF(job, struct spool, end);
    atomic_fetch_sub(spool->spools->on_disk, spool->written);
    free(spool);
}

static void free_idle(struct spools *spools)
{
    while (spools->idle_count > 0) {
        free(spools->idle[--spools->idle_count]);
    }
}

void spool_free(struct spool *spool)
{
    if (spool == NULL) {
        return;
    }
    if (spool->writing > 0) {
        spool->freed = true;
        return;
    }
    block_free(spool, &spool->filling);
    if (--spool->spools->count == 0) {
        free_idle(spool->spools);
    }
    free(spool->roots);
    spool->roots = NULL;
    (void)ledger_memory_hold(spool->spools->ledger, spool->order.account, &spool->held, 0);
    if (spool->fd < 0) {
        free(spool);
        return;
    }
    /* Giving the blocks of a large file back takes long: not on the loop. */
    spool->end = (struct pool_job){.run = run_close, .done = on_closed};
    pool_submit(spool->spools->pool, &spool->end);
}
