"""Rooms include downwards only, and a foreign library has one room.

README.md's table of rooms is the rule: its last column says whose headers a room may include besides its
own. README.md's picture draws the same, each room on a line above those that it includes.
"""

import re
from pathlib import Path

import tree

INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.M)

README = Path("README.md")
ROW = re.compile(r"^\| `([a-z/]+)` \|[^|]*\|([^|]*)\|$", re.M)
PICTURE = re.compile(r"^```\n(.*?)^```$", re.M | re.S)
# The files of the daemon's top, in the order in which they may include each other.
TOP = re.compile(r"^ *((?:[a-z]+ > )+[a-z]+)", re.M)

# header of a foreign library: where it may be included.
FOREIGN = {
    r"uv\.h|uv/.*": r"daemon/|client/examples/",
    r"lmdb\.h": r"lib/store/lmdb/",
    r"sodium\.h|sodium/.*": r"lib/cap/sha256/sodium\.c$",
    r"xxhash\.h": r"lib/store/|daemon/serve/|client/capctl/",
    r"jansson\.h": r"daemon/|client/capctl/",
    r"microhttpd\.h": r"daemon/http/",
    r"liburing\.h": r"daemon/net/calls\.c$",
    r"curl/.*": r"client/lib/",
    r"ncurses\.h|curses\.h": r"client/capctl/top\.c$",
    r"libelf\.h|gelf\.h|libelf/.*|elf\.h": r"client/capctl/",
}

# Spelled from client/include, as users of the installed library do.
PUBLIC = re.compile(r"^capstore/[a-z0-9_]+\.h$")


class House:
    """What README.md says of the rooms."""

    def __init__(self, readme):
        table = readme.partition("| room |")[2]
        self.rooms = {room: re.findall(r"`([a-z/]+)`", uses) for room, uses in ROW.findall(table)}
        picture = PICTURE.search(readme.partition("## Where things are")[2])
        self.picture = picture.group(1) if picture else ""
        top = TOP.search(self.picture)
        self.top = top.group(1).split(" > ") if top else []

    def room_of(self, path):
        """The room that a root-relative path lies in: the innermost."""
        if str(path).startswith("tests/"):
            return "tests"
        fits = [room for room in self.rooms if str(path).startswith(room + "/")]
        return max(fits, key=len) if fits else None

    def line_of(self, room):
        """On which line of the picture the room is drawn, or None if it is not there exactly once."""
        lines = [i for i, line in enumerate(self.picture.splitlines())
                 for _ in re.finditer(rf"(?<![\w/]){room}(?![\w/])", line)]
        return lines[0] if len(lines) == 1 else None

    def faults(self):
        """Where table and picture contradict each other."""
        for room, uses in self.rooms.items():
            if self.line_of(room) is None:
                yield f"{README}: {room} is not in the picture exactly once"
            for used in uses:
                if used not in self.rooms:
                    yield f"{README}: {room} may include {used}, which is not a room"
                elif None not in (self.line_of(room), self.line_of(used)) and self.line_of(room) >= self.line_of(used):
                    yield f"{README}: {room} may include {used}, which is not drawn below it"


def judge(house, path, room, quote, target):
    """Why the include is wrong, or None."""
    for header, places in FOREIGN.items():
        if re.fullmatch(header, target):
            allowed = room == "tests" or re.match(places, str(path))
            return None if allowed else f"<{target}> has no place in this room"
    if PUBLIC.match(target):
        users = [name for name, uses in house.rooms.items() if "client/include" in uses]
        return None if room in (*users, "client/include", "tests") else "the client lies above"
    if quote == "<" or room == "tests":
        return None
    of = house.room_of(target)
    if of is None:
        return f'"{target}" is not spelled from the root'
    if of != room and of not in house.rooms[room]:
        return f"{room} may not include {of}"
    if of == room == "daemon":
        return judge_top(house, path, Path(target))
    return None


def judge_top(house, path, target):
    """Why the daemon's top may not include another file of it, or None."""
    for name in (path.stem, target.stem):
        if name not in house.top:
            return f"{name} is not in the picture in {README}"
    return f"{target} lies above" if house.top.index(target.stem) < house.top.index(path.stem) else None


def check(context):
    readme = context.root / README
    house = House(readme.read_text() if readme.exists() else "")
    findings = list(house.faults())
    looked_at = 0
    for path in tree.sources(context.root):
        room = house.room_of(path)
        if room is None:
            findings.append(f"{path}:1: lies in no room")
            continue
        source = tree.text(context.root, path)
        for match in INCLUDE.finditer(source):
            looked_at += 1
            why = judge(house, path, room, match.group(1), match.group(2))
            if why:
                line = source.count("\n", 0, match.start(1)) + 1
                findings.append(f"{path}:{line}: {why}")
    return looked_at, findings
