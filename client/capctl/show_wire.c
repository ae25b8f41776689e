/* show, for a wire Image: every field as it stands, with the deblob's verdict. */
#include <stdlib.h>

#include "client/capctl/result.h"
#include "client/capctl/show.h"
#include "lib/cap/wire_image.h"

static struct capstore_bytes public_bytes(struct cap_bytes bytes)
{
    return (struct capstore_bytes){bytes.data, bytes.len};
}

static void print_code(struct out *out, const struct cap_wire_image *image)
{
    out_object(out, "code");
    out_address(out, "start", CAPSTORE_CODE_BASE);
    out_size(out, "size", image->code_len);
    out_u64(out, "arena_off", image->code_off);
    out_end(out);
}

static void print_endpoints(struct out *out, const struct cap_wire_image *image)
{
    out_array(out, "endpoints");
    for (size_t i = 0; i < image->endpoints.count; i++) {
        struct cap_wire_endpoint endpoint;
        cap_wire_endpoint_at(image, i, &endpoint);
        out_object(out, NULL);
        out_key(out, "key", public_bytes(endpoint.key));
        out_address(out, "entry_pc", endpoint.entry_pc);
        out_u64(out, "arg_registers", endpoint.arg_registers);
        out_u64(out, "arg_cnode_size", endpoint.arg_cnode_size);
        out_object(out, "initial_regs");
        for (size_t r = 0; r < endpoint.register_count; r++) {
            struct cap_register value = cap_wire_register(&endpoint, r);
            char index[4];
            snprintf(index, sizeof index, "%u", value.index);
            out_address(out, index, value.value);
        }
        out_end(out);
        out_end(out);
    }
    out_end(out);
}

static void print_keys(struct out *out, const char *name, const struct cap_ssz_list *keys)
{
    out_line(out, name);
    for (size_t i = 0; i < keys->count; i++) {
        out_key(out, NULL, public_bytes(cap_ssz_list_at(keys, i)));
    }
    out_end(out);
}

static void print_mappings(struct out *out, const struct cap_wire_image *image)
{
    out_array(out, "mappings");
    for (size_t i = 0; i < image->mappings.count; i++) {
        struct cap_mapping mapping;
        cap_mapping_at(&image->mappings, i, &mapping);
        out_object(out, NULL);
        out_address(out, "start", mapping.start);
        out_address(out, "size", mapping.size);
        print_keys(out, "source", &mapping.source);
        out_end(out);
    }
    out_end(out);
}

static void print_pages(struct out *out, const struct cap_data_desc *desc)
{
    if (!out->json) {
        out_u64(out, "pages", desc->page_count);
        return;
    }
    out_array(out, "pages");
    for (size_t i = 0; i < desc->page_count; i++) {
        struct cap_page_ref page = cap_page_ref_at(desc->pages, i);
        out_object(out, NULL);
        out_u64(out, "page_index", page.page_index);
        out_u64(out, "arena_off", page.arena_off);
        out_u64(out, "len", page.len);
        out_end(out);
    }
    out_end(out);
}

/* `data` is the check's entry for this slot, NULL when the Image was refused. */
static void print_slot(struct out *out, const struct cap_wire_slot *slot,
                       const struct capstore_check_data *data)
{
    out_object(out, NULL);
    out_key(out, "slot", public_bytes(slot->key));
    out_text(out, "kind", slot->kind == CAP_KIND_IMAGE ? "image" : "data");
    if (slot->kind == CAP_KIND_IMAGE) {
        struct capstore_hash hash;
        memcpy(hash.bytes, slot->content_hash.bytes, sizeof hash.bytes);
        out_hash(out, "cap_hash", &hash);
    } else {
        out_size(out, "size", slot->desc.size);
        if (data != NULL) {
            out_hash(out, "cap_hash", &data->cap_hash);
        }
        print_pages(out, &slot->desc);
    }
    out_end(out);
}

/* One table; *next_data walks the check's list, which is in the same order. */
static void print_slots(struct out *out, const struct cap_wire_image *image, enum cap_table table,
                        const struct capstore_check *check, size_t *next_data)
{
    out_array(out, cap_table_name(table));
    for (size_t i = 0; i < cap_wire_slot_count(image); i++) {
        struct cap_wire_slot slot;
        cap_wire_slot_at(image, i, &slot);
        if (slot.table != table) {
            continue;
        }
        bool listed = slot.kind == CAP_KIND_DATA && check->error == CAPSTORE_OK;
        print_slot(out, &slot, listed ? &check->data[(*next_data)++] : NULL);
    }
    out_end(out);
}

static enum cli_exit print_wire(struct cli *cli, const struct cap_wire_image *image,
                                const struct capstore_check *check)
{
    struct out out;
    size_t next_data = 0;
    out_begin(&out, cli->json);
    out_text(&out, "kind", "wire_image");
    out_text(&out, "verdict", check->error == CAPSTORE_OK ? "accepted" : "refused");
    if (check->error == CAPSTORE_OK) {
        out_hash(&out, "image_content_hash", &check->content_hash);
        out_hash(&out, "cap_hash", &check->cap_hash);
    } else {
        out_text(&out, "error", capstore_error_name(check->error));
        out_text(&out, "message", check->message);
    }
    out_size(&out, "len", image->total_len);
    out_size(&out, "arena_len", image->arena_len);
    print_code(&out, image);
    print_endpoints(&out, image);
    print_mappings(&out, image);
    print_slots(&out, image, CAP_TABLE_PINNED, check, &next_data);
    print_slots(&out, image, CAP_TABLE_INITIAL, check, &next_data);
    if (image->has_yield_receiver) {
        out_key(&out, "yield_receiver_slot", public_bytes(image->yield_receiver_slot));
    } else {
        out_null(&out, "yield_receiver_slot");
    }
    print_keys(&out, "gas_slots", &image->gas_slots);
    print_keys(&out, "quota_slots", &image->quota_slots);
    return cli_print(cli, &out, CLI_DONE);
}

/* Reads the structure before the arena; *ret_head is freed by the caller in any case. */
static enum cap_error read_head(const struct capstore_source *wire, struct cap_buf *ret_head)
{
    uint8_t front[CAP_WIRE_FIXED_SIZE];
    size_t len;
    if (wire->len < sizeof front) {
        return CAP_E_SSZ;
    }
    if (wire->read(wire->ctx, 0, front, sizeof front) != CAPSTORE_OK) {
        return CAP_E_IO;
    }
    enum cap_error error =
        cap_wire_image_head_len((struct cap_bytes){front, sizeof front}, wire->len, &len);
    if (error == CAP_OK) {
        error = cap_buf_reserve(ret_head, len);
    }
    if (error == CAP_OK && wire->read(wire->ctx, 0, ret_head->data, len) != CAPSTORE_OK) {
        error = CAP_E_IO;
    }
    if (error == CAP_OK) {
        ret_head->len = len;
    }
    return error;
}

enum cli_exit cli_show_wire(struct cli *cli, const struct capstore_source *wire)
{
    struct cap_buf head = {0};
    struct cap_wire_image image;
    enum cli_exit exit = CLI_FAILED;
    enum cap_error error = read_head(wire, &head);
    if (error == CAP_OK) {
        error = cap_wire_image_decode(cap_buf_bytes(&head), wire->len, &image);
    }
    if (error == CAP_OK) {
        struct capstore_check *check = cli_judge(cli, wire, &exit);
        if (check != NULL) {
            exit = print_wire(cli, &image, check);
        }
        capstore_check_free(check);
    } else if (error == CAP_E_SSZ) {
        exit = cli_fail(cli, CLI_NO, cap_error_name(error),
                        "%s: neither a served body nor a wire Image", cli->arguments[0]);
    } else {
        exit = cli_fail_error(cli, (enum capstore_error)(int)error, cli->arguments[0], NULL);
    }
    cap_buf_free(&head);
    return exit;
}
