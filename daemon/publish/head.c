/* Gathering a head. */
#include "daemon/publish/head.h"

#include <inttypes.h>
#include <stdlib.h>

#define HEAD_FIRST 4096u /* the first step of its memory: most heads are shorter */

/* Where the part that is being gathered ends. An upload shorter than the fixed part is judged by
 * what there is. */
static size_t goal(const struct head *head, uint64_t total_len)
{
    if (head->len > 0) {
        return head->len;
    }
    return total_len < CAP_WIRE_FIXED_SIZE ? (size_t)total_len : CAP_WIRE_FIXED_SIZE;
}

size_t head_wants(const struct head *head, uint64_t total_len, size_t more)
{
    size_t missing = goal(head, total_len) - head->filled;
    size_t wanted = head->filled + (more < missing ? more : missing);
    size_t capacity = head->capacity == 0 ? HEAD_FIRST : head->capacity;
    while (capacity < wanted) {
        capacity *= 2;
    }
    if (head->len > 0 && capacity > head->len) {
        capacity = head->len;
    }
    return capacity > head->capacity ? capacity : head->capacity;
}

static enum cap_error learn_len(struct head *head, uint64_t total_len, uint64_t max_len,
                                struct judgement *ret_judgement)
{
    const struct cap_bytes front = {head->data, head->filled};
    enum cap_error error = cap_wire_image_head_len(front, total_len, &head->len);
    if (error != CAP_OK) { /* for its words */
        struct cap_wire_image wire;
        struct cap_refusal refusal = {.message = ""};
        error = cap_deblob(front, total_len, &wire, &refusal);
        return judgement_say(ret_judgement, error, "%s", refusal.message);
    }
    if (head->len > max_len) {
        return judgement_say(ret_judgement, CAP_E_STRUCTURE_TOO_LARGE,
                             "the structure takes %zu bytes; max-structure is %" PRIu64, head->len,
                             max_len);
    }
    return CAP_OK;
}

enum cap_error head_take(struct head *head, struct cap_bytes *piece, uint64_t total_len,
                         uint64_t max_len, struct judgement *ret_judgement)
{
    size_t missing = goal(head, total_len) - head->filled;
    size_t n = piece->len < missing ? piece->len : missing;
    size_t capacity = head_wants(head, total_len, n);
    if (capacity > head->capacity) {
        uint8_t *data = realloc(head->data, capacity);
        if (data == NULL) {
            return judgement_set(ret_judgement, CAP_E_NO_MEMORY);
        }
        head->data = data;
        head->capacity = capacity;
    }
    if (n > 0) {
        memcpy(head->data + head->filled, piece->data, n);
        head->filled += n;
        *piece = cap_bytes_slice(*piece, n, piece->len - n);
    }
    if (head->len == 0 && n == missing) {
        return learn_len(head, total_len, max_len, ret_judgement);
    }
    return CAP_OK;
}

bool head_is_complete(const struct head *head)
{
    return head->len > 0 && head->filled == head->len;
}

void head_free(struct head *head)
{
    free(head->data);
    *head = (struct head){0};
}
