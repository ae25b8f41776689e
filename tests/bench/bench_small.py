"""Fetches of 1 KiB: 50 connections, 1 and 16 in flight, Unix and TCP, beside redis, memcached and a bare server"""

from contextlib import ExitStack

from servers import Bare, Capstored, Memcached, Redis

LENGTH = 1024


def run(bench):
    keys = bench.size(100_000, 1000)
    core = bench.server_core
    with ExitStack() as stack:
        ours = Capstored(bench.path("capstore"), core=core)
        ours.fill(keys, LENGTH)
        peers = [Redis(bench.path("redis"), core=core), Memcached(bench.path("memcached"), core=core)]
        running = [stack.enter_context(server) for server in
                   (ours, *peers, Bare(bench.path("bare"), keys, LENGTH, core=core))]
        for server in peers:
            for transport in ("unix", "tcp") if server.name == "memcached" else ("unix",):
                bench.load(server, "put", transport, count=keys, connections=4, depth=16, len=LENGTH)
        for server in running:  # as in a system that has been running
            bench.load(server, "get", count=keys, keys=keys, order=1, connections=50, depth=16, len=LENGTH)
        table = bench.table(f"small: fetches of 1 KiB out of {keys}, 50 connections; {bench.pin_note()}", "per s")
        for transport in ("unix", "tcp"):
            for depth in (1, 16):
                row = table.row(f"{transport}, {depth} in flight", (">=", 1.3), [peer.name for peer in peers])
                for seed in range(bench.rounds):
                    for server in running:
                        figures = bench.load(server, "get", transport, keys=keys, connections=50, depth=depth,
                                             len=LENGTH, seed=seed)
                        bench.add(row, server, figures)
        table.notes.append("bare: the least that a server does for these fetches; the ratio is with its peers")
