#!/usr/bin/env python3
"""A daemon that is broken on purpose: it passes everything to a sound one but for one fault.

    broken.py LISTEN UPSTREAM FAULT      (both are unix:PATH; broken.py --list names the faults)

What a conformance suite is for is to catch each of these.
"""

import os
import socket
import struct
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "system"))

import protocol  # noqa: E402
from protocol import END, HEADER, TYPES  # noqa: E402


def pack(frame_type, request_id, flags, payload):
    return HEADER.pack(len(payload), request_id, frame_type, flags, 0) + payload


# A fault changes one frame of the daemon's, or of the client's: (type, id, flags, payload) to bytes.


def a_flipped_bit(kind, request_id, flags, payload):
    if kind == TYPES["BODY"] and len(payload) > 9:
        payload = payload[:-1] + bytes([payload[-1] ^ 1])
    return pack(kind, request_id, flags, payload)


def a_wrong_kind(kind, request_id, flags, payload):
    if kind == TYPES["HAS_REPLY"]:
        payload = payload[:4] + bytes(byte ^ 3 if byte else 0 for byte in payload[4:])
    return pack(kind, request_id, flags, payload)


def another_id(kind, request_id, flags, payload):
    return pack(kind, request_id ^ 0x100 if kind == TYPES["STAT_REPLY"] else request_id, flags, payload)


def a_lost_end(kind, request_id, flags, payload):
    return pack(kind, request_id, 0 if kind == TYPES["BODY"] else flags, payload)


def a_wrong_name(kind, request_id, flags, payload):
    if kind == TYPES["ERROR"]:
        payload = payload.replace(b"not_found", b"not_there").replace(b"bad_message", b"bad_massage")
    return pack(kind, request_id, flags, payload)


def a_wrong_code(kind, request_id, flags, payload):
    if kind == TYPES["ERROR"]:
        payload = struct.pack("<H", struct.unpack_from("<H", payload)[0] + 1) + payload[2:]
    return pack(kind, request_id, flags, payload)


def nothing_is_new(kind, request_id, flags, payload):
    if kind == TYPES["PUT_DATA_REPLY"]:
        payload = payload[:48] + b"\0" + payload[49:]
    return pack(kind, request_id, flags, payload)


def all_features(kind, request_id, flags, payload):
    if kind == TYPES["HELLO_REPLY"] and len(payload) > 74 and payload[62] == 74:
        payload = payload[:66] + b"\xff" * 8 + payload[74:]
    return pack(kind, request_id, flags, payload)


def a_range_ignored(kind, request_id, flags, payload):
    if kind == TYPES["GET"] and len(payload) == 48:
        payload = payload[:32] + bytes(8) + payload[40:]
    return pack(kind, request_id, flags, payload)


def frames_not_judged(kind, request_id, flags, payload):
    return pack(kind, request_id, flags & END if kind == TYPES["BODY"] else 0, payload)


def cancel_ignored(kind, request_id, flags, payload):
    return b"" if kind == TYPES["CANCEL"] else pack(kind, request_id, flags, payload)


def dry_runs_store(kind, request_id, flags, payload):
    if kind == TYPES["PUT_IMAGE"]:
        payload = bytes([payload[0] & ~2]) + payload[1:]
    return pack(kind, request_id, flags, payload)


FROM_DAEMON = [a_flipped_bit, a_wrong_kind, another_id, a_lost_end, a_wrong_name, a_wrong_code, nothing_is_new,
               all_features]
FROM_CLIENT = [a_range_ignored, frames_not_judged, cancel_ignored, dry_runs_store]
FAULTS = {fault.__name__: fault for fault in FROM_DAEMON + FROM_CLIENT}


def read_all(sock, length):
    data = bytearray()
    while len(data) < length:
        piece = sock.recv(length - len(data))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)


def carry(source, target, fault):
    """Frames from one socket to the other, each through the fault; the end too."""
    try:
        while True:
            length, request_id, kind, flags, reserved = HEADER.unpack(read_all(source, HEADER.size))
            payload = read_all(source, length) if length <= 1 << 18 else b""
            if fault is not None and length <= 1 << 18:
                target.sendall(fault(kind, request_id, flags, payload))
            else:
                target.sendall(HEADER.pack(length, request_id, kind, flags, reserved) + payload)
    except (EOFError, OSError):
        for sock in (source, target):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def serve(listener, upstream, fault):
    while True:
        client, _ = listener.accept()
        daemon = protocol.open_socket(upstream, None)
        for source, target, mine in ((client, daemon, FROM_CLIENT), (daemon, client, FROM_DAEMON)):
            threading.Thread(target=carry, args=(source, target, fault if fault in mine else None), daemon=True).start()


def main():
    if sys.argv[1:] == ["--list"]:
        print("\n".join(FAULTS))
        return 0
    if len(sys.argv) != 4 or sys.argv[3] not in FAULTS or not sys.argv[1].startswith("unix:"):
        print(__doc__, file=sys.stderr)
        return 2
    path = sys.argv[1][len("unix:"):]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path + ".new")
        listener.listen(64)
        os.rename(path + ".new", path)  # who sees it can connect
        serve(listener, sys.argv[2], FAULTS[sys.argv[3]])
    return 0


if __name__ == "__main__":
    sys.exit(main())
