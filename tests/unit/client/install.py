#!/usr/bin/env python3
"""A program of somebody else's, built against an installed prefix: install.py CMAKE BUILD SOURCE SANITIZE

Both package files and both libraries; the shared one exports capstore_* and nothing else.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

CMAKE, BUILD, SOURCE, SANITIZE = sys.argv[1:5] if len(sys.argv) >= 5 else ("", "", "", "")
EXAMPLE = pathlib.Path(SOURCE) / "client" / "examples" / "fetch.c"
FLAGS = [f"-fsanitize={SANITIZE}"] if SANITIZE else []
DIALECTS = [(compiler, "c", standard) for compiler in ("gcc", "clang") for standard in ("c99", "c11")]
DIALECTS += [(compiler, "c++", "c++17") for compiler in ("g++", "clang++")]
PROJECT = """
cmake_minimum_required(VERSION 3.25)
project(example LANGUAGES C)
find_package(capstore 0.1 REQUIRED)
add_executable(shared fetch.c)
target_link_libraries(shared PRIVATE capstore::capstore)
add_executable(static fetch.c)
target_link_libraries(static PRIVATE capstore::static)
"""


def output(*command, env=None):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=env, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{command}\n{done.stdout}{done.stderr}")
    return done.stdout


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="capstore-prefix-"))
        cls.prefix = cls.folder / "prefix"
        output(CMAKE, "--install", BUILD, "--prefix", cls.prefix)
        cls.library = next(cls.prefix.rglob("libcapstore.so"))
        cls.packages = next(cls.prefix.rglob("capstore.pc")).parent

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def run_example(self, program):
        """Without arguments it wants some; with an address where nobody is it says so."""
        env = {**os.environ, "LD_LIBRARY_PATH": str(self.library.parent)}
        self.assertEqual(subprocess.run([program], env=env, check=False).returncode, 2)
        done = subprocess.run([program, "unix:/nowhere", "0x" + "ab" * 32], env=env, capture_output=True, text=True,
                              check=False)
        self.assertEqual((done.returncode, done.stderr[:9]), (1, "connect: "))

    def flags(self, *options):
        env = {**os.environ, "PKG_CONFIG_PATH": str(self.packages)}
        return output("pkg-config", *options, "capstore", env=env).split()

    def test_pkg_config(self):
        compiler = shutil.which("cc")
        program = self.folder / "shared"
        output(compiler, *FLAGS, "-Wall", "-Werror", *self.flags("--cflags"), EXAMPLE, "-o", program, *self.flags("--libs"))
        self.assertIn("libcapstore.so.0", output("readelf", "-d", program))
        self.run_example(program)
        program = self.folder / "static"
        libs = [str(self.library.with_suffix(".a")) if flag == "-lcapstore" else flag
                for flag in self.flags("--libs", "--static")]
        output(compiler, *FLAGS, *self.flags("--cflags"), EXAMPLE, "-o", program, *libs)
        self.assertNotIn("libcapstore", output("readelf", "-d", program))
        self.run_example(program)

    @unittest.skipIf(SANITIZE, "a sanitizer's runtime cannot be linked statically")
    def test_pkg_config_static(self):
        """A program without any shared library, with and without link-time optimisation of its own."""
        program = self.folder / "alone"
        for compiler in (["gcc"], ["gcc", "-O2", "-flto"], ["clang", "-O2"]):
            output(*compiler, EXAMPLE, "-o", program, "-static", *self.flags("--static", "--cflags", "--libs"))
            self.assertNotIn("NEEDED", output("readelf", "-d", program))
            self.assertEqual(subprocess.run([program], check=False, capture_output=True).returncode, 2)

    def test_find_package(self):
        project = self.folder / "project"
        project.mkdir()
        (project / "CMakeLists.txt").write_text(PROJECT)
        shutil.copy(EXAMPLE, project)
        output(CMAKE, "-S", project, "-B", project / "build", f"-DCMAKE_PREFIX_PATH={self.prefix}",
               f"-DCMAKE_C_FLAGS={' '.join(FLAGS)}")
        output(CMAKE, "--build", project / "build")
        self.run_example(project / "build" / "shared")
        self.run_example(project / "build" / "static")

    def test_symbols(self):
        """Every public name has the version; nothing of the rooms below leaks."""
        names = [line.split()[-1] for line in output("nm", "-D", "--defined-only", self.library).splitlines()]
        names = [name for name in names if name != "CAPSTORE_0"]
        self.assertGreater(len(names), 50)
        for name in names:
            self.assertRegex(name, r"^capstore_\w+@@CAPSTORE_0$")
        static = self.library.with_suffix(".a")
        lines = [line.split() for line in output("nm", "-g", "--defined-only", static).splitlines()]
        visible = {line[-1] for line in lines if len(line) == 3}
        self.assertEqual({name for name in visible if not name.startswith("capstore_")}, set())
        self.assertEqual(visible, {name.split("@")[0] for name in names})

    def test_headers_stand_alone(self):
        """Each header compiles by itself, as C and as C++, and every function that it declares is there."""
        declared = set()
        for header in sorted((self.prefix / "include" / "capstore").glob("*.h")):
            text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.S)
            declared |= {name for name in re.findall(r"\b(capstore_\w+)\(", text) if not name.endswith("_cb")}
            self.assertNotIn("lib/cap", text)
            for compiler, language, standard in DIALECTS:
                self.assertIsNotNone(shutil.which(compiler), compiler)
                output(compiler, "-x", language, f"-std={standard}", "-pedantic", "-Wall", "-Wextra", "-Werror", "-fsyntax-only",
                       "-I", self.prefix / "include", "-include", f"capstore/{header.name}", "/dev/null")
        names = {line.split()[-1].split("@")[0] for line in
                 output("nm", "-D", "--defined-only", self.library).splitlines()} - {"CAPSTORE_0"}
        self.assertEqual(declared, names)

    def test_a_structure_has_a_name_of_its_own(self):
        """In C++ a function hides a structure of the same name: `capstore_stat st;` would not compile."""
        text = "".join(re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.S)
                       for header in (self.prefix / "include" / "capstore").glob("*.h"))
        functions = set(re.findall(r"\b(capstore_\w+)\(", text))
        structures = set(re.findall(r"\b(?:struct|enum) (capstore_\w+) \{", text))
        self.assertGreater(len(structures), 20)
        self.assertEqual(functions & structures, set())
        compiler = shutil.which("c++")
        if compiler is not None:
            program = self.folder / "names.cpp"
            program.write_text("#include <capstore/async.h>\n" + "".join(
                f"{name} v{i};\n" for i, name in enumerate(sorted(structures))))
            output(compiler, "-std=c++17", "-pedantic", "-Wall", "-Werror", "-fsyntax-only", "-I", self.prefix / "include",
                   program)

    def test_the_tool_and_its_papers(self):
        tool = self.prefix / "bin" / "capctl"
        self.assertTrue(os.access(tool, os.X_OK))
        for name in ("share/man/man1/capctl.1", "share/bash-completion/completions/capctl",
                     "share/capstore/javm.ld"):
            self.assertTrue((self.prefix / name).is_file(), name)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
