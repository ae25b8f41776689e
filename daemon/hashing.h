/*
 * Work for the pool's threads: small jobs at once, long hashing jobs in a queue of their own, so
 * that a thread stays free for what is small. Loop thread, but for `run`.
 */
#ifndef DAEMON_HASHING_H
#define DAEMON_HASHING_H

#include "daemon/server.h"

#define HASHING_SMALL (UINT64_C(1) << 20) /* bytes up to which a job does not queue */

struct hash_job {
    uint64_t cost;                      /* bytes to hash */
    void (*run)(struct hash_job *job);  /* in a worker */
    void (*done)(struct hash_job *job); /* on the loop, exactly once */

    uv_work_t work; /* the queue's own, from here */
    struct hashing *hashing;
    struct hash_job *next;
    uint64_t took_us;
};

struct hashing;

/* A queue for `server`, which outlives it. CAP_E_NO_MEMORY. */
enum cap_error hashing_new(struct server *server, struct hashing **ret_hashing);

/* NULL is fine. No job is left. */
void hashing_free(struct hashing *hashing);

/* Runs a job; the job stays where it is until `done`. */
void hashing_submit(struct hashing *hashing, struct hash_job *job);

/* Jobs whose `done` has not been called. */
size_t hashing_count(const struct hashing *hashing);

/*
 * Small work in the pool, counted in server->works so that the end waits for it. `work` has its
 * callbacks' data; as uv_queue_work, which cannot fail for a loop that runs. `after` calls
 * server_work_done first.
 */
void server_work(struct server *server, uv_work_t *work, uv_work_cb run, uv_after_work_cb after);
void server_work_done(struct server *server);

#endif
