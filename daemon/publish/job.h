/*
 * What a worker does for an upload: judge its head, make its caps. A job has everything that this
 * takes and all that comes of it; it knows neither loop nor upload, and belongs to one thread at a
 * time. What it refers to (head, spool, store) stays until it is done.
 */
#ifndef DAEMON_PUBLISH_JOB_H
#define DAEMON_PUBLISH_JOB_H

#include "daemon/core/context.h"
#include "daemon/core/pool.h"
#include "daemon/publish/body.h"
#include "daemon/publish/data.h"
#include "daemon/publish/held.h"
#include "daemon/publish/room.h"
#include "lib/cap/layout.h"

/* What an upload is. */
enum job_form {
    JOB_DATA, /* Data: raw bytes, or a canonical body */
    JOB_WIRE, /* a wire Image */
    JOB_BODY, /* the served body of an Image */
};

/* The first bytes of a body that tells in its front what it takes, while they are gathered. */
struct job_front {
    uint8_t bytes[CAP_IMAGE_FRONT];
    size_t filled;
};

/* For how long its caps are kept, in seconds. */
struct job_lease {
    bool asked;     /* the connection has leases: its messages have other forms */
    uint64_t usual; /* where the message does not say */
    uint64_t most;
    uint64_t keep_s; /* what it comes to */
};

struct job {
    struct pool_job pool; /* first the judging, then the making */
    struct cap_store *store;
    const atomic_bool *cancelled;
    uint64_t total_len;
    enum job_form form;
    bool named;      /* the connection has the feature RESUME, as `lease.asked`; once the message is
                        read: it has a token */
    uint64_t offset; /* of the body, where it goes on */
    bool is_cap;     /* a PUT_CAP: `expected` is the hash that it must have */
    bool resolve_only;
    bool dry_run;
    struct job_lease lease;
    struct cap_hash expected;
    struct job_front front;
    struct data_order data; /* JOB_DATA */
    uint64_t pages;         /* of it, at most; of a canonical body known with its front */
    struct body_order body; /* JOB_BODY */
    struct cap_bytes head;  /* JOB_WIRE, from here */
    struct image_limits limits;
    uint64_t early_min;      /* arena from which on slots are looked up before it has come */
    uint64_t look_memory;    /* that this look may take: without, it is left to the admission */
    struct cap_source spool; /* the bytes after the head; to make caps, from here */
    const struct cap_hash *block_roots; /* NULL, or of all its blocks */
    struct caps_stamp stamp;

    bool judged;   /* rules and limits are decided, and `wire` is set */
    bool resolved; /* the slots that the head names were there */
    struct cap_wire_image wire;
    uint64_t reads_from;  /* what of the spool is read, if the roots of its blocks are known: */
    uint64_t reads_until; /* a dry run's caps are made, but not stored */
    struct caps caps;
    struct held held; /* what it relies on, until job_free */
    struct judgement judgement;
};

/* Reads the message of an upload, whose lease is that of its connection. As proto_put_image_decode.
 */
enum cap_error job_decode(struct job *job, uint8_t type, struct cap_bytes payload);

/*
 * Judges what the message alone shows of anything but a wire Image, which is judged by its head.
 * Sets `judgement`.
 */
enum cap_error job_check(struct job *job);

/* Looks at the next piece of the body, of the same: judges its front when that is complete. Sets
 * `judgement`. */
enum cap_error job_front_take(struct job *job, struct cap_bytes piece);

/* Whether the body is what will be stored, if it is sound. */
bool job_is_canonical(const struct job *job);

/* Rules and limits alone. Sets `judgement`. */
enum cap_error job_judge_rules(struct job *job);

/* Whether the judging has to look at the store, and so needs a worker. After job_judge_rules. */
bool job_looks_early(const struct job *job);

/* Rules and limits unless they are decided, then the look if there is one. Sets `judgement`. */
void job_judge(struct job *job);

/* Memory beyond the head that the two steps take; bytes that the second one hashes, about. */
uint64_t job_judge_memory(const struct job *job);
uint64_t job_make_memory(const struct job *job);
uint64_t job_make_cost(const struct job *job);

/*
 * Makes the caps, and looks what of them is there. Sets `caps` and `judgement`. It waits for
 * others' turns by what it hashes: what it reads of the spool, and the structure. Once *cancelled
 * is set it ends with CAP_E_CANCELLED, within some milliseconds.
 */
void job_make(struct job *job);

/*
 * A PUT_DATA of at most so many bytes may be made on the loop: at 100 MB/s, the pace without SHA
 * instructions, that takes 80 us, and at the usual pace less than a worker takes to wake and to
 * wake the loop.
 */
#define JOB_QUICK_MAX (8u << 10)

/* Whether it is one of those. */
bool job_is_quick(const struct job *job);

/*
 * Makes the cap of such a job, whose body lies in memory, as job_make but that it does not look
 * whether the cap is there: that could wait for the disk, and the admission finds out.
 */
void job_make_quick(struct job *job);

/* Counts what was admitted; if that is new, it is an event. The shard's thread. */
void job_count(const struct cap_admission *admission, struct shard *shard);

/* Says why what it made was not admitted, with what `claim` says of the disk. */
void job_explain(const struct job *job, const struct cap_admission *admission,
                 const struct room_claim *claim, struct judgement *ret_judgement);

/* Encodes the reply, from what the admission said. */
enum cap_error job_encode_reply(const struct job *job, const struct cap_admission *admission,
                                struct cap_buf *ret_payload);

/* Frees what came of it. */
void job_free(struct job *job);

#endif
