"""10,000 caps against many: ready time, memory, fetch and publish rates; and a picture of rate against size"""

import time

import chart
from measure import MIB
from servers import Capstored

LENGTH = 1024
SMALL = 10_000
NEW = 10_000_000_000  # keys that no store was filled with


def run(bench):
    most = bench.size(bench.large_store, 20_000)
    sizes = [size for size in bench.size((SMALL, 100_000, 1_000_000, 10_000_000), (1000,)) if size < most] + [most]
    found = {size: measure(bench, size) for size in sizes}
    small, large = sizes[0], sizes[-1]
    table = bench.table(f"scale: {large:,} caps of 1 KiB beside {small:,}; {bench.pin_note()}, publications unpinned",
                        "as stated", ratio="rate")
    for what, goal in (("fetches per s, 50 connections, 16 in flight", 0.7),
                       ("publications of 1 KiB per s, 64 connections", 0.7)):
        row = table.row(what, goal=(">=", goal))
        for ours, other in zip(found[large][what], found[small][what]):
            row.add("capstore", ours)
            row.add("small store", other)
    for what, goal in (("seconds from start to ready", 1), ("MiB of anonymous memory", 64)):
        row = table.row(what, goal=("<=", goal))
        for value in found[large][what]:
            row.add("capstore", value)
    series = {}
    for size in sizes:
        for what in list(found[size])[:2]:
            values = sorted(found[size][what])
            series.setdefault(what.split(" ", 1)[0], []).append((size, values[len(values) // 2]))
    chart.draw(bench.out / "scale.svg", "Rate against store size", "caps of 1 KiB in the store", "per second", series,
               log_x=True, log_y=True)


def measure(bench, count):
    """name -> one value per round, for a store with so many caps."""
    found = {}
    root = bench.path(f"store{count}")
    server = Capstored(root, "--map-size", "256G", core=bench.server_core)
    server.fill(count, LENGTH)
    for seed in range(bench.rounds):
        began = time.perf_counter()
        with server:
            ready = time.perf_counter() - began
            fetched = bench.load(server, "get", keys=count, connections=50, depth=16, len=LENGTH, seed=seed)
            memory = server.memory()
        server.core = None
        with server:
            put = bench.load(server, "put", connections=64, len=LENGTH, first=NEW + seed * NEW, core=None)
        server.core = bench.server_core
        for what, value in (("fetches per s, 50 connections, 16 in flight", fetched["rate"]),
                            ("publications of 1 KiB per s, 64 connections", put["rate"]),
                            ("seconds from start to ready", ready), ("MiB of anonymous memory", memory / MIB)):
            found.setdefault(what, []).append(value)
    server.store.unlink()
    return found
