"""Real input: RISC-V programs that Debian packages, and one compiled for the JAVM's layout."""

import pathlib
import shutil
import struct
import subprocess
import unittest

from harness import SystemTest, capctl

OPENSBI = "/usr/lib/riscv64-linux-gnu/opensbi/generic"
UBOOT = "/usr/lib/u-boot"
PROGRAMS = [f"{OPENSBI}/fw_dynamic.elf", f"{OPENSBI}/fw_jump.elf",
            f"{UBOOT}/qemu-riscv64/uboot.elf", f"{UBOOT}/qemu-riscv64_smode/uboot.elf"]
CODE_BASE, DATA_BASE = 0x00400000, 0x10000000

SOURCE = r"""
/* Read-only data, initialised data, zero-filled data and code, as a program has them. */
static const char greeting[4096 * 2] = "hello from the JAVM";
static long counter[1024] = { 1, 2, 3 };
static char scratch[1 << 20];

void _start(void)
{
    for (int i = 0; i < 1024; i++) {
        counter[i] += greeting[i % 16];
        scratch[counter[i] & 0xfffff] = 1;
    }
    for (;;) {
    }
}
"""

# What the start-up code of real programs has: constructors, thread-local storage, a C library.
HOSTED = r"""
#include <stdio.h>
static __thread int count = 5;
static __thread char scratch[100];
static int ready;
__attribute__((constructor)) static void begin(void) { ready = 1; }
int main(void) { scratch[1] = 2; return printf("%d %d %d\n", ready, count, scratch[1]) != 6; }
"""

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "client" / "javm.ld"


def segments(path):
    """PT_LOAD segments of a 64-bit little-endian ELF: (flags, offset, vaddr, filesz, memsz)."""
    elf = pathlib.Path(path).read_bytes()
    phoff, = struct.unpack_from("<Q", elf, 32)
    phentsize, phnum = struct.unpack_from("<HH", elf, 54)
    found = []
    for i in range(phnum):
        kind, flags, offset, vaddr, _, filesz, memsz, _ = struct.unpack_from("<IIQQQQQQ", elf, phoff + i * phentsize)
        if kind == 1:
            found.append((flags, elf[offset:offset + filesz], vaddr, memsz))
    return found


class RiscV(SystemTest):
    def pack(self, program):
        image = self.root / "image"
        packed = self.ok(capctl("pack", "--elf", program, "-o", image))
        checked = self.ok(capctl("check", image))
        self.assertEqual({**packed, "warnings": []}, {**checked, "warnings": []})
        self.assertEqual(packed["verdict"], "accepted")
        return image, packed

    def test_debian_programs(self):
        d = self.daemon()
        for program in PROGRAMS:
            with self.subTest(program):
                image, packed = self.pack(program)
                published = self.ok(d.capctl("publish", image))
                self.assertEqual(published["cap_hash"], packed["cap_hash"])
                out = self.root / "out"
                self.ok(d.capctl("get", packed["cap_hash"], "--content", "-o", out))
                code = next(bytes_ for flags, bytes_, _, _ in segments(program) if flags & 1)
                self.assertEqual(out.read_bytes()[:4096], code[:4096])
                self.assertEqual(self.ok(d.capctl("publish", image))["new"], False)

    def test_linked_to_the_layout(self):
        d = self.daemon()
        (self.root / "p.c").write_text(SOURCE)
        program = self.root / "p.elf"
        compiler = shutil.which("riscv64-linux-gnu-gcc")
        self.assertIsNotNone(compiler, "the RISC-V cross compiler is missing")
        subprocess.run([compiler, "-O1", "-nostdlib", "-static", "-ffreestanding", "-mcmodel=medany", "-Wl,--build-id=none",
                        "-T", SCRIPT, "-o", program, self.root / "p.c"], check=True)
        image, packed = self.pack(program)
        self.assertEqual(packed["warnings"], [])
        self.ok(d.capctl("publish", image))

        shown = self.ok(d.capctl("show", packed["cap_hash"]))
        mapped = {int(mapping["start"], 16): mapping for mapping in shown["mappings"]}
        code, rodata, data = segments(program)
        self.assertEqual(code[2], CODE_BASE)
        self.assertEqual(int(shown["code"]["start"], 16), CODE_BASE)
        entry, = struct.unpack_from("<Q", program.read_bytes(), 24)
        self.assertEqual(int(shown["endpoints"][0]["entry_pc"], 16), entry)
        out = self.root / "out"
        self.ok(d.capctl("get", packed["cap_hash"], "--content", "-o", out))
        self.assertEqual(out.read_bytes(), code[1])

        for (_, content, vaddr, memsz), read_only in ((rodata, True), (data, False)):
            self.assertIn(vaddr, mapped)
            self.assertEqual(mapped[vaddr]["read_only"], read_only)
            self.assertGreaterEqual(int(mapped[vaddr]["size"], 16), memsz)
            cap_hash = mapped[vaddr]["cap_hash"]
            self.ok(d.capctl("get", cap_hash, "--content", "-o", out))
            fetched = out.read_bytes()
            self.assertEqual(fetched[:len(content)], content)
            self.assertEqual(fetched[len(content):].strip(b"\0"), b"")
        # The megabyte of zeros costs nothing.
        bss = mapped[data[2]]["cap_hash"]
        self.assertLess(self.ok(d.capctl("get", bss, "-o", out))["body_len"], 3 * 4096)

    def test_the_linker_script_fits_real_programs(self):
        """A static program with the C library, with both linkers where they can; it also runs at these addresses."""
        (self.root / "p.c").write_text(HOSTED)
        program = self.root / "p.elf"
        subprocess.run(["riscv64-linux-gnu-gcc", "-O2", "-static", "-mcmodel=medany", "-T", SCRIPT, "-o", program,
                        self.root / "p.c"], check=True)
        _, packed = self.pack(program)
        self.assertEqual(packed["warnings"], [])
        self.assertEqual([data["table"] for data in packed["data"]], ["pinned", "initial", "initial"])
        emulator = shutil.which("qemu-riscv64") or shutil.which("qemu-riscv64-static")
        if emulator is not None:
            done = subprocess.run([emulator, program], capture_output=True, text=True, check=False, timeout=60)
            self.assertEqual((done.returncode, done.stdout), (0, "1 5 2\n"))
        if shutil.which("clang") and shutil.which("ld.lld"):
            (self.root / "p.c").write_text(SOURCE)
            subprocess.run(["clang", "--target=riscv64-linux-gnu", "-march=rv64gc", "-O2", "-nostdlib", "-static",
                            "-ffreestanding", "-mcmodel=medany", "-fuse-ld=lld", "-T", SCRIPT, "-o", program,
                            self.root / "p.c"], check=True)
            self.assertEqual(self.pack(program)[1]["warnings"], [])

    def test_a_program_for_another_layout(self):
        """What is in its way is named, and that it was moved."""
        (self.root / "p.c").write_text(HOSTED.replace("int main", "int start").replace("#include <stdio.h>", "int printf();"))
        program = self.root / "p.elf"
        subprocess.run(["riscv64-linux-gnu-gcc", "-O2", "-nostdlib", "-static", "-ffreestanding", "-mcmodel=medany",
                        "-Wl,-e,start,--unresolved-symbols=ignore-all", "-Wl,-Ttext-segment=0x400000", "-Wl,-Tdata=0x10000000",
                        "-o", program, self.root / "p.c"], check=True)
        _, packed = self.pack(program)
        self.assertEqual([warning["reason"] for warning in packed["warnings"]], ["not_linked_to_layout", "moved"])
        self.assertIn(".init_array", packed["warnings"][0]["message"])

    def test_debugging_information_is_not_a_program(self):
        (self.root / "p.c").write_text(SOURCE)
        subprocess.run(["riscv64-linux-gnu-gcc", "-g", "-O2", "-nostdlib", "-static", "-ffreestanding", "-o",
                        self.root / "p.elf", self.root / "p.c"], check=True)
        subprocess.run(["riscv64-linux-gnu-objcopy", "--only-keep-debug", self.root / "p.elf", self.root / "p.debug"], check=True)
        done = capctl("pack", "--elf", self.root / "p.debug", "-o", self.root / "image")
        self.assertEqual(done.status, 1)
        self.assertIn("not in this file", done.json["message"])
        self.assertFalse((self.root / "image").exists())


if __name__ == "__main__":
    unittest.main()
