/*
 * The wire Image, what a publisher uploads (FORMATS.md section 3), decoded as a view over its
 * bytes.
 *
 * The arena comes last, so the *head*, the bytes before it, and the total length decide every rule
 * of the deblob but the resolving of slots. A view borrows the head and never needs the arena.
 * Everything is pure; accessors assume a view that cap_wire_image_decode accepted and an index in
 * range.
 */
#ifndef LIB_CAP_WIRE_IMAGE_H
#define LIB_CAP_WIRE_IMAGE_H

#include "lib/cap/constants.h"
#include "lib/cap/ssz.h"
#include "lib/cap/work.h"

#define CAP_WIRE_FIXED_SIZE 40u /* the fixed part of an Image */
#define CAP_PAGE_REF_SIZE   12u

/* Which of the two slot tables. The names on the wire and in JSON are "pinned" and "initial". */
enum cap_table {
    CAP_TABLE_PINNED = 0,
    CAP_TABLE_INITIAL = 1,
};

/* The name of a table, as on the wire and in JSON. Static. */
const char *cap_table_name(enum cap_table table);

/* A decoded view; valid while the head's bytes are. */
struct cap_wire_image {
    struct cap_bytes head;
    uint64_t total_len;
    uint64_t arena_len; /* the arena is [head.len, total_len) of the upload */
    uint32_t code_off;
    uint32_t code_len;
    struct cap_ssz_list endpoints;
    struct cap_ssz_list mappings;
    struct cap_ssz_list pinned;
    struct cap_ssz_list initial;
    bool has_yield_receiver;
    struct cap_bytes yield_receiver_slot;
    struct cap_ssz_list gas_slots;
    struct cap_ssz_list quota_slots;
};

struct cap_register {
    uint8_t index;
    uint64_t value;
};

#define CAP_REGISTER_SIZE 9u /* Container{u8, u64} */

struct cap_wire_endpoint {
    struct cap_bytes key;
    uint64_t entry_pc;
    uint8_t arg_registers;
    uint8_t arg_cnode_size;
    struct cap_bytes initial_regs; /* fixed-size elements; see cap_wire_register */
    size_t register_count;
};

struct cap_mapping {
    uint64_t start;
    uint64_t size;
    struct cap_ssz_list source; /* the steps of the path, each a Key */
};

struct cap_page_ref {
    uint32_t page_index;
    uint32_t arena_off;
    uint32_t len;
};

/* A DataDesc: how a Data cap's pages lie in the arena. */
struct cap_data_desc {
    uint64_t size;
    struct cap_bytes pages; /* fixed-size elements; see cap_page_ref_at */
    size_t page_count;
};

/* An entry of either slot table. */
struct cap_wire_slot {
    enum cap_table table;
    struct cap_bytes key;
    enum cap_kind kind;
    struct cap_data_desc desc; /* when kind is CAP_KIND_DATA */
    struct cap_hash
        content_hash; /* when kind is CAP_KIND_IMAGE: the CapHash of a published Image */
};

/*
 * Where the arena starts, from the first CAP_WIRE_FIXED_SIZE bytes of an upload of `total_len`
 * bytes: how many bytes must be there before cap_wire_image_decode can be called. CAP_E_SSZ when
 * the fixed part is already wrong (also for an upload shorter than it); a caller that has fewer
 * than CAP_WIRE_FIXED_SIZE bytes of a longer upload waits for more.
 */
enum cap_error cap_wire_image_head_len(struct cap_bytes front, uint64_t total_len,
                                       size_t *ret_head_len);

/*
 * Strict decode, rule 0 of the deblob. `head` holds at least the bytes before the arena (more, up
 * to the whole upload, does no harm and is not looked at); `total_len` is the length of the whole
 * upload. CAP_E_SSZ, and then *ret_image is untouched. Cost: O(head). The view's `head` is cut to
 * the structure.
 */
enum cap_error cap_wire_image_decode(struct cap_bytes head, uint64_t total_len,
                                     struct cap_wire_image *ret_image);

/* Where and why bytes are not the encoding of an Image, for a person: printable ASCII, such as
 * "offset of endpoints is 41, expected 40". */
struct cap_ssz_fault {
    char text[160];
};

/* cap_wire_image_decode that also says what is wrong: *reterr is set when it fails. */
enum cap_error cap_wire_image_decode_why(struct cap_bytes head, uint64_t total_len,
                                         struct cap_wire_image *ret_image,
                                         struct cap_ssz_fault *reterr);

/* Endpoint `index` < image->endpoints.count, in key order; it borrows the view's head. */
void cap_wire_endpoint_at(const struct cap_wire_image *image, size_t index,
                          struct cap_wire_endpoint *ret_endpoint);
/* Register `index` < endpoint->register_count, in ascending order of registers. */
struct cap_register cap_wire_register(const struct cap_wire_endpoint *endpoint, size_t index);

/* Entry `index` of a list of MemoryMapping; wire Images and Image caps encode it alike. */
void cap_mapping_at(const struct cap_ssz_list *mappings, size_t index,
                    struct cap_mapping *ret_mapping);

/* How many slots both tables hold, and entry `index` of pinned then initial, in key order. */
size_t cap_wire_slot_count(const struct cap_wire_image *image);
void cap_wire_slot_at(const struct cap_wire_image *image, size_t index,
                      struct cap_wire_slot *ret_slot);

/* Reference `index` < page_count of a DataDesc's pages. */
struct cap_page_ref cap_page_ref_at(struct cap_bytes pages, size_t index);

/* Sum of the window lengths of all data slots: the bytes that hashing and storing them may cost. */
uint64_t cap_wire_image_data_len(const struct cap_wire_image *image);

/*
 * image_content_hash = root(Image), given the root of the arena (cap_byte_tree_list_root over all
 * of its bytes). Cost: O(head), of which `work` hears, or nobody when it is NULL. CAP_E_CANCELLED.
 */
enum cap_error cap_wire_image_content_hash(const struct cap_wire_image *image,
                                           const struct cap_hash *arena_root,
                                           const struct cap_work *work, struct cap_hash *ret_hash);

/*
 * Parts of roots that a wire Image and an Image cap share: a list whose elements' roots are made
 * many at a time, a Key, a list of Keys, an Option[Key], a list of MemoryMapping, and map entries
 * Container{k: Key, v}. False when `work` says stop, then the roots are not set.
 */

/* Writes the roots of elements [first, first + count) of a list; count <= CAP_LISTS_TOGETHER. */
typedef bool cap_element_roots(const void *list, size_t first, size_t count,
                               const struct cap_work *work, struct cap_hash *ret_roots);

bool cap_list_root(cap_element_roots *roots_of, const void *list, size_t count,
                   const struct cap_work *work, struct cap_hash *ret_root);
/* `count` <= CAP_LISTS_TOGETHER entries; the roots of their values are in ret_roots. */
bool cap_entry_roots(const struct cap_bytes *keys, size_t count, const struct cap_work *work,
                     struct cap_hash *ret_roots);
bool cap_key_list_root(const struct cap_ssz_list *keys, const struct cap_work *work,
                       struct cap_hash *ret_root);
bool cap_option_key_root(bool present, struct cap_bytes key, const struct cap_work *work,
                         struct cap_hash *ret_root);
bool cap_mapping_list_root(const struct cap_ssz_list *mappings, const struct cap_work *work,
                           struct cap_hash *ret_root);

/* Strict decoders that both share, too; `in` is the encoded field. */
enum cap_error cap_key_list_decode(struct cap_bytes in, struct cap_ssz_list *ret_keys);
enum cap_error cap_option_key_decode(struct cap_bytes in, bool *ret_present,
                                     struct cap_bytes *ret_key);
enum cap_error cap_mapping_list_decode(struct cap_bytes in, struct cap_ssz_list *ret_mappings);

#endif
