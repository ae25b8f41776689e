/*
 * Accounts of what is under way and of the last hour, under one mutex. It is held while the store
 * is asked what a publisher has: what is given back meanwhile would be in neither figure.
 */
#include "daemon/publish/quota.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/param.h>
#include <sys/queue.h>
#include <uv.h>

#define BUCKETS     256u
#define SLOT_US     UINT64_C(300000000) /* five minutes */
#define SLOTS       13u                 /* the one that runs, and an hour before it */
#define NAME_SIZE   32
#define LIST_OWNERS 64u /* asked of the store at a time */

struct quota_account {
    LIST_ENTRY(quota_account) link; /* of its bucket */
    uint32_t uid;
    uint32_t holds;
    struct cap_usage held;
    uint64_t slots[SLOTS]; /* bytes, by number of slot modulo SLOTS */
    uint64_t slot;         /* the number of the last one in use */
};

struct quotas {
    const struct config *config;
    const struct env *env;
    uv_mutex_t lock;
    uint64_t held_bytes; /* of all */
    LIST_HEAD(quota_bucket, quota_account) table[BUCKETS];
};

enum cap_error quotas_new(const struct config *config, const struct env *env,
                          struct quotas **ret_quotas)
{
    struct quotas *quotas = calloc(1, sizeof(*quotas));
    if (quotas == NULL || uv_mutex_init(&quotas->lock) != 0) {
        free(quotas);
        return CAP_E_NO_MEMORY;
    }
    quotas->config = config;
    quotas->env = env;
    *ret_quotas = quotas;
    return CAP_OK;
}

void quotas_free(struct quotas *quotas)
{
    if (quotas == NULL) {
        return;
    }
    for (size_t i = 0; i < BUCKETS; i++) {
        struct quota_account *account;
        while ((account = LIST_FIRST(&quotas->table[i])) != NULL) {
            LIST_REMOVE(account, link);
            free(account);
        }
    }
    uv_mutex_destroy(&quotas->lock);
    free(quotas);
}

/* --- Accounts --------------------------------------------------------------------------------- */

/* Empties the slots that are more than an hour old. */
static void turn(struct quota_account *account, uint64_t now_us)
{
    uint64_t slot = now_us / SLOT_US;
    for (unsigned i = 0; i < SLOTS && account->slot < slot; i++) {
        account->slot++;
        account->slots[account->slot % SLOTS] = 0;
    }
    account->slot = MAX(account->slot, slot); /* after a longer time all are empty */
}

static uint64_t last_hour(const struct quota_account *account)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < SLOTS; i++) {
        bytes += account->slots[i];
    }
    return bytes;
}

static struct quota_account *find(const struct quotas *quotas, uint32_t uid)
{
    struct quota_account *account;
    LIST_FOREACH(account, &quotas->table[uid % BUCKETS], link)
    {
        if (account->uid == uid) {
            return account;
        }
    }
    return NULL;
}

/* Frees the accounts of a bucket that say nothing any more. */
static void clear(struct quotas *quotas, uint32_t uid, uint64_t now_us)
{
    struct quota_account *next;
    for (struct quota_account *account = LIST_FIRST(&quotas->table[uid % BUCKETS]); account != NULL;
         account = next) {
        next = LIST_NEXT(account, link);
        turn(account, now_us);
        if (account->holds == 0 && last_hour(account) == 0) {
            LIST_REMOVE(account, link);
            free(account);
        }
    }
}

static struct quota_account *find_or_add(struct quotas *quotas, uint32_t uid, uint64_t now_us)
{
    struct quota_account *account = find(quotas, uid);
    if (account != NULL) {
        turn(account, now_us);
        return account;
    }
    clear(quotas, uid, now_us);
    account = calloc(1, sizeof(*account));
    if (account != NULL) {
        account->uid = uid;
        account->slot = now_us / SLOT_US;
        LIST_INSERT_HEAD(&quotas->table[uid % BUCKETS], account, link);
    }
    return account;
}

/* --- Limits ----------------------------------------------------------------------------------- */

/* One quota: what it counts now, holds included, and what is to be added. */
struct quota {
    const char *option;
    const char *unit;
    uint64_t limit; /* 0: none */
    uint64_t counted;
    uint64_t needed;
    bool of_all;
};

static bool fits(const struct quota *quota)
{
    return quota->limit == 0 || quota->needed == 0 ||
           (quota->counted <= quota->limit && quota->needed <= quota->limit - quota->counted);
}

static enum cap_error refuse(const struct quota *quota, uint32_t uid,
                             struct judgement *ret_judgement)
{
    char name[NAME_SIZE] = "all publishers";
    if (!quota->of_all && uid == QUOTA_ANONYMOUS) {
        snprintf(name, sizeof(name), "all TCP clients");
    } else if (!quota->of_all) {
        snprintf(name, sizeof(name), "uid %" PRIu32, uid);
    }
    uint64_t have = quota->limit > quota->counted ? quota->limit - quota->counted : 0;
    judgement_lack(ret_judgement, quota->needed, have, quota->option);
    return judgement_say(ret_judgement, CAP_E_QUOTA_EXCEEDED,
                         "over %s of %s: need %" PRIu64 " %s, have %" PRIu64 " of %" PRIu64,
                         quota->option, name, quota->needed, quota->unit, have, quota->limit);
}

/* What the store has, of this publisher and in all; nothing is asked that no quota needs. */
static enum cap_error ask_store(const struct quotas *quotas, struct cap_store *store, uint32_t uid,
                                struct cap_usage *ret_used, uint64_t *ret_total)
{
    const struct config *config = quotas->config;
    struct cap_counts counts = {0};
    struct cap_read *read = NULL;
    *ret_used = (struct cap_usage){0};
    *ret_total = 0;
    if (config->quota_bytes == 0 && config->quota_caps == 0 && config->quota_total == 0) {
        return CAP_OK;
    }
    enum cap_error error = cap_store_read_begin(store, &read);
    if (error == CAP_OK) {
        error = cap_store_owner(read, uid, ret_used);
    }
    if (error == CAP_OK && config->quota_total > 0) {
        error = cap_store_counts(read, &counts);
        *ret_total = counts.body_bytes[CAP_KIND_IMAGE] + counts.body_bytes[CAP_KIND_DATA];
    }
    cap_store_read_end(read);
    return error;
}

/* Whether `more` fits. Under the lock. */
static enum cap_error check(const struct quotas *quotas, struct cap_store *store,
                            const struct quota_account *account, const struct cap_usage *more,
                            struct judgement *ret_judgement)
{
    const struct config *config = quotas->config;
    struct cap_usage used;
    uint64_t total;
    enum cap_error error = ask_store(quotas, store, account->uid, &used, &total);
    if (error != CAP_OK) {
        return judgement_set(ret_judgement, error);
    }
    const struct quota all[] = {
        {"quota-bytes", "bytes", config->quota_bytes, used.bytes + account->held.bytes, more->bytes,
         false},
        {"quota-caps", "caps", config->quota_caps, used.caps + account->held.caps, more->caps,
         false},
        {"quota-hourly", "bytes", config->quota_hourly, last_hour(account) + account->held.bytes,
         more->bytes, false},
        {"quota-total", "bytes", config->quota_total, total + quotas->held_bytes, more->bytes,
         true},
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (!fits(&all[i])) {
            return refuse(&all[i], account->uid, ret_judgement);
        }
    }
    return CAP_OK;
}

/* --- Holds ------------------------------------------------------------------------------------ */

/* What the hold counts becomes `wanted`. */
static void change(struct quotas *quotas, struct quota_hold *hold, const struct cap_usage *wanted)
{
    struct quota_account *account = hold->account;
    account->held.bytes += wanted->bytes - hold->bytes; /* modulo 2^64 */
    account->held.caps += wanted->caps - hold->caps;
    quotas->held_bytes += wanted->bytes - hold->bytes;
    hold->bytes = wanted->bytes;
    hold->caps = wanted->caps;
}

enum cap_error quota_take(struct quotas *quotas, struct cap_store *store, uint32_t uid,
                          struct quota_hold *hold, const struct cap_usage *wanted,
                          struct judgement *ret_judgement)
{
    const struct cap_usage more = {
        .bytes = wanted->bytes > hold->bytes ? wanted->bytes - hold->bytes : 0,
        .caps = wanted->caps > hold->caps ? wanted->caps - hold->caps : 0,
    };
    enum cap_error error = CAP_OK;
    uv_mutex_lock(&quotas->lock);
    struct quota_account *account = find_or_add(quotas, uid, env_monotonic_us(quotas->env));
    if (account == NULL) {
        error = judgement_set(ret_judgement, CAP_E_NO_MEMORY);
    } else if (more.bytes > 0 || more.caps > 0) {
        error = check(quotas, store, account, &more, ret_judgement);
    }
    if (error == CAP_OK) {
        account->holds += hold->account == NULL ? 1 : 0;
        hold->account = account;
        change(quotas, hold, wanted);
    }
    uv_mutex_unlock(&quotas->lock);
    return error;
}

void quota_give(struct quotas *quotas, struct quota_hold *hold, uint64_t stored)
{
    const struct cap_usage nothing = {0};
    struct quota_account *account = hold->account;
    if (account == NULL) {
        return;
    }
    uv_mutex_lock(&quotas->lock);
    turn(account, env_monotonic_us(quotas->env));
    account->slots[account->slot % SLOTS] += stored;
    change(quotas, hold, &nothing);
    account->holds--;
    hold->account = NULL;
    uv_mutex_unlock(&quotas->lock);
}

/* --- Figures ---------------------------------------------------------------------------------- */

/* The account with the least uid from `from` on; NULL when there is none. */
static struct quota_account *next_account(const struct quotas *quotas, uint32_t from)
{
    struct quota_account *least = NULL;
    for (size_t i = 0; i < BUCKETS; i++) {
        struct quota_account *account;
        LIST_FOREACH(account, &quotas->table[i], link)
        {
            if (account->uid >= from && (least == NULL || account->uid < least->uid)) {
                least = account;
            }
        }
    }
    return least;
}

/* The next publisher from `from` on, of the store's or of ours. False: there is none. Under the
 * lock. */
static bool next_row(struct quotas *quotas, const struct cap_owner *owner, uint32_t from,
                     struct quota_row *row)
{
    struct quota_account *account = next_account(quotas, from);
    *row = (struct quota_row){0};
    if (owner == NULL && account == NULL) {
        return false;
    }
    bool ours = account != NULL && (owner == NULL || account->uid <= owner->uid);
    row->uid = ours ? account->uid : owner->uid;
    if (owner != NULL && owner->uid == row->uid) {
        row->used = owner->usage;
    }
    if (ours) {
        turn(account, env_monotonic_us(quotas->env));
        row->under_way = account->held;
        row->last_hour = last_hour(account);
    }
    return true;
}

/* One publisher after the other; the store is asked for many at a time. */
static enum cap_error list(struct quotas *quotas, struct cap_read *read, uint32_t from, size_t max,
                           struct quota_row *rows, size_t *ret_count)
{
    struct cap_owner owners[LIST_OWNERS];
    size_t count = 0;
    size_t at = 0;
    bool all = false;
    bool more = true;
    *ret_count = 0;
    while (more && *ret_count < max) {
        if (at == count && !all) {
            enum cap_error error = cap_store_owners(read, from, LIST_OWNERS, owners, &count);
            if (error != CAP_OK) {
                return error;
            }
            at = 0;
            all = count < LIST_OWNERS;
        }
        struct quota_row *row = &rows[*ret_count];
        const struct cap_owner *owner = at < count ? &owners[at] : NULL;
        uv_mutex_lock(&quotas->lock);
        more = next_row(quotas, owner, from, row);
        uv_mutex_unlock(&quotas->lock);
        if (more) {
            at += owner != NULL && owner->uid == row->uid ? 1 : 0;
            (*ret_count)++;
            more = row->uid != UINT32_MAX;
            from = row->uid + 1;
        }
    }
    return CAP_OK;
}

enum cap_error quota_list(struct quotas *quotas, struct cap_store *store, uint32_t from, size_t max,
                          struct quota_row *ret_rows, size_t *ret_count)
{
    struct cap_read *read = NULL;
    enum cap_error error = cap_store_read_begin(store, &read);
    if (error == CAP_OK) {
        error = list(quotas, read, from, max, ret_rows, ret_count);
    }
    cap_store_read_end(read);
    return error;
}
