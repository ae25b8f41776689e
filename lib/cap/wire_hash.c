/* Roots of the wire Image (FORMATS.md sections 2 and 3). */
#include "lib/cap/merkle.h"
#include "lib/cap/wire_image.h"

#define IMAGE_FIELDS 9u
#define IMAGE_DEPTH  4u

/* Hashes of the containers below, roots of keys and lists apart, and of their places in a list. */
#define MAPPING_HASHES  4u
#define REGISTER_HASHES 2u
#define ENDPOINT_HASHES 5u
#define PAGE_REF_HASHES 4u
#define SLOT_HASHES     4u

#define KEY_PIECE (256u * 1024) /* bytes of a key hashed before `work` hears of them */

/* Root of a list whose `count` element roots are in `elements`. */
static void list_root(const struct cap_tree *elements, uint64_t count, struct cap_hash *ret_root)
{
    struct cap_hash root;
    cap_tree_root(elements, CAP_LIST_DEPTH, &root);
    cap_mix_in(&root, count, ret_root);
}

bool cap_key_root(struct cap_bytes key, const struct cap_work *work, struct cap_hash *ret_root)
{
    if (key.len <= KEY_PIECE) {
        cap_byte_list_root(key, ret_root);
        return cap_work_done(work, CAP_WORK_LIST + key.len);
    }
    struct cap_byte_tree tree;
    cap_byte_tree_init(&tree);
    for (size_t at = 0, len; at < key.len; at += len) {
        len = key.len - at < KEY_PIECE ? key.len - at : KEY_PIECE;
        cap_byte_tree_update(&tree, key.data + at, len);
        if (!cap_work_done(work, len)) {
            return false;
        }
    }
    cap_byte_tree_list_root(&tree, ret_root);
    return true;
}

bool cap_key_list_root(const struct cap_ssz_list *keys, const struct cap_work *work,
                       struct cap_hash *ret_root)
{
    struct cap_tree tree;
    cap_tree_init(&tree, 0);
    for (size_t i = 0; i < keys->count; i++) {
        struct cap_hash root;
        if (!cap_key_root(cap_ssz_list_at(keys, i), work, &root)) {
            return false;
        }
        cap_tree_add(&tree, i, &root);
    }
    list_root(&tree, keys->count, ret_root);
    return cap_work_done(work, CAP_WORK_LIST);
}

bool cap_option_key_root(bool present, struct cap_bytes key, const struct cap_work *work,
                         struct cap_hash *ret_root)
{
    struct cap_hash root = *cap_zero_node(0);
    if (present && !cap_key_root(key, work, &root)) {
        return false;
    }
    cap_mix_in(&root, present, ret_root);
    return true;
}

bool cap_mapping_list_root(const struct cap_ssz_list *mappings, const struct cap_work *work,
                           struct cap_hash *ret_root)
{
    struct cap_tree tree;
    cap_tree_init(&tree, 0);
    for (size_t i = 0; i < mappings->count; i++) {
        struct cap_mapping mapping;
        struct cap_hash fields[3];
        struct cap_hash root;
        cap_mapping_at(mappings, i, &mapping);
        fields[0] = cap_chunk64(mapping.start);
        fields[1] = cap_chunk64(mapping.size);
        if (!cap_key_list_root(&mapping.source, work, &fields[2]) ||
            !cap_work_done(work, MAPPING_HASHES * CAP_WORK_HASH)) {
            return false;
        }
        cap_merkleize_few(fields, 3, 2, &root);
        cap_tree_add(&tree, i, &root);
    }
    list_root(&tree, mappings->count, ret_root);
    return true;
}

/* Root of Container{k: Key, v}, given v's root. */
static bool entry_root(struct cap_bytes key, const struct cap_hash *value,
                       const struct cap_work *work, struct cap_hash *ret_root)
{
    struct cap_hash root;
    if (!cap_key_root(key, work, &root)) {
        return false;
    }
    cap_hash_pair(&root, value, ret_root);
    return true;
}

static void registers_root(const struct cap_wire_endpoint *endpoint, struct cap_hash *ret_root)
{
    struct cap_tree tree;
    cap_tree_init(&tree, 0);
    for (size_t i = 0; i < endpoint->register_count; i++) {
        struct cap_register element = cap_wire_register(endpoint, i);
        struct cap_hash index = cap_chunk64(element.index);
        struct cap_hash value = cap_chunk64(element.value);
        struct cap_hash root;
        cap_hash_pair(&index, &value, &root);
        cap_tree_add(&tree, i, &root);
    }
    list_root(&tree, endpoint->register_count, ret_root);
}

static bool endpoints_root(const struct cap_wire_image *image, const struct cap_work *work,
                           struct cap_hash *ret_root)
{
    struct cap_tree tree;
    cap_tree_init(&tree, 0);
    for (size_t i = 0; i < image->endpoints.count; i++) {
        struct cap_wire_endpoint endpoint;
        struct cap_hash fields[4];
        struct cap_hash root;
        cap_wire_endpoint_at(image, i, &endpoint);
        fields[0] = cap_chunk64(endpoint.entry_pc);
        fields[1] = cap_chunk64(endpoint.arg_registers);
        fields[2] = cap_chunk64(endpoint.arg_cnode_size);
        registers_root(&endpoint, &fields[3]);
        cap_merkleize_few(fields, 4, 2, &root);
        uint64_t hashes = ENDPOINT_HASHES + endpoint.register_count * REGISTER_HASHES;
        if (!cap_work_done(work, CAP_WORK_LIST + hashes * CAP_WORK_HASH) ||
            !entry_root(endpoint.key, &root, work, &root)) {
            return false;
        }
        cap_tree_add(&tree, i, &root);
    }
    list_root(&tree, image->endpoints.count, ret_root);
    return true;
}

static bool desc_root(const struct cap_data_desc *desc, const struct cap_work *work,
                      struct cap_hash *ret_root)
{
    struct cap_hash size = cap_chunk64(desc->size);
    struct cap_tree tree;
    struct cap_hash pages;
    cap_tree_init(&tree, 0);
    for (size_t i = 0; i < desc->page_count; i++) {
        struct cap_page_ref ref = cap_page_ref_at(desc->pages, i);
        struct cap_hash fields[3] = {cap_chunk64(ref.page_index), cap_chunk64(ref.arena_off),
                                     cap_chunk64(ref.len)};
        struct cap_hash root;
        cap_merkleize_few(fields, 3, 2, &root);
        cap_tree_add(&tree, i, &root);
        if (!cap_work_done(work, PAGE_REF_HASHES * CAP_WORK_HASH)) {
            return false;
        }
    }
    list_root(&tree, desc->page_count, &pages);
    cap_hash_pair(&size, &pages, ret_root);
    return cap_work_done(work, CAP_WORK_LIST);
}

/* Root of one table: `count` slots from `first`. A pinned value is a union, an initial one is not.
 */
static bool slots_root(const struct cap_wire_image *image, size_t first, size_t count,
                       const struct cap_work *work, struct cap_hash *ret_root)
{
    struct cap_tree tree;
    cap_tree_init(&tree, 0);
    for (size_t i = 0; i < count; i++) {
        struct cap_wire_slot slot;
        struct cap_hash root;
        cap_wire_slot_at(image, first + i, &slot);
        if (slot.kind == CAP_KIND_IMAGE) {
            root = slot.content_hash;
        } else if (!desc_root(&slot.desc, work, &root)) {
            return false;
        }
        if (slot.table == CAP_TABLE_PINNED) {
            cap_mix_in(&root, slot.kind == CAP_KIND_IMAGE, &root);
        }
        if (!entry_root(slot.key, &root, work, &root) ||
            !cap_work_done(work, SLOT_HASHES * CAP_WORK_HASH)) {
            return false;
        }
        cap_tree_add(&tree, i, &root);
    }
    list_root(&tree, count, ret_root);
    return true;
}

enum cap_error cap_wire_image_content_hash(const struct cap_wire_image *image,
                                           const struct cap_hash *arena_root,
                                           const struct cap_work *work, struct cap_hash *ret_hash)
{
    struct cap_hash code_off = cap_chunk64(image->code_off);
    struct cap_hash code_len = cap_chunk64(image->code_len);
    struct cap_hash fields[IMAGE_FIELDS];
    cap_hash_pair(&code_off, &code_len, &fields[0]);
    size_t pinned = image->pinned.count;
    if (!endpoints_root(image, work, &fields[1]) ||
        !cap_mapping_list_root(&image->mappings, work, &fields[2]) ||
        !slots_root(image, 0, pinned, work, &fields[3]) ||
        !slots_root(image, pinned, image->initial.count, work, &fields[4]) ||
        !cap_option_key_root(image->has_yield_receiver, image->yield_receiver_slot, work,
                             &fields[5]) ||
        !cap_key_list_root(&image->gas_slots, work, &fields[6]) ||
        !cap_key_list_root(&image->quota_slots, work, &fields[7])) {
        return CAP_E_CANCELLED;
    }
    fields[8] = *arena_root;
    cap_merkleize_few(fields, IMAGE_FIELDS, IMAGE_DEPTH, ret_hash);
    return CAP_OK;
}
