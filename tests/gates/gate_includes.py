"""Folder order is dependency order: nothing includes upwards, and a foreign library has one room."""

import re

import tree

INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.M)

# room: the rooms whose headers it may include besides its own. Tests may include anything.
ROOMS = {
    "lib/cap": [],
    "lib/store": ["lib/cap"],
    "proto": ["lib/cap"],
    "daemon": ["lib/cap", "lib/store", "proto"],
    "client/include": [],
    "client": ["lib/cap", "proto", "client/include"],
    "client/capctl": ["client/include"],
    "tests": None,
}

# header of a foreign library: where it may be included.
FOREIGN = {
    r"uv\.h|uv/.*": r"daemon/",
    r"lmdb\.h": r"lib/store/lmdb/",
    r"sodium\.h|sodium/.*": r"lib/cap/sha256[a-z0-9_]*\.[ch]$|daemon/env[a-z0-9_]*\.[ch]$",
    r"jansson\.h": r"daemon/|client/(capctl/|capctl[a-z0-9_]*\.[ch]$)",
    r"libelf\.h|gelf\.h|libelf/.*|elf\.h": r"client/",
}

# Spelled from client/include, as users of the installed library do.
PUBLIC = re.compile(r"^capstore/[a-z0-9_]+\.h$")


def room_of(path):
    """The room a root-relative path lies in: the longest that matches."""
    fits = [room for room in ROOMS if str(path).startswith(room + "/")]
    return max(fits, key=len) if fits else None


def judge(path, room, quote, target):
    """Why the include is wrong, or None."""
    for header, places in FOREIGN.items():
        if re.fullmatch(header, target):
            allowed = room == "tests" or re.match(places, str(path))
            return None if allowed else f"<{target}> has no place in this room"
    if PUBLIC.match(target):
        return None if room in ("client", "client/include", "client/capctl", "tests") else "the client lies above"
    if quote == "<" or room == "tests":
        return None
    of = room_of(target)
    if of is None:
        return f'"{target}" is not spelled from the root'
    if of != room and of not in ROOMS[room]:
        return f"{room} may not include {of}"
    return None


def check(context):
    findings = []
    looked_at = 0
    for path in tree.sources(context.root):
        room = room_of(path)
        if room is None:
            findings.append(f"{path}:1: lies in no room")
            continue
        source = tree.text(context.root, path)
        for match in INCLUDE.finditer(source):
            looked_at += 1
            why = judge(path, room, match.group(1), match.group(2))
            if why:
                line = source.count("\n", 0, match.start(1)) + 1
                findings.append(f"{path}:{line}: {why}")
    return looked_at, findings
