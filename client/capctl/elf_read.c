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
    ((uint64_t)64 << 10)             /* bytes of a dynamic section; sound ones have under 1 KiB */
#define ALIGN_MAX CAPSTORE_CODE_BASE /* what CODE_BASE itself is aligned to */

#ifndef DT_RELRSZ
#define DT_RELRSZ 35 /* newer than some elf.h */
#endif

struct reading {
    Elf *elf;
    uint64_t file_len;
    struct elf_program program;
    bool interpreter; /* there is a PT_INTERP */
    bool dynamic;     /* there is a PT_DYNAMIC */
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

/* ---- a segment divided by its sections ---- */

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

/* ---- segments ---- */

/* What the dynamic section says: whether it names a library, which a static program that relocates
 * itself does not, and whether there are relocations. */
static void take_dynamic(struct reading *reading, const GElf_Phdr *segment, bool *ret_libraries)
{
    *ret_libraries = segment->p_filesz > DYNAMIC_MAX;
    if (*ret_libraries || segment->p_offset > INT64_MAX) {
        return;
    }
    Elf_Data *data = elf_getdata_rawchunk(reading->elf, (int64_t)segment->p_offset,
                                          (size_t)segment->p_filesz, ELF_T_DYN);
    GElf_Dyn entry;
    for (int i = 0; data != NULL && gelf_getdyn(data, i, &entry) != NULL; i++) {
        if (entry.d_tag == DT_NULL) {
            return;
        }
        *ret_libraries = *ret_libraries || entry.d_tag == DT_NEEDED;
        reading->program.relocations = reading->program.relocations ||
                                       ((entry.d_tag == DT_RELASZ || entry.d_tag == DT_RELSZ ||
                                         entry.d_tag == DT_RELRSZ || entry.d_tag == DT_PLTRELSZ) &&
                                        entry.d_un.d_val != 0);
    }
}

static enum elf_use use_of(bool executable, bool writable)
{
    return executable ? ELF_CODE : writable ? ELF_WRITABLE : ELF_READ;
}

static bool take_segment(struct reading *reading, const GElf_Phdr *segment, size_t number)
{
    bool libraries = false;
    if (segment->p_type == PT_DYNAMIC) {
        reading->dynamic = true;
        take_dynamic(reading, segment, &libraries);
    }
    if (libraries) {
        return refuse(reading, "dynamically linked; only static executables are supported");
    }
    reading->interpreter = reading->interpreter || segment->p_type == PT_INTERP;
    if (segment->p_type != PT_LOAD || segment->p_memsz == 0) {
        return true;
    }
    if (segment->p_filesz > segment->p_memsz) {
        return refuse(reading,
                      "segment %zu has more bytes in the file (%" PRIu64
                      ") than in memory (%" PRIu64 ")",
                      number, segment->p_filesz, segment->p_memsz);
    }
    if (segment->p_offset > reading->file_len ||
        segment->p_filesz > reading->file_len - segment->p_offset) {
        return refuse(reading, "segment %zu reaches past the end of the file", number);
    }
    if (segment->p_vaddr > UINT64_MAX - segment->p_memsz) {
        return refuse(reading, "segment %zu reaches past the end of the address space", number);
    }
    bool executable = (segment->p_flags & PF_X) != 0;
    bool writable = (segment->p_flags & PF_W) != 0;
    if (executable && segment->p_filesz == 0) {
        return refuse(reading,
                      "the bytes of executable segment %zu are not in this file; is this a "
                      "separate debug file?",
                      number);
    }
    uint64_t align = segment->p_align < ALIGN_MAX ? segment->p_align : ALIGN_MAX;
    uint64_t *kept = executable ? &reading->program.code_align : &reading->program.data_align;
    if ((align & (align - 1)) == 0 && align > *kept) {
        *kept = align;
    }
    if (executable && writable) {
        return divide(reading, segment);
    }
    return add_piece(reading, use_of(executable, writable), segment, segment->p_vaddr,
                     segment->p_vaddr + segment->p_memsz);
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
            return refuse(reading, "the program headers reach past the end of the file");
        }
        if (!take_segment(reading, &segment, i)) {
            return false;
        }
    }
    if (reading->interpreter && !reading->dynamic) {
        return refuse(reading, "names an interpreter, but has no dynamic section to say which "
                               "libraries it needs; only static executables are supported");
    }
    qsort(program->pieces, program->count, sizeof(program->pieces[0]), by_address);
    for (size_t i = 1; i < program->count; i++) {
        const struct elf_piece *before = &program->pieces[i - 1];
        if (before->start + before->len > program->pieces[i].start) {
            return refuse(reading, "segments overlap at 0x%" PRIx64, program->pieces[i].start);
        }
    }
    return true;
}

/* ---- sections ---- */

/* Whether the layout has room for such bytes in [start, start + len). */
static bool fits_layout(enum elf_use use, uint64_t start, uint64_t len)
{
    uint64_t end = start + len;
    bool below = start >= CAPSTORE_CODE_BASE && end <= CAPSTORE_DATA_BASE;
    bool above = start >= CAPSTORE_DATA_BASE && end <= ELF_ADDRESS_END;
    return use == ELF_CODE ? below : use == ELF_READ ? below || above : above;
}

static const char *use_name(enum elf_use use)
{
    return use == ELF_CODE ? "executable" : use == ELF_READ ? "read-only" : "writable";
}

/* Adds to the list of what does not fit; a list that is full stays as it is. */
static void add_misfit(struct elf_program *program, const char *name, enum elf_use use,
                       uint64_t start)
{
    size_t len = strlen(program->misfit);
    size_t room = sizeof(program->misfit) - len;
    int n = snprintf(program->misfit + len, room, "%s%.64s (%s, at 0x%" PRIx64 ")",
                     len > 0 ? ", " : "", name, use_name(use), start);
    if (n < 0 || (size_t)n >= room) {
        program->misfit[len] = '\0';
    }
}

/* What a loaded section of the program says. False after saying what is wrong. */
static bool take_loaded(struct reading *reading, Elf_Scn *section, size_t names)
{
    GElf_Shdr header;
    struct elf_program *program = &reading->program;
    if (gelf_getshdr(section, &header) == NULL || (header.sh_flags & SHF_ALLOC) == 0 ||
        header.sh_size == 0 || header.sh_addr > UINT64_MAX - header.sh_size) {
        return true;
    }
    bool executable = (header.sh_flags & SHF_EXECINSTR) != 0;
    bool thread_zeros = (header.sh_flags & SHF_TLS) != 0 && header.sh_type == SHT_NOBITS;
    const char *name = elf_strptr(reading->elf, names, header.sh_name);
    bool writable = (header.sh_flags & SHF_WRITE) != 0;
    if (executable && !writable && header.sh_type == SHT_NOBITS) {
        return refuse(reading,
                      "the bytes of section %.64s are not in this file; is this a separate "
                      "debug file?",
                      name != NULL ? name : "?");
    }
    enum elf_use use = use_of(executable, writable);
    /* The zeros of thread-local storage take no addresses of their own. */
    if (!thread_zeros && !fits_layout(use, header.sh_addr, header.sh_size)) {
        add_misfit(program, name != NULL && name[0] != '\0' ? name : "a section without a name",
                   use, header.sh_addr);
    }
    return true;
}

/* Looks at the sections, where there are some, and at what of the program does not fit the layout.
 */
static bool take_sections(struct reading *reading)
{
    struct elf_program *program = &reading->program;
    bool fits = true;
    size_t names;
    for (size_t i = 0; i < program->count; i++) {
        const struct elf_piece *piece = &program->pieces[i];
        fits = fits && fits_layout(piece->use, piece->start, piece->len);
    }
    if (elf_getshdrstrndx(reading->elf, &names) != 0) {
        names = 0;
    }
    for (Elf_Scn *section = NULL; (section = elf_nextscn(reading->elf, section)) != NULL;) {
        if (!take_loaded(reading, section, names)) {
            return false;
        }
    }
    /* The segments decide: what they load, sections only explain. */
    if (fits) {
        program->misfit[0] = '\0';
    }
    for (size_t i = 0; !fits && program->misfit[0] == '\0' && i < program->count; i++) {
        const struct elf_piece *piece = &program->pieces[i];
        if (!fits_layout(piece->use, piece->start, piece->len)) {
            add_misfit(program, "a segment", piece->use, piece->start);
        }
    }
    return true;
}

/* ---- the whole ---- */

static bool take_header(struct reading *reading)
{
    GElf_Ehdr header;
    if (elf_kind(reading->elf) != ELF_K_ELF || gelf_getehdr(reading->elf, &header) == NULL) {
        return refuse(reading, "not an ELF file");
    }
    if (header.e_machine != EM_RISCV) {
        return refuse(reading, "not a RISC-V program (e_machine %u)", header.e_machine);
    }
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB) {
        return refuse(reading, "not a 64-bit little-endian program");
    }
    if (header.e_type != ET_EXEC && header.e_type != ET_DYN) {
        return refuse(reading, "not an executable (e_type %u); link it first", header.e_type);
    }
    if (header.e_phnum > 0 && header.e_phentsize != sizeof(Elf64_Phdr)) {
        return refuse(reading, "program headers of %u bytes (e_phentsize); expected %zu",
                      header.e_phentsize, sizeof(Elf64_Phdr));
    }
    reading->program.entry = header.e_entry;
    return true;
}

/* The entry must be among bytes of the file: zeros are not a program. */
static bool take_entry(struct reading *reading)
{
    const struct elf_program *program = &reading->program;
    bool code = false;
    for (size_t i = 0; i < program->count; i++) {
        const struct elf_piece *piece = &program->pieces[i];
        code = code || piece->use == ELF_CODE;
        if (piece->use == ELF_CODE && program->entry >= piece->start &&
            program->entry - piece->start < piece->file_len) {
            return true;
        }
    }
    if (!code) {
        return refuse(reading, "the program has no executable segment");
    }
    return refuse(reading, "the entry 0x%" PRIx64 " lies outside the code in the file",
                  program->entry);
}

bool elf_read(int fd, uint64_t file_len, struct elf_program *ret_program,
              char ret_message[ELF_MESSAGE_SIZE])
{
    struct reading reading = {.file_len = file_len, .message = ret_message};
    reading.program.code_align = CAPSTORE_PAGE_SIZE;
    reading.program.data_align = CAPSTORE_PAGE_SIZE;
    (void)elf_version(EV_CURRENT);
    reading.elf = elf_begin(fd, ELF_C_READ, NULL);
    if (reading.elf == NULL) {
        return refuse(&reading, "not an ELF file: %s", elf_errmsg(-1));
    }
    bool good = take_header(&reading) && take_segments(&reading) && take_sections(&reading) &&
                take_entry(&reading);
    elf_end(reading.elf);
    if (good) {
        *ret_program = reading.program;
    }
    return good;
}
