"""One dialect of C: conditions compare, sizeof has parentheses, a banner has one line.

What is a pointer or a value of an enumeration is compared with NULL or with a name, never tested bare;
clang-query judges that by types. The rest is a pattern's to see.
"""

import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import tree
from gate_lint import compiled

# Every operand that is tested for being nonzero.
QUERIES = """
set output diag
set bind-root true
set traversal IgnoreUnlessSpelledInSource
let bare expr(anyOf(hasType(hasCanonicalType(pointerType())), hasType(hasCanonicalType(enumType()))))
match unaryOperator(unless(isExpansionInSystemHeader()), hasOperatorName("!"), hasUnaryOperand(bare))
match binaryOperator(unless(isExpansionInSystemHeader()), hasAnyOperatorName("&&", "||"), hasEitherOperand(bare))
match ifStmt(unless(isExpansionInSystemHeader()), hasCondition(bare))
match whileStmt(unless(isExpansionInSystemHeader()), hasCondition(bare))
match doStmt(unless(isExpansionInSystemHeader()), hasCondition(bare))
match forStmt(unless(isExpansionInSystemHeader()), hasCondition(bare))
match conditionalOperator(unless(isExpansionInSystemHeader()), hasCondition(bare))
"""
ROOT = re.compile(r'(.+?):(\d+):\d+: note: "root" binds here')
FOREIGN_MACRO = re.compile(r"/usr/.*: note: expanded from macro")

PATTERNS = [
    (re.compile(r"\bsizeof\s*(?!\()\S"), "sizeof without parentheses"),
]
BANNER = re.compile(r"/\*\s*[-=*]{3,}[^*]*\n|/\*[^*]*\n\s*\*\s*[-=]{5,}\s*\*/")


def bare_tests(context, paths):
    """The findings of clang-query in the files, which it reads one after the other."""
    command = ["clang-query", "-p", str(context.build), "-f", "/dev/stdin", *map(str, paths)]
    result = subprocess.run(command, cwd=context.root, input=QUERIES, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        return [f"{paths[0]}: clang-query failed: {result.stderr}"]
    findings = []
    for match in result.stdout.split("\nMatch #"):
        at = ROOT.search(match)
        if at and not FOREIGN_MACRO.search(match):
            path = at.group(1).replace(f"{context.root}/", "")
            findings.append(f"{path}:{at.group(2)}: a pointer or an enumeration is tested bare")
    return findings


def patterns(context, path):
    source = tree.text(context.root, path)
    code = tree.code_only(source)
    for pattern, what in PATTERNS:
        for match in pattern.finditer(code):
            yield f"{path}:{source.count(chr(10), 0, match.start()) + 1}: {what}"
    for line, comment in tree.comments(source):
        if BANNER.match(comment):
            yield f"{path}:{line}: a banner of more than one line"


def check(context):
    paths = context.only or compiled(context.build, context.root)
    shares = [share for share in (paths[i::os.cpu_count()] for i in range(os.cpu_count())) if share]
    findings = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for found in pool.map(lambda share: bare_tests(context, share), shares):
            findings += found
    for path in tree.sources(context.root):
        findings += patterns(context, path)
    return len(paths), sorted(set(findings))
