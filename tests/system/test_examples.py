"""The examples do what their first line says, and the README's chapter for runtime authors what it says."""

import os
import pathlib
import re
import signal
import subprocess
import unittest

import wire
from harness import CAPCTL, CAPSTORED, SANITIZED, SystemTest, content

TOP = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = os.environ.get("CAPSTORE_EXAMPLES", "build/client")
SIZES = (100, 5000, 300000)


class Examples(SystemTest):
    def example(self, name, *arguments):
        return subprocess.run([f"{EXAMPLES}/capstore_example_{name}", *arguments], stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=60, check=False)

    def put(self, d):
        return [self.ok(d.capctl("put", self.file(f"of{size}", content(f"example {size}", size))))["cap_hash"]
                for size in SIZES]

    def test_fetch(self):
        d = self.daemon()
        image = self.file("image", wire.simple_image(b"\x13\x00\x00\x00", []))
        done = self.example("fetch", d.address, self.ok(d.capctl("publish", image))["cap_hash"])
        self.assertEqual((done.returncode, done.stdout), (0, b"4 bytes of code for 0x400000\n"))

    def test_many(self):
        d = self.daemon()
        hashes = self.put(d)
        for name, last in (("fetch_many", "3 caps, "), ("fetch_uv", "")):
            done = self.example(name, d.address, *hashes)
            self.assertEqual((done.returncode, done.stderr), (0, b""), name)
            self.assertTrue(done.stdout.decode().splitlines()[-1].startswith(last), done.stdout)
        lengths = sorted(int(line.split()[0]) for line in done.stdout.decode().splitlines())
        self.assertEqual(len(lengths), 3)
        self.assertGreater(lengths[2], SIZES[2])

    def test_failures(self):
        d = self.daemon()
        hashes = self.put(d)
        for name in ("fetch_many", "fetch_uv"):
            done = self.example(name, d.address, hashes[0], "00" * 32)
            self.assertEqual(done.returncode, 1, name)
            self.assertIn(b"not_found", done.stderr, name)
            done = self.example(name, "unix:/nowhere/at/all", hashes[0])
            self.assertEqual(done.returncode, 1, name)
            self.assertIn(b"connect", done.stderr, name)


@unittest.skipIf(SANITIZED, "a program without sanitizers cannot be linked with a library that has them")
class Chapter(SystemTest):
    """What a reader copies from the chapter."""

    def setUp(self):
        super().setUp()
        chapter = (TOP / "README.md").read_text().split("\n## For runtime authors\n")[1].split("\n## ")[0]
        self.blocks = re.findall(r"^```(\w+)\n(.*?)^```$", chapter, re.DOTALL | re.MULTILINE)

    def of(self, language):
        found = [text for name, text in self.blocks if name == language]
        self.assertTrue(found, language)
        return found

    def test_c_compiles(self):
        for text in self.of("c"):
            source = self.file("block.c", b"")
            source.write_text(text if "#include" in text else f"#include <capstore/capstore.h>\n#include <stdio.h>\n{text}")
            done = subprocess.run(["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only",
                                   "-I", TOP / "client/include", source], capture_output=True, check=False, text=True)
            self.assertEqual((done.returncode, done.stderr), (0, ""), text)

    def test_a_program_runs(self):
        """The commands exactly as they are, where ./dev demo has built. The figures are a compiler's affair."""
        commands, = self.of("sh")
        expected, = self.of("text")
        (self.root / "client").symlink_to(TOP / "client")
        (self.root / "build-demo").mkdir()
        for name, program in (("daemon", CAPSTORED), ("client", CAPCTL)):
            (self.root / "build-demo" / name).symlink_to(pathlib.Path(program).resolve().parent)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("CAPSTORE_")}
        shell = subprocess.Popen(["sh", "-euc", commands], cwd=self.root, env={**environment, "TMPDIR": str(self.root)},
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                 start_new_session=True)
        try:
            out, err = shell.communicate(timeout=120)
        finally:
            try:
                os.killpg(shell.pid, signal.SIGKILL)  # the daemon, when the commands failed before they ended it
            except ProcessLookupError:
                pass
        if "not_supported" in err:
            self.skipTest(err)
        self.assertEqual((shell.returncode, err), (0, ""), out)
        ran, said = (re.sub(r"\d+ (instructions|of|pages)|0x\w+", r"N \1", text) for text in (out, expected))
        self.assertEqual(ran[-len(said):], said, out)
        fetched, total = map(int, re.search(r"(\d+) of (\d+) pages", out).groups())
        self.assertLess(fetched, total // 10)


if __name__ == "__main__":
    unittest.main()
