"""Man pages pass mandoc's lint."""

import re
import subprocess

import tree

PAGE = re.compile(r"\.[1-8](\.in)?$")


def is_page(root, path):
    return PAGE.search(path.name) and re.search(r"^\.(TH|Dd)\b", tree.text(root, path), re.M)


def check(context):
    paths = [path for path in tree.files(context.root)
             if tree.is_text(context.root, path) and is_page(context.root, path)]
    if not paths:
        return 0, []
    result = subprocess.run(["mandoc", "-Tlint", "-W", "warning", *map(str, paths)],
                            cwd=context.root, capture_output=True, text=True, check=False)
    findings = (result.stdout + result.stderr).splitlines()
    if result.returncode != 0 and not findings:
        findings = ["mandoc failed"]
    return len(paths), findings
