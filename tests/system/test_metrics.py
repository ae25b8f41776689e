"""METRICS.md: what is documented is there, nothing else is, and each series moves when its thing happens."""

import contextlib
import itertools
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time
import unittest
import urllib.error
import urllib.request

import wire
from harness import PAGE, AdminError, SystemTest, content, free_port, wait_until
from protocol import KEEP, RESUME, SLICE, TO_END, Refused, body_frames

ADMIN = pathlib.Path(__file__).parent.parent.parent / "daemon" / "admin"
MIB = 1 << 20

# Constant as long as the daemon runs, or 0 only over a damaged store (test_check).
CONSTANT = {"capstore_build_info", "capstore_admin_connections_limit", "capstore_store_readable"}


def documented():
    """series -> (type, labels, unit, meaning, what to do), by METRICS.md."""
    rows = {}
    for line in (ADMIN / "METRICS.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 6 and cells[0].startswith("`"):
            assert cells[0] not in rows, f"{cells[0]} is documented twice"
            rows[cells[0].strip("`")] = tuple(cells[1:])
    return rows


def exposed(text):
    """series -> (type, labels, help): the families of an exposition, counters by the name of their series."""
    rows, family = {}, None
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, family, kind = line.split(" ")
            series = family + "_total" if kind == "counter" and not family.endswith("_total") else family
            rows[series] = [kind, set(), ""]
        elif line.startswith("# HELP "):
            rows[series][2] = line.split(" ", 3)[3]
        elif not line.startswith("#"):
            rows[series][1] |= set(re.findall(r'(\w+)="', line)) - {"le"}
    return {series: tuple(row) for series, row in rows.items()}


class Contract(SystemTest):
    def test_what_is_documented_is_there_and_nothing_else(self):
        d = self.daemon()
        with d.connect() as c:
            c.put_data(b"so that there is a publisher")
        rows = documented()
        for form in ("openmetrics", "prometheus"):
            families = exposed(d.admin("metrics", format=form)["text"])
            self.assertEqual(set(families), set(rows), form)
            for series, (kind, labels, help_text) in families.items():
                said_kind, said_labels, unit, meaning, to_do = rows[series]
                self.assertEqual(kind, said_kind, series)
                self.assertEqual(labels, set(re.findall(r"`(\w+)`", said_labels)), series)
                self.assertTrue(meaning.startswith(help_text), f"{series}: {help_text!r} is not how {meaning!r} begins")
                self.assertGreater(len(to_do), 4, series)
                base = series.removesuffix("_total")
                if unit == "1":
                    self.assertNotRegex(base, "_(bytes|seconds|percent)$")
                elif unit in ("bytes", "seconds", "percent"):
                    self.assertTrue(base.endswith(f"_{unit}"), series)

    def test_each_limit_is_a_gauge_beside_what_it_bounds(self):
        rows = documented()
        for series in rows:
            if "limit" in series:
                self.assertEqual(rows[series][0], "gauge")
                bounded = re.sub(r"_limit(?=_|$)", "", series.replace("_peer_", "_"))
                names = {bounded, bounded + "_in_flight", bounded.replace("_map_bytes", "_map_cache_bytes"),
                         bounded.replace("_store_map_", "_store_file_"), bounded.replace("_hashing_percent", "_hash_peers")}
                self.assertTrue(names & set(rows), f"{series} bounds nothing that is shown")

    @unittest.skipUnless(shutil.which("promtool"), "promtool is not installed")
    def test_promtool_takes_it(self):
        d = self.daemon()
        text = d.admin("metrics", format="prometheus")["text"]
        done = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


class Monitoring(SystemTest):
    """The dashboard and the alerts use series that are documented, with labels that they have."""

    def assertDocumented(self, expression):
        rows = documented()
        for name in re.findall(r"\bcapstore_\w+", expression):
            ending = re.search("_(bucket|sum|count)$", name)
            base = name[:ending.start()] if name not in rows and ending else name
            self.assertIn(base, rows, expression)
            self.assertEqual(base != name, rows[base][0] == "histogram", f"{expression}: {name}")
        known = {label for row in rows.values() for label in re.findall(r"`(\w+)`", row[1])} | {"le", "instance"}
        for selector in re.findall(r"\{([^}]*)\}", expression):
            self.assertLessEqual(set(re.findall(r"(\w+)\s*[=!]", selector)), known, expression)

    def expressions(self):
        dashboard = json.loads((ADMIN / "monitoring" / "dashboard.json").read_text())
        numbers = [panel["id"] for panel in dashboard["panels"]]
        self.assertEqual(len(numbers), len(set(numbers)))
        for panel in dashboard["panels"]:
            if panel["type"] != "row":
                self.assertTrue(panel["targets"], panel["title"])
                yield from (target["expr"] for target in panel["targets"])

    def test_the_dashboard(self):
        expressions = list(self.expressions())
        self.assertGreater(len(expressions), 20)
        for expression in expressions:
            self.assertDocumented(expression)
        if shutil.which("promtool"):
            rules = [{"record": f"expression:{number}",
                      "expr": expression.replace("$__rate_interval", "5m").replace("$instance", ".*")}
                     for number, expression in enumerate(expressions)]
            path = self.file("rules.json", json.dumps({"groups": [{"name": "all", "rules": rules}]}).encode())
            self.promtool("check", "rules", path)

    def promtool(self, *words):
        done = subprocess.run(["promtool", *map(str, words)], text=True, capture_output=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_the_alerts(self):
        text = (ADMIN / "monitoring" / "alerts.yml").read_text()
        self.assertDocumented(text)
        tested = (ADMIN / "monitoring" / "alerts_test.yml").read_text()
        for alert in re.findall(r"alert: (\w+)", text):
            self.assertRegex(tested, rf"alertname: {alert}\n +exp_alerts", f"{alert} never fires in a test")
        for reason in re.findall(r'capstore_warning\{reason="(\w+)"', text):
            self.assertIn(f'capstore_warning{{reason="{reason}"}}', self.daemon(name=reason).figures())

    @unittest.skipUnless(shutil.which("promtool"), "promtool is not installed")
    def test_promtool_takes_the_alerts(self):
        self.promtool("check", "rules", ADMIN / "monitoring" / "alerts.yml")
        self.promtool("test", "rules", ADMIN / "monitoring" / "alerts_test.yml")


class Moves(SystemTest):
    """Every series of METRICS.md is seen with two values; the steps say what makes which series move."""

    def look(self):
        """Remembers every value of every sample by the series that is documented."""
        for sample, value in self.d.figures().items():
            name = sample.split("{")[0]
            if name not in self.rows:  # of a histogram
                name = re.sub("_(bucket|sum|count)$", "", name)
            self.seen.setdefault(name, {}).setdefault(sample, set()).add(value)

    def moved(self, name):
        return any(len(values) > 1 for values in self.seen.get(name, {}).values())

    def until(self, *names, step=lambda: None):
        """Repeats a step until all of these series have moved."""
        names = [f"capstore_{name}" for name in names]
        self.assertLessEqual(set(names), set(self.rows))

        deadline = time.monotonic() + 90
        while still := [name for name in names if not self.moved(name)]:
            self.assertLess(time.monotonic(), deadline, f"{still} did not move")
            step()
            self.look()

    def reload(self, **settings):
        names = {name.replace("_", "-"): value for name, value in settings.items()}
        (self.root / "config.json").write_text(json.dumps(names))
        self.d.admin("config.reload")

    def start(self, *options, **more):
        (self.root / "config.json").write_text("{}")
        self.d = self.daemon("--config", str(self.root / "config.json"), *options, start=False)
        self.d.options += [] if "--threads" in options else ["--threads", "1"]
        self.d.start(**more)
        self.look()

    def test_every_series(self):
        self.rows, self.seen = documented(), {}
        (self.root / "backups").mkdir(mode=0o700)
        self.http = f"127.0.0.1:{free_port()}"
        self.start("--backup-dir", str(self.root / "backups"), "--http", f"tcp:{self.http}")
        for step in (self.publications, self.uploads_that_are_cut_off, self.fetches, self.over_http, self.collections, self.what_is_held, self.what_passes, self.limits, self.upkeep,
                     self.faults, self.the_daemon_above, self.a_cold_start, self.a_scrub, self.a_log_that_nobody_reads, self.the_drain):
            with self.subTest(step.__name__):
                step()
        self.assertEqual({name for name in set(self.rows) - CONSTANT if not self.moved(name)}, set())

    def publications(self):
        c = self.connect(self.d)
        self.small = c.put_data(content("small", 3 * PAGE))["cap_hash"]
        c.put_data(content("small", 3 * PAGE))
        self.large = c.put_data(content("large", 16 * MIB))["cap_hash"]
        c.put_image(wire.simple_image(b"\x13\x00\x00\x00" * 5, [(b"\x40", content("slot", PAGE))]))
        churn = iter(range(1 << 30))
        self.until("uploads_total", "upload_bytes_total", "upload_seconds", "hash_jobs_total", "hashed_bytes_total",
                   "hash_seconds", "admissions_total", "caps_published_total", "caps_present_total", "commits_total",
                   "commit_seconds", "commit_admissions", "stage_steps_total", "caps", "body_bytes", "refs",
                   "publisher_bytes", "publisher_caps", "publisher_hour_bytes",
                   "store_file_bytes", "store_file_free_bytes", "disk_free_bytes", "connections_accepted_total",
                   "received_bytes_total", "sent_bytes_total", "requests_total", "log_lines_total", "uptime_seconds",
                   "loop_turn_seconds", "admin_calls_total",
                   step=lambda: c.put_data(content(f"churn {next(churn)}", PAGE)))
        c.close()

    def uploads_that_are_cut_off(self):
        token, sent = itertools.count(1), 100 << 10

        def cut_off_and_go_on():
            name = next(token).to_bytes(16, "little")
            data = content(f"cut off {name}", 2 * sent)
            with self.connect(self.d, hello=False) as c:
                c.hello(features=KEEP | RESUME)
                upload = c.request("PUT_DATA", flags=0, size=0, total_len=len(data), token=name)
                c.send_frame("BODY", upload, data[:sent])
            c = self.connect(self.d, hello=False)
            c.hello(features=KEEP | RESUME)
            self.assertEqual(c.resume(name), (sent, len(data)))
            self.look()
            upload = c.request("PUT_DATA", flags=0, size=0, total_len=len(data), token=name, offset=sent)
            c.send_body(upload, data[sent:])
            c.wait(upload, "PUT_DATA_REPLY")
            c.close()

        self.until("parked_uploads", "parked_bytes", "uploads_resumed_total", step=cut_off_and_go_on)

    def fetches(self):
        c = self.connect(self.d, hello=False)
        c.hello(features=35 | SLICE)  # MAP, GET_MANY and CLOSURE

        def fetch():
            c.has([self.small])
            c.get(self.small)
            c.get(self.large)
            c.get_many([self.small, self.large])
            c.closure([self.small])
            c.slice(self.large, [(5, 3)])
            _, fd = c.map(self.small)
            self.look()
            os.close(fd)

        self.until("lookup_seconds", "fetch_seconds", "get_many_seconds", "get_many_caps_total", "closure_seconds",
                   "closure_caps_total", "map_seconds", "slice_seconds", "slice_pages_total",
                   "maps_total", "map_copies_made_total", "map_cache_bytes", "map_cache_copies",
                   "served_body_bytes_total", "records_used_total", "records_missed_total", "record_cache_bytes",
                   "body_cache_bytes", "body_cache_served_bytes_total", step=fetch)
        c.close()

    def over_http(self):
        def ask():
            urllib.request.urlopen(f"http://{self.http}/caps/{self.small.hex()}").read()
            with contextlib.suppress(urllib.error.HTTPError):
                urllib.request.urlopen(f"http://{self.http}/caps/{'0' * 64}").read()

        self.until("http_requests_total", "http_errors_total", "http_sent_bytes_total", step=ask)
        self.reload(hello_ms=1)
        with socket.create_connection(("127.0.0.1", int(self.http.split(":")[1]))):  # and says nothing
            self.until("http_slow_total")
        self.reload()

    def collections(self):
        self.reload(gc_high=1 << 40, lease=0)
        c = self.connect(self.d)
        turn = iter(range(1 << 30))

        for name, kept in (("small", self.small), ("large", self.large)):
            self.d.admin("roots.set", name=name, hash=kept.hex())

        def collect():
            c.put_data(content(f"garbage {next(turn)}", PAGE))  # without a lease
            with contextlib.suppress(AdminError):  # the last one runs still
                self.d.admin("gc.run")

        self.until("gc_runs_total", "gc_caps_total", "gc_bytes_total", "gc_high_bytes", step=collect)
        c.close()

    def what_is_held(self):
        c = self.connect(self.d)
        c.request("PUT_DATA", flags=0, size=0, total_len=8 * MIB)
        endpoints = [(bytes([1 + n // 250, n % 250]), wire.endpoint(0)) for n in range(20000)]
        image = wire.image(code=(0, 4), endpoints=endpoints, arena=b"\x13\x00\x00\x00")
        request_id = c.request("PUT_IMAGE", flags=0, total_len=len(image))
        c.send_raw(b"".join(body_frames(request_id, image))[:len(image) // 2])
        with socket.socket(socket.AF_UNIX) as operator:
            operator.connect(str(self.d.admin_path))
            self.until("connections", "peers", "requests_in_flight", "uploads_in_flight", "spool_bytes",
                       "request_memory_bytes", "admin_connections", "publisher_under_way_bytes")
        c.close()

    def what_passes(self):
        """What is there for a moment only: looked at while clients publish and look up as fast as they can."""
        end = threading.Event()

        def publish(number):
            with self.d.connect() as c:
                turn = 0
                while not end.is_set():
                    c.put_data(content(f"passing {number} {turn}", PAGE) * 1024)
                    c.has([os.urandom(32) for _ in range(500)])
                    turn += 1

        def pause():
            """In the middle of a turn, most likely: that is a stall."""
            self.d.process.send_signal(signal.SIGSTOP)
            time.sleep(0.05)
            self.d.process.send_signal(signal.SIGCONT)

        threads = [threading.Thread(target=publish, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        try:
            self.until("hash_jobs_in_flight", "hash_peers", "writer_queue", "spool_buffer_bytes", "read_jobs_in_flight",
                       "loop_stall_max_seconds", step=pause)
        finally:
            end.set()
            for thread in threads:
                thread.join()

    def limits(self):
        wait_until(self.d.holds_nothing, "clients to be gone")
        self.reload(max_connections=1, max_peer_connections=1, max_uploads=8, max_spool=MIB, max_memory=2 * MIB,
                    max_all_requests=99, max_buffers=2 * MIB, max_peer_requests=7, max_peer_uploads=3,
                    max_peer_spool=MIB, max_peer_memory=MIB, max_peer_maps=MIB, max_peer_hashing=50, idle_ms=1,
                    quota_bytes=1 << 40, quota_caps=1 << 30, quota_hourly=1 << 40, quota_total=1 << 40)
        c = self.connect(self.d)
        self.assertEnds(self.connect(self.d, hello=False), "too_many_connections")
        self.until("connections_limit", "uploads_limit", "spool_limit_bytes", "request_memory_limit_bytes",
                   "requests_limit", "spool_buffer_limit_bytes", "peer_connections_limit", "peer_requests_limit",
                   "peer_uploads_limit", "peer_spool_limit_bytes", "peer_request_memory_limit_bytes",
                   "peer_map_limit_bytes", "peer_hashing_limit_percent", "setting", "publisher_limit_bytes",
                   "publisher_caps_limit", "publisher_hour_limit_bytes", "body_limit_bytes", "connections_refused_total",
                   "refusals_total", "errors_total", "connections_idle_total")
        c.close()
        self.reload()

    def upkeep(self):
        self.until("writer_held_seconds", step=lambda: self.job("compact"))
        backups = self.root / "backups"
        self.job("backup")
        self.until("backups", "backup_age_seconds")
        shutil.rmtree(backups)
        backups.write_bytes(b"")
        self.until("backup_failed", step=lambda: self.job("backup"))

    def job(self, kind):
        """Begins one, unless one runs."""
        try:
            self.d.admin(f"{kind}.start")
        except AdminError as error:
            self.assertEqual(error.reason, "job_running")

    def faults(self):
        with self.assertRaises(AdminError):
            self.d.admin("no.such.method")
        (self.root / "config.json").write_text("{")
        with self.assertRaises(AdminError):
            self.d.admin("config.reload")
        self.until("admin_failures_total", "warning")
        self.reload()
        store = max((self.d.state / "store").iterdir(), key=lambda path: path.stat().st_size)
        process = self.d.process.pid
        before = resource.prlimit(process, resource.RLIMIT_FSIZE)
        resource.prlimit(process, resource.RLIMIT_FSIZE, (store.stat().st_size // 2, before[1]))
        turn = iter(range(1 << 30))

        def publish():
            # Large ones fill what is free below the limit, and fail while they are staged; small ones meet it in a commit.
            for pages in (64, 4, 1):
                try:
                    with self.d.connect() as c:
                        c.put_data(content(f"too much {next(turn)}", pages * PAGE))
                except Refused as error:
                    self.assertEqual(error.name, "disk_full")

        self.until("commits_failed_total", step=publish)
        resource.prlimit(process, resource.RLIMIT_FSIZE, before)

    def the_daemon_above(self):
        own = self.d
        self.d = self.daemon("--upstream", own.address, name="below")
        c, put = self.connect(self.d), self.connect(own)
        turn = iter(range(1 << 30))

        def fetch():
            c.get(put.put_data(content(f"above {next(turn)}", PAGE))["cap_hash"])
            for _ in range(2):
                with contextlib.suppress(Refused):
                    c.get(b"\x77" * 32)

        self.until("upstream_awaited_total", "upstream_caps_total", "upstream_bytes_total", "upstream_absent_total",
                   "upstream_recalled_total", step=fetch)
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(str(self.root / "nobody"))
            silent.listen()
            self.d = self.daemon("--upstream", f"unix:{self.root}/nobody", name="silent")
            lost = self.connect(self.d)
            lost.request("GET", hash=self.small, offset=0, len=TO_END)
            self.until("upstream_flights", "upstream_fetch_seconds")
        self.until("upstream_away", "upstream_failed_total")
        self.d = self.daemon("--upstream", f"unix:{self.root}/mirror/capstore.sock", name="mirror")  # itself
        mirror = self.connect(self.d)
        with contextlib.suppress(Refused):
            mirror.get(b"\x77" * 32)
        self.until("upstream_broken")
        for one in (c, put, lost, mirror):
            one.close()
        self.d = own

    def a_cold_start(self):
        def cold():
            """Starts again with the store out of the page cache, and fetches."""
            self.assertEqual(self.d.stop(), 0)
            for path in (self.d.state / "store").iterdir():
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            self.start("--threads", "3", "--record-cache", "1M", "--body-cache", "0", "--map-cache", "2M", "--map-size", "1G")
            with self.d.connect() as c:
                c.get(self.large)

        self.until("cold_windows_total", "record_cache_limit_bytes", "body_cache_limit_bytes", "map_cache_limit_bytes",
                   "store_map_limit_bytes", "store_readers_limit", step=cold)
        unread = self.connect(self.d)
        unread.request("GET", hash=self.large, offset=0, len=TO_END)
        self.until("store_readers", "store_oldest_reader_seconds")
        unread.close()

    def a_scrub(self):
        """Finds the bit that has flipped in the large body."""
        self.assertEqual(self.d.stop(), 0)
        store = self.d.state / "store" / "store.lmdb"
        data = bytearray(store.read_bytes())
        data[data.index(content("large", 16 * MIB)[MIB:MIB + 100])] ^= 4
        store.write_bytes(data)
        self.start("--scrub-rate", "8M")
        self.d.admin("scrub.start")
        self.until("scrub_running", "scrub_caps", "scrub_caps_limit", "scrub_last_pass_timestamp_seconds",
                   "scrub_last_pass_findings", "quarantined_caps")

    def a_log_that_nobody_reads(self):
        self.assertEqual(self.d.stop(), 0)
        with subprocess.Popen(self.d.command(), stderr=subprocess.PIPE) as self.d.process:
            wait_until(self.d.ready, "the daemon to answer")
            self.d.admin("log.set", level="debug")
            self.until("log_lost_total", step=lambda: [self.d.connect().close() for _ in range(100)])
            self.d.process.terminate()
            self.d.process.communicate()

    def the_drain(self):
        self.start()
        c = self.connect(self.d)
        c.request("PUT_DATA", flags=0, size=0, total_len=PAGE)
        self.d.process.send_signal(signal.SIGTERM)
        self.until("draining")
        c.close()
        self.assertEqual(self.d.process.wait(60), 0)
        self.d.process = None


if __name__ == "__main__":
    unittest.main()
