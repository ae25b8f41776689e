/*
 * ELF in: segments to pieces.
 *
 * A segment becomes one piece, by its flags. One that is executable and writable at once (boot
 * firmware is linked so) is divided by its sections: up to the end of the last executable section
 * it is code, from there to the first writable section read-only data, the rest writable data.
 */
#include "client/capctl/elf_read.h"

#include <gelf.h>
#include <inttypes.h>
#include <libelf.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DYNAMIC_MAX                                                                                \
    ((uint64_t)64 << 10) /* bytes of a dynamic section; sound ones are far below                   \
                          */

struct reading {
    Elf *elf;
    uint64_t file_len;
    struct elf_program program;
    char *message;
};

static bool refuse(struct reading *reading, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static bool refuse(struct reading *reading, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(reading->message, ELF_MESSAGE_SIZE, format, args);
    va_end(args);
    return false;
}

static bool add_piece(struct reading *reading, enum elf_use use, const GElf_Phdr *segment,
                      uint64_t from, uint64_t to)
{
    if (from >= to) {
        return true;
    }
    if (reading->program.count == ELF_MAX_PIECES) {
        return refuse(reading, "the program has more than %d loadable parts", ELF_MAX_PIECES);
    }
    uint64_t file_end = segment->p_vaddr + segment->p_filesz;
    reading->program.pieces[reading->program.count++] = (struct elf_piece){
        .use = use,
        .start = from,
        .len = to - from,
        .offset = segment->p_offset + (from - segment->p_vaddr),
        .file_len = from >= file_end ? 0 : (to < file_end ? to : file_end) - from,
    };
    return true;
}

/* Where the executable sections of a segment end and the writable ones begin. */
struct bounds {
    uint64_t code_end;
    uint64_t write_start;
};

static void take_section(const GElf_Shdr *section, const GElf_Phdr *segment, struct bounds *bounds)
{
    uint64_t end = segment->p_vaddr + segment->p_memsz;
    if ((section->sh_flags & SHF_ALLOC) == 0 || section->sh_size == 0 ||
        section->sh_addr < segment->p_vaddr || section->sh_addr >= end ||
        section->sh_size > end - section->sh_addr) {
        return;
    }
    uint64_t section_end = section->sh_addr + section->sh_size;
    if ((section->sh_flags & SHF_EXECINSTR) != 0) {
        if (section_end > bounds->code_end) {
            bounds->code_end = section_end;
        }
    } else if ((section->sh_flags & SHF_WRITE) != 0 && section->sh_addr < bounds->write_start) {
        bounds->write_start = section->sh_addr;
    }
}

/* False when there are no executable sections to go by. */
static bool find_bounds(struct reading *reading, const GElf_Phdr *segment,
                        struct bounds *ret_bounds)
{
    struct bounds bounds = {0, segment->p_vaddr + segment->p_memsz};
    Elf_Scn *section = NULL;
    while ((section = elf_nextscn(reading->elf, section)) != NULL) {
        GElf_Shdr header;
        if (gelf_getshdr(section, &header) != NULL) {
            take_section(&header, segment, &bounds);
        }
    }
    if (bounds.code_end == 0) {
        return false;
    }
    /* What is zero-filled is writable, whatever its sections say. */
    uint64_t file_end = segment->p_vaddr + segment->p_filesz;
    if (bounds.write_start > file_end) {
        bounds.write_start = file_end;
    }
    if (bounds.code_end > file_end) {
        bounds.code_end = file_end;
    }
    if (bounds.write_start < bounds.code_end) {
        bounds.write_start = bounds.code_end;
    }
    *ret_bounds = bounds;
    return true;
}

/* A segment that is writable and executable. */
static bool divide(struct reading *reading, const GElf_Phdr *segment)
{
    uint64_t start = segment->p_vaddr;
    uint64_t end = start + segment->p_memsz;
    struct bounds bounds;
    if (!find_bounds(reading, segment, &bounds)) {
        bounds.code_end = bounds.write_start = start + segment->p_filesz;
        reading->program.unsplit = true;
    } else {
        reading->program.split = true;
    }
    return add_piece(reading, ELF_CODE, segment, start, bounds.code_end) &&
           add_piece(reading, ELF_READ, segment, bounds.code_end, bounds.write_start) &&
           add_piece(reading, ELF_WRITABLE, segment, bounds.write_start, end);
}

/* Whether the dynamic section names a library. A static program that moves itself has one, too. */
static bool needs_libraries(struct reading *reading, const GElf_Phdr *segment)
{
    if (segment->p_offset > INT64_MAX || segment->p_filesz > DYNAMIC_MAX) {
        return segment->p_filesz > DYNAMIC_MAX;
    }
    Elf_Data *data = elf_getdata_rawchunk(reading->elf, (int64_t)segment->p_offset,
                                          (size_t)segment->p_filesz, ELF_T_DYN);
    GElf_Dyn entry;
    for (int i = 0; data != NULL && gelf_getdyn(data, i, &entry) != NULL; i++) {
        if (entry.d_tag == DT_NULL) {
            return false;
        }
        if (entry.d_tag == DT_NEEDED) {
            return true;
        }
    }
    return false;
}

static bool take_segment(struct reading *reading, const GElf_Phdr *segment, size_t number)
{
    if (segment->p_type == PT_INTERP ||
        (segment->p_type == PT_DYNAMIC && needs_libraries(reading, segment))) {
        return refuse(reading, "the program is dynamically linked; a static one is wanted");
    }
    if (segment->p_type != PT_LOAD || segment->p_memsz == 0) {
        return true;
    }
    if (segment->p_filesz > segment->p_memsz || segment->p_offset > reading->file_len ||
        segment->p_filesz > reading->file_len - segment->p_offset) {
        return refuse(reading, "segment %zu leaves the file", number);
    }
    if (segment->p_vaddr > UINT64_MAX - segment->p_memsz) {
        return refuse(reading, "segment %zu leaves the address space", number);
    }
    uint64_t end = segment->p_vaddr + segment->p_memsz;
    if ((segment->p_flags & (PF_X | PF_W)) == (PF_X | PF_W)) {
        return divide(reading, segment);
    }
    enum elf_use use = (segment->p_flags & PF_X) != 0   ? ELF_CODE
                       : (segment->p_flags & PF_W) != 0 ? ELF_WRITABLE
                                                        : ELF_READ;
    return add_piece(reading, use, segment, segment->p_vaddr, end);
}

static int by_address(const void *a, const void *b)
{
    const struct elf_piece *left = (const struct elf_piece *)a;
    const struct elf_piece *right = (const struct elf_piece *)b;
    return left->start < right->start ? -1 : left->start > right->start;
}

static bool take_segments(struct reading *reading)
{
    size_t count;
    struct elf_program *program = &reading->program;
    if (elf_getphdrnum(reading->elf, &count) != 0 || count == 0) {
        return refuse(reading, "there are no program headers in the file");
    }
    for (size_t i = 0; i < count; i++) {
        GElf_Phdr segment;
        if (i > INT32_MAX || gelf_getphdr(reading->elf, (int)i, &segment) == NULL) {
            return refuse(reading, "the program headers leave the file");
        }
        if (!take_segment(reading, &segment, i)) {
            return false;
        }
    }
    qsort(program->pieces, program->count, sizeof program->pieces[0], by_address);
    for (size_t i = 1; i < program->count; i++) {
        const struct elf_piece *before = &program->pieces[i - 1];
        if (before->start + before->len > program->pieces[i].start) {
            return refuse(reading, "segments overlap at 0x%" PRIx64, program->pieces[i].start);
        }
    }
    return true;
}

static bool take_header(struct reading *reading)
{
    GElf_Ehdr header;
    if (elf_kind(reading->elf) != ELF_K_ELF || gelf_getehdr(reading->elf, &header) == NULL) {
        return refuse(reading, "no ELF file");
    }
    if (header.e_machine != EM_RISCV) {
        return refuse(reading, "no RISC-V program (e_machine %u)", header.e_machine);
    }
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB) {
        return refuse(reading, "no 64-bit little-endian program");
    }
    if (header.e_type != ET_EXEC && header.e_type != ET_DYN) {
        return refuse(reading, "no executable (e_type %u); link it first", header.e_type);
    }
    reading->program.entry = header.e_entry;
    return true;
}

bool elf_read(int fd, uint64_t file_len, struct elf_program *ret_program,
              char ret_message[ELF_MESSAGE_SIZE])
{
    struct reading reading = {.file_len = file_len, .message = ret_message};
    (void)elf_version(EV_CURRENT);
    reading.elf = elf_begin(fd, ELF_C_READ, NULL);
    if (reading.elf == NULL) {
        return refuse(&reading, "no ELF file: %s", elf_errmsg(-1));
    }
    bool good = take_header(&reading) && take_segments(&reading);
    elf_end(reading.elf);
    if (good) {
        *ret_program = reading.program;
    }
    return good;
}
