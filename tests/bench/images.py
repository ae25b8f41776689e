"""Wire Images for the benchmarks, in files, synced: the disk has nothing to do for them later."""

import os

import wire

MIB = 1 << 20


def largest(path, length):
    """An Image with `length` bytes of random code."""
    with open(path, "wb") as file:
        file.write(wire.image(code=(0, length), endpoints=[(b"\x00", wire.endpoint(0))]))
        for at in range(0, length, MIB):
            file.write(os.urandom(min(MIB, length - at)))
        file.flush()
        os.fsync(file.fileno())
    return path


def of_slots(path, count, length):
    """An Image of `count` initial slots with `length` bytes of random data each; returns the data."""
    data = [(index.to_bytes(2, "big"), os.urandom(length)) for index in range(count)]
    write(path, wire.simple_image(b"\x13\x00\x00\x00", data))
    return b"".join(content for _, content in data)


def write(path, content):
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return path
