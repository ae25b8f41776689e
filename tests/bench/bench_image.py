"""An Image of 252 MiB: first byte to durable answer, dry run, and four at once with their memory"""

import subprocess

import images
from measure import MIB, PROGRAMS, Watch
from servers import Capstored

AT_ONCE = 4


def run(bench):
    length = bench.size(252, 4) * MIB
    table = bench.table(f"image: {length // MIB} MiB of code, Unix, nothing pinned", "seconds", ratio="time")
    publish = table.row("publish", goal=("<=", 1.5))
    dry = table.row("dry run", goal=("<=", 1.5), against=[f"hash, {bench.cores} threads"])
    for round_ in range(bench.rounds):
        written = bench.write_seconds(length, bench.path("written"))
        hashed = bench.hash_seconds(length, bench.cores)
        path = images.largest(bench.path("image"), length)
        # A store of its own per round: it does not grow without bound, and every commit is a first one.
        with Capstored(bench.path(f"capstore{round_}")) as server, Watch(server) as watch:
            tried = bench.program("upload", server.address("unix"), path, "dry-run")
            done = bench.program("upload", server.address("unix"), path, "image")
        publish.add("capstore", done["seconds"], sent_seconds=done["sent_seconds"], memory_mib=watch.most / MIB)
        dry.add("capstore", tried["seconds"])
        for row in (publish, dry):
            row.add("write + fsync", written)
            row.add(f"hash, {bench.cores} threads", hashed)
    at_once(bench, length)


def at_once(bench, length):
    table = bench.table(f"image: {AT_ONCE} of {length // MIB} MiB at once", "MiB of anonymous memory")
    row = table.row("most while they are published", goal=("<=", 128))
    paths = [images.largest(bench.path(f"image{number}"), length) for number in range(AT_ONCE)]
    for round_ in range(min(bench.rounds, 2)):
        with Capstored(bench.path(f"four{round_}")) as server:
            before = server.memory()
            with Watch(server) as watch:
                uploads = [subprocess.Popen([str(PROGRAMS / "upload"), server.address("unix"), str(path), "image"],
                                            stdout=subprocess.DEVNULL) for path in paths]
                failed = [upload.wait(600) for upload in uploads]
            if any(failed):
                raise AssertionError("an upload failed")
            row.add("capstore", watch.most / MIB, before=before / MIB)
