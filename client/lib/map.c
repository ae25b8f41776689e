/*
 * Maps: a descriptor from the daemon, checked, mapped, verified.
 *
 * Happy path: MAP, its reply with a descriptor, the seals, the mapping, the hash. The file cannot
 * change once it is sealed, so what was checked stays true.
 *
 * Failure modes: the daemon refuses; it sends no descriptor, or one of a file that is not sealed or
 * not of the stated length, or whose content has another hash. Nothing is kept then.
 */
#include <capstore/map.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/lib/conn.h"
#include "client/lib/link.h"
#include "lib/cap/layout.h"

#define DATA_MAX (UINT64_C(1) << 44) /* past this a Data cap has no page that is not zero */

#define SEALS (F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK)

struct capstore_map {
    struct capstore_map *next; /* of those that are verified */
    struct capstore_map **at;  /* what leads to it there */
    struct proto_map_reply layout;
    struct capstore_hash hash;
    bool verified;
    int fd;
    dev_t device;
    ino_t file;
    uint8_t *bytes;
    size_t len;                 /* of the mapping */
    struct capstore_cap *image; /* without its code; NULL: a Data cap */
};

/*
 * Maps of this process that are verified. As long as one of a file is there the file is, and no
 * other file gets its number.
 */
static pthread_mutex_t verified_lock = PTHREAD_MUTEX_INITIALIZER;
static struct capstore_map *verified_maps;

static bool is_verified(const struct capstore_map *map)
{
    const struct capstore_map *at;
    pthread_mutex_lock(&verified_lock);
    for (at = verified_maps; at != NULL; at = at->next) {
        if (at->file == map->file && at->device == map->device &&
            capstore_hash_equal(&at->hash, &map->hash)) {
            break;
        }
    }
    pthread_mutex_unlock(&verified_lock);
    return at != NULL;
}

static void note_verified(struct capstore_map *map)
{
    pthread_mutex_lock(&verified_lock);
    map->verified = true;
    map->next = verified_maps;
    map->at = &verified_maps;
    if (map->next != NULL) {
        map->next->at = &map->next;
    }
    verified_maps = map;
    pthread_mutex_unlock(&verified_lock);
}

void capstore_map_free(struct capstore_map *map)
{
    if (map == NULL) {
        return;
    }
    if (map->verified) {
        pthread_mutex_lock(&verified_lock);
        *map->at = map->next;
        if (map->next != NULL) {
            map->next->at = map->at;
        }
        pthread_mutex_unlock(&verified_lock);
    }
    if (map->bytes != NULL) {
        munmap(map->bytes, map->len);
    }
    if (map->fd >= 0) {
        close(map->fd);
    }
    capstore_cap_free(map->image);
    free(map);
}

/* ---- the descriptor ---- */

static enum cap_error bad_reply(struct capstore *store, const char *what)
{
    return client_say(store, CAP_E_BAD_REPLY, "the daemon's answer to MAP: %s", what);
}

/* Why the stated layout cannot be that of such a cap; NULL: it can. */
static const char *layout_wrong(const struct proto_map_reply *layout)
{
    if (layout->kind == CAP_KIND_DATA) {
        uint64_t len = layout->size < DATA_MAX ? layout->size : DATA_MAX;
        return layout->len == len && layout->size % CAP_PAGE_SIZE == 0 && layout->size > 0
                   ? NULL
                   : "a size that no Data cap has";
    }
    if (layout->size > CAP_MAX_CODE_SIZE || layout->rest_off % CAP_PAGE_SIZE != 0 ||
        layout->rest_len < CAP_IMAGE_FRONT || layout->body_len != layout->size + layout->rest_len) {
        return "sizes that no Image has";
    }
    return NULL;
}

/* Why the file cannot be relied on; NULL: its bytes and its length will not change. */
static const char *file_wrong(struct capstore_map *map)
{
    struct stat stat;
    if (map->fd < 0) {
        return "it came without a descriptor";
    }
    int seals = fcntl(map->fd, F_GET_SEALS);
    if (seals < 0 || (seals & SEALS) != SEALS) {
        return "the file is not sealed";
    }
    if (fstat(map->fd, &stat) != 0 || stat.st_size < 0 ||
        (uint64_t)stat.st_size != map->layout.len) {
        return "the file is not as long as stated";
    }
    map->device = stat.st_dev;
    map->file = stat.st_ino;
    return NULL;
}

/* Takes the reply and its descriptor. */
static enum cap_error take_map(struct capstore *store, struct capstore_map *map,
                               struct cap_bytes in)
{
    enum cap_error error = CAP_OK;
    map->fd = store->passed;
    store->passed = -1;
    if (map->fd == CLIENT_PASSED_LOST) {
        return client_say(store, CAP_E_NO_MEMORY, "too many open files (ulimit -n)");
    }
    const char *wrong = "it does not decode";
    if (proto_map_reply_decode(in, &map->layout) == CAP_OK) {
        wrong = layout_wrong(&map->layout);
    }
    if (wrong == NULL) {
        wrong = file_wrong(map);
    }
    if (wrong != NULL) {
        error = bad_reply(store, wrong);
        client_fail_all(store, error, store->message);
        return error;
    }
    return error;
}

static enum cap_error ask(struct capstore *store, struct capstore_map *map)
{
    const struct proto_map message = {client_cap_hash(&map->hash)};
    struct cap_buf payload = {0};
    struct capstore_request *request = NULL;
    enum cap_error encoded = proto_map_encode(&message, &payload);
    enum cap_error error = client_request_new(store, PROTO_MAP, encoded, &payload, &request);
    if (error != CAP_OK) {
        return error;
    }
    error = client_run(request);
    if (error == CAP_OK) {
        error = take_map(store, map, cap_buf_bytes(&request->body));
    }
    client_request_free(request);
    return error;
}

/* ---- the content ---- */

static uint64_t page_up(uint64_t len)
{
    return (len + CAP_PAGE_SIZE - 1) / CAP_PAGE_SIZE * CAP_PAGE_SIZE;
}

static enum cap_error map_bytes(struct capstore_map *map)
{
    bool is_image = map->layout.kind == CAP_KIND_IMAGE;
    uint64_t len = is_image ? page_up(map->layout.size) : map->layout.len;
    if (len == 0) {
        return CAP_OK;
    }
    void *bytes = MAP_FAILED;
    if (len <= SIZE_MAX) {
        bytes = mmap(NULL, (size_t)len, PROT_READ, MAP_SHARED, map->fd, 0);
    }
    if (bytes == MAP_FAILED) {
        return is_image ? CAP_E_NO_MEMORY : CAP_OK;
    }
    map->bytes = bytes;
    map->len = (size_t)len;
    return CAP_OK;
}

static enum cap_error read_at(int fd, uint64_t offset, uint8_t *dst, size_t len)
{
    while (len > 0) {
        ssize_t n = pread(fd, dst, len, (off_t)offset);
        if (n <= 0) {
            return CAP_E_IO;
        }
        dst += n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return CAP_OK;
}

/* Takes in what an Image has besides its code. */
static enum cap_error read_rest(struct capstore *store, struct capstore_map *map)
{
    const struct proto_map_reply *layout = &map->layout;
    struct cap_buf body = {0};
    struct cap_hash hash = client_cap_hash(&map->hash);
    uint64_t code_len;
    if (layout->rest_len > store->max_body) {
        return client_say(store, CAP_E_BODY_TOO_LARGE,
                          "the structure is %llu bytes long; at most %llu are accepted",
                          (unsigned long long)layout->rest_len,
                          (unsigned long long)store->max_body);
    }
    enum cap_error error = layout->rest_len <= SIZE_MAX
                               ? cap_buf_reserve(&body, (size_t)layout->rest_len)
                               : CAP_E_NO_MEMORY;
    if (error == CAP_OK) {
        body.len = (size_t)layout->rest_len;
        error = read_at(map->fd, layout->rest_off, body.data, body.len);
    }
    if (error == CAP_OK) {
        error = cap_image_cut_code(body.data, layout->body_len, &code_len);
    }
    if (error == CAP_OK && code_len != layout->size) {
        error = CAP_E_BODY_NOT_CANONICAL;
    }
    for (size_t at = (size_t)layout->size; error == CAP_OK && at < map->len; at++) {
        error = map->bytes[at] == 0 ? CAP_OK : CAP_E_BODY_NOT_CANONICAL;
    }
    if (error == CAP_OK) {
        error = client_cap_make(&body, &hash, false, NULL, &map->image);
    }
    if (error == CAP_OK && map->image->kind != CAP_KIND_IMAGE) {
        error = CAP_E_BODY_NOT_CANONICAL;
    }
    cap_buf_free(&body);
    return error;
}

static enum cap_error hash_content(const struct capstore_map *map, struct cap_hash *ret_hash)
{
    if (map->image != NULL) {
        const struct cap_bytes code = {map->bytes, (size_t)map->layout.size};
        struct cap_hash code_root;
        cap_byte_list_root(code, &code_root);
        cap_image_parts_hash(&map->image->image, &code_root, ret_hash);
        return CAP_OK;
    }
    struct capstore_source content = capstore_source_fd(&map->fd, map->layout.len);
    struct cap_data data;
    enum cap_error error = client_data_make(&content, map->layout.size, &data);
    if (error == CAP_OK) {
        *ret_hash = data.hash;
        cap_data_free(&data);
    }
    return error;
}

static enum cap_error verify_content(struct capstore_map *map, enum capstore_verify verify)
{
    struct cap_hash wanted = client_cap_hash(&map->hash);
    struct cap_hash hash;
    if (verify == CAPSTORE_VERIFY_NEVER) {
        return CAP_OK;
    }
    if (verify == CAPSTORE_VERIFY_ALWAYS || !is_verified(map)) {
        enum cap_error error = hash_content(map, &hash);
        if (error != CAP_OK) {
            return error;
        }
        if (!cap_hash_equal(&hash, &wanted)) {
            return CAP_E_HASH_MISMATCH;
        }
    }
    note_verified(map);
    if (map->image != NULL) {
        map->image->verified = true;
    }
    return CAP_OK;
}

enum capstore_error capstore_map(struct capstore *store, const struct capstore_hash *hash,
                                 enum capstore_verify verify, struct capstore_map **ret_map)
{
    enum cap_error error = client_begin(store);
    struct capstore_map *map = calloc(1, sizeof(*map));
    if (error == CAP_OK && map == NULL) {
        error = CAP_E_NO_MEMORY;
    }
    if (error != CAP_OK) {
        free(map);
        return client_end(store, error);
    }
    map->fd = -1;
    map->hash = *hash;
    error = ask(store, map);
    if (error == CAP_OK) {
        error = map_bytes(map);
    }
    if (error == CAP_OK && map->layout.kind == CAP_KIND_IMAGE) {
        error = read_rest(store, map);
    }
    if (error == CAP_OK) {
        error = verify_content(map, store->no_verify ? CAPSTORE_VERIFY_NEVER : verify);
    }
    if (error == CAP_OK) {
        *ret_map = map;
    } else {
        capstore_map_free(map);
    }
    return client_end(store, error);
}

enum capstore_kind capstore_map_kind(const struct capstore_map *map)
{
    return (enum capstore_kind)map->layout.kind;
}

const struct capstore_hash *capstore_map_hash(const struct capstore_map *map)
{
    return &map->hash;
}

bool capstore_map_verified(const struct capstore_map *map)
{
    return map->verified;
}

int capstore_map_fd(const struct capstore_map *map)
{
    return map->fd;
}

uint64_t capstore_map_size(const struct capstore_map *map)
{
    return map->layout.size;
}

struct capstore_bytes capstore_map_bytes(const struct capstore_map *map)
{
    return (struct capstore_bytes){map->bytes, map->len};
}

const struct capstore_cap *capstore_map_image(const struct capstore_map *map)
{
    return map->image;
}
