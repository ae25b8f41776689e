/*
 * Spooling.
 *
 * Happy path. Bytes are gathered in a block that grows as they arrive; at the end of a loop turn,
 * or when it is full, a worker writes it while the next block is gathered. So at most two blocks of
 * an upload are in memory, and gathered bytes are always on their way to the disk: a block is never
 * held for bytes that a peer still owes.
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
#include <unistd.h>

#include "daemon/core/container.h"
#include "daemon/core/ledger.h"
#include "daemon/core/oserror.h"
#include "lib/cap/must.h"

/* Bytes gathered for one write. */
struct block {
    uint8_t *data;
    size_t len;
    size_t capacity;
};

struct spool {
    const struct spools *spools;
    struct ledger_peer *account;
    uint64_t held; /* memory taken from the ledger, when in memory */
    spool_moved *moved;
    void *owner;
    uint64_t len;      /* all that will come */
    uint64_t appended; /* all that has come */
    enum cap_error error;
    bool in_memory;
    bool freed; /* by the owner, while a write is under way */
    int fd;
    struct block filling;
    const atomic_bool *cancelled;

    struct pool_job job; /* a write, or the end */
    bool writing;
    struct block written; /* the worker's while `writing` */
    uint64_t write_at;
    enum cap_error write_error;
};

enum cap_error spool_new(const struct spools *spools, struct ledger_peer *account, uint64_t len,
                         spool_moved *moved, void *owner, struct spool **ret_spool)
{
    struct spool *spool = calloc(1, sizeof(*spool));
    if (spool == NULL) {
        return CAP_E_NO_MEMORY;
    }
    spool->spools = spools;
    spool->account = account;
    spool->moved = moved;
    spool->owner = owner;
    spool->len = len;
    spool->fd = -1;
    spool->in_memory =
        len <= SPOOL_SMALL && ledger_memory_hold(spools->ledger, account, &spool->held, len);
    *ret_spool = spool;
    return CAP_OK;
}

size_t spool_room(const struct spool *spool)
{
    if (spool->in_memory || spool->error != CAP_OK) {
        return SIZE_MAX;
    }
    return SPOOL_BLOCK - spool->filling.len;
}

/* Grows a block for `more` bytes: in small steps first, since most uploads are small. */
static enum cap_error block_grow(struct spool *spool, size_t more)
{
    struct block *block = &spool->filling;
    size_t wanted = block->len + more;
    if (wanted <= block->capacity) {
        return CAP_OK;
    }
    size_t capacity = wanted <= SPOOL_SMALL ? SPOOL_SMALL : SPOOL_BLOCK;
    if (spool->in_memory) {
        capacity = (size_t)spool->len;
    }
    uint8_t *data = realloc(block->data, capacity);
    if (data == NULL) {
        return CAP_E_NO_MEMORY;
    }
    if (!spool->in_memory) {
        ledger_buffer_take(spool->spools->ledger, spool->account, capacity - block->capacity);
    }
    block->data = data;
    block->capacity = capacity;
    return CAP_OK;
}

static void block_free(struct spool *spool, struct block *block)
{
    if (!spool->in_memory) {
        ledger_buffer_give(spool->spools->ledger, spool->account, block->capacity);
    }
    free(block->data);
    *block = (struct block){0};
}

enum cap_error spool_append(struct spool *spool, struct cap_bytes bytes)
{
    spool->appended += bytes.len;
    must(spool->appended <= spool->len); /* or a block in memory overflows */
    if (spool->error != CAP_OK || bytes.len == 0) {
        return CAP_OK;
    }
    enum cap_error error = block_grow(spool, bytes.len);
    if (error != CAP_OK) {
        return error;
    }
    memcpy(spool->filling.data + spool->filling.len, bytes.data, bytes.len);
    spool->filling.len += bytes.len;
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

static enum cap_error write_all(const struct spool *spool)
{
    const uint8_t *data = spool->written.data;
    size_t len = spool->written.len;
    uint64_t at = spool->write_at;
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
    struct spool *spool = CONTAINER_OF(job, struct spool, job);
    if (spool->fd < 0) {
        spool->fd = spool->spools->disk->open(spool->spools->dir);
        if (spool->fd < 0) {
            spool->write_error = error_of_errno(errno);
            return;
        }
    }
    spool->write_error = write_all(spool);
}

static void on_written(struct pool_job *job);

static void start_write(struct spool *spool)
{
    spool->writing = true;
    spool->written = spool->filling;
    spool->filling = (struct block){0};
    spool->job = (struct pool_job){.run = run_write, .done = on_written};
    pool_submit(spool->spools->pool, &spool->job);
}

void spool_flush(struct spool *spool)
{
    if (!spool->in_memory && !spool->writing && spool->error == CAP_OK && spool->filling.len > 0) {
        start_write(spool);
    }
}

static void on_written(struct pool_job *job)
{
    struct spool *spool = CONTAINER_OF(job, struct spool, job);
    const struct spools *spools = spool->spools;
    spool->writing = false;
    if (spool->write_error == CAP_OK) {
        spool->write_at += spool->written.len;
        atomic_fetch_add(spools->on_disk, spool->written.len);
    }
    block_free(spool, &spool->written);
    if (spool->freed) {
        spool_free(spool);
    } else {
        spool->error = spool->write_error;
        if (spool->error != CAP_OK) {
            block_free(spool, &spool->filling);
        }
        spool_flush(spool);
        spool->moved(spool->owner);
    }
    spools->drained(spools->ctx);
}

bool spool_in_memory(const struct spool *spool)
{
    return spool->in_memory;
}

bool spool_settled(const struct spool *spool)
{
    return spool->in_memory || (!spool->writing && spool->filling.len == 0);
}

enum cap_error spool_error(const struct spool *spool)
{
    return spool->error;
}

static enum cap_error source_read(void *ctx, uint64_t offset, void *dst, size_t len)
{
    struct spool *spool = ctx;
    uint8_t *to = dst;
    if (spool->cancelled != NULL && atomic_load(spool->cancelled)) {
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

struct cap_source spool_source(struct spool *spool, const atomic_bool *cancelled)
{
    spool->cancelled = cancelled;
    return (struct cap_source){
        /* Never as plain memory: only a read notices that the upload was cancelled. */
        .read = source_read,
        .ctx = spool,
    };
}

static void run_close(struct pool_job *job)
{
    const struct spool *spool = CONTAINER_OF(job, struct spool, job);
    close(spool->fd);
}

static void on_closed(struct pool_job *job)
{
    struct spool *spool = CONTAINER_OF(job, struct spool, job);
    atomic_fetch_sub(spool->spools->on_disk, spool->write_at);
    free(spool);
}

void spool_free(struct spool *spool)
{
    if (spool == NULL) {
        return;
    }
    if (spool->writing) {
        spool->freed = true;
        return;
    }
    block_free(spool, &spool->filling);
    (void)ledger_memory_hold(spool->spools->ledger, spool->account, &spool->held, 0);
    if (spool->fd < 0) {
        free(spool);
        return;
    }
    /* Giving the blocks of a large file back takes long: not on the loop. */
    spool->job = (struct pool_job){.run = run_close, .done = on_closed};
    pool_submit(spool->spools->pool, &spool->job);
}
