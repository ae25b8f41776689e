/*
 * The packer over many sources.
 *
 * lib/cap packs from one source, so the pieces are laid out in one virtual range, with a gap after
 * each, and a read finds its piece by binary search.
 */
#include <capstore/publish.h>

#include <stdlib.h>

#include "client/lib/internal.h"
#include "lib/cap/pack.h"

struct piece {
    uint64_t base; /* in the virtual range */
    struct capstore_source source;
};

struct capstore_pack {
    struct cap_pack *inner;
    struct piece *pieces;
    size_t count;
    size_t capacity;
    uint64_t next_base;
    bool finished;
    struct cap_body wire;
    struct cap_source source; /* the virtual range */
};

static enum cap_error range_read(void *ctx, uint64_t offset, void *dst, size_t len)
{
    struct capstore_pack *pack = ctx;
    size_t low = 0;
    size_t high = pack->count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (pack->pieces[middle].base <= offset) {
            low = middle;
        } else {
            high = middle;
        }
    }
    if (pack->count == 0) {
        return CAP_E_INTERNAL;
    }
    const struct piece *piece = &pack->pieces[low];
    uint64_t at = offset - piece->base;
    if (at > piece->source.len || len > piece->source.len - at) {
        return CAP_E_INTERNAL;
    }
    return client_inner(piece->source.read(piece->source.ctx, at, dst, len));
}

enum capstore_error capstore_pack_new(struct capstore_pack **ret_pack)
{
    struct capstore_pack *pack = calloc(1, sizeof(*pack));
    if (pack == NULL) {
        return CAPSTORE_E_NO_MEMORY;
    }
    enum cap_error error = cap_pack_new(&pack->inner);
    if (error != CAP_OK) {
        free(pack);
        return client_public(error);
    }
    pack->source = (struct cap_source){.read = range_read, .ctx = pack};
    *ret_pack = pack;
    return CAPSTORE_OK;
}

void capstore_pack_free(struct capstore_pack *pack)
{
    if (pack == NULL) {
        return;
    }
    cap_pack_free(pack->inner);
    cap_body_free(&pack->wire);
    free(pack->pieces);
    free(pack);
}

/* Gives a source its range of virtual offsets. */
static enum cap_error add_piece(struct capstore_pack *pack, const struct capstore_source *source,
                                uint64_t *ret_base)
{
    if (source->len > INT64_MAX || pack->next_base > INT64_MAX - source->len) {
        return CAP_E_BODY_TOO_LARGE;
    }
    if (pack->count == pack->capacity) {
        size_t capacity = pack->capacity == 0 ? 8 : 2 * pack->capacity;
        struct piece *grown = realloc(pack->pieces, capacity * sizeof(*grown));
        if (grown == NULL) {
            return CAP_E_NO_MEMORY;
        }
        pack->pieces = grown;
        pack->capacity = capacity;
    }
    *ret_base = pack->next_base;
    pack->pieces[pack->count++] = (struct piece){pack->next_base, *source};
    pack->next_base += source->len + 1; /* the gap keeps windows of two sources from joining */
    return CAP_OK;
}

enum capstore_error capstore_pack_code(struct capstore_pack *pack,
                                       const struct capstore_source *code)
{
    uint64_t base;
    enum cap_error error = add_piece(pack, code, &base);
    if (error == CAP_OK) {
        cap_pack_code(pack->inner, base, code->len);
    }
    return client_public(error);
}

enum capstore_error capstore_pack_endpoint(struct capstore_pack *pack, struct capstore_bytes key,
                                           const struct capstore_endpoint_args *args)
{
    struct cap_register *registers = calloc(args->register_count + 1, sizeof(*registers));
    if (registers == NULL) {
        return CAPSTORE_E_NO_MEMORY;
    }
    for (size_t i = 0; i < args->register_count; i++) {
        registers[i] = (struct cap_register){args->registers[i].index, args->registers[i].value};
    }
    enum cap_error error =
        cap_pack_endpoint(pack->inner, client_cap_bytes(key), args->entry_pc, args->arg_registers,
                          args->arg_cnode_size, registers, args->register_count);
    free(registers);
    return client_public(error);
}

enum capstore_error capstore_pack_mapping(struct capstore_pack *pack, uint64_t start, uint64_t size,
                                          const struct capstore_bytes *path, size_t steps)
{
    struct cap_bytes *inner = calloc(steps + 1, sizeof(*inner));
    if (inner == NULL) {
        return CAPSTORE_E_NO_MEMORY;
    }
    for (size_t i = 0; i < steps; i++) {
        inner[i] = client_cap_bytes(path[i]);
    }
    enum cap_error error = cap_pack_mapping(pack->inner, start, size, inner, steps);
    free(inner);
    return client_public(error);
}

enum capstore_error capstore_pack_data(struct capstore_pack *pack, enum capstore_table table,
                                       struct capstore_bytes key, uint64_t size)
{
    enum cap_table inner = table == CAPSTORE_TABLE_PINNED ? CAP_TABLE_PINNED : CAP_TABLE_INITIAL;
    return client_public(cap_pack_data(pack->inner, inner, client_cap_bytes(key), size));
}

enum capstore_error capstore_pack_content(struct capstore_pack *pack, uint64_t at,
                                          const struct capstore_source *content)
{
    uint64_t base;
    enum cap_error error = add_piece(pack, content, &base);
    if (error == CAP_OK) {
        error = cap_pack_content(pack->inner, at, base, content->len);
    }
    return client_public(error);
}

enum capstore_error capstore_pack_image(struct capstore_pack *pack, struct capstore_bytes key,
                                        const struct capstore_hash *hash)
{
    struct cap_hash inner = client_cap_hash(hash);
    return client_public(cap_pack_image(pack->inner, client_cap_bytes(key), &inner));
}

enum capstore_error capstore_pack_yield_receiver(struct capstore_pack *pack,
                                                 struct capstore_bytes key)
{
    return client_public(cap_pack_yield_receiver(pack->inner, client_cap_bytes(key)));
}

enum capstore_error capstore_pack_gas_slot(struct capstore_pack *pack, struct capstore_bytes key)
{
    return client_public(cap_pack_gas_slot(pack->inner, client_cap_bytes(key)));
}

enum capstore_error capstore_pack_quota_slot(struct capstore_pack *pack, struct capstore_bytes key)
{
    return client_public(cap_pack_quota_slot(pack->inner, client_cap_bytes(key)));
}

static enum capstore_error wire_read(void *ctx, uint64_t offset, void *dst, size_t len)
{
    struct capstore_pack *pack = ctx;
    return client_public(cap_body_read(&pack->wire, &pack->source, offset, dst, len));
}

enum capstore_error capstore_pack_finish(struct capstore_pack *pack,
                                         struct capstore_source *ret_wire)
{
    if (pack->finished) {
        return CAPSTORE_E_INVALID_ARGUMENT;
    }
    enum cap_error error = cap_pack_finish(pack->inner, &pack->source, &pack->wire);
    if (error != CAP_OK) {
        return client_public(error);
    }
    pack->finished = true;
    *ret_wire = (struct capstore_source){wire_read, pack, pack->wire.len, NULL};
    return CAPSTORE_OK;
}
