#!/usr/bin/env python3
"""The tool among files and systems as they are: links, limits, files of the kernel, marks in texts."""

import json
import os
import pathlib
import pty
import resource
import select
import shutil
import socket
import subprocess
import time
import unittest
from unittest import mock

from tool import HELLO, PAGE, TOOL, VECTORS, Daemon, Operator, Tool


class Output(Tool):
    """Where results go."""

    EMPTY = (VECTORS / "empty.ssz").read_bytes()

    def pack(self, target, status=0, **options):
        return self.json("pack", self.file("m.json", "{}"), "-o", target, status=status, **options)

    def left(self):
        return sorted(path.name for path in self.root.iterdir())

    def test_names_of_every_length(self):
        longest = os.pathconf(self.root, "PC_NAME_MAX")
        for length in (1, 200, 248, 249, longest):
            target = self.root / ("a" * length)
            self.pack(target)
            self.assertEqual(target.read_bytes(), self.EMPTY)
            target.unlink()
        self.assertEqual(self.pack(self.root / ("a" * (longest + 1)), status=3)["error"], "io")
        self.assertEqual(self.left(), ["m.json"])

    def test_links_are_followed(self):
        """Also those that lead nowhere yet, relative and absolute, one after the other, from elsewhere."""
        (self.root / "sub").mkdir()
        target = self.root / "sub" / "target"
        (self.root / "sub" / "relative").symlink_to("target")
        (self.root / "absolute").symlink_to(self.root / "sub" / "relative")
        (self.root / "link").symlink_to("absolute")
        for content in (None, b"old"):
            if content is not None:
                target.write_bytes(content)
            self.pack(self.root / "link")
            self.assertEqual(target.read_bytes(), self.EMPTY)
        for name in ("link", "absolute", "sub/relative"):
            self.assertTrue((self.root / name).is_symlink())
        self.assertEqual(sorted(path.name for path in target.parent.iterdir()), ["relative", "target"])

        (self.root / "round").symlink_to("about")
        (self.root / "about").symlink_to("round")
        (self.root / "lost").symlink_to(self.root / "no" / "where")
        for name in ("round", "lost"):
            self.assertEqual(self.pack(self.root / name, status=3)["error"], "io")
            self.assertTrue((self.root / name).is_symlink())

    def test_a_limit_of_file_size(self):
        """The write fails, as on a full disk; the tool goes on to say so, and cleans up."""
        os.truncate(self.file("code", b""), 1 << 20)
        self.file("m.json", '{"code": "code"}')
        before = self.left()
        for words in (["pack", self.root / "m.json", "-o", self.root / "out"],):
            done = subprocess.run([TOOL, "--json", *words], capture_output=True, check=False, timeout=60,
                                  preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20480, 20480)))
            self.assertEqual((done.returncode, json.loads(done.stdout)["error"]), (3, "disk_full"), done.stderr)
            self.assertIn(b"File too large", done.stderr)
            self.assertEqual(self.left(), before)
        done = subprocess.run([TOOL, "--json", "hash", "-"], input=bytes(1 << 20), capture_output=True, check=False,
                              timeout=60, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20480, 20480)))
        self.assertEqual((done.returncode, json.loads(done.stdout)["error"]), (3, "disk_full"), done.stderr)

    def trace(self, *options):
        """Packs under strace; the result, and the names of the calls that matter."""
        log = self.root.parent / f"{self.root.name}.log"
        self.addCleanup(lambda: log.unlink(missing_ok=True))
        manifest = self.file("m.json", "{}")
        # The leak sanitizer does not work in a traced process.
        done = subprocess.run(["strace", "-f", "-qq", "-o", log, "-e", "trace=fsync,renameat,renameat2", *options, TOOL,
                               "--json", "pack", manifest, "-o", self.root / "out"], capture_output=True, check=False, timeout=60,
                              env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})
        return done, [line.split("(")[0].split()[-1] for line in log.read_text().splitlines() if "(" in line]

    @unittest.skipUnless(shutil.which("strace"), "strace is missing")
    def test_a_result_outlasts_a_power_cut(self):
        """Its bytes are synced before its name, and its name after that; where a file system can."""
        done, calls = self.trace()
        if not calls:
            self.skipTest("this system does not let strace trace")
        self.assertEqual((done.returncode, [call[:6] for call in calls]), (0, ["fsync", "rename", "fsync"]))
        for error in ("EINVAL", "EOPNOTSUPP"):
            done, _ = self.trace("-e", f"inject=fsync:error={error}")
            self.assertEqual(done.returncode, 0, done.stderr)
        (self.root / "out").unlink()
        done, _ = self.trace("-e", "inject=fsync:error=ENOSPC:when=1")
        self.assertEqual((done.returncode, json.loads(done.stdout)["error"]), (3, "disk_full"))
        self.assertEqual(self.left(), ["m.json"])

    def test_a_directory_that_cannot_be_listed(self):
        """It may be written to all the same; root, who lists everything, tries as somebody else."""
        closed = self.root / "closed"
        closed.mkdir()
        manifest = self.file("m.json", "{}")
        user = {}
        if os.geteuid() == 0:
            self.root.chmod(0o711)
            os.chown(closed, 65534, 65534)
            user = {"user": 65534, "group": 65534, "extra_groups": []}
        closed.chmod(0o300)
        done = subprocess.run([TOOL, "--json", "pack", manifest, "-o", closed / "out"], capture_output=True, check=False,
                              timeout=60, **user)
        closed.chmod(0o700)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual((closed / "out").read_bytes(), self.EMPTY)


class Input(Tool):
    """Where bytes come from."""

    def test_a_size_is_not_believed(self):
        """The kernel makes these when they are read: their size is 0, or a page."""
        found = 0
        for name in ("/proc/version", "/proc/self/limits", "/proc/cpuinfo", "/sys/kernel/mm/transparent_hugepage/enabled"):
            path = pathlib.Path(name)
            if not path.is_file():
                continue
            content = path.read_bytes()
            if len(content) == path.stat().st_size or content != path.read_bytes():
                continue
            if name != "/proc/self/limits":
                found += 1
                self.assertEqual(self.json("hash", name), self.json("hash", "-", stdin=content), name)
        self.assertGreater(found, 0)

    def test_a_manifest_with_a_mark_in_front(self):
        plain = self.json("pack", self.file("m.json", '{"gas_slots": ["07"]}'), "-o", self.root / "a")
        marked = self.json("pack", self.file("m.json", b"\xef\xbb\xbf" b'{"gas_slots": ["07"]}'), "-o", self.root / "b")
        self.assertEqual(plain, marked)
        for encoding in ("utf-16", "utf-16-be", "utf-32"):
            text = ("\ufeff" if encoding.endswith("be") else "") + "{}"
            refused = self.json("pack", self.file("m.json", text.encode(encoding)), "-o", self.root / "c", status=1)
            if encoding != "utf-16-be":
                self.assertIn("UTF-8", refused["message"])
        for character, name in (("\u200b", "U+200B"), ("\ufeff", "U+FEFF"), ("\u00a0", "U+00A0"), ("\u202e", "U+202E"),
                                ("\ufff9", "U+FFF9"), ("\ufe0f", "U+FE0F"), ("\U000e0041", "U+E0041"), ("\x0c", "U+000C"), ("\x7f", "U+007F")):
            refused = self.json("pack", self.file("m.json", '{"code": %s{}}' % character), "-o", self.root / "d", status=1)
            self.assertIn(name, refused["message"])

    def test_a_folder_for_temporary_files_that_is_not_there(self):
        with mock.patch.dict(os.environ, TMPDIR="/no/such"):
            refused = self.json("hash", "-", stdin=b"x", status=3)
        self.assertIn("/no/such (TMPDIR): No such file", refused["message"])

    def test_numbers_of_bytes(self):
        path = self.file("f", b"hello")
        for text, size in (("8K", 8 << 10), ("16k", 16 << 10), ("3M", 3 << 20), ("2G", 2 << 30), ("1T", 1 << 40), ("4095", PAGE), ("0x1001", 2 * PAGE)):
            self.assertEqual(self.json("hash", path, "--size", text)["size"], size, text)
        for text in ("K", "8KB", "8KiB", "0x8K", "1.5M", "8 K", "-1K", "17179869184G", "99999999999999999999999999999999T"):
            self.assertEqual(self.json("hash", path, "--size", text, status=2)["error"], "usage", text)


class Mistaken(Tool):
    """One thing where another is expected: the message says what it is, and where it belongs."""

    ELF = b"\x7fELF\x02\x01\x01" + bytes(57)
    DATA = bytes.fromhex("02" "0010000000000000" "10000000" "10000000")

    def test_files(self):
        typical = (VECTORS / "typical.ssz").read_bytes()
        cut = typical[:8] + b"\x29" + typical[9:]
        for content, words in ((b"", "file is empty"), (self.ELF, "capctl pack --elf"), (b'{"code": "x"}', "JSON manifest; use capctl pack"),
                               (b"\xef\xbb\xbf \r\n{\n}", "JSON manifest; use capctl pack"), (self.DATA, "served body (kind: data)"),
                               (b"short", "not a wire Image (5 bytes; a wire Image has at least 40); capctl pack makes one"),
                               (b"root:x:0:0:root:/root:/bin/bash\n" * 9, "not a wire Image (offset of endpoints is"),
                               (cut, "offset of endpoints is 41, expected 40"),
                               (typical[:12] + bytes(4) + typical[16:], "offset of memory_mappings is 0, below that of endpoints (40)"),
                               (typical[:36] + b"\xff\xff\xff\x7f" + typical[40:], "offset of arena is 2147483647, past the end")):
            path = self.file("f", content)
            refused = self.json("check", path, status=1)
            self.assertEqual((refused["verdict"], refused["error"]), ("refused", "ssz"))
            self.assertIn(words, refused["message"])
            if "offset" not in words and "short" not in str(content) and "served" not in words:
                self.assertIn(words, self.json("show", path, status=1)["message"])
            self.assertIn(words.encode(), self.run_tool("check", path).stdout)

    def test_commands(self):
        for word, meant in (("publsh", "publish"), ("putt", "put"), ("gt", "get"), ("statsu", "status"), ("Show", "show")):
            self.assertEqual(self.json(word, status=2)["message"], f"unknown command {word}; did you mean {meant}? try capctl --help")
        for word in ("", "x", "ls", "cat", "install", "p" * 500):
            self.assertEqual(self.json(word, status=2)["message"], f"unknown command {word}; try capctl --help")

    def test_what_is_no_manifest(self):
        for content, words in ((b"", "the file is empty"), (self.ELF, "capctl pack --elf"), (self.DATA, "served body (kind: data)"),
                               ((VECTORS / "typical.ssz").read_bytes(), "this is a wire Image"), (b"x", "'[' or '{' expected")):
            refused = self.json("pack", self.file("f", content), "-o", self.root / "out", status=1)
            self.assertIn(words, refused["message"])

    def test_manifests_name_the_place(self):
        for manifest, words in (('{"code": 5}', "code: expected an object or the name of a file, got an integer"),
                                ('{"endpoints": {"00": {"entry_pc": "x"}}}', 'endpoints["00"].entry_pc: expected an integer from 0'),
                                ('{"endpoints": {"00": {"initial_regs": {"1": null}}}}', 'endpoints["00"].initial_regs["1"]: expected'),
                                ('{"mappings": [{"source": []}, {"source": ["0g"]}]}', 'mappings[1].source[0]: "0g" is not'),
                                ('{"mappings": [{"source": [], "sise": 1}]}', 'mappings[0]: unknown member "sise"'),
                                ('{"pinned": {"0b": {"image": "12"}}}', 'pinned["0b"].image: not a hash'),
                                ('{"initial": {"41": {"content": [{"at": 1, "hex": "00"}, {"at": -1}]}}}',
                                 'initial["41"].content[1].at: expected an integer'),
                                ('{"kode": {}}', 'unknown member "kode"'), ("[]", "expected an object, got an array")):
            path = self.file("m.json", manifest)
            refused = self.json("pack", path, "-o", self.root / "out", status=1)
            self.assertTrue(refused["message"].startswith(f"{path}: {words}"), refused["message"])

    def test_sockets(self):
        """Each says at once that it is not the other one, also one that only hangs up."""
        operator = Operator(self.root / "admin", greeting=True)
        operator.start()
        self.addCleanup(operator.stop)
        refused = self.json("-s", operator.address, "--timeout", "20", "has", HELLO, status=3)
        self.assertEqual(refused["error"], "bad_reply")
        self.assertIn("admin socket", refused["message"])
        with Daemon(self.root / "sock") as daemon:
            for words, what in ((["--admin", daemon.address, "status"], "admin socket"),):
                refused = self.json("--timeout", "20", *words, status=3)
                self.assertIn(what, refused["message"])

    def test_a_published_image_is_not_sent(self):
        """The fake has everything, and takes nothing."""
        self.file("code", bytes(range(256)) * 2048)
        self.json("pack", self.file("m.json", json.dumps({"code": "code", "pinned": {"01": {"hex": "01"}, "02": {"hex": "01"}}})),
                  "-o", self.root / "image")
        checked = self.json("check", self.root / "image")
        with Daemon(self.root / "sock") as daemon:
            for options in ([], ["--dry-run"], ["--resolve-only"]):
                done = self.json("-s", daemon.address, "publish", self.root / "image", *options)
                self.assertEqual((done["new"], done["data_new"], done["data_present"]), (False, 0, 1))
                self.assertEqual((done["cap_hash"], done["image_content_hash"]), (checked["cap_hash"], checked["image_content_hash"]))
                self.assertEqual(done.get("dry_run", False), options == ["--dry-run"])
                self.assertEqual(daemon.stray, b"")
            self.json("-s", daemon.address, "publish", self.root / "image", "--resend", status=3)
            self.assertNotEqual(daemon.stray, b"")


class Terminal(Tool):
    """What a terminal sees while something takes long."""

    def drawn(self, term):
        """What the tool writes to a terminal of this kind while it waits two seconds for a daemon that is silent."""
        master, slave = pty.openpty()
        environment = {key: value for key, value in os.environ.items() if key != "TERM"}
        if term is not None:
            environment["TERM"] = term
        process = subprocess.Popen([TOOL, "-s", f"unix:{self.root}/s", "--timeout", "2", "has", HELLO], env=environment,
                                   stdout=subprocess.DEVNULL, stderr=slave, stdin=subprocess.DEVNULL)
        os.close(slave)
        seen = b""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if not select.select([master], [], [], 0.2)[0]:
                continue
            try:
                piece = os.read(master, 4096)
            except OSError:  # the other side is closed
                break
            if not piece:
                break
            seen += piece
        os.close(master)
        self.assertEqual(process.wait(60), 3)
        return seen

    def test_escapes_only_where_they_work(self):
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(str(self.root / "s"))
            silent.listen(8)
            self.assertIn(b"\x1b[K", self.drawn("xterm"))
            for term in ("dumb", "", None):
                seen = self.drawn(term)
                self.assertNotIn(b"\x1b", seen)
                self.assertEqual(seen.count(b"\r"), seen.count(b"\r\n"), seen)
                self.assertIn(b"no answer within 2.000 s", seen)


if __name__ == "__main__":
    unittest.main()
