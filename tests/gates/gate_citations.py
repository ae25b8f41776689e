"""A comment that cites a section of our documents cites one that exists."""

import re

import tree

DOCUMENTS = {"PROTOCOL.md": "proto/PROTOCOL.md", "FORMATS.md": "lib/cap/FORMATS.md",
             "SLICES.md": "lib/cap/SLICES.md"}
SECTION = r"\d+(?:\.\d+)*"
CITATION = re.compile(
    rf"(PROTOCOL\.md|FORMATS\.md|SLICES\.md),?\s+sections?\s+({SECTION}(?:(?:\s*,\s*|\s+(?:and|to|or)\s+){SECTION})*)")
HEADING = re.compile(rf"^#+\s+({SECTION})\.?\s", re.M)


def headings(root):
    known = {}
    for name, path in DOCUMENTS.items():
        if (root / path).exists():
            known[name] = set(HEADING.findall(tree.text(root, path)))
    return known


def unwrapped(comment):
    """The comment as one line of the same length: its line ends and stars are spaces."""
    return re.sub(r"\n\s*\*?", lambda match: " " * len(match.group(0)), comment)


def check(context):
    known = headings(context.root)
    findings = []
    looked_at = 0
    for path in tree.sources(context.root):
        for line, comment in tree.comments(tree.text(context.root, path)):
            for match in CITATION.finditer(unwrapped(comment)):
                looked_at += 1
                at = line + comment.count("\n", 0, match.start())
                name = match.group(1)
                for section in re.findall(SECTION, match.group(2)):
                    if section not in known.get(name, ()):
                        findings.append(f"{path}:{at}: {name} has no section {section}")
    return looked_at, findings
