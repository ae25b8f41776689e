"""The files of the source tree, as the gates see them: tracked or new, never ignored ones."""

import os
import re
import subprocess
from pathlib import Path

SKIPPED_DIRS = re.compile(r"^(build.*|\.git|node_modules|__pycache__)$")


def files(root):
    """Every file of the tree, as sorted paths relative to root."""
    listed = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-co", "--exclude-standard", "-z"],
        capture_output=True, check=False)
    if listed.returncode == 0 and (root / ".git").exists():
        names = listed.stdout.decode().split("\0")
        found = [Path(name) for name in names if name and (root / name).is_file()]
    else:
        found = walk(root)
    return sorted(set(found))


def walk(root):
    """The same from the disk, for a tree that is not a clone."""
    found = []
    for folder, dirs, names in os.walk(root):
        dirs[:] = [d for d in dirs if not SKIPPED_DIRS.match(d)]
        found += [Path(folder, name).relative_to(root) for name in names]
    return found


def sources(root):
    """Every C source and header."""
    return [path for path in files(root) if path.suffix in (".c", ".h")]


def text(root, path):
    return (root / path).read_text(encoding="utf-8", errors="replace")


def is_text(root, path):
    with open(root / path, "rb") as stream:
        return b"\0" not in stream.read(8192)


_TOKEN = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def _blank(match):
    """Spaces of the same shape, so that line numbers and columns stay; quotes keep their marks."""
    inside = re.sub(r"[^\n]", " ", match.group(0))
    mark = match.group(0)[0]
    return inside if mark == "/" else mark + inside[1:-1] + mark


def tokens(source):
    """Every comment and every literal, as matches."""
    return _TOKEN.finditer(source)


def code_only(source):
    """The source with comments and the contents of literals blanked."""
    return _TOKEN.sub(_blank, source)


def comments(source):
    """(line, text) of every comment."""
    for match in _TOKEN.finditer(source):
        if match.group(0).startswith(("/*", "//")):
            yield source.count("\n", 0, match.start()) + 1, match.group(0)
