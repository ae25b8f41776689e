"""Every C file of the build passes clang-tidy (.clang-tidy at the top says what that asks).

The static analyzer takes nine tenths of the time. In the short form it leaves tests out, whose faults the sanitizers
see while they run; with CAPSTORE_TEST_LONG it judges them, too.
"""

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Programs whose faults are their purpose.
PLANTED = "tests/gates/planted/"


def compiled(build, root):
    """The sources of ours in the build's compile_commands.json, relative to the root."""
    commands = json.loads((build / "compile_commands.json").read_text())
    paths = {Path(os.path.normpath(Path(entry["directory"], entry["file"]))) for entry in commands}
    ours = [path for path in paths if path.is_relative_to(root) and not path.is_relative_to(build)]
    ours = [path.relative_to(root) for path in ours]
    return sorted(path for path in ours if not str(path).startswith(PLANTED))


def lint(context, path):
    """The findings in one file. clang-tidy repeats those of a header once for each includer."""
    short = str(path).startswith("tests/") and not os.environ.get("CAPSTORE_TEST_LONG")
    checks = ["--checks=-clang-analyzer-*"] if short else []
    result = subprocess.run(["clang-tidy", "--quiet", *checks, "-p", str(context.build), str(path)],
                            cwd=context.root, capture_output=True, text=True, check=False)
    findings = [line for line in result.stdout.splitlines() if " error: " in line]
    findings = [line.replace(f"{context.root}/", "") for line in findings]
    if result.returncode != 0 and not findings:
        findings = [f"{path}: clang-tidy failed: {result.stdout}{result.stderr}"]
    return findings


def check(context):
    paths = context.only or compiled(context.build, context.root)
    findings = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for found in pool.map(lambda path: lint(context, path), paths):
            findings.update(dict.fromkeys(found))
    return len(paths), list(findings)
