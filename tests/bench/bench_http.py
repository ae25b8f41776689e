"""Fetches of 1 KiB to 1 MiB over HTTP, 8 connections, beside nginx that serves files with sendfile"""

from contextlib import ExitStack

from servers import CapstoredHttp, Nginx

# Length, its name, how many, the first, and the goal: a copy of each block stands against sendfile.
SIZES = ((1 << 10, "1 KiB", 4096, 0, 0.3), (64 << 10, "64 KiB", 512, 100_000, 0.3), (1 << 20, "1 MiB", 128, 200_000, 0.3))


def run(bench):
    core = bench.server_core
    with ExitStack() as stack:
        servers = CapstoredHttp(bench.path("capstore"), core=core), Nginx(bench.path("nginx"), core=core)
        for length, _, count, first, _ in SIZES:
            for server in servers:
                server.fill(bench.size(count, 8), length, first)
        running = [stack.enter_context(server) for server in servers]
        table = bench.table(f"http: 8 connections, one fetch in flight; {bench.pin_note()}", "GB/s")
        for length, label, count, first, goal in SIZES:
            row = table.row(f"HTTP, {label}", goal=(">=", goal))
            for seed in range(bench.rounds):
                for server in running:
                    figures = bench.load(server, "get", "http", keys=bench.size(count, 8), first=first, connections=8,
                                         depth=1, len=length, seed=seed)
                    figures["gigabytes"] = figures["bytes_per_second"] / 1e9
                    bench.add(row, server, figures, "gigabytes")
