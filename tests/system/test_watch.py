"""capctl jobs and events: what operators see of long work, and of what happens."""

import json
import os
import socket
import subprocess
import unittest

from fake_admin import FakeAdmin
from harness import CAPCTL, SANITIZED, SystemTest, capctl, wait_until

JOB = {"id": 7, "kind": "scrub", "state": "running", "cancelled": False, "phase": "content", "done": 1200, "total": 4000,
       "done_bytes": 3 << 30, "total_bytes": 4 << 30, "percent": 75, "started": "2026-01-01T12:00:00.000000Z",
       "ended": None, "took_ms": 3723000, "reason": None, "message": ""}


class Jobs(SystemTest):
    def test_a_daemon_without_jobs(self):
        d = self.daemon()
        address = f"unix:{d.admin_path}"
        self.assertEqual(self.ok(capctl("--admin", address, "jobs")), {"jobs": []})
        shown = self.assertStatus(capctl("--admin", address, "jobs", "list", json_output=False), 0)
        self.assertIn(b"no job", shown.stdout)
        self.refused(capctl("--admin", address, "jobs", "cancel", "1"), "no_job")
        for words in (["cancel"], ["cancel", "0"], ["cancel", "x"], ["list", "1"], ["stop"]):
            self.assertStatus(capctl("--admin", address, "jobs", *words), 2)

    def test_the_table(self):
        ended = dict(JOB, id=6, kind="backup", state="failed", percent=None, total=None, total_bytes=None, done=5,
                     done_bytes=2048, took_ms=61000, reason="disk_full", message="the disk is full")
        daemon = FakeAdmin(self.root / "admin", {
            "jobs.list": {"jobs": [JOB, dict(JOB, id=8, kind="gc", cancelled=True), ended]},
            "jobs.cancel": lambda params: params})
        daemon.start()
        self.addCleanup(daemon.stop)
        lines = capctl("--admin", daemon.address, "jobs", json_output=False).stdout.decode().splitlines()
        self.assertEqual(lines[0].split(), ["ID", "KIND", "STATE", "PHASE", "PROGRESS", "STARTED", "TOOK", "MESSAGE"])
        self.assertRegex(lines[1], r"^ 7  scrub +running +content +75 %, 3\.0 GiB of 4\.0 GiB +2026-01-01T12:00:00Z +1:02:03")
        self.assertRegex(lines[2], r"^ 8  gc +cancelling ")
        self.assertRegex(lines[3], r"^ 6  backup +failed +content +5, 2\.0 KiB +.* 0:01:01  the disk is full$")
        self.assertEqual(self.ok(capctl("--admin", daemon.address, "jobs"))["jobs"][0], JOB)
        self.assertEqual(self.ok(capctl("--admin", daemon.address, "jobs", "cancel", "7")), {"id": 7})
        self.assertIn(("jobs.cancel", {"id": 7}), daemon.calls)


class Events(SystemTest):
    def follow(self, d, *words, json_output=True):
        """The tool as it follows; its lines go to a file."""
        out = open(self.root / "events", "wb")
        self.addCleanup(out.close)
        command = [CAPCTL, "--admin", f"unix:{d.admin_path}", *(["--json"] if json_output else []), "events", *words]
        tool = subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        self.addCleanup(tool.stderr.close)
        self.addCleanup(tool.wait)
        self.addCleanup(tool.kill)
        return tool

    def lines(self):
        return (self.root / "events").read_text().splitlines()

    def test_what_happens_is_told(self):
        d = self.daemon()
        self.ok(d.capctl("put", "-", stdin=b"before"))
        self.follow(d, "--since", "0")
        wait_until(lambda: len(self.lines()) == 1, "the event from before")
        put = self.ok(d.capctl("put", "-", stdin=b"after"))
        self.ok(d.capctl("put", "-", stdin=b"after"))
        self.assertStatus(d.capctl("publish", self.file("bad", b"x" * 100)), 1)
        wait_until(lambda: len(self.lines()) == 3, "the events")
        events = [json.loads(line) for line in self.lines()]
        self.assertEqual([(event["seq"], event["kind"]) for event in events],
                         [(1, "published"), (2, "published"), (3, "refused")])
        self.assertEqual(events[1]["hash"], put["cap_hash"])
        self.assertIn("data, ", events[1]["message"])
        self.assertIn("ssz", events[2]["message"])

    def test_only_some_kinds_for_a_person(self):
        d = self.daemon()
        self.follow(d, "--kind", "published,job_ended", "--since", "0", json_output=False)
        self.assertStatus(d.capctl("publish", self.file("bad", b"x" * 100)), 1)
        put = self.ok(d.capctl("put", "-", stdin=b"one"))
        wait_until(lambda: len(self.lines()) == 1, "the event")
        self.assertRegex(self.lines()[0], rf"^ +2  \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ  published  +data, \d+ bytes  {put['cap_hash']}$")

    def test_a_wrong_kind_is_wrong_usage(self):
        """Before anything is connected to. The words are the daemon's."""
        d = self.daemon()
        schema = d.admin("schema")["methods"]["events.subscribe"]
        kinds = schema["params"]["properties"]["kinds"]["items"]["enum"]
        for words in ("published,nothing", "nothing", "publish", "published,", "", "published, refused"):
            wrong = self.assertStatus(capctl("--admin", "unix:/nonexistent", "events", "--kind", words), 2)
            self.assertTrue(wrong.json["message"].endswith("these are: " + ", ".join(kinds)), wrong.json)
        self.assertStatus(capctl("--admin", "unix:/nonexistent", "events", "--kind", ",".join(kinds)), 3)
        for words in (["--since", "x"], ["--since", "-1"], ["more"]):
            self.assertStatus(capctl("--admin", f"unix:{d.admin_path}", "events", *words), 2)

    def test_the_end_of_the_daemon(self):
        d = self.daemon()
        tool = self.follow(d, json_output=False)
        wait_until(lambda: d.admin("status")["phase"] == "running" and d.figures()["capstore_admin_connections"] >= 2,
                   "the tool to follow")
        self.ok(d.capctl("put", "-", stdin=b"one"))
        wait_until(lambda: len(self.lines()) == 1, "the event")
        self.assertEqual(d.stop(), 0)
        self.assertEqual(tool.wait(60), 3)
        self.assertIn(b"the last event was 1 (--since)", tool.stderr.read())

    def test_publishing_does_not_wait_for_a_reader_that_stops(self):
        """A subscriber that reads nothing: the daemon goes on, and holds no more for it than for another."""
        d = self.daemon("--progress-ms", "0")
        reader = self.connect_admin(d)
        reader.sendall(b'{"jsonrpc":"2.0","id":1,"method":"events.subscribe"}\n')
        before = None
        for i in range(40):
            with self.connect(d) as c:
                for _ in range(100):
                    c.put_data(os.urandom(64))
            if i == 10:
                before = d.memory()
        if not SANITIZED:
            self.assertLess(d.memory() - before, 4 << 20)

    def connect_admin(self, d):
        conn = socket.socket(socket.AF_UNIX)
        self.addCleanup(conn.close)
        conn.connect(str(d.admin_path))
        return conn


if __name__ == "__main__":
    unittest.main()
