/* The memory of a program: an Image's code and what is behind its mappings. */
#include <capstore/map.h>

#include <stdlib.h>
#include <sys/mman.h>

#include "client/lib/internal.h"
#include "lib/cap/hash_set.h"

/* What is behind mappings. */
struct backing {
    struct capstore_map *map;
};

struct capstore_space {
    struct capstore_map *image;
    struct backing *backings; /* distinct */
    size_t backing_count;
    struct capstore_span *spans;
    size_t count;
};

static uint64_t page_up(uint64_t len)
{
    return (len + CAPSTORE_PAGE_SIZE - 1) / CAPSTORE_PAGE_SIZE * CAPSTORE_PAGE_SIZE;
}

void capstore_space_free(struct capstore_space *space)
{
    if (space == NULL) {
        return;
    }
    for (size_t i = 0; i < space->backing_count; i++) {
        capstore_map_free(space->backings[i].map);
    }
    capstore_map_free(space->image);
    free(space->backings);
    free(space->spans);
    free(space);
}

static void add_code(struct capstore_space *space)
{
    uint64_t len = page_up(capstore_map_size(space->image));
    if (len > 0) {
        space->spans[space->count++] = (struct capstore_span){
            .address = CAPSTORE_CODE_BASE,
            .len = len,
            .read_only = true,
            .fd = capstore_map_fd(space->image),
            .file_len = len,
        };
    }
}

static void add_region(struct capstore_space *space, const struct capstore_mapping *mapping,
                       const struct capstore_region *region, const struct capstore_map *map)
{
    struct capstore_span span = {
        .address = region->start,
        .len = mapping->size,
        .read_only = region->read_only,
        .fd = -1,
    };
    if (map != NULL && capstore_map_kind(map) == CAPSTORE_KIND_DATA) {
        uint64_t there = capstore_map_size(map) < (UINT64_C(1) << 44) ? capstore_map_size(map)
                                                                      : UINT64_C(1) << 44;
        span.fd = capstore_map_fd(map);
        span.file_len = mapping->size < there ? page_up(mapping->size) : there;
    }
    space->spans[space->count++] = span;
}

/* The map of a cap, made unless it is there. `hashes` are those of the maps, `known` is over them.
 */
static enum capstore_error find_map(struct capstore *store, struct capstore_space *space,
                                    const struct capstore_hash *hash, enum capstore_verify verify,
                                    struct cap_hash *hashes, struct cap_hash_set *known,
                                    struct capstore_map **ret_map)
{
    struct cap_hash wanted = client_cap_hash(hash);
    size_t at = cap_hash_set_find(known, hashes, &wanted);
    if (at != CAP_HASH_ABSENT) {
        *ret_map = space->backings[at].map;
        return CAPSTORE_OK;
    }
    enum capstore_error error =
        capstore_map(store, hash, verify, &space->backings[space->backing_count].map);
    if (error != CAPSTORE_OK) {
        return error;
    }
    hashes[space->backing_count] = wanted;
    *ret_map = space->backings[space->backing_count].map;
    return client_public(cap_hash_set_insert(known, hashes, space->backing_count++));
}

static enum capstore_error add_regions(struct capstore *store, struct capstore_space *space,
                                       enum capstore_verify verify)
{
    const struct capstore_cap *image = capstore_map_image(space->image);
    size_t count = capstore_image_counts(image).mappings;
    struct capstore_region *regions = NULL;
    struct cap_hash_set known = {0};
    struct cap_hash *hashes = calloc(count + 1, sizeof(*hashes));
    space->backings = calloc(count + 1, sizeof(*space->backings));
    space->spans = calloc(count + 1, sizeof(*space->spans));
    enum capstore_error error = CAPSTORE_E_NO_MEMORY;
    if (hashes != NULL && space->backings != NULL && space->spans != NULL) {
        error = capstore_image_regions(image, &regions);
    }
    if (error == CAPSTORE_OK) {
        add_code(space);
    }
    for (size_t i = 0; error == CAPSTORE_OK && i < count; i++) {
        struct capstore_mapping mapping = capstore_image_mapping(image, i);
        struct capstore_map *map = NULL;
        if (regions[i].has_slot) {
            error = find_map(store, space, &regions[i].slot.cap_hash, verify, hashes, &known, &map);
        }
        if (error == CAPSTORE_OK) {
            add_region(space, &mapping, &regions[i], map);
        }
    }
    cap_hash_set_free(&known);
    free(hashes);
    free(regions);
    return error;
}

enum capstore_error capstore_space(struct capstore *store, const struct capstore_hash *hash,
                                   enum capstore_verify verify, struct capstore_space **ret_space)
{
    struct capstore_space *space = calloc(1, sizeof(*space));
    if (space == NULL) {
        return CAPSTORE_E_NO_MEMORY;
    }
    enum capstore_error error = capstore_map(store, hash, verify, &space->image);
    if (error == CAPSTORE_OK && capstore_map_kind(space->image) != CAPSTORE_KIND_IMAGE) {
        error = CAPSTORE_E_WRONG_KIND;
    }
    if (error == CAPSTORE_OK) {
        error = add_regions(store, space, verify);
    }
    if (error == CAPSTORE_OK) {
        *ret_space = space;
    } else {
        capstore_space_free(space);
    }
    return error;
}

const struct capstore_map *capstore_space_image(const struct capstore_space *space)
{
    return space->image;
}

size_t capstore_space_count(const struct capstore_space *space)
{
    return space->count;
}

struct capstore_span capstore_space_span(const struct capstore_space *space, size_t i)
{
    return space->spans[i];
}

/* ---- placing ---- */

static bool span_fits(const struct capstore_span *span, uint64_t len)
{
    return span->address % CAPSTORE_PAGE_SIZE == 0 && span->address <= len &&
           span->len <= len - span->address && page_up(span->len) <= len - span->address;
}

static bool place_at(uint8_t *at, uint64_t len, int protection, int flags, int fd)
{
    return len == 0 || mmap(at, (size_t)len, protection, flags | MAP_FIXED, fd, 0) != MAP_FAILED;
}

enum capstore_error capstore_space_place(const struct capstore_space *space, void *base,
                                         uint64_t len)
{
    if (base == NULL || (uintptr_t)base % CAPSTORE_PAGE_SIZE != 0 || len > SIZE_MAX) {
        return CAPSTORE_E_INVALID_ARGUMENT;
    }
    for (size_t i = 0; i < space->count; i++) {
        if (space->spans[i].fd >= 0 && !span_fits(&space->spans[i], len)) {
            return CAPSTORE_E_INVALID_ARGUMENT;
        }
    }
    for (size_t i = 0; i < space->count; i++) {
        const struct capstore_span *span = &space->spans[i];
        int protection = span->read_only ? PROT_READ : PROT_READ | PROT_WRITE;
        int flags = span->read_only ? MAP_SHARED : MAP_PRIVATE | MAP_NORESERVE;
        if (span->fd < 0) {
            continue;
        }
        uint8_t *at = (uint8_t *)base + (size_t)span->address;
        if (!place_at(at, span->file_len, protection, flags, span->fd) ||
            !place_at(at + (size_t)span->file_len, page_up(span->len) - span->file_len, protection,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1)) {
            return CAPSTORE_E_NO_MEMORY;
        }
    }
    return CAPSTORE_OK;
}
