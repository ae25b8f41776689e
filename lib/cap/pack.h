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

/* Opaque; belongs to one thread at a time. Everything handed in is copied, but for sources. */
struct cap_pack;

enum cap_error cap_pack_new(struct cap_pack **ret_pack);
void cap_pack_free(struct cap_pack *pack); /* NULL is fine */

/*
 * The code: `len` bytes of `source` at `offset`, at its exact length. The packer reads all content
 * from ONE source, handed to cap_pack_finish; a publisher with several files makes one source over
 * them.
 */
void cap_pack_code(struct cap_pack *pack, uint64_t offset, uint64_t len);

/*
 * An endpoint. `registers` need not be sorted. CAP_E_NO_MEMORY; a repeated key or register and a
 * register past the last are reported by cap_pack_finish.
 */
enum cap_error cap_pack_endpoint(struct cap_pack *pack, struct cap_bytes key, uint64_t entry_pc,
                                 uint8_t arg_registers, uint8_t arg_cnode_size,
                                 const struct cap_register *registers, size_t register_count);

enum cap_error cap_pack_mapping(struct cap_pack *pack, uint64_t start, uint64_t size,
                                const struct cap_bytes *path, size_t steps);

/*
 * A Data slot begun with its wanted size; content is added to it with cap_pack_content. The final
 * size is the larger of `size` and the content's end, rounded up to a page, at least one page.
 */
enum cap_error cap_pack_data(struct cap_pack *pack, enum cap_table table, struct cap_bytes key,
                             uint64_t size);

/*
 * Content for the Data slot begun last: `len` bytes of the source at `offset` stand at logical
 * address `at`. Pieces are added in ascending order and do not overlap: CAP_E_INVALID_ARGUMENT.
 */
enum cap_error cap_pack_content(struct cap_pack *pack, uint64_t at, uint64_t offset, uint64_t len);

/* A pinned Image by its CapHash. */
enum cap_error cap_pack_image(struct cap_pack *pack, struct cap_bytes key,
                              const struct cap_hash *hash);

enum cap_error cap_pack_yield_receiver(struct cap_pack *pack, struct cap_bytes key);
enum cap_error cap_pack_gas_slot(struct cap_pack *pack, struct cap_bytes key);
enum cap_error cap_pack_quota_slot(struct cap_pack *pack, struct cap_bytes key);

/*
 * Packs. The result reads as a cap_body over `source`. CAP_E_SSZ for a repeated key,
 * CAP_E_BODY_TOO_LARGE for what 32-bit offsets cannot hold, CAP_E_NO_MEMORY, or as the source
 * fails. What it returns decodes; whether the deblob accepts it (code size, register indexes,
 * paths) is the deblob's to say. A page made of several pieces of content is copied.
 */
enum cap_error cap_pack_finish(struct cap_pack *pack, const struct cap_source *source,
                               struct cap_body *ret_wire);

#endif
