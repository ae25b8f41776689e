"""The operator's way: the admin socket with socat and jq, with capctl, as root and as nobody."""

import grp
import json
import os
import pathlib
import re
import shutil
import socket
import struct
import subprocess
import sys
import unittest

import harness
import protocol
import wire
from harness import PAGE, START_SECONDS, AdminError, SystemTest, capctl, content, free_port, wait_until
from protocol import END

ADMIN_MD = pathlib.Path(__file__).parents[2] / "daemon/admin/ADMIN.md"
METHODS = set(re.findall(r"^### `([a-z.]+)`$", ADMIN_MD.read_text(), re.M))
NO_HASH = "00" * 32


class AdminTest(SystemTest):
    def tool(self, d, method, *params):
        """`capctl admin`"""
        return capctl("--admin", f"unix:{d.admin_path}", "admin", method, *params)

    def publish(self, d):
        """An Image that names another one and two Data caps; hashes by name."""
        inner = self.ok(d.capctl("publish", self.file("inner", wire.simple_image(b"inner"))))["cap_hash"]
        pinned = [(b"\x07", wire.pinned_image(bytes.fromhex(inner))),
                  (b"\x0b", wire.pinned_data(wire.data_desc(2 * PAGE, [(0, 100, 50)])))]
        image = wire.image(
            code=(0, 100), endpoints=[(b"\x00", wire.endpoint(0x400010, [(1, 0x10004000)]))],
            mappings=[wire.mapping(0x10002000, PAGE, [b"\x41"]), wire.mapping(0x10000000, 2 * PAGE, [b"\x0b"])],
            pinned=pinned, initial=[(b"\x41", wire.data_desc(PAGE, []))], arena=content("arena", 150))
        outer = self.ok(d.capctl("publish", self.file("outer", image)))["cap_hash"]
        checked = self.ok(capctl("check", self.root / "outer"))
        slots = {data["slot"]: data["cap_hash"] for data in checked["data"]}
        return {"inner": inner, "outer": outer, "pinned": slots["0b"], "initial": slots["41"]}


@unittest.skipUnless(shutil.which("socat") and shutil.which("jq"), "socat and jq are not installed")
class ByHand(AdminTest):
    """What the README promises to an operator without our tool."""

    def socat(self, d, *lines):
        """Output of: printf lines | socat -t 30 - UNIX-CONNECT:..."""
        text = "".join(line + "\n" for line in lines)
        return subprocess.run(["socat", "-t", "30", "-", f"UNIX-CONNECT:{d.admin_path}"], input=text, text=True,
                              capture_output=True, timeout=60, check=True).stdout

    def jq(self, text, *arguments):
        return subprocess.run(["jq", *arguments], input=text, text=True, capture_output=True, timeout=60,
                              check=True).stdout

    def test_one_question(self):
        d = self.daemon()
        answer = self.socat(d, '{"jsonrpc":"2.0","id":1,"method":"status"}')
        self.assertEqual(self.jq(answer, "-r", ".result.phase"), "running\n")
        answer = self.socat(d, '{"jsonrpc":"2.0","id":1,"method":"metrics"}')
        self.assertTrue(self.jq(answer, "-r", ".result.text").rstrip().endswith("# EOF"))

    def test_many_questions_in_order(self):
        d = self.daemon()
        hashes = self.publish(d)
        questions = [{"method": "cap.stat", "params": {"hash": cap_hash}} for cap_hash in hashes.values()] * 20
        lines = [json.dumps({"jsonrpc": "2.0", "id": i, **q}) for i, q in enumerate(questions)]
        answers = [json.loads(line) for line in self.socat(d, *lines).splitlines()]
        self.assertEqual([a["id"] for a in answers], list(range(80)))
        self.assertEqual([a["result"]["cap_hash"] for a in answers], list(hashes.values()) * 20)

    def test_why_is_this_hash_absent(self):
        """Find a refusal, find who refers to a cap, page through a list: one shell pipeline each."""
        d = self.daemon()
        hashes = self.publish(d)
        self.refused(d.capctl("publish", self.file("bad", b"\xff" * 60)), "ssz")
        answer = self.socat(d, '{"jsonrpc":"2.0","id":"a","method":"refusals.list"}')
        self.assertEqual(self.jq(answer, "-r", ".result.refusals[0] | .what, .reason"), "put_image\nssz\n")
        question = f'{{"jsonrpc":"2.0","id":1,"method":"refs.list","params":{{"hash":"{hashes["pinned"]}","direction":"in"}}}}'
        self.assertEqual(self.jq(self.socat(d, question), "-r", ".result.refs[].cap_hash"), hashes["outer"] + "\n")

    def test_every_example_of_the_help(self):
        """The examples of `schema` are requests that can be sent as they stand."""
        d = self.daemon()
        methods = d.admin("schema")["methods"]
        self.assertEqual(set(methods), METHODS)
        for name, method in methods.items():
            if method["level"] != "observe":
                continue
            line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": name, "params": method["example"]})
            answer = json.loads(self.socat(d, line))
            if "error" in answer:
                self.assertEqual(answer["error"]["data"]["reason"], "not_found", name)

    def test_bad_lines(self):
        d = self.daemon()
        for line, reason in (("{", "parse_error"), ("hello", "parse_error"), ("[]", "batch"), ("{}", "invalid_request"),
                             ('{"a":1,"a":2}', "duplicate_key"), ('{"jsonrpc":"2.0","id":1,"method":"x"}', "unknown_method"),
                             ('{"jsonrpc":"2.0","id":1,"method":"status","params":[]}', "params_not_by_name"),
                             ('{"jsonrpc":"2.0","id":1,"method":"status","params":{"x":1}}', "unknown_param"),
                             ('{"a":' * 17 + "1" + "}" * 17, "too_deep"), ("[" * 60000, "too_deep"),
                             ('"' + "x" * 65536 + '"', "line_too_long"), ("GET / HTTP/1.1", "parse_error")):
            answers = self.socat(d, line, '{"jsonrpc":"2.0","id":2,"method":"hello"}').splitlines()
            with self.subTest(line[:60]):
                self.assertEqual(len(answers), 2, "the connection goes on")
                self.assertEqual(json.loads(answers[0])["error"]["data"]["reason"], reason)
                self.assertEqual(json.loads(answers[1])["result"]["version"], d.admin("hello")["version"])

    def test_a_line_that_never_ends(self):
        d = self.daemon()
        with socket.socket(socket.AF_UNIX) as c:
            c.settimeout(30)
            c.connect(str(d.admin_path))
            for _ in range(256):
                c.sendall(b'{"' + b"x" * 65536)
            c.sendall(b'\n{"jsonrpc":"2.0","id":7,"method":"hello"}\n')
            with c.makefile("rb") as lines:
                self.assertEqual(json.loads(lines.readline())["error"]["data"]["reason"], "line_too_long")
                self.assertEqual(json.loads(lines.readline())["id"], 7)


class Tool(AdminTest):
    def test_every_method(self):
        d = self.daemon()
        hashes = self.publish(d)
        self.assertEqual(self.ok(self.tool(d, "hello"))["level"], "admin")
        self.assertEqual({m["name"] for m in self.ok(self.tool(d, "help"))["methods"]}, METHODS)
        self.assertIn("cap.list", self.ok(self.tool(d, "help", "method=cap.list"))["text"])
        self.assertEqual(set(self.ok(self.tool(d, "schema", "method=status"))["methods"]), {"status"})
        self.assertEqual(self.ok(self.tool(d, "status"))["caps"], {"image": 2, "data": 2, "total": 4})
        self.assertIn("# EOF", self.ok(self.tool(d, "metrics"))["text"])
        found = self.ok(self.tool(d, "cap.find", "prefix=" + hashes["outer"][:12]))
        self.assertEqual(found, self.ok(self.tool(d, "cap.stat", "hash=" + hashes["outer"])))
        self.assertEqual(self.ok(self.tool(d, "cap.find", "image_content_hash=" + found["image_content_hash"])), found)
        self.lists(d, hashes)
        self.explains(d, hashes)
        for params, reason in ((["hash=" + NO_HASH], "not_found"), ([], "missing_param"), (["hash=zz"], "out_of_bounds"),
                               (["hash=" + NO_HASH, "more=1"], "unknown_param"), (["hash=[1]"], "out_of_bounds")):
            self.refused(self.tool(d, "cap.stat", *params), reason)
        self.refused(self.tool(d, "cap.list", "limit=0"), "out_of_bounds")
        self.refused(self.tool(d, "cap.list", "limit=1001"), "out_of_bounds")
        self.refused(self.tool(d, "cap.list", "kind=cnode"), "out_of_bounds")
        self.refused(self.tool(d, "frobnicate"), "unknown_method")

    def lists(self, d, hashes):
        caps = self.ok(self.tool(d, "cap.list"))["caps"]
        self.assertEqual([cap["cap_hash"] for cap in caps], sorted(hashes.values()))
        images = self.ok(self.tool(d, "cap.list", "kind=image"))["caps"]
        self.assertEqual({cap["cap_hash"] for cap in images}, {hashes["inner"], hashes["outer"]})
        found, cursor = [], []
        while True:
            page = self.ok(self.tool(d, "cap.list", "limit=1", *cursor))
            found += [cap["cap_hash"] for cap in page["caps"]]
            if page["cursor"] is None:
                break
            cursor = ["cursor=" + page["cursor"]]
        self.assertEqual(found, sorted(hashes.values()))
        for length in (0, 1, 7, 63, 64):
            prefix = hashes["outer"][:length]
            found = self.ok(self.tool(d, "cap.list", f"prefix={prefix}"))["caps"]
            self.assertEqual({cap["cap_hash"] for cap in found}, {h for h in hashes.values() if h.startswith(prefix)})
        out = self.ok(self.tool(d, "refs.list", "hash=" + hashes["outer"], "direction=out"))["refs"]
        self.assertEqual({ref["cap_hash"]: ref["tables"] for ref in out},
                         {hashes["inner"]: ["pinned"], hashes["pinned"]: ["pinned"], hashes["initial"]: ["initial"]})
        for name in ("inner", "pinned", "initial"):
            back = self.ok(self.tool(d, "refs.list", "hash=" + hashes[name], "direction=in"))["refs"]
            self.assertEqual([ref["cap_hash"] for ref in back], [hashes["outer"]])

    def explains(self, d, hashes):
        stat = self.ok(self.tool(d, "cap.stat", "hash=" + hashes["outer"]))
        self.assertEqual((stat["kind"], stat["size"], stat["ref_count"]), ("image", 100, 3))
        self.assertEqual(stat["publisher"], {"uid": os.getuid(), "gid": os.getgid()})
        self.assertRegex(stat["published"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z$")
        image = self.ok(self.tool(d, "cap.explain", "hash=" + hashes["outer"]))["image"]
        self.assertEqual((image["code"]["start"], image["code"]["size"]), ("0x400000", 100))
        self.assertEqual([m["start"] for m in image["mappings"]], ["0x10000000", "0x10002000"], "in address order")
        self.assertEqual([m["read_only"] for m in image["mappings"]], [True, False])
        self.assertEqual([m["cap_hash"] for m in image["mappings"]], [hashes["pinned"], hashes["initial"]])
        self.assertEqual([(p["slot"], p["kind"], p["present"]) for p in image["pinned"]],
                         [("07", "image", True), ("0b", "data", True)])
        self.assertEqual(image["endpoints"][0]["stack_top"], "0x10004000")
        # What check says is said here, by the same names, and nothing else.
        checked = self.ok(capctl("check", self.root / "outer"))
        self.assertEqual({stat["image_content_hash"], image["image_content_hash"]}, {checked["image_content_hash"]})
        self.assertEqual(sorted(w["reason"] for w in image["warnings"]), sorted(w["reason"] for w in checked["warnings"]))
        data = self.ok(self.tool(d, "cap.explain", "hash=" + hashes["pinned"]))["data"]
        self.assertEqual((data["size"], data["page_count"]), (2 * PAGE, 1))

    def test_for_a_person(self):
        d = self.daemon()
        self.publish(d)
        self.ok(d.capctl("put", "-", stdin=os.urandom(8192)))
        address = f"unix:{d.admin_path}"
        shown = self.assertStatus(capctl("--admin", address, "status", json_output=False), 0).stdout.decode()
        for word in ("phase", "running", "sessions", "spool", "disk", "caps"):
            self.assertIn(word, shown)
        self.assertRegex(shown, r"(?m)^body_bytes: \d+\.\d KiB \(image \d+ B, data \d+\.\d KiB\)$")
        self.assertRegex(shown, r"(?m)^sessions: \d+ of 1024$")
        self.assertRegex(shown, r"(?m)^warnings: none$")
        self.assertNotIn("last_error", shown, "what is unset is left out")
        self.assertLess(len(shown.splitlines()), 45, "one screen")
        self.assertEqual(set(self.ok(capctl("--admin", address, "status"))), set(d.admin("status")), "JSON has all")
        self.assertEqual(self.ok(capctl("status", env={"CAPSTORE_ADMIN": address}))["phase"], "running")
        result = capctl("--admin", address, "admin", "nope", json_output=False)
        self.assertStatus(result, 1)
        self.assertIn("unknown_method", result.stderr)
        self.assertStatus(capctl("--admin", f"unix:{self.root}/nowhere", "status"), 3)
        self.assertStatus(capctl("--admin", address, "admin", "hello", "stray"), 2)

    def test_log_set(self):
        d = self.daemon()
        self.assertEqual(self.ok(self.tool(d, "log.set", "level=debug")), {"level": "debug", "previous": "info"})
        self.connect(d).close()
        wait_until(lambda: " debug session_closed " in d.log(), "lines at level debug")
        self.ok(self.tool(d, "log.set", "level=error"))
        before = d.log()
        self.assertRefuses("ssz", self.connect(d).put_image, b"\xff" * 50)
        self.ok(self.tool(d, "log.set", "level=info"))
        self.assertRegex(d.log()[len(before):], r'^\S+ info admin_audit method=log.set .* outcome=ok params=.*\n$')

    def test_drain(self):
        d = self.daemon()
        c = self.connect(d)
        request_id = c.request("PUT_DATA", flags=0, size=0, total_len=4)
        c.send_frame("BODY", request_id, b"half")
        wait_until(lambda: d.admin("status")["uploads"]["in_flight"] == 1, "the upload to begin")
        self.assertEqual(self.ok(self.tool(d, "drain"))["phase"], "draining")
        self.refused(self.tool(d, "cap.stat", "hash=" + NO_HASH), "not_found")  # operators are still served
        c.send_frame("BODY", request_id, b"", END)
        c.wait(request_id, "PUT_DATA_REPLY")
        self.assertEqual(d.process.wait(START_SECONDS), 0)

    def test_shutdown(self):
        d = self.daemon()
        acknowledged = self.connect(d).put_data(b"acknowledged")["cap_hash"]
        c = self.connect(d)
        c.request("PUT_DATA", flags=0, size=0, total_len=4)
        self.assertEqual(self.ok(self.tool(d, "shutdown"))["phase"], "stopping")
        self.assertEqual(d.process.wait(START_SECONDS), 0)
        d.start()
        self.assertEqual(self.connect(d).has([acknowledged]), [2])


class Watching(AdminTest):
    def test_refusals(self):
        """What was refused, of whom, with which error; the newest first, in pages, no more than were asked to be kept."""
        d = self.daemon("--refusals", "20", start=False)
        d.listen.append(f"tcp:127.0.0.1:{free_port()}")
        d.start()
        local, remote = self.connect(d), self.connect(d, address=d.listen[1])
        self.assertRefuses("ssz", local.put_image, b"\xff" * 60)
        self.assertRefuses("not_found", remote.get, bytes(32))
        self.assertRefuses("upload_too_large", self.too_large, local)
        remote.send_raw(b"\xff" * 12)
        self.assertEnds(remote, "bad_frame")
        listed = d.admin("refusals.list")
        self.assertEqual([(r["what"], r["reason"]) for r in listed["refusals"]],
                         [("connection", "bad_frame"), ("put_data", "upload_too_large"), ("get", "not_found"),
                          ("put_image", "ssz")])
        self.assertEqual((listed["total"], listed["cursor"]), (4, None))
        self.assertRegex(listed["refusals"][0]["peer"], r"^tcp:127\.0\.0\.1")
        self.assertRegex(listed["refusals"][3]["peer"], rf"^unix:uid={os.getuid()}\b.*pid={os.getpid()}")
        self.assertTrue(all(r["message"] for r in listed["refusals"]))
        for _ in range(30):
            self.assertRefuses("not_found", local.stat, bytes(32))
        seen, cursor = [], {}
        while cursor is not None:
            page = d.admin("refusals.list", limit=7, **cursor)
            seen += [r["seq"] for r in page["refusals"]]
            cursor = None if page["cursor"] is None else {"cursor": page["cursor"]}
        self.assertEqual(page["total"], 34)
        self.assertEqual(seen, list(range(max(seen), max(seen) - 20, -1)), "the last 20, the newest first")

    def too_large(self, c):
        return c.wait(c.request("PUT_DATA", flags=0, size=0, total_len=2**40), "PUT_DATA_REPLY")

    def test_clients(self):
        d = self.daemon(start=False)
        d.listen.append(f"tcp:127.0.0.1:{free_port()}")
        d.start()
        agents = ["first", 'second "quoted" \\', "third"]
        connections = []
        for number, agent in enumerate(agents):
            c = self.connect(d, hello=False, address=d.listen[number % 2])
            c.hello(agent=agent)
            connections.append(c)
        request_id = connections[0].request("PUT_DATA", flags=0, size=0, total_len=1000)
        connections[0].send_frame("BODY", request_id, bytes(500))
        wait_until(lambda: d.admin("clients.list")["clients"][0]["bytes_in"] > 500, "the body")
        clients = d.admin("clients.list")["clients"]
        self.assertEqual([c["agent"] for c in clients], agents, "the oldest first")
        self.assertEqual([(c["requests"], c["uploads"]) for c in clients], [(1, 1), (0, 0), (0, 0)])
        self.assertEqual((clients[0]["uid"], clients[0]["gid"], clients[0]["pid"]), (os.getuid(), os.getgid(), os.getpid()))
        self.assertRegex(clients[1]["peer"], r"^tcp:127\.0\.0\.1")
        self.assertGreater(clients[2]["bytes_out"], 50)
        one = d.admin("clients.list", limit=2)
        two = d.admin("clients.list", limit=2, cursor=one["cursor"])
        self.assertEqual([c["agent"] for c in one["clients"] + two["clients"]], agents)
        self.assertIsNone(two["cursor"])

    SAMPLE = re.compile(r'^([a-z_]+)(\{[a-z]+="[^"\\]*"(?:,[a-z]+="[^"\\]*")*\})? (-?\d+(?:\.\d+)?)$')

    def families(self, text):
        """A strict reader of what we use of OpenMetrics: {family: (type, {sample: value})}."""
        lines = text.split("\n")
        self.assertEqual(lines[-2:], ["# EOF", ""])
        families, name = {}, None
        for line in lines[:-2]:
            if line.startswith("# TYPE "):
                name, kind = line[7:].split(" ")
                self.assertNotIn(name, families, "families are not taken up again")
                families[name] = (kind, {})
            elif line.startswith("# HELP "):
                self.assertEqual(line.split(" ")[2], name)
            else:
                sample, labels, value = self.SAMPLE.match(line).groups()
                suffixes = {"counter": ["_total"], "gauge": [""], "info": ["_info"],
                            "histogram": ["_bucket", "_count", "_sum"]}[families[name][0]]
                self.assertIn(sample, [name + suffix for suffix in suffixes])
                self.assertNotIn(sample + (labels or ""), families[name][1])
                families[name][1][sample + (labels or "")] = float(value)
        return families

    def test_metrics_are_well_formed(self):
        d = self.daemon()
        self.publish(d)
        answer = d.admin("metrics")
        self.assertIn("openmetrics-text", answer["content_type"])
        families = self.families(answer["text"])
        self.assertGreater(len(families), 40)
        for name, (kind, samples) in families.items():
            self.assertTrue(samples, name)
            if kind == "histogram":
                buckets = [v for s, v in samples.items() if "_bucket" in s]
                self.assertEqual(buckets, sorted(buckets), name)
                self.assertEqual(buckets[-1], samples[name + "_count"])
        limits = {"connections": "connections_limit", "uploads_in_flight": "uploads_limit", "spool_bytes": "spool_limit_bytes",
                  "request_memory_bytes": "request_memory_limit_bytes", "store_file_bytes": "store_map_limit_bytes",
                  "store_readers": "store_readers_limit", "admin_connections": "admin_connections_limit"}
        for figure, limit in limits.items():
            self.assertLessEqual(families["capstore_" + figure][1]["capstore_" + figure],
                                 families["capstore_" + limit][1]["capstore_" + limit])

    @unittest.skipUnless(shutil.which("promtool"), "promtool (package prometheus) is not installed")
    def test_promtool_finds_nothing(self):
        d = self.daemon()
        self.publish(d)
        text = d.admin("metrics", format="prometheus")["text"]
        result = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True,
                                timeout=60, check=False)
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "", ""))

    def test_metrics_move(self):
        d = self.daemon("--max-connections", "3", "--max-peer-connections", "3")
        before = d.figures()
        hashes = self.publish(d)
        c = self.connect(d)
        outer = bytes.fromhex(hashes["outer"])
        c.has([outer])
        c.stat(outer)
        c.get(outer)
        c.put_data(content("metrics", 100 * PAGE))
        c.put_data(content("metrics", 100 * PAGE))
        self.assertRefuses("ssz", c.put_image, b"\xff" * 60)
        open_upload = c.request("PUT_DATA", flags=0, size=0, total_len=5000)
        c.send_frame("BODY", open_upload, b"x")
        wait_until(lambda: d.figures()["capstore_spool_bytes"] == 5000, "the upload to begin")
        during = d.figures()
        self.assertEqual([during["capstore_" + name] for name in ("connections", "requests_in_flight", "uploads_in_flight")],
                         [1, 1, 1])
        c.cancel(open_upload)
        self.assertRefuses("cancelled", c.wait, open_upload, "PUT_DATA_REPLY")
        others = [self.connect(d) for _ in range(2)]
        with d.connect(hello=False) as extra:
            self.assertEnds(extra, "too_many_connections")
        self.assertRaises(AdminError, d.admin, "nope")
        after = d.figures()
        for name, step in (("uploads", 6), ("admissions", 4), ("caps_published", 5), ("caps_present", 1), ("refusals", 3),
                           ("connections_refused", 1), ("admin_failures", 1)):
            name = f"capstore_{name}_total"
            self.assertEqual(after[name] - before[name], step, name)
        for name in ("connections_accepted", "received_bytes", "sent_bytes", "served_body_bytes", "upload_bytes",
                     "hash_jobs", "commits", "admin_calls"):
            self.assertGreater(after[f"capstore_{name}_total"], before[f"capstore_{name}_total"], name)
        wait_until(lambda: d.figures()["capstore_log_lines_total"] > before["capstore_log_lines_total"], "lines to count")
        for kind in ("hello", "has", "get", "stat", "put_data", "put_image", "cancel"):
            name = f'capstore_requests_total{{type="{kind}"}}'
            self.assertGreater(after[name], before[name], name)
        for reason in ("ssz", "cancelled", "too_many_connections"):
            self.assertEqual(after[f'capstore_errors_total{{reason="{reason}"}}'], 1)
        for name in ("lookup", "fetch", "upload", "hash", "commit"):
            self.assertGreater(after[f"capstore_{name}_seconds_count"], 0, name)
        for gauge in ('caps{kind="image"}', 'caps{kind="data"}', 'body_bytes{kind="data"}', "refs", "store_file_bytes"):
            self.assertGreater(after["capstore_" + gauge], before["capstore_" + gauge], gauge)
        for other in others:
            other.close()
        never_back = {name for name in before if name.split("{")[0].endswith(("_total", "_count", "_sum", "_bucket"))}
        self.assertEqual([name for name in never_back if d.figures()[name] < before[name]], [])


@unittest.skipUnless(os.getuid() == 0 and shutil.which("setpriv") and shutil.which("socat"), "needs root")
class Levels(AdminTest):
    """Who may do what is the kernel's word."""

    def as_nobody(self, d, group, method, **params):
        self.root.chmod(0o755)
        d.root.chmod(0o755)
        d.admin_path.chmod(0o666)
        line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}) + "\n"
        result = subprocess.run(
            ["setpriv", "--reuid=65534", f"--regid={group}", "--clear-groups", "socat", "-t", "30", "-",
             f"UNIX-CONNECT:{d.admin_path}"], input=line, text=True, capture_output=True, timeout=60, check=True)
        answer = json.loads(result.stdout)
        return answer.get("result") or answer["error"]["data"]["reason"]

    def test_nobody_observes(self):
        d = self.daemon()
        hello = self.as_nobody(d, 65534, "hello")
        self.assertEqual((hello["level"], hello["uid"], hello["gid"]), ("observe", 65534, 65534))
        self.assertEqual(self.as_nobody(d, 65534, "status")["phase"], "running")
        for method, params in (("log.set", {"level": "debug"}), ("drain", {}), ("shutdown", {})):
            self.assertEqual(self.as_nobody(d, 65534, method, **params), "forbidden")
        self.assertEqual(d.admin("status")["phase"], "running")
        self.assertRegex(d.log(), r'admin_audit method=shutdown peer="unix:uid=65534,[^"]*" level=observe outcome=forbidden')

    def test_observers_leave_room(self):
        """Callers that only observe take 12 of the 16 connections at most; one that may do more still gets in."""
        d = self.daemon()
        self.as_nobody(d, 65534, "hello")  # opens the way for that user
        wait_until(lambda: d.figures()["capstore_admin_connections"] == 1, "that connection to end")
        program = ("import socket, sys\n"
                   "held = [socket.socket(socket.AF_UNIX) for _ in range(16)]\n"
                   "for one in held: one.connect(sys.argv[1])\n"
                   "for one in held:\n"
                   "    try: one.sendall(b'{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hello\"}\\n')\n"
                   "    except BrokenPipeError: pass  # turned away, and told why\n"
                   "print(sum(b'too_many_connections' not in one.recv(65536) for one in held), flush=True)\n"
                   "sys.stdin.read()\n")
        observers = subprocess.Popen(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c",
                                      program, d.admin_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(observers.communicate, timeout=60)
        self.assertEqual(int(observers.stdout.readline()), 12)
        for _ in range(4):
            admin = socket.socket(socket.AF_UNIX)
            self.addCleanup(admin.close)
            admin.settimeout(START_SECONDS)
            admin.connect(str(d.admin_path))
            admin.sendall(b'{"jsonrpc":"2.0","id":1,"method":"hello"}\n')
            self.assertIn(b'"level":"admin"', admin.recv(65536).replace(b": ", b":"))

    def test_members_of_the_group_operate(self):
        group = grp.getgrgid(65534).gr_name
        d = self.daemon("--admin-group", group)
        self.assertEqual(self.as_nobody(d, 65534, "hello")["level"], "operate")
        self.assertEqual(self.as_nobody(d, 65533, "hello")["level"], "observe")
        self.assertEqual(self.as_nobody(d, 65534, "log.set", level="debug")["level"], "debug")
        self.assertEqual(self.as_nobody(d, 65534, "shutdown"), "forbidden")
        self.assertEqual(self.as_nobody(d, 65533, "drain"), "forbidden")
        self.assertEqual(self.as_nobody(d, 65534, "drain")["phase"], "draining")
        self.assertEqual(d.process.wait(START_SECONDS), 0)


if __name__ == "__main__":
    unittest.main()
