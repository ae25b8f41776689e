/*
 * Configuration: ONE table of options.
 *
 * The table drives the command line (`--name value`, `--name=value`), the JSON configuration file
 * (`--config FILE`, the same names), `--help`, what the admin socket shows, and every check of
 * bounds. The command line wins over the file, the file over the default.
 *
 * Of the configuration in use, any thread may read a number at any time; config_apply may change
 * it. Texts that a reload does not change may be read as well.
 */
#ifndef DAEMON_CORE_CONFIG_H
#define DAEMON_CORE_CONFIG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "lib/cap/error.h"

#define CONFIG_LISTEN_MAX   16
#define CONFIG_IO_URING_MAX 32
#define CONFIG_REASON_SIZE  320
#define CONFIG_VALUE_SIZE   64   /* any value that is not a text */
#define CONFIG_TEXT_SIZE    4096 /* a path */
#define CONFIG_OPTIONS_MAX  72

#define CONFIG_MODE_UMASK UINT64_MAX /* no mode was given */

typedef _Atomic(uint64_t) config_number;

/* Where a value came from. */
enum config_source {
    CONFIG_FROM_DEFAULT,
    CONFIG_FROM_FILE,
    CONFIG_FROM_COMMAND_LINE,
};

struct config_origin {
    enum config_source source;
    unsigned line; /* of the file */
};

/* Every setting. Strings are owned by the struct. Sizes in bytes, times in milliseconds. */
struct config {
    char *state; /* NULL until set; the daemon does not start without it */
    char *listen[CONFIG_LISTEN_MAX];
    size_t listen_count;
    config_number listen_mode; /* of Unix sockets for clients; CONFIG_MODE_UMASK: the umask's */
    char *http;                /* NULL: no HTTP, but on sockets that systemd passes */
    char *admin;               /* NULL: no admin socket */
    char *admin_group;         /* NULL: none; its members may operate */
    char *address_file;        /* NULL: none; where the addresses in use are written */
    char *upstream;            /* NULL: none; where what is not here is fetched from */
    char *backup_dir;          /* NULL: none; where backups are made */
    char *config;              /* the configuration file, as given on the command line */
    config_number log_level;

    config_number map_size; /* 0: the store's default */
    config_number workers;
    config_number threads;      /* loops; 0: as many as there are cores */
    config_number io_uring;     /* sockets in one call; 0: it is not used */
    config_number readers;      /* threads */
    config_number record_cache; /* bytes */
    config_number body_cache;   /* bytes; 0: none */
    config_number map_cache;    /* bytes; 0: nothing is mapped */

    config_number max_connections;
    config_number max_peer_connections; /* a peer's shares: 0: a quarter, see ledger_share */
    config_number peer_prefix6;         /* bits of an IPv6 address that name a peer */
    config_number max_requests;
    config_number max_all_requests;
    config_number max_peer_requests;
    config_number max_hashes;
    config_number closure_max; /* caps in one answer to a CLOSURE */
    config_number max_upload;
    config_number max_uploads;
    config_number max_peer_uploads;
    config_number max_peer_hashing; /* percent of hashing and of the workers */
    config_number max_structure;
    config_number max_slots;
    config_number max_data;
    config_number max_spool;
    config_number max_peer_spool;
    config_number max_memory;
    config_number max_peer_memory;
    config_number max_peer_maps;
    config_number max_buffers;
    config_number resume_keep;  /* seconds; 0: uploads do not go on */
    config_number resume_bytes; /* a peer's */
    config_number max_output;
    config_number disk_reserve;
    config_number quota_bytes; /* a publisher's: 0: none, as the next */
    config_number quota_caps;
    config_number quota_hourly; /* bytes */
    config_number quota_total;  /* bytes of all publishers */
    config_number lease;        /* seconds */
    config_number lease_max;    /* seconds */
    config_number hello_ms;
    config_number idle_ms;
    config_number progress_ms;
    config_number min_upload_rate; /* bytes per second; 0: any */
    config_number min_upload_grace_ms;
    config_number drain_ms;
    config_number upstream_timeout_ms;
    config_number upstream_rate; /* per second: absences that a peer may cause there */
    config_number gc_high;       /* bytes; 0: no collection by itself */
    config_number gc_low;
    config_number backup_keep;
    config_number backup_rate;  /* bytes per second; 0: any */
    config_number scrub_period; /* seconds; 0: none begins by itself */
    config_number scrub_rate;   /* bytes per second; 0: any */
    config_number refusals;

    struct config_origin origins[CONFIG_OPTIONS_MAX]; /* by row of the table */
};

#define CONFIG_THREADS_MAX 64u   /* loops; more do not help one store */
#define CONFIG_HASHES_MAX  8000u /* the most that max_hashes may be */

enum config_type {
    CONFIG_TEXT,  /* char * */
    CONFIG_TEXTS, /* repeatable; in the file a text or an array of texts */
    CONFIG_SIZE,  /* config_number, bytes; K, M, G, T suffixes on the command line and in texts */
    CONFIG_COUNT, /* config_number, as are the next ones */
    CONFIG_MS,
    CONFIG_LEVEL, /* a level of log.h by name */
    CONFIG_MODE,  /* permissions; three octal digits, in the file as a text */
};

/* One row of the table. */
struct config_option {
    const char *name;
    enum config_type type;
    size_t offset; /* in struct config; CONFIG_TEXTS: of the array, the count follows from it */
    uint64_t fallback;
    uint64_t min;
    uint64_t max;
    const char *unit; /* what --help shows for the value */
    const char *help;
    bool live; /* a reload changes it; otherwise it takes a restart */
};

/* What a reading of the configuration found different; texts are cut to the room. */
struct config_change {
    const struct config_option *option;
    char from[CONFIG_VALUE_SIZE]; /* empty: unset */
    char to[CONFIG_VALUE_SIZE];
};

struct config_changes {
    size_t count;
    struct config_change rows[CONFIG_OPTIONS_MAX];
};

/* What the command line asks for. */
enum config_action {
    CONFIG_RUN,
    CONFIG_CHECK,       /* check and print; nothing is opened but the configuration file */
    CONFIG_CHECK_STORE, /* verify the store */
    CONFIG_REPAIR,      /* and put right what can be */
    CONFIG_HELP,
    CONFIG_VERSION,
};

/* The table, in the order in which it is shown. Static. */
const struct config_option *config_options(size_t *ret_count);

/* All defaults. Release with config_free. */
void config_init(struct config *config);

/* Frees what it owns; the struct may be initialised again. */
void config_free(struct config *config);

/*
 * Reads the command line, and the file that it names, over the defaults in an initialised config.
 * CAP_E_INVALID_ARGUMENT, CAP_E_IO or CAP_E_NO_MEMORY with a sentence in ret_reason that names the
 * option.
 */
enum cap_error config_parse(struct config *config, int argc, char **argv,
                            enum config_action *ret_action, char ret_reason[CONFIG_REASON_SIZE]);

/*
 * Reads settings from JSON text (one object), leaving alone those that the command line gave. As
 * config_parse; the reason says which line.
 */
enum cap_error config_parse_json(struct config *config, const char *text, size_t len,
                                 char ret_reason[CONFIG_REASON_SIZE]);

/*
 * Reads the file of a configuration again, with what was given on the command line: an initialised
 * config becomes what a restart would have. As config_parse.
 */
enum cap_error config_read_again(const struct config *given, struct config *config,
                                 char ret_reason[CONFIG_REASON_SIZE]);

/* A copy with strings of its own, into an initialised config. CAP_E_NO_MEMORY. */
enum cap_error config_copy(const struct config *config, struct config *ret_copy);

/* Whether a row has another value in one than in the other. */
bool config_differs(const struct config *one, const struct config *other,
                    const struct config_option *option);

/*
 * Takes every live value of `wanted` over into the configuration in use; texts are exchanged. One
 * thread at a time, which nothing that reads those texts runs beside.
 */
void config_apply(struct config *config, struct config *wanted);

/* "default", "file" or "command line". Static. */
const char *config_source_name(enum config_source source);

/*
 * The present value of one row as JSON would hold it, without quotes; texts are cut to the room.
 * `index` counts within a CONFIG_TEXTS row. Returns false when there is none (unset, past the end).
 */
bool config_value(const struct config *config, const struct config_option *option, size_t index,
                  char *ret_value, size_t size);

/* Writes `--help`. */
void config_help(FILE *out);

/* Writes every setting that has a value as a JSON object that `--config` would take. CAP_E_IO. */
enum cap_error config_print(const struct config *config, FILE *out);

#endif
