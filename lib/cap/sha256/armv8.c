/* The SHA-2 extension of Armv8, which does four rounds at a time. */
#include "lib/cap/sha256/kernel.h"

#if defined(__aarch64__) && defined(__AARCH64EL__)

#if defined(__clang__)
#define TARGET __attribute__((target("sha2")))
/* Before version 16, clang's header declares only what the whole file may use. */
#if __clang_major__ < 16 && !defined(__ARM_FEATURE_SHA2)
#define __ARM_FEATURE_SHA2 1
#endif
#else
#define TARGET __attribute__((target("+crypto")))
#endif
#include <arm_neon.h>

#define INLINE static inline TARGET __attribute__((always_inline))

/* A pair being hashed. */
struct stream {
    uint32x4_t abcd;
    uint32x4_t efgh;
    uint32x4_t w[4]; /* the last 16 words of the message schedule */
};

INLINE void rounds(struct stream *s, uint32x4_t wk)
{
    uint32x4_t abcd = s->abcd;
    s->abcd = vsha256hq_u32(abcd, s->efgh, wk);
    s->efgh = vsha256h2q_u32(s->efgh, abcd, wk);
}

INLINE void own_rounds(struct stream *s, size_t i)
{
    rounds(s, vaddq_u32(s->w[i], vld1q_u32(&cap_sha256_k[4 * i])));
}

/* Four more words, in place of the oldest. */
INLINE void made_rounds(struct stream *s, size_t i)
{
    uint32x4_t *oldest = &s->w[i % 4];
    *oldest = vsha256su1q_u32(vsha256su0q_u32(*oldest, s->w[(i + 1) % 4]), s->w[(i + 2) % 4],
                              s->w[(i + 3) % 4]);
    rounds(s, vaddq_u32(*oldest, vld1q_u32(&cap_sha256_k[4 * i])));
}

INLINE void padding_rounds(struct stream *s, size_t i)
{
    rounds(s, vld1q_u32(&cap_sha256_padding_wk[4 * i]));
}

INLINE uint32x4_t load_words(const uint8_t *p)
{
    return vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(p)));
}

INLINE void store_words(uint8_t *p, uint32x4_t words)
{
    vst1q_u8(p, vrev32q_u8(vreinterpretq_u8_u32(words)));
}

INLINE void begin(struct stream *s, const uint8_t *pair)
{
    s->abcd = vld1q_u32(cap_sha256_iv);
    s->efgh = vld1q_u32(cap_sha256_iv + 4);
    s->w[0] = load_words(pair);
    s->w[1] = load_words(pair + 16);
    s->w[2] = load_words(pair + 32);
    s->w[3] = load_words(pair + 48);
}

/* The message's words have done their work; two of them keep the state until the end. */
INLINE void end_message(struct stream *s)
{
    s->abcd = vaddq_u32(s->abcd, vld1q_u32(cap_sha256_iv));
    s->efgh = vaddq_u32(s->efgh, vld1q_u32(cap_sha256_iv + 4));
    s->w[0] = s->abcd;
    s->w[1] = s->efgh;
}

INLINE void end(struct stream *s, uint8_t *out)
{
    store_words(out, vaddq_u32(s->abcd, s->w[0]));
    store_words(out + 16, vaddq_u32(s->efgh, s->w[1]));
}

#include "lib/cap/sha256/streams.h"

void cap_sha256_run_armv8(uint8_t *out, const uint8_t *pairs, size_t count)
{
    run_streams(out, pairs, count);
}

#endif
