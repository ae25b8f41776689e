"""Functions, words and turns of phrase that have no place, with the place where each is allowed.

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
    ("printf|fprintf|vfprintf|dprintf|puts|perror|syslog", r"(lib|proto)/", r"lib/cap/must\.c$",
     "a library never logs"),
    ("exit|_exit|abort", r"(lib|proto)/", r"lib/cap/must\.c$", "a library never ends the process"),
]

# Words in any text file: unfinished work, and paths of one machine.
WORDS = [
    (r"\b(TODO|FIXME|XXX|HACK)\b", "unfinished"),
    (r"(?<![\w.])/(work|home/\w+|root|Users|mnt)/", "a path of one machine"),
]

# Turns of phrase that are another language in English words, and what to write instead. They are looked
# for in comments, in string literals and in documents.
IDIOMATIC = r"longer|more|less|fewer|better|worse|mere|reason|defence|doubt|substitute|use|secret"
PHRASES = [
    (rf"(?:is|are|was|were) no (?!(?:{IDIOMATIC})\b)\w+", "not a ..."),
    (r"(?:is|are|was|were) wanted", "is expected, is required"),
    (r"wants an? ", "requires a"),
    (r"stands? (?:there|here|twice)", "is here, is given twice"),
    (r"likewise", "also, the same for"),
    (r"in vain", "without success; or say what failed"),
    (r"inside of", "inside, within"),
    (r"whoever", "anyone who, a caller that"),
    (r"passed over", "skipped"),
    (r"beforehand", "in advance, before"),
    (r"in the one way or the other", "either way"),
    (r"at once it", "say what comes first"),
    (r"says? no to", "rejects, refuses"),
    (r"tells? of", "reports, names"),
    (r"not any more", "no longer"),
]
# All at once, each in a group of its own (so none may have another), to read the tree in one pass.
ANY_PHRASE = re.compile(r"\b(?:" + "|".join(f"({pattern})" for pattern, _ in PHRASES).replace(" ", r"\s+") + ")", re.I)
# A question of existence is English: "there is no ...".
EXISTENCE = re.compile(r"\bthere\s+$", re.I)

# These name what they ban.
SELF = ("tests/gates/gate_words.py", "tests/gates/bites.py")

# Text that others wrote, taken in as it is.
FOREIGN = re.compile(r"(^|/)(LICENSE|package-lock\.json|vectors/index\.json)$")


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


def prose(path, source):
    """The source with all but its words blanked, in the same places."""
    if path.suffix in (".c", ".h"):
        kept, at = [], 0
        for match in tree.tokens(source):
            kept += [re.sub(r"\S", "\0", source[at:match.start()]), match.group(0)]
            at = match.end()
        source = "".join(kept) + re.sub(r"\S", "\0", source[at:])
        source = re.sub(r'"|^[ \t]*\*', lambda match: " " * len(match.group(0)), source, flags=re.M)
    return re.sub(r'^[ \t]*(#|\.\\")', lambda match: " " * len(match.group(0)), source, flags=re.M)


def foreign_phrases(path, source):
    text = prose(path, source)
    for match in ANY_PHRASE.finditer(text):
        if not EXISTENCE.search(text, max(0, match.start() - 20), match.start()):
            said = " ".join(match.group(0).split())
            instead = PHRASES[match.lastindex - 1][1]
            yield f"{path}:{line_of(source, match.start())}: \"{said}\"; better: {instead}"


def check(context):
    findings = []
    looked_at = 0
    for path in context.only or tree.files(context.root):
        if str(path) in SELF or FOREIGN.search(str(path)) or not tree.is_text(context.root, path):
            continue
        looked_at += 1
        source = tree.text(context.root, path)
        findings += banned_words(path, source)
        findings += foreign_phrases(path, source)
        if path.suffix in (".c", ".h"):
            findings += banned_calls(path, source)
    return looked_at, findings
