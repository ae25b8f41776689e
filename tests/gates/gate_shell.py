"""Shell scripts pass shellcheck."""

import re
import subprocess

import tree

SHEBANG = re.compile(rb"^#!.*\b(sh|bash|dash)\b|^# shellcheck shell=")


def is_script(root, path):
    if path.suffix in (".sh", ".bash"):
        return True
    with open(root / path, "rb") as stream:
        return bool(SHEBANG.match(stream.readline(200)))


def check(context):
    paths = [path for path in tree.files(context.root) if is_script(context.root, path)]
    if not paths:
        return 0, []
    result = subprocess.run(["shellcheck", "-x", "--format=gcc", *map(str, paths)],
                            cwd=context.root, capture_output=True, text=True, check=False)
    findings = (result.stdout + result.stderr).splitlines()
    if result.returncode != 0 and not findings:
        findings = ["shellcheck failed"]
    return len(paths), findings
