"""No circle of includes: X.h and X.c are one node, and no node reaches itself through others."""

import tree
from gate_includes import INCLUDE, PUBLIC

PUBLIC_ROOM = "client/include/"


def node(path):
    """A source and its header share a node."""
    return str(path).rsplit(".", 1)[0]


def graph(root):
    """node: {node it includes: (file, line)}, for the files of the tree."""
    paths = tree.sources(root)
    known = {str(path) for path in paths}
    edges = {node(path): {} for path in paths}
    for path in paths:
        source = tree.text(root, path)
        for match in INCLUDE.finditer(source):
            target = match.group(2)
            target = PUBLIC_ROOM + target if PUBLIC.match(target) else target
            if target not in known:
                target = str(path.parent / target)
            if target in known and node(target) != node(path):
                line = source.count("\n", 0, match.start(1)) + 1
                edges[node(path)].setdefault(node(target), (path, line))
    return edges


def shortest_way(edges, start, end):
    """The nodes from start to end, both included, or None."""
    came_from = {start: None}
    front = [start]
    while front:
        following = []
        for at in front:
            for to in edges[at]:
                if to not in came_from:
                    came_from[to] = at
                    following.append(to)
        if end in came_from:
            way = [end]
            while came_from[way[-1]] is not None:
                way.append(came_from[way[-1]])
            return way[::-1]
        front = following
    return None


def check(context):
    edges = graph(context.root)
    findings = {}
    for start, targets in sorted(edges.items()):
        for target, (path, line) in sorted(targets.items()):
            back = shortest_way(edges, target, start)
            if back and frozenset(back) not in findings:
                findings[frozenset(back)] = f"{path}:{line}: a circle of includes: {' > '.join([start, *back])}"
    return sum(map(len, edges.values())), list(findings.values())
