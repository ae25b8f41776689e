/* check and hash: the commands that need no daemon. */
#include <string.h>

#include "client/capctl/file.h"
#include "client/capctl/progress.h"
#include "client/capctl/result.h"

enum cli_exit cli_print(struct cli *cli, json_t *object, enum cli_exit exit)
{
    bool good = out_print(object, cli->json, cli->quiet ? stderr : stdout);
    json_decref(object);
    return good ? exit : cli_fail(cli, CLI_FAILED, "io", "cannot write the result");
}

static json_t *warning_object(const struct capstore_warning *warning)
{
    bool bytes = strcmp(warning->reason, "arena_unused") == 0;
    return json_pack("{s:o, s:o*, s:o*, s:o*, s:o*, s:o*, s:o}", "reason",
                     out_text(warning->reason), "key",
                     warning->has_key ? out_key(warning->key) : NULL, "mapping",
                     warning->has_index ? out_u64(warning->index) : NULL, "other_mapping",
                     warning->has_other_index ? out_u64(warning->other_index) : NULL, "bytes",
                     warning->has_value && bytes ? out_u64(warning->value) : NULL, "address",
                     warning->has_value && !bytes ? out_address(warning->value) : NULL, "message",
                     out_text(warning->text));
}

static json_t *data_object(const struct capstore_check_data *data)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "table",
                     out_text(capstore_table_name(data->table)), "slot", out_key(data->slot),
                     "size", out_u64(data->size), "cap_hash", out_hash(&data->cap_hash), "body_len",
                     out_u64(data->body_len));
}

enum cli_exit cli_print_check(struct cli *cli, const struct capstore_check_result *check,
                              json_t *warnings, const char *message)
{
    if (check->error != CAPSTORE_OK) {
        json_decref(warnings);
        return cli_print(cli,
                         json_pack("{s:s, s:o, s:o}", "verdict", "refused", "error",
                                   out_text(capstore_error_name(check->error)), "message",
                                   out_text(message != NULL ? message : check->message)),
                         CLI_NO);
    }
    json_t *data = json_array();
    for (size_t i = 0; i < check->data_count; i++) {
        data = out_append(data, data_object(&check->data[i]));
    }
    json_t *images = json_array();
    for (size_t i = 0; i < check->image_count; i++) {
        images = out_append(images, json_pack("{s:o, s:o}", "slot", out_key(check->images[i].slot),
                                              "cap_hash", out_hash(&check->images[i].cap_hash)));
    }
    if (warnings == NULL) {
        warnings = json_array();
    }
    for (size_t i = 0; i < check->warning_count; i++) {
        warnings = out_append(warnings, warning_object(&check->warnings[i]));
    }
    return cli_print(cli,
                     json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "verdict", "accepted",
                               "image_content_hash", out_hash(&check->content_hash), "cap_hash",
                               out_hash(&check->cap_hash), "body_len", out_u64(check->body_len),
                               "data", data, "images", images, "warnings", warnings),
                     CLI_DONE);
}

struct capstore_check_result *cli_judge(struct cli *cli, const struct capstore_source *wire,
                                        enum cli_exit *ret_exit)
{
    struct cli_meter meter;
    cli_meter_begin(cli, &meter, "checking", NULL);
    /* The arena is read for the content hash and once more for what names it. */
    struct capstore_source metered = cli_meter_source(&meter, wire, 2);
    struct capstore_check_result *check = NULL;
    enum capstore_error error = capstore_check(&metered, &check);
    cli_meter_end(cli);
    if (error != CAPSTORE_OK) {
        *ret_exit = cli_fail_error(cli, error, "check", NULL);
    }
    return check;
}

/* White space of JSON. */
static bool is_space(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

/* The first bytes of an input, without a byte order mark and white space in front. */
static size_t front_of(const struct cli_input *input, uint8_t *ret_front, size_t size)
{
    uint8_t bytes[256];
    size_t len = input->len < sizeof(bytes) ? (size_t)input->len : sizeof(bytes);
    size_t start = 0;
    if (input->source.read(input->source.ctx, 0, bytes, len) != CAPSTORE_OK) {
        return 0;
    }
    if (len >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0) {
        start = 3;
    }
    while (start < len && is_space(bytes[start])) {
        start++;
    }
    len = len - start < size ? len - start : size;
    memcpy(ret_front, bytes + start, len);
    return len;
}

bool cli_recognise(const struct cli_input *input, char ret_sentence[CLI_NATURE_SIZE])
{
    uint8_t front[8];
    size_t len = front_of(input, front, sizeof(front));
    const char *sentence = NULL;
    struct capstore_cap *cap = NULL;
    struct capstore_wire *wire = NULL;
    if (input->len == 0) {
        sentence = "the file is empty";
    } else if (len >= 4 && memcmp(front,
                                  "\x7f"
                                  "ELF",
                                  4) == 0) {
        sentence = "this is an ELF program; use capctl pack --elf";
    } else if (len >= 2 && front[0] == '{' &&
               (front[1] == '"' || front[1] == '}' || is_space(front[1]))) {
        sentence = "this is a JSON manifest; use capctl pack";
    } else if ((cap = cli_input_body(input)) != NULL) {
        sentence = capstore_cap_kind(cap) == CAPSTORE_KIND_DATA
                       ? "this is a served body (kind: data); capctl show reads it, and capctl put "
                         "--canonical publishes it"
                       : "this is a served body (kind: image); capctl show reads it, and only its "
                         "wire Image can be published";
    } else if (capstore_wire_open(&input->source, &wire) == CAPSTORE_OK) {
        sentence = "this is a wire Image; use capctl publish";
    }
    if (sentence != NULL) {
        snprintf(ret_sentence, CLI_NATURE_SIZE, "%s", sentence);
    }
    capstore_wire_free(wire);
    capstore_cap_free(cap);
    return sentence != NULL;
}

/* The fixed part of a wire Image, and where its first offset lies, whose value is its length. */
#define FIXED_LEN    40u
#define FIRST_OFFSET 8u

const char *cli_ssz_text(const struct cli_input *input, const char *why,
                         char ret_text[CLI_SSZ_SIZE])
{
    static const uint8_t first[] = {FIXED_LEN, 0, 0, 0};
    uint8_t fixed[FIXED_LEN];
    if (cli_recognise(input, ret_text)) {
        return ret_text;
    }
    if (input->len >= sizeof(fixed) &&
        (input->source.read(input->source.ctx, 0, fixed, sizeof(fixed)) != CAPSTORE_OK ||
         memcmp(fixed + FIRST_OFFSET, first, sizeof(first)) == 0)) {
        return why;
    }
    snprintf(ret_text, CLI_SSZ_SIZE, "not a wire Image (%s); capctl pack makes one", why);
    return ret_text;
}

enum cli_exit cli_check(struct cli *cli)
{
    struct cli_input input;
    if (!cli_input_open(cli, cli->arguments[0], &input)) {
        return CLI_FAILED;
    }
    enum cli_exit exit = CLI_FAILED;
    struct capstore_check_result *check = cli_judge(cli, &input.source, &exit);
    if (check != NULL) {
        char nature[CLI_SSZ_SIZE];
        const char *text = check->message;
        if (check->error == CAPSTORE_E_SSZ) {
            text = cli_ssz_text(&input, text, nature);
        }
        if (text != check->message) {
            cli_note("%s: %s", cli->arguments[0], text);
        }
        exit = cli_print_check(cli, check, NULL, text);
    }
    capstore_check_free(check);
    cli_input_close(&input);
    return exit;
}

enum cli_exit cli_hash(struct cli *cli)
{
    uint64_t size;
    struct cli_input input;
    if (!cli_option_size(cli, CLI_SIZE, 0, &size)) {
        return CLI_USAGE;
    }
    if (!cli_input_open(cli, cli->arguments[0], &input)) {
        return CLI_FAILED;
    }
    struct cli_meter meter;
    cli_meter_begin(cli, &meter, "hashing", NULL);
    struct capstore_source metered = cli_meter_source(&meter, &input.source, 1);
    struct capstore_data_id id;
    enum capstore_error error = capstore_data_hash(&metered, size, &id);
    cli_meter_end(cli);
    cli_input_close(&input);
    if (error != CAPSTORE_OK) {
        return cli_fail_error(cli, error, cli->arguments[0], NULL);
    }
    return cli_print(cli,
                     json_pack("{s:o, s:o, s:o}", "cap_hash", out_hash(&id.cap_hash), "size",
                               out_u64(id.size), "body_len", out_u64(id.body_len)),
                     CLI_DONE);
}
