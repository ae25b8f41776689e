/*
 * What the SHA-256 kernels share. A kernel hashes runs of pairs: 64 bytes, which with SHA-256's
 * padding are two blocks, the second one the same for every pair.
 */
#ifndef LIB_CAP_SHA256_KERNEL_H
#define LIB_CAP_SHA256_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CAP_SHA256_NODE_SIZE 32u
#define CAP_SHA256_PAIR_SIZE 64u

/* As cap_sha256_pairs, which says where `out` may lie. */
typedef void cap_sha256_run(uint8_t *out, const uint8_t *pairs, size_t count);

struct cap_sha256_kernel {
    const char *name;
    cap_sha256_run *run;
    bool (*runs_here)(void); /* whether this CPU and its operating system have what it needs */
    bool (*is_behind)(void); /* whether one further down is faster on this CPU; NULL: none is */
};

/* The kernels built for this architecture, the one to prefer first; the last one runs anywhere.
 * Static; ends with a NULL name. */
extern const struct cap_sha256_kernel cap_sha256_kernels[];

/* The round constants; the same plus the message schedule of the padding block; the initial state.
 */
extern const uint32_t cap_sha256_k[64];
extern const uint32_t cap_sha256_padding_wk[64];
extern const uint32_t cap_sha256_iv[8];

/* libsodium, one pair at a time. */
cap_sha256_run cap_sha256_run_sodium;

#if defined(__x86_64__) || defined(__i386__)
/* The SHA extensions, two pairs interleaved. */
cap_sha256_run cap_sha256_run_shani;
/* 8 pairs at once, what is left over by libsodium. */
cap_sha256_run cap_sha256_run_avx2;
/* 16 pairs at once, what is left over by libsodium or by the SHA extensions. */
cap_sha256_run cap_sha256_run_avx512;
cap_sha256_run cap_sha256_run_avx512_shani;
#endif

#if defined(__aarch64__) && defined(__AARCH64EL__)
/* The SHA-2 extension, two pairs interleaved. */
cap_sha256_run cap_sha256_run_armv8;
#endif

#endif
