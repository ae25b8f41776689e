"""capstored and its peers, each started by itself on loopback and Unix sockets, in a directory of its own.

A server is a context manager. It ends what it started, by process id, and nothing else.
"""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

import harness

FILL = os.environ.get("CAPSTORE_FILL", "build/tests/support/fill_store")
PROGRAMS = pathlib.Path(os.environ["CAPSTORE_BENCH"])
STOP_SECONDS = 60


def pinned(core):
    """The words in front of a command that keep it on one core; none where `core` is None."""
    return [] if core is None else ["taskset", "-c", str(core)]


class Missing(Exception):
    """A peer that is not installed."""


class Server:
    """What every server has: a directory, processes, addresses. `protocol` is what `load` calls it."""

    name = protocol = program = package = None

    def __init__(self, root, core=None):
        if self.program is not None and shutil.which(self.program) is None:
            raise Missing(f"{self.program} is not installed (Debian: {self.package})")
        self.root = pathlib.Path(root)
        self.root.mkdir(parents=True, exist_ok=True)
        self.core = core
        self.port = harness.free_port()
        self.process = None

    def address(self, transport):
        return f"unix:{self.root}/sock" if transport == "unix" else f"tcp:127.0.0.1:{self.port}"

    def command(self):
        raise NotImplementedError

    def start(self):
        with open(self.root / "log", "ab") as log:
            self.process = subprocess.Popen([*pinned(self.core), *self.command()], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, cwd=self.root)
        harness.wait_until(self.ready, f"{self.name} to listen")
        return self

    def ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n{self.log()}")
        return all(self.accepts(transport) for transport in ("unix", "tcp"))

    def accepts(self, transport):
        address = self.address(transport)
        family = socket.AF_UNIX if transport == "unix" else socket.AF_INET
        with socket.socket(family) as probe:
            try:
                probe.connect(address[5:] if transport == "unix" else ("127.0.0.1", self.port))
            except OSError:
                return False
        return True

    def log(self):
        return (self.root / "log").read_text(errors="replace")[-4000:]

    def pids(self):
        """The processes that serve."""
        return [self.process.pid]

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def memory(self):
        """Anonymous memory in bytes, now."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        return int(fields["RssAnon"].split()[0]) * 1024

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, trace):
        self.stop()


class Capstored(Server):
    name = protocol = "capstore"

    def __init__(self, root, *options, core=None):
        super().__init__(root, core)
        self.options = options
        (self.root / "state").mkdir(mode=0o700, exist_ok=True)

    def fill(self, count, length, first=0):
        """Writes caps of fill_store into the store of a daemon that is not running."""
        subprocess.run([FILL, str(self.store.parent), str(count), str(length), str(first)], check=True, timeout=3600)
        os.sync()

    @property
    def store(self):
        return self.root / "state" / "store" / "store.lmdb"

    def command(self):
        threads = [] if self.core is None else ["--threads", "1"]  # as its peers have, on one core
        return [str(pathlib.Path(harness.CAPSTORED).resolve()), "--state", "state", "--listen", "unix:sock", "--listen",
                f"tcp:127.0.0.1:{self.port}", "--admin", "unix:admin", "--log-level", "warning", *threads,
                *self.options]

    def ready(self):
        return super().ready() and (self.root / "admin").exists()

    def oldest_snapshot(self):
        """The age in seconds of the oldest snapshot of the store that is open."""
        request = {"jsonrpc": "2.0", "id": 1, "method": "metrics", "params": {}}
        with socket.socket(socket.AF_UNIX) as conn:
            conn.settimeout(STOP_SECONDS)
            conn.connect(str(self.root / "admin"))
            conn.sendall(json.dumps(request).encode() + b"\n")
            with conn.makefile("rb") as replies:
                text = json.loads(replies.readline())["result"]["text"]
        return next(float(line.split()[1]) for line in text.splitlines()
                    if line.startswith("capstore_store_oldest_reader_seconds "))


class CapstoredHttp(Capstored):
    """The same over HTTP."""

    protocol = "http"

    def __init__(self, root, *options, core=None):
        super().__init__(root, *options, core=core)
        self.http_port = harness.free_port()

    def command(self):
        return [*super().command(), "--http", f"tcp:127.0.0.1:{self.http_port}"]

    def address(self, transport):
        return f"tcp:127.0.0.1:{self.http_port}" if transport == "http" else super().address(transport)


class Redis(Server):
    """One I/O thread and no snapshots; `durable` adds the log, synced before each answer."""

    name = protocol = "redis"
    program = package = "redis-server"

    def __init__(self, root, core=None, durable=False):
        super().__init__(root, core)
        self.durable = durable

    def command(self):
        log = ["--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"]
        return ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--unixsocket", "sock", "--save", "",
                "--io-threads", "1", "--daemonize", "no", "--dir", str(self.root),
                *(log if self.durable else ["--appendonly", "no"])]


class Bare(Server):
    """Not a peer but a floor: the least that a server does for a fetch, see bare_server.c. It starts with its values."""

    name = "bare"
    protocol = "redis"

    def __init__(self, root, count, length, core=None):
        super().__init__(root, core)
        self.count, self.length = count, length

    def command(self):
        return [str(PROGRAMS / "bare_server"), str(self.count), str(self.length), "unix:sock",
                f"tcp:127.0.0.1:{self.port}"]


class Memcached(Server):
    """One thread. It listens on TCP or on a Unix socket, never both, so these are two processes."""

    name = protocol = "memcached"
    program = package = "memcached"

    def __init__(self, root, core=None):
        super().__init__(root, core)
        self.unix = None

    def command(self, *where):
        where = where or ["-l", "127.0.0.1", "-p", str(self.port)]
        return ["memcached", "-t", "1", "-m", "4096", "-c", "4096", "-U", "0", *where,
                *(["-u", "root"] if os.geteuid() == 0 else [])]

    def start(self):
        self.unix = subprocess.Popen([*pinned(self.core), *self.command("-s", str(self.root / "sock"))],
                                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return super().start()

    def stop(self):
        if self.unix is not None:
            self.unix.terminate()
            self.unix.wait(STOP_SECONDS)
            self.unix = None
        super().stop()

    def pids(self):
        return [self.process.pid, self.unix.pid]


NGINX = """
daemon off;
{user}
worker_processes {workers};
pid nginx.pid;
error_log error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    sendfile_max_chunk 2m;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_requests 1000000000;
    open_file_cache max=100000 inactive=1h;
    open_file_cache_valid 1h;
    client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
    server {{
        listen unix:{root}/sock;
        listen 127.0.0.1:{port};
        root {root}/files;
    }}
}}
"""


class Nginx(Server):
    """Files in a directory, sent with sendfile, the open ones cached."""

    name = "nginx"
    protocol = "http"
    program, package = "nginx", "nginx-light"

    def __init__(self, root, core=None, workers=1):
        super().__init__(root, core)
        (self.root / "files" / "caps").mkdir(parents=True, exist_ok=True)
        user = "user root;" if os.geteuid() == 0 else ""
        (self.root / "nginx.conf").write_text(
            NGINX.format(user=user, workers=workers, root=self.root, port=self.port))

    def fill(self, count, length, first=0):
        for index in range(first, first + count):
            name = filled_hash(index)
            (self.root / "files" / "caps" / name.hex()).write_bytes((name * (length // len(name) + 1))[:length])
        os.sync()

    def command(self):
        return ["nginx", "-p", str(self.root), "-c", "nginx.conf", "-e", "error.log"]

    def pids(self):
        pid = self.process.pid
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def start(self):
        super().start()
        time.sleep(0.2)  # a worker that has just been forked has no CPU time to name yet
        return self


MASK = 2**64 - 1


def splitmix64(x):
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ x >> 27) * 0x94D049BB133111EB) & MASK
    return x ^ x >> 31


def filled_hash(index):
    """The hash of cap `index`, as in tests/support/filled.h."""
    return b"".join(splitmix64(4 * index + word).to_bytes(8, "little") for word in range(4))
