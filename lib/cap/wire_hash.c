/*
 * Roots of the wire Image (FORMATS.md sections 2 and 3). A short list by itself is a chain of
 * hashes, each waiting for the one before: elements are hashed many at a time, level by level.
 */
#include "lib/cap/merkle.h"
#include "lib/cap/wire_image.h"

#define IMAGE_FIELDS 9u
#define IMAGE_DEPTH  4u

/* Hashes of the containers below, roots of keys and lists apart. */
#define MAPPING_HASHES  3u
#define ENDPOINT_HASHES 3u
#define PAGE_REF_HASHES 3u
#define SLOT_HASHES     2u

#define SMALL_LIST 32u           /* nodes of a list that is hashed together with others */
#define KEY_PIECE  (256u * 1024) /* bytes of a key hashed before `work` hears of them */

_Static_assert(SMALL_LIST <= CAP_LISTS_TOGETHER && SMALL_LIST <= CAP_LISTS_NODES, "it has room");

bool cap_list_root(cap_element_roots *roots_of, const void *list, size_t count,
                   const struct cap_work *work, struct cap_hash *ret_root)
{
    struct cap_hash roots[CAP_LISTS_TOGETHER];
    struct cap_tree tree;
    cap_tree_init(&tree, 0);
    for (size_t first = 0, n; first < count; first += n) {
        n = count - first < CAP_LISTS_TOGETHER ? count - first : CAP_LISTS_TOGETHER;
        if (!roots_of(list, first, n, work, roots)) {
            return false;
        }
        cap_tree_add_many(&tree, first, roots, n);
        if (!cap_work_done(work, n * CAP_WORK_HASH)) {
            return false;
        }
    }
    cap_tree_root(&tree, CAP_LIST_DEPTH, ret_root);
    cap_mix_in(ret_root, count, ret_root);
    return cap_work_done(work, CAP_WORK_LIST);
}

/* The root of a list that is an element of another: with its like in `lists` if it is small, whose
 * cap_lists_finish writes it, otherwise by itself. */
static bool add_list(struct cap_lists *lists, cap_element_roots *roots_of, const void *list,
                     size_t count, const struct cap_work *work, struct cap_hash *ret_root)
{
    if (count > SMALL_LIST) {
        return cap_list_root(roots_of, list, count, work, ret_root);
    }
    struct cap_hash *roots = cap_lists_add(lists, count, count, ret_root);
    return roots_of(list, 0, count, work, roots) && cap_work_done(work, CAP_WORK_LIST);
}

/* A Key by itself. */
static bool key_root(struct cap_bytes key, const struct cap_work *work, struct cap_hash *ret_root)
{
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
    return cap_work_done(work, CAP_WORK_LIST);
}

/* Roots of any number of Keys: small ones together. */
static bool key_roots(const struct cap_bytes *keys, size_t count, const struct cap_work *work,
                      struct cap_hash *ret_roots)
{
    struct cap_lists lists;
    cap_lists_init(&lists, CAP_BYTE_LIST_DEPTH);
    for (size_t i = 0; i < count; i++) {
        size_t len = keys[i].len;
        if (len > SMALL_LIST * CAP_CHUNK_SIZE) {
            if (!key_root(keys[i], work, &ret_roots[i])) {
                return false;
            }
            continue;
        }
        size_t chunks = (len + CAP_CHUNK_SIZE - 1) / CAP_CHUNK_SIZE;
        struct cap_hash *nodes = cap_lists_add(&lists, chunks, len, &ret_roots[i]);
        if (len > 0) {
            nodes[chunks - 1] = *cap_zero_node(0);
            memcpy(nodes, keys[i].data, len);
        }
        if (!cap_work_done(work, CAP_WORK_LIST + len)) {
            return false;
        }
    }
    cap_lists_finish(&lists);
    return true;
}

bool cap_entry_roots(const struct cap_bytes *keys, size_t count, const struct cap_work *work,
                     struct cap_hash *ret_roots)
{
    struct cap_hash roots[CAP_LISTS_TOGETHER];
    struct cap_hash entries[CAP_LISTS_TOGETHER][2];
    if (!key_roots(keys, count, work, roots)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        entries[i][0] = roots[i];
        entries[i][1] = ret_roots[i];
    }
    cap_merkleize_many(entries[0], count, 1, ret_roots);
    return cap_work_done(work, count * CAP_WORK_HASH);
}

static bool listed_key_roots(const void *list, size_t first, size_t count,
                             const struct cap_work *work, struct cap_hash *ret_roots)
{
    struct cap_bytes keys[CAP_LISTS_TOGETHER];
    for (size_t i = 0; i < count; i++) {
        keys[i] = cap_ssz_list_at(list, first + i);
    }
    return key_roots(keys, count, work, ret_roots);
}

bool cap_key_list_root(const struct cap_ssz_list *keys, const struct cap_work *work,
                       struct cap_hash *ret_root)
{
    return cap_list_root(listed_key_roots, keys, keys->count, work, ret_root);
}

bool cap_option_key_root(bool present, struct cap_bytes key, const struct cap_work *work,
                         struct cap_hash *ret_root)
{
    struct cap_hash root = *cap_zero_node(0);
    if (present && !key_root(key, work, &root)) {
        return false;
    }
    cap_mix_in(&root, present, ret_root);
    return true;
}

/* The paths of mappings, to be hashed together: all keys of all paths, then all paths. */
struct paths {
    size_t count;
    size_t lens[CAP_LISTS_TOGETHER];
    struct cap_hash *ret_roots[CAP_LISTS_TOGETHER];
    size_t key_count;
    struct cap_bytes keys[CAP_LISTS_TOGETHER * CAP_MAX_SOURCE_DEPTH];
};

static bool add_path(struct paths *paths, const struct cap_ssz_list *path,
                     const struct cap_work *work, struct cap_hash *ret_root)
{
    if (path->count > CAP_MAX_SOURCE_DEPTH) { /* of which no cap is made */
        return cap_key_list_root(path, work, ret_root);
    }
    paths->lens[paths->count] = path->count;
    paths->ret_roots[paths->count++] = ret_root;
    for (size_t i = 0; i < path->count; i++) {
        paths->keys[paths->key_count++] = cap_ssz_list_at(path, i);
    }
    return true;
}

static bool path_roots(const struct paths *paths, const struct cap_work *work)
{
    struct cap_hash roots[CAP_LISTS_TOGETHER * CAP_MAX_SOURCE_DEPTH];
    const struct cap_hash *next = roots;
    struct cap_lists lists;
    if (!key_roots(paths->keys, paths->key_count, work, roots)) {
        return false;
    }
    cap_lists_init(&lists, CAP_LIST_DEPTH);
    for (size_t i = 0; i < paths->count; i++) {
        size_t len = paths->lens[i];
        struct cap_hash *nodes = cap_lists_add(&lists, len, len, paths->ret_roots[i]);
        memcpy(nodes, next, len * sizeof(*nodes));
        next += len;
    }
    cap_lists_finish(&lists);
    return cap_work_done(work, paths->count * CAP_WORK_LIST);
}

static bool mapping_roots(const void *list, size_t first, size_t count, const struct cap_work *work,
                          struct cap_hash *ret_roots)
{
    struct cap_hash fields[CAP_LISTS_TOGETHER][4];
    struct paths paths;
    paths.count = 0;
    paths.key_count = 0;
    for (size_t i = 0; i < count; i++) {
        struct cap_mapping mapping;
        cap_mapping_at(list, first + i, &mapping);
        fields[i][0] = cap_chunk64(mapping.start);
        fields[i][1] = cap_chunk64(mapping.size);
        fields[i][3] = *cap_zero_node(0);
        if (!add_path(&paths, &mapping.source, work, &fields[i][2])) {
            return false;
        }
    }
    if (!path_roots(&paths, work)) {
        return false;
    }
    cap_merkleize_many(fields[0], count, 2, ret_roots);
    return cap_work_done(work, count * MAPPING_HASHES * CAP_WORK_HASH);
}

bool cap_mapping_list_root(const struct cap_ssz_list *mappings, const struct cap_work *work,
                           struct cap_hash *ret_root)
{
    return cap_list_root(mapping_roots, mappings, mappings->count, work, ret_root);
}

static bool register_roots(const void *endpoint, size_t first, size_t count,
                           const struct cap_work *work, struct cap_hash *ret_roots)
{
    struct cap_hash fields[CAP_LISTS_TOGETHER][2];
    for (size_t i = 0; i < count; i++) {
        struct cap_register element = cap_wire_register(endpoint, first + i);
        fields[i][0] = cap_chunk64(element.index);
        fields[i][1] = cap_chunk64(element.value);
    }
    cap_merkleize_many(fields[0], count, 1, ret_roots);
    return cap_work_done(work, count * CAP_WORK_HASH);
}

static bool endpoint_roots(const void *image, size_t first, size_t count,
                           const struct cap_work *work, struct cap_hash *ret_roots)
{
    struct cap_hash fields[CAP_LISTS_TOGETHER][4];
    struct cap_bytes keys[CAP_LISTS_TOGETHER];
    struct cap_lists lists;
    cap_lists_init(&lists, CAP_LIST_DEPTH);
    for (size_t i = 0; i < count; i++) {
        struct cap_wire_endpoint endpoint;
        cap_wire_endpoint_at(image, first + i, &endpoint);
        keys[i] = endpoint.key;
        fields[i][0] = cap_chunk64(endpoint.entry_pc);
        fields[i][1] = cap_chunk64(endpoint.arg_registers);
        fields[i][2] = cap_chunk64(endpoint.arg_cnode_size);
        if (!add_list(&lists, register_roots, &endpoint, endpoint.register_count, work,
                      &fields[i][3])) {
            return false;
        }
    }
    cap_lists_finish(&lists);
    cap_merkleize_many(fields[0], count, 2, ret_roots);
    return cap_work_done(work, count * ENDPOINT_HASHES * CAP_WORK_HASH) &&
           cap_entry_roots(keys, count, work, ret_roots);
}

static bool page_ref_roots(const void *desc, size_t first, size_t count,
                           const struct cap_work *work, struct cap_hash *ret_roots)
{
    const struct cap_data_desc *of = desc;
    struct cap_hash fields[CAP_LISTS_TOGETHER][4];
    for (size_t i = 0; i < count; i++) {
        struct cap_page_ref ref = cap_page_ref_at(of->pages, first + i);
        fields[i][0] = cap_chunk64(ref.page_index);
        fields[i][1] = cap_chunk64(ref.arena_off);
        fields[i][2] = cap_chunk64(ref.len);
        fields[i][3] = *cap_zero_node(0);
    }
    cap_merkleize_many(fields[0], count, 2, ret_roots);
    return cap_work_done(work, count * PAGE_REF_HASHES * CAP_WORK_HASH);
}

/* One table of an image: the slots from `first` on. */
struct table {
    const struct cap_wire_image *image;
    size_t first;
};

/* Roots of the slots' values: of a DataDesc, or a CapHash as it is. */
static bool value_roots(const struct cap_wire_slot *slots, size_t count,
                        const struct cap_work *work, struct cap_hash *ret_roots)
{
    struct cap_hash fields[CAP_LISTS_TOGETHER][2] = {0};
    struct cap_lists lists;
    cap_lists_init(&lists, CAP_LIST_DEPTH);
    for (size_t i = 0; i < count; i++) {
        const struct cap_data_desc *desc = &slots[i].desc;
        if (slots[i].kind == CAP_KIND_IMAGE) {
            continue;
        }
        fields[i][0] = cap_chunk64(desc->size);
        if (!add_list(&lists, page_ref_roots, desc, desc->page_count, work, &fields[i][1])) {
            return false;
        }
    }
    cap_lists_finish(&lists);
    cap_merkleize_many(fields[0], count, 1, ret_roots);
    for (size_t i = 0; i < count; i++) {
        if (slots[i].kind == CAP_KIND_IMAGE) {
            ret_roots[i] = slots[i].content_hash;
        }
    }
    return true;
}

/* A pinned value is a union, an initial one is not. */
static bool slot_roots(const void *table, size_t first, size_t count, const struct cap_work *work,
                       struct cap_hash *ret_roots)
{
    const struct table *of = table;
    struct cap_wire_slot slots[CAP_LISTS_TOGETHER];
    struct cap_bytes keys[CAP_LISTS_TOGETHER];
    for (size_t i = 0; i < count; i++) {
        cap_wire_slot_at(of->image, of->first + first + i, &slots[i]);
        keys[i] = slots[i].key;
    }
    if (!value_roots(slots, count, work, ret_roots)) {
        return false;
    }
    if (slots[0].table == CAP_TABLE_PINNED) {
        struct cap_hash unions[CAP_LISTS_TOGETHER][2];
        for (size_t i = 0; i < count; i++) {
            unions[i][0] = ret_roots[i];
            unions[i][1] = cap_chunk64(slots[i].kind == CAP_KIND_IMAGE);
        }
        cap_merkleize_many(unions[0], count, 1, ret_roots);
    }
    return cap_work_done(work, count * SLOT_HASHES * CAP_WORK_HASH) &&
           cap_entry_roots(keys, count, work, ret_roots);
}

enum cap_error cap_wire_image_content_hash(const struct cap_wire_image *image,
                                           const struct cap_hash *arena_root,
                                           const struct cap_work *work, struct cap_hash *ret_hash)
{
    struct cap_hash code_off = cap_chunk64(image->code_off);
    struct cap_hash code_len = cap_chunk64(image->code_len);
    struct cap_hash fields[IMAGE_FIELDS];
    const struct table pinned = {image, 0};
    const struct table initial = {image, image->pinned.count};
    cap_hash_pair(&code_off, &code_len, &fields[0]);
    if (!cap_list_root(endpoint_roots, image, image->endpoints.count, work, &fields[1]) ||
        !cap_mapping_list_root(&image->mappings, work, &fields[2]) ||
        !cap_list_root(slot_roots, &pinned, image->pinned.count, work, &fields[3]) ||
        !cap_list_root(slot_roots, &initial, image->initial.count, work, &fields[4]) ||
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
