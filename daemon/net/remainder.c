/* Remainders: a list, since a session has few of them. */
#include "daemon/net/remainder.h"

#include <stdlib.h>

#include "daemon/core/container.h"
#include "lib/cap/must.h"

struct remainder {
    LIST_ENTRY(remainder) link;
    struct remainders *owner;
    uint32_t id;
    bool body_open;
    bool sending;
    struct cap_buf detail;
    size_t detail_at; /* of the next byte to send */
    struct stream stream;
};

static void free_remainder(struct remainder *remainder)
{
    struct remainders *owner = remainder->owner;
    LIST_REMOVE(remainder, link);
    owner->count--;
    owner->open -= remainder->body_open ? 1 : 0;
    owner->sending -= remainder->sending ? 1 : 0;
    owner->bytes -= sizeof(*remainder) + remainder->detail.capacity;
    cap_buf_free(&remainder->detail);
    free(remainder);
}

/* --- The detail ------------------------------------------------------------------------------- */

static enum stream_answer detail_window(struct stream *stream, size_t len, struct iovec *ret_iov,
                                        int *ret_count)
{
    struct remainder *remainder = CONTAINER_OF(stream, struct remainder, stream);
    ret_iov[0].iov_base = remainder->detail.data + remainder->detail_at;
    ret_iov[0].iov_len = len;
    *ret_count = 1;
    return STREAM_READY;
}

static void detail_sent(struct stream *stream, size_t len)
{
    CONTAINER_OF(stream, struct remainder, stream)->detail_at += len;
}

static void detail_over(struct stream *stream, enum cap_error error)
{
    struct remainder *remainder = CONTAINER_OF(stream, struct remainder, stream);
    (void)error; /* bytes in memory do not fail */
    remainder->sending = false;
    remainder->owner->sending--;
    remainder->owner->bytes -= remainder->detail.capacity;
    cap_buf_free(&remainder->detail);
    if (!remainder->body_open) {
        free_remainder(remainder);
    }
}

static const struct stream_class detail_stream = {
    .window = detail_window,
    .sent = detail_sent,
    .over = detail_over,
};

/* --- Life ------------------------------------------------------------------------------------- */

enum cap_error remainder_add(struct remainders *remainders, uint32_t id, bool body_open,
                             struct cap_buf *detail)
{
    if (!body_open && detail->len == 0) {
        cap_buf_free(detail);
        return CAP_OK;
    }
    struct remainder *remainder = calloc(1, sizeof(*remainder));
    if (remainder == NULL) {
        cap_buf_free(detail);
        return CAP_E_NO_MEMORY;
    }
    remainder->owner = remainders;
    remainder->id = id;
    remainder->body_open = body_open;
    remainder->sending = detail->len > 0;
    remainder->detail = *detail;
    *detail = (struct cap_buf){0};
    LIST_INSERT_HEAD(&remainders->list, remainder, link);
    remainders->count++;
    remainders->open += body_open ? 1 : 0;
    remainders->sending += remainder->sending ? 1 : 0;
    remainders->bytes += sizeof(*remainder) + remainder->detail.capacity;
    if (remainder->sending) {
        remainder->stream = (struct stream){
            .class = &detail_stream,
            .id = id,
            .left = remainder->detail.len,
        };
        output_add(remainders->output, &remainder->stream);
    }
    return CAP_OK;
}

struct remainder *remainder_find(const struct remainders *remainders, uint32_t id)
{
    struct remainder *remainder;
    LIST_FOREACH(remainder, &remainders->list, link)
    {
        if (remainder->id == id) {
            return remainder;
        }
    }
    return NULL;
}

static void end_body(struct remainder *remainder)
{
    remainder->body_open = false;
    remainder->owner->open--;
    if (!remainder->sending) {
        free_remainder(remainder);
    }
}

bool remainder_body(struct remainder *remainder, bool end)
{
    if (!remainder->body_open) {
        return false;
    }
    if (end) {
        end_body(remainder);
    }
    return true;
}

void remainder_cancel(struct remainder *remainder)
{
    if (remainder->body_open) {
        end_body(remainder);
    }
}

void remainders_drop(struct remainders *remainders, bool keep_current)
{
    struct remainder *remainder = LIST_FIRST(&remainders->list);
    while (remainder != NULL) {
        struct remainder *next = LIST_NEXT(remainder, link);
        if (!keep_current || remainders->output->current != &remainder->stream) {
            free_remainder(remainder);
        }
        remainder = next;
    }
    expect(remainders->count <= 1);
}
