"""Mapping a cap that is mapped already: the time does not depend on its size

The first map has the daemon copy the cap into memory; each later one passes a descriptor and maps it.
"""

from measure import MIB
from servers import Capstored


def run(bench):
    count = bench.size(5000, 50)
    later = bench.table(f"map: a later map, p50, Unix, not verified, {bench.pin_note()}", "microseconds", ratio="time")
    first = bench.table("map: the first map, which copies", "microseconds", ratio="time")
    with Capstored(bench.path("capstore"), core=bench.server_core) as server:
        for length in bench.size((4096, MIB, 128 * MIB), (4096, MIB)):
            label = f"{length >> 10} KiB"
            for number in range(bench.rounds):
                figures = bench.program("map_speed", server.address("unix"), length, count, number,
                                        core=bench.generator_core)
                later.row(label, goal=("<=", 100)).add("capstore", figures["p50_us"], p99_us=figures["p99_us"])
                first.row(label).add("capstore", figures["first_us"], verify_us=figures["verify_us"])
