/*
 * lib/cap's side of the differential test of slices: reads requests from standard input, answers
 * each on standard output. Integers are little-endian, `code` is that of an error or 0, and `bytes`
 * are a u32 length and as many bytes.
 *
 *     'w' upload: bytes        the caps that a wire Image makes: code, count: u32, bodies: bytes
 *     'e' body: bytes, ranges  the slice: code, hash: 32 bytes, slice: bytes
 *     'v' hash: 32 bytes, ranges, piece: u32, slice: bytes
 *                              the verdict: code, level: u32, index: u64, given: bytes
 *
 * `ranges` are count: u32 (of 'v', UINT32_MAX for any) and first, pages: u64 of each. The slice
 * arrives in pieces of `piece` bytes. `given` is what was proven, in order: 'P', first: u64 and the
 * page of each page, and 'Z', first, count: u64 of zeros, those side by side as one.
 */
#include <stdio.h>
#include <stdlib.h>

#include "lib/cap/slice_encode.h"
#include "lib/cap/slice_verify.h"
#include "tests/conformance/made.h"

#define BYTES_MAX  (64u << 20)
#define RANGES_MAX 4096u

static void fail(const char *what)
{
    fprintf(stderr, "oracle: %s\n", what);
    exit(1);
}

static void check(enum cap_error error)
{
    if (error != CAP_OK) {
        fail(cap_error_name(error));
    }
}

static void take(void *dst, size_t len)
{
    if (fread(dst, 1, len, stdin) != len) {
        fail("the request ends too early");
    }
}

static uint32_t take32(void)
{
    uint8_t bytes[4];
    take(bytes, sizeof(bytes));
    return cap_load32(bytes);
}

static uint64_t take64(void)
{
    uint8_t bytes[8];
    take(bytes, sizeof(bytes));
    return cap_load64(bytes);
}

/* The caller frees them. */
static struct cap_buf take_bytes(void)
{
    struct cap_buf bytes = {0};
    uint32_t len = take32();
    if (len > BYTES_MAX) {
        fail("too many bytes");
    }
    check(cap_buf_append_zeros(&bytes, len));
    take(bytes.data, len);
    return bytes;
}

/* Returns how many, or UINT32_MAX for any. */
static uint32_t take_ranges(struct cap_range ranges[RANGES_MAX])
{
    uint32_t count = take32();
    if (count != UINT32_MAX && count > RANGES_MAX) {
        fail("too many ranges");
    }
    for (uint32_t i = 0; count != UINT32_MAX && i < count; i++) {
        ranges[i].first = take64();
        ranges[i].pages = take64();
    }
    return count;
}

static void put(const void *bytes, size_t len)
{
    if (len > 0 && fwrite(bytes, 1, len, stdout) != len) {
        fail("cannot write");
    }
}

static void put32(uint32_t value)
{
    uint8_t bytes[4];
    cap_store32(bytes, value);
    put(bytes, sizeof(bytes));
}

static void put_bytes(struct cap_bytes bytes)
{
    put32((uint32_t)bytes.len);
    put(bytes.data, bytes.len);
}

static void put_code(enum cap_error error)
{
    put32((uint32_t) - (int)error);
}

/* --- 'w' -------------------------------------------------------------------------------------- */

struct bodies {
    uint32_t count;
    struct cap_buf all; /* each with its length */
};

static void add_body(void *ctx, struct cap_bytes body, const struct cap_hash *hash)
{
    struct bodies *bodies = ctx;
    (void)hash;
    bodies->count++;
    check(cap_buf_append32(&bodies->all, (uint32_t)body.len));
    check(cap_buf_append(&bodies->all, body.data, body.len));
}

static void answer_wire(void)
{
    struct bodies bodies = {0};
    struct cap_buf upload = take_bytes();
    put_code(made_caps(cap_buf_bytes(&upload), add_body, &bodies));
    put32(bodies.count);
    put(bodies.all.data, bodies.all.len);
    cap_buf_free(&bodies.all);
    cap_buf_free(&upload);
}

/* --- 'e' -------------------------------------------------------------------------------------- */

static void answer_encode(struct cap_range ranges[RANGES_MAX])
{
    struct cap_buf slice = {0};
    struct cap_slice_body parts = {0};
    struct cap_buf body = take_bytes();
    uint32_t count = take_ranges(ranges);
    enum cap_error error = cap_slice_body_open(cap_buf_bytes(&body), &parts);
    if (error == CAP_OK) {
        error = cap_slice_of_body(cap_buf_bytes(&body), ranges, count, &slice);
    }
    put_code(error);
    put(&parts.hash, sizeof(parts.hash));
    put_bytes(cap_buf_bytes(&slice));
    cap_slice_body_free(&parts);
    cap_buf_free(&slice);
    cap_buf_free(&body);
}

/* --- 'v' -------------------------------------------------------------------------------------- */

struct given {
    struct cap_buf bytes;
    uint64_t zeros_first; /* that are not in `bytes` yet */
    uint64_t zeros;
};

static void flush_zeros(struct given *given)
{
    if (given->zeros > 0) {
        check(cap_buf_append8(&given->bytes, 'Z'));
        check(cap_buf_append64(&given->bytes, given->zeros_first));
        check(cap_buf_append64(&given->bytes, given->zeros));
    }
    given->zeros = 0;
}

static enum cap_error give_pages(void *ctx, uint64_t first, size_t count, const uint8_t *bytes)
{
    struct given *given = ctx;
    flush_zeros(given);
    for (size_t i = 0; i < count; i++) {
        check(cap_buf_append8(&given->bytes, 'P'));
        check(cap_buf_append64(&given->bytes, first + i));
        check(cap_buf_append(&given->bytes, bytes + i * CAP_PAGE_SIZE, CAP_PAGE_SIZE));
    }
    return CAP_OK;
}

static enum cap_error give_zeros(void *ctx, uint64_t first, uint64_t count)
{
    struct given *given = ctx;
    if (given->zeros > 0 && given->zeros_first + given->zeros != first) {
        flush_zeros(given);
    }
    if (given->zeros == 0) {
        given->zeros_first = first;
    }
    given->zeros += count;
    return CAP_OK;
}

static void answer_verify(struct cap_range ranges[RANGES_MAX])
{
    struct given given = {0};
    struct cap_slice_sink sink = {.pages = give_pages, .zeros = give_zeros, .ctx = &given};
    struct cap_slice_verifier *verifier;
    struct cap_hash hash;
    take(&hash, sizeof(hash));
    uint32_t count = take_ranges(ranges);
    uint32_t piece = take32();
    struct cap_buf slice = take_bytes();
    check(cap_slice_verifier_new(&hash, count == UINT32_MAX ? NULL : ranges, count,
                                 CAP_SLICE_STRUCTURE, &sink, &verifier));
    enum cap_error error = CAP_OK;
    for (size_t at = 0; error == CAP_OK && at < slice.len;) {
        size_t len = piece > 0 && piece < slice.len - at ? piece : slice.len - at;
        error = cap_slice_verifier_take(verifier, (struct cap_bytes){slice.data + at, len});
        at += len;
    }
    if (error == CAP_OK) {
        error = cap_slice_verifier_finish(verifier);
    }
    struct cap_slice_where where = cap_slice_verifier_where(verifier);
    uint8_t index[8];
    flush_zeros(&given);
    put_code(error);
    put32(where.level);
    cap_store64(index, where.index);
    put(index, sizeof(index));
    put_bytes(cap_buf_bytes(&given.bytes));
    cap_slice_verifier_free(verifier);
    cap_buf_free(&given.bytes);
    cap_buf_free(&slice);
}

int main(void)
{
    static struct cap_range ranges[RANGES_MAX];
    for (int op = getchar(); op != EOF; op = getchar()) {
        if (op == 'w') {
            answer_wire();
        } else if (op == 'e') {
            answer_encode(ranges);
        } else if (op == 'v') {
            answer_verify(ranges);
        } else {
            fail("no such request");
        }
        if (fflush(stdout) != 0) {
            fail("cannot write");
        }
    }
    return 0;
}
