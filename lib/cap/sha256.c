/*
 * Which kernel hashes. The order of the table is knowledge, not a measurement: sixteen lanes of
 * AVX-512 take about half as long per pair as the SHA extensions, but for CPUs that do them in two
 * halves, and these less than eight lanes of AVX2, on every CPU that has both. So the choice is the
 * same at every start, and needs no clock.
 */
#include "lib/cap/sha256.h"

#include <stdatomic.h>
#include <string.h>

#include "lib/cap/sha256/kernel.h"

static bool anywhere(void)
{
    return true;
}

#if defined(__x86_64__) || defined(__i386__)

#include <cpuid.h>

#define SHA_BIT (1u << 29) /* of leaf 7, ebx */

/* The compiler's own test covers what the operating system must save; SHA-NI needs no more than
 * SSE. */
static bool has_shani(void)
{
    unsigned a;
    unsigned b;
    unsigned c;
    unsigned d;
    return __builtin_cpu_supports("ssse3") && __builtin_cpu_supports("sse4.1") &&
           __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & SHA_BIT) != 0;
}

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2");
}

static bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
}

static bool has_avx512_shani(void)
{
    return has_avx512() && has_shani();
}

/*
 * Zen 4 (AMD's family 0x19, of which no other has AVX-512) works on 512 bits as on twice 256: a
 * pair takes 37 ns there in sixteen lanes, 34 with the SHA extensions and 71 with AVX2.
 */
static bool is_behind_shani(void)
{
    unsigned a = 0;
    unsigned b;
    unsigned c;
    unsigned d;
    if (!has_shani() || !__builtin_cpu_is("amd") || __get_cpuid(1, &a, &b, &c, &d) == 0) {
        return false;
    }
    return ((a >> 8) & 0xf) + ((a >> 20) & 0xff) == 0x19;
}

#elif defined(__aarch64__) && defined(__AARCH64EL__)

#include <sys/auxv.h>

static bool has_sha2(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_SHA2) != 0;
}

#endif

const struct cap_sha256_kernel cap_sha256_kernels[] = {
#if defined(__x86_64__) || defined(__i386__)
    {"avx512-shani", cap_sha256_run_avx512_shani, has_avx512_shani, is_behind_shani},
    {"avx512", cap_sha256_run_avx512, has_avx512, is_behind_shani},
    {"shani", cap_sha256_run_shani, has_shani, NULL},
    {"avx2", cap_sha256_run_avx2, has_avx2, NULL},
#elif defined(__aarch64__) && defined(__AARCH64EL__)
    {"armv8", cap_sha256_run_armv8, has_sha2, NULL},
#endif
    {"sodium", cap_sha256_run_sodium, anywhere, NULL},
    {NULL, NULL, NULL, NULL},
};

/* NULL until the first use. Threads that choose at the same time choose the same. */
static _Atomic(const struct cap_sha256_kernel *) chosen;

static const struct cap_sha256_kernel *kernel(void)
{
    const struct cap_sha256_kernel *use = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (use == NULL) {
        use = cap_sha256_kernels;
        while (!use->runs_here() || (use->is_behind != NULL && use->is_behind())) {
            use++;
        }
        atomic_store_explicit(&chosen, use, memory_order_relaxed);
    }
    return use;
}

void cap_sha256_pairs(uint8_t *out, const uint8_t *pairs, size_t count)
{
    kernel()->run(out, pairs, count);
}

const char *cap_sha256_kernel_name(void)
{
    return kernel()->name;
}

enum cap_error cap_sha256_use_kernel(const char *name)
{
    for (const struct cap_sha256_kernel *use = cap_sha256_kernels; use->name != NULL; use++) {
        if (strcmp(use->name, name) != 0) {
            continue;
        }
        if (!use->runs_here()) {
            return CAP_E_NOT_FOUND;
        }
        atomic_store_explicit(&chosen, use, memory_order_relaxed);
        return CAP_OK;
    }
    return CAP_E_INVALID_ARGUMENT;
}
