"""Functions and words that have no place, with the place where each is allowed.

A line may say `lint: allow NAME` in a comment when it has a reason to use one.
"""

import re

import tree

CALL = r"(?<![\w.>])({})\s*\("

# (names, where it is banned, where it is allowed after all, why)
CALLS = [
    ("assert", r"(lib|proto|daemon|client)/", None, "input must not end the process"),
    ("sprintf|vsprintf|strcpy|strcat|gets|stpcpy|strtok|atoi|atol|alloca", r"", None,
     "has no bound, or hides errors"),
    ("rand|srand|random|srandom", r"", None, "is not random"),
    ("time|gettimeofday|clock_gettime|uv_now|uv_hrtime|getrandom|getentropy|randombytes_buf",
     r"(lib|proto|daemon)/", r"daemon/core/env\.c$",
     "the outside world comes in through daemon/core/env"),
    ("printf|fprintf|vfprintf|puts|perror|syslog", r"(lib|proto)/", None, "a library never logs"),
    ("exit|_exit|abort", r"(lib|proto)/", None, "a library never ends the process"),
]

# Words in any text file: unfinished work, and paths of one machine.
WORDS = [
    (r"\b(TODO|FIXME|XXX|HACK)\b", "unfinished"),
    (r"(?<![\w.])/(work|home/\w+|root|Users|mnt)/", "a path of one machine"),
]

# These name what they ban.
SELF = ("tests/gates/gate_words.py", "tests/gates/bites.py")

# Text that others wrote, taken in as it is.
FOREIGN = re.compile(r"(^|/)(LICENSE|package-lock\.json)$")


def line_of(source, offset):
    return source.count("\n", 0, offset) + 1


def banned_calls(path, source):
    code = tree.code_only(source)
    lines = source.splitlines()
    for names, where, allowed, why in CALLS:
        if not re.match(where, str(path)) or (allowed and re.match(allowed, str(path))):
            continue
        for match in re.finditer(CALL.format(names), code):
            line = line_of(source, match.start())
            name = match.group(1)
            if f"lint: allow {name}" not in lines[line - 1]:
                yield f"{path}:{line}: {name}() {why}"


def banned_words(path, source):
    for pattern, why in WORDS:
        for match in re.finditer(pattern, source):
            yield f"{path}:{line_of(source, match.start())}: {match.group(0)}: {why}"


def check(context):
    findings = []
    looked_at = 0
    for path in tree.files(context.root):
        if str(path) in SELF or FOREIGN.search(str(path)) or not tree.is_text(context.root, path):
            continue
        looked_at += 1
        source = tree.text(context.root, path)
        findings += banned_words(path, source)
        if path.suffix in (".c", ".h"):
            findings += banned_calls(path, source)
    return looked_at, findings
