#!/usr/bin/env python3
"""Plants a violation in a copy of the tree and sees the gate fail on it: bites.py GATE ...

A case passes when the gate exits with a failure and its output names the planted place.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections import namedtuple
from pathlib import Path

sys.dont_write_bytecode = True

import tree  # noqa: E402

HERE = Path(__file__).resolve().parent

# path: a new file of the copy, with this text; finding: what the gate must print.
Plant = namedtuple("Plant", "path text finding")

PLANTS = {
    "circles": [
        Plant("lib/cap/bytes.c", '#include "lib/cap/ssz.h"\n', "lib/cap/bytes > lib/cap/ssz > lib/cap/bytes"),
    ],
    "citations": [
        Plant("lib/cap/planted.c", "/* As in\n * FORMATS.md section 99. */\n",
              "lib/cap/planted.c:2: FORMATS.md has no section 99"),
        Plant("proto/planted.h", "/* PROTOCOL.md sections 1 and 98. */\n", "no section 98"),
        Plant("lib/cap/planted.h", "/* SLICES.md section 97. */\n", "SLICES.md has no section 97"),
    ],
    "dialect": [
        Plant("lib/cap/planted.c", "int f(const char *a);\nint f(const char *a)\n{\n    return !a;\n}\n",
              "planted.c:4: a pointer or an enumeration is tested bare"),
        Plant("lib/cap/planted.c", "enum e { A, B };\nint f(enum e error);\nint f(enum e error)\n{\n"
              "    if (error) {\n        return 1;\n    }\n    return 2;\n}\n", "planted.c:5: a pointer or"),
        Plant("tests/planted.c", "int f(void *a, int b);\nint f(void *a, int b)\n{\n    return b == 1 && a ? 1 : 2;\n}\n",
              "planted.c:4: a pointer or"),
        Plant("daemon/planted.c", "int f(int a);\nint f(int a)\n{\n    return (int)sizeof a;\n}\n",
              "planted.c:4: sizeof"),
        Plant("proto/planted.h", "/* --- Title\n * ------------------------- */\n", "planted.h:1: a banner"),
    ],
    "errors": [
        Plant("lib/cap/error.h", '#define CAP_ERRORS(X) \\\n    /* The deblob. */ \\\n    X(SSZ, 1, ssz, "planted")\n\n',
              "expected /* planted */"),
        Plant("client/include/capstore/error.h", "enum capstore_error {\n    CAPSTORE_OK = 0,\n};\n",
              "client/include/capstore/error.h:3: expected"),
    ],
    "format": [
        Plant("lib/cap/planted.c", "int  planted( void );\n", "lib/cap/planted.c:1"),
    ],
    "headers": [
        Plant("client/include/capstore/planted.h",
              "/* About the file. */\n\nint planted_bare(void);\n",
              "planted.h:3: planted_bare has no comment"),
        Plant("daemon/planted.h", "".join(f"int planted_{i}(void);\n\n" for i in range(400)),
              "daemon/planted.h:1: planted_0 has no comment"),
    ],
    "includes": [
        Plant("lib/cap/planted.c", '#include "lib/store/store.h"\n', "lib/cap may not include"),
        Plant("lib/store/planted.c", '#include "proto/frame.h"\n', "lib/store may not include"),
        Plant("proto/planted.c", '#include "daemon/core/log.h"\n', "proto may not include"),
        Plant("client/lib/planted.c", '#include "lib/store/store.h"\n', "client/lib may not include"),
        Plant("client/capctl/planted.c", '#include "lib/cap/bytes.h"\n', "client/capctl may not include"),
        Plant("client/capctl/planted.c", '#include "client/lib/link.h"\n', "client/capctl may not include"),
        Plant("daemon/core/planted.c", '#include "daemon/net/session.h"\n', "daemon/core may not include"),
        Plant("daemon/net/planted.c", '#include "daemon/publish/upload.h"\n', "daemon/net may not include"),
        Plant("daemon/serve/planted.c", '#include "daemon/publish/upload.h"\n', "daemon/serve may not include"),
        Plant("daemon/publish/planted.c", '#include "daemon/serve/fetch.h"\n', "daemon/publish may not include"),
        Plant("daemon/admin/planted.c", '#include "daemon/server.h"\n', "daemon/admin may not include daemon"),
        Plant("daemon/publish/planted.c", '#include "lib/store/lmdb/lmdb.h"\n', "may not include lib/store/lmdb"),
        Plant("daemon/routes.c", '#include "daemon/server.h"\n', "daemon/server.h lies above"),
        Plant("lib/store/planted.c", "#include <uv.h>\n", "<uv.h> has no place"),
        Plant("daemon/planted.c", "#include <lmdb.h>\n", "<lmdb.h> has no place"),
        Plant("lib/cap/planted.c", "#include <sodium.h>\n", "<sodium.h> has no place"),
        Plant("client/capctl/planted.c", "#include <ncurses.h>\n", "<ncurses.h> has no place"),
        Plant("proto/planted.c", "#include <jansson.h>\n", "<jansson.h> has no place"),
        Plant("lib/cap/planted.c", '#include "bytes.h"\n', "not spelled from the root"),
        Plant("lib/planted.c", "#include <stdio.h>\n", "lies in no room"),
        Plant("README.md", "## Where things are\n```\nlib/cap\nproto\n```\n| room | | |\n|---|---|---|\n"
              "| `proto` | | `lib/cap` |\n| `lib/cap` | | |\n", "lib/cap, which is not drawn below it"),
        Plant("README.md", "## Where things are\n```\nproto\n```\n| room | | |\n|---|---|---|\n"
              "| `proto` | | `lib/cap` |\n| `lib/cap` | | |\n", "lib/cap is not in the picture exactly once"),
    ],
    "length": [
        Plant("lib/cap/planted.c", "\n" * 701, "lib/cap/planted.c:701"),
    ],
    "lint": [
        Plant("lib/cap/planted.c",
              "int planted(int n);\nint planted(int n)\n{\n    int d = 0;\n    return n / d;\n}\n",
              "DivideZero"),
        Plant("lib/cap/planted.c",
              "void planted(int *n);\nvoid planted(int *n)\n{\n" + "    *n += 1;\n" * 81 + "}\n",
              "readability-function-size"),
        Plant("lib/cap/planted.c",
              "int planted(int n);\nint planted(int n)\n{\n    if (n > 0)\n        n = 0;\n    return n;\n}\n",
              "readability-braces-around-statements"),
    ],
    "manpages": [
        Plant("client/planted.1", '.TH PLANTED 1\n.SH NAME\nplanted\n.XY\n', "client/planted.1:4"),
    ],
    "shell": [
        Plant("tests/planted.sh", "#!/bin/sh\nrm -r $1\n", "tests/planted.sh:2"),
        Plant("tests/planted", "#!/bin/sh\n[[ -e x ]]\n", "tests/planted:2"),
    ],
    "units": [
        Plant("build-planted/systemd/capstored.service",
              "[Service]\nExecStart=/bin/capstored --state /\nProtectSystem=strict\n", "exposure"),
        Plant("build-planted/systemd/capstored.socket", "[Socket]\nListenStraem=/run/x\n",
              "ListenStraem"),
        Plant("build-planted/systemd/capstored.socket", "[Socket]\nListenStream=@PLANTED@\n",
              "not filled in"),
        Plant("systemd/capstore.sysusers", "u capstore planted\n", "systemd-sysusers"),
        Plant("systemd/capstore.tmpfiles", "planted /run\n", "systemd-tmpfiles"),
    ],
    "words": [
        Plant("lib/cap/planted.c", "void f(int a)\n{\n    assert(a);\n}\n",
              "lib/cap/planted.c:3: assert()"),
        Plant("client/planted.c", "void f(char *a)\n{\n    strcpy(a, a);\n}\n", "strcpy()"),
        Plant("daemon/planted.c", "long f(void)\n{\n    return time(0);\n}\n", "time()"),
        Plant("lib/store/planted.c", "void f(void)\n{\n    printf(0);\n}\n", "printf()"),
        Plant("proto/planted.c", "void f(void)\n{\n    abort();\n}\n", "abort()"),
        Plant("README.md", "TODO: the rest\n", "README.md:1: TODO"),
        Plant("tests/planted.py", "x = '/home/me/x'\n", "a path of one machine"),
        Plant("lib/cap/planted.c", "/* That is\n * no hash. */\n", 'lib/cap/planted.c:1: "is no hash"'),
        Plant("client/capctl/planted.c", 'const char *a = "a value is "\n    "wanted";\n', '"is wanted"'),
        Plant("proto/PLANTED.md", "Whoever\nreads this.\n", "PLANTED.md:1"),
        Plant("client/planted.1", ".TH PLANTED 1\ninside\nof it\n", "planted.1:2"),
        Plant("systemd/planted.socket", "# it is\n# no socket\n", "planted.socket:1"),
    ],
}


def copy_tree(root, build, to):
    for path in tree.files(root):
        (to / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / path, to / path)
    (to / "build-planted" / "systemd").mkdir(parents=True)
    for unit in (build / "systemd").glob("capstored*.*"):
        shutil.copy2(unit, to / "build-planted" / "systemd")


def compile_commands(copy, path):
    """A build directory that compiles the planted file alone, with the units of the real one."""
    build = copy / "build-planted"
    command = {"directory": str(copy), "file": str(copy / path),
               "command": f"cc -std=c11 -I{copy} -c {copy / path}"}
    (build / "compile_commands.json").write_text(json.dumps([command]))
    return build


# Gates that judge files one by one: the first plant is found in the whole tree, the others alone.
ONE_BY_ONE = ("format", "words")


def bites(copy, gate, plant):
    target = copy / plant.path
    before = target.read_bytes() if target.exists() else None
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(plant.text)
    command = [sys.executable, str(HERE / "run.py"), gate, "--root", str(copy),
               "--build", str(compile_commands(copy, plant.path))]
    if gate in ONE_BY_ONE and plant != PLANTS[gate][0]:
        command.append(plant.path)
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if before is None:
        target.unlink()
    else:
        target.write_bytes(before)
    seen = result.returncode == 1 and plant.finding in result.stdout
    print(f"{'bites' if seen else 'DOES NOT BITE'}: {gate}: {plant.path}: {plant.finding}")
    if not seen:
        print(result.stdout + result.stderr)
    return seen


def blind(copy, gate):
    """A gate that sees no file must fail."""
    empty = copy / "build-planted" / "empty"
    (empty / "build").mkdir(parents=True, exist_ok=True)
    (empty / "build" / "compile_commands.json").write_text("[]")
    command = [sys.executable, str(HERE / "run.py"), gate, "--root", str(empty),
               "--build", str(empty / "build")]
    seen = subprocess.run(command, capture_output=True, check=False).returncode == 1
    print(f"{'bites' if seen else 'DOES NOT BITE'}: {gate}: a tree without files")
    return seen


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("gate", choices=sorted(PLANTS))
    parser.add_argument("--root", type=Path, default=HERE.parent.parent)
    parser.add_argument("--build", type=Path, required=True, help="as configured")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="capstore-gate-") as folder:
        copy = Path(folder)
        copy_tree(args.root.resolve(), args.build.resolve(), copy)
        results = [bites(copy, args.gate, plant) for plant in PLANTS[args.gate]]
        results.append(blind(copy, args.gate))
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
