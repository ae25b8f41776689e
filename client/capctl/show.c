/* show: a cap or a wire Image laid out for a person. */
#include <stdlib.h>
#include <string.h>

#include "client/capctl/file.h"
#include "client/capctl/result.h"
#include "client/capctl/show.h"

static json_t *endpoint_object(const struct capstore_endpoint *endpoint)
{
    json_t *registers = json_array();
    for (size_t i = 0; i < CAPSTORE_NUM_REGS; i++) {
        registers = out_append(registers, out_address(endpoint->initial_regs[i]));
    }
    return json_pack("{s:o, s:o, s:o, s:o, s:i, s:o}", "key", out_key(endpoint->key), "entry_pc",
                     out_address(endpoint->entry_pc), "stack_top", out_address(endpoint->stack_top),
                     "arg_cnode_slot", out_key(endpoint->arg_cnode_slot), "arg_cnode_size",
                     (int)endpoint->arg_cnode_size, "initial_regs", registers);
}

static json_t *mapping_object(const struct capstore_cap *cap, size_t i,
                              const struct capstore_region *region)
{
    struct capstore_mapping mapping = capstore_image_mapping(cap, i);
    json_t *source = json_array();
    for (size_t step = 0; step < mapping.steps; step++) {
        source = out_append(source, out_key(capstore_image_mapping_step(cap, i, step)));
    }
    return json_pack("{s:o, s:o, s:b, s:o, s:o*}", "start", out_address(mapping.start), "size",
                     out_address(mapping.size), "read_only", region->read_only, "source", source,
                     "cap_hash", region->has_slot ? out_hash(&region->slot.cap_hash) : NULL);
}

/* NULL without memory. */
static json_t *mapping_array(const struct capstore_cap *cap)
{
    struct capstore_region *regions;
    if (capstore_image_regions(cap, &regions) != CAPSTORE_OK) {
        return NULL;
    }
    json_t *mappings = json_array();
    for (size_t i = 0; i < capstore_image_counts(cap).mappings; i++) {
        mappings = out_append(mappings, mapping_object(cap, i, &regions[i]));
    }
    free(regions);
    return mappings;
}

static json_t *slot_array(const struct capstore_cap *cap, enum capstore_table table)
{
    json_t *slots = json_array();
    for (size_t i = 0; i < capstore_image_counts(cap).slots[table]; i++) {
        struct capstore_slot slot = capstore_image_slot(cap, table, i);
        slots = out_append(slots, json_pack("{s:o, s:o}", "slot", out_key(slot.key), "cap_hash",
                                            out_hash(&slot.cap_hash)));
    }
    return slots;
}

/* The distinct caps that an Image names. */
static json_t *reference_array(const struct capstore_cap *cap)
{
    struct capstore_counts counts = capstore_image_counts(cap);
    size_t pinned = counts.slots[CAPSTORE_TABLE_PINNED];
    size_t count = pinned + counts.slots[CAPSTORE_TABLE_INITIAL];
    struct capstore_hash *hashes = calloc(count + 1, sizeof(*hashes));
    if (hashes == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        enum capstore_table table = i < pinned ? CAPSTORE_TABLE_PINNED : CAPSTORE_TABLE_INITIAL;
        hashes[i] = capstore_image_slot(cap, table, i < pinned ? i : i - pinned).cap_hash;
    }
    count = cli_distinct(hashes, count);
    json_t *references = json_array();
    for (size_t i = 0; i < count; i++) {
        references = out_append(references, out_hash(&hashes[i]));
    }
    free(hashes);
    return references;
}

static json_t *key_array(const struct capstore_cap *cap, size_t count,
                         struct capstore_bytes (*at)(const struct capstore_cap *, size_t))
{
    json_t *keys = json_array();
    for (size_t i = 0; i < count; i++) {
        keys = out_append(keys, out_key(at(cap, i)));
    }
    return keys;
}

static json_t *image_members(const struct capstore_cap *cap)
{
    struct capstore_counts counts = capstore_image_counts(cap);
    struct capstore_bytes code;
    struct capstore_bytes receiver;
    uint64_t start;
    json_t *region =
        capstore_image_code(cap, &start, &code)
            ? json_pack("{s:o, s:o}", "start", out_address(start), "size", out_u64(code.len))
            : json_null();
    json_t *endpoints = json_array();
    for (size_t i = 0; i < counts.endpoints; i++) {
        struct capstore_endpoint endpoint = capstore_image_endpoint(cap, i);
        endpoints = out_append(endpoints, endpoint_object(&endpoint));
    }
    return json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "code", region, "endpoints", endpoints,
        "mappings", mapping_array(cap), "pinned", slot_array(cap, CAPSTORE_TABLE_PINNED), "initial",
        slot_array(cap, CAPSTORE_TABLE_INITIAL), "yield_receiver_slot",
        capstore_image_yield_receiver(cap, &receiver) ? out_key(receiver) : json_null(),
        "gas_slots", key_array(cap, counts.gas_slots, capstore_image_gas_slot), "quota_slots",
        key_array(cap, counts.quota_slots, capstore_image_quota_slot), "references",
        reference_array(cap));
}

/* Pages that are not zero, as runs of addresses: for a person. */
static json_t *content_array(const struct capstore_cap *cap)
{
    uint64_t count = capstore_data_page_count(cap);
    json_t *runs = json_array();
    for (uint64_t i = 0; i < count;) {
        uint64_t first = capstore_data_page(cap, i).index;
        uint64_t next = first;
        while (i < count && capstore_data_page(cap, i).index == next) {
            next++;
            i++;
        }
        runs = out_append(runs,
                          json_pack("{s:o, s:o}", "start", out_address(first * CAPSTORE_PAGE_SIZE),
                                    "size", out_u64((next - first) * CAPSTORE_PAGE_SIZE)));
    }
    return runs;
}

static json_t *page_array(const struct capstore_cap *cap)
{
    json_t *pages = json_array();
    for (uint64_t i = 0; i < capstore_data_page_count(cap); i++) {
        struct capstore_page page = capstore_data_page(cap, i);
        pages = out_append(pages, json_pack("{s:o, s:o, s:o}", "page_index", out_u64(page.index),
                                            "address", out_address(page.index * CAPSTORE_PAGE_SIZE),
                                            "len", out_u64(page.bytes.len)));
    }
    return pages;
}

static json_t *data_members(const struct capstore_cap *cap, bool json)
{
    return json_pack("{s:o, s:o, s:o}", "size", out_u64(capstore_data_size(cap)), "page_count",
                     out_u64(capstore_data_page_count(cap)), json ? "pages" : "content",
                     json ? page_array(cap) : content_array(cap));
}

static enum cli_exit print_cap(struct cli *cli, const struct capstore_cap *cap)
{
    bool image = capstore_cap_kind(cap) == CAPSTORE_KIND_IMAGE;
    json_t *object = json_pack(
        "{s:o, s:o, s:o}", "kind", out_text(capstore_kind_name(capstore_cap_kind(cap))), "cap_hash",
        out_hash(capstore_cap_hash(cap)), "body_len", out_u64(capstore_cap_body(cap).len));
    json_t *members = image ? image_members(cap) : data_members(cap, cli->json);
    if (object == NULL || members == NULL || json_object_update(object, members) != 0) {
        json_decref(object);
        object = NULL;
    }
    json_decref(members);
    return cli_print(cli, object, CLI_DONE);
}

static enum cli_exit show_stored(struct cli *cli, const struct capstore_hash *hash)
{
    enum cli_exit exit = CLI_FAILED;
    struct capstore *store = cli_connect(cli, &exit);
    struct capstore_cap *cap = store != NULL ? cli_fetch(cli, store, hash, &exit) : NULL;
    if (cap != NULL) {
        exit = print_cap(cli, cap);
    }
    capstore_cap_free(cap);
    capstore_free(store);
    return exit;
}

enum cli_exit cli_show(struct cli *cli)
{
    struct capstore_hash hash;
    struct cli_input input;
    if (capstore_hash_parse(cli->arguments[0], &hash) == CAPSTORE_OK) {
        return show_stored(cli, &hash);
    }
    if (!cli_input_open(cli, cli->arguments[0], &input)) {
        return CLI_FAILED;
    }
    struct capstore_cap *cap = cli_input_body(&input);
    enum cli_exit exit = cap != NULL ? print_cap(cli, cap) : cli_show_wire(cli, &input);
    capstore_cap_free(cap);
    cli_input_close(&input);
    return exit;
}
