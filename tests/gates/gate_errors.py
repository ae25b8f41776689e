"""The public list of errors is the one of lib/cap: names, values, texts and order.

lib/cap/error.h is the source. The enumerators of client/include/capstore/error.h are written from
it, since an installed header cannot include it: `./dev fmt` (or this file, run by itself) does so.
"""

import re
import sys
from pathlib import Path

sys.dont_write_bytecode = True

import tree  # noqa: E402

SOURCE = Path("lib/cap/error.h")
PUBLIC = Path("client/include/capstore/error.h")

ENTRY = re.compile(r'/\* (?P<section>[^*]+)\. \*/|X\((?P<name>\w+), (?P<code>\d+), \w+,\s*"(?P<text>[^"]*)"\)')
OPENING = "    CAPSTORE_OK = 0,\n"
LIST = re.compile(re.escape(OPENING) + r"(.*?)^};$", re.M | re.S)


def entries(source):
    """Matches of ENTRY in the list of errors."""
    start = source.index("#define CAP_ERRORS(X)")
    joined = source[start:source.index("\n\n", start)].replace("\\\n", "\n")
    return list(ENTRY.finditer(joined))


def enumerators(source):
    """(how many errors, the lines that the public header must have after CAPSTORE_OK)."""
    lines = []
    count = 0
    for entry in entries(source):
        if entry["section"]:
            lines += ["", f"    /* ---- {entry['section']} ---- */", ""]
        else:
            count += 1
            lines += [f"    /* {entry['text']} */", f"    CAPSTORE_E_{entry['name']} = -{entry['code']},"]
    return count, lines


def check(context):
    if not (context.root / SOURCE).exists() or not (context.root / PUBLIC).exists():
        return 0, []
    count, wanted = enumerators(tree.text(context.root, SOURCE))
    public = tree.text(context.root, PUBLIC)
    match = LIST.search(public)
    if not match:
        return count, [f"{PUBLIC}:1: no list that begins with CAPSTORE_OK"]
    first = public.count("\n", 0, match.start(1)) + 1
    found = match.group(1).splitlines()
    if found == wanted:
        return count, []
    at = next((i for i, pair in enumerate(zip(found, wanted)) if pair[0] != pair[1]),
              min(len(found), len(wanted)))
    line = wanted[at].strip() if at < len(wanted) else "the end of the list"
    return count, [f"{PUBLIC}:{first + at}: expected {line}: run ./dev fmt"]


def write(root):
    """Brings the public header up to date."""
    lines = enumerators(tree.text(root, SOURCE))[1]
    public = tree.text(root, PUBLIC)
    text = LIST.sub(lambda _: OPENING + "\n".join(lines) + "\n};", public)
    if text != public:
        (root / PUBLIC).write_text(text)


if __name__ == "__main__":
    write(Path(__file__).resolve().parent.parent.parent)
