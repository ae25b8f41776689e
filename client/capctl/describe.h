/*
 * Descriptions to packs: what `pack` reads, a manifest or a program.
 *
 * A description collects into a capstore_pack; the files that it names stay open until it is freed,
 * because packing reads from them.
 */
#ifndef CLIENT_CAPCTL_DESCRIBE_H
#define CLIENT_CAPCTL_DESCRIBE_H

#include "client/capctl/file.h"
#include "client/capctl/out.h"

/* What belongs to a pack and is released with it. */
struct describe {
    struct cli *cli;
    struct capstore_pack *pack;
    struct held *held; /* files and memory, newest first */
    json_t *warnings;  /* what `pack` prints in front of the check's own; NULL: none */
};

/* An empty description. False after saying what is wrong. */
bool describe_begin(struct cli *cli, struct describe *ret_describe);

/* Releases it and all that it holds. */
void describe_end(struct describe *describe);

/*
 * Makes a source that lives as long as the description: a file, or `len` bytes of memory that
 * describe_memory gave. False after saying what is wrong.
 */
bool describe_file(struct describe *describe, const char *path, struct capstore_source *ret_source);
bool describe_bytes(struct describe *describe, const uint8_t *bytes, size_t len,
                    struct capstore_source *ret_source);

/* Memory of `len` zero bytes that lives as long as the description. NULL after saying so. */
void *describe_memory(struct describe *describe, size_t len);

/* Turns an error of the packer into a message. True when there was none. */
bool describe_ok(struct describe *describe, enum capstore_error error, const char *what);

/* Says that the description itself is wrong (exit status 1). Returns false. */
bool describe_refuse(struct describe *describe, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Adds a warning, {"reason", "message"}, to what `pack` prints. `reason` is a stable word. */
void describe_warn(struct describe *describe, const char *reason, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
