"""What a request costs the daemon: system calls by name, and instructions and cache misses where perf can count them

Each load runs twice: strace counts in one run, and the CPU time and perf's counters come from the other, because strace
slows down what it watches. A virtual machine often has no counters. No load is repeated: its calls would
be counted again. Each cap was fetched before, as in a running system.
"""

import collections
import re
import shutil
import signal
import subprocess
import time

from measure import MIB
from servers import Capstored, Missing

COUNTERS = ("instructions", "cycles", "cache-misses", "context-switches")
LARGE = 100_000  # the first key of the caps of 1 MiB
LEFT_OUT = 0.005  # calls per request that are not worth a line


def run(bench):
    if shutil.which("strace") is None:
        raise Missing("strace is not installed")
    keys, large_keys = bench.size(100_000, 1000), bench.size(64, 8)
    server = Capstored(bench.path("capstore"), core=bench.server_core)
    server.fill(keys, 1024)
    server.fill(large_keys, MIB, LARGE)
    small = {"keys": keys, "connections": 50, "len": 1024}
    large = {"keys": large_keys, "first": LARGE, "connections": 8, "len": MIB}
    loads = {  # what: work, transport, how many requests, the rest
        "1 KiB fetch, Unix, 1 in flight": ("get", "unix", 100_000, {**small, "depth": 1}),
        "1 KiB fetch, Unix, 16 in flight": ("get", "unix", 100_000, {**small, "depth": 16}),
        "1 KiB fetch, TCP, 16 in flight": ("get", "tcp", 100_000, {**small, "depth": 16}),
        "1 MiB fetch, TCP, 8 connections": ("get", "tcp", 1000, large),
        "has of 1,000 hashes": ("has", "unix", 2000, {"keys": keys, "batch": 1000, "connections": 4}),
        "4 KiB publication, 1 connection": ("put", "unix", 1000, {"connections": 1, "len": 4096}),
        "4 KiB publication, 64 connections": ("put", "unix", 10_000, {"connections": 64, "len": 4096}),
    }
    table = bench.table(f"profile: of one request; {bench.pin_note()}", "system calls")
    first = 10_000_000
    with server:
        bench.load(server, "get", count=keys, order=1, once=True, **small)
        bench.load(server, "get", count=2 * large_keys, order=1, once=True, **large)  # a piece is kept at the second
        for label, (work, transport, count, options) in loads.items():
            row = table.row(label)
            seen = {}
            for counter in (system_calls, hardware):
                if work == "put":
                    first += 10_000_000
                    options = {**options, "first": first}
                seen.update(counter(server, lambda: bench.load(server, work, transport, once=True,
                                                               count=bench.size(count, count // 100), **options)))
            row.add("capstore", seen.pop("system calls"), **seen)


def beside(command, load):
    """Runs a load while a command that SIGINT ends watches; returns (figures of the load, what the command said)."""
    watcher = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        time.sleep(0.3)  # until it has attached
        figures = load()
    finally:
        watcher.send_signal(signal.SIGINT)
        said = watcher.communicate(timeout=60)[1].decode(errors="replace")
    return figures, said


def system_calls(server, load):
    figures, said = beside(["strace", "-f", "-c", "-q", "-p", str(server.process.pid)], load)
    calls = collections.Counter()
    for line in said.splitlines():
        found = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", line)
        if found and found.group(2) != "total":
            calls[found.group(2)] += int(found.group(1))
    if not calls:
        raise Missing("strace cannot attach to the daemon")
    each = {name: count / figures["requests"] for name, count in calls.most_common()}
    return {"system calls": sum(each.values()), **{name: count for name, count in each.items() if count > LEFT_OUT}}


def hardware(server, load):
    if shutil.which("perf") is not None:
        figures, said = beside(["perf", "stat", "-x,", "-e", ",".join(COUNTERS), "-p", str(server.process.pid)], load)
    else:
        figures, said = load(), ""
    counted = {"cpu_us": figures["server_cores"] * 1e6 / figures["rate"]}
    for line in said.splitlines():
        fields = line.split(",")
        if len(fields) > 2 and fields[0].isdigit():
            counted[fields[2].removesuffix(":u")] = int(fields[0]) / figures["requests"]
    return counted
