/*
 * SHA-256 by instructions that do several rounds of one message: each waits for the one before
 * longer than it keeps the unit busy, so two pairs are hashed at the same time, as two streams.
 *
 * A template for the kernels with such instructions. A kernel defines first: TARGET (the attribute
 * that allows them), `struct stream` (one pair in work), and for it begin(s, pair), own_rounds(s,
 * i), made_rounds(s, i), end_message(s), padding_rounds(s, i) and end(s, out), of which the three
 * take rounds 4i to 4i + 3: of the message's own 16 words, of those that the schedule makes, and of
 * the padding block. It gets run_streams().
 */
#include "lib/cap/sha256/kernel.h"

/* EACH(step, i) takes a step with every stream. */
#define FOUR(EACH, step, i)                                                                        \
    EACH(step, (i) + 0);                                                                           \
    EACH(step, (i) + 1);                                                                           \
    EACH(step, (i) + 2);                                                                           \
    EACH(step, (i) + 3)

#define MESSAGE(EACH)                                                                              \
    FOUR(EACH, own_rounds, 0);                                                                     \
    FOUR(EACH, made_rounds, 4);                                                                    \
    FOUR(EACH, made_rounds, 8);                                                                    \
    FOUR(EACH, made_rounds, 12)

#define PADDING(EACH)                                                                              \
    FOUR(EACH, padding_rounds, 0);                                                                 \
    FOUR(EACH, padding_rounds, 4);                                                                 \
    FOUR(EACH, padding_rounds, 8);                                                                 \
    FOUR(EACH, padding_rounds, 12)

#define ONE(step, i) step(&s, i)
#define TWO(step, i)                                                                               \
    step(&s, i);                                                                                   \
    step(&t, i)

static TARGET void hash_one(uint8_t *out, const uint8_t *pair)
{
    struct stream s;
    begin(&s, pair);
    MESSAGE(ONE);
    end_message(&s);
    PADDING(ONE);
    end(&s, out);
}

/* Reads both pairs before it writes. */
static TARGET void hash_two(uint8_t *out, const uint8_t *pairs)
{
    struct stream s;
    struct stream t;
    begin(&s, pairs);
    begin(&t, pairs + CAP_SHA256_PAIR_SIZE);
    MESSAGE(TWO);
    end_message(&s);
    end_message(&t);
    PADDING(TWO);
    end(&s, out);
    end(&t, out + CAP_SHA256_NODE_SIZE);
}

static inline void run_streams(uint8_t *out, const uint8_t *pairs, size_t count)
{
    for (; count >= 2; count -= 2) {
        hash_two(out, pairs);
        out += 2 * CAP_SHA256_NODE_SIZE;
        pairs += 2 * CAP_SHA256_PAIR_SIZE;
    }
    if (count > 0) {
        hash_one(out, pairs);
    }
}
