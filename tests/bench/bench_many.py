"""1,000 caps of 1 KiB in one request, beside as many GETs in flight of redis and memcached, and MGET of redis"""

from contextlib import ExitStack

from servers import Capstored, Memcached, Redis

LENGTH = 1024
BATCH = 1000
SETS = (20_000, 100_000)


def run(bench):
    core = bench.server_core
    keys = bench.size(SETS[-1], 1000)
    batch = bench.size(BATCH, 100)
    with ExitStack() as stack:
        ours = Capstored(bench.path("capstore"), core=core)
        ours.fill(keys, LENGTH)
        ours, redis, memcached = [stack.enter_context(server) for server in
                                  (ours, Redis(bench.path("redis"), core=core),
                                   Memcached(bench.path("memcached"), core=core))]
        for server in (redis, memcached):
            bench.load(server, "put", count=keys, connections=4, depth=16, len=LENGTH)
        table = bench.table(f"many: {batch} caps of 1 KiB per request, 4 connections with 2 requests in flight, Unix; "
                            f"{bench.pin_note()}", "caps per s")
        for count in SETS:
            count = bench.size(count, 1000)
            row = table.row(f"out of {count}", goal=(">=", 5), against=("redis",))
            for seed in range(bench.rounds):
                common = {"keys": count, "connections": 4, "len": LENGTH, "seed": seed}
                figures = bench.load(ours, "many", batch=batch, depth=2, **common)
                bench.add(row, ours, figures, "items_per_second")
                figures = bench.load(redis, "get", depth=2 * batch, **common)
                bench.add(row, redis, figures, "items_per_second")
                figures = bench.load(redis, "many", batch=batch, depth=2, **common)
                row.add("redis MGET", figures["items_per_second"])
                figures = bench.load(memcached, "get", depth=2 * batch, **common)
                bench.add(row, memcached, figures, "items_per_second")
