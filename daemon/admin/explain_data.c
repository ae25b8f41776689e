/*
 * Walks a Data body's page references in windows and joins neighbours to runs. Only the runs that
 * are shown become JSON; the others are counted.
 */
#include "daemon/admin/explain_data.h"

#include "daemon/admin/body_reader.h"
#include "daemon/admin/value.h"
#include "lib/cap/data_cap.h"

#define REFS_PER_WINDOW 4096u

struct runs {
    const struct admin_page *page;
    json_t *shown;
    uint64_t count;
    bool open;
    uint64_t first; /* page indexes of the run that is open */
    uint64_t next;
    uint64_t window_bytes; /* sum of the windows' lengths, shared ones counted each time */
};

static enum cap_error end_run(struct runs *runs)
{
    if (!runs->open) {
        return CAP_OK;
    }
    runs->open = false;
    uint64_t index = runs->count++;
    if (index < runs->page->offset || index - runs->page->offset >= runs->page->limit) {
        return CAP_OK;
    }
    json_t *run =
        json_pack("{s:o, s:o, s:o}", "start", admin_value_address(runs->first * CAP_PAGE_SIZE),
                  "size", admin_value_u64((runs->next - runs->first) * CAP_PAGE_SIZE), "pages",
                  admin_value_u64(runs->next - runs->first));
    return admin_append(runs->shown, run) ? CAP_OK : CAP_E_NO_MEMORY;
}

static enum cap_error add_ref(struct runs *runs, struct cap_page_ref ref)
{
    runs->window_bytes += ref.len;
    if (!runs->open || ref.page_index != runs->next) {
        enum cap_error error = end_run(runs);
        if (error != CAP_OK) {
            return error;
        }
        runs->first = ref.page_index;
        runs->open = true;
    }
    runs->next = (uint64_t)ref.page_index + 1;
    return CAP_OK;
}

/* Feeds all page references, `len` bytes of the body from CAP_DATA_BODY_FIXED. */
static enum cap_error walk(struct cap_read *read, const struct cap_hash *hash, uint64_t len,
                           struct runs *runs)
{
    uint8_t window[REFS_PER_WINDOW * CAP_PAGE_REF_SIZE];
    for (uint64_t at = 0; at < len;) {
        size_t take = len - at < sizeof(window) ? (size_t)(len - at) : sizeof(window);
        enum cap_error error = admin_body_copy(read, hash, CAP_DATA_BODY_FIXED + at, window, take);
        struct cap_bytes refs = {window, take};
        for (size_t i = 0; error == CAP_OK && i < take / CAP_PAGE_REF_SIZE; i++) {
            error = add_ref(runs, cap_page_ref_at(refs, i));
        }
        if (error != CAP_OK) {
            return error;
        }
        at += take;
    }
    return end_run(runs);
}

static enum cap_error head_len(struct cap_read *read, const struct cap_hash *hash,
                               const struct cap_info *info, uint64_t *ret_len)
{
    uint8_t fixed[CAP_DATA_BODY_FIXED];
    uint64_t len = 0;
    enum cap_error error = admin_body_copy(read, hash, 0, fixed, sizeof(fixed));
    if (error != CAP_OK) {
        return error;
    }
    error = cap_data_body_head_len((struct cap_bytes){fixed, sizeof(fixed)}, info->body_len, &len);
    if (error != CAP_OK || len < CAP_DATA_BODY_FIXED || len > info->body_len ||
        (len - CAP_DATA_BODY_FIXED) % CAP_PAGE_REF_SIZE != 0) {
        return CAP_E_CORRUPT;
    }
    *ret_len = len;
    return CAP_OK;
}

enum cap_error admin_explain_data(struct cap_read *read, const struct cap_hash *hash,
                                  const struct cap_info *info, const struct admin_page *page,
                                  json_t **ret_layout)
{
    uint64_t head = 0;
    enum cap_error error = head_len(read, hash, info, &head);
    if (error != CAP_OK) {
        return error;
    }
    struct runs runs = {.page = page, .shown = json_array()};
    error =
        runs.shown != NULL ? walk(read, hash, head - CAP_DATA_BODY_FIXED, &runs) : CAP_E_NO_MEMORY;
    if (error != CAP_OK) {
        json_decref(runs.shown);
        return error;
    }
    uint64_t present = (head - CAP_DATA_BODY_FIXED) / CAP_PAGE_REF_SIZE;
    json_t *layout = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "size",
                               admin_value_u64(info->size), "page_count", admin_value_u64(present),
                               "content_bytes", admin_value_u64(runs.window_bytes), "stored_bytes",
                               admin_value_u64(info->body_len - head), "run_count",
                               admin_value_u64(runs.count), "runs", runs.shown);
    if (layout == NULL) {
        return CAP_E_NO_MEMORY;
    }
    *ret_layout = layout;
    return CAP_OK;
}
