/*
 * Transfers.
 *
 * Happy path: the header comes, then bytes, which go to the maker one by one, then the end.
 *
 * Failure modes, all of which end this transfer and no other:
 *   - It cannot be begun or goes no further: an error of libcurl's, translated in curl_error.
 *   - A refusal: translated in status_error, by the name in its body or by its status.
 *   - A header of more than HEAD_MOST, more than REDIRECTS_MOST redirects, one to another protocol:
 *     CAP_E_BAD_REPLY.
 *   - The maker refuses what comes.
 */
#include "client/lib/transfer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/cap/must.h"

#define HEAD_MOST      ((size_t)64 << 10) /* servers send 1 KiB, and 8 with cookies */
#define REFUSAL_MOST   ((size_t)4 << 10)  /* capstored's messages end before 2 KiB */
#define REDIRECTS_MOST 4L                 /* to another host, and from there to https */
#define PIECE_SIZE     (64L << 10)        /* that libcurl reads at a time, at most */

enum cap_error client_transfer_say(struct client_transfer *transfer, enum cap_error error,
                                   const char *format, ...)
{
    char text[PROTO_TEXT_MAX - sizeof(transfer->shown) - 2];
    va_list args;
    if (transfer->message[0] != '\0') {
        return error;
    }
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    snprintf(transfer->message, sizeof(transfer->message), "%s: %s", transfer->shown, text);
    return error;
}

/* ---- what comes ---- */

static bool is_good(const struct client_transfer *transfer)
{
    return transfer->status == 200 || transfer->status == 206;
}

static size_t on_header(char *data, size_t one, size_t len, void *ctx)
{
    struct client_transfer *transfer = ctx;
    (void)one;
    transfer->head_len += len;
    if (transfer->head_len > HEAD_MOST) {
        transfer->error =
            client_transfer_say(transfer, CAP_E_BAD_REPLY,
                                "the header of the answer is longer than %zu bytes", HEAD_MOST);
        return 0;
    }
    client_http_head_take(&transfer->head, (struct cap_bytes){(const uint8_t *)data, len});
    return len;
}

/* Learns what libcurl knows of the header, which is complete. */
static void look(struct client_transfer *transfer)
{
    curl_off_t length = -1;
    (void)curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &transfer->status);
    (void)curl_easy_getinfo(transfer->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    transfer->has_length = length >= 0;
    transfer->length = length >= 0 ? (uint64_t)length : 0;
}

static enum cap_error begin(struct client_transfer *transfer)
{
    transfer->begun = true;
    return transfer->calls->begun(transfer);
}

static size_t on_body(char *data, size_t one, size_t len, void *ctx)
{
    struct client_transfer *transfer = ctx;
    struct cap_bytes bytes = {(const uint8_t *)data, len};
    (void)one;
    if (transfer->all->full) {
        transfer->paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    look(transfer);
    if (!is_good(transfer)) {
        size_t room = REFUSAL_MOST - transfer->refusal.len;
        size_t some = len < room ? len : room;
        return cap_buf_append(&transfer->refusal, data, some) == CAP_OK && some == len ? len : 0;
    }
    if (!transfer->begun) {
        transfer->error = begin(transfer);
    }
    if (transfer->error == CAP_OK) {
        transfer->error = transfer->calls->take(transfer, bytes, &transfer->enough);
    }
    return transfer->error == CAP_OK && !transfer->enough ? len : 0;
}

/* ---- how it ends ---- */

/* The one place where codes of libcurl become ours. */
static enum cap_error curl_error(struct client_transfer *transfer, CURLcode code)
{
    enum cap_error error = CAP_E_BAD_REPLY;
    const char *advice = "is this capstored's --http address, or a cache in front of it?";
    const char *text =
        transfer->curl_says[0] != '\0' ? transfer->curl_says : curl_easy_strerror(code);
    switch ((int)code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_INTERFACE_FAILED:
    case CURLE_PROXY:
        error = CAP_E_CONNECT;
        advice = "is the server running, and is the address right?";
        break;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ENGINE_NOTFOUND:
    case CURLE_SSL_INVALIDCERTSTATUS:
        error = CAP_E_CONNECT;
        advice = "does this server have a certificate that this system knows?";
        break;
    case CURLE_OPERATION_TIMEDOUT:
        error = CAP_E_TIMED_OUT;
        advice = "is the server overloaded, or the address wrong?";
        break;
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
        error = CAP_E_CONNECTION_LOST;
        advice = "retry";
        break;
    case CURLE_OUT_OF_MEMORY:
        error = CAP_E_NO_MEMORY;
        advice = "there is no memory for it";
        break;
    default:
        break;
    }
    return client_transfer_say(transfer, error, "%s; %s", text, advice);
}

/* The one place where a refusal becomes an error of ours. */
static enum cap_error status_error(struct client_transfer *transfer)
{
    struct client_http_refusal refusal =
        client_http_refusal_read(cap_buf_bytes(&transfer->refusal));
    long status = transfer->status;
    if (refusal.error != CAP_OK && refusal.text[0] != '\0') {
        return client_transfer_say(transfer, refusal.error, "%s", refusal.text);
    }
    if (refusal.error != CAP_OK) {
        return client_transfer_say(transfer, refusal.error, "%s", cap_error_text(refusal.error));
    }
    if (status == 404 || status == 410) {
        return client_transfer_say(transfer, CAP_E_NOT_FOUND, "not here (status %ld)", status);
    }
    if (status == 416) {
        return client_transfer_say(transfer, CAP_E_RANGE_OUT_OF_BODY, "%s",
                                   cap_error_text(CAP_E_RANGE_OUT_OF_BODY));
    }
    if (status == 429) {
        return client_transfer_say(transfer, CAP_E_TOO_MANY_REQUESTS,
                                   "too many requests (status 429); retry later");
    }
    if (status >= 500 && status < 600 && status != 501 && status != 505) {
        return client_transfer_say(transfer, CAP_E_UPSTREAM_AWAY,
                                   "the server, or the one behind it, is in trouble (status %ld); "
                                   "retry later",
                                   status);
    }
    return client_transfer_say(transfer, CAP_E_BAD_REPLY,
                               "the answer has status %ld; is this capstored's --http address, or "
                               "a cache in front of it?",
                               status);
}

static enum cap_error outcome(struct client_transfer *transfer, CURLcode code)
{
    look(transfer);
    if (transfer->error != CAP_OK || transfer->enough) {
        return transfer->error;
    }
    bool refused = !is_good(transfer) && transfer->status != 0;
    /* A refusal may have been longer than what is read of it. */
    if (code != CURLE_OK && !(code == CURLE_WRITE_ERROR && refused)) {
        return curl_error(transfer, code);
    }
    transfer->answered = true;
    if (refused) {
        return status_error(transfer);
    }
    return transfer->begun ? CAP_OK : begin(transfer);
}

void client_transfer_drop(struct client_transfer *transfer)
{
    if (transfer->easy != NULL) {
        (void)curl_multi_remove_handle(transfer->all->multi, transfer->easy);
        curl_easy_cleanup(transfer->easy);
    }
    client_list_remove(&transfer->link);
    cap_buf_free(&transfer->refusal);
    free(transfer);
}

void client_transfers_collect(struct client_transfers *all)
{
    const CURLMsg *done;
    int left;
    while ((done = curl_multi_info_read(all->multi, &left)) != NULL) {
        char *owner = NULL;
        CURLcode code = done->data.result; /* removing the handle takes the message away */
        (void)curl_easy_getinfo(done->easy_handle, CURLINFO_PRIVATE, &owner);
        struct client_transfer *transfer = (struct client_transfer *)(void *)owner;
        enum cap_error error = outcome(transfer, code);
        transfer->calls->ended(transfer, error);
        client_transfer_drop(transfer);
    }
}

/* ---- beginning ---- */

/* Sets what every request has. False for want of memory, or in a libcurl without some of it. */
static bool prepare(CURL *easy, struct client_transfer *transfer)
{
    const struct client_transfers *all = transfer->all;
    long connect_ms = all->timeout_ms < INT32_MAX ? (long)all->timeout_ms : INT32_MAX;
    bool good = true;
#define SET(option, value) good = good && curl_easy_setopt(easy, (option), (value)) == CURLE_OK
    SET(CURLOPT_PROTOCOLS_STR, "http,https"); /* also where a redirect leads */
    SET(CURLOPT_FOLLOWLOCATION, 1L);
    SET(CURLOPT_MAXREDIRS, REDIRECTS_MOST);
    /* Of HTTP/2 libcurl would hold up to 32 MiB that nobody has taken. */
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_QUICK_EXIT, 1L); /* not to wait for a name that is being resolved */
    SET(CURLOPT_CONNECTTIMEOUT_MS, connect_ms);
    SET(CURLOPT_BUFFERSIZE, PIECE_SIZE);
    SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    SET(CURLOPT_USERAGENT, all->agent);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, transfer);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, transfer);
    SET(CURLOPT_ERRORBUFFER, transfer->curl_says);
    SET(CURLOPT_PRIVATE, transfer);
#undef SET
    return good;
}

enum cap_error client_transfer_start(struct client_transfers *all, const char *url,
                                     const char *range, bool head,
                                     const struct client_transfer_calls *calls, void *ctx,
                                     struct client_transfer **ret_transfer)
{
    struct client_transfer *transfer = calloc(1, sizeof(*transfer));
    if (transfer == NULL) {
        return CAP_E_NO_MEMORY;
    }
    transfer->all = all;
    transfer->calls = calls;
    transfer->ctx = ctx;
    /* Without the query, which is long. */
    snprintf(transfer->shown, sizeof(transfer->shown), "%.*s", (int)strcspn(url, "?"), url);
    client_list_add(&all->list, &transfer->link);
    transfer->easy = curl_easy_init();
    bool good = transfer->easy != NULL && prepare(transfer->easy, transfer) &&
                curl_easy_setopt(transfer->easy, CURLOPT_URL, url) == CURLE_OK &&
                curl_easy_setopt(transfer->easy, CURLOPT_NOBODY, head ? 1L : 0L) == CURLE_OK &&
                curl_easy_setopt(transfer->easy, CURLOPT_RANGE, range) == CURLE_OK &&
                curl_multi_add_handle(all->multi, transfer->easy) == CURLM_OK;
    if (!good) {
        client_transfer_drop(transfer);
        return CAP_E_NO_MEMORY;
    }
    *ret_transfer = transfer;
    return CAP_OK;
}

/* ---- all of them ---- */

static struct client_transfer *linked(struct client_link *link)
{
    void *start = (char *)link - offsetof(struct client_transfer, link);
    return (struct client_transfer *)start;
}

void client_transfers_init(struct client_transfers *all, CURLM *multi, const char *agent,
                           uint32_t timeout_ms)
{
    *all = (struct client_transfers){.multi = multi, .timeout_ms = timeout_ms};
    snprintf(all->agent, sizeof(all->agent), "%s", agent);
    client_list_init(&all->list);
}

void client_transfers_resume(struct client_transfers *all)
{
    for (struct client_link *link = all->list.next; link != &all->list; link = link->next) {
        struct client_transfer *transfer = linked(link);
        if (transfer->paused) {
            transfer->paused = false; /* or it is paused again, by then */
            (void)curl_easy_pause(transfer->easy, CURLPAUSE_CONT);
        }
    }
}
