"""The store's file after many publications, with 1,000 slow readers beside them and without

Pages that a commit frees are used again only when no reader may still need them: a reader that held a transaction for
as long as its client takes would make the file grow.
"""

from bench_tail import COLD, LENGTH, MIB, OPTIONS, slow_readers
from servers import Capstored


def run(bench):
    count = bench.size(30_000, 300)
    readers = bench.size(1000, 10)
    keys = bench.size(64, 4)
    table = bench.table(f"churn: {count} caps of 1 KiB published over 64 connections", "MiB of file", ratio="time")
    row = table.row(f"beside {readers} slow readers", goal=("<=", 1.05))
    for round_ in range(min(bench.rounds, 3)):
        row.add("alone", publish(bench, f"alone{round_}", count, keys, 0))
        row.add("capstore", publish(bench, f"slow{round_}", count, keys, readers))


def publish(bench, name, count, keys, readers):
    """Megabytes that the file grew by."""
    server = Capstored(bench.path(name), *OPTIONS)
    server.fill(keys, MIB, COLD)
    before = server.store.stat().st_size
    with server, slow_readers(server, readers, COLD, keys, 120):
        bench.load(server, "put", count=count, connections=64, len=LENGTH, core=None)
        return (server.store.stat().st_size - before) / MIB
