"""What the benchmarks are made of: rounds, loads, programs, and the cores that they run on."""

import json
import os
import pathlib
import subprocess
import threading
import time

import servers
from cores import Others
from servers import PROGRAMS
from table import Table

GRACE_SECONDS = 300  # for a load that was told how long to take
DETAILS = ("p50_us", "p99_us", "worst_us", "server_cores", "generator_cores", "other_cores")
OTHERS_MAX = 0.1  # of a core's time, by others on both cores; more, and it is measured again
TRIES = 3
MIB = 1 << 20


class Bench:
    """One benchmark's run. `room` is a directory that goes away afterwards."""

    def __init__(self, arguments, room):
        self.tiny = arguments.tiny
        self.rounds = 1 if self.tiny else arguments.rounds
        self.seconds = 0.1 if self.tiny else arguments.seconds
        self.warmup = self.seconds / 2
        self.large_store = arguments.caps
        self.out = arguments.out
        self.room = room
        self.tables = []
        cores = sorted(os.sched_getaffinity(0))
        # With one core there is nothing to choose: everything shares it, and the figures say little.
        self.server_core, self.generator_core = (cores[0], cores[1]) if len(cores) > 1 else (None, None)
        self.cores = len(cores)

    def size(self, full, tiny):
        return tiny if self.tiny else full

    def table(self, title, unit, ratio="rate"):
        self.tables.append(Table(title, unit, ratio, judges=not self.tiny))
        return self.tables[-1]

    def path(self, name):
        return self.room / name

    def pin_note(self):
        if self.server_core is None:
            return "one core for all"
        return f"server on core {self.server_core}, generator on core {self.generator_core}"

    def program(self, name, *arguments, core=None, timeout=600, prefix=()):
        """Runs a program of tests/bench and returns the object that it prints."""
        command = [*servers.pinned(core), *prefix, str(PROGRAMS / name), *map(str, arguments)]
        return self.output(command, timeout)

    @staticmethod
    def output(command, timeout=600):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True, timeout=timeout)
        return json.loads(done.stdout)

    def load(self, server, work, transport="unix", core="generator", prefix=(), once=False, **options):
        """One load on one server; returns its figures. `once`: it is not repeated, whatever others use of the cores."""
        if "count" not in options:
            options = {"seconds": self.seconds, "warmup": self.warmup, **options}
        words = [f"{name}={value}" for name, value in options.items()]
        words += [f"pid={pid}" for pid in server.pids()]
        limit = options.get("seconds", 0) + options.get("warmup", 0) + GRACE_SECONDS
        core = self.generator_core if core == "generator" else core
        pinned = server.core is not None and core is not None
        alone = pinned and work != "put" and not once and not self.tiny
        for _ in range(TRIES if alone else 1):
            began = time.perf_counter()
            with Others({server.core, core}, server.pids()) as others:
                figures = self.program("load", server.protocol, work, server.address(transport), *words, timeout=limit,
                                       core=core, prefix=prefix)
            if alone:
                figures["other_cores"] = others.seconds / (time.perf_counter() - began)
            if figures.get("other_cores", 0) <= OTHERS_MAX:
                break
        return figures

    def add(self, row, server, figures, value="rate"):
        """Adds a load's figures to a row."""
        row.add(server.name, figures[value], **{name: figures[name] for name in DETAILS if name in figures})

    def hash_seconds(self, length, threads):
        return self.program("hash_speed", "region", length, threads)["seconds"]

    def write_seconds(self, length, path):
        """Writing that many bytes to a new file and syncing them: what the disk takes for durable bytes."""
        piece = os.urandom(MIB)
        began = time.perf_counter()
        with open(path, "wb", buffering=0) as file:
            for at in range(0, length, MIB):
                file.write(piece[:length - at])
            os.fsync(file.fileno())
        took = time.perf_counter() - began
        path.unlink()
        return took


class Watch(threading.Thread):
    """Samples a figure of a server, its anonymous memory unless told otherwise. Use as a context manager, then read
    `most`."""

    def __init__(self, server, interval=0.005, figure=None):
        super().__init__(daemon=True)
        self.figure, self.interval = figure or server.memory, interval
        self.most = self.figure()
        self.done = threading.Event()

    def run(self):
        while not self.done.wait(self.interval):
            self.most = max(self.most, self.figure())

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, value, trace):
        self.done.set()
        self.join()
