"""The store's file after many publications, with 1,000 slow readers beside them and without

Pages that a commit frees are used again only when no reader may still need them: a reader that held a transaction for
as long as its client takes would make the file grow.
"""

from bench_tail import COLD, LENGTH, MIB, OPTIONS, slow_readers
from measure import Watch
from servers import Capstored


def run(bench):
    count = bench.size(30_000, 3000)  # the file grows by a MiB at a time
    readers = bench.size(1000, 10)
    keys = bench.size(64, 4)
    table = bench.table(f"churn: {count} caps of 1 KiB published over 64 connections", "MiB of file", ratio="time")
    row = table.row(f"beside {readers} slow readers", goal=("<=", 1.05))
    for round_ in range(min(bench.rounds, 3)):
        for who, beside in (("alone", 0), ("capstore", readers)):
            grown, oldest = publish(bench, f"{who}{round_}", count, keys, beside)
            row.add(who, grown, oldest_snapshot_s=oldest)


def publish(bench, name, count, keys, readers):
    """Megabytes that the file grew by, and the age in seconds of the oldest snapshot seen."""
    server = Capstored(bench.path(name), *OPTIONS)
    server.fill(keys, MIB, COLD)
    before = server.store.stat().st_size
    with server, slow_readers(server, readers, COLD, keys, 120):
        with Watch(server, 0.1, server.oldest_snapshot) as oldest:
            bench.load(server, "put", count=count, connections=64, len=LENGTH, core=None)
        return (server.store.stat().st_size - before) / MIB, oldest.most
