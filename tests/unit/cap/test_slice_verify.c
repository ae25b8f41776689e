/* A verifier accepts the one encoding of a slice, in any pieces, and nothing else. */
#include "lib/cap/slice_verify.h"

#include "lib/cap/merkle.h"
#include "tests/unit/cap/slice_plain.h"
#include "tests/unit/support.h"

#define PAGE       CAP_PAGE_SIZE
#define DATA_HEAD  41u
#define IMAGE_HEAD 45u

/* Pages of which some are zero and some are short. */
static void fill(uint8_t *content, size_t pages)
{
    memset(content, 0, pages * PAGE);
    for (size_t i = 0; i < pages; i++) {
        if (i % 5 == 3) {
            continue;
        }
        size_t len = i % 7 == 2 ? PAGE : 3 + i % 11;
        for (size_t k = 0; k < len; k++) {
            content[i * PAGE + k] = (uint8_t)(1 + (i * 31 + k) % 255);
        }
    }
}

static struct plain_cap make_data(uint64_t pages, size_t count)
{
    uint8_t *content = calloc(count, PAGE);
    struct plain_cap cap = plain_data(pages * PAGE);
    assert_non_null(content);
    fill(content, count);
    for (size_t i = 0; i < count; i++) {
        plain_page(&cap, i, content + i * PAGE, PAGE);
    }
    plain_data_end(&cap);
    free(content);
    return cap;
}

static struct plain_cap make_image(size_t len)
{
    uint8_t *code = calloc(len / PAGE + 1, PAGE);
    assert_non_null(code);
    fill(code, len / PAGE + 1);
    struct plain_cap cap = plain_image(code, len);
    free(code);
    return cap;
}

/* A cap and one slice of it. */
struct sample {
    struct plain_cap cap;
    struct cap_range ranges[4]; /* one more than is used */
    size_t count;
    struct cap_buf slice;
};

#define SAMPLES 6u

static void make_samples(struct sample samples[SAMPLES])
{
    samples[0] = (struct sample){.cap = make_data(40, 33), .ranges = {{1, 1}, {4, 2}}, .count = 2};
    samples[1] =
        (struct sample){.cap = make_data(UINT64_C(1) << 51, 4), .ranges = {{0, 2}}, .count = 1};
    samples[2] = (struct sample){
        .cap = make_data(35, 35), .ranges = {{0, 2}, {16, 16}, {34, 1}}, .count = 3};
    samples[3] = (struct sample){.cap = make_image(2 * PAGE + 9), .ranges = {{1, 2}}, .count = 1};
    samples[4] = (struct sample){.cap = make_image(0)};
    samples[5] = (struct sample){.cap = make_data(7, 7), .count = 0};
    for (size_t i = 0; i < SAMPLES; i++) {
        samples[i].slice = plain_slice(&samples[i].cap, samples[i].ranges, samples[i].count);
    }
}

static void free_samples(struct sample samples[SAMPLES])
{
    for (size_t i = 0; i < SAMPLES; i++) {
        plain_cap_free(&samples[i].cap);
        cap_buf_free(&samples[i].slice);
    }
}

static enum cap_error verify(const struct sample *sample, struct cap_bytes slice, size_t most)
{
    return plain_verify(&sample->cap, sample->ranges, sample->count, slice, most);
}

static void takes_any_pieces(void **state)
{
    struct sample samples[SAMPLES];
    (void)state;
    make_samples(samples);
    for (size_t i = 0; i < SAMPLES; i++) {
        struct cap_bytes slice = cap_buf_bytes(&samples[i].slice);
        for (size_t most = 1; most < 70; most++) {
            assert_cap_ok(verify(&samples[i], slice, most));
        }
        assert_cap_ok(verify(&samples[i], slice, 4096));
        assert_cap_ok(verify(&samples[i], slice, SIZE_MAX));
    }
    free_samples(samples);
}

static void refuses_flipped_bits(void **state)
{
    struct sample samples[SAMPLES];
    (void)state;
    make_samples(samples);
    for (size_t i = 0; i < SAMPLES; i++) {
        struct cap_buf *slice = &samples[i].slice;
        size_t step = slice->len > 3000 ? 7 : 1;
        for (size_t bit = 0; bit < 8 * slice->len; bit += step) {
            slice->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
            enum cap_error error = verify(&samples[i], cap_buf_bytes(slice), SIZE_MAX);
            assert_true(error == CAP_E_SLICE_MISMATCH || error == CAP_E_SLICE_MALFORMED ||
                        error == CAP_E_STRUCTURE_TOO_LARGE);
            slice->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
    free_samples(samples);
}

static void refuses_other_lengths(void **state)
{
    struct sample samples[SAMPLES];
    (void)state;
    make_samples(samples);
    for (size_t i = 0; i < SAMPLES; i++) {
        struct cap_buf *slice = &samples[i].slice;
        for (size_t len = 0; len < slice->len; len++) {
            struct cap_bytes cut = {slice->data, len};
            assert_cap_error(verify(&samples[i], cut, SIZE_MAX), CAP_E_SLICE_MALFORMED);
        }
        assert_cap_ok(cap_buf_append8(slice, 0));
        assert_cap_error(verify(&samples[i], cap_buf_bytes(slice), SIZE_MAX),
                         CAP_E_SLICE_MALFORMED);
        assert_cap_error(verify(&samples[i], cap_buf_bytes(slice), 1), CAP_E_SLICE_MALFORMED);
    }
    free_samples(samples);
}

static void refuses_other_caps_and_ranges(void **state)
{
    struct sample samples[SAMPLES];
    (void)state;
    make_samples(samples);
    for (size_t i = 0; i < SAMPLES; i++) {
        struct cap_bytes slice = cap_buf_bytes(&samples[i].slice);
        struct sample other = samples[i];
        other.cap.hash.bytes[31] ^= 1;
        assert_cap_error(verify(&other, slice, SIZE_MAX), CAP_E_SLICE_MISMATCH);
        other = samples[i];
        other.ranges[other.count++] = (struct cap_range){500, 1};
        assert_cap_error(verify(&other, slice, SIZE_MAX), CAP_E_SLICE_MALFORMED);
        other = samples[i];
        if (other.count > 0) {
            other.ranges[0].pages++;
            assert_cap_error(verify(&other, slice, SIZE_MAX), CAP_E_SLICE_MALFORMED);
            other.count = 0;
            assert_cap_error(verify(&other, slice, SIZE_MAX), CAP_E_SLICE_MALFORMED);
        }
    }
    free_samples(samples);
}

/* --- Slices whose hashes are right, and which are wrong all the same -------------------------- */

/* Takes a slice with whatever ranges it states; what it fails with, and where. */
static enum cap_error take_any(const struct cap_hash *hash, struct cap_bytes slice,
                               uint64_t max_structure, struct cap_slice_where *ret_where)
{
    struct cap_slice_sink none = {0};
    struct cap_slice_verifier *verifier;
    assert_cap_ok(cap_slice_verifier_new(hash, NULL, 0, max_structure, &none, &verifier));
    enum cap_error error = cap_slice_verifier_take(verifier, slice);
    if (error == CAP_OK) {
        error = cap_slice_verifier_finish(verifier);
    }
    *ret_where = cap_slice_verifier_where(verifier);
    cap_slice_verifier_free(verifier);
    return error;
}

static void assert_malformed(const struct cap_hash *hash, const struct cap_buf *slice, size_t at)
{
    struct cap_slice_where where;
    assert_cap_error(take_any(hash, cap_buf_bytes(slice), CAP_SLICE_STRUCTURE, &where),
                     CAP_E_SLICE_MALFORMED);
    assert_int_equal(where.offset, at);
}

static void assert_mismatch(const struct cap_hash *hash, const struct cap_buf *slice,
                            struct cap_slice_where wanted)
{
    struct cap_slice_where where;
    assert_cap_error(take_any(hash, cap_buf_bytes(slice), CAP_SLICE_STRUCTURE, &where),
                     CAP_E_SLICE_MISMATCH);
    assert_int_equal(where.offset, wanted.offset);
    assert_int_equal(where.level, wanted.level);
    assert_int_equal(where.index, wanted.index);
}

static void replace(struct cap_buf *slice, size_t at, size_t len, const void *with, size_t with_len)
{
    struct cap_buf made = {0};
    assert_cap_ok(cap_buf_append(&made, slice->data, at));
    assert_cap_ok(cap_buf_append(&made, with, with_len));
    assert_cap_ok(cap_buf_append(&made, slice->data + at + len, slice->len - at - len));
    cap_buf_free(slice);
    *slice = made;
}

/* What CapHash the head of a Data slice would be right for. */
static struct cap_hash data_hash(const struct cap_buf *slice)
{
    struct cap_hash size = cap_chunk64(cap_load64(slice->data + 1));
    struct cap_hash root;
    memcpy(&root, slice->data + 9, sizeof(root));
    cap_hash_pair(&size, &root, &root);
    cap_mix_in(&root, CAP_KIND_DATA, &root);
    return root;
}

static void says_where(void **state)
{
    struct plain_cap cap = make_data(33, 33);
    struct cap_range ranges[] = {{0, 1}, {16, 16}};
    struct cap_buf slice = plain_slice(&cap, ranges, 2);
    size_t nodes = DATA_HEAD + 4 + 32;
    size_t page = nodes + 6 * 64; /* of levels 6 to 1 */
    size_t group = page + 2 + cap_load16(slice.data + page);
    struct cap_slice_where whole;
    (void)state;
    assert_cap_ok(take_any(&cap.hash, cap_buf_bytes(&slice), 100, &whole));
    slice.data[20] ^= 1;
    assert_mismatch(&cap.hash, &slice, (struct cap_slice_where){0, 7, 0});
    slice.data[20] ^= 1;
    slice.data[nodes + 5] ^= 1;
    assert_mismatch(&cap.hash, &slice, (struct cap_slice_where){nodes, 6, 0});
    slice.data[nodes + 5] ^= 1;
    slice.data[nodes + 2 * 64] ^= 1;
    assert_mismatch(&cap.hash, &slice, (struct cap_slice_where){nodes + 2 * 64, 4, 0});
    slice.data[nodes + 2 * 64] ^= 1;
    slice.data[page + 3] ^= 1;
    assert_mismatch(&cap.hash, &slice, (struct cap_slice_where){page, 0, 0});
    slice.data[page + 3] ^= 1;
    slice.data[group + 2] ^= 1;
    assert_mismatch(&cap.hash, &slice, (struct cap_slice_where){group, 4, 1});
    slice.data[group + 2] ^= 1;
    slice.len--;
    assert_malformed(&cap.hash, &slice, slice.len);
    slice.len++;
    slice.data[DATA_HEAD + 3] = 0xff;
    struct cap_slice_where where;
    assert_cap_error(take_any(&cap.hash, cap_buf_bytes(&slice), CAP_SLICE_STRUCTURE, &where),
                     CAP_E_STRUCTURE_TOO_LARGE);
    cap_buf_free(&slice);
    plain_cap_free(&cap);
}

static void refuses_pages_not_cut(void **state)
{
    static const uint8_t longer[] = {4, 0};
    static const uint8_t too_long[] = {1, 16};
    struct plain_cap cap = make_data(1, 1);
    struct cap_range range = {0, 1};
    struct cap_buf slice = plain_slice(&cap, &range, 1);
    size_t page = DATA_HEAD + 4 + 16;
    (void)state;
    assert_int_equal(cap_load16(slice.data + page), 3);
    replace(&slice, page, 2, longer, 2);
    replace(&slice, slice.len, 0, "", 1);
    assert_malformed(&cap.hash, &slice, slice.len - 1);
    replace(&slice, page, 2, too_long, 2);
    assert_malformed(&cap.hash, &slice, page);
    cap_buf_free(&slice);
    plain_cap_free(&cap);
}

static void refuses_ranges_not_canonical(void **state)
{
    struct cap_range wrong[][2] = {
        {{0, 1}, {1, 1}}, {{0, 0}, {0, 2}}, {{0, 2}, {7, 0}}, {{0, 2}, {0, 2}},
        {{1, 1}, {0, 1}}, {{0, 2}, {7, 1}}, {{0, 2}, {6, 2}}, {{0, 2}, {UINT64_MAX, 2}},
    };
    struct plain_cap cap = make_data(7, 2);
    struct cap_range range = {0, 2};
    struct cap_buf slice = plain_slice(&cap, &range, 1);
    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct cap_buf other = {0};
        assert_cap_ok(cap_buf_append(&other, slice.data, slice.len));
        uint8_t bytes[36] = {2};
        for (size_t k = 0; k < 2; k++) {
            cap_store64(bytes + 4 + 16 * k, wrong[i][k].first);
            cap_store64(bytes + 12 + 16 * k, wrong[i][k].pages);
        }
        replace(&other, DATA_HEAD, 20, bytes, sizeof(bytes));
        assert_malformed(&cap.hash, &other, DATA_HEAD + 4 + (i == 1 ? 0 : 16));
        cap_buf_free(&other);
    }
    cap_buf_free(&slice);
    plain_cap_free(&cap);
}

static void refuses_sizes(void **state)
{
    static const uint64_t sizes[] = {0, 1, 7 * PAGE + 1, UINT64_MAX};
    struct plain_cap cap = make_data(7, 2);
    struct cap_buf slice = plain_slice(&cap, NULL, 0);
    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        cap_store64(slice.data + 1, sizes[i]);
        struct cap_hash hash = data_hash(&slice);
        assert_malformed(&hash, &slice, 1);
    }
    slice.data[0] = 3;
    assert_malformed(&cap.hash, &slice, 0);
    slice.data[0] = 0;
    assert_malformed(&cap.hash, &slice, 0);
    cap_buf_free(&slice);
    plain_cap_free(&cap);
}

/* No cap has a tree with something past its last page, even if the hashes are right. */
static void refuses_pages_past_the_end(void **state)
{
    struct plain_cap cap = make_data(8, 8);
    struct cap_range range = {4, 1};
    struct cap_buf slice = plain_slice(&cap, &range, 1);
    (void)state;
    cap_store64(slice.data + 1, 5 * PAGE);
    struct cap_hash hash = data_hash(&slice);
    /* All of pages 4 to 7 that is not past the end is in the range: one group, of one page. */
    replace(&slice, DATA_HEAD + 20 + 64, 2 * 64, "", 0);
    assert_mismatch(&hash, &slice, (struct cap_slice_where){DATA_HEAD + 20 + 64, 2, 1});
    cap_buf_free(&slice);
    plain_cap_free(&cap);

    cap = make_data(64, 64);
    range = (struct cap_range){32, 1};
    slice = plain_slice(&cap, &range, 1);
    cap_store64(slice.data + 1, 34 * PAGE);
    hash = data_hash(&slice);
    /* Pages 48 to 63 are past the end, and the right child of 32 to 63. */
    assert_mismatch(&hash, &slice, (struct cap_slice_where){DATA_HEAD + 20 + 64 + 32, 4, 3});
    cap_buf_free(&slice);
    plain_cap_free(&cap);
}

/* What CapHash the head of an Image slice, with the structure that the Image has, is right for. */
static struct cap_hash image_hash(const struct plain_cap *cap, const struct cap_buf *slice)
{
    struct cap_buf structure = {0};
    struct cap_image_view view;
    struct cap_hash root;
    assert_cap_ok(cap_buf_append8(&structure, CAP_KIND_IMAGE));
    assert_cap_ok(cap_buf_append(&structure, cap->rest.data, cap->rest.len));
    assert_cap_ok(cap_image_view_decode(cap_buf_bytes(&structure), &view));
    memcpy(&root, slice->data + 9, sizeof(root));
    cap_mix_in(&root, cap_load64(slice->data + 1), &root);
    cap_image_parts_hash(&view, &root, &root);
    cap_buf_free(&structure);
    return root;
}

static void refuses_code_past_its_end(void **state)
{
    struct plain_cap cap = make_image(PAGE + 4);
    struct cap_range range = {1, 1};
    struct cap_buf slice = plain_slice(&cap, &range, 1);
    struct cap_slice_where where;
    (void)state;
    size_t page = slice.len - 2 - cap_load16(slice.data + slice.len - 2 - 4);
    assert_int_equal(cap_load16(slice.data + page), 4);
    cap_store64(slice.data + 1, PAGE + 3);
    struct cap_hash hash = image_hash(&cap, &slice);
    assert_malformed(&hash, &slice, page);
    cap_store64(slice.data + 1, PAGE + 5);
    hash = image_hash(&cap, &slice);
    assert_cap_ok(take_any(&hash, cap_buf_bytes(&slice), CAP_SLICE_STRUCTURE, &where));

    /* No code, and a tree that is not empty. */
    cap_store64(slice.data + 1, 0);
    hash = image_hash(&cap, &slice);
    assert_mismatch(&hash, &slice, (struct cap_slice_where){9, 20, 0});
    cap_store64(slice.data + 1, CAP_MAX_CODE_SIZE + 1);
    hash = image_hash(&cap, &slice);
    assert_malformed(&hash, &slice, 1);
    cap_buf_free(&slice);
    plain_cap_free(&cap);
}

static void refuses_structures(void **state)
{
    struct plain_cap cap = make_image(7);
    struct cap_buf sound = plain_slice(&cap, NULL, 0);
    struct cap_slice_where where;
    (void)state;
    assert_cap_ok(take_any(&cap.hash, cap_buf_bytes(&sound), cap.rest.len, &where));
    assert_cap_error(take_any(&cap.hash, cap_buf_bytes(&sound), cap.rest.len - 1, &where),
                     CAP_E_STRUCTURE_TOO_LARGE);

    /* With code the fields have the same roots, since the code's is not taken from there. */
    struct cap_buf slice = {0};
    assert_cap_ok(cap_buf_append(&slice, sound.data, sound.len));
    for (size_t i = 1; i < 8; i++) {
        uint8_t *at = slice.data + IMAGE_HEAD + 4 * i;
        cap_store32(at, cap_load32(at) + 1);
    }
    replace(&slice, IMAGE_HEAD + 32, 0, "x", 1);
    cap_store32(slice.data + DATA_HEAD, (uint32_t)cap.rest.len + 1);
    assert_malformed(&cap.hash, &slice, IMAGE_HEAD);
    cap_buf_free(&slice);

    /* One byte more at the end, one less, none. */
    assert_cap_ok(cap_buf_append(&slice, sound.data, sound.len));
    replace(&slice, IMAGE_HEAD + cap.rest.len, 0, "", 1);
    cap_store32(slice.data + DATA_HEAD, (uint32_t)cap.rest.len + 1);
    assert_malformed(&cap.hash, &slice, IMAGE_HEAD);
    cap_store32(slice.data + DATA_HEAD, (uint32_t)cap.rest.len - 1);
    assert_malformed(&cap.hash, &slice, IMAGE_HEAD);
    cap_store32(slice.data + DATA_HEAD, 0);
    assert_malformed(&cap.hash, &slice, IMAGE_HEAD);
    cap_store32(slice.data + DATA_HEAD, UINT32_MAX);
    assert_cap_error(take_any(&cap.hash, cap_buf_bytes(&slice), CAP_SLICE_STRUCTURE, &where),
                     CAP_E_STRUCTURE_TOO_LARGE);
    cap_buf_free(&slice);
    cap_buf_free(&sound);
    plain_cap_free(&cap);
}

/* --- The sink --------------------------------------------------------------------------------- */

static enum cap_error refuse_head(void *ctx, const struct cap_slice_head *head)
{
    (void)head;
    return *(unsigned *)ctx == 0 ? CAP_E_DISK_FULL : CAP_OK;
}

static enum cap_error refuse_pages(void *ctx, uint64_t first, size_t count, const uint8_t *bytes)
{
    (void)first;
    (void)count;
    (void)bytes;
    return *(unsigned *)ctx == 1 ? CAP_E_DISK_FULL : CAP_OK;
}

static enum cap_error refuse_zeros(void *ctx, uint64_t first, uint64_t count)
{
    (void)first;
    (void)count;
    return *(unsigned *)ctx == 2 ? CAP_E_DISK_FULL : CAP_OK;
}

static enum cap_error refuse_pair(void *ctx, unsigned level, uint64_t index,
                                  const struct cap_hash children[2])
{
    (void)level;
    (void)index;
    (void)children;
    return *(unsigned *)ctx == 3 ? CAP_E_DISK_FULL : CAP_OK;
}

static void fails_as_the_sink(void **state)
{
    struct plain_cap cap = make_data(200, 3);
    struct cap_range range = {0, 100};
    struct cap_buf slice = plain_slice(&cap, &range, 1);
    (void)state;
    for (unsigned which = 0; which < 5; which++) {
        struct cap_slice_sink sink = {refuse_head, refuse_pages, refuse_zeros, refuse_pair, &which};
        struct cap_slice_verifier *verifier;
        assert_cap_ok(cap_slice_verifier_new(&cap.hash, &range, 1, 0, &sink, &verifier));
        assert_cap_error(cap_slice_verifier_take(verifier, cap_buf_bytes(&slice)),
                         which < 4 ? CAP_E_DISK_FULL : CAP_OK);
        assert_int_equal(cap_slice_verifier_finish(verifier) == CAP_OK, which == 4);
        cap_slice_verifier_free(verifier);
    }
    cap_slice_verifier_free(NULL);
    cap_buf_free(&slice);
    plain_cap_free(&cap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_any_pieces),
        cmocka_unit_test(refuses_flipped_bits),
        cmocka_unit_test(refuses_other_lengths),
        cmocka_unit_test(refuses_other_caps_and_ranges),
        cmocka_unit_test(says_where),
        cmocka_unit_test(refuses_pages_not_cut),
        cmocka_unit_test(refuses_ranges_not_canonical),
        cmocka_unit_test(refuses_sizes),
        cmocka_unit_test(refuses_pages_past_the_end),
        cmocka_unit_test(refuses_code_past_its_end),
        cmocka_unit_test(refuses_structures),
        cmocka_unit_test(fails_as_the_sink),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
