"""How the daemon starts, is told what to do, and ends."""

import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import time
import unittest

import harness
import protocol
import wire
from harness import PAGE, START_SECONDS, SystemTest, content, free_port, wait_until
from protocol import END, Closed

USAGE = 64  # EX_USAGE of sysexits: a wrong command line or configuration


def run(*arguments, **options):
    """Runs capstored to its end."""
    return subprocess.run([harness.CAPSTORED, *map(str, arguments)], capture_output=True, text=True, timeout=60,
                          check=False, **options)


class Ends(SystemTest):
    def upload(self, d, body=b"0123456789"):
        """A connection with an upload of which half has been sent."""
        c = self.connect(d)
        request_id = c.request("PUT_DATA", flags=0, size=0, total_len=len(body))
        c.send_frame("BODY", request_id, body[:len(body) // 2])
        wait_until(lambda: d.admin("status")["uploads"]["in_flight"] == 1, "the upload to begin")
        return c, request_id

    def draining(self, d):
        wait_until(lambda: d.admin("status")["phase"] == "draining", "the drain to begin")

    def test_drain_finishes_what_is_in_flight(self):
        d = self.daemon()
        idle = self.connect(d)
        c, request_id = self.upload(d)
        d.process.send_signal(signal.SIGTERM)
        self.draining(d)
        # No new connections, no new requests; who has nothing in flight is told and closed.
        self.assertFalse(d.path.exists(), "nobody can connect")
        self.assertEqual(self.assertEnds(idle, "draining")["id"], 0)
        self.assertRefuses("draining", c.has, [])
        self.assertRefuses("draining", c.put_data, b"new")
        c.send_frame("BODY", request_id, b"56789", END)
        reply = c.wait(request_id, "PUT_DATA_REPLY")
        self.assertEqual(self.assertEnds(c, "draining")["id"], 0)
        self.assertEqual(d.process.wait(START_SECONDS), 0)
        self.assertIn(" info drained", d.log())
        d.start()
        c = self.connect(d)
        self.assertEqual(wire.data_content(c.get(reply["cap_hash"])[1]).rstrip(b"\0"), b"0123456789")

    def test_drain_finishes_a_fetch(self):
        d = self.daemon()
        c = self.connect(d)
        body = content("fetch", 8 << 20)
        cap_hash = c.put_data(body)["cap_hash"]
        request_id = c.request("GET", hash=cap_hash, offset=0, len=protocol.TO_END)
        c.wait(request_id, "GET_REPLY")
        d.process.send_signal(signal.SIGTERM)
        self.draining(d)
        self.assertEqual(wire.data_content(c.recv_body(request_id)), body)
        self.assertEnds(c, "draining")
        self.assertEqual(d.process.wait(START_SECONDS), 0)

    def test_the_bound_cuts_what_stalls(self):
        d = self.daemon("--drain-ms", "300")
        c, _ = self.upload(d)
        began = time.monotonic()
        self.assertEqual(d.stop(), 0)
        self.assertGreaterEqual(time.monotonic() - began, 0.25)
        self.assertRaises(Closed, c.recv_frame)
        self.assertIn(" warning drain_incomplete", d.log())
        self.assertNotIn(" info drained", d.log())
        d.start()
        self.assertEqual(d.admin("status")["caps"]["total"], 0)

    def test_a_second_signal_ends_at_once(self):
        d = self.daemon("--drain-ms", "3600000")
        self.upload(d)
        d.process.send_signal(signal.SIGTERM)
        self.draining(d)
        d.process.send_signal(signal.SIGINT)
        self.assertEqual(d.process.wait(START_SECONDS), 0)

    def test_nothing_is_left_behind(self):
        d = self.daemon()
        self.assertEqual(d.stop(), 0)
        self.assertFalse(d.path.exists() or d.admin_path.exists(), "its sockets are gone")
        self.assertEqual(sorted(p.name for p in d.state.iterdir()), ["lock", "spool", "store"])
        self.assertEqual(list((d.state / "spool").iterdir()), [])
        self.assertEqual(d.state.stat().st_mode & 0o777, 0o700)

    def test_draining_without_clients(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            d = self.daemon()
            d.process.send_signal(number)
            self.assertEqual(d.process.wait(START_SECONDS), 0)

    def test_without_standard_streams(self):
        """Log lines must not end up in a file or a pipe that was opened in their place."""
        d = self.daemon(start=False)
        closed = "exec 0<&- 1>&- 2>&-; exec \"$@\""
        d.process = subprocess.Popen(["sh", "-c", closed, "sh", *d.command()])
        wait_until(d.ready, "the daemon to answer")
        cap_hash = self.connect(d).put_data(content("streams", 3 * PAGE))["cap_hash"]
        self.assertEqual([os.readlink(f"/proc/{d.process.pid}/fd/{fd}") for fd in range(3)], ["/dev/null"] * 3)
        self.assertEqual(d.stop(), 0)
        d.start()
        self.assertEqual(self.connect(d).has([cap_hash]), [2])


class Places(SystemTest):
    """State directory and sockets belong to one daemon."""

    def test_one_daemon_per_state_directory(self):
        d = self.daemon()
        second = run("--state", d.state, "--listen", f"unix:{self.root}/second")
        self.assertEqual(second.returncode, 1, second)
        self.assertIn("store_locked", second.stderr)
        self.assertIn(str(d.state), second.stderr)
        self.assertEqual(len(second.stderr.splitlines()), 1)
        self.assertUsable(self.connect(d))
        self.assertEqual(d.stop(), 0)
        d.start()

    def test_a_stale_socket_is_replaced(self):
        d = self.daemon()
        d.kill()
        self.assertTrue(d.path.is_socket() and d.admin_path.is_socket(), "kill -9 leaves them")
        d.start()
        self.assertUsable(self.connect(d))

    def test_a_live_socket_is_not_stolen(self):
        d = self.daemon()
        for option in ("--listen", "--admin"):
            path = {"--listen": d.path, "--admin": d.admin_path}[option]
            second = run("--state", self.root / "other", "--listen", f"unix:{self.root}/free", option, f"unix:{path}")
            self.assertEqual(second.returncode, 1, second)
            self.assertIn(str(path), second.stderr)
            self.assertUsable(self.connect(d))
            d.admin("status")
        self.assertFalse((self.root / "free").exists(), "what it had bound is gone")

    def test_what_is_no_socket_is_left_alone(self):
        path = self.file("precious", b"keep me")
        result = run("--state", self.root / "state", "--listen", f"unix:{path}")
        self.assertEqual(result.returncode, 1, result)
        self.assertEqual(path.read_bytes(), b"keep me")
        self.assertIn("not a socket", result.stderr, "the reason names what is in the way")

    def test_a_taken_port(self):
        port = free_port()
        d = self.daemon(listen=[f"tcp:127.0.0.1:{port}"])
        result = run("--state", self.root / "other", "--listen", f"tcp:127.0.0.1:{port}")
        self.assertEqual(result.returncode, 1, result)
        self.assertIn(str(port), result.stderr)
        self.assertUsable(self.connect(d))

    def test_a_state_directory_that_cannot_be(self):
        for state in (self.file("file", b""), self.root / "no" / "such"):
            result = run("--state", state, "--listen", f"unix:{self.root}/s")
            self.assertEqual(result.returncode, 1, result)
            self.assertIn(str(state), result.stderr)

    def test_many_sockets(self):
        d = self.daemon(start=False)
        d.listen += [f"unix:{self.root}/second", f"tcp:127.0.0.1:{free_port()}", f"tcp:[::1]:{free_port()}"]
        if not pathlib.Path("/proc/net/if_inet6").exists() or not pathlib.Path("/proc/net/if_inet6").read_text():
            d.listen.pop()
        d.start()
        cap_hash = self.connect(d).put_data(b"everywhere")["cap_hash"]
        for address in d.listen:
            self.assertEqual(self.connect(d, address=address).has([cap_hash]), [2])


    def mode(self, path):
        return path.stat().st_mode & 0o777

    def test_the_admin_socket_is_its_own_users(self):
        """Whatever the umask: nobody else connects, unless a group may operate, and then that group does."""
        for mask in (0o000, 0o077):
            before = os.umask(mask)
            d = self.daemon(name=f"own{mask}")
            group = self.daemon("--admin-group", str(os.getgid()), name=f"group{mask}")
            os.umask(before)
            self.assertEqual(self.mode(d.admin_path), 0o600)
            self.assertEqual(self.mode(group.admin_path), 0o660)
            self.assertEqual(group.admin_path.stat().st_gid, os.getgid())

    @unittest.skipUnless(os.getuid() == 0 and shutil.which("setpriv") and shutil.which("socat"), "needs root")
    def test_a_member_of_the_admin_group_connects(self):
        d = self.daemon("--admin-group", "65534")
        self.root.chmod(0o755)
        for group, works in ((65534, True), (65533, False)):
            result = subprocess.run(
                ["setpriv", "--reuid=65534", f"--regid={group}", "--clear-groups", "socat", "-t", "30", "-",
                 f"UNIX-CONNECT:{d.admin_path}"], input=b'{"jsonrpc":"2.0","id":1,"method":"hello"}\n',
                capture_output=True, timeout=60, check=False)
            self.assertEqual(b'"operate"' in result.stdout, works, result.stderr)

    def test_the_mode_of_sockets_for_clients(self):
        d = self.daemon("--listen-mode", "620")
        self.assertEqual(self.mode(d.path), 0o620)
        before = os.umask(0o027)
        d = self.daemon(name="umask")
        os.umask(before)
        self.assertEqual(self.mode(d.path), 0o750)

    def test_an_unknown_admin_group_is_named(self):
        result = run("--state", self.root / "state", "--listen", f"unix:{self.root}/s",
                     "--admin", f"unix:{self.root}/a", "--admin-group", "no-such-group")
        self.assertEqual(result.returncode, USAGE, result)
        self.assertRegex(result.stderr.splitlines()[-1], "^capstored: admin-group: .*no-such-group")

    def test_a_port_out_of_range(self):
        result = run("--state", self.root / "state", "--listen", f"tcp:127.0.0.1:{65536 + free_port()}")
        self.assertEqual(result.returncode, USAGE, result)


class Options(SystemTest):
    def names(self):
        return set(re.findall(r"--([a-z][a-z-]+)", run("--help").stdout)) - {"help", "version", "check-config", "check", "repair"}

    def test_help_and_version(self):
        result = run("--help")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertLessEqual({"state", "listen", "admin", "config", "max-upload", "drain-ms"}, self.names())
        self.assertLessEqual(max(map(len, result.stdout.splitlines())), 120)
        result = run("--version")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertRegex(result.stdout, r"^capstored \d+\.\d+\.\d+\nsha256: [a-z0-9-]+\n$")

    def test_sha256_by_name(self):
        result = run("--version", env={**os.environ, "CAPSTORE_SHA256": "sodium"})
        self.assertEqual((result.returncode, result.stdout.splitlines()[1:]), (0, ["sha256: sodium"]))
        result = run("--version", env={**os.environ, "CAPSTORE_SHA256": "rot13"})
        self.assertEqual((result.returncode, result.stdout), (USAGE, ""))
        self.assertIn("CAPSTORE_SHA256: rot13 is not a name", result.stderr)

    def test_help_that_nobody_gets(self):
        for option in ("--help", "--version"):
            with open("/dev/full", "w") as full:
                result = subprocess.run([harness.CAPSTORED, option], stdout=full, timeout=60, check=False)
            self.assertEqual(result.returncode, 1, option)

    def test_the_man_page_knows_every_option(self):
        page = pathlib.Path(__file__).parents[2] / "daemon" / "capstored.8"
        told = set(re.findall(r"Fl -([a-z-]+)", page.read_text()))
        self.assertGreater(len(self.names()), 20)
        self.assertEqual(self.names() - told, set())

    def wrong(self, *arguments, say):
        result = run(*arguments)
        self.assertEqual((result.returncode, result.stdout), (USAGE, ""), result)
        reason = result.stderr.splitlines()[-1]
        self.assertRegex(reason, "^capstored: ")
        self.assertIn(say, reason)

    def test_bad_options_are_named(self):
        good = ("--state", self.root / "state", "--listen", f"unix:{self.root}/s")
        self.wrong(say="state")
        self.wrong("--state", self.root / "state", say="listen")
        self.wrong(*good, "--frobnicate", "1", say="frobnicate")
        self.wrong(*good, "stray", say="stray")
        self.wrong(*good, "-x", say="-x")
        for listen in ("/no/scheme", "udp:1.2.3.4:5", "unix:", "tcp:localhost", "tcp::1", "unix:/" + "x" * 200):
            self.wrong("--state", self.root / "state", "--listen", listen, say=listen[:30])
        self.wrong(*good, "--admin", "tcp:127.0.0.1:1", say="admin")
        self.wrong(*good, "--log-level", "loud", say="log-level")
        self.wrong(*good, "--listen-mode", "rw-rw----", say="listen-mode")
        paths = {"state", "address-file", "backup-dir", "config"}
        for name in self.names() - paths - {"listen", "admin", "admin-group", "log-level"}:
            for value in ("", "x", "-1", "1x", "99999999999999999999", "18446744073709551615", " 1"):
                self.wrong(*good, f"--{name}", value, say=name)
        for name in self.names():
            self.wrong(*good, f"--{name}", say=name)

    def settings(self, *options):
        d = self.daemon(*options, name=f"d{len(self.daemons)}")
        return {name: value for name, value in d.figures().items() if name.startswith("capstore_setting")}

    def test_the_file_says_the_same(self):
        """Every number by the command line and by the file; sizes also as texts with a suffix."""
        default = self.settings()
        names = {re.search('"(.*)"', name).group(1): value for name, value in default.items()}
        self.assertGreaterEqual(len(names), 19)
        changed = {name: int(value) + 1 for name, value in names.items()}
        changed |= {"map-size": 64 << 20, "max-memory": 32 << 20, "io-uring": 7}  # by default the most
        by_line = self.settings(*(word for name, value in changed.items() for word in (f"--{name}", str(value))))
        self.assertEqual({re.search('"(.*)"', name).group(1): value for name, value in by_line.items()}, changed)
        as_text = changed | {"map-size": "64M", "max-memory": "32768k"}
        for content_of_file in (changed, as_text):
            path = self.file("config.json", json.dumps(content_of_file).encode())
            self.assertEqual(self.settings("--config", path), by_line)
        self.assertEqual(self.settings("--config", path, "--workers=7"), by_line | {
            'capstore_setting{option="workers"}': 7.0})

    def test_everything_by_the_file(self):
        d = self.daemon(start=False)
        d.root.mkdir(exist_ok=True)
        config = {"state": str(d.state), "listen": [f"unix:{d.path}", f"unix:{self.root}/second"],
                  "admin": f"unix:{d.admin_path}", "log-level": "error", "max-requests": 9}
        path = self.file("config.json", json.dumps(config).encode())
        d.command = lambda: [harness.CAPSTORED, "--config", str(path)]
        d.start()
        for address in config["listen"]:
            with d.connect(hello=False, address=address) as c:
                self.assertEqual(c.hello()["limits.requests"], 9)
        self.assertEqual(d.log(), "", "nothing worth an error happened")

    def test_bad_files(self):
        for text, say in ((b"", "config"), (b"{", "config"), (b"[]", "object"), (b'{"state": 1}', "state"),
                          (b'{"workers": "many"}', "workers"), (b'{"workers": 1000}', "workers"),
                          (b'{"workers": -1}', "workers"), (b'{"workers": 1.5}', "workers"),
                          (b'{"frobnicate": 1}', "frobnicate"), (b'{"listen": [1]}', "listen"),
                          (b'{"workers": 3, "workers": 4}', "config"), (b'{"config": "x"}', "config"),
                          (b'{"max-upload": "1X"}', "max-upload"), (b'{"a":' * 3000, "config")):
            with self.subTest(text[:40]):
                self.wrong("--config", self.file("config.json", text), say=say)
        # What the file says is quoted in one line, and nothing of it is invisible.
        for text, say in (('{"x\\ny\\u001b": 1}', r"x\x0ay\x1b: unknown setting"),
                          ('{"st\u200bate": "x"}', r"st\xe2\x80\x8bate: unknown setting"),
                          ('{"max-upload": "1M\ufeff"}', r"'1M\xef\xbb\xbf' is not valid"),
                          ('{\x7f}', "unexpected byte 0x7f, a control character")):
            self.wrong("--config", self.file("config.json", text.encode()), say=say)
        self.wrong("--max-upload", "1M\u00a0", say=r"'1M\xc2\xa0' is not valid")
        result = run("--config", self.root / "nowhere")
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("nowhere", result.stderr)


class Notify(SystemTest):
    """What systemd is told, with this test in its place."""

    def setUp(self):
        super().setUp()
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.notify.close)
        self.notify.bind(str(self.root / "notify"))
        self.told = []

    def start(self, **environment):
        d = self.daemon(start=False)
        environment = dict(os.environ, NOTIFY_SOCKET=str(self.root / "notify"), **environment)
        with open(d.log_path, "ab") as log:
            d.process = subprocess.Popen(d.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        return d

    def await_told(self, wanted):
        deadline = time.monotonic() + START_SECONDS
        while wanted not in self.told:
            ready, _, _ = select.select([self.notify], [], [], max(0, deadline - time.monotonic()))
            self.assertTrue(ready, f"never told {wanted}: {self.told}")
            self.told += self.notify.recv(4096).decode().splitlines()

    def test_ready_when_the_sockets_answer(self):
        for _ in range(5):
            d = self.start()
            self.await_told("READY=1")
            with d.connect() as c:  # at once
                self.assertUsable(c)
            self.assertEqual(d.admin("status")["phase"], "running")
            self.assertTrue([line for line in self.told if line.startswith("STATUS=")])
            self.assertNotIn("STOPPING=1", self.told)
            self.assertEqual(d.stop(), 0)
            self.await_told("STOPPING=1")
            self.assertNotIn("WATCHDOG=1", self.told)
            self.told.clear()

    def test_the_watchdog_is_fed(self):
        d = self.start(WATCHDOG_USEC="200000")
        for _ in range(3):
            self.await_told("WATCHDOG=1")
            self.told.clear()
        self.assertEqual(d.stop(), 0)

    def test_not_ready_when_it_cannot_start(self):
        d = self.start()
        self.await_told("READY=1")
        self.told.clear()
        second = run("--state", d.state, "--listen", f"unix:{self.root}/x",
                     env=dict(os.environ, NOTIFY_SOCKET=str(self.root / "notify")))
        self.assertEqual(second.returncode, 1)
        self.assertEqual(d.stop(), 0)
        self.await_told("STOPPING=1")
        self.assertNotIn("READY=1", self.told)


class Activation(SystemTest):
    @unittest.skipUnless(shutil.which("systemd-socket-activate"), "systemd-socket-activate is not installed")
    def test_two_named_sockets(self):
        """The first connection starts the daemon and is answered; the socket named admin is the admin socket."""
        d = self.daemon(start=False)
        command = ["systemd-socket-activate", "-l", str(d.path), "-l", str(d.admin_path), "--fdname=capstore:admin",
                   harness.CAPSTORED, "--state", str(d.state)]
        with open(d.log_path, "ab") as log:
            d.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(lambda: d.path.is_socket() and d.admin_path.is_socket(), "the sockets")
        c = self.connect(d)
        cap_hash = c.put_data(b"activated")["cap_hash"]
        self.assertEqual(d.admin("status")["caps"]["data"], 1)
        self.assertEqual(c.has([cap_hash]), [2])
        self.assertEqual(d.stop(), 0)
        self.assertTrue(d.path.is_socket(), "the sockets are not its own")


class Log(SystemTest):
    LINE = re.compile(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z (error|warning|info|debug) [a-z_]+'
                      r'( [a-z_]+=([^\s"=\\]+|"([^"\\\x00-\x1f\x7f-\xff]|\\["\\n]|\\x[0-9a-f]{2})*"))*')

    def test_one_structured_line_per_event(self):
        d = self.daemon("--log-level", "debug")
        c = self.connect(d)
        c.put_image(wire.simple_image(b"code", [(b"a", b"data")]))
        self.assertRefuses("ssz", c.put_image, b"\xff" * 50)
        self.assertRefuses("not_found", c.get, bytes(32))
        c.send_raw(b"\n\"evil\"=\\\r\n\x00\xff" * 3)
        self.assertEnds(c, "bad_frame")
        # What a client says of itself must be printable; what an operator says is escaped.
        for agent in ('a "quoted" agent=1 \\', "x" * 64):
            self.connect(d, hello=False).hello(agent=agent)
        c = self.connect(d, hello=False)
        c.send_raw(protocol.frame("HELLO", 0, protocol.encode(
            "HELLO", magic=protocol.MAGIC, version_min=1, version_max=1, agent="x\n2026-01-01T00:00:00.000000Z error fake")))
        self.assertEnds(c, "bad_message")
        for level in ("x\n2026-01-01T00:00:00.000000Z error fake", '"\\\r\t\x7f', "\u2028\u00e9", "y" * 5000):
            self.assertRaises(harness.AdminError, d.admin, "log.set", level=level)
            self.assertRaises(harness.AdminError, d.admin, "drain", **{level: 1})
        self.assertEqual(d.stop(), 0)
        log = d.log()
        self.assertTrue(log.endswith("\n"))
        for line in log[:-1].split("\n"):
            self.assertRegex(line, re.compile(f"^{self.LINE.pattern}$"))
        self.assertNotRegex(log, r"(?m)^2026-01-01T00:00:00.000000Z error fake")
        for event in ("started", "listening", "published", "refused", "admin_audit", "draining", "stopped"):
            self.assertRegex(log, rf" {event}( |\n)")

    def test_priorities_for_the_journal(self):
        d = self.daemon(start=False)
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        stat = os.fstat(writer)
        environment = dict(os.environ, JOURNAL_STREAM=f"{stat.st_dev}:{stat.st_ino}")
        d.process = subprocess.Popen(d.command(), stdin=subprocess.DEVNULL, stderr=writer, env=environment)
        os.close(writer)
        wait_until(d.ready, "the daemon to answer")
        self.assertEqual(d.stop(), 0)
        for line in os.read(reader, 65536).decode().splitlines():
            self.assertRegex(line, r"^<[3-7]>[a-z_]+( |$)")

    def test_a_failed_start_is_an_error_in_the_journal(self):
        with open(self.root / "log", "w+b") as log:
            stat = os.fstat(log.fileno())
            environment = dict(os.environ, JOURNAL_STREAM=f"{stat.st_dev}:{stat.st_ino}")
            subprocess.run([harness.CAPSTORED, "--state", str(self.root / "no" / "such"), "--listen", "unix:s"],
                           stderr=log, env=environment, timeout=60, check=False)
            log.seek(0)
            self.assertRegex(log.read().decode().splitlines()[-1], "^<3>capstored: cannot create ")


if __name__ == "__main__":
    unittest.main()
