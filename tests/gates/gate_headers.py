"""Every function that a header declares says what it does, in a comment right above it.

A comment at the end of the same line counts. A group of declarations without a blank line between
them may share the comment above the first, and so may inline functions that follow each other.
The public headers must be complete; the others, taken together, nearly.
"""

import re

import tree

ROOMS = ("lib/", "proto/", "daemon/", "client/")
PUBLIC = "client/include/"
ENOUGH = 0.9


def is_public(path):
    return str(path).startswith(PUBLIC)


def without_directives(code):
    """Blanks preprocessor lines with their continuations."""
    return re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*",
                  lambda match: re.sub(r"[^\n]", " ", match.group(0)), code, flags=re.M)


def declarations(code):
    """(first line, last line, text) of each statement at file scope; a braced body ends one."""
    code = re.sub(r'extern\s+"[^"]*"\s*\{', lambda m: " " * len(m.group(0)), code)
    depth, start, line = 0, None, 1
    text = ""
    for char in code:
        if char == "\n":
            line += 1
        if start is None and not char.isspace() and char not in ";}":
            start, text = line, ""
        if start is not None and depth == 0:
            text += char
        depth += (char == "{") - (char == "}")
        depth = max(depth, 0)
        ends = char == ";" or (char == "}" and function_name(text))
        if start is not None and depth == 0 and ends:
            yield start, line, text
            start = None


FUNCTION = re.compile(r"[^(=]*?([A-Za-z_]\w*)\s*\((?!\s*\*)")
ATTRIBUTE = re.compile(r"__attribute__\s*\(\(.*?\)\)", re.S)
NOT_FUNCTIONS = ("_Static_assert", "static_assert", "_Alignas")


def function_name(text):
    """The function that a declaration declares, or None. `type (*name)(...)` is an object."""
    head = ATTRIBUTE.sub("", text.split("{")[0])
    match = FUNCTION.match(head)
    if not match or match.group(1) in NOT_FUNCTIONS or re.match(r"\s*typedef\b", head):
        return None
    return match.group(1)


def undocumented(source):
    """(how many functions, [(line, name)] of those without a comment)."""
    code = without_directives(tree.code_only(source))
    lines = source.splitlines()
    comment_ends = {line + comment.count("\n") for line, comment in tree.comments(source)}
    total, missing, covered_until = 0, [], -1
    for line, last, text in declarations(code):
        inline = "{" in text
        above = line - 2 if inline and lines[line - 2].strip() == "" else line - 1
        documented = line - 1 in comment_ends or last in comment_ends or above == covered_until
        if function_name(text):
            total += 1
            if not documented:
                missing.append((line, function_name(text)))
        covered_until = last if documented and function_name(text) else -1
    return total, missing


def check(context):
    total = {True: 0, False: 0}
    missing = {True: [], False: []}
    for path in tree.sources(context.root):
        if path.suffix != ".h" or not str(path).startswith(ROOMS):
            continue
        count, without = undocumented(tree.text(context.root, path))
        total[is_public(path)] += count
        missing[is_public(path)] += [f"{path}:{line}: {name} has no comment above it"
                                     for line, name in without]
    findings = missing[True]
    if len(missing[False]) > (1 - ENOUGH) * total[False]:
        findings = findings + missing[False]
    else:
        for miss in missing[False]:
            print(f"{miss} (tolerated: fewer than 1 in 10)")
    return total[True] + total[False], findings
