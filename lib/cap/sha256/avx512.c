/*
 * AVX-512, 16 pairs at once: a rotation is one instruction, and so is each of the functions of
 * three words.
 */
#include "lib/cap/sha256/kernel.h"

#if defined(__x86_64__) || defined(__i386__)

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw")))
#define LANES  16u
typedef __m512i lanes;

#define ADD(x, y)         _mm512_add_epi32(x, y)
#define SPLAT(word)       _mm512_set1_epi32((int)(word))
#define ROR(x, n)         _mm512_ror_epi32(x, n)
#define SHR(x, n)         _mm512_srli_epi32(x, n)
#define XOR3(x, y, z)     _mm512_ternarylogic_epi32(x, y, z, 0x96)
#define CH(x, y, z)       _mm512_ternarylogic_epi32(x, y, z, 0xca)
#define MAJ(x, y, z)      _mm512_ternarylogic_epi32(x, y, z, 0xe8)
#define UNPACK_LO32(x, y) _mm512_unpacklo_epi32(x, y)
#define UNPACK_HI32(x, y) _mm512_unpackhi_epi32(x, y)
#define UNPACK_LO64(x, y) _mm512_unpacklo_epi64(x, y)
#define UNPACK_HI64(x, y) _mm512_unpackhi_epi64(x, y)
#define BSWAP(x)                                                                                   \
    _mm512_shuffle_epi8(x, _mm512_set4_epi32(0x0c0d0e0f, 0x08090a0b, 0x04050607, 0x00010203))

static inline TARGET __m128i load_block(const uint8_t *p)
{
    return _mm_loadu_si128((const void *)p);
}

static inline TARGET lanes load_blocks(const uint8_t *p, size_t stride)
{
    lanes v = _mm512_castsi128_si512(load_block(p));
    v = _mm512_inserti32x4(v, load_block(p + stride), 1);
    v = _mm512_inserti32x4(v, load_block(p + 2 * stride), 2);
    return _mm512_inserti32x4(v, load_block(p + 3 * stride), 3);
}

static inline TARGET void store_blocks(uint8_t *p, size_t stride, lanes v)
{
    _mm_storeu_si128((void *)p, _mm512_castsi512_si128(v));
    _mm_storeu_si128((void *)(p + stride), _mm512_extracti32x4_epi32(v, 1));
    _mm_storeu_si128((void *)(p + 2 * stride), _mm512_extracti32x4_epi32(v, 2));
    _mm_storeu_si128((void *)(p + 3 * stride), _mm512_extracti32x4_epi32(v, 3));
}

#include "lib/cap/sha256/lanes.h"

/* Sixteen lanes take about as long as libsodium's one pair, and as eight pairs with SHA-NI. */
void cap_sha256_run_avx512(uint8_t *out, const uint8_t *pairs, size_t count)
{
    hash_run(out, pairs, count, 2, cap_sha256_run_sodium);
}

void cap_sha256_run_avx512_shani(uint8_t *out, const uint8_t *pairs, size_t count)
{
    hash_run(out, pairs, count, 9, cap_sha256_run_shani);
}

#endif
