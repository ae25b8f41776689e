/* The store clock and the leases that it measures. */
#include <time.h>

#include "lib/store/engine.h"
#include "lib/store/record.h"
#include "lib/store/store.h"

#define US_PER_S 1000000u

static uint64_t read_us(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now); /* lint: allow clock_gettime; the store has a clock of its own */
    return (uint64_t)now.tv_sec * US_PER_S + (uint64_t)now.tv_nsec / 1000;
}

uint64_t store_wall_us(void)
{
    return read_us(CLOCK_REALTIME);
}

void store_clock_start(struct cap_store *store, uint64_t written_s)
{
    uint64_t now_us = store_wall_us();
    if (written_s < STORE_CLOCK_MAX && now_us < written_s * US_PER_S) {
        now_us = written_s * US_PER_S;
    }
    atomic_store(&store->clock_zero_us, now_us - read_us(CLOCK_MONOTONIC));
}

uint64_t cap_store_clock(const struct cap_store *store)
{
    uint64_t now_us = atomic_load(&store->clock_zero_us) + read_us(CLOCK_MONOTONIC);
    return now_us / US_PER_S;
}

uint64_t store_lease_end(const struct cap_store *store, uint64_t keep_s)
{
    uint64_t now_s = cap_store_clock(store);
    return now_s >= STORE_CLOCK_MAX || keep_s > STORE_CLOCK_MAX - now_s ? STORE_CLOCK_MAX
                                                                        : now_s + keep_s;
}

bool store_lease_gains(const struct cap_store *store, uint64_t kept_until_s, uint64_t until_s)
{
    uint64_t now_s = cap_store_clock(store);
    uint64_t from_s = kept_until_s > now_s ? kept_until_s : now_s;
    return until_s > from_s && until_s - from_s >= (until_s - now_s) / 8;
}

uint32_t cap_store_left(const struct cap_store *store, uint64_t kept_until_s)
{
    uint64_t now_s = cap_store_clock(store);
    uint64_t left_s = kept_until_s > now_s ? kept_until_s - now_s : 0;
    return left_s < UINT32_MAX ? (uint32_t)left_s : UINT32_MAX;
}

bool cap_store_keep_gains(const struct cap_store *store, uint64_t kept_until_s, uint64_t keep_s)
{
    return store_lease_gains(store, kept_until_s, store_lease_end(store, keep_s));
}
