#!/usr/bin/env python3
"""A peer that takes whatever it can get: `hostile.py ATTACK HOST PORT SOURCE SECONDS`.

It connects from the address SOURCE, prints one line once it holds what it can, goes on for SECONDS
and ends. A process of its own, so that what it costs does not disturb the one that measures.
"""

import os
import socket
import struct
import sys
import time

import wire
from protocol import END, HEADER, MAGIC, TYPES, body_frames, encode, frame

HELLO = frame("HELLO", 0, encode("HELLO", magic=MAGIC, version_min=1, version_max=1, agent="hostile"))
MIB = 1 << 20
CONNECTIONS = 64  # that an attack opens at most, but for the one that is about connections
REQUESTS = 64  # of one connection


class Peer:
    """One connection that never waits: it sends what the socket takes and reads what is there."""

    def __init__(self, target, source, hello=True):
        self.sock = socket.socket()
        self.sock.bind((source, 0))
        self.sock.settimeout(5)
        self.sock.connect(target)
        self.sock.setblocking(False)
        self.alive = True
        self.unsent = bytearray()
        self.unread = bytearray()
        self.asked = self.answers = 0  # uploads of `uploads`
        if hello:
            self.send(HELLO)

    def send(self, data):
        self.unsent += data
        self.pump()

    def pump(self):
        """Sends and reads; false once the daemon has closed."""
        try:
            while self.unsent:
                del self.unsent[:self.sock.send(self.unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self.alive = False
        try:
            while self.alive:
                got = self.sock.recv(1 << 16)
                self.alive = bool(got)
                self.count(got)
        except BlockingIOError:
            pass
        except OSError:
            self.alive = False
        if not self.alive:
            self.sock.close()
        return self.alive

    def count(self, got):
        """Counts the answers; a HELLO's is none."""
        self.unread += got
        while len(self.unread) >= HEADER.size:
            length, _, kind, _, _ = HEADER.unpack_from(self.unread)
            if len(self.unread) < HEADER.size + length:
                return
            del self.unread[:HEADER.size + length]
            self.answers += kind != TYPES["HELLO_REPLY"]


def connect(target, source, count, hello=True):
    """Up to `count` connections, as many as one gets."""
    peers = []
    for _ in range(count):
        try:
            peers.append(Peer(target, source, hello))
        except OSError:
            break
    return peers


def slots(target, source):
    """(a) Every upload slot there is, held by one byte per 20 s."""
    peers = []
    due = 0
    while True:
        peers = [peer for peer in peers if peer.pump()]
        if time.monotonic() >= due:
            due = time.monotonic() + 20
            for peer in connect(target, source, CONNECTIONS - len(peers)):
                peers.append(peer)
                for request_id in range(1, REQUESTS + 1):
                    peer.send(frame("PUT_DATA", request_id, encode("PUT_DATA", flags=0, size=0, total_len=1024)))
            for peer in peers:
                for request_id in range(1, REQUESTS + 1):
                    peer.send(frame("BODY", request_id, b"x"))
        yield 0.05


def memory(target, source):
    """(b) All the memory there is, held by heads that stop just past where their buffer doubles."""
    head = bytearray(wire.image(endpoints=[(b"", wire.endpoint(0))]))
    head_len = 15 * MIB
    struct.pack_into("<I", head, 36, head_len)  # where the arena starts, so they say
    sent = 8 * MIB + 4096
    peers = []
    while True:
        peers = [peer for peer in peers if peer.pump()]
        for peer in connect(target, source, 8 - len(peers)):
            peers.append(peer)
            peer.send(frame("PUT_IMAGE", 1, encode("PUT_IMAGE", flags=0, total_len=200 * MIB)))
            body = bytes(head) + bytes(sent - len(head))
            for at in range(0, sent, 256 << 10):
                peer.send(frame("BODY", 1, body[at:at + (256 << 10)]))
            for request_id in range(2, REQUESTS):
                peer.send(frame("PUT_DATA", request_id, encode("PUT_DATA", flags=0, size=0, total_len=64 << 10)))
        yield 0.05


def connections(target, source):
    """(c) Every connection one gets; half of them never say HELLO."""
    peers = []
    while True:
        peers = [peer for peer in peers if peer.pump()]
        for hello in (True, False):
            peers += connect(target, source, 32 if len(peers) < 4096 else 0, hello)
        yield 0.05


def hashing(target, source):
    """(d) Long hash jobs, one after another on every connection: few bytes that name many.

    Dry runs of Images whose pages overlap in the arena, none like another: 65,536 of them in an
    upload of two MiB.
    """
    arena = os.urandom(MIB)
    pages = 65536
    desc = wire.data_desc(pages * wire.PAGE, [(i, i * 15, wire.PAGE) for i in range(pages)])
    image = wire.image(initial=[(b"a", desc)], arena=arena)
    return uploads(target, source, image, 4)


def bulk(target, source):
    """Large uploads, one after another on every connection: what the disk and one thread can take."""
    code = os.urandom(MIB) * 32
    return uploads(target, source, wire.image(code=(0, len(code)), arena=code), 4)


def uploads(target, source, image, count):
    """Dry runs of `image`, so that the store stays free: each connection sends the next one when it is answered."""
    peers = []
    while True:
        peers = [peer for peer in peers if peer.pump()]
        peers += connect(target, source, count - len(peers))
        for peer in peers:
            if peer.asked <= peer.answers:
                peer.asked += 1
                peer.send(frame("PUT_IMAGE", peer.asked, encode("PUT_IMAGE", flags=2, total_len=len(image))))
                for piece in body_frames(peer.asked, image, 256 << 10):
                    peer.unsent += piece
        yield 0.002


def floods(target, source):
    """(e) Uploads that are cancelled and uploads that are refused, as fast as they are taken."""
    some = bytearray()
    for request_id in range(1, 17):
        some += frame("PUT_DATA", request_id, encode("PUT_DATA", flags=0, size=0, total_len=4096))
        some += frame("CANCEL", request_id)
        some += frame("PUT_DATA", request_id + 100, encode("PUT_DATA", flags=0, size=0, total_len=2**60))
        some += frame("BODY", request_id + 100, b"", END)
    peers = []
    while True:
        peers = [peer for peer in peers if peer.pump()]
        peers += connect(target, source, 16 - len(peers))
        for peer in peers:
            if len(peer.unsent) < len(some):
                peer.send(some)
        yield 0.002


def spin(target, source):
    """None: it only computes, as much as the busiest of the others does beside what it asks for (0.15 of a core)."""
    while True:
        end = time.monotonic() + 0.0004
        while time.monotonic() < end:
            pass
        yield 0.002


ATTACKS = {"spin": spin, "slots": slots, "memory": memory, "connections": connections, "hashing": hashing, "bulk": bulk,
           "floods": floods}


def main(attack, host, port, source, seconds):
    # A peer on the network has cores of its own; here it must not take the daemon's away.
    os.nice(10)
    end = time.monotonic() + float(seconds)
    warm = time.monotonic() + 1.5
    said = False
    for pause in ATTACKS[attack]((host, int(port)), source):
        if not said and time.monotonic() > warm:
            print("holding", flush=True)
            said = True
        if time.monotonic() > end:
            break
        time.sleep(pause)


if __name__ == "__main__":
    main(*sys.argv[1:])
