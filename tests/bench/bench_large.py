"""Fetches of 64 KiB and 1 MiB: TCP with 8 connections, and Unix, beside nginx with sendfile"""

from contextlib import ExitStack

from servers import Capstored, Nginx

SIZES = ((64 << 10, "64 KiB", 512, 0), (1 << 20, "1 MiB", 128, 100_000))  # length, its name, how many, the first


def run(bench):
    core = bench.server_core
    with ExitStack() as stack:
        ours, peer = Capstored(bench.path("capstore"), core=core), Nginx(bench.path("nginx"), core=core)
        for length, _, count, first in SIZES:
            for server in (ours, peer):
                server.fill(bench.size(count, 8), length, first)
        running = [stack.enter_context(server) for server in (ours, peer)]
        table = bench.table(f"large: 8 connections, one fetch in flight; {bench.pin_note()}", "GB/s")
        for transport, goal in (("tcp", 1.0), ("unix", 0.9)):
            for length, label, count, first in SIZES:
                row = table.row(f"{transport}, {label}", goal=(">=", goal))
                for seed in range(bench.rounds):
                    for server in running:
                        figures = bench.load(server, "get", transport, keys=bench.size(count, 8), first=first,
                                             connections=8, depth=1, len=length, seed=seed)
                        figures["gigabytes"] = figures["bytes_per_second"] / 1e9
                        bench.add(row, server, figures, "gigabytes")
