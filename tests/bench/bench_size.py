"""The store's file beside the bodies in it, for caps of 1 KiB that clients published"""

from servers import Capstored

LENGTH = 1024
HEAD = 29  # what a served body of one page has before its content


def run(bench):
    count = bench.size(50_000, 500)
    table = bench.table(f"size: {count} caps of 1 KiB, published over 64 connections", "MiB", ratio="time")
    row = table.row("the file, beside the bodies", goal=("<=", 1.5))
    with Capstored(bench.path("capstore")) as server:
        bench.load(server, "put", count=count, connections=64, len=LENGTH - HEAD, core=None)
        row.add("capstore", server.store.stat().st_size / (1 << 20))
        row.add("bodies", count * LENGTH / (1 << 20))
