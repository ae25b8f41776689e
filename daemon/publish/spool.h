/*
 * The spool: an upload's bytes on their way to an unlinked file, so that memory does not grow with
 * uploads. A short upload stays in memory. The workers that write can hash what passes through
 * their hands. Loop thread, but for the source.
 */
#ifndef DAEMON_PUBLISH_SPOOL_H
#define DAEMON_PUBLISH_SPOOL_H

#include <stdatomic.h>
#include <sys/types.h>

#include "daemon/core/pool.h"
#include "lib/cap/merkle.h"

struct ledger;
struct ledger_peer;

#define SPOOL_SMALL (64u << 10)  /* uploads up to this stay in memory */
#define SPOOL_BLOCK (256u << 10) /* most bytes gathered before a write; a small job to hash */

/* Writes of one spool at a time: with a second one two workers hash what arrives. */
#define SPOOL_WRITES 2u

/* Blocks that the spools of a loop keep for the next bytes; a new one costs a page fault for each
 * of its pages. No upload is charged for them. */
#define SPOOL_IDLE SPOOL_WRITES

/* The disk: what a test replaces to make it slow, full or broken. Called by workers. */
struct spool_disk {
    /* A new unlinked file in `dir`, or -1 and errno. */
    int (*open)(const char *dir);
    /* As pwrite and pread. */
    ssize_t (*write)(int fd, const void *data, size_t len, off_t at);
    ssize_t (*read)(int fd, void *data, size_t len, off_t at);
};

/* What the spools of one loop share. */
struct spools {
    struct pool_outlet *pool; /* of the loop */
    struct ledger *ledger;
    const char *dir;
    const struct spool_disk *disk;
    atomic_uint_fast64_t *on_disk; /* bytes in all spool files */
    /* Bytes that waited for the disk have left memory. */
    void (*drained)(void *ctx);
    void *ctx;

    /* The spools' own; zeroed at first. */
    size_t count; /* of spools; the last one frees the idle blocks */
    uint8_t *idle[SPOOL_IDLE];
    size_t idle_count;
};

struct spool;

/* What a spool tells its owner, on the loop thread: a write ended, well or badly. */
typedef void spool_moved(void *owner);

/* The system's. Static. */
const struct spool_disk *spool_disk_system(void);

/* An upload that is spooled, as its spool sees it. */
struct spool_order {
    struct ledger_peer *account;  /* holds the memory */
    uint64_t len;                 /* bytes that will come */
    const atomic_bool *cancelled; /* once it is set, reading fails with CAP_E_CANCELLED */
    spool_moved *moved;
    void *owner;
};

/* CAP_E_NO_MEMORY. No file is made before there is something to write. `spools` and what the order
 * refers to outlive it. */
enum cap_error spool_new(struct spools *spools, const struct spool_order *order,
                         struct spool **ret_spool);

/*
 * Before anything is appended to a spool with a file: has the roots of its blocks (cap_block_roots)
 * made as they are written, which is then a hash job of its peer. CAP_E_NO_MEMORY.
 */
enum cap_error spool_hash(struct spool *spool);

/* Only bytes in this range will be read: a spool that is hashed writes no others from now on. On
 * one that is not it has no effect. */
void spool_narrow(struct spool *spool, uint64_t from, uint64_t until);

/* Memory that these roots take, for a spool of so many bytes. */
uint64_t spool_hash_memory(uint64_t len);

/* How many bytes it can take now. 0: wait for `moved`. */
size_t spool_room(const struct spool *spool);

/* Takes bytes, at most spool_room, within its length. CAP_E_NO_MEMORY. */
enum cap_error spool_append(struct spool *spool, struct cap_bytes bytes);

/* Starts writing what has been gathered, unless a write is under way, which then does it. */
void spool_flush(struct spool *spool);

/* Whether all that was appended can be read from the source. */
bool spool_settled(const struct spool *spool);

/* The roots of all blocks of a settled spool that was hashed, its own; else NULL. */
const struct cap_hash *spool_roots(const struct spool *spool);

/* Whether it has no file. */
bool spool_in_memory(const struct spool *spool);

/* How many bytes, from the first on, can be read from the source. Of a spool with a file. */
uint64_t spool_written(const struct spool *spool);

/* Whether no write is under way and none is to come of what was appended so far. */
bool spool_quiet(const struct spool *spool);

/* What lies in a spool whose upload was cut off, for the spool of the one that goes on with it. It
 * owns the file and the roots. */
struct spool_rest {
    int fd; /* -1: nothing is written yet */
    uint64_t appended;
    uint64_t at;            /* of this, what is in the file or was not needed there */
    uint64_t written;       /* bytes in the file */
    struct cap_hash *roots; /* NULL, or those of the blocks before `at`, and behind them the rest */
    size_t rest_len;        /* bytes from `at` on: less than a page */
};

/* Takes them out of a quiet spool with a file and without an error, which can only be freed then.
 */
void spool_leave(struct spool *spool, struct spool_rest *ret_rest);

/* A spool as it was left, for an order of the same length. CAP_E_NO_MEMORY: *rest is as before. */
enum cap_error spool_take_up(struct spools *spools, const struct spool_order *order,
                             const struct spool_rest *rest, struct spool **ret_spool);

/* Closes the file, which may block, and frees the roots. Any thread. */
void spool_rest_free(struct spool_rest *rest);

/* What went wrong: CAP_OK, CAP_E_DISK_FULL, CAP_E_IO. */
enum cap_error spool_error(const struct spool *spool);

/*
 * The bytes that are written, or in memory once it is settled, for any thread; not for the loop
 * when there is a file. Valid until the spool is freed.
 */
struct cap_source spool_source(struct spool *spool);

/* Frees it and its file; a write under way finishes first, without telling. NULL is fine. */
void spool_free(struct spool *spool);

#endif
