/* What the encoder makes of kept roots and nodes is what SLICES.md makes of the pages. */
#include "lib/cap/slice_encode.h"

#include "lib/cap/data_cap.h"
#include "lib/cap/merkle.h"
#include "lib/cap/slice_tree.h"
#include "tests/unit/cap/slice_plain.h"
#include "tests/unit/support.h"

#define PAGE        CAP_PAGE_SIZE
#define RANGES_MOST 8u

static uint64_t state64 = UINT64_C(0x9e3779b97f4a7c15);

/* xorshift64 */
static uint64_t next_random64(void)
{
    state64 ^= state64 << 13;
    state64 ^= state64 >> 7;
    state64 ^= state64 << 17;
    return state64 >> 11;
}

static size_t next_random(void)
{
    return (size_t)next_random64();
}

/* Below `end`; 0 if that is 0. */
static size_t below(size_t end)
{
    return end > 0 ? next_random() % end : 0;
}

static void fill_page(uint8_t page[PAGE])
{
    size_t len = next_random() % 4 == 0 ? PAGE : 1 + next_random() % 40;
    memset(page, 0, PAGE);
    for (size_t i = 0; i < len; i++) {
        page[i] = (uint8_t)(1 + next_random() % 255);
    }
}

/* Data with `runs` runs of up to `longest` pages, strewn over all of it. */
static struct plain_cap random_data(uint64_t pages, size_t runs, size_t longest)
{
    struct plain_cap cap = plain_data(pages * PAGE);
    uint64_t most = pages < UINT64_C(1) << 32 ? pages : UINT64_C(1) << 32;
    uint64_t next = 0;
    uint8_t page[PAGE];
    for (size_t i = 0; i < runs && next < most; i++) {
        uint64_t gap = 2 * (most - next) / (runs - i);
        next += gap > 1 ? next_random64() % gap : 0;
        for (size_t k = 1 + next_random() % longest; k > 0 && next < most; k--) {
            fill_page(page);
            plain_page(&cap, next++, page, PAGE);
        }
    }
    plain_data_end(&cap);
    return cap;
}

static struct plain_cap random_image(size_t len)
{
    uint8_t *code = calloc(len / PAGE + 1, PAGE);
    assert_non_null(code);
    bool zero = false;
    for (size_t i = 0; i < len / PAGE + 1; i++) {
        zero = next_random() % 8 == 0 ? !zero : zero;
        if (!zero) {
            fill_page(code + i * PAGE);
        }
    }
    struct plain_cap cap = plain_image(code, len);
    free(code);
    return cap;
}

static size_t random_ranges(uint64_t pages, struct cap_range *ranges)
{
    size_t count = pages == 0 ? 0 : next_random() % (RANGES_MOST + 1);
    for (size_t i = 0; i < count; i++) {
        ranges[i].first = next_random() % 3 == 0 ? next_random64() % (pages < 300 ? pages : 300)
                                                 : next_random64() % pages;
        uint64_t most = next_random() % 5 == 0 ? pages : 1 + next_random() % 40;
        ranges[i].pages = most < pages - ranges[i].first ? most : pages - ranges[i].first;
    }
    return cap_ranges_merge(ranges, count);
}

/* The slice from a source that is another one at every step, in steps of any room. */
static struct cap_buf encode(struct cap_slice_body *parts, const struct cap_range *ranges,
                             size_t count)
{
    struct cap_slice_encoder *encoder;
    struct cap_buf out = {0};
    assert_cap_ok(cap_slice_encoder_new(&parts->subject, ranges, count, &encoder));
    for (bool done = false; !done;) {
        struct cap_slice_body *moved = malloc(sizeof(*moved));
        assert_non_null(moved);
        *moved = *parts;
        struct cap_slice_source source = cap_slice_body_source(moved);
        size_t room = CAP_SLICE_ROOM + (next_random() % 2 == 0 ? 0 : next_random() % 100000);
        uint8_t *dst = malloc(room);
        size_t len;
        assert_non_null(dst);
        assert_cap_ok(cap_slice_encoder_next(encoder, &source, dst, room, &len, &done));
        assert_true(len <= room);
        assert_cap_ok(cap_buf_append(&out, dst, len));
        free(dst);
        free(moved);
    }
    cap_slice_encoder_free(encoder);
    return out;
}

static void check_slice(const struct plain_cap *cap, struct cap_slice_body *parts,
                        const struct cap_range *ranges, size_t count)
{
    struct cap_buf wanted = plain_slice(cap, ranges, count);
    struct cap_buf got = encode(parts, ranges, count);
    assert_int_equal(got.len, wanted.len);
    assert_memory_equal(got.data, wanted.data, wanted.len);
    size_t most = next_random() % 2 == 0 ? SIZE_MAX : 1 + next_random() % 5000;
    most = got.len < 8192 && next_random() % 4 == 0 ? 1 : most;
    assert_cap_ok(plain_verify(cap, ranges, count, cap_buf_bytes(&got), most));
    cap_buf_free(&wanted);
    cap_buf_free(&got);
}

/* The cap goes. */
static void check_cap(struct plain_cap cap, int rounds)
{
    struct cap_slice_body parts;
    struct cap_range ranges[RANGES_MOST];
    uint64_t pages = cap_slice_page_count(cap.size);
    assert_cap_ok(cap_slice_body_open(cap_buf_bytes(&cap.body), &parts));
    assert_hash_equal(&parts.hash, &cap.hash);
    check_slice(&cap, &parts, NULL, 0);
    if (pages > 0) {
        check_slice(&cap, &parts, &(struct cap_range){0, pages}, 1);
        check_slice(&cap, &parts, &(struct cap_range){0, 1}, 1);
        check_slice(&cap, &parts, &(struct cap_range){pages - 1, 1}, 1);
    }
    for (int i = 0; i < rounds; i++) {
        size_t count = random_ranges(pages, ranges);
        check_slice(&cap, &parts, ranges, count);
    }
    cap_slice_body_free(&parts);
    plain_cap_free(&cap);
}

static void small_data(void **state)
{
    (void)state;
    for (uint64_t pages = 1; pages < 40; pages++) {
        check_cap(random_data(pages, 0, 1), 2);
        check_cap(random_data(pages, 3, 4), 8);
        check_cap(random_data(pages, 1, 40), 8);
    }
}

static void images(void **state)
{
    static const size_t lens[] = {
        0,         1,         PAGE - 1,   PAGE,           PAGE + 1,   17 * PAGE,     33 * PAGE,
        64 * PAGE, 65 * PAGE, 256 * PAGE, 257 * PAGE + 3, 300 * PAGE, 513 * PAGE - 1};
    (void)state;
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        check_cap(random_image(lens[i]), 12);
    }
    uint8_t *zeros = calloc(20, PAGE);
    assert_non_null(zeros);
    check_cap(plain_image(zeros, 20 * PAGE), 8);
    free(zeros);
}

static void dense_data(void **state)
{
    (void)state;
    check_cap(random_data(256, 1, 1000), 8);
    check_cap(random_data(700, 1, 1000), 8);
    check_cap(random_data(700, 30, 40), 8);
    check_cap(random_data(4200, 60, 90), 3);
}

/* Nodes are kept at many levels, or at none. */
static void sparse_data(void **state)
{
    (void)state;
    check_cap(random_data(UINT64_C(1) << 16, 400, 2), 4);
    check_cap(random_data(UINT64_C(1) << 20, 300, 4), 4);
    check_cap(random_data(UINT64_C(1) << 28, 500, 1), 4);
    check_cap(random_data(UINT64_C(1) << 32, 600, 3), 4);
    check_cap(random_data(UINT64_C(1) << 32, 4, 150), 4);
    check_cap(random_data(UINT64_C(1) << 32, 200, 1), 4);
    check_cap(random_data((UINT64_C(1) << 40) + 7, 300, 2), 4);
}

/* As large as a Data cap can claim to be. */
static void huge_data(void **state)
{
    static const uint64_t at[] = {0, 1, 63, 64, 4095, UINT32_MAX};
    uint64_t pages = UINT64_MAX / PAGE;
    (void)state;
    check_cap(random_data(pages, 0, 1), 4);
    for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
        struct plain_cap cap = plain_data(i % 2 == 0 ? pages * PAGE : UINT64_C(1) << 63);
        plain_page(&cap, at[i], (const uint8_t *)"a page", 6);
        plain_data_end(&cap);
        struct cap_slice_body parts;
        assert_cap_ok(cap_slice_body_open(cap_buf_bytes(&cap.body), &parts));
        check_slice(&cap, &parts, &(struct cap_range){at[i], 1}, 1);
        cap_slice_body_free(&parts);
        check_cap(cap, 6);
    }
}

static void of_body(void **state)
{
    (void)state;
    struct plain_cap cap = random_data(50, 5, 5);
    struct cap_range range = {3, 20};
    struct cap_buf wanted = plain_slice(&cap, &range, 1);
    struct cap_buf got = {0};
    assert_cap_ok(cap_slice_of_body(cap_buf_bytes(&cap.body), &range, 1, &got));
    assert_int_equal(got.len, wanted.len);
    assert_memory_equal(got.data, wanted.data, wanted.len);
    range.pages = 48;
    assert_cap_error(cap_slice_of_body(cap_buf_bytes(&cap.body), &range, 1, &got),
                     CAP_E_RANGE_OUT_OF_BODY);
    struct cap_bytes cut = {cap.body.data, cap.body.len - 1};
    assert_cap_error(cap_slice_of_body(cut, NULL, 0, &got), CAP_E_BODY_NOT_CANONICAL);
    assert_cap_error(cap_slice_of_body((struct cap_bytes){0}, NULL, 0, &got),
                     CAP_E_BODY_NOT_CANONICAL);
    cap_buf_free(&wanted);
    cap_buf_free(&got);
    plain_cap_free(&cap);
}

/* --- Sources that fail, and such as lie ------------------------------------------------------- */

/* A source over parts that fails at one call. */
struct failing {
    struct cap_slice_source parts;
    unsigned until;
};

static enum cap_error fail_at(struct failing *failing)
{
    return failing->until-- == 0 ? CAP_E_IO : CAP_OK;
}

static enum cap_error failing_body(void *ctx, uint64_t offset, size_t len, uint8_t *dst)
{
    struct failing *failing = ctx;
    enum cap_error error = fail_at(failing);
    return error == CAP_OK ? failing->parts.body(failing->parts.ctx, offset, len, dst) : error;
}

static enum cap_error failing_roots(void *ctx, uint64_t first, size_t count, struct cap_hash *dst)
{
    struct failing *failing = ctx;
    enum cap_error error = fail_at(failing);
    return error == CAP_OK ? failing->parts.roots(failing->parts.ctx, first, count, dst) : error;
}

static enum cap_error failing_nodes(void *ctx, uint64_t first, size_t count, struct cap_node *dst)
{
    struct failing *failing = ctx;
    enum cap_error error = fail_at(failing);
    return error == CAP_OK ? failing->parts.nodes(failing->parts.ctx, first, count, dst) : error;
}

/* After a failure it goes on where it was. */
static bool fails_and_goes_on(struct cap_slice_body *parts, const struct cap_range *ranges,
                              size_t count, unsigned until, const struct cap_buf *wanted)
{
    struct failing failing = {cap_slice_body_source(parts), until};
    struct cap_slice_source source = {failing_body, failing_roots, failing_nodes, &failing};
    struct cap_slice_encoder *encoder;
    struct cap_buf out = {0};
    bool failed = false;
    uint8_t *dst = malloc(CAP_SLICE_ROOM);
    assert_non_null(dst);
    assert_cap_ok(cap_slice_encoder_new(&parts->subject, ranges, count, &encoder));
    for (bool done = false; !done;) {
        size_t len = 0;
        enum cap_error error =
            cap_slice_encoder_next(encoder, &source, dst, CAP_SLICE_ROOM, &len, &done);
        if (error != CAP_OK) {
            assert_cap_error(error, CAP_E_IO);
            failed = true;
        }
        assert_cap_ok(cap_buf_append(&out, dst, len));
    }
    failed |= failing.until > until; /* an error that came when there was something to give */
    assert_int_equal(out.len, wanted->len);
    assert_memory_equal(out.data, wanted->data, wanted->len);
    cap_slice_encoder_free(encoder);
    cap_buf_free(&out);
    free(dst);
    return failed;
}

static void goes_on_after_failures(void **state)
{
    struct plain_cap caps[] = {random_data(UINT64_C(1) << 28, 500, 2), random_image(300 * PAGE)};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct cap_range ranges[2] = {{caps[i].indexes[3], 40}, {caps[i].indexes[90], 30}};
        struct cap_buf wanted = plain_slice(&caps[i], ranges, 2);
        struct cap_slice_body parts;
        unsigned until = 0;
        assert_cap_ok(cap_slice_body_open(cap_buf_bytes(&caps[i].body), &parts));
        while (fails_and_goes_on(&parts, ranges, 2, until, &wanted)) {
            until++;
        }
        assert_true(until > 8);
        cap_slice_body_free(&parts);
        cap_buf_free(&wanted);
        plain_cap_free(&caps[i]);
    }
}

/* Encodes as far as it goes. */
static enum cap_error encode_damaged(struct cap_slice_body *parts, const struct cap_range *ranges,
                                     size_t count, struct cap_buf *out)
{
    struct cap_slice_source source = cap_slice_body_source(parts);
    struct cap_slice_encoder *encoder;
    enum cap_error error = cap_slice_encoder_new(&parts->subject, ranges, count, &encoder);
    for (bool done = false; error == CAP_OK && !done;) {
        size_t len = 0;
        assert_cap_ok(cap_buf_reserve(out, CAP_SLICE_ROOM));
        error = cap_slice_encoder_next(encoder, &source, out->data + out->len, CAP_SLICE_ROOM, &len,
                                       &done);
        out->len += error == CAP_OK ? len : 0;
    }
    if (error == CAP_OK || error == CAP_E_CORRUPT) {
        cap_slice_encoder_free(encoder);
    }
    return error;
}

/*
 * A damaged store makes no encoder read outside of it, and no wrong slice that is accepted. (The
 * copies are exactly as long as they must be, so that a sanitizer sees more.)
 */
static void survives_damage(void **state)
{
    struct plain_cap cap = random_data(UINT64_C(1) << 26, 500, 2);
    struct cap_slice_body parts;
    struct cap_range ranges[RANGES_MOST];
    size_t refused = 0;
    (void)state;
    assert_cap_ok(cap_slice_body_open(cap_buf_bytes(&cap.body), &parts));
    size_t nodes = (size_t)cap_node_total(&parts.nodes.counts) * sizeof(struct cap_node);
    size_t roots = cap.count * sizeof(struct cap_hash);
    size_t table = CAP_DATA_BODY_FIXED + cap.count * CAP_PAGE_REF_SIZE;
    assert_true(nodes > 0);
    for (int round = 0; round < 400; round++) {
        struct cap_slice_body damaged = parts;
        uint8_t *body = test_exact_copy(parts.body.data, parts.body.len);
        uint8_t *all = test_exact_copy((const uint8_t *)parts.nodes.all, nodes);
        uint8_t *kept = test_exact_copy((const uint8_t *)parts.roots, roots);
        uint8_t flip = (uint8_t)(1u << next_random() % 8);
        switch (next_random() % 3) {
        case 0:
            all[below(nodes)] ^= flip;
            break;
        case 1:
            kept[below(roots)] ^= flip;
            break;
        default:
            body[below(table)] ^= flip;
            break;
        }
        damaged.body.data = body;
        damaged.nodes.all = (struct cap_node *)(void *)all;
        damaged.roots = (struct cap_hash *)(void *)kept;
        struct cap_buf out = {0};
        uint64_t pages = cap_slice_page_count(cap.size);
        size_t count = random_ranges(pages, ranges);
        if (next_random() % 2 == 0) {
            ranges[0] = (struct cap_range){0, pages};
            count = 1;
        }
        enum cap_error error = encode_damaged(&damaged, ranges, count, &out);
        if (error == CAP_OK) {
            error = plain_verify(&cap, ranges, count, cap_buf_bytes(&out), SIZE_MAX);
        } else {
            assert_cap_error(error, CAP_E_CORRUPT);
        }
        refused += error != CAP_OK;
        cap_buf_free(&out);
        free(body);
        free(all);
        free(kept);
    }
    assert_true(refused > 100);
    cap_slice_body_free(&parts);
    plain_cap_free(&cap);
}

static void refuses_subjects(void **state)
{
    static const struct cap_slice_subject sound = {
        .kind = CAP_KIND_DATA, .body_len = 4125, .size = 2 * PAGE, .page_count = 1};
    struct cap_slice_subject subjects[8];
    struct cap_slice_encoder *encoder;
    (void)state;
    for (size_t i = 0; i < 8; i++) {
        subjects[i] = sound;
    }
    subjects[0].kind = 0;
    subjects[1].size = 0;
    subjects[2].size = PAGE + 1;
    subjects[3].page_count = 3;
    subjects[4].body_len = CAP_DATA_BODY_FIXED + CAP_PAGE_REF_SIZE - 1;
    subjects[5].node_counts.of[0] = 1;
    subjects[6] = (struct cap_slice_subject){
        .kind = CAP_KIND_IMAGE, .body_len = UINT32_MAX, .size = CAP_MAX_CODE_SIZE + 1};
    subjects[7] =
        (struct cap_slice_subject){.kind = CAP_KIND_IMAGE, .body_len = 33 + 99, .size = 100};
    for (size_t i = 0; i < 8; i++) {
        assert_cap_error(cap_slice_encoder_new(&subjects[i], NULL, 0, &encoder), CAP_E_CORRUPT);
    }
    struct cap_range ranges[2] = {{0, 1}, {1, 1}};
    assert_cap_error(cap_slice_encoder_new(&sound, ranges, 2, &encoder), CAP_E_INVALID_ARGUMENT);
    ranges[0].pages = 3;
    assert_cap_error(cap_slice_encoder_new(&sound, ranges, 1, &encoder), CAP_E_RANGE_OUT_OF_BODY);
    assert_cap_ok(cap_slice_encoder_new(&sound, NULL, 0, &encoder));
    cap_slice_encoder_free(encoder);
    cap_slice_encoder_free(NULL);
    cap_slice_body_free(NULL);
}

/* --- What it costs ---------------------------------------------------------------------------- */

/* An Image with the longest code, of which only roots, nodes and the structure are there. */
struct longest {
    struct cap_hash *roots;
    struct cap_nodes nodes;
    struct cap_bytes structure; /* a body without code */
    uint64_t hashes;            /* that were read */
    uint64_t code;              /* bytes that were read */
};

#define LONGEST_PAGES (CAP_MAX_CODE_SIZE / PAGE)

static enum cap_error longest_body(void *ctx, uint64_t offset, size_t len, uint8_t *dst)
{
    struct longest *longest = ctx;
    memset(dst, 1, len);
    if (offset == 0) {
        memcpy(dst, longest->structure.data, len);
        for (size_t i = 1; i < 8; i++) {
            uint8_t *at = dst + 1 + 4 * i;
            cap_store32(at, cap_load32(at) + (uint32_t)CAP_MAX_CODE_SIZE);
        }
    } else if (offset < 33 + CAP_MAX_CODE_SIZE) {
        longest->code += len;
    }
    return CAP_OK;
}

static enum cap_error longest_roots(void *ctx, uint64_t first, size_t count, struct cap_hash *dst)
{
    struct longest *longest = ctx;
    assert_true(first + count <= LONGEST_PAGES);
    longest->hashes += count;
    memcpy(dst, longest->roots + first, count * sizeof(*dst));
    return CAP_OK;
}

static enum cap_error longest_nodes(void *ctx, uint64_t first, size_t count, struct cap_node *dst)
{
    struct longest *longest = ctx;
    assert_true(first + count <= cap_node_total(&longest->nodes.counts));
    longest->hashes += count;
    memcpy(dst, longest->nodes.all + first, count * sizeof(*dst));
    return CAP_OK;
}

/* What nodes.h and slice_encode.h promise: one page costs some hashes and nothing of the rest. */
static void one_page_of_many(void **state)
{
    struct cap_node_list list = {0};
    struct cap_tree tree;
    struct longest longest = {.roots = calloc(LONGEST_PAGES, sizeof(*longest.roots))};
    struct plain_cap image = plain_image(NULL, 0);
    (void)state;
    assert_non_null(longest.roots);
    longest.structure = cap_buf_bytes(&image.body);
    cap_tree_init(&tree, CAP_BLOCK_DEPTH);
    tree.ret_nodes = &list;
    for (size_t i = 0; i < LONGEST_PAGES; i++) {
        longest.roots[i] = cap_chunk64(i + 1);
    }
    cap_tree_add_many(&tree, 0, longest.roots, LONGEST_PAGES);
    cap_tree_end_nodes(&tree);
    assert_cap_ok(cap_node_list_finish(&list, &longest.nodes));

    struct cap_slice_source source = {longest_body, longest_roots, longest_nodes, &longest};
    struct cap_slice_subject subject = {.kind = CAP_KIND_IMAGE,
                                        .body_len = image.body.len + CAP_MAX_CODE_SIZE,
                                        .size = CAP_MAX_CODE_SIZE,
                                        .node_counts = longest.nodes.counts};
    struct cap_slice_encoder *encoder;
    static uint8_t dst[CAP_SLICE_ROOM];
    size_t len;
    bool done;
    struct cap_range range = {40000, 1};
    assert_cap_ok(cap_slice_encoder_new(&subject, &range, 1, &encoder));
    assert_cap_ok(cap_slice_encoder_next(encoder, &source, dst, sizeof(dst), &len, &done));
    assert_true(done);
    assert_int_equal(len, 45 + image.rest.len + 4 + 16 + 20 * 64 + 2 + PAGE);
    assert_int_equal(longest.code, PAGE);
    assert_true(longest.hashes <= 150);
    cap_slice_encoder_free(encoder);

    /* The pairs that are hashed for it. */
    struct cap_slice_tree *walked = malloc(sizeof(*walked));
    const struct cap_hash *pair;
    assert_non_null(walked);
    assert_cap_ok(cap_slice_tree_init(walked, &subject));
    assert_cap_ok(cap_slice_tree_begin(walked, &source));
    for (unsigned level = 20; level > 0; level--) {
        assert_cap_ok(cap_slice_tree_children(walked, &source, level, range.first >> level, &pair));
    }
    assert_hash_equal(&pair[0], &longest.roots[40000]);
    assert_true(walked->hashed <= 150);
    free(walked);
    free(longest.roots);
    free(longest.nodes.all);
    plain_cap_free(&image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_data),       cmocka_unit_test(images),
        cmocka_unit_test(dense_data),       cmocka_unit_test(sparse_data),
        cmocka_unit_test(huge_data),        cmocka_unit_test(of_body),
        cmocka_unit_test(survives_damage),  cmocka_unit_test(goes_on_after_failures),
        cmocka_unit_test(refuses_subjects), cmocka_unit_test(one_page_of_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
