/*
 * The spool: an upload's bytes on their way to an unlinked file, so that memory does not grow with
 * uploads. A short upload stays in memory. Loop thread, but for the source.
 */
#ifndef DAEMON_PUBLISH_SPOOL_H
#define DAEMON_PUBLISH_SPOOL_H

#include <stdatomic.h>

#include "daemon/publish/publish.h"

#define SPOOL_SMALL (64u << 10)  /* uploads up to this stay in memory */
#define SPOOL_BLOCK (256u << 10) /* most bytes gathered before a write */

struct ledger_peer;
struct spool;

/* What a spool tells its owner, on the loop thread: a write ended, well or badly. */
typedef void spool_moved(void *owner);

/*
 * A spool for `len` bytes, whose memory is counted in `account`. No file is made before there is
 * something to write. CAP_E_NO_MEMORY.
 */
enum cap_error spool_new(struct publish *publish, struct ledger_peer *account, uint64_t len,
                         spool_moved *moved, void *owner, struct spool **ret_spool);

/* How many bytes it can take now. 0: wait for `moved`. */
size_t spool_room(const struct spool *spool);

/* Takes bytes, at most spool_room, within its length. CAP_E_NO_MEMORY. */
enum cap_error spool_append(struct spool *spool, struct cap_bytes bytes);

/* Starts writing what has been gathered, unless a write is under way, which then does it. */
void spool_flush(struct spool *spool);

/* Whether all that was appended can be read from the source. */
bool spool_settled(const struct spool *spool);

/* What went wrong: CAP_OK, CAP_E_DISK_FULL, CAP_E_IO. */
enum cap_error spool_error(const struct spool *spool);

/*
 * The settled bytes, for any one thread at a time; not for the loop when there is a file. Valid
 * until the spool is freed. Reading fails with CAP_E_CANCELLED once *cancelled is set.
 */
struct cap_source spool_source(struct spool *spool, const atomic_bool *cancelled);

/* Frees it and its file; a write under way finishes first, without telling. NULL is fine. */
void spool_free(struct spool *spool);

#endif
