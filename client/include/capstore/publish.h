/*
 * What a publisher does before anything is uploaded: pack, check, hash. No connection is needed.
 *
 * Everything here is synchronous and keeps no state outside its arguments: any thread may call,
 * and an object belongs to one thread at a time.
 */
#ifndef CAPSTORE_PUBLISH_H
#define CAPSTORE_PUBLISH_H

#include <capstore/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- check: the deblob, offline ---- */

/* A Data cap that an Image carries inline. */
struct capstore_check_data {
    enum capstore_table table;
    struct capstore_bytes slot;
    uint64_t size; /* logical bytes of the cap */
    struct capstore_hash cap_hash;
    uint64_t body_len; /* of the served body */
};

/* An Image that a pinned slot names. */
struct capstore_check_image {
    struct capstore_bytes slot;
    struct capstore_hash cap_hash;
};

/* Not a reason to refuse, but probably a mistake. */
struct capstore_warning {
    const char *reason; /* a stable word, such as "mappings_overlap" */
    const char *text;   /* a sentence for a person */
    bool has_key;
    struct capstore_bytes key; /* the slot or endpoint concerned */
    bool has_index;
    size_t index; /* the mapping concerned, by its place in the list */
    bool has_other_index;
    size_t other_index; /* the mapping that it overlaps */
    bool has_value;
    uint64_t value; /* start of the mapping, entry_pc, or how many arena bytes are unused */
};

/* The deblob's verdict on a wire Image. Read-only for the caller; later versions may append. */
struct capstore_check_result {
    enum capstore_error error;           /* CAPSTORE_OK: accepted; else the rule that is broken */
    char message[CAPSTORE_MESSAGE_SIZE]; /* refused: which field, slot or value */
    /* The rest only when accepted. */
    struct capstore_hash content_hash; /* image_content_hash: identity of the wire form */
    struct capstore_hash cap_hash;     /* the Image cap that publishing it yields */
    uint64_t body_len;                 /* of that cap's served body */
    uint64_t code_len;
    const struct capstore_check_data *data; /* pinned, then initial, in key order */
    size_t data_count;
    const struct capstore_check_image *images;
    size_t image_count;
    const struct capstore_warning *warnings;
    size_t warning_count;
};

/*
 * Judges a wire Image as a daemon does when every image that it pins is published, and computes
 * every hash that publishing it would yield. CAPSTORE_OK with the verdict in
 * ret_check->error; another value when it could not be judged (CAPSTORE_E_NO_MEMORY, the source's
 * error, CAPSTORE_E_BODY_TOO_LARGE). Only the structure before the arena is held in memory; the
 * arena is read from the source. The caller owns *ret_check: capstore_check_free.
 */
enum capstore_error capstore_check(const struct capstore_source *wire,
                                   struct capstore_check_result **ret_check);

/* Releases a check and all that it points to. NULL is fine. */
void capstore_check_free(struct capstore_check_result *check);

/* ---- hash ---- */

/* The name of a Data cap made of raw bytes. */
struct capstore_data_id {
    struct capstore_hash cap_hash;
    uint64_t size;     /* logical bytes, a multiple of the page size */
    uint64_t body_len; /* of the served body */
};

/*
 * Computes the name of the Data cap of raw logical bytes followed by zeros up to `size`. A `size`
 * below the content's length counts as that length; it is rounded up to a page and is at least one
 * page. CAPSTORE_E_BODY_TOO_LARGE, CAPSTORE_E_NO_MEMORY, or the source's error.
 */
enum capstore_error capstore_data_hash(const struct capstore_source *content, uint64_t size,
                                       struct capstore_data_id *ret_id);

/* ---- pack: a description to the one canonical wire Image ---- */

/*
 * Collects a description, in any order, and packs it; opaque. Keys and values passed in are copied;
 * sources are not: they must stay readable until the pack is freed.
 */
struct capstore_pack;

/* A register and its value when an endpoint is entered. */
struct capstore_register {
    uint8_t index; /* below CAPSTORE_NUM_REGS; register 1 is the stack's top */
    uint64_t value;
};

/* An endpoint's arguments. */
struct capstore_endpoint_args {
    uint64_t entry_pc; /* an address, or an offset into the code: as the publisher put it */
    uint8_t arg_registers;
    uint8_t arg_cnode_size;
    const struct capstore_register *registers;
    size_t register_count;
};

/* An empty pack. CAPSTORE_E_NO_MEMORY. */
enum capstore_error capstore_pack_new(struct capstore_pack **ret_pack);

/* Releases a pack and the source that it yielded. NULL is fine. */
void capstore_pack_free(struct capstore_pack *pack);

/* The code: all of `code`, at its exact length. The last call counts. CAPSTORE_E_NO_MEMORY. */
enum capstore_error capstore_pack_code(struct capstore_pack *pack,
                                       const struct capstore_source *code);

/* An endpoint; its registers need not be sorted. CAPSTORE_E_NO_MEMORY. */
enum capstore_error capstore_pack_endpoint(struct capstore_pack *pack, struct capstore_bytes key,
                                           const struct capstore_endpoint_args *args);

/* A mapping of [start, start + size) to the cap at the end of a path of `steps` keys. List order is
 * kept. CAPSTORE_E_NO_MEMORY. */
enum capstore_error capstore_pack_mapping(struct capstore_pack *pack, uint64_t start, uint64_t size,
                                          const struct capstore_bytes *path, size_t steps);

/*
 * Begins a Data slot of at least `size` logical bytes, whose content is added with
 * capstore_pack_content; without content it is all zero. CAPSTORE_E_INVALID_ARGUMENT for a size
 * that cannot be rounded up to a page, CAPSTORE_E_NO_MEMORY.
 */
enum capstore_error capstore_pack_data(struct capstore_pack *pack, enum capstore_table table,
                                       struct capstore_bytes key, uint64_t size);

/*
 * Puts all of `content` at logical address `at` of the Data slot begun last. Pieces are added in
 * ascending order and do not overlap: CAPSTORE_E_INVALID_ARGUMENT otherwise. CAPSTORE_E_NO_MEMORY.
 */
enum capstore_error capstore_pack_content(struct capstore_pack *pack, uint64_t at,
                                          const struct capstore_source *content);

/* A pinned slot that holds the published Image of this hash. CAPSTORE_E_NO_MEMORY. */
enum capstore_error capstore_pack_image(struct capstore_pack *pack, struct capstore_bytes key,
                                        const struct capstore_hash *hash);

/* The slot that receives yields. The last call counts. CAPSTORE_E_NO_MEMORY. */
enum capstore_error capstore_pack_yield_receiver(struct capstore_pack *pack,
                                                 struct capstore_bytes key);

/* One more gas slot; order is kept. CAPSTORE_E_NO_MEMORY. */
enum capstore_error capstore_pack_gas_slot(struct capstore_pack *pack, struct capstore_bytes key);

/* One more quota slot; order is kept. CAPSTORE_E_NO_MEMORY. */
enum capstore_error capstore_pack_quota_slot(struct capstore_pack *pack, struct capstore_bytes key);

/*
 * Packs, once: equal descriptions give equal bytes. *ret_wire is the wire Image, to be handed to
 * capstore_check or capstore_publish; it reads from the pack and its sources and is valid while
 * they are. It always decodes; capstore_check says whether it would be accepted.
 * CAPSTORE_E_SSZ for a repeated key, CAPSTORE_E_BODY_TOO_LARGE for more than 32-bit offsets can
 * hold, CAPSTORE_E_INVALID_ARGUMENT for a second call, CAPSTORE_E_NO_MEMORY, or a source's error.
 */
enum capstore_error capstore_pack_finish(struct capstore_pack *pack,
                                         struct capstore_source *ret_wire);

#ifdef __cplusplus
}
#endif

#endif
