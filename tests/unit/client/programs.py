#!/usr/bin/env python3
"""Programs to wire Images: pack --elf."""

import struct
import unittest

from tool import CODE_BASE, DATA_BASE, PAGE, Tool

INTERP, DYNAMIC = -1, -2
TYPES = {INTERP: 3, DYNAMIC: 2}


def elf(segments, entry=CODE_BASE, machine=243, kind=2, sections=(), size=None, phentsize=56, align=1, names=()):
    """A 64-bit ELF of (flags, address, content, memory size); the flags INTERP and DYNAMIC stand for such headers."""
    offset = 64 + 56 * len(segments)
    headers, body = b"", b""
    for flags, address, content, memory in segments:
        headers += struct.pack("<IIQQQQQQ", TYPES.get(flags, 1), max(flags, 0), offset + len(body), address, address,
                               len(content), memory, align)
        body += content
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in names)
    starts = [strings.index(b"\0" + name.encode() + b"\0") + 1 for name in names] or [0] * len(sections)
    body += strings if names else b""
    table = b"".join(struct.pack("<IIQQQQIIQQ", start, kind_, flags, address, offset + len(body) - len(strings) if kind_ == 3 else 0,
                                 length or len(strings), 0, 0, 1, 0)
                     for start, (kind_, flags, address, length) in zip(starts, sections))
    shoff = offset + len(body) if sections else 0
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack(
        "<HHIQQQIHHHHHH", kind, machine, 1, entry, 64, shoff, 0, 64, phentsize, len(segments), 64, len(sections),
        len(sections) - 1 if names else 0)
    return (header + headers + body + table)[:size]


R, W, X = 4, 2, 1


class Programs(Tool):
    def pack(self, program, *options, status=0):
        path = self.file("program", program)
        return self.json("pack", "--elf", path, "-o", self.root / "out", *options, status=status)

    def shown(self):
        return self.json("show", self.root / "out")

    def layout(self):
        return [(mapping["start"], mapping["size"], mapping["source"][0]) for mapping in self.shown()["mappings"]]

    def test_linked_to_the_layout(self):
        packed = self.pack(elf([(R | X, CODE_BASE, b"code!", 5), (R, DATA_BASE + 8, b"ro", 2),
                                (R | W, DATA_BASE + PAGE + 16, b"rw", 3 * PAGE)], entry=CODE_BASE + 4), "--stack", "8192")
        self.assertEqual(packed["warnings"], [])
        shown = self.shown()
        self.assertEqual(shown["code"]["size"], 5)
        self.assertEqual(shown["endpoints"], [{"key": "00", "entry_pc": "0x400004", "arg_registers": 0, "arg_cnode_size": 0,
                                               "initial_regs": {"1": hex(DATA_BASE + 8 * PAGE)}}])
        self.assertEqual(self.layout(), [("0x10000000", "0x1000", "01"), ("0x10001000", "0x4000", "02"),
                                         ("0x10006000", "0x2000", "03")])
        self.assertEqual([(data["table"], data["slot"]) for data in packed["data"]],
                         [("pinned", "01"), ("initial", "02"), ("initial", "03")])
        for number, content, size in ((0, bytes(8) + b"ro", PAGE), (1, bytes(16) + b"rw", 4 * PAGE)):
            wanted = self.json("hash", self.file("c", content), "--size", size)["cap_hash"]
            self.assertEqual(packed["data"][number]["cap_hash"], wanted)

    def test_code_in_front_and_between(self):
        """Kept addresses: code begins at CODE_BASE, read-only data between belongs to it."""
        self.pack(elf([(R, CODE_BASE + 16, b"ro", 2), (R | X, CODE_BASE + 32, b"code", 4)], entry=CODE_BASE + 32), "--stack=0")
        self.assertEqual(self.shown()["code"]["size"], 36)
        self.assertEqual(self.layout(), [])
        wire = (self.root / "out").read_bytes()
        self.assertTrue(wire.endswith(bytes(16) + b"ro" + bytes(14) + b"code"))

    def test_moved(self):
        done = self.run_tool("pack", "--elf", self.file("p", elf([
            (R | X, 0x80000000, b"code", 4), (R | W, 0x80002010, b"one", 3), (R | W, 0x80005000, b"two", 3)],
            entry=0x80000002)), "-o", self.root / "out")
        self.assertEqual(done.returncode, 0)
        self.assertIn(b"not linked to the layout", done.stderr)
        self.assertEqual(self.shown()["endpoints"][0]["entry_pc"], "0x400002")
        self.assertEqual(self.layout()[:2], [("0x10000000", "0x1000", "01"), ("0x10003000", "0x1000", "02")])

        done = self.run_tool("pack", "--elf", self.file("p", elf([(R | X, CODE_BASE, b"code", 4), (R, 0x10000, b"r", 1)])),
                             "-o", self.root / "out")
        self.assertIn(b"not linked to the layout: data at 0x10000;", done.stderr)
        self.assertNotIn(b"code moved", done.stderr)

    def test_moved_is_told_in_json(self):
        """Why, and what it takes to run; with one distance for code and data, and with two."""
        for program, far in ((elf([(R | X, 0x80000000, b"code", 4), (R | W, 0x80002000, b"data", 4)], entry=0x80000000), True),
                             (elf([(R | X, 0x80400000, b"code", 4), (R | W, 0x90000000, b"data", 4)], entry=0x80400000), False),
                             (elf([(R | X, 0x80000000, b"code", 4)], entry=0x80000000), False)):
            warnings = {warning["reason"]: warning["message"] for warning in self.pack(program)["warnings"]}
            self.assertEqual(set(warnings), {"not_linked_to_layout", "moved"})
            self.assertEqual("between code and data" in warnings["moved"], far)
            self.assertIn("at 0x80", warnings["not_linked_to_layout"])
        self.assertEqual(self.pack(elf([(R | X, CODE_BASE, b"code", 4), (R | W, DATA_BASE, b"data", 4)]))["warnings"], [])
        done = self.run_tool("pack", "--elf", self.file("p", program), "-o", self.root / "out")
        self.assertIn(b"will not run unless", done.stdout)

    def test_what_does_not_fit_is_named(self):
        """Sections in the wrong place, not those that are where they belong, nor the zeros of thread-local storage."""
        alloc, write, execute, tls = 2, 1, 4, 0x400
        names = ["", ".text", ".init_array", ".tbss", ".data", ".rodata", ".shstrtab"]
        program = elf([(R | X, CODE_BASE, b"code", 4), (R | W, CODE_BASE + 0x2000, b"init", 0x1000), (R | W, DATA_BASE, b"data", 4),
                       (R, DATA_BASE + PAGE, b"ro", 2)],
                      sections=[(0, 0, 0, 1), (1, alloc | execute, CODE_BASE, 4), (14, alloc | write, CODE_BASE + 0x2000, 4),
                                (8, alloc | write | tls, CODE_BASE + 0x2004, 4), (1, alloc | write, DATA_BASE, 4),
                                (1, alloc, DATA_BASE + PAGE, 2), (3, 0, 0, 0)], names=names)
        message = self.pack(program)["warnings"][0]["message"]
        self.assertIn(".init_array (writable, at 0x402000)", message)
        for name in (".text", ".tbss", ".data", ".rodata"):
            self.assertNotIn(name, message)
        program = elf([(R | X, CODE_BASE, b"code", 4), (R | W, CODE_BASE + 0x2000, b"init", 0x1000)])
        self.assertIn("a segment (writable, at 0x402000)", self.pack(program)["warnings"][0]["message"])

    def test_moving_keeps_the_alignment(self):
        for align, code, data in ((1, 0x10124, 0x21128), (PAGE, 0x10124, 0x21128), (0x10000, 0x10124, 0x21128),
                                  (0x200000, 0x210124, 0x421128), (2**63, 0x10124, 0x21128), (3, 0x10124, 0x21128)):
            self.pack(elf([(R | X, code, b"code", 4), (R | W, data, b"data", 4)], entry=code + 2, align=align), "--stack=0")
            kept = align if align in (0x10000, 0x200000) else PAGE
            if align == 2**63:
                kept = CODE_BASE
            self.assertEqual(self.shown()["endpoints"][0]["entry_pc"], hex(CODE_BASE + code % kept + 2), hex(align))
            self.assertEqual(self.layout()[0][0], hex(DATA_BASE + data // PAGE * PAGE % kept), hex(align))

    def test_a_static_program_with_an_interpreter(self):
        """gcc -static -pie names one; without libraries there is nothing for it to do."""
        for dynamic, relocations in (((7, 0, 0, 0), False), ((8, 24, 0, 0), True), ((0x23, 8, 0, 0), True), ((8, 0, 0, 0), False)):
            entries = struct.pack("<4Q", *dynamic)
            packed = self.pack(elf([(INTERP, 0, b"/lib/ld.so\0", 11), (R | X, 0, b"code", 4), (DYNAMIC, 0, entries, len(entries))],
                                   kind=3, entry=0))
            self.assertEqual("relocations" in [warning["reason"] for warning in packed["warnings"]], relocations)

    def test_a_program_that_moves_itself(self):
        """A dynamic section without libraries is that of a static program; one that leaves the file is none."""
        for dynamic in (struct.pack("<4Q", 7, 0, 0, 0), struct.pack("<4Q", 7, 0, 7, 0), b""):
            self.pack(elf([(R | X, 0, b"code", 4), (DYNAMIC, 0, dynamic, len(dynamic))], kind=3, entry=0))
        cut = bytearray(elf([(R | X, 0, b"code", 4), (DYNAMIC, 0, bytes(16), 16)], kind=3, entry=0))
        struct.pack_into("<Q", cut, 64 + 56 + 8, 2**63)
        self.pack(bytes(cut))

    def test_shared_pages_go_to_the_writable_segment(self):
        packed = self.pack(elf([(R | X, CODE_BASE, b"code", 4), (R, DATA_BASE, b"r" * (PAGE + 10), PAGE + 10),
                                (R | W, DATA_BASE + PAGE + 16, b"w", 1), (R, DATA_BASE + PAGE + 32, b"R", 1)]), "--stack=0")
        self.assertEqual(self.layout(), [("0x10000000", "0x1000", "01"), ("0x10001000", "0x1000", "02")])
        shared = b"r" * 10 + bytes(6) + b"w" + bytes(15) + b"R"
        self.assertEqual(packed["data"][1]["cap_hash"], self.json("hash", self.file("c", shared))["cap_hash"])

    def test_one_segment_for_everything(self):
        """Firmware: divided by its sections, or without any all code."""
        text = [(R | W | X, 0x80000000, b"code" + bytes(12) + b"rodata!!" + b"data", 0x3000)]
        alloc, write, execute = 2, 1, 4
        packed = self.pack(elf(text, entry=0x80000000, sections=[
            (0, 0, 0, 0), (1, alloc | execute, 0x80000000, 4), (1, alloc, 0x80000010, 8), (1, alloc | write, 0x80000018, 4)]))
        self.assertEqual(self.shown()["code"]["size"], 4)
        self.assertEqual([data["table"] for data in packed["data"]], ["initial", "initial"])
        self.assertEqual(packed["data"][0]["size"], 0x3000)
        self.pack(elf(text, entry=0x80000000))
        self.assertEqual(self.shown()["code"]["size"], 28)

    def test_refused(self):
        code = (R | X, CODE_BASE, b"code", 4)
        for program, words in (
                (b"", "not an ELF"), (b"\x7fELF", "not an ELF"), (b"#!/bin/sh\n" * 20, "not an ELF"),
                (elf([code], machine=62), "not a RISC-V"), (elf([code], kind=1), "link it first"),
                (elf([code, (INTERP, 0, b"/lib/ld.so\0", 11)]), "an interpreter, but has no dynamic section"),
                (elf([code, (DYNAMIC, 0, struct.pack("<6Q", 10, 0, 1, 5, 0, 0), 48)], kind=3), "dynamically"),
                (elf([]), "no program headers"), (elf([(R, CODE_BASE, b"x", 1)]), "no executable"),
                (elf([code], entry=CODE_BASE + 4), "entry"), (elf([code], entry=0), "entry"),
                (elf([(R | X, CODE_BASE, b"code", 3)]), "more bytes in the file (4) than in memory (3)"),
                (elf([(R | X, 2**64 - 2, b"code", 4)]), "address space"),
                (elf([code, (R | X, CODE_BASE + 2, b"code", 4)]), "overlap"),
                (elf([(R | X, CODE_BASE, b"c", 2**40)]), "the limit"),
                (elf([code, (R | W, 2**33, b"", 2**33)]), "room"),
                (elf([code, (R | W, DATA_BASE, b"", 2**32 - DATA_BASE)]), "no room for a stack"),
                (elf([(R | X, CODE_BASE + 8 * i, b"code", 4) for i in range(65)]), "more than"),
                (elf([code], size=100), "no program headers"),
                (elf([code], phentsize=32), "expected 56"), (elf([code], phentsize=0), "expected 56"),
                (elf([(R | X, CODE_BASE, b"", 4)]), "not in this file"),
                (elf([(R | X, CODE_BASE, b"code", 4096)], entry=CODE_BASE + 4), "entry"),
                (elf([code], sections=[(0, 0, 0, 0), (8, 2 | 4, CODE_BASE, 4)]), "not in this file")):
            refused = self.pack(program, status=1)
            self.assertEqual(refused["error"], "invalid_argument")
            self.assertIn(words, refused["message"])
        elf32 = bytearray(elf([code]))
        elf32[4] = 1
        self.pack(bytes(elf32), status=1)

    def test_what_is_not_a_program_is_told(self):
        self.pack(elf([(R | X, CODE_BASE, b"code", 4)]))
        wire = (self.root / "out").read_bytes()
        for content, words in ((wire, "this is a wire Image; use capctl publish"), (b"{}", "this is a JSON manifest"),
                               (b"", "the file is empty")):
            self.assertIn("program: not an ELF file: " + words, self.pack(content, status=1)["message"])

    def program(self):
        alloc, write, execute = 2, 1, 4
        return elf([(R | X, CODE_BASE, b"code" * 40, 160), (R | W | X, DATA_BASE, b"data" * 40, 2 * PAGE)], sections=[
            (0, 0, 0, 0), (1, alloc | execute, CODE_BASE, 160), (1, alloc | write, DATA_BASE, 160)])

    def test_every_truncation(self):
        whole = self.program()
        for length in [*range(0, len(whole), 64), *range(0, 200, 7)]:
            done = self.run_tool("pack", "--elf", self.file("p", whole[:length]), "-o", self.root / "out")
            self.assertIn(done.returncode, (0, 1), f"{length} {done.stderr}")

    def test_mutated_headers(self):
        """Whatever the headers say: an answer, and what is packed is accepted."""
        whole = self.program()
        end = 64 + 2 * 56
        places = [*range(end), *range(len(whole) - 3 * 64, len(whole), 3)]
        for place in places:
            for value in (0x00, 0x80, 0xff):
                mutated = bytearray(whole)
                mutated[place] = value
                done = self.run_tool("pack", "--elf", self.file("p", bytes(mutated)), "-o", self.root / "out")
                self.assertIn(done.returncode, (0, 1), f"{place} {value} {done.stderr}")


if __name__ == "__main__":
    unittest.main()
