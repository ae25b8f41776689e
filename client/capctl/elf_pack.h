/* A program to a pack (capctl.1, PROGRAMS). */
#ifndef CLIENT_CAPCTL_ELF_PACK_H
#define CLIENT_CAPCTL_ELF_PACK_H

#include "client/capctl/describe.h"

/* Reads a static RISC-V ELF into a description and adds a stack of so many bytes. False after
 * saying what is wrong. */
bool elf_pack(struct describe *describe, const char *path, uint64_t stack_size);

#endif
