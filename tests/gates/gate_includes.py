"""Folder order is dependency order: nothing includes upwards, and a foreign library has one room."""

import re

import tree

INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.M)

LIBRARIES = ["lib/cap", "lib/store", "proto"]

# room: the rooms whose headers it may include besides its own. A file lies in the innermost room that
# has its path. Tests may include anything. README.md draws this, and is held to it.
ROOMS = {
    "lib/cap": [],
    "lib/store": ["lib/cap"],
    "lib/store/lmdb": ["lib/cap", "lib/store"],
    "proto": ["lib/cap"],
    "daemon/core": ["lib/cap", "lib/store"],
    "daemon/net": ["daemon/core", *LIBRARIES],
    "daemon/publish": ["daemon/core", "daemon/net", *LIBRARIES],
    "daemon/serve": ["daemon/core", "daemon/net", *LIBRARIES],
    "daemon/admin": ["daemon/core", "daemon/net", "daemon/publish", "daemon/serve", *LIBRARIES],
    "daemon": ["daemon/admin", "daemon/core", "daemon/net", "daemon/publish", "daemon/serve", *LIBRARIES],
    "client/include": [],
    "client/lib": ["client/include", "lib/cap", "proto"],
    "client/capctl": ["client/include"],
    "client/examples": ["client/include"],
    "tests": None,
}

# Among the files of the daemon's top: one may include those that follow it.
DAEMON_TOP = ["daemon/main", "daemon/server", "daemon/routes"]

# header of a foreign library: where it may be included.
FOREIGN = {
    r"uv\.h|uv/.*": r"daemon/",
    r"lmdb\.h": r"lib/store/lmdb/",
    r"xxhash\.h": r"lib/store/record\.c$",
    r"sodium\.h|sodium/.*": r"lib/cap/sha256[a-z0-9_]*\.[ch]$",
    r"xxhash\.h": r"lib/store/",
    r"jansson\.h": r"daemon/|client/capctl/",
    r"libelf\.h|gelf\.h|libelf/.*|elf\.h": r"client/capctl/",
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
        return None if room.startswith("client/") or room == "tests" else "the client lies above"
    if quote == "<" or room == "tests":
        return None
    of = room_of(target)
    if of is None:
        return f'"{target}" is not spelled from the root'
    if of != room and of not in ROOMS[room]:
        return f"{room} may not include {of}"
    if of == room == "daemon":
        return judge_top(str(path), target)
    return None


def judge_top(path, target):
    """Why the daemon's top may not include another file of it, or None."""
    names = [name.rsplit(".", 1)[0] for name in (path, target)]
    for name in names:
        if name not in DAEMON_TOP:
            return f"{name} has no place in DAEMON_TOP of this gate"
    return f"{target} lies above" if DAEMON_TOP.index(names[1]) < DAEMON_TOP.index(names[0]) else None


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
