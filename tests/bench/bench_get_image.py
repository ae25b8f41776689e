"""capctl get of an Image of 252 MiB, verified, beside the time that its hash takes"""

import subprocess
import time

import harness
import images
from measure import MIB
from servers import Capstored


def run(bench):
    length = bench.size(252, 4) * MIB
    path = images.largest(bench.path("image"), length)
    table = bench.table(f"get-image: {length // MIB} MiB fetched and verified, Unix, nothing pinned", "seconds",
                        ratio="time")
    row = table.row("capctl get", goal=("<=", 1.3))
    with Capstored(bench.path("capstore")) as server:
        cap_hash = bench.program("upload", server.address("unix"), path, "image")["cap_hash"]
        for _ in range(bench.rounds):
            began = time.perf_counter()
            # Without `timeout`, with which Python looks for the end every 50 ms; capctl has time limits of its own.
            subprocess.run([harness.CAPCTL, "-s", server.address("unix"), "get", cap_hash, "-o", "-"],
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
            row.add("capstore", time.perf_counter() - began)
            row.add("hash, 1 thread", bench.hash_seconds(length, 1))
