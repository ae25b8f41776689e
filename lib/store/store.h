/*
 * The store: caps by hash, whole or not at all.
 *
 * One interface, engines behind a table of functions (LMDB in lmdb/; one in memory for tests), one
 * conformance suite (tests/unit/store). The interface assumes neither one machine nor that a body
 * is one contiguous span, and no caller holds a transaction open: there are snapshots to read from,
 * and one verb to write, cap_store_admit.
 *
 * Threads. Reading: any thread; a cap_read belongs to one thread at a time, many may be open.
 * Writing: one thread, the *writer*, makes every call that is marked so.
 *
 * Large bodies are *staged* first: written in bounded steps, each durable, none visible. The
 * admission of the cap then only links what was staged; so nothing is ever half there, and memory
 * does not grow with a body. What a crash leaves staged is dropped when the store is next opened.
 *
 * Errors that every call may return: CAP_E_IO, CAP_E_CORRUPT, CAP_E_NO_MEMORY and
 * CAP_E_STORE_FAILED. After CAP_E_DISK_FULL, CAP_E_MAP_FULL and CAP_E_READERS_FULL the store is
 * intact and reads go on.
 *
 * Reading where the device cannot give a page, or past the end of a file that somebody has cut, is
 * CAP_E_IO, also where the file is mapped and that means SIGBUS: opening an LMDB store puts a
 * handler in front of the process's, which ends the read and leaves every other fault to the one
 * that was there. Snapshots stay usable, and nothing is noted as damaged, for the device may give
 * the page the next time; but writing ends until the store is opened again, each write with
 * CAP_E_IO: it could rest on such a page. A page that first fails in a write transaction, or while
 * a store is opened, is left to the process.
 *
 * A commit that fails with CAP_E_IO or CAP_E_STORE_FAILED, be it of an admission, of a step of a
 * stage or of a sweep, is the last: every later write says CAP_E_STORE_FAILED until the store is
 * opened again. What the device lost it may tell only once, so a retry could seem to succeed.
 */
#ifndef LIB_STORE_STORE_H
#define LIB_STORE_STORE_H

#include "lib/store/scrub.h"
#include "lib/store/types.h"

/* --- Opening ---------------------------------------------------------------------------------- */

struct cap_store_lmdb_config {
    const char *dir;      /* an existing directory of our own; the files in it are ours */
    uint64_t map_bytes;   /* address space to reserve; 0: a sane default */
    uint32_t max_readers; /* 0: a sane default */
    bool *ret_unsynced;   /* NULL, or set when the file system cannot sync a directory */
};

/*
 * Opens or creates an LMDB store in a directory. Creation is safe against a crash at any point;
 * leftovers of one are removed, as are stages of an earlier life. CAP_E_STORE_VERSION for another
 * format, CAP_E_CORRUPT for a file shorter than it says, CAP_E_INVALID_ARGUMENT for a network file
 * system, CAP_E_IO, CAP_E_DISK_FULL. The caller holds the state directory's lock: one open per
 * directory. `new_id` becomes the store's identity if it is created now.
 */
enum cap_error cap_store_lmdb_open(const struct cap_store_lmdb_config *config,
                                   const uint8_t new_id[CAP_STORE_ID_SIZE],
                                   struct cap_store **ret_store);

/* Whether a directory is on a network file system, where the engine opens no store. */
bool cap_store_lmdb_is_remote(const char *dir);

/*
 * Has the store tell what becomes of caps. Once, after the store was opened and before anything is
 * written; `watch` is copied.
 */
void cap_store_watch(struct cap_store *store, const struct cap_store_watch *watch);

/* Closes; no read is open. NULL is fine. */
void cap_store_close(struct cap_store *store);

/* The identity given at creation; valid until close. Any thread. */
const uint8_t *cap_store_id(const struct cap_store *store);

/* The engine's name, such as "lmdb". Static. */
const char *cap_store_engine(const struct cap_store *store);

/* --- Reading: any thread ---------------------------------------------------------------------- */

/*
 * A snapshot to read from; what is committed later does not show in it. Keep it short: it pins free
 * space, and owns what it handed out. CAP_E_READERS_FULL when clearing stale readers did not help.
 */
enum cap_error cap_store_read_begin(struct cap_store *store, struct cap_read **ret_read);

/* Ends the snapshot; every pointer that it handed out is dead. NULL is fine. */
void cap_store_read_end(struct cap_read *read);

/*
 * CAP_OK with *ret_info, which may be NULL; or the cap cannot be served. CAP_E_NOT_FOUND.
 * CAP_E_FORBIDDEN_CAP: it is not there, and may not be. CAP_E_QUARANTINED: its bytes were found
 * damaged; *ret_info is filled in, but its kind is 0 when not even the record can be read. Every
 * other call that reads a cap's bytes by its hash answers so, too.
 */
enum cap_error cap_store_find(struct cap_read *read, const struct cap_hash *hash,
                              struct cap_info *ret_info);

/*
 * Hands out body bytes, checked against what was stored: up to `len` from `offset`, at most
 * CAP_STORE_WINDOW, as *ret_count spans in ret_iov (room for CAP_STORE_WINDOW_IOV); *ret_len says
 * how many bytes they hold, which is less than asked only at CAP_STORE_WINDOW or the body's end.
 * The spans belong to `read` and end with it: LMDB's point into its map, an engine without one has
 * to read into memory of the snapshot. So a snapshot is good for a few windows. Waits for the
 * device. CAP_E_NOT_FOUND, CAP_E_RANGE_OUT_OF_BODY when offset is past the end. Bytes that are not
 * what was stored quarantine the cap: CAP_E_QUARANTINED, here and wherever its bytes are read.
 */
enum cap_error cap_store_window(struct cap_read *read, const struct cap_hash *hash, uint64_t offset,
                                uint64_t len, struct iovec *ret_iov, int *ret_count,
                                size_t *ret_len);

/*
 * The same without looking at any byte of the body: where it lies, so that its pages can be read in
 * before it is waited for. Nothing is checked: what is to be used comes from cap_store_window.
 */
enum cap_error cap_store_peek(struct cap_read *read, const struct cap_hash *hash, uint64_t offset,
                              uint64_t len, struct iovec *ret_iov, int *ret_count, size_t *ret_len);

/*
 * Copies what spans of this snapshot hold, in their order, to `dst`, which has room for all of it.
 * CAP_E_IO for a page that the device cannot give; a load of the caller's own would be SIGBUS
 * there, and a system call that is handed the page fails with EFAULT.
 */
enum cap_error cap_store_copy(struct cap_read *read, const struct iovec *iov, int count, void *dst);

/*
 * As cap_store_find, and says where the body lies. Touches no byte of the body, so that its pages
 * can be read in before cap_store_take waits for them.
 */
enum cap_error cap_store_locate(struct cap_read *read, const struct cap_hash *hash,
                                struct cap_info *ret_info, struct cap_place *ret_place);

/*
 * Copies the body at a place, not NULL, that this snapshot gave to `dst`, and checks the copy
 * against what was stored. CAP_E_QUARANTINED: it is not that, and the cap `hash` is quarantined.
 */
enum cap_error cap_store_take(struct cap_read *read, const struct cap_hash *hash,
                              const struct cap_place *place, void *dst);

/*
 * Copies what lies at a place that any snapshot gave. Takes no snapshot: bytes that are not a cap's
 * any more may have been written over, with what a client chose, so the caller must be able to tell
 * that they are the ones it took before. Any thread. CAP_E_IO as at cap_store_copy;
 * CAP_E_NOT_FOUND: it lay in a file that has been compacted since.
 */
enum cap_error cap_store_load(struct cap_store *store, const struct cap_place *place, void *dst);

/*
 * Copies page roots [first, first + count): of a Data cap those of its pages that are not zero, of
 * an Image those of its code's pages (struct cap_image). They are kept so that a page can be proven
 * to a reader, or a damaged one named, without hashing the rest; cap_store_lmdb_check compares them
 * with the body. CAP_E_NOT_FOUND, CAP_E_RANGE_OUT_OF_BODY.
 */
enum cap_error cap_store_page_roots(struct cap_read *read, const struct cap_hash *hash,
                                    uint64_t first, size_t count, struct cap_hash *ret_roots);

/*
 * Copies nodes [first, first + count) of those that are kept above the page roots, in the order of
 * struct cap_nodes; info.node_counts says how many there are of each level. They spare a proof the
 * hashing of all roots but a few. CAP_E_NOT_FOUND, CAP_E_RANGE_OUT_OF_BODY.
 */
enum cap_error cap_store_nodes(struct cap_read *read, const struct cap_hash *hash, uint64_t first,
                               size_t count, struct cap_node *ret_nodes);

/*
 * Lists caps in an order that is the engine's own and stays the same: the first query->max after
 * `after` that match, looking at no more than `scan_max`. *ret_count of them in ret_items;
 * *ret_last is where to go on from, *ret_more whether there may be more. CAP_E_INVALID_ARGUMENT for
 * another kind, more than 256 prefix bits, or a bound of 0.
 */
enum cap_error cap_store_list(struct cap_read *read, const struct cap_list_query *query,
                              struct cap_listed *ret_items, size_t *ret_count,
                              struct cap_hash *ret_last, bool *ret_more);

/*
 * Up to `max` (not 0) references of a cap in hash order after `after` (NULL: from the start). None
 * for a hash that the store does not know. CAP_E_INVALID_ARGUMENT.
 */
enum cap_error cap_store_refs(struct cap_read *read, const struct cap_hash *hash,
                              enum cap_ref_direction direction, const struct cap_hash *after,
                              size_t max, struct cap_ref *ret_refs, size_t *ret_count,
                              bool *ret_more);

/*
 * The Image cap that a wire Image of this image_content_hash became: one of the first
 * CAP_STORE_CONTENTS that led to that cap. CAP_E_NOT_FOUND.
 */
enum cap_error cap_store_find_content(struct cap_read *read, const struct cap_hash *content_hash,
                                      struct cap_hash *ret_hash);

/*
 * The cap whose hash begins with the first `bits` bits of `prefix`: *ret_count is 0, 1, or 2 for
 * "more than one", and *ret_hash is one of them. For people who type. CAP_E_INVALID_ARGUMENT for
 * more than 256 bits.
 */
enum cap_error cap_store_find_prefix(struct cap_read *read, const struct cap_hash *prefix,
                                     unsigned bits, struct cap_hash *ret_hash, size_t *ret_count);

/* Up to `max` facts of a cap; of kinds that this version does not know it says nothing. */
enum cap_error cap_store_facts(struct cap_read *read, const struct cap_hash *hash, size_t max,
                               struct cap_fact *ret_facts, size_t *ret_count);

/*
 * Up to `max` (not 0) roots in the order of their names, after the name `after` (NULL: from the
 * start). CAP_E_INVALID_ARGUMENT.
 */
enum cap_error cap_store_roots(struct cap_read *read, const char *after, size_t max,
                               struct cap_root *ret_roots, size_t *ret_count, bool *ret_more);

/* Up to `max` of the roots that name a cap. */
enum cap_error cap_store_roots_of(struct cap_read *read, const struct cap_hash *hash, size_t max,
                                  struct cap_root *ret_roots, size_t *ret_count);

/* What keeps a cap: CAP_NEEDED_* in *ret_needed, 0 for one that may go. CAP_E_NOT_FOUND. */
enum cap_error cap_store_needed(struct cap_read *read, const struct cap_hash *hash,
                                unsigned *ret_needed);

/*
 * When and why a cap was last removed, of the last CAP_STORE_REMOVED removals; O(their number).
 * CAP_E_NOT_FOUND.
 */
enum cap_error cap_store_removed(struct cap_read *read, const struct cap_hash *hash,
                                 struct cap_removed *ret_removed);

/*
 * Lists what a collection would look at when the store clock is `now_s`, from *cursor on: up to
 * `max` (not 0) caps, and what keeps each. Looks at a bounded number of entries, so there may be
 * none and *ret_more. A cap may come more than once; one that keeps others is the only one of them
 * that comes, until it is gone. CAP_E_INVALID_ARGUMENT.
 */
enum cap_error cap_store_due(struct cap_read *read, struct cap_due_cursor *cursor, uint64_t now_s,
                             size_t max, struct cap_due *ret_due, size_t *ret_count,
                             bool *ret_more);

/* What the caps that `uid` was the first to publish come to. */
enum cap_error cap_store_owner(struct cap_read *read, uint32_t uid, struct cap_usage *ret_usage);

/* Up to `max` (not 0) of the users who have caps, by uid, from the uid `from` on.
 * CAP_E_INVALID_ARGUMENT. */
enum cap_error cap_store_owners(struct cap_read *read, uint32_t from, size_t max,
                                struct cap_owner *ret_owners, size_t *ret_count);

/* Why a cap is forbidden. CAP_E_NOT_FOUND: it is not. */
enum cap_error cap_store_forbidden(struct cap_read *read, const struct cap_hash *hash,
                                   struct cap_forbidden *ret_forbidden);

/*
 * Up to `max` (not 0) caps that are quarantined or lost, in hash order after `after` (NULL: from
 * the start). The Images that refer to them (CAP_REFS_IN) are degraded.
 */
enum cap_error cap_store_broken(struct cap_read *read, const struct cap_hash *after, size_t max,
                                struct cap_broken *ret_broken, size_t *ret_count, bool *ret_more);

/* What the snapshot holds. O(1). */
enum cap_error cap_store_counts(struct cap_read *read, struct cap_counts *ret_counts);

/* Physical figures; takes no snapshot. Any thread. */
enum cap_error cap_store_space(struct cap_store *store, struct cap_space *ret_space);

/* Clears readers that dead processes left, which pin free space. Any thread. */
enum cap_error cap_store_clear_stale_readers(struct cap_store *store);

/*
 * Whether the admission would be stored now: its results are those of cap_store_admit but that
 * nothing is stored, so that it may be refused early. Returns CAP_OK and admission->error is the
 * verdict, or the store's error.
 */
enum cap_error cap_store_dry_run(struct cap_store *store, struct cap_admission *admission);

/*
 * The store clock: seconds since 1970 by the wall clock when the store was opened, or what it was
 * when the store was last written if that is later; then it goes on with the monotonic clock. So it
 * never goes back, and a jump of the wall clock ends no lease. Any thread.
 */
uint64_t cap_store_clock(const struct cap_store *store);

/*
 * Rises before a commit that makes a cap gone, and again when the watch has been told. So what was
 * found in a snapshot may be remembered if this is as it was before the snapshot was taken, by one
 * whom the watch reaches; and one who sees it as it was last knows of all that is gone. Any thread.
 */
uint64_t cap_store_epoch(const struct cap_store *store);

/*
 * Keeps a cap, whether it is there or not, from being collected or deleted until it is released as
 * often as it was held. False, and it is not held: it is just going, or there is no memory; treat
 * it as absent. Hold first, then take a snapshot and look. Any thread.
 */
bool cap_store_hold(struct cap_store *store, const struct cap_hash *hash);
void cap_store_release(struct cap_store *store, const struct cap_hash *hash);

/* How many seconds are left until then, of what fits 32 bits; 0 when it is past. Any thread. */
uint32_t cap_store_left(const struct cap_store *store, uint64_t kept_until_s);

/* Whether cap_store_keep would write for a cap that is kept until then. Any thread. */
bool cap_store_keep_gains(const struct cap_store *store, uint64_t kept_until_s, uint64_t keep_s);

/* The error of the commit after which nothing is written any more, or CAP_OK. Any thread. */
enum cap_error cap_store_failure(const struct cap_store *store);

/* --- Writing: the writer thread only ---------------------------------------------------------- */

/*
 * Decides admissions, each by itself and all or nothing; what one stores resolves for those after
 * it. Engines store several together, and one by one when that fails, so that only the culprit
 * fails. watch->decided is called once for each.
 */
void cap_store_admit(struct cap_store *store, struct cap_admission *const *admissions, size_t count,
                     const struct cap_admit_watch *watch);

/*
 * Gives and renews leases, all in one commit, which is durable when this returns; one that would
 * gain less than an eighth of its keep_s writes nothing. What becomes of each is its result. An
 * error is the commit's, and then none is given. CAP_E_DISK_FULL, CAP_E_MAP_FULL.
 */
enum cap_error cap_store_keep(struct cap_store *store, struct cap_keep *keeps, size_t count);

/*
 * Sets a root to a cap that is there, in the place of another if there is one of the name: then
 * *ret_replaced. CAP_E_NOT_FOUND, CAP_E_INVALID_ARGUMENT for a name that cannot be,
 * CAP_E_DISK_FULL, CAP_E_MAP_FULL.
 */
enum cap_error cap_store_root_set(struct cap_store *store, const struct cap_root *root,
                                  bool *ret_replaced);

/* Removes a root. What it kept becomes a candidate for collection. CAP_E_NO_ROOT. */
enum cap_error cap_store_root_remove(struct cap_store *store, const char *name);

/*
 * Removes one cap for `uid`, now. What it referred to and nothing else keeps becomes a candidate
 * for collection. CAP_E_STILL_NEEDED: a root or a hold keeps it, or, unless `force`, a reference or
 * a lease; with force what refers to it is degraded until it is published again. CAP_E_NOT_FOUND.
 */
enum cap_error cap_store_delete(struct cap_store *store, const struct cap_hash *hash, uint32_t uid,
                                bool force);

/*
 * Looks at up to `max_caps` (not 0) caps that are due and removes those that nothing needs, in one
 * commit; a bounded amount of work. It follows what was published and what lost its keep, not what
 * the store holds. CAP_E_INVALID_ARGUMENT.
 */
enum cap_error cap_store_collect(struct cap_store *store, size_t max_caps,
                                 struct cap_collected *ret_collected);

/* Begins a stage for a body of `body_len` bytes. CAP_E_DISK_FULL, CAP_E_MAP_FULL. */
enum cap_error cap_store_stage_begin(struct cap_store *store, uint64_t body_len,
                                     uint64_t *ret_stage);

/*
 * Writes the next bytes of `count` stages (not 0), the first ones first, at most CAP_STAGE_STEP in
 * all, durably and with one sync; says for each whether all of it is there. On an error nothing was
 * written: drop the stages. CAP_E_DISK_FULL, CAP_E_MAP_FULL, CAP_E_INVALID_ARGUMENT for an unknown
 * stage, or as a body fails.
 */
enum cap_error cap_store_stage_step(struct cap_store *store, struct cap_staging *stagings,
                                    size_t count);

/*
 * Drops a stage that no admission linked; one that is not there is fine. It is only marked:
 * cap_store_sweep gives its room back.
 */
void cap_store_stage_drop(struct cap_store *store, uint64_t stage);

/*
 * Writes down facts that reads have found, as of `now_us`, and gives back a bounded part of the
 * room that dropped stages and removed caps take; *ret_more when there is more to do. Does nothing
 * when there is nothing to do. CAP_E_DISK_FULL, CAP_E_MAP_FULL: later perhaps.
 */
enum cap_error cap_store_sweep(struct cap_store *store, uint64_t now_us, bool *ret_more);

/*
 * Forbids a cap, whether it is there or not: what is there is removed, as by cap_store_delete with
 * force, and it is not stored again until it is allowed. One that is forbidden gets the new reason.
 * CAP_E_STILL_NEEDED: a root or a hold keeps it. CAP_E_INVALID_ARGUMENT: the reason is longer than
 * CAP_REASON_MAX.
 */
enum cap_error cap_store_forbid(struct cap_store *store, const struct cap_hash *hash, uint32_t uid,
                                const char *reason);

/* Lets a cap be stored again. CAP_E_NOT_FOUND: it is not forbidden. */
enum cap_error cap_store_allow(struct cap_store *store, const struct cap_hash *hash);

/* Quarantines a cap, whose bytes somebody found damaged. CAP_E_NOT_FOUND. */
enum cap_error cap_store_quarantine(struct cap_store *store, const struct cap_hash *hash);

/* --- Copies ----------------------------------------------------------------------------------- */

/*
 * Copies what is committed now into `dir`, an existing and empty directory on any disk, which then
 * is a store as cap_store_lmdb_open takes it: the same identity, without the room that is free in
 * this one. Everything is synced, the file appears under its name last, and `dir` is synced too;
 * the caller syncs the directory that holds it. On an error nothing is left in `dir`. Any thread,
 * while reading and writing go on.
 *
 * It is one long snapshot: pages that are freed while it runs are not used again before its end, so
 * the store's file may grow by what is written in that time.
 *
 * CAP_E_DISK_FULL with copy->need and copy->have: there is no room for it. CAP_E_CANCELLED when
 * go_on said so. CAP_E_CORRUPT: an index of this store is damaged; damaged bodies and records are
 * copied as they are, for the check of the copy to name. CAP_E_INVALID_ARGUMENT: the engine has no
 * file.
 */
enum cap_error cap_store_backup(struct cap_store *store, const char *dir, struct cap_copy *copy);

/*
 * Makes the store's file anew without the room that is free in it, and goes on in that. The
 * writer's thread: nothing else is written until it returns. Reading goes on meanwhile and after,
 * old snapshots in the old file. A crash leaves one of the two, each with everything that was
 * acknowledged. On an error all is as before, unless cap_store_failure says otherwise: CAP_E_IO
 * when it is unknown which of the two files a crash would leave.
 *
 * The old file keeps its room until cap_store_let_go. Errors as at cap_store_backup, and
 * CAP_E_INVALID_ARGUMENT too while an older file has not been let go, or for a file that a
 * machine with other pages made; CAP_E_NO_MEMORY where there are no addresses for a second map.
 */
enum cap_error cap_store_compact(struct cap_store *store, struct cap_copy *copy);

/*
 * Closes the file that compaction has replaced if no snapshot is left in it; whether there is none
 * left now. The caller has made sure, since cap_store_compact returned, that no call of
 * cap_store_load is under way that began before: it may be in the old file. Places that snapshots
 * of that gave may still be loaded later: CAP_E_NOT_FOUND. Any thread, one at a time.
 */
bool cap_store_let_go(struct cap_store *store);

#endif
