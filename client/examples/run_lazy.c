/*
 * Runs a program that is not here: run_lazy ADDRESS HASH
 *
 * The Image is laid out in memory with the Data caps behind its mappings, and of all that, code and
 * data, only what the program touches is fetched, each page proven. A small interpreter takes the
 * place of a runtime: it knows RV64I, begins at the first endpoint, and ends at the first ecall, or
 * at an instruction that it does not know.
 */
#include <capstore/capstore.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SPACE     (UINT64_C(1) << 32) /* of a program */
#define STEPS_MAX 100000000u          /* it may run for ever */

/* Called for a page that cannot be proven, or not be fetched. */
static bool on_failed(void *ctx, const struct capstore_lazy_failure *failure)
{
    (void)ctx;
    fprintf(stderr, "page %" PRIu64 ": %s: %s\n", failure->page,
            capstore_error_name(failure->error), failure->message);
    exit(1); /* otherwise the access ends with SIGBUS */
}

struct machine {
    uint8_t *memory;
    uint64_t pc;
    uint64_t x[32];
};

/* Bits [low, low + count) of an instruction. */
static uint32_t bits(uint32_t word, unsigned low, unsigned count)
{
    return word >> low & ((UINT32_C(1) << count) - 1);
}

/* The lowest `count` bits as a signed number. */
static uint64_t extend(uint64_t value, unsigned count)
{
    uint64_t sign = UINT64_C(1) << (count - 1);
    return ((value & (2 * sign - 1)) ^ sign) - sign;
}

/* Where an address lies; it is cut to the 4 GiB that there are. */
static uint8_t *at(const struct machine *machine, uint64_t address, size_t len)
{
    uint64_t wrapped = address & (SPACE - 1);
    return machine->memory + (wrapped > SPACE - len ? 0 : wrapped);
}

static uint64_t load(const struct machine *machine, uint64_t address, uint32_t width)
{
    uint64_t value = 0;
    size_t len = (size_t)1 << (width & 3);
    memcpy(&value, at(machine, address, len), len); /* RISC-V and this example: little-endian */
    return width < 3 ? extend(value, (unsigned)len * 8) : value;
}

static bool taken(uint32_t what, uint64_t a, uint64_t b)
{
    switch (what) {
    case 0:
        return a == b;
    case 1:
        return a != b;
    case 4:
        return (int64_t)a < (int64_t)b;
    case 5:
        return (int64_t)a >= (int64_t)b;
    case 6:
        return a < b;
    default:
        return a >= b;
    }
}

/* What an instruction computes. `other`: sub for add, sra for srl. */
static uint64_t compute(uint32_t what, bool other, uint64_t a, uint64_t b, unsigned width)
{
    unsigned shift = (unsigned)b & (width - 1);
    switch (what) {
    case 0:
        return other ? a - b : a + b;
    case 1:
        return a << shift;
    case 2:
        return (int64_t)a < (int64_t)b;
    case 3:
        return a < b;
    case 4:
        return a ^ b;
    case 5:
        return other ? (uint64_t)((int64_t)(width == 32 ? extend(a, 32) : a) >> shift)
                     : (width == 32 ? (uint32_t)a : a) >> shift;
    case 6:
        return a | b;
    default:
        return a & b;
    }
}

/* Runs one instruction. False at an ecall, or one that it does not know. */
static bool step(struct machine *machine)
{
    uint32_t word;
    memcpy(&word, at(machine, machine->pc, sizeof(word)), sizeof(word));
    uint32_t opcode = bits(word, 0, 7), rd = bits(word, 7, 5), what = bits(word, 12, 3);
    uint64_t a = machine->x[bits(word, 15, 5)], b = machine->x[bits(word, 20, 5)];
    uint64_t immediate = extend(bits(word, 20, 12), 12);
    uint64_t next = machine->pc + 4, result = 0;
    unsigned width = (opcode & 0x08) != 0 ? 32 : 64; /* of 0x13, 0x1b, 0x33, 0x3b */
    switch (opcode) {
    case 0x37: /* lui */
        result = extend(word & 0xfffff000u, 32);
        break;
    case 0x17: /* auipc */
        result = machine->pc + extend(word & 0xfffff000u, 32);
        break;
    case 0x13: /* addi and others with a constant */
    case 0x1b:
        result = compute(what, what == 5 && bits(word, 30, 1) != 0, a, immediate, width);
        break;
    case 0x33: /* add and others of registers */
    case 0x3b:
        if (bits(word, 25, 1) != 0) {
            return false; /* multiplication and division */
        }
        result = compute(what, bits(word, 30, 1) != 0, a, b, width);
        break;
    case 0x03: /* loads */
        result = load(machine, a + immediate, what);
        break;
    case 0x23: /* stores */
        memcpy(at(machine, a + extend(bits(word, 25, 7) << 5 | rd, 12), (size_t)1 << (what & 3)),
               &b, (size_t)1 << (what & 3));
        rd = 0;
        break;
    case 0x63: /* branches */
        if (taken(what, a, b)) {
            next = machine->pc + extend(bits(word, 31, 1) << 12 | bits(word, 7, 1) << 11 |
                                            bits(word, 25, 6) << 5 | bits(word, 8, 4) << 1,
                                        13);
        }
        rd = 0;
        break;
    case 0x6f: /* jal */
        result = next;
        next = machine->pc + extend(bits(word, 31, 1) << 20 | bits(word, 12, 8) << 12 |
                                        bits(word, 20, 1) << 11 | bits(word, 21, 10) << 1,
                                    21);
        break;
    case 0x67: /* jalr */
        result = next;
        next = (a + immediate) & ~UINT64_C(1);
        break;
    default:
        return false;
    }
    if (rd != 0) {
        machine->x[rd] = (opcode & 0x57) == 0x13 && width == 32 ? extend(result, 32) : result;
    }
    machine->pc = next;
    return true;
}

static void run(uint8_t *memory, const struct capstore_cap *image)
{
    struct machine machine = {.memory = memory};
    struct capstore_endpoint entry = capstore_image_endpoint(image, 0);
    /* An entry is an address, or an offset into the code. */
    machine.pc =
        entry.entry_pc < CAPSTORE_CODE_BASE ? CAPSTORE_CODE_BASE + entry.entry_pc : entry.entry_pc;
    machine.x[2] = entry.stack_top;
    unsigned steps = 0;
    while (steps < STEPS_MAX && step(&machine)) {
        steps++;
    }
    printf("a0 = %" PRIu64 " after %u instructions, at %#" PRIx64 "\n", machine.x[10], steps,
           machine.pc);
}

/* How many pages a program has: of code, as the daemon says, and behind its mappings. */
static uint64_t pages_of(const struct capstore_cap *image, uint64_t code_size)
{
    uint64_t pages = (code_size + CAPSTORE_PAGE_SIZE - 1) / CAPSTORE_PAGE_SIZE;
    for (size_t i = 0; i < capstore_image_counts(image).mappings; i++) {
        pages += capstore_image_mapping(image, i).size / CAPSTORE_PAGE_SIZE;
    }
    return pages;
}

int main(int argc, char **argv)
{
    struct capstore *store = NULL;
    struct capstore_hash hash;
    struct capstore_stat_result stat;
    struct capstore_lazy *lazy = NULL;
    struct capstore_lazy_options options = CAPSTORE_LAZY_OPTIONS_INIT;
    options.failed = on_failed;
    if (argc != 3 || capstore_hash_parse(argv[2], &hash) != CAPSTORE_OK ||
        capstore_new(NULL, &store) != CAPSTORE_OK) {
        fprintf(stderr, "usage: run_lazy ADDRESS HASH\n");
        return 2;
    }
    uint8_t *memory =
        mmap(NULL, SPACE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    enum capstore_error error =
        memory != MAP_FAILED ? capstore_connect(store, argv[1]) : CAPSTORE_E_NO_MEMORY;
    if (error == CAPSTORE_OK) {
        error = capstore_stat(store, &hash, &stat);
    }
    if (error == CAPSTORE_OK) {
        error = capstore_space_lazy(store, &hash, NULL, &options, memory, SPACE, &lazy);
    }
    if (error == CAPSTORE_OK && capstore_image_counts(capstore_lazy_image(lazy)).endpoints == 0) {
        error = CAPSTORE_E_NOT_FOUND;
    }
    if (error == CAPSTORE_OK) {
        run(memory, capstore_lazy_image(lazy));
        printf("%" PRIu64 " of %" PRIu64 " pages fetched\n",
               capstore_lazy_stats(lazy).fetched_pages,
               pages_of(capstore_lazy_image(lazy), stat.size));
    } else {
        fprintf(stderr, "%s: %s\n", capstore_error_name(error), capstore_message(store));
    }
    capstore_lazy_free(lazy);
    capstore_free(store);
    return error == CAPSTORE_OK ? 0 : 1;
}
