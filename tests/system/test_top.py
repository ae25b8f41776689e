"""capctl top in a real terminal: figures, keys, another size, another daemon, and what it leaves behind."""

import os
import pathlib
import re
import signal
import subprocess
import unittest

from fake_admin import FakeAdmin
from harness import CAPCTL, SystemTest, capctl, wait_until
from terminal import MISSING, Terminal

TOOL = pathlib.Path(CAPCTL).resolve()


def read_until(terminal, pattern, what=None):
    """Waits until the screen matches; returns the match."""
    found = []

    def matches():
        found[:] = [re.search(pattern, terminal.screen())]
        return found[0] is not None
    try:
        wait_until(matches, what or pattern)
    except AssertionError as error:
        raise AssertionError(f"{error}; the screen:\n{terminal.screen()}") from None
    return found[0]


@unittest.skipIf(MISSING, MISSING)
class Top(SystemTest):
    def terminal(self, **options):
        terminal = Terminal(self.root, **options)
        self.addCleanup(terminal.__exit__, None, None, None)
        return terminal

    def start(self, terminal, address):
        terminal.say(f"{TOOL} --admin {address} top; echo status $?")

    def assertSane(self, terminal, status):
        """The shell has the terminal as it was: lines are edited and shown, and the screen is the shell's."""
        read_until(terminal, rf"(?m)^status {status}$")
        terminal.say("clear; stty -a | tr ' ' '\\n' | grep -E '^-?(icanon|echo|isig|icrnl|onlcr|opost);?$'")
        read_until(terminal, r"(?m)^echo$")
        self.assertNotRegex(terminal.screen(), r"(?m)^-(icanon|echo|isig|icrnl|onlcr|opost);?$")

    def load(self, d):
        """Clients that publish and fetch until the test ends."""
        tool = subprocess.Popen([CAPCTL, "-s", d.address, "bench", "--clients", "3", "--seconds", "600"],
                                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(tool.wait)
        self.addCleanup(tool.kill)

    def test_a_daemon_at_work(self):
        d = self.daemon()
        self.load(d)
        terminal = self.terminal(cols=100, rows=30)
        self.start(terminal, f"unix:{d.admin_path}")
        read_until(terminal, r"requests/s .*put_data [1-9]")
        read_until(terminal, r"bytes/s +in [1-9][\d.]* .iB")
        read_until(terminal, r"p50, p99 +.*put [\d.]+ .s, [\d.]+ .s")
        read_until(terminal, r"sessions +3 of \d+")
        read_until(terminal, r"store +0 images, [1-9].* data, bodies [1-9]")
        read_until(terminal, rf"100 % +3 .* unix:uid={os.getuid()}\b")
        self.assertStatus(d.capctl("publish", self.file("bad", b"x" * 100)), 1)
        read_until(terminal, r"\d\d:\d\d:\d\d put_image of unix:.*: ssz: ")
        self.keys_work(terminal)
        terminal.keys("q")
        self.assertSane(terminal, 0)

    def keys_work(self, terminal):
        terminal.keys("s")
        read_until(terminal, r"SESSION .*by in/s\)")
        terminal.keys("r")
        read_until(terminal, r"SESSION .*by in/s, reversed\)")
        terminal.keys("Down", "Enter")
        read_until(terminal, r"session +\d+\n +peer +unix:")
        terminal.keys("Escape")
        read_until(terminal, r"requests/s")
        terminal.keys("h")
        read_until(terminal, r"HELP")
        terminal.keys("h")
        terminal.resize(70, 18)
        read_until(terminal, r"requests/s")
        wait_until(lambda: terminal.screen().rstrip("\n").count("\n") == 17 and "q quit" in terminal.screen().splitlines()[17],
                   "the last row of 18 to be the foot")
        self.assertNotIn("REFUSED", terminal.screen(), "there is no room for it")
        terminal.resize(120, 40)
        read_until(terminal, r"REFUSED")
        wait_until(lambda: "q quit" in terminal.screen().splitlines()[39], "the last row of 40 to be the foot")
        terminal.keys("c")
        read_until(terminal, r"no job runs")

    def test_the_daemon_is_started_again(self):
        d = self.daemon(start=False)
        terminal = self.terminal()
        self.start(terminal, f"unix:{d.admin_path}")
        read_until(terminal, r"^ not connected, retrying\s+cannot connect to unix:")
        d.start()
        read_until(terminal, r"^capstored [\d.]+  running")
        d.kill()
        read_until(terminal, r"^ not connected, retrying")
        d.start()
        read_until(terminal, r"^capstored [\d.]+  running")
        self.assertEqual(d.stop(), 0)
        read_until(terminal, r"^ not connected, retrying")
        terminal.keys("q")
        self.assertSane(terminal, 0)

    def test_a_job_is_cancelled(self):
        job = {"id": 7, "kind": "scrub", "state": "running", "cancelled": False, "phase": "content", "done": 3, "total": 4,
               "done_bytes": 0, "total_bytes": None, "percent": 75, "took_ms": 1000, "message": ""}
        admin = FakeAdmin(self.root / "admin", {
            "status": {"version": "1.0", "phase": "running", "uptime_ms": 1000}, "metrics": {"text": ""},
            "clients.list": {"clients": [], "cursor": None}, "refusals.list": {"refusals": []},
            "jobs.list": lambda params: {"jobs": [job]},
            "jobs.cancel": lambda params: job.update(cancelled=True) or params})
        admin.start()
        self.addCleanup(admin.stop)
        terminal = self.terminal()
        self.start(terminal, admin.address)
        read_until(terminal, r"7  scrub +running +\[#######\.\.\.\]  75 % 0:00:01 content  3 of 4")
        terminal.keys("c")
        read_until(terminal, r"cancel job 7, scrub\?")
        terminal.keys("n")
        read_until(terminal, r"q quit")
        self.assertNotIn("jobs.cancel", [method for method, _ in admin.calls])
        terminal.keys("c", "y")
        read_until(terminal, r"7  scrub +cancelling")
        read_until(terminal, r"the job is asked to end")
        self.assertIn(("jobs.cancel", {"id": 7}), admin.calls)
        terminal.keys("q")
        self.assertSane(terminal, 0)

    def test_a_signal_leaves_the_terminal_sane(self):
        d = self.daemon()
        terminal = self.terminal()
        for number in (signal.SIGTERM, signal.SIGINT):
            terminal.say("clear")
            self.start(terminal, f"unix:{d.admin_path}")
            read_until(terminal, r"^capstored [\d.]+  running")
            shell = int(terminal.tmux("list-panes", "-F", "#{pane_pid}"))
            tool = int(subprocess.run(["pgrep", "-P", str(shell)], capture_output=True, check=True).stdout)
            os.kill(tool, number)
            self.assertSane(terminal, r"[1-9]\d*")

    def test_what_is_no_terminal(self):
        d = self.daemon()
        address = f"unix:{d.admin_path}"
        self.assertStatus(capctl("--admin", address, "top"), 2)
        terminal = self.terminal(term="no-such-terminal")
        terminal.say("export ASAN_OPTIONS=detect_leaks=0")  # ncurses keeps some memory of what it does not know
        self.start(terminal, address)
        read_until(terminal, r"(?m)^status 2$")
        self.assertIn("this terminal is not known", terminal.screen())


if __name__ == "__main__":
    unittest.main()
