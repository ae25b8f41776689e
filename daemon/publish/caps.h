/*
 * What an upload becomes: caps, and the admission that stores them.
 *
 * image.h, body.h and data.h judge uploads and make their caps. They are functions from their
 * inputs to a result: they know no loop, no ledger and no client, and run in any thread, one at a
 * time for one result.
 */
#ifndef DAEMON_PUBLISH_CAPS_H
#define DAEMON_PUBLISH_CAPS_H

#include "lib/cap/data_cap.h"
#include "lib/cap/deblob.h"
#include "lib/cap/structure.h"
#include "lib/store/store.h"
#include "proto/message.h"

/* Heap that one page of a Data cap costs while it is made: see cap_data_builder_add, doubled since
 * tables grow by doubling. */
#define CAPS_PAGE_MEMORY 168u

/* Why an upload is refused, or that it is not. */
struct judgement {
    enum cap_error error;                   /* CAP_OK: it is not */
    char message[CAP_REFUSAL_MESSAGE_SIZE]; /* for a person; "": the error's own text will do */
    struct cap_buf detail; /* of CAP_E_UNRESOLVED_SLOT: the list of the slots; of judgement_lack */
};

/* The bytes of an upload, twice. */
struct caps_source {
    struct cap_source hashed; /* read while the caps are made; it and its `work` may wait */
    struct cap_source stored; /* what the bodies of the caps refer to; outlives them */
};

/* What every cap of an upload is stamped with. */
struct caps_stamp {
    struct cap_publisher publisher;
    uint64_t published_us;
};

/* A Data cap and what its body's windows refer to. */
struct data_cap {
    struct cap_data data;
    struct cap_source bytes;
};

/* The result. It must not move while the admission is in use: bodies refer to it. */
struct caps {
    struct data_cap *data; /* those that come with the upload, each once */
    size_t data_count;
    uint32_t data_distinct;         /* Data caps that an Image names */
    struct cap_structure structure; /* of an Image that came by its body */
    struct cap_image image;
    struct cap_source image_bytes;
    struct cap_hash content_hash;
    struct cap_ref *refs;
    uint32_t *needed_slots; /* for each of admission.needed: whose slot it is */
    struct cap_admission admission;
};

/* Fills admission.puts[index] with data[index]. */
void caps_put_data(struct caps *caps, size_t index, const struct caps_stamp *stamp);

/* What it adds to the store: before the writer has had it, at most. */
struct cap_usage caps_new(const struct cap_admission *admission);

/* Memory of the list of missing slots, for each of them and beyond their keys: an entry, and its
 * encoded fixed part. */
#define CAPS_MISSING_MEMORY (sizeof(struct proto_unresolved) + 64u)

/* Sets the table and the key of a slot. */
typedef void caps_name_slot(const void *ctx, uint32_t index, struct proto_unresolved *ret_slot);

/*
 * The refusal for what `admission` found missing: CAP_E_UNRESOLVED_SLOT with the list of the slots,
 * or why there is none. needed_slots[i] is the slot of admission->needed[i].
 */
enum cap_error caps_list_missing(const struct cap_admission *admission,
                                 const uint32_t *needed_slots, caps_name_slot *name,
                                 const void *ctx, struct judgement *ret_judgement);

/* Frees what it owns, and leaves an empty one. */
void caps_free(struct caps *caps);

/* What to say of a refusal: its message, or the error's own text. Valid as long as it. */
const char *judgement_text(const struct judgement *judgement);

/* Replaces what is in `to`, and leaves an empty one. */
void judgement_move(struct judgement *from, struct judgement *to);

/* Sets an error whose text says enough, or with a message. Returns the error. */
enum cap_error judgement_set(struct judgement *judgement, enum cap_error error);
enum cap_error judgement_say(struct judgement *judgement, enum cap_error error, const char *format,
                             ...) __attribute__((format(printf, 3, 4)));

/* Adds what is needed and what there is; `limit` as in struct proto_shortage. */
void judgement_lack(struct judgement *judgement, uint64_t need, uint64_t have, const char *limit);

#endif
