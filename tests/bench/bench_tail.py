"""p99 of 1 KiB fetches while an Image of 252 MiB is uploaded, beside a cold reader, beside 1,000 slow readers"""

import contextlib
import os
import subprocess
import sys
import threading
import time

import images
from measure import MIB, PROGRAMS, Watch
from servers import Capstored

LENGTH = 1024
RATE = 5000  # fetches per second, sent by the clock: far from what the daemon can do
UPLOADS = 3  # enough for the time of one measurement
COLD = 1_000_000  # the first key of the cold set, whose caps have 1 MiB
OPTIONS = ("--max-connections", "4096", "--max-peer-connections", "4096", "--max-all-requests", "65536",
           "--max-peer-requests", "65536")


class Beside:
    """Does something again and again while others measure."""

    def __init__(self, work):
        self.ended = threading.Event()
        self.failed = None
        self.times = 0
        self.thread = threading.Thread(target=self.run, args=(work,))

    def run(self, work):
        try:
            while not self.ended.is_set():
                work()
                self.times += 1
        except Exception as error:  # told by __exit__
            self.failed = error

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, value, trace):
        self.ended.set()
        self.thread.join()
        if self.failed and kind is None:
            raise self.failed


COMPUTES = "while True: pass"
WRITES = """
import os, sys
piece = bytes(256 << 10)
with open(sys.argv[1], "wb", buffering=0) as file:
    while True:
        file.seek(0)
        for _ in range(int(sys.argv[2]) // len(piece)):
            file.write(piece)
        os.fsync(file.fileno())
"""


@contextlib.contextmanager
def program(source, *args):
    """A program that has nothing to do with the daemon: what sharing a core costs by itself."""
    with subprocess.Popen([sys.executable, "-c", source, *map(str, args)]) as running:
        try:
            yield
        finally:
            running.kill()


def drop_caches(path):
    """Has the kernel forget the file, as far as no process maps it."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def run(bench):
    keys = bench.size(20_000, 500)
    length = bench.size(252, 4) * MIB
    cold = bench.size(1024, 8)
    readers = bench.size(1000, 10)
    seconds = bench.size(6, 0.3)
    # The generator is to measure the daemon's delays and not its own: it goes first, where that is allowed.
    first = ["nice", "-n", "-15"] if os.geteuid() == 0 else []
    server = Capstored(bench.path("capstore"), *OPTIONS)
    server.fill(keys, LENGTH)
    server.fill(cold, MIB, COLD)
    table = bench.table(f"tail: 1 KiB fetches, {RATE} per s by the clock over 10 connections, Unix, nothing pinned",
                        "p99 in us", ratio="time")
    rows = {name: table.row(name, goal=("<=", 3)) for name in
            ("while an Image is uploaded", "beside a reader of a cold set", f"beside {readers} slow readers")}
    others = [table.row("beside a program that only computes"),
              table.row("beside a program that only writes and syncs a file")]

    def fetch(row, who, beside=contextlib.nullcontext()):
        with beside, Watch(server, interval=0.05) as memory, Watch(server, 0.25, server.oldest_snapshot) as oldest:
            figures = bench.load(server, "get", core=None, keys=keys, connections=10, depth=16, len=LENGTH, rate=RATE,
                                 seconds=seconds, warmup=0, prefix=first)
        row.add(who, figures["p99_us"], p50_us=figures["p50_us"], worst_us=figures["worst_us"],
                memory_mib=memory.most / MIB, oldest_snapshot_s=oldest.most)

    def touch():
        """Has the small caps in memory, as they are when nobody has gone before."""
        bench.load(server, "get", core=None, keys=keys, connections=4, len=LENGTH, count=2 * keys, order=1)

    for _ in range(min(bench.rounds, 3)):
        paths = [images.largest(bench.path(f"image{number}"), length) for number in range(UPLOADS)]

        def upload():
            if paths:
                bench.program("upload", server.address("unix"), paths.pop(), "image")
            else:
                time.sleep(0.01)

        def read_cold():
            bench.load(server, "get", core=None, keys=cold, first=COLD, connections=1, len=MIB, count=cold, order=1)

        uploading, reading, slowly = rows.values()
        with server:
            touch()
            for row in (*rows.values(), *others):
                fetch(row, "idle")
            fetch(others[0], "capstore", program(COMPUTES))
            fetch(others[1], "capstore", program(WRITES, bench.path("file"), length))
            fetch(uploading, "capstore", Beside(upload))
        drop_caches(server.store)
        with server:
            touch()
            fetch(reading, "capstore", Beside(read_cold))
            fetch(slowly, "capstore", slow_readers(server, readers, COLD, cold, seconds + 60))
    table.notes.append("idle is the reference; worst_us should stay under 50,000, oldest_snapshot_s under 1")


@contextlib.contextmanager
def slow_readers(server, count, first, keys, seconds):
    """So many connections that each take 1 KiB per second of a cap of 1 MiB."""
    command = [str(PROGRAMS / "slow_readers"), server.address("unix"), str(count), "1024", str(first),
               str(keys), str(int(seconds))]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as readers:
        try:
            if b"reading" not in readers.stdout.readline():
                raise AssertionError("the slow readers failed")
            yield
        finally:
            readers.terminate()
