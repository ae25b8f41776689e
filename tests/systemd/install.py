#!/usr/bin/env python3
"""What `cmake --install` puts where: install.py CMAKE BUILD PREFIX"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

# Relative to the prefix; the library's files have a test of their own.
WANTED = [
    "bin/capctl",
    "bin/capstored",
    "lib/systemd/system/capstored.service",
    "lib/systemd/system/capstored.socket",
    "lib/systemd/system/capstored-admin.socket",
    "lib/systemd/system/capstored-http.socket",
    "lib/sysusers.d/capstore.conf",
    "lib/tmpfiles.d/capstore.conf",
    "share/man/man1/capctl.1",
    "share/man/man7/capstore-admin.7",
    "share/man/man8/capstored.8",
]


def started_by(prefix):
    """The program that the installed unit starts, as systemd reads it: quoted, % doubled."""
    unit = (prefix / "lib/systemd/system/capstored.service").read_text()
    quoted, plain = re.search(r'(?m)^ExecStart=(?:"([^"]+)"|(\S+)) --state ', unit).groups()
    return (quoted or plain).replace("%%", "%")


class Install(unittest.TestCase):
    def test_everything_is_there_and_the_unit_starts_what_is_installed(self):
        with tempfile.TemporaryDirectory(prefix="capstore-install-") as folder:
            subprocess.run([CMAKE, "--install", BUILD], check=True, stdout=subprocess.DEVNULL,
                           env=dict(os.environ, DESTDIR=folder))
            prefix = Path(folder + PREFIX)
            for name in WANTED:
                self.assertTrue((prefix / name).is_file(), name)
            program = started_by(prefix)
            self.assertTrue(os.access(folder + program, os.X_OK), program)

    def test_a_prefix_given_at_the_end_is_followed(self):
        with tempfile.TemporaryDirectory(prefix="capstore-install-") as folder:
            subprocess.run([CMAKE, "--install", BUILD, "--prefix", folder], check=True, stdout=subprocess.DEVNULL)
            self.assertEqual(started_by(Path(folder)), folder + "/bin/capstored")

    @unittest.skipUnless(shutil.which("systemd-analyze"), "needs systemd-analyze")
    def test_systemd_finds_the_program_under_an_odd_prefix(self):
        with tempfile.TemporaryDirectory(prefix="capstore-install-") as folder:
            prefix = f"{folder}/a b %n $HOME ${{x}}"
            subprocess.run([CMAKE, "--install", BUILD, "--prefix", prefix], check=True, stdout=subprocess.DEVNULL)
            self.assertEqual(started_by(Path(prefix)), prefix + "/bin/capstored")
            units = Path(prefix) / "lib/systemd/system"
            done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units.iterdir()],
                                  capture_output=True, text=True, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_the_root_is_a_prefix_too(self):
        for prefix, program in (("/", "/bin/capstored"), ("/opt/../srv/", "/srv/bin/capstored")):
            with tempfile.TemporaryDirectory(prefix="capstore-install-") as folder:
                subprocess.run([CMAKE, "--install", BUILD, "--prefix", prefix], check=True, cwd=folder,
                               stdout=subprocess.DEVNULL, env=dict(os.environ, DESTDIR=folder))
                unit = next(Path(folder).rglob("capstored.service"))
                self.assertEqual(started_by(unit.parents[3]), program)
                self.assertTrue(os.access(folder + program, os.X_OK), program)


if __name__ == "__main__":
    CMAKE, BUILD, PREFIX = sys.argv[1:4]
    unittest.main(argv=sys.argv[:1], verbosity=2)
