#!/usr/bin/env python3
"""The tool among files and systems as they are: links, limits, files of the kernel, marks in texts."""

import json
import os
import pathlib
import pty
import resource
import select
import socket
import subprocess
import time
import unittest

from tool import HELLO, PAGE, TOOL, VECTORS, Tool


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

    def test_a_directory_that_cannot_be_listed(self):
        if os.geteuid() == 0:
            self.skipTest("root lists everything")
        closed = self.root / "closed"
        closed.mkdir()
        closed.chmod(0o300)
        self.pack(closed / "out")
        closed.chmod(0o700)
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
        for character, name in (("\u200b", "U+200B"), ("\ufeff", "U+FEFF"), ("\u00a0", "U+00A0"), ("\u202e", "U+202E")):
            refused = self.json("pack", self.file("m.json", '{"code": %s{}}' % character), "-o", self.root / "d", status=1)
            self.assertIn(name, refused["message"])

    def test_numbers_of_bytes(self):
        path = self.file("f", b"hello")
        for text, size in (("8K", 8 << 10), ("3M", 3 << 20), ("2G", 2 << 30), ("1T", 1 << 40), ("4095", PAGE), ("0x1001", 2 * PAGE)):
            self.assertEqual(self.json("hash", path, "--size", text)["size"], size, text)
        for text in ("K", "8k", "8KB", "8KiB", "0x8K", "1.5M", "8 K", "-1K", "17179869184G", "99999999999999999999999999999999T"):
            self.assertEqual(self.json("hash", path, "--size", text, status=2)["error"], "usage", text)


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
                self.assertIn(b"did not answer in time", seen)


if __name__ == "__main__":
    unittest.main()
