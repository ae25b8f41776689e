/*
 * Lazy maps: memory that the kernel asks for page by page (userfaultfd), served from readers.
 *
 * Happy path: a thread of the program touches a page that is not there and waits. The map's thread
 * learns the address, takes the page's group from the reader, and places as much of the group as
 * belongs there; the program goes on. What was touched once is memory like any other.
 *
 * Failure modes: a page cannot be had. The caller's function hears of it, and may have it tried
 * again. Otherwise the page is replaced by a page of an empty file, past its end, so that the
 * kernel answers a touch with SIGBUS; what else of the group is not there stays so. A
 * child of fork would find zeros where no page was placed yet: MADV_DONTFORK keeps the memory from
 * it. The memory is unmapped before the descriptor is closed, for the same reason.
 */
#include <capstore/slice.h>

#include <stdlib.h>
#include <string.h>

#include "client/lib/conn.h"
#include "client/lib/reader.h"
#include "lib/cap/must.h"

#if defined(__has_include)
#if __has_include(<linux/userfaultfd.h>)
#define HAVE_USERFAULTFD 1
#endif
#endif

#ifdef HAVE_USERFAULTFD

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

/* Content in memory. */
struct area {
    struct capstore_reader *reader;
    uint8_t *start;
    size_t len; /* whole pages */
    bool read_only;
    bool placed; /* mapped, rather than reserved */
};

struct capstore_lazy {
    int uffd;
    int stop; /* an eventfd: the thread ends */
    int past; /* an empty file, of which every page is past its end */
    pthread_t thread;
    bool running;
    bool reserved; /* the range was the caller's before, and will be again */
    struct capstore_lazy_options options;
    struct area *areas; /* later ones lie over earlier ones */
    size_t count;
    struct capstore_reader **readers; /* that belong to the map */
    size_t reader_count;
    const struct capstore_cap *image;
    uint8_t group[CLIENT_GROUP_SIZE];
};

/* ---- serving ---- */

/* The area on top at an address, or NULL. */
static const struct area *area_at(const struct capstore_lazy *lazy, const uint8_t *at)
{
    for (size_t i = lazy->count; i-- > 0;) {
        const struct area *area = &lazy->areas[i];
        if ((uintptr_t)at >= (uintptr_t)area->start &&
            (uintptr_t)at - (uintptr_t)area->start < area->len) {
            return area;
        }
    }
    return NULL;
}

/* Places one page; whether it is there now, by this or before. */
static bool place(const struct capstore_lazy *lazy, uint8_t *at, const uint8_t *bytes)
{
    struct uffdio_copy copy = {
        .dst = (uintptr_t)at, .src = (uintptr_t)bytes, .len = CAPSTORE_PAGE_SIZE};
    struct uffdio_zeropage zero = {.range = {(uintptr_t)at, CAPSTORE_PAGE_SIZE}};
    int code;
    do {
        code = bytes != NULL ? ioctl(lazy->uffd, UFFDIO_COPY, &copy)
                             : ioctl(lazy->uffd, UFFDIO_ZEROPAGE, &zero);
    } while (code != 0 && errno == EAGAIN); /* the address space is changing */
    return code == 0 || errno == EEXIST;
}

static void wake(const struct capstore_lazy *lazy, uint8_t *at, size_t len)
{
    struct uffdio_range range = {(uintptr_t)at, len};
    (void)ioctl(lazy->uffd, UFFDIO_WAKE, &range);
}

/* Makes a page one that cannot be touched. */
static void poison(const struct capstore_lazy *lazy, const struct area *area, uint8_t *at)
{
    const int flags = MAP_SHARED | MAP_FIXED;
    size_t len = CAPSTORE_PAGE_SIZE;
    if (mmap(at, len, PROT_READ | PROT_WRITE, flags, lazy->past, 0) == MAP_FAILED) {
        /* There are too many mappings: the whole area is one. */
        at = area->start;
        len = area->len;
        must(mmap(at, len, PROT_READ | PROT_WRITE, flags, lazy->past, 0) == at);
    }
    (void)madvise(at, len, MADV_DONTFORK);
    wake(lazy, at, len);
}

/* Places what of a group belongs to the area, and is not there. Whether the page that was touched
 * is there then. */
static bool place_group(const struct capstore_lazy *lazy, const struct area *area, size_t from,
                        const uint8_t *bytes, const uint8_t *touched)
{
    bool good = false;
    for (size_t at = 0; at < CLIENT_GROUP_SIZE && from + at < area->len; at += CAPSTORE_PAGE_SIZE) {
        uint8_t *page = area->start + from + at;
        if (area_at(lazy, page) != area) {
            continue; /* something lies over it */
        }
        bool there = place(lazy, page, bytes == NULL ? NULL : bytes + at);
        good = good || (there && page == touched);
    }
    return good;
}

/* Whether to try again to have a page. */
static bool ask_again(const struct capstore_lazy *lazy, const struct area *area, uint8_t *touched,
                      enum cap_error error, const char *message)
{
    const struct capstore_lazy_failure failure = {
        .hash = capstore_reader_hash(area->reader),
        .page = (uint64_t)(touched - area->start) / CAPSTORE_PAGE_SIZE,
        .address = touched,
        .error = client_public(error),
        .message = message,
    };
    return lazy->options.failed != NULL && lazy->options.failed(lazy->options.ctx, &failure);
}

static void serve(struct capstore_lazy *lazy, uint64_t address)
{
    uint8_t *touched = (uint8_t *)(uintptr_t)(address / CAPSTORE_PAGE_SIZE * CAPSTORE_PAGE_SIZE);
    const struct area *area = area_at(lazy, touched);
    must(area != NULL); /* the kernel knows of no others */
    size_t from = (size_t)(touched - area->start) / CLIENT_GROUP_SIZE * CLIENT_GROUP_SIZE;
    char message[CAPSTORE_MESSAGE_SIZE] = "";
    enum cap_error error;
    do {
        bool zeros = true;
        error = CAP_OK;
        if (from < capstore_reader_size(area->reader)) {
            error = client_reader_group(area->reader, from / CLIENT_GROUP_SIZE, lazy->group, &zeros,
                                        message);
        }
        if (error == CAP_OK &&
            !place_group(lazy, area, from, zeros ? NULL : lazy->group, touched)) {
            error = CAP_E_NO_MEMORY;
        }
    } while (error != CAP_OK && ask_again(lazy, area, touched, error,
                                          message[0] != '\0' ? message : cap_error_text(error)));
    if (error != CAP_OK) {
        poison(lazy, area, touched);
    }
    wake(lazy, touched, CAPSTORE_PAGE_SIZE); /* also who came while another's page was placed */
}

static void *run(void *ctx)
{
    struct capstore_lazy *lazy = ctx;
    for (;;) {
        struct pollfd polled[] = {{lazy->stop, POLLIN, 0}, {lazy->uffd, POLLIN, 0}};
        struct uffd_msg message;
        if (poll(polled, 2, -1) < 0) {
            must(errno == EINTR);
            continue;
        }
        if (polled[0].revents != 0) {
            return NULL;
        }
        ssize_t n = read(lazy->uffd, &message, sizeof(message));
        if (n == (ssize_t)sizeof(message) && message.event == UFFD_EVENT_PAGEFAULT) {
            serve(lazy, message.arg.pagefault.address);
        }
    }
}

/* ---- making ---- */

/* A userfaultfd, for faults of the kernel too where that is allowed. -1: none. */
static int open_uffd(void)
{
    struct uffdio_api api = {.api = UFFD_API};
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    }
    if (fd >= 0 && ioctl(fd, UFFDIO_API, &api) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static enum cap_error begin(struct capstore *store, const struct capstore_lazy_options *options,
                            struct capstore_lazy **ret_lazy)
{
    struct capstore_lazy *lazy = calloc(1, sizeof(*lazy));
    if (lazy == NULL) {
        return CAP_E_NO_MEMORY;
    }
    if (options != NULL) {
        size_t size =
            options->struct_size < sizeof(*options) ? options->struct_size : sizeof(*options);
        memcpy(&lazy->options, options, size);
    }
    lazy->stop = eventfd(0, EFD_CLOEXEC);
    lazy->past = memfd_create("capstore-past", MFD_CLOEXEC);
    lazy->uffd = open_uffd();
    *ret_lazy = lazy;
    if (lazy->stop < 0 || lazy->past < 0) {
        return CAP_E_NO_MEMORY;
    }
    if (lazy->uffd < 0) {
        return client_say(store, CAP_E_NOT_SUPPORTED,
                          "no userfaultfd: it takes Linux 5.11 or later, and where a filter of "
                          "system calls forbids it, permission; or vm.unprivileged_userfaultfd=1");
    }
    return CAP_OK;
}

static void free_areas(struct capstore_lazy *lazy)
{
    for (size_t i = 0; i < lazy->count; i++) {
        struct area *area = &lazy->areas[i];
        if (area->placed && lazy->reserved) {
            must(mmap(area->start, area->len, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
                      0) == area->start);
        } else if (area->placed) {
            munmap(area->start, area->len);
        }
    }
    free(lazy->areas);
}

void capstore_lazy_free(struct capstore_lazy *lazy)
{
    static const uint64_t one = 1;
    if (lazy == NULL) {
        return;
    }
    if (lazy->running) {
        must(write(lazy->stop, &one, sizeof(one)) == (ssize_t)sizeof(one));
        must(pthread_join(lazy->thread, NULL) == 0);
    }
    free_areas(lazy);
    for (size_t i = 0; i < lazy->reader_count; i++) {
        capstore_reader_free(lazy->readers[i]);
    }
    free(lazy->readers);
    const int fds[] = {lazy->uffd, lazy->stop, lazy->past};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    free(lazy);
}

/* Maps an area where it belongs, or anywhere if its start is NULL, and has its faults come here. */
static enum cap_error map_area(const struct capstore_lazy *lazy, struct area *area)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    int protection = area->read_only ? PROT_READ : PROT_READ | PROT_WRITE;
    uint8_t *start = mmap(area->start, area->len, protection,
                          area->start != NULL ? flags | MAP_FIXED : flags, -1, 0);
    if (start == MAP_FAILED) {
        return CAP_E_NO_MEMORY;
    }
    area->start = start;
    area->placed = true;
    struct uffdio_register asked = {.range = {(uintptr_t)start, area->len},
                                    .mode = UFFDIO_REGISTER_MODE_MISSING};
    return madvise(start, area->len, MADV_DONTFORK) == 0 &&
                   ioctl(lazy->uffd, UFFDIO_REGISTER, &asked) == 0
               ? CAP_OK
               : CAP_E_NO_MEMORY;
}

/* Maps the areas and starts the thread, which takes no signal: they are the program's. */
static enum cap_error start(struct capstore_lazy *lazy)
{
    sigset_t all;
    sigset_t before;
    enum cap_error error = CAP_OK;
    for (size_t i = 0; error == CAP_OK && i < lazy->count; i++) {
        error = map_area(lazy, &lazy->areas[i]);
    }
    if (error == CAP_OK) {
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        lazy->running = pthread_create(&lazy->thread, NULL, run, lazy) == 0;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        error = lazy->running ? CAP_OK : CAP_E_NO_MEMORY;
    }
    return error;
}

static uint64_t page_up(uint64_t len)
{
    return len > UINT64_MAX - (CAPSTORE_PAGE_SIZE - 1)
               ? UINT64_MAX / CAPSTORE_PAGE_SIZE * CAPSTORE_PAGE_SIZE
               : (len + CAPSTORE_PAGE_SIZE - 1) / CAPSTORE_PAGE_SIZE * CAPSTORE_PAGE_SIZE;
}

enum capstore_error capstore_map_lazy(struct capstore_reader *reader,
                                      const struct capstore_lazy_options *options,
                                      struct capstore_lazy **ret_lazy)
{
    struct capstore *store = client_reader_store(reader);
    struct capstore_lazy *lazy = NULL;
    uint64_t len = page_up(capstore_reader_size(reader));
    if (len == 0 || len > PTRDIFF_MAX) {
        return len == 0 ? CAPSTORE_E_INVALID_ARGUMENT : CAPSTORE_E_NO_MEMORY;
    }
    enum cap_error error = client_take_turn(store);
    if (error != CAP_OK) {
        return client_public(error);
    }
    client_forget(store);
    error = begin(store, options, &lazy);
    if (error == CAP_OK) {
        lazy->areas = calloc(1, sizeof(*lazy->areas));
        error = lazy->areas != NULL ? CAP_OK : CAP_E_NO_MEMORY;
    }
    if (error == CAP_OK) {
        lazy->areas[0] = (struct area){.reader = reader, .len = (size_t)len, .read_only = true};
        lazy->count = 1;
        lazy->image = capstore_reader_image(reader);
        error = start(lazy);
    }
    (void)client_end(store, error);
    client_end_turn(store);
    if (error != CAP_OK) {
        capstore_lazy_free(lazy);
        return client_public(error);
    }
    *ret_lazy = lazy;
    return CAPSTORE_OK;
}

struct capstore_bytes capstore_lazy_bytes(const struct capstore_lazy *lazy)
{
    return lazy->reserved ? (struct capstore_bytes){NULL, 0}
                          : (struct capstore_bytes){lazy->areas[0].start, lazy->areas[0].len};
}

const struct capstore_cap *capstore_lazy_image(const struct capstore_lazy *lazy)
{
    return lazy->image;
}

struct capstore_read_counts capstore_lazy_stats(const struct capstore_lazy *lazy)
{
    struct capstore_read_counts sum = {0};
    if (!lazy->reserved) {
        return capstore_reader_stats(lazy->areas[0].reader);
    }
    for (size_t i = 0; i < lazy->reader_count; i++) {
        struct capstore_read_counts stats = capstore_reader_stats(lazy->readers[i]);
        sum.requests += stats.requests;
        sum.fetched_pages += stats.fetched_pages;
        sum.cached_pages += stats.cached_pages;
        sum.dropped_pages += stats.dropped_pages;
        sum.cache_failed = sum.cache_failed || stats.cache_failed;
    }
    return sum;
}

/* ---- the memory of a program ---- */

/* The reader of a cap, opened unless it was. */
static enum capstore_error find_reader(struct capstore_lazy *lazy, struct capstore *store,
                                       const struct capstore_hash *hash,
                                       const struct capstore_open_options *options,
                                       struct capstore_reader **ret_reader)
{
    for (size_t i = 0; i < lazy->reader_count; i++) {
        if (capstore_hash_equal(capstore_reader_hash(lazy->readers[i]), hash)) {
            *ret_reader = lazy->readers[i];
            return CAPSTORE_OK;
        }
    }
    enum capstore_error error = capstore_open(store, hash, options, ret_reader);
    if (error == CAPSTORE_OK) {
        lazy->readers[lazy->reader_count++] = *ret_reader;
    }
    return error;
}

/* Adds a span, if it fits the range. */
static enum capstore_error add_area(struct capstore_lazy *lazy, uint8_t *base, uint64_t range,
                                    uint64_t address, uint64_t len, struct area area)
{
    uint64_t whole = page_up(len);
    if (address % CAPSTORE_PAGE_SIZE != 0 || address > range || whole > range - address) {
        return CAPSTORE_E_INVALID_ARGUMENT;
    }
    if (whole > 0) {
        area.start = base + (size_t)address;
        area.len = (size_t)whole;
        lazy->areas[lazy->count++] = area;
    }
    return CAPSTORE_OK;
}

static enum capstore_error add_regions(struct capstore_lazy *lazy, struct capstore *store,
                                       const struct capstore_open_options *options, uint8_t *base,
                                       uint64_t range)
{
    size_t count = capstore_image_counts(lazy->image).mappings;
    struct capstore_region *regions = NULL;
    enum capstore_error error = capstore_image_regions(lazy->image, &regions);
    for (size_t i = 0; error == CAPSTORE_OK && i < count; i++) {
        struct capstore_mapping mapping = capstore_image_mapping(lazy->image, i);
        struct area area = {.read_only = regions[i].read_only};
        if (!regions[i].has_slot) {
            continue; /* only a runtime knows */
        }
        error = find_reader(lazy, store, &regions[i].slot.cap_hash, options, &area.reader);
        if (error == CAPSTORE_OK && capstore_reader_kind(area.reader) == CAPSTORE_KIND_DATA) {
            error = add_area(lazy, base, range, regions[i].start, mapping.size, area);
        }
    }
    free(regions);
    return error;
}

/* Opens the Image and lists its areas. */
static enum capstore_error lay_out(struct capstore_lazy *lazy, struct capstore *store,
                                   const struct capstore_hash *hash,
                                   const struct capstore_open_options *options, uint8_t *base,
                                   uint64_t range)
{
    struct capstore_reader *code = NULL;
    enum capstore_error error = capstore_open(store, hash, options, &code);
    if (error != CAPSTORE_OK) {
        return error;
    }
    lazy->image = capstore_reader_image(code);
    size_t count = lazy->image != NULL ? capstore_image_counts(lazy->image).mappings : 0;
    lazy->areas = calloc(count + 1, sizeof(*lazy->areas));
    lazy->readers = calloc(count + 1, sizeof(struct capstore_reader *));
    if (lazy->image == NULL || lazy->areas == NULL || lazy->readers == NULL) {
        error = lazy->image == NULL ? CAPSTORE_E_WRONG_KIND : CAPSTORE_E_NO_MEMORY;
        lazy->image = NULL;
        capstore_reader_free(code);
        return error;
    }
    lazy->readers[lazy->reader_count++] = code;
    error = add_area(lazy, base, range, CAPSTORE_CODE_BASE, capstore_reader_size(code),
                     (struct area){.reader = code, .read_only = true});
    return error == CAPSTORE_OK ? add_regions(lazy, store, options, base, range) : error;
}

enum capstore_error capstore_space_lazy(struct capstore *store, const struct capstore_hash *hash,
                                        const struct capstore_open_options *open_options,
                                        const struct capstore_lazy_options *options, void *base,
                                        uint64_t len, struct capstore_lazy **ret_lazy)
{
    struct capstore_lazy *lazy = NULL;
    if (base == NULL || (uintptr_t)base % CAPSTORE_PAGE_SIZE != 0 || len > PTRDIFF_MAX) {
        return CAPSTORE_E_INVALID_ARGUMENT;
    }
    client_forget(store);
    enum capstore_error error = client_public(begin(store, options, &lazy));
    if (error == CAPSTORE_OK) {
        lazy->reserved = true;
        error = lay_out(lazy, store, hash, open_options, base, len);
    }
    if (error == CAPSTORE_OK) {
        error = client_public(client_take_turn(store));
    }
    if (error == CAPSTORE_OK) {
        error = client_end(store, start(lazy)); /* its thread may use the store from now on */
        client_end_turn(store);
    }
    if (error != CAPSTORE_OK) {
        capstore_lazy_free(lazy);
        return error;
    }
    *ret_lazy = lazy;
    return CAPSTORE_OK;
}

#else /* no userfaultfd */

static enum capstore_error cannot(struct capstore *store)
{
    client_forget(store);
    return client_public(client_say(store, CAP_E_NOT_SUPPORTED,
                                    "this build of libcapstore knows of no userfaultfd"));
}

enum capstore_error capstore_map_lazy(struct capstore_reader *reader,
                                      const struct capstore_lazy_options *options,
                                      struct capstore_lazy **ret_lazy)
{
    (void)options;
    (void)ret_lazy;
    return cannot(client_reader_store(reader));
}

enum capstore_error capstore_space_lazy(struct capstore *store, const struct capstore_hash *hash,
                                        const struct capstore_open_options *open_options,
                                        const struct capstore_lazy_options *options, void *base,
                                        uint64_t len, struct capstore_lazy **ret_lazy)
{
    (void)hash;
    (void)open_options;
    (void)options;
    (void)base;
    (void)len;
    (void)ret_lazy;
    return cannot(store);
}

void capstore_lazy_free(struct capstore_lazy *lazy)
{
    (void)lazy;
}

struct capstore_bytes capstore_lazy_bytes(const struct capstore_lazy *lazy)
{
    (void)lazy;
    return (struct capstore_bytes){NULL, 0};
}

const struct capstore_cap *capstore_lazy_image(const struct capstore_lazy *lazy)
{
    (void)lazy;
    return NULL;
}

struct capstore_read_counts capstore_lazy_stats(const struct capstore_lazy *lazy)
{
    (void)lazy;
    return (struct capstore_read_counts){0};
}

#endif
