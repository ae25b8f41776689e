#!/usr/bin/env python3
"""A project of somebody else's that includes ours with add_subdirectory: subproject.py CMAKE SOURCE

Its targets have the names that ours once had; it sets no type of build; it wants our library and not
our tests, nor our files among what it installs.
"""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

CMAKE, SOURCE = sys.argv[1:3] if len(sys.argv) >= 3 else ("", "")
LONG = os.environ.get("CAPSTORE_TEST_LONG") == "1"

PARENT = """
cmake_minimum_required(VERSION 3.25)
project(parent VERSION 7.0 LANGUAGES C)
file(WRITE ${CMAKE_BINARY_DIR}/own.c "int own;")
foreach(name cap store proto daemon options static shared client)
    add_library(${name} STATIC ${CMAKE_BINARY_DIR}/own.c)
endforeach()
add_subdirectory(${SOURCE} capstore)
message(STATUS "type '$CACHE{CMAKE_BUILD_TYPE}', tests ${CAPSTORE_TESTS}, installed ${CAPSTORE_INSTALL}")
add_executable(user ${SOURCE}/client/examples/fetch.c)
target_link_libraries(user PRIVATE capstore::capstore)
add_executable(user_static ${SOURCE}/client/examples/fetch.c)
target_link_libraries(user_static PRIVATE capstore::static)
get_target_property(options user COMPILE_OPTIONS)
message(STATUS "options ${options}")
install(TARGETS user)
"""


def run(*command, env=None):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, env=env, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{command}\n{done.stdout[-8000:]}")
    return done.stdout


class Subproject(unittest.TestCase):
    def check(self, compiler, *options, shared, generator="Ninja"):
        with tempfile.TemporaryDirectory(prefix="capstore-parent-") as folder:
            (Path(folder) / "CMakeLists.txt").write_text(PARENT)
            build = Path(folder) / "build"
            said = run(CMAKE, "-S", folder, "-B", build, "-G", generator, f"-DSOURCE={SOURCE}", *options,
                       env={**os.environ, "CC": compiler})
            self.assertIn("type '', tests OFF, installed OFF", said)
            self.assertIn("options options-NOTFOUND", said)
            built = run(CMAKE, "--build", build, "--parallel", "2", "--target", "user", "user_static")
            self.assertNotIn("warning:", built)
            for program, dynamic in (("user", shared), ("user_static", False)):
                self.assertEqual("libcapstore.so.0" in run("readelf", "-d", build / program), dynamic)
                self.assertEqual(subprocess.run([build / program], capture_output=True, check=False).returncode, 2)
            run(CMAKE, "--install", build, "--prefix", Path(folder) / "prefix")
            installed = [path.name for path in (Path(folder) / "prefix").rglob("*") if path.is_file()]
            self.assertEqual(installed, ["user"])

    def test_with_link_time_optimisation(self):
        self.check("clang", "-DCMAKE_INTERPROCEDURAL_OPTIMIZATION=ON", shared=False)

    def test_shared_when_the_parent_says_so(self):
        self.check("gcc", "-DBUILD_SHARED_LIBS=ON", shared=True)

    def test_with_a_unity_build(self):
        self.check("gcc", "-DCMAKE_UNITY_BUILD=ON", shared=False)

    def test_every_way(self):
        for compiler in ("gcc", "clang") if LONG else ():
            self.check(compiler, shared=False)
            self.check(compiler, "-DBUILD_SHARED_LIBS=OFF", shared=False, generator="Unix Makefiles")
            self.check(compiler, "-DBUILD_SHARED_LIBS=ON", shared=True, generator="Unix Makefiles")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
