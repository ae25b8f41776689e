"""A code region of 252 MiB: its hash on one thread and on two"""

from measure import MIB


def run(bench):
    length = bench.size(252, 8) * MIB
    table = bench.table(f"region: hashing {length // MIB} MiB of code", "seconds", ratio="time")
    one = table.row("one thread, beside its nodes at the speed of `nodes`", goal=("<=", 1.1))
    two = bench.table(f"region: hashing {length // MIB} MiB on two threads, beside one", "seconds", ratio="speed")
    both = two.row("two threads", goal=(">=", 1.8))
    for _ in range(bench.rounds):
        node = bench.program("hash_speed", "nodes", 4096, bench.seconds, core=bench.generator_core)["ns_per_node"]
        alone = bench.hash_seconds(length, 1)
        one.add("capstore", alone)
        one.add("nodes", length / 32 * node / 1e9)
        both.add("capstore", bench.hash_seconds(length, 2))
        both.add("one thread", alone)
