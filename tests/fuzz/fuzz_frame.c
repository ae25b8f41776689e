/*
 * Feeds arbitrary bytes to the frame reader and every message in them to its decoder.
 *
 * The first byte seeds the cutting of the rest into pieces. What must hold: the events of any
 * cutting, put together again, are the bytes that were consumed, none lost or repeated; any
 * cutting and the whole give the same frames and the same error; a message that decodes encodes to
 * the same bytes; nothing is read past a piece (each is an allocation of its own).
 */
#include <stdlib.h>

#include "tests/unit/proto/recode.h"

#define MAX_LEN 8192u /* small, so that a frame at the limit and one past it are in reach */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct run {
    struct proto_reader reader;
    struct cap_buf rebuilt; /* of whole frames and the pieces of a body */
    uint32_t left;          /* payload bytes of the BODY frame at hand */
    enum cap_error error;
    struct cap_buf detail; /* of the body at hand, as if it were an error's detail */
};

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

static void check_recoded(enum cap_error error, struct cap_bytes in, struct cap_buf *again)
{
    require(error == CAP_OK || error == CAP_E_BAD_MESSAGE);
    if (error == CAP_OK) {
        require(again->len == in.len && (in.len == 0 || memcmp(again->data, in.data, in.len) == 0));
    }
    cap_buf_free(again);
}

static void check_message(const struct proto_event *event)
{
    struct cap_buf again = {0};
    require(event->bytes.len == event->frame.len && !event->end);
    if (!proto_type_is_known(event->frame.type)) {
        return; /* a request of a later version: its payload is not for us to read */
    }
    check_recoded(recode(event->frame.type, event->bytes, &again), event->bytes, &again);
    check_recoded(recode_keep(event->frame.type, event->bytes, &again), event->bytes, &again);
    again.len = 0;
    check_recoded(recode_resume(event->frame.type, event->bytes, &again), event->bytes, &again);
}

/* Reads a body as if it were of pieces. */
static void check_pieces(struct cap_bytes body)
{
    uint8_t again[PROTO_PIECE_SIZE];
    struct proto_piece piece;
    while (body.len >= PROTO_PIECE_SIZE && proto_piece_decode(body.data, &piece) == CAP_OK) {
        proto_piece_encode(&piece, again);
        require(memcmp(again, body.data, sizeof(again)) == 0);
        size_t rest = body.len - PROTO_PIECE_SIZE;
        size_t len = piece.len < rest ? piece.len : rest;
        body = cap_bytes_slice(body, PROTO_PIECE_SIZE + len, rest - len);
    }
}

static void check_body(struct run *run, const struct proto_event *event)
{
    struct cap_buf again = {0};
    require(cap_buf_append(&run->detail, event->bytes.data, event->bytes.len) == CAP_OK);
    if (!event->end) {
        return;
    }
    struct cap_bytes detail = cap_buf_bytes(&run->detail);
    check_recoded(recode_unresolved(detail, &again), detail, &again);
    check_recoded(recode_shortage(detail, &again), detail, &again);
    check_pieces(detail);
    run->detail.len = 0;
}

static void take_event(struct run *run, const struct proto_event *event)
{
    if (run->left == 0) {
        uint8_t header[PROTO_FRAME_HEADER_SIZE];
        proto_frame_encode(&event->frame, header);
        require(cap_buf_append(&run->rebuilt, header, sizeof(header)) == CAP_OK);
        run->left = event->frame.len;
    }
    require(event->bytes.len <= run->left);
    require(cap_buf_append(&run->rebuilt, event->bytes.data, event->bytes.len) == CAP_OK);
    run->left -= (uint32_t)event->bytes.len;
    if (event->frame.type == PROTO_BODY) {
        check_body(run, event);
    } else {
        check_message(event);
    }
}

static void feed(struct run *run, const uint8_t *data, size_t size)
{
    uint8_t *piece = malloc(size > 0 ? size : 1);
    require(piece != NULL);
    memcpy(piece, data, size);
    struct cap_bytes input = {piece, size};
    struct proto_event event;
    bool have = true;
    while (have && run->error == CAP_OK) {
        run->error = proto_reader_next(&run->reader, &input, &event, &have);
        if (run->error == CAP_OK && have) {
            take_event(run, &event);
        }
    }
    require(run->error != CAP_OK || input.len == 0);
    free(piece);
}

/* Pieces of 1 to `most` bytes; 0 feeds everything at once. */
static void run_cut(struct run *run, const uint8_t *data, size_t size, uint8_t seed)
{
    size_t most = seed;
    uint32_t random = seed;
    proto_reader_init(&run->reader, MAX_LEN);
    for (size_t at = 0, len; at < size && run->error == CAP_OK; at += len) {
        random = random * 1664525u + 1013904223u;
        len = most == 0 ? size : 1 + (random >> 16) % most;
        if (len > size - at) {
            len = size - at;
        }
        feed(run, data + at, len);
    }
}

static void end_run(struct run *run)
{
    proto_reader_free(&run->reader);
    cap_buf_free(&run->rebuilt);
    cap_buf_free(&run->detail);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    struct run whole = {0};
    struct run cut = {0};
    run_cut(&whole, data + 1, size - 1, 0);
    run_cut(&cut, data + 1, size - 1, data[0]);

    require(whole.error == cut.error);
    require(whole.rebuilt.len == cut.rebuilt.len && whole.rebuilt.len <= size - 1);
    if (whole.rebuilt.len > 0) {
        require(memcmp(whole.rebuilt.data, cut.rebuilt.data, whole.rebuilt.len) == 0);
        require(memcmp(whole.rebuilt.data, data + 1, whole.rebuilt.len) == 0);
    }
    require(whole.left == cut.left);
    end_run(&whole);
    end_run(&cut);
    return 0;
}
