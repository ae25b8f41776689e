/* Files in and out: "-" for the standard streams, results put in place atomically. */
#ifndef CLIENT_CAPCTL_FILE_H
#define CLIENT_CAPCTL_FILE_H

#include "client/capctl/cli.h"

/* An open input whose every byte can be read at its offset. */
struct cli_input {
    int fd;
    uint64_t len;
    struct capstore_source source; /* refers to this struct: it stays where it is */
};

/*
 * Opens a regular file; anything else ("-", a pipe, a device, a file whose size is not its length,
 * as in /proc) is copied to an unlinked temporary file first. False after saying what is wrong.
 */
bool cli_input_open(struct cli *cli, const char *path, struct cli_input *ret_input);

/* Closes it. */
void cli_input_close(struct cli_input *input);

/* An input as a served body: NULL when it is not one, or cannot be read. The caller owns the cap.
 */
struct capstore_cap *cli_input_body(const struct cli_input *input);

#define CLI_TEMPORARY_SIZE                                                                         \
    24 /* ".capctl.", 8 digits and a NUL: short, however long the final name */

/* An output under way. */
struct cli_output {
    int fd;
    bool stream; /* the standard output, a pipe or a device: written from front to back */
    char *path;  /* for messages */
    char *final; /* the file to replace, NULL for a stream */
    int directory;
    const char *name;                   /* of the final file in `directory`; inside `final` */
    char temporary[CLI_TEMPORARY_SIZE]; /* what is written until then, in `directory`; "": none */
    struct cli_output *older;           /* of those with a temporary file */
};

/*
 * Opens `path` for writing ("-": the standard output). A regular file is written beside its final
 * place and appears whole with cli_output_commit; a link is followed, also to what is not there
 * yet. It stays where it is until cli_output_close. False after saying what is wrong.
 */
bool cli_output_open(struct cli *cli, const char *path, struct cli_output *ret_output);

/* Where -o says that the bytes of a cap go: "-" without it, or with --json NULL, nowhere. False
 * after saying why they cannot go there. */
bool cli_choose_output(struct cli *cli, const char **ret_path);

/* Makes a directory unless it exists; a link is followed, also to what is not there yet. False
 * after saying what is wrong. */
bool cli_make_directory(struct cli *cli, const char *path);

/* Writes all of it at the end. False after saying what is wrong. */
bool cli_output_write(struct cli *cli, struct cli_output *output, struct capstore_bytes bytes);

/* Writes all of a source. False after saying what is wrong. */
bool cli_output_copy(struct cli *cli, struct cli_output *output,
                     const struct capstore_source *source);

/* Writes a Data cap's logical bytes: holes in a file, zeros in a stream. False after saying what is
 * wrong. */
bool cli_output_data(struct cli *cli, struct cli_output *output, const struct capstore_cap *cap);

/* Puts the result in place, durably. False after saying what is wrong. */
bool cli_output_commit(struct cli *cli, struct cli_output *output);

/* Releases it; what was not committed is removed. */
void cli_output_close(struct cli_output *output);

#define CLI_BATCH 64 /* each has two descriptors; a limit of 256 is the least that is usual */

/* Outputs that are put in place together, with one sync for all. Zeroed: empty. It stays where it
 * is until cli_batch_close. */
struct cli_batch {
    struct cli_output outputs[CLI_BATCH];
    size_t count;
};

/* Opens the next output, a file whose name the tool chose: what else has that name, such as a link,
 * is replaced. Those before it are committed if there is no room. NULL after saying what is wrong.
 */
struct cli_output *cli_batch_open(struct cli *cli, struct cli_batch *batch, const char *path);

/* Puts all in place, as cli_output_commit does. False after saying what is wrong. */
bool cli_batch_commit(struct cli *cli, struct cli_batch *batch);

/* Releases all; what was not committed is removed. */
void cli_batch_close(struct cli_batch *batch);

#endif
