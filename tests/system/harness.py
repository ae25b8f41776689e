"""A real daemon in a temporary directory, and the real tool: what every system test stands on.

The programs under test are those that CAPSTORE_DAEMON and CAPSTORE_TOOL name.
"""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

import protocol

CAPSTORED = os.environ.get("CAPSTORE_DAEMON", "build/daemon/capstored")
CAPCTL = os.environ.get("CAPSTORE_TOOL", "build/client/capctl")
VECTORS = pathlib.Path(__file__).parent.parent / "conformance" / "vectors"
LONG = bool(os.environ.get("CAPSTORE_TEST_LONG"))
PAGE = 4096
THREADS = os.environ.get("CAPSTORE_TEST_THREADS")  # of every daemon that no test gives a number; None: its default
SANITIZED = bool(os.environ.get("CAPSTORE_SANITIZED"))  # its own memory then says nothing
START_SECONDS = 30  # generous: sanitizer builds on a busy machine


def wait_until(condition, what, seconds=START_SECONDS):
    """Polls until condition() is true; a failure says what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"timed out after {seconds} s waiting for {what}")
        time.sleep(0.01)


class Result:
    """What a run of capctl left: exit status, output, and the object that --json printed."""

    def __init__(self, completed):
        self.status = completed.returncode
        self.stdout = completed.stdout
        self.stderr = completed.stderr.decode(errors="replace")

    @property
    def json(self):
        return json.loads(self.stdout)

    def __repr__(self):
        return f"status {self.status}\nstdout {self.stdout[:2000]!r}\nstderr {self.stderr[:2000]}"


class Daemon:
    """capstored on a state directory of its own. Use as a context manager, or start() and stop()."""

    def __init__(self, root, *options, listen=None):
        self.root = pathlib.Path(root)
        self.state = self.root / "state"
        self.path = self.root / "capstore.sock"
        self.admin_path = self.root / "admin.sock"
        self.log_path = self.root / "log"
        self.listen = listen or [f"unix:{self.path}"]
        self.options = list(options)
        self.process = None

    @property
    def address(self):
        return self.listen[0]

    def command(self):
        listen = [word for address in self.listen for word in ("--listen", address)]
        given = {"--threads", "--config"} & set(self.options)
        threads = ["--threads", THREADS] if THREADS and not given else []
        return [CAPSTORED, "--state", str(self.state), *listen,
                "--admin", f"unix:{self.admin_path}", *threads, *self.options]

    def start(self, wait=True):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if wait:
            wait_until(self.ready, "the daemon to answer")
        return self

    def ready(self):
        """Whether an operator is answered. That alone says that the start is over: the socket takes connections
        before, of a daemon that may yet fail to start."""
        if self.process.poll() is not None:
            raise AssertionError(f"the daemon ended with {self.process.returncode}:\n{self.log()}")
        try:
            self.admin("hello")
        except (OSError, ValueError):  # an answer may be cut off
            return False
        return True

    def stop(self, seconds=60):
        """SIGTERM; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(seconds)
        self.process = None
        return status

    def kill(self):
        """kill -9."""
        self.process.kill()
        self.process.wait()
        self.process = None

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def memory(self):
        """The daemon's own memory in bytes, anonymous pages only: now."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        return int(fields["RssAnon"].split()[0]) * 1024

    def admin(self, method, **params):
        """One JSON-RPC call; returns the result, or raises AdminError."""
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        with socket.socket(socket.AF_UNIX) as conn:
            conn.settimeout(START_SECONDS)
            conn.connect(str(self.admin_path))
            conn.sendall(json.dumps(request).encode() + b"\n")
            with conn.makefile("rb") as replies:
                reply = json.loads(replies.readline())
        if "error" in reply:
            raise AdminError(reply["error"])
        return reply["result"]

    def figures(self):
        """Every series of `metrics`: 'name{labels}' -> number."""
        lines = self.admin("metrics")["text"].splitlines()
        return {name: float(value) for name, value in
                (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}

    def connect(self, hello=True, address=None, timeout=START_SECONDS):
        """A connection of the Python client, with HELLO said unless told otherwise."""
        connection = protocol.Connection(address or self.address, timeout)
        if hello:
            connection.hello()
        return connection

    def holds_nothing(self):
        """Whether no client holds anything: connections, requests, uploads, spool, memory."""
        status = self.admin("status")
        return not (status["sessions"]["open"] or status["requests_in_flight"] or status["uploads"]["in_flight"]
                    or status["spool"]["bytes"] or status["memory"]["bytes"] or status["writer_queue"])

    def capctl(self, *arguments, json_output=True, **options):
        return capctl("-s", self.address, *arguments, json_output=json_output, **options)

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, trace):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


held_ports = []  # sockets


def free_port():
    """A TCP port of the loopback on which nobody listens. It is bound until this program ends, so that nobody else is
    given it; a server that sets SO_REUSEADDR can have it all the same."""
    probe = socket.socket()
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe.bind(("127.0.0.1", 0))
    held_ports.append(probe)
    return probe.getsockname()[1]


class AdminError(Exception):
    """An error answer of the admin socket."""

    def __init__(self, error):
        super().__init__(error.get("message"))
        self.code = error.get("code")
        self.reason = error.get("data", {}).get("reason")
        self.hint = error.get("data", {}).get("hint", "")
        self.needed_by = error.get("data", {}).get("needed_by")


def capctl(*arguments, json_output=True, stdin=None, timeout=300, env=None):
    """Runs the tool and returns a Result, whatever its exit status."""
    command = [CAPCTL, *(["--json"] if json_output else []), *map(str, arguments)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CAPSTORE_")}
    environment.update(env or {})
    return Result(subprocess.run(command, input=stdin, stdin=None if stdin is not None else subprocess.DEVNULL,
                                 capture_output=True, timeout=timeout, env=environment, check=False))


class SystemTest(unittest.TestCase):
    """A temporary directory, and daemons that end with the test. A failed test shows their logs."""

    def setUp(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="capstore-"))
        self.daemons = []
        self.addCleanup(shutil.rmtree, self.root, ignore_errors=True)
        self.addCleanup(self.end_daemons)

    def daemon(self, *options, name="d", listen=None, start=True):
        root = self.root / name
        root.mkdir(exist_ok=True)
        daemon = Daemon(root, *options, listen=listen)
        self.daemons.append(daemon)
        return daemon.start() if start else daemon

    def end_daemons(self):
        told = getattr(self._outcome, "errors", [])  # of Python up to 3.10, which tells the result later
        told = told + self._outcome.result.errors + self._outcome.result.failures
        failed = any(error and self in (test, getattr(test, "test_case", None)) for test, error in told)
        for daemon in self.daemons:
            died = daemon.process is not None and daemon.process.poll()
            daemon.__exit__(None, None, None)
            log = daemon.log()
            if failed or "ERROR: " in log and "Sanitizer" in log:
                print(f"--- log of {daemon.root}\n{log[-8000:]}")
            self.assertNotIn("Sanitizer", log)
            self.assertNotIn("error=internal", log)
            self.assertFalse(died, f"the daemon ended by itself:\n{log[-2000:]}")

    def file(self, name, content):
        path = self.root / name
        path.write_bytes(content)
        return path

    def assertStatus(self, result, status):
        self.assertEqual(result.status, status, repr(result))
        return result

    def ok(self, result):
        return self.assertStatus(result, 0).json

    def absent(self, result, *hashes):
        """The answer of `has` when none of the hashes is there."""
        self.assertEqual(self.assertStatus(result, 1).json, {cap_hash: False for cap_hash in hashes})

    def connect(self, daemon, **options):
        """daemon.connect(), closed when the test ends."""
        connection = daemon.connect(**options)
        self.addCleanup(connection.close)
        return connection

    def assertRefuses(self, error, call, *arguments, **options):
        """The call of the Python client is answered by this error; returns the Refused."""
        with self.assertRaises(protocol.Refused) as caught:
            call(*arguments, **options)
        self.assertEqual(caught.exception.name, error, caught.exception.message)
        return caught.exception

    def assertEnds(self, connection, error):
        """The next frame is this ERROR and the stream's end follows it; returns the ERROR's fields."""
        got = connection.recv_frame()
        self.assertEqual(protocol.TYPE_NAMES[got.type], "ERROR", got)
        fields = protocol.decode("ERROR", got.payload)
        self.assertEqual((fields["name"], fields["detail_len"]), (error, 0), fields["message"])
        with self.assertRaises(protocol.Closed):
            connection.recv_frame()
        return dict(fields, id=got.id)

    def assertUsable(self, connection):
        """The connection still answers."""
        self.assertEqual(connection.has([bytes(32)]), [0])

    def refused(self, result, error):
        body = self.assertStatus(result, 1).json
        self.assertEqual(body.get("error"), error, repr(result))
        return body


def content(seed, size):
    """Deterministic bytes that do not repeat from page to page."""
    import hashlib

    out = bytearray()
    block = 0
    while len(out) < size:
        out += hashlib.sha512(f"{seed}/{block}".encode()).digest() * 8
        block += 1
    return bytes(out[:size])
