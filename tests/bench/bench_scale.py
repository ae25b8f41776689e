"""10,000 caps against many: ready time, memory, fetch and publish rates; and a picture of rate against size"""

import time

import chart
from measure import MIB
from servers import Capstored

LENGTH = 1024
SMALL = 10_000
WARM = 4_000_000  # fetches, at most, until the record cache knows what it has room for
NEW = 10_000_000_000  # keys that no store was filled with
FETCHES = "fetches per s, 50 connections, 16 in flight"
UNCACHED = "the same without the daemon's record cache"
PUBLICATIONS = "publications of 1 KiB per s, 64 connections"
READY = "seconds from start to ready"
MEMORY = "MiB of anonymous memory"


def run(bench):
    most = bench.size(bench.large_store, 20_000)
    sizes = [size for size in bench.size((SMALL, 100_000, 1_000_000, 10_000_000), (1000,)) if size < most] + [most]
    found = {size: measure(bench, size) for size in sizes}
    small, large = sizes[0], sizes[-1]
    table = bench.table(f"scale: {large:,} caps of 1 KiB beside {small:,}; {bench.pin_note()}, publications unpinned",
                        "as stated", ratio="rate")
    for what, goal in ((FETCHES, (">=", 0.7)), (UNCACHED, None), (PUBLICATIONS, (">=", 0.7))):
        row = table.row(what, goal=goal)
        for ours, other in zip(found[large][what], found[small][what]):
            row.add("capstore", ours[0], **ours[1])
            row.add("small store", other[0], **other[1])
    for what, goal in ((READY, 1), (MEMORY, 64)):
        row = table.row(what, goal=("<=", goal))
        for value, _ in found[large][what]:
            row.add("capstore", value)
    series = {}
    for size in sizes:
        for what, name in ((FETCHES, "fetches"), (UNCACHED, "fetches past the cache"), (PUBLICATIONS, "publications")):
            values = sorted(value for value, _ in found[size][what])
            series.setdefault(name, []).append((size, values[len(values) // 2]))
    chart.draw(bench.out / "scale.svg", "Rate against store size", "caps of 1 KiB in the store", "per second", series,
               log_x=True, log_y=True)


def read_in(path):
    """Has the file in memory, as far as it fits: what is measured is not how fast the disk is."""
    with open(path, "rb", buffering=0) as file:
        while file.read(MIB):
            pass


def rate(figures):
    """The rate, and the CPU time of the server for each request, which says more on a busy machine."""
    return figures["rate"], {"server_us": 1e6 * figures["server_cores"] / figures["rate"]}


def measure(bench, count):
    """name -> one value per round, with its details, for a store with so many caps."""
    found = {name: [] for name in (FETCHES, UNCACHED, PUBLICATIONS, READY, MEMORY)}
    root = bench.path(f"store{count}")
    plain = Capstored(root, "--map-size", "256G", core=bench.server_core)
    uncached = Capstored(root, "--map-size", "256G", "--record-cache", "0", core=bench.server_core)
    writer = Capstored(root, "--map-size", "256G")
    plain.fill(count, LENGTH)
    for seed in range(bench.rounds):
        read_in(plain.store)
        for what, server in ((FETCHES, plain), (UNCACHED, uncached)):
            began = time.perf_counter()
            with server:
                ready = time.perf_counter() - began
                options = {"keys": count, "connections": 50, "depth": 16, "len": LENGTH}
                # It has the process map the pages, and the record cache find its caps: 98 % of a million.
                warm = {"count": min(4 * count, WARM)} if server is plain else {}
                bench.load(server, "get", seed=bench.rounds + seed, **options, **warm)
                found[what].append(rate(bench.load(server, "get", seed=seed, **options)))
                if server is plain:
                    found[READY].append((ready, {}))
                    found[MEMORY].append((server.memory() / MIB, {}))
        with writer:
            put = bench.load(writer, "put", connections=64, len=LENGTH, first=NEW + seed * NEW, core=None)
            found[PUBLICATIONS].append(rate(put))
    plain.store.unlink()
    return found
