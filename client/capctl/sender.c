#include "client/capctl/sender.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

bool cli_sender_open(struct cli *cli, struct cli_sender *sender, const char *address)
{
    /* With leases, which an upload that goes on needs. */
    const struct cli_connect_options options = {.address = address, .leases = true};
    *sender = (struct cli_sender){.cli = cli, .address = address};
    enum cli_exit exit; /* the tool remembers it */
    sender->to = cli_connect_to(cli, &options, &exit);
    return sender->to != NULL;
}

/* A cap is published, or could not be. */
static void take_outcome(struct cli_sender *sender, const struct capstore_cap *cap,
                         enum capstore_error error, bool is_new)
{
    if (error == CAPSTORE_OK) {
        sender->sent += is_new ? 1 : 0;
        sender->present += is_new ? 0 : 1;
        sender->sent_bytes += capstore_cap_body(cap).len;
    } else if (!sender->failed) {
        char hex[CAPSTORE_HASH_HEX_SIZE];
        capstore_hash_format(capstore_cap_hash(cap), hex);
        sender->failed = true;
        (void)cli_fail_asked(sender->cli, error, hex, sender->to);
    }
}

static void on_put(void *ctx, const struct capstore_answer *answer)
{
    struct cli_sending *sending = ctx;
    struct cli_sender *sender = sending->sender;
    take_outcome(sender, sending->cap, answer->error,
                 answer->error == CAPSTORE_OK && answer->put.is_new);
    sender->count--;
    sender->bytes -= sending->body.len;
    capstore_cap_free(sending->cap);
    sending->cap = NULL;
}

/* Waits for something to happen on the connection. */
static bool turn(struct cli_sender *sender)
{
    struct pollfd entry = {capstore_fd(sender->to), (short)capstore_events(sender->to), 0};
    int n = poll(&entry, 1, capstore_timeout_ms(sender->to));
    if (n < 0 && errno != EINTR) {
        sender->failed = true;
        (void)cli_fail_error(sender->cli, CAPSTORE_E_IO, NULL, NULL);
        return false;
    }
    (void)capstore_process(sender->to, n > 0 ? entry.revents : 0); /* its callbacks tell */
    return !sender->failed;
}

bool cli_sender_drain(struct cli_sender *sender)
{
    while (!sender->failed && sender->count > 0) {
        (void)turn(sender);
    }
    return !sender->failed;
}

static bool is_in_flight(const struct cli_sender *sender, const struct capstore_hash *hash)
{
    for (size_t i = 0; i < CLI_SENDER_MAX; i++) {
        const struct cli_sending *sending = &sender->sending[i];
        if (sending->cap != NULL && capstore_hash_equal(capstore_cap_hash(sending->cap), hash)) {
            return true;
        }
    }
    return false;
}

static bool needs_one_in_flight(const struct cli_sender *sender, const struct capstore_cap *cap)
{
    struct capstore_counts counts = capstore_image_counts(cap);
    for (int table = 0; sender->count > 0 && table < 2; table++) {
        for (size_t i = 0; i < counts.slots[table]; i++) {
            struct capstore_slot slot = capstore_image_slot(cap, (enum capstore_table)table, i);
            if (is_in_flight(sender, &slot.cap_hash)) {
                return true;
            }
        }
    }
    return false;
}

static struct cli_sending *free_place(struct cli_sender *sender)
{
    size_t i = 0;
    while (sender->sending[i].cap != NULL) {
        i++;
    }
    return &sender->sending[i];
}

/* Publishes a long one after all others: it goes on when its connection is lost. */
static bool put_alone(struct cli_sender *sender, struct capstore_cap *cap)
{
    if (cli_sender_drain(sender)) {
        struct capstore_bytes bytes = capstore_cap_body(cap);
        struct capstore_source body = capstore_source_memory(&bytes);
        struct capstore_put_result result = {.is_new = false};
        enum capstore_error error = capstore_put_cap(sender->to, capstore_cap_hash(cap),
                                                     capstore_cap_kind(cap), &body, &result);
        take_outcome(sender, cap, error, result.is_new);
    }
    capstore_cap_free(cap);
    return !sender->failed;
}

bool cli_sender_put(struct cli_sender *sender, struct capstore_cap *cap)
{
    uint64_t len = capstore_cap_body(cap).len;
    if (len > CLI_SENDER_ALONE) {
        return put_alone(sender, cap);
    }
    while (!sender->failed && sender->count > 0 &&
           (sender->count == CLI_SENDER_MAX || sender->bytes + len > CLI_SENDER_BYTES ||
            needs_one_in_flight(sender, cap))) {
        (void)turn(sender);
    }
    if (sender->failed) {
        capstore_cap_free(cap);
        return false;
    }
    struct cli_sending *sending = free_place(sender);
    *sending = (struct cli_sending){sender, cap, capstore_cap_body(cap)};
    struct capstore_source body = capstore_source_memory(&sending->body);
    enum capstore_error error = capstore_async_put_cap(
        sender->to, capstore_cap_hash(cap), capstore_cap_kind(cap), &body, on_put, sending, NULL);
    if (error != CAPSTORE_OK) {
        sender->failed = true;
        sending->cap = NULL;
        capstore_cap_free(cap);
        (void)cli_fail_error(sender->cli, error, NULL, capstore_message(sender->to));
        return false;
    }
    sender->count++;
    sender->bytes += len;
    (void)capstore_process(sender->to, 0); /* what goes out now need not be waited for later */
    return !sender->failed;
}

bool cli_sender_has(struct cli_sender *sender, const struct capstore_hash *hashes, size_t count,
                    bool *ret_there)
{
    if (!cli_sender_drain(sender)) {
        return false;
    }
    uint8_t *kinds = malloc(count + 1);
    enum capstore_error error =
        kinds == NULL ? CAPSTORE_E_NO_MEMORY : capstore_has(sender->to, hashes, count, kinds);
    if (error != CAPSTORE_OK && kinds != NULL && !capstore_connected(sender->to) &&
        capstore_connect(sender->to, sender->address) == CAPSTORE_OK) {
        error = capstore_has(sender->to, hashes, count, kinds); /* it had been idle for too long */
    }
    for (size_t i = 0; error == CAPSTORE_OK && i < count; i++) {
        ret_there[i] = kinds[i] != 0;
    }
    free(kinds);
    if (error != CAPSTORE_OK) {
        sender->failed = true;
        (void)cli_fail_error(sender->cli, error, NULL, capstore_message(sender->to));
    }
    return error == CAPSTORE_OK;
}

void cli_sender_close(struct cli_sender *sender)
{
    sender->failed = true; /* the end of what is in flight is nobody's concern any more */
    capstore_free(sender->to);
    sender->to = NULL;
}
