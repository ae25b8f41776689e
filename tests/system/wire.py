"""A wire Image in a few lines of Python: tests build their uploads without the packer under test."""

import struct

PAGE = 4096


def variable_list(items):
    """SSZ list of variable-size elements that are already encoded."""
    offset, table, body = 4 * len(items), b"", b""
    for item in items:
        table += struct.pack("<I", offset + len(body))
        body += item
    return table + body


def entry(key, value):
    """Container{k: Key, v: …} of a map, the value encoded."""
    return struct.pack("<II", 8, 8 + len(key)) + key + value


def data_desc(size, pages):
    """DataDesc; pages are (index, arena_off, len)."""
    return struct.pack("<QI", size, 12) + b"".join(struct.pack("<III", *page) for page in pages)


def pinned_data(desc):
    return b"\x00" + struct.pack("<I", 4) + desc


def pinned_image(content_hash):
    return b"\x01" + content_hash


def endpoint(entry_pc, registers=()):
    regs = b"".join(struct.pack("<BQ", index, value) for index, value in registers)
    return struct.pack("<QBBI", entry_pc, 0, 0, 14) + regs


def mapping(start, size, path):
    return struct.pack("<QQI", start, size, 20) + variable_list(list(path))


def image(code=(0, 0), endpoints=(), mappings=(), pinned=(), initial=(), arena=b""):
    """The encoding of an Image. endpoints, pinned and initial are (key, encoded value), sorted here."""
    fields = [
        variable_list([entry(k, v) for k, v in sorted(endpoints)]),
        variable_list(list(mappings)),
        variable_list([entry(k, v) for k, v in sorted(pinned)]),
        variable_list([entry(k, v) for k, v in sorted(initial)]),
        b"\x00",
        b"",
        b"",
        arena,
    ]
    offset, fixed = 40, struct.pack("<II", *code)
    for field in fields:
        fixed += struct.pack("<I", offset)
        offset += len(field)
    return fixed + b"".join(fields)


def simple_image(code, data=(), images=()):
    """Code first in the arena, then each data slot's content page by page: (key, content) in `data`."""
    arena = bytearray(code)
    initial = []
    for key, content in data:
        pages = []
        for index in range(0, max(1, -(-len(content) // PAGE))):
            piece = content[index * PAGE:(index + 1) * PAGE]
            if piece:
                pages.append((index, len(arena), len(piece)))
                arena += piece
        size = max(1, -(-len(content) // PAGE)) * PAGE
        initial.append((key, data_desc(size, pages)))
    pinned = [(key, pinned_image(content_hash)) for key, content_hash in images]
    return image(code=(0, len(code)), endpoints=[(b"\x00", endpoint(0))], pinned=pinned, initial=initial,
                 arena=bytes(arena))


def data_content(body):
    """The logical bytes of a Data cap's served body."""
    assert body[0] == 2
    body = body[1:]
    size, pages, arena = struct.unpack_from("<QII", body)
    out = bytearray(size)
    for at in range(pages, arena, 12):
        index, offset, length = struct.unpack_from("<III", body, at)
        window = body[arena + offset:arena + offset + length]
        assert len(window) == length
        out[index * PAGE:index * PAGE + length] = window
    return bytes(out)
