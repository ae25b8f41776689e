/*
 * PUT_IMAGE: the head, its judgement, and the caps that come of it.
 *
 * Happy path. The head is gathered in memory, which grows as its bytes arrive. With its first 40
 * bytes its length is known, with the last one rules 0 to 10 are decided: at once when it is short,
 * in a worker when it is long, or when pinned Images are to be looked up before a long arena; bytes
 * of the arena that come meanwhile go to the spool. When the whole upload is there, a worker takes
 * the arena's root, makes the Data cap of every slot, then the Image cap.
 *
 * Failure modes: a rule is broken, a limit exceeded, memory spent: the error refuses the upload.
 * What was made is freed in `release`, however far it got.
 */
#include "daemon/publish/upload.h"

#include <inttypes.h>
#include <stdlib.h>

#include "daemon/core/ledger.h"

#define ARENA_PIECE     (256u << 10)
#define HEAD_FIRST      4096u /* the first step of the head's memory */
#define ENDPOINT_MEMORY 160u  /* heap that one endpoint of an Image cap costs */

/* --- The head
 * ------------------------------------------------------------------------------------- */

/* Makes room for `wanted` bytes of head, doubling, never past the head's length. */
static enum cap_error grow_head(struct upload *upload, size_t wanted)
{
    struct upload_image *image = &upload->of.image;
    size_t capacity = image->head_capacity == 0 ? HEAD_FIRST : image->head_capacity;
    if (wanted <= image->head_capacity) {
        return CAP_OK;
    }
    while (capacity < wanted) {
        capacity *= 2;
    }
    if (image->head_len > 0 && capacity > image->head_len) {
        capacity = image->head_len;
    }
    if (!ledger_memory_hold(upload->request.shard->context->ledger, upload->account, &upload->held,
                            capacity)) {
        return CAP_E_MEMORY_LIMIT;
    }
    uint8_t *head = realloc(image->head, capacity);
    if (head == NULL) {
        return CAP_E_NO_MEMORY;
    }
    image->head = head;
    image->head_capacity = capacity;
    return CAP_OK;
}

/* Moves bytes from *piece to the head until it has `len`. */
static enum cap_error fill_head(struct upload *upload, struct cap_bytes *piece, size_t len)
{
    struct upload_image *image = &upload->of.image;
    size_t missing = len - image->head_filled;
    size_t n = piece->len < missing ? piece->len : missing;
    if (n == 0) {
        return CAP_OK;
    }
    enum cap_error error = grow_head(upload, image->head_filled + n);
    if (error != CAP_OK) {
        return error;
    }
    memcpy(image->head + image->head_filled, piece->data, n);
    image->head_filled += n;
    *piece = cap_bytes_slice(*piece, n, piece->len - n);
    return CAP_OK;
}

/* With the fixed part there: how long the head is, and whether that is allowed. */
static enum cap_error learn_head_len(struct upload *upload)
{
    struct upload_image *image = &upload->of.image;
    const struct cap_bytes front = {image->head, image->head_filled};
    enum cap_error error = cap_wire_image_head_len(front, upload->total_len, &image->head_len);
    if (error != CAP_OK) { /* for its words */
        struct cap_refusal refusal = {.message = ""};
        error = cap_deblob(front, upload->total_len, &image->wire, &refusal);
        snprintf(upload->message, sizeof(upload->message), "%s", refusal.message);
    }
    if (error == CAP_OK && image->head_len > upload->request.shard->context->config.max_structure) {
        snprintf(upload->message, sizeof(upload->message),
                 "the structure takes %zu bytes; the limit is %" PRIu64, image->head_len,
                 upload->request.shard->context->config.max_structure);
        error = CAP_E_STRUCTURE_TOO_LARGE;
    }
    return error;
}

/* Rules 0 to 10, then our own limits. Any thread. */
static enum cap_error judge(struct upload *upload)
{
    struct upload_image *image = &upload->of.image;
    const struct config *config = &upload->request.shard->context->config;
    const struct cap_bytes head = {image->head, image->head_len};
    struct cap_refusal refusal = {.message = ""};
    enum cap_error error = cap_deblob(head, upload->total_len, &image->wire, &refusal);
    if (error != CAP_OK) {
        snprintf(upload->message, sizeof(upload->message), "%s", refusal.message);
        return error;
    }
    if (cap_wire_slot_count(&image->wire) > config->max_slots) {
        snprintf(upload->message, sizeof(upload->message),
                 "the Image has %zu slots; the limit is %" PRIu64,
                 cap_wire_slot_count(&image->wire), config->max_slots);
        return CAP_E_STRUCTURE_TOO_LARGE;
    }
    if (cap_wire_image_data_len(&image->wire) > config->max_data) {
        return CAP_E_DATA_TOO_LARGE;
    }
    return upload_check_memory(upload);
}

/*
 * Whether the head alone tells what rule 11 will find: pinned Images are named by it, and no Data
 * slot can fail, because there is none or its data comes with the upload. Worth a look of its own
 * when much is still to come.
 */
static bool resolves_early(const struct upload *upload)
{
    const struct upload_image *image = &upload->of.image;
    bool resolve_only = (image->flags & PROTO_IMAGE_RESOLVE_ONLY) != 0;
    size_t images = 0;
    size_t count = cap_wire_slot_count(&image->wire);
    if (image->wire.arena_len <= SPOOL_SMALL) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        struct cap_wire_slot slot;
        cap_wire_slot_at(&image->wire, i, &slot);
        images += slot.kind == CAP_KIND_IMAGE ? 1 : 0;
    }
    return images > 0 && (images == count || !resolve_only);
}

/*
 * Lists the caps that slots name and that do not come with the upload, which `own` tells; `hashes`
 * has one for each slot.
 */
static enum cap_error list_needed(struct upload_image *image, const struct cap_hash *hashes,
                                  const bool *own, size_t *ret_count)
{
    size_t count = cap_wire_slot_count(&image->wire);
    size_t needed = 0;
    free(image->needed);
    free(image->needed_slots);
    image->needed = calloc(count + 1, sizeof(*image->needed));
    image->needed_slots = calloc(count + 1, sizeof(*image->needed_slots));
    if (image->needed == NULL || image->needed_slots == NULL) {
        return CAP_E_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        struct cap_wire_slot slot;
        cap_wire_slot_at(&image->wire, i, &slot);
        bool is_image = slot.kind == CAP_KIND_IMAGE;
        if (own == NULL ? is_image : !own[i]) {
            image->needed_slots[needed] = (uint32_t)i;
            image->needed[needed++] = (struct cap_needed){
                .hash = is_image ? slot.content_hash : hashes[i], .kind = slot.kind};
        }
    }
    *ret_count = needed;
    return CAP_OK;
}

/*
 * In a worker. Refuses what cannot be admitted, with the whole list of what is missing; admits
 * nothing: only the look in the transaction that stores the Image does.
 */
static enum cap_error resolve_early(struct upload *upload)
{
    struct upload_image *image = &upload->of.image;
    struct cap_admission *admission = &upload->job.admission;
    *admission = (struct cap_admission){0};
    enum cap_error error = list_needed(image, NULL, NULL, &admission->needed_count);
    admission->needed = image->needed;
    if (error == CAP_OK) {
        error = cap_store_dry_run(upload->request.shard->context->store, admission);
    }
    /* Trouble with the look is left to the one that counts. */
    return error == CAP_OK ? admission->error : CAP_OK;
}

static void run_judge(uv_work_t *work)
{
    struct upload *upload = work->data;
    upload->error = upload->of.image.judged ? CAP_OK : judge(upload);
    if (upload->error == CAP_OK && resolves_early(upload)) {
        upload->error = resolve_early(upload);
    }
}

static void on_judged(uv_work_t *work, int status)
{
    struct upload *upload = work->data;
    (void)status;
    pool_work_done(&upload->request.shard->pool);
    if (!upload_take_back(upload)) {
        return;
    }
    if (upload->error == CAP_E_UNRESOLVED_SLOT) {
        upload_send_unresolved(upload);
    } else if (upload->error != CAP_OK) {
        upload_refuse(upload, upload->error, upload->message[0] == '\0' ? NULL : upload->message);
    } else {
        upload_accepted(upload);
    }
}

/* The head is complete. */
static enum cap_error begin_judging(struct upload *upload)
{
    struct upload_image *image = &upload->of.image;
    enum cap_error error = upload_make_spool(upload, upload->total_len - image->head_len);
    if (error != CAP_OK) {
        return error;
    }
    if (image->head_len <= UPLOAD_JUDGE_INLINE) {
        error = judge(upload);
        if (error != CAP_OK) {
            return error;
        }
        image->judged = true;
        if (!resolves_early(upload)) {
            upload_move(upload, UPLOAD_BODY);
            return CAP_OK;
        }
    }
    upload_move(upload, UPLOAD_JUDGING);
    upload->busy = true;
    upload->judge_work.data = upload;
    pool_work(&upload->request.shard->pool, &upload->judge_work, run_judge, on_judged);
    return CAP_OK;
}

/* Nothing can be said before the head has come, nor how long the arena is. */
static enum cap_error image_begin(struct upload *upload)
{
    (void)upload;
    return CAP_OK;
}

static enum cap_error image_take(struct upload *upload, struct cap_bytes *piece)
{
    struct upload_image *image = &upload->of.image;
    enum cap_error error = CAP_OK;
    if (upload->state != UPLOAD_HEAD) {
        return CAP_OK;
    }
    if (image->head_len == 0) {
        /* An upload shorter than the fixed part is judged by what there is. */
        size_t fixed = upload->total_len < CAP_WIRE_FIXED_SIZE ? (size_t)upload->total_len
                                                               : CAP_WIRE_FIXED_SIZE;
        error = fill_head(upload, piece, fixed);
        if (error != CAP_OK || image->head_filled < fixed) {
            return error;
        }
        error = learn_head_len(upload);
    }
    if (error == CAP_OK) {
        error = fill_head(upload, piece, image->head_len);
    }
    if (error != CAP_OK || image->head_filled < image->head_len) {
        return error;
    }
    return begin_judging(upload);
}

/* --- The caps
 * ------------------------------------------------------------------------------------- */

/* At most so many pages are named by the Image's slots. */
static uint64_t named_pages(const struct cap_wire_image *wire)
{
    uint64_t pages = wire->head.len / CAP_PAGE_REF_SIZE;
    uint64_t named = cap_wire_image_data_len(wire);
    return pages < named ? pages : named;
}

static uint64_t image_hash_memory(const struct upload *upload)
{
    const struct cap_wire_image *wire = &upload->of.image.wire;
    uint64_t slots = cap_wire_slot_count(wire);
    uint64_t per_slot = sizeof(struct cap_hash) + sizeof(bool) + 4 * sizeof(uint32_t) +
                        sizeof(struct upload_data_cap) + sizeof(struct cap_put) +
                        sizeof(struct cap_needed) + sizeof(uint32_t) + sizeof(struct cap_ref) +
                        2 * UPLOAD_PAGE_MEMORY;
    uint64_t pages = named_pages(wire);
    return wire->head.len + wire->endpoints.count * ENDPOINT_MEMORY + slots * per_slot +
           pages * UPLOAD_PAGE_MEMORY + cap_window_memo_size(pages) +
           wire->code_len / CAP_PAGE_SIZE * sizeof(struct cap_hash) + ARENA_PIECE;
}

/* A small upload may name the same bytes again and again. */
static uint64_t image_hash_cost(const struct upload *upload)
{
    return upload->total_len + cap_wire_image_data_len(&upload->of.image.wire);
}

/* Root of the arena, read from the spool in pieces. */
static enum cap_error arena_root(struct upload *upload, const struct cap_source *arena,
                                 struct cap_hash *ret_root)
{
    uint64_t len = upload->of.image.wire.arena_len;
    uint8_t *scratch = malloc(ARENA_PIECE);
    struct cap_byte_tree *tree = malloc(sizeof(*tree));
    enum cap_error error = scratch == NULL || tree == NULL ? CAP_E_NO_MEMORY : CAP_OK;
    if (error == CAP_OK) {
        cap_byte_tree_init(tree);
    }
    for (uint64_t at = 0; error == CAP_OK && at < len;) {
        size_t n = len - at < ARENA_PIECE ? (size_t)(len - at) : ARENA_PIECE;
        const uint8_t *data = NULL;
        error = cap_source_get(arena, at, n, scratch, &data);
        if (error == CAP_OK) {
            cap_byte_tree_update(tree, data, n);
            at += n;
        }
    }
    if (error == CAP_OK) {
        cap_byte_tree_list_root(tree, ret_root);
    }
    free(tree);
    free(scratch);
    return error;
}

/* Finds the first slot with the Data hash of `slot`, or enters `slot` as such. */
static enum cap_error enter_distinct(struct upload_image *image, size_t slot, bool *ret_is_first)
{
    size_t first =
        cap_hash_set_find(&image->distinct, image->slot_hashes, &image->slot_hashes[slot]);
    *ret_is_first = first == CAP_HASH_ABSENT;
    if (first != CAP_HASH_ABSENT) {
        image->own[slot] = image->own[first];
        return CAP_OK;
    }
    image->data_distinct++;
    return cap_hash_set_insert(&image->distinct, image->slot_hashes, slot);
}

/* Makes a slot's Data cap, and keeps it if it may have to be stored. */
static enum cap_error hash_data_slot(struct upload *upload, const struct cap_source *arena,
                                     const struct cap_wire_slot *slot, size_t index)
{
    struct upload_image *image = &upload->of.image;
    struct cap_data data = {0};
    bool is_first = false;
    enum cap_error error = cap_data_from_desc(&slot->desc, arena, UINT64_MAX, image->memo, &data);
    if (error != CAP_OK) {
        return error;
    }
    image->slot_hashes[index] = data.hash;
    bool wanted = (image->flags & PROTO_IMAGE_RESOLVE_ONLY) == 0;
    error = enter_distinct(image, index, &is_first);
    if (error != CAP_OK || !is_first || !wanted) {
        cap_data_free(&data);
        return error;
    }
    image->own[index] = true;
    image->data[image->data_count++] = (struct upload_data_cap){data, upload->spooled};
    return CAP_OK;
}

static enum cap_error hash_slots(struct upload *upload, const struct cap_source *arena)
{
    struct upload_image *image = &upload->of.image;
    size_t count = cap_wire_slot_count(&image->wire);
    for (size_t i = 0; i < count; i++) {
        struct cap_wire_slot slot;
        enum cap_error error = CAP_OK;
        cap_wire_slot_at(&image->wire, i, &slot);
        image->refs[i].tables = slot.table == CAP_TABLE_PINNED ? CAP_REF_PINNED : CAP_REF_INITIAL;
        if (slot.kind == CAP_KIND_IMAGE) {
            image->slot_hashes[i] = slot.content_hash;
        } else {
            error = hash_data_slot(upload, arena, &slot, i);
        }
        if (error != CAP_OK) {
            return error;
        }
        image->refs[i].hash = image->slot_hashes[i];
    }
    return CAP_OK;
}

/* Room for what the slots become: in proportion to slots that are there. */
static enum cap_error make_tables(struct upload *upload)
{
    struct upload_image *image = &upload->of.image;
    size_t count = cap_wire_slot_count(&image->wire);
    image->slot_hashes = calloc(count + 1, sizeof(*image->slot_hashes));
    image->own = calloc(count + 1, sizeof(*image->own));
    image->data = calloc(count + 1, sizeof(*image->data));
    image->refs = calloc(count + 1, sizeof(*image->refs));
    bool made = image->slot_hashes != NULL && image->own != NULL && image->data != NULL &&
                image->refs != NULL;
    return made ? cap_window_memo_new(named_pages(&image->wire), &image->memo) : CAP_E_NO_MEMORY;
}

static enum cap_error read_image_body(void *ctx, uint64_t offset, void *dst, size_t len)
{
    const struct upload_image *image = ctx;
    return cap_body_read(&image->image.body, &image->image_bytes, offset, dst, len);
}

static void fill_image(struct upload *upload, struct cap_put *ret_put)
{
    struct upload_image *image = &upload->of.image;
    *ret_put = (struct cap_put){
        .hash = image->image.hash,
        .info =
            {
                .kind = CAP_KIND_IMAGE,
                .body_len = image->image.body.len,
                .size = image->wire.code_len,
                .publisher = upload->publisher,
                .published_us = env_real_us(upload->request.shard->context->env),
                .has_content_hash = true,
                .content_hash = image->content_hash,
            },
        .body = {.read = read_image_body, .ctx = image},
        .page_roots = image->image.code_roots,
        .refs = image->refs,
        .ref_count = cap_wire_slot_count(&image->wire),
    };
}

/* The admission: what is needed, the Data caps that come along, then the Image. */
static enum cap_error fill_admission(struct upload *upload)
{
    struct upload_image *image = &upload->of.image;
    struct cap_admission *admission = &upload->job.admission;
    *admission = (struct cap_admission){0};
    enum cap_error error =
        list_needed(image, image->slot_hashes, image->own, &admission->needed_count);
    if (error != CAP_OK) {
        return error;
    }
    admission->needed = image->needed;
    admission->puts = calloc(image->data_count + 1, sizeof(*admission->puts));
    if (admission->puts == NULL) {
        return CAP_E_NO_MEMORY;
    }
    for (size_t i = 0; i < image->data_count; i++) {
        upload_fill_data(upload, &image->data[i], &admission->puts[i]);
    }
    fill_image(upload, &admission->puts[image->data_count]);
    admission->put_count = image->data_count + 1;
    return CAP_OK;
}

/* In a worker. */
static enum cap_error image_hash(struct upload *upload)
{
    struct upload_image *image = &upload->of.image;
    struct cap_source arena = upload_hash_source(upload);
    struct cap_hash root;
    enum cap_error error = arena_root(upload, &arena, &root);
    if (error == CAP_OK) {
        cap_wire_image_content_hash(&image->wire, &root, &image->content_hash);
        error = make_tables(upload);
    }
    if (error == CAP_OK) {
        error = hash_slots(upload, &arena);
    }
    cap_window_memo_free(image->memo);
    image->memo = NULL;
    if (error == CAP_OK) {
        error = cap_image_from_wire(&image->wire, image->slot_hashes, &arena, &image->image);
    }
    if (error == CAP_OK) {
        image->image_bytes = upload->spooled;
        error = fill_admission(upload);
    }
    return error;
}

/* --- The answer
 * ----------------------------------------------------------------------------------- */

static void image_reply(struct upload *upload)
{
    const struct upload_image *image = &upload->of.image;
    const struct cap_admission *admission = &upload->job.admission;
    struct cap_buf payload = {0};
    uint32_t data_new = 0;
    for (size_t i = 0; i + 1 < admission->put_count; i++) {
        data_new += admission->puts[i].is_new ? 1 : 0;
    }
    const struct proto_put_image_reply m = {
        .cap_hash = image->image.hash,
        .content_hash = image->content_hash,
        .body_len = image->image.body.len,
        .is_new = admission->puts[admission->put_count - 1].is_new ? 1 : 0,
        .data_new = data_new,
        .data_present = image->data_distinct - data_new,
    };
    enum cap_error encoded = proto_put_image_reply_encode(&m, &payload);
    request_answer(&upload->request, PROTO_PUT_IMAGE_REPLY, encoded, &payload);
}

enum cap_error upload_image_list_missing(const struct upload *upload, struct cap_buf *detail,
                                         uint64_t *held)
{
    const struct upload_image *image = &upload->of.image;
    const struct cap_admission *admission = &upload->job.admission;
    struct ledger *ledger = upload->request.shard->context->ledger;
    uint64_t slots_len = admission->missing_count * sizeof(struct proto_unresolved);
    uint64_t len = 0;
    size_t count = 0;
    if (!ledger_memory_hold(ledger, upload->account, held, slots_len)) {
        return CAP_E_MEMORY_LIMIT;
    }
    struct proto_unresolved *slots = malloc(slots_len);
    if (slots == NULL) {
        return CAP_E_NO_MEMORY;
    }
    for (size_t i = 0; i < admission->needed_count; i++) {
        const struct cap_needed *needed = &admission->needed[i];
        struct cap_wire_slot slot;
        if (needed->missing) {
            cap_wire_slot_at(&image->wire, image->needed_slots[i], &slot);
            slots[count++] = (struct proto_unresolved){
                .table = (uint8_t)slot.table,
                .kind = (uint8_t)slot.kind,
                .cap_hash = needed->hash,
                .slot = slot.key,
            };
        }
    }
    enum cap_error error = proto_unresolved_len(slots, count, &len);
    if (error == CAP_OK && !ledger_memory_hold(ledger, upload->account, held, slots_len + len)) {
        error = CAP_E_MEMORY_LIMIT;
    }
    if (error == CAP_OK) {
        error = proto_unresolved_encode(slots, count, detail);
    }
    free(slots);
    return error;
}

static void image_release(struct upload *upload)
{
    struct upload_image *image = &upload->of.image;
    for (size_t i = 0; i < image->data_count; i++) {
        cap_data_free(&image->data[i].data);
    }
    cap_image_free(&image->image);
    free(image->head);
    free(image->slot_hashes);
    free(image->own);
    cap_hash_set_free(&image->distinct);
    cap_window_memo_free(image->memo);
    free(image->data);
    free(image->refs);
    free(image->needed);
    free(image->needed_slots);
    *image = (struct upload_image){.flags = image->flags};
}

const struct upload_kind upload_image_kind = {
    .begin = image_begin,
    .take = image_take,
    .hash_memory = image_hash_memory,
    .hash_cost = image_hash_cost,
    .hash = image_hash,
    .reply = image_reply,
    .release = image_release,
};
