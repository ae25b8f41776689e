/* AVX2, 8 pairs at once. */
#include "lib/cap/sha256/kernel.h"

#if defined(__x86_64__) || defined(__i386__)

#include <immintrin.h>

#define TARGET __attribute__((target("avx2")))
#define LANES  8u
typedef __m256i lanes;

#define ADD(x, y)         _mm256_add_epi32(x, y)
#define SPLAT(word)       _mm256_set1_epi32((int)(word))
#define XOR(x, y)         _mm256_xor_si256(x, y)
#define AND(x, y)         _mm256_and_si256(x, y)
#define SHR(x, n)         _mm256_srli_epi32(x, n)
#define ROR(x, n)         XOR(SHR(x, n), _mm256_slli_epi32(x, 32 - (n)))
#define XOR3(x, y, z)     XOR(XOR(x, y), z)
#define CH(x, y, z)       XOR(AND(x, XOR(y, z)), z)
#define MAJ(x, y, z)      XOR(AND(XOR(x, y), XOR(y, z)), y)
#define UNPACK_LO32(x, y) _mm256_unpacklo_epi32(x, y)
#define UNPACK_HI32(x, y) _mm256_unpackhi_epi32(x, y)
#define UNPACK_LO64(x, y) _mm256_unpacklo_epi64(x, y)
#define UNPACK_HI64(x, y) _mm256_unpackhi_epi64(x, y)
#define BSWAP(x)                                                                                   \
    _mm256_shuffle_epi8(x, _mm256_set_epi32(0x0c0d0e0f, 0x08090a0b, 0x04050607, 0x00010203,        \
                                            0x0c0d0e0f, 0x08090a0b, 0x04050607, 0x00010203))

static inline TARGET lanes load_blocks(const uint8_t *p, size_t stride)
{
    lanes v = _mm256_castsi128_si256(_mm_loadu_si128((const void *)p));
    return _mm256_inserti128_si256(v, _mm_loadu_si128((const void *)(p + stride)), 1);
}

static inline TARGET void store_blocks(uint8_t *p, size_t stride, lanes v)
{
    _mm_storeu_si128((void *)p, _mm256_castsi256_si128(v));
    _mm_storeu_si128((void *)(p + stride), _mm256_extracti128_si256(v, 1));
}

#include "lib/cap/sha256/lanes.h"

/* Eight lanes take less time than two pairs with libsodium. */
void cap_sha256_run_avx2(uint8_t *out, const uint8_t *pairs, size_t count)
{
    hash_run(out, pairs, count, 2, cap_sha256_run_sodium);
}

#endif
