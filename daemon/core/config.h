/*
 * Configuration: ONE table of options.
 *
 * The table drives the command line (`--name value`, `--name=value`), the JSON configuration file
 * (`--config FILE`, the same names), `--help`, what the admin socket shows, and every check of
 * bounds. The command line wins over the file, the file over the default.
 */
#ifndef DAEMON_CORE_CONFIG_H
#define DAEMON_CORE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "lib/cap/error.h"

#define CONFIG_LISTEN_MAX  16
#define CONFIG_REASON_SIZE 320
#define CONFIG_VALUE_SIZE  64   /* any value that is not a text */
#define CONFIG_TEXT_SIZE   4096 /* a path */

#define CONFIG_MODE_UMASK UINT64_MAX /* no mode was given */

/* Every setting. Strings are owned by the struct. Sizes in bytes, times in milliseconds. */
struct config {
    char *state; /* NULL until set; the daemon does not start without it */
    char *listen[CONFIG_LISTEN_MAX];
    size_t listen_count;
    uint64_t listen_mode; /* of the Unix sockets in `listen`; CONFIG_MODE_UMASK: the umask's */
    char *admin;          /* NULL: no admin socket */
    char *admin_group;    /* NULL: none; its members may operate */
    char *address_file;   /* NULL: none; where the addresses in use are written */
    char *config;         /* the configuration file, as given on the command line */
    uint64_t log_level;

    uint64_t map_size; /* 0: the store's default */
    uint64_t workers;
    uint64_t threads;      /* loops; 0: as many as there are cores */
    uint64_t readers;      /* threads */
    uint64_t record_cache; /* bytes */
    uint64_t body_cache;   /* bytes; 0: none */
    uint64_t map_cache;    /* bytes; 0: nothing is mapped */

    uint64_t max_connections;
    uint64_t max_peer_connections; /* a peer's shares: 0: a quarter, see ledger_share */
    uint64_t peer_prefix6;         /* bits of an IPv6 address that name a peer */
    uint64_t max_requests;
    uint64_t max_all_requests;
    uint64_t max_peer_requests;
    uint64_t max_hashes;
    uint64_t max_upload;
    uint64_t max_uploads;
    uint64_t max_peer_uploads;
    uint64_t max_peer_hashing; /* percent of hashing and of the workers */
    uint64_t max_structure;
    uint64_t max_slots;
    uint64_t max_data;
    uint64_t max_spool;
    uint64_t max_peer_spool;
    uint64_t max_memory;
    uint64_t max_peer_memory;
    uint64_t max_peer_maps;
    uint64_t max_buffers;
    uint64_t max_output;
    uint64_t disk_reserve;
    uint64_t hello_ms;
    uint64_t idle_ms;
    uint64_t progress_ms;
    uint64_t min_upload_rate; /* bytes per second; 0: any */
    uint64_t min_upload_grace_ms;
    uint64_t drain_ms;
    uint64_t refusals;
};

#define CONFIG_THREADS_MAX 64u   /* loops; more do not help one store */
#define CONFIG_HASHES_MAX  8000u /* the most that max_hashes may be */

enum config_type {
    CONFIG_TEXT,  /* char * */
    CONFIG_TEXTS, /* repeatable; in the file a text or an array of texts */
    CONFIG_SIZE,  /* uint64_t bytes; K, M, G, T suffixes on the command line and in texts */
    CONFIG_COUNT, /* uint64_t */
    CONFIG_MS,    /* uint64_t */
    CONFIG_LEVEL, /* a level of log.h by name */
    CONFIG_MODE,  /* uint64_t permissions; three octal digits, in the file as a text */
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
};

/* What the command line asks for. */
enum config_action {
    CONFIG_RUN,
    CONFIG_CHECK,       /* check and print; nothing is opened but the configuration file */
    CONFIG_CHECK_STORE, /* verify the store */
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
 * Reads settings from JSON text (one object), leaving alone those that a bit of `set` (by row)
 * marks as given already. As config_parse.
 */
enum cap_error config_parse_json(struct config *config, const char *text, size_t len, uint64_t set,
                                 char ret_reason[CONFIG_REASON_SIZE]);

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
