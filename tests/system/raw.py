"""Frames by hand, for tests that stop in the middle of things or break the rules."""

import struct

import protocol
import wire
from protocol import TYPES, encode, frame

FRAME_MAX = 256 << 10
HELLO = frame("HELLO", 0, encode("HELLO", magic=protocol.MAGIC, version_min=1, version_max=1, agent="wire"))
NO_HASH = bytes(32)
LARGE = 8 << 20  # of a body: far more than the buffers of a socket


def header(length=0, request_id=1, kind="HAS", flags=0, reserved=0):
    number = TYPES[kind] if isinstance(kind, str) else kind
    return protocol.HEADER.pack(length, request_id, number, flags, reserved)


def put_image(total_len, flags=0):
    return encode("PUT_IMAGE", flags=flags, total_len=total_len)


def put_data(total_len):
    return encode("PUT_DATA", flags=0, size=0, total_len=total_len)


def refused_head(endpoints=1):
    """A head that breaks rule 8 in its last endpoint: (head, total length of a 200 MiB Image)."""
    last = [(b"\xff", wire.endpoint(0, registers=[(13, 1)]))]
    good = [(struct.pack(">I", i), wire.endpoint(i)) for i in range(endpoints - 1)]
    head = wire.image(endpoints=good + last)
    return head, 200 << 20
