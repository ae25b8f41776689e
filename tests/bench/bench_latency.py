"""Latency of 1 KiB fetches against load, beside redis: a picture

Requests are sent by the clock, whether or not earlier ones were answered, and each latency counts from when the
request was due: a server that stalls pays for every request that it kept waiting.
"""

import statistics
from contextlib import ExitStack

import chart
from servers import Capstored, Redis

LENGTH = 1024
SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def run(bench):
    keys = bench.size(100_000, 1000)
    core = bench.server_core
    common = {"keys": keys, "len": LENGTH}
    series = {}
    with ExitStack() as stack:
        ours = Capstored(bench.path("capstore"), core=core)
        ours.fill(keys, LENGTH)
        running = [stack.enter_context(server) for server in (ours, Redis(bench.path("redis"), core=core))]
        bench.load(running[1], "put", count=keys, connections=4, depth=16, len=LENGTH)
        table = bench.table(f"latency: 50 connections, Unix, sent by the clock; {bench.pin_note()}", "p99 in us")
        most = {server.name: bench.load(server, "get", connections=50, depth=1, **common)["rate"] for server in running}
        for share in bench.size(SHARES, (0.1, 0.5)):
            for seed in range(min(bench.rounds, 3)):
                for server in running:
                    rate = int(most[server.name] * share)
                    figures = bench.load(server, "get", connections=50, depth=16, rate=rate, seed=seed, **common)
                    table.row(f"{share:.0%} of {server.name}'s {most[server.name]:,.0f} per s").add(
                        server.name, figures["p99_us"], sent=rate, answered=figures["rate"], p50_us=figures["p50_us"],
                        worst_us=figures["worst_us"])
    for row in table.rows:
        for name, details in row.details.items():
            rate = details["sent"][0]
            series.setdefault(f"{name} p50", []).append((rate, statistics.median(details["p50_us"])))
            series.setdefault(f"{name} p99", []).append((rate, row.median(name)))
    chart.draw(bench.out / "latency.svg", "Latency of 1 KiB fetches against load", "fetches sent per second",
               "microseconds", series, log_y=True)
