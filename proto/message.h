/*
 * Messages: the payloads of frames, each one SSZ container (PROTOCOL.md section 4).
 *
 * Encoding appends a payload to a buffer, which a failure leaves as it was: CAP_E_NO_MEMORY,
 * CAP_E_MESSAGE_TOO_LARGE for more than PROTO_FRAME_MAX bytes, CAP_E_INVALID_ARGUMENT for values
 * that the decoder would refuse. Texts never fail: they are cut to their limit, and what is not
 * printable ASCII becomes '?'.
 *
 * Decoding borrows the payload: spans in the result are valid while it is. A payload that does not
 * decode strictly or states impossible values is CAP_E_BAD_MESSAGE, and the result is untouched.
 * Everything is pure.
 */
#ifndef PROTO_MESSAGE_H
#define PROTO_MESSAGE_H

#include "lib/cap/constants.h"
#include "lib/cap/ssz.h"
#include "proto/frame.h"

#define PROTO_MAGIC         "capstore" /* 8 bytes, no NUL */
#define PROTO_AGENT_MAX     64u
#define PROTO_NAME_MAX      64u
#define PROTO_TEXT_MAX      1024u
#define PROTO_TO_END        UINT64_MAX /* a get's length: up to the body's end */
#define PROTO_STORE_ID_SIZE 16u

/* HELLO: the first frame of a connection, with id 0. */
struct proto_hello {
    uint16_t version_min;
    uint16_t version_max;
    struct cap_bytes agent; /* what the client calls itself; at most PROTO_AGENT_MAX */
    bool has_features;      /* false: the short form, which has no features */
    uint64_t features;      /* what the client understands; 0 in the short form */
};

/* The features that exist, one bit each: a client may state any, a daemon grants those it has. */
#define PROTO_FEATURE_MAP      UINT64_C(1)  /* MAP: caps as descriptors; on Unix sockets only */
#define PROTO_FEATURE_GET_MANY UINT64_C(2)  /* GET_MANY: many bodies in one answer */
#define PROTO_FEATURE_KEEP     UINT64_C(4)  /* leases: HAS and uploads say how long to keep */
#define PROTO_FEATURE_PUT_CAP  UINT64_C(8)  /* PUT_CAP: caps by their hash and served body */
#define PROTO_FEATURE_SLICE    UINT64_C(16) /* SLICE: pages with their proof */
#define PROTO_FEATURE_CLOSURE  UINT64_C(32) /* CLOSURE: caps with all that they refer to */
#define PROTO_FEATURE_RESUME   UINT64_C(64) /* uploads that go on; only together with KEEP */

/* What a peer may take; every limit has an error that names it. Sizes in bytes, times in ms. */
struct proto_limits {
    uint32_t frame;       /* payload of a frame, at least PROTO_MESSAGE_MAX: frame_too_large */
    uint32_t requests;    /* in flight per connection: too_many_requests */
    uint32_t hashes;      /* per has or get_many: too_many_hashes */
    uint64_t upload;      /* per upload: upload_too_large */
    uint64_t structure;   /* of an Image before its arena: structure_too_large */
    uint64_t data;        /* bytes that an Image's data windows name: data_too_large */
    uint32_t idle_ms;     /* without a request: idle_timeout; 0: none */
    uint32_t progress_ms; /* of a request without progress: progress_timeout; 0: none */
};

struct proto_hello_reply {
    uint16_t version;
    uint8_t store_id[PROTO_STORE_ID_SIZE];
    struct proto_limits limits;
    struct cap_bytes agent;
    bool has_features; /* as in the HELLO that is answered */
    uint64_t features; /* of those in the HELLO, the ones that hold for the connection */
};

/*
 * Members keep_s and kept_s, here and in uploads, are in the forms of a connection with the feature
 * KEEP (proto_..._keep_encode and _decode); in the others they are not sent, and decoded as 0.
 */

/* HAS: many hashes, one answer. */
struct proto_has {
    struct cap_bytes hashes; /* 32 bytes each */
    size_t count;            /* hashes.len / 32; encoding checks that they agree */
    uint32_t keep_s;         /* for how long to keep what is there, in seconds; 0: only asks */
};

struct proto_has_reply {
    struct cap_bytes kinds;  /* one byte per hash: 0 absent, else an enum cap_kind */
    struct cap_bytes kept_s; /* a u32 per hash: see proto_kept_s */
};

/* For how many seconds from now hash `index` < kinds.len is promised to stay; 0: not promised. */
static inline uint32_t proto_kept_s(const struct proto_has_reply *m, size_t index)
{
    return cap_load32(m->kept_s.data + index * sizeof(uint32_t));
}

struct proto_get {
    struct cap_hash hash;
    uint64_t offset;
    uint64_t len; /* cut at the body's end; PROTO_TO_END for all */
};

/* Followed by a body of `len` bytes. */
struct proto_get_reply {
    uint8_t kind;
    uint64_t body_len;
    uint64_t offset;
    uint64_t len;
};

struct proto_stat {
    struct cap_hash hash;
};

struct proto_stat_reply {
    uint8_t kind;
    uint64_t body_len;
    uint64_t size;       /* Data: logical bytes. Image: bytes of code */
    uint64_t page_count; /* Data: pages that are not zero */
    uint64_t ref_count;  /* Image: distinct caps that it names */
    uint64_t published_us;
    struct cap_hash content_hash; /* Image; zero for Data */
};

struct proto_map {
    struct cap_hash hash;
};

/* A descriptor comes with its first byte. */
struct proto_map_reply {
    uint8_t kind;
    uint64_t body_len; /* of the served body */
    uint64_t size;     /* Data: logical bytes. Image: bytes of code */
    uint64_t len;      /* of the descriptor */
    uint64_t rest_off; /* Image: where the served body without its code is. Data: 0 */
    uint64_t rest_len; /* of that; Data: 0 */
};

/* GET_MANY: the caps of many hashes, in one answer. */
struct proto_get_many {
    struct cap_bytes hashes; /* 32 bytes each */
    size_t count;            /* hashes.len / 32; encoding checks that they agree */
};

/* Followed by a body of pieces. */
struct proto_get_many_reply {
    uint32_t count; /* of the hashes that were asked for */
};

#define PROTO_PIECE_SIZE 20u /* of an encoded struct proto_piece */

/*
 * In the body of a GET_MANY_REPLY, before `len` bytes of a cap's body: or, with a code, the error
 * that this cap's answer ends with.
 */
struct proto_piece {
    uint32_t index;    /* of the hash in the request */
    uint16_t code;     /* 0, or the magnitude of an enum cap_error; then all that follows is 0 */
    uint8_t kind;      /* enum cap_kind */
    uint8_t more;      /* 1: another piece of this cap comes next */
    uint64_t body_len; /* of the whole served body */
    uint32_t len;      /* of what follows this head */
};

#define PROTO_SLICE_RANGES_MAX 256u

/* A range of pages: `pages` of them, not 0, from page `first` on; u64 each in a list of them. */
#define PROTO_RANGE_SIZE 16u

/* SLICE: some pages of a cap with their proof (lib/cap/SLICES.md). */
struct proto_slice {
    struct cap_hash hash;
    struct cap_bytes ranges; /* ascending, with a gap of at least one page between two */
    size_t count;            /* ranges.len / PROTO_RANGE_SIZE; encoding checks that they agree */
};

/* Followed by a body: the slice. */
struct proto_slice_reply {
    uint8_t kind;
    uint64_t body_len; /* of the cap's served body */
    uint64_t size;     /* Data: logical bytes. Image: bytes of code */
};

#define PROTO_CLOSURE_LIST 1u /* without the bodies */

/* CLOSURE: caps and all that they refer to. */
struct proto_closure {
    uint8_t flags;
    struct cap_bytes roots; /* 32 bytes each */
    struct cap_bytes have;  /* of caps that are at hand with all that they refer to */
};

/* Followed by a body of entries. */
struct proto_closure_reply {
    uint32_t max; /* caps in one answer */
};

#define PROTO_ENTRY_SIZE 41u /* of an encoded struct proto_entry */

/* In the body of a CLOSURE_REPLY, before the cap's body unless only the list was asked for. */
struct proto_entry {
    struct cap_hash hash;
    uint8_t kind;      /* enum cap_kind; 0: the cap is not there, and no body follows */
    uint64_t body_len; /* of the served body; kind 0: 0 */
};

#define PROTO_TOKEN_SIZE 16u

/* The longest message of an upload: a PUT_CAP with a token. */
#define PROTO_UPLOAD_MAX 70u

/* RESUME: where an upload of that token goes on. */
struct proto_resume {
    uint8_t token[PROTO_TOKEN_SIZE]; /* not all zero */
};

struct proto_resume_reply {
    uint64_t total_len; /* of the upload, as it was stated; 0: nothing is kept */
    uint64_t offset;    /* bytes of it that are kept */
};

/*
 * Members token and offset, in uploads, are in the forms of a connection with the feature RESUME
 * (proto_..._resume_encode and _decode); in the others they are not sent, and decoded as 0.
 */

#define PROTO_PUT_CANONICAL 1u /* the upload is a canonical served body, not raw bytes */

/* Followed by a body of `total_len` bytes. */
struct proto_put_data {
    uint8_t flags;
    uint64_t size; /* raw: wanted logical size, 0 for the content's; canonical: 0 */
    uint64_t total_len;
    uint32_t keep_s; /* for how long to keep it, in seconds; 0: as the daemon does by itself */
    uint8_t token[PROTO_TOKEN_SIZE]; /* all zero: nothing is kept of it when it is cut off */
    uint64_t offset; /* of the body: what follows is its rest; not above total_len */
};

struct proto_put_data_reply {
    struct cap_hash cap_hash;
    uint64_t size;
    uint64_t body_len;
    uint8_t is_new;  /* 0 or 1 */
    uint32_t kept_s; /* for how long it is promised to stay, in seconds; 0: not promised */
};

#define PROTO_IMAGE_RESOLVE_ONLY 1u /* every Data cap must be published already */
#define PROTO_IMAGE_DRY_RUN      2u /* judge and resolve, store nothing */
#define PROTO_IMAGE_FLAGS        (PROTO_IMAGE_RESOLVE_ONLY | PROTO_IMAGE_DRY_RUN)

/* Followed by a body of `total_len` bytes: the wire Image. */
struct proto_put_image {
    uint8_t flags;
    uint64_t total_len;
    uint32_t keep_s;
    uint8_t token[PROTO_TOKEN_SIZE];
    uint64_t offset;
};

struct proto_put_image_reply {
    struct cap_hash cap_hash;
    struct cap_hash content_hash;
    uint64_t body_len;
    uint8_t is_new;        /* 0 or 1; in a dry run: would be */
    uint32_t data_new;     /* distinct Data caps stored with it (in a dry run: that would be) */
    uint32_t data_present; /* distinct Data caps that were there */
    uint32_t kept_s;
};

/* PUT_CAP: a cap of either kind as it is served. Followed by a body of `total_len` bytes. */
struct proto_put_cap {
    uint8_t flags; /* 0 */
    uint8_t kind;
    struct cap_hash hash; /* that the body must have */
    uint64_t total_len;
    uint32_t keep_s;
    uint8_t token[PROTO_TOKEN_SIZE];
    uint64_t offset;
};

struct proto_put_cap_reply {
    uint8_t is_new; /* 0 or 1 */
    uint32_t kept_s;
};

/* The one answer of a request that failed. Followed by a body of `detail_len` bytes when that is
 * not 0. */
struct proto_error {
    uint16_t code; /* the magnitude of an enum cap_error */
    struct cap_bytes name;
    struct cap_bytes message;
    uint64_t detail_len; /* unresolved_slot: an encoded list of proto_unresolved; errors of
                            proto_is_shortage: none, or a proto_shortage */
};

/* Detail of unresolved_slot: SSZ List[Container{table: u8, kind: u8, cap_hash: Bytes32, slot:
 * Key}]. */
struct proto_unresolved {
    uint8_t table; /* enum cap_table */
    uint8_t kind;  /* enum cap_kind that was expected; 0: either (pinned, of a PUT_CAP) */
    struct cap_hash cap_hash;
    struct cap_bytes slot;
};

/* Detail of what lacks room or is over a quota. */
struct proto_shortage {
    uint64_t need;          /* bytes, or caps of quota-caps */
    uint64_t have;          /* of the same; less than need */
    struct cap_bytes limit; /* the daemon's option that sets it; "": the error's name says it */
};

/* CANCEL has an empty payload; its id names the request. */

/*
 * Encode: appends the payload of *m to buf. Decode: sets *ret from the payload `in`, which it
 * borrows. Errors as at the top of this file.
 */
enum cap_error proto_hello_encode(const struct proto_hello *m, struct cap_buf *buf);
enum cap_error proto_hello_decode(struct cap_bytes in, struct proto_hello *ret);
enum cap_error proto_hello_reply_encode(const struct proto_hello_reply *m, struct cap_buf *buf);
enum cap_error proto_hello_reply_decode(struct cap_bytes in, struct proto_hello_reply *ret);
enum cap_error proto_has_encode(const struct proto_has *m, struct cap_buf *buf);
enum cap_error proto_has_decode(struct cap_bytes in, struct proto_has *ret);
enum cap_error proto_has_reply_encode(const struct proto_has_reply *m, struct cap_buf *buf);
enum cap_error proto_has_reply_decode(struct cap_bytes in, struct proto_has_reply *ret);
enum cap_error proto_get_encode(const struct proto_get *m, struct cap_buf *buf);
enum cap_error proto_get_decode(struct cap_bytes in, struct proto_get *ret);
enum cap_error proto_get_reply_encode(const struct proto_get_reply *m, struct cap_buf *buf);
enum cap_error proto_get_reply_decode(struct cap_bytes in, struct proto_get_reply *ret);
enum cap_error proto_stat_encode(const struct proto_stat *m, struct cap_buf *buf);
enum cap_error proto_stat_decode(struct cap_bytes in, struct proto_stat *ret);
enum cap_error proto_stat_reply_encode(const struct proto_stat_reply *m, struct cap_buf *buf);
enum cap_error proto_stat_reply_decode(struct cap_bytes in, struct proto_stat_reply *ret);
enum cap_error proto_map_encode(const struct proto_map *m, struct cap_buf *buf);
enum cap_error proto_map_decode(struct cap_bytes in, struct proto_map *ret);
enum cap_error proto_map_reply_encode(const struct proto_map_reply *m, struct cap_buf *buf);
enum cap_error proto_map_reply_decode(struct cap_bytes in, struct proto_map_reply *ret);
enum cap_error proto_get_many_encode(const struct proto_get_many *m, struct cap_buf *buf);
enum cap_error proto_get_many_decode(struct cap_bytes in, struct proto_get_many *ret);
enum cap_error proto_get_many_reply_encode(const struct proto_get_many_reply *m,
                                           struct cap_buf *buf);
enum cap_error proto_get_many_reply_decode(struct cap_bytes in, struct proto_get_many_reply *ret);
enum cap_error proto_put_data_encode(const struct proto_put_data *m, struct cap_buf *buf);
enum cap_error proto_put_data_decode(struct cap_bytes in, struct proto_put_data *ret);
enum cap_error proto_put_data_reply_encode(const struct proto_put_data_reply *m,
                                           struct cap_buf *buf);
enum cap_error proto_put_data_reply_decode(struct cap_bytes in, struct proto_put_data_reply *ret);
enum cap_error proto_put_image_encode(const struct proto_put_image *m, struct cap_buf *buf);
enum cap_error proto_put_image_decode(struct cap_bytes in, struct proto_put_image *ret);
enum cap_error proto_put_image_reply_encode(const struct proto_put_image_reply *m,
                                            struct cap_buf *buf);
enum cap_error proto_put_image_reply_decode(struct cap_bytes in, struct proto_put_image_reply *ret);
enum cap_error proto_put_cap_encode(const struct proto_put_cap *m, struct cap_buf *buf);
enum cap_error proto_put_cap_decode(struct cap_bytes in, struct proto_put_cap *ret);
enum cap_error proto_put_cap_reply_encode(const struct proto_put_cap_reply *m, struct cap_buf *buf);
enum cap_error proto_put_cap_reply_decode(struct cap_bytes in, struct proto_put_cap_reply *ret);
enum cap_error proto_error_encode(const struct proto_error *m, struct cap_buf *buf);
enum cap_error proto_error_decode(struct cap_bytes in, struct proto_error *ret);

enum cap_error proto_slice_encode(const struct proto_slice *m, struct cap_buf *buf);
enum cap_error proto_slice_decode(struct cap_bytes in, struct proto_slice *ret);
enum cap_error proto_slice_reply_encode(const struct proto_slice_reply *m, struct cap_buf *buf);
enum cap_error proto_slice_reply_decode(struct cap_bytes in, struct proto_slice_reply *ret);
enum cap_error proto_closure_encode(const struct proto_closure *m, struct cap_buf *buf);
enum cap_error proto_closure_decode(struct cap_bytes in, struct proto_closure *ret);
enum cap_error proto_closure_reply_encode(const struct proto_closure_reply *m, struct cap_buf *buf);
enum cap_error proto_closure_reply_decode(struct cap_bytes in, struct proto_closure_reply *ret);
enum cap_error proto_resume_encode(const struct proto_resume *m, struct cap_buf *buf);
enum cap_error proto_resume_decode(struct cap_bytes in, struct proto_resume *ret);
enum cap_error proto_resume_reply_encode(const struct proto_resume_reply *m, struct cap_buf *buf);
enum cap_error proto_resume_reply_decode(struct cap_bytes in, struct proto_resume_reply *ret);

/* The same in the forms of a connection with the feature RESUME. */
enum cap_error proto_put_data_resume_encode(const struct proto_put_data *m, struct cap_buf *buf);
enum cap_error proto_put_data_resume_decode(struct cap_bytes in, struct proto_put_data *ret);
enum cap_error proto_put_image_resume_encode(const struct proto_put_image *m, struct cap_buf *buf);
enum cap_error proto_put_image_resume_decode(struct cap_bytes in, struct proto_put_image *ret);
enum cap_error proto_put_cap_resume_encode(const struct proto_put_cap *m, struct cap_buf *buf);
enum cap_error proto_put_cap_resume_decode(struct cap_bytes in, struct proto_put_cap *ret);

/* The same in the forms of a connection with the feature KEEP. */
enum cap_error proto_has_keep_encode(const struct proto_has *m, struct cap_buf *buf);
enum cap_error proto_has_keep_decode(struct cap_bytes in, struct proto_has *ret);
enum cap_error proto_has_reply_keep_encode(const struct proto_has_reply *m, struct cap_buf *buf);
enum cap_error proto_has_reply_keep_decode(struct cap_bytes in, struct proto_has_reply *ret);
enum cap_error proto_put_data_keep_encode(const struct proto_put_data *m, struct cap_buf *buf);
enum cap_error proto_put_data_keep_decode(struct cap_bytes in, struct proto_put_data *ret);
enum cap_error proto_put_data_reply_keep_encode(const struct proto_put_data_reply *m,
                                                struct cap_buf *buf);
enum cap_error proto_put_data_reply_keep_decode(struct cap_bytes in,
                                                struct proto_put_data_reply *ret);
enum cap_error proto_put_image_keep_encode(const struct proto_put_image *m, struct cap_buf *buf);
enum cap_error proto_put_image_keep_decode(struct cap_bytes in, struct proto_put_image *ret);
enum cap_error proto_put_image_reply_keep_encode(const struct proto_put_image_reply *m,
                                                 struct cap_buf *buf);
enum cap_error proto_put_image_reply_keep_decode(struct cap_bytes in,
                                                 struct proto_put_image_reply *ret);
enum cap_error proto_put_cap_keep_encode(const struct proto_put_cap *m, struct cap_buf *buf);
enum cap_error proto_put_cap_keep_decode(struct cap_bytes in, struct proto_put_cap *ret);
enum cap_error proto_put_cap_reply_keep_encode(const struct proto_put_cap_reply *m,
                                               struct cap_buf *buf);
enum cap_error proto_put_cap_reply_keep_decode(struct cap_bytes in,
                                               struct proto_put_cap_reply *ret);

/*
 * The flags in the payload of a PUT_DATA, PUT_IMAGE or PUT_CAP that this version does not define,
 * and so the reason why it does not decode; 0 when there are none, and for every other type.
 * `features`: those of the connection.
 */
uint8_t proto_unknown_flags(uint8_t type, struct cap_bytes payload, uint64_t features);

/* The head of a piece, which is part of a body rather than a message. Encoding checks nothing. */
void proto_piece_encode(const struct proto_piece *piece, uint8_t ret_head[PROTO_PIECE_SIZE]);
/* CAP_E_BAD_MESSAGE for impossible values; *ret is untouched then. */
enum cap_error proto_piece_decode(const uint8_t head[PROTO_PIECE_SIZE], struct proto_piece *ret);

/* The same for the head of an entry. */
void proto_entry_encode(const struct proto_entry *entry, uint8_t ret_head[PROTO_ENTRY_SIZE]);
/* CAP_E_BAD_MESSAGE for impossible values; *ret is untouched then. */
enum cap_error proto_entry_decode(const uint8_t head[PROTO_ENTRY_SIZE], struct proto_entry *ret);

/*
 * The list of unresolved slots, a detail body rather than a message: encode all of it at once,
 * decode by index. It may be longer than a frame; its errors are those of messages otherwise.
 */
enum cap_error proto_unresolved_encode(const struct proto_unresolved *slots, size_t count,
                                       struct cap_buf *buf);
enum cap_error proto_unresolved_decode(struct cap_bytes in, struct cap_ssz_list *ret_list);
/* Entry `index` of a list that proto_unresolved_decode accepted. */
void proto_unresolved_at(const struct cap_ssz_list *list, size_t index,
                         struct proto_unresolved *ret);

/* Whether an ERROR of that code may have a shortage as its detail; its errors are those of
 * messages. */
bool proto_is_shortage(enum cap_error error);
enum cap_error proto_shortage_encode(const struct proto_shortage *m, struct cap_buf *buf);
enum cap_error proto_shortage_decode(struct cap_bytes in, struct proto_shortage *ret);

#endif
