/* show: a cap or a wire Image laid out for a person. */
#include <stdlib.h>
#include <string.h>

#include "client/capctl/file.h"
#include "client/capctl/progress.h"
#include "client/capctl/result.h"
#include "client/capctl/show.h"

static int compare_keys(struct capstore_bytes a, struct capstore_bytes b)
{
    return cap_bytes_compare((struct cap_bytes){a.data, a.len}, (struct cap_bytes){b.data, b.len});
}

/* Finds a slot; keys ascend. */
static bool find_slot(const struct capstore_cap *cap, enum capstore_table table,
                      struct capstore_bytes key, struct capstore_slot *ret_slot)
{
    size_t low = 0;
    size_t high = capstore_image_counts(cap).slots[table];
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        struct capstore_slot slot = capstore_image_slot(cap, table, middle);
        int order = compare_keys(slot.key, key);
        if (order == 0) {
            *ret_slot = slot;
            return true;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return false;
}

static void print_endpoint(struct out *out, const struct capstore_endpoint *endpoint)
{
    out_object(out, NULL);
    out_key(out, "key", endpoint->key);
    out_address(out, "entry_pc", endpoint->entry_pc);
    out_address(out, "stack_top", endpoint->stack_top);
    out_key(out, "arg_cnode_slot", endpoint->arg_cnode_slot);
    out_u64(out, "arg_cnode_size", endpoint->arg_cnode_size);
    out_line(out, "initial_regs");
    for (size_t i = 0; i < CAPSTORE_NUM_REGS; i++) {
        out_address(out, NULL, endpoint->initial_regs[i]);
    }
    out_end(out);
    out_end(out);
}

static void print_mapping(struct out *out, const struct capstore_cap *cap, size_t i)
{
    struct capstore_mapping mapping = capstore_image_mapping(cap, i);
    struct capstore_bytes root = capstore_image_mapping_step(cap, i, 0);
    struct capstore_slot slot;
    bool pinned = find_slot(cap, CAPSTORE_TABLE_PINNED, root, &slot);
    bool found = pinned || find_slot(cap, CAPSTORE_TABLE_INITIAL, root, &slot);
    out_object(out, NULL);
    out_address(out, "start", mapping.start);
    out_address(out, "size", mapping.size);
    out_bool(out, "read_only", pinned);
    out_line(out, "source");
    for (size_t step = 0; step < mapping.steps; step++) {
        out_key(out, NULL, capstore_image_mapping_step(cap, i, step));
    }
    out_end(out);
    if (found && mapping.steps == 1) {
        out_hash(out, "cap_hash", &slot.cap_hash);
    }
    out_end(out);
}

static void print_slots(struct out *out, const struct capstore_cap *cap, enum capstore_table table)
{
    out_array(out, capstore_table_name(table));
    for (size_t i = 0; i < capstore_image_counts(cap).slots[table]; i++) {
        struct capstore_slot slot = capstore_image_slot(cap, table, i);
        out_object(out, NULL);
        out_key(out, "slot", slot.key);
        out_hash(out, "cap_hash", &slot.cap_hash);
        out_end(out);
    }
    out_end(out);
}

static int by_bytes(const void *a, const void *b)
{
    return memcmp(a, b, CAPSTORE_HASH_SIZE);
}

/* The distinct caps that an Image names. */
static void print_references(struct out *out, const struct capstore_cap *cap)
{
    struct capstore_image_counts counts = capstore_image_counts(cap);
    size_t count = counts.slots[0] + counts.slots[1];
    struct capstore_hash *hashes = calloc(count + 1, sizeof *hashes);
    if (hashes == NULL) {
        out->error = CAP_E_NO_MEMORY;
        return;
    }
    for (size_t i = 0; i < count; i++) {
        bool pinned = i < counts.slots[CAPSTORE_TABLE_PINNED];
        hashes[i] = pinned ? capstore_image_slot(cap, CAPSTORE_TABLE_PINNED, i).cap_hash
                           : capstore_image_slot(cap, CAPSTORE_TABLE_INITIAL,
                                                 i - counts.slots[CAPSTORE_TABLE_PINNED])
                                 .cap_hash;
    }
    qsort(hashes, count, sizeof *hashes, by_bytes);
    out_array(out, "references");
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || !capstore_hash_equal(&hashes[i - 1], &hashes[i])) {
            out_hash(out, NULL, &hashes[i]);
        }
    }
    out_end(out);
    free(hashes);
}

static void print_key_lists(struct out *out, const struct capstore_cap *cap)
{
    struct capstore_image_counts counts = capstore_image_counts(cap);
    struct capstore_bytes key;
    if (capstore_image_yield_receiver(cap, &key)) {
        out_key(out, "yield_receiver_slot", key);
    } else {
        out_null(out, "yield_receiver_slot");
    }
    out_line(out, "gas_slots");
    for (size_t i = 0; i < counts.gas_slots; i++) {
        out_key(out, NULL, capstore_image_gas_slot(cap, i));
    }
    out_end(out);
    out_line(out, "quota_slots");
    for (size_t i = 0; i < counts.quota_slots; i++) {
        out_key(out, NULL, capstore_image_quota_slot(cap, i));
    }
    out_end(out);
}

static void print_image(struct out *out, const struct capstore_cap *cap)
{
    struct capstore_image_counts counts = capstore_image_counts(cap);
    struct capstore_bytes code;
    uint64_t start;
    if (capstore_image_code(cap, &start, &code)) {
        out_object(out, "code");
        out_address(out, "start", start);
        out_size(out, "size", code.len);
        out_end(out);
    } else {
        out_null(out, "code");
    }
    out_array(out, "endpoints");
    for (size_t i = 0; i < counts.endpoints; i++) {
        struct capstore_endpoint endpoint = capstore_image_endpoint(cap, i);
        print_endpoint(out, &endpoint);
    }
    out_end(out);
    out_array(out, "mappings");
    for (size_t i = 0; i < counts.mappings; i++) {
        print_mapping(out, cap, i);
    }
    out_end(out);
    print_slots(out, cap, CAPSTORE_TABLE_PINNED);
    print_slots(out, cap, CAPSTORE_TABLE_INITIAL);
    print_key_lists(out, cap);
    print_references(out, cap);
}

/* Pages that are not zero: for a person as runs of addresses. */
static void print_page_runs(struct out *out, const struct capstore_cap *cap)
{
    uint64_t count = capstore_data_page_count(cap);
    out_array(out, "content");
    for (uint64_t i = 0; i < count;) {
        uint64_t first = capstore_data_page(cap, i).index;
        uint64_t next = first;
        while (i < count && capstore_data_page(cap, i).index == next) {
            next++;
            i++;
        }
        out_object(out, NULL);
        out_address(out, "start", first * CAPSTORE_PAGE_SIZE);
        out_size(out, "size", (next - first) * CAPSTORE_PAGE_SIZE);
        out_end(out);
    }
    out_end(out);
}

static void print_data(struct out *out, const struct capstore_cap *cap)
{
    uint64_t count = capstore_data_page_count(cap);
    out_size(out, "size", capstore_data_size(cap));
    out_u64(out, "page_count", count);
    if (!out->json) {
        print_page_runs(out, cap);
        return;
    }
    out_array(out, "pages");
    for (uint64_t i = 0; i < count; i++) {
        struct capstore_page page = capstore_data_page(cap, i);
        out_object(out, NULL);
        out_u64(out, "page_index", page.index);
        out_address(out, "address", page.index * CAPSTORE_PAGE_SIZE);
        out_u64(out, "len", page.bytes.len);
        out_end(out);
    }
    out_end(out);
}

static enum cli_exit print_cap(struct cli *cli, const struct capstore_cap *cap)
{
    struct out out;
    out_begin(&out, cli->json);
    out_text(&out, "kind", capstore_kind_name(capstore_cap_kind(cap)));
    out_hash(&out, "cap_hash", capstore_cap_hash(cap));
    out_size(&out, "body_len", capstore_cap_body(cap).len);
    if (capstore_cap_kind(cap) == CAPSTORE_KIND_IMAGE) {
        print_image(&out, cap);
    } else {
        print_data(&out, cap);
    }
    return cli_print(cli, &out, CLI_DONE);
}

static enum cli_exit show_stored(struct cli *cli, const struct capstore_hash *hash)
{
    enum cli_exit exit = CLI_FAILED;
    struct capstore *store = cli_connect(cli, &exit);
    if (store == NULL) {
        return exit;
    }
    struct cli_meter meter;
    struct capstore_cap *cap = NULL;
    cli_meter_start(&meter, "fetching", "verifying");
    cli->meter = &meter;
    enum capstore_error error = capstore_get(store, hash, &cap);
    cli_meter_stop(&meter);
    cli->meter = NULL;
    exit = error == CAPSTORE_OK
               ? print_cap(cli, cap)
               : cli_fail_error(cli, error, cli->arguments[0], capstore_message(store));
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
    enum cli_exit exit = cap != NULL ? print_cap(cli, cap) : cli_show_wire(cli, &input.source);
    capstore_cap_free(cap);
    cli_input_close(&input);
    return exit;
}
