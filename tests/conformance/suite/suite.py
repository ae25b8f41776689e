#!/usr/bin/env python3
"""Runs against any daemon that speaks the capstore protocol, and says which rules of PROTOCOL.md it keeps.

    suite.py ADDRESS [--only SECTION] [--list] [--json] [--timeout SECONDS]

ADDRESS is unix:PATH or tcp:HOST:PORT. The suite publishes caps, few and small but for one of some MiB, and deletes
nothing: give it a daemon whose store may grow. What a daemon does not offer (features, section 6) is left out and said.
The exit status is 0 when every check that was made holds, 1 when one does not, 2 for wrong usage or no connection.

It stands on this repository's ../../system/protocol.py (a client written from PROTOCOL.md), ../../system/wire.py,
../slices/slices.py and ../vectors; it needs Python 3.9 and nothing else.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import struct
import sys
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "system"), str(HERE.parent / "slices")]

import protocol  # noqa: E402
import slices  # noqa: E402
import wire  # noqa: E402
from protocol import CLOSURE, END, KEEP, RESUME, SLICE, TO_END, TYPES, Closed, Refused, encode, frame  # noqa: E402

GET_MANY, PUT_CAP = 2, 8
ALL_FEATURES = GET_MANY | KEEP | PUT_CAP | SLICE | CLOSURE | RESUME
VECTORS = HERE.parent / "vectors"
PAGE = 4096
ABSENT = hashlib.sha256(b"published by nobody").digest()
HELLO_BODY = bytes([2]) + struct.pack("<QIIIII", PAGE, 16, 28, 0, 0, 5) + b"hello"
HELLO = bytes.fromhex("ef702648114023b1184b449027cb07fada47158889362b611db19b0b2c0c7688")
CASES = []


class NotOffered(Exception):
    """The daemon does not grant the feature that a check needs."""


def case(sections, features=0):
    """A check of these sections of PROTOCOL.md; its docstring is the rule."""
    def add(function):
        CASES.append((sections.split(), features, function))
        return function
    return add


def expect(condition, said):
    if not condition:
        raise AssertionError(said)


def same(got, wanted, what):
    expect(got == wanted, f"{what}: expected {wanted!r}, got {got!r}")


class Suite:
    def __init__(self, address, timeout):
        self.address, self.timeout = address, timeout
        with self.bare() as c:
            self.daemon = c.hello(features=ALL_FEATURES)
        self.salt = os.urandom(8)

    def bare(self):
        """A connection that has not said HELLO."""
        return protocol.Connection(self.address, timeout=self.timeout)

    @contextlib.contextmanager
    def connect(self, features=0):
        with self.bare() as c:
            reply = c.hello(features=features)
            if features & ~reply["features"]:
                raise NotOffered
            yield c

    def fresh(self, length, seed=0):
        """Bytes that this run alone publishes."""
        return random.Random(self.salt + bytes([seed])).randbytes(length)

    def refusal(self, call, *names):
        """Makes a call that must be refused with one of these errors; returns it."""
        try:
            result = call()
        except Refused as error:
            expect(error.name in names, f"expected {' or '.join(names)}, got {error}")
            codes = CODES.get(error.name)
            expect(codes is None or codes == error.code, f"{error.name} has code {error.code}, not {codes}")
            return error
        raise AssertionError(f"expected {' or '.join(names)}, got {result!r:.200}")

    def ends(self, c, *names):
        """The connection ends, if the ERROR is not lost with one of these."""
        try:
            while True:
                got = c.recv_frame()
                if got.type == TYPES["ERROR"]:
                    error = protocol.decode("ERROR", got.payload)
                    expect(error["name"] in names, f"expected {names}, got {error['name']}")
        except Closed:
            return


def read_codes():
    """The table of section 5."""
    rows = {}
    for line in (HERE.parents[2] / "proto" / "PROTOCOL.md").read_text().splitlines():
        cells = [cell.strip(" `") for cell in line.split("|")]
        if len(cells) == 7 and cells[1].isdigit():
            rows[cells[2]] = int(cells[1])
    return rows


CODES = read_codes()

# --- 2 and 3: frames and the conversation ---------------------------------------------------------


@case("2.1 2.3 3.6")
def frames_that_are_wrong(suite):
    """Reserved bits and bytes, END on a message, a type with the high bit, and id 0 are bad_frame and end the connection."""
    payload = encode("HAS", hashes=ABSENT)
    wrong = {
        "a reserved flag": struct.pack("<IIBBH", len(payload), 1, TYPES["HAS"], 2, 0) + payload,
        "a reserved byte": struct.pack("<IIBBH", len(payload), 1, TYPES["HAS"], 0, 1) + payload,
        "END on a message": struct.pack("<IIBBH", len(payload), 1, TYPES["HAS"], END, 0) + payload,
        "an unknown type with the high bit": struct.pack("<IIBBH", 0, 1, 0xEE, 0, 0),
        "id 0": struct.pack("<IIBBH", len(payload), 0, TYPES["HAS"], 0, 0) + payload,
        "a frame of the daemon's": frame("HAS_REPLY", 1, encode("HAS_REPLY", kinds=b"\1")),
        "a BODY without an upload": frame("BODY", 5, b"x", END),
    }
    for what, data in wrong.items():
        with suite.connect() as c:
            c.send_raw(data)
            try:
                suite.ends(c, "bad_frame")
            except (AssertionError, TimeoutError) as error:
                raise AssertionError(f"{what}: {error or 'the connection goes on'}") from error


@case("2.1 3.6")
def frames_that_are_too_long(suite):
    """A frame above limits.frame ends the connection, as does a message above 4096 bytes that is not a list."""
    with suite.connect() as c:
        c.send_raw(struct.pack("<IIBBH", suite.daemon["limits.frame"] + 1, 1, TYPES["HAS"], 0, 0))
        suite.ends(c, "frame_too_large")
    with suite.connect() as c:
        c.send_raw(struct.pack("<IIBBH", 4097, 1, TYPES["GET"], 0, 0))
        suite.ends(c, "message_too_large")


@case("2.2 3.4")
def bodies_may_be_cut_anywhere(suite):
    """Where a body is cut into frames has no meaning; an empty frame without END adds nothing."""
    with suite.connect() as c:
        request = c.request("PUT_DATA", flags=0, size=0, total_len=5)
        for piece, flags in ((b"h", 0), (b"", 0), (b"ell", 0), (b"o", 0), (b"", END)):
            c.send_frame("BODY", request, piece, flags)
        same(c.wait(request, "PUT_DATA_REPLY")["cap_hash"], HELLO, "the cap_hash of \"hello\"")


@case("3.1 4.2 4.3")
def hello_comes_first(suite):
    """Anything before HELLO, and a second HELLO, is bad_frame; a HELLO of other versions is unsupported_version."""
    with suite.bare() as c:
        c.send_frame("HAS", 1, encode("HAS", hashes=ABSENT))
        suite.ends(c, "bad_frame")
    with suite.connect() as c:
        c.send_frame("HELLO", 0, encode("HELLO", magic=protocol.MAGIC, version_min=1, version_max=1, agent=""))
        suite.ends(c, "bad_frame")
    with suite.bare() as c:
        suite.refusal(lambda: c.hello(version_min=60000, version_max=60001), "unsupported_version")
    with suite.bare() as c:
        c.send_frame("HELLO", 0, encode("HELLO", magic=b"capstorf", version_min=1, version_max=1, agent=""))
        suite.ends(c, "bad_message")


@case("3.1 6")
def features_are_granted_of_those_asked_for(suite):
    """The reply to the short form of HELLO has no features; none is granted that was not asked for."""
    with suite.bare() as c:
        expect("features" not in c.hello(features=None), "the short form is answered in the long one")
    with suite.bare() as c:
        same(c.hello(features=0)["features"], 0, "features granted for none")
    with suite.bare() as c:
        granted = c.hello(features=2**64 - 1)["features"]
        expect(granted & ~(ALL_FEATURES | 1) == 0, f"unknown features are granted: {granted:#x}")
    same(suite.daemon["version"], 1, "the version")
    expect(suite.daemon["limits.frame"] >= 4096, "limits.frame is below 4096")


@case("3.1")
def requests_may_follow_hello_at_once(suite):
    """A client need not wait for the HELLO_REPLY."""
    with suite.bare() as c:
        hello = encode("HELLO", magic=protocol.MAGIC, version_min=1, version_max=1, agent="suite")
        c.send_raw(frame("HELLO", 0, hello) + frame("HAS", 7, encode("HAS", hashes=ABSENT)))
        c.recv_hello_reply()
        same(c.wait(7, "HAS_REPLY")["kinds"], b"\0", "the kind of an absent cap")


@case("3.2")
def an_unknown_request_is_refused_and_no_more(suite):
    """unsupported_request has the request's id, and the connection goes on."""
    with suite.connect() as c:
        c.send_raw(struct.pack("<IIBBH", 3, 9, 0x71, 0, 0) + b"abc")
        got = c.recv_frame()
        same((got.type, got.id), (TYPES["ERROR"], 9), "the answer")
        same(protocol.decode("ERROR", got.payload)["name"], "unsupported_request", "the error")
        same(c.has([ABSENT]), [0], "HAS afterwards")


@case("3.2 4.1")
def a_message_that_does_not_decode(suite):
    """bad_message has the request's id, and the connection goes on."""
    with suite.connect() as c:
        for name, payload in (("HAS", b"\5\0\0\0"), ("HAS", b"\4\0\0\0x"), ("GET", b"short"), ("STAT", bytes(33)),
                              ("PUT_IMAGE", b"\x80" + bytes(8))):
            request = c.take_id()
            c.send_frame(name, request, payload)
            got = c.recv_frame()
            same((got.type, got.id), (TYPES["ERROR"], request), f"the answer to a broken {name}")
            same(protocol.decode("ERROR", got.payload)["name"], "bad_message", f"the error of a broken {name}")
            if name == "PUT_IMAGE":
                c.send_frame("BODY", request, b"", END)
        same(c.has([ABSENT]), [0], "HAS afterwards")


@case("3.2 3.6")
def an_id_in_use(suite):
    """A second request with the id of one in flight ends the connection."""
    with suite.connect() as c:
        c.send_frame("PUT_DATA", 5, encode("PUT_DATA", flags=0, size=0, total_len=10))
        c.send_frame("HAS", 5, encode("HAS", hashes=ABSENT))
        suite.ends(c, "id_in_use")


@case("3.3 4.10")
def lengths_are_checked(suite):
    """Fewer or more bytes than total_len are length_mismatch; the connection stays usable."""
    with suite.connect() as c:
        for total, sent in ((10, b"short"), (3, b"longer")):
            request = c.request("PUT_DATA", flags=0, size=0, total_len=total)
            c.send_frame("BODY", request, sent, END)
            suite.refusal(lambda r=request: c.wait(r, "PUT_DATA_REPLY"), "length_mismatch")
        same(c.put_data(b"hello")["cap_hash"], HELLO, "an upload afterwards")


@case("3.3 3.7")
def a_refused_upload_is_answered_early(suite):
    """upload_too_large comes before the body; the refused body is ended, and the connection goes on."""
    with suite.connect() as c:
        request = c.request("PUT_DATA", flags=0, size=0, total_len=suite.daemon["limits.upload"] + 1)
        suite.refusal(lambda: c.wait(request, "PUT_DATA_REPLY"), "upload_too_large")
        c.send_frame("BODY", request, b"", END)
        same(c.has([ABSENT]), [0], "HAS afterwards")


@case("3.5")
def cancelling(suite):
    """CANCEL ends an upload with cancelled; of an id that is free it is ignored; with id 0 or a payload it is bad_frame."""
    with suite.connect() as c:
        request = c.request("PUT_DATA", flags=0, size=0, total_len=10)
        c.send_frame("CANCEL", request)
        suite.refusal(lambda: c.wait(request, "PUT_DATA_REPLY"), "cancelled")
        c.send_frame("CANCEL", 4000)
        same(c.has([ABSENT]), [0], "HAS afterwards")
        c.send_frame("CANCEL", 0)
        suite.ends(c, "bad_frame")
    with suite.connect() as c:
        c.send_frame("CANCEL", 1, b"x")
        suite.ends(c, "bad_frame")


@case("3.7")
def limits_hold(suite):
    """A HAS of more hashes than limits.hashes is too_many_hashes; more requests than limits.requests are refused."""
    with suite.connect() as c:
        most = suite.daemon["limits.hashes"]
        if (most + 1) * 32 + 4 <= suite.daemon["limits.frame"]:
            suite.refusal(lambda: c.has([ABSENT] * (most + 1)), "too_many_hashes")
        uploads = [c.request("PUT_DATA", flags=0, size=0, total_len=9) for _ in range(suite.daemon["limits.requests"])]
        extra = c.request("HAS", hashes=ABSENT)
        suite.refusal(lambda: c.wait(extra, "HAS_REPLY"), "too_many_requests")
        for request in uploads:
            c.send_frame("CANCEL", request)
        for request in uploads:
            suite.refusal(lambda r=request: c.wait(r, "PUT_DATA_REPLY"), "cancelled", "too_many_requests", "memory_limit")
        same(c.has([ABSENT]), [0], "HAS afterwards")

# --- 4: messages ----------------------------------------------------------------------------------


@case("4.4 4.5")
def has_answers_in_order(suite):
    """One kind for each hash, repeated ones too; an empty list has an empty answer."""
    with suite.connect() as c:
        c.put_data(b"hello")
        same(c.has([ABSENT, HELLO, HELLO, ABSENT]), [0, 2, 2, 0], "kinds")
        same(c.has([]), [], "kinds of no hashes")


@case("4.6 4.7 3.4 7")
def get_gives_the_served_body(suite):
    """The bytes of FORMATS.md section 4; ranges are cut at the end; one past it is range_out_of_body."""
    with suite.connect() as c:
        c.put_data(b"hello")
        reply, body = c.get(HELLO)
        same((reply["kind"], reply["body_len"], body), (2, len(HELLO_BODY), HELLO_BODY), "the served body of \"hello\"")
        for offset, length in ((0, 1), (5, 7), (30, TO_END), (30, 100), (34, TO_END), (3, 0)):
            reply, body = c.get(HELLO, offset, length)
            same(body, HELLO_BODY[offset:offset + min(length, 1 << 20)], f"bytes {offset} + {length}")
            same((reply["offset"], reply["body_len"]), (offset, len(HELLO_BODY)), "the reply's range")
        suite.refusal(lambda: c.get(HELLO, 35, 1), "range_out_of_body")
        error = suite.refusal(lambda: c.get(ABSENT), "not_found")
        expect(ABSENT.hex() in error.message, "the message does not name the hash")


@case("4.8 4.9")
def stat_tells_what_a_cap_is(suite):
    """Kind, lengths, pages, references; not_found for what is absent."""
    with suite.connect() as c:
        c.put_data(b"hello")
        stat = c.stat(HELLO)
        same([stat[name] for name in ("kind", "body_len", "size", "page_count", "ref_count")], [2, 34, PAGE, 1, 0], "STAT")
        same(stat["content_hash"], bytes(32), "the content_hash of a Data cap")
        suite.refusal(lambda: c.stat(ABSENT), "not_found")


@case("4.10 4.11")
def put_data_of_both_forms(suite):
    """Raw bytes with a wanted size, and a canonical body, make the same cap; a second time it is not new."""
    with suite.connect() as c:
        data = suite.fresh(2 * PAGE + 77)
        first = c.put_data(data, size=10 * PAGE)
        same((first["size"], first["is_new"]), (10 * PAGE, 1), "a new cap")
        body = c.get(first["cap_hash"])[1]
        again = c.put_data(body, canonical=True)
        same((again["cap_hash"], again["is_new"]), (first["cap_hash"], 0), "the same cap")
        same(wire.data_content(body), data + bytes(10 * PAGE - len(data)), "the content")
        suite.refusal(lambda: c.put_data(body + b"x", canonical=True), "body_not_canonical")
        suite.refusal(lambda: c.put_data(body[:-1] + b"\0", canonical=True), "body_not_canonical")
        suite.refusal(lambda: c.put_data(b"x", size=2**64 - 1), "invalid_argument")
        same(c.put_data(b"")["size"], PAGE, "the size of a cap of no bytes")


@case("4.12 4.13 7")
def the_golden_vectors(suite):
    """Every valid Image has the vector's hashes and bodies; every invalid one is refused with its error."""
    index = json.loads((VECTORS / "index.json").read_text())
    with suite.connect() as c:
        for vector in index["invalid"]:
            upload = (VECTORS / vector["file"]).read_bytes()
            suite.refusal(lambda u=upload: c.put_image(u), vector["error"])
        for vector in index["valid"]:
            images = [bytes.fromhex(image["cap_hash"]) for image in vector["images"]]
            if not all(c.has(images)):
                continue
            reply = c.put_image((VECTORS / vector["file"]).read_bytes())
            same(reply["cap_hash"].hex(), vector["cap_hash"], f"{vector['name']}: cap_hash")
            same(reply["content_hash"].hex(), vector["image_content_hash"], f"{vector['name']}: content_hash")
            for cap in [vector, *vector["data"]]:
                body = c.get(bytes.fromhex(cap["cap_hash"]))[1]
                same(hashlib.sha256(body).hexdigest(), cap["body_sha256"], f"{vector['name']}: a served body")


@case("4.12 4.14")
def images_are_published_as_a_whole(suite):
    """Resolve only refuses with every missing slot; a dry run stores nothing; a publication stores all."""
    content = suite.fresh(3000, seed=1)
    upload = wire.simple_image(b"\x13\0\0\0", [(b"\1", content), (b"\2", content[:100])])
    with suite.connect() as c:
        dry = c.put_image(upload, dry_run=True)
        same((dry["is_new"], dry["data_new"]), (1, 2), "a dry run")
        same(c.has([dry["cap_hash"]]), [0], "the cap after a dry run")
        error = suite.refusal(lambda: c.put_image(upload, resolve_only=True), "unresolved_slot")
        same([(slot["table"], slot["kind"], slot["slot"]) for slot in error.unresolved()], [(1, 2, b"\1"), (1, 2, b"\2")],
             "the slots that are missing")
        reply = c.put_image(upload)
        same((reply["is_new"], reply["data_new"], reply["data_present"]), (1, 2, 0), "the publication")
        same(c.put_image(upload, resolve_only=True)["data_present"], 2, "data that is there, to resolve only")
        same(c.has([reply["cap_hash"]] + [slot["cap_hash"] for slot in error.unresolved()]), [1, 2, 2], "kinds")


@case("4.14 5")
def errors_are_those_of_the_table(suite):
    """Code and name of an ERROR belong together; the message is a sentence."""
    with suite.connect() as c:
        error = suite.refusal(lambda: c.put_image(b"not an image"), "ssz")
        same(error.code, 1, "the code of ssz")
        expect(len(error.message) > 3, "no message")


@case("3.2 3.4")
def answers_keep_apart(suite):
    """Many requests at once, each answered once under its id, large bodies among them."""
    with suite.connect() as c:
        large = suite.fresh(3 << 20, seed=2)
        hash_ = c.put_data(large)["cap_hash"]
        c.put_data(b"hello")
        whole = c.get(hash_)[1]
        same(wire.data_content(whole)[:len(large)], large, "a body of 3 MiB")
        asked = [(c.request("GET", hash=hash_, offset=at, len=1 << 19), at) for at in range(0, len(whole), 1 << 19)]
        small = [c.request("GET", hash=HELLO, offset=0, len=TO_END) for _ in range(10)]
        for request in small:
            same(c.wait_get(request)[1], HELLO_BODY, "a small body between large ones")
        for request, at in asked:
            same(c.wait_get(request)[1], whole[at:at + (1 << 19)], "a range of a large body")


@case("4.17 4.18", GET_MANY)
def get_many_answers_each_once(suite):
    """Whole bodies, or a code in their place; repeated hashes are answered twice."""
    with suite.connect(GET_MANY) as c:
        c.put_data(b"hello")
        same(c.get_many([HELLO, ABSENT, HELLO]), [(2, HELLO_BODY), 60, (2, HELLO_BODY)], "GET_MANY")
        same(c.get_many([]), [], "GET_MANY of nothing")


@case("4.4 4.5 4.10 4.11", KEEP)
def leases(suite):
    """With KEEP a publication says for how long it is kept; HAS prolongs it and never promises for what is absent."""
    with suite.connect(KEEP) as c:
        put = c.put_data(suite.fresh(50, seed=3), keep_s=100)
        expect(0 < put["kept_s"], "no promise for a cap that was just published")
        (kind, kept), absent = c.keep([put["cap_hash"], ABSENT], 5000)
        expect(kind == 2 and kept >= min(4375, put["kept_s"]), f"kept for {kept} s")
        same(absent, (0, 0), "what is absent")
        expect(c.keep([put["cap_hash"]], 0)[0][1] >= kept - 60, "asking has taken from the promise")


@case("4.19 4.20", PUT_CAP)
def caps_by_their_bodies(suite):
    """PUT_CAP takes what GET gives; a body of another hash is hash_mismatch, an Image's references must be there."""
    content = suite.fresh(900, seed=4)
    with suite.connect(PUT_CAP) as c:
        image = c.put_image(wire.simple_image(b"\x13\0\0\0", [(b"\1", content)]))
        body = c.get(image["cap_hash"])[1]
        same(c.put_cap(1, image["cap_hash"], body)["is_new"], 0, "what is there")
        suite.refusal(lambda: c.put_cap(2, ABSENT, HELLO_BODY), "hash_mismatch")
        suite.refusal(lambda: c.put_cap(1, ABSENT, body[:-1]), "body_not_canonical", "hash_mismatch")
        data = c.put_data(content)["cap_hash"]
        at = body.index(data)
        missing = body[:at] + ABSENT + body[at + 32:]
        suite.refusal(lambda: c.put_cap(1, ABSENT, missing), "unresolved_slot", "hash_mismatch")


def caps_for_slices(suite, c):
    """A dense Data cap, a sparse one, and an Image: their hashes."""
    dense = c.put_data(suite.fresh(70 * PAGE + 9, seed=5))["cap_hash"]
    sparse = c.put_data(bytes(40 * PAGE) + suite.fresh(PAGE, seed=6) + bytes(300 * PAGE) + b"end")["cap_hash"]
    image = c.put_image(wire.simple_image(suite.fresh(33 * PAGE - 5, seed=7), [(b"\1", b"data")]))["cap_hash"]
    return [dense, sparse, image, HELLO]


@case("4.21 4.22 7", SLICE)
def slices_prove_their_pages(suite):
    """The one encoding of SLICES.md, byte for byte, for many sets of ranges."""
    with suite.connect(SLICE) as c:
        c.put_data(b"hello")
        for hash_ in caps_for_slices(suite, c):
            cap = slices.cap_of_body(c.get(hash_)[1])
            last = max(1, -(-cap.size // PAGE))
            for ranges in ([], [(0, 1)], [(last - 1, 1)], [(0, last)], [(0, 1), (last - 1, 1)] if last > 2 else [(0, 1)],
                           [(at, 1) for at in range(0, last, 2)]):
                asked = c.request("SLICE", hash=hash_, ranges=b"".join(struct.pack("<QQ", *pair) for pair in ranges))
                c.wait(asked, "SLICE_REPLY")
                given = c.recv_body(asked)
                expect(given == slices.encode(cap, ranges), f"the slice {ranges} of {hash_.hex()} is another")
            over = struct.pack("<QQ", 0, last + 1)
            refused = c.request("SLICE", hash=hash_, ranges=over)
            suite.refusal(lambda r=refused: c.wait(r, "SLICE_REPLY"), "range_out_of_body")
        for pairs in ([(0, 0)], [(0, 1), (1, 1)], [(3, 1), (0, 1)], [(2 * at, 1) for at in range(257)]):
            wrong = c.request("SLICE", hash=HELLO, ranges=b"".join(struct.pack("<QQ", *pair) for pair in pairs))
            suite.refusal(lambda r=wrong: c.wait(r, "SLICE_REPLY"), "bad_message")
        absent = c.request("SLICE", hash=ABSENT, ranges=b"")
        suite.refusal(lambda: c.wait(absent, "SLICE_REPLY"), "not_found")


@case("4.23 4.24", CLOSURE)
def closures_come_whole(suite):
    """Every cap once, after what it refers to; `have` is left out; what is absent has kind 0."""
    with suite.connect(CLOSURE) as c:
        inner = c.put_image(wire.simple_image(b"\x13\0\0\0", [(b"\1", suite.fresh(10, seed=8)), (b"\2", suite.fresh(20, seed=9))]))
        bodies = {}
        for hash_, kind, length, body in c.closure([inner["cap_hash"], ABSENT, inner["cap_hash"]]):
            expect(hash_ not in bodies, "a cap comes twice")
            same(len(body or b""), length, "body_len")
            if kind == 1:
                expect(sum(other in body for other in bodies) == 2, "an Image before what it refers to")
            bodies[hash_] = (kind, body)
        same(sorted(kind for kind, _ in bodies.values()), [0, 1, 2, 2], "kinds")
        same(bodies[inner["cap_hash"]][1], c.get(inner["cap_hash"])[1], "the Image's body")
        data = [hash_ for hash_, (kind, _) in bodies.items() if kind == 2]
        listed = c.closure([inner["cap_hash"]], have=[data[0]], list_only=True)
        same({entry[0] for entry in listed}, {inner["cap_hash"], data[1]}, "what is not at hand")
        same(c.closure([inner["cap_hash"]], have=[inner["cap_hash"]]), [], "a closure that is at hand")


@case("4.25 4.26", KEEP | RESUME)
def uploads_go_on(suite):
    """What an upload with a token has sent when its connection is lost is named by RESUME, and need not be sent again."""
    data, token = suite.fresh(2 << 20, seed=10), os.urandom(16)
    fields = {"flags": 0, "size": 0, "total_len": len(data), "keep_s": 0, "token": token}
    with suite.connect(KEEP | RESUME) as c:
        request = c.request("PUT_DATA", **fields, offset=0)
        for at in range(0, 1 << 20, 1 << 16):
            c.send_frame("BODY", request, data[at:at + (1 << 16)])
        same(c.keep([ABSENT], 0), [(0, 0)], "HAS behind a part of the body, which has arrived then")
    with suite.connect(KEEP | RESUME) as c:
        kept = c.wait(c.request("RESUME", token=token), "RESUME_REPLY")
        expect(kept["offset"] <= 1 << 20 and kept["total_len"] in (0, len(data)), f"RESUME says {kept}")
        request = c.request("PUT_DATA", **fields, offset=kept["offset"])
        c.send_body(request, data[kept["offset"]:])
        same(wire.data_content(c.get(c.wait(request, "PUT_DATA_REPLY")["cap_hash"])[1])[:len(data)], data, "the content")
        same(c.wait(c.request("RESUME", token=token), "RESUME_REPLY")["offset"], 0, "what is kept of a whole upload")

# --- running --------------------------------------------------------------------------------------


def run_one(suite, features, function):
    """("holds" | "not offered" | "broken", what was found)."""
    try:
        if features & ~suite.daemon["features"]:
            raise NotOffered
        function(suite)
        return "holds", ""
    except NotOffered:
        return "not offered", ""
    except AssertionError as error:
        return "broken", str(error)
    except TimeoutError:
        return "broken", "no answer in time"
    except Closed:
        return "broken", "the connection was closed"
    except (Refused, protocol.BadReply) as error:
        return "broken", f"{type(error).__name__}: {error}"
    except Exception:  # a reply that this file did not think of is the daemon's fault too
        return "broken", traceback.format_exc(limit=-2)


def sections_of_document():
    """Sections 2 to 7 with their titles."""
    titles = {}
    for line in (HERE.parents[2] / "proto" / "PROTOCOL.md").read_text().splitlines():
        words = line.split(maxsplit=2)
        if words and words[0] in ("##", "###") and words[1].rstrip(".")[0] in "234567":
            titles[words[1].rstrip(".")] = words[2]
    return titles


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", nargs="?")
    parser.add_argument("--only", metavar="SECTION", help="the checks of one section, such as 4.6")
    parser.add_argument("--list", action="store_true", help="say what is checked, and check nothing")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--timeout", type=float, default=10, help="seconds without an answer (default 10)")
    options = parser.parse_args()
    chosen = [entry for entry in CASES if options.only is None or options.only in entry[0]]
    if options.list or options.address is None:
        for sections, _, function in chosen:
            print(f"{' '.join(sections):20} {function.__doc__}")
        return 0 if options.list else 2
    try:
        suite = Suite(options.address, options.timeout)
    except (OSError, Closed, Refused, protocol.BadReply, ValueError) as error:
        print(f"suite.py: {options.address}: {error}", file=sys.stderr)
        return 2
    results = []
    for sections, features, function in chosen:
        verdict, found = run_one(suite, features, function)
        results.append({"check": function.__name__, "sections": sections, "verdict": verdict, "found": found})
        if not options.json:
            print(f"{verdict:12} {function.__name__} ({', '.join(sections)}){': ' + found if found else ''}", flush=True)
    covered = {section for result in results if result["verdict"] == "holds" for section in result["sections"]}
    titles = sections_of_document()
    left = [section for section in titles if section not in covered and
            not any(other.startswith(section + ".") for other in titles)]
    broken = sum(result["verdict"] == "broken" for result in results)
    if options.json:
        print(json.dumps({"agent": suite.daemon["agent"], "results": results, "covered": sorted(covered), "not_covered": left}))
    else:
        print(f"{suite.daemon['agent']}: {len(results)} checks, {broken} broken, "
              f"{sum(result['verdict'] == 'not offered' for result in results)} not offered")
        print("sections without a check that holds: " +
              "; ".join(f"{section} {titles[section]}" for section in left))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
