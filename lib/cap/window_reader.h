/* Reads and hashes the windows of page references, many at a time. */
#ifndef LIB_CAP_WINDOW_READER_H
#define LIB_CAP_WINDOW_READER_H

#include "lib/cap/window_memo.h"
#include "lib/cap/wire_image.h"

#define CAP_WINDOWS_TOGETHER 16u

/* The first three are set by its user, who keeps them alive. One thread at a time. */
struct cap_window_reader {
    const struct cap_source *source;
    uint64_t base; /* where offset 0 of the references lies in the source */
    struct cap_window_memo *memo;
    uint8_t *scratch; /* NULL for a source in memory */
};

/* Makes the reader ready: 64 KiB of memory unless the source is in memory. CAP_E_NO_MEMORY. Release
 * with cap_window_reader_close. */
enum cap_error cap_window_reader_open(struct cap_window_reader *reader);

/* Releases what was opened, if it was. */
void cap_window_reader_close(struct cap_window_reader *reader);

/*
 * What the windows of `count` <= CAP_WINDOWS_TOGETHER references hold, whose lengths are from 1 to
 * CAP_PAGE_SIZE and which lie within the source. Fails as the source does.
 */
enum cap_error cap_window_reader_read(const struct cap_window_reader *reader,
                                      const struct cap_page_ref *refs, size_t count,
                                      struct cap_window *ret_windows);

#endif
