"""Durable publications of 4 KiB: 1 and 64 connections, beside redis that syncs always, and bare LMDB"""

from contextlib import ExitStack

from servers import Capstored, Redis

LENGTH = 4096


def run(bench):
    with ExitStack() as stack:
        running = [stack.enter_context(server) for server in
                   (Capstored(bench.path("capstore")), Redis(bench.path("redis"), durable=True))]
        table = bench.table("publish: durable publications of 4 KiB, Unix; nothing pinned", "per s")
        for connections, goal, against in ((1, (">=", 1.0), ["bare LMDB"]), (64, (">=", 1.0), ["redis"])):
            row = table.row(f"{connections} connection{'s' * (connections > 1)}", goal, against)
            for round_ in range(bench.rounds):
                for server in running:
                    first = (connections * 1000 + round_) * 10_000_000  # keys that no other round uses
                    figures = bench.load(server, "put", connections=connections, len=LENGTH, first=first, core=None)
                    bench.add(row, server, figures)
                bare = bench.program("lmdb_commits", bench.path(f"bare{connections}.{round_}"), LENGTH, connections,
                                     bench.seconds)
                row.add("bare LMDB", bare["rate"], commits=bare["commits_per_second"])
        table.notes.append("bare LMDB: the same records, as many per commit as there are connections")
