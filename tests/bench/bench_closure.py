"""A cold program of 1,000 caps: by CLOSURE, by GET_MANY, and as files of nginx over one connection

Cold is the client: each time it connects anew and has nothing. The servers have served it before. The library hashes
what comes, but in the rows that say otherwise; from nginx bytes are only counted.
"""

import hashlib
import pathlib

import harness
import wire
from servers import Capstored, Nginx

CAPS = 1000


def program(bench, server, length):
    """Publishes an Image with a Data cap of `length` bytes in each slot; a file with the hashes, the root's last."""
    wanted = bench.size(CAPS, 50)
    data = [(b"%d" % i, (hashlib.sha512(b"%d" % i).digest() * (length // 64 + 1))[:length]) for i in range(wanted - 1)]
    image = bench.path("wire")
    image.write_bytes(wire.simple_image(b"\x13\0\0\0" * 16, data))
    tool = [str(pathlib.Path(harness.CAPCTL).resolve()), "--json", "-s", server.address("unix")]
    root = bench.output([*tool, "publish", str(image)])["cap_hash"]
    return root, bench.output([*tool, "closure", root, "-d", str(bench.path("files"))])["caps"]


def run(bench):
    rounds = bench.size(20, 2)
    with Capstored(bench.path("capstore"), core=bench.server_core) as ours:
        nginx = Nginx(bench.path("nginx"), core=bench.server_core)
        for length in bench.size((1024, 16384), (1024,)):
            root, caps = program(bench, ours, length)
            for cap in caps:
                (nginx.root / "files" / cap["cap_hash"]).write_bytes(
                    (bench.path("files") / cap["cap_hash"]).read_bytes())
            caps.sort(key=lambda cap: cap["cap_hash"] == root)
            listed = bench.path("list")
            listed.write_text("".join(f"{cap['cap_hash']} {cap['body_len']}\n" for cap in caps))
            table = bench.table(f"closure: a program of {len(caps)} caps of {length >> 10} KiB, a new connection each "
                                f"time, p50, TCP on loopback; {bench.pin_note()}", "ms", ratio="speed")

            def speed(how, server, *more):
                figures = bench.program("closure_speed", how, server.address("tcp"), listed, rounds, *more,
                                        core=bench.generator_core)
                return 1000 * figures["p50_seconds"]

            with nginx:
                for _ in range(bench.rounds):
                    for row, verify in ((table.row("verified"), 1), (table.row("not verified"), 0)):
                        row.add("capstore", speed("closure", ours, verify))
                        row.add("GET_MANY", speed("many", ours, verify))
                        row.add("nginx, pipelined", speed("pipe", nginx))
                        row.add("nginx, one by one", speed("one", nginx))
