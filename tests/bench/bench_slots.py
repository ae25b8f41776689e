"""An Image of 4,095 slots with 8 KiB of data each, beside the same bytes in one Data cap"""

import images
from measure import MIB
from servers import Capstored

LENGTH = 8192


def run(bench):
    count = bench.size(4095, 16)
    table = bench.table(f"slots: {count} slots with 8 KiB each, {count * LENGTH / MIB:.1f} MiB, Unix, nothing pinned",
                        "seconds", ratio="time")
    row = table.row("first byte to durable answer", goal=("<=", 3))
    for round_ in range(bench.rounds):
        image = bench.path("image")
        data = images.write(bench.path("data"), images.of_slots(image, count, LENGTH))
        with Capstored(bench.path(f"capstore{round_}")) as server:
            row.add("one Data cap", bench.program("upload", server.address("unix"), data, "data")["seconds"])
        # Another store: the slots' bytes must not be there yet.
        with Capstored(bench.path(f"slots{round_}")) as server:
            row.add("capstore", bench.program("upload", server.address("unix"), image, "image")["seconds"])
