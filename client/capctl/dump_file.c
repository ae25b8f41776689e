#include "client/capctl/dump_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define MAGIC       "capdump" /* 8 bytes with the NUL */
#define VERSION     1u
#define HEADER_SIZE 40u
#define HEAD_SIZE   56u /* of a record */
#define SUM_SIZE    8u
#define END_SIZE    32u
#define READ_STEP   ((size_t)256 << 10)
#define BODY_MAX    (UINT64_C(1) << 33) /* more than the format of any body can hold */

static void store32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) {
        p[i] = (uint8_t)(v >> 8 * i);
    }
}

static void store64(uint8_t *p, uint64_t v)
{
    store32(p, (uint32_t)v);
    store32(p + 4, (uint32_t)(v >> 32));
}

static uint32_t load32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t load64(const uint8_t *p)
{
    return load32(p) | (uint64_t)load32(p + 4) << 32;
}

static void *new_sum(struct cli *cli)
{
    XXH3_state_t *sum = XXH3_createState();
    if (sum == NULL) {
        (void)cli_fail_error(cli, CAPSTORE_E_NO_MEMORY, NULL, NULL);
    } else {
        (void)XXH3_64bits_reset(sum);
    }
    return sum;
}

/* ---- writing ---- */

static bool put(struct dump_writer *writer, const void *data, size_t len)
{
    (void)XXH3_64bits_update(writer->sum, data, len);
    return cli_output_write(writer->cli, &writer->output, (struct capstore_bytes){data, len});
}

bool dump_create(struct cli *cli, struct dump_writer *writer, const char *path,
                 const uint8_t store_id[CAPSTORE_STORE_ID_SIZE])
{
    uint8_t header[HEADER_SIZE] = MAGIC;
    *writer = (struct dump_writer){.cli = cli};
    store32(header + 8, VERSION);
    memcpy(header + 16, store_id, CAPSTORE_STORE_ID_SIZE);
    store64(header + 32, XXH3_64bits(header, 32));
    if (!cli_output_open(cli, path, &writer->output)) {
        return false;
    }
    writer->sum = new_sum(cli);
    return writer->sum != NULL && put(writer, header, sizeof(header));
}

/* A record: its head, `body`, and the body's checksum. */
static bool put_record(struct dump_writer *writer, enum dump_type type, uint8_t kind,
                       const struct capstore_hash *hash, struct capstore_bytes body)
{
    uint8_t head[HEAD_SIZE] = {(uint8_t)type, kind};
    uint8_t sum[SUM_SIZE];
    store64(head + 8, body.len);
    memcpy(head + 16, hash->bytes, CAPSTORE_HASH_SIZE);
    store64(head + 48, XXH3_64bits(head, 48));
    store64(sum, XXH3_64bits(body.data, body.len));
    return put(writer, head, sizeof(head)) && put(writer, body.data, body.len) &&
           put(writer, sum, sizeof(sum));
}

bool dump_write_cap(struct dump_writer *writer, const struct capstore_cap *cap)
{
    struct capstore_bytes body = capstore_cap_body(cap);
    writer->counts.caps++;
    writer->counts.body_bytes += body.len;
    return put_record(writer, DUMP_CAP, (uint8_t)capstore_cap_kind(cap), capstore_cap_hash(cap),
                      body);
}

bool dump_write_root(struct dump_writer *writer, const char *name, const struct capstore_hash *hash)
{
    writer->counts.roots++;
    return put_record(writer, DUMP_ROOT, 0, hash,
                      (struct capstore_bytes){(const uint8_t *)name, strlen(name)});
}

bool dump_finish(struct dump_writer *writer)
{
    static const struct capstore_hash none;
    uint8_t end[END_SIZE];
    store64(end, writer->counts.caps);
    store64(end + 8, writer->counts.roots);
    store64(end + 16, writer->counts.body_bytes);
    store64(end + 24, XXH3_64bits_digest(writer->sum));
    return put_record(writer, DUMP_END, 0, &none, (struct capstore_bytes){end, sizeof(end)}) &&
           cli_output_commit(writer->cli, &writer->output);
}

void dump_writer_close(struct dump_writer *writer)
{
    (void)XXH3_freeState(writer->sum);
    writer->sum = NULL;
    cli_output_close(&writer->output);
}

/* ---- reading ---- */

/* Says that what begins at `at` is damaged, and why. */
static bool damaged(struct dump_reader *reader, uint64_t at, const char *why)
{
    (void)cli_fail(reader->cli, CLI_NO, "corrupt", "%s: at byte %llu: %s", reader->path,
                   (unsigned long long)at, why);
    return false;
}

/* The same of a record's cap. */
static bool damaged_cap(struct dump_reader *reader, uint64_t at, const struct capstore_hash *hash,
                        const char *why)
{
    char hex[CAPSTORE_HASH_HEX_SIZE];
    capstore_hash_format(hash, hex);
    (void)cli_fail(reader->cli, CLI_NO, "corrupt", "%s: at byte %llu: cap %s: %s", reader->path,
                   (unsigned long long)at, hex, why);
    return false;
}

/* Reads up to `len` bytes, fewer only at the end. False after saying what is wrong. */
static bool take_some(struct dump_reader *reader, void *dst, size_t len, size_t *ret_len)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = read(reader->fd, (uint8_t *)dst + done, len - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            (void)cli_fail_errno(reader->cli, reader->path, errno);
            return false;
        }
        if (n == 0) {
            break;
        }
        done += (size_t)n;
    }
    reader->at += done;
    *ret_len = done;
    return true;
}

/* Reads all of `len` bytes of the record that begins at `from`. False after saying what is wrong.
 */
static bool take(struct dump_reader *reader, uint64_t from, void *dst, size_t len)
{
    size_t got;
    if (!take_some(reader, dst, len, &got)) {
        return false;
    }
    (void)XXH3_64bits_update(reader->sum, dst, got);
    return got == len || damaged(reader, from, "the file ends within this record");
}

/* Reads a body of a length that is only claimed: memory is taken for what comes. */
static bool take_body(struct dump_reader *reader, uint64_t from, uint64_t len)
{
    for (uint64_t done = 0; done < len;) {
        size_t step = len - done < READ_STEP ? (size_t)(len - done) : READ_STEP;
        if (done + step > reader->capacity) {
            size_t capacity = 2 * reader->capacity + READ_STEP;
            uint8_t *body = realloc(reader->body, capacity);
            if (body == NULL) {
                (void)cli_fail_error(reader->cli, CAPSTORE_E_NO_MEMORY, NULL, NULL);
                return false;
            }
            reader->body = body;
            reader->capacity = capacity;
        }
        if (!take(reader, from, reader->body + done, step)) {
            return false;
        }
        done += step;
    }
    return true;
}

bool dump_open(struct cli *cli, struct dump_reader *reader, const char *path)
{
    uint8_t header[HEADER_SIZE];
    *reader = (struct dump_reader){.cli = cli, .path = path, .fd = -1};
    reader->fd = strcmp(path, "-") == 0 ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
    if (reader->fd < 0) {
        (void)cli_fail_errno(cli, path, errno);
        return false;
    }
    reader->sum = new_sum(cli);
    if (reader->sum == NULL || !take(reader, 0, header, sizeof(header))) {
        return false;
    }
    if (memcmp(header, MAGIC, sizeof(MAGIC)) != 0) {
        return damaged(reader, 0, "not a dump of capctl");
    }
    if (load64(header + 32) != XXH3_64bits(header, 32)) {
        return damaged(reader, 0, "the header is damaged");
    }
    if (load32(header + 8) != VERSION || load32(header + 12) != 0) {
        return damaged(reader, 0, "a version of the format that this capctl does not know");
    }
    return true;
}

/* Makes the cap of a body that was read. */
static bool take_cap(struct dump_reader *reader, uint64_t from, const uint8_t *head,
                     struct dump_record *record)
{
    struct capstore_bytes body = {reader->body, (size_t)load64(head + 8)};
    enum capstore_error error = capstore_cap_from_body(body, &record->hash, &record->cap);
    if (error == CAPSTORE_E_NO_MEMORY) {
        (void)cli_fail_error(reader->cli, error, NULL, NULL);
        return false;
    }
    if (error == CAPSTORE_OK && capstore_cap_kind(record->cap) != head[1]) {
        capstore_cap_free(record->cap);
        error = CAPSTORE_E_WRONG_KIND;
    }
    if (error != CAPSTORE_OK) {
        return damaged_cap(reader, from, &record->hash, capstore_error_text(error));
    }
    reader->counts.caps++;
    reader->counts.body_bytes += body.len;
    return true;
}

static bool take_root(struct dump_reader *reader, uint64_t from, size_t len,
                      struct dump_record *record)
{
    for (size_t i = 0; i < len; i++) {
        if (reader->body[i] <= ' ' || reader->body[i] > '~') {
            return damaged(reader, from, "the name of a root is not printable");
        }
    }
    memcpy(record->name, reader->body, len);
    record->name[len] = '\0';
    reader->counts.roots++;
    return true;
}

/* Compares what the end says with what came; nothing follows it. `sum` is that before the record.
 */
static bool take_end(struct dump_reader *reader, uint64_t from, uint64_t sum)
{
    uint8_t more;
    size_t got = 0;
    const uint8_t *end = reader->body;
    if (load64(end) != reader->counts.caps || load64(end + 8) != reader->counts.roots ||
        load64(end + 16) != reader->counts.body_bytes) {
        return damaged(reader, from, "records are missing: the end counts more or fewer");
    }
    if (load64(end + 24) != sum) {
        return damaged(reader, from, "the checksum of the whole does not match");
    }
    uint64_t after = reader->at;
    if (!take_some(reader, &more, 1, &got)) {
        return false;
    }
    return got == 0 || damaged(reader, after, "bytes follow the end of the dump");
}

/* Whether a head that is undamaged is one of this version. */
static bool head_valid(const uint8_t *head)
{
    static const uint8_t zeros[6];
    uint64_t len = load64(head + 8);
    if (memcmp(head + 2, zeros, sizeof(zeros)) != 0) {
        return false;
    }
    switch (head[0]) {
    case DUMP_CAP:
        return (head[1] == CAPSTORE_KIND_IMAGE || head[1] == CAPSTORE_KIND_DATA) && len > 0 &&
               len <= BODY_MAX;
    case DUMP_ROOT:
        return head[1] == 0 && len > 0 && len <= DUMP_NAME_MAX;
    case DUMP_END:
        return head[1] == 0 && len == END_SIZE;
    default:
        return false;
    }
}

bool dump_next(struct dump_reader *reader, struct dump_record *ret_record)
{
    uint8_t head[HEAD_SIZE];
    uint8_t sum[SUM_SIZE];
    uint64_t from = reader->at;
    uint64_t before = XXH3_64bits_digest(reader->sum);
    struct dump_record *record = ret_record;
    *record = (struct dump_record){.cap = NULL};
    if (!take(reader, from, head, sizeof(head))) {
        return false;
    }
    if (load64(head + 48) != XXH3_64bits(head, 48)) {
        return damaged(reader, from, "the head of a record is damaged");
    }
    if (!head_valid(head)) {
        return damaged(reader, from, "a record that this version of the format does not have");
    }
    uint64_t len = load64(head + 8);
    record->type = (enum dump_type)head[0];
    memcpy(record->hash.bytes, head + 16, CAPSTORE_HASH_SIZE);
    if (!take_body(reader, from, len) || !take(reader, from, sum, sizeof(sum))) {
        return false;
    }
    if (load64(sum) != XXH3_64bits(reader->body, (size_t)len)) {
        return record->type == DUMP_CAP
                   ? damaged_cap(reader, from, &record->hash,
                                 "the checksum of its body does not match")
                   : damaged(reader, from, "the checksum of a record does not match");
    }
    if (record->type == DUMP_ROOT) {
        return take_root(reader, from, (size_t)len, record);
    }
    return record->type == DUMP_CAP ? take_cap(reader, from, head, record)
                                    : take_end(reader, from, before);
}

void dump_reader_close(struct dump_reader *reader)
{
    if (reader->fd >= 0) {
        close(reader->fd);
    }
    (void)XXH3_freeState(reader->sum);
    free(reader->body);
    reader->body = NULL;
    reader->sum = NULL;
    reader->fd = -1;
}
