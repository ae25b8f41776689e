/* Caps and judgements. */
#include "daemon/publish/caps.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HASHES_SHOWN 2u /* in a refusal's message, which has room for three */

static enum cap_error read_data_body(void *ctx, uint64_t offset, void *dst, size_t len)
{
    const struct data_cap *cap = ctx;
    return cap_body_read(&cap->data.body, &cap->bytes, offset, dst, len);
}

void caps_put_data(struct caps *caps, size_t index, const struct caps_stamp *stamp)
{
    struct data_cap *cap = &caps->data[index];
    caps->admission.puts[index] = (struct cap_put){
        .hash = cap->data.hash,
        .info =
            {
                .kind = CAP_KIND_DATA,
                .body_len = cap->data.body.len,
                .size = cap->data.size,
                .page_count = cap->data.page_count,
                .publisher = stamp->publisher,
                .published_us = stamp->published_us,
                .node_counts = cap->data.nodes.counts,
            },
        .body = {.read = read_data_body, .ctx = cap},
        .page_roots = cap->data.page_roots,
        .nodes = cap->data.nodes.all,
    };
}

void caps_free(struct caps *caps)
{
    for (size_t i = 0; i < caps->data_count; i++) {
        cap_data_free(&caps->data[i].data);
    }
    cap_image_free(&caps->image);
    cap_structure_free(&caps->structure);
    free(caps->data);
    free(caps->refs);
    free(caps->needed_slots);
    free(caps->admission.needed);
    free(caps->admission.puts);
    *caps = (struct caps){0};
}

const char *judgement_text(const struct judgement *judgement)
{
    return judgement->message[0] == '\0' ? cap_error_text(judgement->error) : judgement->message;
}

void judgement_move(struct judgement *from, struct judgement *to)
{
    cap_buf_free(&to->detail);
    *to = *from;
    *from = (struct judgement){0};
}

enum cap_error judgement_set(struct judgement *judgement, enum cap_error error)
{
    judgement->error = error;
    judgement->message[0] = '\0';
    return error;
}

enum cap_error judgement_say(struct judgement *judgement, enum cap_error error, const char *format,
                             ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(judgement->message, sizeof(judgement->message), format, args);
    va_end(args);
    judgement->error = error;
    return error;
}

void judgement_lack(struct judgement *judgement, uint64_t need, uint64_t have, const char *limit)
{
    const struct proto_shortage shortage = {
        .need = need, .have = have, .limit = {(const uint8_t *)limit, strlen(limit)}};
    cap_buf_free(&judgement->detail);
    if (proto_shortage_encode(&shortage, &judgement->detail) != CAP_OK) {
        cap_buf_free(&judgement->detail); /* no memory: the message says it, too */
    }
}

struct cap_usage caps_new(const struct cap_admission *admission)
{
    struct cap_usage usage = {0};
    for (size_t i = 0; i < admission->put_count; i++) {
        const struct cap_put *put = &admission->puts[i];
        usage.caps += put->is_new ? 1 : 0;
        usage.bytes += put->is_new ? put->info.body_len : 0;
    }
    return usage;
}

/* Says how many caps are missing, and names the first. */
static void name_missing(const struct cap_admission *admission, struct judgement *judgement)
{
    size_t shown = 0;
    size_t len = (size_t)snprintf(
        judgement->message, sizeof(judgement->message),
        "%zu %s not published here; publish first:", admission->missing_count,
        admission->missing_count == 1 ? "slot names a cap that is" : "slots name caps that are");
    for (size_t i = 0; i < admission->needed_count && shown < HASHES_SHOWN; i++) {
        if (admission->needed[i].missing) {
            char hex[CAP_HASH_HEX_SIZE];
            cap_hash_format(&admission->needed[i].hash, hex);
            len += (size_t)snprintf(judgement->message + len, sizeof(judgement->message) - len,
                                    " %s", hex);
            shown++;
        }
    }
    if (admission->missing_count > shown) {
        (void)snprintf(judgement->message + len, sizeof(judgement->message) - len, " and %zu more",
                       admission->missing_count - shown);
    }
}

enum cap_error caps_list_missing(const struct cap_admission *admission,
                                 const uint32_t *needed_slots, caps_name_slot *name,
                                 const void *ctx, struct judgement *ret_judgement)
{
    struct proto_unresolved *slots = calloc(admission->missing_count + 1, sizeof(*slots));
    size_t count = 0;
    if (slots == NULL) {
        return judgement_set(ret_judgement, CAP_E_NO_MEMORY);
    }
    for (size_t i = 0; i < admission->needed_count; i++) {
        const struct cap_needed *needed = &admission->needed[i];
        if (needed->missing) {
            struct proto_unresolved *slot = &slots[count++];
            slot->kind = (uint8_t)needed->kind;
            slot->cap_hash = needed->hash;
            name(ctx, needed_slots[i], slot);
        }
    }
    enum cap_error error = proto_unresolved_encode(slots, count, &ret_judgement->detail);
    free(slots);
    if (error != CAP_OK) {
        cap_buf_free(&ret_judgement->detail);
        return judgement_set(ret_judgement, error);
    }
    ret_judgement->error = CAP_E_UNRESOLVED_SLOT;
    name_missing(admission, ret_judgement);
    return CAP_E_UNRESOLVED_SLOT;
}
