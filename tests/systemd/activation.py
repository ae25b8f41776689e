#!/usr/bin/env python3
"""The daemon under socket activation, with this script in the place of systemd.

activation.py CAPSTORED CAPCTL
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

PATIENCE_S = 60
NO_CAP = "00" * 32
# As the unit files name them, and in their order.
NAMES = ("capstore", "admin")


class Manager:
    """As much of systemd as a service sees: two listeners and a place for notifications."""

    def __init__(self, folder):
        self.folder = folder
        self.state = folder / "state"
        self.state.mkdir(mode=0o700)
        self.listeners = [self.listener(name) for name in NAMES]
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(folder / "notify"))
        self.told = []
        self.daemon = None

    def listener(self, name):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(self.path(name))
        listener.listen(64)
        return listener

    def path(self, name):
        return str(self.folder / f"{name}.sock")

    def hand_over(self):
        """In the child: the listeners become descriptors 3 and up. Copies first: 3 may be one."""
        copies = [os.dup2(listener.fileno(), 100 + i) for i, listener in enumerate(self.listeners)]
        for i, copy in enumerate(copies):
            os.dup2(copy, 3 + i)

    def start(self):
        environment = dict(os.environ, LISTEN_FDS=str(len(NAMES)), LISTEN_FDNAMES=":".join(NAMES),
                           NOTIFY_SOCKET=str(self.folder / "notify"), WATCHDOG_USEC="1000000")
        # The shell knows the process id that LISTEN_PID must be, and becomes the daemon.
        self.daemon = subprocess.Popen(
            ["sh", "-c", 'LISTEN_PID=$$; export LISTEN_PID; exec "$@"', "sh", CAPSTORED, "--state",
             str(self.state)], env=environment, pass_fds=(3, 4), preexec_fn=self.hand_over)
        self.await_told("READY=1")

    def await_told(self, wanted):
        """Reads notifications until one has the line wanted."""
        deadline = time.monotonic() + PATIENCE_S
        while wanted not in self.told:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.notify], [], [], left)[0]:
                raise AssertionError(f"never told {wanted}; only {self.told}")
            self.told += self.notify.recv(4096).decode().splitlines()

    def stop(self):
        self.told.clear()
        self.daemon.send_signal(signal.SIGTERM)
        status = self.daemon.wait(PATIENCE_S)
        self.daemon = None
        return status

    def close(self):
        if self.daemon:
            self.daemon.kill()
            self.daemon.wait()
        for sock in (*self.listeners, self.notify):
            sock.close()


class Activation(unittest.TestCase):
    def setUp(self):
        self.room = tempfile.TemporaryDirectory(prefix="capstore-sd-")
        self.addCleanup(self.room.cleanup)
        self.manager = Manager(Path(self.room.name))
        self.addCleanup(self.manager.close)

    def ask(self):
        """A client of the tool's that asks for a cap that is not there."""
        return subprocess.Popen(
            [CAPCTL, "-s", f"unix:{self.manager.path('capstore')}", "--json", "has", NO_CAP],
            stdout=subprocess.PIPE, text=True)

    def answered(self, client):
        out, _ = client.communicate(timeout=PATIENCE_S)
        self.assertEqual(json.loads(out), {NO_CAP: False})

    def test_serves_on_the_sockets_handed_over(self):
        self.manager.start()
        self.answered(self.ask())
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as admin:
            admin.settimeout(PATIENCE_S)
            admin.connect(self.manager.path("admin"))
            admin.sendall(b'{"jsonrpc":"2.0","id":1,"method":"hello"}\n')
            reply = json.loads(admin.makefile().readline())
        self.assertEqual(reply["id"], 1)
        self.assertIn("result", reply)

    def test_feeds_the_watchdog(self):
        self.manager.start()
        for _ in range(3):
            self.manager.told.clear()
            self.manager.await_told("WATCHDOG=1")

    def test_says_that_it_stops_and_leaves_well(self):
        self.manager.start()
        self.assertEqual(self.manager.stop(), 0)
        self.manager.await_told("STOPPING=1")
        for name in NAMES:
            self.assertTrue(os.path.exists(self.manager.path(name)), "the sockets are not its own")

    def test_a_restart_refuses_nobody(self):
        early = self.ask()
        self.manager.start()
        self.answered(early)
        self.assertEqual(self.manager.stop(), 0)
        between = self.ask()
        self.manager.start()
        self.answered(between)


if __name__ == "__main__":
    CAPSTORED, CAPCTL = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1], verbosity=2)
