#!/usr/bin/env python3
"""Measures capstore beside its peers. README.md says what is measured, and how.

A benchmark is a file bench_NAME.py with run(bench); its documentation's first line is what --list shows.
"""

import argparse
import ast
import datetime
import importlib
import json
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback

sys.dont_write_bytecode = True

HERE = pathlib.Path(__file__).resolve().parent


def names():
    return sorted(path.stem.removeprefix("bench_").replace("_", "-") for path in HERE.glob("bench_*.py"))


def module(name):
    return importlib.import_module("bench_" + name.replace("-", "_"))


def summary(name):
    """The first line of a benchmark's documentation; it needs what was built to be imported, not to be read."""
    path = HERE / f"bench_{name.replace('-', '_')}.py"
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))).splitlines()[0]


def parse():
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to measure; all of it unless told")
    parser.add_argument("--list", action="store_true", help="list the benchmarks and exit")
    parser.add_argument("--tiny", action="store_true", help="one short round of little work: does it still run?")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each measurement [5]")
    parser.add_argument("--seconds", type=float, default=1, help="of each measurement in a round [1]")
    parser.add_argument("--caps", type=int, default=1_000_000, help="caps of the large store of `scale` [1000000]")
    parser.add_argument("--build", type=pathlib.Path, default="build", help="where the programs were built [build; ./dev bench: build-bench]")
    parser.add_argument("--out", type=pathlib.Path, help="where the JSON and the pictures go [BUILD/bench]")
    parser.add_argument("--room", type=pathlib.Path, help="where stores and files lie: the disk that is measured [OUT]")
    parser.add_argument("--record", action="store_true",
                        help="write what OUT holds of this run and earlier ones to tests/bench/RESULTS.md")
    return parser.parse_args()


def set_programs(build):
    """Where everything that the build made is; ctest has said so already."""
    for name, path in {"DAEMON": "daemon/capstored", "TOOL": "client/capctl", "FILL": "tests/support/fill_store",
                       "BENCH": "tests/bench"}.items():
        os.environ.setdefault("CAPSTORE_" + name, str(build.resolve() / path))


def machine():
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo", encoding="ascii", errors="replace")
                  if line.startswith("model name")), platform.machine())
    memory = int(open("/proc/meminfo", encoding="ascii").readline().split()[1]) // 1024
    return {"cpu": model, "cores": os.cpu_count(), "memory_mib": memory, "kernel": platform.release(),
            "system": next((line.split('"')[1] for line in open("/etc/os-release", encoding="utf-8")
                            if line.startswith("PRETTY_NAME")), "")}


def version_of(*command):
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=60)
    return done.stdout.decode(errors="replace").strip().split("\n")[0]


def versions():
    return {"capstored": version_of(os.environ["CAPSTORE_DAEMON"], "--version"),
            "redis": version_of("redis-server", "--version"), "memcached": version_of("memcached", "--version"),
            "nginx": version_of("nginx", "-v"), "node": version_of("node", "-p", "'node ' + process.version")}


def on_signal(number, frame):
    raise SystemExit(128 + number)


def run_one(name, arguments, room):
    """Runs one benchmark; returns what it found, as JSON."""
    from measure import Bench

    bench = Bench(arguments, room)
    module(name).run(bench)
    found = {"name": name, "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
             "load_average": os.getloadavg(), "machine": machine(), "versions": versions(),
             "tiny": arguments.tiny, "rounds": bench.rounds, "seconds": bench.seconds,
             "tables": [table.json() for table in bench.tables]}
    (arguments.out / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    for table in bench.tables:
        print("\n".join(table.lines()), flush=True)
    print(flush=True)


def record(out):
    """Writes RESULTS.md and the pictures from what lies in a directory of results."""
    from table import markdown

    found = [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]
    found = [one for one in found if not one["tiny"]]
    words = ["# Results", "", "Written by `./dev bench --record`. [README.md](README.md) says what the figures mean and "
             "what limits them.", ""]
    for one in found:
        facts = one["machine"]
        words += [f"## {one['name']}", "", f"{one['date']}; {facts['cpu']}, {facts['cores']} cores, "
                  f"{facts['memory_mib']} MiB, {facts['system']}, Linux {facts['kernel']}; load average "
                  f"{one['load_average'][0]:.1f}; rounds: {one['rounds']}, of {one['seconds']:g} s", ""]
        for table in one["tables"]:
            words += [*markdown(table), ""]
        if (out / f"{one['name']}.svg").exists():
            (HERE / "pictures").mkdir(exist_ok=True)
            shutil.copy(out / f"{one['name']}.svg", HERE / "pictures")
            words += [f"![{one['name']}](pictures/{one['name']}.svg)", ""]
    versions_seen = sorted({version for one in found for version in one["versions"].values() if version})
    words += ["## Versions", "", *(f"- {version}" for version in versions_seen)]
    (HERE / "RESULTS.md").write_text("\n".join(words) + "\n")


def main():
    arguments = parse()
    if arguments.list:
        for name in names():
            print(f"{name:12} {summary(name)}")
        return 0
    unknown = [name for name in arguments.names if name not in names()]
    if unknown:
        print(f"bench: there is no {unknown[0]}; there are: {' '.join(names())}", file=sys.stderr)
        return 2
    set_programs(arguments.build)
    sys.path.insert(0, str(HERE.parent / "system"))
    from cores import claim
    from servers import Missing

    signal.signal(signal.SIGTERM, on_signal)
    arguments.out = (arguments.out or arguments.build / "bench").resolve()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if not arguments.tiny and not claim():
        print("bench: not allowed to run before others (root may, where the kernel has sched_autogroup)")
    facts = machine()
    print(f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_mib']} MiB, Linux {facts['kernel']}; "
          f"load average {os.getloadavg()[0]:.1f}")
    print("each line: median of the rounds, least to most of them, and what else was measured (medians)\n")
    skipped = failed = 0
    for name in arguments.names or names():
        with tempfile.TemporaryDirectory(prefix="room-", dir=arguments.room or arguments.out) as room:
            try:
                run_one(name, arguments, pathlib.Path(room))
            except Missing as missing:
                print(f"{name}: skipped: {missing}", flush=True)
                skipped += 1
            except Exception:  # the others may still be measured
                traceback.print_exc()
                print(f"{name}: failed", flush=True)
                failed += 1
    if arguments.record:
        record(arguments.out)
    return 1 if failed else 77 if skipped else 0


if __name__ == "__main__":
    sys.exit(main())
