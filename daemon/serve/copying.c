/*
 * Windows of the store written into a memfd.
 *
 * Happy path: the store's spans go to the descriptor by pwritev, so that a page which cannot be
 * read is an error of the call rather than a signal. A step has a snapshot of its own.
 *
 * A page of a Data cap may name a window that an earlier page has named: such windows are looked up
 * one by one, the others in the order of the arena, many pages at once.
 */
#include "daemon/serve/copying.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/core/oserror.h"
#include "lib/cap/layout.h"

#define STEP_BYTES   (1u << 20) /* under a millisecond of copying: a short turn */
#define STEP_WINDOWS 64u        /* of the store; each may wait for the device */

#define COPY_SEALS (F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)

/* Bytes of a body that the store has handed out. */
struct piece {
    struct iovec iov[CAP_STORE_WINDOW_IOV];
    int count;
    uint64_t at; /* in the body */
    size_t len;
};

static uint64_t page_up(uint64_t len)
{
    return (len + CAP_PAGE_SIZE - 1) / CAP_PAGE_SIZE * CAP_PAGE_SIZE;
}

static void lay_out(struct copying *copying, const struct cap_info *info)
{
    struct copy_layout *layout = &copying->layout;
    *layout = (struct copy_layout){
        .kind = info->kind,
        .body_len = info->body_len,
        .size = info->size,
    };
    if (info->kind == CAP_KIND_DATA) {
        layout->len = info->size < COPY_DATA_MAX ? info->size : COPY_DATA_MAX;
        copying->pages = info->page_count;
        copying->bytes = info->page_count * CAP_PAGE_SIZE;
    } else {
        layout->rest_off = page_up(info->size);
        layout->rest_len = info->body_len - info->size;
        layout->len = layout->rest_off + layout->rest_len;
        copying->bytes = page_up(layout->len);
    }
}

/* Whether the store's figures can be those of a cap: the sums above do not wrap then. */
static bool is_possible(const struct cap_info *info)
{
    if (info->kind == CAP_KIND_DATA) {
        return info->page_count <= COPY_DATA_MAX / CAP_PAGE_SIZE &&
               info->body_len >= CAP_DATA_BODY_FIXED;
    }
    return info->size <= CAP_MAX_CODE_SIZE && info->body_len >= info->size + CAP_IMAGE_FRONT;
}

enum cap_error copying_find(struct copying *copying, struct cap_store *store,
                            const struct cap_hash *hash)
{
    struct cap_info info;
    struct cap_read *read = NULL;
    *copying = (struct copying){.store = store, .hash = *hash, .fd = -1};
    enum cap_error error = cap_store_read_begin(store, &read);
    if (error != CAP_OK) {
        return error;
    }
    error = cap_store_find(read, hash, &info);
    cap_store_read_end(read);
    if (error == CAP_OK && !is_possible(&info)) {
        error = CAP_E_CORRUPT;
    }
    if (error == CAP_OK) {
        lay_out(copying, &info);
    }
    return error;
}

/* What it means that the descriptor does not take something. */
static enum cap_error error_of_file(int number)
{
    switch (number) {
    case EFBIG: /* RLIMIT_FSIZE, or past what an off_t holds */
        return CAP_E_MEMORY_LIMIT;
    case ENOSPC:
    case EMFILE:
    case ENFILE:
        return CAP_E_NO_MEMORY;
    default: /* EFAULT: the device cannot give a page of the store */
        return error_of_errno(number);
    }
}

static enum cap_error make_file(struct copying *copying)
{
    off_t len = (off_t)copying->layout.len;
    if ((uint64_t)len != copying->layout.len) {
        return error_of_file(EFBIG); /* on 32 bits */
    }
    copying->fd = memfd_create("capstore", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (copying->fd < 0 || ftruncate(copying->fd, len) != 0) {
        return error_of_file(errno);
    }
    return CAP_OK;
}

/* Bytes [skip, skip + len) of the piece to `offset` of the file. */
static enum cap_error write_piece(const struct copying *copying, const struct piece *piece,
                                  size_t skip, size_t len, uint64_t offset)
{
    while (len > 0) {
        struct iovec iov[CAP_STORE_WINDOW_IOV];
        size_t passed = skip;
        size_t wanted = len;
        int count = 0;
        for (int i = 0; i < piece->count && wanted > 0; i++) {
            struct iovec span = piece->iov[i];
            if (passed >= span.iov_len) {
                passed -= span.iov_len;
                continue;
            }
            span.iov_base = (uint8_t *)span.iov_base + passed;
            span.iov_len = span.iov_len - passed < wanted ? span.iov_len - passed : wanted;
            passed = 0;
            wanted -= span.iov_len;
            iov[count++] = span;
        }
        ssize_t n = pwritev(copying->fd, iov, count, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return error_of_file(errno);
        }
        skip += (size_t)n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return CAP_OK;
}

/* At least one byte of the body from `at`, up to `len` (not 0). */
static enum cap_error look_at(const struct copying *copying, struct cap_read *read, uint64_t at,
                              uint64_t len, struct piece *ret_piece)
{
    ret_piece->at = at;
    enum cap_error error = cap_store_window(read, &copying->hash, at, len, ret_piece->iov,
                                            &ret_piece->count, &ret_piece->len);
    return error == CAP_OK && ret_piece->len == 0 ? CAP_E_CORRUPT : error;
}

/* --- Images ----------------------------------------------------------------------------------- */

/* Where byte `at` of the body goes, and how many bytes from there on go together. */
static uint64_t place_of(const struct copy_layout *layout, uint64_t at, uint64_t *ret_run)
{
    uint64_t code_end = CAP_IMAGE_FRONT + layout->size;
    if (at < CAP_IMAGE_FRONT) {
        *ret_run = CAP_IMAGE_FRONT - at;
        return layout->rest_off + at;
    }
    if (at < code_end) {
        *ret_run = code_end - at;
        return at - CAP_IMAGE_FRONT;
    }
    *ret_run = layout->body_len - at;
    return layout->rest_off + at - layout->size;
}

static enum cap_error copy_image(struct copying *copying, struct cap_read *read, bool *ret_done)
{
    const struct copy_layout *layout = &copying->layout;
    enum cap_error error = CAP_OK;
    uint64_t until = copying->at + STEP_BYTES;
    while (error == CAP_OK && copying->at < layout->body_len && copying->at < until) {
        struct piece piece;
        error = look_at(copying, read, copying->at, layout->body_len - copying->at, &piece);
        for (size_t skip = 0; error == CAP_OK && skip < piece.len;) {
            uint64_t run;
            uint64_t place = place_of(layout, copying->at, &run);
            size_t len = piece.len - skip < run ? piece.len - skip : (size_t)run;
            error = write_piece(copying, &piece, skip, len, place);
            skip += len;
            copying->at += len;
        }
    }
    *ret_done = copying->at == layout->body_len;
    return error;
}

/* --- Data ------------------------------------------------------------------------------------- */

/* Makes room for the head, whose length its first bytes tell. */
static enum cap_error begin_head(struct copying *copying, struct cap_read *read)
{
    uint8_t front[CAP_DATA_BODY_FIXED];
    struct piece piece;
    enum cap_error error = look_at(copying, read, 0, sizeof(front), &piece);
    if (error == CAP_OK && piece.len != sizeof(front)) {
        error = CAP_E_CORRUPT;
    }
    if (error == CAP_OK) {
        error = cap_store_copy(read, piece.iov, piece.count, front);
    }
    if (error == CAP_OK &&
        (cap_data_body_head_len((struct cap_bytes){front, sizeof(front)}, copying->layout.body_len,
                                &copying->head_len) != CAP_OK ||
         copying->head_len > CAP_DATA_BODY_FIXED + copying->pages * CAP_PAGE_REF_SIZE)) {
        error = CAP_E_CORRUPT;
    }
    if (error == CAP_OK) {
        copying->head = malloc((size_t)copying->head_len);
        error = copying->head == NULL ? CAP_E_NO_MEMORY : CAP_OK;
    }
    return error;
}

static enum cap_error read_head(struct copying *copying, struct cap_read *read)
{
    enum cap_error error = copying->head == NULL ? begin_head(copying, read) : CAP_OK;
    uint64_t until = copying->at + STEP_BYTES;
    while (error == CAP_OK && copying->at < copying->head_len && copying->at < until) {
        struct piece piece;
        error = look_at(copying, read, copying->at, copying->head_len - copying->at, &piece);
        if (error == CAP_OK) {
            error = cap_store_copy(read, piece.iov, piece.count, copying->head + copying->at);
            copying->at += piece.len;
        }
    }
    if (error == CAP_OK && copying->at == copying->head_len) {
        const struct cap_bytes head = {copying->head, (size_t)copying->head_len};
        error = cap_data_view_decode(head, copying->layout.body_len, &copying->view);
        if (error != CAP_OK || copying->view.size != copying->layout.size) {
            error = CAP_E_CORRUPT;
        }
    }
    return error;
}

/*
 * How many pages from the one at hand on lie in the piece and in the file one after the other;
 * *ret_len: how many bytes they are.
 */
static size_t run_of(const struct copying *copying, const struct piece *piece, size_t *ret_len)
{
    const struct cap_data_view *view = &copying->view;
    struct cap_page_ref last = cap_page_ref_at(view->pages, copying->page);
    uint64_t end = piece->at + piece->len - view->arena_start; /* of the piece, in the arena */
    size_t count = 1;
    *ret_len = last.len;
    while (last.len == CAP_PAGE_SIZE && copying->page + count < view->page_count) {
        struct cap_page_ref next = cap_page_ref_at(view->pages, copying->page + count);
        if (next.page_index != last.page_index + 1 ||
            next.arena_off != last.arena_off + CAP_PAGE_SIZE ||
            (uint64_t)next.arena_off + next.len > end) {
            break;
        }
        *ret_len += next.len;
        last = next;
        count++;
    }
    return count;
}

static enum cap_error copy_pages(struct copying *copying, struct cap_read *read, bool *ret_done)
{
    const struct cap_data_view *view = &copying->view;
    enum cap_error error = CAP_OK;
    struct piece ahead = {.len = 0};
    struct piece again;
    size_t done = 0;
    unsigned windows = 0;
    while (error == CAP_OK && copying->page < view->page_count && done < STEP_BYTES &&
           windows < STEP_WINDOWS) {
        struct cap_page_ref ref = cap_page_ref_at(view->pages, copying->page);
        uint64_t at = view->arena_start + ref.arena_off;
        struct piece *piece = &ahead;
        size_t len;
        if (at < ahead.at || at + ref.len > ahead.at + ahead.len) {
            bool seen = ref.arena_off < copying->seen;
            piece = seen ? &again : &ahead;
            windows++;
            error =
                look_at(copying, read, at, seen ? ref.len : view->arena_len - ref.arena_off, piece);
            if (error == CAP_OK && piece->len < ref.len) {
                error = CAP_E_CORRUPT;
            }
            if (error != CAP_OK) {
                break;
            }
        }
        size_t count = run_of(copying, piece, &len);
        error = write_piece(copying, piece, (size_t)(at - piece->at), len,
                            (uint64_t)ref.page_index * CAP_PAGE_SIZE);
        copying->page += count;
        uint64_t end = (uint64_t)ref.arena_off + len;
        copying->seen = end > copying->seen ? end : copying->seen;
        done += len;
    }
    *ret_done = copying->page == view->page_count;
    return error;
}

static enum cap_error copy_data(struct copying *copying, struct cap_read *read, bool *ret_done)
{
    if (copying->head == NULL || copying->at < copying->head_len) {
        *ret_done = false;
        return read_head(copying, read);
    }
    return copy_pages(copying, read, ret_done);
}

/* --- Both ------------------------------------------------------------------------------------- */

enum cap_error copying_step(struct copying *copying, bool *ret_done)
{
    struct cap_read *read = NULL;
    *ret_done = false;
    enum cap_error error = copying->fd < 0 ? make_file(copying) : CAP_OK;
    if (error == CAP_OK) {
        error = cap_store_read_begin(copying->store, &read);
    }
    if (error != CAP_OK) {
        return error;
    }
    error = copying->layout.kind == CAP_KIND_DATA ? copy_data(copying, read, ret_done)
                                                  : copy_image(copying, read, ret_done);
    cap_store_read_end(read);
    return error;
}

enum cap_error copying_seal(struct copying *copying, int *ret_fd)
{
    char path[32];
    if (fcntl(copying->fd, F_ADD_SEALS, COPY_SEALS) != 0) {
        return CAP_E_IO;
    }
    /* A description of its own, which cannot be written through. */
    snprintf(path, sizeof(path), "/proc/self/fd/%d", copying->fd);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return error_of_file(errno);
    }
    *ret_fd = fd;
    copying_drop(copying);
    return CAP_OK;
}

void copying_drop(struct copying *copying)
{
    if (copying->fd >= 0) {
        close(copying->fd);
    }
    copying->fd = -1;
    free(copying->head);
    copying->head = NULL;
}
