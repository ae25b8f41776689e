#!/usr/bin/env python3
"""The tool without a daemon: usage, check, hash, pack, show.

The tool under test is CAPSTORE_TOOL, the vectors are in CAPSTORE_VECTORS.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import unittest

TOOL = os.environ["CAPSTORE_TOOL"]
VECTORS = pathlib.Path(os.environ["CAPSTORE_VECTORS"])
SOURCE = pathlib.Path(__file__).resolve().parents[3]
PAGE = 4096
CODE_BASE, DATA_BASE = 0x00400000, 0x10000000
HELLO = "ef702648114023b1184b449027cb07fada47158889362b611db19b0b2c0c7688"
MAX_CODE = DATA_BASE - CODE_BASE


class Tool(unittest.TestCase):
    def setUp(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="capctl-"))
        self.addCleanup(shutil.rmtree, self.root)

    def run_tool(self, *arguments, stdin=None, env=None):
        environment = {key: value for key, value in os.environ.items()
                       if not key.startswith("CAPSTORE_S") and key != "CAPSTORE_ADMIN"}
        done = subprocess.run([TOOL, *map(str, arguments)], input=stdin, capture_output=True, timeout=120,
                              stdin=None if stdin is not None else subprocess.DEVNULL,
                              env={**environment, **(env or {})}, check=False)
        self.assertNotIn(b"Sanitizer", done.stderr, done.stderr.decode(errors="replace")[:4000])
        self.assertIn(done.returncode, (0, 1, 2, 3), done.stderr)
        return done

    def json(self, *arguments, status=0, **options):
        """The one object that --json prints."""
        done = self.run_tool("--json", *arguments, **options)
        self.assertEqual(done.returncode, status, f"{arguments}: {done.stdout} {done.stderr}")
        self.assertEqual(done.stdout.count(b"\n"), 1, done.stdout)
        return json.loads(done.stdout)

    def file(self, name, content):
        path = self.root / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path


def receive(peer, count):
    data = b""
    while len(data) < count:
        piece = peer.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


class Daemon:
    """Something that says hello and answers HAS with "an Image"; `stray` is what it got beside requests."""

    def __init__(self, path):
        self.address, self.stray = f"unix:{path}", b""
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(8)
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()

    def run(self):
        while True:
            try:
                peer = self.listener.accept()[0]
            except OSError:
                return
            with peer:
                try:
                    while self.answer(peer):
                        pass
                except (EOFError, ConnectionError):
                    pass

    def answer(self, peer):
        header = receive(peer, 12)
        length, ident, kind = struct.unpack("<IIB3x", header)
        if kind not in (1, 2):
            self.stray += header
            return False
        payload = receive(peer, length)
        if kind == 1:
            reply = struct.pack("<H16sIIIQQQIII", 1, bytes(16), 1 << 18, 64, 4096, 1 << 30, 1 << 24, 1 << 30, 0, 0, 66)
        else:
            reply = struct.pack("<I", 4) + b"\x01" * ((len(payload) - 4) // 32)
        peer.sendall(struct.pack("<IIBBH", len(reply), ident, kind | 0x80, 0, 0) + reply)
        return True


class Usage(Tool):
    def test_help_and_version(self):
        for words in (["--help"], ["help"], ["-h"], ["pack", "--help"], ["--version"], ["version"]):
            done = self.run_tool(*words)
            self.assertEqual(done.returncode, 0, words)
            self.assertTrue(done.stdout)
            self.assertEqual(done.stderr, b"")
        listed = self.run_tool("help").stdout.decode()
        for command in ("check", "hash", "pack", "put", "publish", "get", "has", "show", "closure", "admin", "status"):
            self.assertIn(f"\n  {command} ", listed)
            self.assertIn(command, self.run_tool(command, "--help").stdout.decode())

    def test_a_wide_column_of_help_has_its_own_line(self):
        lines = self.run_tool("help").stdout.decode().splitlines()
        self.assertLessEqual(max(map(len, lines)), 100)
        self.assertIn("  roots    [list | set NAME HASH | remove NAME]", lines)

    def test_sha256_by_name(self):
        one = self.file("one", b"one")
        said = {self.run_tool("hash", one, env={"CAPSTORE_SHA256": name}).stdout for name in ("", "sodium")}
        self.assertEqual(len(said), 1)
        done = self.run_tool("--version", env={"CAPSTORE_SHA256": "sodium"})
        self.assertRegex(done.stdout.decode(), r"^capctl [0-9.]+\nsha256: sodium\n$")
        done = self.run_tool("--version", "--json")
        self.assertIn("sha256", json.loads(done.stdout))
        done = self.run_tool("--version", env={"CAPSTORE_SHA256": "rot13"})
        self.assertEqual((done.returncode, done.stdout), (2, b""))
        self.assertIn(b"CAPSTORE_SHA256: rot13 is not a name", done.stderr)

    def test_wrong_usage(self):
        for words in ([], ["frobnicate"], ["check"], ["check", "a", "b"], ["--nonsense"], ["check", "--size", "1", "x"],
                      ["hash", "x", "--size", "12z"], ["hash", "x", "--size"], ["hash", "x", "--size", "0x"],
                      ["hash", "x", "--size", "18446744073709551616"], ["put", "x", "--size", str(2**64 - PAGE + 1)], ["get", "12"], ["get", HELLO[:-1] + "g"],
                      ["has", HELLO, "xyz"], ["closure", "?"], ["pack", "-o", "x"], ["pack", "m.json"],
                      ["pack", "m.json", "--elf", "p", "-o", "x"], ["pack", "m.json", "-o", "x", "--stack", "1"],
                      ["publish", "x", "--dry-run=yes"], ["-s", "nonsense", "has", HELLO], ["-s"],
                      ["--timeout", "0", "status"], ["--admin", "tcp:h:1", "status"], ["admin", "help", "novalue"],
                      ["put", __file__, "--canonical", "--size", "1"]):
            done = self.run_tool(*words)
            self.assertEqual(done.returncode, 2, f"{words} {done.stderr}")
            self.assertEqual(done.stdout, b"")
            self.assertTrue(done.stderr.startswith(b"capctl: ") or b"usage:" in done.stderr)
            self.assertEqual(self.json(*words, status=2)["error"], "usage", words)

    def test_what_could_not_be_done(self):
        nowhere = f"unix:{self.root}/nobody"
        for words, error in ((["check", self.root / "absent"], "io"), (["check", self.root], "io"),
                             (["-s", nowhere, "has", HELLO], "connect"), (["--admin", nowhere, "status"], "connect")):
            self.assertEqual(self.json(*words, status=3)["error"], error)
        self.assertEqual(self.run_tool("has", HELLO, env={"CAPSTORE_SOCKET": nowhere}).returncode, 3)

    def test_options_stand_anywhere(self):
        path = self.file("f", b"hello")
        for words in (["hash", path, "--size", "0x2000"], ["hash", "--size=8192", path], ["hash", "--size", "8192", "--", path]):
            self.assertEqual(self.json(*words)["size"], 8192)
        self.assertEqual(json.loads(self.run_tool("hash", path, "--json").stdout)["size"], PAGE)


class Operator(threading.Thread):
    """The admin side: describes one method with two params, and gives back what it was called with."""

    SCHEMA = {"methods": {"take": {"params": {"properties": {
        "text": {"type": "string"}, "number": {"type": "integer"}, "flag": {"type": "boolean"}}}}}}

    def __init__(self, path, greeting=False):
        super().__init__()
        self.address, self.greeting = f"unix:{path}", greeting
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(8)

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.join()
        self.listener.close()

    def run(self):
        while True:
            try:
                peer = self.listener.accept()[0]
            except OSError:
                return
            with peer, peer.makefile("rw") as lines:
                if self.greeting:  # as to something that is not a line
                    lines.write('{"jsonrpc": "2.0", "id": null, "error": {"code": -32700, "message": "not a line"}}\n')
                    lines.flush()
                    continue
                for line in lines:
                    call = json.loads(line)
                    known = call["params"].get("method") == "take" if call["method"] == "schema" else True
                    answer = {"result": self.SCHEMA if call["method"] == "schema" else call} if known else {
                        "error": {"code": -32601, "message": "none of that name", "data": {"reason": "unknown_method"}}}
                    lines.write(json.dumps({"jsonrpc": "2.0", "id": call["id"], **answer}) + "\n")
                    lines.flush()


class Admin(Tool):
    def setUp(self):
        super().setUp()
        self.operator = Operator(self.root / "admin")
        self.operator.start()
        self.addCleanup(self.operator.stop)

    def admin(self, *words, status=0):
        return self.json("--admin", self.operator.address, "admin", *words, status=status)

    def test_values_have_the_type_of_their_param(self):
        for words, params in ((["text=12"], {"text": "12"}), (["text=true"], {"text": "true"}), (["text="], {"text": ""}),
                              (['text="12"'], {"text": '"12"'}), (["text=a=b"], {"text": "a=b"}),
                              (["number=12", "text=null"], {"number": 12, "text": "null"}),
                              (["number=0x10"], {"number": 16}), (["number=-3"], {"number": -3}),
                              (["number=007"], {"number": 7}), (["flag=true"], {"flag": True}),
                              (["other=5"], {"other": "5"}), ([], {})):
            self.assertEqual(self.admin("take", *words)["params"], params, words)
        self.assertEqual(self.admin("elsewhere", "number=12")["params"], {"number": "12"})

    def test_what_is_no_admin_socket(self):
        with Daemon(self.root / "sock") as daemon:
            refused = self.json("--admin", daemon.address, "--timeout", "1", "status", status=3)
        self.assertIn(refused["error"], ("timed_out", "connection_lost", "bad_reply"))
        self.assertIn(daemon.address, refused["message"])

    def test_what_cannot_be_a_value(self):
        for word in ("number=", "number=x", "number=1.5", "number=9223372036854775808", "flag=yes"):
            refused = self.admin("take", word, status=2)
            self.assertEqual(refused["error"], "usage")
            self.assertIn(word, refused["message"])
        self.assertEqual(self.admin("take", "number=1", "number=2", status=2)["error"], "usage")


class Streams(Tool):
    """Standard streams that are closed or full."""

    def shell(self, words, *arguments):
        return subprocess.run(["sh", "-c", f'exec "$@" {words}', "sh", TOOL, *map(str, arguments)], capture_output=True,
                              timeout=60, check=False)

    def test_closed_input(self):
        done = self.shell("<&-", "hash", "-")
        self.assertEqual((done.returncode, done.stdout), (3, b""))
        self.assertIn(b"standard input", done.stderr)

    def test_closed_output(self):
        """The result is not written into whatever was opened first: here the connection."""
        with Daemon(self.root / "sock") as daemon:
            for options in ([], ["--json"]):
                self.assertEqual(self.shell("", "-s", daemon.address, *options, "has", HELLO).returncode, 0)
                done = self.shell(">&-", "-s", daemon.address, *options, "has", HELLO)
                self.assertEqual((done.returncode, done.stderr), (3, b"capctl: cannot write the result\n"))
            self.assertEqual(daemon.stray, b"")

    def test_full_output(self):
        path = self.file("f", b"hello")
        for words in (["hash", path], ["--json", "hash", path], ["--help"], ["--version"], ["pack", "--help"]):
            done = self.shell(">/dev/full", *words)
            self.assertEqual(done.returncode, 3, words)
            self.assertEqual(done.stderr, b"capctl: cannot write the result\n", words)


class Completion(Tool):
    def setUp(self):
        super().setUp()
        listed = self.run_tool("--help").stdout.decode().split("\ncommands:\n")[1].split("\n\n")[0]
        self.commands = re.findall(r"^  ([a-z]+)\b", listed, re.M)
        self.assertIn("publish", self.commands)

    def complete(self, line):
        """What bash offers at the end of a line; readline's part in it is the division at COMP_WORDBREAKS."""
        script = 'source "$1"; COMP_LINE=$2 COMP_POINT=${#2}; compopt() { :; }; _capctl; printf "%s\\n" "${COMPREPLY[@]}"'
        done = subprocess.run(["bash", "-c", script, "bash", SOURCE / "client/completions/capctl.bash", line],
                              capture_output=True, text=True, timeout=60, check=True, cwd=self.root)
        self.assertEqual(done.stderr, "")
        return set(done.stdout.split())

    def options(self, *words):
        return set(re.findall(r"(?<![\w-])(--?[a-zA-Z][\w-]*)\b", self.run_tool(*words, "--help").stdout.decode()))

    def test_bash_knows_every_command_and_option(self):
        self.assertEqual(self.complete("capctl "), {*self.commands, "help", "version", *self.options()})
        for command in self.commands:
            self.assertEqual(self.complete(f"capctl {command} -"), self.options(command) | self.options(), command)

    def test_bash_sees_words_as_the_shell_does(self):
        self.file("some.image", b"")
        for front in ("", "-s unix:/run/x ", "--socket=tcp:[::1]:80 --json ", "--timeout=5 --admin unix:/x "):
            self.assertEqual(self.complete(f"capctl {front}publ"), {"publish"}, front)
            self.assertEqual(self.complete(f"capctl {front}publish so"), {"some.image"}, front)
            self.assertEqual(self.complete(f"capctl {front}publish --dr"), {"--dry-run"}, front)
        self.assertEqual(self.complete("capctl -s unix:so"), {"some.image"})
        self.assertEqual(self.complete("capctl --socket=unix:so"), {"some.image"})
        self.assertEqual(self.complete("capctl get --output=so"), {"some.image"})
        self.assertEqual(self.complete("capctl -s "), {"unix:", "tcp:"})
        self.assertEqual(self.complete("capctl admin cap.l"), {"cap.list"})
        self.assertEqual(self.complete("capctl help pu"), {"put", "publish"})

    def test_zsh_knows_every_command_and_option(self):
        text = (SOURCE / "client/completions/_capctl").read_text()
        for command in self.commands:
            self.assertIn(f"'{command}:", text)
            own = re.search(rf"^        (?:\w+\|)*{command}(?:\|\w+)*\) (.*?);;$", text, re.M | re.S)
            known = set(re.findall(r"""(?<=['"{,])--?[a-zA-Z][\w-]*""", own.group(1))) if own else set()
            self.assertEqual(known, self.options(command) - self.options(), command)
        for option in self.options():
            self.assertRegex(text, rf"{option}\b", option)

    def test_the_manual_knows_every_command_and_option(self):
        text = (SOURCE / "client/capctl.1").read_text().split("\n.Sh COMMANDS\n")[1].split("\n.Sh ")[0]
        items = re.findall(r"^\.(?:It|It Xo\n\.)\s?Ic ([a-z]+)\b(.*?)(?=^\.It |\Z)", text, re.M | re.S)
        self.assertEqual({name for name, _ in items}, set(self.commands))
        for command in self.commands:
            said = " ".join(body for name, body in items if name == command)
            for line in self.run_tool(command, "--help").stdout.decode().splitlines():
                forms = re.findall(r"(?<![\w-])-(-?[a-zA-Z][\w-]*)", line) if line.startswith("  ") else []
                told = [form for form in forms if re.search(rf"\bFl {re.escape(form)}(?![\w-])", said)]
                self.assertTrue(told or not forms, f"{command}: {line}")

    def test_both_know_every_admin_method(self):
        methods = set(re.findall(r"^### `([a-z.]+)`$", (SOURCE / "daemon/admin/ADMIN.md").read_text(), re.M))
        self.assertIn("status", methods)
        self.assertEqual(self.complete("capctl admin "), methods)
        zsh = re.search(r"methods=\(([^)]*)\)", (SOURCE / "client/completions/_capctl").read_text())
        self.assertEqual(set(zsh.group(1).split()), methods)

    def test_zsh_accepts_the_file(self):
        subprocess.run(["zsh", "-n", SOURCE / "client/completions/_capctl"], check=True, timeout=60)


class CheckAndHash(Tool):
    def test_vectors(self):
        index = json.loads((VECTORS / "index.json").read_text())
        for vector in index["valid"]:
            checked = self.json("check", VECTORS / vector["file"])
            for member in ("image_content_hash", "cap_hash", "body_len", "images"):
                self.assertEqual(checked[member], vector[member], vector["name"])
            wanted = [{key: value for key, value in data.items() if key != "body_sha256"} for data in vector["data"]]
            self.assertEqual(checked["data"], wanted, vector["name"])
            self.assertEqual(checked["verdict"], "accepted")
        for vector in index["invalid"]:
            refused = self.json("check", VECTORS / vector["file"], status=1)
            self.assertEqual((refused["verdict"], refused["error"]), ("refused", vector["error"]), vector["name"])
            self.assertTrue(refused["message"])

    def test_a_served_body_is_pointed_out(self):
        body = self.file("body", bytes.fromhex("02" "0010000000000000" "10000000" "10000000"))
        done = self.run_tool("--json", "check", body)
        self.assertEqual((done.returncode, json.loads(done.stdout)["error"]), (1, "ssz"))
        self.assertIn(b"served body (kind: data)", done.stderr)
        self.assertNotIn(b"served body", self.run_tool("check", self.file("other", b"\2 is not a body")).stderr)

    def test_hash(self):
        path = self.file("f", b"hello")
        self.assertEqual(self.json("hash", path), {"cap_hash": HELLO, "size": PAGE, "body_len": 34})
        self.assertEqual(self.json("hash", "-", stdin=b"hello"), {"cap_hash": HELLO, "size": PAGE, "body_len": 34})
        self.assertEqual(self.json("hash", path, "--size", 2**64 - PAGE)["size"], 2**64 - PAGE)
        self.assertEqual(self.json("hash", self.file("e", b""))["body_len"], 17)

    def test_holes_cost_nothing(self):
        """A file of a TiB with two pages in it, against the same content told in another way."""
        far = 2**39 + 5000
        sparse = self.file("sparse", b"hello")
        with open(sparse, "r+b") as out:
            out.seek(far)
            out.write(b"far")
            out.truncate(2**40)
        manifest = self.file("m.json", json.dumps({"initial": {"00": {"size": 2**40, "content": [
            {"at": 0, "hex": b"hello".hex()}, {"at": far, "hex": b"far".hex()}]}}}))
        wanted = self.json("pack", manifest, "-o", self.root / "out")["data"][0]
        hashed = self.json("hash", sparse)
        self.assertEqual(hashed, {name: wanted[name] for name in ("cap_hash", "size", "body_len")})
        hole = self.file("hole", b"")
        os.truncate(hole, 2**40)
        self.assertEqual(self.json("hash", hole), self.json("hash", self.file("none", b""), "--size", 2**40))

    def largest(self, extra):
        """A wire Image of nothing but code, MAX_CODE_SIZE and more; a hole, so it costs no disk."""
        path = self.root / "largest"
        code = MAX_CODE + extra
        offsets = [40, 40, 40, 40, 40, 41, 41, 41]
        head = struct.pack("<II8I", 0, code, *offsets) + b"\x00"
        with open(path, "wb") as out:
            out.write(head)
            out.truncate(len(head) + code)
        return path

    def test_code_at_the_limit(self):
        self.assertEqual(self.json("check", self.largest(1), status=1)["error"], "code_too_large")
        self.assertEqual(self.json("check", self.largest(0))["body_len"] > MAX_CODE, True)

    def test_streams(self):
        typical = (VECTORS / "typical.ssz").read_bytes()
        self.assertEqual(self.json("check", "-", stdin=typical), self.json("check", VECTORS / "typical.ssz"))
        self.assertEqual(self.json("check", "-", stdin=b"", status=1)["error"], "ssz")

    def test_show(self):
        shown = self.json("show", VECTORS / "typical.ssz")
        self.assertEqual(shown["kind"], "wire_image")
        self.assertEqual(shown["endpoints"][0]["entry_pc"], "0x400000")
        self.assertEqual(shown["mappings"][0], {"start": "0x10000000", "size": "0x2000", "source": ["0b"]})
        self.assertEqual(shown["pinned"][0]["slot"], "0b")
        body = b"\x02" + struct.pack("<QIIIII", PAGE, 16, 28, 0, 0, 5) + b"hello"
        shown = self.json("show", self.file("body", body))
        self.assertEqual((shown["kind"], shown["cap_hash"], shown["size"]), ("data", HELLO, PAGE))
        self.assertEqual(shown["pages"], [{"page_index": 0, "address": "0x0", "len": 5}])
        self.assertEqual(self.json("show", self.file("junk", b"\x02junk"), status=1)["error"], "ssz")
        for vector in VECTORS.glob("*.ssz"):
            self.assertIn(self.run_tool("show", vector).returncode, (0, 1), vector)


class Manifest(Tool):
    def pack(self, manifest, status=0, name="m.json"):
        path = self.file(name, manifest if isinstance(manifest, str) else json.dumps(manifest))
        return self.json("pack", path, "-o", self.root / "out", status=status)

    def test_everything(self):
        (self.root / "sub").mkdir()
        self.file("code.bin", b"\x13\x00\x00\x00" * 4)
        self.file("data.bin", bytes(range(256)) * 16)
        image = "0x" + "ab" * 32
        packed = self.pack({
            "code": "code.bin",
            "endpoints": {"00": {"entry_pc": "0x400000", "arg_registers": 2, "arg_cnode_size": 4,
                                 "initial_regs": {"1": "0xffffffffffffffff", "0x0c": 7}}, "": {}},
            "mappings": [{"start": "0x10000000", "size": 8192, "source": ["0b"]},
                         {"start": DATA_BASE + 8192, "size": "4096", "source": ["41", "", "ffff"]}],
            "pinned": {"0b": {"file": "data.bin", "offset": 1, "length": 4000, "size": 5000}, "0C": {"image": image}},
            "initial": {"41": {"size": "0x8000000000000000",
                               "content": [{"at": 10, "hex": "0102"}, {"at": 4096, "file": "data.bin"}]},
                        "42": {}},
            "yield_receiver_slot": "09", "gas_slots": ["03", "03"], "quota_slots": [""],
        })
        self.assertEqual(packed["images"], [{"slot": "0c", "cap_hash": image[2:]}])
        self.assertEqual([(data["table"], data["slot"], data["size"]) for data in packed["data"]],
                         [("pinned", "0b", 8192), ("initial", "41", 2**63), ("initial", "42", PAGE)])
        content = (bytes(range(256)) * 16)[1:4001]
        self.assertEqual(packed["data"][0]["cap_hash"], self.json("hash", self.file("c", content), "--size", 5000)["cap_hash"])
        self.assertEqual(packed, self.json("check", self.root / "out"))
        shown = self.json("show", self.root / "out")
        self.assertEqual(shown["endpoints"][1]["initial_regs"], {"1": "0xffffffffffffffff", "12": "0x7"})
        self.assertEqual(shown["mappings"][1]["source"], ["41", "", "ffff"])
        self.assertEqual((shown["yield_receiver_slot"], shown["gas_slots"], shown["quota_slots"]), ("09", ["03", "03"], [""]))

    def test_the_empty_manifest_is_the_empty_image(self):
        self.assertEqual(self.pack({})["image_content_hash"],
                         "c00d0d19295f469e9dbed009b8dc8411f6579229e30e295de3f90774f3c71296")
        self.assertEqual((self.root / "out").read_bytes(), (VECTORS / "empty.ssz").read_bytes())

    def test_refused(self):
        self.file("small", b"12345")
        cases = ["", "{", "[]", "null", '{"code": 5}', '{"code": {}, "code": {}}', '{"kode": {}}', '{"code": {"path": "x"}}',
                 '{"code": {"hex": "0"}}', '{"code": {"hex": "zz"}}', '{"code": {"hex": "00", "file": "small"}}',
                 '{"code": {"offset": 1}}', '{"code": {"file": "small", "offset": 6}}',
                 '{"code": {"file": "small", "offset": 3, "length": 3}}', '{"code": {"file": 5}}', '{"code": "-"}',
                 '{"endpoints": []}', '{"endpoints": {"xy": {}}}', '{"endpoints": {"00": {"pc": 1}}}',
                 '{"endpoints": {"00": {"entry_pc": -1}}}', '{"endpoints": {"00": {"entry_pc": 1.5}}}',
                 '{"endpoints": {"00": {"entry_pc": "0x10000000000000000"}}}', '{"endpoints": {"00": {"arg_registers": 256}}}',
                 '{"endpoints": {"00": {"initial_regs": [1]}}}', '{"endpoints": {"00": {"initial_regs": {"256": 0}}}}',
                 '{"mappings": {}}', '{"mappings": [5]}', '{"mappings": [{"start": 0, "size": 0}]}',
                 '{"mappings": [{"source": ["0"]}]}', '{"mappings": [{"source": [7]}]}',
                 json.dumps({"mappings": [{"source": ["00"] * 65}]}), '{"pinned": []}', '{"pinned": {"00": 5}}',
                 '{"pinned": {"00": {"image": "12"}}}', '{"pinned": {"00": {"image": "%s", "size": 1}}}' % HELLO,
                 '{"initial": {"00": {"image": "%s"}}}' % HELLO, '{"initial": {"00": {"content": {}}}}',
                 '{"initial": {"00": {"content": [{"at": 4, "hex": "00"}, {"at": 4, "hex": "00"}]}}}',
                 '{"initial": {"00": {"content": [], "hex": "00"}}}', '{"initial": {"00": {"content": [], "offset": 1}}}',
                 '{"initial": {"00": {"content": [], "length": 1}}}', '{"initial": {"00": {"size": "0xfffffffffffff001"}}}', '{"initial": {"00": {"size": true}}}',
                 '{"yield_receiver_slot": 5}', '{"gas_slots": "00"}', '{"quota_slots": [null]}', "\xff", '{"code": "a\\u0000b"}',
                 "[" * 100000]
        for case in cases:
            refused = self.pack(case, status=1)
            self.assertEqual(refused["error"], "invalid_argument", f"{case[:80]} {refused}")
            self.assertFalse((self.root / "out").exists())

    def test_a_nul_byte_is_named_with_its_place(self):
        for text, place in (("{ \0}", "1:3"), ('{"a":\n "b\0c"}', "2:4"), ('{"\u00e9": \0 1}', "1:7"), ('{}\n\0', "2:1"),
                            ('\ufeff{\0"\0c\0o', "1:2")):
            message = self.pack(text, status=1)["message"]
            self.assertIn(f"m.json:{place}: a NUL byte", message, text)
        self.assertIn("m.json:1:1: string or '}' expected near end of file", self.pack("{", status=1)["message"])
        self.assertNotIn("NUL", self.pack('{"code" 1, "\0"}', status=1)["message"])  # the first fault is another

    def test_refused_by_the_deblob(self):
        for manifest, error in (({"endpoints": {"00": {"initial_regs": {"13": 0}}}}, "register_index_out_of_range"),
                                ({"mappings": [{"start": 0, "size": 0, "source": []}]}, "source_path_empty"),
                                ({"mappings": [{"source": ["00"] * 9}]}, "source_path_too_deep"),
                                ({"pinned": {"0a": {}, "0A": {}}}, "ssz"),
                                ({"endpoints": {"00": {"initial_regs": {"1": 0, "0x1": 0}}}}, "ssz")):
            refused = self.pack(manifest, status=1)
            self.assertEqual(refused["error"], error)
            self.assertEqual("0A" in refused["message"], error == "ssz")
            self.assertFalse((self.root / "out").exists())

    def test_missing_file(self):
        self.assertEqual(self.pack({"code": "absent"}, status=3)["error"], "io")

    def test_output(self):
        """Nothing is left beside the result; a link stays a link; the standard output takes the bytes."""
        target = self.file("target", b"old")
        (self.root / "link").symlink_to(target)
        manifest = self.file("m.json", "{}")
        self.json("pack", manifest, "-o", self.root / "link")
        self.assertTrue((self.root / "link").is_symlink())
        self.assertEqual(target.read_bytes(), (VECTORS / "empty.ssz").read_bytes())
        target.chmod(0o640)
        self.json("pack", manifest, "-o", target)
        self.assertEqual(target.stat().st_mode & 0o777, 0o640)
        self.assertEqual(sorted(path.name for path in self.root.iterdir()), ["link", "m.json", "target"])
        done = self.run_tool("pack", manifest, "-o", "-")
        self.assertEqual((done.returncode, done.stdout), (0, (VECTORS / "empty.ssz").read_bytes()))
        self.assertIn(b"accepted", done.stderr)
        self.assertEqual(self.json("pack", manifest, "-o", "-", status=2)["error"], "usage")
        self.assertEqual(self.json("pack", manifest, "-o", self.root / "no" / "where", status=3)["error"], "io")


class Interrupted(Tool):
    def interrupt(self, number):
        """Packs and sends the signal when a file appears beside the result; how the tool ended."""
        process = subprocess.Popen([TOOL, "pack", self.root / "m.json", "-o", self.root / "target"],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not list(self.root.glob(".capctl.*")):
            time.sleep(0.0005)
        process.send_signal(number)
        return process.wait(60)

    def test_a_signal_leaves_nothing(self):
        """After a signal the old file is there, or the new one, and nothing beside it."""
        os.truncate(self.file("code", b""), 16 << 20)
        self.file("m.json", '{"code": "code"}')
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            for attempt in range(50):
                target = self.file("target", b"old")
                status = self.interrupt(number)
                self.assertEqual(sorted(path.name for path in self.root.iterdir()), ["code", "m.json", "target"])
                self.assertIn(status, (-number, 0))
                whole = target.stat().st_size > 16 << 20  # the signal may come between the rename and the end
                self.assertTrue(whole or status != 0 and target.read_bytes() == b"old")
                if status != 0:
                    break
            else:
                self.fail("it was always done before it could be stopped")


if __name__ == "__main__":
    unittest.main()
