/* map: a cap mapped as a runtime maps it, and what lies where. */
#include <string.h>

#include "client/capctl/result.h"

static json_t *span_object(const struct capstore_span *span)
{
    return json_pack("{s:o, s:o, s:b, s:o}", "start", out_address(span->address), "size",
                     out_address(span->len), "read_only", span->read_only, "mapped_len",
                     span->fd >= 0 ? out_u64(span->file_len) : json_null());
}

static json_t *span_array(const struct capstore_space *space)
{
    json_t *spans = json_array();
    for (size_t i = 0; i < capstore_space_count(space); i++) {
        struct capstore_span span = capstore_space_span(space, i);
        spans = out_append(spans, span_object(&span));
    }
    return spans;
}

/* `space` is NULL for a Data cap. */
static enum cli_exit print_map(struct cli *cli, const struct capstore_map *map,
                               const struct capstore_space *space)
{
    return cli_print(
        cli,
        json_pack("{s:o, s:o, s:o, s:o, s:b, s:o*}", "cap_hash", out_hash(capstore_map_hash(map)),
                  "kind", out_text(capstore_kind_name(capstore_map_kind(map))), "size",
                  out_u64(capstore_map_size(map)), "mapped_len",
                  out_u64(capstore_map_bytes(map).len), "verified", capstore_map_verified(map),
                  "spans", space != NULL ? span_array(space) : NULL),
        CLI_DONE);
}

enum cli_exit cli_map(struct cli *cli)
{
    struct capstore_hash hash;
    struct capstore_map *map = NULL;
    struct capstore_space *space = NULL;
    enum cli_exit exit = CLI_FAILED;
    if (!cli_parse_hash(cli, cli->arguments[0], &hash)) {
        return CLI_USAGE;
    }
    struct capstore *store = cli_connect(cli, &exit);
    if (store == NULL) {
        return exit;
    }
    enum capstore_error error = capstore_map(store, &hash, CAPSTORE_VERIFY_ONCE, &map);
    if (error == CAPSTORE_OK && capstore_map_kind(map) == CAPSTORE_KIND_IMAGE) {
        error = capstore_space(store, &hash, CAPSTORE_VERIFY_ONCE, &space);
    }
    if (error == CAPSTORE_OK) {
        exit = print_map(cli, map, space);
    } else {
        const char *message = capstore_message(store);
        bool named = strstr(message, cli->arguments[0]) != NULL;
        exit = cli_fail_error(cli, error, named ? NULL : cli->arguments[0], message);
    }
    capstore_space_free(space);
    capstore_map_free(map);
    capstore_free(store);
    return exit;
}
