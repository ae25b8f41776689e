#!/usr/bin/env python3
"""Every system call that the daemon makes is one that its unit allows.

syscalls.py CAPSTORED CAPCTL UNIT: runs the daemon under strace through a life of its own (publish,
fetch, ask, drain) and compares. Exit 77 where processes may not be traced.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

PATIENCE_S = 60
SKIPPED = 77


def known_sets():
    """The named sets of systemd, as it lists them."""
    listing = subprocess.run(["systemd-analyze", "syscall-filter", "--no-pager"], check=True,
                             capture_output=True, text=True,
                             env=dict(os.environ, SYSTEMD_COLORS="0")).stdout
    sets, members = {}, None
    for line in listing.splitlines():
        if line.startswith("@"):
            members = sets[line.strip()] = []
        elif line.startswith("    ") and members is not None and "#" not in line:
            members.append(line.strip())
    return sets


def expand(name, sets):
    if not name.startswith("@"):
        return {name}
    return set().union(*(expand(member, sets) for member in sets[name]))


def allowed_by(unit):
    sets = known_sets()
    allowed = set()
    for line in re.findall(r"(?m)^SystemCallFilter=(.*)$", unit.read_text()):
        names = set().union(*(expand(name, sets) for name in line.lstrip("~").split()))
        allowed = allowed - names if line.startswith("~") else allowed | names
    return allowed


def await_socket(path):
    deadline = time.monotonic() + PATIENCE_S
    while not path.exists():
        if time.monotonic() > deadline:
            raise AssertionError(f"{path} does not appear")
        time.sleep(0.05)


def live(room):
    """What a daemon does in its life."""
    tool = [CAPCTL, "-s", f"unix:{room}/sock", "--json"]
    (room / "data").write_bytes(os.urandom(3 << 20))
    put = subprocess.run([*tool, "put", str(room / "data")], check=True, stdout=subprocess.PIPE)
    name = json.loads(put.stdout)["cap_hash"]
    subprocess.run([*tool, "get", name, "-o", str(room / "back")], check=True,
                   stdout=subprocess.DEVNULL)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as admin:
        admin.settimeout(PATIENCE_S)
        admin.connect(str(room / "admin"))
        replies = admin.makefile()
        for method in ("status", "metrics", "cap.list", "clients.list"):
            admin.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method}).encode() + b"\n")
            json.loads(replies.readline())


def calls_of_a_life(room):
    """The names of the system calls of a daemon from its start to its end."""
    tracer = subprocess.Popen(
        ["strace", "-f", "-qq", "-o", str(room / "trace"), CAPSTORED, "--state",
         str(room / "state"), "--listen", f"unix:{room}/sock", "--admin", f"unix:{room}/admin",
         "--admin-group", "root"])
    try:
        await_socket(room / "sock")
        await_socket(room / "admin")
        live(room)
        children = Path(f"/proc/{tracer.pid}/task/{tracer.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)
        if tracer.wait(PATIENCE_S) != 0:
            raise AssertionError("the daemon did not end well")
    finally:
        if tracer.poll() is None:
            tracer.kill()
            tracer.wait()
    return set(re.findall(r"(?m)^\d+ +(\w+)\(", (room / "trace").read_text(errors="replace")))


class Syscalls(unittest.TestCase):
    def test_all_are_allowed(self):
        allowed = allowed_by(UNIT)
        self.assertIn("read", allowed)
        self.assertNotIn("ptrace", allowed)
        with tempfile.TemporaryDirectory(prefix="capstore-calls-") as folder:
            made = calls_of_a_life(Path(folder))
        self.assertIn("execve", made)
        self.assertEqual(made - allowed, set())


if __name__ == "__main__":
    CAPSTORED, CAPCTL, UNIT = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    if not shutil.which("strace") or subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"],
                                                    check=False, capture_output=True).returncode:
        print("processes may not be traced here")
        sys.exit(SKIPPED)
    unittest.main(argv=sys.argv[:1], verbosity=2)
