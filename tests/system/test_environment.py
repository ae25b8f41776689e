"""Limits, file systems and platforms that lack something: the daemon works or names the true cause."""

import json
import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import unittest

import harness
from harness import SystemTest, capctl, content, wait_until

USAGE = 64


class Environment(SystemTest):
    def start(self, d, *prefix, limits=None, **options):
        """Starts a daemon behind a command, under limits (resource, value); returns it."""
        def limit():
            for which, value in limits or ():
                resource.setrlimit(which, (value, value))

        with open(d.log_path, "ab") as log:
            d.process = subprocess.Popen([*prefix, *d.command()], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                         preexec_fn=limit, **options)
        return d

    def fails(self, d, *prefix, status=1, **options):
        """The daemon does not start; returns its last line."""
        self.start(d, *prefix, **options)
        self.assertEqual(d.process.wait(60), status, d.log())
        d.process = None
        return d.log().splitlines()[-1]

    def starts(self, d, *prefix, **options):
        self.start(d, *prefix, **options)
        wait_until(d.ready, "the daemon to answer")
        return d


class Limits(Environment):
    def test_a_limit_of_file_size_is_a_full_disk(self):
        """SIGXFSZ would end the daemon; the spool's and the store's writes past the limit are refused."""
        d = self.starts(self.daemon(start=False), limits=[(resource.RLIMIT_FSIZE, 4096000)])
        c = self.connect(d)
        large, small = content("large", 8_000_000), content("small", 40_000)
        refused = self.assertRefuses("disk_full", c.put_data, large)
        self.assertIn("4096000 bytes", refused.message)
        self.assertIn("ulimit -f", refused.message)
        cap_hash = c.put_data(small)["cap_hash"]
        # Two parts, each within the limit as a spool file: the store's file is what grows past it.
        refused = 0
        for seed in range(6):
            try:
                c.put_data(content(seed, 1_500_000))
            except harness.protocol.Refused as e:
                self.assertEqual(e.name, "disk_full")
                refused += 1
        self.assertGreater(refused, 0)
        self.assertEqual(c.has([cap_hash]), [2])
        self.assertEqual(d.stop(), 0)

    def test_a_start_under_a_limit_of_file_size_names_it(self):
        line = self.fails(self.daemon(start=False), limits=[(resource.RLIMIT_FSIZE, 20480)])
        self.assertIn("20480 bytes", line)
        self.assertIn("ulimit -f", line)

    def test_too_few_descriptors(self):
        for limit in (8, 12, 24):
            d = self.daemon(name=f"n{limit}", start=False)
            line = self.fails(d, limits=[(resource.RLIMIT_NOFILE, limit)])
            self.assertIn("too many open files", line)
            self.assertIn(str(limit), line)
            self.assertIn("ulimit -n", line)

    def test_few_descriptors_serve_fewer_clients_and_a_warning_says_so(self):
        d = self.starts(self.daemon("--max-peer-connections", "1000", start=False),
                        limits=[(resource.RLIMIT_NOFILE, 64)])
        self.assertRegex(d.log(), r" warning too_few_file_descriptors limit=64 .*ulimit -n")
        limit = d.admin("status")["sessions"]["limit"]
        self.assertGreaterEqual(limit, 8)
        clients = [self.connect(d) for _ in range(limit)]
        d.admin("status")
        cap_hash = clients[0].put_data(b"still")["cap_hash"]
        self.assertEqual(clients[-1].has([cap_hash]), [2])
        self.assertEqual(d.stop(), 0)

    def test_a_body_cache_that_keeps_nothing_is_a_warning(self):
        for name, options, warned in (("few", ("--threads", "2", "--body-cache", "7M"), True),
                                      ("none", ("--threads", "2", "--record-cache", "0"), True),
                                      ("off", ("--threads", "2", "--body-cache", "0"), False),
                                      ("enough", ("--threads", "2", "--body-cache", "8M"), False)):
            d = self.starts(self.daemon(*options, name=name, start=False))
            self.assertEqual(" warning body_cache_unused " in d.log(), warned, name)
            self.assertEqual(d.stop(), 0)

    @unittest.skipIf(harness.SANITIZED, "a sanitizer needs the address space for itself")
    def test_too_little_address_space_names_the_option(self):
        line = self.fails(self.daemon("--map-size", "8G", start=False), limits=[(resource.RLIMIT_AS, 4 << 30)])
        self.assertIn("--map-size", line)
        self.assertIn("ulimit -v", line)


class FileSystems(Environment):
    @unittest.skipUnless(shutil.which("strace") and not harness.SANITIZED,
                         "strace is not installed, or in the way of a sanitizer")
    def test_directories_that_cannot_be_synced(self):
        for name in ("EINVAL", "EOPNOTSUPP", "ENOSYS"):
            d = self.daemon(name=name, start=False)
            self.start(d, "strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject=fsync:error={name}:when=2")
            wait_until(d.ready, "the daemon to answer")
            self.assertRegex(d.log(), " warning directory_not_synced ")
            children = pathlib.Path(f"/proc/{d.process.pid}/task/{d.process.pid}/children").read_text().split()
            os.kill(int(children[0]), signal.SIGTERM)
            self.assertEqual(d.process.wait(60), 0)
            d.process = None

    def test_a_state_directory_open_to_all(self):
        d = self.daemon(start=False)
        d.state.mkdir()
        d.state.chmod(0o777)
        line = self.fails(d, status=USAGE)
        self.assertIn(str(d.state), line)
        self.assertIn("chmod 700", line)
        d.state.chmod(0o770)
        self.starts(d)
        self.assertIn(" warning state_not_private ", d.log())
        self.assertEqual(d.stop(), 0)

    @unittest.skipUnless(os.getuid() == 0 and not harness.SANITIZED,
                         "needs root, and no thread that looks for leaks at the end")
    def test_a_limit_of_threads(self):
        d = self.daemon(start=False)
        for folder in (self.root, d.root):
            folder.chmod(0o777)
        line = self.fails(d, "prlimit", "--nproc=1", "setpriv", "--reuid=54321", "--clear-groups")
        self.assertIn("too many threads (ulimit -u, TasksMax=)", line)

    @unittest.skipUnless(os.getuid() == 0 and not harness.SANITIZED,
                         "needs root, and no threads but the daemon's")
    def test_with_no_thread_to_spare_all_is_served(self):
        """A daemon that has started has every thread that it will need for operators."""
        self.root.chmod(0o777)
        account = 20000 + os.getpid() % 40000  # the limit counts the threads of an account: of its own
        for limit in range(3, 40):
            d = self.daemon("--workers", "2", "--readers", "2", name=f"n{limit}", start=False)
            d.root.chmod(0o777)
            self.start(d, "prlimit", f"--nproc={limit}", "setpriv", f"--reuid={account}", "--clear-groups")
            try:
                wait_until(d.ready, "the daemon to answer")
                break
            except AssertionError:
                if d.process.poll() is None:
                    raise
            self.assertIn("too many threads (ulimit -u, TasksMax=)", d.log().splitlines()[-1])
            d.process = None
        self.assertEqual(d.admin("cap.list")["caps"], [])
        self.assertEqual(d.stop(), 0)

    @unittest.skipUnless(os.getuid() == 0, "needs root")
    def test_a_state_directory_of_somebody_else(self):
        d = self.daemon(start=False)
        d.state.mkdir()
        os.chown(d.state, 12345, -1)
        line = self.fails(d, status=USAGE)
        self.assertIn("12345", line)
        self.assertIn("chown", line)


class Addresses(Environment):
    def test_the_port_is_told_everywhere(self):
        d = self.daemon(start=False)
        told = d.root / "addresses"
        d.options += ["--address-file", str(told)]
        d.listen = ["tcp:127.0.0.1:0", f"unix:{d.path}"]
        self.starts(d)
        d.admin("status")  # answered by a daemon that has started; its socket is there before
        lines = told.read_text().splitlines()
        self.assertEqual(len(lines), 2)
        self.assertRegex(lines[0], r"^tcp:127\.0\.0\.1:[1-9]\d*$")
        self.assertEqual(lines[1], d.listen[1])
        self.assertEqual(d.admin("status")["listening"], lines)
        self.assertIn(f" listening address={lines[0]}", d.log())
        self.assertUsable(self.connect(d, address=lines[0]))
        self.assertEqual(d.stop(), 0)
        self.assertFalse(told.exists())

    def test_an_address_file_that_cannot_be_written(self):
        line = self.fails(self.daemon("--address-file", str(self.root / "no" / "such"), start=False))
        self.assertIn("address-file: cannot write", line)
        self.assertIn("No such file", line)

    def test_an_address_file_that_is_something_else(self):
        kept = self.file("kept", b"kept")
        (self.root / "link").symlink_to(kept)
        (self.root / "dangling").symlink_to(self.root / "nothing")
        (self.root / "folder").mkdir()
        os.mkfifo(self.root / "fifo")
        for name in ("link", "dangling", "folder", "fifo"):
            path = self.root / name
            before = os.lstat(path).st_ino
            line = self.fails(self.daemon("--address-file", str(path), start=False))
            self.assertIn("is not a regular file", line)
            self.assertEqual(os.lstat(path).st_ino, before, "neither replaced nor removed")
        self.assertEqual(pathlib.Path(kept).read_bytes(), b"kept")
        # A start that fails does not remove the file of another daemon.
        d = self.daemon("--address-file", str(kept), start=False)
        d.listen = ["tcp:127.0.0.1:0"]
        d.options += ["--admin", f"unix:{kept}"]
        self.fails(d)
        self.assertEqual(pathlib.Path(kept).read_bytes(), b"kept")

    def test_abstract_sockets(self):
        d = self.daemon(start=False)
        name = f"unix:@capstore-{os.getpid()}"
        d.listen = [name]
        self.starts(d)
        self.assertFalse(pathlib.Path(name[5:]).exists())
        self.assertEqual(d.admin("status")["listening"], [name])
        self.assertEqual(capctl("-s", name, "put", "-", stdin=b"abstract").status, 0)
        d.process.terminate()
        self.assertEqual(d.process.wait(60), 0)
        d.process = None
        for options in (["--listen", name, "--listen-mode", "660"], ["--listen", f"unix:{d.path}", "--admin", name]):
            d.command = lambda words=options: [harness.CAPSTORED, "--state", str(d.state), *words]
            self.assertIn("permissions", self.fails(d, status=USAGE))

    def test_a_start_that_fails_has_not_listened(self):
        d = self.daemon(start=False)
        file = self.file("file", b"")
        for options, status in ((["--admin", "tcp:127.0.0.1:0"], USAGE), (["--admin", "unix:"], USAGE),
                                (["--admin", "/path"], USAGE), (["--admin", f"unix:{file}"], 1),
                                (["--listen", "udp:1"], USAGE), (["--listen", f"unix:{file}"], 1),
                                (["--address-file", "/no/such"], 1), (["--admin-group", "no-such"], USAGE)):
            d.command = lambda words=options: [harness.CAPSTORED, "--state", str(d.state), "--listen",
                                               f"unix:{d.path}", *words]
            self.fails(d, status=status)
            self.assertNotIn("listening", d.log(), options)


class WrongSocket(Environment):
    def test_json_on_the_client_socket(self):
        d = self.daemon()
        for line in (b'{"jsonrpc":"2.0","id":1,"method":"status"}\n', b'  {"a"', b'[1]', b"{}"):
            with socket.socket(socket.AF_UNIX) as conn:
                conn.settimeout(harness.START_SECONDS)
                conn.connect(str(d.path))
                conn.sendall(line)
                with conn.makefile("rb") as replies:
                    error = json.loads(replies.readline())["error"]
                    self.assertIn("--admin", error["message"])
                    self.assertEqual(error["data"]["reason"], "invalid_request")
                    self.assertEqual(replies.read(), b"")
        self.assertRegex(d.log(), "refused .*the admin socket of capstored")
        self.assertUsable(self.connect(d))

    def test_a_client_on_the_admin_socket(self):
        d = self.daemon()
        result = capctl("-s", f"unix:{d.admin_path}", "has", "00" * 32, json_output=False)
        self.assertNotEqual(result.status, 0)
        self.assertIn("admin socket", result.stderr)
        self.assertEqual(d.admin("status")["phase"], "running")

    def test_capctl_admin_on_the_client_socket(self):
        d = self.daemon()
        result = capctl("--admin", d.address, "admin", "status", json_output=False)
        self.assertNotEqual(result.status, 0)
        self.assertIn("serves clients", result.stderr)


class Inherited(Environment):
    def run_with_sockets(self, count, names, *options):
        """A daemon with `count` inherited sockets, as systemd passes them."""
        sockets = []
        for i in range(count):
            s = socket.socket(socket.AF_UNIX)
            s.bind(str(self.root / f"s{i}"))
            s.listen()
            sockets.append(s)
            self.addCleanup(s.close)
        d = self.daemon(start=False)
        script = ("import os, sys\n"
                  "fds = [int(n) for n in sys.argv[1].split(',')]\n"
                  "high = [os.dup2(fd, 500 + i) for i, fd in enumerate(fds)]\n"
                  "for i, fd in enumerate(high): os.dup2(fd, 3 + i, inheritable=True)\n"
                  "os.environ['LISTEN_PID'] = str(os.getpid())\n"
                  "os.execv(sys.argv[2], sys.argv[2:])\n")
        fds = [s.fileno() for s in sockets]
        environment = dict(os.environ, LISTEN_FDS=str(count), LISTEN_FDNAMES=names)
        command = ["python3", "-c", script, ",".join(map(str, fds)), harness.CAPSTORED, "--state", str(d.state), *options]
        with open(d.log_path, "ab") as log:
            d.process = subprocess.Popen(command, pass_fds=fds, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                         env=environment)
        return d

    def test_without_a_socket_named_admin_all_serve_clients(self):
        d = self.run_with_sockets(2, "one:two")
        wait_until(lambda: " started " in d.log(), "the daemon to start")
        self.assertRegex(d.log(), r" warning no_admin_socket_passed sockets=2 .*all of them serve clients")
        for i in range(2):
            self.assertUsable(self.connect(d, address=f"unix:{self.root}/s{i}"))
        self.assertEqual(d.stop(), 0)

    def test_more_sockets_than_are_served(self):
        d = self.run_with_sockets(70, "")
        self.assertEqual(d.process.wait(60), USAGE)
        d.process = None
        self.assertIn("LISTEN_FDS passes 70 sockets", d.log())


class CheckConfig(Environment):
    def check(self, *options):
        return subprocess.run([harness.CAPSTORED, "--check-config", *map(str, options)], capture_output=True,
                              text=True, timeout=60, check=False)

    def test_it_prints_what_would_be_used_and_opens_nothing(self):
        config = self.file("config.json", b'\xef\xbb\xbf{"workers": 7, "listen": ["unix:/nowhere/s"]}')
        result = self.check("--config", config, "--state", self.root / "state", "--max-upload", "2M")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        printed = json.loads(result.stdout)
        self.assertEqual((printed["workers"], printed["listen"], printed["max-upload"]), (7, ["unix:/nowhere/s"], 2 << 20))
        self.assertFalse((self.root / "state").exists())
        again = self.check("--config", self.file("again.json", result.stdout.encode()))
        self.assertEqual(again.stdout, result.stdout)

    def test_what_is_wrong_is_said(self):
        for options, say in ((["--listen", "tcp:host"], "tcp:host"), (["--admin", "tcp:127.0.0.1:1"], "admin"),
                             (["--workers", "1"], "workers"), (["--listen", "unix:@x", "--listen-mode", "600"], "unix:@x")):
            result = self.check("--state", self.root / "state", *options)
            self.assertEqual((result.returncode, result.stdout), (USAGE, ""), options)
            self.assertIn(say, result.stderr)

    def test_what_a_start_misses_is_missed(self):
        for options in (["--listen", "unix:/nowhere/s"], ["--state", self.root / "state"]):
            start = subprocess.run([harness.CAPSTORED, *map(str, options)], capture_output=True, text=True, timeout=60,
                                   check=False)
            result = self.check(*options)
            self.assertEqual((start.returncode, result.returncode, result.stdout), (USAGE, USAGE, ""), options)
            self.assertEqual(start.stderr.splitlines()[-1].removesuffix(" (invalid_argument)"), result.stderr.strip())


if __name__ == "__main__":
    unittest.main()
