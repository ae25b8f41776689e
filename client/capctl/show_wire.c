/* show, for a wire Image: every field as it stands, with the deblob's verdict. */
#include "client/capctl/result.h"
#include "client/capctl/show.h"

static json_t *endpoint_array(const struct capstore_wire *wire, size_t count)
{
    json_t *endpoints = json_array();
    for (size_t i = 0; i < count; i++) {
        struct capstore_wire_endpoint endpoint = capstore_wire_endpoint_at(wire, i);
        json_t *registers = json_object();
        for (size_t r = 0; r < endpoint.registers; r++) {
            struct capstore_register value = capstore_wire_register_at(wire, i, r);
            char index[4];
            snprintf(index, sizeof(index), "%u", value.index);
            if (json_object_set_new(registers, index, out_address(value.value)) != 0) {
                json_decref(registers);
                registers = NULL;
            }
        }
        endpoints = out_append(
            endpoints,
            json_pack("{s:o, s:o, s:i, s:i, s:o}", "key", out_key(endpoint.key), "entry_pc",
                      out_address(endpoint.entry_pc), "arg_registers", (int)endpoint.arg_registers,
                      "arg_cnode_size", (int)endpoint.arg_cnode_size, "initial_regs", registers));
    }
    return endpoints;
}

static json_t *mapping_array(const struct capstore_wire *wire, size_t count)
{
    json_t *mappings = json_array();
    for (size_t i = 0; i < count; i++) {
        struct capstore_mapping mapping = capstore_wire_mapping_at(wire, i);
        json_t *source = json_array();
        for (size_t step = 0; step < mapping.steps; step++) {
            source = out_append(source, out_key(capstore_wire_mapping_step(wire, i, step)));
        }
        mappings =
            out_append(mappings, json_pack("{s:o, s:o, s:o}", "start", out_address(mapping.start),
                                           "size", out_address(mapping.size), "source", source));
    }
    return mappings;
}

/* The pages of slot `i`; for a person only how many they are. */
static json_t *pages_of(const struct capstore_wire *wire, size_t i, size_t count, bool json)
{
    if (!json) {
        return out_u64(count);
    }
    json_t *pages = json_array();
    for (size_t p = 0; p < count; p++) {
        struct capstore_wire_page page = capstore_wire_page_at(wire, i, p);
        pages = out_append(pages, json_pack("{s:o, s:o, s:o}", "page_index", out_u64(page.index),
                                            "arena_off", out_u64(page.arena_off), "len",
                                            out_u64(page.len)));
    }
    return pages;
}

/* Slot `i`. `data` is the check's entry for it, NULL when the Image was refused. */
static json_t *slot_object(const struct capstore_wire *wire, size_t i,
                           const struct capstore_wire_slot *slot,
                           const struct capstore_check_data *data, bool json)
{
    if (slot->kind == CAPSTORE_KIND_IMAGE) {
        return json_pack("{s:o, s:s, s:o}", "slot", out_key(slot->key), "kind", "image", "cap_hash",
                         out_hash(&slot->image));
    }
    return json_pack("{s:o, s:s, s:o, s:o*, s:o}", "slot", out_key(slot->key), "kind", "data",
                     "size", out_u64(slot->size), "cap_hash",
                     data != NULL ? out_hash(&data->cap_hash) : NULL, "pages",
                     pages_of(wire, i, slot->pages, json));
}

/* Both tables, by enum capstore_table; the check lists the data of an accepted Image in the same
 * order. */
static void slot_arrays(const struct capstore_wire *wire, size_t count,
                        const struct capstore_check_result *check, bool json, json_t *ret_tables[2])
{
    size_t next_data = 0;
    ret_tables[CAPSTORE_TABLE_PINNED] = json_array();
    ret_tables[CAPSTORE_TABLE_INITIAL] = json_array();
    for (size_t i = 0; i < count; i++) {
        struct capstore_wire_slot slot = capstore_wire_slot_at(wire, i);
        bool listed = slot.kind == CAPSTORE_KIND_DATA && check->error == CAPSTORE_OK;
        const struct capstore_check_data *data = listed ? &check->data[next_data++] : NULL;
        ret_tables[slot.table] =
            out_append(ret_tables[slot.table], slot_object(wire, i, &slot, data, json));
    }
}

static json_t *key_array(const struct capstore_wire *wire, size_t count,
                         struct capstore_bytes (*at)(const struct capstore_wire *, size_t))
{
    json_t *keys = json_array();
    for (size_t i = 0; i < count; i++) {
        keys = out_append(keys, out_key(at(wire, i)));
    }
    return keys;
}

static enum cli_exit print_wire(struct cli *cli, const struct capstore_wire *wire,
                                const struct capstore_check_result *check)
{
    struct capstore_wire_info info = capstore_wire_info_of(wire);
    bool accepted = check->error == CAPSTORE_OK;
    json_t *tables[2];
    slot_arrays(wire, info.slots, check, cli->json, tables);
    return cli_print(
        cli,
        json_pack(
            "{s:s, s:s, s:o, s:o, s:o, s:o, s:{s:o, s:o, s:o}, s:o, s:o, s:o, s:o, s:o, s:o, "
            "s:o}",
            "kind", "wire_image", "verdict", accepted ? "accepted" : "refused",
            accepted ? "image_content_hash" : "error",
            accepted ? out_hash(&check->content_hash) : out_text(capstore_error_name(check->error)),
            accepted ? "cap_hash" : "message",
            accepted ? out_hash(&check->cap_hash) : out_text(check->message), "len",
            out_u64(info.len), "arena_len", out_u64(info.arena_len), "code", "start",
            out_address(CAPSTORE_CODE_BASE), "size", out_u64(info.code_len), "arena_off",
            out_u64(info.code_off), "endpoints", endpoint_array(wire, info.endpoints), "mappings",
            mapping_array(wire, info.mappings), "pinned", tables[CAPSTORE_TABLE_PINNED], "initial",
            tables[CAPSTORE_TABLE_INITIAL], "yield_receiver_slot",
            info.has_yield_receiver ? out_key(info.yield_receiver) : json_null(), "gas_slots",
            key_array(wire, info.gas_slots, capstore_wire_gas_slot), "quota_slots",
            key_array(wire, info.quota_slots, capstore_wire_quota_slot)),
        CLI_DONE);
}

enum cli_exit cli_show_wire(struct cli *cli, const struct cli_input *input)
{
    struct capstore_wire *wire;
    enum cli_exit exit = CLI_FAILED;
    enum capstore_error error = capstore_wire_open(&input->source, &wire);
    if (error == CAPSTORE_E_SSZ) {
        char nature[CLI_NATURE_SIZE];
        return cli_fail(cli, CLI_NO, capstore_error_name(error), "%s: %s", cli->arguments[0],
                        cli_recognise(input, nature) ? nature
                                                     : "neither a served body nor a wire Image");
    }
    if (error != CAPSTORE_OK) {
        return cli_fail_error(cli, error, cli->arguments[0], NULL);
    }
    struct capstore_check_result *check = cli_judge(cli, &input->source, &exit);
    if (check != NULL) {
        exit = print_wire(cli, wire, check);
    }
    capstore_check_free(check);
    capstore_wire_free(wire);
    return exit;
}
