"""Slices: one page of an Image of 252 MiB beside a fetch of 1 KiB, and the slice of all of it beside its body"""

import os
import pathlib

import harness
from images import largest
from measure import MIB
from servers import Capstored

PAGE = 4096
CODE = 252 * MIB


def publish(bench, server, length):
    """An Image with so much code, and a Data cap of 1 KiB; their hashes."""
    tool = [str(pathlib.Path(harness.CAPCTL).resolve()), "--json", "-s", server.address("unix")]
    small = bench.path("small")
    small.write_bytes(os.urandom(1024))
    image = largest(bench.path("image"), length)
    return [bench.output([*tool, *words])["cap_hash"] for words in (["publish", str(image)], ["put", str(small)])]


def run(bench):
    length = bench.size(CODE, 8 * MIB)
    with Capstored(bench.path("capstore"), core=bench.server_core) as server:
        image, small = publish(bench, server, length)

        def measure(how, cap_hash, count):
            return bench.program("slice_speed", how, server.address("unix"), cap_hash, length // PAGE, count,
                                 *server.pids(), core=bench.generator_core)

        page = bench.table(f"slice: one random page of an Image of {length // MIB} MiB, one in flight, Unix, "
                           f"{bench.pin_note()}", "microseconds", ratio="time")
        whole = bench.table(f"slice: all of it, not verified, Unix, {bench.pin_note()}", "GB/s")
        for _ in range(bench.rounds):
            for who, how, cap_hash in (("capstore", "page", image), ("fetch of 1 KiB", "get", small)):
                figures = measure(how, cap_hash, bench.size(5000, 50))
                page.row("latency, p50", goal=("<=", 20)).add(who, figures["p50_us"], bytes=figures["bytes"])
                page.row("processor time of the daemon", goal=("<=", 20)).add(who, figures["server_us"])
            for who, how in (("capstore", "whole"), ("fetch of it", "get")):
                figures = measure(how, image, bench.size(5, 1))
                whole.row("rate").add(who, figures["bytes"] / figures["p50_us"] / 1000)
                whole.row("per second of the daemon's processor").add(who, figures["bytes"] / figures["server_us"] / 1000)
