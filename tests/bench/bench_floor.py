"""What the machine can do at best: copies, sockets, syncs, a hash; the other rows are to be read beside it"""


def run(bench):
    table = bench.table("floor: the machine without capstore; the sockets' two ends on both cores", "as stated")

    def add(label, value):
        table.row(label).add("machine", value)

    for _ in range(bench.rounds):
        add("copy in memory, one core, GB/s", bench.program("floor", "copy", bench.seconds)["bytes_per_second"] / 1e9)
        for transport in ("unix", "tcp"):
            found = bench.program("floor", transport, bench.seconds)
            add(f"{transport} socket, writes of 64 KiB, GB/s", found["bytes_per_second"] / 1e9)
            add(f"{transport} socket, round trips of one byte per s", found["trips_per_second"])
        add("4 KiB appended and synced, per s",
            bench.program("floor", "sync", bench.seconds, bench.path("synced"))["syncs_per_second"])
        add("merkle nodes per s, one core",
            1e9 / bench.program("hash_speed", "nodes", 4096, bench.seconds)["ns_per_node"])
