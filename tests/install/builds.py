#!/usr/bin/env python3
"""Builds the tree as packagers do, and wants no warning: builds.py CMAKE SOURCE

Types of build, compilers, optimisation, link-time optimisation, checked libc functions. The short form
takes what has found most; CAPSTORE_TEST_LONG=1 takes every combination.
"""

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from collections import namedtuple
from pathlib import Path

CMAKE, SOURCE = sys.argv[1:3] if len(sys.argv) >= 3 else ("", "")
LONG = os.environ.get("CAPSTORE_TEST_LONG") == "1"

Build = namedtuple("Build", "compiler type flags options")
NOTHING = ()
IPO = ("-DCMAKE_INTERPROCEDURAL_OPTIMIZATION=ON",)

MULTIARCH = ("-DCMAKE_INSTALL_LIBDIR=lib/some-triplet",)
ABSOLUTE = ("-DCMAKE_INSTALL_PREFIX=/opt/x", "-DCMAKE_INSTALL_LIBDIR=/opt/x/lib64",
            "-DCMAKE_INSTALL_INCLUDEDIR=/opt/x/inc")

SHORT = [
    Build("gcc", "None", "-O2 -g -flto=auto -ffat-lto-objects -D_FORTIFY_SOURCE=3", ABSOLUTE),
    Build("clang", "MinSizeRel", "-D_FORTIFY_SOURCE=3", ("-DBUILD_SHARED_LIBS=OFF", *MULTIARCH)),
]

TYPES = ("Release", "Debug", "MinSizeRel", "RelWithDebInfo", "None")


def every_build():
    """The product of what matters; the tests are built too, with the options that optimise most."""
    yield from SHORT
    yield Build("gcc", "Release", "", MULTIARCH)
    for compiler, kind, fortify in itertools.product(("gcc", "clang"), TYPES, ("", "-D_FORTIFY_SOURCE=3")):
        yield Build(compiler, kind, fortify, NOTHING)
    for compiler, kind in itertools.product(("gcc", "clang"), ("Release", "Debug", "RelWithDebInfo")):
        yield Build(compiler, kind, "", IPO)
    for shared in ("ON", "OFF"):
        yield Build("gcc", "Release", "", (f"-DBUILD_SHARED_LIBS={shared}",))
    for flags in ("-O1 -D_FORTIFY_SOURCE=3", "-Og", "-O2 -flto=auto -D_FORTIFY_SOURCE=3", "-Os"):
        yield Build("gcc", "None", flags, NOTHING)
    yield Build("clang", "None", "-O2 -flto=thin", NOTHING)
    for flags in ("-O3", "-O3 -flto=auto -D_FORTIFY_SOURCE=3"):
        yield Build("gcc", "None", flags, ("-DCAPSTORE_TESTS=ON",))
    yield Build("clang", "None", "-O3", ("-DCAPSTORE_TESTS=ON",))


def run(*command, env=None):
    """What the command printed. It must succeed."""
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, env=env, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{command}\n{done.stdout[-8000:]}")
    return done.stdout


def build(one, folder):
    """The warnings of the build in `folder`."""
    env = {**os.environ, "CC": one.compiler, "CFLAGS": one.flags}
    configured = run(CMAKE, "-S", SOURCE, "-B", folder, "-G", "Ninja", f"-DCMAKE_BUILD_TYPE={one.type}",
                     "-DCAPSTORE_TESTS=OFF", *one.options, env=env)
    built = run(CMAKE, "--build", folder, env=env)
    return [line for line in (configured + built).splitlines() if "warning:" in line.lower()]


class Builds(unittest.TestCase):
    def test_no_warning(self):
        for one in every_build() if LONG else SHORT:
            with self.subTest(one=one), tempfile.TemporaryDirectory(prefix="capstore-build-") as folder:
                self.assertIsNotNone(shutil.which(one.compiler))
                self.assertEqual(build(one, folder), [])
                shared = "-DBUILD_SHARED_LIBS=OFF" not in one.options
                static = Path(folder, "client", "libcapstore.a")
                self.assertEqual(static.with_suffix(".so").exists(), shared)
                self.links(one.compiler, static, folder)
                self.installed(one, folder, shared)

    def links(self, compiler, static, folder):
        """The static library holds machine code: either linker takes it, with or without its plugin."""
        for other, flags in (("gcc", ()), ("gcc", ("-O2", "-flto")), (compiler, ())):
            program = Path(folder, "fetch")
            run(other, *flags, f"-I{SOURCE}/client/include", f"{SOURCE}/client/examples/fetch.c", static,
                "-lsodium", "-o", program)
            self.assertEqual(subprocess.run([program], capture_output=True, check=False).returncode, 2)

    def installed(self, one, folder, shared):
        """A program builds against what was staged, wherever the library's folder is, moved or not."""
        stage = Path(folder, "stage")
        run(CMAKE, "--install", folder, env={**os.environ, "DESTDIR": stage})
        packages = next(stage.rglob("capstore.pc")).parent
        env = {**os.environ, "PKG_CONFIG_PATH": packages}
        if ABSOLUTE == one.options:
            env["PKG_CONFIG_SYSROOT_DIR"] = stage
        program = Path(folder, "user")
        flags = run("pkg-config", "--cflags", "--libs", "capstore", env=env).split()
        run(one.compiler, f"{SOURCE}/client/examples/fetch.c", *flags, "-o", program)
        self.assertEqual("libcapstore.so.0" in run("readelf", "-d", program), shared)
        env = {**os.environ, "LD_LIBRARY_PATH": packages.parent}
        self.assertEqual(subprocess.run([program], env=env, capture_output=True, check=False).returncode, 2)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
