/* Every kernel that this CPU runs, against libsodium. */
#include "lib/cap/sha256.h"

#include <sodium/crypto_hash_sha256.h>

#include "lib/cap/sha256/kernel.h"
#include "tests/unit/support.h"

#define PAIR   CAP_SHA256_PAIR_SIZE
#define NODE   CAP_SHA256_NODE_SIZE
#define LONG   2048u /* pairs in the longest run */
#define SHIFTS 64u   /* bytes of shift that are tried */

/* xorshift64: the same runs every time. */
static void fill(uint8_t *bytes, size_t len, uint64_t seed)
{
    uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (size_t i = 0; i < len; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        bytes[i] = (uint8_t)(x >> 32);
    }
}

/* Exactly as many bytes as are named, so that a sanitizer sees one more. */
static uint8_t *exactly(size_t len)
{
    uint8_t *bytes = malloc(len);
    assert_true(bytes != NULL || len == 0);
    return bytes;
}

static void by_sodium(uint8_t *out, const uint8_t *pairs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        crypto_hash_sha256(out + i * NODE, pairs + i * PAIR, PAIR);
    }
}

static void each_kernel(void (*check)(const struct cap_sha256_kernel *kernel))
{
    for (const struct cap_sha256_kernel *k = cap_sha256_kernels; k->name != NULL; k++) {
        if (k->runs_here()) {
            check(k);
        } else {
            print_message("skipped: this CPU does not run %s\n", k->name);
        }
    }
}

/* One run whose bytes begin `from` and `to` bytes into their allocations; out of place, then in
 * place. */
static void check_run(const struct cap_sha256_kernel *kernel, size_t count, size_t from, size_t to)
{
    uint8_t *pairs = exactly(from + count * PAIR);
    uint8_t *wanted = exactly(count * NODE);
    uint8_t *out = exactly(to + count * NODE);
    fill(pairs, from + count * PAIR, count * 64 + from + 1);
    by_sodium(wanted, pairs + from, count);
    kernel->run(out + to, pairs + from, count);
    if (memcmp(out + to, wanted, count * NODE) != 0) {
        fail_msg("%s: a run of %u pairs differs", kernel->name, (unsigned)count);
    }
    kernel->run(pairs + from, pairs + from, count);
    if (memcmp(pairs + from, wanted, count * NODE) != 0) {
        fail_msg("%s: a run of %u pairs in place differs", kernel->name, (unsigned)count);
    }
    free(pairs);
    free(wanted);
    free(out);
}

static void check_lengths(const struct cap_sha256_kernel *kernel)
{
    for (size_t count = 1; count <= 64; count++) {
        check_run(kernel, count, 0, 0);
    }
    for (size_t count = 65; count <= LONG; count = count * 9 / 7) {
        check_run(kernel, count, 0, 0);
    }
    check_run(kernel, LONG, 0, 0);
    kernel->run(NULL, NULL, 0);
}

static void runs_of_every_length(void **state)
{
    (void)state;
    each_kernel(check_lengths);
}

static void check_shifts(const struct cap_sha256_kernel *kernel)
{
    for (size_t shift = 0; shift < SHIFTS; shift++) {
        check_run(kernel, 1 + shift % 37, shift, SHIFTS - 1 - shift);
    }
}

static void at_any_alignment(void **state)
{
    (void)state;
    each_kernel(check_shifts);
}

/* Words of every lane and byte of every word: all zeros, all ones, one bit. */
static void check_patterns(const struct cap_sha256_kernel *kernel)
{
    uint8_t pairs[33 * PAIR];
    uint8_t wanted[33 * NODE];
    uint8_t out[33 * NODE];
    for (size_t bit = 0; bit < PAIR * 8; bit++) {
        memset(pairs, bit % 2 == 0 ? 0 : 0xff, sizeof(pairs));
        for (size_t i = 0; i < 33; i++) {
            pairs[i * PAIR + (bit + i * 8) / 8 % PAIR] ^= (uint8_t)(1u << bit % 8);
        }
        by_sodium(wanted, pairs, 33);
        kernel->run(out, pairs, 33);
        if (memcmp(out, wanted, sizeof(out)) != 0) {
            fail_msg("%s: differs where bit %u is set", kernel->name, (unsigned)bit);
        }
    }
}

static void single_bits(void **state)
{
    (void)state;
    each_kernel(check_patterns);
}

/* A tree reduced level by level in its own memory. */
static void check_halving(const struct cap_sha256_kernel *kernel)
{
    uint8_t *nodes = exactly(LONG * NODE);
    uint8_t *wanted = exactly(LONG * NODE);
    fill(nodes, LONG * NODE, 7);
    memcpy(wanted, nodes, LONG * NODE);
    for (size_t count = LONG; count > 1; count /= 2) {
        kernel->run(nodes, nodes, count / 2);
        by_sodium(wanted, wanted, count / 2);
    }
    assert_memory_equal(nodes, wanted, NODE);
    free(nodes);
    free(wanted);
}

static void halving_in_place(void **state)
{
    (void)state;
    each_kernel(check_halving);
}

static void check_use(const struct cap_sha256_kernel *kernel)
{
    assert_cap_ok(cap_sha256_use_kernel(kernel->name));
    assert_string_equal(cap_sha256_kernel_name(), kernel->name);
}

/* The first that runs and is not behind another is chosen; any that runs can be asked for, no
 * other. */
static void choosing(void **state)
{
    const struct cap_sha256_kernel *first = cap_sha256_kernels;
    const char *chosen = cap_sha256_kernel_name();
    (void)state;
    for (; !first->runs_here() || (first->is_behind != NULL && first->is_behind()); first++) {
        assert_cap_error(cap_sha256_use_kernel(first->name),
                         first->runs_here() ? CAP_OK : CAP_E_NOT_FOUND);
    }
    assert_string_equal(chosen, first->name);
    each_kernel(check_use);
    assert_string_equal(cap_sha256_kernel_name(), "sodium");
    assert_cap_error(cap_sha256_use_kernel(""), CAP_E_INVALID_ARGUMENT);
    assert_cap_error(cap_sha256_use_kernel("sha512"), CAP_E_INVALID_ARGUMENT);
    assert_string_equal(cap_sha256_kernel_name(), "sodium");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_of_every_length),
        cmocka_unit_test(at_any_alignment),
        cmocka_unit_test(single_bits),
        cmocka_unit_test(halving_in_place),
        cmocka_unit_test(choosing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
