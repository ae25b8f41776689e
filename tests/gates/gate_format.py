"""Every C file is as clang-format leaves it."""

import subprocess

import tree


def check(context):
    paths = context.only or tree.sources(context.root)
    if not paths:
        return 0, []
    result = subprocess.run(
        ["clang-format", "--style=file", "--dry-run", "-Werror", *map(str, paths)],
        cwd=context.root, capture_output=True, text=True, check=False)
    findings = [line for line in result.stderr.splitlines() if "error:" in line]
    if result.returncode != 0 and not findings:
        findings = [result.stderr.strip() or "clang-format failed"]
    return len(paths), findings
