/* A list for each copy: few peers map the same. */
#include "daemon/serve/charges.h"

#include <stdlib.h>

struct charge {
    SLIST_ENTRY(charge) link;
    struct ledger_peer *account;
};

bool charges_have(const struct charges *charges, const struct ledger_peer *account)
{
    const struct charge *charge;
    SLIST_FOREACH(charge, &charges->list, link)
    {
        if (charge->account == account) {
            return true;
        }
    }
    return false;
}

enum cap_error charges_add(struct charges *charges, struct ledger *ledger,
                           struct ledger_peer *account, uint64_t bytes,
                           char ret_why[LEDGER_WHY_SIZE])
{
    if (charges_have(charges, account)) {
        return CAP_OK;
    }
    struct charge *charge = calloc(1, sizeof(*charge));
    if (charge == NULL) {
        return CAP_E_NO_MEMORY;
    }
    if (!ledger_map_take(ledger, account, bytes, ret_why)) {
        free(charge);
        return CAP_E_MEMORY_LIMIT;
    }
    charge->account = account;
    SLIST_INSERT_HEAD(&charges->list, charge, link);
    return CAP_OK;
}

void charges_drop(struct charges *charges, struct ledger *ledger, uint64_t bytes)
{
    while (!SLIST_EMPTY(&charges->list)) {
        struct charge *charge = SLIST_FIRST(&charges->list);
        SLIST_REMOVE_HEAD(&charges->list, link);
        ledger_map_give(ledger, charge->account, bytes);
        free(charge);
    }
}
