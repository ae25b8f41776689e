/*
 * The packer: logical content to the one canonical wire Image (FORMATS.md section 6).
 *
 * A cap_pack collects a description, in any order; cap_pack_finish sorts the tables, packs the
 * arena and yields a wire Image in pieces. Equal logical images give equal bytes.
 */
#ifndef LIB_CAP_PACK_H
#define LIB_CAP_PACK_H

#include "lib/cap/body.h"
#include "lib/cap/wire_image.h"

/* Opaque; belongs to one thread at a time. Everything passed in is copied, except sources. */
struct cap_pack;

/* An empty description: no code, no tables. CAP_E_NO_MEMORY. */
enum cap_error cap_pack_new(struct cap_pack **ret_pack);
void cap_pack_free(struct cap_pack *pack); /* NULL is fine */

/*
 * The code: `len` bytes of `source` at `offset`, at its exact length. The packer reads all content
 * from ONE source, handed to cap_pack_finish; a publisher with several files makes one source over
 * them.
 */
void cap_pack_code(struct cap_pack *pack, uint64_t offset, uint64_t len);

/*
 * An endpoint. `registers` need not be sorted. CAP_E_NO_MEMORY; a repeated key or register is
 * reported by cap_pack_finish.
 */
enum cap_error cap_pack_endpoint(struct cap_pack *pack, struct cap_bytes key, uint64_t entry_pc,
                                 uint8_t arg_registers, uint8_t arg_cnode_size,
                                 const struct cap_register *registers, size_t register_count);

/* A mapping whose source path is `path`, from its root slot; mappings keep their order.
 * CAP_E_NO_MEMORY. */
enum cap_error cap_pack_mapping(struct cap_pack *pack, uint64_t start, uint64_t size,
                                const struct cap_bytes *path, size_t steps);

/*
 * Begins a Data slot with its least size; content is added to it with cap_pack_content. The final
 * size is the larger of `size` and the content's end, rounded up to a page, at least one page.
 * CAP_E_INVALID_ARGUMENT for a size that cannot be rounded, CAP_E_NO_MEMORY.
 */
enum cap_error cap_pack_data(struct cap_pack *pack, enum cap_table table, struct cap_bytes key,
                             uint64_t size);

/*
 * Content for the Data slot begun last: `len` bytes of the source at `offset` belong at logical
 * address `at`. Pieces are added in ascending order, do not overlap, and do not end past the
 * largest size: otherwise, or with no Data slot begun, CAP_E_INVALID_ARGUMENT. CAP_E_NO_MEMORY. An
 * empty piece does nothing.
 */
enum cap_error cap_pack_content(struct cap_pack *pack, uint64_t at, uint64_t offset, uint64_t len);

/* A pinned Image by its CapHash. CAP_E_NO_MEMORY. */
enum cap_error cap_pack_image(struct cap_pack *pack, struct cap_bytes key,
                              const struct cap_hash *hash);

/* The yield receiver's slot, the last one set counts; gas and quota slots keep their order.
 * CAP_E_NO_MEMORY. */
enum cap_error cap_pack_yield_receiver(struct cap_pack *pack, struct cap_bytes key);
enum cap_error cap_pack_gas_slot(struct cap_pack *pack, struct cap_bytes key);
enum cap_error cap_pack_quota_slot(struct cap_pack *pack, struct cap_bytes key);

/*
 * Packs. The result reads as a cap_body over `source`. CAP_E_SSZ for a repeated key or register,
 * CAP_E_BODY_TOO_LARGE for what 32-bit offsets and page indexes cannot hold, CAP_E_NO_MEMORY, or as
 * the source fails. The result decodes; the deblob may still refuse it (code size, register
 * indexes, paths). A page that is not one run of the source is copied. Cost: O(content that was
 * added), whatever the slots' sizes. The pack can only be freed afterwards.
 */
enum cap_error cap_pack_finish(struct cap_pack *pack, const struct cap_source *source,
                               struct cap_body *ret_wire);

#endif
