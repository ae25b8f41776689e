"""An SSZ encoder that makes mistakes on purpose, at every depth.

A value is what it is made of: bytes (a field of fixed size, or the content of a byte list), U(width, n),
Items(width, [bytes]) for a list of elements of fixed size, Container([value, ...]), List([value, ...]) of variable
elements, Union(selector, value). Nodes have a path: the indexes that lead to them from the root.

encode() gives the canonical encoding with marks that say where its parts came to lie; overwrite() changes a mark's
bytes. Mistakes that move bytes (a gap, a tail, a cut) are made while encoding, so that everything around them stays
consistent and nothing but the mistake itself is wrong.
"""

import struct
from collections import namedtuple

U = namedtuple("U", "width value")
Items = namedtuple("Items", "width elements")
Container = namedtuple("Container", "fields")
List = namedtuple("List", "elements")
Union = namedtuple("Union", "selector value")
Bytes = namedtuple("Bytes", "content")  # a byte list: variable, where plain bytes are fixed

# kind: offset, integer, selector, items; `of` is what the offsets are of: container or list. `index` counts the
# offsets of one scope, whose bytes are [start, end).
Mark = namedtuple("Mark", "kind path at width start end index of")


def is_variable(value):
    if isinstance(value, Container):
        return any(is_variable(field) for field in value.fields)
    return not isinstance(value, (bytes, U))


class Encoder:
    """encode() with mistakes: gaps, tails and cuts by path; `extra` bytes go between table and payload, or behind."""

    def __init__(self, gaps=None, tails=None, cuts=None):
        self.gaps, self.tails, self.cuts = gaps or {}, tails or {}, cuts or {}

    def encode(self, value, path=()):
        data, marks = self.plain(value, path)
        data += self.tails.get(path, b"")
        if path in self.cuts:
            data = data[:self.cuts[path](len(data))]
            marks = [m for m in marks if m.at + m.width <= len(data)]
        return data, marks

    def plain(self, value, path):
        if isinstance(value, bytes):
            return value, []
        if isinstance(value, Bytes):
            return value.content, []
        if isinstance(value, U):
            data = value.value.to_bytes(value.width, "little")
            return data, [Mark("integer", path, 0, value.width, 0, value.width, 0, None)]
        if isinstance(value, Items):
            data = b"".join(value.elements)
            return data, [Mark("items", path, 0, 0, 0, len(data), value.width, None)]
        if isinstance(value, Union):
            data, marks = (b"", []) if value.value is None else self.encode(value.value, path + (0,))
            selector = Mark("selector", path, 0, 1, 0, 1 + len(data), 0, None)
            return bytes([value.selector]) + data, [selector] + shift(marks, 1)
        return self.table(value, path)

    def table(self, value, path):
        """Containers and lists: the fixed part with its offsets, then what they point to."""
        is_list = isinstance(value, List)
        fields = value.elements if is_list else value.fields
        parts = [self.encode(field, path + (i,)) for i, field in enumerate(fields)]
        variable = [is_list or is_variable(field) for field in fields]
        gap = self.gaps.get(path, b"")
        end = sum(4 if v else len(data) for (data, _), v in zip(parts, variable)) + len(gap)
        fixed, payload, marks, offsets = b"", b"", [], []
        for (data, inner), v in zip(parts, variable):
            if v:
                offsets.append(len(fixed))
                marks += shift(inner, end + len(payload))
                fixed += struct.pack("<I", end + len(payload))
                payload += data
            else:
                marks += shift(inner, len(fixed))
                fixed += data
        whole = fixed + gap + payload
        of = "list" if is_list else "container"
        marks += [Mark("offset", path, at, 4, 0, len(whole), i, of) for i, at in enumerate(offsets)]
        return whole, marks


def shift(marks, by):
    return [m._replace(at=m.at + by, start=m.start + by, end=m.end + by) for m in marks]


def encode(value, **mistakes):
    return Encoder(**mistakes).encode(value)[0]


def marks_of(value):
    return Encoder().encode(value)[1]


def paths_of(value, path=()):
    """(path, node) of every node."""
    yield path, value
    inner = {Container: "fields", List: "elements"}.get(type(value))
    if inner:
        for i, node in enumerate(getattr(value, inner)):
            yield from paths_of(node, path + (i,))
    elif isinstance(value, Union) and value.value is not None:
        yield from paths_of(value.value, path + (0,))


def read(data, mark):
    return int.from_bytes(data[mark.at:mark.at + mark.width], "little")


def overwrite(data, mark, number):
    """The bytes with a mark's number changed (cut to its width)."""
    number %= 1 << 8 * mark.width
    return data[:mark.at] + number.to_bytes(mark.width, "little") + data[mark.at + mark.width:]


# An Image and a Data cap's body in these terms.

def keyed(key, value):
    return Container([Bytes(key), value])


def data_desc(size, pages):
    return Container([U(8, size), Items(12, [struct.pack("<III", *page) for page in pages])])


def endpoint(entry_pc, registers=()):
    return Container([U(8, entry_pc), U(1, 2), U(1, 3), Items(9, [struct.pack("<BQ", *r) for r in registers])])


def mapping(start, size, path):
    return Container([U(8, start), U(8, size), List([Bytes(step) for step in path])])


def pinned_data(desc):
    return Union(0, Container([desc]))


def pinned_image(content_hash):
    return Union(1, content_hash)


FIELDS = ("endpoints", "mappings", "pinned", "initial", "receiver", "gas", "quota", "arena")


def image(code=(0, 0), receiver=None, arena=b"", **lists):
    """A wire Image; lists are endpoints, mappings, pinned, initial (of nodes), gas, quota (of keys)."""
    for name in ("gas", "quota"):
        lists[name] = [Bytes(key) for key in lists.get(name, ())]
    values = {name: List(list(lists.get(name, ()))) for name in FIELDS}
    values["receiver"] = Union(0, None) if receiver is None else Union(1, Bytes(receiver))
    values["arena"] = Bytes(arena)
    return Container([U(4, code[0]), U(4, code[1]), *(values[name] for name in FIELDS)])
