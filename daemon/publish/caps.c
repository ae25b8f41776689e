/* Caps and judgements. */
#include "daemon/publish/caps.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

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
