#!/usr/bin/env python3
"""A small client of the capstore protocol, written from proto/PROTOCOL.md alone.

System tests use it as the second implementation: it shares no code with the C client, and it can
break the rules on purpose (send_raw, send_frame). Standard library only.

    with Connection("unix:/run/capstore/capstore.sock") as c:
        c.hello()
        reply = c.put_data(b"hello")
        reply, body = c.get(reply["cap_hash"])

One Connection belongs to one thread. Calls such as get() wait for their own answer and keep what
arrives for other requests; to have several requests in flight, use request() and wait().

`protocol.py PROTOCOL.md` checks that this file encodes the document's examples byte for byte.
"""

import os
import re
import select
import socket
import struct
import sys
from collections import namedtuple

HEADER = struct.Struct("<IIBBH")  # section 2.1
END = 1
TO_END = 2**64 - 1
MAGIC = b"capstore"
BODY_PIECE = 64 << 10  # bytes of a body that one frame carries, unless a call says otherwise

TYPES = {  # section 2.3
    "HELLO": 0x01, "HAS": 0x02, "GET": 0x03, "STAT": 0x04, "PUT_DATA": 0x05, "PUT_IMAGE": 0x06,
    "CANCEL": 0x07, "MAP": 0x08, "GET_MANY": 0x09, "BODY": 0x10, "HELLO_REPLY": 0x81, "HAS_REPLY": 0x82,
    "GET_REPLY": 0x83, "PUT_CAP": 0x0A, "PUT_CAP_REPLY": 0x8A,
    "STAT_REPLY": 0x84, "PUT_DATA_REPLY": 0x85, "PUT_IMAGE_REPLY": 0x86, "MAP_REPLY": 0x88,
    "GET_MANY_REPLY": 0x89, "SLICE": 0x0B, "SLICE_REPLY": 0x8B, "CLOSURE": 0x0C, "CLOSURE_REPLY": 0x8C,
    "RESUME": 0x0D, "RESUME_REPLY": 0x8D, "ERROR": 0xFF,
}
TYPE_NAMES = {value: name for name, value in TYPES.items()}

# Section 4: fields in order. u8..u64 are integers, bN are N bytes, "bytes" and "text" are variable.
MESSAGES = {
    "HELLO": [("magic", "b8"), ("version_min", "u16"), ("version_max", "u16"), ("agent", "text")],
    "HELLO_REPLY": [  # the short form
        ("version", "u16"), ("store_id", "b16"), ("limits.frame", "u32"),
        ("limits.requests", "u32"), ("limits.hashes", "u32"), ("limits.upload", "u64"),
        ("limits.structure", "u64"), ("limits.data", "u64"), ("limits.idle_ms", "u32"),
        ("limits.progress_ms", "u32"), ("agent", "text")],
    "HAS": [("hashes", "bytes")],
    "HAS_REPLY": [("kinds", "bytes")],
    "GET": [("hash", "b32"), ("offset", "u64"), ("len", "u64")],
    "GET_REPLY": [("kind", "u8"), ("body_len", "u64"), ("offset", "u64"), ("len", "u64")],
    "STAT": [("hash", "b32")],
    "STAT_REPLY": [
        ("kind", "u8"), ("body_len", "u64"), ("size", "u64"), ("page_count", "u64"),
        ("ref_count", "u64"), ("published_us", "u64"), ("content_hash", "b32")],
    "PUT_DATA": [("flags", "u8"), ("size", "u64"), ("total_len", "u64")],
    "PUT_DATA_REPLY": [("cap_hash", "b32"), ("size", "u64"), ("body_len", "u64"), ("is_new", "u8")],
    "PUT_IMAGE": [("flags", "u8"), ("total_len", "u64")],
    "PUT_IMAGE_REPLY": [
        ("cap_hash", "b32"), ("content_hash", "b32"), ("body_len", "u64"), ("is_new", "u8"),
        ("data_new", "u32"), ("data_present", "u32")],
    "PUT_CAP": [("flags", "u8"), ("kind", "u8"), ("hash", "b32"), ("total_len", "u64")],
    "PUT_CAP_REPLY": [("is_new", "u8")],
    "CANCEL": [],
    "MAP": [("hash", "b32")],
    "MAP_REPLY": [("kind", "u8"), ("body_len", "u64"), ("size", "u64"), ("len", "u64"), ("rest_off", "u64"),
                  ("rest_len", "u64")],
    "GET_MANY": [("hashes", "bytes")],
    "GET_MANY_REPLY": [("count", "u32")],
    "PIECE": [("index", "u32"), ("code", "u16"), ("kind", "u8"), ("more", "u8"), ("body_len", "u64"), ("len", "u32")],
    "SLICE": [("hash", "b32"), ("ranges", "bytes")],
    "SLICE_REPLY": [("kind", "u8"), ("body_len", "u64"), ("size", "u64")],
    "CLOSURE": [("flags", "u8"), ("roots", "bytes"), ("have", "bytes")],
    "CLOSURE_REPLY": [("max", "u32")],
    "ENTRY": [("hash", "b32"), ("kind", "u8"), ("body_len", "u64")],
    "RESUME": [("token", "b16")],
    "RESUME_REPLY": [("total_len", "u64"), ("offset", "u64")],
    "ERROR": [("code", "u16"), ("name", "text"), ("message", "text"), ("detail_len", "u64")],
    "SHORTAGE": [("need", "u64"), ("have", "u64"), ("limit", "text")],
    "UNRESOLVED": [("table", "u8"), ("kind", "u8"), ("cap_hash", "b32"), ("slot", "bytes")],
}
for short in ("HELLO", "HELLO_REPLY"):  # with features, as most speak them
    MESSAGES[short + "_FEATURES"] = MESSAGES[short] + [("features", "u64")]
for kept in ("PUT_DATA", "PUT_IMAGE", "PUT_CAP"):  # with leases
    MESSAGES[kept + "_KEEP"] = MESSAGES[kept] + [("keep_s", "u32")]
    MESSAGES[kept + "_RESUME"] = MESSAGES[kept + "_KEEP"] + [("token", "b16"), ("offset", "u64")]
    MESSAGES[kept + "_REPLY_KEEP"] = MESSAGES[kept + "_REPLY"] + [("kept_s", "u32")]
MESSAGES["HAS_KEEP"] = [("keep_s", "u32")] + MESSAGES["HAS"]
MESSAGES["HAS_REPLY_KEEP"] = MESSAGES["HAS_REPLY"] + [("kept_s", "bytes")]
KEEP, SLICE, CLOSURE, RESUME = 4, 16, 32, 64  # features
VARIABLE = ("bytes", "text")

Frame = namedtuple("Frame", "type id flags payload")
Frame.__doc__ = "One frame; `type` is the number, TYPE_NAMES has its name."


class Closed(Exception):
    """The daemon closed the connection (also by a reset)."""


class BadReply(Exception):
    """The daemon broke the protocol."""


class Refused(Exception):
    """An ERROR: .id, .code, .name, .message, .detail (bytes)."""

    def __init__(self, request_id, fields, detail=b""):
        super().__init__("%s: %s" % (fields["name"], fields["message"]))
        self.id = request_id
        self.code = fields["code"]
        self.name = fields["name"]
        self.message = fields["message"]
        self.detail = detail

    def shortage(self):
        """(need, have, limit) of a refusal for want of room or over a quota (section 4.14)."""
        return tuple(decode("SHORTAGE", self.detail).values())

    def unresolved(self):
        """The entries of an unresolved_slot's detail, as dicts (section 4.14)."""
        return decode_unresolved(self.detail)


def width(kind):
    """Bytes of a fixed field, or of a variable one's offset."""
    if kind in VARIABLE:
        return 4
    return int(kind[1:]) // 8 if kind[0] == "u" else int(kind[1:])


def encode(name, /, **values):
    """The payload of a message, from one keyword per field ('limits.frame' as limits_frame)."""
    fields = MESSAGES[name]
    end = sum(width(kind) for _, kind in fields)
    fixed, variable = b"", b""
    for field, kind in fields:
        value = values[field.replace(".", "_")]
        if kind in VARIABLE:
            value = value.encode("ascii") if kind == "text" else bytes(value)
            fixed += struct.pack("<I", end + len(variable))
            variable += value
        elif kind[0] == "u":
            fixed += value.to_bytes(width(kind), "little")
        else:
            assert len(value) == width(kind), field
            fixed += value
    return fixed + variable


def offsets_of(name, payload):
    """The offsets of the variable fields with the end behind them, checked (section 4.1)."""
    fields, at, offsets = MESSAGES[name], 0, []
    fixed = sum(width(kind) for _, kind in fields)
    if len(payload) < fixed:
        raise BadReply("%s is cut" % name)
    for _, kind in fields:
        if kind in VARIABLE:
            offsets.append(struct.unpack_from("<I", payload, at)[0])
        at += width(kind)
    offsets.append(len(payload))
    if offsets[0] != fixed or offsets != sorted(offsets):
        raise BadReply("%s has bad offsets %r" % (name, offsets))
    return offsets


def form_of(name, payload):
    """Which form of HELLO or HELLO_REPLY a payload has: 'agent' ends the fixed part of the short one."""
    if name + "_FEATURES" not in MESSAGES:
        return name
    end = sum(width(kind) for _, kind in MESSAGES[name])
    is_short = payload[end - 4:end] == struct.pack("<I", end)
    return name if is_short else name + "_FEATURES"


def decode(name, payload):
    """The fields of a message as a dict, or BadReply."""
    offsets = offsets_of(name, payload)
    values, at, index = {}, 0, 0
    for field, kind in MESSAGES[name]:
        raw = payload[at:at + width(kind)]
        at += width(kind)
        if kind in VARIABLE:
            raw = payload[offsets[index]:offsets[index + 1]]
            index += 1
            values[field] = raw.decode("ascii") if kind == "text" else raw
        else:
            values[field] = int.from_bytes(raw, "little") if kind[0] == "u" else raw
    return values


def encode_unresolved(entries):
    """The detail of unresolved_slot: a list of variable-size containers."""
    parts = [encode("UNRESOLVED", **entry) for entry in entries]
    end, offsets = 4 * len(parts), b""
    for part in parts:
        offsets += struct.pack("<I", end)
        end += len(part)
    return offsets + b"".join(parts)


def decode_unresolved(detail):
    """The entries of that list."""
    if not detail:
        return []
    count = struct.unpack_from("<I", detail)[0] // 4
    offsets = list(struct.unpack_from("<%dI" % count, detail)) + [len(detail)]
    return [decode("UNRESOLVED", detail[a:b]) for a, b in zip(offsets, offsets[1:])]


def decode_pieces(count, body):
    """For each of `count` hashes (kind, body), or the code of its error (section 4.18)."""
    answers, at, size, last = [None] * count, 0, sum(width(kind) for _, kind in MESSAGES["PIECE"]), None
    while at < len(body):
        head = decode("PIECE", body[at:at + size])
        part = body[at + size:at + size + head["len"]]
        at += size + head["len"]
        index, answer = head["index"], answers[head["index"]]
        if len(part) != head["len"] or (last is not None and last != index):
            raise BadReply("a cut or misplaced piece %r" % head)
        if answer is not None and last != index:
            raise BadReply("a second answer for %r" % head)
        before = b"" if answer is None else answer[1]
        answers[index] = head["code"] or (head["kind"], before + part)
        last = index if head["more"] else None
        if not head["code"] and not head["more"] and len(answers[index][1]) != head["body_len"]:
            raise BadReply("%d bytes for %r" % (len(answers[index][1]), head))
    if last is not None or None in answers:
        raise BadReply("an answer is missing")
    return answers


def decode_entries(body, list_only=False):
    """[(hash, kind, body_len, body)] of the body of a CLOSURE_REPLY (section 4.24); a body is None where none follows."""
    entries, at, size = [], 0, sum(width(kind) for _, kind in MESSAGES["ENTRY"])
    while at < len(body):
        head = decode("ENTRY", body[at:at + size])
        at += size
        has_body = head["kind"] != 0 and not list_only
        part = body[at:at + head["body_len"]] if has_body else None
        at += len(part or b"")
        if part is not None and len(part) != head["body_len"]:
            raise BadReply("a cut entry %r" % head)
        entries.append((head["hash"], head["kind"], head["body_len"], part))
    return entries


def encode_entry(cap_hash, kind, body, body_len=None):
    """An entry of a closure; body_len is what its head says of the body, if not the truth."""
    head = encode("ENTRY", hash=cap_hash, kind=kind, body_len=len(body) if body_len is None else body_len)
    return head + body


def frame(name, request_id, payload=b"", flags=0):
    """The bytes of one frame."""
    return HEADER.pack(len(payload), request_id, TYPES[name], flags, 0) + payload


def body_frames(request_id, body, piece=BODY_PIECE):
    """The BODY frames of a body, one by one; an empty body is one empty frame with END."""
    for at in range(0, max(len(body), 1), piece):
        last = at + piece >= len(body)
        yield frame("BODY", request_id, body[at:at + piece], END if last else 0)


def open_socket(address, timeout, source=None):
    """Connects to unix:PATH or tcp:HOST:PORT, the latter from the host `source` if given."""
    scheme, _, rest = address.partition(":")
    if scheme == "unix":
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(timeout)
        try:
            sock.connect(rest)
        except BaseException:
            sock.close()
            raise
        return sock
    host, _, port = rest.rpartition(":")
    if scheme != "tcp" or not host or not port.isdecimal():
        raise ValueError(f"not an address: expected unix:PATH or tcp:HOST:PORT, got {address}")
    return socket.create_connection((host.strip("[]"), int(port)), timeout,
                                    source_address=(source, 0) if source else None)


class Connection:
    """A connection to a daemon; see the module's text."""

    def __init__(self, address, timeout=30, source=None):
        self.sock = open_socket(address, timeout, source)
        self.next_id = 1
        self.keeps = False  # the HELLO_REPLY granted leases
        self.resumes = False  # and uploads that go on
        self.inbox = {}  # id -> frames that arrived while another answer was awaited
        self.received = bytearray()
        self.descriptors = []  # passed and not yet taken, in their order

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        """Closes the socket, and descriptors that nobody took."""
        self.sock.close()
        while self.descriptors:
            os.close(self.descriptors.pop())

    # Frames.

    def send_raw(self, data):
        """Sends bytes as they are, even if they are not a frame."""
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Closed() from error

    def send_frame(self, name, request_id, payload=b"", flags=0):
        """Sends one frame; nothing about it is checked."""
        self.send_raw(frame(name, request_id, payload, flags))

    def _fill(self, count):
        while len(self.received) < count:
            try:
                data = self._receive()
            except ConnectionResetError as error:
                raise Closed() from error
            if not data:
                raise Closed()
            self.received += data

    def _receive(self):
        if self.sock.family != socket.AF_UNIX:
            return self.sock.recv(1 << 18)
        data, descriptors, _, _ = socket.recv_fds(self.sock, 1 << 18, 8)
        self.descriptors += descriptors
        return data

    def recv_frame(self):
        """The next frame in the order of arrival. Closed at the end of the stream."""
        self._fill(HEADER.size)
        length, request_id, kind, flags, reserved = HEADER.unpack_from(self.received)
        if kind not in TYPE_NAMES or reserved or flags & ~END:
            raise BadReply("frame %r" % bytes(self.received[:HEADER.size]))
        self._fill(HEADER.size + length)
        payload = bytes(self.received[HEADER.size:HEADER.size + length])
        del self.received[:HEADER.size + length]
        return Frame(kind, request_id, flags, payload)

    def _next_of(self, request_id):
        """The next frame of a request; an ERROR with id 0 ends every request."""
        while not self.inbox.get(request_id):
            got = self.recv_frame()
            if got.id == 0 and got.type == TYPES["ERROR"]:
                raise Refused(0, decode("ERROR", got.payload))
            self.inbox.setdefault(got.id, []).append(got)
        frames = self.inbox[request_id]
        got = frames.pop(0)
        if not frames:
            del self.inbox[request_id]
        return got

    def readable(self):
        """Whether something has arrived that recv_frame has not yet returned."""
        return bool(self.received) or bool(select.select([self.sock], [], [], 0)[0])

    # Requests.

    def hello(self, agent="protocol.py", version_min=1, version_max=1, features=0):
        """Says HELLO and returns the reply's fields. Refused for an ERROR. Features None: the short form."""
        more = {} if features is None else {"features": features}
        name = "HELLO" if features is None else "HELLO_FEATURES"
        self.send_frame("HELLO", 0, encode(name, magic=MAGIC, version_min=version_min,
                                           version_max=version_max, agent=agent, **more))
        return self.recv_hello_reply()

    def recv_hello_reply(self):
        """For tests that pipeline behind a HELLO they sent themselves."""
        got = self.recv_frame()
        if got.type == TYPES["ERROR"]:
            raise Refused(got.id, decode("ERROR", got.payload))
        if got.type != TYPES["HELLO_REPLY"] or got.id != 0:
            raise BadReply("hello answered by %r" % (got,))
        reply = decode(form_of("HELLO_REPLY", got.payload), got.payload)
        self.keeps = bool(reply.get("features", 0) & KEEP)
        self.resumes = bool(reply.get("features", 0) & RESUME)
        return reply

    def form(self, name):
        """The form of a message that this connection speaks."""
        if self.resumes and name + "_RESUME" in MESSAGES:
            return name + "_RESUME"
        return name + "_KEEP" if self.keeps and name + "_KEEP" in MESSAGES else name

    def take_id(self):
        """An id that this connection has not used."""
        self.next_id += 1
        return self.next_id - 1

    def request(self, name, /, **fields):
        """Sends a request without waiting and returns its id."""
        request_id = self.take_id()
        form = self.form(name)
        if form != name:
            fields.setdefault("keep_s", 0)
        if form.endswith("_RESUME"):
            fields.setdefault("token", bytes(16))
            fields.setdefault("offset", 0)
        self.send_frame(name, request_id, encode(form, **fields))
        return request_id

    def recv_body(self, request_id):
        """The body that follows a message of this id."""
        body = bytearray()
        while True:
            got = self._next_of(request_id)
            if got.type == TYPES["ERROR"]:
                raise self._refusal(got)
            if got.type != TYPES["BODY"]:
                raise BadReply("%r within a body" % (got,))
            body += got.payload
            if got.flags & END:
                return bytes(body)

    def _refusal(self, got):
        fields = decode("ERROR", got.payload)
        detail = self.recv_body(got.id) if fields["detail_len"] else b""
        if len(detail) != fields["detail_len"]:
            raise BadReply("detail of %d bytes" % len(detail))
        return Refused(got.id, fields, detail)

    def wait(self, request_id, name):
        """Waits for a request's reply message of type `name`: its fields, or Refused."""
        got = self._next_of(request_id)
        if got.type == TYPES["ERROR"]:
            raise self._refusal(got)
        if got.type != TYPES[name]:
            raise BadReply("%s awaited, got %r" % (name, got))
        return decode(self.form(name), got.payload)

    def wait_get(self, request_id):
        """Waits for a GET: (fields of the reply, body)."""
        reply = self.wait(request_id, "GET_REPLY")
        body = self.recv_body(request_id)
        if len(body) != reply["len"]:
            raise BadReply("%d bytes of body for %r" % (len(body), reply))
        return reply, body

    def has(self, hashes):
        """The kind of each hash, 0 where absent."""
        request_id = self.request("HAS", hashes=b"".join(hashes))
        return list(self.wait(request_id, "HAS_REPLY")["kinds"])

    def keep(self, hashes, keep_s):
        """(kind, seconds promised) of each hash, on a connection with leases; keep_s 0 only asks."""
        return self.wait_keep(self.request("HAS", hashes=b"".join(hashes), keep_s=keep_s))

    def wait_keep(self, request_id):
        """Waits for a HAS of a connection with leases: as keep()."""
        reply = self.wait(request_id, "HAS_REPLY")
        kept = struct.unpack("<%dI" % len(reply["kinds"]), reply["kept_s"])
        return list(zip(reply["kinds"], kept))

    def get(self, cap_hash, offset=0, length=TO_END):
        """(fields of the reply, bytes of the body)."""
        return self.wait_get(self.request("GET", hash=cap_hash, offset=offset, len=length))

    def stat(self, cap_hash):
        """Fields of the STAT_REPLY."""
        return self.wait(self.request("STAT", hash=cap_hash), "STAT_REPLY")

    def map(self, cap_hash):
        """(fields of the MAP_REPLY, the descriptor, which is the caller's)."""
        return self.wait_map(self.request("MAP", hash=cap_hash))

    def wait_map(self, request_id):
        """Waits for a MAP, whose answer must be the next of these: as map()."""
        return self.wait(request_id, "MAP_REPLY"), self.descriptors.pop(0)

    def get_many(self, hashes):
        """For each hash (kind, body), or the code of its error."""
        return self.wait_many(self.request("GET_MANY", hashes=b"".join(hashes)))

    def wait_many(self, request_id):
        """Waits for a GET_MANY: as get_many()."""
        count = self.wait(request_id, "GET_MANY_REPLY")["count"]
        return decode_pieces(count, self.recv_body(request_id))

    def closure(self, roots, have=(), list_only=False):
        """[(hash, kind, body_len, body)]."""
        return self.wait_closure(self.ask_closure(roots, have, list_only), list_only)

    def ask_closure(self, roots, have=(), list_only=False):
        """Sends a CLOSURE and returns its id."""
        return self.request("CLOSURE", flags=int(list_only), roots=b"".join(roots), have=b"".join(have))

    def wait_closure(self, request_id, list_only=False):
        """Waits for a CLOSURE: as closure()."""
        self.wait(request_id, "CLOSURE_REPLY")
        return decode_entries(self.recv_body(request_id), list_only)

    def slice(self, cap_hash, ranges):
        """(fields of the reply, the slice); ranges are (first, pages)."""
        return self.wait_slice(self.ask_slice(cap_hash, ranges))

    def ask_slice(self, cap_hash, ranges):
        """Sends a SLICE without waiting and returns its id."""
        return self.request("SLICE", hash=cap_hash, ranges=b"".join(struct.pack("<QQ", *pair) for pair in ranges))

    def wait_slice(self, request_id):
        """Waits for a SLICE: as slice()."""
        return self.wait(request_id, "SLICE_REPLY"), self.recv_body(request_id)

    def send_body(self, request_id, body, piece=BODY_PIECE):
        """Sends a whole body; stops early, and ends it, when the answer is there already."""
        for data in body_frames(request_id, body, piece):
            if self.readable():
                self.inbox.setdefault(request_id, [])
                self._drain_arrived()
            if self.inbox.get(request_id):
                self.send_frame("BODY", request_id, b"", END)
                return
            self.send_raw(data)

    def _drain_arrived(self):
        while self.readable():
            got = self.recv_frame()
            if got.id == 0 and got.type == TYPES["ERROR"]:
                raise Refused(0, decode("ERROR", got.payload))
            self.inbox.setdefault(got.id, []).append(got)

    def put_data(self, data, size=0, canonical=False, piece=BODY_PIECE, **more):
        """Publishes a Data cap from raw bytes or from a canonical body. With leases, these three take keep_s."""
        request_id = self.request("PUT_DATA", flags=1 if canonical else 0, size=size,
                                  total_len=len(data), **more)
        self.send_body(request_id, data, piece)
        return self.wait(request_id, "PUT_DATA_REPLY")

    def put_image(self, image, resolve_only=False, dry_run=False, piece=BODY_PIECE, **more):
        """Publishes a wire Image."""
        request_id = self.request("PUT_IMAGE", flags=resolve_only | dry_run << 1,
                                  total_len=len(image), **more)
        self.send_body(request_id, image, piece)
        return self.wait(request_id, "PUT_IMAGE_REPLY")

    def put_cap(self, kind, cap_hash, body, piece=BODY_PIECE, **more):
        """Publishes a cap by its hash and its served body."""
        request_id = self.request("PUT_CAP", flags=0, kind=kind, hash=cap_hash, total_len=len(body), **more)
        self.send_body(request_id, body, piece)
        return self.wait(request_id, "PUT_CAP_REPLY")

    def resume(self, token):
        """Where an upload of that token, which was cut off, goes on: (offset, its length)."""
        reply = self.wait(self.request("RESUME", token=token), "RESUME_REPLY")
        return reply["offset"], reply["total_len"]

    def cancel(self, request_id):
        """Sends CANCEL; the request still gets its one answer."""
        self.send_frame("CANCEL", request_id)


# The self-check: section 8 of the document.

HASH_HELLO = bytes.fromhex("ef702648114023b1184b449027cb07fada47158889362b611db19b0b2c0c7688")
HASH_IMAGE = bytes.fromhex("6b50a4b895293c9763b69bde074d53ba01b3095ae1f70abf605ce63e422d7591")
CONTENT_IMAGE = bytes.fromhex("c00d0d19295f469e9dbed009b8dc8411f6579229e30e295de3f90774f3c71296")
BODY_HELLO = bytes.fromhex("02 0010000000000000 10000000 1c000000 0000000000000000 05000000") + b"hello"
HASH_ABSENT = bytes(31) + b"\x01"
UNRESOLVED = [dict(table=0, kind=1, cap_hash=HASH_ABSENT, slot=b"\x05"),
              dict(table=1, kind=2, cap_hash=bytes(31) + b"\x02", slot=b"")]

HELLO_FIELDS = dict(magic=MAGIC, version_min=1, version_max=1, agent="example")
HELLO_REPLY_FIELDS = dict(
    version=1, store_id=bytes(range(16)), limits_frame=256 << 10, limits_requests=64,
    limits_hashes=4096, limits_upload=1 << 30, limits_structure=16 << 20, limits_data=1 << 30,
    limits_idle_ms=300000, limits_progress_ms=30000, agent="capstored 0.1.0")

TOKEN = bytes(range(0xA0, 0xB0))

EXAMPLES = {  # message -> (id, payload)
    "HELLO": (0, encode("HELLO", **HELLO_FIELDS)),
    "HELLO_FEATURES": (0, encode("HELLO_FEATURES", **HELLO_FIELDS, features=0)),
    "HELLO_REPLY": (0, encode("HELLO_REPLY", **HELLO_REPLY_FIELDS)),
    "HELLO_REPLY_FEATURES": (0, encode("HELLO_REPLY_FEATURES", **HELLO_REPLY_FIELDS, features=0)),
    "HAS": (1, encode("HAS", hashes=HASH_HELLO + HASH_ABSENT)),
    "HAS_REPLY": (1, encode("HAS_REPLY", kinds=[2, 0])),
    "HAS_KEEP": (1, encode("HAS_KEEP", keep_s=3600, hashes=HASH_HELLO + HASH_ABSENT)),
    "HAS_REPLY_KEEP": (1, encode("HAS_REPLY_KEEP", kinds=[2, 0], kept_s=struct.pack("<2I", 3600, 0))),
    "GET": (2, encode("GET", hash=HASH_HELLO, offset=0, len=TO_END)),
    "GET_REPLY": (2, encode("GET_REPLY", kind=2, body_len=34, offset=0, len=34)),
    "MAP": (8, encode("MAP", hash=HASH_HELLO)),
    "MAP_REPLY": (8, encode("MAP_REPLY", kind=2, body_len=34, size=4096, len=4096, rest_off=0, rest_len=0)),
    "GET_MANY": (9, encode("GET_MANY", hashes=HASH_HELLO + HASH_ABSENT)),
    "GET_MANY_REPLY": (9, encode("GET_MANY_REPLY", count=2)),
    "PIECES": (9, encode("PIECE", index=0, code=0, kind=2, more=0, body_len=34, len=34) + BODY_HELLO +
               encode("PIECE", index=1, code=60, kind=0, more=0, body_len=0, len=0)),
    "STAT": (3, encode("STAT", hash=HASH_HELLO)),
    "STAT_REPLY": (3, encode("STAT_REPLY", kind=2, body_len=34, size=4096, page_count=1,
                             ref_count=0, published_us=1750000000000000, content_hash=bytes(32))),
    "PUT_DATA": (4, encode("PUT_DATA", flags=0, size=0, total_len=5)),
    "PUT_DATA_REPLY": (4, encode("PUT_DATA_REPLY", cap_hash=HASH_HELLO, size=4096, body_len=34,
                                 is_new=1)),
    "PUT_DATA_KEEP": (4, encode("PUT_DATA_KEEP", flags=0, size=0, total_len=5, keep_s=3600)),
    "PUT_DATA_REPLY_KEEP": (4, encode("PUT_DATA_REPLY_KEEP", cap_hash=HASH_HELLO, size=4096, body_len=34,
                                      is_new=1, kept_s=3600)),
    "PUT_IMAGE_KEEP": (5, encode("PUT_IMAGE_KEEP", flags=0, total_len=41, keep_s=3600)),
    "PUT_IMAGE_REPLY_KEEP": (5, encode("PUT_IMAGE_REPLY_KEEP", cap_hash=HASH_IMAGE,
                                       content_hash=CONTENT_IMAGE, body_len=34, is_new=1, data_new=0,
                                       data_present=0, kept_s=3600)),
    "PUT_CAP_KEEP": (10, encode("PUT_CAP_KEEP", flags=0, kind=2, hash=HASH_HELLO, total_len=34, keep_s=3600)),
    "PUT_CAP_REPLY_KEEP": (10, encode("PUT_CAP_REPLY_KEEP", is_new=1, kept_s=3600)),
    "PUT_IMAGE": (5, encode("PUT_IMAGE", flags=0, total_len=41)),
    "PUT_IMAGE_REPLY": (5, encode("PUT_IMAGE_REPLY", cap_hash=HASH_IMAGE,
                                  content_hash=CONTENT_IMAGE, body_len=34, is_new=1, data_new=0,
                                  data_present=0)),
    "PUT_CAP": (10, encode("PUT_CAP", flags=0, kind=2, hash=HASH_HELLO, total_len=34)),
    "PUT_CAP_REPLY": (10, encode("PUT_CAP_REPLY", is_new=1)),
    "SLICE": (12, encode("SLICE", hash=HASH_HELLO, ranges=struct.pack("<QQ", 0, 1))),
    "SLICE_REPLY": (12, encode("SLICE_REPLY", kind=2, body_len=34, size=4096)),
    "CLOSURE": (13, encode("CLOSURE", flags=1, roots=HASH_HELLO, have=HASH_ABSENT + bytes(31) + b"\2")),
    "CLOSURE_REPLY": (13, encode("CLOSURE_REPLY", max=65536)),
    "ENTRIES": (13, encode("ENTRY", hash=HASH_HELLO, kind=2, body_len=34)),
    "RESUME": (11, encode("RESUME", token=TOKEN)),
    "RESUME_REPLY": (11, encode("RESUME_REPLY", total_len=41, offset=32)),
    "PUT_DATA_RESUME": (4, encode("PUT_DATA_RESUME", flags=0, size=0, total_len=5, keep_s=3600, token=TOKEN, offset=0)),
    "PUT_IMAGE_RESUME": (5, encode("PUT_IMAGE_RESUME", flags=0, total_len=41, keep_s=3600, token=TOKEN, offset=32)),
    "PUT_CAP_RESUME": (10, encode("PUT_CAP_RESUME", flags=0, kind=2, hash=HASH_HELLO, total_len=34, keep_s=3600,
                                  token=bytes(16), offset=0)),
    "CANCEL": (6, b""),
    "BODY": (4, b"hello"),
    "ERROR": (7, encode("ERROR", code=12, name="unresolved_slot", message="2 slots are missing",
                        detail_len=len(encode_unresolved(UNRESOLVED)))),
    "UNRESOLVED": (7, encode_unresolved(UNRESOLVED)),
    "SHORTAGE": (7, encode("SHORTAGE", need=50000, have=40000, limit="quota-bytes")),
}


def read_blocks(text):
    """[(caption, bytes)] of the ```hex blocks; what follows # on a line is a comment."""
    blocks = []
    for caption, inner in re.findall(r"^```hex ([^\n]+)\n(.*?)^```$", text, re.M | re.S):
        digits = re.sub(r"#[^\n]*", "", inner)
        blocks.append((caption.strip(), bytes.fromhex("".join(digits.split()))))
    return blocks


def example_frame(name):
    """The frame that the example of a type must be."""
    request_id, payload = EXAMPLES[name]
    kind = name
    for form in ("_FEATURES", "_KEEP", "_RESUME"):
        kind = kind.removesuffix(form)
    kind = "BODY" if name in ("UNRESOLVED", "SHORTAGE", "PIECES", "ENTRIES") else kind
    return frame(kind, request_id, payload, END if kind == "BODY" else 0)


def check_frame_of_talk(caption, data):
    """A conversation's frame: 'client HELLO 0'; its message decodes and encodes to itself."""
    _, name, request_id = caption.split()
    length, got_id, kind, _, _ = HEADER.unpack_from(data)
    assert (TYPE_NAMES.get(kind, "0x%02x" % kind), got_id) == (name, int(request_id)), caption
    assert length == len(data) - HEADER.size, caption
    if name in MESSAGES:
        name = form_of(name, data[HEADER.size:])
        values = decode(name, data[HEADER.size:])
        again = encode(name, **{key.replace(".", "_"): value for key, value in values.items()})
        assert again == data[HEADER.size:], caption


def check_examples(path):
    """Compares every example of the document with this file; returns how many there were."""
    with open(path, encoding="utf-8") as file:
        blocks = read_blocks(file.read())
    messages = {caption: data for caption, data in blocks if " " not in caption}
    assert set(messages) == set(EXAMPLES), set(messages) ^ set(EXAMPLES)
    for name, data in messages.items():
        assert data == example_frame(name), "%s: document has %s, this file %s" % (
            name, data.hex(), example_frame(name).hex())
    talk = [(caption, data) for caption, data in blocks if " " in caption]
    assert talk, "the document has no conversations"
    for caption, data in talk:
        check_frame_of_talk(caption, data)
    return len(blocks)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: protocol.py PROTOCOL.md")
    print("%d examples agree" % check_examples(sys.argv[1]))
