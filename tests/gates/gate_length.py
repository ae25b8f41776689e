"""No C file is longer than a person reads in one go."""

import tree

MAX_LINES = 700


def check(context):
    findings = []
    paths = tree.sources(context.root)
    for path in paths:
        lines = len(tree.text(context.root, path).splitlines())
        if lines > MAX_LINES:
            findings.append(f"{path}:{MAX_LINES + 1}: {lines} lines, more than {MAX_LINES}")
    return len(paths), findings
