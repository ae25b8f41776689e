/*
 * What pack needs of a RISC-V program: its loadable pieces, checked against the file.
 *
 * Nothing of the file is trusted: every offset and size is checked before it is used, and memory
 * does not follow from any of them.
 */
#ifndef CLIENT_CAPCTL_ELF_READ_H
#define CLIENT_CAPCTL_ELF_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <capstore/types.h>

#define ELF_MAX_PIECES   64 /* linkers make 4 or 5 segments; each may be divided in three */
#define ELF_MESSAGE_SIZE 256
#define ELF_MISFIT_SIZE  256
#define ELF_ADDRESS_END  (UINT64_C(1) << 32)

enum elf_use {
    ELF_CODE,     /* executable: read-only, in the code region */
    ELF_READ,     /* read-only data */
    ELF_WRITABLE, /* data, zero-filled parts included */
};

/* A range of addresses: `file_len` bytes of the file, then zeros. */
struct elf_piece {
    enum elf_use use;
    uint64_t start;
    uint64_t len; /* in memory, never 0; start + len does not overflow */
    uint64_t offset;
    uint64_t file_len; /* at most len; within the file */
};

/* A program. Pieces ascend by address and do not overlap. */
struct elf_program {
    uint64_t entry;
    size_t count;
    struct elf_piece pieces[ELF_MAX_PIECES];
    uint64_t code_align; /* what moving the code, or the data, must keep: a power of two, */
    uint64_t data_align; /* at least a page */
    bool split;          /* a segment was divided by its sections */
    bool unsplit;        /* a writable executable segment has no sections to divide it by */
    bool relocations;    /* it has some that a loader, or the program itself, must apply */
    /* The sections, or without sections the segment, that are not where the layout has room for
     * them, as a list for a person; "" when the program is linked to the layout. */
    char misfit[ELF_MISFIT_SIZE];
};

/*
 * Reads the program in an open file of `file_len` bytes. False with a sentence in ret_message when
 * it is not one that can be packed.
 */
bool elf_read(int fd, uint64_t file_len, struct elf_program *ret_program,
              char ret_message[ELF_MESSAGE_SIZE]);

#endif
