"""HAS of 1,000 hashes in one request, beside EXISTS of redis with as many keys, on one core"""

from contextlib import ExitStack

from servers import Capstored, Redis

LENGTH = 64


def run(bench):
    keys = bench.size(100_000, 1000)
    core = bench.server_core
    with ExitStack() as stack:
        ours = Capstored(bench.path("capstore"), core=core)
        ours.fill(keys, LENGTH)
        running = [stack.enter_context(server) for server in (ours, Redis(bench.path("redis"), core=core))]
        bench.load(running[1], "put", count=keys, connections=4, depth=16, len=LENGTH)
        table = bench.table(f"has: 1,000 hashes per request out of {keys}, all there, 4 connections, Unix; "
                            f"{bench.pin_note()}", "hashes per s and core of the server")
        row = table.row("1,000 hashes", goal=(">=", 1.3))
        for seed in range(bench.rounds):
            for server in running:
                figures = bench.load(server, "has", keys=keys, batch=1000, connections=4, seed=seed)
                per_core = figures["items_per_second"] / max(figures["server_cores"], 0.001)
                bench.add(row, server, dict(figures, per_core=per_core), "per_core")
