/* The SHA extensions of x86, which do two rounds at a time. */
#include "lib/cap/sha256/kernel.h"

#if defined(__x86_64__) || defined(__i386__)

#include <immintrin.h>

#define TARGET __attribute__((target("sha,sse4.1,ssse3")))
#define INLINE static inline TARGET __attribute__((always_inline))

/* A pair being hashed. The instructions take the state as two vectors, high word first. */
struct stream {
    __m128i abef;
    __m128i cdgh;
    __m128i w[4]; /* the last 16 words of the message schedule */
};

INLINE __m128i load(const void *p)
{
    return _mm_loadu_si128(p);
}

/* The bytes of each word, reversed. */
INLINE __m128i bswap(__m128i x)
{
    return _mm_shuffle_epi8(x, _mm_set_epi32(0x0c0d0e0f, 0x08090a0b, 0x04050607, 0x00010203));
}

INLINE __m128i initial_abef(void)
{
    return _mm_set_epi32(0x6a09e667, (int)0xbb67ae85, 0x510e527f, (int)0x9b05688c);
}

INLINE __m128i initial_cdgh(void)
{
    return _mm_set_epi32(0x3c6ef372, (int)0xa54ff53a, 0x1f83d9ab, 0x5be0cd19);
}

/* Rounds 4i to 4i + 3, whose words and constants are in `wk`. */
INLINE void rounds(struct stream *s, __m128i wk)
{
    s->cdgh = _mm_sha256rnds2_epu32(s->cdgh, s->abef, wk);
    s->abef = _mm_sha256rnds2_epu32(s->abef, s->cdgh, _mm_shuffle_epi32(wk, 0x0e));
}

/* Those of the message's own 16 words. */
INLINE void own_rounds(struct stream *s, size_t i)
{
    rounds(s, _mm_add_epi32(s->w[i], load(&cap_sha256_k[4 * i])));
}

/* Those of words that the schedule makes: four more, in place of the oldest. */
INLINE void made_rounds(struct stream *s, size_t i)
{
    __m128i *oldest = &s->w[i % 4];
    __m128i last = s->w[(i + 3) % 4];
    __m128i seventh = _mm_alignr_epi8(last, s->w[(i + 2) % 4], 4);
    __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(*oldest, s->w[(i + 1) % 4]), seventh);
    *oldest = _mm_sha256msg2_epu32(sum, last);
    rounds(s, _mm_add_epi32(*oldest, load(&cap_sha256_k[4 * i])));
}

INLINE void padding_rounds(struct stream *s, size_t i)
{
    rounds(s, load(&cap_sha256_padding_wk[4 * i]));
}

INLINE void begin(struct stream *s, const uint8_t *pair)
{
    s->abef = initial_abef();
    s->cdgh = initial_cdgh();
    s->w[0] = bswap(load(pair));
    s->w[1] = bswap(load(pair + 16));
    s->w[2] = bswap(load(pair + 32));
    s->w[3] = bswap(load(pair + 48));
}

/* Ends the message's block; the words, which have done their work, keep the state until the end. */
INLINE void end_message(struct stream *s)
{
    s->abef = _mm_add_epi32(s->abef, initial_abef());
    s->cdgh = _mm_add_epi32(s->cdgh, initial_cdgh());
    s->w[0] = s->abef;
    s->w[1] = s->cdgh;
}

INLINE void end(struct stream *s, uint8_t *out)
{
    __m128i feba = _mm_shuffle_epi32(_mm_add_epi32(s->abef, s->w[0]), 0x1b);
    __m128i dchg = _mm_shuffle_epi32(_mm_add_epi32(s->cdgh, s->w[1]), 0xb1);
    _mm_storeu_si128((void *)out, bswap(_mm_blend_epi16(feba, dchg, 0xf0)));
    _mm_storeu_si128((void *)(out + 16), bswap(_mm_alignr_epi8(dchg, feba, 8)));
}

#include "lib/cap/sha256/streams.h"

void cap_sha256_run_shani(uint8_t *out, const uint8_t *pairs, size_t count)
{
    run_streams(out, pairs, count);
}

#endif
