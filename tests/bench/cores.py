"""The cores that are measured: first claim on them, and what others used of them all the same."""

import atexit
import os
import pathlib
import resource

TICKS = os.sysconf("SC_CLK_TCK")
GROUP = pathlib.Path("/proc/self/autogroup")  # "/autogroup-NUMBER nice NICE"


def claim():
    """Puts the session before others for as long as this runs, where that is allowed.

    Two programs on two cores that wait for each other measure little else than how long others keep them waiting. The
    kernel shares cores out between sessions (sched_autogroup) before it looks at the niceness of their processes.
    """
    try:
        before = GROUP.read_text().split()[-1]
        GROUP.write_text("-20")
    except OSError:
        return False
    atexit.register(GROUP.write_text, before)
    return True


def busy_seconds(cores):
    """CPU time that these cores have spent on anything, also on another machine's work."""
    names = {f"cpu{core}" for core in cores}
    ticks = 0
    for line in open("/proc/stat", encoding="ascii"):
        name, *fields = line.split()
        if name in names:
            user, nice, system, _, _, irq, softirq, steal = map(int, fields[:8])
            ticks += user + nice + system + irq + softirq + steal
    return ticks / TICKS


def process_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Others:
    """CPU time that others than `pids` and this process's children spend on the cores, in `seconds` afterwards."""

    def __init__(self, cores, pids):
        self.cores, self.pids = cores, pids
        self.seconds = None

    def sum(self):
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = children.ru_utime + children.ru_stime + sum(map(process_seconds, self.pids))
        return busy_seconds(self.cores) - own

    def __enter__(self):
        self.began = self.sum()
        return self

    def __exit__(self, kind, value, trace):
        if kind is None:
            self.seconds = max(0.0, self.sum() - self.began)
