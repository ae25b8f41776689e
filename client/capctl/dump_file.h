/*
 * The stream of a dump (proto/DUMP.md): written front to back, read front to back, every byte
 * covered by a checksum.
 */
#ifndef CLIENT_CAPCTL_DUMP_FILE_H
#define CLIENT_CAPCTL_DUMP_FILE_H

#include "client/capctl/file.h"

#define DUMP_NAME_MAX 128u /* bytes of a root's name */

/* What a dump has had so far. */
struct dump_counts {
    uint64_t caps;
    uint64_t roots;
    uint64_t body_bytes;
};

/* ---- writing ---- */

struct dump_writer {
    struct cli *cli;
    struct cli_output output;
    struct dump_counts counts;
    void *sum; /* of everything written */
};

/* Opens a file, which appears whole when it is complete, or "-", and begins the dump of the store
 * `store_id`. It stays where it is. False after saying what is wrong. */
bool dump_create(struct cli *cli, struct dump_writer *writer, const char *path,
                 const uint8_t store_id[CAPSTORE_STORE_ID_SIZE]);

/* Writes a cap. False after saying what is wrong. */
bool dump_write_cap(struct dump_writer *writer, const struct capstore_cap *cap);

/* Writes a root, whose cap was written. False after saying what is wrong. */
bool dump_write_root(struct dump_writer *writer, const char *name,
                     const struct capstore_hash *hash);

/* Writes the end and puts the file in place. False after saying what is wrong. */
bool dump_finish(struct dump_writer *writer);

/* Releases it; a file that was not finished is removed. */
void dump_writer_close(struct dump_writer *writer);

/* ---- reading ---- */

enum dump_type {
    DUMP_CAP = 1,
    DUMP_END = 2,
    DUMP_ROOT = 3,
};

struct dump_record {
    enum dump_type type;
    struct capstore_hash hash;    /* DUMP_CAP, DUMP_ROOT: of the cap */
    struct capstore_cap *cap;     /* DUMP_CAP: verified; the caller's */
    char name[DUMP_NAME_MAX + 1]; /* DUMP_ROOT */
};

struct dump_reader {
    struct cli *cli;
    const char *path;
    int fd;
    uint64_t at; /* bytes read */
    struct dump_counts counts;
    void *sum; /* of everything read */
    uint8_t *body;
    size_t capacity;
};

/* Opens a file or "-" and reads the header. False after saying what is wrong. */
bool dump_open(struct cli *cli, struct dump_reader *reader, const char *path);

/*
 * Reads the next record. What is not as it must be is said with the offset of the record, and the
 * hash if there is one: then false. After DUMP_END nothing follows.
 */
bool dump_next(struct dump_reader *reader, struct dump_record *ret_record);

/* Releases it. */
void dump_reader_close(struct dump_reader *reader);

#endif
