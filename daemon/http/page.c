/*
 * Pages.
 *
 * What a cap's page shows is the object that info.c reads, its scalars escaped one by one.
 */
#include "daemon/http/page.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/http/html.h"
#include "daemon/http/info.h"
#include "lib/cap/slice.h"

#define TYPE    "text/html; charset=utf-8"
#define VIEW_UP "../../" /* from /caps/HASH/view to / */

static enum MHD_Result send_page(const struct http_call *call, unsigned status,
                                 struct admin_text *page)
{
    html_end(page);
    if (page->error != CAP_OK) {
        cap_buf_free(page->buf);
        return http_answer_error(call, page->error, NULL);
    }
    return http_answer_text(call, status, TYPE, page->buf, HTTP_CACHE_NEVER, NULL);
}

/* A page that says one thing. */
static enum MHD_Result send_sentence(const struct http_call *call, unsigned status,
                                     const char *root, const char *title, const char *sentence)
{
    struct cap_buf text = {0};
    struct admin_text page = {.buf = &text};
    html_begin(&page, root, title);
    admin_print(&page, "<p>");
    html_text(&page, sentence);
    admin_print(&page, "</p>\n");
    return send_page(call, status, &page);
}

/* --- / -------------------------------------------------------------------------------------- */

static void count_row(struct admin_text *page, const char *what, uint64_t count, uint64_t bytes)
{
    char text[80];
    snprintf(text, sizeof(text), "%" PRIu64 ", %.1f MiB", count, (double)bytes / 1048576.0);
    html_row(page, what, text);
}

static void print_figures(struct admin_text *page, const struct context *context)
{
    struct cap_counts counts;
    struct ledger_figures held;
    char started[ENV_TIME_SIZE];
    char text[32];
    admin_print(page, "<h2>Figures</h2>\n<table id=\"figures\">\n");
    if (admin_store_counts(context->store, &counts) == CAP_OK) {
        count_row(page, "Images", counts.caps[CAP_KIND_IMAGE], counts.body_bytes[CAP_KIND_IMAGE]);
        count_row(page, "Data caps", counts.caps[CAP_KIND_DATA], counts.body_bytes[CAP_KIND_DATA]);
    }
    ledger_figures(context->ledger, &held);
    snprintf(text, sizeof(text), "%" PRIu64, held.connections);
    html_row(page, "Connections", text);
    env_format_time(context->started_us, started);
    html_row(page, "Started", started);
    html_row(page, "Version", CAPSTORE_VERSION);
    admin_print(page, "</table>\n");
}

enum MHD_Result http_page_home(const struct http_call *call)
{
    struct cap_buf text = {0};
    struct admin_text page = {.buf = &text};
    html_begin(&page, "", "A store of capabilities");
    admin_print(
        &page,
        "<p>This is <b>capstored</b>. It serves caps: programs (Images) and their memory (Data "
        "caps), each named by a hash that proves every byte of it. So it does not matter who "
        "brings the bytes, this daemon or a cache on the way.</p>\n"
        "<form action=\"find\"><label>Look a hash up: <input name=\"hash\" maxlength=\"66\" "
        "autofocus></label> <button>Show</button></form>\n");
    print_figures(&page, call->http->context);
    admin_print(
        &page,
        "<h2>What is served</h2>\n<table>\n"
        "<tr><td>/caps/HASH</td><td>the served body of a cap</td></tr>\n"
        "<tr><td>/caps/HASH/content</td><td>the bytes of a Data cap, the code of an "
        "Image</td></tr>\n"
        "<tr><td>/caps/HASH/slice?pages=0-15,100</td><td>some pages with their proof</td></tr>\n"
        "<tr><td>/caps/HASH/info</td><td>what the cap is, as JSON</td></tr>\n"
        "<tr><td>/caps/HASH/view</td><td>the same as a page</td></tr>\n"
        "<tr><td>/closures/HASH</td><td>a cap and all that it refers to, in one stream</td></tr>\n"
        "<tr><td><a href=\"metrics\">/metrics</a></td><td>figures, as OpenMetrics</td></tr>\n"
        "<tr><td>/healthz, /readyz</td><td>whether it turns, and whether it serves</td></tr>\n"
        "</table>\n");
    return send_page(call, MHD_HTTP_OK, &page);
}

/* --- /find ---------------------------------------------------------------------------------- */

/* The hash that begins with what a person typed or pasted: *ret_bits of it. False: no hash does. */
static bool read_prefix(const char *text, struct cap_hash *ret_prefix, unsigned *ret_bits)
{
    char digits[CAP_HASH_HEX_SIZE] = "";
    size_t len = 0;
    while (isspace((unsigned char)*text)) {
        text++;
    }
    text += strncmp(text, "0x", 2) == 0 ? 2 : 0;
    for (; isxdigit((unsigned char)*text); text++) {
        if (len == CAP_HASH_HEX_SIZE - 1) {
            return false;
        }
        digits[len++] = *text;
    }
    while (isspace((unsigned char)*text)) {
        text++;
    }
    if (len == 0 || *text != '\0') {
        return false;
    }
    *ret_bits = 4 * (unsigned)len;
    memset(digits + len, '0', CAP_HASH_HEX_SIZE - 1 - len);
    return cap_hash_parse(digits, ret_prefix) == CAP_OK;
}

static enum MHD_Result redirect(const struct http_call *call, const struct cap_hash *hash)
{
    char hex[CAP_HASH_HEX_SIZE];
    char path[CAP_HASH_HEX_SIZE + sizeof("caps//view")];
    struct MHD_Response *response = http_response_empty();
    cap_hash_format(hash, hex);
    snprintf(path, sizeof(path), "caps/%s/view", hex);
    http_header(response, MHD_HTTP_HEADER_LOCATION, path);
    http_headers(response, HTTP_CACHE_NEVER, NULL);
    return http_send(call, MHD_HTTP_SEE_OTHER, response, 0);
}

enum MHD_Result http_page_find(const struct http_call *call)
{
    struct cap_store *store = call->http->context->store;
    const char *text = http_argument_of(call, "hash");
    struct cap_read *read = NULL;
    struct cap_hash hash;
    unsigned bits = 0;
    size_t count = 0;
    if (text == NULL || !read_prefix(text, &hash, &bits)) {
        return send_sentence(call, MHD_HTTP_BAD_REQUEST, "", "Not a hash",
                             "A hash has 64 hex digits; its first ones are enough.");
    }
    enum cap_error error = cap_store_read_begin(store, &read);
    if (error == CAP_OK) {
        error = cap_store_find_prefix(read, &hash, bits, &hash, &count);
        cap_store_read_end(read);
    }
    if (error != CAP_OK) {
        return http_answer_error(call, error, NULL);
    }
    if (count == 0) {
        return send_sentence(call, MHD_HTTP_NOT_FOUND, "", "Not here",
                             "No cap whose hash begins so is published here.");
    }
    if (count > 1) {
        return send_sentence(call, MHD_HTTP_NOT_FOUND, "", "Which one?",
                             "More than one cap has a hash that begins so. Give more digits.");
    }
    return redirect(call, &hash);
}

/* --- A cap ---------------------------------------------------------------------------------- */

/* A scalar as a text, escaped; of an array its items. */
/* NOLINTNEXTLINE(misc-no-recursion): as deep as what describes a cap, three levels */
static void print_value(struct admin_text *page, const json_t *value)
{
    size_t index;
    const json_t *item;
    if (json_is_string(value)) {
        html_text(page, json_string_value(value));
    } else if (json_is_integer(value)) {
        admin_print(page, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    } else if (json_is_boolean(value)) {
        admin_print(page, json_is_true(value) ? "yes" : "no");
    } else if (json_is_array(value)) {
        json_array_foreach(value, index, item)
        {
            admin_print(page, index > 0 ? " / " : "");
            print_value(page, item);
        }
    } else {
        admin_print(page, "-");
    }
}

/* A hash as a link to the page of its cap. */
static void print_link(struct admin_text *page, const json_t *hash)
{
    if (!json_is_string(hash)) {
        admin_print(page, "-");
        return;
    }
    admin_print(page, "<a href=\"" VIEW_UP "caps/%s/view\">%s</a>", json_string_value(hash),
                json_string_value(hash));
}

/* A column of a list: the key in its objects, and what stands above it. */
struct column {
    const char *key;
    const char *title;
};

#define COLUMNS_MAX 7u

static void print_list(struct admin_text *page, const json_t *from, const char *list,
                       const char *title, const struct column columns[COLUMNS_MAX])
{
    const json_t *items = json_object_get(from, list);
    size_t index;
    const json_t *item;
    if (json_array_size(items) == 0) {
        return;
    }
    admin_print(page, "<h2>%s</h2>\n<table id=\"%s\">\n<tr>", title, list);
    for (size_t i = 0; i < COLUMNS_MAX && columns[i].key != NULL; i++) {
        admin_print(page, "<th>%s</th>", columns[i].title);
    }
    admin_print(page, "</tr>\n");
    json_array_foreach(items, index, item)
    {
        bool absent = json_is_false(json_object_get(item, "present"));
        admin_print(page, absent ? "<tr class=\"absent\">" : "<tr>");
        for (size_t i = 0; i < COLUMNS_MAX && columns[i].key != NULL; i++) {
            const json_t *value = json_object_get(item, columns[i].key);
            admin_print(page, "<td>");
            if (strcmp(columns[i].key, "cap_hash") == 0) {
                print_link(page, value);
            } else {
                print_value(page, value);
            }
            admin_print(page, "</td>");
        }
        admin_print(page, "</tr>\n");
    }
    admin_print(page, "</table>\n");
}

static void print_image(struct admin_text *page, const json_t *image)
{
    static const struct column endpoints[COLUMNS_MAX] = {
        {"key", "key"}, {"entry_pc", "entry"}, {"stack_top", "stack top"}};
    static const struct column mappings[COLUMNS_MAX] = {
        {"start", "from"},  {"end", "to"},      {"size", "bytes"},  {"read_only", "read-only"},
        {"source", "path"}, {"table", "table"}, {"cap_hash", "cap"}};
    static const struct column slots[COLUMNS_MAX] = {{"slot", "slot"},
                                                     {"kind", "kind"},
                                                     {"size", "bytes"},
                                                     {"present", "here"},
                                                     {"cap_hash", "cap"}};
    const json_t *code = json_object_get(image, "code");
    admin_print(page, "<p>Code: ");
    print_value(page, json_object_get(code, "size"));
    admin_print(page, " bytes from ");
    print_value(page, json_object_get(code, "start"));
    admin_print(page, ".</p>\n");
    print_list(page, image, "endpoints", "Endpoints", endpoints);
    print_list(page, image, "mappings", "Mappings", mappings);
    print_list(page, image, "pinned", "Pinned slots", slots);
    print_list(page, image, "initial", "Initial slots", slots);
}

static void print_data(struct admin_text *page, const json_t *data)
{
    static const struct column runs[COLUMNS_MAX] = {
        {"start", "from"}, {"size", "bytes"}, {"pages", "pages"}};
    print_list(page, data, "runs", "Pages that are not zero", runs);
}

/* What holds for both kinds. */
static void print_facts(struct admin_text *page, const json_t *object)
{
    static const struct column facts[] = {{"cap_hash", "hash"},
                                          {"kind", "kind"},
                                          {"size", "bytes"},
                                          {"pages", "pages"},
                                          {"body_len", "served body, bytes"},
                                          {"published", "published"}};
    admin_print(page, "<table id=\"facts\">\n");
    for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++) {
        admin_print(page, "<tr><th>%s</th><td>", facts[i].title);
        print_value(page, json_object_get(object, facts[i].key));
        admin_print(page, "</td></tr>\n");
    }
    admin_print(page, "</table>\n<p>");
    static const char *const links[] = {"", "/content", "/slice?pages=", "/info"};
    static const char *const names[] = {"body", "content", "head with proof", "JSON"};
    const char *hash = json_string_value(json_object_get(object, "cap_hash"));
    for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
        admin_print(page, "%s<a href=\"" VIEW_UP "caps/%s%s\">%s</a>", i > 0 ? ", " : "", hash,
                    links[i], names[i]);
    }
    admin_print(page, "; <a href=\"" VIEW_UP "closures/%s\">with all that it refers to</a></p>\n",
                hash);
}

/* Where the lists are longer than a page. */
static void print_further(struct admin_text *page, const json_t *object,
                          const struct admin_page *shown)
{
    static const char *const counts[] = {"endpoint_count", "mapping_count", "pinned_count",
                                         "initial_count", "run_count"};
    const json_t *image = json_object_get(object, "image");
    const json_t *layout = json_is_object(image) ? image : json_object_get(object, "data");
    uint64_t next = shown->offset + shown->limit;
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        const json_t *count = json_object_get(layout, counts[i]);
        if (json_is_integer(count) && (uint64_t)json_integer_value(count) > next) {
            admin_print(page, "<p><a href=\"?offset=%" PRIu64 "\">more</a></p>\n", next);
            return;
        }
    }
}

enum MHD_Result http_page_view(const struct http_call *call, const struct cap_hash *hash)
{
    struct admin_page shown;
    json_t *object = NULL;
    struct cap_buf text = {0};
    struct admin_text page = {.buf = &text};
    if (!http_info_page(call, &shown)) {
        return send_sentence(call, MHD_HTTP_BAD_REQUEST, VIEW_UP, "Not a page", "offset: a number");
    }
    enum cap_error error = http_info_read(call->http->context->store, hash, &shown, &object);
    if (error != CAP_OK) {
        unsigned status =
            cap_store_is_unserved(error) ? MHD_HTTP_NOT_FOUND : MHD_HTTP_INTERNAL_SERVER_ERROR;
        return send_sentence(call, status, VIEW_UP, "Not served", cap_error_text(error));
    }
    const json_t *image = json_object_get(object, "image");
    const json_t *data = json_object_get(object, "data");
    html_begin(&page, VIEW_UP, json_is_object(image) ? "An Image" : "A Data cap");
    print_facts(&page, object);
    if (json_is_object(image)) {
        print_image(&page, image);
    } else if (json_is_object(data)) {
        print_data(&page, data);
    } else {
        admin_print(&page, "<p>Its structure is too large for a page.</p>\n");
    }
    print_further(&page, object, &shown);
    json_decref(object);
    return send_page(call, MHD_HTTP_OK, &page);
}
