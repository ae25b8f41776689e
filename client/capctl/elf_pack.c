/*
 * A program to a pack (capctl.1, PROGRAMS).
 *
 * Code becomes the code region; read-only data pinned slots; writable data initial slots; a stack
 * comes last. Slots are whole pages: a page that two parts share goes to the writable one. A
 * program that is linked to the layout (code from CODE_BASE, data from DATA_BASE) keeps its
 * addresses; another is moved there, code to CODE_BASE and data from DATA_BASE on, with its
 * alignment and the distances between its data parts kept.
 */
#include "client/capctl/elf_pack.h"

#include <elf.h>
#include <inttypes.h>
#include <string.h>

#include "client/capctl/elf_read.h"
#include "client/capctl/result.h"

#define PAGE          ((uint64_t)CAPSTORE_PAGE_SIZE)
#define FIRST_SLOT    1 /* key 00 is where arguments arrive */
#define STACK_POINTER 1 /* the register that holds the stack's top */

/* A range of pages that becomes a slot; addresses are those of the file. */
struct region {
    uint64_t start;
    uint64_t end;
    bool writable;
};

struct layout {
    struct describe *describe;
    const struct elf_program *program;
    struct capstore_source file;
    bool kept;
    uint64_t code_start; /* the address in the file that maps at CODE_BASE */
    uint64_t code_end;
    uint64_t data_shift; /* added to a data address, modulo 2^64 */
    size_t region_count;
    struct region regions[ELF_MAX_PIECES];
};

static uint64_t page_floor(uint64_t address)
{
    return address & ~(PAGE - 1);
}

/* Saturates at the last page of the address space, which no layout reaches. */
static uint64_t page_ceil(uint64_t address)
{
    return address > UINT64_MAX - (PAGE - 1) ? page_floor(UINT64_MAX)
                                             : page_floor(address + PAGE - 1);
}

/* Read-only data below DATA_BASE of a program that keeps its addresses maps with the code. */
static bool in_code(const struct layout *layout, const struct elf_piece *piece)
{
    return piece->use == ELF_CODE ||
           (layout->kept && piece->use == ELF_READ && piece->start < CAPSTORE_DATA_BASE);
}

/* ---- addresses ---- */

/* The largest address of this alignment that is not above `address`. */
static uint64_t align_down(uint64_t address, uint64_t align)
{
    return address & ~(align - 1);
}

static bool place_code(struct layout *layout)
{
    const struct elf_program *program = layout->program;
    bool found = false;
    for (size_t i = 0; i < program->count; i++) {
        const struct elf_piece *piece = &program->pieces[i];
        if (!in_code(layout, piece)) {
            continue;
        }
        if (!found) {
            layout->code_start = align_down(piece->start, program->code_align);
        }
        layout->code_end = piece->start + piece->len;
        found = found || piece->use == ELF_CODE;
    }
    if (layout->kept) {
        layout->code_start = CAPSTORE_CODE_BASE;
    }
    if (layout->code_end - layout->code_start > CAPSTORE_MAX_CODE_SIZE) {
        return describe_refuse(layout->describe,
                               "the executable segments span %" PRIu64
                               " bytes; the limit is %" PRIu64,
                               layout->code_end - layout->code_start, CAPSTORE_MAX_CODE_SIZE);
    }
    return true;
}

/* Adds a data piece's pages, settling who gets a page that it shares with the region before. */
static void add_region(struct layout *layout, const struct elf_piece *piece)
{
    uint64_t start = page_floor(piece->start);
    uint64_t end = page_ceil(piece->start + piece->len);
    bool writable = piece->use == ELF_WRITABLE;
    struct region *last =
        layout->region_count > 0 ? &layout->regions[layout->region_count - 1] : NULL;
    if (last != NULL && last->end > start) {
        if (last->writable == writable) {
            last->end = end > last->end ? end : last->end;
            return;
        }
        if (last->writable) {
            start = last->end;
        } else {
            last->end = start;
            if (last->start == last->end) {
                layout->region_count--;
            }
        }
    }
    if (start < end) {
        layout->regions[layout->region_count++] = (struct region){start, end, writable};
    }
}

static bool place_data(struct layout *layout)
{
    for (size_t i = 0; i < layout->program->count; i++) {
        if (!in_code(layout, &layout->program->pieces[i])) {
            add_region(layout, &layout->program->pieces[i]);
        }
    }
    if (layout->region_count == 0) {
        return true;
    }
    uint64_t first = align_down(layout->regions[0].start, layout->program->data_align);
    uint64_t end = layout->regions[layout->region_count - 1].end;
    layout->data_shift = layout->kept ? 0 : CAPSTORE_DATA_BASE - first;
    if (end - first > ELF_ADDRESS_END - CAPSTORE_DATA_BASE) {
        return describe_refuse(layout->describe,
                               "the data segments span 0x%" PRIx64
                               " bytes; there is room for 0x%" PRIx64,
                               end - first, ELF_ADDRESS_END - CAPSTORE_DATA_BASE);
    }
    return true;
}

/* ---- content ---- */

/* The code region as one source: pieces where they stand, zeros between them. */
struct code_view {
    struct elf_program program;
    struct capstore_source file;
    uint64_t start;
};

static enum capstore_error code_read(void *ctx, uint64_t offset, void *dst, size_t len)
{
    const struct code_view *view = (const struct code_view *)ctx;
    uint64_t from = view->start + offset;
    uint64_t to = from + len;
    memset(dst, 0, len);
    for (size_t i = 0; i < view->program.count; i++) {
        const struct elf_piece *piece = &view->program.pieces[i];
        uint64_t start = piece->start > from ? piece->start : from;
        uint64_t file_end = piece->start + piece->file_len;
        uint64_t end = file_end < to ? file_end : to;
        if (start >= end) {
            continue;
        }
        enum capstore_error error =
            view->file.read(view->file.ctx, piece->offset + (start - piece->start),
                            (uint8_t *)dst + (start - from), (size_t)(end - start));
        if (error != CAPSTORE_OK) {
            return error;
        }
    }
    return CAPSTORE_OK;
}

static bool pack_code(struct layout *layout)
{
    struct code_view *view = describe_memory(layout->describe, sizeof(*view));
    if (view == NULL) {
        return false;
    }
    *view = (struct code_view){*layout->program, layout->file, layout->code_start};
    /* Only what belongs to the code is seen through the view. */
    size_t count = 0;
    for (size_t i = 0; i < layout->program->count; i++) {
        if (in_code(layout, &layout->program->pieces[i])) {
            view->program.pieces[count++] = layout->program->pieces[i];
        }
    }
    view->program.count = count;
    struct capstore_source code = {code_read, view, layout->code_end - layout->code_start, NULL};
    return describe_ok(layout->describe, capstore_pack_code(layout->describe->pack, &code), "code");
}

/* A run of the file's bytes. */
struct run {
    struct capstore_source file;
    uint64_t offset;
};

static enum capstore_error run_read(void *ctx, uint64_t offset, void *dst, size_t len)
{
    const struct run *run = (const struct run *)ctx;
    return run->file.read(run->file.ctx, run->offset + offset, dst, len);
}

/* Adds what of a piece's file bytes lies in a region. */
static bool pack_content(struct layout *layout, const struct region *region,
                         const struct elf_piece *piece)
{
    uint64_t file_end = piece->start + piece->file_len;
    uint64_t start = piece->start > region->start ? piece->start : region->start;
    uint64_t end = file_end < region->end ? file_end : region->end;
    if (start >= end) {
        return true;
    }
    struct run *run = describe_memory(layout->describe, sizeof(*run));
    if (run == NULL) {
        return false;
    }
    *run = (struct run){layout->file, piece->offset + (start - piece->start)};
    struct capstore_source source = {run_read, run, end - start, NULL};
    return describe_ok(
        layout->describe,
        capstore_pack_content(layout->describe->pack, start - region->start, &source), "data");
}

/* A slot and its mapping. */
static bool pack_slot(struct layout *layout, uint8_t number, enum capstore_table table,
                      uint64_t address, uint64_t size)
{
    struct capstore_bytes key = {&number, 1};
    struct capstore_pack *pack = layout->describe->pack;
    return describe_ok(layout->describe, capstore_pack_mapping(pack, address, size, &key, 1),
                       "mappings") &&
           describe_ok(layout->describe, capstore_pack_data(pack, table, key, size), "data");
}

static bool pack_regions(struct layout *layout)
{
    for (size_t i = 0; i < layout->region_count; i++) {
        const struct region *region = &layout->regions[i];
        enum capstore_table table =
            region->writable ? CAPSTORE_TABLE_INITIAL : CAPSTORE_TABLE_PINNED;
        if (!pack_slot(layout, (uint8_t)(FIRST_SLOT + i), table, region->start + layout->data_shift,
                       region->end - region->start)) {
            return false;
        }
        for (size_t p = 0; p < layout->program->count; p++) {
            if (!in_code(layout, &layout->program->pieces[p]) &&
                !pack_content(layout, region, &layout->program->pieces[p])) {
                return false;
            }
        }
    }
    return true;
}

/* ---- stack and entry ---- */

/* The stack lies above the data with one page left out between, so that running over it shows. */
static bool pack_stack(struct layout *layout, uint64_t stack_size, uint64_t *ret_top)
{
    uint64_t size = page_ceil(stack_size);
    uint64_t start = CAPSTORE_DATA_BASE;
    *ret_top = 0;
    if (layout->region_count > 0) {
        start = layout->regions[layout->region_count - 1].end + layout->data_shift;
    }
    if (stack_size == 0) {
        return true;
    }
    if (start > ELF_ADDRESS_END - PAGE || size > ELF_ADDRESS_END - PAGE - start) {
        return describe_refuse(
            layout->describe,
            "no room for a stack of 0x%" PRIx64 " bytes above the data; see --stack", size);
    }
    start += PAGE;
    *ret_top = start + size;
    return pack_slot(layout, (uint8_t)(FIRST_SLOT + layout->region_count), CAPSTORE_TABLE_INITIAL,
                     start, size);
}

static bool pack_entry(struct layout *layout, uint64_t stack_top)
{
    static const uint8_t key = 0;
    struct capstore_register stack_pointer = {STACK_POINTER, stack_top};
    struct capstore_endpoint_args args = {
        .entry_pc = CAPSTORE_CODE_BASE + (layout->program->entry - layout->code_start),
        .registers = &stack_pointer,
        .register_count = stack_top != 0 ? 1 : 0,
    };
    return describe_ok(
        layout->describe,
        capstore_pack_endpoint(layout->describe->pack, (struct capstore_bytes){&key, 1}, &args),
        "endpoint");
}

/* Warns of a program that was moved. */
static void warn_moved(const struct layout *layout)
{
    const struct elf_program *program = layout->program;
    uint64_t code_shift = CAPSTORE_CODE_BASE - layout->code_start;
    bool apart = layout->region_count > 0 && layout->data_shift != code_shift;
    if (code_shift != 0) {
        cli_note("not linked to the layout: code moved from 0x%" PRIx64 " to 0x%" PRIx64
                 "; absolute addresses inside the program are not changed",
                 layout->code_start, CAPSTORE_CODE_BASE);
    } else {
        cli_note("not linked to the layout: data at 0x%" PRIx64
                 "; absolute addresses inside the program are not changed",
                 program->pieces[0].start);
    }
    if (layout->region_count > 0 && layout->data_shift != 0) {
        cli_note("data moved from 0x%" PRIx64 " to 0x%" PRIx64, layout->regions[0].start,
                 layout->regions[0].start + layout->data_shift);
    }
    describe_warn(layout->describe, "not_linked_to_layout",
                  "outside the layout: %s; see PROGRAMS in capctl(1) for a linker script",
                  program->misfit);
    if (apart) {
        describe_warn(layout->describe, "moved",
                      "code and data moved by different distances: the program will not run unless "
                      "it has no references between code and data, and no absolute addresses");
    } else {
        describe_warn(layout->describe, "moved",
                      "code and data moved by the same distance: the program will not run unless "
                      "it has no absolute addresses");
    }
}

static void report_changes(const struct layout *layout)
{
    const struct elf_program *program = layout->program;
    if (program->split) {
        cli_note("a writable executable segment was divided by its sections");
    }
    if (program->unsplit) {
        cli_note("a writable executable segment has no sections: its bytes in the file are "
                 "read-only code");
        describe_warn(layout->describe, "code_not_writable",
                      "a writable executable segment has no sections to divide it by: its bytes in "
                      "the file are read-only code, and the program must not write to them");
    }
    if (!layout->kept) {
        warn_moved(layout);
    }
    if (program->relocations) {
        cli_note("the program has relocations: it must apply them itself");
        describe_warn(layout->describe, "relocations",
                      "the program has dynamic relocations, which capctl does not apply: it will "
                      "not run unless it applies them itself when it starts");
    }
}

/* Says why the file cannot be packed, and what it is if it is not an ELF file. */
static bool refuse_file(struct describe *describe, const char *path,
                        const struct capstore_source *file, const char *message)
{
    char magic[SELFMAG];
    char nature[CLI_NATURE_SIZE];
    const struct cli_input input = {.fd = -1, .len = file->len, .source = *file};
    bool elf = file->len >= SELFMAG && file->read(file->ctx, 0, magic, SELFMAG) == CAPSTORE_OK &&
               memcmp(magic, ELFMAG, SELFMAG) == 0;
    if (!elf && cli_recognise(&input, nature)) {
        return describe_refuse(describe, "%s: not an ELF file: %s", path, nature);
    }
    return describe_refuse(describe, "%s: %s", path, message);
}

bool elf_pack(struct describe *describe, const char *path, uint64_t stack_size)
{
    struct capstore_source file;
    struct elf_program program;
    char message[ELF_MESSAGE_SIZE];
    if (!describe_file(describe, path, &file)) {
        return false;
    }
    /* The descriptor is the source's own (capstore_source_fd). */
    const int *fd = (const int *)file.ctx;
    if (!elf_read(*fd, file.len, &program, message)) {
        return refuse_file(describe, path, &file, message);
    }
    struct layout layout = {
        .describe = describe,
        .program = &program,
        .file = file,
        .kept = program.misfit[0] == '\0',
    };
    uint64_t stack_top;
    if (!place_code(&layout) || !place_data(&layout) || !pack_code(&layout) ||
        !pack_regions(&layout) || !pack_stack(&layout, stack_size, &stack_top) ||
        !pack_entry(&layout, stack_top)) {
        return false;
    }
    report_changes(&layout);
    return true;
}
