/*
 * SHA-256 of LANES pairs at once: lane i of every vector belongs to pair i.
 *
 * A template for the wide kernels. A kernel defines first, for vectors of type `lanes`: TARGET (the
 * attribute that allows its instructions), LANES, ADD, SPLAT (one word to every lane), ROR and SHR
 * (by a constant), XOR3, CH, MAJ, BSWAP (the bytes of each word), within each 128-bit block
 * UNPACK_LO32, UNPACK_HI32, UNPACK_LO64 and UNPACK_HI64, and
 *
 *     load_blocks(p, stride)       block b is the 16 bytes at p + b * stride
 *     store_blocks(p, stride, v)   the reverse
 *
 * and gets hash_run().
 */
#include <string.h>

#include "lib/cap/sha256/kernel.h"

#define BLOCKS (LANES / 4u) /* of 128 bits in a vector */

#define SIGMA0(x) XOR3(ROR(x, 2), ROR(x, 13), ROR(x, 22))
#define SIGMA1(x) XOR3(ROR(x, 6), ROR(x, 11), ROR(x, 25))
#define GAMMA0(x) XOR3(ROR(x, 7), ROR(x, 18), SHR(x, 3))
#define GAMMA1(x) XOR3(ROR(x, 17), ROR(x, 19), SHR(x, 10))

/* Summed in the order in which the parts become known: `e` and `a` are the youngest. */
#define ROUND(a, b, c, d, e, f, g, h, wk)                                                          \
    do {                                                                                           \
        lanes sum = ADD(ADD(ADD(h, wk), CH(e, f, g)), SIGMA1(e));                                  \
        (d) = ADD(d, sum);                                                                         \
        (h) = ADD(sum, ADD(MAJ(a, b, c), SIGMA0(a)));                                              \
    } while (0)

/* Eight rounds, after which every variable has its own name again; WK(i) is the word of round i. */
#define ROUNDS8(WK, t)                                                                             \
    do {                                                                                           \
        ROUND(a, b, c, d, e, f, g, h, WK((t) + 0));                                                \
        ROUND(h, a, b, c, d, e, f, g, WK((t) + 1));                                                \
        ROUND(g, h, a, b, c, d, e, f, WK((t) + 2));                                                \
        ROUND(f, g, h, a, b, c, d, e, WK((t) + 3));                                                \
        ROUND(e, f, g, h, a, b, c, d, WK((t) + 4));                                                \
        ROUND(d, e, f, g, h, a, b, c, WK((t) + 5));                                                \
        ROUND(c, d, e, f, g, h, a, b, WK((t) + 6));                                                \
        ROUND(b, c, d, e, f, g, h, a, WK((t) + 7));                                                \
    } while (0)

/* The words of a block of rounds; then one round later in the schedule, in place of the oldest. */
#define NEXT_WORD(i)                                                                               \
    w[i] = ADD(ADD(w[i], w[((i) + 9) % 16]),                                                       \
               ADD(GAMMA0(w[((i) + 1) % 16]), GAMMA1(w[((i) + 14) % 16])))
#define NEXT_WORDS4(i)                                                                             \
    do {                                                                                           \
        NEXT_WORD((i) + 0);                                                                        \
        NEXT_WORD((i) + 1);                                                                        \
        NEXT_WORD((i) + 2);                                                                        \
        NEXT_WORD((i) + 3);                                                                        \
    } while (0)

/* Transposes the 4 x 4 words in each block of four vectors. */
static inline TARGET void transpose(lanes v[4])
{
    lanes low01 = UNPACK_LO32(v[0], v[1]);
    lanes high01 = UNPACK_HI32(v[0], v[1]);
    lanes low23 = UNPACK_LO32(v[2], v[3]);
    lanes high23 = UNPACK_HI32(v[2], v[3]);
    v[0] = UNPACK_LO64(low01, low23);
    v[1] = UNPACK_HI64(low01, low23);
    v[2] = UNPACK_LO64(high01, high23);
    v[3] = UNPACK_HI64(high01, high23);
}

/* The words of every pair. Vector r begins as the blocks of pairs r, r + 4, ..., so that lane i
 * ends up with pair i. */
static inline TARGET void load_words(const uint8_t *pairs, lanes w[16])
{
    for (size_t i = 0; i < 16; i += 4) {
        for (size_t r = 0; r < 4; r++) {
            w[i + r] =
                load_blocks(pairs + r * CAP_SHA256_PAIR_SIZE + i * 4, 4 * CAP_SHA256_PAIR_SIZE);
        }
        transpose(w + i);
        for (size_t r = 0; r < 4; r++) {
            w[i + r] = BSWAP(w[i + r]);
        }
    }
}

static inline TARGET void store_words(uint8_t *out, lanes state[8])
{
    for (size_t i = 0; i < 8; i += 4) {
        for (size_t r = 0; r < 4; r++) {
            state[i + r] = BSWAP(state[i + r]);
        }
        transpose(state + i);
        for (size_t r = 0; r < 4; r++) {
            store_blocks(out + r * CAP_SHA256_NODE_SIZE + i * 4, 4 * CAP_SHA256_NODE_SIZE,
                         state[i + r]);
        }
    }
}

#define LOAD_STATE(state)                                                                          \
    lanes a = (state)[0], b = (state)[1], c = (state)[2], d = (state)[3];                          \
    lanes e = (state)[4], f = (state)[5], g = (state)[6], h = (state)[7]

#define ADD_STATE(state)                                                                           \
    do {                                                                                           \
        (state)[0] = ADD((state)[0], a);                                                           \
        (state)[1] = ADD((state)[1], b);                                                           \
        (state)[2] = ADD((state)[2], c);                                                           \
        (state)[3] = ADD((state)[3], d);                                                           \
        (state)[4] = ADD((state)[4], e);                                                           \
        (state)[5] = ADD((state)[5], f);                                                           \
        (state)[6] = ADD((state)[6], g);                                                           \
        (state)[7] = ADD((state)[7], h);                                                           \
    } while (0)

static inline TARGET void hash_message(lanes state[8], lanes w[16])
{
    LOAD_STATE(state);
    for (size_t t = 0; t < 64; t += 16) {
        if (t > 0) {
            NEXT_WORDS4(0);
            NEXT_WORDS4(4);
            NEXT_WORDS4(8);
            NEXT_WORDS4(12);
        }
#define WK(i) ADD(w[i], SPLAT(cap_sha256_k[t + (i)]))
        ROUNDS8(WK, 0);
        ROUNDS8(WK, 8);
#undef WK
    }
    ADD_STATE(state);
}

static inline TARGET void hash_padding(lanes state[8])
{
    LOAD_STATE(state);
    for (size_t t = 0; t < 64; t += 8) {
#define WK(i) SPLAT(cap_sha256_padding_wk[t + (i)])
        ROUNDS8(WK, 0);
#undef WK
    }
    ADD_STATE(state);
}

/* Reads all pairs before it writes. */
static TARGET void hash_lanes(uint8_t *out, const uint8_t *pairs)
{
    lanes w[16];
    lanes state[8];
    load_words(pairs, w);
    for (size_t i = 0; i < 8; i++) {
        state[i] = SPLAT(cap_sha256_iv[i]);
    }
    hash_message(state, w);
    hash_padding(state);
    store_words(out, state);
}

/* A run of pairs. What does not fill the lanes leaves some of them idle from `worth` pairs on, and
 * is for `rest` below that. */
static TARGET void hash_run(uint8_t *out, const uint8_t *pairs, size_t count, size_t worth,
                            cap_sha256_run *rest)
{
    for (; count >= LANES; count -= LANES) {
        hash_lanes(out, pairs);
        out += LANES * CAP_SHA256_NODE_SIZE;
        pairs += LANES * CAP_SHA256_PAIR_SIZE;
    }
    if (count < worth) {
        rest(out, pairs, count);
        return;
    }
    uint8_t copy[LANES * CAP_SHA256_PAIR_SIZE];
    memcpy(copy, pairs, count * CAP_SHA256_PAIR_SIZE);
    memset(copy + count * CAP_SHA256_PAIR_SIZE, 0, sizeof(copy) - count * CAP_SHA256_PAIR_SIZE);
    hash_lanes(copy, copy);
    memcpy(out, copy, count * CAP_SHA256_NODE_SIZE);
}
